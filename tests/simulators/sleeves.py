"""Rows of a walk-forward, made up: what the lab leaves in its tables, without the lab.

phase37 earns a little at low turnover, `trend` more, `churn` lives before costs only,
`flat` never trades. Written through the one write path.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flows.bodies.sleeve_registry import NewSleeve, register_sleeves
from flows.manifests import RunManifest
from flows.runs import Run
from flows.wiring import Workplace
from lab.sleeves.phase37 import Phase37
from lakehouse.clock import Clock
from lakehouse.query import connect
from lakehouse.schema.catalogue import table_spec
from lakehouse.store import Lake

BEGIN = datetime(2014, 3, 3, tzinfo=UTC)
RUNGS = (0.0, 5.0, 10.0, 20.0)
WINDOW = 30
# Daily mean, spread and turnover of each sleeve.
SLEEVES: dict[str, tuple[float, float, float]] = {
    "phase37": (0.00028, 0.0065, 0.05),
    "time-series-momentum": (0.00042, 0.009, 0.08),
    "rsi-reversion": (0.00035, 0.007, 0.35),
    "hour-of-week": (-0.00015, 0.005, 0.6),
    "flat": (0.0, 0.0, 0.0),
}


def returns_of(sleeve_id: str, seed: int, n_days: int) -> tuple[np.ndarray, np.ndarray]:
    """Gross returns with a bad patch and turnover, shape (n_days,) each."""
    rng = np.random.default_rng([seed, *sleeve_id.encode()])
    mean, spread, turnover = SLEEVES.get(sleeve_id, SLEEVES["phase37"])
    calm = np.exp(0.4 * np.sin(np.arange(n_days) / 90.0 + rng.uniform(0, 6)))
    gross = mean + spread * calm * rng.standard_t(5, n_days) / 1.3
    patch = slice(n_days // 2, n_days // 2 + n_days // 12)
    gross[patch] -= 2.5 * abs(mean)
    return gross, turnover * rng.uniform(0.5, 1.5, n_days)


def walk_rows(
    sleeve_id: str,
    *,
    run_id: str,
    timeframe: str = "1d",
    seed: int = 3,
    n_days: int = 2040,
    rungs: tuple[float, ...] = RUNGS,
    gross: np.ndarray | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Rows of `sleeve_returns` and `wf_snapshots` of one sleeve."""
    days = [BEGIN + timedelta(days=i) for i in range(n_days)]
    made, turnover = returns_of(sleeve_id, seed, n_days)
    gross = made if gross is None else gross
    returns: list[dict[str, Any]] = []
    snapshots: list[dict[str, Any]] = []
    for rung in rungs:
        net = gross - rung * 1e-4 * turnover
        returns += [
            {
                "sleeve_id": sleeve_id,
                "timeframe": timeframe,
                "ts": day,
                "slippage_bps": rung,
                "return_gross": float(gross[i]),
                "return_net": float(net[i]),
                "turnover": float(turnover[i]),
                "window": i // WINDOW,
                "phase": "test",
                "known_ts": day + timedelta(days=1),
                "run_id": run_id,
            }
            for i, day in enumerate(days)
        ]
        for window in range(-(-n_days // WINDOW)):
            part = net[window * WINDOW : (window + 1) * WINDOW]
            varies = len(part) > 1 and np.ptp(part) > 0
            is_last = (window + 1) * WINDOW >= n_days
            snapshots.append(
                {
                    "run_id": run_id,
                    "sleeve_id": sleeve_id,
                    "timeframe": timeframe,
                    "window": window,
                    "slippage_bps": rung,
                    "train_start": days[window * WINDOW] - timedelta(days=180),
                    "test_start": days[window * WINDOW],
                    "test_end": days[min((window + 1) * WINDOW, n_days) - 1],
                    "sharpe": float(19.1 * part.mean() / part.std(ddof=1))
                    if varies
                    else None,
                    "return_net": float(np.prod(1 + part) - 1),
                    "max_drawdown": 0.01,
                    "trades": 0 if sleeve_id == "flat" else int(300 * turnover[window]),
                    "baseline_ratio": None,
                    "parameters": json.dumps({"lookback": 60}),
                    "weights": json.dumps(
                        {"BTCUSDT": 0.25, "EURUSD": -0.125, "US500": 0.0625}
                    )
                    if is_last
                    else None,
                    "known_ts": days[-1] + timedelta(days=1),
                }
            )
    return (
        pa.Table.from_pylist(returns, schema=table_spec("sleeve_returns").to_arrow()),
        pa.Table.from_pylist(snapshots, schema=table_spec("wf_snapshots").to_arrow()),
    )


def verdict_rows(
    sleeve_id: str, *, run_id: str, decided_at: datetime, is_passed: bool = False
) -> pa.Table:
    """Rows of `gate_verdicts`, as `lab.validation.gates` lays them out."""
    # fmt: off
    gates = {
        "dsr": ("dsr", 0.98 if is_passed else 0.6383, "dsr_min", 0.95, "passes at a Sharpe ratio of 1.94 a year at 214 trials and 2040 days, now 0.81 a year; or after 2870 more days at this Sharpe ratio"),
        "reality_check": ("p_value", 0.03 if is_passed else 0.265, "reality_p_max", 0.05, "passes at a Sharpe ratio of 1.21 a year at this volatility, now 0.81 a year; or after 2551 more days at this Sharpe ratio"),
        "pbo": ("pbo", 0.09 if is_passed else 0.3312, "pbo_max", 0.2, "passes with 1689 fewer of 12870 splits whose best trial ends in the lower half: fewer trials without skill in the family, or a longer span"),
    }
    # fmt: on
    rows = []
    for gate, (figure, value, rule, threshold, change) in gates.items():
        distance = value - threshold if gate == "dsr" else threshold - value
        reason = f"{gate} {value:.3f}, asked for {threshold:g}"
        told = {
            "distance": distance,
            "reason": None if is_passed else reason,
            "change": change,
        }
        rows.append(
            {
                "verdict_id": f"{run_id}/{sleeve_id}/{gate}/{decided_at:%Y%m%d%H}",
                "subject": sleeve_id,
                "gate": gate,
                "inputs": json.dumps(
                    {"run_id": run_id, "n_trials": 214, figure: value}
                ),
                "thresholds": json.dumps({rule: threshold, "min_obs": 120}),
                "distances": json.dumps(told),
                "is_passed": is_passed,
                "decided_at": decided_at,
                "run_id": "gates-1",
            }
        )
    return pa.Table.from_pylist(rows, schema=table_spec("gate_verdicts").to_arrow())


def write_walk(
    lake: Lake,
    run_id: str,
    *,
    ended: datetime,
    status: str = "completed",
    sleeves: tuple[str, ...] = tuple(SLEEVES),
    passed: tuple[str, ...] = (),
    timeframe: str = "1d",
    seed: int = 3,
    n_days: int = 2040,
) -> None:
    """Write everything that one walk-forward run leaves."""
    for sleeve_id in sleeves:
        returns, snapshots = walk_rows(
            sleeve_id, run_id=run_id, timeframe=timeframe, seed=seed, n_days=n_days
        )
        window = f"{run_id}/{sleeve_id}"
        lake.append("sleeve_returns", returns, window=f"returns/{window}")
        lake.append("wf_snapshots", snapshots, window=f"snapshots/{window}")
        verdicts = verdict_rows(
            sleeve_id, run_id=run_id, decided_at=ended, is_passed=sleeve_id in passed
        )
        lake.append("gate_verdicts", verdicts, window=f"verdicts/{window}")
    manifest = RunManifest(
        run_id=run_id,
        flow="walk-forward",
        status=status,  # type: ignore[arg-type]
        started_at=ended - timedelta(minutes=3),
        finished_at=ended,
        seconds=180.0,
        message="made up",
    )
    lake.append("runs", manifest.to_row(), window=f"runs/{run_id}")


def register(workplace: Workplace, sleeves: tuple[str, ...] = tuple(SLEEVES)) -> None:
    """Enter sleeves by the registry: phase37 live at weight 1, others at genesis."""
    run = Run(workplace, "walk-forward", "register")
    entries = [
        NewSleeve(
            sleeve_id,
            Phase37().configuration
            if sleeve_id == "phase37"
            else json.dumps({"sleeve": sleeve_id}),
            "catalogue",
        )
        for sleeve_id in sleeves
    ]
    register_sleeves(run, entries)


def artefacts_of(workplace: Workplace) -> dict[str, pa.Table]:
    """Rows of the two artefacts, as the publisher would make them."""
    from flows.bodies.publish import read_content

    with connect(workplace.root, threads=1) as session:
        return {
            kind: read_content(session, kind) for kind in ("sleeve_set", "sleeve_book")
        }


def made_up_book(folder: Path, *, now: datetime) -> dict[str, pa.Table]:
    """The two artefacts after two runs: the newer with one sleeve past all gates."""
    clock = Clock(now, "argument")
    lake = Lake.open(str(folder / "lab"), clock=clock)
    workplace = Workplace(lake, clock, folder / "keys", folder / "state")
    write_walk(lake, "walk-forward-older", ended=now - timedelta(days=7), n_days=2033)
    newest = "walk-forward-0123456789abcdef"
    write_walk(lake, newest, ended=now, passed=("time-series-momentum",))
    write_walk(
        lake,
        "walk-forward-hourly",
        ended=now - timedelta(days=2),
        timeframe="1h",
        n_days=400,
        sleeves=("phase37", "rsi-reversion"),
    )
    register(workplace)
    return artefacts_of(workplace)
