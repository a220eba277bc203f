"""What MLflow is told of a registered version: figures, files, plots."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flows.bodies.model_registry import load_files
from flows.manifests import to_json
from lab.lifecycle.model_stages import ModelVersion
from lakehouse.store import Lake

_LONGEST_PARAM: Final = 500
_FLAVOURS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "model.ubj": (
        "xgboost",
        {"model_class": "xgboost.core.Booster", "model_format": "ubj"},
    ),
    "model.cbm": ("catboost", {"model_type": "CatBoost", "save_format": "cbm"}),
    "model.txt": ("lightgbm", {"model_class": "lightgbm.basic.Booster"}),
}


@dataclass(frozen=True, slots=True)
class Described:
    """A version as an MLflow run has it.

    Attributes
    ----------
    params, tags : dict of str to str
        Configuration and parameters; where it came from and its environment.
    metrics : tuple of (str, float, int)
        Name, value and step; the windows of a walk-forward are steps.
    """

    params: dict[str, str]
    tags: dict[str, str]
    metrics: tuple[tuple[str, float, int], ...]


def describe(version: ModelVersion) -> Described:
    """Return what an MLflow run says of a version.

    Parameters
    ----------
    version : ModelVersion
        As the registry has it.
    """
    manifest = version.manifest
    given = {**_mapping(manifest, "parameters"), **_mapping(manifest, "config")}
    tags = {
        "alphalake.model": version.model_name,
        "alphalake.run": version.run_id,
        "alphalake.artefact_sha256": version.artefact_sha256,
    }
    for name in ("flow", "code_commit", "lock_hash", "schema_sha256", "cutoff"):
        tags[f"alphalake.{name}"] = str(manifest.get(name))
    for group in ("environment", "seeds", "tables_read"):
        for name, value in _mapping(manifest, group).items():
            tags[f"{group}.{name}"] = str(value)
    params = {name: _text(value)[:_LONGEST_PARAM] for name, value in given.items()}
    return Described(params, tags, tuple(_metrics(version)))


def write_artefacts(lake: Lake, version: ModelVersion, folder: Path) -> None:
    """Write a version's manifest, plots and, proven by hash, its files.

    Parameters
    ----------
    lake : Lake
        Where the files are kept.
    version : ModelVersion
        As the registry has it.
    folder : Path
        Where to; `manifest.json`, `plots/` and `model/`.

    Raises
    ------
    RefusedError
        If a file is missing or altered; the rest is written then.
    """
    from flows.tracking_plots import draw_plots

    text = json.dumps(version.manifest, sort_keys=True, indent=1)
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    for name, data in draw_plots(version.manifest).items():
        _write(folder / "plots" / name, data)
    files = load_files(lake, version)
    for name, data in files.items():
        _write(folder / "model" / name, data)
    _write(folder / "model" / "MLmodel", _mlmodel(version, files))


def _mlmodel(version: ModelVersion, files: Mapping[str, bytes]) -> bytes:
    # By hand: `log_model` would write the model anew, and not the bytes of our hash.
    environment = _mapping(version.manifest, "environment")
    flavours: dict[str, Any] = {
        "alphalake": {"files": sorted(files), "version": version.version}
    }
    for file, (name, options) in _FLAVOURS.items():
        if file in files:
            prefix = {"xgboost": "xgb", "lightgbm": "lgb"}.get(name, name)
            said = str(environment.get(name))
            flavours[name] = options | {
                f"{prefix}_version": said,
                "data": file,
                "code": None,
            }
    # JSON is YAML.
    return json.dumps({"flavors": flavours, "model_uuid": version.version}).encode()


def _metrics(version: ModelVersion) -> Iterator[tuple[str, float, int]]:
    yield from _numbers(version.metrics, "", 0)
    yield from _numbers(_mapping(version.manifest, "last_block"), "last_block.", 0)
    windows = version.manifest.get("windows")
    for step, window in enumerate(windows if isinstance(windows, list) else []):
        yield from _numbers(_mapping(window, "metrics"), "window.", step)


def _numbers(
    values: Mapping[str, Any], prefix: str, step: int
) -> Iterator[tuple[str, float, int]]:
    for name, value in values.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value), step


def _mapping(values: Any, name: str) -> Mapping[str, Any]:
    found = values.get(name) if isinstance(values, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
