"""The gateway's parts, put together once and handed to every route."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from lakehouse.errors import InputError
from lakehouse.trust.tokens import TOKENS_FILE, TokenBook
from serve.answers import View
from serve.board import Holder
from serve.cache import AnswerCache
from serve.errors import UnauthorisedError
from serve.laboratory import LabReader
from serve.ml.lanes import Lanes
from serve.predict.jobs import WorkQueue
from serve.present import Present
from serve.provider import ArtefactProvider
from serve.pulls import PullLog
from serve.refresh import Refresher
from serve.schemas import ArtefactState, Status
from serve.settings import ServeSettings


@dataclass(slots=True)
class Tokens:
    """The token book of the state folder, read again when its file changes."""

    folder: Path
    _stamp: tuple[int, int] | None = None
    _book: TokenBook = field(default_factory=lambda: TokenBook({}))

    def book(self) -> TokenBook:
        """Return the present book; an unreadable one lets nobody in."""
        try:
            status = (self.folder / TOKENS_FILE).stat()
        except OSError:
            return TokenBook({})
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            try:
                self._book = TokenBook.load(self.folder)
            except (InputError, OSError):
                return TokenBook({})
            self._stamp = stamp
        return self._book

    def require(self, header: str | None, prefix: str) -> str:
        """Return the role of a bearer header whose role starts with `prefix`.

        Raises
        ------
        UnauthorisedError
            If there is no such token.
        """
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise UnauthorisedError("send Authorization: Bearer TOKEN")
        role = self.book().role_of(token.strip())
        if role is None or not (role == prefix or role.startswith(f"{prefix}:")):
            raise UnauthorisedError(f"not a live {prefix} token")
        return role


@dataclass(slots=True)
class Gateway:
    """Everything a route may need.

    Attributes
    ----------
    settings : ServeSettings
    clock : Present
        The injected clock.
    provider : ArtefactProvider
    holder : Holder
        What is served.
    refresher : Refresher
    cache : AnswerCache
        Rendered answers to requests with parameters.
    tokens : Tokens
    pulls : PullLog
    laboratory : LabReader
    queue : WorkQueue
        Forecasts that clients wait for.
    lanes : Lanes
        Threads that ask the win-probability model.
    """

    settings: ServeSettings
    clock: Present
    provider: ArtefactProvider
    holder: Holder
    refresher: Refresher
    tokens: Tokens
    pulls: PullLog
    laboratory: LabReader
    cache: AnswerCache = field(default_factory=AnswerCache)
    queue: WorkQueue = field(default_factory=WorkQueue)
    lanes: Lanes = field(default_factory=Lanes)

    @property
    def view(self) -> View | None:
        """What is shown now; None until something was verified."""
        return self.holder.board.view

    def status(self) -> Status:
        """Describe what the answers stand on."""
        view = self.view
        artefacts = view.snapshot.artefacts.values() if view is not None else ()
        return Status(
            now=self.clock.now(),
            demo=self.clock.is_demo,
            verified_at=self.refresher.verified_at,
            stale=view is None or view.is_stale,
            refused=self.refresher.refused,
            artefacts=[
                ArtefactState(
                    kind=one.kind,
                    version=one.version,
                    sha256=one.sha256,
                    role=one.role,
                    as_of=one.as_of,
                    published_at=one.published_at,
                    valid_until=one.valid_until,
                )
                for one in artefacts
            ],
        )


GatewayPart: TypeAlias = NamedDependency[SkipValidation[Gateway]]
