"""Give every stored forecast its conformal band."""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.events import currencies_of
from flows.progress import track
from flows.runs import Run
from lab.bars.timeframes import HORIZONS, step
from lab.forecasters.conformal import ConformalParameters
from lab.forecasters.conformal_rows import (
    FORECAST_COLUMNS,
    GIVEN_COLUMNS,
    SCORE_COLUMNS,
    BandInputs,
    band_rows,
)
from lab.forecasters.scheduled import ScheduledReleases
from lakehouse.schema.bands import CONFORMAL_BANDS

BATCH_FORECASTS = 5000
_CALENDAR_COLUMNS = (
    "ts",
    "currency",
    "event_type",
    "importance",
    "scheduled_known_ts",
)


def calibrate_bands(
    run: Run,
    *,
    timeframe: str,
    fresh: pa.Table | None = None,
    now: datetime | None = None,
) -> str:
    """Make the bands of all forecasts that have none, oldest decision time first.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1h` or `1d`.
    fresh : pyarrow.Table, optional
        Scores that this run made, which the version it reads does not hold.
    now : datetime, optional
        What has settled is scored up to here: later forecasts wait for their bands. The
        run's clock if not given.

    Raises
    ------
    BarsError
        If the timeframe is neither `1h` nor `1d`.

    Notes
    -----
    Point in time: a band uses scores with `known_ts` <= its forecast's `as_of` only. It
    is made once: scores that were late, or forecasts that were, change no band that was
    given. So score before this: what had settled but was not scored does not count.
    """
    step(timeframe)
    run.parameters |= {"timeframe": timeframe}
    n_rows = sum(
        _keep(run, rows, timeframe)
        for rows in compute_bands(
            run, timeframe=timeframe, fresh=fresh, now=now or run.now
        )
    )
    if n_rows == 0:
        return f"{timeframe}: every forecast has its band"
    return f"{timeframe}: {n_rows} bands written"


def calibrate_forecasts(run: Run, forecasts: pa.Table, *, timeframe: str) -> None:
    """Give forecasts of one decision time, just made, their bands.

    Parameters
    ----------
    run : Run
        Where to read and write.
    forecasts : pyarrow.Table
        Rows of `ml_predictions`, at least one.
    timeframe : str
        Theirs.

    Notes
    -----
    Point in time: a band uses scores with `known_ts` <= the forecasts' `as_of` only.
    """
    parameters = ConformalParameters()
    first = pc.min(forecasts["as_of"]).as_py()
    rows = band_rows(
        forecasts.select(list(FORECAST_COLUMNS)),
        _inputs(run, timeframe, first=first),
        timeframe=timeframe,
        run_id=run.run_id,
        parameters=parameters,
    )
    _keep(run, rows, timeframe)


def _keep(run: Run, rows: pa.Table, timeframe: str) -> int:
    # A batch and a scoring may overlap: the band that was given first stays.
    if rows.num_rows == 0:
        return 0
    given = run.workplace.lake.read(
        "conformal_bands",
        columns=["prediction_id"],
        filter=(pc.field("as_of") >= pc.min(rows["as_of"]))
        & (pc.field("as_of") <= pc.max(rows["as_of"])),
    )["prediction_id"].combine_chunks()
    rows = rows.filter(pc.invert(pc.is_in(rows["prediction_id"], value_set=given)))
    if rows.num_rows == 0:
        return 0
    window = f"calibrate/conformal_bands/{timeframe}/{_ids_hash(rows)}"
    written = run.append("conformal_bands", rows, window=window).n_rows
    run.count("bands", written)
    return written


