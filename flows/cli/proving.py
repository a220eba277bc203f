"""Prove the signature chain, from the trusted root to every data file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.cli.history import verify_history
from flows.cli.keys import read_named
from flows.cli.session import output
from lakehouse.clock import resolve_clock
from lakehouse.errors import InputError, RefusedError
from lakehouse.settings import load_settings
from lakehouse.trust.errors import DownloadError
from lakehouse.trust.fetching import Fetcher, HttpFetcher, LocalFetcher
from lakehouse.trust.keys import KeyStore
from lakehouse.trust.verification import TrustedClient


@dataclass(frozen=True, slots=True)
class RunProof:
    """What holds of a recorded run.

    Attributes
    ----------
    run_id, flow, status, code_commit, lock_hash : str
        As recorded.
    tables_read, tables_written : dict of str to int
        Table to version; every one of them is still there.
    n_files : int
        Data files behind these versions.
    """

    run_id: str
    flow: str
    status: str
    code_commit: str
    lock_hash: str
    tables_read: dict[str, int]
    tables_written: dict[str, int]
    n_files: int


def prove_repository(
    *, url: str | None, has_history: bool, trust: Path | None, token: str | None
) -> None:
    """Verify every published artefact, and the lake's own chains of sleeves and models.

    Raises
    ------
    TrustError
        If anything is not what was signed; the message says what.
    RefusedError
        If a transition or a model event was altered, dropped, swapped or doubled, or a
        file of a registered model is not what was registered.
    """
    settings = load_settings()
    clock = resolve_clock(settings.root)
    fetcher = _fetcher(settings.root, url, token)
    root = (
        read_named(trust, option="--trust")
        if trust
        else KeyStore(settings.keys).trusted_root()
    )
    client = TrustedClient(root, fetcher, None, clock)
    try:
        snapshot = client.refresh()
    except DownloadError as error:
        if url is not None and token is None and "answered 401" in str(error):
            raise RefusedError(
                f"{url}: wants a consumer's token, by --token or ALPHALAKE_TOKEN"
            ) from error
        raise
    artefacts = [
        {
            "kind": kind,
            "role": one.role,
            "version": one.version,
            "sha256": one.manifest_sha256,
            "files": len(one.manifest.files),
            "as_of": one.manifest.as_of,
            "valid_until": one.manifest.valid_until,
            "author": one.manifest.author,
        }
        for kind, one in sorted(snapshot.artefacts.items())
    ]
    history = verify_history(settings.root, root) if has_history else None
    n_transitions, n_events = _count_chains() if url is None else (None, None)
    where = url or settings.root
    lines = [
        f"{where}: verified, snapshot {snapshot.version}, expires"
        f" {snapshot.expires:%Y-%m-%d %H:%M}"
    ]
    lines += [
        f"  {one['role']}/{one['kind']:<20} version {one['version']:<4}"
        f" {one['files']} files  sha256 {str(one['sha256'])[:16]}"
        for one in artefacts
    ]
    if history is not None:
        lines.append(f"  history: {len(history)} metadata files verified")
    if n_transitions:
        lines.append(f"  sleeve_transitions: {n_transitions} rows, chain whole")
    if n_events:
        lines.append(
            f"  model_events: {n_events} rows, chain whole, models as registered"
        )
    output().result(
        {
            "where": where,
            "snapshot": snapshot.version,
            "expires": snapshot.expires,
            "artefacts": artefacts,
            "history": history,
            "sleeve_transitions": n_transitions,
            "model_events": n_events,
        },
        lines,
    )


def _count_chains() -> tuple[int, int]:
    from flows.bodies.model_registry import verify_models
    from flows.bodies.sleeve_registry import read_chain
    from flows.wiring import open_workplace

    lake = open_workplace().lake
    n_rows: int = read_chain(lake).num_rows
    return n_rows, verify_models(lake)


def _fetcher(root: str, url: str | None, token: str | None) -> Fetcher:
    if url is None:
        return LocalFetcher(root)
    if not url.startswith(("http://", "https://")):
        raise InputError(f"--url {url!r}: expected http:// or https://")
    return HttpFetcher(url, token)


def prove_run(run_id: str) -> None:
    """Check that a run's record stands on versions that are still there.

    Raises
    ------
    InputError
        If there is no such run.
    RefusedError
        If a version that it read or wrote is gone.
    """
    import pyarrow.compute as pc

    from flows.wiring import open_workplace

    lake = open_workplace().lake
    rows = lake.read("runs", filter=pc.field("run_id") == run_id).to_pylist()
    if not rows:
        raise InputError(f"run {run_id!r}: not in `runs`; `alphalake runs` lists them")
    proof = _prove(lake, rows[0])
    output().result(
        proof,
        f"{run_id}: {proof.status} run of {proof.flow}, code {proof.code_commit[:12]},"
        f" {len(proof.tables_read)} versions read and {len(proof.tables_written)}"
        f" written are there ({proof.n_files} files)",
    )


def _prove(lake: Any, record: dict[str, Any]) -> RunProof:
    read = json.loads(record["tables_read"])
    written = json.loads(record["tables_written"])
    found: set[str] = set()
    for table, version in (*read.items(), *written.items()):
        try:
            files = lake.data_files(table, version=version)
        except InputError as error:
            raise RefusedError(
                f"run {record['run_id']}: {table} version {version} is gone: {error}"
            ) from error
        for path in {lake.location.path("tables", table, name) for name in files}:
            if path not in found and not lake.location.exists(path):
                raise RefusedError(
                    f"run {record['run_id']}: {table} version {version} is gone:"
                    f" its file {path} was removed"
                )
            found.add(path)
    return RunProof(
        record["run_id"],
        record["flow"],
        record["status"],
        record["code_commit"],
        record["lock_hash"],
        read,
        written,
        len(found),
    )
