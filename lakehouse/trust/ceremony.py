"""Changing who may sign: enrolling, rotating and revoking keys.

Keys of the top-level roles are listed in `root`, whose next version needs the signatures
of two owners of the old and of the new set; keys of `shadow` and `live` are listed in
`targets`. Where not all private parts are in one folder, a new root is staged in
`artefacts/staged/root.json` and gathers its owners' signatures there. Every change is
checked against `lakehouse.trust.policy` before anything is written, and the roles
concerned are signed anew in the same publication.
"""

from collections.abc import Callable, Mapping, Sequence

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from lakehouse.trust.errors import (
    KeyPolicyError,
    PublishError,
    SignatureError,
)
from lakehouse.trust.keys import KeyRecord
from lakehouse.trust.policy import LIVE, SHADOW, check_delegations, check_root
from lakehouse.trust.publishing import PublishReport, Repository
from lakehouse.trust.signing import RepositoryState
from lakehouse.trust.workflow import parse, signing_keys

STAGED = "staged/root.json"
ROLES = (Root.type, Targets.type, Snapshot.type, Timestamp.type, SHADOW, LIVE)


def roles_of(repository: Repository) -> dict[str, tuple[str, ...]]:
    """Return the roles that each enrolled key id may sign."""
    state = repository.writer.load()
    found: dict[str, tuple[str, ...]] = {}
    for role in ROLES:
        for keyid in state.role_keyids(role):
            found[keyid] = (*found.get(keyid, ()), role)
    return found


def enrol(repository: Repository, role: str, record: KeyRecord) -> PublishReport:
    """Let a key sign `role`.

    Parameters
    ----------
    repository : Repository
        Where.
    role : str
        `root`, `targets`, `snapshot`, `timestamp`, `shadow` or `live`.
    record : KeyRecord
        Public key and owner.

    Raises
    ------
    PublishError
        If there is no such role, or a new root lacks signatures: it is staged then.
    KeyPolicyError
        If the enrolment rules do not allow it.
    """
    return _change(repository, role, lambda state: _add(state, role, record))


def rotate(repository: Repository, name: str) -> PublishReport:
    """Replace a key by a new pair of the same name and owner, in every role it has.

    A rotation that stopped after the new pair was made goes on with that pair.

    Raises
    ------
    PublishError
        If the key has no role, or a new root lacks signatures: it is staged then.
    """
    held = roles_of(repository)
    current = repository.keys.record(name)
    retired = _retired_with_role(repository, name, held)
    roles = held.get(current.keyid) or (held[retired.keyid] if retired else ())
    if not roles:
        raise PublishError(f"key {name!r}: has no role to be rotated in")
    if LIVE in roles:
        raise PublishError(
            f"key {name!r}: approvers make their own keys; enrol the new, revoke the old"
        )
    is_unfinished = retired is not None and current.keyid not in held
    old, new = (
        (retired, current)
        if retired is not None and is_unfinished
        else repository.keys.rotate(name)
    )

    def swap(state: RepositoryState) -> None:
        for role in roles:
            _add(state, role, new)
            _drop(state, role, old.keyid)

    return _change(repository, roles[0], swap)


def _retired_with_role(
    repository: Repository, name: str, held: Mapping[str, Sequence[str]]
) -> KeyRecord | None:
    for record in repository.keys.list_keys():
        if record.name == f"{name}.{record.keyid[:8]}" and held.get(record.keyid):
            return record
    return None


def revoke(
    repository: Repository, name: str, *, role: str | None = None
) -> PublishReport:
    """Take a key's power away; its private part, if here, is destroyed.

    Parameters
    ----------
    repository : Repository
        Where.
    name : str
        Name or key id.
    role : str, optional
        Only in this role, and keep the private part.

    Raises
    ------
    PublishError
        If it has no such role, or the role could no longer be signed.
    KeyPolicyError
        If too few owners would remain.
    """
    record = repository.keys.record(name)
    held = roles_of(repository).get(record.keyid, ())
    roles = held if role is None else tuple(r for r in held if r == role)
    if not roles:
        raise PublishError(f"key {name!r}: has no role {role or 'at all'}")

    def drop(state: RepositoryState) -> None:
        for each in roles:
            _drop(state, each, record.keyid)

    report = _change(repository, roles[0], drop)
    if role is None:
        repository.keys.revoke(name)
    return report


