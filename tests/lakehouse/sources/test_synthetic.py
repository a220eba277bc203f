import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lakehouse.clock import Clock
from lakehouse.errors import SourceError
from lakehouse.intake import take_bars, take_releases
from lakehouse.sources import synthetic
from lakehouse.store import Lake

NOW = datetime(2026, 11, 22, 13, 30, tzinfo=UTC)


def bars(timeframe="1h", **options) -> pa.Table:
    [raw] = synthetic.load(timeframe=timeframe, **{"now": NOW, **options})
    return raw.bars


def of_symbol(table: pa.Table, symbol: str) -> pa.Table:
    return table.filter(pc.equal(table["symbol"], symbol)).sort_by("ts")


def before(table: pa.Table, moment: datetime) -> pa.Table:
    table = table.filter(pc.less(table["ts"], pa.scalar(moment, table["ts"].type)))
    return table.sort_by(
        [("symbol", "ascending"), ("ts", "ascending")]
    ).combine_chunks()


def daily_closes(table: pa.Table, symbols: list[str], days: list) -> np.ndarray:
    """Pivot to (n_days, n_symbols), carried forward as the rule's definition says."""
    closes = np.full((len(days), len(symbols)), np.nan)
    place = {day: number for number, day in enumerate(days)}
    for column, symbol in enumerate(symbols):
        rows = of_symbol(table, symbol)
        dates = rows["ts"].to_numpy().astype("datetime64[D]").tolist()
        for day, close in zip(dates, rows["close"].to_numpy(), strict=True):
            closes[place[day], column] = close
        known = np.flatnonzero(~np.isnan(closes[:, column]))
        closes[: known[0], column] = closes[known[0], column]
        for row in range(1, len(days)):
            if math.isnan(closes[row, column]):
                closes[row, column] = closes[row - 1, column]
    return closes


def sharpe_by_definition(closes: np.ndarray, lookback: int, volatility: int) -> float:
    """The rule written out again, from the words of the truth."""
    r = closes[1:] / closes[:-1] - 1
    profits = []
    for d in range(volatility, len(closes) - 1):
        sign = np.sign(closes[d] / closes[d - lookback] - 1)
        weight = sign / np.std(r[d - volatility : d], axis=0, ddof=1) / closes.shape[1]
        profits.append((weight * r[d]).sum())
    return float(np.mean(profits) / np.std(profits, ddof=1) * np.sqrt(365))


@pytest.mark.parametrize("timeframe", ["1h", "1d"])
def test_the_named_rule_earns_the_stated_sharpe_ratio_on_the_bars(timeframe):
    table = bars(timeframe, years=2)
    truth = synthetic.truth(timeframe=timeframe, now=NOW, years=2)
    rule = truth["rule"]
    first = datetime.fromisoformat(truth["start"]).date()
    n_days = (NOW.date() - first).days
    days = [first + timedelta(days=number) for number in range(n_days)]
    finished = before(table, datetime(NOW.year, NOW.month, NOW.day, tzinfo=UTC))
    closes = daily_closes(finished, rule["symbols"], days)
    sharpe = sharpe_by_definition(closes, *rule["parameters"].values())
    assert sharpe == pytest.approx(rule["sharpe_gross_realised"], abs=1e-9)
    assert sharpe == pytest.approx(rule["sharpe_gross"], abs=rule["tolerance"])


@pytest.mark.parametrize("seed", [7, 8, 9, 10])
@pytest.mark.parametrize("years", [1, 2, 4, 8, 20])
def test_the_realised_sharpe_ratio_is_near_the_stated_one(seed, years):
    rule = synthetic.truth(timeframe="1d", now=NOW, seed=seed, years=years)["rule"]
    distance = abs(rule["sharpe_gross_realised"] - rule["sharpe_gross"])
    assert distance <= rule["tolerance"]


def test_a_later_end_and_an_earlier_start_change_no_bar():
    moment = datetime(2026, 2, 10, 7, tzinfo=UTC)
    short = before(bars(now=moment, years=0.5), moment)
    long = bars(now=moment + timedelta(days=45, hours=5), years=1.0)
    start = pc.min(short["ts"])
    shared = long.filter(pc.greater_equal(long["ts"], start))
    assert before(shared, moment) == short


def test_only_complete_bars_up_to_now():
    hourly = bars("1h", years=0.2)
    assert pc.max(hourly["ts"]).as_py() == datetime(2026, 11, 22, 12, tzinfo=UTC)
    daily = bars("1d", years=0.2)
    assert pc.max(daily["ts"]).as_py() == datetime(2026, 11, 21, tzinfo=UTC)


def test_days_are_the_hours_aggregated():
    hourly, daily = bars("1h", years=0.5), bars("1d", years=0.5)
    for symbol in ("BTCUSDT", "EURUSD", "US500", "ACME23_CFD"):
        hours, days = of_symbol(hourly, symbol), of_symbol(daily, symbol)
        date = hours["ts"].to_numpy().astype("datetime64[D]")
        starts = np.flatnonzero(np.diff(date.astype(int), prepend=-1))
        complete = starts[: days.num_rows]
        ends = np.append(starts[1:], len(date))[: days.num_rows] - 1
        np.testing.assert_array_equal(
            days["ts"].to_numpy().astype("datetime64[D]"), date[complete]
        )
        np.testing.assert_array_equal(
            days["open"].to_numpy(), hours["open"].to_numpy()[complete]
        )
        np.testing.assert_array_equal(
            days["close"].to_numpy(), hours["close"].to_numpy()[ends]
        )
        for name, extreme in (("high", np.maximum), ("low", np.minimum)):
            values = extreme.reduceat(hours[name].to_numpy(), starts)
            np.testing.assert_array_equal(
                days[name].to_numpy(), values[: days.num_rows]
            )


