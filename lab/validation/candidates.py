"""One candidate before the gates: its figures, and what each gate makes of them."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from lab.arrays import FloatArray
from lab.backtest.steps import Fill
from lab.validation.evidence import (
    FamilyEvidence,
    at_one_volatility,
    family_seed,
)
from lab.validation.sharpe import (
    Moments,
    allowed_trials,
    deflated_sharpe,
    expected_maximum_sharpe,
    is_constant,
    minimum_track_record,
    moments,
    needed_sharpe,
    probabilistic_sharpe,
)

_STORED: Final = 1e-6
"""The ledger keeps 24 bits: relative difference up to which a series is the stored one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A series and its family.

    Attributes
    ----------
    returns : ndarray of shape (n_days,), float64
        Daily net returns.
    evidence : FamilyEvidence
        The family's.
    found : Moments or None
        None where the series cannot be judged.
    n_trials : int
        Rows of the family's ledger, and one more if the series is none of them.
    days_a_year : float or None
        Observed; None where the calendar is not known.
    inputs : mapping
        What all three gates are decided from.
    objections : tuple of str
        Why no gate can pass, whatever the figures.
    """

    returns: FloatArray
    evidence: FamilyEvidence
    found: Moments | None
    n_trials: int
    days_a_year: float | None
    inputs: dict[str, Any]
    objections: tuple[str, ...]

    @classmethod
    def of(
        cls,
        returns: FloatArray,
        evidence: FamilyEvidence,
        *,
        fill: Fill,
        days_a_year: float | None,
    ) -> "Candidate":
        """Measure a series of the family's calendar."""
        matrix = evidence.matrix
        is_in_ledger = _is_row(returns, matrix.returns)
        objections = [_problem(returns), evidence.problem]
        if not is_in_ledger:
            objections.append("the series is no trial of the family's ledger")
        if fill == Fill.SAME_CLOSE:
            objections.append("fills at the close that was decided on cannot be had")
        is_judged = not objections[0] and not objections[1]
        n_trials = matrix.n_trials + (not is_in_ledger)
        inputs = {
            "family": matrix.family,
            "trials_sha256": evidence.trials_sha256,
            "returns_sha256": hashlib.sha256(returns.tobytes()).hexdigest(),
            "is_in_ledger": is_in_ledger,
            "fill": str(fill),
            "n_obs": len(returns),
            "days_a_year": days_a_year,
            "n_trials": n_trials,
            "n_varying": evidence.n_varying,
        }
        return cls(
            returns=returns,
            evidence=evidence,
            found=moments(returns) if is_judged else None,
            n_trials=n_trials,
            days_a_year=days_a_year,
            inputs=inputs,
            objections=tuple(one for one in objections if one),
        )

    def annual(self, sharpe: float) -> float | None:
        """Return a daily Sharpe ratio per year; None where that is not known."""
        is_known = self.days_a_year is not None and math.isfinite(sharpe)
        return sharpe * math.sqrt(self.days_a_year or 0.0) if is_known else None

    def told(self, sharpe: float) -> str:
        """Return a daily Sharpe ratio in words."""
        annual = self.annual(sharpe)
        if annual is None:
            return f"{sharpe:.4f} a day"
        return f"{annual:.2f} a year"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one gate makes of a candidate.

    Attributes
    ----------
    inputs, thresholds, needed : mapping
        Figures that decided, those asked for, and those that would do.
    distance : float or None
        To the threshold, positive or 0 where it is met.
    is_met : bool
        Whether it is.
    shortfall, change : str
        Why not, and what would change the verdict, in words.
    problem : str
        Why there is no figure; empty if there is one.
    """

    thresholds: Mapping[str, Any]
    inputs: dict[str, Any] = field(default_factory=dict)
    needed: dict[str, Any] = field(default_factory=dict)
    distance: float | None = None
    is_met: bool = False
    shortfall: str = ""
    change: str = "passes never without returns that can be judged"
    problem: str = ""


def dsr(candidate: Candidate) -> Figures:
    """Judge by the deflated Sharpe ratio, at the variance of luck.

    What would change it is told at the variance that the trials have now, although more
    days would lower that too. `dsr_at_trial_variance` is reported: the same at the whole
    variance of the trials, skill and costs included.
    """
    evidence, found = candidate.evidence, candidate.found
    least = evidence.rules.dsr_min
    thresholds = {"dsr_min": least, "min_obs": evidence.rules.min_obs}
    if found is None:
        return Figures(thresholds)
    shape = {"skewness": found.skewness, "kurtosis": found.kurtosis}
    variance, n_trials = evidence.luck_variance, candidate.n_trials
    luck = expected_maximum_sharpe(variance, n_trials)
    value = deflated_sharpe(
        found.sharpe,
        found.n_obs,
        trial_variance=variance,
        n_trials=n_trials,
        **shape,
    )
    inputs = {
        "dsr": value,
        "psr": probabilistic_sharpe(found.sharpe, found.n_obs, **shape),
        "sharpe": found.sharpe,
        "sharpe_annual": candidate.annual(found.sharpe),
        **shape,
        "luck_variance": variance,
        "trial_variance": evidence.trial_variance,
        "dsr_at_trial_variance": deflated_sharpe(
            found.sharpe,
            found.n_obs,
            trial_variance=evidence.trial_variance,
            n_trials=n_trials,
            **shape,
        ),
        "expected_maximum_sharpe": luck,
        "expected_maximum_sharpe_annual": candidate.annual(luck),
        "effective_rank": evidence.effective_rank,
    }
    enough = needed_sharpe(found.n_obs, benchmark=luck, confidence=least, **shape)
    record = minimum_track_record(
        found.sharpe, benchmark=luck, confidence=least, **shape
    )
    trials = allowed_trials(
        found.sharpe, found.n_obs, trial_variance=variance, confidence=least, **shape
    )
    needed = {
        "sharpe_needed": _finite(enough),
        "sharpe_needed_annual": candidate.annual(enough),
        "sharpe_missing": _finite(max(enough - found.sharpe, 0.0)),
        "further_days": _further(record, found.n_obs),
        "trials_allowed": trials,
    }
    return Figures(
        thresholds,
        inputs,
        needed,
        distance=value - least,
        is_met=value >= least,
        shortfall=f"DSR {value:.3f}, at least {least:g}",
        change=_dsr_change(candidate, found, enough, needed),
    )


def reality(candidate: Candidate) -> Figures:
    """Judge by White's Reality Check of Sharpe ratios over the family."""
    evidence, found = candidate.evidence, candidate.found
    rules = evidence.rules
    most = rules.reality_p_max
    thresholds = {"reality_p_max": most, "min_obs": rules.min_obs}
    if found is None or evidence.check is None or evidence.ability is None:
        return Figures(thresholds)
    check = evidence.check
    p_value = check.p_of(found.sharpe)
    enough = check.needed_mean(most)
    inputs = {
        "p_value": p_value,
        "p_value_against_baseline": _relative(candidate),
        "p_value_of_best": check.p_value,
        "spa_lower": evidence.ability.lower,
        "spa_consistent": evidence.ability.consistent,
        "spa_upper": evidence.ability.upper,
        "mean": found.mean,
        "volatility": found.volatility,
        "block": evidence.block,
        "n_boot": rules.n_boot,
        "seed": [str(one) for one in family_seed(evidence.matrix.family, rules)],
        "effective_rank": evidence.effective_rank,
    }
    record = math.inf
    if found.sharpe > 0:
        # Resampled means shrink with √n.
        record = found.n_obs * max(enough / found.sharpe, 1.0) ** 2
    further = _further(record, found.n_obs)
    needed = {
        "sharpe_needed": _finite(enough),
        "sharpe_needed_annual": candidate.annual(enough),
        "further_days": further,
    }
    if p_value <= most:
        change = (
            f"fails below a Sharpe ratio of {candidate.told(enough)},"
            f" now {candidate.told(found.sharpe)}"
        )
    else:
        change = (
            f"passes at a Sharpe ratio of {candidate.told(enough)},"
            f" now {candidate.told(found.sharpe)}"
            f"{_days_more(further)}"
        )
    return Figures(
        thresholds,
        inputs,
        needed,
        distance=most - p_value,
        is_met=p_value <= most,
        shortfall=f"Reality Check p {p_value:.3f}, at most {most:g}",
        change=change,
    )


