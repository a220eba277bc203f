"""Where a lake lies: a folder or an `s3://` prefix, and how to reach it.

Everything that is not a Delta commit (data files, the kept latest tables, the clock
file) is read and written through one `pyarrow.fs` filesystem, so that the same code
runs on both. Credentials come from the usual `AWS_*` variables only.
"""

import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from pyarrow import fs

from lakehouse.errors import InputError, StoreError

_PASSED_ON: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ALLOW_HTTP",
)


def is_remote(root: str) -> bool:
    """Return whether `root` is an object-store URI."""
    return "://" in root and not root.startswith("file://")


def storage_options(root: str) -> dict[str, str]:
    """Return delta-rs options for `root` from the environment; empty for a folder."""
    if not is_remote(root):
        return {}
    options = {name: os.environ[name] for name in _PASSED_ON if os.environ.get(name)}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3"):
        options["AWS_ENDPOINT_URL"] = endpoint
    options.setdefault(
        "AWS_REGION", os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    )
    if options.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        options.setdefault("AWS_ALLOW_HTTP", "true")
    return options


def fsspec_options(root: str) -> dict[str, Any]:
    """Return fsspec (s3fs) options for `root` from the environment."""
    if not is_remote(root):
        return {}
    options = storage_options(root)
    found: dict[str, Any] = {
        "key": options.get("AWS_ACCESS_KEY_ID"),
        "secret": options.get("AWS_SECRET_ACCESS_KEY"),
        "token": options.get("AWS_SESSION_TOKEN"),
        "endpoint_url": options.get("AWS_ENDPOINT_URL"),
    }
    found = {name: value for name, value in found.items() if value}
    return {
        **found,
        "client_kwargs": {"region_name": options["AWS_REGION"]},
        "use_listings_cache": False,
    }


def _open_s3(options: dict[str, str]) -> fs.FileSystem:
    endpoint = options.get("AWS_ENDPOINT_URL", "")
    scheme, _, address = endpoint.partition("://")
    arguments: dict[str, str] = {"region": options["AWS_REGION"]}
    if address:
        arguments |= {"scheme": scheme, "endpoint_override": address.rstrip("/")}
    if key := options.get("AWS_ACCESS_KEY_ID"):
        arguments |= {
            "access_key": key,
            "secret_key": options.get("AWS_SECRET_ACCESS_KEY", ""),
        }
    if token := options.get("AWS_SESSION_TOKEN"):
        arguments["session_token"] = token
    return fs.S3FileSystem(**arguments)


@dataclass(frozen=True, slots=True)
class Location:
    """A lake's root, resolved.

    Attributes
    ----------
    root : str
        As the user gave it, without a trailing slash.
    base : str
        The root as a path of `filesystem`.
    filesystem : pyarrow.fs.FileSystem
        Local or S3.
    storage_options : dict of str to str
        delta-rs options.
    """

    root: str
    base: str
    filesystem: Any
    storage_options: dict[str, str] = field(repr=False)

    @classmethod
    def of(cls, root: str) -> "Location":
        """Resolve `root`; nothing is created.

        Raises
        ------
        InputError
            If the scheme is neither a folder nor `s3://`.
        """
        root = root.removeprefix("file://").rstrip("/") or "/"
        if not is_remote(root):
            base = str(Path(root).expanduser().absolute())
            return cls(root, base, fs.LocalFileSystem(), {})
        if not root.startswith("s3://"):
            raise InputError(f"root {root!r}: a folder or s3://bucket/prefix")
        options = storage_options(root)
        return cls(root, root.removeprefix("s3://"), _open_s3(options), options)

    @property
    def is_remote(self) -> bool:
        """Whether the root is an object store."""
        return is_remote(self.root)

    def table_uri(self, table: str) -> str:
        """Return the URI that delta-rs opens."""
        prefix = "s3://" if self.is_remote else ""
        return f"{prefix}{self.base}/tables/{table}"

    def path(self, *parts: str) -> str:
        """Return a path of `filesystem` under the root."""
        return "/".join((self.base, *parts))

    def exists(self, path: str) -> bool:
        """Return whether an object or file lies at `path`."""
        if not self.is_remote:
            return Path(path).exists()
        try:
            return bool(self.filesystem.get_file_info(path).type == fs.FileType.File)
        except OSError as error:
            raise StoreError(f"{path}: cannot be looked up: {error}") from error

    def read_bytes(self, path: str) -> bytes | None:
        """Return a small file's bytes; None when there is none."""
        try:
            if not self.is_remote:
                return Path(path).read_bytes()
            with self.filesystem.open_input_file(path) as source:
                return cast("bytes", source.read())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error}") from error

    def write_bytes(self, path: str, payload: bytes) -> None:
        """Replace the file at `path` whole: readers see the old one or the new one."""
        try:
            if self.is_remote:
                with self.filesystem.open_output_stream(path) as sink:
                    sink.write(payload)
                return
            final = Path(path)
            final.parent.mkdir(parents=True, exist_ok=True)
            draft = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
            draft.write_bytes(payload)
            draft.replace(final)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error}") from error

    def delete(self, path: str) -> None:
        """Delete the file at `path` if it is there."""
        try:
            self.filesystem.delete_file(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{path}: cannot be deleted: {error}") from error
