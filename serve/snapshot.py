"""An immutable view of one verified bundle, indexed for answering."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from lakehouse.errors import LakehouseError
from lakehouse.schema.catalogue import table_spec
from serve.ml.model import Unreadable, WinModel, index_model
from serve.provider import KINDS, Artefact, Bundle
from serve.schemas import (
    ArtefactRef,
    Band,
    Bar,
    ForecastKey,
    Instrument,
    Prediction,
    Scope,
    Score,
    Sleeve,
)
from serve.sleeves import BookError, index_sleeves
from serve.staleness import is_stale
from serve.verdicts import Verdicts, index_verdicts

PREFERENCE: Final = ("ensemble", "chronos2", "kronos", "naive", "seasonal")
_STEPS: Final = {"1h": timedelta(hours=1), "1d": timedelta(days=1)}
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

Key = tuple[str, str, str]  # symbol, timeframe, model_name


class SnapshotError(LakehouseError):
    """A verified table does not have the columns of its declaration."""

    reason = "schema"


@dataclass(frozen=True, slots=True)
class ServedSnapshot:
    """What the gateway knows, from verified artefacts only.

    Attributes
    ----------
    artefacts : Bundle
        The verified artefacts by kind.
    instruments : mapping of str to Instrument
        By symbol, sorted.
    forecasts : mapping of (symbol, timeframe, model_name) to row
        Newest forecast of each.
    bars : mapping of (symbol, timeframe) to pyarrow.Table
        Bars in time order.
    scores : tuple of Score
        On symbols, in the order of the artefact.
    verdicts : Verdicts
        What the court found; empty until something was judged.
    sleeves : tuple of Sleeve
        By timeframe, the baseline first; empty until one was walked forward.
    winprob : WinModel or Unreadable or None
        The win-probability model; None until one is published.
    symbols : frozenset of str
        Every symbol that any artefact names.
    """

    artefacts: Bundle
    instruments: Mapping[str, Instrument]
    forecasts: Mapping[Key, Mapping[str, Any]]
    bars: Mapping[tuple[str, str], pa.Table]
    scores: tuple[Score, ...]
    verdicts: Verdicts
    sleeves: tuple[Sleeve, ...]
    winprob: WinModel | Unreadable | None
    symbols: frozenset[str]

    def ref(self, kind: str) -> ArtefactRef | None:
        """Return which manifest the rows of `kind` come from."""
        artefact = self.artefacts.get(kind)
        if artefact is None:
            return None
        return ArtefactRef(version=artefact.version, sha256=artefact.sha256)

    def versions(self) -> tuple[tuple[str, int, str], ...]:
        """Return what identifies the content."""
        return versions_of(self.artefacts)

    def stale_keys(self, now: datetime) -> frozenset[Key]:
        """Return the forecasts that are stale at `now`."""
        artefact = self.artefacts.get("latest_predictions")
        if artefact is not None and now >= artefact.valid_until:
            return frozenset(self.forecasts)
        return frozenset(
            key
            for key, row in self.forecasts.items()
            if is_stale(
                row["as_of"], now, timeframe=key[1], calendar=self.calendar(key[0])
            )
        )

    def calendar(self, symbol: str) -> str | None:
        """Return the calendar of `symbol`; None if it is not registered."""
        instrument = self.instruments.get(symbol)
        return None if instrument is None else instrument.calendar

    def pick(
        self, symbol: str, *, model_name: str | None, timeframe: str | None
    ) -> Key | None:
        """Choose the forecast that answers a request, or None.

        Hourly before daily; then the newest bar; within it by `PREFERENCE`.
        """
        keys = [
            key
            for key in self.forecasts
            if key[0] == symbol
            and model_name in {None, key[2]}
            and timeframe in {None, key[1]}
        ]
        if not keys:
            return None
        return min(keys, key=self._order)

    def _order(self, key: Key) -> tuple[bool, int, int, str]:
        timeframe, model = key[1], key[2]
        age = -((self.forecasts[key]["as_of"] - _EPOCH) // _STEPS[timeframe])
        rank = PREFERENCE.index(model) if model in PREFERENCE else len(PREFERENCE)
        return (timeframe != "1h", age, rank, model)

    def prediction(self, key: Key, *, is_stale: bool) -> Prediction:
        """Return the wire form of a forecast."""
        ref = self.ref("latest_predictions")
        assert ref is not None  # noqa: S101 - a key exists, so its artefact does
        row = self.forecasts[key]
        added = {"band", "stale", "has_skill", "skill", "artefact"}
        names = set(Prediction.__struct_fields__) - added
        return Prediction(
            **{name: row[name] for name in names},
            band=_band(row),
            stale=is_stale,
            has_skill=self.verdicts.has_skill(key),
            skill=self.verdicts.skill.get(key, []),
            artefact=ref,
        )

    def scored(self, scope: Scope) -> tuple[Score, ...]:
        """Return the scores of symbols, asset classes or all."""
        return self.scores if scope == "symbol" else self.verdicts.pools.get(scope, ())

    def bar_page(
        self, symbol: str, timeframe: str, *, limit: int, offset: int
    ) -> tuple[list[Bar], int]:
        """Return bars and their total; `offset` counts back from the newest."""
        table = self.bars[symbol, timeframe]
        end = max(0, table.num_rows - offset)
        start = max(0, end - limit)
        rows = table.slice(start, end - start).to_pylist()
        return [Bar(**row) for row in rows], table.num_rows


def _band(row: Mapping[str, Any]) -> Band | None:
    if row["band_p10"] is None:
        return None
    return Band(**{name: row[f"band_{name}"] for name in Band.__struct_fields__})


def versions_of(bundle: Bundle) -> tuple[tuple[str, int, str], ...]:
    """Return what identifies a bundle: kind, version and digest of each artefact."""
    return tuple((kind, a.version, a.sha256) for kind, a in sorted(bundle.items()))


def build_snapshot(bundle: Bundle) -> ServedSnapshot:
    """Index verified tables.

    Raises
    ------
    SnapshotError
        If a table lacks a column of its declaration, has another type, other JSON in
        it, or bars of a length that is not served.
    """
    tables = {kind: _rows(bundle.get(kind), kind) for kind in KINDS}
    bars = _split_bars(tables["recent_bars"])
    forecasts = {
        (row["symbol"], row["timeframe"], row["model_name"]): row
        for row in tables["latest_predictions"].to_pylist()
    }
    instruments = _instruments(tables["instruments"], bars, forecasts)
    verdicts = index_verdicts(tables["evaluation_report"])
    return ServedSnapshot(
        artefacts=dict(bundle),
        instruments=instruments,
        forecasts=forecasts,
        bars=bars,
        scores=_scores(tables["signal_performance"], verdicts),
        verdicts=verdicts,
        sleeves=_sleeves(tables),
        winprob=index_model(tables["winprob"]),
        symbols=frozenset(instruments)
        | {key[0] for key in forecasts}
        | {key[0] for key in bars},
    )


def _rows(artefact: Artefact | None, kind: str) -> pa.Table:
    schema = table_spec(f"artefact_{kind}").to_arrow()
    if artefact is None:
        return schema.empty_table()
    table = artefact.table
    absent = [one for one in schema if one.name not in table.column_names]
    if missing := [one.name for one in absent if not one.nullable]:
        raise SnapshotError(f"artefact {kind}: lacks column {', '.join(missing)}")
    for one in absent:  # published before the column was declared
        table = table.append_column(one, pa.nulls(table.num_rows, one.type))
    try:
        rows = table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise SnapshotError(f"artefact {kind}: {error}") from error
    if "timeframe" in schema.names:
        found = set(rows["timeframe"].unique().to_pylist())
        if odd := sorted(map(str, found - set(_STEPS))):
            raise SnapshotError(
                f"artefact {kind}: timeframe {odd[0][:20]!r}, known {', '.join(_STEPS)}"
            )
    return rows


def _sleeves(tables: Mapping[str, pa.Table]) -> tuple[Sleeve, ...]:
    try:
        return index_sleeves(tables["sleeve_book"], tables["sleeve_set"])
    except BookError as error:
        raise SnapshotError(f"artefact sleeve_book: {error}") from error


def _scores(table: pa.Table, verdicts: Verdicts) -> tuple[Score, ...]:
    found = []
    for row in table.to_pylist():
        cell = (row["timeframe"], row["symbol"], row["model_name"], row["horizon"])
        court = verdicts.cells.get(cell)
        has_skill = None if court is None else court.has_skill
        found.append(Score(**row, has_skill=has_skill, court=court))
    return tuple(found)


def _split_bars(table: pa.Table) -> dict[tuple[str, str], pa.Table]:
    ordered = table.sort_by(
        [("symbol", "ascending"), ("timeframe", "ascending"), ("ts", "ascending")]
    )
    if not ordered.num_rows:
        return {}
    counts = ordered.group_by(["symbol", "timeframe"], use_threads=False).aggregate(
        [("ts", "count")]
    )
    kept = ordered.select(list(Bar.__struct_fields__))
    pages, start = {}, 0
    for row in counts.to_pylist():
        pages[row["symbol"], row["timeframe"]] = kept.slice(start, row["ts_count"])
        start += row["ts_count"]
    return pages


def _instruments(
    table: pa.Table,
    bars: Mapping[tuple[str, str], pa.Table],
    forecasts: Mapping[Key, Mapping[str, Any]],
) -> dict[str, Instrument]:
    ordered = table.sort_by([("symbol", "ascending")])
    timeframes: dict[str, list[Any]] = {}
    for symbol, timeframe in sorted(bars, reverse=True):
        timeframes.setdefault(symbol, []).append(timeframe)
    models: dict[str, list[ForecastKey]] = {}
    for symbol, timeframe, model in sorted(forecasts, key=_offer_order):
        offered = ForecastKey(timeframe, model)  # type: ignore[arg-type]
        models.setdefault(symbol, []).append(offered)
    names = set(Instrument.__struct_fields__) - {"timeframes", "forecasts"}
    return {
        row["symbol"]: Instrument(
            **{name: row[name] for name in names},
            timeframes=timeframes.get(row["symbol"], []),
            forecasts=models.get(row["symbol"], []),
        )
        for row in ordered.to_pylist()
    }


def _offer_order(key: Key) -> tuple[str, bool, int, str]:
    symbol, timeframe, model = key
    rank = PREFERENCE.index(model) if model in PREFERENCE else len(PREFERENCE)
    return (symbol, timeframe != "1h", rank, model)
