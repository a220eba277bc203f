"""What a drift report consists of: its rules, its rows, its words."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from lab.errors import DriftError

Severity = Literal["none", "moderate", "significant"]
Kind = Literal["feature", "prediction", "accuracy", "metric", "estimate"]
SEVERITIES: Final[tuple[Severity, ...]] = ("none", "moderate", "significant")
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRules:
    """When a report alarms.

    Attributes
    ----------
    psi_moderate, psi_significant : float
        PSI from which a shift is moderate, and significant. Of the PSI, what the
        permutations show under no drift is taken off first.
    ks_p_value : float
        Customary cut-off of the KS test: reported, alarms nothing.
    accuracy_deviation : float
        Relative deviation of the accuracy that is moderate; twice it is significant.
    rate : float
        False discovery rate of a report's rows; under no drift at all this bounds the
        share of reports with any alarm.
    minimum : int
        Rows that both sides must have, or nothing is tested.
    minimum_windows : int
        Days with a trading metric that both sides must have.
    """

    psi_moderate: float = 0.10
    psi_significant: float = 0.25
    ks_p_value: float = 0.05
    accuracy_deviation: float = 0.10
    rate: float = 0.05
    minimum: int = 300
    minimum_windows: int = 30

    def __post_init__(self) -> None:
        if not 0 < self.psi_moderate < self.psi_significant:
            raise DriftError(
                f"PSI cut-offs {self.psi_moderate}, {self.psi_significant}: positive,"
                " increasing"
            )
        if not 0 < self.rate < 1:
            raise DriftError(f"false discovery rate {self.rate}: between 0 and 1")
        if self.minimum < 300 or self.minimum_windows < 30:
            raise DriftError(
                f"minimum {self.minimum} rows, {self.minimum_windows} windows: 300 and"
                " 30 at least"
            )
        if not 0 < self.accuracy_deviation < 1:
            raise DriftError(
                f"accuracy deviation {self.accuracy_deviation}: between 0 and 1"
            )

    def severity(self, effect: float) -> Severity:
        """Return how severe an effect on the scale of the PSI is; NaN is none."""
        if effect >= self.psi_significant:
            return "significant"
        return "moderate" if effect >= self.psi_moderate else "none"


@dataclass(frozen=True, slots=True)
class DriftFigure:
    """One row of a report. NaN is a figure that there is not.

    Attributes
    ----------
    feature : str
        Feature, `prediction`, `accuracy`, a trading metric, or `accuracy_estimate`.
    kind : str
        Which of these it is.
    n_reference, n_current : int
        Known values on either side.
    reference, current : float
        Means.
    psi, ks, ks_p_value : float
        Over all rows; trading metrics have no PSI.
    mean_shift, std_shift : float
        In reference standard deviations, and the deviations' ratio less 1.
    p_value, q_value : float
        From block permutations, and after Benjamini and Hochberg.
    effect : float
        On the PSI's scale, without what no drift would show.
    severity : {"none", "moderate", "significant"}
        Of the effect. On its own it alarms nothing.
    crossed : tuple of str
        Customary cut-offs that are crossed. They alarm nothing.
    is_alarm : bool
        Whether q is within the rate, the effect is severe and, for what is better when
        larger, it got worse.
    since : int or None
        Moment from which the window differs, where the CUSUM found it; else None.
    recommendation : str
        What to do.
    """

    feature: str
    kind: Kind
    n_reference: int
    n_current: int
    reference: float
    current: float
    psi: float
    ks: float
    ks_p_value: float
    mean_shift: float
    std_shift: float
    p_value: float
    q_value: float
    effect: float
    severity: Severity
    crossed: tuple[str, ...]
    is_alarm: bool
    since: int | None
    recommendation: str


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What a window of predictions is beside what the model was trained on.

    Attributes
    ----------
    figures : tuple of DriftFigure
        One per feature, then the prediction, the accuracy, the trading metrics, and the
        estimate of an accuracy that is not known yet, as far as there are rows.
    n_permutations, block : int
        Of the features: permutations, and moments per block. 0 if nothing was tested.
    """

    figures: tuple[DriftFigure, ...]
    n_permutations: int
    block: int

    @property
    def alarms(self) -> tuple[DriftFigure, ...]:
        """Rows that alarm, the surest first."""
        found = [one for one in self.figures if one.is_alarm]
        return tuple(sorted(found, key=lambda one: (one.p_value, -one.effect)))

    @property
    def is_alarm(self) -> bool:
        """Whether any row alarms."""
        return any(one.is_alarm for one in self.figures)

    @property
    def severity(self) -> Severity:
        """The worst of the rows that alarm."""
        found = [SEVERITIES.index(one.severity) for one in self.alarms]
        return SEVERITIES[max(found, default=0)]

    def figure(self, feature: str) -> DriftFigure:
        """Return a row by name.

        Raises
        ------
        DriftError
            If there is none.
        """
        for one in self.figures:
            if one.feature == feature:
                return one
        raise DriftError(f"drift report: no row {feature}")

    @property
    def recommendations(self) -> tuple[str, ...]:
        """What to do, one line per alarm, or why nothing."""
        if self.is_alarm:
            return tuple(f"{one.feature}: {one.recommendation}" for one in self.alarms)
        tested = sum(math.isfinite(one.q_value) for one in self.figures)
        if not tested:
            return ("wait: rows of too few days to be tested against chance",)
        return (f"none: {tested} rows tested, none alarms",)

    def alert_text(self, model: str) -> str:
        """Return what a person is told, in one line; empty without an alarm.

        Parameters
        ----------
        model : str
            Its name.
        """
        alarms = self.alarms
        if not alarms:
            return ""
        told = ", ".join(_told(one) for one in alarms[:_SHOWN])
        more = f" and {len(alarms) - _SHOWN} more" if len(alarms) > _SHOWN else ""
        return (
            f"{model}: {self.severity} drift, {len(alarms)} of {len(self.figures)}"
            f" figures alarm: {told}{more}"
        )


