"""Score settled forecasts, judge what they say about skill, learn from them.

What is learnt from scores is learnt here, where they are made: the verdicts on skill,
the conformal bands of forecasts that have none, and, beside it, the market's regime.
"""

import hashlib
from datetime import datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.calibrate import calibrate_bands
from flows.bodies.judge import compute_verdicts, keep_verdicts
from flows.bodies.moments import decision_moment
from flows.bodies.regimes import call_regimes
from flows.bodies.settling import fresh_scores
from flows.runs import Run
from lab.bars.timeframes import step
from lakehouse.schema.forecasts import PREDICTION_SCORES

COMMIT_ROWS: Final = 250_000


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
    now = decision_moment(run, as_of)
    run.parameters |= {"timeframe": timeframe, "as_of": now.isoformat()}
    fresh = keep_scores(run, timeframe=timeframe, now=now)
    told = "no settled forecast is left to score"
    if fresh.num_rows:
        run.count("scores", fresh.num_rows)
        told = f"{fresh.num_rows} scores written"
    # Also without fresh scores: a run before may have been killed after writing them.
    verdicts = compute_verdicts(run, timeframe=timeframe, now=now, fresh=fresh)
    told = f"{timeframe}: {told}; {keep_verdicts(run, verdicts)}"
    calibrate_bands(run, timeframe=timeframe, fresh=fresh, now=now)
    call_regimes(run)
    return told


def compute_scores(run: Run, *, timeframe: str, now: datetime) -> pa.Table:
    """Return the scores that are settled at `now` and not stored; nothing is written."""
    empty = PREDICTION_SCORES.to_arrow().empty_table()
    return pa.concat_tables([empty, *fresh_scores(run, timeframe=timeframe, now=now)])


def keep_scores(run: Run, *, timeframe: str, now: datetime) -> pa.Table:
    """Write the scores that are settled at `now` and not stored, and return them.

    They are written as they come, `COMMIT_ROWS` at a time: a killed run leaves whole
    commits, and the next one finds what is missing.
    """
    kept = [PREDICTION_SCORES.to_arrow().empty_table()]
    waiting: list[pa.Table] = []
    for scores in fresh_scores(run, timeframe=timeframe, now=now):
        waiting.append(scores)
        if sum(part.num_rows for part in waiting) >= COMMIT_ROWS:
            kept.append(_write(run, timeframe, waiting))
            waiting = []
    kept.append(_write(run, timeframe, waiting))
    return pa.concat_tables(kept)


def _write(run: Run, timeframe: str, parts: list[pa.Table]) -> pa.Table:
    rows = pa.concat_tables([PREDICTION_SCORES.to_arrow().empty_table(), *parts])
    if rows.num_rows:
        window = f"score-signals/prediction_scores/{timeframe}/{key_hash(rows)}"
        run.append("prediction_scores", rows, window=window)
    return rows


def key_hash(scores: pa.Table) -> str:
    """Return the logical window of a set of scores: the hash of its keys."""
    keys = scores.select(["prediction_id", "horizon"]).sort_by(
        [("prediction_id", "ascending"), ("horizon", "ascending")]
    )
    horizon = keys["horizon"].cast(pa.string())
    digest = hashlib.sha256()
    lines = pc.binary_join_element_wise(keys["prediction_id"], horizon, "/")
    for number, chunk in enumerate(lines.chunks):
        text = "\n".join(chunk.to_pylist())
        digest.update((("\n" if number else "") + text).encode())
    return digest.hexdigest()
