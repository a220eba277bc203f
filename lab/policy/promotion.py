"""Whether a trained policy takes the champion's place.

Necessary: the median of its seeds' Sharpe ratios over the newest 28 common days is above
the champion's. Sufficient: besides, the probability that its Sharpe ratio is the higher
one is at least 0.80, over all common out-of-sample days, which must be 180 or more. 28
daily returns alone say little: their annual Sharpe ratio has a standard error above 3.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import FloatArray, TimeArray
from lab.backtest.figures import figures, observations_per_year
from lab.errors import PolicyError
from lab.validation.bootstrap import automatic_block_length, draw_counts

PROMOTE: Final = "PROMOTE"
KEEP: Final = "KEEP"
INCONCLUSIVE: Final = "INCONCLUSIVE"
NEEDS_MORE_DATA: Final = "NEEDS_MORE_DATA"


@dataclass(frozen=True, slots=True)
class PromotionRules:
    """What a challenger must show.

    Attributes
    ----------
    recent_days : int
        Newest common days of the necessary condition.
    common_days_min : int
        Common days of the sufficient one.
    confidence_min : float
        Probability of the sufficient one.
    seeds_min : int
        Seeds that must have been trained.
    n_boot : int
        Resamples.
    """

    recent_days: int = 28
    common_days_min: int = 180
    confidence_min: float = 0.80
    seeds_min: int = 5
    n_boot: int = 2000

    def __post_init__(self) -> None:
        """Refuse rules that anything meets."""
        counts = (self.recent_days, self.common_days_min, self.seeds_min, self.n_boot)
        if min(counts) < 1 or self.recent_days < 2 or self.common_days_min < 9:
            raise PolicyError(
                f"promotion rules {counts}: 2 recent days, 9 common ones or more"
            )
        if not 0.5 < self.confidence_min <= 1.0:
            raise PolicyError(f"promotion rules: confidence {self.confidence_min}")


@dataclass(frozen=True, slots=True)
class OutOfSample:
    """Daily net returns of a policy on days that it had not learnt from.

    Attributes
    ----------
    name : str
        Version, or what else it is.
    ts : ndarray of shape (n_days,), datetime64[us]
        Days, increasing.
    net : ndarray of shape (n_days,), float64
        Returns of the table as it would be used.
    seeds : ndarray of shape (n_days, n_seeds), float64
        Returns of each seed's own table.
    """

    name: str
    ts: TimeArray
    net: FloatArray
    seeds: FloatArray

    def __post_init__(self) -> None:
        """Refuse series that do not belong together."""
        n = len(self.ts)
        if self.net.shape != (n,) or self.seeds.ndim != 2 or len(self.seeds) != n:
            raise PolicyError(
                f"out of sample {self.name}: {n} days, returns of shape"
                f" {self.net.shape} and {self.seeds.shape}"
            )
        if np.any(np.diff(self.ts) <= np.timedelta64(0)):
            raise PolicyError(f"out of sample {self.name}: days must increase")


@dataclass(frozen=True, slots=True)
class PolicyVerdict:
    """What was decided about a challenger, and from what.

    Attributes
    ----------
    decision : str
        `PROMOTE`, `KEEP`, `INCONCLUSIVE` or `NEEDS_MORE_DATA`.
    champion : str
        What it was measured by.
    n_common : int
        Common out-of-sample days.
    n_seeds : int
        Seeds trained.
    recent_sharpe, champion_recent_sharpe : float or None
        Of the newest days, the challenger's as the median of its seeds; None without
        enough days or without spread.
    difference : float or None
        Annualised Sharpe of the challenger less the champion's, all common days.
    standard_error : float or None
        Of the difference, by the bootstrap.
    confidence : float or None
        Probability that the difference is above 0.
    why : str
        In words.
    """

    decision: str
    champion: str
    n_common: int
    n_seeds: int
    recent_sharpe: float | None
    champion_recent_sharpe: float | None
    difference: float | None
    standard_error: float | None
    confidence: float | None
    why: str


def judge(
    challenger: OutOfSample,
    champion: OutOfSample,
    *,
    rng: np.random.Generator,
    rules: PromotionRules | None = None,
) -> PolicyVerdict:
    """Decide whether a challenger takes the champion's place.

    A tie keeps the champion. Without spread a series has no Sharpe ratio; it counts as
    0 here: a policy that stays in cash earned nothing and risked nothing.

    Parameters
    ----------
    challenger, champion : OutOfSample
        Their days out of sample; only common ones count.
    rng : numpy.random.Generator
        Of the bootstrap.
    rules : PromotionRules, optional
        What must be shown.

    Notes
    -----
    Point in time: known when the newest common day is. The resamples are paired and of
    the stationary bootstrap, with the block length that suits the difference.

    References
    ----------
    .. [1] Politis and Romano (1994), The stationary bootstrap, JASA 89, 1303-1313.
    .. [2] Ledoit and Wolf (2008), Robust performance hypothesis testing with the Sharpe
       ratio, J. Empirical Finance 15, 850-859.
    """
    rules = rules or PromotionRules()
    _, ours, theirs = np.intersect1d(
        challenger.ts, champion.ts, assume_unique=True, return_indices=True
    )
    n, n_seeds = len(ours), challenger.seeds.shape[1]
    ts, net, other = challenger.ts[ours], challenger.net[ours], champion.net[theirs]
    if n < rules.recent_days:
        why = f"{n} common out-of-sample days; {rules.recent_days} are needed"
        empty = (None,) * 5
        return PolicyVerdict(
            NEEDS_MORE_DATA, champion.name, n, n_seeds, *empty, why=why
        )
    newest = slice(n - rules.recent_days, n)
    each = [_sharpe(seed, ts[newest]) for seed in challenger.seeds[ours][newest].T]
    recent = float(np.median(each)) if each else _sharpe(net[newest], ts[newest])
    before = _sharpe(other[newest], ts[newest])
    difference, error, confidence = _bootstrap(ts, net, other, rng, rules.n_boot)
    decision, why = _decide(rules, (recent, before), (n, n_seeds), confidence)
    return PolicyVerdict(
        decision,
        champion.name,
        n,
        n_seeds,
        recent,
        before,
        difference,
        error,
        confidence,
        why,
    )


def _decide(
    rules: PromotionRules,
    recent: tuple[float, float],
    counts: tuple[int, int],
    confidence: float,
) -> tuple[str, str]:
    days = f"{rules.recent_days}-day Sharpe {recent[0]:.2f}, the champion's {recent[1]:.2f}"
    if not recent[0] > recent[1]:
        return KEEP, f"{days}: not higher"
    short = []
    if counts[0] < rules.common_days_min:
        short.append(f"{counts[0]} common days of {rules.common_days_min}")
    if counts[1] < rules.seeds_min:
        short.append(f"{counts[1]} seeds of {rules.seeds_min}")
    if confidence < rules.confidence_min:
        short.append(
            f"P(difference > 0) {confidence:.2f}, below {rules.confidence_min:.2f}"
        )
    if short:
        return INCONCLUSIVE, f"{days}; {', '.join(short)}"
    return PROMOTE, f"{days}; P(difference > 0) {confidence:.2f} over {counts[0]} days"


def _sharpe(net: FloatArray, ts: TimeArray) -> float:
    return figures(net, ts).sharpe or 0.0


def _bootstrap(
    ts: TimeArray,
    net: FloatArray,
    other: FloatArray,
    rng: np.random.Generator,
    n_boot: int,
) -> tuple[float, float, float]:
    # Sharpe ratios of all resamples from their first two moments, pairs drawn together.
    n = len(ts)
    root = float(np.sqrt(observations_per_year(ts) or 0.0))
    block = float(automatic_block_length((net - other)[:, None])[0])
    counts = draw_counts(n, n_boot, block=block, rng=rng)
    drawn = [_ratios(counts @ x / n, counts @ x**2 / n, n) for x in (net, other)]
    seen = [_ratios(np.mean(x), np.mean(x**2), n) for x in (net, other)]
    differences = (drawn[0] - drawn[1]) * root
    # Equal resamples are no evidence for either.
    above = float(np.mean(differences > 0) + 0.5 * np.mean(differences == 0))
    error = float(np.std(differences, ddof=1)) if n_boot > 1 else 0.0
    return float((seen[0] - seen[1]) * root), error, above


def _ratios(mean: FloatArray, square: FloatArray, n: int) -> FloatArray:
    mean, square = np.asarray(mean), np.asarray(square)
    spread = np.sqrt(np.maximum(square - mean**2, 0.0) * n / (n - 1))
    return np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 1e-12)
