"""Real daily bars that come with an installed package, for a demo without a network.

`arch` ships the S&P 500 and the NASDAQ Composite (1999 to 2018, as traded: `Close`
equals `Adj Close`) and the closes of VIX (from 2014) and WTI oil (from 1986). The two
closes become leaders: open = high = low = close and no volume; days without a price
are no rows. The files are read where they lie; `arch`, slow to start, is never
imported.
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from lakehouse.errors import SourceError
from lakehouse.schema._spec import FLOAT, TEXT, TIMESTAMP
from lakehouse.sources._base import BAR_SCHEMA, InstrumentInfo, RawBars

SOURCE: Final = "sample:arch"
DEMO_NOW: Final = datetime(2018, 10, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Series:
    folder: str
    columns: dict[str, str]
    info: InstrumentInfo


def _bars_of(symbol: str, folder: str) -> _Series:
    names = ("Open", "High", "Low", "Close", "Volume")
    info = InstrumentInfo(symbol, "index", "XNYS", "USD")
    return _Series(folder, {name.lower(): name for name in names}, info)


def _closes_of(symbol: str, folder: str, column: str, asset_class: str) -> _Series:
    names: dict[str, str] = dict.fromkeys(("open", "high", "low", "close"), column)
    info = InstrumentInfo(symbol, asset_class, "XNYS", "USD", is_leader=True)
    return _Series(folder, names, info)


SERIES: Final = {
    "SP500": _bars_of("SP500", "sp500"),
    "NASDAQ": _bars_of("NASDAQ", "nasdaq"),
    "VIX": _closes_of("VIX", "vix", "vix", "index"),
    "WTI": _closes_of("WTI", "wti", "DCOILWTICO", "commodity"),
}


def load(
    *, timeframe: str = "1d", symbols: Collection[str] | None = None
) -> Iterator[RawBars]:
    """Yield the sample's bars, one symbol at a time.

    Parameters
    ----------
    timeframe : str, default "1d"
        There are daily bars only.
    symbols : collection of str, optional
        Of `SP500`, `NASDAQ`, `VIX`, `WTI`; all by default.

    Yields
    ------
    RawBars
        `ts` is the session's date at 00:00 UTC.

    Raises
    ------
    SourceError
        If `arch` is not installed, or the timeframe or a symbol is not in the sample.
    """
    if timeframe != "1d":
        raise SourceError(f"source sample has daily bars: 1d, not {timeframe!r}")
    wanted = list(SERIES) if symbols is None else list(symbols)
    for symbol in wanted:
        if symbol not in SERIES:
            raise SourceError(
                f"source sample has no {symbol!r}; it has {', '.join(SERIES)}"
            )
    return (_read(symbol) for symbol in wanted)


def _read(symbol: str) -> RawBars:
    series = SERIES[symbol]
    path = _folder() / series.folder / f"{series.folder}.csv.gz"
    try:
        content = path.read_bytes()
        original = csv.read_csv(
            pa.CompressedInputStream(pa.BufferReader(content), "gzip"),
            convert_options=csv.ConvertOptions(
                column_types={"Date": TEXT}, null_values=["", "."]
            ),
        )
        bars = _bars(symbol, original, series.columns)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise SourceError(f"source sample: {path.name} cannot be read") from error
    has_price = bars["close"].is_valid()
    return RawBars(
        source=SOURCE,
        window=f"sample:{symbol}:{hashlib.sha256(content).hexdigest()[:16]}",
        timeframe="1d",
        bars=bars.filter(has_price),
        original=original.filter(has_price),
        instruments=(series.info,),
    )


def _folder() -> Path:
    found = find_spec("arch")
    if found is None or found.origin is None:
        raise SourceError(
            "source sample: package arch is not installed; "
            "pip install 'alphalake[research]'"
        )
    return Path(found.origin).parent / "data"


def _bars(symbol: str, original: pa.Table, columns: dict[str, str]) -> pa.Table:
    n_rows = original.num_rows
    parsed = pc.call_function(
        "strptime", [original["Date"]], pc.StrptimeOptions("%m/%d/%Y", "us")
    )
    arrays: dict[str, Any] = {
        "symbol": pa.repeat(pa.scalar(symbol, TEXT), n_rows),
        "ts": parsed.cast(TIMESTAMP),
        **{name: original[column].cast(FLOAT) for name, column in columns.items()},
        "reason": pa.nulls(n_rows, TEXT),
        "detail": pa.nulls(n_rows, TEXT),
    }
    arrays.setdefault("volume", pa.nulls(n_rows, FLOAT))
    return pa.table([arrays[field.name] for field in BAR_SCHEMA], schema=BAR_SCHEMA)
