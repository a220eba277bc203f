"""Whether a challenger replaces the champion: both judged on the same rows.

The difference of their daily net profits is resampled in blocks, as it is: days of one
stretch stay together, and the two models stay paired. The share of resamples whose mean
difference is above zero is the confidence of the verdict; a tie is not above zero.

A better profit is not enough. It must survive higher costs; the loss of the predictions
must not be worse at the same confidence; and the two must differ on enough days, since
a handful of lucky days draws itself into most resamples.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from lab.arrays import FloatArray, IntArray, TimeArray
from lab.errors import ValidationError
from lab.validation.bootstrap import automatic_block_length, draw_counts

Decision = Literal["PROMOTE", "KEEP", "INCONCLUSIVE", "NEEDS_MORE_DATA"]
_AT_ONCE: Final = 256
_DAY: Final = np.dtype("datetime64[D]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRules:
    """What a challenger must show.

    Attributes
    ----------
    min_confidence : float
        P(difference > 0) from which it is better; below its complement it is worse.
    days_min, rows_min : int
        Common days and rows, below which nothing is decided.
    differing_days_min : int
        Days on which the two must have earned differently.
    stress : float
        Costs are taken this many times.
    default_cost : float
        Cost of a row that was acted on, share of the book, where it is not recorded.
    sharpe_days : int
        The Sharpe ratio of the last so many calendar days must be higher, too; 0 asks
        for none.
    has_lacking_data_open : bool
        Whether too few days leave it INCONCLUSIVE and not NEEDS_MORE_DATA.
    is_loss_decisive : bool
        Whether the loss must be better at the same confidence, not just not worse.
    n_boot : int
        Resamples.
    """

    min_confidence: float = 0.80
    days_min: int = 28
    rows_min: int = 200
    differing_days_min: int = 10
    stress: float = 2.0
    default_cost: float = 0.001
    sharpe_days: int = 0
    has_lacking_data_open: bool = False
    is_loss_decisive: bool = False
    n_boot: int = 5000

    def __post_init__(self) -> None:
        """Refuse rules that cannot be meant."""
        if not 0.5 < self.min_confidence < 1.0:
            raise ValidationError(
                f"min_confidence {self.min_confidence}: above 0.5, below 1"
            )
        if self.days_min < 10 or self.n_boot < 100 or self.stress < 1.0:
            raise ValidationError(
                f"days_min {self.days_min}, n_boot {self.n_boot}, stress {self.stress}:"
                " at least 10, 100 and 1"
            )


DEFAULT_RULES: Final = ComparisonRules()
RULES: Final[Mapping[str, ComparisonRules]] = {
    "policy": replace(
        DEFAULT_RULES,
        days_min=180,
        rows_min=180,
        sharpe_days=28,
        has_lacking_data_open=True,
    )
}
"""By model; `DEFAULT_RULES` where none are named."""


@dataclass(frozen=True, slots=True)
class Acted:
    """What one model's predictions brought on some rows.

    Attributes
    ----------
    outcome : ndarray of shape (n,), float64
        Net profit of acting on each, share of the book.
    costs : ndarray of shape (n,), float64
        Costs within it; NaN where not recorded.
    loss : ndarray of shape (n,), float64, or None
        Of each prediction, lower is better; None where there are no labels.
    """

    outcome: FloatArray
    costs: FloatArray
    loss: FloatArray | None = None

    def stressed(self, rules: ComparisonRules) -> FloatArray:
        """Return the outcomes at higher costs, shape (n,)."""
        assumed = np.where(self.outcome != 0.0, rules.default_cost, 0.0)
        costs = np.where(np.isnan(self.costs), assumed, self.costs)
        return np.asarray(self.outcome - (rules.stress - 1.0) * costs)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict. Figures are None where they could not be computed.

    Attributes
    ----------
    decision : str
        `PROMOTE`, `KEEP`, `INCONCLUSIVE` or `NEEDS_MORE_DATA`.
    why : str
        One line.
    confidence : float or None
        P(mean daily difference of net profits > 0).
    standard_error : float or None
        Of the mean daily difference, over the resamples.
    improvement : float or None
        Mean daily difference, share of the book.
    total : float or None
        Difference over all common days.
    stressed_improvement, stressed_confidence : float or None
        The same at higher costs.
    loss_improvement, loss_confidence : float or None
        Mean daily loss of the champion less the challenger's, and P(it is > 0).
    sharpe_champion, sharpe_challenger : float or None
        Annualised, over the last `sharpe_days`; the median over series.
    n_rows, n_days, n_differing : int
        Common rows, their days, and the days on which profits differ.
    block : float or None
        Mean block length, days.
    """

    decision: Decision
    why: str
    confidence: float | None = None
    standard_error: float | None = None
    improvement: float | None = None
    total: float | None = None
    stressed_improvement: float | None = None
    stressed_confidence: float | None = None
    loss_improvement: float | None = None
    loss_confidence: float | None = None
    sharpe_champion: float | None = None
    sharpe_challenger: float | None = None
    n_rows: int = 0
    n_days: int = 0
    n_differing: int = 0
    block: float | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def compare(
    champion: Acted,
    challenger: Acted,
    *,
    days: TimeArray,
    rules: ComparisonRules = DEFAULT_RULES,
    seed: int = 0,
    series: IntArray | None = None,
) -> Comparison:
    """Decide between two models on the rows that both predicted out of sample.

    Parameters
    ----------
    champion, challenger : Acted
        The same rows in the same order.
    days : ndarray of shape (n,), datetime64
        Day of each row's decision; rows of one day are added up.
    rules : ComparisonRules
        What is asked.
    seed : int
        Of the resamples.
    series : ndarray of shape (n,), int64, optional
        Which of several equal trainings a row is of (seeds of a policy). Their profits
        are averaged by day; of their Sharpe ratios the median counts.

    Raises
    ------
    ValidationError
        If the shapes differ, or an outcome is not finite.

    Notes
    -----
    Point in time: judges the rows it is given; the caller leaves out predictions that
    are not out of sample, and outcomes that were not known yet.

    References
    ----------
    .. [1] Politis and Romano (1994), The stationary bootstrap, JASA 89, 1303-1313.
    .. [2] Patton, Politis and White (2009), Correction to automatic block-length
       selection, Econometric Reviews 28, 372-375.
    """
    _check(champion, challenger, days, series)
    n_series = 1 if series is None else len(np.unique(series))
    by_day = _Days.of(days, n_series)
    found = _figures(champion, challenger, by_day, rules, seed)
    if rules.sharpe_days:
        found = replace(
            found,
            sharpe_champion=_sharpe(champion.outcome, days, series, rules.sharpe_days),
            sharpe_challenger=_sharpe(
                challenger.outcome, days, series, rules.sharpe_days
            ),
        )
    decision, why = _decide(found, rules)
    return replace(found, decision=decision, why=why)


