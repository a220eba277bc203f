"""Call the market's regime on every day that has no call yet."""

import hashlib
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.runs import Run
from lab.arrays import BoolArray, FloatArray, IntArray
from lab.bars.calendars import known_ts
from lab.bars.panel import Panel, instruments_by_symbol
from lab.bars.resample import daily_bars
from lab.bars.series import Series
from lab.bars.timeframes import step
from lab.features.regime import STATES, RegimePlan
from lab.features.regime import call_regimes as called_probabilities
from lakehouse.schema.research import REGIMES

REFERENCES: Final = ("SPY", "US500", "SP500")
"""Whose returns are the market's: the first with bars up to date, else an index."""

_NO_STOCKS: Final = frozenset(["VIX", "DXY"])
_MAX_LATE: Final = 10 * step("1d")


def call_regimes(run: Run) -> str:
    """Write `regimes` for all days of the reference that are known and not called.

    Parameters
    ----------
    run : Run
        Where to read and write.

    Notes
    -----
    Point in time: a day is called from returns up to it, with a model fitted before it;
    its `known_ts` is when that day's close was known.
    """
    reference = read_reference(run)
    if reference is None:
        return "no regime called: there are no bars of a stock index"
    plan = RegimePlan()
    label = f"regimes by {reference.symbol}"
    # The first bar has no return before it.
    days = reference.part(slice(1, None))
    stored = run.read("regimes", columns=["ts"])["ts"].cast(pa.timestamp("us"))
    is_open = ~np.isin(days.ts, stored.to_numpy())
    is_open[: plan.min_returns] = False
    if not is_open.any():
        return (
            f"{label}: no day left to call; calls need {plan.min_returns} returns"
            f" before them, there are {days.n_obs}"
        )
    first = int(np.argmax(is_open))
    probabilities = called_probabilities(_returns(reference), first=first, plan=plan)
    is_new = is_open & np.isfinite(probabilities[:, 0])
    rows = _rows(run, days, probabilities, is_new)
    if rows.num_rows == 0:
        return f"{label}: no day left to call"
    keys = "\n".join(str(ts) for ts in days.ts[is_new])
    window = f"call-regimes/regimes/{hashlib.sha256(keys.encode()).hexdigest()}"
    written = run.append("regimes", rows, window=window)
    run.parameters["reference"] = reference.symbol
    run.count("regimes", written.n_rows)
    day, regime = rows["ts"][-1].as_py(), rows["regime"][-1].as_py()
    return f"{label}: {written.n_rows} days called, {regime} on {day:%Y-%m-%d}"


def read_reference(run: Run) -> Series | None:
    """Return the reference's daily bars that are known, or None without any.

    Hourly bars are added up to days where no daily ones are stored.

    Parameters
    ----------
    run : Run
        Where to read.

    Notes
    -----
    Point in time: only bars with `known_ts` <= the run's clock.
    """
    table = run.read("instruments")
    instruments = instruments_by_symbol(table)
    indices = sorted(
        name
        for name, one in instruments.items()
        if one.asset_class == "index" and name not in _NO_STOCKS
    )
    wanted = list(dict.fromkeys([*REFERENCES, *indices]))
    names = [name for name in wanted if name in instruments]
    for timeframe in ("1d", "1h"):
        bars = run.read(
            "ohlcv",
            filter=(pc.field("timeframe") == timeframe)
            & pc.field("symbol").isin(names),
        )
        if timeframe == "1h":
            bars = _to_days(run, bars, {n: instruments[n].calendar for n in names})
        panel = Panel.from_tables(bars, table, timeframe="1d")
        known = panel.as_of(run.now, symbols=list(panel.series), include_leaders=True)
        if known:
            return _first_up_to_date(known, names)
    return None


def _to_days(run: Run, hourly: pa.Table, calendars: dict[str, str]) -> pa.Table:
    parts = []
    for symbol, calendar in calendars.items():
        rows = hourly.filter(pc.equal(hourly["symbol"], symbol))
        days = daily_bars(rows, calendar=calendar, as_of=run.now)
        lengths = pa.array(["1d"] * days.num_rows, pa.string())
        parts.append(days.append_column("timeframe", lengths))
    columns = ["symbol", "timeframe", "ts", "open", "high", "low", "close", "volume"]
    if not parts:
        return hourly.select(columns)
    return pa.concat_tables([part.select(columns) for part in parts])


def _first_up_to_date(known: list[Series], names: list[str]) -> Series:
    newest = max(series.ts[-1] for series in known)
    usable = {one.symbol: one for one in known if newest - one.ts[-1] <= _MAX_LATE}
    return next(usable[name] for name in names if name in usable)


def _returns(reference: Series) -> FloatArray:
    returns = np.diff(np.log(reference.close))
    return np.where(reference.is_break[1:], 0.0, returns)


def _rows(
    run: Run, days: Series, probabilities: FloatArray, is_new: BoolArray
) -> pa.Table:
    ts, chosen = days.ts[is_new], probabilities[is_new]
    known = known_ts(ts, timeframe="1d", calendar=days.calendar)
    likeliest: IntArray = chosen.argmax(axis=1)
    moment = pa.timestamp("us", tz="UTC")
    columns = {
        "ts": pa.array(ts).cast(moment),
        "regime": pa.array([STATES[k] for k in likeliest.tolist()], pa.string()),
        **{f"p_{name}": chosen[:, k] for k, name in enumerate(STATES)},
        "known_ts": pa.array(known).cast(moment),
        "run_id": pa.array([run.run_id] * len(chosen), pa.string()),
    }
    return pa.table(columns).cast(REGIMES.to_arrow())
