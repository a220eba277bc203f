"""Score settled forecasts, judge what they say about skill, learn from them.

What is learnt from scores is learnt here, where they are made: the verdicts on skill,
the conformal bands of forecasts that have none, and, beside it, the market's regime.
"""

import hashlib
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.calibrate import calibrate_bands
from flows.bodies.judge import compute_verdicts, keep_verdicts
from flows.bodies.regimes import call_regimes
from flows.progress import track
from flows.runs import Run
from lab.bars.timeframes import HORIZONS, step, to_instant
from lab.scoring.predictions import score_predictions
from lakehouse.clock import parse_moment
from lakehouse.errors import InputError
from lakehouse.schema.forecasts import PREDICTION_SCORES

BATCH_FORECASTS = 2000


def score_settled(run: Run, *, timeframe: str, as_of: str | None = None) -> str:
    """Score every forecast × horizon that is settled and not scored yet, then judge.

    Forecasts without a conformal band get one, days without a regime call theirs.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1h` or `1d`.
    as_of : str, optional
        Decision time; the clock's now if not given.

    Raises
    ------
    InputError
        If `as_of` is not a time, or later than now.

    Notes
    -----
    Point in time: a score uses the target bar only once its `known_ts` <= `as_of`, a
    verdict only scores of such bars.
    """
    step(timeframe)
    now = run.now if as_of is None else parse_moment(as_of, what="--as-of")
    if now > run.now:
        raise InputError(f"--as-of {as_of}: later than now, {run.now.isoformat()}")
    run.parameters |= {"timeframe": timeframe, "as_of": now.isoformat()}
    fresh = compute_scores(run, timeframe=timeframe, now=now)
    # Judged before anything is written: what this run reads stays what it was. Also
    # without fresh scores: a run before may have been killed between the two writes.
    verdicts = compute_verdicts(run, timeframe=timeframe, now=now, fresh=fresh)
    told = "no settled forecast is left to score"
    if fresh.num_rows:
        window = f"score-signals/prediction_scores/{timeframe}/{key_hash(fresh)}"
        written = run.append("prediction_scores", fresh, window=window)
        run.count("scores", written.n_rows)
        told = f"{written.n_rows} scores written"
    told = f"{timeframe}: {told}; {keep_verdicts(run, verdicts)}"
    calibrate_bands(run, timeframe=timeframe, fresh=fresh)
    call_regimes(run)
    return told


def compute_scores(run: Run, *, timeframe: str, now: datetime) -> pa.Table:
    """Return the scores that are settled at `now` and not stored; nothing is written."""
    done = scored_keys(run, timeframe)
    open_ids = unscored_ids(run, timeframe, now=now, done=done)
    if not open_ids:
        return PREDICTION_SCORES.to_arrow().empty_table()
    bars = run.read("ohlcv", filter=pc.field("timeframe") == timeframe)
    instruments = run.read("instruments")
    batches = [
        open_ids[i : i + BATCH_FORECASTS]
        for i in range(0, len(open_ids), BATCH_FORECASTS)
    ]
    parts = [
        score_predictions(
            run.read("ml_predictions", filter=pc.field("prediction_id").isin(batch)),
            bars,
            instruments,
            now=now,
            horizons=HORIZONS[timeframe],
            run_id=run.run_id,
        )
        for batch in track(batches, f"score {timeframe}", total=len(batches))
    ]
    return without_keys(pa.concat_tables(parts), done)


def scored_keys(run: Run, timeframe: str) -> set[tuple[str, int]]:
    """Return (prediction_id, horizon) of every stored score."""
    stored = run.read(
        "prediction_scores",
        columns=["prediction_id", "horizon"],
        filter=pc.field("timeframe") == timeframe,
    )
    return set(
        zip(
            stored["prediction_id"].to_pylist(),
            stored["horizon"].to_pylist(),
            strict=True,
        )
    )


def unscored_ids(
    run: Run, timeframe: str, *, now: datetime, done: set[tuple[str, int]]
) -> list[str]:
    """Return forecasts with a target that has opened by `now` and is not scored yet."""
    moment = pa.scalar(now, pa.timestamp("us", tz="UTC"))
    rows = run.read(
        "ml_predictions",
        columns=["prediction_id", "target_ts"],
        filter=(pc.field("timeframe") == timeframe) & (pc.field("as_of") < moment),
    )
    instant = to_instant(now)
    found = []
    for prediction_id, targets in zip(
        rows["prediction_id"].to_pylist(), rows["target_ts"], strict=True
    ):
        opened = np.searchsorted(
            targets.values.to_numpy(zero_copy_only=False).astype("datetime64[us]"),
            instant,
        )
        if any(
            horizon <= opened and (prediction_id, horizon) not in done
            for horizon in HORIZONS[timeframe]
        ):
            found.append(prediction_id)
    return found


def without_keys(scores: pa.Table, done: set[tuple[str, int]]) -> pa.Table:
    """Drop the scores that are stored already."""
    pairs = zip(
        scores["prediction_id"].to_pylist(), scores["horizon"].to_pylist(), strict=True
    )
    return scores.filter(pa.array([pair not in done for pair in pairs], pa.bool_()))


def key_hash(scores: pa.Table) -> str:
    """Return the logical window of a set of scores: the hash of its keys."""
    pairs = sorted(
        zip(
            scores["prediction_id"].to_pylist(),
            scores["horizon"].to_pylist(),
            strict=True,
        )
    )
    text = "\n".join(f"{prediction_id}/{horizon}" for prediction_id, horizon in pairs)
    return hashlib.sha256(text.encode()).hexdigest()