def sign_root(repository: Repository, signer: str | Signer) -> PublishReport | int:
    """Add an owner's signature to the staged root; the last one needed releases it.

    Returns
    -------
    PublishReport or int
        The report once it is released, else how many signatures are missing.

    Raises
    ------
    PublishError
        If no root is staged, or another was released meanwhile.
    KeyStoreError
        If the signatures suffice, but the online keys that must sign with a new root
        are not here: `release_root` where they are.
    """
    if isinstance(signer, str):
        signer = repository.keys.signer(signer)
    staged, data = _staged(repository)
    staged.sign(signer, append=True)
    files = repository.writer.files
    files.replace(STAGED, staged.to_bytes(), previous=data)
    return release_root(repository)


def release_root(repository: Repository) -> PublishReport | int:
    """Release the staged root if its signatures suffice.

    Returns
    -------
    PublishReport or int
        The report, or how many signatures are missing.

    Raises
    ------
    PublishError
        If no root is staged, or another was released meanwhile.
    KeyStoreError
        If the online keys are not here.
    """
    staged, _ = _staged(repository)
    state = repository.writer.load()
    result = staged.signed.get_root_verification_result(
        state.root, staged.signed_bytes, staged.signatures
    )
    if not result.verified:
        return max(result.first.missing, result.second.missing)

    def change(present: RepositoryState) -> None:
        _adopt(repository, present, staged)

    report = repository.update(change)
    repository.writer.files.remove(STAGED)
    return report


def _staged(repository: Repository) -> tuple[Metadata[Root], bytes]:
    data = repository.writer.files.read(STAGED)
    if data is None:
        raise PublishError("root: none is staged")
    staged = parse(data, Root)
    if staged.signed.version != repository.writer.load().root.version + 1:
        raise PublishError("root: another version was released meanwhile")
    return staged, data


def _change(
    repository: Repository, role: str, edit: Callable[[RepositoryState], None]
) -> PublishReport:
    if role not in ROLES:
        raise PublishError(f"role {role!r}: allowed are {', '.join(ROLES)}")

    def change(state: RepositoryState) -> None:
        root = repository.writer.next_root(state.root)
        is_root_role = role in root.roles
        old = state.root
        if is_root_role:
            state.root = root
        edit(state)
        if is_root_role:
            check_root(root)
            state.root = old
            _adopt(repository, state, Metadata(root))
        else:
            _check_delegated(repository, state)
            state.changed |= {Targets.type, SHADOW}

    return repository.update(change)


def _adopt(
    repository: Repository, state: RepositoryState, staged: Metadata[Root]
) -> None:
    try:
        state.coming = (
            staged.signed,
            repository.writer.sign_root(state.root, staged),
        )
    except PublishError as error:
        files = repository.writer.files
        files.replace(STAGED, staged.to_bytes(), previous=files.read(STAGED))
        raise PublishError(f"{error}; staged for its owners to sign") from error
    state.changed |= {Targets.type, SHADOW}


def _check_delegated(repository: Repository, state: RepositoryState) -> None:
    check_delegations(state.delegations())
    live = state.roles.get(LIVE)
    if live is None:
        return
    data = repository.writer.files.read(f"metadata/{live.version}.{LIVE}.json") or b""
    metadata = parse(data, Targets)
    try:
        signing_keys(state.targets, LIVE, metadata.signed_bytes, metadata.signatures)
    except SignatureError as error:
        raise PublishError(
            "live: was approved with this key; have the others approve it again first"
        ) from error


def _add(state: RepositoryState, role: str, record: KeyRecord) -> None:
    key = record.key()
    keyids = state.role_keyids(role)
    if key.keyid in keyids:
        raise KeyPolicyError(f"{role}: {record.name} is enrolled already")
    if role in state.root.roles:
        state.root.add_key(key, role)
    else:
        state.targets.add_key(key, role)


def _drop(state: RepositoryState, role: str, keyid: str) -> None:
    keyids = state.role_keyids(role)
    threshold = (
        state.root.roles[role].threshold
        if role in state.root.roles
        else (state.delegations().roles or {})[role].threshold
    )
    if len(keyids) - 1 < threshold:
        raise PublishError(f"{role}: would be left with fewer keys than its threshold")
    if role in state.root.roles:
        state.root.revoke_key(keyid, role)
    else:
        state.targets.revoke_key(keyid, role)
