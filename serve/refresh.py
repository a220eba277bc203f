"""Keeping what is served current, off the request path.

Every few seconds the provider verifies what is published. A new version becomes a new
board in one assignment; a refusal keeps the one before, is counted by reason, and the
answers say that they are stale. So they do while a refresh takes too long.
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from lakehouse.errors import LakehouseError, TrustError
from serve.answers import View
from serve.board import Holder, build_board
from serve.present import Present
from serve.provider import KINDS, ArtefactProvider, Bundle, Verified
from serve.snapshot import ServedSnapshot, build_snapshot, versions_of

log = logging.getLogger("alphalake.serve")

OVERDUE_S = 30.0  # a refresh that takes longer makes what is served stale


class OlderVersionError(TrustError):
    """A provider offered a version older than the one that is served."""

    reason = "rollback"


class OverdueError(TrustError):
    """A refresh has not come back: the lab or the network is gone without a word."""

    reason = "overdue"


def _stand_still() -> None:
    """Follow no clock."""


@dataclass(slots=True)
class Refresher:
    """Verify, build and swap.

    Attributes
    ----------
    provider : ArtefactProvider
        Where verified artefacts come from.
    holder : Holder
        What is served.
    clock : Present
        The injected clock; ages of forecasts are against it.
    follow : callable
        Called first in every round, to look whether the clock was changed.
    overdue_s : float
        Seconds after which a round that has not ended counts as refused.
    refused_total : Counter of str
        Refusals by reason.
    refused : str or None
        Why the last attempt was refused; None after a success.
    verified_at : datetime or None
        Clock time of the last success.
    """

    provider: ArtefactProvider
    holder: Holder
    clock: Present
    follow: Callable[[], None] = _stand_still
    overdue_s: float = OVERDUE_S
    refused_total: Counter[str] = field(default_factory=Counter)
    refused: str | None = None
    verified_at: datetime | None = None
    n_swaps: int = 0
    _has_recovered: bool = False
    _snapshot: ServedSnapshot | None = None
    _showing: threading.Lock = field(default_factory=threading.Lock)

    def refresh(self) -> None:
        """Verify once and show the result. Blocks: call it in a thread."""
        self.follow()
        try:
            if not self._has_recovered:
                self._has_recovered = True
                self._recover()
            self._accept(self.provider.refresh())
        except (LakehouseError, OSError) as error:
            self._refuse(str(getattr(error, "reason", "unreadable")), error)

    def _accept(self, verified: Verified) -> None:
        snapshot = self._index(verified.artefacts)
        # Drawn before anything is remembered: what cannot be drawn is not accepted.
        self._show(snapshot, refused=None)
        self._snapshot = snapshot
        self.verified_at = verified.verified_at
        self.holder.verified_mono = time.monotonic()

    def _index(self, bundle: Bundle) -> ServedSnapshot:
        before = self._snapshot
        if before is not None:
            _refuse_older(before.artefacts, bundle)
            if before.versions() == versions_of(bundle):
                return before
        return build_snapshot(bundle)

    def _recover(self) -> None:
        # What an earlier process verified, as old as it is: shown until the provider
        # has answered, which may take long.
        try:
            kept = self.provider.last()
            if kept is None:
                return
            snapshot = build_snapshot(kept.artefacts)
            self._show(snapshot, refused="unconfirmed")
        except (LakehouseError, OSError) as error:
            self._refuse(str(getattr(error, "reason", "unreadable")), error)
            return
        self._snapshot = snapshot
        self.verified_at = kept.verified_at
        age = (self.clock.now() - kept.verified_at).total_seconds()
        self.holder.verified_mono = time.monotonic() - max(0.0, age)

    def _refuse(self, reason: str, error: BaseException) -> None:
        self.refused_total[reason] += 1
        if self.refused != reason:
            log.warning("artefacts refused (%s): %s", reason, error)
        if self._snapshot is None:
            self.refused = reason
        else:
            self._show(self._snapshot, refused=reason)

    def _show(self, snapshot: ServedSnapshot, *, refused: str | None) -> None:
        now = self.clock.now()
        stale = _stale_kinds(snapshot, now) if refused is None else frozenset(KINDS)
        view = View(snapshot, snapshot.stale_keys(now), stale)
        with self._showing:
            shown = self.holder.board.view
            if shown is None or shown.stamp != view.stamp:
                self.holder.show(build_board(view))
                self.n_swaps += 1
            self.refused = refused

    async def run(self, interval: float, first_done: Callable[[], None]) -> None:
        """Refresh every `interval` seconds until cancelled.

        A bug in one round is logged and counted; the next round still comes. The
        threads are its own: requests that wait for the lake take none of them.
        """
        pool = ThreadPoolExecutor(2, thread_name_prefix="refresh")
        try:
            while True:
                started = time.monotonic()
                await self._round(pool, first_done)
                first_done()
                spent = time.monotonic() - started
                await asyncio.sleep(max(0.0, interval - spent))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    async def _round(
        self, pool: ThreadPoolExecutor, first_done: Callable[[], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        attempt = loop.run_in_executor(pool, self.refresh)
        done, _ = await asyncio.wait({attempt}, timeout=self.overdue_s)
        if not done:
            late = OverdueError(f"no answer in {self.overdue_s:.0f} s")
            await loop.run_in_executor(pool, self._refuse, late.reason, late)
            first_done()
            await asyncio.wait({attempt})
        if (bug := attempt.exception()) is not None:
            log.error("the refresh failed", exc_info=bug)
            await loop.run_in_executor(pool, self._refuse, "internal", bug)


def _stale_kinds(snapshot: ServedSnapshot, now: datetime) -> frozenset[str]:
    return frozenset(
        kind
        for kind, artefact in snapshot.artefacts.items()
        if now >= artefact.valid_until
    )


def _refuse_older(before: Bundle, offered: Bundle) -> None:
    for kind, artefact in offered.items():
        known = before.get(kind)
        if known is None or known.role != artefact.role:
            continue  # a live artefact may hide a newer shadow one
        if known.table_id == artefact.table_id and artefact.version < known.version:
            raise OlderVersionError(
                f"artefact {kind}: version {artefact.version} after {known.version}"
            )
