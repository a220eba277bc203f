"""Verbs that read: sql, runs, replay, docs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.session import output, watching


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to `app`."""
    app.command("sql")(run_sql)
    app.command("runs")(list_runs)
    app.command()(replay)
    app.command()(docs)


def run_sql(
    query: Annotated[
        str | None, typer.Argument(metavar='["SELECT …"]', help="One SELECT.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TS|TABLE=VERSION,…", help="Read the lake as it was."),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format", metavar="table|json|csv|parquet", help="How to print."
        ),
    ] = "table",
    catalog: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.duckdb", help="Write a DuckDB file of views instead."
        ),
    ] = None,
) -> None:
    """Query the lake: read-only, at one pinned set of versions."""
    from flows.cli.tables import write_table
    from lakehouse.errors import InputError
    from lakehouse.query import connect
    from lakehouse.settings import load_settings

    root = load_settings().root
    out = output()
    if form not in {"table", "json", "csv", "parquet"}:
        raise InputError(f"--format {form!r}: allowed are table, json, csv, parquet")
    if catalog is not None and query:
        raise InputError("sql: a query or --catalog FILE, not both")
    if catalog is not None:
        from lakehouse.query import write_catalogue

        n_views = write_catalogue(root, catalog, at=at)
        out.result(
            {"catalog": str(catalog), "views": n_views}, f"{catalog}: {n_views} views"
        )
        return
    if not query:
        raise InputError('sql: a query is needed, e.g. alphalake sql "SELECT 1"')
    with connect(root, at=at) as session:
        found = session.sql(query).arrow()
    write_table(found, "json" if out.is_json else form, sys.stdout)


def list_runs(
    flow: Annotated[str | None, typer.Option(help="Only this flow.")] = None,
    limit: Annotated[
        int,
        typer.Option(min=1, max=100_000, help="At most so many, newest first."),
    ] = 20,
) -> None:
    """List the newest runs."""
    from lakehouse.query import connect
    from lakehouse.settings import load_settings

    with connect(load_settings().root, tables=["runs"]) as session:
        rows = session.sql(
            "SELECT run_id, flow, status, started_at, seconds, message FROM runs "
            "WHERE ? IS NULL OR flow = ? ORDER BY finished_at DESC, run_id LIMIT ?",
            [flow, flow, limit],
        ).rows()
    lines = [
        f"{row['started_at']:%Y-%m-%d %H:%M}  {row['status']:<9} "
        f"{row['seconds']:7.1f} s  {row['run_id']}  {row['message']}"
        for row in rows
    ]
    output().result(rows, lines or ["no runs yet"])


def replay(
    run: Annotated[
        str, typer.Argument(help="A completed forecast, score or walk-forward run.")
    ],
) -> None:
    """Run a recorded run again at its pinned versions and compare every number."""
    from flows.bodies.replay import replay_run
    from flows.wiring import open_workplace

    with watching():
        report = replay_run(open_workplace(), run)
    out = output()
    out.result(report, report.lines())
    if not report.is_equal:
        out.refuse(f"{run}: {report.n_different} numbers differ from the record")


def docs(
    folder: Annotated[Path, typer.Option(help="Where the pages are.")] = Path("docs"),
) -> None:
    """Write the table catalogue (tables.md) from the declarations."""
    from lakehouse.catalogue_docs import table_catalogue

    path = folder / "tables.md"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(table_catalogue(), encoding="utf-8")
    output().result({"path": path}, f"{path} written")
