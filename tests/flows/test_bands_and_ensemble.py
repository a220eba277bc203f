"""Bands and the ensemble by plain bodies: made once, from what was known."""

import json

import numpy as np
import pyarrow.compute as pc
import pytest

from flows.bodies.calibrate import calibrate_bands, calibrate_forecasts
from flows.bodies.ensemble import forecast_ensemble
from flows.bodies.forecast import forecast_closes
from flows.bodies.ingest import ingest_bars
from flows.bodies.score import score_settled
from flows.bodies.train_ensemble import backfill_ensemble, train_ensemble
from flows.checkpoints.store import CheckpointStore
from flows.runs import Run
from flows.wiring import Workplace
from lakehouse.errors import InputError
from lakehouse.query import connect
from tests.flows.conftest import run_plainly
from tests.simulators.lakehouse import rows_of


def forecast(days: int, *, model: str = "naive,seasonal", every: int = 5) -> str:
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    return run_plainly(
        "forecast",
        forecast_closes,
        model=model,
        timeframe="1d",
        earlier=days,
        every=every,
        samples=2,
    ).message


def score() -> str:
    return run_plainly("score-signals", score_settled, timeframe="1d").message


def test_every_forecast_gets_one_band_made_of_what_had_settled(workplace: Workplace):
    forecast(9)
    score()
    lake = workplace.lake
    bands = lake.read("conformal_bands")
    stored = lake.read("ml_predictions")
    assert rows_of(bands, "prediction_id") == rows_of(stored, "prediction_id")
    first, last = pc.min(bands["as_of"]).as_py(), pc.max(bands["as_of"]).as_py()
    for row in bands.to_pylist():
        if row["as_of"] == first:
            assert row["factors"] == [1.0] * 5
        if row["as_of"] == last:
            assert row["n_labels"][:2] == [9, 9]
            assert row["factors"][0] != 1.0
    again = run_plainly("calibrate", calibrate_bands, timeframe="1d").message
    assert again == "1d: every forecast has its band"
    score()
    assert lake.read("conformal_bands").num_rows == bands.num_rows


def test_bands_wait_for_the_scores_that_they_are_made_of(workplace: Workplace):
    forecast(9)
    stored = workplace.lake.read("ml_predictions")
    moments = sorted(pc.unique(stored["as_of"]).to_pylist())
    early = moments[4].isoformat()
    run_plainly("score-signals", score_settled, timeframe="1d", as_of=early)
    bands = workplace.lake.read("conformal_bands")
    assert sorted(pc.unique(bands["as_of"]).to_pylist()) == moments[:5]
    score()
    last = [
        row
        for row in workplace.lake.read("conformal_bands").to_pylist()
        if row["as_of"] == moments[-1]
    ]
    assert [row["n_labels"][0] for row in last] == [9] * 4


def test_a_band_that_another_run_gave_meanwhile_stays(workplace: Workplace):
    forecast(9)

    def batch(run: Run) -> str:
        stored = run.read("ml_predictions")
        newest = stored.filter(pc.equal(stored["as_of"], pc.max(stored["as_of"])))
        run.read("prediction_scores")  # the version before those of the other run
        score()
        calibrate_forecasts(run, newest, timeframe="1d")
        return "done"

    run_plainly("forecast", batch)
    bands = workplace.lake.read("conformal_bands")
    newest = bands.filter(pc.equal(bands["as_of"], pc.max(bands["as_of"])))
    assert [one[0] for one in newest["n_labels"].to_pylist()] == [9] * 4


def test_sql_shows_how_bands_held_beside_the_models_own(workplace: Workplace):
    forecast(9)
    score()
    with connect(workplace.root) as session:
        rows = session.sql(
            "SELECT * FROM conformal_performance WHERE horizon = 1 ORDER BY 2, 4"
        )
        found = rows.arrow().to_pylist()
    assert [row["symbol"] for row in found] == ["NASDAQ", "SP500", None] * 2
    whole = found[2]
    assert whole["n_scored"] == 18
    assert 0 <= whole["coverage"] <= 1
    assert whole["width_ratio"] > 0
    scores = {
        (row["prediction_id"], row["horizon"]): row
        for row in workplace.lake.read("prediction_scores").to_pylist()
    }
    inside = [
        row["p10"][0] <= scores[row["prediction_id"], 1]["actual"] <= row["p90"][0]
        for row in workplace.lake.read("conformal_bands").to_pylist()
        if row["model_name"] == whole["model_name"]
        and (row["prediction_id"], 1) in scores
    ]
    assert whole["coverage"] == pytest.approx(np.mean(inside))


