"""Keeping what is served current, off the request path.

Every few seconds the provider verifies what is published. A new version becomes a new
board in one assignment; a refusal keeps the one before, is counted by reason, and the
answers say that they are stale.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from lakehouse.clock import Clock
from lakehouse.errors import LakehouseError, TrustError
from serve.answers import View
from serve.board import Holder, build_board
from serve.provider import KINDS, ArtefactProvider, Bundle
from serve.snapshot import ServedSnapshot, build_snapshot

log = logging.getLogger("alphalake.serve")


class OlderVersionError(TrustError):
    """A provider offered a version older than the one that is served."""

    reason = "rollback"


@dataclass(slots=True)
class Refresher:
    """Verify, build and swap.

    Attributes
    ----------
    provider : ArtefactProvider
        Where verified artefacts come from.
    holder : Holder
        What is served.
    clock : Clock
        The injected clock; ages of forecasts are against it.
    refused_total : Counter of str
        Refusals by reason.
    refused : str or None
        Why the last attempt was refused; None after a success.
    verified_at : datetime or None
        Clock time of the last success.
    """

    provider: ArtefactProvider
    holder: Holder
    clock: Clock
    refused_total: Counter[str] = field(default_factory=Counter)
    refused: str | None = None
    verified_at: datetime | None = None
    n_swaps: int = 0
    _snapshot: ServedSnapshot | None = None

    def refresh(self) -> None:
        """Verify once and show the result. Blocks: call it in a thread."""
        if self._snapshot is None:
            self._recover()
        try:
            verified = self.provider.refresh()
            self._accept(verified.artefacts)
        except (LakehouseError, OSError) as error:
            self._refuse(error)
        else:
            self.refused = None
            self.verified_at = verified.verified_at
            self.holder.verified_mono = time.monotonic()
        self._show()

    def _accept(self, bundle: Bundle) -> None:
        before = self._snapshot
        if before is not None:
            _refuse_older(before.artefacts, bundle)
            if before.versions() == versions(bundle):
                return
        self._snapshot = build_snapshot(bundle)

    def _recover(self) -> None:
        # What an earlier process verified: shown until something newer is.
        try:
            kept = self.provider.last()
            if kept is not None:
                self._snapshot = build_snapshot(kept.artefacts)
                self.verified_at = kept.verified_at
                self.holder.verified_mono = time.monotonic()
        except (LakehouseError, OSError) as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        reason = str(getattr(error, "reason", "unreadable"))
        self.refused_total[reason] += 1
        if self.refused != reason:
            log.warning("artefacts refused (%s): %s", reason, error)
        self.refused = reason

    def _show(self) -> None:
        snapshot = self._snapshot
        if snapshot is None:
            return
        now = self.clock.now()
        view = View(snapshot, snapshot.stale_keys(now), self._stale_kinds(now))
        shown = self.holder.board.view
        if shown is None or shown.stamp != view.stamp:
            self.holder.show(build_board(view))
            self.n_swaps += 1

    def _stale_kinds(self, now: datetime) -> frozenset[str]:
        if self._snapshot is None or self.refused is not None:
            return frozenset(KINDS)
        artefacts = self._snapshot.artefacts
        return frozenset(k for k, a in artefacts.items() if now > a.valid_until)

    async def run(self, interval: float, first_done: Callable[[], None]) -> None:
        """Refresh every `interval` seconds until cancelled.

        A bug in one round is logged and counted; the next round still comes.
        """
        while True:
            started = time.monotonic()
            round_ = asyncio.create_task(asyncio.to_thread(self.refresh))
            await asyncio.wait({round_})
            if (bug := round_.exception()) is not None:
                self.refused_total["internal"] += 1
                self.refused = "internal"
                log.error("the refresh failed", exc_info=bug)
            first_done()
            await asyncio.sleep(max(0.0, interval - (time.monotonic() - started)))


def versions(bundle: Bundle) -> tuple[tuple[str, int, str], ...]:
    """Return what identifies a bundle: kind, version and digest of each artefact."""
    return tuple((kind, a.version, a.sha256) for kind, a in sorted(bundle.items()))


def _refuse_older(before: Bundle, offered: Bundle) -> None:
    for kind, artefact in offered.items():
        known = before.get(kind)
        if known is None or known.role != artefact.role:
            continue  # a live artefact may hide a newer shadow one
        if artefact.version < known.version:
            raise OlderVersionError(
                f"artefact {kind}: version {artefact.version} after {known.version}"
            )
