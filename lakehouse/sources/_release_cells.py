"""Cells of a calendar: figures with units, impact labels, currencies.

A cell that is not one number (vote splits `0-0-9`, auctions `2.31|2.4`, `Pass`) is
unknown, never a part of itself. Percentages stay points: `0.3%` is 0.3.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.sources._cells import Floats, is_text, to_numbers

_IMPACTS: Final = {
    "high": 3,
    "red": 3,
    "3": 3,
    "h": 3,
    "medium": 2,
    "moderate": 2,
    "med": 2,
    "orange": 2,
    "ora": 2,
    "2": 2,
    "m": 2,
    "low": 1,
    "yellow": 1,
    "yel": 1,
    "1": 1,
    "l": 1,
}
_NO_IMPACT: Final = frozenset(
    [
        "",
        "gray",
        "grey",
        "gra",
        "white",
        "none",
        "holiday",
        "non-economic",
        "non economic",
        "n/a",
        "0",
        "nan",
        "null",
        "unknown",
    ]
)
_HOLIDAY: Final = "bank holiday"
_CURRENCIES: Final = {
    "united states": "USD",
    "us": "USD",
    "euro area": "EUR",
    "eurozone": "EUR",
    "european union": "EUR",
    "germany": "EUR",
    "france": "EUR",
    "italy": "EUR",
    "spain": "EUR",
    "united kingdom": "GBP",
    "uk": "GBP",
    "japan": "JPY",
    "china": "CNY",
    "canada": "CAD",
    "australia": "AUD",
    "new zealand": "NZD",
    "switzerland": "CHF",
}


def to_figures(column: Any) -> tuple[Floats, int]:
    """Read released figures.

    Parameters
    ----------
    column : pyarrow.ChunkedArray of n_rows
        Text or numbers.

    Returns
    -------
    values : ndarray of shape (n_rows,), float64
        K, M, B and T expanded, percentages in points; NaN where unknown.
    n_unread : int
        Cells that hold something, but not one number.
    """
    if is_text(column):
        text = pc.utf8_trim_whitespace(column)
        text = pc.replace_substring_regex(text, r"^[<>~≤≥]\s*", "")
        text = pc.replace_substring_regex(text, r"\s*%$", "")
        column = pc.replace_substring(text, "\u2212", "-")
    numbers = to_numbers(column)
    n_unread = int((np.isnan(numbers.values) & ~numbers.is_missing).sum())
    return numbers.values, n_unread


def to_importance(
    labels: list[str | None], events: list[str | None]
) -> tuple[list[int | None], list[str]]:
    """Read impact labels or colours as 3, 2, 1 or unknown.

    Parameters
    ----------
    labels, events : list of str or None of n_rows
        Impact cells and event names.

    Returns
    -------
    importance : list of int or None
        3 high, 2 medium, 1 low; None for holidays.
    notes : list of str
        Labels found swapped, and those not known.
    """
    lower = [(label or "").strip().lower() for label in labels]
    swapped = _is_swapped(lower, events)
    found = [_one_impact(label, is_swapped=swapped) for label in lower]
    notes = []
    if swapped:
        notes.append(
            "impact labels are swapped (bank holidays marked Low): Non-economic read as "
            "low, Low as none"
        )
    unknown = sorted(
        {
            label
            for label, value in zip(lower, found, strict=True)
            if value is None
            and label not in _NO_IMPACT
            and not (swapped and label == "low")
        }
    )
    if unknown:
        notes.append(f"impact unknown for label {', '.join(unknown[:5])}")
    return found, notes


def _is_swapped(labels: list[str], events: list[str | None]) -> bool:
    holidays = [
        label
        for label, event in zip(labels, events, strict=True)
        if _HOLIDAY in (event or "").lower()
    ]
    n_low = holidays.count("low")
    return (
        bool(holidays)
        and n_low * 2 > len(holidays)
        and any(label in {"non-economic", "non economic"} for label in labels)
    )


def _one_impact(label: str, *, is_swapped: bool) -> int | None:
    if is_swapped and label in {"non-economic", "non economic"}:
        return 1
    if is_swapped and label == "low":
        return None
    first = label.removesuffix(" expected").removesuffix(" impact")
    return _IMPACTS.get(first)


def to_currency(cell: str | None) -> str | None:
    """Return a currency code; countries that have one are translated."""
    text = (cell or "").strip()
    if not text:
        return None
    return _CURRENCIES.get(
        text.lower(), text.upper() if len(text) == 3 and text != "All" else text
    )


def floats_or_null(values: npt.NDArray[np.float64]) -> pa.Array:
    """Return an Arrow column with nulls where `values` is NaN."""
    return pa.array(values, mask=np.isnan(values))
