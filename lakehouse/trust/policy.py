"""Who may sign what: the rules that the TUF specification leaves to its users.

The specification counts key ids, so one key listed under two ids reaches a threshold of
two alone. Here a key's id must be the digest of the key, no two ids may hold one key,
and every key of `live` names its owner: a live artefact needs signatures of at least two
distinct owners, neither of them its author. Publishers keep these rules when they
enrol, clients check them again on every refresh.
"""

import hashlib
from collections.abc import Iterable, Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Delegations, Key, Root, Signed, Targets

from lakehouse.trust.errors import KeyPolicyError

OWNER_FIELD = "x-alphalake-owner"
SHADOW = "shadow"
LIVE = "live"
ROOT_THRESHOLD = 2
LIVE_THRESHOLD = 2


def public_identity(key: Key) -> bytes:
    """Return the key's own bytes: the same for every id, spelling and scheme.

    Raises
    ------
    KeyPolicyError
        If the public part cannot be read as a key.
    """
    public = key.keyval.get("public")
    if not isinstance(public, str):
        raise KeyPolicyError(f"key {key.keyid[:16]}: no public part")
    try:
        if key.keytype == "ed25519":
            return b"ed25519:" + bytes.fromhex(public)
        return load_pem_public_key(public.encode()).public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyPolicyError(f"key {key.keyid[:16]}: not a public key") from error


def compute_keyid(key: Key) -> str:
    """Return the id that belongs to a key: sha256 of its canonical description.

    Raises
    ------
    KeyPolicyError
        If the key cannot be described canonically.
    """
    description = {"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval}
    try:
        text = encode_canonical(description)
        return hashlib.sha256(str(text).encode()).hexdigest()
    except (FormatError, UnicodeEncodeError, RecursionError) as error:
        raise KeyPolicyError(f"key {key.keyid[:16]}: cannot be described") from error


def owner_of(key: Key) -> str | None:
    """Return who holds a key, if it says so."""
    owner = key.unrecognized_fields.get(OWNER_FIELD)
    return owner if isinstance(owner, str) and owner else None


def check_keys(keys: Mapping[str, Key], *, where: str) -> None:
    """Refuse ids that are not their key's, and one key under two ids.

    Raises
    ------
    KeyPolicyError
        Naming the first offending id.
    """
    seen: dict[bytes, str] = {}
    for keyid, key in keys.items():
        if keyid != compute_keyid(key):
            raise KeyPolicyError(f"{where}: key id {keyid[:16]} is not its key's")
        identity = public_identity(key)
        if identity in seen:
            raise KeyPolicyError(
                f"{where}: one key under two ids, {seen[identity][:16]} and {keyid[:16]}"
            )
        seen[identity] = keyid


def check_root(root: Root) -> None:
    """Check the keys of a root.

    Raises
    ------
    KeyPolicyError
        If ids are wrong or shared, or one owner could sign a root alone.
    """
    check_keys(root.keys, where="root")
    role = root.roles[Root.type]
    if role.threshold < ROOT_THRESHOLD:
        raise KeyPolicyError(
            f"root: threshold {role.threshold}, required {ROOT_THRESHOLD}"
        )
    check_owners(role.keyids, root.keys, threshold=ROOT_THRESHOLD, where="root")


def check_owners(
    keyids: Iterable[str], keys: Mapping[str, Key], *, threshold: int, where: str
) -> None:
    """Refuse a role whose threshold could not be met by distinct owners.

    Raises
    ------
    KeyPolicyError
        If a key names no owner, or there are fewer owners than `threshold`.
    """
    owners = set()
    for keyid in keyids:
        owner = owner_of(keys[keyid]) if keyid in keys else None
        if owner is None:
            raise KeyPolicyError(f"{where}: key {keyid[:16]} names no owner")
        owners.add(owner)
    if len(owners) < threshold:
        raise KeyPolicyError(
            f"{where}: {len(owners)} distinct owners, required {threshold}"
        )


def check_delegations(delegations: Delegations) -> None:
    """Check what `targets` delegates.

    Raises
    ------
    KeyPolicyError
        If it is anything but `shadow/*` and `live/*`, or `live` is not a terminating
        role of at least two owners whose keys sign nothing else.
    """
    check_keys(delegations.keys, where="targets")
    roles = delegations.roles or {}
    if set(roles) != {SHADOW, LIVE}:
        raise KeyPolicyError(
            f"targets: delegates to {sorted(roles)!r}, allowed shadow and live"
        )
    for name, role in roles.items():
        if role.paths != [f"{name}/*"]:
            raise KeyPolicyError(f"targets: {name} may only cover {name}/*")
    live = roles[LIVE]
    if live.threshold < LIVE_THRESHOLD or live.terminating is not True:
        raise KeyPolicyError(
            f"targets: live needs a threshold of {LIVE_THRESHOLD} and to be terminating"
        )
    if set(live.keyids) & set(roles[SHADOW].keyids):
        raise KeyPolicyError("targets: a key of shadow may not sign live")
    check_owners(
        live.keyids, delegations.keys, threshold=LIVE_THRESHOLD, where="targets: live"
    )


def check_signed(signed: Signed) -> None:
    """Check the keys that a verified role gives power to.

    Raises
    ------
    KeyPolicyError
        If the rules of this module do not allow them.
    """
    if isinstance(signed, Root):
        check_root(signed)
    elif isinstance(signed, Targets) and signed.delegations is not None:
        check_delegations(signed.delegations)


def check_approval(signers: Iterable[Key], *, author: str, threshold: int) -> None:
    """Refuse a live artefact that too few others than its author signed.

    Parameters
    ----------
    signers : iterable of Key
        Keys whose signatures were verified.
    author : str
        Who proposed the artefact; their own signature does not count.
    threshold : int
        Distinct owners required.

    Raises
    ------
    KeyPolicyError
        If fewer distinct owners other than the author signed.
    """
    owners = {owner for key in signers if (owner := owner_of(key)) is not None}
    others = owners - {author}
    if len(others) < threshold:
        own = f"; {author} may not approve their own" if author in owners else ""
        raise KeyPolicyError(
            f"live: approved by {len(others)} distinct owners, required {threshold}{own}"
        )
