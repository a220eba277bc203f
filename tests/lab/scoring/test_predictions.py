"""Scoring whole tables, against a slow version that goes row by row."""

from datetime import timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from lab.bars.calendars import known_ts
from lab.bars.panel import Panel
from lab.bars.timeframes import HORIZONS, to_instant, to_moment
from lab.errors import ScoringError
from lab.forecasters.batches import forecast_panel
from lab.forecasters.frames import predictions_table
from lab.forecasters.naive import NaiveForecaster
from lab.forecasters.seasonal import SeasonalForecaster
from lab.scoring.performance import sharpe_ratio
from lab.scoring.point import naive_scale, skill
from lab.scoring.predictions import score_predictions, settle_predictions
from lakehouse.schema.artefacts import SIGNAL_PERFORMANCE
from lakehouse.schema.forecasts import PREDICTION_SCORES, QUANTILE_LEVELS
from tests.lab import toy_market
from tests.lab.toy_market import CALENDARS, bars, moment

MARKET = toy_market.market()
INSTRUMENTS = toy_market.instruments()
NOW = moment("2021-03-10T12:00")
BEGIN = {"1h": moment("2021-02-15"), "1d": moment("2020-05-01")}


@pytest.fixture(scope="module")
def predictions():
    forecasts = []
    for timeframe, begin in BEGIN.items():
        panel = Panel.from_tables(MARKET, INSTRUMENTS, timeframe=timeframe)
        for forecaster in (NaiveForecaster(), SeasonalForecaster()):
            for k in range(25):
                as_of = begin + timedelta(
                    hours=5 * k if timeframe == "1h" else 24 * 5 * k
                )
                forecasts += forecast_panel(
                    forecaster, panel.as_of(as_of), as_of=as_of, horizon=120
                ).forecasts
    return predictions_table(forecasts, generated_at=NOW, run_id="forecast")


@pytest.fixture(scope="module")
def scores(predictions):
    return score_predictions(predictions, MARKET, INSTRUMENTS, now=NOW, run_id="score")


def slow_scores(predictions, now):
    """The parts of the scores that can be said in a few lines, one row at a time."""
    closes = {
        (row["symbol"], row["timeframe"], row["ts"]): row["close"]
        for row in MARKET.to_pylist()
    }
    history = {}
    for (symbol, timeframe, ts), close in closes.items():
        history.setdefault((symbol, timeframe), []).append((ts, close))
    found = {}
    for row in predictions.to_pylist():
        key = row["symbol"], row["timeframe"]
        seen = np.array([c for ts, c in history[key] if ts <= row["last_ts"]][-513:])
        for horizon in HORIZONS[row["timeframe"]]:
            target = row["target_ts"][horizon - 1]
            known = known_ts(
                np.array([to_instant(target)]),
                timeframe=row["timeframe"],
                calendar=CALENDARS[row["symbol"]],
            )[0]
            actual = closes.get((*key, target))
            if actual is None or known > to_instant(now):
                continue
            p10, p50, p90 = (row[name][horizon - 1] for name in ("p10", "p50", "p90"))
            samples = np.array([path[horizon - 1] for path in row["samples"]])
            spread = np.abs(samples[:, None] - samples).sum() / (2 * 20 * 19)
            found[row["prediction_id"], horizon] = {
                "target_ts": target,
                "known_ts": to_moment(known),
                "actual": actual,
                "is_covered": p10 <= actual <= p90,
                "is_direction_hit": (p50 > row["last_close"])
                == (actual > row["last_close"]),
                "absolute_error": abs(actual - p50),
                "persistence_error": abs(actual - row["last_close"]),
                "scaled_error": abs(actual - p50) / naive_scale(seen),
                "crps": np.abs(samples - actual).mean() - spread,
                "actual_return": np.log(actual / row["last_close"]),
                "strategy_return": np.sign(p50 - row["last_close"])
                * np.log(actual / row["last_close"]),
            }
    return found


def is_same(found, expected, *, rel):
    if isinstance(expected, float):
        return found == pytest.approx(expected, rel=rel, abs=1e-9)
    return found == expected


