"""Decisions at weight 0, and what each would have made.

One decision is what a signal would hold in one instrument after one of its bars. It
would have been filled at the open of the instrument's next bar and held to the open of
the bar after that one, by then the next decision is filled. Its counterfactual profit
is that move times its weight, less the costs of what it adds to the decision before and
of what the decision after takes away: the profits of a signal's decisions add up to
those of a book on fixed notional, and no cost is counted twice or left out.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lab.arrays import FloatArray
from lab.backtest.panel import AlignedPanel
from lab.backtest.steps import EXIT, Steps
from lab.errors import PaperError
from lab.paper.orders import COST_BPS


@dataclass(frozen=True, slots=True)
class Shadow:
    """One decision at weight 0.

    Attributes
    ----------
    signal, symbol : str
        Signal or sleeve, and instrument.
    known : datetime64[us]
        Decision time: when the row it was decided on was known.
    weight : float
        Share of a book of its own that it would hold; never 0.
    """

    signal: str
    symbol: str
    known: np.datetime64
    weight: float

    def decision_id(self, timeframe: str) -> str:
        """Return its identity: one decision of a signal on an instrument and bar."""
        moment = str(self.known.astype("datetime64[us]"))
        content = json.dumps([self.signal, self.symbol, timeframe, moment])
        return hashlib.sha256(content.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Settled:
    """What a decision would have made.

    Attributes
    ----------
    known : datetime64[us]
        When that was known.
    pnl : float
        Net profit as a share of the signal's book.
    """

    known: np.datetime64
    pnl: float


def shadow_decisions(
    panel: AlignedPanel, row: int, positions: Mapping[str, FloatArray]
) -> list[Shadow]:
    """Return what the signals at weight 0 decide on one row.

    Parameters
    ----------
    panel : AlignedPanel
        Bars.
    row : int
        Decided on.
    positions : mapping of str to ndarray of shape (n_assets,), float64
        By signal, what it would hold.

    Returns
    -------
    list of Shadow
        One for each instrument that has a bar on the row and would be held.

    Notes
    -----
    Point in time: as the positions.
    """
    has_bar = np.isfinite(panel.close[row])
    return [
        Shadow(name, panel.symbols[column], panel.known_ts[row], float(held[column]))
        for name, held in positions.items()
        for column in map(int, np.flatnonzero(has_bar & (held != 0)))
    ]


def settle(
    panel: AlignedPanel,
    steps: Steps,
    pending: Sequence[Shadow],
    decided: Mapping[tuple[str, str, np.datetime64], float],
    *,
    bps: float = COST_BPS,
) -> dict[Shadow, Settled]:
    """Return what decisions have made whose outcome is known.

    Parameters
    ----------
    panel : AlignedPanel
        Bars up to now.
    steps : Steps
        Of the panel, see `steps_of`.
    pending : sequence of Shadow
        Not settled yet; those on rows that the panel has not are passed over.
    decided : mapping of (signal, symbol, known) to float
        Weights of all decisions around the pending ones; 0 where there is none.
    bps : float
        Cost of a unit of turnover, in basis points.

    Raises
    ------
    PaperError
        If a pending decision is on an instrument that the panel lacks.

    Notes
    -----
    Point in time: a decision is settled once the bar after the one that fills it was
    known, or the end of its instrument's bars.
    """
    found = {}
    paths = {}
    for one in pending:
        if one.symbol not in panel.symbols:
            raise PaperError(f"shadow decision on {one.symbol}: no bars of it any more")
        column = panel.symbols.index(one.symbol)
        if column not in paths:
            paths[column] = _Path.of(panel, steps, column)
        settled = paths[column].settle(one, decided, bps)
        if settled is not None:
            found[one] = settled
    return found


def turnover(before: float, held: float, after: float) -> float:
    """Return the turnover that one decision answers for: what it adds and what ends it.

    Parameters
    ----------
    before, held, after : float
        Weights of three decisions in a row; the middle one answers.
    """
    is_turned = before * held < 0
    opened = abs(held) if is_turned else max(0.0, abs(held) - abs(before))
    is_turned = held * after < 0
    closed = abs(held) if is_turned else max(0.0, abs(held) - abs(after))
    return opened + closed


@dataclass(frozen=True, slots=True)
class _Path:
    # One instrument's bars with what each earned before and after its open.
    rows: np.ndarray
    known: np.ndarray
    before: FloatArray
    after: FloatArray
    exit_row: np.ndarray
    exit_known: np.ndarray

    @classmethod
    def of(cls, panel: AlignedPanel, steps: Steps, column: int) -> "_Path":
        rows = np.flatnonzero(panel.has_bar[:, column])
        exits = np.flatnonzero((steps.state[:, column] & EXIT) > 0)
        return cls(
            rows,
            panel.known_ts[rows],
            steps.before[rows, column],
            steps.after[rows, column],
            exits,
            panel.known_ts[exits],
        )

    def settle(
        self,
        one: Shadow,
        decided: Mapping[tuple[str, str, np.datetime64], float],
        bps: float,
    ) -> Settled | None:
        spot = int(np.searchsorted(self.known, one.known))
        if spot >= len(self.known) or self.known[spot] != one.known:
            return None
        fill, end = spot + 1, spot + 2
        if fill >= len(self.rows) and self.rows[spot] in self.exit_row:
            return Settled(one.known, 0.0)  # its bar was the instrument's last
        gone = self._gone(self.rows[spot])
        if gone is not None and (fill >= len(self.rows) or gone < self.rows[fill]):
            return Settled(self._known(gone), 0.0)  # it was never filled
        if fill >= len(self.rows):
            return None
        before = self._weight(one, decided, spot - 1)
        is_gone = gone is not None and (end >= len(self.rows) or gone < self.rows[end])
        if not is_gone and end >= len(self.rows):
            return None
        after = 0.0 if is_gone else self._weight(one, decided, fill)
        leg = 0.0 if is_gone else self.before[end]
        known = self._known(gone) if is_gone and gone is not None else self.known[end]
        move = (1.0 + self.after[fill]) * (1.0 + leg) - 1.0
        paid = turnover(before, one.weight, after) * bps * 1e-4
        return Settled(known, float(one.weight * move - paid))

    def _weight(
        self,
        one: Shadow,
        decided: Mapping[tuple[str, str, np.datetime64], float],
        spot: int,
    ) -> float:
        if spot < 0:
            return 0.0
        return decided.get((one.signal, one.symbol, self.known[spot]), 0.0)

    def _gone(self, row: int) -> int | None:
        # The first row after this one on which what is held is closed.
        spot = int(np.searchsorted(self.exit_row, row, side="right"))
        return int(self.exit_row[spot]) if spot < len(self.exit_row) else None

    def _known(self, row: int) -> np.datetime64:
        known: np.datetime64 = self.exit_known[int(np.searchsorted(self.exit_row, row))]
        return known
