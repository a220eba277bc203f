"""Verbs of the walk-forward lab: from a sleeve to its verdict, and what proves both."""

from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

import typer

from flows.cli.data import run_and_tell
from flows.cli.session import output, watching
from flows.cli.verdicts import split_list
from lakehouse.errors import InputError

AS_OF = Annotated[
    str | None,
    typer.Option(metavar="TS", help="Use only what was known then; else newest bars."),
]
TIMEFRAME = Annotated[str, typer.Option(metavar="1d|1h", help="Bar length.")]
YEARS = Annotated[float, typer.Option(min=0.5, max=60, help="Years up to `--as-of`.")]
RAY = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Run the tasks on this Ray cluster."),
]
WORKERS = Annotated[
    int | None, typer.Option(min=1, help="Local processes; else one a core.")
]
SEED = Annotated[int, typer.Option(min=0, help="Seed.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to `app`."""
    app.command()(walkforward)
    app.command()(evolve)
    app.command()(gates)
    app.command()(lifecycle)
    app.command()(leaks)
    app.command("null-battery")(null_battery)


def walkforward(
    *,
    sleeves: Annotated[
        str | None,
        typer.Option(metavar="ID,…", help="Only these beside phase37; else all."),
    ] = None,
    timeframe: TIMEFRAME = "1d",
    as_of: AS_OF = None,
    years: YEARS = 8,
    train_days: Annotated[int, typer.Option(min=20, help="Train span.")] = 180,
    test_days: Annotated[int, typer.Option(min=1, help="Test span.")] = 30,
    slippage: Annotated[
        str, typer.Option(metavar="BPS,…", help="Cost ladder, bps of turnover.")
    ] = "0,5,10,20",
    ray: RAY = None,
    workers: WORKERS = None,
    plots: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write plots (HTML and PNG) here too."),
    ] = None,
) -> None:
    """Walk every sleeve forward: parameters from the train span, judged after it."""
    from flows.bodies.walkforward import run_walkforward

    if plots is not None:
        _require_folder(plots)

    def load() -> Any:
        from flows.walkforward import walk_forward

        return walk_forward

    outcome = run_and_tell(
        "walk-forward",
        run_walkforward,
        load,
        sleeves=split_list(sleeves, what="--sleeves"),
        timeframe=timeframe,
        as_of=as_of,
        years=years,
        train_days=train_days,
        test_days=test_days,
        slippage=slippage,
        ray=ray,
        workers=workers,
    )
    if plots is not None:
        from flows.plots import write_plots
        from flows.wiring import open_workplace

        with watching():
            written = write_plots(open_workplace().lake, outcome.run_id, plots)
        output().remark(f"{len(written)} plots in {plots}")


def _require_folder(folder: Path) -> None:
    # Before the work, not after it.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"--plots {folder}: cannot be written: {error.strerror}"
        ) from error


def evolve(
    *,
    timeframe: TIMEFRAME = "1d",
    as_of: AS_OF = None,
    years: YEARS = 8,
    population: Annotated[int, typer.Option(min=4, help="Genomes a generation.")] = 20,
    generations: Annotated[int, typer.Option(min=1, help="Generations.")] = 1,
    seed: SEED = 0,
    ray: RAY = None,
    workers: WORKERS = None,
) -> None:
    """Breed sleeves; those that pass every gate over the whole search enter genesis."""
    from flows.bodies.evolve import run_evolve

    def load() -> Any:
        from flows.evolve import evolve as flow

        return flow

    run_and_tell(
        "evolve",
        run_evolve,
        load,
        timeframe=timeframe,
        as_of=as_of,
        years=years,
        population=population,
        generations=generations,
        seed=seed,
        ray=ray,
        workers=workers,
    )


def gates(
    sleeve: Annotated[str, typer.Option(metavar="ID", help="Which sleeve.")],
) -> None:
    """Judge a sleeve's newest walk-forward by the three gates; exit 1 if one fails."""
    from flows.bodies.gates import run_gates

    def load() -> Any:
        from flows.lifecycle import gates as flow

        return flow

    outcome = run_and_tell("gates", run_gates, load, sleeve=sleeve)
    if outcome.counts.get("gates_failed", 0):
        raise typer.Exit(1)


def lifecycle(
    *,
    why: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Only say how far this sleeve is from each threshold."
        ),
    ] = None,
    as_of: AS_OF = None,
    rules: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rules of your own, TOML.")
    ] = None,
) -> None:
    """Move every sleeve by the rules, one stage at most; or explain one of them."""
    from flows.bodies.lifecycle import explain, run_lifecycle

    if why is not None:
        from flows.wiring import open_workplace

        found = explain(open_workplace(), why, as_of=as_of, rules=rules)
        output().result(found.document, found.lines)
        return

    def load() -> Any:
        from flows.lifecycle import sleeve_lifecycle

        return sleeve_lifecycle

    run_and_tell(
        "sleeve-lifecycle",
        run_lifecycle,
        load,
        as_of=as_of,
        rules=None if rules is None else str(rules),
    )


def leaks(seed: SEED = 0) -> None:
    """Grade the leak checker on planted leaks, then check every feature and sleeve."""
    from flows.bodies.leaks import run_leaks

    def load() -> Any:
        from flows.leaks import leaks as flow

        return flow

    run_and_tell("leaks", run_leaks, load, seed=seed)


def null_battery(
    *,
    n: Annotated[int, typer.Option("--n", min=1, help="Searches on noise.")] = 200,
    seed: SEED = 0,
    workers: WORKERS = None,
) -> None:
    """Search noise by the real chain and count what reaches paper."""
    from flows.bodies.null_battery import run_null_battery

    def load() -> Any:
        from flows.leaks import null_battery as flow

        return flow

    run_and_tell(
        "null-battery", run_null_battery, load, n=n, seed=seed, workers=workers
    )
