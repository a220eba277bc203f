"""Open the source that a request names."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lakehouse.clock import Clock, parse_moment
from lakehouse.errors import InputError
from lakehouse.sources._base import RawBars

SOURCES: Final = ("sample", "synthetic", "files", "ccxt", "yfinance")
# Options of the verb that a source may take, beside symbols and timeframe.
FILE_OPTIONS: Final = ("dialect", "timezone", "columns")
# What a source calls its symbols, where it is something else.
_SYMBOLS: Final = {"yfinance": "tickers"}


@dataclass(frozen=True, slots=True)
class BarRequest:
    """Bars that somebody asks for.

    Attributes
    ----------
    source : str
        One of `SOURCES`.
    timeframe : str or None
        `1h` or `1d`; None where the source knows.
    path : str or None
        Glob, for `files`.
    symbols : tuple of str or None
        Only these.
    options : mapping of str to str
        Options of the source, as on the command line.
    """

    source: str
    timeframe: str | None = None
    path: str | None = None
    symbols: tuple[str, ...] | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an unknown source, and a path without or beside `files`."""
        if self.source not in SOURCES:
            allowed = ", ".join(SOURCES)
            raise InputError(f"--source {self.source!r}: allowed are {allowed}")
        if self.timeframe not in {None, "1h", "1d"}:
            raise InputError(f"--timeframe {self.timeframe!r}: allowed are 1h, 1d")
        if (self.source == "files") != (self.path is not None):
            raise InputError(
                "--source files needs --path GLOB"
                if self.path is None
                else f"--path is for --source files, not {self.source}"
            )

    @property
    def is_remote(self) -> bool:
        """Whether it asks somebody on the network."""
        return self.source in {"ccxt", "yfinance"}


def open_source(request: BarRequest, *, clock: Clock) -> Iterator[RawBars]:
    """Return the bars of a request, one file or download after the other.

    Raises
    ------
    InputError
        If the source cannot do what is asked.
    SourceUnavailableError
        If a remote source does not answer.
    """
    if request.source == "files":
        from lakehouse.sources.files import read_bars

        chosen = {name: request.options.get(name) for name in FILE_OPTIONS}
        return read_bars(
            request.path or "",
            dialect=chosen["dialect"] or "auto",
            symbols=request.symbols,
            timeframe=request.timeframe,
            timezone=chosen["timezone"],
            columns=chosen["columns"],
        )
    load = _loader(request.source)
    arguments = _arguments(request, clock)
    accepted = inspect.signature(load).parameters
    given = {*request.options, "symbols"}
    unknown = [name for name in arguments if name not in accepted and name in given]
    if unknown:
        raise InputError(f"source {request.source}: takes no {_as_options(unknown)}")
    missing = [
        name
        for name, one in accepted.items()
        if one.default is one.empty and name not in arguments
    ]
    if missing:
        raise InputError(f"source {request.source}: needs {_as_options(missing)}")
    found: Iterator[RawBars] = load(
        **{name: value for name, value in arguments.items() if name in accepted}
    )
    return found


def _loader(source: str) -> Callable[..., Iterator[RawBars]]:
    if source == "sample":
        from lakehouse.sources import sample

        return sample.load
    if source == "synthetic":
        from lakehouse.sources import synthetic

        return synthetic.load
    if source == "ccxt":
        from lakehouse.sources import ccxt_feed

        return ccxt_feed.load
    from lakehouse.sources import yfinance_feed

    return yfinance_feed.load


def _arguments(request: BarRequest, clock: Clock) -> dict[str, Any]:
    arguments: dict[str, Any] = {"now": clock.now(), "until": clock.now()}
    if request.timeframe is not None or request.source != "sample":
        arguments["timeframe"] = request.timeframe or "1d"
    if request.symbols is not None:
        arguments[_SYMBOLS.get(request.source, "symbols")] = request.symbols
    for name, text in request.options.items():
        if name == "asset_class":
            continue
        arguments[name] = _parse(name, text)
    return arguments


def _as_options(names: Sequence[str]) -> str:
    options = ("symbols" if name in _SYMBOLS.values() else name for name in names)
    return ", ".join(f"--{name.replace('_', '-')}" for name in options)


def _parse(name: str, text: str) -> Any:
    if name in {"since", "until"}:
        return parse_moment(text, what=f"--{name}")
    try:
        if name == "seed":
            return int(text)
        return float(text) if name == "years" else text
    except ValueError as error:
        raise InputError(f"--{name} {text!r}: not a number") from error


def synthetic_arguments(request: BarRequest) -> dict[str, Any]:
    """Return seed and years of a synthetic market, where they were given."""
    return {
        name: _parse(name, request.options[name])
        for name in ("seed", "years")
        if name in request.options
    }


def split_symbols(text: str | None) -> Sequence[str] | None:
    """Return the symbols of a comma-separated setting; None when it is not set."""
    if not text:
        return None
    return [part.strip() for part in text.split(",") if part.strip()]
