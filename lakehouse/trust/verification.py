"""The consumer's side: refresh, verify, keep the last verified payload, never go back.

A refresh follows the TUF workflow (`lakehouse.trust.workflow`) and then looks at every
artefact that `shadow` and `live` vouch for: the manifest's bytes, its kind, its period,
its version against the one accepted before, the owners who approved it, and each data
file, re-hashed in memory and parsed from those same bytes. Either all of it holds and
one immutable `Snapshot` replaces the one before, or nothing changes. Time comes from the
injected clock.

This module writes nothing but its own state folder and executes nothing it loads.
"""

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from tuf.api.metadata import Key, TargetFile

from lakehouse.schema.catalogue import TABLES
from lakehouse.trust.errors import (
    ArtefactDataError,
    FreezeError,
    HashError,
    KeyPolicyError,
    LengthError,
    ManifestError,
    NotYetValidError,
    RollbackError,
    StateError,
    UnverifiedError,
    WrongRoleError,
)
from lakehouse.trust.fetching import Fetcher
from lakehouse.trust.files import locked
from lakehouse.trust.manifest import MAX_MANIFEST_LENGTH, Manifest
from lakehouse.trust.policy import (
    LIVE,
    LIVE_THRESHOLD,
    SHADOW,
    check_approval,
    check_signed,
)
from lakehouse.trust.state import (
    DirectoryCache,
    MemoryCache,
    MetadataCache,
    PayloadStore,
)
from lakehouse.trust.workflow import Workflow, check_content

METADATA_PREFIX = "artefacts/metadata/"
TARGETS_PREFIX = "artefacts/targets/"


class Present(Protocol):
    """What a client asks of a clock; `lakehouse.clock.Clock` is one."""

    def now(self) -> datetime:
        """Return the present moment, UTC."""
        ...


