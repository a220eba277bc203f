"""Walk-forward runs with returns of one's choice, as the rows that a real one stores."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from lab.arrays import FloatArray
from lab.backtest.ledger import Trial, trial_tables
from lakehouse.schema.catalogue import table_spec

FIRST_DAY = datetime(2019, 1, 1, tzinfo=UTC)
RUNGS = (0.0, 5.0, 10.0, 20.0)
TABLES = ("runs", "wf_snapshots", "sleeve_returns", "trials", "trial_returns")
FOLD_DAYS = 30


def configuration(sleeve_id: str, variant: int = 0) -> str:
    content = {"parameters": {"speed": variant}, "sleeve": sleeve_id}
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def noise(seed: int, n_days: int, *, mean: float = 0.0) -> FloatArray:
    """Return daily returns with exactly this mean and 1 % volatility."""
    drawn = np.random.default_rng(seed).normal(size=n_days)
    drawn = (drawn - drawn.mean()) / drawn.std(ddof=1)
    return mean + 0.01 * drawn


@dataclass(frozen=True)
class Walk:
    """One completed walk-forward run.

    `returns` are net at 10 bps by sleeve, one a day from FIRST_DAY; the ledger holds
    the stitched series and `variants` of each sleeve, the registered one first.
    """

    run_id: str
    finished_at: datetime
    returns: Mapping[str, FloatArray]
    variants: Mapping[str, tuple[FloatArray, ...]]
    n_trades: int = 40
    fill: str = "next_open"
    timeframe: str = "1d"
    family: str = "family-1"
    tried_at: datetime | None = None

    @property
    def days(self) -> list[datetime]:
        n_days = len(next(iter(self.returns.values())))
        return [FIRST_DAY + timedelta(days=number) for number in range(n_days)]

    def tables(self) -> dict[str, pa.Table]:
        trials, trial_returns = self._ledger()
        rows = {"runs": [self._run()], "wf_snapshots": [], "sleeve_returns": []}
        for name, returns in self.returns.items():
            rows["wf_snapshots"] += self._folds(name, returns)
            rows["sleeve_returns"] += self._days(name, returns)
        made = {
            table: pa.Table.from_pylist(found, schema=table_spec(table).to_arrow())
            for table, found in rows.items()
        }
        return made | {"trials": trials, "trial_returns": trial_returns}

    def _run(self) -> dict[str, Any]:
        empty = dict.fromkeys(
            ("seeds", "tables_read", "tables_written", "counts"), "{}"
        )
        return {
            "run_id": self.run_id,
            "flow": "walk-forward",
            "status": "completed",
            "started_at": self.finished_at - timedelta(minutes=5),
            "finished_at": self.finished_at,
            "seconds": 300.0,
            "parameters": json.dumps({"family": self.family, "fill": self.fill}),
            **empty,
            "code_commit": "unknown",
            "lock_hash": "",
            "environment": "{}",
            "prefect_run_id": None,
            "message": "walked",
        }

    def _days(self, name: str, returns: FloatArray) -> list[dict[str, Any]]:
        return [
            {
                "sleeve_id": name,
                "timeframe": self.timeframe,
                "ts": day,
                "slippage_bps": rung,
                "return_gross": float(made) + 0.0005,
                "return_net": float(made) + 0.0005 - 0.00005 * rung,
                "turnover": 0.5,
                "window": number // FOLD_DAYS,
                "phase": "test",
                "known_ts": day + timedelta(days=1),
                "run_id": self.run_id,
            }
            for rung in RUNGS
            for number, (day, made) in enumerate(zip(self.days, returns, strict=True))
        ]

    def _folds(self, name: str, returns: FloatArray) -> list[dict[str, Any]]:
        rows = []
        for start in range(0, len(returns), FOLD_DAYS):
            stop = min(start + FOLD_DAYS, len(returns))
            made = float(np.prod(1.0 + returns[start:stop]) - 1.0)
            rows += [
                {
                    "run_id": self.run_id,
                    "sleeve_id": name,
                    "timeframe": self.timeframe,
                    "window": start // FOLD_DAYS,
                    "slippage_bps": rung,
                    "train_start": self.days[start] - timedelta(days=180),
                    "test_start": self.days[start],
                    "test_end": self.days[stop - 1],
                    "sharpe": None,
                    "return_net": made,
                    "max_drawdown": 0.0,
                    "trades": self.n_trades,
                    "baseline_ratio": None,
                    "parameters": "{}",
                    "known_ts": self.days[stop - 1] + timedelta(days=1),
                }
                for rung in RUNGS
            ]
        return rows

    def _ledger(self) -> tuple[pa.Table, pa.Table]:
        trials = []
        for name, returns in self.returns.items():
            stitched = json.dumps({"sleeve": name, "walk_forward": self.run_id})
            trials.append(Trial(stitched, returns))
            for number, made in enumerate(self.variants.get(name, ())):
                trials.append(Trial(configuration(name, number), made))
        return trial_tables(
            trials,
            family=self.family,
            origin="walkforward",
            days=np.array(
                [d.replace(tzinfo=None) for d in self.days], "datetime64[us]"
            ),
            tried_at=self.tried_at or self.finished_at,
            run_id=self.run_id,
        )
