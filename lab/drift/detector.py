"""Whether a model should be trusted as before: one report over all it sees and says.

Every row of a report has two kinds of figures. The customary ones, PSI, KS and shifts,
are over all rows and prove nothing. The alarm is a block-permutation p-value after
Benjamini and Hochberg over all rows of the report, together with an effect that is
severe on the PSI's scale once the share that no drift would show is taken off.

Performance alarms only when it gets worse: an accuracy or a profit that rises is news,
not a fault.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from lab.arrays import FloatArray, IntArray, TimeArray
from lab.drift.figures import (
    DriftFigure,
    DriftReport,
    DriftRules,
    Kind,
    advice,
    crossed_cut_offs,
)
from lab.drift.performance import (
    METRICS,
    Judged,
    Objective,
    estimate_accuracy,
    hits,
    trading_days,
)
from lab.drift.permutation import Permuted, block_permutation
from lab.drift.profile import ReferenceProfile
from lab.drift.statistics import Shift, ks_p_values, psi_sorted, shifts
from lab.errors import DriftError
from lab.scoring.comparison import benjamini_hochberg

_BETTER: Final = {
    "accuracy": 1.0,
    "profit_total": 1.0,
    "win_rate": 1.0,
    "sharpe_ratio": 1.0,
    "max_drawdown": -1.0,
}
"""Which way is up; anything else alarms both ways."""
_NAN: Final = math.nan


@dataclass(frozen=True, slots=True)
class _Part:
    # Series of one kind that share their rows.
    kind: Kind
    reference: ReferenceProfile
    current: FloatArray
    moments: IntArray
    minimum: int


@dataclass(frozen=True, slots=True)
class DriftDetector:
    """Compares windows of predictions with what a model was trained on.

    Attributes
    ----------
    rules : DriftRules
        When a report alarms.
    """

    rules: DriftRules = field(default_factory=DriftRules)

    def report(
        self,
        reference: ReferenceProfile,
        current: FloatArray,
        *,
        seed: int,
        times: TimeArray | None = None,
        past: Judged | None = None,
        present: Judged | None = None,
        objective: Objective = "classification",
    ) -> DriftReport:
        """Report on one window.

        Parameters
        ----------
        reference : ReferenceProfile
            Of the training rows' features.
        current : ndarray of shape (n_obs, n_features), float64
            The window's features in time order; NaN is missing.
        seed : int
            Of the permutations.
        times : ndarray of shape (n_obs,), datetime64, optional
            When each row was decided on, not decreasing; rows of one time stay
            together. Give them wherever the profile was made with times.
        past : Judged, optional
            Predictions out of fold, with labels and outcomes; without them neither
            predictions nor performance are reported.
        present : Judged, optional
            The window's predictions, with the labels and outcomes known so far.
        objective : {"classification", "regression"}, default "classification"
            What a prediction is.

        Returns
        -------
        DriftReport
            Equal for equal arguments.

        Raises
        ------
        DriftError
            If columns or times do not fit.

        Notes
        -----
        Point in time: knows the window's rows and the labels it is given, nothing
        later. Under no drift at all, dependent rows included, at most about a share
        `rules.rate` of reports has any alarm.
        """
        moments = _moments(current, times)
        parts = [
            _Part("feature", reference, current, moments, self.rules.minimum),
            *self._judged_parts(past, present, objective),
        ]
        n_tests = sum(len(part.reference.features) for part in parts)
        rng = np.random.default_rng(seed)
        figures: list[DriftFigure] = []
        drawn: Permuted | None = None
        for part in parts:
            found = self._permute(part, rng, n_tests)
            drawn = found if part.kind == "feature" else drawn
            figures += self._figures(part, found)
        judged = self._judge(figures)
        if past is not None and present is not None:
            judged += self._estimated(past, present, objective)
        return DriftReport(
            tuple(judged),
            0 if drawn is None else drawn.n_permutations,
            0 if drawn is None else drawn.block,
        )

    def _judged_parts(
        self, past: Judged | None, present: Judged | None, objective: Objective
    ) -> list[_Part]:
        if past is None or present is None or not len(past.times):
            return []
        ripe_past, ripe = past.ripe(), present.ripe()
        found = [
            self._part(
                "prediction",
                ["prediction"],
                (past.times, past.prediction[:, None]),
                (present.times, present.prediction[:, None]),
            )
        ]
        if len(ripe_past.times):
            found.append(
                self._part(
                    "accuracy",
                    ["accuracy"],
                    (ripe_past.times, hits(ripe_past, objective)[:, None]),
                    (ripe.times, hits(ripe, objective)[:, None]),
                )
            )
            days = trading_days(ripe_past)
            if len(days[0]):
                found.append(self._part("metric", METRICS, days, trading_days(ripe)))
        return [part for part in found if len(part.current)]

    def _part(
        self,
        kind: Kind,
        names: Sequence[str],
        before: tuple[TimeArray, FloatArray],
        after: tuple[TimeArray, FloatArray],
    ) -> _Part:
        rules = self.rules
        return _Part(
            kind,
            ReferenceProfile.of(before[1], names, times=before[0]),
            after[1],
            _moments(after[1], after[0]),
            rules.minimum_windows if kind == "metric" else rules.minimum,
        )

    def _permute(
        self, part: _Part, rng: np.random.Generator, n_tests: int
    ) -> Permuted | None:
        total = [one.n_known + one.n_missing for one in part.reference.features]
        if min(max(total, default=0), len(part.current)) < part.minimum:
            return None
        try:
            return block_permutation(
                part.reference, part.current, part.moments, rng=rng, n_tests=n_tests
            )
        except DriftError:  # rows, but of too few moments
            return None

    def _figures(self, part: _Part, drawn: Permuted | None) -> list[DriftFigure]:
        if not len(part.current):
            return []
        found = shifts(part.reference, part.current)
        ks_p = ks_p_values(part.reference, found)
        return [
            self._figure(part, number, shift, float(ks_p[number]), drawn)
            for number, shift in enumerate(found)
        ]

    def _figure(
        self,
        part: _Part,
        number: int,
        shift: Shift,
        ks_p: float,
        drawn: Permuted | None,
    ) -> DriftFigure:
        before = part.reference.features[number]
        is_counted = part.kind != "metric" or (
            min(shift.n_known, before.n_known) >= part.minimum
        )
        p, since, effect = _NAN, None, _NAN
        if drawn is not None and is_counted:
            p = float(drawn.p_values[number])
            # What began inside the window is measured from where it began.
            if drawn.cusum_p[number] < drawn.distance_p[number]:
                since = int(drawn.since[number])
            effect = self._effect(part, number, shift, drawn, since)
        current = part.current[:, number]
        known = current[np.isfinite(current)]
        mean = float(known.mean()) if len(known) else _NAN
        deviation = abs(mean / before.mean - 1.0) if before.mean else _NAN
        psi = shift.psi if part.kind in {"feature", "prediction"} else _NAN
        return DriftFigure(
            feature=shift.name,
            kind=part.kind,
            n_reference=before.n_known,
            n_current=shift.n_known,
            reference=before.mean,
            current=mean,
            psi=psi,
            ks=shift.ks,
            ks_p_value=ks_p,
            mean_shift=shift.mean_shift,
            std_shift=shift.std_shift,
            p_value=p,
            q_value=_NAN,
            effect=effect,
            severity=self.rules.severity(effect),
            crossed=crossed_cut_offs(
                self.rules, part.kind, psi=psi, ks_p_value=ks_p, deviation=deviation
            ),
            is_alarm=False,
            since=since,
            recommendation="",
        )

    def _effect(
        self,
        part: _Part,
        number: int,
        shift: Shift,
        drawn: Permuted,
        since: int | None,
    ) -> float:
        # On the scale of the PSI: a normal shift by d deviations has a PSI of about d².
        before = part.reference.features[number]
        chosen = slice(None)
        if since is not None:
            chosen = slice(int(np.searchsorted(part.moments, since)), None)
        own = part.current[chosen, number]
        known = np.sort(own[np.isfinite(own)])
        chance = float(drawn.null_psi[number]) * len(part.current) / max(len(own), 1)
        missing = abs(shift.missing_shift)
        if not len(known):
            return missing
        if part.kind == "accuracy":
            fall = abs(float(known.mean()) / before.mean - 1.0) if before.mean else 0.0
            return fall / self.rules.accuracy_deviation * self.rules.psi_moderate
        if part.kind == "metric":
            return _moved(before.mean, before.std, known) - 2.0 * chance
        bins = np.count_nonzero(before.shares) - 1
        return max(psi_sorted(before, known) - bins * chance, missing)

    def _judge(self, figures: list[DriftFigure]) -> list[DriftFigure]:
        q = benjamini_hochberg(np.array([one.p_value for one in figures]))
        judged = []
        for one, rate in zip(figures, q.tolist(), strict=True):
            better = _BETTER.get(one.feature, 0.0)
            is_worse = better == 0.0 or better * (one.current - one.reference) < 0
            is_alarm = rate <= self.rules.rate and one.severity != "none" and is_worse
            told = advice(
                one.kind,
                is_alarm=is_alarm,
                is_tested=math.isfinite(one.p_value),
                severity=one.severity,
            )
            judged.append(
                replace(one, q_value=rate, is_alarm=is_alarm, recommendation=told)
            )
        return judged

    def _estimated(
        self, past: Judged, present: Judged, objective: Objective
    ) -> list[DriftFigure]:
        found = estimate_accuracy(past.ripe(), present, objective)
        if found is None:
            return []
        deviation = (
            abs(found.accuracy / found.reference - 1) if found.reference else 0.0
        )
        effect = deviation / self.rules.accuracy_deviation * self.rules.psi_moderate
        return [
            DriftFigure(
                feature="accuracy_estimate",
                kind="estimate",
                n_reference=int(np.isfinite(past.label).sum()),
                n_current=found.n_rows,
                reference=found.reference,
                current=found.accuracy,
                psi=_NAN,
                ks=_NAN,
                ks_p_value=_NAN,
                mean_shift=(found.accuracy - found.reference) / found.standard_error
                if found.standard_error > 0
                else _NAN,
                std_shift=_NAN,
                p_value=_NAN,
                q_value=_NAN,
                effect=effect,
                severity=self.rules.severity(effect),
                crossed=crossed_cut_offs(
                    self.rules,
                    "accuracy",
                    psi=_NAN,
                    ks_p_value=_NAN,
                    deviation=deviation,
                ),
                is_alarm=False,
                since=None,
                recommendation="none: an estimate until labels are known",
            )
        ]


def _moments(current: FloatArray, times: TimeArray | None) -> IntArray:
    if times is None:
        return np.arange(len(current))
    if len(times) != len(current):
        raise DriftError(f"window: {len(times)} times of {len(current)} rows")
    found: IntArray = np.asarray(times).astype("datetime64[us]").astype(np.int64)
    if (np.diff(found) < 0).any():
        raise DriftError("window: rows are not in time order")
    return found


def _moved(mean: float, std: float, values: FloatArray) -> float:
    # The PSI of two normals with these moments, whichever moment says more.
    now = float(values.std())
    if not std > 0 or not now > 0:
        return 0.0 if float(values.mean()) == mean else math.inf
    ratio = (now / std) ** 2
    return max(
        ((float(values.mean()) - mean) / std) ** 2, 0.5 * (ratio + 1.0 / ratio) - 1.0
    )