def _told(one: DriftFigure) -> str:
    if one.kind in {"accuracy", "metric"}:
        size = f"{one.reference:.3g} to {one.current:.3g}"
    elif math.isfinite(one.mean_shift) and math.isfinite(one.psi):
        size = f"mean {one.mean_shift:+.2f} sd, PSI {one.psi:.2f}"
    else:
        size = "no longer known, or known only now"
    return f"{one.feature} ({size}, q {one.q_value:.2g})"


def advice(kind: Kind, *, is_alarm: bool, is_tested: bool, severity: Severity) -> str:
    """Return what one row recommends.

    Parameters
    ----------
    kind : str
        Of the row.
    is_alarm, is_tested : bool
        What its test said, and whether there was one.
    severity : str
        Of its effect.
    """
    if not is_tested:
        return "wait for more rows"
    if not is_alarm:
        return (
            "none" if severity == "none" else "watch: not beyond chance, or not worse"
        )
    if kind in {"accuracy", "metric"}:
        return "roll back if no feature moved, else retrain"
    if severity == "significant":
        return "retrain: the model sees what it was not trained on"
    return "retrain, and check the source of this column"


def crossed_cut_offs(
    rules: DriftRules,
    kind: Kind,
    *,
    psi: float,
    ks_p_value: float,
    deviation: float,
) -> tuple[str, ...]:
    """Return which customary cut-offs a row crosses.

    Parameters
    ----------
    rules : DriftRules
        Their values.
    kind : str
        Of the row: only the accuracy has a deviation.
    psi, ks_p_value, deviation : float
        Figures without any correction; NaN crosses nothing.
    """
    found: list[str] = []
    if psi >= rules.psi_significant:
        found.append(f"psi >= {rules.psi_significant:.2f}")
    elif psi >= rules.psi_moderate:
        found.append(f"psi >= {rules.psi_moderate:.2f}")
    if kind != "accuracy" and ks_p_value < rules.ks_p_value:
        found.append(f"ks p < {rules.ks_p_value:.2f}")
    if kind == "accuracy" and deviation > rules.accuracy_deviation:
        found.append(f"accuracy deviation > {rules.accuracy_deviation:.0%}")
    return tuple(found)
