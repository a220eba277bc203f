"""Verbs about the place itself: init, demo, status, doctor, serve."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.session import output


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to `app`."""
    app.command()(init)
    app.command()(demo)
    app.command()(status)
    app.command()(doctor)
    app.command()(serve)


def init(
    thaw: Annotated[
        bool, typer.Option("--thaw", help="Let time run again after a demo froze it.")
    ] = False,
) -> None:
    """Make keys and the artefact repository; on a Prefect server, pool and limits."""
    from flows.setup import set_up_place, thaw_place

    out = output()
    if thaw:
        was_frozen = thaw_place()
        out.result(
            {"thawed": was_frozen},
            "time runs again" if was_frozen else "time was not frozen",
        )
        return
    report = set_up_place()
    out.result(report, report.lines())


def demo(
    market: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Run on the hourly panel in DIR, with its calendar."
        ),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Forecast also as of this many earlier days, one a week if daily.",
        ),
    ] = None,
    is_served: Annotated[
        bool,
        typer.Option(
            "--serve/--no-serve", help="Stay up until Ctrl-C, or stop at once."
        ),
    ] = True,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the gateway.")] = 8000,
) -> None:
    """Show the whole story on this machine, from real bars to a served forecast."""
    from flows.demo import run_demo

    run_demo(output(), market=market, days=days, is_served=is_served, port=port)


def status() -> None:
    """Say what state the lake, the artefacts and the runs are in."""
    from flows.cli.states import describe_place

    report = describe_place()
    output().result(report, report.lines())


def doctor() -> None:
    """Look for what is wrong and say how to mend it."""
    from flows.cli.checkup import examine_place

    findings = examine_place()
    lines = [f"{one.verdict:<5} {one.name}: {one.detail}" for one in findings]
    out = output()
    out.result(findings, lines)
    if any(one.verdict == "fail" for one in findings):
        out.refuse("doctor found something that has to be mended")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port to listen on.")
    ] = 8000,
    trust: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Trusted root.json; else the key folder's."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The gateway's own folder; else ALPHALAKE_STATE."
        ),
    ] = None,
    rate_limit: Annotated[
        int | None,
        typer.Option(min=0, help="Requests a second per address; 0 = no limit."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=16, help="Worker processes.")
    ] = None,
) -> None:
    """Serve the verified artefacts: API and pages."""
    words = ["--host", host, "--port", str(port)]
    words += ["--rate-limit", str(rate_limit)] if rate_limit is not None else []
    words += ["--workers", str(workers)] if workers is not None else []
    words += ["--trust", str(trust)] if trust is not None else []
    words += ["--state", str(state)] if state is not None else []
    sys.stdout.flush()
    sys.stderr.flush()
    # The gateway takes over this process: signals reach it directly.
    os.execv(sys.executable, [sys.executable, "-m", "serve", *words])  # noqa: S606
