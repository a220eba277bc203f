"""Evidence from tables: which rows speak for a sleeve, and what they say.

The newest completed walk-forward run that walked a sleeve speaks for it; one that
filled at the very close it decided on only where there is no other. Every row that is
used was known at the decision time.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import FloatArray, TimeArray
from lab.lifecycle.evidence import UNPROMOTED_FILLS, Evidence, Gate, Series
from lab.lifecycle.rules import LifecycleRules

JUDGED_BPS: Final = 10.0
STRESSED_BPS: Final = 20.0

CLOCKED: Final = ("trend", "reversion")
"""Signals that decide on nearly every bar: their decisions tell when the trader ran."""

MAX_HOLE: Final = np.timedelta64(4, "D")
"""Between two live decisions a longer time is no telemetry; a long weekend is."""

_YEAR: Final = np.timedelta64(31_557_600_000_000, "us")


@dataclass(frozen=True, slots=True)
class Frames:
    """Rows of the tables that evidence comes from, whole or those that may matter.

    Attributes
    ----------
    wf_snapshots, sleeve_returns, trials, trial_returns, gate_verdicts : Table
        As declared in the schema.
    bot_shadow_decisions : Table
        The paper trader's: of the sleeves, and of `CLOCKED` for the days it ran.
    """

    wf_snapshots: pa.Table
    sleeve_returns: pa.Table
    trials: pa.Table
    trial_returns: pa.Table
    gate_verdicts: pa.Table
    bot_shadow_decisions: pa.Table


@dataclass(frozen=True, slots=True)
class Speaker:
    """The walk-forward run that speaks for a sleeve.

    Attributes
    ----------
    run_id, timeframe, family, fill : str
        The run, its bars, its ledger family (empty if it names none), its fill.
    finished_at : datetime
        When it completed.
    """

    run_id: str
    timeframe: str
    family: str
    fill: str
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class Registered:
    """What is known of a sleeve apart from its results.

    Attributes
    ----------
    sleeve_id, configuration : str
        As registered.
    entered_at : datetime
        When it entered its stage.
    moved_at : datetime or None
        Its last move; None where it is in its first stage.
    trades : int or None
        Those its author counted.
    """

    sleeve_id: str
    configuration: str
    entered_at: datetime
    moved_at: datetime | None = None
    trades: int | None = None


def registered(transitions: pa.Table, *, as_of: datetime) -> dict[str, Registered]:
    """Return the sleeves that a chain of transitions knows at `as_of`.

    Parameters
    ----------
    transitions : Table
        Rows of `sleeve_transitions` in the order of `seq`.
    as_of : datetime
        Later rows are passed over.
    """
    found: dict[str, Registered] = {}
    for row in transitions.to_pylist():
        if row["decided_at"] > as_of:
            continue
        name, moment = row["sleeve_id"], row["decided_at"]
        if row["from_stage"] is None:
            first = json.loads(row["evidence"])
            trades = first.get("trades")
            is_count = isinstance(trades, int) and not isinstance(trades, bool)
            found[name] = Registered(
                name, first["configuration"], moment, None, trades if is_count else None
            )
        else:
            one = found[name]
            found[name] = Registered(
                name, one.configuration, moment, moment, one.trades
            )
    return found


def speakers(
    runs: pa.Table, snapshots: pa.Table, *, as_of: datetime, timeframe: str
) -> dict[str, Speaker]:
    """Return the run that speaks for each sleeve that was walked.

    Only a standard one does: of the standard plan and of every sleeve. Others are
    families of their own, with fewer trials to answer for.

    Parameters
    ----------
    runs, snapshots : Table
        Rows of `runs`, and of `wf_snapshots` at the slippage that gates judge at: a run
        without it says nothing.
    as_of : datetime
        Decision time.
    timeframe : str
        Bars that are preferred where a sleeve was walked on several.

    Notes
    -----
    Point in time: only runs that had finished by `as_of`.
    """
    ended = {
        row["run_id"]: row
        for row in runs.to_pylist()
        if row["flow"] == "walk-forward"
        and row["status"] == "completed"
        and row["finished_at"] <= as_of
    }
    walked = snapshots.group_by(["run_id", "sleeve_id", "timeframe"])
    found: dict[str, tuple[Any, Speaker]] = {}
    for row in walked.aggregate([]).to_pylist():
        run = ended.get(row["run_id"])
        if run is None:
            continue
        parameters = json.loads(run["parameters"])
        if not parameters.get("is_standard", True):
            continue
        one = Speaker(
            row["run_id"],
            row["timeframe"],
            str(parameters.get("family") or ""),
            str(parameters.get("fill") or "next_open"),
            run["finished_at"],
        )
        is_real = one.fill not in UNPROMOTED_FILLS
        place = (is_real, one.timeframe == timeframe, one.finished_at, one.run_id)
        if row["sleeve_id"] not in found or found[row["sleeve_id"]][0] < place:
            found[row["sleeve_id"]] = (place, one)
    return {name: one for name, (_, one) in found.items()}


def backtest_trial(
    trials: pa.Table, sleeve: Registered, *, family: str, as_of: datetime
) -> dict[str, Any] | None:
    """Return the trial that is a sleeve's backtest, as a row of `trials`.

    The registered configuration if the family tried it, else the sleeve's trial of
    median Sharpe.

    Parameters
    ----------
    trials : Table
        Rows of `trials`.
    sleeve : Registered
        Whose.
    family : str
        In which family.
    as_of : datetime
        Trials of later days are passed over.
    """
    rows: list[dict[str, Any]] = [
        row
        for row in trials.filter(pc.equal(trials["family"], family)).to_pylist()
        if row["tried_at"] <= as_of
    ]
    for row in rows:
        if row["configuration"] == sleeve.configuration:
            return row
    own = [row for row in rows if _is_variant(row["configuration"], sleeve.sleeve_id)]
    own.sort(key=lambda row: (row["sharpe"] or 0.0, row["trial_id"]))
    return own[(len(own) - 1) // 2] if own else None


def evidence_of(
    sleeve: Registered,
    frames: Frames,
    *,
    speaker: Speaker | None,
    as_of: datetime,
    rules: LifecycleRules,
) -> Evidence:
    """Return what is known of one sleeve.

    Parameters
    ----------
    sleeve : Registered
        Which, and since when in its stage.
    frames : Frames
        All tables; rows of other sleeves and runs are passed over.
    speaker : Speaker, optional
        The run that speaks for it, see `speakers`.
    as_of : datetime
        Decision time.
    rules : LifecycleRules
        How long the window of retirement is.

    Notes
    -----
    Point in time: only rows that were known, tried, settled or decided by `as_of`.
    """
    found: dict[str, Any] = {"backtest_trades": sleeve.trades}
    if speaker is not None:
        found |= {
            "run_id": speaker.run_id,
            "timeframe": speaker.timeframe,
            "family": speaker.family,
            "fill": speaker.fill,
        }
        found |= _backtest(sleeve, frames, speaker.family, as_of)
        found |= _walked(sleeve.sleeve_id, frames, speaker, as_of, rules)
        found |= _folds(sleeve.sleeve_id, frames, speaker, as_of)
        found["gates"] = gates_of(
            frames.gate_verdicts, sleeve.sleeve_id, run_id=speaker.run_id, as_of=as_of
        )
    return Evidence(
        sleeve_id=sleeve.sleeve_id,
        as_of=as_of,
        entered_at=sleeve.entered_at,
        moved_at=sleeve.moved_at,
        samples=_samples(sleeve, frames.bot_shadow_decisions, as_of),
        live_days=_live_days(sleeve, frames.bot_shadow_decisions, as_of),
        **found,
    )


def gates_of(
    verdicts: pa.Table, subject: str, *, run_id: str, as_of: datetime
) -> dict[str, Gate]:
    """Return the newest verdict of each gate on one subject and run.

    Parameters
    ----------
    verdicts : Table
        Rows of `gate_verdicts`.
    subject, run_id : str
        The sleeve, and the walk-forward that was judged (`run_id` of the inputs).
    as_of : datetime
        Later verdicts are passed over.
    """
    newest: dict[str, tuple[Any, Gate]] = {}
    for row in verdicts.filter(pc.equal(verdicts["subject"], subject)).to_pylist():
        inputs = json.loads(row["inputs"])
        if row["decided_at"] > as_of or inputs.get("run_id") != run_id:
            continue
        gate = Gate(
            verdict_id=row["verdict_id"],
            is_passed=row["is_passed"],
            fill=str(inputs.get("fill", "")),
            n_trials=int(inputs.get("n_trials", 0)),
            inputs=inputs,
            thresholds=json.loads(row["thresholds"]),
            distances=json.loads(row["distances"]),
        )
        # Of two at one moment the one that counted more trials came later.
        place = (row["decided_at"], gate.n_trials, not gate.is_passed, gate.verdict_id)
        if row["gate"] not in newest or newest[row["gate"]][0] < place:
            newest[row["gate"]] = (place, gate)
    return {name: gate for name, (_, gate) in newest.items()}


def series_of(returns: FloatArray, days: TimeArray) -> Series | None:
    """Return the figures of daily returns; None of fewer than two.

    Parameters
    ----------
    returns : ndarray of shape (n_days,), float64
        Simple net returns.
    days : ndarray of shape (n_days,), datetime64[us]
        Their days, in order.
    """
    if len(returns) < 2:
        return None
    return Series(_annual(returns, (days[-1] - days[0]) / _YEAR), len(returns))


def drawdowns(returns: FloatArray) -> FloatArray:
    """Return the loss from the highest equity so far after each day, 0 at a peak.

    Parameters
    ----------
    returns : ndarray of shape (n_days,), float64
        Simple net returns; the equity starts at 1.
    """
    equity = np.cumprod(1.0 + returns)
    peaks = np.maximum(np.maximum.accumulate(equity), 1.0)
    return np.asarray(1.0 - equity / peaks)


def _annual(returns: FloatArray, years: float) -> float | None:
    if np.ptp(returns) <= 0 or years <= 0:
        return None
    daily = float(returns.mean() / returns.std(ddof=1))
    return daily * float(np.sqrt((len(returns) - 1) / years))


def _is_variant(configuration: str, sleeve_id: str) -> bool:
    # A stitched series is no configuration: its parameters change by window.
    try:
        content = json.loads(configuration)
    except ValueError:
        return False
    is_own = isinstance(content, dict) and content.get("sleeve") == sleeve_id
    return is_own and "walk_forward" not in content


def _backtest(
    sleeve: Registered, frames: Frames, family: str, as_of: datetime
) -> dict[str, Any]:
    trials = frames.trials
    in_family = trials.filter(pc.equal(trials["family"], family))
    known = pc.less_equal(
        in_family["tried_at"], pa.scalar(as_of, in_family["tried_at"].type)
    )
    found: dict[str, Any] = {"n_trials": pc.sum(known).as_py() or 0}
    trial = backtest_trial(trials, sleeve, family=family, as_of=as_of)
    if trial is None:
        return found
    years = (trial["span_end"] - trial["span_start"]) / timedelta(days=365.25)
    sharpe = trial["sharpe"]
    if sharpe is not None and years > 0:
        sharpe *= float(np.sqrt((trial["n_obs"] - 1) / years))
    found["backtest"] = Series(sharpe, trial["n_obs"])
    found["backtest_days"] = years * 365.25
    stored = frames.trial_returns
    rows = stored.filter(pc.equal(stored["trial_id"], trial["trial_id"]))
    if rows.num_rows and len(rows["returns"][0]):
        returns = np.array(rows["returns"][0].as_py(), dtype=np.float64)
        found["backtest_drawdown"] = float(drawdowns(returns).max())
    return found


def _walked(
    sleeve_id: str,
    frames: Frames,
    speaker: Speaker,
    as_of: datetime,
    rules: LifecycleRules,
) -> dict[str, Any]:
    rows = _known(frames.sleeve_returns, sleeve_id, speaker, as_of)
    rows = rows.filter(pc.equal(rows["phase"], "test"))
    days, returns = _rung(rows, JUDGED_BPS)
    if not len(returns):
        return {}
    first = np.datetime64(as_of.replace(tzinfo=None), "us") - np.timedelta64(
        rules.retire_window_days, "D"
    )
    recent = days > first
    stressed_days, stressed = _rung(rows, STRESSED_BPS)
    return {
        "walked": series_of(returns, days),
        "stressed": series_of(stressed, stressed_days),
        "drawdown": float(drawdowns(returns)[-1]),
        "recent": series_of(returns[recent], days[recent]),
    }


def _folds(
    sleeve_id: str, frames: Frames, speaker: Speaker, as_of: datetime
) -> dict[str, Any]:
    rows = _known(frames.wf_snapshots, sleeve_id, speaker, as_of)
    rows = rows.filter(pc.equal(rows["slippage_bps"], JUDGED_BPS))
    if rows.num_rows == 0:
        return {}
    return {
        "n_folds": rows.num_rows,
        "n_positive_folds": pc.sum(pc.greater(rows["return_net"], 0.0)).as_py(),
        "backtest_trades": pc.sum(rows["trades"]).as_py(),
    }


def _known(
    table: pa.Table, sleeve_id: str, speaker: Speaker, as_of: datetime
) -> pa.Table:
    moment = pa.scalar(as_of, table["known_ts"].type)
    return table.filter(
        (pc.field("run_id") == speaker.run_id)
        & (pc.field("sleeve_id") == sleeve_id)
        & (pc.field("timeframe") == speaker.timeframe)
        & (pc.field("known_ts") <= moment)
    )


def _rung(rows: pa.Table, slippage_bps: float) -> tuple[TimeArray, FloatArray]:
    chosen = rows.filter(pc.equal(rows["slippage_bps"], slippage_bps)).sort_by("ts")
    days = chosen["ts"].cast(pa.timestamp("us")).to_numpy()
    return days, chosen["return_net"].to_numpy()


def _live(sleeve: Registered, decisions: pa.Table, as_of: datetime) -> pa.Table:
    # Live decisions of anyone since the sleeve entered its stage.
    return decisions.filter(
        (pc.field("origin") == "live")
        & (pc.field("decided_at") >= _moment(sleeve.entered_at))
        & (pc.field("decided_at") <= _moment(as_of))
    )


def _samples(sleeve: Registered, decisions: pa.Table, as_of: datetime) -> int:
    rows = _live(sleeve, decisions, as_of).filter(
        (pc.field("signal") == sleeve.sleeve_id)
        & (pc.field("settled_at") <= _moment(as_of))
    )
    return int(rows.num_rows)


def _live_days(sleeve: Registered, decisions: pa.Table, as_of: datetime) -> float:
    rows = _live(sleeve, decisions, as_of)
    own = rows.filter(pc.equal(rows["signal"], sleeve.sleeve_id))["decided_at"]
    if len(own) == 0:
        return 0.0
    moments = pc.unique(rows["decided_at"]).cast(pa.timestamp("us"))
    every = moments.to_numpy(zero_copy_only=False)
    first = np.datetime64(pc.min(own).as_py().replace(tzinfo=None), "us")
    steps = np.diff(np.sort(every[every >= first]))
    told = steps[steps <= MAX_HOLE].sum() if len(steps) else np.timedelta64(0, "us")
    return float(told / np.timedelta64(1, "D"))


def _moment(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment, pa.timestamp("us", tz="UTC"))
