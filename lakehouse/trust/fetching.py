"""Reading a lake's files from disk, an object store or HTTP, within limits.

Paths are relative to the lake's root: `artefacts/metadata/…`, `artefacts/targets/…` and
`tables/…`. Nothing here is trusted; a fetcher only promises that it returns at most
`max_length` bytes within a bounded time, or raises a `DownloadError` or `LengthError`.
"""

import contextlib
import os
import socket
import stat
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import urllib3

from lakehouse.storage.location import fsspec_options, is_remote
from lakehouse.trust.errors import (
    DownloadError,
    FileAbsentError,
    LengthError,
    SlowRetrievalError,
)


class Fetcher(Protocol):
    """Where a client reads from."""

    def fetch(self, path: str, *, max_length: int) -> bytes:
        """Return the bytes of `path`, at most `max_length` of them."""
        ...


def _refuse_climbing(path: str) -> None:
    if path.startswith("/") or any(part in {"", ".", ".."} for part in path.split("/")):
        raise DownloadError(f"{path[:100]!r}: not a path inside the lake")
    if "\0" in path or "\\" in path:
        raise DownloadError(f"{path[:100]!r}: not a path inside the lake")


@dataclass(frozen=True)
class LocalFetcher:
    """Reads under a lake root: a folder or `s3://bucket/prefix`.

    Attributes
    ----------
    root : str
        The lake's root.
    """

    root: str

    def fetch(self, path: str, *, max_length: int) -> bytes:
        """Return the bytes of `path`.

        Raises
        ------
        FileAbsentError
            If there is no such file.
        LengthError
            If it is longer than `max_length`.
        DownloadError
            If it cannot be read.
        """
        _refuse_climbing(path)
        try:
            data = self._read(path, max_length + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise FileAbsentError(f"{path}: no such file under {self.root}") from error
        except (OSError, ValueError) as error:
            raise DownloadError(f"{path}: cannot be read: {error}") from error
        if len(data) > max_length:
            raise LengthError(f"{path}: longer than {max_length} bytes")
        return data

    def _read(self, path: str, n_bytes: int) -> bytes:
        if not is_remote(self.root):
            return _read_inside(Path(self.root.removeprefix("file://")), path, n_bytes)
        import fsspec  # here, because only object stores pay for it
        from botocore.exceptions import BotoCoreError

        try:
            files, base = fsspec.core.url_to_fs(
                self.root.rstrip("/"), **fsspec_options(self.root)
            )
            data: bytes = files.cat_file(f"{base}/{path}", start=0, end=n_bytes)
        except BotoCoreError as error:  # raised before a request is made
            raise OSError(str(error)) from error
        return data


def _read_inside(root: Path, path: str, n_bytes: int) -> bytes:
    # The lake's writers are not believed: a link could show any file of this machine,
    # and a pipe would never end.
    base = os.path.realpath(root)
    place = os.path.realpath(f"{base}/{path}")
    if not place.startswith(f"{base.rstrip('/')}/"):
        raise OSError("a link that leads out of the lake")
    descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(path)
        if not stat.S_ISREG(kind):
            raise OSError("not a regular file")
        return file.read(n_bytes)


@dataclass(frozen=True)
class HttpFetcher:
    """Reads from a gateway or any web server that shows a lake's root.

    Attributes
    ----------
    base_url : str
        Address of the lake's root; `artefacts/metadata/timestamp.json` lies under it.
    token : str or None
        Bearer token.
    timeout_s : float
        Longest wait for a connection or for the next bytes.
    total_s : float
        Longest time for one file of up to a megabyte.
    min_bytes_per_s : int
        Rate that longer files must keep on top of `total_s`.
    """

    base_url: str
    token: str | None = field(default=None, repr=False)
    timeout_s: float = 10.0
    total_s: float = 30.0
    min_bytes_per_s: int = 50_000
    _pool: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._pool is None:
            object.__setattr__(self, "_pool", _open_pool(self.total_s))

    def fetch(self, path: str, *, max_length: int) -> bytes:
        """Return the bytes of `path`.

        Raises
        ------
        FileAbsentError
            If the server answers 403, 404 or 410.
        SlowRetrievalError
            If it sends too little in the time allowed.
        LengthError
            If it sends more than `max_length`.
        DownloadError
            If it does not answer with 200.
        """
        url = f"{self.base_url.rstrip('/')}/{path}"
        return self.fetch_url(url, max_length=max_length)

    def fetch_url(self, url: str, *, max_length: int) -> bytes:
        """Return the bytes at `url`; raises as `fetch` does."""
        if not url.startswith(("http://", "https://")):
            raise DownloadError(f"{url[:100]!r}: expected http:// or https://")
        headers = {"Accept-Encoding": "identity"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        started = time.monotonic()
        try:
            response = self._pool.request(
                "GET",
                url,
                headers=headers,
                preload_content=False,
                decode_content=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=self.timeout_s, read=self.timeout_s),
            )
            try:
                _check_status(response.status, url)
                return self._stream(response, url, max_length, started)
            finally:
                response.close()
        except urllib3.exceptions.NewConnectionError as error:
            raise DownloadError(f"{url}: nothing listens there") from error
        except urllib3.exceptions.TimeoutError as error:
            raise SlowRetrievalError(
                f"{url}: no answer in {self.timeout_s} s"
            ) from error
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            if time.monotonic() - started > self.total_s:
                raise SlowRetrievalError(
                    f"{url}: no whole answer in {self.total_s} s"
                ) from error
            raise DownloadError(
                f"{url}: {type(error).__name__}: {str(error)[:200]}"
            ) from error

    def _stream(
        self, response: Any, url: str, max_length: int, started: float
    ) -> bytes:
        parts: list[bytes] = []
        n_bytes = 0
        while True:
            # read1 hands over what has arrived, so that dripping bytes are noticed.
            part: bytes = response.read1(65_536)
            n_bytes += len(part)
            if n_bytes > max_length:
                raise LengthError(f"{url}: longer than {max_length} bytes")
            spent = time.monotonic() - started
            if spent > self.total_s + n_bytes / self.min_bytes_per_s:
                raise SlowRetrievalError(f"{url}: {n_bytes} bytes in {spent:.1f} s")
            if not part:
                break
            parts.append(part)
        return b"".join(parts)


def _open_pool(head_s: float) -> urllib3.PoolManager:
    # urllib3 bounds the wait for the next byte, not for the whole head of an answer.
    def watch(plain: type[Any]) -> type[Any]:
        class Watched(plain):  # type: ignore[misc]
            def getresponse(self) -> Any:
                timer = threading.Timer(head_s, _hang_up, (self.sock,))
                timer.daemon = True
                timer.start()
                try:
                    return super().getresponse()
                finally:
                    timer.cancel()

        return Watched

    class HttpPool(urllib3.HTTPConnectionPool):
        ConnectionCls = watch(urllib3.HTTPConnectionPool.ConnectionCls)

    class HttpsPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = watch(urllib3.HTTPSConnectionPool.ConnectionCls)

    pool = urllib3.PoolManager(num_pools=4, retries=False)
    pool.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}
    return pool


def _hang_up(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _check_status(status: int, url: str) -> None:
    if status in {403, 404, 410}:
        raise FileAbsentError(f"{url}: answered {status}")
    if status != 200:
        raise DownloadError(f"{url}: answered {status}, expected 200")
