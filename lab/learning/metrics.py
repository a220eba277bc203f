"""How good scores are: ranking, error, and what acting on them would have earned."""

import math

import numpy as np

from lab.arrays import FloatArray, IntArray, TimeArray
from lab.errors import TrainingError

_DAYS_A_YEAR = 365.25


def auc(scores: FloatArray, labels: FloatArray) -> float:
    """Return the chance that a 1 is scored above a 0; ties count half.

    Parameters
    ----------
    scores, labels : ndarray of shape (n_rows,), float64
        Labels are 0 or 1.

    Raises
    ------
    TrainingError
        If one of the classes is missing.

    References
    ----------
    .. [1] Hanley, McNeil (1982), The meaning and use of the area under a ROC curve,
       Radiology 143.
    """
    is_one = labels > 0.5
    ones, zeros = int(is_one.sum()), int((~is_one).sum())
    if ones == 0 or zeros == 0:
        raise TrainingError(f"AUC of {ones} ones and {zeros} zeros: some of both")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[place]
    return float((ranks[is_one].sum() - ones * (ones + 1) / 2.0) / (ones * zeros))


def auc_standard_error(labels: FloatArray) -> float:
    """Return the standard error of the AUC of scores that know nothing.

    Raises
    ------
    TrainingError
        If one of the classes is missing.

    References
    ----------
    .. [1] Mann, Whitney (1947), On a test of whether one of two random variables is
       stochastically larger than the other, Annals of Mathematical Statistics 18.
    """
    ones = float((labels > 0.5).sum())
    zeros = len(labels) - ones
    if ones == 0 or zeros == 0:
        raise TrainingError(f"AUC of {ones:g} ones and {zeros:g} zeros: some of both")
    return math.sqrt((ones + zeros + 1.0) / (12.0 * ones * zeros))


def fold_auc(
    scores: FloatArray, labels: FloatArray, fold: IntArray
) -> tuple[float, float] | None:
    """Return the AUC over pairs of rows of one fold, and its standard error of no skill.

    Folds are scored by different models: the level of a model follows the share of ones
    it was trained on, which says nothing of its skill, so rows of two folds are not
    compared. Pooled over folds, labels that mean nothing would rank below chance.

    Parameters
    ----------
    scores, labels : ndarray of shape (n_rows,), float64
        Labels are 0 or 1.
    fold : ndarray of shape (n_rows,), int64
        Which model scored the row.

    Returns
    -------
    tuple of float, or None
        None where no fold has both classes.

    References
    ----------
    .. [1] Forman, Scholz (2010), Apples-to-apples in cross-validation studies, ACM
       SIGKDD Explorations 12.
    """
    total, wins, variance = 0.0, 0.0, 0.0
    for one in np.unique(fold):
        rows = fold == one
        ones = float((labels[rows] > 0.5).sum())
        pairs = ones * (float(rows.sum()) - ones)
        if pairs > 0:
            total += pairs
            wins += pairs * auc(scores[rows], labels[rows])
            variance += (pairs * auc_standard_error(labels[rows])) ** 2
    return (wins / total, math.sqrt(variance) / total) if total else None


def acted(
    scores: FloatArray,
    outcomes: FloatArray,
    neutral: FloatArray | float,
    *,
    cost: float | None,
) -> FloatArray:
    """Return what acting on scores earned.

    Parameters
    ----------
    scores, outcomes : ndarray of shape (n_rows,), float64
        See `Samples.outcome`.
    neutral : float or ndarray of shape (n_rows,)
        Score of a row that is as good as the training rows were.
    cost : float or None
        None: rows scored above `neutral` are taken and earn their outcome. A number:
        every row is traded by the sign of its score and pays this round trip.

    Returns
    -------
    ndarray of shape (n_rows,), float64
        Share of the stake; NaN where a row was not acted on.
    """
    if cost is None:
        return np.where(scores > neutral, outcomes, np.nan)
    side = np.sign(scores - neutral)
    return np.where(side != 0, side * outcomes - cost, np.nan)


def trading_figures(earned: FloatArray, known: TimeArray) -> dict[str, float | None]:
    """Return profit, Sharpe ratio, drawdown, win rate and number of trades.

    Parameters
    ----------
    earned : ndarray of shape (n_rows,), float64
        As `acted` returned it.
    known : ndarray of shape (n_rows,), datetime64[us]
        When each was settled: its day earns it.

    Returns
    -------
    dict
        `profit_total` and `max_drawdown` in sums of shares; `sharpe_ratio` annualised
        over the days on which anything settled, None below two; `win_rate` None
        without trades; `trades_count`.
    """
    taken = earned[np.isfinite(earned)]
    days, place = np.unique(known.astype("datetime64[D]"), return_inverse=True)
    daily: FloatArray = np.zeros(len(days))
    np.add.at(daily, place, np.nan_to_num(earned))
    curve = np.concatenate([[0.0], np.cumsum(daily)])
    fall = float((np.maximum.accumulate(curve) - curve).max())
    return {
        "profit_total": float(taken.sum()),
        "sharpe_ratio": _sharpe(daily, days),
        "max_drawdown": fall,
        "win_rate": float((taken > 0).mean()) if len(taken) else None,
        "trades_count": float(len(taken)),
    }


def regression_figures(values: FloatArray, labels: FloatArray) -> dict[str, float]:
    """Return mean squared errors, of the values and of 0, and the share of signs right."""
    is_known = labels != 0
    hits = np.sign(values[is_known]) == np.sign(labels[is_known])
    return {
        "squared_error": float(((values - labels) ** 2).mean()),
        "baseline_squared_error": float((labels**2).mean()),
        "sign_match": float(hits.mean()) if len(hits) else 0.0,
    }


def _sharpe(daily: FloatArray, days: TimeArray) -> float | None:
    if len(daily) < 2:
        return None
    spread = float(daily.std(ddof=1))
    if spread <= 1e-15:
        return None
    span = float((days[-1] - days[0]).astype(np.int64)) + 1.0
    a_year = len(days) / span * _DAYS_A_YEAR
    return float(daily.mean()) / spread * math.sqrt(a_year)