def test_scores_equal_those_worked_out_row_by_row(predictions, scores):
    expected = slow_scores(predictions, NOW)
    rows = {(row["prediction_id"], row["horizon"]): row for row in scores.to_pylist()}
    assert set(rows) == set(expected)
    assert len(rows) > 900
    for key, values in expected.items():
        for name, value in values.items():
            assert is_same(rows[key][name], value, rel=1e-6), (key, name)


def test_scores_fit_their_declaration(scores):
    assert scores.schema.equals(PREDICTION_SCORES.to_arrow())
    for column in PREDICTION_SCORES.columns:
        values = scores[column.name]
        assert column.is_nullable or values.null_count == 0
        if column.minimum is not None:
            assert min(values.drop_null().to_pylist()) >= column.minimum, column.name
        if column.maximum is not None:
            assert max(values.drop_null().to_pylist()) <= column.maximum, column.name
    keys = list(
        zip(
            scores["prediction_id"].to_pylist(),
            scores["horizon"].to_pylist(),
            strict=True,
        )
    )
    assert len(set(keys)) == len(keys)


def test_every_forecast_and_horizon_is_scored_waiting_or_missing(predictions):
    found = settle_predictions(predictions, MARKET, INSTRUMENTS, now=NOW, run_id="r")
    timeframes = predictions["timeframe"].to_pylist()
    asked = sum(len(HORIZONS[timeframe]) for timeframe in timeframes)
    assert found.scores.num_rows + found.n_waiting + found.n_missing == asked
    assert found.n_waiting > 0
    # BTC's daily bars end in 2020: targets after that should exist and do not.
    assert found.n_missing > 0


def one_forecast(as_of="2021-02-15T10:00", timeframe="1h", symbol="BTC", horizon=24):
    as_of = moment(as_of)
    panel = Panel.from_tables(MARKET, INSTRUMENTS, timeframe=timeframe)
    forecasts = NaiveForecaster().forecast(
        panel.as_of(as_of, symbols=[symbol]), as_of=as_of, horizon=horizon
    )
    return predictions_table(forecasts, generated_at=as_of, run_id="r")


def score(predictions, now=NOW, ohlcv=MARKET, **kwargs):
    return settle_predictions(
        predictions, ohlcv, INSTRUMENTS, now=now, run_id="r", **kwargs
    )


def test_a_target_is_scored_when_its_bar_is_known_and_not_before():
    forecast = one_forecast()
    before = score(forecast, moment("2021-02-15T10:59"))
    assert (before.scores.num_rows, before.n_waiting, before.n_missing) == (0, 3, 0)
    after = score(forecast, moment("2021-02-15T11:00"))
    assert after.scores["horizon"].to_pylist() == [1]


def test_a_missing_target_bar_is_not_replaced_by_another():
    forecast = one_forecast()
    target = forecast["target_ts"][0].as_py()[3]
    without = MARKET.filter(pa.array([ts != target for ts in MARKET["ts"].to_pylist()]))
    found = score(forecast, ohlcv=without)
    assert found.scores["horizon"].to_pylist() == [1, 24]
    assert (found.n_waiting, found.n_missing) == (0, 1)


def test_horizons_beyond_the_forecast_are_ignored_and_can_be_chosen():
    forecast = one_forecast(horizon=5)
    assert score(forecast).scores["horizon"].to_pylist() == [1, 4]
    assert score(forecast, horizons=[2, 5, 6]).scores["horizon"].to_pylist() == [2, 5]
    with pytest.raises(ScoringError, match=r"horizons \[0\]: allowed are 1 and above"):
        score(forecast, horizons=[0])


@pytest.mark.parametrize(
    ("as_of", "timeframe", "symbol", "expected"),
    [
        ("2021-02-15T10:00", "1h", "BTC", [True, True]),
        ("2021-02-15T10:25", "1h", "BTC", [True, True]),
        ("2021-02-15T10:55", "1h", "BTC", [False, True]),
        ("2020-05-12T05:45", "1d", "BTC", [True, True]),
        ("2020-05-12T14:00", "1d", "BTC", [False, True]),
        # New York opens at 13:30: at 13:00 its day has not begun.
        ("2020-05-12T13:00", "1d", "SPY", [True, True]),
        ("2020-05-12T19:00", "1d", "SPY", [False, True]),
    ],
)
def test_a_bar_that_is_half_over_when_forecast_does_not_count_for_skill(
    as_of, timeframe, symbol, expected
):
    forecast = one_forecast(as_of, timeframe, symbol)
    assert score(forecast).scores["is_in_skill"].to_pylist()[:2] == expected


