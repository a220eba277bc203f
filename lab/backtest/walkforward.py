"""Walk-forward: parameters chosen on the past, judged on what came after.

For every window and every rung of the cost ladder the variant with the best train
Sharpe trades the test span. The test spans are stitched into one book: the weights that
the chosen variants decided, simulated in one pass, so a change of parameters pays for
its trades. What every fixed variant would have made goes into the ledger too: they were
all looked at.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from lab.arrays import BoolArray, FloatArray, IntArray
from lab.backtest.engine import Fill, Simulation, simulate
from lab.backtest.ledger import LEDGER_BPS, Trial
from lab.backtest.panel import AlignedPanel
from lab.backtest.sweep import select, sweep
from lab.backtest.windows import (
    Calendar,
    WalkForwardPlan,
    Window,
    calendar_of,
    cut_windows,
    of_age,
)
from lab.errors import BacktestError

__all__ = [
    "Calendar",
    "SleeveWalk",
    "Tradable",
    "WalkForwardPlan",
    "Window",
    "calendar_of",
    "cut_windows",
    "walk_forward",
]

_KEPT_BYTES: Final = 400_000_000
_STACKED_BYTES: Final = 64_000_000
_GROSS: Final = 1.0 + 1e-9


class Tradable(Protocol):
    """What can be walked forward: a `Sleeve`, or a genome that behaves like one."""

    @property
    def sleeve_id(self) -> str:
        """Name in every table."""

    @property
    def configuration(self) -> str:
        """Canonical JSON: identity in the ledger."""

    def positions(self, panel: AlignedPanel) -> FloatArray:
        """Return target weights, shape (n_obs, n_assets)."""

    def span(self) -> int:
        """Return how many rows one decision's position may live on."""


@dataclass(frozen=True, slots=True)
class SleeveWalk:
    """One sleeve walked forward.

    Attributes
    ----------
    sleeve_id : str
        Which.
    configuration : str
        Identity of the stitched series in the ledger.
    calendar : Calendar
        Out-of-sample days.
    windows : tuple of Window
        Where parameters were chosen and judged.
    slippages_bps : tuple of float, n_rungs
        The cost ladder.
    gross, net : ndarray of shape (n_days, n_rungs), float64
        Simple returns of each day before and after costs.
    turnover : ndarray of shape (n_days, n_rungs), float64
        Sum of absolute weight changes.
    trades : ndarray of shape (n_days, n_rungs), int64
        Instruments traded with a changed target.
    chosen : ndarray of shape (n_windows, n_rungs), int64
        Variant of each window; the first where a hole left nothing to choose by.
    weights : ndarray of shape (n_rungs, n_assets), float64
        Target weights decided on the panel's last row.
    configurations : tuple of str, n_variants
        Canonical JSON of each variant.
    trials : tuple of Trial
        For the ledger, on its days and at `LEDGER_BPS`: the stitched series first, then
        every fixed variant. A sleeve with one variant is one trial.
    """

    sleeve_id: str
    configuration: str
    calendar: Calendar
    windows: tuple[Window, ...]
    slippages_bps: tuple[float, ...]
    gross: FloatArray
    net: FloatArray
    turnover: FloatArray
    trades: IntArray
    chosen: IntArray
    weights: FloatArray
    configurations: tuple[str, ...]
    trials: tuple[Trial, ...]


def walk_forward(
    panel: AlignedPanel,
    variants: Sequence[Tradable],
    plan: WalkForwardPlan,
    *,
    windows: Sequence[Window] | None = None,
) -> SleeveWalk:
    """Walk one sleeve forward.

    Parameters
    ----------
    panel : AlignedPanel
        Bars; the rows before the first window warm signals up.
    variants : sequence of Tradable
        What may be chosen from, all of one sleeve; ties go to the first.
    plan : WalkForwardPlan
        Lengths, cost ladder, embargo and fill.
    windows : sequence of Window, optional
        Instead of those that `cut_windows` makes with the sleeve's purge.

    Raises
    ------
    BacktestError
        If the panel is too short, or there is no variant, or a sleeve's weights are not
        finite, of another shape, or more than the book.

    Notes
    -----
    Point in time: a variant is chosen from rows that end before its test span, purged
    by the longest span of a position and the lag of its fill; weights of row t come
    from rows up to t; an instrument takes part once it has traded through half of the
    train span.
    """
    if not variants:
        raise BacktestError("walk-forward: no variant to choose from")
    if windows is None:
        windows = cut_windows(panel, plan, purge=purge_of(variants))
    walk = _Walk(panel, tuple(variants), plan, tuple(windows))
    return walk.run()


