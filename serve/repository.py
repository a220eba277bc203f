"""`/artefacts`: the signed repository, for consumers that verify it themselves."""

import asyncio
import re
from functools import partial
from typing import Annotated, Any, Final

from litestar import Controller, Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import Parameter

from lakehouse.errors import TrustError
from lakehouse.trust.manifest import MAX_MANIFEST_LENGTH
from serve.errors import NotHereError
from serve.gateway import Gateway, GatewayPart
from serve.problems import documented

METADATA_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\.json$"
TARGET_PATTERN: Final = (
    r"^([A-Za-z0-9][A-Za-z0-9_-]{0,63}/){0,2}[A-Za-z0-9][A-Za-z0-9_.-]{0,191}\.json$"
)
DATA_PATTERN: Final = (
    r"^([A-Za-z0-9_][A-Za-z0-9_.=%+,-]{0,63}/){0,2}"
    r"[A-Za-z0-9_][A-Za-z0-9_.=%+,-]{0,191}\.parquet$"
)
_MAX_METADATA: Final = 5_000_000  # bytes; what clients accept of one role
_METADATA: Final = re.compile(METADATA_PATTERN)
_TARGET: Final = re.compile(TARGET_PATTERN)
_DATA: Final = re.compile(DATA_PATTERN)
_SECURITY: Final[tuple[dict[str, list[str]], ...]] = ({"consumer": []},)
_FILE: Final = {
    200: ResponseSpec(bytes, media_type="application/octet-stream", description="File")
}
_PROBLEMS: Final = documented(400, 401, 404, 414, 429)


def _name(pattern: str, example: str) -> Any:
    return Parameter(
        description="File name below the folder.",
        examples=[Example(value=example)],
        schema_extra={"pattern": pattern},
    )


MetadataName = Annotated[str, _name(METADATA_PATTERN, "timestamp.json")]
TargetName = Annotated[str, _name(TARGET_PATTERN, "shadow/instruments.json")]
DataName = Annotated[str, _name(DATA_PATTERN, "part-0.parquet")]
Table = Annotated[
    str,
    Parameter(
        description="Table named by a current manifest.",
        schema_extra={"pattern": "^[a-z][a-z0-9_]{0,63}$"},
        examples=[Example(value="artefact_latest_predictions")],
    ),
]


class RepositoryController(Controller):
    """Metadata, targets and the data files that current manifests name."""

    path = "/artefacts"
    tags = ("artefacts",)
    security = _SECURITY

    @get(
        "/metadata/{name:str}",
        operation_id="readMetadata",
        summary="TUF metadata",
        responses={**_FILE, **_PROBLEMS},
    )
    async def read_metadata(
        self, request: Request[Any, Any, Any], gateway: GatewayPart, name: MetadataName
    ) -> Response[bytes]:
        """Return a metadata file."""
        consumer = authorise(request, gateway)
        _require(_METADATA, name)
        path = f"artefacts/metadata/{name}"
        return await _send(gateway, consumer, path, _MAX_METADATA)

    @get(
        "/targets/{name:path}",
        operation_id="readTarget",
        summary="TUF target: a manifest",
        responses={**_FILE, **_PROBLEMS},
    )
    async def read_target(
        self, request: Request[Any, Any, Any], gateway: GatewayPart, name: TargetName
    ) -> Response[bytes]:
        """Return a target file."""
        consumer = authorise(request, gateway)
        target = name.removeprefix("/")
        _require(_TARGET, target)
        path = f"artefacts/targets/{target}"
        return await _send(gateway, consumer, path, MAX_MANIFEST_LENGTH)

    @get(
        "/tables/{table:str}/{name:path}",
        operation_id="readData",
        summary="Data file of a current manifest",
        responses={**_FILE, **_PROBLEMS},
    )
    async def read_data(
        self,
        request: Request[Any, Any, Any],
        gateway: GatewayPart,
        table: Table,
        name: DataName,
    ) -> Response[bytes]:
        """Return a data file that a verified manifest names."""
        return await _read_data(request, gateway, table, name)


@get("/tables/{table:str}/{name:path}", include_in_schema=False)
async def read_lake_data(
    *,
    request: Request[Any, Any, Any],
    gateway: GatewayPart,
    table: Table,
    name: DataName,
) -> Response[bytes]:
    """Return the same data file at its path below a lake root.

    A verifying client that is given the gateway's address as its root asks here.
    """
    return await _read_data(request, gateway, table, name)


async def _read_data(
    request: Request[Any, Any, Any], gateway: Gateway, table: str, name: str
) -> Response[bytes]:
    consumer = authorise(request, gateway)
    file = name.removeprefix("/")
    _require(_DATA, file)
    view = gateway.view
    artefacts = view.snapshot.artefacts.values() if view is not None else ()
    lengths = [one.files.get(file) for one in artefacts if one.table_name == table]
    length = max((found for found in lengths if found is not None), default=None)
    if length is None:
        raise NotHereError(f"no current manifest names {table}/{file}"[:200])
    return await _send(gateway, consumer, f"tables/{table}/{file}", length)


def authorise(request: Request[Any, Any, Any], gateway: Gateway) -> str:
    """Return the consumer that a request's bearer token belongs to."""
    role = gateway.tokens.require(request.headers.get("authorization"), "consumer")
    return role.removeprefix("consumer:")


def _require(pattern: re.Pattern[str], name: str) -> None:
    if ".." in name or not pattern.fullmatch(name):
        raise NotHereError(f"{name[:64]!r} is not the name of a repository file")


async def _send(
    gateway: Gateway, consumer: str, path: str, max_length: int
) -> Response[bytes]:
    read = partial(gateway.provider.read, path, max_length=max_length)
    try:
        data = await asyncio.to_thread(read)
    except (TrustError, OSError) as error:
        await _note(gateway, consumer, path, status=404, n_bytes=0)
        raise NotHereError(f"{path}: no such repository file") from error
    await _note(gateway, consumer, path, status=200, n_bytes=len(data))
    return Response(
        data,
        media_type="application/octet-stream",
        headers={"Cache-Control": "private, no-cache"},
    )


async def _note(
    gateway: Gateway, consumer: str, path: str, *, status: int, n_bytes: int
) -> None:
    await asyncio.to_thread(
        gateway.pulls.note,
        consumer,
        path,
        status=status,
        n_bytes=n_bytes,
        now=gateway.clock.now(),
    )
