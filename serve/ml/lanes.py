"""Threads for predictions: single rows do not queue behind large batches."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from serve.ml.errors import BusyError

T = TypeVar("T")

SMALL: Final = 65_536  # bytes of a body that takes the quick lane
MAX_WAITING: Final = 8  # large bodies in memory at once


def _one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="ml")


@dataclass(slots=True)
class Lanes:
    """One thread for small requests, one for large ones, and a bound on the latter.

    Attributes
    ----------
    n_large : int
        Large requests let in and not answered yet.
    """

    n_large: int = 0
    _small: ThreadPoolExecutor = field(default_factory=_one_thread)
    _large: ThreadPoolExecutor = field(default_factory=_one_thread)

    def enter(self, n_bytes: int | None) -> bool:
        """Let a request in by the length it announces; return whether it is large.

        Raises
        ------
        BusyError
            If it is large and as many as are allowed are here.
        """
        if n_bytes is not None and n_bytes <= SMALL:
            return False
        if self.n_large >= MAX_WAITING:
            raise BusyError(f"{self.n_large} large batches are being worked on")
        self.n_large += 1
        return True

    def leave(self, *, is_large: bool) -> None:
        """Let a request go."""
        self.n_large -= is_large

    async def run(self, call: Callable[[], T], *, is_large: bool) -> T:
        """Run `call` in the lane's thread."""
        loop = asyncio.get_running_loop()
        lane = self._large if is_large else self._small
        return await loop.run_in_executor(lane, call)