def test_23_instruments_with_a_delisting_a_split_and_gaps(tmp_path):
    truth = synthetic.truth(timeframe="1d", now=NOW)
    [raw] = synthetic.load(timeframe="1d", now=NOW)
    lake = Lake.open(str(tmp_path), clock=Clock(NOW, "argument"))
    report = take_bars(lake, raw, run_id="r")
    assert (report.n_quarantined, len(report.registered)) == (0, 23)
    gone = truth["delisting"]
    known = {row["symbol"]: row for row in lake.read("instruments").to_pylist()}
    listed_to = known[gone["symbol"]]["listed_to"]
    last = pc.max(of_symbol(raw.bars, gone["symbol"])["ts"]).as_py()
    assert f"{listed_to:%Y-%m-%d}" == f"{last:%Y-%m-%d}" < gone["delisted_on"]
    assert sum(row["listed_to"] is not None for row in known.values()) == 1
    flags = lake.read("ohlcv", columns=["symbol", "ts", "flags"]).to_pylist()
    flagged = [
        (row["symbol"], f"{row['ts']:%Y-%m-%d}", row["flags"])
        for row in flags
        if row["flags"]
    ]
    splits = [
        (split["symbol"], split["first_day_at_new_price"], "split?")
        for split in truth["splits"]
    ]
    assert flagged == splits
    assert len(truth["gaps"]) >= 3
    for gap in truth["gaps"]:
        dates = {
            f"{moment:%Y-%m-%d}"
            for moment in of_symbol(raw.bars, gap["symbol"])["ts"].to_pylist()
        }
        assert not {date for date in dates if gap["from"] <= date < gap["until"]}


def test_releases_move_prices_as_stated():
    hourly = of_symbol(bars("1h", years=8), "EURUSD")
    moves = np.log(hourly["close"].to_numpy() / hourly["open"].to_numpy())
    by_hour = dict(zip(hourly["ts"].to_pylist(), moves, strict=True))
    [raw] = synthetic.load_calendar(now=NOW, years=8)
    truth = synthetic.truth(timeframe="1h", now=NOW, years=8)["releases"]
    event = "CPI m/m"
    surprises, found = [], []
    for row in raw.releases.to_pylist():
        hour = row["ts"].replace(minute=0)
        if row["event"] == event and row["actual"] is not None and hour in by_hour:
            scale = truth["surprise_deviation"][event]
            surprises.append((row["actual"] - row["forecast"]) / scale)
            found.append(by_hour[hour] * 1e4)
    slope = np.dot(surprises, found) / np.dot(surprises, surprises)
    assert len(surprises) > 80
    assert slope == pytest.approx(
        truth["impact_bps_per_deviation"][event]["EURUSD"], abs=4
    )


def test_volatility_clusters_and_returns_do_not():
    closes = of_symbol(bars("1d", years=20), "US500")["close"].to_numpy()
    r = np.diff(np.log(closes))
    size = np.abs(r)
    assert np.corrcoef(size[1:], size[:-1])[0, 1] > 0.1
    assert abs(np.corrcoef(r[1:], r[:-1])[0, 1]) < 0.08
    kurtosis = np.mean((r - r.mean()) ** 4) / r.var() ** 2
    assert kurtosis > 4


def test_releases_to_come_are_there_without_their_value(tmp_path):
    [raw] = synthetic.load_calendar(now=NOW)
    future = [row for row in raw.releases.to_pylist() if row["ts"] > NOW]
    assert future
    assert all(row["actual"] is None for row in future)
    lake = Lake.open(str(tmp_path), clock=Clock(NOW, "argument"))
    report = take_releases(lake, raw, run_id="r")
    assert report.n_written == report.n_read == raw.releases.num_rows


def test_the_truth_is_json_and_its_regimes_cover_the_window():
    truth = synthetic.truth(timeframe="1h", now=NOW, years=1)
    assert json.loads(json.dumps(truth, allow_nan=False)) == truth
    regimes = truth["regimes"]["path"]
    first = datetime.fromisoformat(truth["start"])
    assert sum(span["days"] for span in regimes) == (NOW - first).days


def test_seeds_are_different_markets():
    assert bars(years=0.1) != bars(years=0.1, seed=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeframe": "5m"}, "timeframe '5m' is not one of 1h, 1d"),
        ({"years": 0}, "years > 0"),
        ({"years": 40}, "the market starts at 2000-01-01"),
        ({"years": math.nan}, "the market starts at 2000-01-01"),
        ({"seed": -1}, "seed -1 is not between"),
        ({"now": datetime(1999, 1, 1, tzinfo=UTC)}, "the market starts at 2000-01-01"),
    ],
)
def test_what_cannot_be_made_is_refused(options, message):
    with pytest.raises(SourceError, match=message):
        synthetic.load(**{"timeframe": "1h", "now": NOW, **options})
