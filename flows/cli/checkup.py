"""Look at a place and say what is wrong with it; nothing is changed."""

import platform
import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from flows.probe import api_url, find_server
from lab.errors import LabError
from lakehouse.clock import resolve_clock
from lakehouse.errors import LakehouseError
from lakehouse.settings import LakehouseSettings, load_settings

Verdict = Literal["ok", "note", "fail"]
_LOW_DISK_BYTES: Final = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes
    ----------
    name : str
        What.
    verdict : str
        `ok`, `note` (worth knowing) or `fail` (has to be mended).
    detail : str
        What was seen, and what to do.
    """

    name: str
    verdict: Verdict
    detail: str


def examine_place() -> list[Finding]:
    """Return what was found, one finding for each thing looked at."""
    settings = load_settings()
    looks: list[tuple[str, Callable[[LakehouseSettings], Finding]]] = [
        ("python", _python),
        ("root", _root),
        ("clock", _clock),
        ("keys", _keys),
        ("artefacts", _artefacts),
        ("tables", _tables),
        ("models", _models),
        ("prefect", _prefect),
    ]
    findings = []
    for name, look in looks:
        try:
            findings.append(look(settings))
        except (LakehouseError, LabError, OSError) as error:
            findings.append(Finding(name, "fail", " ".join(str(error).split())))
    return findings


def _python(_: LakehouseSettings) -> Finding:
    is_supported = (3, 11) <= sys.version_info[:2] < (3, 13)
    detail = f"{platform.python_version()}; 3.11 and 3.12 are supported"
    return Finding("python", "ok" if is_supported else "fail", detail)


def _root(settings: LakehouseSettings) -> Finding:
    if "://" in settings.root:
        return Finding("root", "ok", settings.root)
    folder = Path(settings.root)
    if not folder.is_dir():
        return Finding("root", "note", f"{folder} is not there; `alphalake init`")
    free = shutil.disk_usage(folder).free
    detail = f"{folder.resolve()}, {free / 1e9:.1f} GB free"
    return Finding("root", "ok" if free > _LOW_DISK_BYTES else "fail", detail)


def _clock(settings: LakehouseSettings) -> Finding:
    clock = resolve_clock(settings.root)
    if clock.source == "wall":
        return Finding("clock", "ok", "wall time")
    detail = f"stands at {clock.now():%Y-%m-%d %H:%M} ({clock.source})"
    return Finding("clock", "note", detail)


def _keys(settings: LakehouseSettings) -> Finding:
    from lakehouse.trust.keys import KeyStore

    store = KeyStore(settings.keys)
    if not settings.keys.is_dir():
        return Finding(
            "keys", "note", f"{settings.keys} is not there; `alphalake init`"
        )
    store.refuse_under(settings.root)
    mode = stat.S_IMODE(settings.keys.stat().st_mode)
    if mode != 0o700:
        return Finding("keys", "fail", f"{settings.keys} has mode {mode:o}; chmod 700")
    store.trusted_root()
    return Finding("keys", "ok", f"{len(store.list_keys())} keys in {settings.keys}")


def _artefacts(settings: LakehouseSettings) -> Finding:
    from lakehouse.trust.errors import FileAbsentError
    from lakehouse.trust.fetching import LocalFetcher
    from lakehouse.trust.keys import KeyStore
    from lakehouse.trust.verification import TrustedClient

    if not settings.keys.is_dir():
        return Finding("artefacts", "note", "no keys, so nothing is published")
    client = TrustedClient(
        KeyStore(settings.keys).trusted_root(),
        LocalFetcher(settings.root),
        None,
        resolve_clock(settings.root),
    )
    try:
        snapshot = client.refresh()
    except FileAbsentError:
        return Finding("artefacts", "note", "nothing published yet")
    detail = f"{len(snapshot.artefacts)} verified, snapshot {snapshot.version}"
    return Finding("artefacts", "ok", detail)


def _tables(settings: LakehouseSettings) -> Finding:
    from lakehouse.query import connect

    if "://" not in settings.root and not Path(settings.root).is_dir():
        return Finding("tables", "note", "no lake yet; `alphalake init`")
    if orphans := _without_log(settings.root):
        return Finding(
            "tables",
            "fail",
            f"data files but no _delta_log: {', '.join(orphans)}; restore the log",
        )
    with connect(settings.root) as session:
        versions = session.versions
        for name in versions:
            session.sql(f"SELECT * FROM {name} LIMIT 1")  # noqa: S608 - declared names
    return Finding("tables", "ok", f"{len(versions)} tables can be read")


def _without_log(root: str) -> list[str]:
    """Return tables of a local root that have data files and no log."""
    folder = Path(root) / "tables"
    if "://" in root or not folder.is_dir():
        return []
    return sorted(
        table.name
        for table in folder.iterdir()
        if any(table.glob("*.parquet")) and not any(table.glob("_delta_log/*"))
    )


def _models(_: LakehouseSettings) -> Finding:
    # Files and their pairing only: nothing is built, so torch is not imported.
    from flows.checkpoints.chronos2 import read_chronos2
    from flows.checkpoints.kronos import read_pair
    from flows.checkpoints.settings import load_model_settings

    settings = load_model_settings()
    kronos = read_pair(settings.kronos, settings.kronos_tokenizer)
    chronos2 = read_chronos2(settings.chronos2)
    return Finding("models", "ok", f"{kronos.version}; chronos2 {chronos2.version}")


def _prefect(_: LakehouseSettings) -> Finding:
    url = find_server()
    if url is not None:
        return Finding("prefect", "ok", url)
    return Finding(
        "prefect", "note", f"no server at {api_url()}; flows run without one"
    )
