"""The client workflow of the TUF specification, over python-tuf's metadata API.

Order and checks follow section 5 of the specification (1.0.34), as python-tuf's own
client does: roots one by one, timestamp, snapshot, targets, delegated roles; each is
checked for length, hashes, signatures, version, expiry and rollback before it is
remembered. Differences from that client:

1. Time is given, so that it can be simulated; `None` skips expiries.
2. A threshold counts distinct keys, not key ids.
3. A delegated role is verified against the very delegator that leads to it.
4. Whatever the bytes are, only the errors of `lakehouse.trust.errors` come out.

This module opens no file and no connection: it is given a cache and a download.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar
from urllib.parse import quote

from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import Key, Signature
from tuf.api.exceptions import LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from lakehouse.trust.errors import (
    FileAbsentError,
    FreezeError,
    HashError,
    KeyPolicyError,
    LengthError,
    MetadataFormatError,
    MixAndMatchError,
    RollbackError,
    SignatureError,
    UnverifiedError,
    WrongRoleError,
)
from lakehouse.trust.policy import public_identity
from lakehouse.trust.state import MetadataCache

SignedT = TypeVar("SignedT", Root, Timestamp, Snapshot, Targets)
Delegator = Root | Targets

# Anything python-tuf and the parsers below it raise on bytes of somebody else's making.
_FOREIGN = (
    RepositoryError,
    FormatError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    OverflowError,
    MemoryError,
)


class Download(Protocol):
    """Fetches one metadata file by its file name."""

    def __call__(self, name: str, *, max_length: int) -> bytes:
        """Return its bytes, at most `max_length`."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a repository can make a client do."""

    max_root_rotations: int = 256
    max_delegations: int = 32
    root_max_length: int = 512_000  # bytes
    timestamp_max_length: int = 16_384  # bytes
    snapshot_max_length: int = 2_000_000  # bytes
    targets_max_length: int = 5_000_000  # bytes


def parse(data: bytes, role: type[SignedT]) -> Metadata[SignedT]:
    """Read metadata of the given type.

    Raises
    ------
    MetadataFormatError
        If the bytes cannot be read, or cannot be brought to canonical form.
    WrongRoleError
        If they are of another type.
    """
    try:
        metadata = Metadata[SignedT].from_bytes(data)
        # What is verified must be what was sent: a missing version would read as 1.
        sent = encode_canonical(json.loads(data)["signed"])
        is_same = str(sent).encode() == metadata.signed_bytes
    except _FOREIGN as error:
        raise MetadataFormatError(f"{role.type}: not readable as metadata") from error
    if not is_same:
        raise MetadataFormatError(f"{role.type}: reads as other than what it says")
    if metadata.signed.type != role.type:
        raise WrongRoleError(f"expected {role.type}, found {metadata.signed.type}")
    if not _is_well_typed(metadata.signed):
        raise MetadataFormatError(f"{role.type}: a number is not an integer")
    return metadata


def _is_well_typed(signed: Signed) -> bool:
    numbers: list[object] = [signed.version]
    metas: list[MetaFile] = []
    if isinstance(signed, Timestamp):
        metas = [signed.snapshot_meta]
    elif isinstance(signed, Snapshot):
        metas = list(signed.meta.values())
    elif isinstance(signed, Root):
        numbers += [role.threshold for role in signed.roles.values()]
    elif isinstance(signed, Targets):
        numbers += [target.length for target in signed.targets.values()]
        roles = signed.delegations.roles if signed.delegations else None
        numbers += [role.threshold for role in (roles or {}).values()]
    for meta in metas:
        numbers += [meta.version, 0 if meta.length is None else meta.length]
    return all(type(number) is int for number in numbers)


def signing_keys(
    delegator: Delegator, role: str, payload: bytes, signatures: dict[str, Signature]
) -> list[Key]:
    """Return the distinct keys of `role` that signed `payload`, if they are enough.

    Raises
    ------
    SignatureError
        If fewer distinct keys than the threshold signed.
    WrongRoleError
        If `delegator` delegates nothing to `role`.
    """
    try:
        result = delegator.get_verification_result(role, payload, signatures)
    except ValueError as error:
        raise WrongRoleError(f"{role}: not delegated") from error
    except _FOREIGN as error:
        raise SignatureError(f"{role}: signatures cannot be checked") from error
    distinct: dict[bytes, Key] = {}
    for key in result.signed.values():
        distinct.setdefault(_identity(key), key)
    if len(distinct) < result.threshold:
        raise SignatureError(
            f"{role}: signed by {len(distinct)} of {result.threshold} keys"
        )
    return list(distinct.values())


def _identity(key: Key) -> bytes:
    try:
        return public_identity(key)
    except KeyPolicyError:  # a kind of key that only its id can tell apart
        return key.keyid.encode(errors="replace")


