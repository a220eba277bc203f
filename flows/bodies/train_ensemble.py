"""Train the ensemble's weights from settled scores, one checkpoint per asset class."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.calibrate import read_schedule
from flows.bodies.ensemble import ensemble_name, forecast_ensemble
from flows.bodies.moments import decision_moment
from flows.checkpoints.store import CheckpointStore
from flows.runs import Run
from lab.bars.timeframes import step
from lab.errors import TrainingError
from lab.forecasters.ensemble import NAME
from lab.forecasters.ensemble_features import (
    SCORE_COLUMNS,
    EnsembleContext,
    MemberRows,
    RegimeCalls,
)
from lab.forecasters.ensemble_training import (
    YEARS,
    EnsembleParameters,
    LabelledRows,
    fit_ensemble,
)

CUTS: Final = (0.5, 0.75)
"""Where a backfill trains: shares of the decision times that came before."""


def train_ensemble(
    run: Run, *, timeframe: str, as_of: str | None = None, seed: int = 0
) -> str:
    """Train a checkpoint for every asset class that has enough settled scores.

    Parameters
    ----------
    run : Run
        Where to read; checkpoints go under its lake's root.
    timeframe : str
        `1h` or `1d`.
    as_of : str, optional
        Training time; the clock's now if not given.
    seed : int
        Of the boosting.

    Raises
    ------
    InputError
        If `as_of` is not a time, or later than now.

    Notes
    -----
    Point in time: only scores with `known_ts` <= `as_of`, in skill, of the two years
    before. The card's cut-off is the newest of them: earlier decision times are not
    forecast with it.
    """
    step(timeframe)
    moment = decision_moment(run, as_of)
    run.parameters |= {"timeframe": timeframe, "as_of": moment.isoformat()}
    run.seeds["ensemble"] = seed
    classes = {
        row["symbol"]: row["asset_class"] for row in run.read("instruments").to_pylist()
    }
    rows = MemberRows.from_scores(
        _scores(run, timeframe, moment), classes, timeframe=timeframe
    )
    context = EnsembleContext(
        read_schedule(run), RegimeCalls.from_table(run.read("regimes"))
    )
    labelled = LabelledRows.of(rows, context, as_of=moment)
    saved = [
        line
        for asset_class in sorted(set(rows.asset_class.tolist()))
        if (
            line := _train_one(
                run,
                labelled,
                asset_class,
                timeframe=timeframe,
                moment=moment,
                seed=seed,
            )
        )
    ]
    run.count("checkpoints", len(saved))
    if not saved:
        return f"ensemble {timeframe}: no asset class has enough settled scores"
    return f"ensemble {timeframe}: {'; '.join(saved)}"


def backfill_ensemble(run: Run, *, timeframe: str, seed: int = 0) -> str:
    """Train as of past moments and forecast what came after them, in order.

    The stored decision times are cut at a half and three quarters; those up to the
    first cut are combined with equal weights.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1h` or `1d`.
    seed : int
        Of the boosting and the forecasts' identity.

    Notes
    -----
    Point in time: each decision time is forecast with weights that knew nothing later.
    """
    stored = run.read(
        "ml_predictions",
        columns=["as_of"],
        filter=(pc.field("timeframe") == timeframe) & (pc.field("model_name") != NAME),
    )
    moments = sorted(pc.unique(stored["as_of"]).to_pylist())
    if not moments:
        return f"ensemble {timeframe}: no stored forecast to combine"
    cuts = sorted({moments[int(share * len(moments))] for share in CUTS})
    lines = [
        train_ensemble(run, timeframe=timeframe, as_of=cut.isoformat(), seed=seed)
        for cut in cuts
    ]
    lines.append(
        forecast_ensemble(
            run, timeframe=timeframe, as_ofs=moments, seed=seed, is_backfill=True
        )
    )
    return "; ".join(lines)


def _scores(run: Run, timeframe: str, moment: datetime) -> pa.Table:
    kind = pa.timestamp("us", tz="UTC")
    begin = moment - timedelta(days=YEARS * 365.25)
    return run.read(
        "prediction_scores",
        columns=SCORE_COLUMNS,
        filter=(pc.field("timeframe") == timeframe)
        & (pc.field("model_name") != NAME)
        & pc.field("is_in_skill")
        & (pc.field("known_ts") <= pa.scalar(moment, kind))
        & (pc.field("as_of") > pa.scalar(begin, kind)),
    )


def _train_one(
    run: Run,
    labelled: LabelledRows,
    asset_class: str,
    *,
    timeframe: str,
    moment: datetime,
    seed: int,
) -> str | None:
    try:
        trained = fit_ensemble(
            labelled,
            asset_class=asset_class,
            parameters=replace(EnsembleParameters(), seed=seed),
        )
    except TrainingError as error:
        run.notes.append(f"ensemble {timeframe}: not trained: {error}")
        return None
    card = {
        **trained.card,
        "as_of": moment.isoformat(),
        "timeframe": timeframe,
        "created_at": run.now.isoformat(),
        "run_id": run.run_id,
    }
    saved = CheckpointStore(run.workplace.root).save(
        ensemble_name(asset_class, timeframe), trained.files, card
    )
    found = trained.card["validation"]
    figures = (
        f" (loss {found['ensemble']:.4f}, equal {found['equal']:.4f},"
        f" {found['best_single_model']} {found['best_single']:.4f})"
        if found["n_rows"]
        else ""
    )
    return f"{asset_class} {saved.version[:8]}{figures}"