def test_a_contaminated_forecast_does_not_count_for_skill():
    forecast = one_forecast()
    at = forecast.column_names.index("is_contaminated")
    forecast = forecast.set_column(at, forecast.schema.field(at), pa.array([True]))
    found = score(forecast).scores
    assert found["is_in_skill"].to_pylist() == [False] * 3
    assert found["is_contaminated"].to_pylist() == [True] * 3


def test_a_suspected_split_on_the_way_does_not_count_for_skill():
    forecast = one_forecast()
    split = forecast["target_ts"][0].as_py()[3]
    flags = ["split?" if ts == split else None for ts in MARKET["ts"].to_pylist()]
    at = MARKET.column_names.index("flags")
    flagged = MARKET.set_column(at, "flags", pa.array(flags, pa.string()))
    found = score(forecast, ohlcv=flagged).scores
    assert found["is_in_skill"].to_pylist() == [True, False, False]


def test_a_flat_forecast_has_no_direction():
    forecast = one_forecast()
    close = forecast["last_close"][0].as_py()
    at = forecast.column_names.index("p50")
    flat = pa.array([[close] * 24], forecast.schema.field(at).type)
    found = score(forecast.set_column(at, forecast.schema.field(at), flat)).scores
    assert found["is_direction_hit"].to_pylist() == [None] * 3
    assert found["strategy_return"].to_pylist() == [0.0] * 3


def test_a_quantile_model_is_scored_from_its_quantiles():
    with_paths = one_forecast()
    at = with_paths.column_names.index("samples")
    field = with_paths.schema.field(at)
    without = with_paths.set_column(at, field, pa.nulls(1, field.type))
    found, paths = score(without).scores, score(with_paths).scores
    assert found.equals(score(with_paths.drop(["samples"])).scores)
    assert found["crps"].to_pylist() == pytest.approx(
        paths["crps"].to_pylist(), rel=0.6
    )
    assert found["crps"] != paths["crps"]
    assert set(found["n_samples"].to_pylist()) == {0}
    assert set(paths["n_samples"].to_pylist()) == {20}
    differing = ["crps", "pit", "n_samples"]
    assert found.drop(differing).equals(paths.drop(differing))


def test_a_young_symbol_has_no_scaled_error():
    forecast = one_forecast()
    last = forecast["last_ts"][0].as_py()
    young = MARKET.filter(
        pa.array([ts > last - timedelta(hours=10) for ts in MARKET["ts"].to_pylist()])
    )
    assert score(forecast, ohlcv=young).scores["scaled_error"].null_count == 3


def test_nothing_to_score_is_an_empty_table():
    found = score(one_forecast().slice(0, 0))
    assert found.scores.num_rows == found.n_waiting == found.n_missing == 0
    assert found.scores.schema.equals(PREDICTION_SCORES.to_arrow())


def test_no_bars_at_all_leave_all_targets_missing():
    found = score(one_forecast(), ohlcv=MARKET.slice(0, 0))
    assert (found.scores.num_rows, found.n_missing) == (0, 3)


@pytest.mark.parametrize("large", [False, True])
def test_predictions_may_come_in_pieces_and_in_wide_types(predictions, scores, large):
    pieces = pa.concat_tables([predictions.slice(0, 50), predictions.slice(50)])
    if large:
        fields = [
            pa.field(f.name, pa.large_string()) if f.type == pa.string() else f
            for f in pieces.schema
        ]
        pieces = pieces.cast(pa.schema(fields))
    again = score_predictions(pieces, MARKET, INSTRUMENTS, now=NOW, run_id="score")
    assert again.equals(scores)


