"""The ensemble: weights from predicted losses, quantiles averaged, equal without training."""

import json

import numpy as np
import pyarrow as pa
import pytest

from lab.errors import CheckpointError, FeatureError, ForecastError, TrainingError
from lab.forecasters.ensemble import (
    MODEL_FILE,
    SETTINGS_FILE,
    combined,
    equal_weights,
    read_model,
    softmax_weights,
    weights_between,
)
from lab.forecasters.ensemble_features import (
    EnsembleContext,
    MemberRows,
    RegimeCalls,
    feature_names,
    member_features,
    member_losses,
)
from lab.forecasters.ensemble_forecasts import combine_forecasts
from lab.forecasters.ensemble_training import (
    EnsembleParameters,
    LabelledRows,
    fit_ensemble,
)
from lab.scoring.quantile import pinball_loss
from lakehouse.schema.research import REGIMES
from tests.lab import forecast_history
from tests.lab.toy_market import moment

HOUR = np.timedelta64(3_600_000_000, "us")
START = np.datetime64("2021-01-01", "us")
SMALL = EnsembleParameters(n_rounds=30)
LATER = moment("2022-01-01")


def regimes(*calls):
    """Rows of `regimes`: (known_ts, p_calm)."""
    rows = [
        {
            "ts": moment(known),
            "regime": "calm",
            "p_calm": calm,
            "p_normal": 1 - calm,
            "p_turbulent": 0.0,
            "known_ts": moment(known),
            "run_id": "run",
        }
        for known, calm in calls
    ]
    return pa.Table.from_pylist(rows, schema=REGIMES.to_arrow())


def context(*calls):
    return EnsembleContext(
        forecast_history.schedule(*forecast_history.WEEKLY),
        RegimeCalls.from_table(regimes(*calls)),
    )


def rows_of(bands, outcome=None, *, members=("kronos", "naive"), horizon=4, days=None):
    """Member rows of one coin, one a day."""
    bands = np.asarray(bands, dtype=np.float64)
    n_rows = len(bands)
    day = np.arange(n_rows) if days is None else days
    as_of = START + day * 24 * HOUR
    return MemberRows(
        members=members,
        symbol=np.full(n_rows, "BTC", dtype=object),
        asset_class=np.full(n_rows, "crypto", dtype=object),
        as_of=as_of,
        until=as_of + horizon * HOUR,
        horizon=np.full(n_rows, horizon, dtype=np.int64),
        bands=bands,
        outcome=np.full(n_rows, np.nan) if outcome is None else outcome,
        known=as_of + horizon * HOUR,
    )


def contest(n_days=300, seed=0):
    """Two members with equal bands; where `kronos` sees a large move it is right.

    Elsewhere it errs; `naive` never says anything. So weights must depend on its move.
    """
    rng = np.random.default_rng(seed)
    is_sure = rng.random(n_days) < 0.5
    outcome = 0.01 * rng.standard_normal(n_days) + np.where(is_sure, 0.03, 0.0)
    move = np.where(is_sure, 0.03, 0.012 * rng.choice([-1, 1], n_days))
    width = 0.0128
    naive = np.tile([-width, 0.0, width], (n_days, 1))
    kronos = move[:, None] + naive
    return rows_of(np.stack([kronos, naive], axis=1), outcome), is_sure


@pytest.fixture(scope="module")
def trained():
    rows, _ = contest()
    labelled = LabelledRows.of(rows, context(), as_of=LATER)
    return fit_ensemble(labelled, asset_class="crypto", parameters=SMALL)


def test_a_missing_member_leaves_its_weight_to_the_others():
    loss = np.array([[0.1, 0.1, 0.2], [0.1, np.inf, 0.2], [np.inf, np.inf, np.inf]])
    full, without, nobody = softmax_weights(loss, 0.1)
    assert full.sum() == pytest.approx(1)
    assert without[1] == 0
    assert without[0] / without[2] == pytest.approx(full[0] / full[2])
    assert (nobody == 0).all()


def test_tiny_temperatures_choose_the_best_without_overflow():
    found = softmax_weights(np.array([[0.2, 0.1, 50.0]]), 1e-6)
    assert found == pytest.approx(np.array([[0, 1, 0]]))


def test_combined_quantiles_are_geometric_means_in_order():
    bands = np.log([[[90.0, 100, 110], [81, 100, 121]]])
    found = np.exp(combined(bands, np.array([[0.5, 0.5]])))
    assert found[0] == pytest.approx([np.sqrt(90 * 81), 100, np.sqrt(110 * 121)])


def test_weights_between_horizons_add_up_to_one():
    found = weights_between([1, 4], np.array([[1.0, 0.0], [0.0, 1.0]]), 6)
    assert found.sum(axis=1) == pytest.approx(np.ones(6))
    assert found[1] == pytest.approx([0.5, 0.5])
    assert found[5] == pytest.approx([0, 1])


