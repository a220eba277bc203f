"""Verbs of trust: publish, resign, verify."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.data import run_and_tell


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to `app`."""
    app.command()(publish)
    app.command()(resign)
    app.command()(verify)


def publish() -> None:
    """Publish a new signed version of every artefact whose content changed."""
    from flows.bodies.publish import publish_artefacts

    def load() -> Any:
        from flows.publish import publish as flow

        return flow

    run_and_tell("publish", publish_artefacts, load)


def resign() -> None:
    """Renew the short-lived signatures without new content."""
    from flows.bodies.resign import renew_signatures

    def load() -> Any:
        from flows.resign import resign as flow

        return flow

    run_and_tell("resign", renew_signatures, load)


def verify(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Check this run's record.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Verify a gateway, or a web server that shows a root."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="ALPHALAKE_TOKEN",
            show_default=False,
            help="A consumer's token, for --url.",
        ),
    ] = None,
    has_history: Annotated[
        bool,
        typer.Option(
            "--history", help="Also every earlier version that is still there."
        ),
    ] = False,
    trust: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Trusted root.json; else the key folder's."),
    ] = None,
) -> None:
    """Prove the signature chain, from the trusted root to every data file."""
    from flows.cli.proving import prove_repository, prove_run
    from lakehouse.errors import InputError

    if url is not None and (has_history or run is not None):
        other = "--history" if has_history else "RUN"
        raise InputError(f"verify: {other} reads the root itself; leave out --url")
    if run is not None:
        prove_run(run)
        return
    prove_repository(url=url, has_history=has_history, trust=trust, token=token)
