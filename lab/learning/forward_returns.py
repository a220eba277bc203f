"""Rows to learn forward returns from: what was known at a bar, what came of it.

A row is decided when its bar was known, entered at the open of the instrument's next bar
and left at an open `horizon` bars later. The label is that move in units of its own
volatility, so that one model serves crypto and rates alike.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from lab.arrays import BoolArray, FloatArray, IntArray
from lab.backtest.context import HORIZONS
from lab.backtest.panel import AlignedPanel, adjusted_closes
from lab.bars.timeframes import step
from lab.errors import TrainingError
from lab.learning.samples import Samples

CAP: Final = 5.0
"""Largest absolute label, in standard deviations."""

VOLATILITY_BARS: Final = 60
_MIN_BARS: Final = 20
_EVERY: Final = MappingProxyType({"1d": 1, "1h": 6})


class Bar(NamedTuple):
    """Rows at which a decision is taken, and their scale.

    Attributes
    ----------
    row, asset : ndarray of shape (n_rows,), int64
        Of the panel.
    volatility : ndarray of shape (n_rows,), float64
        Standard deviation of the move to the horizon, from the bars before; positive.
    """

    row: IntArray
    asset: IntArray
    volatility: FloatArray


def subject_id(symbol: str, ts: np.datetime64) -> str:
    """Return what a row is about: the instrument, and when its bar opened."""
    return f"{symbol}/{ts.astype('datetime64[s]')}Z"


def decision_bars(panel: AlignedPanel) -> Bar:
    """Return the bars that are decided on: every day, or every sixth hour.

    Notes
    -----
    Point in time: volatility at row t uses closes up to t.
    """
    unit = step(panel.timeframe)
    number = panel.ts.astype("datetime64[us]").astype(np.int64) // unit.astype(np.int64)
    is_chosen = number % _EVERY[panel.timeframe] == 0
    scale = trailing_volatility(panel) * np.sqrt(HORIZONS[panel.timeframe])
    row, asset = np.nonzero(is_chosen[:, None] & (scale > 0) & panel.has_bar)
    return Bar(row, asset, scale[row, asset])


def forward_samples(
    panel: AlignedPanel, features: FloatArray, names: Sequence[str]
) -> Samples:
    """Return the settled rows of a panel.

    Parameters
    ----------
    panel : AlignedPanel
        Bars.
    features : ndarray of shape (n_obs, n_assets, n_features), float64
        Of every row, known with it.
    names : sequence of str
        Of the features.

    Returns
    -------
    Samples
        `label` capped at `CAP`; `outcome` is the move itself, before costs. An
        instrument that left the market within the horizon has no row: its last days
        are not learnt from.

    Raises
    ------
    TrainingError
        If the features are not the panel's.

    Notes
    -----
    Point in time: a row's `end` is when the bar that it is left in was known.
    """
    if features.shape != (panel.n_obs, panel.n_assets, len(names)):
        raise TrainingError(
            f"features of shape {features.shape}, not"
            f" {(panel.n_obs, panel.n_assets, len(names))}"
        )
    move, exit_row = _moves(panel)
    bars = decision_bars(panel)
    keep = np.isfinite(move[bars.row, bars.asset])
    row, asset, scale = bars.row[keep], bars.asset[keep], bars.volatility[keep]
    symbols = np.array(panel.symbols)[asset]
    found = move[row, asset]
    start = panel.known_ts[row]
    return Samples.of(
        names=names,
        features=features[row, asset],
        subject_id=subject_ids(panel, row, asset),
        symbol=symbols,
        timeframe=np.full(len(row), panel.timeframe),
        start=start,
        end=panel.known_ts[exit_row[row, asset]],
        label=np.clip(found / scale, -CAP, CAP),
        outcome=found,
    )


def subject_ids(panel: AlignedPanel, row: IntArray, asset: IntArray) -> list[str]:
    """Return `subject_id` of some rows of some instruments."""
    pairs = zip(panel.ts[row], asset.tolist(), strict=True)
    return [subject_id(panel.symbols[one], ts) for ts, one in pairs]


def trailing_volatility(panel: AlignedPanel) -> FloatArray:
    """Return the standard deviation of the last 60 own log returns.

    Returns
    -------
    ndarray of shape (n_obs, n_assets), float64
        NaN without a bar or with fewer than 20 returns.

    Notes
    -----
    Point in time: row t uses closes up to t.
    """
    closes = adjusted_closes(panel)
    found = np.full(closes.shape, np.nan)
    for asset in range(panel.n_assets):
        rows = np.flatnonzero(np.isfinite(closes[:, asset]) & (closes[:, asset] > 0))
        moves = np.diff(np.log(closes[rows, asset]))
        if len(moves) >= _MIN_BARS:
            found[rows[1:], asset] = _rolling(moves)
    return found


def _moves(panel: AlignedPanel) -> tuple[FloatArray, IntArray]:
    # Of each row: the move from the next own open to the one at the horizon, its row.
    horizon = HORIZONS[panel.timeframe]
    with np.errstate(invalid="ignore", divide="ignore"):
        opens = adjusted_closes(panel) * panel.open / panel.close
    move = np.full(opens.shape, np.nan)
    exit_row = np.zeros(opens.shape, dtype=np.int64)
    for asset in range(panel.n_assets):
        rows = np.flatnonzero(_is_price(opens[:, asset]))
        if len(rows) > horizon + 1:
            own = opens[rows, asset]
            here = rows[: -horizon - 1]
            move[here, asset] = own[horizon + 1 :] / own[1:-horizon] - 1.0
            exit_row[here, asset] = rows[horizon + 1 :]
    return move, exit_row


def _is_price(values: FloatArray) -> BoolArray:
    return np.asarray(np.isfinite(values) & (values > 0), dtype=np.bool_)


def _rolling(moves: FloatArray) -> FloatArray:
    # Standard deviation of up to VOLATILITY_BARS values, NaN below _MIN_BARS.
    n = len(moves)
    found = np.full(n, np.nan)
    for stop in range(_MIN_BARS, min(VOLATILITY_BARS, n + 1)):
        found[stop - 1] = moves[:stop].std()
    if n >= VOLATILITY_BARS:
        windows = np.lib.stride_tricks.sliding_window_view(moves, VOLATILITY_BARS)
        found[VOLATILITY_BARS - 1 :] = windows.std(axis=1)
    return found