def compute_bands(
    run: Run, *, timeframe: str, now: datetime, fresh: pa.Table | None = None
) -> Iterator[pa.Table]:
    """Yield the bands that are missing, in batches of decision times; nothing is written.

    Parameters
    ----------
    run : Run
        Where to read.
    timeframe : str
        `1h` or `1d`.
    now : datetime
        No band of a forecast made later.
    fresh : pyarrow.Table, optional
        Scores that the run made, which the version it reads does not hold.
    """
    batches = _missing(run, timeframe, now)
    if not batches:
        return
    parameters = ConformalParameters()
    inputs = _inputs(run, timeframe, first=batches[0]["as_of"][0].as_py(), fresh=fresh)
    given = [inputs.given]
    for batch in track(batches, f"calibrate {timeframe}", total=len(batches)):
        forecasts = run.read(
            "ml_predictions",
            columns=FORECAST_COLUMNS,
            filter=(pc.field("timeframe") == timeframe)
            & (pc.field("as_of") >= batch["as_of"][0])
            & (pc.field("as_of") <= batch["as_of"][-1])
            & pc.field("prediction_id").isin(batch["prediction_id"].combine_chunks()),
        )
        rows = band_rows(
            forecasts,
            BandInputs(
                inputs.scores,
                pa.concat_tables(given),
                inputs.releases,
                inputs.asset_classes,
            ),
            timeframe=timeframe,
            run_id=run.run_id,
            parameters=parameters,
        )
        given.append(rows.select(list(GIVEN_COLUMNS)))
        yield rows


def _missing(run: Run, timeframe: str, now: datetime) -> list[pa.Table]:
    # Ids and decision times of forecasts without a band, whole decision times a batch.
    is_wanted = pc.field("timeframe") == timeframe
    done = run.read("conformal_bands", columns=["prediction_id"], filter=is_wanted)
    until = pa.scalar(now, CONFORMAL_BANDS.column("as_of").dtype)
    stored = run.read(
        "ml_predictions",
        columns=["prediction_id", "as_of"],
        filter=is_wanted & (pc.field("as_of") <= until),
    )
    is_done = pc.is_in(
        stored["prediction_id"], value_set=done["prediction_id"].combine_chunks()
    )
    missing = stored.filter(pc.invert(is_done)).sort_by(
        [("as_of", "ascending"), ("prediction_id", "ascending")]
    )
    if missing.num_rows == 0:
        return []
    as_of = missing["as_of"].cast(pa.int64()).to_numpy()
    begins = np.flatnonzero(np.append(True, as_of[1:] != as_of[:-1]))
    batches, start = [], 0
    for begin in [*begins[1:].tolist(), missing.num_rows]:
        if begin - start >= BATCH_FORECASTS or begin == missing.num_rows:
            batches.append(missing.slice(start, begin - start))
            start = begin
    return batches


def _inputs(
    run: Run, timeframe: str, *, first: datetime, fresh: pa.Table | None = None
) -> BandInputs:
    # What bands from the decision time `first` on may look at.
    longest = step(timeframe) * max(HORIZONS[timeframe])
    window = int(ConformalParameters().window(longest).astype(np.int64))
    begin = pa.scalar(
        first - timedelta(microseconds=window), CONFORMAL_BANDS.column("as_of").dtype
    )
    is_wanted = pc.field("timeframe") == timeframe
    is_label = (pc.field("known_ts") > begin) & pc.field("is_in_skill")
    scores = run.read(
        "prediction_scores", columns=SCORE_COLUMNS, filter=is_wanted & is_label
    )
    if fresh is not None and fresh.num_rows:
        scores = pa.concat_tables(
            [scores, fresh.filter(is_label).select(list(SCORE_COLUMNS))]
        )
    given = run.read(
        "conformal_bands",
        columns=GIVEN_COLUMNS,
        filter=is_wanted
        & pc.field("prediction_id").isin(pc.unique(scores["prediction_id"])),
    )
    instruments = run.read("instruments").to_pylist()
    return BandInputs(
        scores,
        given,
        read_schedule(run),
        {row["symbol"]: row["asset_class"] for row in instruments},
    )


def read_schedule(run: Run) -> ScheduledReleases:
    """Read the calendar's dates, each for the symbols whose currency it concerns."""
    return ScheduledReleases.from_table(
        run.read("economic_calendar", columns=_CALENDAR_COLUMNS),
        {
            row["symbol"]: currencies_of(row["symbol"], row["currency"])
            for row in run.read("instruments").to_pylist()
        },
    )


def _ids_hash(rows: pa.Table) -> str:
    text = "\n".join(sorted(rows["prediction_id"].to_pylist()))
    return hashlib.sha256(text.encode()).hexdigest()
