"""How well signals' probabilities held, week by week: `signal_calibration`.

Win probabilities are those of the version that spoke at an order's entry: the champion
of that moment, else the newest challenger. The other signals say no probability; of
them a week holds how many decisions settled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.model_registry import Registry, read_chain
from flows.runs import Run
from lab.learning.winprob import (
    WEEKS,
    Week,
    base_rates,
    week_of,
    weekly_calibration,
    weeks_running,
)
from lakehouse.query import Session
from lakehouse.schema.artefacts import CALIBRATION
from lakehouse.schema.lifecycle import ORIGINS, SIGNAL_CALIBRATION
from lakehouse.store import Lake

SIGNAL: Final = "winprob"
TABLE: Final = "signal_calibration"
_US: Final = pa.timestamp("us")
_WEEK: Final = timedelta(days=7)


def calibrate_weeks(run: Run) -> None:
    """Measure every week that is over and was not measured yet, and write its row.

    Parameters
    ----------
    run : Run
        Where to read and write.

    Notes
    -----
    Point in time: a week is written once it is over, of decisions that settled in it;
    base rates count orders closed by each entry. Orders that are backfilled later change
    no week; a run that catches up late may add decisions to one of its own origin, which
    is then measured anew.
    """
    lake = run.workplace.lake
    found = [*_probabilities(run, lake), *_counts(run, lake)]
    stored = {_key(row): row["n_settled"] for row in lake.read(TABLE).to_pylist()}
    fresh = [row for row in found if stored.get(_key(row)) != row["n_settled"]]
    if fresh:
        rows = [{**row, "run_id": run.run_id} for row in fresh]
        run.upsert(
            TABLE, pa.Table.from_pylist(rows, schema=SIGNAL_CALIBRATION.to_arrow())
        )
        run.count("weeks_calibrated", len(fresh))
    won = live_weeks_running(lake, as_of=run.now)
    if won is not None:
        run.notes.append(f"{SIGNAL}: {won} of {WEEKS} weeks running won, live")


def live_weeks_running(lake: Lake, *, as_of: datetime) -> int | None:
    """Return how many weeks in a row live probabilities beat the base rate.

    Parameters
    ----------
    lake : Lake
        Where `signal_calibration` is.
    as_of : datetime
        Decision time.

    Returns
    -------
    int or None
        None while no live order ever settled.

    Notes
    -----
    Point in time: weeks that were over at `as_of`.
    """
    is_live = (pc.field("signal") == SIGNAL) & (pc.field("origin") == "live")
    rows = lake.read(TABLE, filter=is_live).to_pylist()
    weeks = [one for row in rows if (one := week_of(row)) is not None]
    return weeks_running(weeks, as_of=as_of) if weeks else None


def calibration(session: Session) -> pa.Table:
    """Return the weekly calibration of every signal, as it is published.

    Parameters
    ----------
    session : Session
        Pinned versions of the lake.

    Returns
    -------
    pyarrow.Table
        With the schema of `artefact_calibration`.
    """
    schema = CALIBRATION.to_arrow()
    rows = session.sql("SELECT * FROM signal_calibration").arrow()
    return rows.select(schema.names).cast(schema)


def _probabilities(run: Run, lake: Lake) -> list[dict[str, Any]]:
    is_settled = (pc.field("model_name") == SIGNAL) & pc.field("settled_at").is_valid()
    columns = [
        *("version", "origin", "subject_id", "as_of"),
        *("prediction", "label", "settled_at"),
    ]
    rows = lake.read("model_predictions", columns=columns, filter=is_settled)
    rows = rows.filter(pc.is_in(rows["origin"], pa.array(ORIGINS)))
    if rows.num_rows == 0:
        return []
    rows = rows.filter(_has_spoken(rows, _speakers(read_chain(lake).to_pylist())))
    closed = lake.read(
        "bot_orders",
        columns=["exit_ts", "pnl_net"],
        filter=pc.field("exit_ts").is_valid(),
    )
    rates = base_rates(
        _instants(rows["as_of"]),
        settled_at=_instants(closed["exit_ts"]),
        label=(closed["pnl_net"].to_numpy() > 0).astype(np.float64),
    )
    found = []
    for origin in ORIGINS:
        chosen = pc.equal(rows["origin"], origin)
        part = rows.filter(chosen)
        weeks = weekly_calibration(
            probability=part["prediction"].to_numpy(),
            label=part["label"].to_numpy(),
            base_rate=rates[chosen.to_numpy()],
            settled_at=_instants(part["settled_at"]),
            until=run.now,
        )
        found += [_row(one, origin) for one in weeks]
    return found


def _row(week: Week, origin: str) -> dict[str, Any]:
    return {"signal": SIGNAL, "origin": origin, **asdict(week)}


def _speakers(chain: Sequence[Mapping[str, Any]]) -> list[tuple[datetime, str | None]]:
    # Who spoke from each of the chain's moments on.
    registry, found = Registry(), []
    for event in chain:
        registry = registry.after(event)
        one = registry.champion(SIGNAL) or registry.challenger(SIGNAL)
        version = None if one is None else one.version
        found.append((event["decided_at"], version))
    return found


def _has_spoken(
    rows: pa.Table, speakers: Sequence[tuple[datetime, str | None]]
) -> pa.Array:
    moments = np.array(
        [moment.replace(tzinfo=None) for moment, _ in speakers], "datetime64[us]"
    )
    # The chain's order decides, whatever the clocks of its writers said.
    moments = np.maximum.accumulate(moments) if len(moments) else moments
    place = np.searchsorted(moments, _instants(rows["as_of"]), side="right")
    names = [None, *(version for _, version in speakers)]
    own = rows["version"].to_pylist()
    return pa.array(
        [names[i] == version for i, version in zip(place.tolist(), own, strict=True)]
    )


def _counts(run: Run, lake: Lake) -> list[dict[str, Any]]:
    rows = lake.read(
        "bot_shadow_decisions",
        columns=["signal", "origin", "settled_at"],
        filter=pc.field("settled_at").is_valid() & (pc.field("signal") != SIGNAL),
    )
    if rows.num_rows == 0:
        return []
    # Weeks of Monday, 00:00 UTC.
    week = pc.floor_temporal(rows["settled_at"], unit="week", week_starts_monday=True)
    grouped = (
        rows.append_column("week", week)
        .group_by(["signal", "week", "origin"], use_threads=False)
        .aggregate([("settled_at", "count")])
    )
    return [
        {
            "signal": row["signal"],
            "week": row["week"],
            "origin": row["origin"],
            "n_settled": row["settled_at_count"],
        }
        for row in grouped.to_pylist()
        if row["week"] + _WEEK <= run.now
    ]


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (row["signal"], row["week"], row["origin"])


def _instants(column: pa.ChunkedArray) -> Any:
    return column.cast(_US).to_numpy()
