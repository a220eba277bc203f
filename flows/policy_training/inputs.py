"""What a policy is trained on, read from the lake at one moment."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.market_panel import open_panel
from flows.bodies.regimes import read_reference
from flows.bodies.sleeve_book import judged_rung
from flows.bodies.sleeve_export import known_returns
from flows.runs import Run
from lab.arrays import FloatArray, TimeArray
from lab.bars.calendars import known_ts
from lab.features.regime import STATES
from lab.policy.days import SleeveDays, newest_known
from lab.policy.state import forecast_agreement
from lakehouse.errors import RefusedError
from lakehouse.query import connect

_STALE: Final = np.timedelta64(10, "D")  # a regime called longer ago is none
_BASELINES: Final = ("naive", "seasonal")  # forecasters without a view of their own


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """Sleeve returns with their context, and the market beside them.

    Attributes
    ----------
    days : SleeveDays
        Returns at the slippage that gates judge by.
    market : ndarray of shape (n_days,), float64
        Simple returns of the reference between the moments at which days were known;
        NaN before its first bar.
    reference : str or None
        Symbol of the market; None if there is no stock index in the lake.
    walk_run : str
        The walk-forward run that the returns are of.
    timeframe : str
        Bars that the sleeves trade.
    slippage_bps : float
        Of the returns.
    """

    days: SleeveDays
    market: FloatArray
    reference: str | None
    walk_run: str
    timeframe: str
    slippage_bps: float


def read_inputs(run: Run, moment: datetime) -> PolicyInputs:
    """Return the rows of `sleeve_returns_v1` known at a moment, with their context.

    Parameters
    ----------
    run : Run
        Where to read.
    moment : datetime
        Decision time.

    Raises
    ------
    RefusedError
        If no walk-forward had ended by then.

    Notes
    -----
    Point in time: each day carries the newest regime call and forecasts known when its
    returns were. A sleeve without a row on a day held nothing and earned 0.
    """
    with connect(
        run.workplace.root, tables=("sleeve_returns", "runs"), threads=1
    ) as session:
        rows = known_returns(session, moment)
        run.tables_read |= dict(session.versions)
    if rows.num_rows == 0:
        raise RefusedError(
            "NEEDS_MORE_DATA: no sleeve returns; run `alphalake walkforward` first"
        )
    timeframe = min(pc.unique(rows["timeframe"]).to_pylist(), key="1d".__ne__)
    rows = rows.filter(pc.equal(rows["timeframe"], timeframe))
    rungs = sorted(pc.unique(rows["slippage_bps"]).to_pylist())
    slippage = float(rungs[judged_rung(rungs)])
    rows = rows.filter(pc.equal(rows["slippage_bps"], slippage))
    bare = _days(rows)
    days = SleeveDays(
        bare.sleeves,
        bare.ts,
        bare.known_ts,
        bare.net,
        regime=_regimes(run, bare.known_ts),
        agreement=_agreement(run, bare, timeframe, moment),
    )
    reference, market = _market(run, bare.known_ts)
    walk_run = str(rows["run_id"][0].as_py())
    return PolicyInputs(days, market, reference, walk_run, timeframe, slippage)


def _days(rows: pa.Table) -> SleeveDays:
    ts = _times(rows, "ts")
    names = np.array(rows["sleeve_id"].to_pylist(), dtype=str)
    days, row = np.unique(ts, return_inverse=True)
    sleeves, column = np.unique(names, return_inverse=True)
    net = np.zeros((len(days), len(sleeves)))
    net[row, column] = rows["return_net"].to_numpy()
    known = np.full(len(days), days.min())
    np.maximum.at(known, row, _times(rows, "known_ts"))
    n = len(days)
    return SleeveDays(
        tuple(str(name) for name in sleeves),
        days,
        np.maximum.accumulate(known),
        net,
        np.full((n, 3), np.nan),
        np.full(n, np.nan),
    )


def _regimes(run: Run, at: TimeArray) -> FloatArray:
    names = [f"p_{name}" for name in STATES]
    rows = run.read("regimes", columns=["known_ts", *names]).sort_by("known_ts")
    values = np.column_stack([rows[name].to_numpy() for name in names])
    return newest_known(values, _times(rows, "known_ts"), at, max_age=_STALE)


def _agreement(
    run: Run, days: SleeveDays, timeframe: str, moment: datetime
) -> FloatArray:
    wanted = pc.field("timeframe") == timeframe
    models = run.read("ml_predictions", columns=["model_name"], filter=wanted)
    names = [
        name
        for name in pc.unique(models["model_name"]).to_pylist()
        if not name.startswith(_BASELINES)
    ]
    if len(names) < 2:
        return np.full(days.n_days, np.nan)
    years = float((days.ts[-1] - days.ts[0]) / np.timedelta64(365, "D"))
    panel = open_panel(
        run, timeframe=timeframe, as_of=moment.isoformat(), years=max(years, 0.1)
    )
    moves = [panel.forecasts[name].move for name in names if name in panel.forecasts]
    if len(moves) < 2:
        return np.full(days.n_days, np.nan)
    found = forecast_agreement(np.stack(moves))
    return newest_known(found, panel.known_ts, days.known_ts)


def _market(run: Run, at: TimeArray) -> tuple[str | None, FloatArray]:
    reference = read_reference(run)
    if reference is None:
        return None, np.full(len(at), np.nan)
    known = known_ts(reference.ts, timeframe="1d", calendar=reference.calendar)
    level = newest_known(reference.close, known, at)
    found = np.full(len(at), np.nan)
    found[1:] = level[1:] / level[:-1] - 1.0
    return reference.symbol, found


def _times(rows: pa.Table, name: str) -> TimeArray:
    plain = rows[name].cast(pa.timestamp("us"))
    return np.asarray(plain.to_numpy(), dtype="datetime64[us]")
