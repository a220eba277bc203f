"""Bands that keep their promise: widths corrected by what became of earlier forecasts.

A forecast's band is stretched about its median by one factor. The score of a settled
forecast is the factor that would just have covered the outcome, measured in the
forecast's own half-widths; the factor of a new forecast is a quantile of such scores.

Rules:

- Only scores with `known_ts` <= the forecast's `as_of` enter: labels of overlapping
  horizons count when they settle, not before.
- Before any label the factor is 1: the raw band. From then on labels of the model and
  horizon over all symbols, of the asset class and of the symbol itself take over step
  by step (a Dirichlet process at each stage), so there is no warm-up that would have to
  be left out. At the root stands the raw band's promise, stretched by most of what
  the next shorter horizon has learnt: a model that is too sure of a day is taken to be
  so of a week until its weeks have settled. Evidence is counted in blocks: forecasts whose
  horizons overlap are one piece of evidence.
- Forecasts over a scheduled high-impact release have scores of their own scale; the
  ratio is shrunk to 1 while there are few of either kind.
- The quantile's level moves with the errors of the bands that were really given, by
  symbol and over the panel: the adaptive step of Gibbs and Candès, forgetting, one
  step a block.
- A band is a function of stored rows alone, so it does not matter whether bands are made
  one decision time after the other or all at once at the end.

What was considered and left out: separate factors for the lower and the upper half (twice
the variance, no better on drift-free forecasts), several step sizes weighed against each
other (DtACI: the panel's step already answers a burst within days), scores in price units
(they would not pool over symbols).

References
----------
.. [1] Romano, Patterson and Candès (2019), Conformalized quantile regression, NeurIPS.
.. [2] Gibbs and Candès (2021), Adaptive conformal inference under distribution shift,
   NeurIPS; (2024), Conformal inference for online prediction with arbitrary
   distribution shifts, JMLR 25.
.. [3] Vovk, Lindsay, Nouretdinov and Gammerman (2003), Mondrian confidence machine.
.. [4] Teh, Jordan, Beal and Blei (2006), Hierarchical Dirichlet processes, JASA 101.
.. [5] Barber, Candès, Ramdas and Tibshirani (2023), Conformal prediction beyond
   exchangeability, Annals of Statistics 51, 816-845: labels weighted by their age.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from lab.arrays import BoolArray, FloatArray, IntArray, TimeArray

COVERAGE: Final = 0.8
_N_PRIOR: Final = 400
_FULL_BIN: Final = 5
_NOBODY: Final = np.zeros(0, dtype=np.int64)
_DAY: Final = np.timedelta64(86_400_000_000, "us")


@dataclass(frozen=True, slots=True)
class ConformalParameters:
    """Settings.

    Attributes
    ----------
    model_blocks, class_blocks, symbol_blocks : float
        Blocks of evidence at which a stage counts as much as the one before: the model
        against its shorter horizons, the asset class against the model, the symbol against
        the class.
    event_blocks : float
        The same for the scale of event days.
    carried : float
        Power of the shorter horizon's factor that a longer one starts from.
    half_life_days, half_life_horizons : float
        A label's weight halves in the longer of these, in days and in horizons.
    window_half_lives : float
        Older labels are not read.
    symbol_gain, symbol_memory : float
        Step of the level for a missed block of the symbol, and what is left of it a
        block later.
    panel_gain, panel_memory : float
        The same for the share missed over the panel in one horizon's time.
    lowest_level, highest_level : float
        Bounds of the level.
    """

    model_blocks: float = 30.0
    class_blocks: float = 200.0
    symbol_blocks: float = 40.0
    event_blocks: float = 20.0
    carried: float = 0.75
    half_life_days: float = 45.0
    half_life_horizons: float = 20.0
    window_half_lives: float = 4.0
    symbol_gain: float = 0.01
    symbol_memory: float = 0.97
    panel_gain: float = 0.05
    panel_memory: float = 0.95
    lowest_level: float = 0.5
    highest_level: float = 0.97

    def half_life(self, span: np.timedelta64) -> np.timedelta64:
        """Return the half-life of labels of a horizon that lasts `span`."""
        return max(
            np.timedelta64(int(self.half_life_days * 86_400_000_000), "us"),
            np.timedelta64(int(self.half_life_horizons * span.astype(np.int64)), "us"),
        )

    def window(self, span: np.timedelta64) -> np.timedelta64:
        """Return how far back labels of a horizon that lasts `span` are read."""
        half_life = self.half_life(span).astype(np.int64)
        return np.timedelta64(int(self.window_half_lives * half_life), "us")


@dataclass(frozen=True, slots=True)
class CellRows:
    """Forecasts of one model at one horizon, settled or not; arrays of shape (n_rows,).

    Attributes
    ----------
    symbol, asset_class : ndarray of int64
        Codes.
    as_of, known : ndarray of datetime64[us]
        Decision time; when the outcome was known, NaT while it is not.
    score : ndarray of float64
        From `band_scores`; NaN where there is no label.
    block : ndarray of int64
        Rows of a symbol with equal numbers overlap.
    is_event : ndarray of bool
        Whether a high-impact release was scheduled up to the target.
    factor : ndarray of float64
        What the band given then was stretched by; NaN where one is asked for.
    """

    symbol: IntArray
    asset_class: IntArray
    as_of: TimeArray
    known: TimeArray
    score: FloatArray
    block: IntArray
    is_event: BoolArray
    factor: FloatArray


@dataclass(frozen=True, slots=True)
class Calibration:
    """Answers, one per row of `CellRows`.

    Attributes
    ----------
    factor : ndarray of shape (n_rows,), float64
        Those given before and those worked out.
    level : ndarray of shape (n_rows,), float64
        Level of the quantile; NaN where a factor was given.
    n_labels : ndarray of shape (n_rows,), int64
        Labels of the symbol; 0 where a factor was given.
    centre : dict of datetime64 to float
        By decision time asked about: the factor over all symbols, without the adaptive
        step; where a longer horizon starts from.
    """

    factor: FloatArray
    level: FloatArray
    n_labels: IntArray
    centre: dict[np.datetime64, float]


def band_scores(
    p10: FloatArray, p50: FloatArray, p90: FloatArray, actual: FloatArray
) -> FloatArray:
    """Return the factor at which each band would just have covered its outcome.

    ``log(p50/y) / log(p50/p10)`` below the median, ``log(y/p50) / log(p90/p50)`` above:
    at most 1 where the raw band covered.

    Parameters
    ----------
    p10, p50, p90, actual : ndarray of shape (n_obs,), float64
        Positive.

    Returns
    -------
    ndarray of shape (n_obs,), float64
        NaN where the band has no width on that side.
    """
    distance = np.log(actual / p50)
    width = np.where(distance < 0, np.log(p50 / p10), np.log(p90 / p50))
    has_width = width > 0
    return np.where(
        has_width, np.abs(distance) / np.where(has_width, width, 1.0), np.nan
    )


def stretched(
    p10: FloatArray, p50: FloatArray, p90: FloatArray, factor: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return both ends of a band with each half `factor` times as wide in log price."""
    return p50 * (p10 / p50) ** factor, p50 * (p90 / p50) ** factor


