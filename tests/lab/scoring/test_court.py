"""The court on forecasters whose skill is known by construction."""

from datetime import timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy import stats

from lab.errors import BarsError, ScoringError
from lab.scoring.calibration import pit_histograms
from lab.scoring.court import judge
from lab.scoring.ranks import rank_correlations
from lakehouse.schema.forecasts import PREDICTION_SCORES
from lakehouse.schema.verdicts import SKILL_VERDICTS
from tests.simulators.scores import BEGIN, daily_scores

LATER = BEGIN + timedelta(days=5000)
CLASSES = {"A": "fx", "B": "fx", "C": "crypto"}
MODELS = {"naive": (0.0, 1.0), "seer": (0.3, 0.84), "wide": (0.0, 1.6)}


def court(scores, *, as_of=LATER, timeframe="1d"):
    return judge(
        scores,
        timeframe=timeframe,
        asset_classes=CLASSES,
        as_of=as_of,
        judged_at=LATER,
        run_id="judge",
    )


def cells(verdicts, scope="symbol"):
    rows = [row for row in verdicts.to_pylist() if row["scope"] == scope]
    return {(row["subject"], row["model_name"], row["horizon"]): row for row in rows}


@pytest.fixture(scope="module")
def scores():
    return daily_scores(1, horizons=(1, 5, 40), n_days=300, models=MODELS)


@pytest.fixture(scope="module")
def verdicts(scores):
    return court(scores)


def changed(scores, name, values):
    at = scores.column_names.index(name)
    field = scores.schema.field(at)
    return scores.set_column(at, field, pa.array(values).cast(field.type))


def test_verdicts_fit_their_declaration(verdicts):
    assert verdicts.schema.equals(SKILL_VERDICTS.to_arrow())
    for column in SKILL_VERDICTS.columns:
        values = verdicts[column.name]
        assert column.is_nullable or values.null_count == 0
        if column.maximum is not None:
            assert pc.max(values).as_py() <= column.maximum, column.name
        if column.minimum is not None:
            assert pc.min(values).as_py() >= column.minimum, column.name


def test_who_sees_the_future_has_skill_and_who_guesses_has_none(verdicts):
    found = cells(verdicts)
    for symbol in "ABC":
        for horizon in (1, 5):
            assert found[symbol, "seer", horizon]["has_skill"] is True
            assert found[symbol, "seer", horizon]["reason"] == (
                "beats persistence and naive"
            )
            for model in ("naive", "wide"):
                row = found[symbol, model, horizon]
                assert row["has_skill"] is False
                assert row["reason"].startswith("does not beat persistence")


def test_seven_blocks_are_too_few_to_judge(verdicts):
    row = cells(verdicts)["A", "seer", 40]
    assert (row["n_obs"], row["n_blocks"], row["n_lags"]) == (300, 8, 39)
    assert row["has_skill"] is row["p_skill"] is row["q_skill"] is None
    assert row["reason"] == "not judged: 8 of 10 blocks against persistence"
    assert row["coverage_80"] is not None


def test_figures_are_those_of_the_view_and_of_scipy(scores, verdicts):
    own = duckdb.connect()
    own.register("prediction_scores", scores)
    own.execute("SET TimeZone = 'UTC'")
    view = PREDICTION_SCORES.views[0].sql
    expected = {
        (row["symbol"], row["model_name"], row["horizon"]): row
        for row in own.sql(view).to_arrow_table().to_pylist()
    }
    found = cells(verdicts)
    assert set(found) == set(expected)
    for key, row in expected.items():
        ours = found[key]
        for name in ("hit_rate", "coverage_80", "share_below_p10", "share_below_p90"):
            assert ours[name] == pytest.approx(row[name]), (key, name)
        assert ours["mase"] == pytest.approx(row["mase"])
        assert ours["n_obs"] == row["n_in_skill"]
        assert ours["skill_persistence"] == pytest.approx(row["skill_mae"], abs=0.05)
        part = scores.filter(
            (pc.field("symbol") == key[0])
            & (pc.field("model_name") == key[1])
            & (pc.field("horizon") == key[2])
        )
        if key[1] == "seer":
            moved = part["p50"].to_numpy() / part["last_close"].to_numpy()
            rank = stats.spearmanr(moved, part["actual_return"].to_numpy()).statistic
            assert ours["rank_ic"] == pytest.approx(rank)
            assert np.sign(ours["sharpe"]) == np.sign(row["sharpe"])
            assert sum(ours["pit_histogram"]) == pytest.approx(300)
        assert ours["winkler"] == pytest.approx(
            np.mean(part["winkler"].to_numpy() / part["last_close"].to_numpy())
        )


