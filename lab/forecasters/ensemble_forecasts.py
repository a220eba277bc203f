"""Stored forecasts of the members in, forecasts of the ensemble out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lab.arrays import FloatArray, IntArray
from lab.bars.timeframes import HORIZONS, step, to_instant
from lab.errors import ForecastError
from lab.forecasters._base import Forecast
from lab.forecasters.ensemble import (
    CODE_VERSION,
    EQUAL_VERSION,
    NAME,
    EnsembleModel,
    combined,
    equal_weights,
    weights_between,
)
from lab.forecasters.ensemble_features import EnsembleContext, MemberRows

FORECAST_COLUMNS: Final = (
    "prediction_id",
    "symbol",
    "timeframe",
    "model_name",
    "generated_at",
    "as_of",
    "last_close",
    "last_ts",
    "target_ts",
    "p10",
    "p50",
    "p90",
    "event_context",
    "is_contaminated",
)


@dataclass(frozen=True, slots=True)
class _Meeting:
    # Members' forecasts of one symbol at one decision time, over the same bars.
    rows: tuple[dict[str, Any], ...]
    n_steps: int

    @property
    def first(self) -> dict[str, Any]:
        return self.rows[0]


def combine_forecasts(
    forecasts: pa.Table,
    *,
    model: EnsembleModel | None,
    context: EnsembleContext,
    asset_classes: Mapping[str, str],
    horizon: int,
    seed: int = 0,
) -> list[Forecast]:
    """Combine the members' forecasts of each symbol and decision time.

    Left out are contaminated forecasts, members that `model` does not know, members
    that reach less far than the others, and members that saw other bars than the first.

    Parameters
    ----------
    forecasts : pyarrow.Table
        Rows of `ml_predictions` with `FORECAST_COLUMNS`, of one timeframe; of several
        by one model the newest counts.
    model : EnsembleModel or None
        Trained weights; None weighs the members present equally.
    context : EnsembleContext
        Calendar and regimes.
    asset_classes : mapping of str to str
        By symbol.
    horizon : int, bars
        Steps wanted; fewer where no member reaches so far.
    seed : int
        Part of the forecast's identity; nothing is drawn.

    Returns
    -------
    list of Forecast
        By decision time, then symbol; none where no member is left.

    Raises
    ------
    ForecastError
        If a symbol has no asset class.

    Notes
    -----
    Point in time: forecasts made as of the same moment, see also `member_features`.
    """
    known = None if model is None else frozenset(model.members)
    meetings = [
        meeting
        for rows in _by_decision(forecasts)
        if (meeting := _meeting(rows, known, horizon)) is not None
    ]
    if not meetings:
        return []
    members = (
        tuple(sorted({one["model_name"] for each in meetings for one in each.rows}))
        if model is None
        else model.members
    )
    rows, owner = _member_rows(meetings, members, asset_classes)
    weights = (
        equal_weights(rows.is_present)
        if model is None
        else model.weights(rows, context)
    )
    version = EQUAL_VERSION if model is None else f"{CODE_VERSION}+{model.version[:8]}"
    cuts = np.searchsorted(owner, np.arange(len(meetings) + 1))
    return [
        _forecast(
            meeting,
            members,
            rows.horizon[start:stop],
            weights[start:stop],
            version=version,
            seed=seed,
        )
        for meeting, start, stop in zip(meetings, cuts[:-1], cuts[1:], strict=True)
    ]


def _by_decision(forecasts: pa.Table) -> list[list[dict[str, Any]]]:
    groups: dict[tuple[Any, str], dict[str, dict[str, Any]]] = {}
    ordered = forecasts.sort_by(
        [(name, "ascending") for name in ("generated_at", "prediction_id")]
    )
    for row in ordered.to_pylist():
        if row["model_name"] != NAME and not row["is_contaminated"]:
            key = (row["as_of"], row["symbol"])
            groups.setdefault(key, {})[row["model_name"]] = row
    return [
        [by_model[name] for name in sorted(by_model)]
        for _, by_model in sorted(groups.items())
    ]


def _meeting(
    rows: list[dict[str, Any]], known: frozenset[str] | None, horizon: int
) -> _Meeting | None:
    usable = [row for row in rows if known is None or row["model_name"] in known]
    if not usable:
        return None
    n_steps = min(horizon, max(len(row["target_ts"]) for row in usable))
    long_enough = [row for row in usable if len(row["target_ts"]) >= n_steps]
    targets = long_enough[0]["target_ts"][:n_steps]
    same = [
        row
        for row in long_enough
        if row["target_ts"][:n_steps] == targets
        and row["last_ts"] == long_enough[0]["last_ts"]
    ]
    return _Meeting(tuple(same), n_steps)


def _member_rows(
    meetings: Sequence[_Meeting],
    members: tuple[str, ...],
    asset_classes: Mapping[str, str],
) -> tuple[MemberRows, IntArray]:
    # One row per meeting and scored horizon that it reaches, and whose rows they are.
    timeframe = meetings[0].first["timeframe"]
    wanted = HORIZONS[timeframe]
    steps = [[h for h in wanted if h <= one.n_steps] or [1] for one in meetings]
    owner = np.repeat(
        np.arange(len(meetings), dtype=np.int64), [len(one) for one in steps]
    )
    horizon = np.array([h for one in steps for h in one], dtype=np.int64)
    bands = np.full((len(owner), len(members), 3), np.nan)
    until, as_of = [], []
    for place, (number, at) in enumerate(zip(owner.tolist(), horizon, strict=True)):
        meeting = meetings[number]
        until.append(to_instant(meeting.first["target_ts"][at - 1]) + step(timeframe))
        as_of.append(to_instant(meeting.first["as_of"]))
        for row in meeting.rows:
            quantiles = [row[name][at - 1] for name in ("p10", "p50", "p90")]
            bands[place, members.index(row["model_name"])] = np.log(
                np.array(quantiles) / row["last_close"]
            )
    symbol = np.array(
        [meetings[i].first["symbol"] for i in owner.tolist()], dtype=object
    )
    if unknown := sorted(set(symbol.tolist()) - set(asset_classes)):
        raise ForecastError(f"symbol {unknown[0]!r} was forecast but is no instrument")
    rows = MemberRows(
        members=members,
        symbol=symbol,
        asset_class=np.array(
            [asset_classes[one] for one in symbol.tolist()], dtype=object
        ),
        as_of=np.array(as_of, dtype="datetime64[us]"),
        until=np.array(until, dtype="datetime64[us]"),
        horizon=horizon,
        bands=bands,
        outcome=np.full(len(owner), np.nan),
        known=np.full(len(owner), np.datetime64("NaT"), dtype="datetime64[us]"),
    )
    return rows, owner


def _forecast(
    meeting: _Meeting,
    members: tuple[str, ...],
    horizons: IntArray,
    weights: FloatArray,
    *,
    version: str,
    seed: int,
) -> Forecast:
    first, n_steps = meeting.first, meeting.n_steps
    bands = np.full((n_steps, len(members), 3), np.nan)
    for row in meeting.rows:
        quantiles = np.array([row[name][:n_steps] for name in ("p10", "p50", "p90")])
        bands[:, members.index(row["model_name"])] = np.log(
            quantiles.T / row["last_close"]
        )
    quantiles = first["last_close"] * np.exp(
        combined(bands, weights_between(horizons, weights, n_steps))
    )
    # Means of equal numbers differ in the last digit.
    p10, p50, p90 = np.maximum.accumulate(quantiles, axis=1).T
    contexts = [row["event_context"] for row in meeting.rows if row["event_context"]]
    return Forecast(
        symbol=first["symbol"],
        timeframe=first["timeframe"],
        model_name=NAME,
        model_version=version,
        as_of=first["as_of"].astimezone(UTC),
        known_ts=first["as_of"].astimezone(UTC),
        last_ts=first["last_ts"].astimezone(UTC),
        last_close=first["last_close"],
        target_ts=np.array(
            [to_instant(one) for one in first["target_ts"][:n_steps]],
            dtype="datetime64[us]",
        ),
        p10=p10,
        p50=p50,
        p90=p90,
        samples=None,
        seed=seed,
        event_context=contexts[0] if contexts else None,
    )
