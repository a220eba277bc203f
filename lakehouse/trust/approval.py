"""The two-person rule: live artefacts are proposed by one and approved by two others.

A proposal lies in `artefacts/staged/live.json`, where no client looks: the metadata to
be signed, gathering signatures. Everybody signs the same bytes. With enough signatures
it becomes the `live` role; until then nothing that clients see has changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from securesystemslib.signer import Signer
from tuf.api.metadata import Key, Metadata, Targets

from lakehouse.errors import CommitConflictError
from lakehouse.trust.errors import KeyPolicyError, PublishError
from lakehouse.trust.manifest import Manifest
from lakehouse.trust.policy import (
    LIVE,
    LIVE_THRESHOLD,
    check_approval,
    owner_of,
    public_identity,
)
from lakehouse.trust.publishing import PublishReport, Repository
from lakehouse.trust.signing import RepositoryState
from lakehouse.trust.workflow import parse, signing_keys

STAGED = "staged/live.json"


@dataclass(frozen=True, slots=True)
class Proposal:
    """Live artefacts waiting for approval.

    Attributes
    ----------
    version : int
        Version of the `live` role to come.
    manifests : tuple of Manifest
        Everything the role will hold.
    changed : tuple of str
        Kinds that are new or differ from what is live now.
    approved_by : tuple of str
        Owners who signed so far.
    missing : int
        Further owners needed.
    """

    version: int
    manifests: tuple[Manifest, ...]
    changed: tuple[str, ...]
    approved_by: tuple[str, ...]
    missing: int


def propose_live(
    repository: Repository,
    manifests: Sequence[Manifest],
    *,
    without: Sequence[str] = (),
) -> Proposal:
    """Stage a new version of the live role; a proposal before it is dropped.

    Parameters
    ----------
    repository : Repository
        Where to.
    manifests : sequence of Manifest
        Each replaces the one of its kind; none just renews the role.
    without : sequence of str
        Kinds to take back.

    Raises
    ------
    PublishError
        If a manifest is older than the live one.
    """
    writer = repository.writer
    with writer.files.exclusive():
        state = writer.load()
        current = state.roles.get(LIVE)
        staged = Targets(targets=dict(current.targets) if current is not None else {})
        staged.version = writer.next_version(LIVE, current.version if current else 0)
        staged.expires = writer.expiry(LIVE)
        for kind in without:
            if staged.targets.pop(f"{LIVE}/{kind}.json", None) is None:
                raise PublishError(f"{kind}: is not live")
        state.roles[LIVE] = staged
        for manifest in manifests:
            repository.stage_target(state, LIVE, manifest)
        _store(repository, Metadata(staged))
    return _describe(repository, Metadata(staged), writer.load())


def staged_proposal(repository: Repository) -> Proposal | None:
    """Return what waits for approval; None if nothing does."""
    staged = _staged(repository)
    if staged is None:
        return None
    return _describe(repository, staged, repository.writer.load())


def sign_live(repository: Repository, signer: str | Signer) -> PublishReport | Proposal:
    """Approve the staged proposal; the last approval needed makes it live.

    Parameters
    ----------
    repository : Repository
        Where it is staged.
    signer : str or Signer
        Name or id of a key in the folder, or an approver's own signer.

    Returns
    -------
    PublishReport or Proposal
        The report once it is live, else what is still missing.

    Raises
    ------
    PublishError
        If nothing is staged.
    KeyPolicyError
        If the key is not enrolled for live, or its owner proposed a candidate or
        approved already.
    """
    if isinstance(signer, str):
        signer = repository.keys.signer(signer)
    state = repository.writer.load()
    staged = _staged(repository)
    if staged is None:
        raise PublishError("live: nothing is staged for approval")
    key = _enrolled(state, signer)
    proposal = _describe(repository, staged, state)
    owner = owner_of(key)
    if owner in proposal.approved_by:
        raise KeyPolicyError(f"live: {owner} approved already")
    for manifest in proposal.manifests:
        if manifest.kind in proposal.changed and manifest.author == owner:
            raise KeyPolicyError(
                f"live: {owner} may not approve their own candidate {manifest.kind}"
            )
    staged.sign(signer, append=True)
    _store(repository, staged)
    proposal = _describe(repository, staged, state)
    if proposal.missing:
        return proposal
    return _release(repository, staged)


def _release(repository: Repository, staged: Metadata[Targets]) -> PublishReport:
    def change(state: RepositoryState) -> None:
        signers = signing_keys(
            state.targets, LIVE, staged.signed_bytes, staged.signatures
        )
        current = state.roles.get(LIVE)
        if current is not None and staged.signed.version <= current.version:
            raise PublishError("live: a newer version was approved meanwhile")
        for path, target in staged.signed.targets.items():
            manifest = repository.read_manifest(path, target)
            check_approval(signers, author=manifest.author, threshold=LIVE_THRESHOLD)
        name = f"metadata/{staged.signed.version}.{LIVE}.json"
        if not repository.writer.files.create(name, staged.to_bytes()):
            raise CommitConflictError(f"{name}: another publisher was faster")
        state.roles[LIVE] = staged.signed
        state.changed.add(LIVE)

    report = repository.update(change)
    repository.writer.files.remove(STAGED)
    return report


def _enrolled(state: RepositoryState, signer: Signer) -> Key:
    delegations = state.delegations()
    for keyid in state.role_keyids(LIVE):
        key = delegations.keys[keyid]
        if public_identity(key) == public_identity(signer.public_key):
            if keyid != signer.public_key.keyid:
                raise KeyPolicyError(
                    "live: the signer's key id is not the enrolled one"
                )
            return key
    raise KeyPolicyError(
        f"live: key {signer.public_key.keyid[:16]} is not enrolled for approvals"
    )


def _staged(repository: Repository) -> Metadata[Targets] | None:
    data = repository.writer.files.read(STAGED)
    return None if data is None else parse(data, Targets)


def _store(repository: Repository, staged: Metadata[Targets]) -> None:
    files = repository.writer.files
    files.replace(STAGED, staged.to_bytes(), previous=files.read(STAGED))


def _describe(
    repository: Repository, staged: Metadata[Targets], state: RepositoryState
) -> Proposal:
    current = state.roles[LIVE].targets if LIVE in state.roles else {}
    manifests = []
    changed = []
    for path, target in staged.signed.targets.items():
        manifest = repository.read_manifest(path, target)
        manifests.append(manifest)
        if current.get(path) != target:
            changed.append(manifest.kind)
    owners = _owners(staged, state)
    enough = [
        len([owner for owner in owners if owner != manifest.author])
        for manifest in manifests
    ]
    needed = (state.delegations().roles or {})[LIVE].threshold
    return Proposal(
        staged.signed.version,
        tuple(manifests),
        tuple(changed),
        tuple(owners),
        max(0, needed - min([len(owners), *enough])),
    )


def _owners(staged: Metadata[Targets], state: RepositoryState) -> list[str]:
    result = state.targets.get_verification_result(
        LIVE, staged.signed_bytes, staged.signatures
    )
    return sorted({owner for k in result.signed.values() if (owner := owner_of(k))})