@dataclass(frozen=True, slots=True)
class VerifiedArtefact:
    """An artefact all of whose bytes are the signed ones.

    Attributes
    ----------
    manifest : Manifest
    manifest_sha256 : str
        Digest of the signed manifest's bytes.
    version : int
        Delta version of its table.
    role : str
        `shadow` or `live`.
    table : pyarrow.Table or None
        Its rows; None if the client was told not to fetch data.
    """

    manifest: Manifest
    manifest_sha256: str
    version: int
    role: str
    table: pa.Table | None = field(repr=False, compare=False, default=None)

    def is_valid_at(self, moment: datetime) -> bool:
        """Whether it may be acted on at `moment`.

        Notes
        -----
        Point in time: from `valid_from`, inclusive, to `valid_until`, exclusive.
        """
        return self.manifest.valid_from <= moment < self.manifest.valid_until


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one refresh accepted.

    Attributes
    ----------
    artefacts : mapping of str to VerifiedArtefact
        By kind; a live artefact hides the shadow one of its kind.
    version : int
        Version of the snapshot metadata.
    verified_at : datetime, UTC
        When it was last found to be what the repository shows.
    expires : datetime, UTC
        When its timestamp expires.
    lapsed : tuple of str
        Roles left out because their own metadata expired: `live` needs its approvers
        at least every 30 days.
    """

    artefacts: Mapping[str, VerifiedArtefact]
    version: int
    verified_at: datetime
    expires: datetime
    lapsed: tuple[str, ...] = ()


@dataclass(slots=True)
class _Candidate:
    # What one refresh has verified so far, with the bytes it consists of.
    artefacts: dict[str, VerifiedArtefact] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    seen: dict[str, tuple[str, int]] = field(default_factory=dict)
    lapsed: tuple[str, ...] = ()

    def add_file(self, path: str, data: bytes) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        self.files[path] = sha256
        self.contents[sha256] = data


@dataclass(frozen=True, slots=True)
class _Look:
    # Where one refresh looks, and when.
    workflow: Workflow
    fetcher: Fetcher
    now: datetime | None


class TrustedClient:
    """Verifies a repository and remembers what it accepted.

    Parameters
    ----------
    trusted_root : bytes
        The root to start from.
    fetcher : Fetcher
        Where the lake is read.
    state : Path or None
        Folder for the trusted metadata and the last accepted payload. None remembers
        only until the process ends.
    clock : Present
        Expiries and periods are judged by it.
    with_data : bool, default True
        Whether data files are fetched. False verifies the manifests alone, for a place
        that shows only the TUF repository.
    """

    def __init__(
        self,
        trusted_root: bytes,
        fetcher: Fetcher,
        state: Path | None,
        clock: Present,
        *,
        with_data: bool = True,
    ) -> None:
        self._root = trusted_root
        self._fetcher = fetcher
        self._clock = clock
        self._with_data = with_data
        self._cache: MetadataCache = (
            MemoryCache() if state is None else DirectoryCache(state / "metadata")
        )
        self._payload = None if state is None else PayloadStore(state / "payload")
        self._snapshot: Snapshot | None = None
        self._accepted: dict[str, VerifiedArtefact] = {}
        stored = self._payload.read() if self._payload is not None else None
        self._seen = dict(stored.seen) if stored is not None else {}
        self._lock = None if state is None else state / "refresh.lock"
        self._refreshing = threading.Lock()

    @property
    def snapshot(self) -> Snapshot | None:
        """What was accepted last; None before the first success."""
        return self._snapshot

    def refresh(self) -> Snapshot:
        """Accept what the repository shows now, or nothing.

        Returns
        -------
        Snapshot
            The new state. Unchanged artefacts are the very objects of the one before.

        Raises
        ------
        UnverifiedError
            Its class says why; the snapshot before stays.

        Notes
        -----
        Point in time: metadata must not have expired, a manifest's period must have
        begun, and a manifest not accepted before must not have ended, by the clock.
        """
        with self._refreshing, self._alone():
            now = self._clock.now()
            workflow = self._workflow(self._fetcher, self._cache, now)
            candidate = self._verify(workflow, self._fetcher, now)
            snapshot = _freeze(candidate, workflow, now)
            if self._payload is not None:
                self._payload.write(
                    candidate.files,
                    candidate.contents,
                    seen=candidate.seen,
                    verified_at=now,
                )
            self._seen = candidate.seen
            self._accepted = candidate.artefacts
            self._snapshot = snapshot
            return snapshot

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        # Other workers keep their memory in the same folder: a slower one must not put
        # older metadata back, nor clear files away that a faster one just stored.
        if self._lock is None:
            yield
            return
        with contextlib.ExitStack() as held:
            try:
                self._lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                held.enter_context(locked(self._lock))
            except OSError as error:
                raise StateError(
                    f"{self._lock}: cannot be written: {error.strerror}"
                ) from error
            yield

    def restore(self) -> Snapshot | None:
        """Take up the last accepted payload from the state folder, verified again.

        Returns
        -------
        Snapshot or None
            None if there is none, or it is not what was accepted.

        Notes
        -----
        Point in time: signatures, versions and hashes are checked, expiries are not:
        it was accepted in time, and its age is `verified_at`.
        """
        stored = self._payload.read() if self._payload is not None else None
        if stored is None:
            return None
        with self._refreshing:
            try:
                workflow = self._workflow(stored, MemoryCache(), None)
                candidate = self._verify(workflow, stored, None)
            except UnverifiedError:
                return None
            self._accepted = candidate.artefacts
            self._snapshot = _freeze(candidate, workflow, stored.verified_at)
            return self._snapshot

    def load(self, kind: str) -> pa.Table:
        """Return the rows of an accepted artefact.

        Raises
        ------
        ManifestError
            If no artefact of that kind was accepted.
        ArtefactDataError
            If the client was told not to fetch data.
        """
        snapshot = self._snapshot
        if snapshot is None or kind not in snapshot.artefacts:
            raise ManifestError(f"{kind}: no verified artefact of this kind")
        table = snapshot.artefacts[kind].table
        if table is None:
            raise ArtefactDataError(f"{kind}: this client verifies manifests only")
        return table

    def _workflow(
        self, fetcher: Fetcher, cache: MetadataCache, now: datetime | None
    ) -> Workflow:
        def download(name: str, *, max_length: int) -> bytes:
            return fetcher.fetch(METADATA_PREFIX + name, max_length=max_length)

        return Workflow(
            self._root,
            cache=cache,
            download=download,
            reference_time=now,
            policy=check_signed,
        )

    def _verify(
        self, workflow: Workflow, fetcher: Fetcher, now: datetime | None
    ) -> _Candidate:
        workflow.refresh()
        look = _Look(workflow, fetcher, now)
        candidate = _Candidate(seen=dict(self._seen))
        if workflow.targets.targets:
            raise WrongRoleError("targets: may only delegate, but lists artefacts")
        # Live last: it hides the shadow artefact of its kind.
        for role in (SHADOW, LIVE):
            if f"{role}.json" not in workflow.snapshot.meta:
                continue
            try:
                targets = workflow.load(role, workflow.targets)
            except FreezeError:
                if role != LIVE:
                    raise
                candidate.lapsed = (LIVE,)
                continue
            for path, target in targets.targets.items():
                manifest = self._read_manifest(role, path, target, look, candidate)
                table = self._read_data(path, manifest, fetcher, candidate)
                candidate.artefacts[path] = VerifiedArtefact(
                    manifest, manifest.sha256, manifest.table_version, role, table
                )
        for name, data in workflow.accepted.items():
            candidate.add_file(METADATA_PREFIX + name, data)
        return candidate

    def _read_manifest(
        self,
        role: str,
        path: str,
        target: TargetFile,
        look: _Look,
        candidate: _Candidate,
    ) -> Manifest:
        place = _target_place(role, path, target, look.workflow)
        data = look.fetcher.fetch(place, max_length=target.length)
        check_content(target, data, what=path)
        manifest = Manifest.from_bytes(data)
        if f"{role}/{manifest.target_name}" != path:
            raise ManifestError(f"{path}: holds the manifest of {manifest.kind}")
        if role == LIVE:
            _check_approval(look.workflow.signers[role], manifest)
        if look.now is not None:
            is_known = self._known(path, manifest) is not None
            _check_period(manifest, look.now, is_known=is_known)
        _check_newer(path, manifest, candidate.seen)
        candidate.add_file(place, data)
        return manifest

    def _known(self, path: str, manifest: Manifest) -> VerifiedArtefact | None:
        known = self._accepted.get(path)
        return known if known is not None and known.manifest == manifest else None

    def _read_data(
        self, path: str, manifest: Manifest, fetcher: Fetcher, candidate: _Candidate
    ) -> pa.Table | None:
        if not self._with_data:
            return None
        known = self._known(path, manifest)
        if known is not None and known.table is not None:
            for name, digest in manifest.files.items():
                candidate.files[f"tables/{manifest.table}/{name}"] = digest.sha256
            return known.table
        parts = []
        for name in manifest.files:
            data = fetch_data_file(manifest, name, fetcher)
            candidate.add_file(f"tables/{manifest.table}/{name}", data)
            parts.append(data)
        return parse_data(manifest, parts)


def fetch_data_file(manifest: Manifest, path: str, fetcher: Fetcher) -> bytes:
    """Return the bytes of one data file if they are the signed ones.

    Raises
    ------
    LengthError, HashError, DownloadError
        If they are not, or cannot be had.
    """
    digest = manifest.files[path]
    place = f"tables/{manifest.table}/{path}"
    data = fetcher.fetch(place, max_length=digest.length)
    if len(data) != digest.length:
        raise LengthError(f"{place}: {len(data)} bytes, signed were {digest.length}")
    if hashlib.sha256(data).hexdigest() != digest.sha256:
        raise HashError(f"{place}: content is not the signed one")
    return data


def parse_data(manifest: Manifest, parts: list[bytes]) -> pa.Table:
    """Parse verified bytes into the rows of an artefact, in its declared schema.

    Parameters
    ----------
    manifest : Manifest
        What signed them.
    parts : list of bytes
        Parquet files.

    Raises
    ------
    ArtefactDataError
        If they are not Parquet or not rows of the declared table.
    """
    spec = TABLES.get(manifest.table)
    try:
        tables = [
            pq.ParquetFile(pa.BufferReader(part)).read(use_threads=False)
            for part in parts
        ]
        if spec is None:
            return pa.concat_tables(tables, promote_options="default")
        schema = spec.to_arrow()
        return pa.concat_tables(
            [table.select(schema.names).cast(schema) for table in tables]
            or [schema.empty_table()]
        )
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactDataError(
            f"{manifest.kind}: data files are not rows of {manifest.table}"
        ) from error


def _target_place(role: str, path: str, target: TargetFile, workflow: Workflow) -> str:
    delegations = workflow.targets.delegations
    roles = (delegations.roles if delegations is not None else None) or {}
    if role not in roles or not roles[role].is_delegated_path(path):
        raise WrongRoleError(f"{role}: vouches for {path[:60]!r}, which is not its own")
    sha256 = target.hashes.get("sha256")
    name = path.removeprefix(f"{role}/")
    if sha256 is None or len(sha256) != 64 or not sha256.isalnum():
        raise HashError(f"{role}: {name[:60]!r} is signed without a sha256")
    if not name.removesuffix(".json").replace("_", "").isalnum():
        raise ManifestError(f"{role}: {name[:60]!r} is not the name of an artefact")
    if target.length > MAX_MANIFEST_LENGTH:
        raise LengthError(f"{path}: {target.length} bytes, more than a manifest may be")
    prefix = f"{sha256}." if workflow.root.consistent_snapshot else ""
    return f"{TARGETS_PREFIX}{role}/{prefix}{name}"


def _check_approval(signers: list[Key], manifest: Manifest) -> None:
    try:
        check_approval(signers, author=manifest.author, threshold=LIVE_THRESHOLD)
    except KeyPolicyError as error:
        raise KeyPolicyError(f"{manifest.kind}: {error}") from error


def _check_period(manifest: Manifest, now: datetime, *, is_known: bool) -> None:
    if manifest.valid_from > now:
        raise NotYetValidError(
            f"{manifest.kind}: valid from {manifest.valid_from.isoformat()}, "
            f"now {now.isoformat()}"
        )
    if manifest.valid_until <= now and not is_known:
        raise FreezeError(
            f"{manifest.kind}: was valid until {manifest.valid_until.isoformat()}, "
            f"now {now.isoformat()}"
        )


def _check_newer(
    path: str, manifest: Manifest, seen: dict[str, tuple[str, int]]
) -> None:
    table_id, version = seen.get(path, (manifest.table_id, -1))
    if table_id == manifest.table_id and manifest.table_version < version:
        raise RollbackError(
            f"{manifest.kind}: version {manifest.table_version}, "
            f"already accepted {version}"
        )
    seen[path] = (manifest.table_id, manifest.table_version)


def _freeze(
    candidate: _Candidate, workflow: Workflow, verified_at: datetime
) -> Snapshot:
    return Snapshot(
        MappingProxyType({a.manifest.kind: a for a in candidate.artefacts.values()}),
        workflow.snapshot.version,
        verified_at,
        workflow.timestamp.expires,
        candidate.lapsed,
    )
