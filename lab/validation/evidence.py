"""What all candidates of a family are judged by: counted, resampled and split once.

Resamples and splits depend on the family's trials and the rules alone: every candidate
of a family meets the same luck, in any order and on any number of workers.

The Reality Check compares trials at the same volatility, so its performance measure is
the Sharpe ratio. On raw means it would compare how much of the book they used: trials
of ten times the volatility would set a hurdle that a quiet one cannot reach.

The deflated Sharpe ratio asks how far luck alone spreads the trials. Their variance says
so only while none has skill and none bleeds to death on costs; both spread them too. So
luck's variance is that of the trials, but at most the sampling variance that Sharpe
ratios of trials without skill have over so many days.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from lab.arrays import AnyArray, BoolArray, FloatArray
from lab.backtest.ledger import TrialMatrix
from lab.errors import ValidationError
from lab.validation.bootstrap import automatic_block_length, draw_counts
from lab.validation.overfitting import (
    Overfitting,
    probability_of_backtest_overfitting,
)
from lab.validation.reality import (
    RealityCheck,
    SuperiorAbility,
    reality_check_of,
    superior_ability_of,
)
from lab.validation.sharpe import is_constant

_TRIALS_FOR_BLOCKS: Final = 256
"""The block length is the median over at most so many trials, evenly taken."""


@dataclass(frozen=True, slots=True)
class GateRules:
    """Thresholds, and how much is drawn to judge by them.

    Attributes
    ----------
    dsr_min : float
        Deflated Sharpe ratio: at least.
    reality_p_max : float
        Reality Check p-value: at most.
    pbo_max : float
        Probability of backtest overfitting: at most.
    n_boot : int
        Stationary resamples.
    n_blocks : int
        Blocks of the cross-validation; even.
    min_obs : int, days
        Shorter series are not judged: their Sharpe ratio is not normal yet.
    seed : int
        Of the resamples, beside the family.
    """

    dsr_min: float = 0.95
    reality_p_max: float = 0.05
    pbo_max: float = 0.2
    n_boot: int = 1000
    n_blocks: int = 16
    min_obs: int = 120
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse rules that no series could meet, or any would."""
        if not 0.5 < self.dsr_min < 1:
            raise ValidationError(f"dsr_min {self.dsr_min}: between 0.5 and 1")
        for name in ("reality_p_max", "pbo_max"):
            if not 0 < getattr(self, name) < 1:
                raise ValidationError(f"{name} {getattr(self, name)}: between 0 and 1")
        if self.n_boot + 1 < 1 / self.reality_p_max:
            raise ValidationError(
                f"n_boot {self.n_boot}: too few for p-values of {self.reality_p_max}"
            )
        if self.n_blocks % 2 or not 2 <= self.n_blocks <= 20:
            raise ValidationError(f"n_blocks {self.n_blocks}: even, 2 to 20")
        if self.min_obs < 2 * self.n_blocks:
            raise ValidationError(f"min_obs {self.min_obs}: 2 rows a block or more")
        if self.seed < 0:
            raise ValidationError(f"seed {self.seed}: 0 or more")


@dataclass(frozen=True, slots=True)
class FamilyEvidence:
    """What a family's trials say together; see `weigh_family`.

    Attributes
    ----------
    matrix : TrialMatrix
        The family's ledger.
    rules : GateRules
        What it was weighed for.
    baseline : ndarray of shape (n_days,), float64, or None
        Returns of the locked baseline.
    trial_variance : float
        Of the daily Sharpe ratios of the trials that vary, ddof 1.
    luck_variance : float
        What luck alone can have spread them by: `trial_variance`, at most
        `sampling_variance` of the trials.
    n_varying : int
        How many do.
    effective_rank : float
        Of their correlations; reported, never counted with.
    problem : str
        Why nothing of this family can be judged; empty if it can, and then there are:
    block : float
        Mean block length of the resamples, days.
    check, relative : RealityCheck or None
        Of the trials that vary, at a volatility of 1, against 0, and against the
        baseline at that volatility if there is one.
    ability : SuperiorAbility or None
        Hansen's test against 0; reported.
    overfitting : Overfitting or None
        Of the whole matrix, from two trials that vary on.
    """

    matrix: TrialMatrix
    rules: GateRules
    baseline: FloatArray | None
    trial_variance: float
    luck_variance: float
    n_varying: int
    effective_rank: float
    problem: str
    block: float
    check: RealityCheck | None = None
    relative: RealityCheck | None = None
    ability: SuperiorAbility | None = None
    overfitting: Overfitting | None = None

    @property
    def trials_sha256(self) -> str:
        """Hash of the trials that were counted, by id and in order."""
        return hashlib.sha256("\n".join(self.matrix.trial_ids).encode()).hexdigest()


