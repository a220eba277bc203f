"""Bodies of the showcase: pure functions of what is verified and what was asked."""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from serve.errors import (
    MalformedError,
    NoBarsError,
    NoForecastError,
    NothingVerifiedError,
    UnknownSymbolError,
)
from serve.schemas import Bars, Instruments, Scope, Scores, Sleeves, Timeframe
from serve.snapshot import Key, ServedSnapshot

# One or more parts of letters, digits and ^ = . _ : + & @ -, joined by single slashes.
SYMBOL_PATTERN: Final = r"^[A-Za-z0-9^][A-Za-z0-9^=._:+&@-]{0,62}(/[A-Za-z0-9^][A-Za-z0-9^=._:+&@-]{0,31})?$"
MODEL_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
DEFAULT_LIMIT: Final = 500
MAX_LIMIT: Final = 5000
MAX_OFFSET: Final = 1_000_000
_SYMBOL: Final = re.compile(SYMBOL_PATTERN)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class View:
    """A snapshot as it is to be shown at one moment.

    Attributes
    ----------
    snapshot : ServedSnapshot
        What was verified.
    stale_keys : frozenset of Key
        Forecasts that are stale.
    stale_kinds : frozenset of str
        Artefacts that are: past their `valid_until`, or their source is gone.
    stamp : str
        Identifies the content and what is stale in it; the cache's key.
    """

    snapshot: ServedSnapshot
    stale_keys: frozenset[Key]
    stale_kinds: frozenset[str]
    stamp: str = field(init=False)

    def __post_init__(self) -> None:
        """Digest the versions and the stale sets."""
        parts = (
            self.snapshot.versions(),
            sorted(self.stale_keys),
            sorted(self.stale_kinds),
        )
        stamp = hashlib.sha256(repr(parts).encode()).hexdigest()
        object.__setattr__(self, "stamp", stamp)

    @property
    def is_stale(self) -> bool:
        """Whether anything shown is stale."""
        return bool(self.stale_keys or self.stale_kinds)


def known_symbol(view: View | None, symbol: str) -> tuple[View, str]:
    """Check a symbol of a path; the symbol is only ever a key of a mapping.

    Raises
    ------
    MalformedError
        If it cannot be a symbol.
    NothingVerifiedError
        If nothing was verified yet.
    UnknownSymbolError
        If no verified artefact names it.
    """
    if len(symbol) > 64 or not _SYMBOL.fullmatch(symbol):
        raise MalformedError(
            f"symbol: {symbol[:64]!r} is not a symbol; allowed are up to 64 letters, "
            "digits and ^ = . _ : + & @ - / as in BTC-USD, ES=F, EUR/USD"
        )
    checked = verified(view)
    if symbol not in checked.snapshot.symbols:
        raise UnknownSymbolError(f"symbol {symbol}: not in the verified artefacts")
    return checked, symbol


def verified(view: View | None) -> View:
    """Return the view, or refuse while there is none."""
    if view is None:
        raise NothingVerifiedError("no artefact has been verified yet")
    return view


def prediction(
    view: View | None,
    symbol: str,
    *,
    model_name: str | None = None,
    timeframe: Timeframe | None = None,
) -> bytes:
    """Encode the newest verified forecast of `symbol`.

    Raises
    ------
    MalformedError, NothingVerifiedError, UnknownSymbolError
        As `known_symbol`.
    NoForecastError
        If the symbol is known but has no such forecast.
    """
    shown, symbol = known_symbol(view, symbol)
    key = shown.snapshot.pick(symbol, model_name=model_name, timeframe=timeframe)
    if key is None:
        wanted = " ".join(part for part in (model_name, timeframe) if part)
        raise NoForecastError(f"symbol {symbol}: no verified forecast {wanted}".strip())
    is_stale = key in shown.stale_keys or "latest_predictions" in shown.stale_kinds
    return _encode(shown.snapshot.prediction(key, is_stale=is_stale))


def instruments(view: View | None, *, limit: int, offset: int) -> bytes:
    """Encode a page of the instruments, by symbol."""
    shown = verified(view)
    items = list(shown.snapshot.instruments.values())
    return _encode(
        Instruments(
            items=items[offset : offset + limit],
            total=len(items),
            offset=offset,
            limit=limit,
            stale="instruments" in shown.stale_kinds,
            artefact=shown.snapshot.ref("instruments"),
        )
    )


def bars(
    view: View | None,
    symbol: str,
    *,
    timeframe: Timeframe | None,
    limit: int,
    offset: int,
) -> bytes:
    """Encode a page of `symbol`'s bars; hourly before daily where not said.

    Raises
    ------
    MalformedError, NothingVerifiedError, UnknownSymbolError
        As `known_symbol`.
    NoBarsError
        If the symbol is known but has no such bars.
    """
    shown, symbol = known_symbol(view, symbol)
    found = _offered(shown, symbol, timeframe)
    if found is None:
        raise NoBarsError(f"symbol {symbol}: no verified {timeframe or ''} bars")
    items, total = shown.snapshot.bar_page(symbol, found, limit=limit, offset=offset)
    return _encode(
        Bars(
            symbol=symbol,
            timeframe=found,
            items=items,
            total=total,
            offset=offset,
            limit=limit,
            stale="recent_bars" in shown.stale_kinds,
            artefact=shown.snapshot.ref("recent_bars"),
        )
    )


def _offered(view: View, symbol: str, wanted: Timeframe | None) -> Timeframe | None:
    preferred: tuple[Timeframe, ...] = ("1h", "1d")
    for timeframe in preferred:
        if wanted in {None, timeframe} and (symbol, timeframe) in view.snapshot.bars:
            return timeframe
    return None


@dataclass(frozen=True, slots=True)
class ScoreFilter:
    """Which scores; None means any. A pool's `symbol` is its asset class or `all`."""

    symbol: str | None = None
    timeframe: Timeframe | None = None
    model_name: str | None = None
    horizon: int | None = None
    scope: Scope = "symbol"


def scores(view: View | None, wanted: ScoreFilter, *, limit: int, offset: int) -> bytes:
    """Encode a page of the scores that pass the filter."""
    shown = verified(view)
    items = [
        row
        for row in shown.snapshot.scored(wanted.scope)
        if wanted.symbol in {None, row.symbol}
        and wanted.timeframe in {None, row.timeframe}
        and wanted.model_name in {None, row.model_name}
        and wanted.horizon in {None, row.horizon}
    ]
    return _encode(
        Scores(
            items=items[offset : offset + limit],
            total=len(items),
            offset=offset,
            limit=limit,
            stale=bool(shown.stale_kinds & {"signal_performance", "evaluation_report"}),
            artefact=shown.snapshot.ref("signal_performance"),
            report=shown.snapshot.ref("evaluation_report"),
        )
    )


def sleeves(
    view: View | None,
    *,
    sleeve_id: str | None,
    timeframe: Timeframe | None,
    limit: int,
    offset: int,
) -> bytes:
    """Encode a page of the sleeves that pass the filter; None means any."""
    shown = verified(view)
    items = [
        one
        for one in shown.snapshot.sleeves
        if sleeve_id in {None, one.sleeve_id} and timeframe in {None, one.timeframe}
    ]
    return _encode(
        Sleeves(
            items=items[offset : offset + limit],
            total=len(items),
            offset=offset,
            limit=limit,
            stale=bool(shown.stale_kinds & {"sleeve_book", "sleeve_set"}),
            artefact=shown.snapshot.ref("sleeve_book"),
            sleeve_set=shown.snapshot.ref("sleeve_set"),
        )
    )