def test_a_slice_of_predictions_is_scored_as_itself(predictions, scores):
    part = predictions.filter(pa.array(predictions["timeframe"].to_numpy() == "1h"))
    part = part.combine_chunks().slice(7, 20)
    ids = part["prediction_id"].to_pylist()
    expected = scores.filter(
        pa.array([one in ids for one in scores["prediction_id"].to_pylist()])
    )
    again = score_predictions(part, MARKET, INSTRUMENTS, now=NOW, run_id="score")
    assert again.num_rows > 40
    assert again.equals(expected)


def test_a_grid_of_quantiles_gives_the_crps_where_there_are_no_paths(scores):
    row = one_forecast()
    levels = np.array(QUANTILE_LEVELS)
    band = row.select(["p10", "p50", "p90"]).to_pylist()[0]
    grid = np.array(
        [
            np.interp(levels, [0.1, 0.5, 0.9], each)
            for each in zip(*band.values(), strict=True)
        ]
    ).T.astype(np.float32)
    row = with_column(row, "samples", [None])
    alone = score(row).scores.to_pylist()
    found = score(with_column(row, "quantiles", [grid.tolist()])).scores.to_pylist()
    assert len(found) == len(alone) > 0
    for one, coarse in zip(found, alone, strict=True):
        at = grid[:, one["horizon"] - 1].astype(float)
        loss = np.maximum(
            levels * (one["actual"] - at), (levels - 1) * (one["actual"] - at)
        )
        borders = np.concatenate([[0], (levels[1:] + levels[:-1]) / 2, [1]])
        assert one["crps"] == pytest.approx(2 * loss @ np.diff(borders))
        assert one["crps"] != coarse["crps"]
        assert one["pit"] == coarse["pit"]


def test_paths_come_before_a_grid_of_quantiles():
    row = one_forecast()
    n_steps = len(row["p50"][0])
    both = with_column(row, "quantiles", [[[1.0] * n_steps] * 21])
    assert score(both).scores["crps"].equals(score(row).scores["crps"])


def test_a_grid_with_other_levels_is_refused():
    row = one_forecast()
    n_steps = len(row["p50"][0])
    with pytest.raises(ScoringError, match="allowed is"):
        score(with_column(row, "quantiles", [[[1.0] * n_steps] * 9]))


def with_column(table, name, values):
    at = table.column_names.index(name)
    field = table.schema.field(at)
    return table.set_column(at, field, pa.array(values, field.type))


def test_what_cannot_be_scored_is_refused_by_name():
    with pytest.raises(ScoringError, match="column missing: p50"):
        score(one_forecast().drop(["p50"]))
    stray = one_forecast()
    at = stray.column_names.index("symbol")
    stray = stray.set_column(at, stray.schema.field(at), pa.array(["STRAY"]))
    with pytest.raises(ScoringError, match="'STRAY' was forecast but is no instrument"):
        score(stray)
    ragged = one_forecast()
    at = ragged.column_names.index("p50")
    field = ragged.schema.field(at)
    ragged = ragged.set_column(at, field, pa.array([[1.0, 2.0]], field.type))
    with pytest.raises(ScoringError, match="p50 and target_ts differ in length"):
        score(ragged)
    paths = one_forecast()
    at = paths.column_names.index("samples")
    field = paths.schema.field(at)
    paths = paths.set_column(at, field, pa.array([[[1.0], [1.0]]], field.type))
    with pytest.raises(ScoringError, match="a row of samples is shorter"):
        score(paths)


# --- the view over the scores ------------------------------------------------------


def performance(prediction_scores):
    connection = duckdb.connect()
    connection.register("prediction_scores", prediction_scores)
    found = connection.sql(PREDICTION_SCORES.views[0].sql).to_arrow_table()
    connection.close()
    return found


def test_the_view_has_the_columns_of_the_published_table(scores):
    assert performance(scores).column_names == [
        column.name for column in SIGNAL_PERFORMANCE.columns
    ]


def test_the_view_aggregates_as_the_formulas_say(scores):
    view = {
        tuple(row[name] for name in SIGNAL_PERFORMANCE.key): row
        for row in performance(scores).to_pylist()
    }
    groups = {}
    for row in scores.to_pylist():
        key = tuple(row[name] for name in SIGNAL_PERFORMANCE.key)
        groups.setdefault(key, []).append(row)
    assert set(view) == set(groups)
    for key, rows in groups.items():
        check_group(view[key], rows, horizon=key[2])


