"""Daily bars of a few coins in a lake, for walk-forwards that take a second."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from flows.bodies.ingest import ingest_bars
from tests.flows.conftest import run_plainly

BEGIN = datetime(2016, 12, 1, tzinfo=UTC)
N_DAYS = 600
SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT")
TRAIN_DAYS = 120


def write_bars(
    folder: Path, *, n_days: int = N_DAYS, start: int = 0, seed: int = 0
) -> str:
    """Write one file a symbol, the last listed late; return their pattern."""
    folder.mkdir(exist_ok=True)
    for number, symbol in enumerate(SYMBOLS):
        rng = np.random.default_rng([seed, number])
        close = 100 * np.exp(np.cumsum(rng.normal(0.0004, 0.03, N_DAYS * 2)))
        opens = np.r_[100.0, close[:-1]] * np.exp(rng.normal(0, 0.004, N_DAYS * 2))
        lines = ["symbol,ts,open,high,low,close,volume"]
        for day in range(start + (250 if number == 3 and not start else 0), n_days):
            ts = BEGIN + timedelta(days=day)
            bar = (opens[day], max(opens[day], close[day]) * 1.01)
            low = min(opens[day], close[day]) * 0.99
            prices = ",".join(f"{one:.6f}" for one in (*bar, low, close[day]))
            lines.append(f"{symbol},{ts:%Y-%m-%dT%H:%M:%SZ},{prices},1000")
        (folder / f"{symbol}_{start}.csv").write_text("\n".join(lines) + "\n")
    return str(folder / f"*_{start}.csv")


def ingest(folder: Path, *, n_days: int = N_DAYS, start: int = 0) -> None:
    """Bring the bars into the environment's lake."""
    run_plainly(
        "ingest-ohlcv",
        ingest_bars,
        source="files",
        path=write_bars(folder, n_days=n_days, start=start),
        timeframe="1d",
        options={"asset_class": "crypto"},
    )
