"""Judge the skill of every model from its settled forecasts."""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from flows.runs import Run
from lab.scoring.court import judge
from lab.scoring.judged import NEEDED


def compute_verdicts(
    run: Run, *, timeframe: str, now: datetime, fresh: pa.Table | None = None
) -> pa.Table:
    """Return the verdicts as of `now`; nothing is written.

    Parameters
    ----------
    run : Run
        Where to read.
    timeframe : str
        `1h` or `1d`.
    now : datetime
        Decision time.
    fresh : pyarrow.Table, optional
        Scores that this run made, which the version it reads does not hold.
    """
    columns = list(NEEDED)
    scores = run.read(
        "prediction_scores",
        columns=columns,
        filter=pc.field("timeframe") == timeframe,
    )
    if fresh is not None and fresh.num_rows:
        scores = pa.concat_tables([scores, fresh.select(columns)])
    instruments = run.read("instruments", columns=["symbol", "asset_class"])
    classes = dict(
        zip(
            instruments["symbol"].to_pylist(),
            instruments["asset_class"].to_pylist(),
            strict=True,
        )
    )
    return judge(
        scores,
        timeframe=timeframe,
        asset_classes=classes,
        as_of=now,
        judged_at=run.now,
        run_id=run.run_id,
    )


def keep_verdicts(run: Run, verdicts: pa.Table) -> str:
    """Keep verdicts unless newer ones are kept already; return one line."""
    cells = verdicts.filter(pc.equal(verdicts["scope"], "symbol"))
    if cells.num_rows == 0:
        return "no forecast to judge"
    n_judged = cells.num_rows - cells["has_skill"].null_count
    n_skilled = pc.sum(cells["has_skill"]).as_py() or 0
    run.count("cells_judged", n_judged)
    run.count("cells_with_skill", n_skilled)
    told = (
        f"skill in {n_skilled} of {n_judged} judged cells, {cells.num_rows} in all"
        if n_judged
        else f"none of {cells.num_rows} cells has enough settled forecasts to judge"
    )
    timeframe, moment = verdicts["timeframe"][0], verdicts["judged_as_of"][0]
    stored = run.read(
        "skill_verdicts",
        columns=["judged_as_of"],
        filter=pc.field("timeframe") == timeframe,
    )
    newest = pc.max(stored["judged_as_of"])
    if newest.is_valid and newest.as_py() > moment.as_py():
        run.notes.append(
            f"verdicts as of {newest.as_py():%Y-%m-%d %H:%M} are newer and stay"
        )
        return told
    run.upsert("skill_verdicts", verdicts)
    return told
