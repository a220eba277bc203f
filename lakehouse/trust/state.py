"""What a client remembers of a repository: rollback protection is only as good as this.

The folder has the layout of python-tuf's own client: `timestamp.json`, `snapshot.json`,
`targets.json` and delegated roles by quoted name, `root.json` for the newest root and
every root seen under `root_history/`. Bytes read from here were verified once, but are
verified again each time they are used.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from lakehouse.trust.errors import FileAbsentError, HashError, StateError
from lakehouse.trust.files import write_atomically

MAX_STATE_FILE_LENGTH = 8_000_000  # bytes


@dataclass(frozen=True, slots=True)
class StoredPayload:
    """The last accepted payload, as a fetcher of exactly the files it was made of.

    Attributes
    ----------
    files : mapping of str to str
        sha256 by path in the lake.
    seen : mapping of str to (str, int)
        Newest table id and version ever accepted, by target path.
    verified_at : datetime, UTC
        When it was verified.
    """

    folder: Path
    files: Mapping[str, str]
    seen: Mapping[str, tuple[str, int]]
    verified_at: datetime

    def fetch(self, path: str, *, max_length: int) -> bytes:
        """Return the stored bytes of `path`.

        Raises
        ------
        FileAbsentError
            If it is not part of the payload or was lost.
        HashError
            If it was damaged.
        """
        sha256 = self.files.get(path)
        data = None if sha256 is None else _read(self.folder / sha256, max_length)
        if data is None:
            raise FileAbsentError(f"{path}: not in the stored payload")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise HashError(f"{path}: damaged in the stored payload")
        return data


class PayloadStore:
    """Keeps the last accepted payload on disk: content by sha256, one index over it.

    Parameters
    ----------
    folder : Path
        Made when the first payload is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> StoredPayload | None:
        """Return the stored payload; None if there is none or its index is damaged."""
        data = _read(self.folder / "accepted.json", MAX_STATE_FILE_LENGTH)
        if data is None:
            return None
        try:
            document = json.loads(data)
            return StoredPayload(
                self.folder / "files",
                {str(k): _checked_sha256(v) for k, v in document["files"].items()},
                {str(k): (str(i), int(v)) for k, (i, v) in document["seen"].items()},
                _checked_moment(document["verified_at"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def write(
        self,
        files: Mapping[str, str],
        contents: Mapping[str, bytes],
        *,
        seen: Mapping[str, tuple[str, int]],
        verified_at: datetime,
    ) -> None:
        """Replace the stored payload; a kill leaves either whole.

        Parameters
        ----------
        files : mapping of str to str
            sha256 by path.
        contents : mapping of str to bytes
            Content by sha256; may leave out what is stored already.
        seen : mapping of str to (str, int)
            Newest table id and version by target path.
        verified_at : datetime, UTC
            When it was verified.

        Raises
        ------
        StateError
            If the folder cannot be written.
        """
        stored = self.folder / "files"
        for sha256, content in contents.items():
            if _read(stored / sha256, len(content)) != content:
                _write(stored / sha256, content)
        index = {
            "files": dict(files),
            "seen": {kind: list(entry) for kind, entry in seen.items()},
            "verified_at": verified_at.isoformat(),
        }
        _write(
            self.folder / "accepted.json", json.dumps(index, sort_keys=True).encode()
        )
        wanted = set(files.values())
        for path in stored.iterdir():
            if path.name not in wanted:
                path.unlink(missing_ok=True)


def _checked_sha256(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
        return value
    raise ValueError("not a sha256")


def _checked_moment(value: str) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return moment


class MetadataCache(Protocol):
    """Trusted metadata by role name."""

    def get(self, role: str) -> bytes | None:
        """Return the last trusted bytes of `role`."""
        ...

    def put(self, role: str, data: bytes) -> None:
        """Remember the trusted bytes of `role`."""
        ...

    def get_root(self, version: int) -> bytes | None:
        """Return the root of that version, if it was seen."""
        ...

    def put_root(self, version: int, data: bytes) -> None:
        """Remember a trusted root; it becomes the newest."""
        ...


class MemoryCache:
    """Forgets when the process ends: for one look at a repository."""

    def __init__(self) -> None:
        self._roles: dict[str, bytes] = {}
        self._roots: dict[int, bytes] = {}

    def get(self, role: str) -> bytes | None:
        """Return the last trusted bytes of `role`."""
        return self._roles.get(role)

    def put(self, role: str, data: bytes) -> None:
        """Remember the trusted bytes of `role`."""
        self._roles[role] = data

    def get_root(self, version: int) -> bytes | None:
        """Return the root of that version, if it was seen."""
        return self._roots.get(version)

    def put_root(self, version: int, data: bytes) -> None:
        """Remember a trusted root."""
        self._roots[version] = data
        self._roles["root"] = data


class DirectoryCache:
    """Survives restarts and kills.

    Parameters
    ----------
    folder : Path
        Made when the first file is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, role: str) -> bytes | None:
        """Return the last trusted bytes of `role`; None if unreadable."""
        return _read(self.folder / f"{quote(role, '')}.json")

    def put(self, role: str, data: bytes) -> None:
        """Remember the trusted bytes of `role`."""
        _write(self.folder / f"{quote(role, '')}.json", data)

    def get_root(self, version: int) -> bytes | None:
        """Return the root of that version, if it was seen."""
        return _read(self.folder / "root_history" / f"{version}.root.json")

    def put_root(self, version: int, data: bytes) -> None:
        """Remember a trusted root; `root.json` is written last."""
        _write(self.folder / "root_history" / f"{version}.root.json", data)
        _write(self.folder / "root.json", data)


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror}") from error


def _read(path: Path, max_length: int = MAX_STATE_FILE_LENGTH) -> bytes | None:
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        data = file.read(max_length + 1)
        return data if len(data) <= max_length else None
    return None
