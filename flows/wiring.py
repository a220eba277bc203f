"""Composition root of the flows: the only place that reads settings and opens things.

A flow, a verb and a worker all get their lake, keys and clock here, so that the same
environment gives all of them the same place and the same present.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.environment import let_threads_sleep, refuse_file
from lakehouse.clock import Clock, resolve_clock
from lakehouse.settings import load_settings
from lakehouse.store import Lake

if TYPE_CHECKING:
    from lakehouse.trust.keys import KeyStore
    from lakehouse.trust.publishing import Repository


@dataclass(frozen=True, slots=True)
class Workplace:
    """Everything a flow works on.

    Attributes
    ----------
    lake : Lake
        The opened root.
    clock : Clock
        The one present.
    keys : Path
        Key folder with the trusted `root.json`.
    state : Path
        The gateway's own folder.
    """

    lake: Lake
    clock: Clock
    keys: Path
    state: Path

    @property
    def root(self) -> str:
        """Lake root, a path or an `s3://` URI."""
        return self.lake.root

    def key_store(self) -> "KeyStore":
        """Open the key folder."""
        from lakehouse.trust.keys import KeyStore

        return KeyStore(self.keys)

    def repository(self) -> "Repository":
        """Open the TUF repository under the root."""
        from lakehouse.trust.publishing import Repository

        return Repository(self.root, self.key_store(), self.clock)


def open_workplace() -> Workplace:
    """Open the lake, the keys and the clock that the environment names.

    Raises
    ------
    InputError
        If the clock's time or the root cannot be read.
    """
    let_threads_sleep()
    settings = load_settings()
    refuse_file(settings.root)
    clock = resolve_clock(settings.root)
    lake = Lake.open(settings.root, clock=clock)
    return Workplace(lake, clock, settings.keys, settings.state)