def between_horizons(
    horizons: IntArray, factors: FloatArray, n_steps: int
) -> FloatArray:
    """Return a factor for every step, linear in log step and log factor.

    Steps outside the horizons take the nearest one's.

    Returns
    -------
    ndarray of shape (n_steps,), float64
    """
    steps = np.log(np.arange(1, n_steps + 1))
    return np.asarray(np.exp(np.interp(steps, np.log(horizons), np.log(factors))))


def calibrate(
    rows: CellRows,
    *,
    span: np.timedelta64,
    parameters: ConformalParameters,
    shorter: Mapping[np.datetime64, float] | None = None,
) -> Calibration:
    """Work out the factors that are asked for, in the order of their decision times.

    Parameters
    ----------
    rows : CellRows
        Of one model and horizon; labels may lie after decision times.
    span : timedelta64
        Length of the horizon.
    parameters : ConformalParameters
        Settings.
    shorter : mapping of datetime64 to float, optional
        `Calibration.centre` of the next shorter horizon; 1 where it has none.

    Notes
    -----
    Point in time: a factor uses rows with `known` <= its `as_of` only, and of their
    bands what was given at the time.
    """
    factor = rows.factor.copy()
    level = np.full(len(factor), np.nan)
    n_labels = np.zeros(len(factor), dtype=np.int64)
    is_asked = np.isnan(rows.factor)
    labels = np.flatnonzero(np.isfinite(rows.score) & ~np.isnat(rows.known))
    labels = labels[
        np.lexsort((rows.symbol[labels], rows.as_of[labels], rows.known[labels]))
    ]
    known = rows.known[labels]
    centre: dict[np.datetime64, float] = {}
    for moment in np.unique(rows.as_of[is_asked]):
        asked = np.flatnonzero(is_asked & (rows.as_of == moment))
        first = np.searchsorted(known, moment - parameters.window(span), side="right")
        stop = np.searchsorted(known, moment, side="right")
        evidence = _Evidence(
            rows,
            labels[first:stop],
            factor,
            moment,
            span=span,
            parameters=parameters,
            start=(shorter or {}).get(moment, 1.0) ** parameters.carried,
        )
        centre[moment] = evidence.centre
        for row in asked:
            factor[row], level[row], n_labels[row] = evidence.answer(int(row))
    return Calibration(factor, level, n_labels, centre)