@dataclass(frozen=True, slots=True)
class _Days:
    group: IntArray
    n_days: int
    n_series: int
    n_rows: int

    @classmethod
    def of(cls, days: TimeArray, n_series: int) -> "_Days":
        names, group = np.unique(days.astype(_DAY), return_inverse=True)
        return cls(group, len(names), n_series, len(days))

    def total(self, values: FloatArray) -> FloatArray:
        added = np.bincount(self.group, weights=values, minlength=self.n_days)
        return np.asarray(added / self.n_series)


def _figures(
    champion: Acted,
    challenger: Acted,
    by_day: _Days,
    rules: ComparisonRules,
    seed: int,
) -> Comparison:
    found = Comparison(
        "NEEDS_MORE_DATA", "", n_rows=by_day.n_rows, n_days=by_day.n_days
    )
    if by_day.n_days < 10:
        return found
    plain = by_day.total(_difference(challenger.outcome, champion.outcome))
    stressed = by_day.total(
        _difference(challenger.stressed(rules), champion.stressed(rules))
    )
    columns = [plain, stressed]
    if champion.loss is not None and challenger.loss is not None:
        columns.append(by_day.total(_difference(champion.loss, challenger.loss)))
    table = np.column_stack(columns)
    block = float(automatic_block_length(plain[:, None])[0])
    means = _resampled_means(table, block, rules.n_boot, seed)
    confidence = np.mean(means > 0.0, axis=0)
    observed = table.mean(axis=0)
    has_loss = len(columns) > 2
    return replace(
        found,
        confidence=float(confidence[0]),
        standard_error=float(means[:, 0].std(ddof=1)),
        improvement=float(observed[0]),
        total=float(plain.sum()),
        stressed_improvement=float(observed[1]),
        stressed_confidence=float(confidence[1]),
        loss_improvement=float(observed[2]) if has_loss else None,
        loss_confidence=float(confidence[2]) if has_loss else None,
        n_differing=int(np.count_nonzero(plain)),
        block=block,
    )


def _tie(found: Comparison) -> tuple[Decision, str]:
    if not found.loss_improvement:
        return "KEEP", f"a tie on {found.n_days} days"
    return "INCONCLUSIVE", f"both earned the same on each of {found.n_days} days"


def _decide(found: Comparison, rules: ComparisonRules) -> tuple[Decision, str]:
    early = _necessary(found, rules) or _lacking(found, rules)
    if early is not None:
        return early
    if found.n_differing == 0:
        return _tie(found)
    confidence = found.confidence or 0.0
    what = f"P(difference > 0) {confidence:.3f}"
    if confidence <= 1.0 - rules.min_confidence:
        return "KEEP", f"the challenger earns less: {what}"
    if confidence < rules.min_confidence:
        return "INCONCLUSIVE", f"{what}, {rules.min_confidence:g} is asked"
    objection = _profit_objection(found, rules) or _loss_objection(found, rules)
    if objection is not None:
        return "INCONCLUSIVE", f"{what}, but {objection}"
    return "PROMOTE", f"earns more: {what}, at {rules.stress:g} x the costs too"


