"""What stands behind a forecast: each checkpoint's card, registered once.

A forecast names its model's version; `model_versions` says what that version is: data,
cut-off, measures, and the sha256 of every file. The run manifest and the signed manifest
take it from there.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.manifests import to_json
from flows.runs import Run
from lab.forecasters._base import Forecaster, ModelForecaster
from lakehouse.schema.lifecycle import MODEL_VERSIONS


def register_checkpoint(run: Run, forecaster: Forecaster) -> None:
    """Note the forecaster's weights in the run's manifest and in `model_versions`.

    Nothing is done for a model without weights.

    Parameters
    ----------
    run : Run
        Where to write.
    forecaster : Forecaster
        As it was opened.
    """
    if not isinstance(forecaster, ModelForecaster):
        return
    register_version(
        run,
        forecaster.name,
        forecaster.version,
        dict(forecaster.card),
        cutoff=forecaster.cutoff,
    )


def register_version(
    run: Run,
    name: str,
    version: str,
    card: Mapping[str, Any],
    *,
    cutoff: datetime | None,
) -> None:
    """Note a checkpoint in the run's manifest and in `model_versions`.

    Parameters
    ----------
    run : Run
        Where to write.
    name, version : str
        As forecasts name it.
    card : mapping
        JSON values; its `sha256` go into the manifest.
    cutoff : datetime or None
        Newest moment the weights may know of.
    """
    digests = card.get("sha256", {})
    used = run.parameters.setdefault("checkpoints", {}).setdefault(name, {})
    used[version] = {"cutoff": cutoff, "sha256": digests}
    if run.is_replay:
        return
    known = run.read(
        "model_versions",
        columns=["version"],
        filter=(pc.field("model_name") == name) & (pc.field("version") == version),
    )
    if known.num_rows:
        return
    row = {
        "model_name": name,
        "version": version,
        "stage": "None",
        "metrics": to_json(card.get("metrics", {})),
        "manifest": to_json(card),
        "artefact_sha256": hashlib.sha256(to_json(digests).encode()).hexdigest(),
        "registered_at": run.now,
        "run_id": run.run_id,
    }
    run.append(
        "model_versions",
        pa.Table.from_pylist([row], schema=MODEL_VERSIONS.to_arrow()),
        window=f"register/model_versions/{name}/{version}",
    )


def model_digests(run: Run, versions: Collection[tuple[str, str]]) -> dict[str, str]:
    """Return the sha256 of every file behind some models' forecasts.

    Parameters
    ----------
    run : Run
        Where to read.
    versions : collection of (str, str)
        Model name and version, as forecasts name them.

    Returns
    -------
    dict of str to str
        `model/version/file` to digest; nothing for models without weights.
    """
    rows: list[dict[str, Any]] = run.read(
        "model_versions", columns=["model_name", "version", "manifest"]
    ).to_pylist()
    found = {}
    for row in rows:
        if (row["model_name"], row["version"]) in versions:
            for file, digest in json.loads(row["manifest"]).get("sha256", {}).items():
                found[f"{row['model_name']}/{row['version']}/{file}"] = digest
    return found
