"""The hourly panel of the ingest and read contracts: random walks from a seed."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

N_SYMBOLS = 23
N_BARS = 70_080  # eight years of hours
START = datetime(2018, 1, 1, tzinfo=UTC)
TIMESTAMP = pa.timestamp("us", tz="UTC")


def symbols(n_symbols: int = N_SYMBOLS) -> list[str]:
    """Return the panel's symbols."""
    return [f"S{number:02d}USDT" for number in range(n_symbols)]


def constant(value: str, n_rows: int) -> pa.Array:
    """Return a text column of one value."""
    return pa.DictionaryArray.from_arrays(np.zeros(n_rows, np.int32), [value]).cast(
        pa.string()
    )


def panel(
    seed: int, *, n_symbols: int = N_SYMBOLS, n_bars: int = N_BARS, first: int = 0
) -> pa.Table:
    """Return `ohlcv` rows sorted by symbol and time, text plain.

    Parameters
    ----------
    seed : int
        Prices and volumes.
    n_symbols, n_bars : int
        Symbols, and hourly bars of each.
    first : int
        Hours from 2018-01-01 to the first bar.
    """
    rng = np.random.default_rng(seed)
    n_rows = n_symbols * n_bars
    start = np.datetime64(START.replace(tzinfo=None), "us")
    hours = start + (first + np.arange(n_bars)) * np.timedelta64(3_600_000_000, "us")
    returns = rng.standard_normal((n_symbols, n_bars)) * 0.004
    close = (100 * np.exp(np.cumsum(returns, axis=1))).ravel()
    opens = np.roll(close, 1)
    opens[::n_bars] = 100.0
    wick = 1 + np.abs(rng.standard_normal((2, n_rows))) * 0.001
    codes = np.repeat(np.arange(n_symbols, dtype=np.int32), n_bars)
    stamp = np.full(n_rows, np.datetime64("2026-01-01", "us"))
    return pa.table(
        {
            "symbol": pa.DictionaryArray.from_arrays(codes, symbols(n_symbols)).cast(
                pa.string()
            ),
            "timeframe": constant("1h", n_rows),
            "ts": pa.array(np.tile(hours, n_symbols)).cast(TIMESTAMP),
            "open": opens,
            "high": np.maximum(opens, close) * wick[0],
            "low": np.minimum(opens, close) / wick[1],
            "close": close,
            "volume": rng.gamma(2.0, 100.0, n_rows),
            "source": constant("synthetic:bench", n_rows),
            "ingested_at": pa.array(stamp).cast(TIMESTAMP),
            "flags": pa.nulls(n_rows, pa.string()),
        }
    )
