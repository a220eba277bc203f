"""Bytes of a file: its digest, what is packed inside, and its text.

Compression is recognised by content, never by the file's name. A truncated or damaged
archive refuses the file; text is UTF-8, UTF-16 or Windows-1252, and bytes that are no
text are said to be none.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pyarrow as pa

from lakehouse.errors import SourceError

MAX_BYTES: Final = 4 * 1024**3  # bytes of one unpacked member
MAX_RATIO: Final = 250  # unpacked to packed, of anything above `_SMALL`
_SMALL: Final = 64 * 1024**2  # bytes
_CHUNK: Final = 16 * 1024**2  # bytes


def _open_zstandard(data: io.BytesIO) -> Any:
    return pa.CompressedInputStream(pa.PythonFile(data, mode="r"), "zstd")


_STREAMS: Final[tuple[tuple[bytes, Callable[[io.BytesIO], Any]], ...]] = (
    (b"\x28\xb5\x2f\xfd", _open_zstandard),
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)
_DAMAGE = (
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,  # an exotic compression method
    RuntimeError,  # an encrypted member
    ValueError,
    UnicodeError,
)


@dataclass(frozen=True, slots=True)
class Member:
    """One unpacked stream of bytes.

    Attributes
    ----------
    name : str or None
        Name inside the archive; None for the file itself.
    data : bytes
        Unpacked content.
    """

    name: str | None
    data: bytes


def read_file(path: Path) -> bytes:
    """Read a file whole.

    Raises
    ------
    SourceError
        If it is a directory, no regular file, unreadable or empty.
    """
    if path.is_dir():
        raise SourceError(f"{path}: a directory; pass a glob, e.g. {path}/*.csv")
    if not path.is_file():
        raise SourceError(f"{path}: not a regular file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    if not data:
        raise SourceError(f"{path}: the file is empty")
    return data


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def unpack(place: str, data: bytes) -> list[Member]:
    """Undo compression until plain members are left.

    Parameters
    ----------
    place : str
        File, for messages.
    data : bytes
        Content of the file.

    Raises
    ------
    SourceError
        If an archive is damaged, encrypted, empty or unpacks beyond `MAX_BYTES`.
    """
    try:
        if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            return _unzip(place, data)
        return [Member(None, _decompress(place, data))]
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise SourceError(
            f"{place}: damaged or unsupported archive: {reason}"
        ) from error


def _decompress(place: str, data: bytes) -> bytes:
    for magic, open_stream in _STREAMS:
        if data.startswith(magic):
            with open_stream(io.BytesIO(data)) as stream:
                return _read_limited(place, stream, len(data))
    return data


def _unzip(place: str, data: bytes) -> list[Member]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [
            info
            for info in archive.infolist()
            if not info.is_dir()
            and not PurePosixPath(info.filename).name.startswith(".")
            and "__MACOSX" not in info.filename
        ]
        if not names:
            raise SourceError(f"{place}: the archive holds no file")
        if any(info.filename == "[Content_Types].xml" for info in names):
            raise SourceError(f"{place}: an Office document; export its sheet as CSV")
        members = []
        size = 0
        for info in names:
            with archive.open(info) as stream:
                packed = _read_limited(place, stream, len(data), size=size)
            size += len(packed)
            members.append(Member(info.filename, _decompress(place, packed)))
        return members


def _read_limited(place: str, stream: Any, n_packed: int, *, size: int = 0) -> bytes:
    # `size` bytes came out of the same `n_packed` bytes before.
    plain = io.BytesIO()
    while chunk := stream.read(_CHUNK):
        size += len(chunk)
        if size > MAX_BYTES:
            raise SourceError(f"{place}: unpacks to more than {MAX_BYTES} bytes")
        if size > max(_SMALL, MAX_RATIO * n_packed):
            raise SourceError(
                f"{place}: unpacks to more than {MAX_RATIO} times its size; unpack it "
                "first if that is right"
            )
        plain.write(chunk)
    return plain.getvalue()


def decode(place: str, data: bytes) -> tuple[str, str]:
    """Return the text of `data` and the name of its encoding.

    Raises
    ------
    SourceError
        If the bytes are not text.
    """
    text, encoding = _decode(data)
    start = text[:200].lstrip().lower()
    if start.startswith(("{", "[")):
        raise SourceError(f"{place}: JSON is not read; write it as CSV or Parquet")
    if start.startswith(("<!doctype", "<html", "<?xml")):
        raise SourceError(f"{place}: a web page or XML; save the data as CSV")
    sample = text[:100_000]
    n_controls = sum(
        1
        for char in sample
        if (char < " " and char not in "\t\r\n\f\x1a") or char == "�"
    )
    if n_controls > max(2, len(sample) // 200):
        raise SourceError(f"{place}: binary content, not a text file of bars")
    return text.replace("\x00", "�"), encoding


def _decode(data: bytes) -> tuple[str, str]:
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), encoding
    head = data[:4096]
    if head[1::2].count(0) > len(head) // 4:
        return data.decode("utf-16-le", errors="replace"), "utf-16-le"
    if head[0::2].count(0) > len(head) // 4:
        return data.decode("utf-16-be", errors="replace"), "utf-16-be"
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), "Windows-1252"
