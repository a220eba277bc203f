"""Writing the repository's files so that no reader ever meets a broken state.

Versioned files are created once and never changed; only `timestamp.json` and staged
documents are replaced, each as a whole. On disk one writer at a time holds a lock; on an
object store a conditional put decides between writers.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from lakehouse.errors import CommitConflictError
from lakehouse.storage.location import fsspec_options, is_remote
from lakehouse.trust.files import locked, write_atomically


class RepositoryFiles(Protocol):
    """Files by path under `artefacts/`."""

    def read(self, path: str) -> bytes | None:
        """Return the bytes of `path`; None if there is no such file."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Write a new file; False if the name is taken by other bytes."""
        ...

    def replace(self, path: str, data: bytes, *, previous: bytes | None) -> None:
        """Write `path` if it still holds `previous`."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the paths of all files under `folder`."""
        ...

    def remove(self, path: str) -> None:
        """Delete a file."""
        ...

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Keep other writers of this machine away."""
        ...


def open_files(lake_root: str) -> RepositoryFiles:
    """Return the files of the repository of a lake; nothing is created."""
    if is_remote(lake_root):
        return RemoteFiles(lake_root)
    return LocalFiles(Path(lake_root.removeprefix("file://")) / "artefacts")


class LocalFiles:
    """Files in a folder.

    Parameters
    ----------
    folder : Path
        Made when the first writer comes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, path: str) -> bytes | None:
        """Return the bytes of `path`; None if there is no such file."""
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, path: str, data: bytes) -> bool:
        """Write a new file; False if the name is taken by other bytes."""
        place = self.folder / path
        if place.exists():
            return place.read_bytes() == data
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, data)
        return True

    def replace(self, path: str, data: bytes, *, previous: bytes | None) -> None:
        """Write `path` if it still holds `previous`.

        Raises
        ------
        CommitConflictError
            If somebody wrote past the lock.
        """
        place = self.folder / path
        if self.read(path) != previous:
            raise CommitConflictError(f"{place}: was written past the lock")
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, data)

    def names(self, folder: str) -> list[str]:
        """Return the paths of all files under `folder`."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in (self.folder / folder).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )

    def remove(self, path: str) -> None:
        """Delete a file."""
        (self.folder / path).unlink(missing_ok=True)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other writers of this machine away, and clear what a kill left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / ".lock"):
            for leftover in self.folder.rglob(".writing-*"):
                leftover.unlink(missing_ok=True)
            yield


class RemoteFiles:
    """Files in an object store that has conditional puts.

    Parameters
    ----------
    lake_root : str
        `s3://bucket/prefix`.
    """

    def __init__(self, lake_root: str) -> None:
        import fsspec

        self._files: Any
        self._files, base = fsspec.core.url_to_fs(
            lake_root.rstrip("/"), **fsspec_options(lake_root)
        )
        self._base = f"{base}/artefacts"

    def read(self, path: str) -> bytes | None:
        """Return the bytes of `path`; None if there is no such file."""
        try:
            with _reaching(self._base):
                data: bytes = self._files.cat_file(f"{self._base}/{path}")
        except FileNotFoundError:
            return None
        return data

    def create(self, path: str, data: bytes) -> bool:
        """Write a new file; False if the name is taken by other bytes."""
        try:
            with _reaching(self._base):
                self._files.pipe_file(f"{self._base}/{path}", data, mode="create")
        except OSError as error:
            if not _is_refused_condition(error):
                raise
            return self.read(path) == data
        return True

    def replace(self, path: str, data: bytes, *, previous: bytes | None) -> None:
        """Write `path` if it still holds `previous`.

        Raises
        ------
        CommitConflictError
            If another writer was faster.
        """
        place = f"{self._base}/{path}"
        if previous is None:
            if not self.create(path, data):
                raise CommitConflictError(f"{place}: another writer was faster")
            return
        with _reaching(self._base):
            etag = self._files.info(place, refresh=True).get("ETag")
        if self.read(path) != previous:
            raise CommitConflictError(f"{place}: another writer was faster")
        try:
            with _reaching(self._base):
                self._files.pipe_file(place, data, IfMatch=etag)
        except OSError as error:
            if not _is_refused_condition(error):
                raise
            raise CommitConflictError(f"{place}: another writer was faster") from error

    def names(self, folder: str) -> list[str]:
        """Return the paths of all files under `folder`."""
        self._files.invalidate_cache()
        with _reaching(self._base):
            found: list[str] = self._files.find(f"{self._base}/{folder}")
        return sorted(path.removeprefix(f"{self._base}/") for path in found)

    def remove(self, path: str) -> None:
        """Delete a file."""
        with contextlib.suppress(FileNotFoundError), _reaching(self._base):
            self._files.rm_file(f"{self._base}/{path}")

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Do nothing: conditional puts decide between writers."""
        yield


@contextlib.contextmanager
def _reaching(base: str) -> Iterator[None]:
    # What botocore raises before a request is made is no OSError.
    from botocore.exceptions import BotoCoreError

    try:
        yield
    except BotoCoreError as error:
        raise OSError(f"{base}: {error}") from error


def _is_refused_condition(error: OSError) -> bool:
    # s3fs has no class of its own for it; 409 is a condition undecided in a race.
    answer = getattr(error.__cause__, "response", {})
    code = answer.get("Error", {}).get("Code")
    return isinstance(error, FileExistsError) or code in {
        "PreconditionFailed",
        "ConditionalRequestConflict",
    }
