"""A place of one's own: root, keys and state in a folder, and verbs run on it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = "http://127.0.0.1:9/api"  # the discard port: no server answers there


@dataclass(frozen=True)
class Place:
    """Folders of one lake, and the environment that names them."""

    folder: Path
    now: str | None = None
    api_url: str = NOBODY
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def root(self) -> str:
        return str(self.folder / "root")

    @property
    def environment(self) -> dict[str, str]:
        found = {
            "ALPHALAKE_ROOT": self.root,
            "ALPHALAKE_KEYS": str(self.folder / "keys"),
            "ALPHALAKE_STATE": str(self.folder / "state"),
            "ALPHALAKE_TRACKING": "none",  # MLflow's database takes seconds to make
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_API_URL": self.api_url,
            "NO_COLOR": "1",
        }
        if self.now is not None:
            found["ALPHALAKE_NOW"] = self.now
        return found | dict(self.more)

    def verb(
        self, *words: str, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run `alphalake WORDS` as a process of its own."""
        return subprocess.run(
            [str(Path(sys.executable).parent / "alphalake"), *words],
            env={**bare_environment(), **self.environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return a query's rows, through `alphalake sql`."""
        done = self.verb("sql", query, "--format", "json")
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def count(self, table: str) -> int:
        return int(self.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"])


def bare_environment() -> dict[str, str]:
    """Return this process's environment without our own settings."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ALPHALAKE_", "PREFECT_"))
    }
