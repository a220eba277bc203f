"""The Typer application: global options, the verbs, and the one error boundary.

Every verb's module is light; what a verb needs is imported when it runs, so that
`--help`, `sql`, `status` and `verify` start fast and never load Prefect.
"""

import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, cast

import typer

from flows.cli import (
    analysis,
    artefacts,
    data,
    keys,
    models,
    place,
    research,
    training,
    worker,
)
from flows.cli.lightness import keep_out
from flows.cli.output import (
    EXIT_DONE,
    EXIT_INPUT,
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_PIPE,
    EXIT_REFUSED,
    Output,
    close_pipe,
    open_closed_streams,
)
from flows.cli.session import current_output, end_session, start_session
from lab.errors import LabError
from lakehouse.errors import InputError, LakehouseError

if TYPE_CHECKING:
    from pydantic import ValidationError

# Typer keeps its parser private: this is the root of its usage errors.
UsageError: Final[type] = typer.BadParameter.__mro__[2]
logger = logging.getLogger("alphalake")
_EVERYWHERE = "--root URI, --now TS, --json and --quiet may stand anywhere."
_LIGHT_VERBS = frozenset({"status", "verify", "sql", "runs", "keys", "doctor", "docs"})
_FLAGS = ("--json", "--quiet")
_VALUED = ("--root", "--now")

app = typer.Typer(
    name="alphalake",
    help=f"A research-to-production lakehouse for systematic trading. {_EVERYWHERE}",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)
for module in (
    place,
    data,
    training,
    research,
    models,
    artefacts,
    keys,
    analysis,
    worker,
):
    module.register(app)


def _print_version() -> NoReturn:
    from importlib import metadata

    typer.echo(metadata.version("alphalake"))
    raise typer.Exit


@app.callback()
def configure(
    root: Annotated[
        str | None,
        typer.Option(
            metavar="URI", help="Lake root; else ALPHALAKE_ROOT, else ./.alphalake."
        ),
    ] = None,
    now: Annotated[
        str | None,
        typer.Option(
            metavar="TS", help="Take this as the present; else ALPHALAKE_NOW."
        ),
    ] = None,
    is_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON document on standard output, nothing else."
        ),
    ] = False,
    is_quiet: Annotated[
        bool, typer.Option("--quiet", help="No remarks, no progress.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            is_eager=True,
            callback=lambda wanted: _print_version() if wanted else None,
        ),
    ] = False,
) -> None:
    """Set what holds for every verb."""
    start_session(Output(is_json=is_json, is_quiet=is_quiet), root=root, now=now)


def hoist_global_options(arguments: Sequence[str]) -> list[str]:
    """Move the global options to the front, so that they may stand after the verb.

    Everything after `--` stays where it is.
    """
    front: list[str] = []
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        if word == "--":
            rest += [word, *queue]
            break
        if word in _FLAGS or word.startswith(tuple(f"{name}=" for name in _VALUED)):
            front.append(word)
        elif word in _VALUED and queue:
            front += [word, queue.pop(0)]
        else:
            rest.append(word)
    return [*front, *rest]


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    end_session()
    words = hoist_global_options(arguments)
    if not words:
        app(["--help"], prog_name="alphalake", standalone_mode=False)
        return EXIT_INPUT
    out = Output(is_json="--json" in words)
    try:
        status = app(words, prog_name="alphalake", standalone_mode=False)
        return status if isinstance(status, int) else EXIT_DONE
    except (SystemExit, BrokenPipeError) as error:
        # The parser leaves with 1 when the reader of its output has gone away.
        if not isinstance(error.__context__ or error, BrokenPipeError):
            raise
        close_pipe()
        return EXIT_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except typer.Exit as left:
        return left.exit_code
    except Exception as error:  # noqa: BLE001 - the one boundary of the command line
        return _explain(error, current_output() or out)


def _explain(error: Exception, out: Output) -> int:
    if os.environ.get("ALPHALAKE_DEBUG"):
        logger.error("alphalake failed", exc_info=error)
    if isinstance(error, UsageError):
        hint = "" if out.is_json else " (see alphalake --help)"
        out.error(f"{_usage(cast('typer.BadParameter', error))}{hint}")
        return EXIT_INPUT
    if isinstance(error, InputError | LabError):
        out.error(str(error))
        return EXIT_INPUT
    if isinstance(error, LakehouseError):
        out.error(str(error))
        return EXIT_REFUSED
    if _is_bad_input(error):
        out.error(_describe(error))
        return EXIT_INPUT
    kind = type(error).__name__
    out.error(f"internal error: {kind}: {error}; ALPHALAKE_DEBUG=1 shows where")
    return EXIT_INTERNAL


def _usage(error: typer.BadParameter) -> str:
    # The parser's own wording names the argument.
    message = error.format_message().rstrip(".")
    if message == "Missing command" and error.ctx is not None:
        names = ", ".join(getattr(error.ctx.command, "commands", {}))
        return f"{error.ctx.command_path}: a command is needed: {names}"
    return message


def _is_bad_input(error: Exception) -> bool:
    # Settings from the environment, and files or folders that cannot be used.
    return isinstance(error, OSError) or type(error).__module__.startswith("pydantic")


def _describe(error: Exception) -> str:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    first = cast("ValidationError", error).errors()[0]
    name = "_".join(str(part) for part in first["loc"]).upper()
    return f"ALPHALAKE_{name}: {first['msg']}, not {first['input']!r}"


def main() -> None:
    """Run `alphalake`."""
    open_closed_streams()
    verb = next((word for word in sys.argv[1:] if word in _LIGHT_VERBS), None)
    if verb is not None:
        keep_out("pandas", "boto3")
    # Only our own logger: a handler on the root would print Prefect's tracebacks.
    logger.addHandler(logging.StreamHandler(sys.stderr))
    logger.propagate = False
    sys.exit(run(sys.argv[1:]))
