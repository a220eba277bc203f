"""Does an object store refuse to overwrite what is there? Delta commits depend on it.

Two writers that commit the same version are told apart by a conditional put alone. A
store that ignores `If-None-Match` lets the second win silently, and commits are lost;
so each bucket and prefix is asked once per process before the first write.
"""

import uuid
from typing import Any, Final

import s3fs
from botocore.exceptions import BotoCoreError, ClientError

from lakehouse.errors import StoreError, StoreUnsafeError
from lakehouse.storage.location import Location, fsspec_options

_REFUSED: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})


def require_conditional_put(location: Location) -> None:
    """Put one key twice with `If-None-Match: *`; the second must be refused.

    Raises
    ------
    StoreUnsafeError
        If the store overwrote the key.
    StoreError
        If the store does not answer or forbids the first put.
    """
    bucket, _, prefix = location.base.partition("/")
    key = "/".join(
        part for part in (prefix.strip("/"), f".probe-{uuid.uuid4().hex}") if part
    )
    store = s3fs.S3FileSystem(**fsspec_options(location.root), skip_instance_cache=True)
    try:
        _put(store, bucket, key)
        try:
            is_refused = _is_refused(store, bucket, key)
        finally:
            store.call_s3("delete_object", Bucket=bucket, Key=key)
    except (OSError, ClientError, BotoCoreError) as error:
        raise StoreError(f"{location.root}: cannot be written: {error}") from error
    if not is_refused:
        raise StoreUnsafeError(
            f"{location.root}: the store overwrites despite If-None-Match, so "
            "concurrent commits could be lost; use one with conditional put"
        )


def _put(store: Any, bucket: str, key: str) -> None:
    store.call_s3("put_object", Bucket=bucket, Key=key, Body=b"", IfNoneMatch="*")


def _is_refused(store: Any, bucket: str, key: str) -> bool:
    try:
        _put(store, bucket, key)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _REFUSED:
            return True
        raise
    except OSError as error:
        # s3fs translates a refused precondition to FileExistsError.
        if isinstance(error, FileExistsError) or "PreconditionFailed" in str(error):
            return True
        raise
    return False
