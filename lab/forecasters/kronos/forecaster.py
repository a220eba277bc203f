"""Kronos behind the forecasters' contract: series in, bands and sample paths out.

A path is a sampled continuation of all six columns; its closes are kept. Bands are
Weibull quantiles of a fixed number of paths, 20 by default, whatever number is to be
returned: path k of a series is the same whatever the number of paths, the other series
of the call and other calls, and so is its band.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import numpy as np
import torch

from lab.arrays import AnyArray, FloatArray
from lab.bars.targets import Targets, forecast_targets
from lab.bars.timeframes import to_moment
from lab.errors import ForecastError
from lab.forecasters._base import Forecast, ForecastRequest, Series
from lab.forecasters.kronos.adapter import EventAdapter
from lab.forecasters.kronos.engine import cache_bytes, prepare
from lab.forecasters.kronos.filtering import Filter
from lab.forecasters.kronos.generate import History, Mode, generate
from lab.forecasters.kronos.network import KronosNetwork
from lab.forecasters.kronos.normalise import Scale, normalise, restore, stamps
from lab.forecasters.kronos.sampling import path_uniforms
from lab.forecasters.kronos.tokenizer import KronosTokenizer
from lab.forecasters.kronos.windows import bar_values
from lab.forecasters.naive import known_context
from lab.forecasters.paths import band, check_request

NAME: Final = "kronos"
N_PATHS: Final = 20
"""Paths behind a band."""

MIN_PATHS: Final = 9
"""With fewer, a 10 % quantile lies outside the paths."""

MIN_CONTEXT: Final = 16
"""Fewer bars give no scale to normalise by."""

CLOSE: Final = 3
FLOOR: Final = 1e-3
"""Least price of a path, as a share of the last close: decoded prices may be negative."""

_CACHE_BYTES: Final = 3 << 30
"""Memory for the caches of the requests that are forecast together."""


class _Asked(NamedTuple):
    """One request, ready for the network."""

    request: ForecastRequest
    known: Series
    targets: Targets
    history: History
    scale: Scale


class KronosForecaster:
    """A tokenizer and a predictor that forecast closes.

    Parameters
    ----------
    tokenizer, network : KronosTokenizer, KronosNetwork
        A pair; copied, not changed.
    version : str
        Of code and weights.
    cutoff : datetime or None
        Newest moment the weights may know of.
    card : mapping
        What is known of the checkpoint.
    window : int, tokens
        Most that the network attends to, history and generated bars together.
    context : int, bars
        History that is read; `window` minus the horizon keeps every step cached.
    adapter : EventAdapter, optional
        Lets events in; without it they change nothing.
    temperature, top_k, top_p : float, int, float
        How tokens are drawn, see `Filter`.
    mode : {"exact", "rolling"}, default "exact"
        What happens once the window is full, see `generate`.
    device : str, default "cpu"
        cpu, cuda or mps; on cuda the predictor runs in bfloat16.
    n_paths : int, default 20
        Paths behind a band, 9 to 400.

    Raises
    ------
    ForecastError
        If a number is out of range.

    Notes
    -----
    A close that is decoded at or below a thousandth of the last close is raised to it:
    the decoder knows no bounds, prices are positive. A bar whose volume is unknown goes
    in without volume. Bars whose high is below their low are refused.

    Point in time: a forecast reads bars with `known_ts <= as_of`, normalised by their
    own statistics, and events as known then.
    """

    def __init__(
        self,
        tokenizer: KronosTokenizer,
        network: KronosNetwork,
        *,
        version: str,
        cutoff: datetime | None,
        card: Mapping[str, object],
        window: int,
        context: int,
        adapter: EventAdapter | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 0.9,
        mode: Mode = "exact",
        device: str = "cpu",
        n_paths: int = N_PATHS,
    ) -> None:
        if not MIN_PATHS <= n_paths <= 400:
            raise ForecastError(
                f"paths {n_paths}: {NAME} reads p10 and p90 off them, which takes"
                f" {MIN_PATHS} to 400"
            )
        if window < 2:
            raise ForecastError(f"window {window}: at least 2 tokens are needed")
        if context < MIN_CONTEXT:
            raise ForecastError(
                f"context {context}: at least {MIN_CONTEXT} bars are needed"
            )
        dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
        self._prepared = prepare(tokenizer, network, device=device, dtype=dtype)
        self._adapter = adapter
        self._by = Filter(temperature, top_k, top_p)
        self._mode: Mode = mode
        self._n_paths = n_paths
        self._window = window
        self._context = context
        self._version = version
        self._cutoff = cutoff
        self._card = dict(card)

    @property
    def name(self) -> str:
        """Name in the registry."""
        return NAME

    @property
    def version(self) -> str:
        """Version of code, parameters and weights."""
        return self._version

    @property
    def min_context(self) -> int:
        """Fewest bars it works with."""
        return MIN_CONTEXT

    @property
    def context(self) -> int:
        """Most bars it looks at."""
        return self._context

    @property
    def cutoff(self) -> datetime | None:
        """Newest moment the weights may know of."""
        return self._cutoff

    @property
    def card(self) -> Mapping[str, object]:
        """What is known of the checkpoint."""
        return self._card

    @property
    def takes_events(self) -> bool:
        """Whether events change its forecasts."""
        return self._adapter is not None

    def forecast(
        self,
        series: Sequence[Series],
        *,
        as_of: datetime,
        horizon: int,
        n_samples: int = 20,
        seed: int = 0,
    ) -> list[Forecast]:
        """Forecast the next `horizon` closes of each series, without events.

        See `forecast_requests`.
        """
        return self.forecast_requests(
            [ForecastRequest(one, as_of) for one in series],
            horizon=horizon,
            n_samples=n_samples,
            seed=seed,
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
            Bars after each `as_of` are not read.
        horizon : int, bars
            Targets per series; with bars missing before them at most the window.
        n_samples : int, default 20
            Paths to return, the first ones, 9 to 400; the band is that of the first
            `n_paths` in any case.
        seed : int, default 0
            Seed of the request.

        Raises
        ------
        ForecastError
            If a number is out of range, a series is too short or not finite, or the
            horizon does not fit into the window.

        Notes
        -----
        Point in time: only bars with `known_ts <= as_of`; of events, rows as given.
        """
        check_request(horizon=horizon, n_samples=n_samples, seed=seed)
        if n_samples < MIN_PATHS:
            raise ForecastError(
                f"samples {n_samples}: {NAME} reads p10 and p90 off its paths, which"
                f" takes {MIN_PATHS} or more"
            )
        asked = [self._prepare(one, horizon) for one in requests]
        found: dict[int, Forecast] = {}
        n_paths = max(n_samples, self._n_paths)
        each = cache_bytes(self._prepared, self._window, n_paths, horizon)
        for rows in _chunks(asked, each):
            made = self._forecast([asked[row] for row in rows], n_samples, seed)
            found.update(zip(rows, made, strict=True))
        return [found[row] for row in range(len(asked))]

    def _prepare(self, request: ForecastRequest, horizon: int) -> _Asked:
        series = request.series
        known = known_context(series, request.as_of, self._context, MIN_CONTEXT)
        if bool(np.any(known.high < known.low)):
            raise ForecastError(
                f"{series.symbol} {series.timeframe}: a bar's high is below its low"
            )
        targets = forecast_targets(
            series.until(request.as_of).ts,
            as_of=request.as_of,
            horizon=horizon,
            timeframe=known.timeframe,
            calendar=known.calendar,
        )
        n_steps = len(targets.path_ts)
        if n_steps > self._window:
            raise ForecastError(
                f"{series.symbol} {series.timeframe}: horizon {horizon} after"
                f" {n_steps - horizon} missed bars: this {NAME} reaches {self._window}"
            )
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                values = bar_values(known)
            x, scale = normalise(values)
        except ForecastError as error:
            raise ForecastError(
                f"{series.symbol} {series.timeframe}: {error}"
            ) from error
        history = History(
            x,
            stamps(known.ts),
            stamps(targets.path_ts),
            self._added(request, known.n_obs, targets),
        )
        return _Asked(request, known, targets, history, scale)

    def _added(
        self, request: ForecastRequest, n_context: int, targets: Targets
    ) -> torch.Tensor | None:
        # What events add to the embeddings; bars missing before the targets have none.
        if self._adapter is None or request.events is None:
            return None
        rows: AnyArray = request.events
        n_targets = len(targets.target_ts)
        if len(rows) != n_context + n_targets:
            raise ForecastError(
                f"{request.series.symbol}: {len(rows)} rows of events,"
                f" {n_context} + {n_targets} needed"
            )
        gap = np.zeros((targets.n_missed, rows.shape[1]), dtype=rows.dtype)
        whole = np.concatenate([rows[:n_context], gap, rows[n_context:]])
        return self._adapter.added(whole)

    def _forecast(
        self, asked: Sequence[_Asked], n_samples: int, seed: int
    ) -> list[Forecast]:
        # Requests with the same number of steps, as one batch.
        uniforms = np.stack(
            [
                path_uniforms(
                    seed=seed,
                    symbol=one.known.symbol,
                    timeframe=one.known.timeframe,
                    as_of=one.request.as_of,
                    n_paths=max(n_samples, self._n_paths),
                    horizon=len(one.targets.path_ts),
                )
                for one in asked
            ]
        )
        paths = generate(
            self._prepared,
            [one.history for one in asked],
            uniforms,
            window=self._window,
            by=self._by,
            mode=self._mode,
        )
        values = paths.values.numpy()
        return [
            self._finish(one, values[row], n_samples, seed)
            for row, one in enumerate(asked)
        ]

    def _finish(
        self, one: _Asked, values: AnyArray, n_samples: int, seed: int
    ) -> Forecast:
        last_close = float(one.known.close[-1])
        closes = restore(values, one.scale)[:, one.targets.n_missed :, CLOSE]
        paths: FloatArray = np.maximum(closes.astype(np.float64), FLOOR * last_close)
        p10, p50, p90 = band(paths[: self._n_paths])
        as_of = one.request.as_of
        return Forecast(
            symbol=one.known.symbol,
            timeframe=one.known.timeframe,
            model_name=NAME,
            model_version=self._version,
            as_of=as_of,
            known_ts=as_of,
            last_ts=to_moment(one.known.ts[-1]),
            last_close=last_close,
            target_ts=one.targets.target_ts,
            p10=p10,
            p50=p50,
            p90=p90,
            samples=paths[:n_samples].astype(np.float32),
            seed=seed,
            is_contaminated=self._cutoff is None or as_of < self._cutoff,
            event_context=one.request.event_context,
        )


def _chunks(asked: Sequence[_Asked], request_bytes: int) -> list[list[int]]:
    # Rows that share a number of steps, few enough for memory.
    by_steps: dict[int, list[int]] = {}
    for row, one in enumerate(asked):
        by_steps.setdefault(len(one.targets.path_ts), []).append(row)
    size = max(1, min(64, _CACHE_BYTES // request_bytes))
    return [
        rows[start : start + size]
        for rows in by_steps.values()
        for start in range(0, len(rows), size)
    ]
