"""The market's regime: calm, normal or turbulent, as it could be called on each day.

A Gaussian hidden Markov model with three states of daily log returns, ordered by their
variance. Rules:

- **Filtered only.** The probability of a state on day t comes from the returns up to t
  (the forward recursion). Nothing is smoothed back and no best path is looked for:
  both use later days.
- **Parameters from before.** A day is called with a model fitted on returns of earlier
  days alone. It is fitted again every `refit` days on the last `window` returns, so
  what comes later changes no call.
- **Seeded.** A fixed number of steps of the EM algorithm from a start that depends on
  the returns alone; a prior of 100 days of staying keeps states from being single days.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lab.arrays import FloatArray
from lab.errors import FeatureError

STATES: Final = ("calm", "normal", "turbulent")
N_STATES: Final = len(STATES)
_EM_STEPS: Final = 40
_STICKINESS: Final = 100.0  # days of staying, added to the counts of each state
_SMALLEST_VARIANCE: Final = 1e-10
_FIELDS: Final = ("start", "transition", "mean", "variance")


@dataclass(frozen=True, slots=True)
class RegimePlan:
    """When models are fitted, and on what.

    Attributes
    ----------
    min_returns : int, days
        Returns before the first call.
    window : int, days
        Newest returns a fit uses.
    refit : int, days
        Days called with one model.
    """

    min_returns: int = 500
    window: int = 2016
    refit: int = 252


@dataclass(frozen=True, slots=True)
class RegimeModel:
    """A fitted model; states in the order of `STATES`.

    Attributes
    ----------
    start : ndarray of shape (3,), float64
        Probability of each state before the first return.
    transition : ndarray of shape (3, 3), float64
        Row i: probabilities of the state after state i.
    mean, variance : ndarray of shape (3,), float64
        Of the daily log return; variances increase.
    """

    start: FloatArray
    transition: FloatArray
    mean: FloatArray
    variance: FloatArray

    def __post_init__(self) -> None:
        """Refuse anything that is no such model."""
        shapes = ((N_STATES,), (N_STATES, N_STATES), (N_STATES,), (N_STATES,))
        for name, shape in zip(_FIELDS, shapes, strict=True):
            values = getattr(self, name)
            if values.shape != shape or not bool(np.all(np.isfinite(values))):
                raise FeatureError(
                    f"regime model: {name} must be finite, shape {shape}"
                )
        for name in ("start", "transition"):
            rows = getattr(self, name)
            if rows.min() < 0 or not np.allclose(rows.sum(axis=-1), 1.0, atol=1e-6):
                raise FeatureError(f"regime model: {name} must hold probabilities")
        if self.variance[0] <= 0 or bool(np.any(np.diff(self.variance) < 0)):
            raise FeatureError("regime model: variances must be positive and increase")

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as lists, ready for JSON."""
        return {name: getattr(self, name).tolist() for name in _FIELDS}

    @classmethod
    def from_dict(cls, parameters: Mapping[str, Any]) -> "RegimeModel":
        """Take parameters back from lists.

        Raises
        ------
        FeatureError
            If one is missing or they are no such model.
        """
        missing = [name for name in _FIELDS if name not in parameters]
        if missing:
            raise FeatureError(f"regime model: missing: {', '.join(missing)}")
        return cls(*(np.array(parameters[name], np.float64) for name in _FIELDS))

    def filtered(self, returns: FloatArray) -> FloatArray:
        """Return the probability of each state given the returns up to each day.

        Parameters
        ----------
        returns : ndarray of shape (n_days,), float64
            Daily log returns, finite.

        Returns
        -------
        ndarray of shape (n_days, 3), float64
            Calm, normal, turbulent; rows sum to 1.

        Raises
        ------
        FeatureError
            If a return is not finite.

        Notes
        -----
        Point in time: row t uses `returns[:t + 1]` only.

        References
        ----------
        .. [1] Hamilton (1989), A New Approach to the Economic Analysis of Nonstationary
           Time Series and the Business Cycle, Econometrica 57(2).
        """
        _check(returns)
        # A common factor a day cancels in the normalisation: densities relative to the
        # likeliest state cannot all vanish.
        logs = -0.5 * (
            np.log(self.variance) + (returns[:, None] - self.mean) ** 2 / self.variance
        )
        density = np.exp(logs - logs.max(axis=1, keepdims=True))
        found: FloatArray = np.empty((len(returns), N_STATES))
        ahead = self.start
        for day, likelihood in enumerate(density):
            joint = ahead * likelihood
            total = joint.sum()
            now = joint / total if total > 0 else likelihood / likelihood.sum()
            found[day] = now
            ahead = now @ self.transition
        return found


