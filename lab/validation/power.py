"""Power: how often the whole chain promotes a sleeve that is known to earn.

A null market is given one edge: after each decision of one sleeve of the catalogue, with
its default parameters, the instruments it holds drift its way by a fixed share of their
volatility. The share is set so that the sleeve's expected net Sharpe ratio at 10 bps is
the one asked for. What it then really makes is that, give or take luck; whether the
chain believes it is what is measured.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from lab.arrays import FloatArray
from lab.backtest.engine import Fill, simulate
from lab.backtest.ledger import LEDGER_BPS
from lab.backtest.panel import AlignedPanel
from lab.backtest.walk_frames import days_a_year
from lab.sleeves.catalogue import find
from lab.validation.gates import GATES
from lab.validation.null_battery import (
    DEFAULT_PLAN,
    BatteryPlan,
    SearchOutcome,
    Share,
    outcome_from,
    share_of,
    whole_search,
)
from lab.validation.null_markets import Moves, null_market, rebuilt

SHARPES: Final = (0.5, 1.0, 2.0, 3.0)
PLANTED: Final = (
    "time-series-momentum",
    "rsi-reversion",
    "event-drift",
    "cross-sectional-momentum",
)
"""Sleeves whose edge is planted, in turns: on trends, reversals, releases and ranks."""

_ROUNDS: Final = 6


@dataclass(frozen=True, slots=True)
class PlantedMarket:
    """A market with one edge in it.

    Attributes
    ----------
    panel : AlignedPanel
        The market.
    sleeve_id : str
        Whose edge.
    sharpe : float
        Expected annual net Sharpe of its default parameters at 10 bps, as planted.
    """

    panel: AlignedPanel
    sleeve_id: str
    sharpe: float


@dataclass(frozen=True, slots=True)
class PowerOutcome:
    """What one search of a market with an edge came to.

    Attributes
    ----------
    sharpe : float
        What was asked for.
    planted : float
        What was planted.
    sleeve_id : str
        Whose.
    search : SearchOutcome
        What the chain did.
    """

    sharpe: float
    planted: float
    sleeve_id: str
    search: SearchOutcome

    @property
    def is_found(self) -> bool:
        """Whether anything was promoted: there is one edge, and all live on it."""
        return bool(self.search.promoted)

    @property
    def is_named(self) -> bool:
        """Whether the very sleeve was promoted."""
        return self.sleeve_id in self.search.promoted

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "sharpe": self.sharpe,
            "planted": self.planted,
            "sleeve_id": self.sleeve_id,
            "search": self.search.document(),
        }


def power_from(document: Mapping[str, Any]) -> PowerOutcome:
    """Take an outcome back from JSON."""
    return PowerOutcome(
        document["sharpe"],
        document["planted"],
        document["sleeve_id"],
        outcome_from(document["search"]),
    )


def plant_edge(panel: AlignedPanel, sleeve_id: str, sharpe: float) -> PlantedMarket:
    """Return a null market with an edge for one sleeve.

    Parameters
    ----------
    panel : AlignedPanel
        A null market.
    sleeve_id : str
        Whose.
    sharpe : float
        Expected annual net Sharpe at 10 bps of its default parameters.

    Notes
    -----
    Point in time: the drift of an instrument's bar depends on the weight decided before
    it opens. A sleeve that feeds on prices sees its own drift; so weights and drift are
    worked out in turns, and what was planted is measured at the end.
    """
    sleeve = find(sleeve_id).from_parameters({})
    moves = Moves.of(panel)
    made, strength = panel, 0.0
    drift = np.zeros(panel.close.shape)
    for _ in range(_ROUNDS):
        held = _decided_before(made, sleeve.positions(made))
        unit = np.sign(held) * moves.scale
        unit = np.where(np.isfinite(unit), unit, 0.0)
        strength = _strength(made, sleeve.positions(made), held * unit, sharpe)
        drift = strength * unit
        made = rebuilt(panel, replace(moves, body=moves.body + drift))
    weights = sleeve.positions(made)
    return PlantedMarket(made, sleeve_id, _expected(made, weights, drift))


def power_search(
    panel: AlignedPanel,
    sharpe: float,
    number: int,
    *,
    seed: int,
    plan: BatteryPlan = DEFAULT_PLAN,
) -> PowerOutcome:
    """Run the whole chain on a market with an edge.

    Parameters
    ----------
    panel : AlignedPanel
        What the market is shaped like.
    sharpe : float
        Of the edge.
    number : int
        Of the search; sleeves take turns.
    seed : int
        Of the study.
    plan : BatteryPlan
        What the search consists of.
    """
    rng = np.random.default_rng([seed, number, round(1000 * sharpe)])
    null = null_market(panel, "walk", rng=rng)
    market = plant_edge(null, PLANTED[number % len(PLANTED)], sharpe)
    found = whole_search(market.panel, "power", number, rng=rng, plan=plan)
    return PowerOutcome(sharpe, market.sharpe, market.sleeve_id, found)


def power_shares(outcomes: Iterable[PowerOutcome]) -> dict[float, tuple[Share, Share]]:
    """Return by Sharpe how often anything, and how often the very sleeve, was promoted."""
    ordered: Sequence[PowerOutcome] = list(outcomes)
    return {
        sharpe: (
            share_of(sum(one.is_found for one in chosen), len(chosen)),
            share_of(sum(one.is_named for one in chosen), len(chosen)),
        )
        for sharpe in sorted({one.sharpe for one in ordered})
        for chosen in [[one for one in ordered if one.sharpe == sharpe]]
    }


def power_document(outcomes: Sequence[PowerOutcome]) -> dict[str, Any]:
    """Return shares, what was really planted, and gates its sleeve passed, as JSON."""
    shares = power_shares(outcomes)
    return {
        f"{sharpe:g}": {
            "any": shares[sharpe][0].document(),
            "planted": shares[sharpe][1].document(),
            "gates": {
                gate: sum(
                    gate in one.search.passed.get(one.sleeve_id, ())
                    for one in outcomes
                    if one.sharpe == sharpe
                )
                for gate in GATES
            },
            "mean_planted_sharpe": float(
                np.mean([one.planted for one in outcomes if one.sharpe == sharpe])
            ),
        }
        for sharpe in shares
    }


def _decided_before(panel: AlignedPanel, weights: FloatArray) -> FloatArray:
    # The newest weight of an instrument that was decided on a row before its bar.
    before = np.zeros_like(weights)
    before[1:] = weights[:-1]
    return np.where(panel.has_bar, before, 0.0)


def _strength(
    panel: AlignedPanel,
    weights: FloatArray,
    earned: FloatArray,
    sharpe: float,
) -> float:
    # How much drift a unit is, for the Sharpe asked for after costs.
    daily = float(earned.sum(axis=1).mean())
    if daily <= 0:
        return 0.0
    done = simulate(panel, weights, fill=Fill.NEXT_OPEN)
    spread = float(done.net(LEDGER_BPS)[:, 0].std(ddof=1))
    cost = float((done.gross - done.net(LEDGER_BPS)).mean())
    wanted = sharpe / math.sqrt(days_a_year(panel.ts)) * spread + cost
    return wanted / daily


def _expected(panel: AlignedPanel, weights: FloatArray, drift: FloatArray) -> float:
    # What the drift pays for the weights that are really decided, after costs.
    done = simulate(panel, weights, fill=Fill.NEXT_OPEN)
    net = done.net(LEDGER_BPS)[:, 0]
    cost = float((done.gross[:, 0] - net).mean())
    paid = float((_decided_before(panel, weights) * drift).sum(axis=1).mean()) - cost
    return paid / float(net.std(ddof=1)) * math.sqrt(days_a_year(panel.ts))
