"""What the paper trader may act on: artefacts that verify, read from signed bytes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from flows.runs import Run
from lab.errors import LabError, PaperError
from lab.evaluation.decisions import record_decision
from lab.learning.bundle import Predictor
from lab.lifecycle.stages import LOCKED, TRADED
from lab.paper.combine import SignalWeights
from lab.sleeves.phase37 import LOCKED_HASH, RUNTIME_WEIGHT
from lakehouse.errors import RefusedError
from lakehouse.trust.errors import FreezeError
from lakehouse.trust.verification import (
    VerifiedArtefact,
    fetch_data_file,
    parse_data,
)

CHECKER: Final = "paper-artefacts"
_STATE: Final = "paper"
_MODEL_FILES: Final = {
    "xgboost": "model.ubj",
    "catboost": "model.cbm",
    "lightgbm": "model.txt",
}


@dataclass(frozen=True, slots=True)
class Published:
    """What was published and verified.

    Attributes
    ----------
    watched : dict of str to str
        Configuration by sleeve: those with a book (`paper`, `canary`) at weight 0.
    weights : SignalWeights
        Of the signals.
    predictor : Predictor or None
        Win probabilities; None where none are published.
    base_rate : float
        Share of wins among the orders that the model was judged on.
    versions : dict of str to dict
        Version and SHA-256 of each artefact's manifest, by kind.
    notes : tuple of str
        What is missing, for a person.
    """

    watched: Mapping[str, str]
    weights: SignalWeights
    predictor: Predictor | None
    base_rate: float
    versions: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...] = ()


def read_published(run: Run, *, timeframe: str) -> Published:
    """Return what may be traded; where that cannot be proven, say so and refuse.

    Parameters
    ----------
    run : Run
        Where to read; a refusal is recorded there.
    timeframe : str
        For the record.

    Raises
    ------
    RefusedError
        If an artefact does not verify, its time is over, or it is not what is locked
        in the code. Nothing is traded then: what is held stays.

    Notes
    -----
    Point in time: manifests are judged by the run's clock.
    """
    try:
        return _read(run)
    except (RefusedError, PaperError) as error:
        _record(run, timeframe, str(error))
        is_over = isinstance(error, FreezeError)
        hint = "; `alphalake resign` renews signatures" if is_over else ""
        raise RefusedError(
            f"paper: nothing traded, positions kept: {error}{hint}"
        ) from error


def _read(run: Run) -> Published:
    from lakehouse.trust.fetching import LocalFetcher
    from lakehouse.trust.verification import TrustedClient

    place = run.workplace
    fetcher = LocalFetcher(place.root)
    # Manifests first; data only of what is traded on.
    client = TrustedClient(
        place.key_store().trusted_root(),
        fetcher,
        place.state / _STATE,
        place.clock,
        with_data=False,
    )
    accepted = client.refresh().artefacts
    by_kind = {one.manifest.kind: one for one in accepted.values()}
    rows: dict[str, list[dict[str, Any]]] = {}
    for kind in ("sleeve_set", "signal_weights", "winprob"):
        if (one := by_kind.get(kind)) is not None:
            rows[kind] = _rows(run, one, fetcher).to_pylist()
    if "sleeve_set" not in rows:
        raise RefusedError("no sleeve_set is published; run `alphalake publish` first")
    _check_locked(rows["sleeve_set"])
    notes = []
    if "signal_weights" not in rows:
        notes.append("no signal weights are published: every signal is at weight 0")
    return Published(
        watched={
            row["sleeve_id"]: row["configuration"]
            for row in rows["sleeve_set"]
            if row["sleeve_id"] != LOCKED and row["stage"] in TRADED
            if row["runtime_weight"] == 0
        },
        weights=SignalWeights.from_rows(rows.get("signal_weights", [])),
        predictor=_predictor(rows.get("winprob", []), notes),
        base_rate=_base_rate(rows.get("winprob", [])),
        versions={
            kind: {
                "version": by_kind[kind].version,
                "sha256": by_kind[kind].manifest_sha256,
            }
            for kind in rows
        },
        notes=tuple(notes),
    )


def _rows(run: Run, one: VerifiedArtefact, fetcher: Any) -> pa.Table:
    if not one.is_valid_at(run.now):
        until = one.manifest.valid_until
        raise RefusedError(f"{one.manifest.kind}: was valid until {until.isoformat()}")
    parts = [
        fetch_data_file(one.manifest, name, fetcher) for name in one.manifest.files
    ]
    return parse_data(one.manifest, parts)


def _check_locked(rows: list[dict[str, Any]]) -> None:
    found = {row["sleeve_id"]: row for row in rows}.get(LOCKED)
    if found is None:
        raise RefusedError(f"sleeve_set: {LOCKED} is not in it")
    if found["content_sha256"] != LOCKED_HASH:
        raise RefusedError(f"sleeve_set: {LOCKED} has other content than is locked")
    if found["runtime_weight"] != RUNTIME_WEIGHT:
        raise RefusedError(
            f"sleeve_set: {LOCKED} has weight {found['runtime_weight']:g},"
            f" locked at {RUNTIME_WEIGHT:g}"
        )


def _predictor(rows: list[dict[str, Any]], notes: list[str]) -> Predictor | None:
    # A model that cannot be read takes nothing else down: it is a signal at weight 0.
    from lab.learning.bundle import load_predictor

    if not rows:
        return None
    row = rows[0]
    files = {
        _MODEL_FILES[row["learner"]]: row["model"],
        "calibrator.json": row["calibrator"].encode(),
        "schema.json": row["schema"].encode(),
        "config.json": row["config"].encode(),
    }
    try:
        return load_predictor(files)
    except (LabError, ImportError) as error:
        notes.append(f"winprob {row['version']}: not asked: {error}")
        return None


def _base_rate(rows: list[dict[str, Any]]) -> float:
    # Wins by bin of the published reliability curve; one half where it says nothing.
    curve = json.loads(rows[0]["metrics"]).get("reliability", {}) if rows else {}
    mass, observed = curve.get("mass", []), curve.get("observed", [])
    total = sum(mass)
    if total <= 0:
        return 0.5
    rate = sum(m * o for m, o in zip(mass, observed, strict=True)) / total
    return float(rate) if 0.0 < rate < 1.0 else 0.5


def _record(run: Run, timeframe: str, why: str) -> None:
    record = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id=CHECKER,
        model={"name": "verify-then-trade", "version": "1"},
        input_snapshot={"timeframe": timeframe},
        output={"is_refused": True, "positions": "kept"},
        rationale=why,
    )
    window = f"paper/decision_records/refused/{run.run_id}"
    run.append("decision_records", record, window=window)
