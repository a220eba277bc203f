"""What one invocation shares between its verbs: how it speaks and where it works."""

from collections.abc import Iterator
from contextlib import contextmanager

from flows.cli.output import Output

_OUTPUT: list[Output] = []


def start_session(out: Output, *, root: str | None, now: str | None) -> None:
    """Take over the global options.

    Raises
    ------
    InputError
        If `now` is not a time.
    """
    _OUTPUT[:] = [out]
    if root is not None or now is not None:
        from flows.environment import point_environment

        point_environment(root=root, now=now)


def end_session() -> None:
    """Forget the invocation before: this process may run several."""
    _OUTPUT.clear()


def current_output() -> Output | None:
    """Return how this invocation speaks; None before the options were read."""
    return _OUTPUT[0] if _OUTPUT else None


def output() -> Output:
    """Return how this invocation speaks."""
    return _OUTPUT[0] if _OUTPUT else Output()


@contextmanager
def watching() -> Iterator[None]:
    """Show the progress of everything inside on the terminal."""
    from flows.cli.watching import TerminalWatcher
    from flows.progress import watched_by

    watcher = TerminalWatcher(output())
    try:
        with watched_by(watcher):
            yield
    finally:
        watcher.end()
