"""Where verified artefacts come from, as the gateway sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from lakehouse.trust.fetching import Fetcher, HttpFetcher, LocalFetcher
from lakehouse.trust.verification import (
    Snapshot,
    TrustedClient,
    VerifiedArtefact,
    fetch_data_file,
)
from serve.present import Present

KINDS = (
    "latest_predictions",
    "signal_performance",
    "evaluation_report",
    "instruments",
    "recent_bars",
    "sleeve_set",
    "sleeve_book",
    "winprob",
)


@dataclass(frozen=True, slots=True)
class Artefact:
    """One verified artefact: its rows, and the manifest that vouches for them.

    Attributes
    ----------
    kind : str
        Kind of artefact, e.g. `latest_predictions`.
    version : int
        Version of the signed metadata that names it; never goes down.
    sha256 : str
        Digest of the manifest.
    role : str
        Delegation that signed it.
    as_of, published_at, valid_until : datetime
        Times of the manifest, UTC.
    table_name : str
        Folder of its data files under `tables/`.
    table_id : str
        Delta's id of that table: a table made anew starts its versions anew.
    files : mapping of str to int
        Length in bytes of its data files, by path relative to that folder.
    table : pyarrow.Table
        Its rows.
    """

    kind: str
    version: int
    sha256: str
    role: str
    as_of: datetime
    published_at: datetime
    valid_until: datetime
    table_name: str
    table_id: str
    files: Mapping[str, int]
    table: pa.Table


Bundle = Mapping[str, Artefact]


@dataclass(frozen=True, slots=True)
class Verified:
    """What one verification accepted.

    Attributes
    ----------
    artefacts : Bundle
        By kind.
    verified_at : datetime
        Clock time at which it was found to be what the source shows, UTC.
    """

    artefacts: Bundle
    verified_at: datetime


class ArtefactProvider(Protocol):
    """A source of verified artefacts. Its methods block: call them in a thread."""

    def refresh(self) -> Verified:
        """Verify what is published now.

        Raises
        ------
        TrustError
            If it is refused or cannot be read.
        OSError
            If the source or the state folder fails.
        """
        ...

    def last(self) -> Verified | None:
        """Return what an earlier process verified and kept, or None."""
        ...

    def read(self, path: str, *, max_length: int) -> bytes:
        """Return a repository file by its path below the lake root.

        Raises
        ------
        TrustError
            If there is no such file or it cannot be read.
        """
        ...


class TrustedProvider:
    """Verified artefacts of a lake root, by its TUF repository.

    Parameters
    ----------
    root : str
        A folder, `s3://bucket/prefix`, or `http(s)://` of another gateway.
    trusted_root : bytes
        The root metadata that verification starts from.
    state : Path
        Folder of the last verified payload.
    clock : Present
        Expiries are judged by it.
    token : str, optional
        Bearer token of an http(s) root.

    Notes
    -----
    On a local root the data files are hashed again at every refresh, so that tampering
    with them is noticed although what is served was read long before.
    """

    def __init__(
        self,
        root: str,
        *,
        trusted_root: bytes,
        state: Path,
        clock: Present,
        token: str | None = None,
    ) -> None:
        is_http = root.startswith(("http://", "https://"))
        self.fetcher: Fetcher = (
            HttpFetcher(root, token) if is_http else LocalFetcher(root)
        )
        self.is_local = "://" not in root
        self.client = TrustedClient(trusted_root, self.fetcher, state, clock)

    def refresh(self) -> Verified:
        """Verify what is published now; raises as `ArtefactProvider.refresh`."""
        before = self.client.snapshot
        snapshot = self.client.refresh()
        if self.is_local and before is not None:
            for artefact in snapshot.artefacts.values():
                for path in artefact.manifest.files:
                    fetch_data_file(artefact.manifest, path, self.fetcher)
        return _to_verified(snapshot)

    def last(self) -> Verified | None:
        """Return what an earlier process verified and kept, or None."""
        snapshot = self.client.restore()
        return None if snapshot is None else _to_verified(snapshot)

    def read(self, path: str, *, max_length: int) -> bytes:
        """Return a repository file; raises as `ArtefactProvider.read`."""
        return self.fetcher.fetch(path, max_length=max_length)


def _to_verified(snapshot: Snapshot) -> Verified:
    artefacts = {
        kind: _to_artefact(kind, artefact)
        for kind, artefact in snapshot.artefacts.items()
        if artefact.table is not None
    }
    return Verified(artefacts, snapshot.verified_at)


def _to_artefact(kind: str, artefact: VerifiedArtefact) -> Artefact:
    manifest = artefact.manifest
    return Artefact(
        kind=kind,
        version=artefact.version,
        sha256=artefact.manifest_sha256,
        role=artefact.role,
        as_of=manifest.as_of,
        published_at=manifest.published_at,
        valid_until=manifest.valid_until,
        table_name=manifest.table,
        table_id=manifest.table_id,
        files={path: digest.length for path, digest in manifest.files.items()},
        table=artefact.table,
    )
