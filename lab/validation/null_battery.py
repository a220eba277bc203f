"""The null battery: how often the whole chain promotes what cannot be known.

A unit is one whole search, as a user would run it: every sleeve of the catalogue walked
forward with all its variants, a cycle of evolution on top, the three gates over the
matrix of everything that was tried, and the lifecycle's rules, followed day by day up to
`paper`. It counts if at least one sleeve gets there. Nothing of the chain is simplified:
it is the code that judges real markets, with its default rules.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import numpy as np

from lab.backtest.engine import Fill
from lab.backtest.ledger import TrialMatrix, trial_tables
from lab.backtest.panel import AlignedPanel
from lab.backtest.walk_frames import days_a_year, walk_frames
from lab.backtest.walkforward import SleeveWalk, Tradable, WalkForwardPlan, walk_forward
from lab.bars.timeframes import to_moment
from lab.errors import ValidationError
from lab.evolution.search import search
from lab.lifecycle.decide import reached
from lab.lifecycle.gather import Frames, Registered, Speaker, evidence_of
from lab.lifecycle.rules import DEFAULT_RULES
from lab.lifecycle.stages import LOCKED
from lab.sleeves.catalogue import sleeves
from lab.validation.gates import (
    GateRules,
    GateVerdict,
    judge,
    verdict_table,
    weigh_family,
)
from lab.validation.null_markets import KINDS, null_market
from lakehouse.schema.lifecycle import BOT_SHADOW_DECISIONS

PAPER: Final = "paper"
CONFIDENCE: Final = 0.95
_RUN: Final = "walk-forward-null"


@dataclass(frozen=True, slots=True)
class BatteryPlan:
    """What one search consists of.

    Attributes
    ----------
    walk : WalkForwardPlan
        Windows and costs.
    population : int
        Genomes of the evolution's cycle; 0 leaves it out.
    """

    walk: WalkForwardPlan
    population: int = 20


DEFAULT_PLAN: Final = BatteryPlan(WalkForwardPlan())


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """What one whole search came to.

    Attributes
    ----------
    kind : str
        Of the market.
    number : int
        Of the search; with the battery's seed it makes the search again.
    n_trials : int
        Trials of its family.
    promoted : tuple of str
        Sleeves that reached `paper`.
    n_judged : int
        Series held against the gates: one a sleeve, and the evolution's finalists.
    passed : dict of str to tuple of str
        Gates passed by each sleeve that was walked, of those that passed any.
    best_sharpe : float
        Highest annual Sharpe among the judged, net at 10 bps; NaN if none varies.
    """

    kind: str
    number: int
    n_trials: int
    promoted: tuple[str, ...]
    n_judged: int
    passed: dict[str, tuple[str, ...]]
    best_sharpe: float

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        best = self.best_sharpe if math.isfinite(self.best_sharpe) else None
        return {
            "kind": self.kind,
            "number": self.number,
            "n_trials": self.n_trials,
            "promoted": list(self.promoted),
            "n_judged": self.n_judged,
            "passed": {name: list(gates) for name, gates in self.passed.items()},
            "best_sharpe": best,
        }


def outcome_from(document: Mapping[str, Any]) -> SearchOutcome:
    """Take an outcome back from JSON."""
    best = document["best_sharpe"]
    return SearchOutcome(
        kind=document["kind"],
        number=document["number"],
        n_trials=document["n_trials"],
        promoted=tuple(document["promoted"]),
        n_judged=document["n_judged"],
        passed={name: tuple(gates) for name, gates in document["passed"].items()},
        best_sharpe=math.nan if best is None else best,
    )


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with an exact interval.

    Attributes
    ----------
    count, n : int
        Promoting searches, and searches.
    low, high : float
        Clopper and Pearson's two-sided interval at 95 %.
    upper : float
        Their one-sided upper bound at 95 %.
    """

    count: int
    n: int
    low: float
    high: float
    upper: float

    def document(self) -> dict[str, float]:
        """Return it as JSON."""
        return {
            "count": self.count,
            "n": self.n,
            "share": self.count / self.n,
            "low_95": self.low,
            "high_95": self.high,
            "upper_bound_95": self.upper,
        }