class _Evidence:
    """What is known at one decision time about one model and horizon."""

    def __init__(
        self,
        rows: CellRows,
        labels: IntArray,
        factor: FloatArray,
        moment: np.datetime64,
        *,
        span: np.timedelta64,
        parameters: ConformalParameters,
        start: float,
    ) -> None:
        self._rows = rows
        self._start = start
        self._parameters = parameters
        self._symbol = rows.symbol[labels]
        self._class = rows.asset_class[labels]
        self._block = rows.block[labels]
        # A band given by nobody was the raw one.
        given = np.nan_to_num(factor[labels], nan=1.0)
        is_missed = rows.score[labels] > given
        self._excess: FloatArray = is_missed.astype(np.float64) - (1 - COVERAGE)
        age = (moment - rows.known[labels]) / parameters.half_life(span)
        self._weight = 0.5**age
        self._evidence = self._weight / _repeats(self._symbol, self._block)
        self._panel_tilt = self._panel(rows.known[labels], span)
        is_event = rows.is_event[labels]
        score = rows.score[labels]
        self._scale = self._event_scale(score, is_event)
        self._place(score / self._scale[is_event.astype(np.int64)])
        self._base = self._pooled(np.True_, self._prior, parameters.model_blocks)
        self._classes: dict[int, FloatArray] = {}
        self._groups = _groups(self._symbol)

    @property
    def centre(self) -> float:
        """Factor over all symbols at the promised level."""
        if len(self._symbol) == 0:
            return self._start
        place = min(int(np.searchsorted(self._base, COVERAGE)), len(self._base) - 1)
        return float(self._values[place])

    def answer(self, row: int) -> tuple[float, float, int]:
        """Return factor, level and number of own labels for one forecast."""
        parameters = self._parameters
        if len(self._symbol) == 0:
            return self._start, COVERAGE, 0
        own = self._groups.get(int(self._rows.symbol[row]), _NOBODY)
        tilt = self._panel_tilt + parameters.symbol_gain * _leaky_sum(
            self._block[own], self._excess[own], parameters.symbol_memory
        )
        level = float(
            np.clip(COVERAGE + tilt, parameters.lowest_level, parameters.highest_level)
        )
        scale = float(self._scale[int(self._rows.is_event[row])])
        return self._quantile(row, own, level) * scale, level, len(own)

    def _quantile(self, row: int, own: IntArray, level: float) -> float:
        # Smallest value with at least `level` below, of own labels mixed with the class.
        pool = self._class_share(row)
        places = np.sort(self._rank[own])
        weight = self._weight[self._order[places]]
        blocks, strength = self._evidence[own].sum(), self._parameters.symbol_blocks
        total = weight.sum()
        # The score to come is one more, of full weight and beyond all others [5]_.
        shares = np.concatenate([[0.0], np.cumsum(weight) / (total + 1.0)])

        def is_enough(place: int) -> bool:
            share = shares[np.searchsorted(places, place, side="right")]
            mixed = (blocks * share + strength * pool[place]) / (blocks + strength)
            return bool(mixed >= level)

        low, high = 0, len(pool) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
        return float(self._values[low])

    def _panel(self, known: TimeArray, span: np.timedelta64) -> float:
        bins = known.astype(np.int64) // span.astype(np.int64)
        return self._parameters.panel_gain * _leaky_sum(
            bins, self._excess, self._parameters.panel_memory, full=_FULL_BIN
        )

    def _event_scale(self, score: FloatArray, is_event: BoolArray) -> FloatArray:
        # Typical score of quiet and of event days over that of all, shrunk to 1.
        scale = np.ones(2)
        if is_event.all() or not is_event.any():
            return scale
        overall = _weighted_quantile(score, self._weight)
        n_symbols = len(np.unique(self._symbol))
        for kind in (0, 1):
            chosen = is_event == bool(kind)
            # Symbols move together: their number counts by its root.
            blocks = self._evidence[chosen].sum() / np.sqrt(n_symbols)
            trust = blocks / (blocks + self._parameters.event_blocks)
            own = _weighted_quantile(score[chosen], self._weight[chosen])
            scale[kind] = (own / overall) ** trust if own > 0 and overall > 0 else 1.0
        return scale

    def _place(self, score: FloatArray) -> None:
        # Labels and the raw band's promise on one sorted axis.
        values = np.concatenate([score, _PRIOR * self._start])
        self._order = np.argsort(values, kind="stable")
        self._rank = np.empty_like(self._order)
        self._rank[self._order] = np.arange(len(values))
        self._values = values[self._order]
        self._prior = np.cumsum(self._order >= len(score)) / _N_PRIOR

    def _pooled(
        self, chosen: BoolArray | np.bool_, base: FloatArray, strength: float
    ) -> FloatArray:
        # Shares below each value: the chosen labels', mixed with `base` by evidence.
        weight = np.concatenate([self._weight * chosen, np.zeros(_N_PRIOR)])
        total = weight.sum()
        if total == 0:
            return base
        blocks = (self._evidence * chosen).sum()
        share = np.cumsum(weight[self._order]) / total
        return np.asarray((blocks * share + strength * base) / (blocks + strength))

    def _class_share(self, row: int) -> FloatArray:
        code = int(self._rows.asset_class[row])
        if code not in self._classes:
            self._classes[code] = self._pooled(
                self._class == code, self._base, self._parameters.class_blocks
            )
        return self._classes[code]