def test_losses_are_pinball_in_log_price_over_the_naive_band():
    rows = rows_of([[[-0.1, 0.0, 0.1], [-0.05, 0.0, 0.05]]], np.array([0.07]))
    levels = np.array([0.1, 0.5, 0.9])
    expected = pinball_loss(rows.bands[:, 0], levels, rows.outcome).mean() / 0.1
    assert member_losses(rows)[0, 0] == pytest.approx(expected)
    missing = rows_of([[[-0.1, 0.0, 0.1], [np.nan] * 3]], np.array([0.07]))
    assert missing.scale == pytest.approx([0.2])
    assert np.isnan(member_losses(missing)[0, 1])


def test_features_have_their_names_and_a_row_for_every_member_present():
    rows = rows_of(
        [[[-0.1, 0.01, 0.1], [-0.05, 0.0, 0.05]], [[np.nan] * 3, [-0.05, 0.0, 0.05]]]
    )
    found = member_features(rows, context(("2021-01-01T20:00", 0.9)))
    names = feature_names(rows.members)
    assert found.features.shape == (3, len(names))
    assert found.row.tolist() == [0, 0, 1]
    assert found.member.tolist() == [0, 1, 1]
    table = dict(zip(names, found.features.T, strict=True))
    assert table["is_crypto"].tolist() == [1, 1, 1]
    assert table["move"] == pytest.approx([0.1, 0, 0])
    assert table["is_regime_missing"].tolist() == [1, 1, 0]
    assert table["p_calm"] == pytest.approx([1 / 3, 1 / 3, 0.9])
    assert np.isnan(table["spread_kronos"][2])
    assert table["days_to_cpi"] == pytest.approx([5.5625, 5.5625, 4.5625])


def test_a_regime_call_counts_from_when_it_was_known():
    calls = RegimeCalls.from_table(regimes(("2021-01-05", 0.2), ("2021-01-03", 0.8)))
    days = np.array(["2021-01-02", "2021-01-03", "2021-01-09"], dtype="datetime64[us]")
    assert calls.at(days)[:, 0] == pytest.approx([1 / 3, 0.8, 0.2])
    with pytest.raises(FeatureError, match="regimes: column missing: known_ts"):
        RegimeCalls.from_table(regimes().drop(["known_ts"]))


def test_weights_follow_the_situation(trained):
    model = read_model(trained.files, version="v")
    rows, is_sure = contest(seed=1)
    weights = model.weights(rows, context())
    assert weights.sum(axis=1) == pytest.approx(np.ones(len(is_sure)))
    assert weights[is_sure, 0].mean() > 0.9
    assert weights[~is_sure, 0].mean() < 0.2


def test_the_card_says_how_the_ensemble_did_beside_the_others(trained):
    found = trained.card["validation"]
    assert found["ensemble"] < 0.9 * found["equal"]
    assert found["ensemble"] < 0.9 * found["best_single"]
    assert found["best_single"] == found["members"][found["best_single_model"]]
    assert trained.card["temperature"] in SMALL.temperatures
    assert trained.card["cutoff"] == "2021-10-27T04:00:00+00:00"
    assert json.loads(json.dumps(trained.card)) == trained.card


def test_equal_labels_give_equal_bytes(trained):
    rows, _ = contest()
    labelled = LabelledRows.of(rows, context(), as_of=LATER)
    again = fit_ensemble(labelled, asset_class="crypto", parameters=SMALL)
    assert again == trained
    model = read_model(trained.files, version="v")
    assert model.to_files() == trained.files


def test_only_labels_known_by_then_are_learnt_from():
    rows, _ = contest()
    labelled = LabelledRows.of(rows, context(), as_of=moment("2021-06-01"))
    assert len(labelled.rows.symbol) == 151
    assert labelled.rows.known.max() <= np.datetime64("2021-06-01")
    assert labelled.pairs.shape == (151, 2)
    old = LabelledRows.of(rows, context(), as_of=moment("2023-03-01"))
    assert old.rows.as_of.min() > np.datetime64("2021-02-28")


@pytest.mark.parametrize(
    ("n_days", "members", "match"),
    [
        (
            100,
            ("kronos", "naive"),
            "crypto: 100 settled rows at 100 decision times, 200",
        ),
        (300, ("naive",), "crypto: 1 member, 2 are needed"),
    ],
)
def test_too_little_to_learn_from_is_refused(n_days, members, match):
    rows, _ = contest(n_days)
    labelled = LabelledRows.of(rows.of_members(members), context(), as_of=LATER)
    with pytest.raises(TrainingError, match=match):
        fit_ensemble(labelled, asset_class="crypto", parameters=SMALL)