def check_group(seen, rows, *, horizon):
    counted = [row for row in rows if row["is_in_skill"]]

    def column(name):
        return np.array([row[name] for row in counted], dtype=np.float64)

    hits = [
        row["is_direction_hit"]
        for row in counted
        if row["is_direction_hit"] is not None
    ]
    first = {}
    for row in sorted(counted, key=lambda row: row["as_of"]):
        first.setdefault(row["block"], row["strategy_return"])
    expected = {
        "n_scored": len(rows),
        "n_in_skill": len(counted),
        "first_as_of": min(row["as_of"] for row in rows),
        "last_as_of": max(row["as_of"] for row in rows),
        "known_ts": max(row["known_ts"] for row in rows),
        "hit_rate": np.mean(hits),
        "coverage_80": np.mean([row["is_covered"] for row in counted]),
        "share_below_p10": np.mean(column("actual") <= column("p10")),
        "share_below_p50": np.mean(column("actual") <= column("p50")),
        "share_below_p90": np.mean(column("actual") <= column("p90")),
        "pinball": column("pinball_mean").mean(),
        "wql": 2 * column("pinball_mean").sum() / np.abs(column("actual")).sum(),
        "crps": column("crps").mean(),
        "mase": column("scaled_error").mean(),
        "skill_crps": skill(column("crps"), column("persistence_error")),
        "skill_mae": skill(column("absolute_error"), column("persistence_error")),
        "n_blocks": len(first),
        "sharpe": sharpe_ratio(
            np.array(list(first.values())),
            periods_per_year=np.mean([row["bars_per_year"] for row in rows]) / horizon,
        ),
    }
    for name, value in expected.items():
        assert is_same(seen[name], value, rel=1e-9), name


def test_forecasts_left_out_of_skill_leave_the_figures_null():
    forecast = one_forecast("2021-02-15T10:55")
    row = performance(score(forecast, horizons=[1]).scores).to_pylist()[0]
    assert (row["n_scored"], row["n_in_skill"], row["n_blocks"]) == (1, 0, 0)
    for name in ("hit_rate", "coverage_80", "wql", "skill_crps", "skill_mae", "sharpe"):
        assert row[name] is None


def test_persistence_itself_has_no_skill():
    ts = MARKET.filter(
        pa.array(
            [
                symbol == "BTC" and timeframe == "1h"
                for symbol, timeframe in zip(
                    MARKET["symbol"].to_pylist(),
                    MARKET["timeframe"].to_pylist(),
                    strict=True,
                )
            ]
        )
    )
    forecast = one_forecast()
    close = forecast["last_close"][0].as_py()
    for name in ("p10", "p50", "p90"):
        at = forecast.column_names.index(name)
        field = forecast.schema.field(at)
        forecast = forecast.set_column(at, field, pa.array([[close] * 24], field.type))
    found = performance(score(forecast.drop(["samples"]), ohlcv=ts).scores).to_pylist()
    assert [row["skill_crps"] for row in found] == pytest.approx([0, 0, 0])
    assert [row["skill_mae"] for row in found] == pytest.approx([0, 0, 0])


def test_blocks_hold_forecasts_that_overlap():
    ts = np.arange(1, 400).astype("datetime64[h]").astype("datetime64[us]")
    ts = ts + (np.datetime64("2021-02-01") - np.datetime64("1970-01-01"))
    close = 100 + np.arange(len(ts)) * 0.01
    table = bars("BTC", "1h", ts, close)
    panel = Panel.from_tables(table, INSTRUMENTS, timeframe="1h")
    forecasts = []
    for row in range(200, 300):
        as_of = to_moment(ts[row] + np.timedelta64(1, "h"))
        forecasts += NaiveForecaster().forecast(
            panel.as_of(as_of), as_of=as_of, horizon=24
        )
    rows = predictions_table(forecasts, generated_at=NOW, run_id="r")
    found = score(rows, ohlcv=table, horizons=[24]).scores
    blocks = np.bincount(
        np.array(found["block"].to_pylist()) - min(found["block"].to_pylist())
    )
    assert (blocks[1:-1] == 24).all()
    assert performance(found).to_pylist()[0]["n_blocks"] == len(blocks)