def test_sharpe_of_forecasts_that_do_not_overlap_is_the_views(scores, verdicts):
    part = scores.filter(pc.field("horizon") == 1)
    own = duckdb.connect()
    own.register("prediction_scores", part)
    rows = own.sql(PREDICTION_SCORES.views[0].sql).to_arrow_table().to_pylist()
    for row in rows:
        if row["sharpe"] is not None:
            ours = cells(verdicts)[row["symbol"], row["model_name"], 1]
            assert ours["sharpe"] == pytest.approx(row["sharpe"])


def test_a_band_too_wide_is_seen_in_every_calibration_figure(verdicts):
    found = cells(verdicts)
    wide, seer = found["B", "wide", 1], found["B", "seer", 1]
    assert wide["coverage_80"] > 0.9 > 0.87 > seer["coverage_80"]
    assert wide["pit_p_value"] < 1e-3 < seer["pit_p_value"]
    assert wide["pit_error"] > 2 * seer["pit_error"]
    assert wide["quantile_error"] > seer["quantile_error"]
    assert abs(seer["coverage_80"] - 0.8) < 3 * seer["coverage_se"]


def test_pools_hold_what_their_symbols_hold(scores, verdicts):
    classes = cells(verdicts, "asset_class")
    whole = cells(verdicts, "all")
    assert {key[0] for key in classes} == {"fx", "crypto"}
    row = whole["all", "seer", 5]
    assert (row["n_obs"], row["n_symbols"], row["n_lags"]) == (900, 3, 4)
    mean = np.mean([cells(verdicts)[s, "seer", 5]["coverage_80"] for s in "ABC"])
    assert row["coverage_80"] == pytest.approx(mean)
    assert row["skill_persistence"] == pytest.approx(
        np.mean([cells(verdicts)[s, "seer", 5]["skill_persistence"] for s in "ABC"])
    )
    assert row["has_skill"] is True
    alone, pooled = cells(verdicts)["C", "seer", 5], classes["crypto", "seer", 5]
    assert pooled["p_persistence"] == pytest.approx(alone["p_persistence"])


def test_skill_needs_both_baselines():
    # A median that knows, in a band so narrow that its quantiles score worse.
    both = daily_scores(2, n_days=400, models={"naive": (0, 1), "rash": (0.12, 0.05)})
    row = cells(court(both))["A", "rash", 1]
    assert row["p_persistence"] < 0.01
    assert row["p_naive"] > 0.5
    assert row["has_skill"] is False
    assert row["reason"] == "does not beat naive"


def test_without_the_baseline_nothing_is_judged():
    alone = daily_scores(3, models={"seer": (0.3, 0.84)})
    row = cells(court(alone))["A", "seer", 1]
    assert row["p_persistence"] < 0.05
    assert (row["has_skill"], row["n_naive"]) == (None, 0)
    assert row["reason"] == "not judged: no forecast of naive to compare with"


def test_the_baseline_is_compared_where_both_forecast(scores):
    is_dropped = pc.and_(
        pc.equal(scores["model_name"], "naive"),
        pc.less(scores["as_of"], pa.scalar(BEGIN + timedelta(days=200))),
    )
    row = cells(court(scores.filter(pc.invert(is_dropped))))["A", "seer", 1]
    assert (row["n_obs"], row["n_naive"]) == (300, 100)


def test_adjusted_p_values_are_taken_over_all_judged_cells(verdicts):
    found = [row for row in cells(verdicts).values() if row["p_skill"] is not None]
    expected = stats.false_discovery_control([row["p_skill"] for row in found])
    assert [row["q_skill"] for row in found] == pytest.approx(expected)
    for row in found:
        assert row["has_skill"] == (row["q_skill"] <= 0.05)


def test_rows_out_of_skill_do_not_count(scores):
    contaminated = changed(
        scores,
        "is_in_skill",
        np.array(scores["model_name"].to_pylist()) != "seer",
    )
    assert {key[1] for key in cells(court(contaminated))} == {"naive", "wide"}


def test_another_seed_for_the_same_moment_cannot_improve_a_record(scores, verdicts):
    later = changed(scores, "absolute_error", scores["absolute_error"].to_numpy() / 2)
    later = changed(
        later,
        "prediction_id",
        [f"0{one}" for one in later["prediction_id"].to_pylist()],
    )
    moment = scores["scored_at"][0].as_py() + timedelta(hours=1)
    later = changed(later, "scored_at", [moment] * len(later))
    assert court(pa.concat_tables([later, scores])).equals(verdicts)


