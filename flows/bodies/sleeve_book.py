"""What is published of the sleeves: which may be run, and how each did out of sample.

The book is of the newest completed walk-forward run on each bar length: the same run
that `sleeve_returns_v1` shows, and the newest on the other bars beside it. Series are
kept one point a week; figures come from every day. Nothing here is estimated anew:
returns, windows and verdicts are those that the walk-forward stored.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from flows.manifests import to_json
from lab.arrays import FloatArray, TimeArray
from lab.backtest.figures import figures
from lab.bars.timeframes import to_moment
from lakehouse.query import Session
from lakehouse.schema.artefacts import SLEEVE_BOOK, SLEEVE_SET

JUDGED_BPS: Final = 10.0
"""Slippage at which gates judge; series are shown at it where the run has it."""

_DIGITS: Final = 6  # significant ones of what is published
_WEEK: Final = np.timedelta64(7, "D")
_MONDAY: Final = np.datetime64("1970-01-05")
# Where each gate's figure lies in a verdict's inputs, and what was asked for.
_GATES: Final = {
    "dsr": ("dsr", "dsr_min"),
    "reality_check": ("p_value", "reality_p_max"),
    "pbo": ("pbo", "pbo_max"),
}

_SET: Final = """
SELECT held.artefact_id AS sleeve_id, sleeves.stage, held.runtime_weight,
       sha256(sleeves.configuration) AS content_sha256, sleeves.configuration,
       held.seq, held.changed_at
FROM production_sleeve_set AS held
JOIN sleeves ON sleeves.sleeve_id = held.artefact_id
WHERE held.kind = 'sleeve'
QUALIFY row_number() OVER (PARTITION BY held.artefact_id ORDER BY held.seq DESC) = 1
"""

# The newest completed run of each bar length is at place 1, the one before at 2; those
# of the standard plan and of every sleeve come before any other.
_PLACES: Final = """
WITH ended AS (
    SELECT run_id, finished_at,
           coalesce(json_extract_string(parameters, '$.is_standard'), 'true')
               AS is_standard
    FROM runs
    WHERE flow = 'walk-forward' AND status = 'completed'),
placed AS (
    SELECT timeframe, run_id, finished_at AS ran_at,
           row_number() OVER (PARTITION BY timeframe
               ORDER BY is_standard DESC, finished_at DESC, run_id DESC) AS place
    FROM (SELECT DISTINCT timeframe, run_id FROM wf_snapshots) JOIN ended USING (run_id)
    QUALIFY place <= 2)
"""
_RETURNS: Final = f"""
{_PLACES}
SELECT rows.timeframe, rows.sleeve_id, rows.slippage_bps, placed.place,
       any_value(rows.run_id) AS run_id, any_value(placed.ran_at) AS ran_at,
       max(rows.known_ts) AS as_of, list(rows.ts ORDER BY rows.ts) AS ts,
       list(rows.return_net ORDER BY rows.ts) AS net,
       list(rows.turnover ORDER BY rows.ts) AS turnover
FROM sleeve_returns AS rows JOIN placed USING (run_id, timeframe)
WHERE rows.phase = 'test'
GROUP BY rows.timeframe, rows.sleeve_id, rows.slippage_bps, placed.place
ORDER BY rows.timeframe, rows.sleeve_id, placed.place, rows.slippage_bps
"""  # noqa: S608 - constants
_WINDOWS: Final = f"""
{_PLACES}
SELECT rows.timeframe, rows.sleeve_id, rows.slippage_bps,
       list(rows.test_start ORDER BY rows.window) AS start,
       list(rows.sharpe ORDER BY rows.window) AS sharpe,
       sum(rows.trades)::BIGINT AS trades,
       avg((rows.return_net > 0)::INTEGER) AS positive,
       arg_max(rows.weights, rows.window) AS weights