def share_of(count: int, n: int) -> Share:
    """Return a share with its exact binomial intervals.

    Raises
    ------
    ValidationError
        If the counts make no sense.

    References
    ----------
    .. [1] Clopper & Pearson (1934), The Use of Confidence or Fiducial Limits
       Illustrated in the Case of the Binomial, Biometrika 26(4).
    """
    from scipy.stats import beta

    if not 0 <= count <= n or n < 1:
        raise ValidationError(f"share: {count} of {n}")
    tail = (1.0 - CONFIDENCE) / 2.0
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, n - count + 1))
    full = count == n
    high = 1.0 if full else float(beta.ppf(1.0 - tail, count + 1, n - count))
    upper = 1.0 if full else float(beta.ppf(CONFIDENCE, count + 1, n - count))
    return Share(count, n, low, high, upper)


def null_search(
    panel: AlignedPanel, number: int, *, seed: int, plan: BatteryPlan = DEFAULT_PLAN
) -> SearchOutcome:
    """Run search `number` of a battery: a null market of its own, and the whole chain.

    Parameters
    ----------
    panel : AlignedPanel
        What the null market is shaped like.
    number : int
        Kinds take turns; with `seed` it decides everything.
    seed : int
        Of the battery.
    plan : BatteryPlan
        What the search consists of.
    """
    kind = KINDS[number % len(KINDS)]
    rng = np.random.default_rng([seed, number])
    market = null_market(panel, kind, rng=rng)
    return whole_search(market, kind, number, rng=rng, plan=plan)


def whole_search(
    panel: AlignedPanel,
    kind: str,
    number: int,
    *,
    rng: np.random.Generator,
    plan: BatteryPlan = DEFAULT_PLAN,
) -> SearchOutcome:
    """Search one market by the whole chain and say what reaches `paper`.

    Parameters
    ----------
    panel : AlignedPanel
        The market.
    kind, number : str, int
        What the outcome is filed under.
    rng : numpy.random.Generator
        Of the evolution.
    plan : BatteryPlan
        What the search consists of.

    Raises
    ------
    BacktestError
        If the panel is too short for a window.
    """
    walks = [walk_forward(panel, variants, plan.walk) for variants in _catalogue(panel)]
    trials = [trial for walk in walks for trial in walk.trials]
    calendar = walks[0].calendar
    matrix = TrialMatrix.from_trials(trials, family=calendar.family)
    candidates: Sequence[Tradable] = ()
    n_finalists = 0
    if plan.population:
        found = search(
            panel, plan.walk, population=plan.population, rng=rng, trials_before=matrix
        )
        matrix, candidates = found.matrix, found.candidates
        n_finalists = len(found.finalists)
    # A candidate enters at genesis; the next walk-forward walks it as any sleeve.
    walks += [walk_forward(panel, (one,), plan.walk) for one in candidates]
    evidence = weigh_family(matrix, GateRules())
    judged = {
        walk.sleeve_id: judge(
            walk.sleeve_id, walk.trials[0].returns, evidence, fill=Fill(plan.walk.fill)
        )
        for walk in walks
        if walk.sleeve_id != LOCKED
    }
    promoted = tuple(
        walk.sleeve_id
        for walk in walks
        if walk.sleeve_id in judged
        and all(one.is_passed for one in judged[walk.sleeve_id])
        and _stage(walk, panel, judged[walk.sleeve_id], plan.walk) == PAPER
    )
    return SearchOutcome(
        kind=kind,
        number=number,
        n_trials=matrix.n_trials,
        promoted=promoted,
        n_judged=len(judged) + n_finalists - len(candidates),
        passed=_passed(judged),
        best_sharpe=_best(walks),
    )


