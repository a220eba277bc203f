"""Verified artefacts in memory: what the gateway sees, without a repository.

`MemoryProvider` implements `serve.provider.ArtefactProvider`; tests publish, break and
repair it.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from lab.scoring.court import judge
from lakehouse.errors import TrustError
from lakehouse.schema.catalogue import table_spec
from serve.provider import KINDS, Artefact, Verified
from tests.simulators.scores import daily_scores

NOW = datetime(2022, 3, 4, 21, tzinfo=UTC)
SYMBOLS = ("BTC-USD", "ES=F", "EUR/USD", "^GSPC")
STEPS = {"1h": timedelta(hours=1), "1d": timedelta(days=1)}


def tables(
    seed: int = 7,
    *,
    symbols: tuple[str, ...] = SYMBOLS,
    models: tuple[str, ...] = ("naive", "seasonal"),
    n_bars: int = 60,
    horizon: int = 24,
    now: datetime = NOW,
) -> dict[str, pa.Table]:
    """Rows of every kind; `GOLD` is known but has neither bars nor forecasts."""
    rng = np.random.default_rng(seed)
    return {
        "latest_predictions": _predictions(rng, symbols, models, horizon, now),
        "signal_performance": _scores(rng, symbols, models, now),
        "instruments": _instruments((*symbols, "GOLD"), now),
        "recent_bars": _bars(rng, symbols, n_bars, now),
    }


def report(
    seed: int = 7,
    *,
    symbols: tuple[str, ...] = SYMBOLS,
    models: dict[str, tuple[float, float]] | None = None,
) -> pa.Table:
    """The court's verdicts on made-up forecasts: `seasonal` knows a part of the future.

    `models` as in `daily_scores`.
    """
    schema = table_spec("artefact_evaluation_report").to_arrow()
    parts = []
    for timeframe, step in STEPS.items():
        scores = daily_scores(
            seed,
            symbols=symbols,
            horizons=(1, 4, 24),
            n_days=160,
            models=models or {"naive": (0.0, 1.0), "seasonal": (0.3, 0.84)},
            bar=step,
            timeframe=timeframe,
        )
        parts.append(
            judge(
                scores,
                timeframe=timeframe,
                asset_classes={"EUR/USD": "fx", "BTC-USD": "crypto"},
                as_of=NOW,
                judged_at=NOW,
                run_id="judge",
            )
        )
    return pa.concat_tables(parts).select(schema.names)


def _table(kind: str, rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=table_spec(f"artefact_{kind}").to_arrow())


def _predictions(rng, symbols, models, horizon, now) -> pa.Table:
    rows = []
    for symbol in symbols:
        for timeframe, step in STEPS.items():
            for model in models:
                p50 = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, horizon)))
                rows.append(
                    {
                        "prediction_id": f"{symbol}/{timeframe}/{model}",
                        "symbol": symbol,
                        "timeframe": timeframe,
                        "model_name": model,
                        "model_version": "1",
                        "generated_at": now - timedelta(minutes=4),
                        "as_of": now - timedelta(minutes=5),
                        "known_ts": now - timedelta(minutes=5),
                        "last_close": 100.0,
                        "last_ts": now - step,
                        "target_ts": [now + i * step for i in range(horizon)],
                        "p10": list(p50 * 0.98),
                        "p50": list(p50),
                        "p90": list(p50 * 1.02),
                        **(_band(p50) if model == "seasonal" else {}),
                        "seed": 1,
                        "is_contaminated": False,
                        "run_id": "run",
                    }
                )
    return _table("latest_predictions", rows)


def _band(p50) -> dict:
    """A calibrated band, wider than the forecast's own."""
    return {
        "band_p10": list(p50 * 0.95),
        "band_p90": list(p50 * 1.04),
        "band_coverage": 0.8,
        "band_horizons": [1, 4, 24],
        "band_n_labels": [12, 9, 0],
    }


def _scores(rng, symbols, models, now) -> pa.Table:
    fractions = (
        "hit_rate",
        "coverage_80",
        "share_below_p10",
        "share_below_p50",
        "share_below_p90",
        "pinball",
        "wql",
        "crps",
        "mase",
        "skill_crps",
        "skill_mae",
        "sharpe",
    )
    rows = [
        {
            "symbol": symbol,
            "timeframe": timeframe,
            "horizon": horizon,
            "model_name": model,
            "n_scored": 10,
            "n_in_skill": 9,
            "n_blocks": 5,
            "first_as_of": now - timedelta(days=9),
            "last_as_of": now - timedelta(days=1),
            "known_ts": now,
            **{name: float(rng.uniform()) for name in fractions},
        }
        for symbol in symbols
        for timeframe in STEPS
        for horizon in (1, 4, 24)
        for model in models
    ]
    return _table("signal_performance", rows)


def _instruments(symbols, now) -> pa.Table:
    rows = [
        {
            "symbol": symbol,
            "asset_class": "other",
            "calendar": "24x7",
            "currency": "USD",
            "is_leader": False,
            "source": "test",
            "updated_at": now,
        }
        for symbol in symbols
    ]
    return _table("instruments", rows)


def _bars(rng, symbols, n_bars, now) -> pa.Table:
    rows = []
    for symbol in symbols:
        for timeframe, step in STEPS.items():
            close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n_bars)))
            rows += [
                {
                    "symbol": symbol,
                    "timeframe": timeframe,
                    "ts": now - (n_bars - i) * step,
                    "open": float(close[i]),
                    "high": float(close[i]) * 1.01,
                    "low": float(close[i]) * 0.99,
                    "close": float(close[i]),
                    "volume": None if i % 7 == 0 else float(i),
                    "source": "test",
                    "flags": None,
                }
                for i in range(n_bars)
            ]
    return _table("recent_bars", rows)


class MemoryProvider:
    """Artefacts that a test publishes; `broken` makes refreshes fail."""

    def __init__(self, rows: dict[str, pa.Table] | None = None, *, now: datetime = NOW):
        self.now = now
        self.version = 0
        self.table_id = "made-once"
        self.broken: TrustError | OSError | None = None
        self.kept: Verified | None = None
        self.files: dict[str, bytes] = {}
        self._current: dict[str, Artefact] = {}
        if rows is not None:
            self.publish(rows)

    def publish(self, rows: dict[str, pa.Table]) -> None:
        """Make `rows` the newest version of every kind."""
        self.version += 1
        self._current = {
            kind: Artefact(
                kind=kind,
                version=self.version,
                sha256=f"{self.version:064x}",
                role="shadow",
                as_of=self.now,
                published_at=self.now,
                valid_until=self.now + timedelta(days=2),
                table_name=f"artefact_{kind}",
                table_id=self.table_id,
                files={"part-0.parquet": 1000},
                table=rows[kind],
            )
            for kind in KINDS
            if kind in rows
        }

    def refresh(self) -> Verified:
        """Return the newest version, or fail as the test said."""
        if self.broken is not None:
            raise self.broken
        self.kept = Verified(self._current, self.now)
        return self.kept

    def last(self) -> Verified | None:
        """Return what was verified before."""
        return self.kept

    def read(self, path: str, *, max_length: int) -> bytes:
        """Return a repository file."""
        if path not in self.files:
            raise TrustError(f"{path}: no such file")
        return self.files[path][:max_length]
