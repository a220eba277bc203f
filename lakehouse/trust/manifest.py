"""What is signed: a small canonical JSON document that pins an artefact's bytes.

A manifest names one version of one Delta table and the sha256 of each of its data
files; large data is hashed, never embedded. Its bytes do not depend on the order in
which anything was given, and only those bytes are accepted back: a manifest with an
unknown schema, a missing or additional field, a path that leaves the table's folder or
any other spelling of the same content is refused. This module signs and verifies
nothing.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn, Protocol

from lakehouse.clock import Clock
from lakehouse.trust.errors import ManifestError
from lakehouse.trust.fetching import LocalFetcher

SCHEMA = "alphalake.manifest/1"
MAX_MANIFEST_LENGTH = 1_000_000  # bytes
MAX_DATA_FILE_LENGTH = 256_000_000  # bytes

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PATH_PART = re.compile(r"[A-Za-z0-9_=%+,-][A-Za-z0-9_.=%+,-]{0,254}")
_HEX_64 = re.compile(r"[0-9a-f]{64}")
_TEXT = re.compile(r"[\x20-\x7e]{0,200}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_FIELDS = frozenset(
    {
        "schema",
        "kind",
        "table",
        "table_id",
        "table_version",
        "files",
        "models",
        "metrics",
        "code_commit",
        "lock_hash",
        "valid_from",
        "valid_until",
        "published_at",
        "as_of",
        "author",
    }
)


class PinnedLake(Protocol):
    """The part of `lakehouse.store.Lake` that a manifest is built from."""

    root: str
    clock: Clock

    def version(self, table: str) -> int | None:
        """Return the newest version; None if never written."""
        ...

    def table_id(self, table: str) -> str:
        """Return Delta's id of the table."""
        ...

    def data_files(self, table: str, *, version: int | None = None) -> list[str]:
        """Return the paths of a version's files, relative to the table's folder."""
        ...


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What a data file must be.

    Attributes
    ----------
    sha256 : str
        Lower-case hexadecimal.
    length : int, bytes
    """

    sha256: str
    length: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version of one artefact.

    Attributes
    ----------
    kind : str
        Kind of artefact, e.g. `latest_predictions`.
    table : str
        Delta table under `tables/`.
    table_id : str
        Delta's own id of that table.
    table_version : int
        Delta version the files belong to.
    files : mapping of str to FileDigest
        Data files, relative to the table's folder.
    models : mapping of str to str
        sha256 per file of the models behind it.
    metrics : mapping of str to float
        Finite figures shown beside the artefact.
    code_commit, lock_hash : str
        What produced it.
    valid_from, valid_until, published_at, as_of : datetime, UTC
        Period in which it may be acted on, when it was published, and the decision time
        of its content.
    author : str
        Owner who proposed it; nobody approves their own.
    """

    kind: str
    table: str
    table_id: str
    table_version: int
    files: Mapping[str, FileDigest]
    valid_from: datetime
    valid_until: datetime
    published_at: datetime
    as_of: datetime
    author: str
    code_commit: str
    lock_hash: str
    models: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_names(self)
        _check_files(self)
        _check_times(self)

    @property
    def target_name(self) -> str:
        """File name of the TUF target, `<kind>.json`."""
        return f"{self.kind}.json"

    @property
    def sha256(self) -> str:
        """Digest of the canonical bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: sorted keys, no spaces, ASCII."""
        document = {
            "schema": SCHEMA,
            "kind": self.kind,
            "table": self.table,
            "table_id": self.table_id,
            "table_version": self.table_version,
            "files": {
                path: {"sha256": digest.sha256, "length": digest.length}
                for path, digest in self.files.items()
            },
            "models": dict(self.models),
            "metrics": {name: float(value) for name, value in self.metrics.items()},
            "code_commit": self.code_commit,
            "lock_hash": self.lock_hash,
            "valid_from": _write_time(self.valid_from),
            "valid_until": _write_time(self.valid_until),
            "published_at": _write_time(self.published_at),
            "as_of": _write_time(self.as_of),
            "author": self.author,
        }
        return json.dumps(
            document, sort_keys=True, separators=(",", ":"), allow_nan=False
        ).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Read canonical bytes back.

        Raises
        ------
        ManifestError
            If they are anything but the canonical bytes of a manifest.
        """
        if len(data) > MAX_MANIFEST_LENGTH:
            raise ManifestError(
                f"manifest of {len(data)} bytes, allowed {MAX_MANIFEST_LENGTH}"
            )
        document = _load(data)
        if document.get("schema") != SCHEMA:
            raise ManifestError(
                f"manifest schema {str(document.get('schema'))[:60]!r}, known {SCHEMA!r}"
            )
        if odd := set(document) ^ _FIELDS:
            raise ManifestError(
                f"manifest fields missing or unknown: {sorted(odd)[:5]!r}"
            )
        manifest = cls(
            kind=document["kind"],
            table=document["table"],
            table_id=document["table_id"],
            table_version=document["table_version"],
            files=_read_files(document["files"]),
            models=_mapping(document["models"], "models"),
            metrics=_mapping(document["metrics"], "metrics"),
            code_commit=document["code_commit"],
            lock_hash=document["lock_hash"],
            valid_from=_read_time(document["valid_from"], "valid_from"),
            valid_until=_read_time(document["valid_until"], "valid_until"),
            published_at=_read_time(document["published_at"], "published_at"),
            as_of=_read_time(document["as_of"], "as_of"),
            author=document["author"],
        )
        if manifest.to_bytes() != data:
            raise ManifestError("manifest is not in its canonical form")
        return manifest


def build_manifest(
    lake: PinnedLake,
    kind: str,
    *,
    valid_until: datetime,
    as_of: datetime,
    author: str,
    code_commit: str,
    lock_hash: str,
    valid_from: datetime | None = None,
    models: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    version: int | None = None,
) -> Manifest:
    """Hash the files of one version of `artefact_<kind>` into a manifest.

    Parameters
    ----------
    lake : Lake
        Where the table lives; its clock gives `published_at`.
    kind : str
        Kind of artefact.
    valid_until : datetime, UTC
        Until when it may be acted on.
    as_of : datetime, UTC
        Decision time of the content.
    author : str
        Owner who proposes it.
    code_commit, lock_hash : str
        What produced it.
    valid_from : datetime, UTC, optional
        From when it may be acted on; default: now.
    models : mapping of str to str, optional
        sha256 per model file.
    metrics : mapping of str to float, optional
        Finite figures.
    version : int, optional
        Delta version; default: the newest.

    Raises
    ------
    ManifestError
        If the table was never written or a value does not fit a manifest.
    """
    table = f"artefact_{kind}"
    found = lake.version(table) if version is None else version
    if found is None:
        raise ManifestError(f"{table}: never written, nothing to publish")
    now = lake.clock.now()
    fetcher = LocalFetcher(lake.root)
    files = {}
    for path in lake.data_files(table, version=found):
        data = fetcher.fetch(f"tables/{table}/{path}", max_length=MAX_DATA_FILE_LENGTH)
        files[path] = FileDigest(hashlib.sha256(data).hexdigest(), len(data))
    return Manifest(
        kind=kind,
        table=table,
        table_id=lake.table_id(table),
        table_version=found,
        files=files,
        models=models or {},
        metrics=metrics or {},
        code_commit=code_commit,
        lock_hash=lock_hash,
        valid_from=valid_from or now,
        valid_until=valid_until,
        published_at=now,
        as_of=as_of,
        author=author,
    )


def _refuse_constant(text: str) -> NoReturn:
    raise ManifestError(f"manifest holds {text}, allowed are finite numbers")


def _load(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data.decode("ascii"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError("manifest is not ASCII JSON") from error
    if not isinstance(document, dict):
        raise ManifestError(f"manifest is a {type(document).__name__}, not an object")
    return document


def _mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ManifestError(f"manifest {what}: expected an object")
    return value


def _read_files(value: object) -> dict[str, FileDigest]:
    files = {}
    for path, entry in _mapping(value, "files").items():
        digest = _mapping(entry, "files")
        if set(digest) != {"sha256", "length"}:
            raise ManifestError("manifest files: expected sha256 and length for each")
        files[path] = FileDigest(digest["sha256"], digest["length"])
    return files


def _read_time(value: object, what: str) -> datetime:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ManifestError(f"manifest {what}: expected 2026-11-22T10:00:00.000000Z")
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise ManifestError(f"manifest {what}: {value} is not a time") from error


def _write_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0") + "Z"


def _match(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _check_names(manifest: Manifest) -> None:
    for what, value in (("kind", manifest.kind), ("table", manifest.table)):
        if not _match(_NAME, value):
            raise ManifestError(f"manifest {what}: {str(value)[:60]!r} is not a name")
    for what, value in (
        ("table_id", manifest.table_id),
        ("author", manifest.author),
        ("code_commit", manifest.code_commit),
        ("lock_hash", manifest.lock_hash),
    ):
        if not _match(_TEXT, value):
            raise ManifestError(f"manifest {what}: expected up to 200 ASCII characters")
    if not manifest.author:
        raise ManifestError("manifest author: empty; approvals need to know who it was")
    if not _is_count(manifest.table_version):
        raise ManifestError("manifest table_version: expected an integer from 0")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def check_relative_path(path: object) -> str:
    """Return `path` if it stays inside its folder.

    Raises
    ------
    ManifestError
        If it is absolute, climbs, is too long or holds other than the allowed
        characters.
    """
    if not isinstance(path, str) or len(path) > 512:
        raise ManifestError("manifest path: expected a string of up to 512 characters")
    if not all(_PATH_PART.fullmatch(part) for part in path.split("/")):
        raise ManifestError(
            f"manifest path: {path[:60]!r} is not a plain relative path"
        )
    return path


def _check_files(manifest: Manifest) -> None:
    for path, digest in manifest.files.items():
        check_relative_path(path)
        if not _match(_HEX_64, digest.sha256) or not _is_count(digest.length):
            raise ManifestError(f"manifest files: {path}: no sha256 and length")
        if digest.length > MAX_DATA_FILE_LENGTH:
            raise ManifestError(
                f"manifest files: {path}: {digest.length} bytes, "
                f"allowed {MAX_DATA_FILE_LENGTH}"
            )
    for path, sha256 in manifest.models.items():
        check_relative_path(path)
        if not _match(_HEX_64, sha256):
            raise ManifestError(f"manifest models: {path}: no sha256")
    for name, value in manifest.metrics.items():
        if not _match(_TEXT, name) or not _is_finite(value):
            raise ManifestError("manifest metrics: expected finite numbers by name")


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e300 and math.isfinite(value)


def _check_times(manifest: Manifest) -> None:
    for what in ("valid_from", "valid_until", "published_at", "as_of"):
        if getattr(manifest, what).tzinfo is None:
            raise ManifestError(f"manifest {what}: has no time zone, expected UTC")
    if manifest.valid_from >= manifest.valid_until:
        raise ManifestError("manifest valid_from: not before valid_until")