def weigh_family(
    matrix: TrialMatrix, rules: GateRules, *, baseline: FloatArray | None = None
) -> FamilyEvidence:
    """Do once for a family what all its candidates need.

    Parameters
    ----------
    matrix : TrialMatrix
        The whole family. Constant trials count in N; they are left out of the variance,
        the maxima and the ranks.
    rules : GateRules
        Thresholds and counts.
    baseline : ndarray of shape (n_days,), float64, optional
        For a second Reality Check, against it.

    Raises
    ------
    ValidationError
        If the baseline is not one finite number a day.
    """
    if baseline is not None:
        require_series(baseline, matrix, "baseline")
        if not bool(np.isfinite(baseline).all()):
            raise ValidationError("baseline: finite")
    is_varying = ~is_constant(matrix.returns) & ~matrix.is_constant
    n_varying = int(np.count_nonzero(is_varying))
    problem = _problem(matrix, rules, n_varying)
    evidence = FamilyEvidence(
        matrix=matrix,
        rules=rules,
        baseline=baseline,
        trial_variance=0.0,
        luck_variance=0.0,
        n_varying=n_varying,
        effective_rank=0.0,
        problem=problem,
        block=1.0,
    )
    return evidence if problem else _resample(evidence, is_varying)


def at_one_volatility(returns: FloatArray) -> FloatArray:
    """Return series scaled to a standard deviation of 1 (ddof 1) along the first axis.

    Their means are Sharpe ratios. A series that never varies stays as it is.
    """
    deviation = returns.std(axis=0, ddof=1)
    scaled: FloatArray = returns / np.where(deviation > 0, deviation, 1.0)
    return scaled


def sampling_variance(scaled: FloatArray, *, block: float) -> float:
    """Return the variance that the Sharpe ratios of trials without skill would have.

    The mean over the trials of the variance of their mean at a volatility of 1, serial
    correlation up to the block length counted with Bartlett's weights; at least 1 / n,
    what independent days have.

    Parameters
    ----------
    scaled : ndarray of shape (n_days, n_trials), float64
        Returns at a standard deviation of 1.
    block : float, days
        Mean block length.

    References
    ----------
    .. [1] Lo (2002), The Statistics of Sharpe Ratios, Financial Analysts Journal 58(4).
    .. [2] Newey & West (1987), Econometrica 55(3).
    """
    n_days = len(scaled)
    centred = scaled - scaled.mean(axis=0)
    long_run = 1.0
    for lag in range(1, min(math.ceil(block), n_days)):
        together = float(np.mean((centred[lag:] * centred[:-lag]).sum(axis=0)))
        long_run += 2.0 * (1.0 - lag / math.ceil(block)) * together / n_days
    return max(long_run, 1.0) / n_days


def family_seed(family: str, rules: GateRules) -> tuple[int, int]:
    """Return the entropy of a family's resamples."""
    return rules.seed, int(hashlib.sha256(family.encode()).hexdigest()[:16], 16)


def require_series(returns: AnyArray, matrix: TrialMatrix, what: str) -> None:
    """Refuse a series that is not one number a day of the family's calendar.

    Raises
    ------
    ValidationError
        If its shape is another.
    """
    if returns.shape != (matrix.n_days,):
        raise ValidationError(
            f"{what}: returns of shape {returns.shape}, not ({matrix.n_days},) as the"
            f" family's calendar"
        )


def _problem(matrix: TrialMatrix, rules: GateRules, n_varying: int) -> str:
    if matrix.n_trials == 0:
        return "the family's ledger is empty"
    if matrix.n_days < rules.min_obs:
        return f"{matrix.n_days} days; judged from {rules.min_obs} on"
    is_known = np.isfinite(matrix.returns).all(axis=1)
    if not is_known.all():
        return f"trial {matrix.trial_ids[is_known.argmin()]}: returns are no numbers"
    return "" if n_varying else "no trial of the family varies"


def _resample(evidence: FamilyEvidence, is_varying: BoolArray) -> FamilyEvidence:
    matrix, rules = evidence.matrix, evidence.rules
    varying = np.ascontiguousarray(matrix.returns[is_varying].T)
    sharpes = matrix.sharpes[is_varying]
    step = math.ceil(varying.shape[1] / _TRIALS_FOR_BLOCKS)
    block = float(np.median(automatic_block_length(varying[:, ::step])))
    rng = np.random.default_rng(family_seed(matrix.family, rules))
    counts = draw_counts(matrix.n_days, rules.n_boot, block=block, rng=rng)
    relative, overfitting = None, None
    compared = at_one_volatility(varying)
    if evidence.baseline is not None:
        relative = reality_check_of(
            compared - at_one_volatility(evidence.baseline)[:, None], counts
        )
    if evidence.n_varying > 1:
        overfitting = probability_of_backtest_overfitting(
            varying, n_blocks=rules.n_blocks
        )
    variance = float(np.var(sharpes, ddof=1)) if len(sharpes) > 1 else 0.0
    return replace(
        evidence,
        trial_variance=variance,
        luck_variance=min(variance, sampling_variance(compared, block=block)),
        effective_rank=matrix.effective_rank,
        block=block,
        check=reality_check_of(compared, counts),
        relative=relative,
        ability=superior_ability_of(varying, counts, block=block),
        overfitting=overfitting,
    )
