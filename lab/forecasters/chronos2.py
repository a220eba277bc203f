"""Chronos-2 as a forecaster: quantiles of closes, no paths.

The network is the `chronos-forecasting` package's. What this adds: log prices in and
prices out, covariates from the event tensor, quantiles that cannot cross, a series'
forecast that does not depend on the series beside it, and groups that are asked for.

References
----------
.. [1] Ansari et al. (2025), Chronos-2: from univariate to universal forecasting,
   arXiv:2510.15821.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lab.arrays import FloatArray
from lab.bars.targets import Targets, forecast_targets
from lab.bars.timeframes import to_moment
from lab.errors import ForecastError
from lab.forecasters._base import Forecast, ForecastRequest, Series
from lab.forecasters.chronos2_inputs import (
    Chronos2View,
    check_events,
    log_levels,
    prepared_input,
)
from lab.forecasters.naive import known_context
from lab.forecasters.paths import check_request
from lakehouse.schema.forecasts import QUANTILE_LEVELS

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

MIN_CONTEXT: Final = 64
ROWS_PER_BATCH: Final = 512
"""Series and covariates that enter the network together."""

_LONGEST: Final = 20.0
"""Log price change beyond which a quantile is held: e^20 either way."""


@dataclass(frozen=True, slots=True)
class _Task:
    """One request, cut and checked."""

    request: ForecastRequest
    series: Series
    targets: Targets
    n_patches: int
    group: tuple[str, str, datetime] | None


class Chronos2Forecaster:
    """Chronos-2 behind the forecasters' contract.

    Parameters
    ----------
    pipeline : Chronos2Pipeline
        From `lab.forecasters.chronos2_weights.read_pipeline`; not changed.
    version : str
        Of code and weights.
    cutoff : datetime or None
        Newest moment the weights may know of; None where nobody knows.
    card : mapping
        What is known of the checkpoint.
    view : Chronos2View
        History shown and how; not longer than the model's own.
    takes_events : bool, default True
        Whether covariates are used; for a model trained without any, False.
    groups : mapping of str to str, optional
        Symbol to group. Series of a group that are forecast together, as of the same
        moment and on the same timeframe, see one another (`cross_learning`): their
        forecasts then depend on which mates are there. The version says so. A symbol
        that is not named is forecast by itself, always.

    Raises
    ------
    ForecastError
        If the history is longer than the model's, or shorter than 64 bars.

    Notes
    -----
    Quantiles that cross are put in order at each step, which never worsens them [1]_.

    Point in time: only bars with `known_ts <= as_of`, and events encoded for it.

    References
    ----------
    .. [1] Chernozhukov, Fernández-Val and Galichon (2010), Quantile and probability
       curves without crossing, Econometrica 78, 1093-1125.
    """

    name = "chronos2"
    min_context = MIN_CONTEXT

    def __init__(
        self,
        pipeline: "Chronos2Pipeline",
        *,
        version: str,
        cutoff: datetime | None,
        card: Mapping[str, object],
        view: Chronos2View,
        takes_events: bool = True,
        groups: Mapping[str, str] | None = None,
    ) -> None:
        longest = int(pipeline.model_context_length)
        if view.context < MIN_CONTEXT or view.length > longest:
            raise ForecastError(
                f"chronos2: {view.length} bars shown, {view.context} of them history:"
                f" at least {MIN_CONTEXT} are needed and {longest} allowed"
            )
        self._pipeline = pipeline
        self._groups = dict(groups or {})
        self.version = version + _groups_suffix(self._groups)
        self.cutoff = cutoff
        self.card: Mapping[str, object] = {**card, "groups": self._groups}
        self.context = view.context
        self._view = view
        self.takes_events = takes_events
        levels = [float(level) for level in pipeline.quantiles]
        self._band = [levels.index(level) for level in (0.1, 0.5, 0.9)]
        has_grid = set(QUANTILE_LEVELS) <= set(levels)
        self._grid = [levels.index(one) for one in QUANTILE_LEVELS] if has_grid else []

    def forecast(
        self,
        series: Sequence[Series],
        *,
        as_of: datetime,
        horizon: int,
        n_samples: int = 20,
        seed: int = 0,
    ) -> list[Forecast]:
        """Forecast the next `horizon` closes of each series without events.

        Parameters
        ----------
        series : sequence of Series
            Bars after `as_of` are not read.
        as_of : datetime
            Decision time, aware.
        horizon : int, bars
            Targets per series.
        n_samples, seed : int
            Checked and recorded: there are no paths and nothing is drawn.

        Raises
        ------
        ForecastError
            If a series is too short, a close no price, or a number out of range.

        Notes
        -----
        Point in time: only bars with `known_ts <= as_of`.
        """
        requests = [ForecastRequest(one, as_of) for one in series]
        return self.forecast_requests(
            requests, horizon=horizon, n_samples=n_samples, seed=seed
        )

    def forecast_requests(
        self,
        requests: Sequence[ForecastRequest],
        *,
        horizon: int,
        n_samples: int = 20,
        seed: int = 0,
    ) -> list[Forecast]:
        """Forecast each request, in the order given.

        Parameters
        ----------
        requests : sequence of ForecastRequest
            Of any moments; `events` None is the plain model.
        horizon : int, bars
            Targets per series.
        n_samples, seed : int
            Checked and recorded: there are no paths and nothing is drawn.

        Raises
        ------
        ForecastError
            If a series is too short, a close no price, events do not fit, or a number
            is out of range.

        Notes
        -----
        Point in time: each request by itself; mates of a group have the same `as_of`.
        """
        check_request(horizon=horizon, n_samples=n_samples, seed=seed)
        tasks = [self._task(one, horizon) for one in requests]
        found: list[Forecast | None] = [None] * len(tasks)
        for rows, together in self._batches(tasks):
            quantiles = self._quantiles([tasks[row] for row in rows], together=together)
            for row, values in zip(rows, quantiles, strict=True):
                found[row] = self._forecast(tasks[row], values, horizon, seed)
        return [one for one in found if one is not None]

    def _task(self, request: ForecastRequest, horizon: int) -> _Task:
        series = known_context(
            request.series, request.as_of, self.context, self.min_context
        )
        targets = forecast_targets(
            request.series.until(request.as_of).ts,
            as_of=request.as_of,
            horizon=horizon,
            timeframe=series.timeframe,
            calendar=series.calendar,
        )
        patch = int(self._pipeline.model_output_patch_size)
        n_patches = -(-len(targets.path_ts) // patch)
        if n_patches > (most := int(self._pipeline.max_output_patches)):
            raise ForecastError(
                f"{series.symbol} {series.timeframe}: horizon {horizon} after"
                f" {targets.n_missed} missed bars: this chronos2 reaches {most * patch}"
            )
        if self.takes_events and request.events is not None:
            n_rows = series.n_obs + horizon
            check_events(request.events, n_rows=n_rows, symbol=series.symbol)
        group = self._groups.get(series.symbol)
        key = None if group is None else (group, series.timeframe, request.as_of)
        return _Task(request, series, targets, n_patches, key)

    def _batches(self, tasks: Sequence[_Task]) -> list[tuple[list[int], bool]]:
        # Future tokens see one another: requests enter together only with as many of
        # them, so that a request's forecast does not depend on its batch.
        batches: dict[Any, list[int]] = {}
        for row, task in enumerate(tasks):
            batches.setdefault((task.group, task.n_patches), []).append(row)
        return [(rows, group is not None) for (group, _), rows in batches.items()]

    def _quantiles(self, tasks: Sequence[_Task], *, together: bool) -> list[FloatArray]:
        # Log price changes, (n_levels, n_steps) for each task.
        n_steps = tasks[0].n_patches * int(self._pipeline.model_output_patch_size)
        inputs = [
            prepared_input(
                log_levels(task.series),
                task.request.events if self.takes_events else None,
                view=self._view,
                n_steps=n_steps,
                n_missed=task.targets.n_missed,
            )
            for task in tasks
        ]
        n_rows = sum(len(one["context"]) for one in inputs)
        found = self._pipeline.predict(
            inputs,
            prediction_length=n_steps,
            batch_size=n_rows if together else ROWS_PER_BATCH,
            context_length=self._view.length,
            cross_learning=together,
        )
        return [one[0].numpy().astype(np.float64) for one in found]

    def _forecast(
        self, task: _Task, changes: FloatArray, horizon: int, seed: int
    ) -> Forecast:
        series, request = task.series, task.request
        if not bool(np.all(np.isfinite(changes))):
            raise ForecastError(
                f"{series.symbol} {series.timeframe}: chronos2 gave a quantile that is"
                " no number"
            )
        first = task.targets.n_missed
        changes = np.sort(changes[:, first : first + horizon], axis=0)
        last_close = float(series.close[-1])
        prices = last_close * np.exp(np.clip(changes, -_LONGEST, _LONGEST))
        p10, p50, p90 = prices[self._band]
        return Forecast(
            symbol=series.symbol,
            timeframe=series.timeframe,
            model_name=self.name,
            model_version=self.version,
            as_of=request.as_of,
            known_ts=request.as_of,
            last_ts=to_moment(series.ts[-1]),
            last_close=last_close,
            target_ts=task.targets.target_ts,
            p10=p10,
            p50=p50,
            p90=p90,
            samples=None,
            seed=seed,
            is_contaminated=self.cutoff is None or request.as_of < self.cutoff,
            event_context=request.event_context,
            quantiles=prices[self._grid].astype(np.float32) if self._grid else None,
        )


def _groups_suffix(groups: Mapping[str, str]) -> str:
    if not groups:
        return ""
    text = json.dumps(sorted(groups.items()))
    return f"+groups.{hashlib.sha256(text.encode()).hexdigest()[:8]}"