def _groups(codes: IntArray) -> dict[int, IntArray]:
    # Rows of each code, in their order.
    order = np.argsort(codes, kind="stable")
    found, begins = np.unique(codes[order], return_index=True)
    parts = np.split(order, begins[1:]) if len(found) else []
    return dict(zip(found.tolist(), parts, strict=True))


def _repeats(symbol: IntArray, block: IntArray) -> IntArray:
    # How many labels share each label's symbol and block.
    if len(block) == 0:
        return np.zeros(0, dtype=np.int64)
    first = block.min()
    key = symbol * (block.max() - first + 1) + (block - first)
    _, place, counts = np.unique(key, return_inverse=True, return_counts=True)
    return np.asarray(counts[place])


def _leaky_sum(
    bins: IntArray, excess: FloatArray, memory: float, *, full: int = 1
) -> float:
    # Mean excess per bin, the newest bin in full, each older one `memory` times as much.
    if len(bins) == 0:
        return 0.0
    _, place, counts = np.unique(bins, return_inverse=True, return_counts=True)
    mean = np.bincount(place, excess) / np.maximum(counts, full)
    return float(mean @ memory ** np.arange(len(mean))[::-1])


def _weighted_quantile(score: FloatArray, weight: FloatArray) -> float:
    order = np.argsort(score, kind="stable")
    share = np.cumsum(weight[order])
    place = np.searchsorted(share, COVERAGE * share[-1])
    return float(score[order][min(int(place), len(score) - 1)])


def _promised_scores() -> FloatArray:
    # Scores of a normal outcome whose raw 80 % band holds.
    normal = NormalDist()
    shares = (np.arange(_N_PRIOR) + 0.5) / _N_PRIOR
    points = [normal.inv_cdf((1 + share) / 2) for share in shares.tolist()]
    return np.array(points) / normal.inv_cdf((1 + COVERAGE) / 2)


_PRIOR: Final = _promised_scores()