def _catalogue(panel: AlignedPanel) -> list[Sequence[Tradable]]:
    # As the walk-forward chooses: sleeves of these bars, whose forecasts are there.
    return [
        kind.variants()
        for kind in sleeves().values()
        if panel.timeframe in kind.timeframes
        and (not kind.needs or kind.needs in panel.forecasts)
    ]


def _stage(
    walk: SleeveWalk,
    panel: AlignedPanel,
    verdicts: Sequence[GateVerdict],
    plan: WalkForwardPlan,
) -> str:
    # Through the very tables and rules that decide on real sleeves.
    calendar = walk.calendar
    returns, snapshots = walk_frames(walk, panel, run_id=_RUN)
    ended = to_moment(panel.known_ts[-1]) + timedelta(days=1)
    trials, trial_returns = trial_tables(
        walk.trials,
        family=calendar.family,
        origin="walkforward",
        days=calendar.ledger_days,
        tried_at=ended,
        run_id=_RUN,
    )
    named = [replace(one, inputs={**one.inputs, "run_id": _RUN}) for one in verdicts]
    frames = Frames(
        wf_snapshots=snapshots,
        sleeve_returns=returns,
        trials=trials,
        trial_returns=trial_returns,
        gate_verdicts=verdict_table(named, decided_at=ended, run_id=_RUN),
        bot_shadow_decisions=BOT_SHADOW_DECISIONS.to_arrow().empty_table(),
    )
    sleeve = Registered(walk.sleeve_id, _registered(walk), ended)
    speaker = Speaker(_RUN, panel.timeframe, calendar.family, plan.fill, ended)
    evidence = evidence_of(
        sleeve, frames, speaker=speaker, as_of=ended, rules=DEFAULT_RULES
    )
    return reached(evidence, DEFAULT_RULES)


def _registered(walk: SleeveWalk) -> str:
    # A catalogue sleeve is registered with its defaults, a genome as it is.
    kind = sleeves().get(walk.sleeve_id)
    if kind is None:
        return walk.configurations[0]
    return kind.from_parameters({}).configuration


def _passed(
    judged: Mapping[str, Sequence[GateVerdict]],
) -> dict[str, tuple[str, ...]]:
    found = {
        name: tuple(one.gate for one in verdicts if one.is_passed)
        for name, verdicts in judged.items()
    }
    return {name: gates for name, gates in found.items() if gates}


def _best(walks: Sequence[SleeveWalk]) -> float:
    best = math.nan
    for walk in walks:
        if walk.sleeve_id == LOCKED:
            continue
        returns = walk.trials[0].returns
        if np.ptp(returns) > 0:
            daily = float(returns.mean() / returns.std(ddof=1))
            yearly = daily * math.sqrt(days_a_year(walk.calendar.ledger_days))
            best = yearly if math.isnan(best) else max(best, yearly)
    return best


@dataclass(frozen=True, slots=True)
class BatteryResult:
    """What a battery came to.

    Attributes
    ----------
    outcomes : tuple of SearchOutcome
        In the order of their numbers.
    shares : dict of str to Share
        Of each kind, and of `all`.
    """

    outcomes: tuple[SearchOutcome, ...]
    shares: dict[str, Share]


def allowed_promotions(n: int) -> int:
    """Return how many of `n` searches may promote something: 2 %, but 2 at least.

    200 searches with 4 have an upper bound of 4.5 %; 20 searches prove little, and
    2 is what a chain at that bound would exceed once in 17 runs.
    """
    return max(2, n // 50)


def tally(outcomes: Iterable[SearchOutcome]) -> BatteryResult:
    """Count promoting searches, by kind of market and in all.

    Raises
    ------
    ValidationError
        If there are none.
    """
    ordered = tuple(sorted(outcomes, key=lambda one: one.number))
    shares = {
        kind: share_of(sum(bool(one.promoted) for one in chosen), len(chosen))
        for kind in dict.fromkeys([*(one.kind for one in ordered), "all"])
        for chosen in [[one for one in ordered if kind in {one.kind, "all"}]]
    }
    return BatteryResult(ordered, shares)
