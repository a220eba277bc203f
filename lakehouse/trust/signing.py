"""Reading, signing and writing the state of a repository.

Rules kept here:

1. Nothing is signed again that does not verify: whoever can write to the lake cannot
   have changed metadata laundered by the next publication.
2. Files appear in the order delegated roles, targets role, snapshot, timestamp, each as
   a whole, so a reader or a kill at any moment meets a complete state. A snapshot that a
   killed publication left behind is completed by the next one.
3. Versions only move forward, also across a lake that was made anew: the key folder
   remembers the last versions.
4. Expiries are counted from the injected clock.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from lakehouse.clock import Clock
from lakehouse.errors import CommitConflictError
from lakehouse.trust.errors import KeyStoreError, PublishError, UnverifiedError
from lakehouse.trust.fetching import LocalFetcher
from lakehouse.trust.files import write_atomically
from lakehouse.trust.keys import KeyStore
from lakehouse.trust.policy import LIVE, SHADOW, check_root, check_signed
from lakehouse.trust.pruning import prune
from lakehouse.trust.repository_files import open_files
from lakehouse.trust.state import MemoryCache
from lakehouse.trust.workflow import Limits, Workflow, parse, signing_keys

EXPIRY = {
    Root.type: timedelta(days=365),
    Targets.type: timedelta(days=30),
    LIVE: timedelta(days=30),
    SHADOW: timedelta(days=2),
    Snapshot.type: timedelta(days=7),
    Timestamp.type: timedelta(hours=2),
}
RENEW_BEFORE = {
    Root.type: timedelta(days=30),
    Targets.type: timedelta(days=15),
    SHADOW: timedelta(days=1),
}
KEPT_SNAPSHOTS = 10

SignedT = TypeVar("SignedT", Root, Timestamp, Snapshot, Targets)


@dataclass(slots=True)
class RepositoryState:
    """The verified present state, open to change.

    Attributes
    ----------
    root, timestamp, snapshot, targets
        Top-level roles.
    roles : dict of str to Targets
        `shadow` and, once approved, `live`.
    changed : set of str
        Roles to be signed anew.
    coming : tuple of (Root, bytes) or None
        The next root, released once everything is signed for it as well.
    snapshot_floor : int
        Lowest version of the next snapshot, remembered *before* the timestamp was
        read. One remembered later may be a competitor's: a snapshot above his that
        was not built on his would be taken for his successor, and undo his work.
    """

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    roles: dict[str, Targets]
    timestamp_bytes: bytes
    changed: set[str] = field(default_factory=set)
    coming: tuple[Root, bytes] | None = None
    snapshot_floor: int = 1

    def delegations(self) -> Delegations:
        """Return what `targets` delegates."""
        delegations = self.targets.delegations
        if delegations is None or delegations.roles is None:
            raise PublishError("targets: delegates to no role")
        return delegations

    def role_keyids(self, role: str) -> list[str]:
        """Return the key ids that may sign `role`, now and under the coming root."""
        if role in self.root.roles:
            keyids = list(self.root.roles[role].keyids)
            if self.coming is not None:
                keyids += self.coming[0].roles[role].keyids
            return list(dict.fromkeys(keyids))
        roles = self.delegations().roles or {}
        return roles[role].keyids


class RepositoryWriter:
    """Loads and writes the state of one lake's repository.

    Parameters
    ----------
    lake_root : str
        Local folder or `s3://bucket/prefix`.
    keys : KeyStore
        Signing keys and the trusted root.
    clock : Clock
        Gives the present.
    """

    def __init__(self, lake_root: str, keys: KeyStore, clock: Clock) -> None:
        self.lake_root = lake_root
        self.keys = keys
        self.clock = clock
        self.files = open_files(lake_root)

    def load(self) -> RepositoryState:
        """Return the present state, verified; expiries are not looked at.

        Raises
        ------
        PublishError
            If there is none.
        UnverifiedError
            If it does not verify against the trusted root.
        """
        snapshot_floor = self.floor(Snapshot.type)
        timestamp = self.files.read("metadata/timestamp.json")
        if timestamp is None:
            raise PublishError(
                f"{self.lake_root}: no repository here; run `alphalake init`"
            )
        workflow = self._verified()
        if self._complete_killed(workflow, timestamp):
            return self.load()
        roles = {
            role: workflow.load(role, workflow.targets)
            for role in (SHADOW, LIVE)
            if f"{role}.json" in workflow.snapshot.meta
        }
        return RepositoryState(
            workflow.root,
            workflow.timestamp,
            workflow.snapshot,
            workflow.targets,
            roles,
            timestamp,
            snapshot_floor=snapshot_floor,
        )

    def write(self, state: RepositoryState) -> None:
        """Sign and write the changed roles, the snapshot and the timestamp, in order.

        Raises
        ------
        CommitConflictError
            If another writer was faster.
        KeyStoreError
            If a key that must sign is not here.
        """
        for role in (LIVE, SHADOW, Targets.type):
            if role in state.changed:
                targets = state.targets if role == Targets.type else state.roles[role]
                self._write_role(state, role, targets)
        state.snapshot.version = max(state.snapshot.version + 1, state.snapshot_floor)
        state.snapshot.expires = self.expiry(Snapshot.type)
        data = self.sign(state.snapshot, state.role_keyids(Snapshot.type))
        name = f"metadata/{state.snapshot.version}.snapshot.json"
        if not self.files.create(name, data):
            raise CommitConflictError(f"{name}: another publisher was faster")
        self._write_timestamp(
            state.timestamp,
            MetaFile.from_data(state.snapshot.version, data, ["sha256"]),
            keyids=state.role_keyids(Timestamp.type),
            previous=state.timestamp_bytes,
        )
        self.remember(state)
        if state.coming is not None:
            # Last: until now everything verifies under the present root alone.
            self.release_root(*state.coming)
        prune(self.files, state.snapshot.version - KEPT_SNAPSHOTS)

    def sign(self, signed: SignedT, keyids: Sequence[str]) -> bytes:
        """Return the metadata bytes of `signed`, signed by every key that is here.

        Raises
        ------
        KeyStoreError
            If none of `keyids` is here.
        """
        signers = self.keys.signers(keyids)
        if not signers:
            raise KeyStoreError(
                f"{signed.type}: none of its signing keys is in {self.keys.folder}"
            )
        return sign_with(signed, signers)

    def floor(self, role: str) -> int:
        """Return the lowest version that clients of these keys may still accept."""
        return self._remembered().get(role, 0) + 1

    def next_version(self, role: str, current: int) -> int:
        """Return a version above every one that was ever written."""
        taken = [
            int(name.rsplit("/", 1)[1].split(".", 1)[0])
            for name in self.files.names("metadata")
            if name.endswith(f".{role}.json") and name.rsplit("/", 1)[1][0].isdigit()
        ]
        return max([current + 1, self.floor(role), *(v + 1 for v in taken)])

    def remember(self, state: RepositoryState) -> None:
        """Keep the versions reached, so that no later publication goes below them."""
        versions = self._remembered() | {
            Timestamp.type: state.timestamp.version,
            Snapshot.type: state.snapshot.version,
            Targets.type: state.targets.version,
            **{role: targets.version for role, targets in state.roles.items()},
        }
        write_atomically(
            self.keys.folder / "published.json", json.dumps(versions).encode()
        )

    def _remembered(self) -> dict[str, int]:
        path = self.keys.folder / "published.json"
        try:
            versions = json.loads(path.read_bytes())
            return {str(role): int(version) for role, version in versions.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise KeyStoreError(
                f"{path}: not a record of published versions"
            ) from error

    def expiry(self, role: str) -> datetime:
        """Return when `role` expires if it is signed now."""
        return self.clock.now().astimezone(UTC).replace(microsecond=0) + EXPIRY[role]

    def _verified(self) -> Workflow:
        fetcher = LocalFetcher(self.lake_root)

        def download(name: str, *, max_length: int) -> bytes:
            return fetcher.fetch(f"artefacts/metadata/{name}", max_length=max_length)

        workflow = Workflow(
            self.keys.trusted_root(),
            cache=MemoryCache(),
            download=download,
            reference_time=None,
            limits=Limits(max_root_rotations=10_000),
            policy=check_signed,
        )
        workflow.refresh()
        return workflow

    def _complete_killed(self, workflow: Workflow, timestamp: bytes) -> bool:
        # A snapshot beyond the timestamp's is complete: it was written after its roles.
        version = workflow.snapshot.version + 1
        data = self.files.read(f"metadata/{version}.snapshot.json")
        if data is None:
            return False
        try:
            metadata = parse(data, Snapshot)
            signing_keys(
                workflow.root,
                Snapshot.type,
                metadata.signed_bytes,
                metadata.signatures,
            )
        except UnverifiedError:
            self.files.remove(f"metadata/{version}.snapshot.json")
            return False
        self._write_timestamp(
            workflow.timestamp,
            MetaFile.from_data(version, data, ["sha256"]),
            keyids=workflow.root.roles[Timestamp.type].keyids,
            previous=timestamp,
        )
        return True

    def _write_role(self, state: RepositoryState, role: str, targets: Targets) -> None:
        if role != LIVE:  # live comes with its approvers' signatures
            targets.version = self.next_version(role, targets.version)
            targets.expires = self.expiry(role)
            data = self.sign(targets, state.role_keyids(role))
            name = f"metadata/{targets.version}.{role}.json"
            if not self.files.create(name, data):
                raise CommitConflictError(f"{name}: another publisher was faster")
        else:
            name = f"metadata/{targets.version}.{role}.json"
            data = self.files.read(name) or b""
        state.snapshot.meta[f"{role}.json"] = MetaFile.from_data(
            targets.version, data, ["sha256"]
        )

    def _write_timestamp(
        self,
        timestamp: Timestamp,
        snapshot: MetaFile,
        *,
        keyids: Sequence[str],
        previous: bytes,
    ) -> None:
        timestamp.version = max(timestamp.version + 1, self.floor(Timestamp.type))
        timestamp.expires = self.expiry(Timestamp.type)
        timestamp.snapshot_meta = snapshot
        data = self.sign(timestamp, keyids)
        self.files.replace("metadata/timestamp.json", data, previous=previous or None)

    def renew(self, state: RepositoryState) -> tuple[str, ...]:
        """Mark what expires soon for signing; return what people have to see to."""
        now = self.clock.now()
        if state.targets.expires - now < RENEW_BEFORE[Targets.type]:
            state.changed.add(Targets.type)
        notes = []
        if state.coming is None and state.root.expires - now < RENEW_BEFORE[Root.type]:
            try:
                new = Metadata(self.next_root(state.root))
                state.coming = (new.signed, self.sign_root(state.root, new))
            except PublishError as error:
                notes.append(f"root expires on {state.root.expires.date()}: {error}")
        live = state.roles.get(LIVE)
        if live is not None and live.expires - now < RENEW_BEFORE[Targets.type]:
            notes.append(f"live expires on {live.expires.date()}: approve it again")
        return tuple(notes)

    def next_root(self, current: Root) -> Root:
        """Return the root to come, with the keys of the present one."""
        # A deep copy: the two would share their lists of key ids.
        new = Root.from_dict(copy.deepcopy(current.to_dict()))
        new.version = current.version + 1
        new.expires = self.expiry(Root.type)
        return new

    def sign_root(self, current: Root | None, new: Metadata[Root]) -> bytes:
        """Add the signatures of the keys that are here; return the bytes if enough.

        Parameters
        ----------
        current : Root or None
            The present root; None for the first.
        new : Metadata of Root
            Its successor, with the signatures gathered before.

        Raises
        ------
        PublishError
            If signatures are missing; says how many.
        KeyPolicyError
            If the new keys break the enrolment rules.
        """
        check_root(new.signed)
        keyids = [*new.signed.roles[Root.type].keyids]
        if current is not None:
            keyids += current.roles[Root.type].keyids
        for signer in self.keys.signers(list(dict.fromkeys(keyids))):
            new.sign(signer, append=True)
        result = new.signed.get_root_verification_result(
            current, new.signed_bytes, new.signatures
        )
        if not result.verified:
            missing = max(result.first.missing, result.second.missing)
            raise PublishError(f"root {new.signed.version}: lacks {missing} signatures")
        return new.to_bytes()

    def release_root(self, root: Root, data: bytes) -> None:
        """Write a signed root for clients to find.

        Raises
        ------
        CommitConflictError
            If that version was released by another.
        """
        name = f"metadata/{root.version}.root.json"
        if not self.files.create(name, data):
            raise CommitConflictError(f"{name}: was released already")
        self.keys.keep_root(root.version, data)


def sign_with(signed: SignedT, signers: Sequence[CryptoSigner]) -> bytes:
    """Return metadata bytes of `signed` with the signatures of `signers`."""
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()
