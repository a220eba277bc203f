"""What registered models said of orders, and what came of them.

Every new order is put to the champion and to the challenger; the rows of
`model_predictions` are what drift and comparisons look at. A version is only asked
about orders that were decided after the newest label it knows.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.calibration_weeks import calibrate_weeks
from flows.bodies.model_registry import ModelVersion, load_files, read_registry
from flows.runs import Run
from lab.arrays import FloatArray, TimeArray
from lab.bars.timeframes import to_instant
from lab.errors import FeatureError, ModelError
from lab.learning.bundle import Predictor, load_predictor
from lab.learning.winprob import base_rates, frozen_features, take_order
from lakehouse.clock import parse_moment
from lakehouse.errors import RefusedError
from lakehouse.schema.lifecycle import MODEL_PREDICTIONS

MODEL: Final = "winprob"
TABLE: Final = "model_predictions"
_CLOSED: Final = ("order_id", "origin", "exit_ts", "costs", "pnl_net")
_LIVE: Final = "live"
_US: Final = pa.timestamp("us")


@dataclass(frozen=True, slots=True)
class Standing:
    """A registered version that is asked.

    Attributes
    ----------
    version : ModelVersion
        Champion or challenger.
    predictor : Predictor
        Its files, proven by hash.
    known_until : datetime64[us]
        Newest label it knows.
    """

    version: ModelVersion
    predictor: Predictor
    known_until: np.datetime64


def standing_models(run: Run, model: str = MODEL) -> list[Standing]:
    """Return the champion and the newest challenger, as far as there are any.

    Parameters
    ----------
    run : Run
        Where the registry is; a version whose files are not those registered is left
        out, which a note says.
    model : str
        Registered model.
    """
    registry = read_registry(run.workplace.lake)
    found = []
    for one in (registry.champion(model), registry.challenger(model)):
        if one is None:
            continue
        try:
            predictor = load_predictor(load_files(run.workplace.lake, one))
        except (RefusedError, ModelError) as error:
            run.count("models_refused", 1)
            run.notes.append(f"{model} {one.version} is not asked: {error}")
            continue
        cutoff = parse_moment(str(one.manifest["cutoff"]), what="cutoff")
        found.append(Standing(one, predictor, to_instant(cutoff)))
    return found


def predict_orders(run: Run, orders: pa.Table, *, origin: str) -> None:
    """Put orders to the standing versions, each once, and keep what they say.

    Parameters
    ----------
    run : Run
        Where to read and write.
    orders : pyarrow.Table
        Rows of `bot_orders`, newly opened; others of them may be closed already.
    origin : str
        `live`, `replay` or `backfill`, as the orders'.

    Notes
    -----
    Point in time: features are those frozen at entry, `as_of` is the order's
    `decided_at`. A version whose newest label was not known before an order's decision
    is not asked about it: what closed at that very moment closed at the same opens.
    """
    if orders.num_rows == 0:
        return
    for one in standing_models(run):
        fresh = _not_stored(run, orders, one.version.version, origin)
        rows = _said(run, fresh, one, origin)
        if not rows:
            continue
        table = pa.Table.from_pylist(rows, schema=MODEL_PREDICTIONS.to_arrow())
        ids = [row["subject_id"] for row in rows]
        run.append(TABLE, table, window=_window(one.version, origin, ids))
        run.count("orders_predicted", len(rows))


def _not_stored(run: Run, orders: pa.Table, version: str, origin: str) -> pa.Table:
    # At the newest version of the table: this run may have written to it.
    lake = run.workplace.lake
    ids = orders["order_id"].to_pylist()
    stored = lake.read(
        TABLE,
        columns=["subject_id"],
        filter=(pc.field("model_name") == MODEL)
        & (pc.field("version") == version)
        & (pc.field("origin") == origin)
        & pc.field("subject_id").isin(ids),
    )["subject_id"]
    return orders.filter(pc.invert(pc.is_in(orders["order_id"], stored)))


def _said(
    run: Run, orders: pa.Table, one: Standing, origin: str
) -> list[dict[str, Any]]:
    decided = orders["decided_at"].cast(_US).to_numpy()
    names = set(one.predictor.names)
    frozen = frozen_features(orders)
    fits = np.array([row.keys() == names for row in frozen], dtype=bool)
    is_new = decided > one.known_until
    if n_odd := int((~fits & is_new).sum()):
        run.notes.append(
            f"{MODEL} {one.version.version}: {n_odd} orders hold other features"
        )
    kept = np.flatnonzero(fits & is_new)
    if len(kept) == 0:
        return []
    chosen = orders.take(kept)
    try:
        values = one.predictor.schema.matrix([frozen[place] for place in kept])
    except FeatureError as error:
        raise RefusedError(f"table bot_orders: {error}") from error
    rows = _rows(one, chosen, decided[kept], values)
    return [{**row, "origin": origin, "run_id": run.run_id} for row in rows]


def _rows(
    one: Standing, orders: pa.Table, as_of: TimeArray, values: FloatArray
) -> list[dict[str, Any]]:
    scores = one.predictor.scores(values)
    columns = (
        orders.select(["order_id", "symbol", "timeframe"]).to_pylist(),
        as_of.tolist(),
        one.predictor.predictions(values).tolist(),
        scores.tolist(),
        nullable(values),
        one.predictor.is_novel(values).tolist(),
    )
    return [
        {
            "model_name": MODEL,
            "version": one.version.version,
            "subject_id": order["order_id"],
            "symbol": order["symbol"],
            "timeframe": order["timeframe"],
            "as_of": moment.replace(tzinfo=UTC),
            "prediction": chance,
            "score": score,
            "features": row,
            "schema_sha256": one.predictor.schema_sha256,
            "is_novel": is_novel,
        }
        for order, moment, chance, score, row, is_novel in zip(*columns, strict=True)
    ]


def settle_predictions(run: Run) -> None:
    """Fill in label, outcome and time of predictions whose order was closed.

    An order is acted on where its probability is above the share of wins that was known
    when it was decided; otherwise nothing is earned and nothing paid. When something settled,
    the weeks that are over are measured anew.

    A live prediction is settled only by an order that is `live` still: one that closes
    in replay is live no more, and its prediction, whose own origin says how it was
    made, stays unsettled for good. An unsettled row counts in no comparison, in no
    week of calibration and in no figure of outcomes that drift looks at.

    Parameters
    ----------
    run : Run
        Where to read and write.

    Notes
    -----
    Point in time: orders with `exit_ts` <= the run's now.
    """
    lake = run.workplace.lake
    is_open = (pc.field("model_name") == MODEL) & pc.field("settled_at").is_null()
    waiting = lake.read(TABLE, filter=is_open)
    if waiting.num_rows == 0:
        return
    closed = lake.read(
        "bot_orders",
        columns=list(_CLOSED),
        filter=pc.field("exit_ts") <= pa.scalar(run.now, pa.timestamp("us", "UTC")),
    )
    rows = settled_rows(waiting.to_pylist(), closed)
    if not rows:
        return
    run.upsert(TABLE, pa.Table.from_pylist(rows, schema=MODEL_PREDICTIONS.to_arrow()))
    run.count("predictions_settled", len(rows))
    calibrate_weeks(run)


def settled_rows(
    waiting: Sequence[dict[str, Any]], closed: pa.Table
) -> list[dict[str, Any]]:
    """Return the predictions whose order is among the closed ones, with what came of it.

    Live predictions of orders that are not live are left out.

    Parameters
    ----------
    waiting : sequence of mapping
        Rows of `model_predictions`.
    closed : pyarrow.Table
        Closed orders: `order_id`, `origin`, `exit_ts`, `costs`, `pnl_net`.
    """
    orders = {row["order_id"]: row for row in closed.to_pylist()}
    rows = [row for row in waiting if _may_settle(row, orders.get(row["subject_id"]))]
    if not rows:
        return []
    own = [orders[row["subject_id"]] for row in rows]
    base = known_rates(closed, np.array([to_instant(row["as_of"]) for row in rows]))
    return [
        {
            **row,
            **take_order(
                row["prediction"], rate, pnl=one["pnl_net"], costs=one["costs"]
            ),
            "settled_at": one["exit_ts"],
        }
        for row, one, rate in zip(rows, own, base.tolist(), strict=True)
    ]


def _may_settle(said: Mapping[str, str], order: Mapping[str, str] | None) -> bool:
    return order is not None and (said["origin"] != _LIVE or order["origin"] == _LIVE)


def known_rates(closed: pa.Table, at: TimeArray) -> FloatArray:
    """Return the share of wins among the closed orders known at each moment.

    Parameters
    ----------
    closed : pyarrow.Table
        Closed orders: `exit_ts`, `pnl_net`.
    at : ndarray of shape (n,), datetime64[us]
        Moments.
    """
    pnl = np.asarray(closed["pnl_net"].to_numpy(), dtype=np.float64)
    return base_rates(
        at,
        settled_at=closed["exit_ts"].cast(_US).to_numpy(),
        label=(pnl > 0).astype(np.float64),
    )


def nullable(values: FloatArray) -> list[list[float | None]]:
    """Return rows as lists; what is unknown is None, as tables hold it."""
    rows: list[list[float | None]] = values.astype(object).tolist()
    for row, column in np.argwhere(np.isnan(values)).tolist():
        rows[row][column] = None
    return rows


def _window(version: ModelVersion, origin: str, ids: Sequence[str]) -> str:
    digest = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:32]
    return f"{MODEL}/{TABLE}/{version.version}/{origin}/{digest}"
