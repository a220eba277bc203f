"""A bounded, ageing cache of rendered answers in front of the verified snapshot."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

from serve.renditions import Rendition

TTL: Final = 1800.0  # seconds, monotonic
MAX_BYTES: Final = 64 * 1024 * 1024

Key = tuple[Hashable, ...]


@dataclass(slots=True)
class AnswerCache:
    """Least recently used answers, keyed by artefact version and request.

    Attributes
    ----------
    max_bytes : int
        Bytes of bodies kept; the least recently used go first.
    ttl : float
        Seconds an answer is kept, monotonic.
    now : callable
        Monotonic seconds.
    """

    max_bytes: int = MAX_BYTES
    ttl: float = TTL
    now: Callable[[], float] = time.monotonic
    n_bytes: int = 0
    hits: int = 0
    misses: int = 0
    _kept: OrderedDict[Key, tuple[float, Rendition]] = field(
        default_factory=OrderedDict
    )

    def get_or_make(self, key: Key, make: Callable[[], Rendition]) -> Rendition:
        """Return the kept answer of `key`, or make and keep it.

        What `make` raises is not kept.
        """
        found = self._kept.get(key)
        if found is not None and self.now() - found[0] < self.ttl:
            self._kept.move_to_end(key)
            self.hits += 1
            return found[1]
        self.misses += 1
        made = make()
        if found is not None:
            self._drop(key)
        self._kept[key] = (self.now(), made)
        self.n_bytes += _weigh(made)
        while self.n_bytes > self.max_bytes and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))
        return made

    def _drop(self, key: Key) -> None:
        _, rendition = self._kept.pop(key)
        self.n_bytes -= _weigh(rendition)

    def __len__(self) -> int:
        return len(self._kept)


def _weigh(rendition: Rendition) -> int:
    return 2 * len(rendition.body)  # the packed copy is the smaller half