class Workflow:
    """One look at a repository: refresh, then find targets.

    Parameters
    ----------
    root : bytes
        Trusted root.
    cache : MetadataCache
        What earlier looks left.
    download : Download
        Fetches metadata by file name.
    reference_time : datetime or None
        The present for expiries, UTC. None accepts expired metadata.
    limits : Limits
    policy : callable, optional
        Called with every verified root and targets; raises to refuse.

    Raises
    ------
    UnverifiedError
        If the trusted root cannot be trusted.
    """

    def __init__(
        self,
        root: bytes,
        *,
        cache: MetadataCache,
        download: Download,
        reference_time: datetime | None,
        limits: Limits | None = None,
        policy: Callable[[Signed], None] | None = None,
    ) -> None:
        self._cache = cache
        self._download = download
        self._now = reference_time
        self._limits = limits or Limits()
        self._policy = policy or (lambda _: None)
        self.signers: dict[str, list[Key]] = {}
        self.accepted: dict[str, bytes] = {}
        self._delegated: dict[tuple[int, str], Targets] = {}
        self._timestamp: Timestamp | None = None
        self._snapshot: Snapshot | None = None
        self._targets: Targets | None = None
        metadata = parse(root, Root)
        self.root = metadata.signed
        self._verify(metadata, self.root, Root.type)
        self._policy(self.root)
        if cache.get(Root.type) is None:
            cache.put_root(self.root.version, root)

    @property
    def timestamp(self) -> Timestamp:
        """The final timestamp."""
        return _required(self._timestamp, Timestamp.type)

    @property
    def snapshot(self) -> Snapshot:
        """The final snapshot."""
        return _required(self._snapshot, Snapshot.type)

    @property
    def targets(self) -> Targets:
        """The final top-level targets."""
        return _required(self._targets, Targets.type)

    def refresh(self) -> None:
        """Bring the top-level roles up to date.

        Raises
        ------
        UnverifiedError
            The first check that failed; what was verified before it is remembered.
        """
        self._update_root()
        self._check_expiry(self.root)
        self._update_timestamp()
        self._update_snapshot()
        self._targets = self.load(Targets.type, self.root)

    def load(self, role: str, delegator: Delegator) -> Targets:
        """Return `role` as `delegator` delegates to it.

        Raises
        ------
        UnverifiedError
            If it cannot be verified.
        """
        known = self._delegated.get((id(delegator), role))
        if known is not None:
            return known
        meta = self.snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise MixAndMatchError(f"{role}: delegated, but not in the snapshot")
        local = self._cache.get(role)
        if local is not None:
            try:
                return self._accept_targets(role, delegator, meta, local)
            except UnverifiedError:
                local = None  # outdated or damaged: what the repository has decides
        data = self._download(
            self._file_name(role, meta.version),
            max_length=_bounded(meta, self._limits.targets_max_length),
        )
        targets = self._accept_targets(role, delegator, meta, data)
        self._cache.put(role, data)
        return targets

    def find(self, target_path: str) -> TargetFile | None:
        """Return the target of the most trusted role that has it.

        Raises
        ------
        UnverifiedError
            If a role on the way cannot be verified.
        """
        # The delegator travels with the role: a role can be reached in two ways.
        to_visit: list[tuple[str, Delegator]] = [(Targets.type, self.root)]
        visited: set[str] = set()
        while to_visit and len(visited) <= self._limits.max_delegations:
            role, delegator = to_visit.pop()
            if role in visited:
                continue
            targets = self.load(role, delegator)
            found = targets.targets.get(target_path)
            if found is not None:
                return found
            visited.add(role)
            children, is_final = _children(targets, target_path)
            if is_final:
                to_visit = []
            to_visit += [(child, targets) for child in reversed(children)]
        return None

    def _verify(
        self, metadata: Metadata[SignedT], delegator: Delegator, role: str
    ) -> list[Key]:
        return signing_keys(delegator, role, metadata.signed_bytes, metadata.signatures)

    def _check_expiry(self, signed: Signed, role: str | None = None) -> None:
        if self._now is not None and not self._is_fresh(signed):
            raise FreezeError(
                f"{role or signed.type}: expired at {signed.expires.isoformat()}, "
                f"now {self._now.isoformat()}"
            )

    def _update_root(self) -> None:
        for _ in range(self._limits.max_root_rotations):
            version = self.root.version + 1
            local = self._cache.get_root(version)
            if local is not None:
                try:
                    self._accept_root(local)
                except UnverifiedError:
                    local = None  # damaged: ask the repository
                else:
                    continue
            try:
                data = self._download(
                    f"{version}.root.json", max_length=self._limits.root_max_length
                )
            except FileAbsentError:
                return
            self._accept_root(data)
            self._cache.put_root(version, data)

    def _accept_root(self, data: bytes) -> None:
        metadata = parse(data, Root)
        new = metadata.signed
        self._verify(metadata, self.root, Root.type)
        if new.version != self.root.version + 1:
            raise RollbackError(
                f"root: version {new.version}, expected {self.root.version + 1}"
            )
        self._verify(metadata, new, Root.type)
        self._policy(new)
        self.root = new
        self.accepted[f"{new.version}.root.json"] = data

    def _update_timestamp(self) -> None:
        old, old_data = self._trusted(Timestamp)
        data = self._download(
            "timestamp.json", max_length=self._limits.timestamp_max_length
        )
        metadata = parse(data, Timestamp)
        self._verify(metadata, self.root, Timestamp.type)
        new = metadata.signed
        if old is not None:
            _refuse_older(Timestamp.type, new.version, old.version)
            if new.version == old.version:
                self._check_expiry(old)
                self._timestamp = old
                self.accepted["timestamp.json"] = old_data
                return
            _refuse_older(
                Snapshot.type, new.snapshot_meta.version, old.snapshot_meta.version
            )
        self._check_expiry(new)
        self._timestamp = new
        self.accepted["timestamp.json"] = data
        self._cache.put(Timestamp.type, data)

    def _update_snapshot(self) -> None:
        meta = self.timestamp.snapshot_meta
        name = self._file_name(Snapshot.type, meta.version)
        old, old_data = self._trusted(Snapshot)
        if old is not None and old.version == meta.version and self._is_fresh(old):
            self._snapshot = old
            self.accepted[name] = old_data
            return
        data = self._download(
            name, max_length=_bounded(meta, self._limits.snapshot_max_length)
        )
        check_content(meta, data, what=Snapshot.type)
        metadata = parse(data, Snapshot)
        self._verify(metadata, self.root, Snapshot.type)
        new = metadata.signed
        if old is not None:
            _refuse_older_metas(new, old)
        if new.version != meta.version:
            raise MixAndMatchError(
                f"snapshot: version {new.version}, timestamp says {meta.version}"
            )
        self._check_expiry(new)
        self._snapshot = new
        self.accepted[name] = data
        self._cache.put(Snapshot.type, data)

    def _accept_targets(
        self, role: str, delegator: Delegator, meta: MetaFile, data: bytes
    ) -> Targets:
        check_content(meta, data, what=role)
        metadata = parse(data, Targets)
        signers = self._verify(metadata, delegator, role)
        targets = metadata.signed
        if targets.version != meta.version:
            raise MixAndMatchError(
                f"{role}: version {targets.version}, snapshot says {meta.version}"
            )
        self._check_expiry(targets, role)
        self._policy(targets)
        self.signers[role] = signers
        self.accepted[self._file_name(role, meta.version)] = data
        self._delegated[(id(delegator), role)] = targets
        return targets

    def _trusted(self, role: type[SignedT]) -> tuple[SignedT | None, bytes]:
        data = self._cache.get(role.type)
        if data is None:
            return None, b""
        try:
            metadata = parse(data, role)
            self._verify(metadata, self.root, role.type)
        except UnverifiedError:
            return None, b""  # damaged, or signed by a key that was replaced since
        return metadata.signed, data

    def _is_fresh(self, signed: Signed) -> bool:
        return self._now is None or not signed.is_expired(self._now)

    def _file_name(self, role: str, version: int) -> str:
        prefix = f"{version}." if self.root.consistent_snapshot else ""
        return f"{prefix}{_quoted(role)}.json"