FROM wf_snapshots AS rows JOIN placed USING (run_id, timeframe)
WHERE placed.place = 1
GROUP BY rows.timeframe, rows.sleeve_id, rows.slippage_bps
"""  # noqa: S608 - constants
_VERDICTS: Final = f"""
{_PLACES}
SELECT verdict_id, subject, gate, inputs, thresholds, distances, is_passed, decided_at
FROM gate_verdicts JOIN placed ON inputs->>'$.run_id' = placed.run_id
WHERE placed.place = 1
"""  # noqa: S608 - constants


def sleeve_set(session: Session) -> pa.Table:
    """Return the newest stage and weight of every registered sleeve.

    Parameters
    ----------
    session : Session
        Pinned versions of the lake.

    Returns
    -------
    pyarrow.Table
        With the schema of `artefact_sleeve_set`.
    """
    schema = SLEEVE_SET.to_arrow()
    return session.sql(_SET).arrow().select(schema.names).cast(schema)


def why_unlocked(rows: pa.Table) -> str | None:
    """Return why a sleeve set must not be published, or None.

    The baseline carries the content and the weight that are locked in the code; every
    other sleeve is watched at weight 0 until two persons can approve more.

    Parameters
    ----------
    rows : pyarrow.Table
        Rows of `sleeve_set`.
    """
    from lab.sleeves.phase37 import LOCKED_HASH, RUNTIME_WEIGHT, Phase37

    for row in rows.to_pylist():
        name, weight = row["sleeve_id"], row["runtime_weight"]
        if name != Phase37.sleeve_id:
            if weight != 0:
                return f"{name} has weight {weight:g}; a candidate has 0"
        elif row["content_sha256"] != LOCKED_HASH:
            return f"{name} was registered with other content than is locked"
        elif weight != RUNTIME_WEIGHT:
            return f"{name} has weight {weight:g}; locked at {RUNTIME_WEIGHT:g}"
    return None


def sleeve_book(session: Session) -> pa.Table:
    """Return every sleeve's record in the newest walk-forward run on its bars.

    Parameters
    ----------
    session : Session
        Pinned versions of the lake.

    Returns
    -------
    pyarrow.Table
        With the schema of `artefact_sleeve_book`; empty until a run completed.

    Notes
    -----
    Point in time: out-of-sample rows only, each known by its `known_ts`; `as_of` is the
    newest of them.
    """
    walked: dict[tuple[str, str], dict[int, list[dict[str, Any]]]] = {}
    for row in _series(session.sql(_RETURNS).arrow()):
        places = walked.setdefault((row["timeframe"], row["sleeve_id"]), {})
        places.setdefault(row["place"], []).append(row)
    windows = {
        (row["timeframe"], row["sleeve_id"], row["slippage_bps"]): row
        for row in session.sql(_WINDOWS).rows()
    }
    held = {row["sleeve_id"]: row for row in sleeve_set(session).to_pylist()}
    verdicts = session.sql(_VERDICTS).rows()
    rows = []
    for (timeframe, sleeve_id), places in walked.items():
        if 1 not in places:
            continue  # it was walked before, and not in the newest run
        found = {
            rung: windows[timeframe, sleeve_id, rung]
            for rung in (one["slippage_bps"] for one in places[1])
            if (timeframe, sleeve_id, rung) in windows
        }
        gates = newest_gates(verdicts, sleeve_id, run_id=places[1][0]["run_id"])
        rows.append(
            _entry(places[1], places.get(2, []), found)
            | {
                "stage": held.get(sleeve_id, {}).get("stage"),
                "runtime_weight": held.get(sleeve_id, {}).get("runtime_weight", 0.0),
                "gates": to_json(gates),
            }
        )
    return pa.Table.from_pylist(rows, schema=SLEEVE_BOOK.to_arrow())


def _series(rows: pa.Table) -> Iterable[dict[str, Any]]:
    lists = ("ts", "net", "turnover")
    plain = rows.drop_columns(list(lists)).to_pylist()
    for place, row in enumerate(plain):
        arrays = {
            name: rows[name][place].values.to_numpy(zero_copy_only=False)
            for name in lists
        }
        yield {**row, **arrays}


def _entry(
    rungs: Sequence[Mapping[str, Any]],
    before: Sequence[Mapping[str, Any]],
    windows: Mapping[float, Mapping[str, Any]],
) -> dict[str, Any]:
    shown = rungs[judged_rung([one["slippage_bps"] for one in rungs])]
    earlier = {
        one["slippage_bps"]: figures(one["net"], one["ts"]).sharpe for one in before
    }
    ts, equity, drawdown = weekly(shown["ts"], shown["net"])
    window = windows.get(shown["slippage_bps"], {})
    sharpes = [_short(value) for value in window.get("sharpe", [])]
    return {
        **{name: shown[name] for name in ("sleeve_id", "timeframe", "slippage_bps")},
        **{name: shown[name] for name in ("run_id", "ran_at", "as_of")},
        "first_ts": to_moment(shown["ts"][0]),
        "last_ts": to_moment(shown["ts"][-1]),
        "n_obs": len(shown["ts"]),
        "rungs": to_json(
            [
                figures_of(one, windows.get(one["slippage_bps"], {}))
                | {"sharpe_before": _short(earlier.get(one["slippage_bps"]))}
                for one in rungs
            ]
        ),
        "curve_ts": [to_moment(day) for day in ts],
        "equity": equity,
        "drawdown": drawdown,
        "windows": to_json({"start": window.get("start", []), "sharpe": sharpes}),
        "weights": _canonical(window.get("weights")),
        "run_id_before": before[0]["run_id"] if before else None,
    }


def judged_rung(slippages_bps: Sequence[float]) -> int:
    """Return the place of the rung to show: the gates', else the next higher, else the last.

    Parameters
    ----------
    slippages_bps : sequence of float
        The cost ladder, ascending.
    """
    above = [i for i, rung in enumerate(slippages_bps) if rung >= JUDGED_BPS]
    return above[0] if above else len(slippages_bps) - 1


def figures_of(rung: Mapping[str, Any], windows: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of one rung of the ladder, rounded, as they are published.

    Parameters
    ----------
    rung : mapping
        `slippage_bps`, and the daily arrays `ts`, `net`, `turnover`.
    windows : mapping
        `trades` and `positive` of its windows; may be empty.

    Notes
    -----
    Annualised by the days that were observed. A book that lost everything stays lost.
    """
    found = figures(rung["net"], rung["ts"])
    return {
        "slippage_bps": rung["slippage_bps"],
        "sharpe": _short(found.sharpe),
        "annual_return": _short(found.annual_return),
        "volatility": _short(found.volatility),
        "max_drawdown": _short(found.max_drawdown),
        "turnover_day": _short(float(np.mean(rung["turnover"]))),
        "trades": int(windows.get("trades", 0)),
        "positive_windows": _short(windows.get("positive")),
    }