def pbo(candidate: Candidate) -> Figures:
    """Judge the way the family was chosen from, by CSCV."""
    evidence = candidate.evidence
    most = evidence.rules.pbo_max
    thresholds = {"pbo_max": most, "min_obs": evidence.rules.min_obs}
    tested = evidence.overfitting
    if candidate.found is None:
        return Figures(thresholds)
    if tested is None:
        problem = f"{evidence.n_varying} trial that varies: nothing was chosen between"
        return Figures(
            thresholds,
            problem=problem,
            change="passes never with fewer than 2 trials that vary",
        )
    n_splits = len(tested.logits)
    n_lower = round(tested.pbo * n_splits)
    too_many = max(n_lower - math.floor(most * n_splits), 0)
    inputs = {
        "pbo": tested.pbo,
        "n_blocks": evidence.rules.n_blocks,
        "n_splits": n_splits,
        "n_splits_lower_half": n_lower,
        "degradation_slope": tested.degradation,
        "loss_probability": tested.loss_probability,
        "median_logit": float(np.median(tested.logits)),
        "effective_rank": evidence.effective_rank,
    }
    if tested.pbo <= most:
        spare = math.floor(most * n_splits) - n_lower
        change = f"fails with {spare + 1} more of {n_splits} splits in the lower half"
    else:
        change = (
            f"passes with {too_many} fewer of {n_splits} splits whose best trial ends in the lower"
            " half: fewer trials without skill in the family, or a longer span"
        )
    return Figures(
        thresholds,
        inputs,
        {"splits_to_change": too_many},
        distance=most - tested.pbo,
        is_met=tested.pbo <= most,
        shortfall=f"PBO {tested.pbo:.3f}, at most {most:g}",
        change=change,
    )