def _necessary(
    found: Comparison, rules: ComparisonRules
) -> tuple[Decision, str] | None:
    challenger, champion = found.sharpe_challenger, found.sharpe_champion
    if not rules.sharpe_days:
        return None
    name = f"{rules.sharpe_days}-day Sharpe"
    if challenger is None or champion is None:
        return "INCONCLUSIVE", f"{name} is not known"
    if challenger <= champion:
        return "KEEP", f"{name} {challenger:.2f} is not above {champion:.2f}"
    return None


def _lacking(found: Comparison, rules: ComparisonRules) -> tuple[Decision, str] | None:
    parts = [
        f"{value} of {least} common {name}"
        for value, least, name in (
            (found.n_days, rules.days_min, "days"),
            (found.n_rows, rules.rows_min, "rows"),
        )
        if value < least
    ]
    if not parts:
        return None
    is_open = rules.has_lacking_data_open
    return "INCONCLUSIVE" if is_open else "NEEDS_MORE_DATA", ", ".join(parts)


def _profit_objection(found: Comparison, rules: ComparisonRules) -> str | None:
    if found.n_differing < rules.differing_days_min:
        return f"they differ on {found.n_differing} days only"
    if (found.improvement or 0.0) <= 0.0:
        return "its profit is not higher"
    if (found.stressed_improvement or 0.0) <= 0.0:
        return f"not at {rules.stress:g} x the costs"
    return None


def _loss_objection(found: Comparison, rules: ComparisonRules) -> str | None:
    confidence = found.loss_confidence
    if confidence is None:
        return "there are no labels" if rules.is_loss_decisive else None
    what = f"P(lower loss) is {confidence:.3f}"
    if rules.is_loss_decisive and confidence < rules.min_confidence:
        return f"its predictions are not shown to be better: {what}"
    if confidence <= 1.0 - rules.min_confidence and found.loss_improvement:
        return f"its predictions are worse: {what}"
    return None


def _difference(left: FloatArray, right: FloatArray) -> FloatArray:
    # Equal but for rounding is equal: a tie must not be won by the last digit.
    gap = left - right
    scale = np.maximum(np.abs(left), np.abs(right))
    return np.where(np.abs(gap) <= 1e-12 * scale, 0.0, gap)


def _resampled_means(
    table: FloatArray, block: float, n_boot: int, seed: int
) -> FloatArray:
    rng = np.random.default_rng(seed)
    n_days = len(table)
    parts = []
    for done in range(0, n_boot, _AT_ONCE):
        size = min(_AT_ONCE, n_boot - done)
        counts = draw_counts(n_days, size, block=block, rng=rng)
        parts.append(counts @ table / n_days)
    return np.concatenate(parts)


def _sharpe(
    outcome: FloatArray, days: TimeArray, series: IntArray | None, n_days: int
) -> float | None:
    names = days.astype(_DAY)
    if len(names) == 0:
        return None
    is_recent = names > names.max() - np.timedelta64(n_days, "D")
    labels = np.zeros(len(names), dtype=np.int64) if series is None else series
    found = [
        _one_sharpe(outcome[chosen], names[chosen])
        for one in np.unique(labels)
        if (chosen := is_recent & (labels == one)).any()
    ]
    known = [value for value in found if value is not None]
    return float(np.median(known)) if known else None


def _one_sharpe(outcome: FloatArray, names: TimeArray) -> float | None:
    present, group = np.unique(names, return_inverse=True)
    daily = np.bincount(group, weights=outcome)
    if len(present) < 10:
        return None
    spread = float(daily.std(ddof=1))
    span = int((present[-1] - present[0]) / np.timedelta64(1, "D")) + 1
    a_year = len(present) / span * 365.25
    return float(daily.mean()) / spread * math.sqrt(a_year) if spread > 0.0 else 0.0


def _check(
    champion: Acted, challenger: Acted, days: TimeArray, series: IntArray | None
) -> None:
    arrays = [champion.outcome, challenger.outcome, champion.costs, challenger.costs]
    arrays += [one for one in (champion.loss, challenger.loss) if one is not None]
    shapes = {one.shape for one in arrays} | {days.shape}
    shapes |= set() if series is None else {series.shape}
    if shapes != {(len(days),)}:
        raise ValidationError(
            f"rows of shapes {sorted(shapes)}: all (n,), and the same"
        )
    finite = [champion.outcome, challenger.outcome, *arrays[4:]]
    if not all(np.isfinite(one).all() for one in finite):
        raise ValidationError("outcomes and losses: finite numbers, no others")