def weekly(
    ts: TimeArray, net: FloatArray
) -> tuple[TimeArray, list[float], list[float]]:
    """Return equity and drawdown, one point per ISO week.

    Parameters
    ----------
    ts : ndarray of shape (n_days,), datetime64
        Days, increasing.
    net : ndarray of shape (n_days,), float64
        Simple returns.

    Returns
    -------
    ts : ndarray of shape (n_weeks,), datetime64
        Last day of each week that has one.
    equity : list of float, n_weeks
        On that day; 1 before the first.
    drawdown : list of float, n_weeks
        Share below the highest equity so far, the start included: the week's deepest.
    """
    week = (ts.astype("datetime64[D]") - _MONDAY) // _WEEK
    first = np.flatnonzero(np.append(True, week[1:] != week[:-1]))
    last = np.append(first[1:], len(ts)) - 1
    equity = _equity(net)
    deepest = np.maximum.reduceat(_drawdown(equity), first)
    return (
        ts[last],
        [_rounded(value) for value in equity[last].tolist()],
        [_rounded(value) for value in deepest.tolist()],
    )


def newest_gates(
    verdicts: Sequence[Mapping[str, Any]], subject: str, *, run_id: str
) -> list[dict[str, Any]]:
    """Return the newest verdict of each gate on one walk-forward run of a sleeve.

    Parameters
    ----------
    verdicts : sequence of mapping
        Rows of `gate_verdicts`.
    subject : str
        The sleeve.
    run_id : str
        The walk-forward run that was judged; verdicts on another are passed over.

    Notes
    -----
    Of two at one moment the one that counted more trials came later.
    """
    newest: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    for row in verdicts:
        name = row["gate"]
        if row["subject"] != subject or name not in _GATES:
            continue
        inputs = json.loads(row["inputs"])
        if inputs.get("run_id") != run_id:
            continue
        place = (row["decided_at"], inputs["n_trials"], row["verdict_id"])
        if name not in newest or newest[name][0] < place:
            newest[name] = (place, _gate(row, inputs))
    return [newest[name][1] for name in _GATES if name in newest]


def _gate(row: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    value, threshold = _GATES[row["gate"]]
    told = json.loads(row["distances"])
    return {
        "gate": row["gate"],
        "value": _short(inputs.get(value)),
        "threshold": json.loads(row["thresholds"])[threshold],
        "distance": _short(told["distance"]),
        "is_passed": row["is_passed"],
        "n_trials": inputs["n_trials"],
        "words": _words(told),
        "decided_at": row["decided_at"],
    }


def _words(told: Mapping[str, Any]) -> str:
    said = told["reason"]
    if not said:
        said = f"{_short(told['distance']):g} to spare"
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in (said, told["change"]))


def _canonical(text: str | None) -> str | None:
    return None if text is None else to_json(json.loads(text))


def _equity(net: FloatArray) -> FloatArray:
    # What is lost to the last cent cannot be traded back.
    return np.asarray(np.cumprod(np.maximum(1.0 + net, 0.0)), dtype=np.float64)


def _drawdown(equity: FloatArray) -> FloatArray:
    peak = np.maximum.accumulate(np.maximum(equity, 1.0))
    return np.asarray(1.0 - equity / peak)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _short(value: float | None) -> float | None:
    return None if value is None else _rounded(float(value))
