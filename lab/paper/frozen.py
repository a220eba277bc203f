"""Features of orders, frozen at entry: what was known on the row that decided them."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from lab.arrays import FloatArray, IntArray, TimeArray
from lab.backtest.panel import AlignedPanel
from lab.errors import PaperError
from lab.learning.feature_sets import ORDER_EXTRAS, ORDER_FEATURES
from lab.learning.feature_sets import SIGNALS as FROZEN_SIGNALS
from lab.paper.orders import Order
from lab.paper.signals import stacked
from lab.sleeves.own_bars import OwnBars

SLEEVES: Final = ("phase37", "signals")
"""Whose orders there are: the locked baseline's, and those of the weighted signals."""


def feature_matrix(
    panel: AlignedPanel,
    places: tuple[IntArray, IntArray],
    *,
    side: FloatArray,
    size: FloatArray,
    sleeve_id: str,
    positions: Mapping[str, FloatArray],
) -> FloatArray:
    """Return the features of positions that were decided on some rows.

    Parameters
    ----------
    panel : AlignedPanel
        What was seen.
    places : tuple of ndarray of shape (n,), int64
        Row that decided, and column of the instrument.
    side, size : ndarray of shape (n,), float64
        1 or -1, and the weight of the book.
    sleeve_id : str
        Whose positions they are.
    positions : mapping of str to ndarray of shape (n_obs, n_assets)
        By signal; unknown where a signal is missing.

    Returns
    -------
    ndarray of shape (n, n_features), float64
        In the order of `ORDER_FEATURES.names`; NaN = unknown.

    Raises
    ------
    PaperError
        If the sleeve is none of `SLEEVES`.

    Notes
    -----
    Point in time: a feature is that of the deciding row, before the fill; `size` is the
    weight that was asked for there, not what was filled.
    """
    if sleeve_id not in SLEEVES:
        raise PaperError(f"sleeve {sleeve_id!r}: one of {', '.join(SLEEVES)}")
    bars = OwnBars.of(panel)
    found = np.full((len(places[0]), len(ORDER_FEATURES.names)), np.nan)
    if len(found) == 0:
        return found
    for column, one in enumerate(ORDER_FEATURES.features):
        found[:, column] = one.compute(bars)[places]
    signals = stacked(positions, FROZEN_SIGNALS, panel.close.shape)[places]
    extras = {
        "side": side,
        "size": size,
        **{f"signal_{name}": signals[:, k] for k, name in enumerate(FROZEN_SIGNALS)},
        **{
            f"sleeve_{name}": np.full(len(found), name == sleeve_id) for name in SLEEVES
        },
    }
    for column, name in enumerate(ORDER_EXTRAS, start=len(ORDER_FEATURES.features)):
        found[:, column] = extras[name]
    found[np.isinf(found)] = np.nan
    return found


def order_features(
    panel: AlignedPanel,
    orders: Sequence[Order],
    *,
    sleeve_id: str,
    positions: Mapping[str, FloatArray],
) -> list[dict[str, float | None]]:
    """Return each order's features by name, as they were when it was decided.

    Parameters
    ----------
    panel : AlignedPanel
        With the rows that decided.
    orders : sequence of Order
        All of one sleeve.
    sleeve_id, positions
        As in `feature_matrix`.

    Raises
    ------
    PaperError
        If a row that decided is not in the panel.

    Notes
    -----
    Point in time: features of `decided_ts`, which comes before the fill.
    """
    rows = _deciding_rows(panel, orders)
    place = {name: column for column, name in enumerate(panel.symbols)}
    columns = np.array([place[one.symbol] for one in orders], dtype=np.int64)
    places = (rows, columns)
    matrix = feature_matrix(
        panel,
        places,
        side=np.array([1.0 if one.side == "long" else -1.0 for one in orders]),
        size=np.array([one.size for one in orders]),
        sleeve_id=sleeve_id,
        positions=positions,
    )
    return [named(row) for row in matrix]


def decision_times(panel: AlignedPanel, orders: Sequence[Order]) -> TimeArray:
    """Return when each order was decided: when the row that decided it was known.

    Parameters
    ----------
    panel : AlignedPanel
        With the rows that decided.
    orders : sequence of Order
        In any order.

    Returns
    -------
    ndarray of shape (n_orders,), datetime64[us]
        Never later than the fill: a row is known by the next row's open.

    Raises
    ------
    PaperError
        If a row that decided is not in the panel.

    Notes
    -----
    Point in time: the moment as of which `order_features` were known. Over a weekend it
    lies days before the fill, and on an exchange hours before the day is over.
    """
    return panel.known_ts[_deciding_rows(panel, orders)]


def _deciding_rows(panel: AlignedPanel, orders: Sequence[Order]) -> IntArray:
    decided = np.array([one.decided_ts for one in orders], dtype="datetime64[us]")
    rows = np.searchsorted(panel.ts, decided)
    if len(rows) and not np.array_equal(
        panel.ts[np.minimum(rows, panel.n_obs - 1)], decided
    ):
        raise PaperError("orders: a row that decided one is not in the panel")
    return rows.astype(np.int64)


def named(values: FloatArray) -> dict[str, float | None]:
    """Return one row of `feature_matrix` by name; None = unknown."""
    pairs = zip(ORDER_FEATURES.names, values.tolist(), strict=True)
    return {name: value if np.isfinite(value) else None for name, value in pairs}
