"""The gateway's present: the lake's clock, looked at again with every refresh."""

import json
import logging
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, Self

from lakehouse.clock import CLOCK_FILE, Clock, parse_moment, resolve_clock
from lakehouse.errors import InputError
from lakehouse.trust.errors import FileAbsentError, UnverifiedError
from lakehouse.trust.fetching import LocalFetcher

log = logging.getLogger("alphalake.serve")

_MAX_CLOCK_FILE = 1024  # bytes
_SIGN_OF_LIFE = "artefacts/metadata/timestamp.json"
_MAX_SIGN = 1_000_000  # bytes


class Present(Protocol):
    """What the gateway asks of a clock; `lakehouse.clock.Clock` is one."""

    def now(self) -> datetime:
        """Return the present moment, UTC."""
        ...

    @property
    def is_demo(self) -> bool:
        """Whether a demo's date stands in for the present."""
        ...


@dataclass(slots=True)
class LakeClock:
    """A clock that a lake's `clock.json` may freeze, move or thaw while it is read.

    Attributes
    ----------
    clock : Clock
        What holds now.
    root : str or None
        The lake whose file is followed; None if the moment was given.
    """

    clock: Clock
    root: str | None = None

    @classmethod
    def resolve(cls, root: str, *, now: str | None = None) -> Self:
        """Find the clock of a lake root, by the order of `lakehouse.clock`.

        Raises
        ------
        InputError
            If a given time or `clock.json` cannot be parsed.
        """
        if now or os.environ.get("ALPHALAKE_NOW"):
            return cls(resolve_clock(root, now=now))
        if root.startswith(("http://", "https://")):
            return cls(Clock())
        try:
            return cls(_read(LocalFetcher(root)), root)
        except UnverifiedError:  # away: what was kept is served until it is back
            return cls(Clock(), root)

    def now(self) -> datetime:
        """Return the present moment, UTC."""
        return self.clock.now()

    @property
    def is_demo(self) -> bool:
        """Whether a demo's date stands in for the present."""
        return self.clock.is_demo

    def follow(self) -> None:
        """Look at `clock.json` again; what cannot be read changes nothing. Blocks."""
        if self.root is None:
            return
        try:
            found = _read(LocalFetcher(self.root))
        except (UnverifiedError, InputError) as error:
            log.warning("the clock stays as it was: %s", error)
            return
        if found != self.clock:
            log.warning("the clock is now %s", found.frozen or "wall time")
            self.clock = found


def _read(lake: LocalFetcher) -> Clock:
    try:
        data = lake.fetch(CLOCK_FILE, max_length=_MAX_CLOCK_FILE)
    except FileAbsentError:
        # Thawed, unless the whole lake is away.
        lake.fetch(_SIGN_OF_LIFE, max_length=_MAX_SIGN)
        return Clock()
    try:
        text = json.loads(data)["now"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{CLOCK_FILE}: expected {{'now': TIME}}") from error
    return Clock(parse_moment(str(text), what=CLOCK_FILE), "demo")
