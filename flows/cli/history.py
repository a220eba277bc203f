"""Verify every version of the signed metadata that is still there."""

from collections.abc import Sequence
from typing import Any

from tuf.api.metadata import Metadata, Root, Signature, Snapshot, Targets

from lakehouse.trust.errors import SignatureError, UnverifiedError
from lakehouse.trust.repository_files import RepositoryFiles, open_files
from lakehouse.trust.workflow import parse, signing_keys


def verify_history(lake_root: str, trusted_root: bytes) -> list[str]:
    """Return the names of the metadata files that were verified.

    Each root must be signed by the one before it and by itself, from the trusted one
    on; every snapshot and targets by some root of that chain; every delegated role by
    some targets.

    Raises
    ------
    UnverifiedError
        If one of them is not.
    """
    files = open_files(lake_root)
    roots = _root_chain(files, trusted_root)
    names = [f"{root.version}.root.json" for root in roots]
    targets: list[Targets] = []
    delegated = []
    for path in files.names("metadata"):
        name = path.removeprefix("metadata/")
        version, _, rest = name.partition(".")
        role = rest.removesuffix(".json")
        if role in {"snapshot", "targets"} and version.isdigit():
            data = files.read(path) or b""
            metadata: Metadata[Any] = (
                parse(data, Targets) if role == "targets" else parse(data, Snapshot)
            )
            _signed_by_one(
                roots, role, metadata.signed_bytes, metadata.signatures, name
            )
            names.append(name)
            if isinstance(metadata.signed, Targets):
                targets.append(metadata.signed)
        elif role in {"shadow", "live"} and version.isdigit():
            delegated.append((path, role, name))
    for path, role, name in delegated:
        metadata = parse(files.read(path) or b"", Targets)
        _signed_by_one(targets, role, metadata.signed_bytes, metadata.signatures, name)
        names.append(name)
    return sorted(names)


def _root_chain(files: RepositoryFiles, trusted_root: bytes) -> list[Root]:
    first = parse(trusted_root, Root)
    chain: list[Root] = [first.signed]
    while data := files.read(f"metadata/{chain[-1].version + 1}.root.json"):
        following = parse(data, Root)
        signers: list[Root] = [chain[-1], following.signed]
        for signer in signers:
            signing_keys(
                signer, Root.type, following.signed_bytes, following.signatures
            )
        if following.signed.version != chain[-1].version + 1:
            raise SignatureError(
                f"root: version {following.signed.version} is out of order"
            )
        chain.append(following.signed)
    return chain


def _signed_by_one(
    delegators: Sequence[Root | Targets],
    role: str,
    payload: bytes,
    signatures: dict[str, Signature],
    name: str,
) -> None:
    problem: UnverifiedError | None = None
    for delegator in reversed(delegators):
        try:
            signing_keys(delegator, role, payload, signatures)
        except UnverifiedError as error:
            problem = error
        else:
            return
    raise SignatureError(f"{name}: signed by nobody who may: {problem}")
