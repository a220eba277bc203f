"""What is known of a sleeve when its stage is decided."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

GATES: Final = ("dsr", "reality_check", "pbo")
"""The three gates before `paper`."""

UNPROMOTED_FILLS: Final = frozenset(["same_close"])
"""Fills that no order gets: such a walk-forward promotes nothing."""


@dataclass(frozen=True, slots=True)
class Series:
    """Figures of one daily net return series.

    Attributes
    ----------
    sharpe : float or None
        Annualised by the observed observations a year; None where it never varies.
    n_obs : int
        Days.
    """

    sharpe: float | None
    n_obs: int


@dataclass(frozen=True, slots=True)
class Gate:
    """The newest verdict of one gate.

    Attributes
    ----------
    verdict_id : str
        In `gate_verdicts`.
    is_passed : bool
        The verdict.
    fill : str
        Fill of the walk-forward that was judged.
    n_trials : int
        Trials of the family that it counted.
    inputs, thresholds, distances : mapping
        As stored.
    """

    verdict_id: str
    is_passed: bool
    fill: str = "next_open"
    n_trials: int = 0
    inputs: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    distances: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that decides on one sleeve at one time; None where nothing is known.

    What is not known neither promotes nor demotes.

    Attributes
    ----------
    sleeve_id : str
        Sleeve.
    as_of : datetime
        Decision time.
    entered_at : datetime
        When it entered its stage.
    moved_at : datetime or None
        When it last changed its stage; None for one that was just registered.
    run_id, timeframe, family : str
        The walk-forward run that speaks for it, its bars and its ledger family; empty
        without one.
    fill : str
        Fill of that run.
    backtest : Series or None
        The registered configuration over the whole span of the family, net at 10 bps:
        in sample, since the sleeve was proposed with that span in sight. Where that
        configuration was not tried there, the sleeve's trial of median Sharpe: never
        its best one, which is best by luck too.
    backtest_trades : int or None
        Trades in the run's test windows at 10 bps; before its first run those its
        author counted.
    backtest_drawdown : float or None
        Largest peak-to-trough loss of `backtest`.
    backtest_days : float
        Calendar days that it spans.
    walked, stressed : Series or None
        Stitched out-of-sample returns at 10 and 20 bps.
    n_folds, n_positive_folds : int
        Test windows, and those with a net return above 0 at 10 bps.
    gates : mapping of str to Gate
        By name; only verdicts on that run.
    n_trials : int
        Trials in the family now: a verdict that counted fewer is out of date.
    drawdown : float or None
        Loss from the peak at the newest out-of-sample day, net at 10 bps.
    recent : Series or None
        Out-of-sample days in the window of the retire rule.
    samples : int
        Settled live shadow decisions since it entered paper or canary.
    live_days : float
        Days of live shadow telemetry since then: from its first live decision on, holes
        in which the paper trader did not run left out.
    """

    sleeve_id: str
    as_of: datetime
    entered_at: datetime
    moved_at: datetime | None = None
    run_id: str = ""
    timeframe: str = ""
    family: str = ""
    fill: str = "next_open"
    backtest: Series | None = None
    backtest_trades: int | None = None
    backtest_drawdown: float | None = None
    backtest_days: float = 0.0
    walked: Series | None = None
    stressed: Series | None = None
    n_folds: int = 0
    n_positive_folds: int = 0
    gates: Mapping[str, Gate] = field(default_factory=dict)
    n_trials: int = 0
    drawdown: float | None = None
    recent: Series | None = None
    samples: int = 0
    live_days: float = 0.0

    @property
    def stage_days(self) -> float:
        """Days in this stage."""
        return (self.as_of - self.entered_at).total_seconds() / 86400.0

    @property
    def positive_share(self) -> float | None:
        """Share of test windows that earned."""
        return self.n_positive_folds / self.n_folds if self.n_folds else None

    def is_out_of_date(self, gate: str) -> bool:
        """Return whether more was tried since the gate's verdict."""
        return gate in self.gates and self.gates[gate].n_trials < self.n_trials

    def figures(self) -> dict[str, Any]:
        """Return the evidence as JSON: what a transition keeps of it."""

        def sharpe(series: Series | None) -> float | None:
            return None if series is None else series.sharpe

        return {
            "as_of": self.as_of.isoformat(),
            "walk_forward_run": self.run_id,
            "family": self.family,
            "fill": self.fill,
            "n_trials": self.n_trials,
            "backtest_sharpe": sharpe(self.backtest),
            "backtest_trades": self.backtest_trades,
            "backtest_drawdown": self.backtest_drawdown,
            "walk_forward_sharpe": sharpe(self.walked),
            "walk_forward_days": self.walked.n_obs if self.walked else 0,
            "stressed_sharpe": sharpe(self.stressed),
            "folds": self.n_folds,
            "folds_positive": self.n_positive_folds,
            "drawdown": self.drawdown,
            "recent_sharpe": sharpe(self.recent),
            "recent_days": self.recent.n_obs if self.recent else 0,
            "samples": self.samples,
            "live_days": self.live_days,
            "stage_days": self.stage_days,
            "verdicts": {
                name: {"verdict_id": gate.verdict_id, "is_passed": gate.is_passed}
                for name, gate in sorted(self.gates.items())
            },
        }
