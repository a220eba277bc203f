"""Combine the members' stored forecasts into the ensemble's."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.calibrate import calibrate_forecasts, read_schedule
from flows.bodies.checkpoints import register_version
from flows.bodies.moments import NoBarsError, decision_times
from flows.checkpoints.store import CheckpointStore, card_cutoff
from flows.progress import plural, track
from flows.runs import Run
from lab.forecasters._base import Forecast
from lab.forecasters.ensemble import CODE_VERSION, NAME, EnsembleModel, read_model
from lab.forecasters.ensemble_features import EnsembleContext, RegimeCalls
from lab.forecasters.ensemble_forecasts import FORECAST_COLUMNS, combine_forecasts
from lab.forecasters.frames import predictions_table
from lab.forecasters.paths import check_request

DEFAULT_HORIZON = 120


def ensemble_name(asset_class: str, timeframe: str) -> str:
    """Return the name of a checkpoint in the store."""
    return f"ensemble-{asset_class}-{timeframe}"


def forecast_ensemble(
    run: Run,
    *,
    timeframe: str,
    symbols: Sequence[str] | None = None,
    as_of: str | None = None,
    horizon: int | None = None,
    seed: int = 0,
    earlier: int = 0,
    every: int = 1,
    as_ofs: Sequence[datetime] | None = None,
    is_backfill: bool = False,
) -> str:
    """Combine stored forecasts; a decision time that was combined before stays as it is.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1h` or `1d`.
    symbols : sequence of str, optional
        Only these; every symbol with a stored forecast if not given.
    as_of : str, optional
        Decision time; the panel's newest complete bar if not given.
    horizon : int, optional
        Bars ahead; 120 if not given, fewer where the members reach less far.
    seed : int
        Part of the forecasts' identity; nothing is drawn.
    earlier, every : int
        Also as of this many earlier moments, so many days apart.
    as_ofs : sequence of datetime, optional
        These decision times instead.
    is_backfill : bool
        Whether earlier decision times without stored forecasts are no error.

    Raises
    ------
    NoBarsError
        If there are no bars, or no model's forecast is stored as of these moments.

    Notes
    -----
    Point in time: forecasts made as of the same moment, weights of the newest
    checkpoint whose cut-off is not later, equal weights where there is none.
    """
    check_request(horizon=horizon or DEFAULT_HORIZON, n_samples=0, seed=seed)
    moments = list(as_ofs or ()) or decision_times(
        run, timeframe, symbols=symbols, as_of=as_of, earlier=earlier, every=every
    )
    run.parameters |= {
        "model": NAME,
        "timeframe": timeframe,
        "symbols": None if symbols is None else list(symbols),
        "as_ofs": [moment.isoformat() for moment in moments],
        "horizon": horizon or DEFAULT_HORIZON,
        "seed": seed,
    }
    stored = _stored(run, timeframe, moments, symbols)
    if stored.num_rows == 0 and not is_backfill:
        raise NoBarsError(
            f"ensemble {timeframe}: no model's forecast is stored as of"
            f" {moments[-1]:%Y-%m-%d %H:%M}; run `alphalake forecast --model naive` first"
        )
    found = _combined(run, stored, timeframe, horizon or DEFAULT_HORIZON, seed=seed)
    label = f"{NAME} {timeframe}"
    if not found:
        return f"{label}: nothing new as of {moments[-1]:%Y-%m-%d %H:%M}"
    windows = [
        f"forecast/ml_predictions/{NAME}-{timeframe}-{seed}/{one.symbol}/{one.as_of.isoformat()}"
        for one in found
    ]
    rows = predictions_table(found, generated_at=run.now, run_id=run.run_id)
    written = run.append("ml_predictions", rows, window=windows)
    run.count("forecasts", written.n_rows)
    if len(moments) == 1:
        # As with its members: earlier decision times wait for their scores.
        calibrate_forecasts(run, rows, timeframe=timeframe)
    n_trained = sum(not one.model_version.endswith("equal") for one in found)
    return (
        f"{label}: {plural(written.n_rows, 'forecast')},"
        f" {plural(len({one.as_of for one in found}), 'as-of')} up to {max(one.as_of for one in found):%Y-%m-%d %H:%M},"
        f" {n_trained} with trained weights"
    )


def compute_ensemble(
    run: Run,
    *,
    timeframe: str,
    as_ofs: Sequence[datetime],
    symbols: Sequence[str] | None,
    horizon: int,
    seed: int,
) -> list[Forecast]:
    """Combine what is stored as of these moments; nothing is written but registrations.

    Parameters
    ----------
    run : Run
        Where to read.
    timeframe : str
        `1h` or `1d`.
    as_ofs : sequence of datetime
        Decision times, oldest first.
    symbols : sequence of str or None
        Only these; all if None.
    horizon, seed : int
        Bars ahead; part of the forecasts' identity.
    """
    stored = _stored(run, timeframe, as_ofs, symbols)
    return _combined(run, stored, timeframe, horizon, seed=seed)


def _stored(
    run: Run, timeframe: str, moments: Sequence[datetime], symbols: Sequence[str] | None
) -> pa.Table:
    kind = pa.timestamp("us", tz="UTC")
    wanted = (
        (pc.field("timeframe") == timeframe)
        & (pc.field("as_of") >= pa.scalar(moments[0], kind))
        & (pc.field("as_of") <= pa.scalar(moments[-1], kind))
        & pc.field("as_of").isin(pa.array(moments, kind))
    )
    if symbols is not None:
        wanted &= pc.field("symbol").isin(list(symbols))
    return run.read(
        "ml_predictions", columns=[*FORECAST_COLUMNS, "seed"], filter=wanted
    )


def _combined(
    run: Run, stored: pa.Table, timeframe: str, horizon: int, *, seed: int
) -> list[Forecast]:
    classes = {
        row["symbol"]: row["asset_class"] for row in run.read("instruments").to_pylist()
    }
    context = EnsembleContext(
        read_schedule(run), RegimeCalls.from_table(run.read("regimes"))
    )
    shelf = _Shelf(run, timeframe)
    found: list[Forecast] = []
    batches = _batches(stored, classes, shelf, seed=seed)
    for version, rows in track(batches, f"forecast {NAME} {timeframe}"):
        found += combine_forecasts(
            rows,
            model=shelf.model(version),
            context=context,
            asset_classes=classes,
            horizon=horizon,
            seed=seed,
        )
    return sorted(found, key=lambda one: (one.as_of, one.symbol))


def _batches(
    stored: pa.Table, classes: Mapping[str, str], shelf: "_Shelf", *, seed: int
) -> list[tuple[tuple[str, str] | None, pa.Table]]:
    # Members' rows by the checkpoint that weighs them, without what was combined before.
    pairs = list(
        zip(
            stored["symbol"].to_pylist(),
            [one.astimezone(UTC) for one in stored["as_of"].to_pylist()],
            strict=True,
        )
    )
    names, seeds = stored["model_name"].to_pylist(), stored["seed"].to_pylist()
    done = {
        pair
        for pair, name, one in zip(pairs, names, seeds, strict=True)
        if name == NAME and one == seed
    }
    groups: dict[tuple[str, str] | None, list[int]] = {}
    for row, (symbol, as_of) in enumerate(pairs):
        if names[row] != NAME and (symbol, as_of) not in done:
            version = shelf.version(classes.get(symbol, "other"), as_of)
            groups.setdefault(version, []).append(row)
    return [(version, stored.take(rows)) for version, rows in groups.items()]


class _Shelf:
    """The trained checkpoints of one timeframe, each opened once."""

    def __init__(self, run: Run, timeframe: str) -> None:
        self._run = run
        self._timeframe = timeframe
        self._store = CheckpointStore(run.workplace.root)
        self._cards: dict[str, list[dict[str, Any]]] = {}
        self._models: dict[tuple[str, str], EnsembleModel] = {}

    def version(self, asset_class: str, as_of: datetime) -> tuple[str, str] | None:
        """Return name and version of the newest checkpoint that knew nothing later."""
        name = ensemble_name(asset_class, self._timeframe)
        if name not in self._cards:
            self._cards[name] = self._store.cards(name)
        usable = [
            (cutoff, card["created_at"], card["version"])
            for card in self._cards[name]
            if (cutoff := card_cutoff(card)) is not None and cutoff <= as_of
        ]
        return (name, max(usable)[2]) if usable else None

    def model(self, version: tuple[str, str] | None) -> EnsembleModel | None:
        """Open a checkpoint and register it."""
        if version is None:
            return None
        if version not in self._models:
            saved = self._store.load(*version)
            self._models[version] = read_model(saved.files, version=saved.version)
            register_version(
                self._run,
                NAME,
                f"{CODE_VERSION}+{saved.version[:8]}",
                saved.card,
                cutoff=saved.cutoff,
            )
        return self._models[version]
