"""Progress bars on standard error, shown only for steps that take over two seconds."""

import time
from types import TracebackType

from flows.cli.output import Output

PATIENCE_S = 2.0


class TerminalWatcher:
    """Shows progress to a person; says remarks to everybody.

    Parameters
    ----------
    out : Output
        How this invocation speaks.
    """

    def __init__(self, out: Output) -> None:
        self._out = out
        self._started = 0.0
        self._done = 0
        self._label = ""
        self._total: int | None = None
        self._bar: Bar | None = None

    def begin(self, label: str, total: int | None) -> None:
        """Start a step; nothing is drawn yet."""
        self.end()
        self._started, self._done = time.monotonic(), 0
        self._label, self._total = label, total

    def advance(self, count: int = 1) -> None:
        """Count, and draw once the step has taken two seconds."""
        self._done += count
        if not self._out.shows_progress:
            return
        if self._bar is None and time.monotonic() - self._started >= PATIENCE_S:
            self._bar = Bar(self._label, self._total)
        if self._bar is not None:
            self._bar.move_to(self._done)

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def say(self, line: str) -> None:
        """Say one line."""
        self._out.remark(line)


class Bar:
    """One rich progress bar on standard error; indeterminate when `total` is None.

    Parameters
    ----------
    label : str
        What is being done.
    total : int or None
        Number of parts.
    """

    def __init__(self, label: str, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(label, total=total)
        self._progress.start()

    def move_to(self, done: int) -> None:
        """Show `done` parts as done."""
        self._progress.update(self._task, completed=done)

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
