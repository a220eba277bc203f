"""What state a place is in, without changing it and without Prefect."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.environment import refuse_file
from flows.probe import api_url, find_server, pool_workers
from lakehouse.clock import Clock, resolve_clock
from lakehouse.errors import LakehouseError
from lakehouse.query import Session, connect
from lakehouse.settings import load_settings

_NEWEST = {
    "ohlcv": "ts",
    "economic_calendar": "ts",
    "ml_predictions": "as_of",
    "prediction_scores": "as_of",
    "quarantine": "quarantined_at",
    "decision_records": "ts",
    "telemetry": "ts",
    "runs": "finished_at",
}


_LAST_RUNS = (
    "SELECT flow, arg_max(status, finished_at) AS status,"
    " max(finished_at) AS finished_at, arg_max(message, finished_at) AS message"
    " FROM runs GROUP BY flow ORDER BY flow"
)
_MODELS = (
    "SELECT model_name,"
    " max(version) FILTER (stage = 'Production') AS champion,"
    " arg_max(version, registered_at) FILTER (stage = 'Staging') AS staging,"
    " count(*) AS versions"
    " FROM model_versions GROUP BY model_name"
    " HAVING bool_or(stage <> 'None') ORDER BY model_name"
)


@dataclass(frozen=True, slots=True)
class PlaceState:
    """The state of a lake, its clock, runs and server.

    Attributes
    ----------
    root, keys : str
        Where they are.
    now : datetime
        The present that holds here.
    clock : str
        Where it comes from: `demo`, `environment`, `argument` or `wall`.
    tables : list of dict
        Table, version, rows, newest.
    runs : list of dict
        The last run of each flow.
    models : list of dict
        Registered models: champion, challenger, versions.
    server : str or None
        Prefect API that answers.
    server_asked : str
        The one that was asked.
    workers : dict of str to str, or None
        Online workers of pool `gpu` and their newest sign of life; None if unknown.
    """

    root: str
    keys: str
    now: datetime
    clock: str
    tables: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    models: list[dict[str, Any]]
    server: str | None
    server_asked: str
    workers: dict[str, str] | None = None

    def lines(self) -> list[str]:
        """Return the state for a person."""
        frozen = {
            "demo": "  (frozen by the demo; `alphalake init --thaw` lifts it)",
            "environment": "  (ALPHALAKE_NOW or --now)",
        }.get(self.clock, "")
        server = self.server or f"none answers at {self.server_asked}"
        found = [
            f"root    {self.root}",
            f"keys    {self.keys}",
            f"now     {self.now:%Y-%m-%d %H:%M:%S} UTC{frozen}",
            f"prefect {server}",
            *self._worker_lines(),
            "",
            f"{'table':<30} {'version':>7} {'rows':>10}  newest",
        ]
        for row in self.tables:
            newest = "" if row["newest"] is None else f"{row['newest']:%Y-%m-%d %H:%M}"
            rows = "damaged" if "problem" in row else row["rows"]
            found.append(
                f"{row['table']:<30} {row['version']:>7} {rows:>10}"
                f"  {row.get('problem', newest)}"
            )
        if not self.tables:
            found.append("nothing stored yet; `alphalake demo` fills it")
        found += ["", "models"] if self.models else []
        found += [
            f"{row['model_name']:<30} champion {row['champion'] or 'none'}, newest in"
            f" staging {row['staging'] or 'none'}, {row['versions']} versions"
            for row in self.models
        ]
        found += ["", "last runs"] if self.runs else []
        found += [
            f"{row['finished_at']:%Y-%m-%d %H:%M}  {row['status']:<9} {row['flow']:<20}"
            f" {row['message']}"
            for row in self.runs
        ]
        return found

    def _worker_lines(self) -> list[str]:
        if self.workers is None:
            return []
        names = ", ".join(
            f"{name} (heard {seen[11:19]} UTC)" for name, seen in self.workers.items()
        )
        return [f"worker  {names or 'none polls pool gpu; `alphalake worker`'}"]


def describe_place() -> PlaceState:
    """Return the state of the place that the environment names."""
    settings = load_settings()
    refuse_file(settings.root)
    clock: Clock = resolve_clock(settings.root)
    tables: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    models: list[dict[str, Any]] = []
    if "://" in settings.root or Path(settings.root).is_dir():
        tables, runs, models = _read_tables(settings.root)
    server = find_server()
    return PlaceState(
        settings.root,
        str(settings.keys),
        clock.now(),
        clock.source,
        tables,
        runs,
        models,
        server,
        api_url(),
        pool_workers(server, "gpu") if server else None,
    )


def _read_tables(root: str) -> tuple[list[dict[str, Any]], ...]:
    with connect(root) as session:
        versions = session.versions
        try:
            sizes = session.sql(_sizes(sorted(versions))).rows()
        except LakehouseError:
            sizes = [
                row for name in versions for row in _size_or_problem(session, name)
            ]
        tables = [
            {"table": row["name"], "version": versions[row["name"]], **row}
            for row in sizes
        ]
        found = [
            [] if _is_damaged(name, sizes) else session.sql(query).rows()
            for name, query in (("runs", _LAST_RUNS), ("model_versions", _MODELS))
        ]
    return tables, *found


def _size_or_problem(session: Session, name: str) -> list[dict[str, Any]]:
    try:
        return session.sql(_sizes([name])).rows()
    except LakehouseError as error:
        problem = " ".join(str(error).split())
        return [{"name": name, "rows": None, "newest": None, "problem": problem}]


def _is_damaged(name: str, sizes: list[dict[str, Any]]) -> bool:
    return any(row["name"] == name and "problem" in row for row in sizes)


def _sizes(tables: list[str]) -> str:
    """Return a query for rows and newest time of each table; names are declared ones."""
    parts = ["SELECT '' AS name, 0 AS rows, NULL::TIMESTAMPTZ AS newest WHERE false"]
    for name in tables:
        newest = f"max({_NEWEST[name]})" if name in _NEWEST else "NULL"
        parts.append(f"SELECT '{name}', count(*), {newest} FROM {name}")  # noqa: S608
    return " UNION ALL ".join(parts)
