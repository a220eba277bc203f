"""Who pulled the repository, in the gateway's own state folder."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from lakehouse.errors import LakehouseError
from serve.schemas import Pull

log = logging.getLogger("alphalake.serve")

PULLS_FILE: Final = "pulls.sqlite"
KEPT: Final = timedelta(days=90)
_BUSY_S: Final = 5.0
_CREATE: Final = """
CREATE TABLE IF NOT EXISTS pulls (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT NOT NULL, consumer TEXT NOT NULL,
    path TEXT NOT NULL, status INTEGER NOT NULL, n_bytes INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS pulls_by_consumer ON pulls (consumer, status, ts);
"""


class PullLogError(LakehouseError):
    """The log of pulls cannot be read or written."""


@dataclass(frozen=True, slots=True)
class PullLog:
    """One row per pull, in SQLite; a flow imports it into the lake.

    Attributes
    ----------
    folder : Path
        The gateway's state folder.
    """

    folder: Path

    def start(self, now: datetime) -> None:
        """Create the log and forget pulls older than 90 days.

        A damaged log is put aside: who pulled what is worth less than serving.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._create(now)
        except PullLogError as error:
            path = self.folder / PULLS_FILE
            log.warning("%s; begun anew", error)
            path.replace(path.with_suffix(".damaged"))
            self._create(now)

    def _create(self, now: datetime) -> None:
        with self._connect() as connection:
            connection.executescript(_CREATE)
            connection.execute(
                "DELETE FROM pulls WHERE ts < ?", ((now - KEPT).isoformat(),)
            )

    def note(
        self, consumer: str, path: str, *, status: int, n_bytes: int, now: datetime
    ) -> None:
        """Record one pull; a failure is logged. Blocks: call it in a thread."""
        try:
            with self._connect() as connection:
                connection.execute(
                    "INSERT INTO pulls (ts, consumer, path, status, n_bytes)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (now.isoformat(), consumer, path, status, n_bytes),
                )
        except PullLogError as error:
            log.warning("%s; the pull of %s by %s is not noted", error, path, consumer)

    def summary(self, consumers: list[str]) -> list[Pull]:
        """Return the last successful pull of each consumer; null if it never did.

        Raises
        ------
        PullLogError
            If the log cannot be read.
        """
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT consumer, max(CASE WHEN status = 200 THEN ts END), count(*)"
                " FROM pulls GROUP BY consumer"
            ).fetchall()
        found = {consumer: (ts, n_pulls) for consumer, ts, n_pulls in rows}
        return [
            Pull(
                consumer=consumer,
                last_successful_pull=_parse(found.get(consumer, (None, 0))[0]),
                n_pulls=found.get(consumer, (None, 0))[1],
            )
            for consumer in sorted({*found, *consumers})
        ]

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        path = self.folder / PULLS_FILE
        try:
            with (
                closing(sqlite3.connect(path, timeout=_BUSY_S)) as connection,
                connection,
            ):
                yield connection
        except sqlite3.Error as error:
            raise PullLogError(f"{path}: {error}") from error


def _parse(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
