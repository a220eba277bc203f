"""Prices written as scaled integers: found only where the truth can be known.

A major currency pair near 129,587 is 1.29587, a yen pair near 155,210 is 155.210, gold
near 160,234 is 1,602.34. Anything else that looks scaled has to be said by the user.
"""

from typing import Final

import numpy as np

from lakehouse.errors import SourceError
from lakehouse.sources._cells import Floats

_MAJORS: Final = frozenset(["USD", "EUR", "GBP", "CHF", "AUD", "NZD", "CAD"])
_DUST: Final = 1e-6
_FIXED_POINT: Final = 1e9  # whole numbers from here on are prices in billionths


def price_scale(place: str, prices: list[Floats], symbol: str | None) -> float:
    """Return by what the prices of one symbol are too large.

    Parameters
    ----------
    place : str
        File, for messages.
    prices : list of ndarray of shape (n_rows,), float64
        Open, high, low, close; NaN where unknown.
    symbol : str or None
        The only symbol of the table; None if there are several.

    Raises
    ------
    SourceError
        If the numbers look scaled and by how much cannot be known.
    """
    flat = np.concatenate(prices)
    flat = flat[~np.isnan(flat)]
    if not flat.size:
        return 1.0
    distance = np.abs(flat - np.rint(flat))
    is_whole = distance <= _DUST * np.maximum(np.abs(flat) / 1e5, 1.0)
    if is_whole.mean() < 0.99:
        return 1.0
    middle = float(np.median(flat))
    if middle >= _FIXED_POINT:
        raise _looks_scaled(f"{place}: prices", flat, "1000000000")
    if symbol is None:
        return 1.0
    if (known := _class_range(symbol)) is not None:
        low, high, scale = known
        if low <= middle <= high:
            return 1.0
        if low * scale <= middle <= high * scale:
            return scale
    has_dust = bool((distance[is_whole] > 0).any())
    if known is not None or has_dust:
        raise _looks_scaled(f"{place}: prices of {symbol}", flat, "100000")
    return 1.0


def _looks_scaled(what: str, prices: Floats, scale: str) -> SourceError:
    return SourceError(
        f"{what} look like scaled integers ({prices[0]:.15g}); pass --columns "
        f"scale={scale} or the like (scale=1 leaves them)"
    )


def rescale(values: Floats, scale: float) -> Floats:
    """Divide scaled integers back, binary dust rounded away first."""
    if scale == 1.0:
        return values
    whole = np.rint(values)
    is_dust = np.abs(values - whole) <= _DUST * np.maximum(np.abs(values) / 1e5, 1.0)
    return np.where(is_dust, whole, values) / scale


def _class_range(symbol: str) -> tuple[float, float, float] | None:
    # Plausible range of the unscaled price, and the usual scale.
    name = "".join(char for char in symbol.upper() if char.isalpha())
    base, quote = name[:3], name[3:6]
    if len(name) < 6:
        return None
    if base in _MAJORS and quote in _MAJORS and base != quote:
        return 0.2, 5.0, 1e5
    if base in _MAJORS and quote == "JPY":
        return 30.0, 400.0, 1e3
    if name.startswith("XAUUSD"):
        return 150.0, 12_000.0, 1e2
    return None
