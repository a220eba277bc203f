"""What the command line says: text or one JSON document, errors in one line."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import typer

# Colour codes, which some libraries write into their messages.
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
EXIT_DONE: Final = 0
EXIT_REFUSED: Final = 1
EXIT_INPUT: Final = 2
EXIT_INTERNAL: Final = 70
EXIT_INTERRUPTED: Final = 130
EXIT_PIPE: Final = 141


class Output:
    """How this invocation speaks.

    Parameters
    ----------
    is_json : bool
        One JSON document on standard output, nothing else there.
    is_quiet : bool
        No remarks and no progress.
    """

    def __init__(self, *, is_json: bool = False, is_quiet: bool = False) -> None:
        self.is_json = is_json
        self.is_quiet = is_quiet

    @property
    def shows_progress(self) -> bool:
        """Whether a person watches standard error."""
        return sys.stderr.isatty() and not self.is_quiet and not self.is_json

    def result(self, document: Any, text: str | Sequence[str] = "") -> None:
        """Give the result: `document` under `--json`, else `text`."""
        if self.is_json:
            line = json.dumps(document, default=plain, allow_nan=False, sort_keys=True)
        else:
            line = text if isinstance(text, str) else "\n".join(text)
        if line:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def remark(self, line: str) -> None:
        """Say something beside the result, on standard error."""
        if not self.is_quiet and not self.is_json:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    def error(self, line: str) -> None:
        """Say why it did not work: one line."""
        line = " ".join(_COLOUR.sub("", line).split())
        if self.is_json:
            # A full disk under standard output is what there may be to say.
            with suppress(OSError):
                sys.stdout.write(json.dumps({"error": line}) + "\n")
                sys.stdout.flush()
                return
            close_pipe()
        sys.stderr.write(f"alphalake: {line}\n")

    def refuse(self, line: str) -> NoReturn:
        """Leave with status 1 after a result that says what was found."""
        if not self.is_json:
            self.error(line)
        raise typer.Exit(EXIT_REFUSED)


def plain(value: Any) -> Any:
    """Return what JSON can hold for a time, dataclass or anything else."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    return value.hex() if isinstance(value, bytes) else str(value)


def open_closed_streams() -> None:
    """Send output nowhere where the caller closed it (`>&-`)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)


def close_pipe() -> None:
    """Let the interpreter exit without complaining about a reader that went away."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
