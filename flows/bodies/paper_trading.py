"""Bars in order: fill what was decided, decide anew, note everything for one write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa

from flows.bodies.candidates import resolve_sleeve
from flows.bodies.paper_artefacts import Published
from flows.bodies.paper_state import Desk, agent_of
from flows.runs import Run
from lab.arrays import FloatArray
from lab.backtest.panel import AlignedPanel
from lab.backtest.steps import Fill, Steps, steps_of
from lab.bars.timeframes import to_moment
from lab.errors import LabError
from lab.evaluation.decisions import record_decision
from lab.learning.feature_sets import ORDER_FEATURES
from lab.paper.combine import ADDED, BASELINE, Combined, SignalWeights, combine
from lab.paper.frozen import feature_matrix
from lab.paper.orders import COST_BPS, Order
from lab.paper.origins import LIVE, REPLAY, Witness, origin_of
from lab.paper.risk import DEFAULT_LIMITS
from lab.paper.shadow import Shadow, shadow_decisions
from lab.paper.signals import (
    RegimeCalls,
    signal_positions,
    winprob_positions,
)
from lab.sleeves.phase37 import LOCKED_HASH, Phase37

WINPROB: Final = "winprob"


@dataclass(frozen=True, slots=True)
class Filled:
    """An order that was opened or closed.

    Attributes
    ----------
    sleeve_id : str
        Whose.
    order : Order
        As it is now.
    origin : str
        Of the decision that was filled.
    """

    sleeve_id: str
    order: Order
    origin: str


@dataclass(slots=True)
class Traded:
    """What a run adds.

    Attributes
    ----------
    opened, closed : list of Filled
        Orders, in the order of their bars; one may be in both.
    shadows : dict of Shadow to str
        Decisions at weight 0 with their origin.
    records : list of (str, pyarrow.Table)
        Window and decision record of each bar.
    origins : list of str
        Of each bar.
    """

    opened: list[Filled] = field(default_factory=list)
    closed: list[Filled] = field(default_factory=list)
    shadows: dict[Shadow, str] = field(default_factory=dict)
    records: list[tuple[str, pa.Table]] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class View:
    """What is decided on: positions of everything, on every row.

    Attributes
    ----------
    baseline : ndarray of shape (n_obs, n_assets), float64
        Targets of phase37.
    signals, watched : mapping of str to ndarray of shape (n_obs, n_assets)
        Of the signals, and of the sleeves in paper and canary.
    """

    baseline: FloatArray
    signals: Mapping[str, FloatArray]
    watched: Mapping[str, FloatArray]


def look(
    run: Run,
    panel: AlignedPanel,
    rows: Sequence[int],
    *,
    published: Published,
    regimes: RegimeCalls,
) -> View:
    """Return what phase37, the signals and the watched sleeves would hold.

    Parameters
    ----------
    run : Run
        Where it is noted who is left out, and why.
    panel : AlignedPanel
        What is seen.
    rows : sequence of int
        Decided on: only there is the model asked.
    published : Published
        Verified.
    regimes : RegimeCalls
        Of the market.

    Notes
    -----
    Point in time: row t of each array uses what was known by the row.
    """
    baseline = Phase37().positions(panel)
    signals = signal_positions(panel, regimes)
    asked = _ask(run, published, panel, rows, baseline=baseline, signals=signals)
    if asked is not None:
        signals[WINPROB] = asked
    return View(baseline, signals, _watched(run, panel, published.watched))


def trade(
    run: Run,
    desk: Desk,
    panel: AlignedPanel,
    rows: Sequence[int],
    *,
    view: View,
    published: Published,
    witness: Witness,
) -> tuple[Traded, Steps]:
    """Trade rows one after the other; the desk moves on, nothing is written.

    Parameters
    ----------
    run : Run
        For the records.
    desk : Desk
        Books after the row before the first.
    panel : AlignedPanel
        Bars.
    rows : sequence of int
        Not decided on yet, in order.
    view : View
        See `look`.
    published : Published
        Verified.
    witness : Witness
        The lake's present.

    Returns
    -------
    traded : Traded
    steps : Steps
        Of the panel.

    Notes
    -----
    Point in time: row t fills what was decided before it, then decides on it.
    """
    steps, traded = steps_of(panel, Fill.NEXT_OPEN), Traded()
    for book in desk.books.values():
        for symbol in book.take_late(panel, steps):
            run.notes.append(f"{symbol}: bars came late; the holding is marked by them")
    decide = partial(_decide, desk, view=view, weights=published.weights)
    for row in rows:
        _fill(desk, panel, row, steps, traded)
        combined = decide(panel, row)
        known = to_moment(panel.known_ts[row])
        origin = origin_of(known, witness, timeframe=panel.timeframe)
        for one in _shadows(panel, row, view, published.weights):
            traded.shadows[one] = origin
        desk.bar, desk.origin = panel.ts[row], origin
        traded.origins.append(origin)
        record = _record(run, desk, panel, row, combined=combined, published=published)
        traded.records.append(record)
    return traded, steps


def _fill(
    desk: Desk, panel: AlignedPanel, row: int, steps: Steps, traded: Traded
) -> None:
    origin = desk.origin or REPLAY
    for name, book in desk.books.items():
        closed = book.step(panel, row, steps)
        fresh = [one for one in book.open_orders() if one.entry_ts == panel.ts[row]]
        fresh += [one for one in closed if one.entry_ts == panel.ts[row]]
        traded.opened += [Filled(name, one, origin) for one in fresh]
        traded.closed += [Filled(name, one, origin) for one in closed]


def _decide(
    desk: Desk,
    panel: AlignedPanel,
    row: int,
    *,
    view: View,
    weights: SignalWeights,
) -> Combined:
    book = desk.books[ADDED]
    if desk.halted_at is not None and weights.changed_at > desk.halted_at:
        desk.halted_at, book.peak = None, book.net_equity
    if desk.halted_at is None and DEFAULT_LIMITS.is_broken(book):
        desk.halted_at = to_moment(panel.known_ts[row])
    combined = combine(
        view.baseline[row],
        {name: held[row] for name, held in view.signals.items()},
        weights,
        is_halted=desk.halted_at is not None,
    )
    desk.books[BASELINE].decide(combined.baseline, panel.ts[row])
    book.decide(combined.added, panel.ts[row])
    return combined


def _shadows(
    panel: AlignedPanel, row: int, view: View, weights: SignalWeights
) -> list[Shadow]:
    held = {
        name: view.signals[name][row]
        for name in weights.shadows
        if name in view.signals
    }
    held |= {name: grid[row] for name, grid in view.watched.items()}
    return shadow_decisions(panel, row, held)


def _watched(
    run: Run, panel: AlignedPanel, configurations: Mapping[str, str]
) -> dict[str, FloatArray]:
    found = {}
    for name, configuration in sorted(configurations.items()):
        try:
            sleeve = resolve_sleeve(configuration)
            if panel.timeframe in getattr(sleeve, "timeframes", (panel.timeframe,)):
                found[name] = sleeve.positions(panel)
        except LabError as error:
            run.notes.append(f"{name}: not watched: {error}")
    return found


def _ask(
    run: Run,
    published: Published,
    panel: AlignedPanel,
    rows: Sequence[int],
    *,
    baseline: FloatArray,
    signals: Mapping[str, FloatArray],
) -> FloatArray | None:
    predictor = published.predictor
    if predictor is None:
        return None
    if predictor.schema_sha256 != ORDER_FEATURES.sha256:
        run.notes.append("winprob: not asked: it was trained on other features")
        return None
    chosen = np.asarray(rows, dtype=np.int64)
    at, columns = np.nonzero(baseline[chosen])
    places = (chosen[at], columns)
    features = feature_matrix(
        panel,
        places,
        side=np.sign(baseline[places]),
        size=np.abs(baseline[places]),
        sleeve_id=BASELINE,
        positions=signals,
    )
    held = np.zeros(baseline.shape)
    if len(features) == 0:
        return held
    # A row unlike what the model was trained on has no probability.
    sure = np.where(
        predictor.is_novel(features), np.nan, predictor.probabilities(features)
    )
    held[places] = winprob_positions(
        baseline[places], sure, base_rate=published.base_rate
    )
    return held


def _record(
    run: Run,
    desk: Desk,
    panel: AlignedPanel,
    row: int,
    *,
    combined: Combined,
    published: Published,
) -> tuple[str, pa.Table]:
    bar = str(panel.ts[row].astype("datetime64[us]"))
    weights = published.weights
    halted = desk.halted_at
    record = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id=agent_of(desk.timeframe),
        model={
            "name": "phase37 and weighted signals",
            "version": "1",
            "phase37": LOCKED_HASH,
            "cost_bps": COST_BPS,
        },
        input_snapshot={
            "timeframe": desk.timeframe,
            "bar": bar,
            "known": to_moment(panel.known_ts[row]).isoformat(),
            "since": desk.since.isoformat(),
            "artefacts": dict(published.versions),
            "weights": dict(weights.weights),
            "gross_cap": weights.gross_cap,
            "forecasts": sorted(panel.forecasts),
        },
        output={
            "origin": desk.origin,
            "halted_at": None if halted is None else halted.isoformat(),
            "scale": combined.scale,
            "reached": list(combined.reached),
            "books": {name: book.to_json() for name, book in desk.books.items()},
        },
        rationale=_why(combined, desk.origin),
    )
    return f"paper/decision_records/{desk.timeframe}/{bar}", record


def _why(combined: Combined, origin: str) -> str:
    told = [f"phase37 at weight 1, gross {np.abs(combined.baseline).sum():.4g}"]
    added = float(np.abs(combined.added).sum())
    told.append(
        f"signals add {added:.4g}" if added else "signals at weight 0 add nothing"
    )
    told += combined.reached
    if origin != LIVE:
        told.append("decided later than its bar was news: counts for nothing")
    return "; ".join(told)
