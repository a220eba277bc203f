"""Forecasts and surprises on rows, each known by the row's `known_ts`."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from lab.backtest.context import exposures, forecast_grid, surprise_grid
from lab.errors import BacktestError, FeatureError, ScoringError
from lakehouse.schema.forecasts import ML_PREDICTIONS
from tests.lab.features.toy_events import release, releases, table
from tests.lab.sleeves.panels import panel, rough

NAN = np.nan
DAY = timedelta(days=1)
BEGIN = datetime(2018, 1, 1, tzinfo=UTC)


def forecast(symbol, as_of, p50, *, n_steps=3, number=0, **changes):
    """A row of `ml_predictions` of a price of 100, its band 10 wide."""
    midnight = as_of.replace(hour=0, minute=0, second=0, microsecond=0)
    targets = [midnight + DAY * step for step in range(n_steps)]
    row = {
        "prediction_id": f"{number:032}",
        "symbol": symbol,
        "timeframe": "1d",
        "model_name": "kronos",
        "model_version": "1",
        "generated_at": as_of,
        "as_of": as_of,
        "known_ts": as_of,
        "last_close": 100.0,
        "last_ts": midnight - DAY,
        "target_ts": targets,
        "p10": [p50 - 4.0] * n_steps,
        "p50": [p50] * n_steps,
        "p90": [p50 + 6.0] * n_steps,
        "samples": None,
        "quantiles": None,
        "seed": 0,
        "event_context": None,
        "is_contaminated": False,
        "run_id": "run",
    }
    return {**row, **changes}


def predictions(*rows):
    return pa.Table.from_pylist(list(rows), schema=ML_PREDICTIONS.to_arrow())


def moves(rows, *, n_obs=8, horizon=2, **options):
    """The first instrument's moves in percent; rows are days from 2018-01-01 on."""
    one = panel(np.full((n_obs, 2), 100.0))
    grid = forecast_grid(predictions(*rows), one, "kronos", horizon=horizon, **options)
    assert np.isnan(grid.move[:, 1]).all()
    np.testing.assert_array_equal(np.isnan(grid.move), np.isnan(grid.width))
    return (100 * grid.move[:, 0]).round(9).tolist()


def test_a_forecast_stands_from_when_it_is_known_until_its_target():
    # As of the end of the second day: row 1 is known then. Its second target is day 4.
    rows = [forecast("S00", BEGIN + 2 * DAY, 103.0)]
    np.testing.assert_array_equal(moves(rows), [NAN, 3, 3] + [NAN] * 5)
    np.testing.assert_array_equal(moves(rows, horizon=3), [NAN, 3, 3, 3] + [NAN] * 4)
    grid = forecast_grid(
        predictions(*rows), panel(np.ones((8, 1))), "kronos", horizon=2
    )
    np.testing.assert_allclose(grid.width[1:3, 0], 0.1)


def test_a_forecast_of_a_moment_later_is_for_the_next_row():
    late = BEGIN + 2 * DAY + timedelta(minutes=1)
    rows = [forecast("S00", late, 103.0)]
    np.testing.assert_array_equal(moves(rows), [NAN, NAN, 3] + [NAN] * 5)


def test_a_forecast_is_not_seen_before_its_row_could_be_known():
    rows = [forecast("S00", BEGIN + 2 * DAY, 103.0, known_ts=BEGIN + 3 * DAY)]
    np.testing.assert_array_equal(moves(rows), [NAN, NAN, 3] + [NAN] * 5)


def test_the_newest_forecast_counts_whatever_the_order_of_the_rows():
    rows = [
        forecast("S00", BEGIN + 3 * DAY, 105.0),
        forecast("S00", BEGIN + 2 * DAY, 103.0),
        forecast("S00", BEGIN + 2 * DAY, 104.0, generated_at=BEGIN + 9 * DAY),
    ]
    expected = [NAN, 4, 5, 5] + [NAN] * 4
    np.testing.assert_array_equal(moves(rows), expected)
    np.testing.assert_array_equal(moves(rows[::-1]), expected)