def _dsr_change(
    candidate: Candidate, found: Moments, enough: float, needed: Mapping[str, Any]
) -> str:
    trials, n_trials = needed["trials_allowed"], candidate.n_trials
    at_these = f"at {n_trials} trials and {found.n_obs} days"
    if found.sharpe >= enough:
        bound = "" if trials is None else f", or from {trials + 1} trials on"
        return (
            f"fails below a Sharpe ratio of {candidate.told(enough)} {at_these}{bound}"
        )
    if math.isinf(enough):
        return f"passes with tails less heavy than a kurtosis of {found.kurtosis:.0f}, or more days"
    fewer = f"; or with {trials} trials instead of {n_trials}" if trials else ""
    return (
        f"passes at a Sharpe ratio of {candidate.told(enough)} {at_these},"
        f" now {candidate.told(found.sharpe)}"
        f"{_days_more(needed['further_days'])}{fewer}"
    )


def _days_more(further: int | None) -> str:
    return f"; or after {further} more days at this Sharpe ratio" if further else ""


def _relative(candidate: Candidate) -> float | None:
    evidence = candidate.evidence
    if evidence.relative is None or evidence.baseline is None:
        return None
    series = np.stack([candidate.returns, evidence.baseline], axis=1)
    own, base = at_one_volatility(series).mean(axis=0)
    return evidence.relative.p_of(float(own - base))


def _problem(returns: FloatArray) -> str:
    n_unknown = int(np.count_nonzero(~np.isfinite(returns)))
    if n_unknown:
        return f"{n_unknown} of {len(returns)} returns are no numbers"
    if len(returns) == 0 or bool(is_constant(returns)):
        return "the returns never vary"
    return ""


def _is_row(returns: FloatArray, rows: FloatArray) -> bool:
    if rows.size == 0 or not bool(np.isfinite(returns).all()):
        return False
    room = _STORED * float(np.abs(returns).max())
    candidates = np.flatnonzero(np.abs(rows[:, 0] - returns[0]) <= room)
    return any(bool(np.abs(rows[one] - returns).max() <= room) for one in candidates)


def _further(record: float, n_obs: int) -> int | None:
    return max(math.ceil(record) - n_obs, 0) if math.isfinite(record) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