def test_an_ensemble_of_nothing_says_what_to_run(workplace: Workplace):
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    with pytest.raises(
        InputError, match="no model's forecast is stored as of 2018-09-28"
    ):
        run_plainly("forecast", forecast_ensemble, timeframe="1d")


def test_untrained_members_are_combined_once_with_equal_weights(workplace: Workplace):
    forecast(0)
    told = run_plainly("forecast", forecast_ensemble, timeframe="1d").message
    assert "ensemble 1d: 2 forecasts, 1 as-of up to" in told
    assert "0 with trained weights" in told
    rows = {
        (row["model_name"], row["symbol"]): row
        for row in workplace.lake.read("ml_predictions").to_pylist()
    }
    combined = rows["ensemble", "SP500"]
    assert combined["model_version"] == "1+equal"
    assert combined["samples"] is None
    mean = np.sqrt(
        np.array(rows["naive", "SP500"]["p10"])
        * np.array(rows["seasonal", "SP500"]["p10"])
    )
    assert combined["p10"] == pytest.approx(mean)
    banded = workplace.lake.read("conformal_bands", columns=["model_name"])
    assert banded["model_name"].to_pylist().count("ensemble") == 2
    again = run_plainly("forecast", forecast_ensemble, timeframe="1d").message
    assert "nothing new" in again
    assert workplace.lake.read("ml_predictions").num_rows == 6


def test_too_few_scores_train_nothing_and_say_so(workplace: Workplace):
    forecast(3)
    score()
    told = run_plainly("train-ensemble", train_ensemble, timeframe="1d")
    assert told.message == "ensemble 1d: no asset class has enough settled scores"
    (note,) = told.notes
    assert note.startswith("ensemble 1d: not trained: index: ")
    assert CheckpointStore(workplace.root).names() == []
    with pytest.raises(InputError, match="--as-of 2030-01-01: later than now"):
        run_plainly(
            "train-ensemble", train_ensemble, timeframe="1d", as_of="2030-01-01"
        )


def test_a_backfill_forecasts_each_day_with_weights_that_knew_nothing_later(
    workplace: Workplace,
):
    forecast(70)
    score()
    told = run_plainly("train-ensemble", backfill_ensemble, timeframe="1d").message
    assert "142 forecasts, 71 as-ofs" in told

    store = CheckpointStore(workplace.root)
    cards = {card["version"][:8]: card for card in store.cards("ensemble-index-1d")}
    assert len(cards) == 2
    rows = [
        row
        for row in workplace.lake.read("ml_predictions").to_pylist()
        if row["model_name"] == "ensemble"
    ]
    versions = {row["model_version"] for row in rows}
    assert versions == {"1+equal", *(f"1+{version}" for version in cards)}
    for row in rows:
        version = row["model_version"].removeprefix("1+")
        cutoffs = sorted(
            card["cutoff"]
            for card in cards.values()
            if card["cutoff"] <= row["as_of"].isoformat()
        )
        expected = cutoffs[-1] if cutoffs else None
        assert (cards[version]["cutoff"] if cutoffs else None) == expected
        assert not row["is_contaminated"]
    registered = {
        row["version"]: json.loads(row["manifest"])
        for row in workplace.lake.read("model_versions").to_pylist()
    }
    assert set(registered) == versions - {"1+equal"}
    for card in registered.values():
        assert card["cutoff"] <= card["as_of"]
        assert set(card["sha256"]) == {"model.ubj", "ensemble.json"}
        assert {"ensemble", "equal", "best_single"} <= set(card["validation"])

    again = run_plainly("train-ensemble", backfill_ensemble, timeframe="1d").message
    assert "nothing new" in again
    assert len(store.cards("ensemble-index-1d")) == 2
    score()
    scored = workplace.lake.read("prediction_scores")
    assert "ensemble" in set(scored["model_name"].to_pylist())
    assert workplace.lake.read("conformal_bands").num_rows == 71 * 2 * 3
