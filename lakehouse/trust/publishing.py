"""The producer's side: a TUF repository under `artefacts/` of a lake.

`shadow` is published and re-signed by the lab's online keys. `live` is only proposed
here: it appears once enough owners signed it (`lakehouse.trust.approval`). Artefacts
only move forward: neither their table's version nor their period goes back. How states
are verified, signed and written is in `lakehouse.trust.signing`.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from lakehouse.clock import Clock
from lakehouse.errors import CommitConflictError, StoreError
from lakehouse.trust.errors import PublishError, UnverifiedError
from lakehouse.trust.fetching import LocalFetcher
from lakehouse.trust.keys import KeyStore
from lakehouse.trust.manifest import Manifest
from lakehouse.trust.policy import (
    LIVE,
    LIVE_THRESHOLD,
    ROOT_THRESHOLD,
    SHADOW,
    check_delegations,
)
from lakehouse.trust.pruning import target_file_name
from lakehouse.trust.signing import RepositoryState, RepositoryWriter
from lakehouse.trust.workflow import check_content, parse

_ATTEMPTS = 20
_ROOT_KEYS = {
    Root.type: ("root-1", "root-2", "root-3"),
    Targets.type: ("targets",),
    Snapshot.type: ("snapshot",),
    Timestamp.type: ("timestamp",),
}
_DELEGATED_KEYS = {SHADOW: ("shadow",), LIVE: ("live-1", "live-2", "live-3")}


@dataclass(frozen=True, slots=True)
class PublishReport:
    """What a publication did.

    Attributes
    ----------
    version : int
        Version of the snapshot metadata.
    targets : mapping of str to str
        sha256 of the manifest by kind, for every artefact of the role.
    expires : datetime, UTC
        When the timestamp expires.
    notes : tuple of str
        What somebody should know, one line each.
    """

    version: int
    targets: Mapping[str, str]
    expires: datetime
    notes: tuple[str, ...] = ()


class Repository:
    """Publishes the artefacts of one lake.

    Parameters
    ----------
    lake_root : str
        Local folder or `s3://bucket/prefix`.
    keys : KeyStore
        Signing keys and the trusted root; not under the lake's root.
    clock : Clock
        Gives the present.

    Raises
    ------
    KeyStoreError
        If the keys lie under the lake's root.
    """

    def __init__(self, lake_root: str, keys: KeyStore, clock: Clock) -> None:
        keys.refuse_under(lake_root)
        self.lake_root = lake_root
        self.keys = keys
        self.clock = clock
        self.writer = RepositoryWriter(lake_root, keys, clock)

    @property
    def is_initialised(self) -> bool:
        """Whether a repository was published here."""
        return self.writer.files.read("metadata/timestamp.json") is not None

    def init(self) -> bool:
        """Make the repository with empty roles, once.

        Development keys and the trusted root are made if the key folder has none.

        Returns
        -------
        bool
            False if it was there already.

        Raises
        ------
        StoreError
            If the lake cannot be written.
        """
        try:
            with self.writer.files.exclusive():
                return self._init()
        except OSError as error:
            raise _unwritable(self.lake_root, error) from error

    def _init(self) -> bool:
        if self.is_initialised:
            return False
        if not self.keys.list_keys():
            self.keys.create_development_keys()
        root = self._prepare_root()
        targets = Targets(expires=self.writer.expiry(Targets.type))
        targets.delegations = self._first_delegations()
        state = RepositoryState(
            root,
            Timestamp(),
            Snapshot(meta={}),
            targets,
            {SHADOW: Targets()},
            b"",
            {Targets.type, SHADOW},
        )
        for signed in (state.timestamp, targets, state.roles[SHADOW]):
            signed.version = 0  # raised to the first free one when written
        state.snapshot.version = self.writer.next_version(Snapshot.type, 0) - 1
        self.writer.renew(state)
        self.writer.write(state)
        return True

    def publish(
        self, manifests: Sequence[Manifest], role: str = SHADOW
    ) -> PublishReport:
        """Sign manifests and show them to the world.

        Parameters
        ----------
        manifests : sequence of Manifest
            Each replaces the one of its kind.
        role : str, default "shadow"
            `live` only proposes them: see `lakehouse.trust.approval`.

        Raises
        ------
        PublishError
            If a manifest is older than the published one, or `role` is `live`.
        UnverifiedError
            If what lies in the repository is not what was signed.

        Notes
        -----
        Point in time: `published_at` must not lie after the clock's present, and
        `valid_from` never moves back for a table.
        """
        if role != SHADOW:
            raise PublishError(
                f"{role}: only {SHADOW} is published with one key; propose live ones"
            )

        def change(state: RepositoryState) -> None:
            for manifest in manifests:
                self.stage_target(state, SHADOW, manifest)
            state.changed.add(SHADOW)

        return self.update(change)

    def resign(self) -> PublishReport:
        """Sign the online roles anew, so that they do not expire.

        Raises
        ------
        PublishError, UnverifiedError
            As `publish`.
        """
        return self.update(lambda state: state.changed.add(SHADOW))

    def remove(self, kind: str) -> PublishReport:
        """Take an artefact of the shadow role back.

        Raises
        ------
        PublishError
            If none of that kind is published.
        """

        def change(state: RepositoryState) -> None:
            if state.roles[SHADOW].targets.pop(f"{SHADOW}/{kind}.json", None) is None:
                raise PublishError(f"{kind}: is not published")
            state.changed.add(SHADOW)

        return self.update(change)

    def update(self, change: Callable[[RepositoryState], None]) -> PublishReport:
        """Verify the present state, change it, and show the result.

        `change` may run several times when writers compete.

        Raises
        ------
        CommitConflictError
            If another writer kept winning.
        StoreError
            If the lake cannot be written.
        """
        for attempt in range(_ATTEMPTS):
            # Publishers that meet again and again would all lose without the chance.
            time.sleep(min(attempt, 5) * 0.1 * random.random())  # noqa: S311
            try:
                with self.writer.files.exclusive():
                    state = self.writer.load()
                    change(state)
                    notes = self.writer.renew(state)
                    self.writer.write(state)
            except CommitConflictError:
                continue
            except OSError as error:
                raise _unwritable(self.lake_root, error) from error
            return _report(state, notes)
        raise CommitConflictError(f"{self.lake_root}: other publishers kept winning")

    def manifests(self, role: str = SHADOW) -> dict[str, Manifest]:
        """Return the published manifests of a role by kind, verified."""
        state = self.writer.load()
        if role not in state.roles:
            return {}
        found = [
            self.read_manifest(path, target)
            for path, target in state.roles[role].targets.items()
        ]
        return {manifest.kind: manifest for manifest in found}

    def read_manifest(self, path: str, target: TargetFile) -> Manifest:
        """Return a published manifest if its bytes are the signed ones.

        Raises
        ------
        UnverifiedError
            If they are not.
        """
        name = target_file_name(path, target)
        data = LocalFetcher(self.lake_root).fetch(
            f"artefacts/targets/{name}", max_length=target.length
        )
        check_content(target, data, what=path)
        return Manifest.from_bytes(data)

    def stage_target(
        self, state: RepositoryState, role: str, manifest: Manifest
    ) -> None:
        """Write a manifest's bytes and list them in `role`; nothing refers to it yet.

        Raises
        ------
        PublishError
            If it would move back in time.
        """
        if manifest.published_at > self.clock.now():
            raise PublishError(
                f"{manifest.kind}: published_at lies after the clock's present"
            )
        path = f"{role}/{manifest.target_name}"
        current = state.roles[role].targets.get(path) if role in state.roles else None
        if current is not None:
            self._refuse_older_than(path, current, manifest)
        data = manifest.to_bytes()
        target = TargetFile.from_data(path, data, ["sha256"])
        name = f"targets/{target_file_name(path, target)}"
        if not self.writer.files.create(name, data):
            damaged = self.writer.files.read(name)
            self.writer.files.replace(name, data, previous=damaged)
        state.roles[role].targets[path] = target

    def _refuse_older_than(
        self, path: str, current: TargetFile, manifest: Manifest
    ) -> None:
        try:
            published = self.read_manifest(path, current)
        except UnverifiedError:
            return  # damaged or gone: a new publication is the repair
        _refuse_older(manifest, published)

    def _prepare_root(self) -> Root:
        history = self.keys.roots()
        if not history:
            root = Root(expires=self.writer.expiry(Root.type), consistent_snapshot=True)
            for role, names in _ROOT_KEYS.items():
                root.roles[role].threshold = ROOT_THRESHOLD if role == Root.type else 1
                for name in names:
                    root.add_key(self.keys.record(name).key(), role)
            self.writer.release_root(root, self.writer.sign_root(None, Metadata(root)))
            return root
        for version, data in enumerate(history, start=1):
            self.writer.files.create(f"metadata/{version}.root.json", data)
        return parse(history[-1], Root).signed

    def _first_delegations(self) -> Delegations:
        roles = {
            SHADOW: DelegatedRole(SHADOW, [], 1, False, [f"{SHADOW}/*"]),  # noqa: FBT003
            LIVE: DelegatedRole(LIVE, [], LIVE_THRESHOLD, True, [f"{LIVE}/*"]),  # noqa: FBT003
        }
        delegations = Delegations({}, roles)
        for role, names in _DELEGATED_KEYS.items():
            for name in names:
                key = self.keys.record(name).key()
                delegations.keys[key.keyid] = key
                roles[role].keyids.append(key.keyid)
        check_delegations(delegations)
        return delegations


def _refuse_older(manifest: Manifest, published: Manifest) -> None:
    if manifest.table_id != published.table_id:
        return
    if manifest.table_version < published.table_version:
        raise PublishError(
            f"{manifest.kind}: version {manifest.table_version} is older than the "
            f"published {published.table_version}"
        )
    if manifest.valid_from < published.valid_from:
        raise PublishError(
            f"{manifest.kind}: valid from {manifest.valid_from.isoformat()}, before the "
            f"published {published.valid_from.isoformat()}"
        )


def _unwritable(lake_root: str, error: OSError) -> StoreError:
    where = error.filename or lake_root
    return StoreError(f"{where}: cannot be written: {error.strerror or error}")


def _report(state: RepositoryState, notes: tuple[str, ...]) -> PublishReport:
    targets = {
        path.removeprefix(f"{SHADOW}/").removesuffix(".json"): target.hashes["sha256"]
        for path, target in state.roles[SHADOW].targets.items()
    }
    return PublishReport(
        state.snapshot.version, targets, state.timestamp.expires, notes
    )
