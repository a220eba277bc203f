"""From bytes of a client to a checked request with everything filled in. Pure.

What the types can say (kinds, ranges, lengths) is refused with msgspec's words; what
lies between columns is checked here. Every refusal says what, where and what is allowed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from serve.errors import MalformedError
from serve.predict.schemas import N_CHANNELS, Ohlcv, PredictRequest, WorkRequest
from serve.schemas import Instrument, Timeframe

T = TypeVar("T")
Group = tuple[str, str, int, int, int]

_HOUR: Final = np.timedelta64(3_600_000_000, "us")
_DAY: Final = np.timedelta64(86_400_000_000, "us")
_STEPS: Final[Mapping[Timeframe, np.timedelta64]] = {"1h": _HOUR, "1d": _DAY}
_request_decoder: Final = msgspec.json.Decoder(PredictRequest)


@dataclass(frozen=True, slots=True)
class Order:
    """One checked request.

    Attributes
    ----------
    key : bytes
        SHA-256 of everything that decides the forecast.
    group : tuple
        Model, timeframe, pred_len, n_samples, seed: what one batch has in common.
    payload : bytes
        The request as JSON, for the worker.
    symbol, timeframe : str
    pred_len : int
    """

    key: bytes
    group: Group
    payload: bytes
    symbol: str
    timeframe: Timeframe
    pred_len: int


def read_order(body: bytes, instruments: Mapping[str, Instrument]) -> Order:
    """Read and check a request.

    Parameters
    ----------
    body : bytes
        JSON of a `PredictRequest`.
    instruments : mapping of str to Instrument
        The served instruments, whose calendar and asset class are known.

    Raises
    ------
    MalformedError
        If the body is not a request, or its bars do not fit together.
    """
    request = decode(_request_decoder, body)
    bars = _in_utc(request.ohlcv)
    opens = _check_bars(bars)
    timeframe = _check_spacing(opens, request.timeframe)
    _check_events(request, len(opens))
    whole = _fill(request, bars, timeframe, instruments)
    payload = msgspec.json.encode(whole)
    return Order(
        key=hashlib.sha256(payload).digest(),
        group=(
            whole.model,
            timeframe,
            whole.pred_len,
            whole.n_samples,
            whole.seed,
        ),
        payload=payload,
        symbol=whole.symbol,
        timeframe=timeframe,
        pred_len=whole.pred_len,
    )


def decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """Decode a JSON body.

    Raises
    ------
    MalformedError
        If it is no JSON, or not of the decoder's type.
    """
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"body: {error}"[:400]) from error


def _in_utc(bars: Ohlcv) -> Ohlcv:
    try:
        opens = [moment.astimezone(UTC) for moment in bars.ts]
    except OverflowError as error:
        raise MalformedError(f"ohlcv.ts: {error}") from error
    return msgspec.structs.replace(bars, ts=opens)


def _check_bars(bars: Ohlcv) -> Any:
    n_bars = len(bars.ts)
    for name in ("open", "high", "low", "close", "volume"):
        column = getattr(bars, name)
        if column is not None and len(column) != n_bars:
            raise MalformedError(
                f"ohlcv.{name} has {len(column)} items, ohlcv.ts {n_bars}: equal "
                "lengths are allowed"
            )
    high, low = np.array(bars.high), np.array(bars.low)
    _refuse_first(high < low, "ohlcv.high", "is below low: high >= low is allowed")
    for name, prices in (("open", bars.open), ("close", bars.close)):
        is_outside = (np.array(prices) < low) | (np.array(prices) > high)
        _refuse_first(is_outside, f"ohlcv.{name}", "is outside low to high")
    opens: Any = np.array([ts.replace(tzinfo=None) for ts in bars.ts], "datetime64[us]")
    is_late = np.append(np.diff(opens) <= np.timedelta64(0, "us"), False)
    _refuse_first(np.roll(is_late, 1), "ohlcv.ts", "is not after the one before")
    return opens


def _refuse_first(is_bad: Any, where: str, what: str) -> None:
    rows = np.flatnonzero(is_bad)
    if len(rows):
        raise MalformedError(f"{where}[{rows[0]}] {what}")


def _check_spacing(opens: Any, given: Timeframe | None) -> Timeframe:
    spacing = np.median(np.diff(opens).astype(np.int64)).astype("timedelta64[us]")
    found: Timeframe | None = given
    if found is None:
        found = {_HOUR: "1h", _DAY: "1d"}.get(spacing)  # type: ignore[assignment]
    if found is None or spacing != _STEPS[found]:
        raise MalformedError(
            f"ohlcv.ts: bars are {spacing.astype('timedelta64[s]')} apart"
            f"{f', timeframe is {given}' if given else ''}: allowed are an hour (1h) "
            "and a day (1d)"
        )
    length = _STEPS[found]
    is_off = (opens - np.datetime64(0, "us")) % length != np.timedelta64(0, "us")
    unit = "at a whole UTC hour" if found == "1h" else "at 00:00 UTC"
    _refuse_first(is_off, "ohlcv.ts", f"is not {unit}, where {found} bars open")
    return found


def _check_events(request: PredictRequest, n_bars: int) -> None:
    if request.events is None:
        return
    wanted = n_bars + request.pred_len
    if len(request.events) != wanted:
        raise MalformedError(
            f"events has {len(request.events)} rows of {N_CHANNELS}: allowed are "
            f"{wanted}, one per bar given ({n_bars}) and per target bar "
            f"({request.pred_len})"
        )


def _fill(
    request: PredictRequest,
    bars: Ohlcv,
    timeframe: Timeframe,
    instruments: Mapping[str, Instrument],
) -> WorkRequest:
    known = instruments.get(request.symbol or "")
    usual = ("24x7", "other") if known is None else (known.calendar, known.asset_class)
    return WorkRequest(
        ohlcv=bars,
        events=request.events,
        pred_len=request.pred_len,
        model=request.model,
        symbol=request.symbol or "unnamed",
        timeframe=timeframe,
        calendar=request.calendar or usual[0],
        asset_class=request.asset_class or usual[1],  # type: ignore[arg-type]
        n_samples=request.n_samples,
        seed=request.seed,
    )
