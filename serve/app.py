"""The composition root: settings in, ASGI application out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException
from prometheus_client import CollectorRegistry

from lakehouse.clock import Clock
from lakehouse.errors import InputError
from lakehouse.trust.tokens import state_folder
from serve.admin import AdminController
from serve.board import Holder
from serve.docs import build_openapi
from serve.errors import ProblemError
from serve.fast import FastLayer
from serve.gateway import Gateway, Tokens
from serve.laboratory import LabReader
from serve.limits import MAX_BODY, TokenBuckets
from serve.ml.controller import MlController
from serve.predict.controller import PredictController, WorkController
from serve.predict.metrics import QueueCollector
from serve.present import LakeClock
from serve.probes import GatewayCollector, ProbeController
from serve.problems import from_bug, from_http, from_problem
from serve.provider import ArtefactProvider, TrustedProvider
from serve.pulls import PullLog
from serve.refresh import Refresher
from serve.repository import RepositoryController, read_lake_data
from serve.settings import ServeSettings
from serve.showcase import ShowcaseController
from serve.site import build_handler, load_files

_FIRST_WAIT_S = 3.0  # how long start-up waits for the first verification


def create_app(
    settings: ServeSettings | None = None,
    *,
    provider: ArtefactProvider | None = None,
    clock: Clock | None = None,
) -> FastLayer:
    """Build the gateway.

    Parameters
    ----------
    settings : ServeSettings, optional
        Read from the environment if not given.
    provider : ArtefactProvider, optional
        Where verified artefacts come from; the root's TUF repository if not given.
    clock : Clock, optional
        The injected clock; resolved from settings and root if not given.

    Returns
    -------
    FastLayer
        An ASGI application.

    Raises
    ------
    InputError
        If the trusted root or a time cannot be read.
    """
    chosen = settings or ServeSettings()
    moment = (
        LakeClock(clock)
        if clock is not None
        else LakeClock.resolve(chosen.root, now=chosen.now)
    )
    trusted_root = _read_trusted_root(chosen.trust)
    folder = state_folder(chosen.state, trusted_root)
    source = provider or TrustedProvider(
        chosen.root,
        trusted_root=trusted_root,
        state=folder,
        clock=moment,
        token=chosen.token,
    )
    holder = Holder(files=load_files())
    gateway = Gateway(
        settings=chosen,
        clock=moment,
        provider=source,
        holder=holder,
        refresher=Refresher(source, holder, moment, follow=moment.follow),
        tokens=Tokens(folder),
        pulls=PullLog(folder),
        laboratory=LabReader(chosen.root),
    )
    return _assemble(gateway)


def _assemble(gateway: Gateway) -> FastLayer:
    settings = gateway.settings
    registry = CollectorRegistry(auto_describe=False)
    router = Litestar(
        [
            ShowcaseController,
            RepositoryController,
            read_lake_data,
            AdminController,
            PredictController,
            WorkController,
            MlController,
            ProbeController,
            build_handler(gateway.holder),
        ],
        dependencies={"gateway": Provide(lambda: gateway, sync_to_thread=False)},
        exception_handlers={
            ProblemError: from_problem,
            HTTPException: from_http,
            Exception: from_bug,
        },
        lifespan=[_refreshing(gateway)],
        logging_config=None,
        openapi_config=build_openapi(_version()),
        request_max_body_size=MAX_BODY,
        signature_namespace={"Gateway": Gateway},
    )
    router.state.registry = registry
    router.state.gateway = gateway
    layer = FastLayer(
        router, gateway.holder, TokenBuckets(settings.rate_limit, settings.burst)
    )
    registry.register(GatewayCollector(gateway, layer))
    registry.register(QueueCollector(gateway.queue))
    return layer


def _refreshing(
    gateway: Gateway,
) -> Callable[[Litestar], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await asyncio.to_thread(gateway.pulls.start, gateway.clock.now())
        first = asyncio.Event()
        task = asyncio.create_task(
            gateway.refresher.run(gateway.settings.refresh_seconds, first.set)
        )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(first.wait(), _FIRST_WAIT_S)
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return lifespan


def _read_trusted_root(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"trusted root {path}: {error.strerror}; name it with --trust FILE"
        ) from error


def _version() -> str:
    try:
        return version("alphalake")
    except PackageNotFoundError:
        return "0"