def test_equal_weights_are_kept_where_nothing_can_be_learnt():
    rng = np.random.default_rng(0)
    band = np.array([-0.0128, 0, 0.0128])
    bands = np.stack([np.tile(band, (300, 1))] * 2, axis=1)
    rows = rows_of(bands, 0.01 * rng.standard_normal(300))
    labelled = LabelledRows.of(rows, context(), as_of=LATER)
    found = fit_ensemble(labelled, asset_class="crypto", parameters=SMALL)
    assert found.card["temperature"] is None
    model = read_model(found.files, version="v")
    assert (model.weights(rows, context()) == 0.5).all()


def changed(files, **settings):
    stated = json.loads(files[SETTINGS_FILE]) | settings
    return files | {SETTINGS_FILE: json.dumps(stated).encode()}


def test_a_damaged_checkpoint_is_refused(trained):
    good = trained.files
    bad = {
        "no model.ubj": {SETTINGS_FILE: good[SETTINGS_FILE]},
        "damaged": good | {SETTINGS_FILE: b"{"},
        "ensemble v: damaged": good | {MODEL_FILE: b"nonsense"},
        "its features are not these": changed(good, features=["a"]),
        "features are not these": changed(good, members=["naive"]),
    }
    for match, files in bad.items():
        with pytest.raises(CheckpointError, match=match):
            read_model(files, version="v")
    model = read_model(good, version="v")
    others = contest()[0].of_members(("naive",))
    with pytest.raises(CheckpointError, match="members naive; it knows kronos, naive"):
        model.weights(others, context())


@pytest.fixture(scope="module")
def stored():
    return forecast_history.forecasts(n_as_ofs=2)


def combine(stored, model=None, horizon=30, classes=forecast_history.CLASSES):
    return combine_forecasts(
        stored, model=model, context=context(), asset_classes=classes, horizon=horizon
    )


def test_without_a_checkpoint_members_count_the_same(stored):
    found = combine(stored)
    assert len(found) == 4
    assert {one.model_version for one in found} == {"1+equal"}
    rows = [
        row
        for row in stored.to_pylist()
        if row["symbol"] == found[0].symbol and row["as_of"] == found[0].as_of
    ]
    expected = np.sqrt(np.array(rows[0]["p90"]) * np.array(rows[1]["p90"]))
    assert found[0].p90 == pytest.approx(expected)
    assert found[0].samples is None
    assert not any(one.is_contaminated for one in found)


def edited(stored, keep, **values):
    rows = [row | values if keep(row) else row for row in stored.to_pylist()]
    return pa.Table.from_pylist(rows, schema=stored.schema)


def test_contaminated_and_older_forecasts_are_left_out(stored):
    bad = edited(
        stored, lambda row: row["model_name"] == "seasonal", is_contaminated=True
    )
    alone = stored.filter(
        pa.array([r == "naive" for r in stored["model_name"].to_pylist()])
    )
    for one, other in zip(combine(bad), combine(alone), strict=True):
        assert one.p10 == pytest.approx(other.p10)
    assert combine(edited(stored, lambda row: True, is_contaminated=True)) == []


def test_a_member_that_reaches_less_far_is_left_out_beyond_its_end(stored):
    short = edited(stored, lambda row: False)
    rows = [
        row
        | (
            {name: row[name][:5] for name in ("p10", "p50", "p90", "target_ts")}
            if row["model_name"] == "naive"
            else {}
        )
        for row in stored.to_pylist()
    ]
    short = pa.Table.from_pylist(rows, schema=stored.schema)
    assert {one.horizon for one in combine(short)} == {30}
    assert {one.horizon for one in combine(short, horizon=5)} == {5}
    both = combine(stored, horizon=5)[0].p90
    assert combine(short, horizon=5)[0].p90 == pytest.approx(both)


def test_the_ensemble_never_combines_itself(stored):
    names = edited(stored, lambda row: True, model_name="ensemble")
    assert combine(names) == []


def test_a_trained_model_ignores_members_it_does_not_know(stored, trained):
    model = read_model(trained.files, version="0123456789abcdef")
    found = combine(stored, model)
    assert {one.model_version for one in found} == {"1+01234567"}
    alone = stored.filter(
        pa.array([r == "naive" for r in stored["model_name"].to_pylist()])
    )
    assert found[0].p10 == pytest.approx(combine(alone)[0].p10)


def test_a_symbol_without_an_asset_class_cannot_be_combined(stored):
    with pytest.raises(ForecastError, match="was forecast but is no instrument"):
        combine(stored, classes={"BTC": "crypto"})


def test_scores_of_a_model_twice_count_once():
    scores = forecast_history.scores(forecast_history.forecasts(n_as_ofs=3))
    rows = MemberRows.from_scores(
        pa.concat_tables([scores, scores]), forecast_history.CLASSES, timeframe="1h"
    )
    assert rows.members == ("naive", "seasonal")
    assert rows.is_present.all()
    assert len(rows.symbol) == scores.num_rows // 2
    assert np.isfinite(rows.outcome).all()
    assert equal_weights(rows.is_present).sum() == len(rows.symbol)
