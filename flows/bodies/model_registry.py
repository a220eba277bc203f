"""Registered models: entered once, read whole, their files proven by hash.

A training writes its files and its out-of-fold rows first, under their own hash, where
nothing looks for them, and becomes a version by one append to the chain: killed anywhere
before it, the registry is as it was; killed after it, the next writer completes what is derived. MLflow is
brought up to the chain last and may be down: the next time it is not, it is told all.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any, Final

from flows.bodies.model_chain import (
    CHAIN,
    append_events,
    read_chain,
    read_registry,
    registry_in,
    settle,
    version_row,
)
from flows.checkpoints.store import CheckpointStore, Saved
from flows.manifests import code_commit, describe_environment, lock_hash, to_json
from flows.runs import Run
from lab.errors import CheckpointError
from lab.lifecycle.model_stages import (
    NONE,
    Bound,
    ModelEvent,
    ModelVersion,
    Registry,
    first_stage,
)
from lakehouse.errors import RefusedError
from lakehouse.store import Lake

__all__ = [
    "Bound",
    "ModelEvent",
    "ModelVersion",
    "Registry",
    "append_events",
    "enter_model",
    "load_files",
    "mirror",
    "models_in_use",
    "read_chain",
    "read_registry",
    "settle",
    "verify_models",
]

_LEARNERS: Final = ("xgboost", "catboost", "lightgbm", "ray", "scipy")
_WRITTEN_ONCE: Final = ("metrics", "manifest", "artefact_sha256")


def enter_model(
    run: Run,
    *,
    model_name: str,
    files: Mapping[str, bytes],
    card: Mapping[str, Any],
    metrics: Mapping[str, Any],
    who: str,
    why: str,
    evidence: Mapping[str, Any] | None = None,
    thresholds: Sequence[Bound] = (),
    keep: Callable[[str], None] | None = None,
) -> ModelVersion:
    """Keep a trained model and register it, once however often it is trained.

    Parameters
    ----------
    run : Run
        Where to write; its seeds, parameters and pinned versions go into the manifest.
    model_name : str
        E.g. `winprob`.
    files : mapping of str to bytes
        The bundle, in safe formats; its content hash is the version.
    card : mapping
        JSON: schema, configuration, windows, importance, ...; must name `cutoff`, the
        newest moment the model may know of (ISO 8601, or null). Figures that are not
        finite become null.
    metrics : mapping
        Figures of the training, by name.
    who, why : str
        Person or flow, and the reason.
    evidence : mapping, optional
        JSON: what speaks for it.
    thresholds : sequence of Bound, optional
        What it must show to be Staging at once, a challenger; without any it stays at
        None until a person promotes it.
    keep : callable, optional
        Called with the version before it is registered: writes, once however often it
        is called, rows without which the version would be of no use.

    Returns
    -------
    ModelVersion
        As it stands in the registry now. A version that was registered before keeps
        its stage and its first manifest.

    Raises
    ------
    CheckpointError
        If the name, the files or the card cannot be used.
    RefusedError
        If the chain is broken, or a stored file is not what was trained.
    """
    metrics = finite(dict(metrics))
    card = {**finite(dict(card)), "created_at": run.now.isoformat()}
    saved = CheckpointStore(run.workplace.root).save(
        model_name, files, {**card, "metrics": metrics}
    )
    event = ModelEvent(
        saved.name,
        saved.version,
        "register",
        who,
        why,
        _claim(run, saved, metrics, thresholds) | {"evidence": finite(evidence or {})},
        run.now,
    )
    if keep is not None:
        keep(saved.version)

    def plan(registry: Registry) -> list[ModelEvent]:
        is_known = registry.version(saved.name, saved.version) is not None
        return [] if is_known else [event]

    append_events(run, plan)
    found = _registered(run.workplace.lake, saved)
    load_files(run.workplace.lake, found)
    mirror(run)
    return found


def load_files(lake: Lake, version: ModelVersion) -> dict[str, bytes]:
    """Return a registered version's files, proven to be those that were registered.

    Raises
    ------
    RefusedError
        If one is missing or altered, or its card names other files than the chain.
    """
    where = f"model {version.model_name} {version.version}"
    try:
        saved = CheckpointStore(lake.root).load(version.model_name, version.version)
    except CheckpointError as error:
        raise RefusedError(f"{where}: refused: {error}") from error
    if _digest(saved.card["sha256"]) != version.artefact_sha256:
        raise RefusedError(f"{where}: refused: its files are not those registered")
    return dict(saved.files)


def models_in_use(lake: Lake) -> frozenset[tuple[str, str]]:
    """Return names and versions whose files must be kept: all but those at None.

    Raises
    ------
    RefusedError
        If the chain is broken.
    """
    registry = read_registry(lake)
    return frozenset(key for key, one in registry.by_key.items() if one.stage != NONE)


def verify_models(lake: Lake) -> int:
    """Prove the chain of model events, and what stands on it; return its rows.

    Raises
    ------
    RefusedError
        If the chain is broken, a file of a version that is or may again be in use is
        missing or altered, or a row of `model_versions` is not what was registered.
    """
    # Before the chain: what follows from it may be behind it, never ahead.
    derived = lake.read("model_versions").to_pylist()
    chain = read_chain(lake)
    registry = registry_in(chain)
    for one in registry.by_key.values():
        if one.stage != NONE:
            load_files(lake, one)
    for row in derived:
        one_or_none = registry.version(row["model_name"], row["version"])
        if one_or_none is None:
            _require_forecaster(row, registry)
            continue
        told = version_row(one_or_none)
        # The stage may lag behind a killed writer; the rest is written once.
        if any(row[name] != told[name] for name in _WRITTEN_ONCE):
            raise RefusedError(
                f"table model_versions: {row['model_name']} {row['version']}: altered:"
                " not what model_events says"
            )
    n_rows: int = chain.num_rows
    return n_rows


def _require_forecaster(row: Mapping[str, Any], registry: Registry) -> None:
    # Only forecasters' checkpoints are rows without an event, and they are at None.
    if row["stage"] != NONE or row["model_name"] in registry.model_names:
        raise RefusedError(
            f"table model_versions: {row['model_name']} {row['version']}: no row of"
            f" {CHAIN} registers it"
        )


def mirror(run: Run) -> None:
    """Bring MLflow up to the registry; a line of the run's notes says if it is down."""
    from flows.tracking import mirror_models

    mirror_models(run, read_registry(run.workplace.lake))


