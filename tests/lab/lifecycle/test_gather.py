"""Evidence is what the rows known by then say, and nothing else."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lab.lifecycle.evidence import Evidence
from lab.lifecycle.gather import (
    Frames,
    Registered,
    backtest_trial,
    drawdowns,
    evidence_of,
    registered,
    series_of,
    speakers,
)
from lab.lifecycle.rules import DEFAULT_RULES
from lakehouse.schema.catalogue import table_spec
from tests.lab.lifecycle.walks import (
    FIRST_DAY,
    FOLD_DAYS,
    TABLES,
    Walk,
    configuration,
    noise,
)

N_DAYS = 400
ENDED = FIRST_DAY + timedelta(days=N_DAYS + 1, hours=5)
NOW = ENDED + timedelta(hours=1)
SLEEVE = Registered("trend", configuration("trend"), FIRST_DAY)


def walk(run_id: str = "walk-1", *, ended: datetime = ENDED, **changed: Any) -> Walk:
    found: dict[str, Any] = {
        "returns": {
            "trend": noise(1, N_DAYS, mean=0.001),
            "other": noise(2, N_DAYS),
        },
        "variants": {
            "trend": tuple(noise(10 + k, N_DAYS, mean=k * 1e-4) for k in range(4))
        },
    }
    return Walk(run_id, ended, **(found | changed))


def joined(*walks: Walk, **more: pa.Table) -> dict[str, pa.Table]:
    parts = [one.tables() for one in walks]
    found = {name: pa.concat_tables([part[name] for part in parts]) for name in TABLES}
    for name in ("gate_verdicts", "bot_shadow_decisions"):
        found[name] = table_spec(name).to_arrow().empty_table()
    return found | more


def gathered(
    tables: dict[str, pa.Table], *, as_of: datetime = NOW, sleeve: Registered = SLEEVE
) -> Evidence:
    said = speakers(tables["runs"], tables["wf_snapshots"], as_of=as_of, timeframe="1d")
    frames = Frames(**{name: rows for name, rows in tables.items() if name != "runs"})
    return evidence_of(
        sleeve,
        frames,
        speaker=said.get(sleeve.sleeve_id),
        as_of=as_of,
        rules=DEFAULT_RULES,
    )


def verdict(gate: str, decided_at: datetime, **inputs: Any) -> dict[str, Any]:
    return {
        "verdict_id": f"{gate}-{decided_at:%d%H}-{inputs}",
        "subject": "trend",
        "gate": gate,
        "inputs": json.dumps({"run_id": "walk-1", "n_trials": 6, **inputs}),
        "thresholds": "{}",
        "distances": "{}",
        "is_passed": True,
        "decided_at": decided_at,
        "run_id": "walk-1",
    }


def verdicts(*rows: dict[str, Any]) -> pa.Table:
    schema = table_spec("gate_verdicts").to_arrow()
    return pa.Table.from_pylist(list(rows), schema=schema)


def test_figures_are_those_of_the_rows():
    found = gathered(joined(walk()))
    returns = noise(1, N_DAYS, mean=0.001)
    daily = returns.mean() / returns.std(ddof=1)
    assert found.walked is not None
    assert found.stressed is not None
    assert found.walked.n_obs == N_DAYS
    assert found.walked.sharpe == pytest.approx(daily * np.sqrt(365.25))
    assert found.stressed.sharpe == pytest.approx((daily - 0.05) * np.sqrt(365.25))
    equity = np.concatenate([[1.0], np.cumprod(1 + returns)])
    assert found.drawdown == pytest.approx(1 - equity[-1] / equity.max())
    assert found.recent is not None
    assert found.recent.n_obs == 88
    assert found.n_folds == -(-N_DAYS // FOLD_DAYS)
    positive = [
        np.prod(1 + returns[k : k + FOLD_DAYS]) > 1 for k in range(0, N_DAYS, FOLD_DAYS)
    ]
    assert found.n_positive_folds == sum(positive)
    assert found.backtest_trades == 40 * found.n_folds
    assert found.n_trials == 6
    assert (found.run_id, found.family, found.fill) == (
        "walk-1",
        "family-1",
        "next_open",
    )


def test_the_backtest_is_the_registered_configuration_not_the_best():
    found = gathered(joined(walk()))
    returns = noise(10, N_DAYS)
    assert found.backtest is not None
    assert found.backtest.sharpe == pytest.approx(0.0, abs=1e-6)
    largest = drawdowns(returns.astype(np.float32).astype(np.float64)).max()
    assert found.backtest_drawdown == pytest.approx(largest)


def test_an_untried_configuration_is_stood_for_by_the_median_trial():
    tables = joined(walk())
    sleeve = Registered("trend", configuration("trend", 77), FIRST_DAY)
    row = backtest_trial(tables["trials"], sleeve, family="family-1", as_of=NOW)
    assert row is not None
    assert row["configuration"] == configuration("trend", 1)
    nobody = Registered("nobody", configuration("nobody"), FIRST_DAY)
    assert (
        backtest_trial(tables["trials"], nobody, family="family-1", as_of=NOW) is None
    )


def test_the_newest_completed_run_of_the_sleeve_speaks():
    week = timedelta(days=7)
    later = walk("walk-2", ended=ENDED + week)
    without = walk("walk-3", ended=ENDED + 2 * week, returns={"other": noise(3, 400)})
    hourly = walk("walk-4", ended=ENDED + 3 * week, timeframe="1h")
    parity = walk("walk-5", ended=ENDED + 4 * week, fill="same_close")
    tables = joined(walk(), later, without, hourly, parity)
    as_of = ENDED + 5 * week
    assert gathered(tables, as_of=as_of).run_id == "walk-2"
    assert gathered(tables, as_of=NOW).run_id == "walk-1"
    assert gathered(joined(hourly, parity), as_of=as_of).run_id == "walk-4"
    only = gathered(joined(parity), as_of=as_of)
    assert (only.run_id, only.fill) == ("walk-5", "same_close")
    assert gathered(tables, as_of=ENDED - week).walked is None


def test_the_newest_verdict_on_the_run_that_speaks_counts():
    early, late = ENDED - timedelta(minutes=2), ENDED - timedelta(minutes=1)
    rows = verdicts(
        verdict("dsr", late, dsr=0.9),
        verdict("dsr", early, dsr=0.8),
        verdict("pbo", late, pbo=0.1, run_id="walk-0"),
        verdict("reality_check", NOW + timedelta(hours=1), p_value=0.2),
    )
    found = gathered(joined(walk(), gate_verdicts=rows))
    assert set(found.gates) == {"dsr"}
    assert found.gates["dsr"].inputs["dsr"] == 0.9
    assert not found.is_out_of_date("dsr")
    old = verdicts(verdict("dsr", late, n_trials=5))
    assert gathered(joined(walk(), gate_verdicts=old)).is_out_of_date("dsr")


def test_samples_are_settled_live_decisions_since_the_stage_was_entered():
    entered = NOW - timedelta(days=10)

    def decision(number: int, **changed: Any) -> dict[str, Any]:
        return {
            "decision_id": str(number),
            "signal": "trend",
            "symbol": "AAA",
            "timeframe": "1d",
            "origin": "live",
            "decided_at": entered + timedelta(days=1),
            "weight": 0.0,
            "settled_at": entered + timedelta(days=2),
            "counterfactual_pnl": 0.1,
            "run_id": "r",
            **changed,
        }

    rows = [
        decision(0),
        decision(1, signal="other"),
        decision(2, origin="replay"),
        decision(3, settled_at=None),
        decision(4, settled_at=NOW + timedelta(days=1)),
        decision(5, decided_at=entered - timedelta(days=1)),
    ]
    schema = table_spec("bot_shadow_decisions").to_arrow()
    made = pa.Table.from_pylist(rows, schema=schema)
    sleeve = Registered("trend", configuration("trend"), entered, entered)
    found = gathered(joined(walk(), bot_shadow_decisions=made), sleeve=sleeve)
    assert found.samples == 1
    assert found.stage_days == pytest.approx(10.0)
    assert found.live_days == 0.0


def test_live_days_are_those_on_which_the_paper_trader_ran():
    entered = NOW - timedelta(days=40)

    def decision(day: float, signal: str, origin: str = "live") -> dict[str, Any]:
        return {
            "decision_id": f"{day}{signal}{origin}",
            "signal": signal,
            "symbol": "AAA",
            "timeframe": "1d",
            "origin": origin,
            "decided_at": entered + timedelta(days=day),
            "weight": 0.1,
            "settled_at": None,
            "counterfactual_pnl": None,
            "run_id": "r",
        }

    def days(*rows: dict[str, Any]) -> float:
        schema = table_spec("bot_shadow_decisions").to_arrow()
        made = pa.Table.from_pylist(list(rows), schema=schema)
        sleeve = Registered("trend-2", configuration("trend-2"), entered, entered)
        found = gathered(joined(walk(), bot_shadow_decisions=made), sleeve=sleeve)
        return found.live_days

    own = [decision(2, "trend-2"), decision(5, "trend-2")]
    assert days(*own) == pytest.approx(3.0)
    others = [decision(day, "reversion") for day in range(1, 11)]
    assert days(*own, *others) == pytest.approx(8.0), "from its own first decision on"
    assert days(*others) == 0.0, "it was not watched"
    after_a_hole = [decision(20, "trend-2"), decision(22, "trend-2")]
    assert days(*own, *after_a_hole) == pytest.approx(5.0)
    replayed = [decision(day, "trend-2", "replay") for day in range(6, 40)]
    assert days(*own, *replayed) == pytest.approx(3.0)
    assert days(decision(-3, "trend-2"), *own) == pytest.approx(3.0)


@pytest.mark.parametrize("days_back", [0, 1, 37, 200])
def test_rows_of_the_future_change_nothing(days_back: int):
    as_of = NOW - timedelta(days=days_back)
    ended = as_of - timedelta(hours=1)
    now_walk = walk(ended=ended)
    rows = [verdict("dsr", ended), verdict("pbo", ended)]
    tables = joined(now_walk, gate_verdicts=verdicts(*rows))
    found = gathered(tables, as_of=as_of)

    future = walk(
        "walk-9",
        ended=as_of + timedelta(seconds=1),
        returns={"trend": noise(5, N_DAYS, mean=-0.01)},
        tried_at=as_of + timedelta(seconds=1),
    )
    altered = joined(
        now_walk,
        future,
        gate_verdicts=verdicts(
            *rows, verdict("dsr", as_of + timedelta(seconds=1), n_trials=900)
        ),
    )
    for name in ("sleeve_returns", "wf_snapshots"):
        altered[name] = _altered_after(altered[name], as_of)
    assert gathered(altered, as_of=as_of) == found
    assert gathered(altered, as_of=NOW + timedelta(days=1)) != found


def _altered_after(table: pa.Table, as_of: datetime) -> pa.Table:
    rows = table.to_pylist()
    for row in rows:
        if row["known_ts"] > as_of:
            row["return_net"] = -0.5
            row["run_id"] = "walk-1"
    return pa.Table.from_pylist(rows, schema=table.schema)


def test_no_returns_are_no_series():
    assert series_of(np.zeros(1), np.zeros(1, "datetime64[us]")) is None
    flat = series_of(np.zeros(9), np.arange(9).astype("datetime64[D]"))
    assert flat is not None
    assert flat.sharpe is None


def test_a_chain_tells_stage_and_days_as_of_any_time():
    day = timedelta(days=1)
    schema = table_spec("sleeve_transitions").to_arrow()
    first = json.dumps({"configuration": "{}", "author": "a", "trades": 120})
    base = {"why": "", "previous_hash": "", "row_hash": "", "run_id": "r"}
    rows = [
        {"seq": 0, "sleeve_id": "a", "from_stage": None, "to_stage": "genesis",
         "evidence": first, "decided_at": datetime(2021, 1, 1, tzinfo=UTC), **base},
        {"seq": 1, "sleeve_id": "a", "from_stage": "genesis", "to_stage": "backtest",
         "evidence": "{}", "decided_at": datetime(2021, 1, 2, tzinfo=UTC), **base},
    ]  # fmt: skip
    chain = pa.Table.from_pylist(rows, schema=schema)
    start = datetime(2021, 1, 1, tzinfo=UTC)
    assert registered(chain, as_of=start - day) == {}
    assert registered(chain, as_of=start)["a"].moved_at is None
    assert registered(chain, as_of=start + day)["a"].moved_at == start + day
    assert registered(chain, as_of=start + day)["a"].trades == 120
    assert pc.max(chain["seq"]).as_py() == 1
