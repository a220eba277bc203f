"""What registered models of forward returns say of new bars, and what came of it.

Every decision bar since the newest one that was put to a version is put to it, champion
and challenger alike, in rows of `model_predictions`: what drift and comparisons read. A
version is only asked about bars that were known after the newest label it knows.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.market_panel import open_panel
from flows.bodies.moments import decision_moment
from flows.bodies.order_predictions import Standing, nullable, standing_models
from flows.bodies.paper_state import complete_rows, see
from flows.runs import Run
from lab.arrays import FloatArray
from lab.backtest.panel import AlignedPanel
from lab.bars.timeframes import to_moment
from lab.learning.config import TrainingConfig
from lab.learning.feature_sets import BAR_FEATURES
from lab.learning.forward_returns import (
    Bar,
    decision_bars,
    forward_samples,
    subject_ids,
)
from lab.learning.metrics import acted
from lab.learning.samples import Samples
from lab.paper.origins import Witness, origin_of
from lakehouse.schema.lifecycle import MODEL_PREDICTIONS

TABLE: Final = "model_predictions"
YEARS: Final = 0.25
"""Of decision bars that are looked at; older ones that nobody predicted stay so."""


@dataclass(frozen=True, slots=True)
class _Market:
    timeframe: str
    panel: AlignedPanel
    features: FloatArray
    witness: Witness

    @property
    def model_name(self) -> str:
        return f"gbm-{self.timeframe}"


def run_predict_bars(
    run: Run, *, timeframe: str = "1d", as_of: str | None = None
) -> str:
    """Settle earlier predictions of `gbm-<timeframe>` and put new bars to it.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1d` or `1h`.
    as_of : str, optional
        Use only what was known then; now if not given.

    Raises
    ------
    InputError
        If `as_of` is not a time or later than now, or there are no bars.

    Notes
    -----
    Point in time: features of bars known by `as_of`, on rows at which every market had
    closed. Only what is decided while its bar is news is `live`.
    """
    limit = decision_moment(run, as_of)
    standing = standing_models(run, f"gbm-{timeframe}")
    panel = open_panel(run, timeframe=timeframe, as_of=limit.isoformat(), years=YEARS)
    panel = panel.until(complete_rows(panel, limit))
    if panel.n_obs == 0:
        return f"gbm-{timeframe}: no complete row of bars by {limit.isoformat()}"
    market = _Market(timeframe, panel, BAR_FEATURES.compute(panel), see(run, panel))
    costs = {one.version.version: _round_trip(one.predictor.config) for one in standing}
    n_settled = _settle(run, market, costs)
    n_new = sum(_predict(run, market, one) for one in standing)
    if not standing:
        return f"gbm-{timeframe}: no version in use, {n_settled} settled"
    return f"gbm-{timeframe}: {n_new} bars predicted, {n_settled} settled"


def _predict(run: Run, market: _Market, one: Standing) -> int:
    if one.predictor.schema_sha256 != BAR_FEATURES.sha256:
        run.notes.append(
            f"{market.model_name} {one.version.version}: trained on other features"
        )
        return 0
    bars = _new_bars(run, market, one)
    if len(bars.row) == 0:
        return 0
    rows = _rows(market, one, bars, run.run_id)
    table = pa.Table.from_pylist(rows, schema=MODEL_PREDICTIONS.to_arrow())
    ids = "\n".join(sorted(f"{row['origin']}/{row['subject_id']}" for row in rows))
    digest = hashlib.sha256(ids.encode()).hexdigest()[:32]
    window = f"{market.model_name}/{TABLE}/{one.version.version}/{digest}"
    run.append(TABLE, table, window=window)
    run.count("bars_predicted", len(rows))
    return len(rows)


def _new_bars(run: Run, market: _Market, one: Standing) -> Bar:
    # After the newest label the version knows, of the window, not stored whatever origin.
    panel = market.panel
    bars = decision_bars(panel)
    begin = panel.known_ts[-1] - np.timedelta64(int(YEARS * 365.25), "D")
    known = panel.known_ts[bars.row]
    stored = _stored(run, market.model_name, one.version.version)
    ids = subject_ids(panel, bars.row, bars.asset)
    is_new = np.array([name not in stored for name in ids], dtype=np.bool_)
    kept = is_new & (known >= one.known_until) & (known > begin)
    return Bar(bars.row[kept], bars.asset[kept], bars.volatility[kept])


def _stored(run: Run, model_name: str, version: str) -> set[str]:
    # At the newest version of the table: this run may have written to it.
    found = run.workplace.lake.read(
        TABLE,
        columns=["subject_id"],
        filter=(pc.field("model_name") == model_name)
        & (pc.field("version") == version)
        & (pc.field("origin") != "out_of_fold"),
    )
    return set(found["subject_id"].to_pylist())


def _rows(
    market: _Market, one: Standing, bars: Bar, run_id: str
) -> list[dict[str, Any]]:
    panel = market.panel
    table = market.features[bars.row, bars.asset]
    columns = (
        subject_ids(panel, bars.row, bars.asset),
        [panel.symbols[asset] for asset in bars.asset.tolist()],
        [to_moment(known) for known in panel.known_ts[bars.row]],
        one.predictor.predictions(table).tolist(),
        one.predictor.scores(table).tolist(),
        nullable(table),
        one.predictor.is_novel(table).tolist(),
    )
    return [
        {
            "model_name": market.model_name,
            "version": one.version.version,
            "origin": origin_of(known, market.witness, timeframe=market.timeframe),
            "subject_id": subject,
            "symbol": symbol,
            "timeframe": market.timeframe,
            "as_of": known,
            "prediction": value,
            "score": score,
            "features": features,
            "schema_sha256": one.predictor.schema_sha256,
            "is_novel": is_novel,
            "run_id": run_id,
        }
        for subject, symbol, known, value, score, features, is_novel in zip(
            *columns, strict=True
        )
    ]


def _settle(run: Run, market: _Market, costs: Mapping[str, float]) -> int:
    waiting = run.workplace.lake.read(
        TABLE,
        filter=(pc.field("model_name") == market.model_name)
        & pc.field("settled_at").is_null(),
    ).to_pylist()
    if not waiting:
        return 0
    panel = market.panel
    blank = np.zeros((panel.n_obs, panel.n_assets, 0))
    rows = settled_rows(waiting, forward_samples(panel, blank, ()), costs=costs)
    if rows:
        schema = MODEL_PREDICTIONS.to_arrow()
        run.upsert(TABLE, pa.Table.from_pylist(rows, schema=schema))
    run.count("predictions_settled", len(rows))
    return len(rows)


def settled_rows(
    waiting: Sequence[dict[str, Any]], samples: Samples, *, costs: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the predictions whose horizon has passed, with what came of them.

    Parameters
    ----------
    waiting : sequence of mapping
        Rows of `model_predictions`.
    samples : Samples
        Settled rows of the panel, see `forward_samples`.
    costs : mapping of str to float
        Of a round trip, by version, share of the stake; the default settings' for a
        version that is no longer in use.
    """
    place = {one: row for row, one in enumerate(samples.subject_id.tolist())}
    found = [row for row in waiting if row["subject_id"] in place]
    if not found:
        return []
    rows = np.array([place[row["subject_id"]] for row in found])
    scores = np.array([row["score"] for row in found])
    usual = _round_trip(TrainingConfig())
    paid = np.array([costs.get(row["version"], usual) for row in found])
    earned = acted(scores, samples.outcome[rows], 0.0, cost=0.0) - paid
    figures = zip(
        found,
        samples.label[rows].tolist(),
        earned.tolist(),
        paid.tolist(),
        [to_moment(one) for one in samples.end[rows]],
        strict=True,
    )
    return [
        {
            **row,
            "label": label,
            "outcome": profit if np.isfinite(profit) else 0.0,
            "costs": cost if np.isfinite(profit) else 0.0,
            "settled_at": settled,
        }
        for row, label, profit, cost, settled in figures
    ]


def _round_trip(config: TrainingConfig) -> float:
    return 2.0 * config.cost_bps / 10_000.0