def fit_regime(returns: FloatArray, *, seed: int = 0) -> RegimeModel:
    """Fit the model to past returns by expectation maximisation.

    Parameters
    ----------
    returns : ndarray of shape (n_days,), float64
        Daily log returns, finite, at least 100.
    seed : int
        Of the fit.

    Returns
    -------
    RegimeModel

    Raises
    ------
    FeatureError
        If there are too few returns, or they are not finite or constant.

    Notes
    -----
    Point in time: uses the returns given and nothing else.
    """
    _check(returns)
    if len(returns) < 100:
        raise FeatureError(f"regime: 100 returns are needed to fit, not {len(returns)}")
    scale = float(np.std(returns))
    if scale * scale <= _SMALLEST_VARIANCE:
        raise FeatureError("regime: the returns are constant")
    model = _start(returns / scale, seed)
    for _ in range(_EM_STEPS):
        model.fit((returns / scale)[:, None])
    variance = np.maximum(model.covars_.reshape(N_STATES), 1e-6) * scale**2
    order = np.argsort(variance, kind="stable")
    return RegimeModel(
        start=_as_probabilities(model.startprob_[order]),
        transition=_as_probabilities(model.transmat_[np.ix_(order, order)]),
        mean=model.means_.reshape(N_STATES)[order] * scale,
        variance=variance[order],
    )


def call_regimes(
    returns: FloatArray, *, first: int = 0, plan: RegimePlan | None = None
) -> FloatArray:
    """Return filtered probabilities of each day, called with models from before it.

    Parameters
    ----------
    returns : ndarray of shape (n_days,), float64
        Daily log returns, finite, oldest first, always from the same first day.
    first : int
        Day from which calls are wanted; earlier rows of the result are NaN, as are
        days with fewer than `plan.min_returns` returns before them.
    plan : RegimePlan, optional
        When models are fitted.

    Returns
    -------
    ndarray of shape (n_days, 3), float64
        Calm, normal, turbulent.

    Raises
    ------
    FeatureError
        If the plan or a return is unusable.

    Notes
    -----
    Point in time: row t depends on `returns[:t + 1]`; its model on the returns before
    the block of days that it calls.
    """
    plan = plan or RegimePlan()
    if plan.min_returns < 100 or plan.window < plan.min_returns or plan.refit < 1:
        raise FeatureError("regime: need 100 <= min_returns <= window and refit >= 1")
    _check(returns)
    found = np.full((len(returns), N_STATES), np.nan)
    for begin in range(plan.min_returns, len(returns), plan.refit):
        stop = min(begin + plan.refit, len(returns))
        if stop <= first:
            continue
        past = returns[max(0, begin - plan.window) : begin]
        if float(np.var(past)) <= _SMALLEST_VARIANCE:
            continue
        model = fit_regime(past)
        # The recursion runs through the model's own past, so it starts settled.
        filtered = model.filtered(np.concatenate([past, returns[begin:stop]]))
        found[begin:stop] = filtered[len(past) :]
    found[:first] = np.nan
    return found


def _start(scaled: FloatArray, seed: int) -> Any:
    from hmmlearn.hmm import GaussianHMM

    # Where EM starts decides where it ends: three sizes of move, in states that last.
    # Without the prior counts a "state" may be single quiet days scattered about.
    model = GaussianHMM(
        n_components=N_STATES,
        covariance_type="diag",
        n_iter=1,
        tol=-np.inf,
        random_state=seed,
        init_params="",
        params="tmc",
        transmat_prior=1.0 + _STICKINESS * np.eye(N_STATES),
    )
    sizes = np.sort(np.abs(scaled - scaled.mean()))
    thirds = [float(np.mean(part**2)) for part in np.array_split(sizes, N_STATES)]
    model.startprob_ = np.full(N_STATES, 1.0 / N_STATES)
    model.transmat_ = np.full((N_STATES, N_STATES), 0.02) + 0.94 * np.eye(N_STATES)
    model.means_ = np.full((N_STATES, 1), scaled.mean())
    model.covars_ = np.maximum(np.array(thirds), 1e-3)[:, None]
    return model


def _as_probabilities(values: FloatArray) -> FloatArray:
    return np.asarray(values / values.sum(axis=-1, keepdims=True), dtype=np.float64)


def _check(returns: FloatArray) -> None:
    if returns.ndim != 1 or not bool(np.all(np.isfinite(returns))):
        raise FeatureError("regime: returns must be one column of finite numbers")
