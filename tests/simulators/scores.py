"""Rows of `prediction_scores` of forecasters whose skill is known by construction."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from lab.scoring.coverage import is_covered, pit_from_band, winkler_score
from lab.scoring.quantile import pinball_loss
from lakehouse.schema.forecasts import PREDICTION_SCORES

BEGIN = datetime(2015, 1, 1, 12, tzinfo=UTC)
LEVELS = np.array([0.1, 0.5, 0.9])
Z80 = 1.2815515655446004
YEARLY = 365.0


def daily_scores(
    seed: int = 0,
    *,
    symbols: tuple[str, ...] = ("A", "B", "C"),
    horizons: tuple[int, ...] = (1, 5),
    n_days: int = 300,
    every: int = 1,
    models: dict[str, tuple[float, float]] | None = None,
    bar: timedelta = timedelta(days=1),
    timeframe: str = "1d",
) -> pa.Table:
    """Scores of models that see a share of the coming return.

    Parameters
    ----------
    models
        Name to (share of the variance of the coming return that the median knows, width
        of its band over that of the return). The default is a `naive` that knows
        nothing.
    """
    rng = np.random.default_rng(seed)
    models = models or {"naive": (0.0, 1.0)}
    parts = []
    for symbol in symbols:
        steps = 0.01 * rng.standard_normal(n_days + max(horizons))
        path = np.concatenate([[0.0], np.cumsum(steps)])
        start = np.arange(0, n_days, every)
        for horizon in horizons:
            coming = path[start + horizon] - path[start]
            for name, (known, width) in models.items():
                parts.append(
                    _scored(
                        rng,
                        (symbol, name, horizon, timeframe),
                        start,
                        100 * np.exp(path[start]),
                        coming,
                        (known, width * 0.01 * np.sqrt(horizon)),
                        bar,
                    )
                )
    return pa.concat_tables(parts)


def _scored(rng, names, start, last_close, coming, shape, bar) -> pa.Table:
    symbol, model, horizon, timeframe = names
    known, sigma = shape
    n_rows = len(start)
    median = known * coming
    if known:
        median = median + np.sqrt(known * (1 - known)) * sigma * rng.standard_normal(
            n_rows
        )
    p10, p50, p90 = (last_close * np.exp(median + z * sigma) for z in (-Z80, 0, Z80))
    actual = last_close * np.exp(coming)
    bands = np.stack([p10, p50, p90], axis=1)
    begin = np.datetime64(BEGIN.replace(tzinfo=None), "us")
    as_of = begin + start * np.timedelta64(bar)
    known = as_of + horizon * np.timedelta64(bar)
    hit = np.sign(p50 - last_close) == np.sign(coming)
    pinball = pinball_loss(bands, LEVELS, actual).mean(axis=1)
    columns = {
        "prediction_id": [f"{model}/{symbol}/{timeframe}/{day}" for day in start],
        "horizon": [horizon] * n_rows,
        "symbol": [symbol] * n_rows,
        "timeframe": [timeframe] * n_rows,
        "model_name": [model] * n_rows,
        "model_version": ["1"] * n_rows,
        "as_of": as_of,
        "target_ts": known,
        "known_ts": known,
        "last_close": last_close,
        "actual": actual,
        "p10": p10,
        "p50": p50,
        "p90": p90,
        "is_direction_hit": pa.array(hit, mask=p50 == last_close),
        "is_covered": is_covered(p10, p90, actual),
        "absolute_error": np.abs(actual - p50),
        "persistence_error": np.abs(actual - last_close),
        "scaled_error": np.abs(actual - p50) / (0.01 * last_close),
        "pinball_mean": pinball,
        "crps": 2 * pinball,
        "pit": pit_from_band(p10, p50, p90, actual),
        "n_samples": [0] * n_rows,
        "winkler": winkler_score(p10, p90, actual),
        "actual_return": coming,
        "strategy_return": np.sign(p50 - last_close) * coming,
        "block": (start + horizon) // horizon,
        "bars_per_year": [YEARLY] * n_rows,
        "is_in_skill": [True] * n_rows,
        "is_contaminated": [False] * n_rows,
        "scored_at": [BEGIN + timedelta(days=9999)] * n_rows,
        "run_id": ["score"] * n_rows,
    }
    schema = PREDICTION_SCORES.to_arrow()
    return pa.table(
        [
            column
            if isinstance(column := columns[field.name], pa.Array)
            else pa.array(column).cast(field.type)
            for field in schema
        ],
        schema=schema,
    )