def test_rows_in_any_order_give_the_same_verdicts(scores, verdicts):
    order = np.random.default_rng(4).permutation(len(scores))
    assert court(scores.take(pa.array(order))).equals(verdicts)


def test_later_scores_change_nothing(scores):
    as_of = BEGIN + timedelta(days=200)
    before = court(scores, as_of=as_of)
    known = np.array([one <= as_of for one in scores["known_ts"].to_pylist()])
    past = scores.filter(pa.array(known))
    assert court(past, as_of=as_of).equals(before)
    altered = changed(
        scores, "actual", np.where(known, 1.0, 3.0) * scores["actual"].to_numpy()
    )
    altered = changed(altered, "crps", np.where(known, altered["crps"].to_numpy(), 1e6))
    assert court(altered, as_of=as_of).equals(before)
    assert pc.max(before["known_ts"]).as_py() <= as_of


def test_nothing_settled_gives_no_verdict(scores):
    assert court(scores.slice(0, 0)).num_rows == 0
    assert court(scores, timeframe="1h").num_rows == 0
    with pytest.raises(BarsError, match="allowed are 1h, 1d"):
        court(scores, timeframe="1w")
    with pytest.raises(ScoringError, match="column missing: pit"):
        court(scores.drop(["pit"]))


def false_claims(seed, n_symbols):
    """Whether a court without any skilled model claims skill at least once.

    The hardest case: better than `naive` by far, and exactly as good as persistence on
    average, by chance better here and worse there.
    """
    scores = daily_scores(
        seed,
        symbols=tuple(f"S{number}" for number in range(n_symbols)),
        horizons=(1, 5),
        n_days=120,
        models={"naive": (0.0, 1.0), "other": (0.0, 1.0)},
    )
    chance = np.random.default_rng([seed, 1]).standard_normal(len(scores))
    error = scores["persistence_error"].to_numpy() + 0.001 * chance * (
        scores["last_close"].to_numpy()
    )
    ours = np.array(scores["model_name"].to_pylist()) == "other"
    pinball = scores["pinball_mean"].to_numpy()
    scores = changed(
        scores, "absolute_error", np.where(ours, error, scores["absolute_error"])
    )
    scores = changed(scores, "pinball_mean", np.where(ours, pinball / 2, pinball))
    found = cells(court(scores))
    return any(row["has_skill"] for row in found.values())


def test_chance_is_rarely_called_skill():
    assert sum(false_claims(seed, 6) for seed in range(12)) <= 3


@pytest.mark.full
def test_chance_is_rarely_called_skill_in_a_long_count():
    # Under the complete null the false discovery rate is the share of such courts.
    claims = sum(false_claims(1000 + seed, 10) for seed in range(200))
    assert claims <= stats.binom.ppf(0.999, 200, 0.05)


def test_pit_of_few_samples_is_level_for_a_perfect_forecaster():
    rng = np.random.default_rng(5)
    draws = rng.standard_normal((20_000, 21))
    rank = (draws[:, 1:] < draws[:, :1]).sum(axis=1)
    pit = (rank + 0.5) / 21
    group = np.zeros(len(pit), dtype=np.int64)
    (level,) = pit_histograms(pit, np.full(len(pit), 20), group, 1)
    assert level == pytest.approx(2000, rel=0.06)
    (middles,) = pit_histograms(pit, np.zeros(len(pit), dtype=np.int64), group, 1)
    assert middles[5] > 2600  # what the middle of the rank would have shown
    (ends,) = pit_histograms(
        np.array([0.0, 1.0]), np.array([0, 0]), np.array([0, 0]), 1
    )
    assert ends.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_rank_correlations_are_scipys_with_ties():
    rng = np.random.default_rng(6)
    group = rng.integers(0, 9, 400)
    left, right = rng.integers(0, 6, 400) / 2, rng.standard_normal(400)
    found = rank_correlations(left, right + left, group, 10)
    for one in range(9):
        chosen = group == one
        expected = stats.spearmanr(left[chosen], (right + left)[chosen]).statistic
        assert found[one] == pytest.approx(expected)
    assert np.isnan(found[9])
    constant = rank_correlations(np.ones(5), right[:5], np.zeros(5, dtype=int), 1)
    assert np.isnan(constant[0])