def _claim(
    run: Run, saved: Saved, metrics: Mapping[str, Any], thresholds: Sequence[Bound]
) -> dict[str, Any]:
    stage, missed = first_stage(metrics, thresholds)
    return {
        "stage": stage,
        "thresholds": [str(one) for one in thresholds],
        "missed": list(missed),
        "metrics": metrics,
        "manifest": {**saved.card, **_origin(run)},
        "artefact_sha256": _digest(saved.card["sha256"]),
    }


def _origin(run: Run) -> dict[str, Any]:
    environment = dict(describe_environment())
    for name in _LEARNERS:
        try:
            environment[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            environment[name] = "absent"
    return {
        "run_id": run.run_id,
        "flow": run.flow,
        "seeds": dict(run.seeds),
        "parameters": finite(run.parameters),
        "tables_read": dict(run.tables_read),
        "code_commit": code_commit(),
        "lock_hash": lock_hash(),
        "environment": environment,
    }


def _registered(lake: Lake, saved: Saved) -> ModelVersion:
    found = read_registry(lake).version(saved.name, saved.version)
    if found is None:
        raise RefusedError(f"model {saved.name} {saved.version}: not in table {CHAIN}")
    return found


def _digest(digests: Mapping[str, str]) -> str:
    return hashlib.sha256(to_json(digests).encode()).hexdigest()


def finite(value: Any) -> Any:
    """Return a value as JSON has it: what is not finite, and so not known, is null."""
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.loads(to_json(value))