def purge_of(variants: Sequence[Tradable]) -> int:
    """Return how many rows to leave out before a test span: a position's life and fill.

    A position decided on row t is filled on t + 1 and lives `span()` rows from there.
    """
    return 1 + max(one.span() for one in variants)


def stitched_configuration(variants: Sequence[Tradable], plan: WalkForwardPlan) -> str:
    """Return the ledger identity of a sleeve's stitched series.

    With one variant nothing is chosen: it is that variant.
    """
    if len(variants) == 1:
        return _filled(variants[0].configuration, plan.fill)
    content = {
        "sleeve": variants[0].sleeve_id,
        "walk_forward": {
            "train_days": plan.train_days,
            "test_days": plan.test_days,
            "embargo_days": plan.embargo_days,
            "variants": _hash([one.configuration for one in variants]),
        },
    }
    return _filled(_canonical(content), plan.fill)


class _Walk:
    # The steps of one walk-forward; positions are kept while they fit.

    def __init__(
        self,
        panel: AlignedPanel,
        variants: tuple[Tradable, ...],
        plan: WalkForwardPlan,
        windows: tuple[Window, ...],
    ) -> None:
        self.panel = panel
        self.variants = variants
        self.plan = plan
        self.windows = windows
        self.fill = Fill(plan.fill)
        self.calendar = calendar_of(panel, windows)
        self.allowed: BoolArray = of_age(panel, windows)
        self.rungs = tuple(dict.fromkeys((*plan.slippages_bps, LEDGER_BPS)))
        self._kept: dict[int, FloatArray] = {}
        self._fixed: list[FloatArray] = []

    def run(self) -> SleeveWalk:
        """Choose, stitch and simulate."""
        chosen = self._choose()
        stitched: dict[bytes, Simulation] = {}
        columns = []
        for rung, slippage_bps in enumerate(self.rungs):
            path = chosen[:, rung]
            if path.tobytes() not in stitched:
                stitched[path.tobytes()] = self._stitch(path)
            columns.append(self._column(stitched[path.tobytes()], slippage_bps))
        n_rungs = len(self.plan.slippages_bps)
        gross, net, turnover, trades = (
            np.stack(part, axis=1) for part in zip(*columns, strict=True)
        )
        ledger = self.rungs.index(LEDGER_BPS)
        configuration = stitched_configuration(self.variants, self.plan)
        return SleeveWalk(
            sleeve_id=self.variants[0].sleeve_id,
            configuration=configuration,
            calendar=self.calendar,
            windows=self.windows,
            slippages_bps=self.plan.slippages_bps,
            gross=gross[:, :n_rungs],
            net=net[:, :n_rungs],
            turnover=turnover[:, :n_rungs],
            trades=trades[:, :n_rungs],
            chosen=chosen[:, :n_rungs],
            weights=np.stack([self._weights(int(k))[-1] for k in chosen[-1, :n_rungs]]),
            configurations=tuple(one.configuration for one in self.variants),
            trials=self._trials(configuration, net[:, ledger]),
        )

    def _choose(self) -> IntArray:
        # Chosen variant of each window and rung: the first where nothing tells them
        # apart. One pass over the positions serves the choice and the ledger.
        chosen = np.zeros((len(self.windows), len(self.rungs)), dtype=np.int64)
        if len(self.variants) == 1:
            return chosen
        has_train = np.array([one.has_train for one in self.windows])
        spans = [(one.train, one.test) for one in self.windows if one.has_train]
        edges = np.unique([[s.start, s.stop] for both in spans for s in both])
        blocks = [(_blocks(edges, a), _blocks(edges, b)) for a, b in spans]
        sums = sweep(self.panel, self._each(), edges, fill=self.fill)
        chosen[has_train] = select(sums, blocks, self.rungs).chosen
        return chosen

    def _each(self) -> Iterator[FloatArray]:
        # A few variants' weights at a time, their fixed series noted on the way.
        size = 8 * self.panel.close.size
        at_once = max(1, _STACKED_BYTES // max(size, 1))
        for start in range(0, len(self.variants), at_once):
            stop = min(start + at_once, len(self.variants))
            stack = np.stack([self._weights(k) for k in range(start, stop)], axis=2)
            net = simulate(self.panel, stack, fill=self.fill).net(LEDGER_BPS)
            self._fixed += [self._days(series) for series in net.T]
            yield stack

    def _weights(self, number: int) -> FloatArray:
        if number in self._kept:
            return self._kept[number]
        found = self.variants[number].positions(self.panel)
        _require_weights(self.variants[number], found, self.panel)
        weights = np.where(self.allowed, found, 0.0)
        if (len(self._kept) + 1) * weights.nbytes <= _KEPT_BYTES:
            self._kept[number] = weights
        return weights

    def _stitch(self, path: IntArray) -> Simulation:
        # From a flat book: weights of each test span by its variant.
        book = np.zeros(self.panel.close.shape)
        for number in np.unique(path):
            weights = self._weights(int(number))
            for window, chosen in zip(self.windows, path, strict=True):
                if chosen == number:
                    book[window.test] = weights[window.test]
        return simulate(self.panel, book, fill=self.fill)

    def _column(
        self, done: Simulation, slippage_bps: float
    ) -> tuple[FloatArray, FloatArray, FloatArray, IntArray]:
        rows, first = self.calendar.rows, self.calendar.first_row
        return (
            self._days(done.gross[:, 0]),
            self._days(done.net(slippage_bps)[:, 0]),
            np.add.reduceat(done.turnover[rows, 0], first),
            np.add.reduceat(done.trades[rows, 0].astype(np.int64), first),
        )

    def _days(self, returns: FloatArray) -> FloatArray:
        # Out-of-sample days of one series; hours compound within a day, unless the
        # notional is fixed.
        part = returns[self.calendar.rows]
        first = self.calendar.first_row
        if len(part) == len(first):
            return part.copy()
        if self.fill is Fill.SAME_CLOSE:
            return np.add.reduceat(part, first)
        return np.multiply.reduceat(1.0 + part, first) - 1.0

    def _trials(self, configuration: str, net: FloatArray) -> tuple[Trial, ...]:
        n_days = self.calendar.n_ledger
        fixed = [
            Trial(_filled(one.configuration, self.plan.fill), returns[:n_days])
            for one, returns in zip(self.variants, self._fixed, strict=False)
        ]
        return (Trial(configuration, net[:n_days]), *fixed)


def _blocks(edges: IntArray, rows: slice) -> slice:
    first, last = np.searchsorted(edges, [rows.start, rows.stop])
    return slice(int(first), int(last))


def _require_weights(one: Tradable, found: FloatArray, panel: AlignedPanel) -> None:
    where = f"{one.sleeve_id} {one.configuration[:80]}"
    if found.shape != panel.close.shape:
        raise BacktestError(
            f"{where}: positions of shape {found.shape}, not {panel.close.shape}"
        )
    if not np.isfinite(found).all():
        raise BacktestError(f"{where}: positions must be finite")
    if found.size and np.abs(found).sum(axis=1).max() > _GROSS:
        raise BacktestError(f"{where}: absolute weights of a row add up to more than 1")


def _filled(configuration: str, fill: str) -> str:
    # Another fill is another trial; the default needs no word.
    if fill == Fill.NEXT_OPEN:
        return configuration
    content: dict[str, Any] = json.loads(configuration)
    return _canonical(content | {"fill": str(fill)})


def _canonical(content: object) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _hash(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
