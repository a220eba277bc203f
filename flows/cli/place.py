"""Verbs about the place itself: init, demo, status, doctor, serve."""

import os
import sys
from pathlib import Path

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
    thaw: bool = typer.Option(
        False, "--thaw", help="Let time run again after a demo froze it."
    ),
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
    market: Path = typer.Option(
        None, metavar="DIR", help="Run on the hourly panel in DIR, with its calendar."
    ),
    days: int = typer.Option(
        None, min=1, help="Forecast also as of this many earlier days."
    ),
    is_served: bool = typer.Option(
        True, "--serve/--no-serve", help="Stay up until Ctrl-C, or stop at once."
    ),
    port: int = typer.Option(8000, min=1, max=65535, help="Of the gateway."),
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
    from lakehouse.errors import RefusedError

    findings = examine_place()
    lines = [f"{one.verdict:<5} {one.name}: {one.detail}" for one in findings]
    output().result(findings, lines)
    if any(one.verdict == "fail" for one in findings):
        raise RefusedError("doctor found something that has to be mended")


def serve(
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int = typer.Option(8000, min=1, max=65535, help="Port to listen on."),
    trust: Path = typer.Option(
        None, metavar="FILE", help="Trusted root.json; else the key folder's."
    ),
    state: Path = typer.Option(
        None, metavar="DIR", help="The gateway's own folder; else ALPHALAKE_STATE."
    ),
) -> None:
    """Serve the verified artefacts: API and pages."""
    words = ["--host", host, "--port", str(port)]
    words += ["--trust", str(trust)] if trust is not None else []
    words += ["--state", str(state)] if state is not None else []
    sys.stdout.flush()
    sys.stderr.flush()
    # The gateway takes over this process: signals reach it directly.
    os.execv(sys.executable, [sys.executable, "-m", "serve", *words])  # noqa: S606