def _required(signed: SignedT | None, role: str) -> SignedT:
    if signed is None:
        raise MixAndMatchError(f"{role}: not verified yet, refresh first")
    return signed


def _bounded(meta: MetaFile, limit: int) -> int:
    return limit if meta.length is None else min(meta.length, limit)


def _quoted(role: str) -> str:
    try:
        return quote(role, "")
    except UnicodeEncodeError as error:
        raise MetadataFormatError("role name is not Unicode text") from error


def _children(targets: Targets, target_path: str) -> tuple[list[str], bool]:
    children: list[str] = []
    if targets.delegations is None:
        return children, False
    try:
        for name, is_terminating in targets.delegations.get_roles_for_target(
            target_path
        ):
            children.append(name)
            if is_terminating:
                return children, True
    except _FOREIGN as error:
        raise MetadataFormatError("delegations cannot be followed") from error
    return children, False


def check_content(expected: MetaFile | TargetFile, data: bytes, *, what: str) -> None:
    """Compare bytes with the signed length and hashes.

    Raises
    ------
    LengthError, HashError
        If they differ.
    """
    if expected.length is not None and len(data) != expected.length:
        raise LengthError(f"{what}: {len(data)} bytes, signed were {expected.length}")
    try:
        expected.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise HashError(f"{what}: content is not the signed one") from error
    except _FOREIGN as error:
        raise HashError(f"{what}: hashes cannot be checked") from error


def _refuse_older(role: str, new: int, old: int) -> None:
    if new < old:
        raise RollbackError(f"{role}: version {new}, already accepted {old}")


def _refuse_older_metas(new: Snapshot, old: Snapshot) -> None:
    for name, meta in old.meta.items():
        found = new.meta.get(name)
        if found is None:
            raise RollbackError(f"snapshot: {name} is gone")
        _refuse_older(name, found.version, meta.version)
