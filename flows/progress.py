"""Progress of long work, for whoever watches: a bar on a terminal, else nothing.

A flow body reports steps; it does not know whether anybody looks. The command line
sets the watcher. Bars go to standard error and appear only after two seconds.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")


class Watcher(Protocol):
    """Somebody who looks at progress."""

    def begin(self, label: str, total: int | None) -> None:
        """Start a step of `total` parts; None when it is not known."""

    def advance(self, count: int = 1) -> None:
        """Say that `count` more parts are done."""

    def end(self) -> None:
        """End the step."""

    def say(self, line: str) -> None:
        """Say one line to the user."""


class Silent:
    """Nobody looks."""

    def begin(self, label: str, total: int | None) -> None:
        """Ignore."""

    def advance(self, count: int = 1) -> None:
        """Ignore."""

    def end(self) -> None:
        """Ignore."""

    def say(self, line: str) -> None:
        """Ignore."""


_WATCHER: ContextVar[Watcher] = ContextVar("alphalake_watcher", default=Silent())  # noqa: B039 - stateless


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Let `watcher` see the progress of everything inside."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def track(
    items: Iterable[T], label: str, *, total: int | None = None
) -> Generator[T, None, None]:
    """Yield `items`, reporting each as done when the next is asked for."""
    watcher = _WATCHER.get()
    watcher.begin(label, total)
    try:
        for item in items:
            yield item
            watcher.advance()
    finally:
        watcher.end()


def say(line: str) -> None:
    """Say one line to whoever watches."""
    _WATCHER.get().say(line)


def plural(count: int, word: str) -> str:
    """Return `count` with its word: `1 forecast`, `2 forecasts`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
