"""A real lake in a temporary folder, rows to fill it with, and verbs to damage it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from lakehouse.clock import Clock
from lakehouse.store import Lake

START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
SYMBOLS = ("BTC", "EURUSD", "SPX")
STEPS = {"1h": timedelta(hours=1), "1d": timedelta(days=1)}
TIMESTAMP = pa.timestamp("us", tz="UTC")


def open_lake(root: Path | str, *, now: datetime = NOW) -> Lake:
    """Open a lake whose clock stands still."""
    return Lake.open(str(root), clock=Clock(now, "argument"))


def bars(
    n_bars: int = 24,
    *,
    start: datetime = START,
    symbols: tuple[str, ...] = SYMBOLS,
    timeframe: str = "1h",
    seed: int = 0,
    ingested_at: datetime = NOW,
) -> pa.Table:
    """Return `ohlcv` rows: a random walk per symbol; the same bar is always equal."""
    parts = []
    step = STEPS[timeframe]
    origin = datetime(2000, 1, 1, tzinfo=UTC)
    first = (start - origin) // step
    for symbol in symbols:
        rng = np.random.default_rng([seed, *symbol.encode()])
        steps = rng.standard_normal(997)
        spots = (first + np.arange(n_bars)) % 997
        close = 100 * np.exp(0.01 * steps[spots])
        open_ = 100 * np.exp(0.01 * steps[spots - 1])
        parts.append(
            pa.table(
                {
                    "symbol": [symbol] * n_bars,
                    "timeframe": [timeframe] * n_bars,
                    "ts": pa.array(
                        [start + i * step for i in range(n_bars)], TIMESTAMP
                    ),
                    "open": open_,
                    "high": np.maximum(open_, close) * 1.001,
                    "low": np.minimum(open_, close) * 0.999,
                    "close": close,
                    "volume": pa.nulls(n_bars, pa.float64()),
                    "source": ["simulator"] * n_bars,
                    "ingested_at": pa.array([ingested_at] * n_bars, TIMESTAMP),
                    "flags": pa.nulls(n_bars, pa.string()),
                }
            )
        )
    return pa.concat_tables(parts)


def forecasts(
    as_ofs: list[datetime],
    *,
    symbols: tuple[str, ...] = SYMBOLS,
    models: tuple[str, ...] = ("naive", "seasonal"),
    horizon: int = 4,
    n_samples: int = 3,
    generated_at: datetime = NOW,
) -> pa.Table:
    """Return `ml_predictions` rows, one per symbol, model and decision time."""
    rows = [
        {
            "prediction_id": f"{symbol}-{model}-{as_of:%Y%m%dT%H%M%S}",
            "symbol": symbol,
            "timeframe": "1h",
            "model_name": model,
            "model_version": "1",
            "generated_at": generated_at,
            "as_of": as_of,
            "known_ts": as_of,
            "last_close": 100.0,
            "last_ts": as_of - timedelta(hours=1),
            "target_ts": [as_of + timedelta(hours=i) for i in range(horizon)],
            "p10": [99.0 - i for i in range(horizon)],
            "p50": [100.0] * horizon,
            "p90": [101.0 + i for i in range(horizon)],
            "samples": [[100.0 + j] * horizon for j in range(n_samples)],
            "quantiles": [[100.0 + j] * horizon for j in range(21)],
            "seed": 0,
            "event_context": None,
            "is_contaminated": False,
            "run_id": "run",
        }
        for as_of in as_ofs
        for symbol in symbols
        for model in models
    ]
    kinds = {
        "generated_at": TIMESTAMP,
        "as_of": TIMESTAMP,
        "known_ts": TIMESTAMP,
        "last_ts": TIMESTAMP,
        "target_ts": pa.list_(TIMESTAMP),
        "samples": pa.list_(pa.list_(pa.float32())),
        "quantiles": pa.list_(pa.list_(pa.float32())),
        "event_context": pa.string(),
    }
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return pa.table(
        {name: pa.array(values, kinds.get(name)) for name, values in columns.items()}
    )


def rows_of(rows: pa.Table, *columns: str) -> list[tuple[object, ...]]:
    """Return rows as sorted tuples, so that tables compare whatever their order."""
    names = columns or tuple(rows.column_names)
    found = rows.select(names).to_pylist()
    return sorted((tuple(row[name] for name in names) for row in found), key=repr)


def newest_by_scan(rows: pa.Table) -> dict[tuple[str, str], datetime]:
    """Return the newest `ts` per symbol and timeframe of `ohlcv` rows, the slow way."""
    newest: dict[tuple[str, str], datetime] = {}
    for row in rows.select(["symbol", "timeframe", "ts"]).to_pylist():
        key = (row["symbol"], row["timeframe"])
        newest[key] = max(newest.get(key, row["ts"]), row["ts"])
    return newest


def newest_kept(lake: Lake) -> dict[tuple[str, str], datetime]:
    """Return the same from the kept latest table."""
    return {
        (row["symbol"], row["timeframe"]): row["ts"]
        for row in lake.latest("ohlcv").to_pylist()
    }


def tamper_file(root: Path, table: str, name: str) -> None:
    """Flip one byte in the middle of a data file."""
    path = root / "tables" / table / name
    payload = bytearray(path.read_bytes())
    payload[len(payload) // 2] ^= 0xFF
    path.write_bytes(payload)


def log_entries(root: Path, table: str) -> list[Path]:
    """Return the table's commit files, oldest first."""
    return sorted((root / "tables" / table / "_delta_log").glob("*.json"))