def test_forecasts_of_others_are_left_out():
    others = [
        forecast("S00", BEGIN + DAY, 103.0, model_name="chronos2"),
        forecast("S00", BEGIN + DAY, 103.0, timeframe="1h"),
        forecast("S77", BEGIN + DAY, 103.0),
        forecast("S00", BEGIN + DAY, 103.0, n_steps=1),
    ]
    assert np.isnan(moves(others)).all()
    assert np.isnan(moves([])).all()


def test_contaminated_forecasts_are_left_out_unless_asked_for():
    rows = [forecast("S00", BEGIN + DAY, 103.0, is_contaminated=True)]
    assert np.isnan(moves(rows)).all()
    assert moves(rows, is_contaminated_kept=True)[:2] == [3, 3]


def test_a_band_without_width_is_no_forecast():
    flat = {"p10": [103.0] * 3, "p90": [103.0] * 3}
    grid = forecast_grid(
        predictions(forecast("S00", BEGIN + DAY, 103.0, **flat)),
        panel(np.ones((4, 1))),
        "kronos",
        horizon=2,
    )
    assert np.isnan(grid.width).all()


def test_the_default_horizon_is_a_week_of_days():
    one = panel(np.ones((9, 1)))
    short = predictions(forecast("S00", BEGIN + DAY, 103.0, n_steps=4))
    long = predictions(forecast("S00", BEGIN + DAY, 103.0, n_steps=5))
    assert np.isnan(forecast_grid(short, one, "kronos").move).all()
    found = forecast_grid(long, one, "kronos").move[:, 0]
    assert np.isfinite(found).tolist() == [True] * 5 + [False] * 4


def test_forecasts_that_cannot_be_used_are_refused():
    one = panel(np.ones((3, 1)))
    rows = predictions(forecast("S00", BEGIN, 103.0))
    with pytest.raises(BacktestError, match="kronos: horizon 0: at least 1"):
        forecast_grid(rows, one, "kronos", horizon=0)
    with pytest.raises(ScoringError, match="column missing: p50"):
        forecast_grid(rows.drop(["p50"]), one, "kronos")
    with pytest.raises(BacktestError, match="column missing: generated_at"):
        forecast_grid(rows.drop(["generated_at"]), one, "kronos")


def test_no_forecast_is_seen_before_its_time():
    rng = np.random.default_rng(0)
    rows = [
        forecast(
            "S00",
            BEGIN + timedelta(hours=float(hours)),
            100.0 + float(rng.normal()),
            number=number,
        )
        for number, hours in enumerate(rng.uniform(0, 24 * 40, 60))
    ]
    one = panel(np.full((50, 1), 100.0))
    whole = forecast_grid(predictions(*rows), one, "kronos", horizon=2)
    for cut in (1, 7, 23, 40):
        end = BEGIN + cut * DAY
        known = predictions(*(row for row in rows if row["as_of"] <= end))
        then = forecast_grid(known, one.until(cut), "kronos", horizon=2)
        np.testing.assert_array_equal(then.move, whole.move[:cut])
        np.testing.assert_array_equal(then.width, whole.width[:cut])


def market(n_obs=400, symbols=("EURUSD", "USDJPY", "US500", "XAUUSD", "BRENT")):
    classes = {"US500": "index", "XAUUSD": "commodity", "BRENT": "commodity"}
    one = panel(np.ones((n_obs, len(symbols))))
    object.__setattr__(one, "symbols", symbols)
    named = tuple(classes.get(each, "fx") for each in symbols)
    object.__setattr__(one, "asset_classes", named)
    return one


def monthly(kind="nfp", event="Non-Farm Employment Change", currency="USD", n=12):
    """Releases every 30 days at 13:30 that alternately surprise by 1 and by -1."""
    return [
        release(
            event,
            kind,
            currency,
            BEGIN + timedelta(days=30 * k, hours=13, minutes=30),
            actual=float((-1) ** k),
            forecast=0.0,
        )
        for k in range(n)
    ]


