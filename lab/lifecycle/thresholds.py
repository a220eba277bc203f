"""How far a sleeve is from every threshold, and when it would be there.

A rule that needs what is not known is neither met nor failed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from lab.lifecycle.evidence import GATES, UNPROMOTED_FILLS, Evidence, Gate, Series
from lab.lifecycle.rules import LifecycleRules
from lab.lifecycle.schedule import (
    decision_after,
    in_days,
    next_decision,
    next_run,
)
from lab.lifecycle.stages import RETIRED

NOT_AT_THIS_RATE: Final = "not at this rate"

_FROM_ENTRY: Final = "counted from its entry into the stage"

_GATE_FIGURES: Final = {
    "dsr": ("dsr", "dsr_min", ">="),
    "reality_check": ("p_value", "reality_p_max", "<="),
    "pbo": ("pbo", "pbo_max", "<="),
}


@dataclass(frozen=True, slots=True)
class Distance:
    """One rule, and how far a sleeve is from it.

    Attributes
    ----------
    stage : str
        Stage that the rule lets a sleeve leave upwards; `retired` for the rules of
        retirement, which are met as long as it may stay.
    rule : str
        Name.
    value : float or None
        What was found; None where it is not known.
    threshold : str
        What is asked, with its comparison.
    is_met : bool or None
        None where the value is not known.
    gap : float or None
        How much is missing, in the value's unit; 0 when met.
    change : str
        What would change it; empty when met.
    expected : datetime or None
        First decision at which it may be met, as things go; None when it is met, or
        not at this rate.
    """

    stage: str
    rule: str
    value: float | None
    threshold: str
    is_met: bool | None
    gap: float | None = 0.0
    change: str = ""
    expected: datetime | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "stage": self.stage,
            "rule": self.rule,
            "value": self.value,
            "threshold": self.threshold,
            "is_met": self.is_met,
            "gap": self.gap,
            "change": self.change,
            "expected": None if self.expected is None else self.expected.isoformat(),
        }

    def __str__(self) -> str:
        if self.value is not None:
            is_whole = float(self.value).is_integer()
            value = f" {self.value:.0f}" if is_whole else f" {self.value:.4g}"
        else:
            value = " not known" if self.is_met is None else ""
        return f"{self.rule}{value} (needs {self.threshold})"


def measure(
    evidence: Evidence, rules: LifecycleRules, *, stage: str
) -> tuple[Distance, ...]:
    """Return the distance to every threshold, in the order of the stages.

    Parameters
    ----------
    evidence : Evidence
        What is known.
    rules : LifecycleRules
        What is asked.
    stage : str
        Where the sleeve is: days and samples count in their own stage only.
    """
    parts: Iterable[Callable[[Evidence, LifecycleRules], list[Distance]]] = (
        _genesis,
        _backtest,
        _walk_forward,
        _folds,
        _gates,
    )
    found = [one for part in parts for one in part(evidence, rules)]
    found += _paper(evidence if stage == "paper" else None, rules)
    found += _canary(evidence if stage == "canary" else None, rules)
    return (*found, *_retirement(evidence, rules))


def _genesis(evidence: Evidence, _: LifecycleRules) -> list[Distance]:
    if evidence.backtest is not None:
        days = float(evidence.backtest.n_obs)
        return [Distance("genesis", "days of backtest", days, "> 0", is_met=True)]
    change = "the next walk-forward tries it"
    return [_unknown(evidence, "genesis", "days of backtest", "> 0", change)]


def _backtest(evidence: Evidence, rules: LifecycleRules) -> list[Distance]:
    least, trades = rules.backtest_trades_min, evidence.backtest_trades
    asked, name = f">= {least}", "backtest trades"
    sharpe = _sharpe(
        evidence,
        ("backtest", "backtest Sharpe"),
        evidence.backtest,
        rules.backtest_sharpe_above,
    )
    if trades is None:
        change = "the next walk-forward counts them"
        return [sharpe, _unknown(evidence, "backtest", name, asked, change)]
    missing = max(0, least - trades)
    if not missing:
        return [sharpe, Distance("backtest", name, trades, asked, is_met=True)]
    rate = trades / evidence.backtest_days if evidence.backtest_days else 0.0
    expected = in_days(evidence.as_of, missing / rate) if rate else None
    change = f"{missing} more, at {rate * 30:.1f} a month"
    return [
        sharpe,
        Distance(
            "backtest",
            name,
            trades,
            asked,
            is_met=False,
            gap=missing,
            change=_unless(change, expected),
            expected=None if expected is None else next_run(expected),
        ),
    ]


def _walk_forward(evidence: Evidence, rules: LifecycleRules) -> list[Distance]:
    return [
        _sharpe(
            evidence,
            ("walk_forward", "out-of-sample Sharpe at 10 bps"),
            evidence.walked,
            rules.walk_forward_sharpe_above,
        ),
        _sharpe(
            evidence,
            ("walk_forward", "out-of-sample Sharpe at 20 bps"),
            evidence.stressed,
            rules.stressed_sharpe_above,
        ),
    ]


def _folds(evidence: Evidence, rules: LifecycleRules) -> list[Distance]:
    stage, name = "walk_forward_multi_fold", "share of folds above 0"
    n_folds, share = evidence.n_folds, evidence.positive_share
    asked = f">= {rules.folds_positive_min:g} of at least {rules.folds_min} folds"
    if share is None or n_folds < rules.folds_min:
        change = f"{rules.folds_min - n_folds} more folds"
        return [_unknown(evidence, stage, name, asked, change)]
    if share >= rules.folds_positive_min:
        return [Distance(stage, name, share, asked, is_met=True)]
    needed = rules.folds_positive_min
    gap = needed - share
    if needed < 1:
        # Positive folds in a row after which the share is reached.
        more = -(-(needed * n_folds - evidence.n_positive_folds) // (1 - needed))
        change = f"{NOT_AT_THIS_RATE}: {more:.0f} positive folds in a row"
    else:
        change = f"{NOT_AT_THIS_RATE}: a fold was lost"
    return [Distance(stage, name, share, asked, is_met=False, gap=gap, change=change)]


def _gates(evidence: Evidence, _: LifecycleRules) -> list[Distance]:
    stage = "walk_forward_multi_fold"
    found = [_gate(evidence, stage, name) for name in GATES]
    is_real = evidence.fill not in UNPROMOTED_FILLS
    change = "" if is_real else "a walk-forward filled at the next bar"
    asked = "any but same_close"
    fill = Distance(stage, f"fill {evidence.fill}", None, asked, is_real, None, change)
    return [*found, fill]


def _gate(evidence: Evidence, stage: str, name: str) -> Distance:
    rule, asked = f"gate {name}", "passed on the newest walk-forward"
    gate = evidence.gates.get(name)
    if gate is None:
        change = "the next walk-forward is judged by it"
        return _unknown(evidence, stage, rule, asked, change)
    if evidence.is_out_of_date(name):
        change = (
            f"the ledger holds {evidence.n_trials} trials, the verdict counted"
            f" {gate.n_trials}: it is judged again"
        )
        when = next_decision(evidence.as_of)
        return Distance(stage, rule, None, asked, None, None, change, when)
    figure, limit, mark = _GATE_FIGURES[name]
    value, least = _number(gate.inputs.get(figure)), gate.thresholds.get(limit)
    asked = asked if least is None else f"{mark} {least:g}"
    if gate.is_passed:
        return Distance(stage, rule, value, asked, is_met=True)
    missing = _number(gate.distances.get("distance"))
    expected = _gate_date(evidence, gate)
    is_close = missing is None or missing >= 0
    # The figure suffices, something else does not.
    change = gate.distances.get("reason" if is_close else "change") or "not known"
    return Distance(
        stage,
        rule,
        value,
        asked,
        is_met=False,
        gap=None if missing is None else max(0.0, -missing),
        change=_unless(str(change), expected),
        expected=None if expected is None else next_run(expected),
    )


def _gate_date(evidence: Evidence, gate: Gate) -> datetime | None:
    # Observed days become calendar days at the series' own pace.
    further = _number(gate.distances.get("further_days"))
    pace = _number(gate.inputs.get("days_a_year")) or 365.25
    return None if not further else in_days(evidence.as_of, further * 365.25 / pace)


def _paper(evidence: Evidence | None, rules: LifecycleRules) -> list[Distance]:
    return [
        _live_days(evidence, rules.paper_days_min),
        _samples(evidence, rules.paper_samples_min),
    ]


def _canary(evidence: Evidence | None, rules: LifecycleRules) -> list[Distance]:
    closed = Distance(
        "canary",
        "approval by two persons",
        None,
        "present",
        is_met=False,
        gap=None,
        change="live stays closed until two persons' approval exists",
    )
    days = _days(evidence, ("canary", "days in canary"), rules.canary_days_min)
    return [*days, closed]


def _live_days(evidence: Evidence | None, least: int) -> Distance:
    stage, rule, asked = "paper", "live days in paper", f">= {least}"
    if evidence is None:
        return Distance(stage, rule, 0.0, asked, not least, least, _FROM_ENTRY)
    days = evidence.live_days
    missing = max(0.0, least - days)
    if not missing:
        return Distance(stage, rule, days, asked, is_met=True)
    # Telemetry that began goes on a day a day.
    expected = in_days(evidence.as_of, missing) if days else None
    change = f"{missing:.1f} more days on which the paper trader runs on time"
    return Distance(
        stage,
        rule,
        days,
        asked,
        is_met=False,
        gap=missing,
        change=_unless(change, expected),
        expected=None if expected is None else decision_after(expected),
    )


def _samples(evidence: Evidence | None, least: int) -> Distance:
    stage, rule, asked = "paper", "settled live shadow decisions", f">= {least}"
    if evidence is None:
        return Distance(stage, rule, 0.0, asked, not least, least, _FROM_ENTRY)
    days, samples = evidence.live_days, evidence.samples
    missing = max(0, least - samples)
    if not missing:
        return Distance(stage, rule, samples, asked, is_met=True)
    rate = samples / days if days > 0 else 0.0
    expected = in_days(evidence.as_of, missing / rate) if rate else None
    return Distance(
        stage,
        rule,
        samples,
        asked,
        is_met=False,
        gap=missing,
        change=_unless(f"{missing} more, at {rate:.1f} a day", expected),
        expected=None if expected is None else decision_after(expected),
    )


def _days(
    evidence: Evidence | None, where: tuple[str, str], least: int
) -> list[Distance]:
    (stage, rule), asked = where, f">= {least}"
    if evidence is None:
        return [Distance(stage, rule, 0.0, asked, not least, least, _FROM_ENTRY)]
    missing = max(0.0, least - evidence.stage_days)
    expected = in_days(evidence.as_of, missing) if missing else None
    return [
        Distance(
            stage,
            rule,
            evidence.stage_days,
            asked,
            is_met=not missing,
            gap=missing,
            change=f"{missing:.1f} more days" if missing else "",
            expected=None if expected is None else decision_after(expected),
        )
    ]


def _retirement(evidence: Evidence, rules: LifecycleRules) -> list[Distance]:
    return [_drawdown(evidence, rules), _recent(evidence, rules)]


def _drawdown(evidence: Evidence, rules: LifecycleRules) -> Distance:
    rule, ratio = "drawdown", rules.retire_drawdown_ratio
    if evidence.backtest_drawdown is None or evidence.drawdown is None:
        asked = f"<= {ratio:g} x the backtest's"
        return Distance(RETIRED, rule, evidence.drawdown, asked, None, None)
    most = ratio * evidence.backtest_drawdown
    asked = (
        f"<= {most:.4g}, {ratio:g} x the backtest's {evidence.backtest_drawdown:.4g}"
    )
    gap = max(0.0, evidence.drawdown - most)
    change = f"a recovery by {gap:.4g}" if gap else ""
    return Distance(RETIRED, rule, evidence.drawdown, asked, not gap, gap, change)


def _recent(evidence: Evidence, rules: LifecycleRules) -> Distance:
    days, least = rules.retire_window_days, rules.retire_observations_min
    rule = f"{days}-day Sharpe"
    asked = f">= 0, judged on {least} days or more"
    recent = evidence.recent
    if recent is None or recent.n_obs < least or recent.sharpe is None:
        n_days = 0 if recent is None else recent.n_obs
        change = f"{n_days} days with a return in the window"
        return Distance(RETIRED, rule, None, asked, None, None, change)
    gap = max(0.0, -recent.sharpe)
    change = f"a Sharpe {gap:.4g} higher" if gap else ""
    return Distance(RETIRED, rule, recent.sharpe, asked, not gap, gap, change)


def _sharpe(
    evidence: Evidence, where: tuple[str, str], series: Series | None, above: float
) -> Distance:
    stage, rule = where
    asked = f"> {above:g}"
    if series is None:
        change = "the next walk-forward shows it"
        return _unknown(evidence, stage, rule, asked, change)
    if series.sharpe is None:
        change = f"{NOT_AT_THIS_RATE}: it never trades"
        return Distance(stage, rule, 0.0, asked, is_met=False, change=change)
    if series.sharpe > above:
        return Distance(stage, rule, series.sharpe, asked, is_met=True)
    gap = above - series.sharpe
    change = (
        f"{NOT_AT_THIS_RATE}: a Sharpe more than {gap:.4g} higher; looked at again with"
        f" the walk-forward of {next_run(evidence.as_of):%Y-%m-%d}"
    )
    return Distance(
        stage, rule, series.sharpe, asked, is_met=False, gap=gap, change=change
    )


def _unknown(
    evidence: Evidence, stage: str, rule: str, asked: str, change: str
) -> Distance:
    when = next_run(evidence.as_of)
    return Distance(stage, rule, None, asked, None, None, change, when)


def _unless(change: str, expected: datetime | None) -> str:
    return change if expected is not None else f"{NOT_AT_THIS_RATE}: {change}"


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None
