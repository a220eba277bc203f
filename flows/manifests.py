"""What a run leaves behind so that it can be checked and run again.

A `RunManifest` names the table versions read and written, the code, the installed
distributions, seeds and parameters. It becomes one row of `runs` at the run's end,
for a completed, a failed and a refused run alike; a killed run leaves none, and its
data rows are exactly those its commits carry.
"""

import hashlib
import json
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from lakehouse.schema.telemetry import RUNS

Status = Literal["completed", "failed", "refused"]
_NAMED_VERSIONS = ("alphalake", "deltalake", "duckdb", "numpy", "pyarrow", "tuf")


@dataclass(frozen=True, slots=True)
class RunManifest:
    """One run, as recorded.

    Attributes
    ----------
    run_id : str
        Its name.
    flow : str
        Deployment's base name, e.g. `forecast`.
    status : str
        `completed`, `failed` or `refused`.
    started_at, finished_at : datetime
        Clock times, UTC.
    seconds : float
        Monotonic duration.
    parameters, seeds : dict
        What it was asked for, defaults resolved.
    tables_read, tables_written : dict of str to int
        Table to version.
    counts : dict of str to int
        Rows read, good, quarantined, written, ...
    message : str
        One line: the outcome, or why it failed or was refused.
    prefect_run_id : str or None
        Prefect's flow run, None without a server.
    """

    run_id: str
    flow: str
    status: Status
    started_at: datetime
    finished_at: datetime
    seconds: float
    message: str
    parameters: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    tables_read: dict[str, int] = field(default_factory=dict)
    tables_written: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    prefect_run_id: str | None = None

    def to_row(self) -> pa.Table:
        """Return the `runs` row, with code, lock and environment of this process."""
        row = {
            "run_id": self.run_id,
            "flow": self.flow,
            "status": self.status,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "seconds": self.seconds,
            "parameters": to_json(self.parameters),
            "seeds": to_json(self.seeds),
            "tables_read": to_json(self.tables_read),
            "tables_written": to_json(self.tables_written),
            "counts": to_json(self.counts),
            "code_commit": code_commit(),
            "lock_hash": lock_hash(),
            "environment": to_json(describe_environment()),
            "prefect_run_id": self.prefect_run_id,
            "message": self.message,
        }
        return pa.Table.from_pylist([row], schema=RUNS.to_arrow())


def to_json(value: Any) -> str:
    """Return canonical JSON: sorted keys, no spaces, times in ISO 8601."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return list(value)


@lru_cache(maxsize=1)
def code_commit() -> str:
    """Return the git commit of this code, `+dirty` if changed, else `unknown`."""
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(
            folder, "status", "--porcelain", "--untracked-files=no", "--", ".."
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}+dirty" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - fixed arguments
        ["git", *arguments],  # noqa: S607 - the user's git
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()


@lru_cache(maxsize=1)
def lock_hash() -> str:
    """Return the SHA-256 over every installed distribution and its version."""
    names = sorted({f"{d.name}=={d.version}".lower() for d in metadata.distributions()})
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


@lru_cache(maxsize=1)
def describe_environment() -> dict[str, str]:
    """Return Python, platform and the versions that decide a run's numbers."""
    found = {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
    }
    for name in _NAMED_VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found