def test_a_surprise_stands_in_the_row_in_which_it_became_known_with_its_sign():
    one = market()
    grid = surprise_grid(table(monthly()), one)
    rows = 30 * np.arange(8, 12)  # eight releases before there is a spread
    z = np.array(
        [
            (-1) ** k / np.std([(-1.0) ** j for j in range(k)], ddof=1)
            for k in range(8, 12)
        ]
    )
    np.testing.assert_allclose(grid[rows], z[:, None] * [-1, 1, 1, -1, 0])
    assert np.count_nonzero(grid) == 4 * 4


def test_a_figure_known_later_stands_in_a_later_row():
    rows = monthly()
    late = {**rows[-1], "actual_known_ts": rows[-1]["ts"] + timedelta(hours=36)}
    grid = surprise_grid(table([*rows[:-1], late]), market())
    assert not grid[330].any()
    assert grid[332, 0] != 0.0


def test_names_that_come_together_count_once():
    core = [
        {**row, "event": "Core", "event_id": f"c{row['event_id']}"} for row in monthly()
    ]
    alone = surprise_grid(table(monthly()), market())
    both = surprise_grid(table([*monthly(), *core]), market())
    np.testing.assert_allclose(both, alone)


def test_inflation_is_bad_for_stocks_and_earnings_are_a_companys_own():
    cpi = surprise_grid(table(monthly("cpi", "CPI m/m")), market())
    assert cpi[240, 2] < 0 < cpi[240, 1]
    rows = [{**row, "symbol": "US500"} for row in monthly("earnings", "EPS")]
    own = surprise_grid(table(rows), market())
    assert own[240, 2] > 0
    assert np.count_nonzero(own[:, [0, 1, 3, 4]]) == 0


def test_another_home_currency_can_be_given():
    eur = table(monthly("gdp", "GDP q/q", "EUR"))
    one = market(symbols=("US500", "DE40"))
    assert not surprise_grid(eur, one)[:, 0].any()
    assert surprise_grid(eur, one, currencies={"US500": "EUR"})[240, 0] > 0


@pytest.mark.parametrize(
    ("symbol", "asset_class", "expected"),
    [
        ("EURUSD", "fx", {"EUR": 1, "USD": -1}),
        ("GBPJPY", "fx", {"GBP": 1, "JPY": -1}),
        ("XAUUSD", "commodity", {"USD": -1}),
        ("BTCUSDT", "crypto", {"USD": -1}),
        ("US500", "index", {"USD": 1}),
        ("TLT", "rates", {"USD": -1}),
        ("BRENT", "commodity", {}),
        ("DXY", "fx", {}),
        ("S00", "other", {}),
    ],
)
def test_growth_above_expectations_moves_prices_in_known_ways(
    symbol, asset_class, expected
):
    found = exposures(symbol, asset_class)
    growth = {code: sign for (code, group), sign in found.items() if group == "growth"}
    assert growth == expected


def test_no_surprise_is_seen_before_its_time():
    calendar = releases()
    one = rough(n_obs=1300)
    object.__setattr__(one, "symbols", ("EURUSD", "GBPUSD", "SPY", "A", "B", "C"))
    object.__setattr__(one, "asset_classes", ("fx", "fx", "equity", "fx", "fx", "fx"))
    whole = surprise_grid(calendar, one)
    assert np.count_nonzero(whole) > 100
    known = calendar["actual_known_ts"].cast(pa.timestamp("us")).to_numpy()
    for cut in (400, 555, 900):
        is_known = known <= one.known_ts[cut - 1]
        then = surprise_grid(calendar.filter(pa.array(is_known)), one.until(cut))
        np.testing.assert_array_equal(then, whole[:cut])


def test_a_calendar_without_a_column_is_refused():
    with pytest.raises(FeatureError, match="column missing: actual"):
        surprise_grid(table(monthly()).drop(["actual"]), market())


def test_an_empty_panel_or_calendar_has_no_surprise():
    assert not surprise_grid(table([]), market()).any()
    assert surprise_grid(table(monthly()), panel(np.zeros((0, 2)))).shape == (0, 2)
