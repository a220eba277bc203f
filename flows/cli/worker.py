"""The verb of the resident forecast worker."""

from typing import Annotated

import typer

from flows.cli.session import output


def register(app: typer.Typer) -> None:
    """Add the verb of this module to `app`."""
    app.command()(worker)


def worker(
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where models run.")
    ] = "auto",
    gateway: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Compute this gateway's predictions too; needs ALPHALAKE_WORKER_TOKEN.",
        ),
    ] = None,
    query_seconds: Annotated[
        float,
        typer.Option(min=0.1, max=60, help="Between two questions to the server."),
    ] = 1.0,
    is_preloaded: Annotated[
        bool,
        typer.Option(
            "--preload/--no-preload",
            help="Load the models at the start, or with the first run.",
        ),
    ] = True,
) -> None:
    """Run forecast batches and predictions in one process that holds the models."""
    from flows.worker.service import run_worker

    out = output()
    tally = run_worker(
        out.remark,
        device=device,
        gateway=gateway,
        query_s=query_seconds,
        is_preloaded=is_preloaded,
    )
    out.result(tally or {"runs": 0, "completed": 0}, tally.line() if tally else "")
