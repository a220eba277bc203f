"""Verbs of keys: who may sign, and who may ask the gateway."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.session import output

if TYPE_CHECKING:
    from lakehouse.trust.keys import KeyRecord, KeyStore
    from lakehouse.trust.publishing import Repository

keys = typer.Typer(help="Signing keys and access tokens.")


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to `app`."""
    app.add_typer(keys, name="keys")


@keys.command("new")
def new_key(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    owner: Annotated[str, typer.Option(help="Who holds it.")],
) -> None:
    """Make a key pair in the key folder."""
    record = _store().create(name, owner=owner)
    output().remark(f"hand over its public part: alphalake keys public {name}")
    _tell_keys([record])


@keys.command("public")
def show_public(
    name: Annotated[str, typer.Argument(help="Name of the key, or its id.")],
) -> None:
    """Print a key's public part as PEM, for `keys enrol --pem` elsewhere."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    record = _known(_store(), name)
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(record.public))
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    output().result({"name": record.name, "owner": record.owner, "pem": pem}, pem[:-1])


@keys.command("list")
def list_keys() -> None:
    """List the keys that the folder knows."""
    _tell_keys(_store().list_keys())


@keys.command("enrol")
def enrol_key(
    name: Annotated[str, typer.Argument(help="What to call it, or a key known here.")],
    pem: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Somebody's Ed25519 public key, PEM."),
    ] = None,
    owner: Annotated[
        str | None, typer.Option(help="Who holds the private part.")
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(
            help="Let it sign root, targets, snapshot, timestamp, shadow or live."
        ),
    ] = None,
) -> None:
    """Take in somebody's public key, and let a key sign for a role."""
    from lakehouse.errors import InputError

    store = _store()
    if pem is None and role is None:
        raise InputError("keys enrol: --pem FILE, --role ROLE or both are needed")
    _check_role(role)
    if pem is not None:
        if owner is None:
            raise InputError("keys enrol: --owner is needed with --pem")
        store.enrol(name, read_named(pem, option="--pem"), owner=owner)
    record = _known(store, name)
    if owner is not None and owner != record.owner:
        raise InputError(f"--owner {owner}: key {name!r} is held by {record.owner}")
    if role is not None:
        from lakehouse.trust.ceremony import enrol

        enrol(_repository(), role, record)
    _tell_keys([record])


@keys.command("rotate")
def rotate_key(name: Annotated[str, typer.Argument(help="Key to rotate.")]) -> None:
    """Replace a key pair and sign the metadata that names it again."""
    from lakehouse.trust.ceremony import rotate

    _known(_store(), name)
    rotate(_repository(), name)
    _tell_keys([_store().record(name)])


@keys.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="Key to revoke.")],
    role: Annotated[
        str | None, typer.Option(help="Only in this role; keep the private part.")
    ] = None,
) -> None:
    """Take a key's power away; its private part, if here, is destroyed."""
    from lakehouse.trust.ceremony import revoke, roles_of

    _check_role(role)
    store = _store()
    record = _known(store, name)
    repository = _repository()
    if role is None and record.keyid not in roles_of(repository):
        # Rotated out, or revoked by a root that others released.
        store.revoke(name)
    else:
        revoke(repository, name, role=role)
    _tell_keys([record])


@keys.command("sign")
def sign_staged_root(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="A root key here; none just releases it."
        ),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Trusted root.json, if the folder has none."),
    ] = None,
) -> None:
    """Sign the root that waits for its owners; with enough signatures, release it."""
    from lakehouse.trust.ceremony import release_root, sign_root
    from lakehouse.trust.errors import KeyStoreError

    store = _store()
    if trust is not None:
        _start_from(store, read_named(trust, option="--trust"), trust)
    repository = _repository()
    signer = None if name is None else store.signer(_known(store, name).name)
    if signer is not None:
        _refuse_stranger(repository, signer.public_key.keyid)
    try:
        found = (
            release_root(repository)
            if signer is None
            else sign_root(repository, signer)
        )
    except KeyStoreError as error:
        if signer is None:
            raise
        # Enough owners signed; targets and timestamp are signed elsewhere.
        output().remark(f"{error}; `alphalake keys sign` where they are releases it")
        found = 0
    if isinstance(found, int):
        waits = f"{found} more signatures are missing" if found else "to be released"
        output().result({"released": False, "missing": found}, f"root staged: {waits}")
        return
    output().result(
        {"released": True, "missing": 0}, f"root released, snapshot {found.version}"
    )


@keys.command("token")
def make_token(
    role: Annotated[
        str, typer.Option("--for", help="admin, predict, worker or consumer:NAME.")
    ],
) -> None:
    """Make a bearer token of the gateway; it is printed once."""
    from lakehouse.clock import resolve_clock
    from lakehouse.settings import load_settings
    from lakehouse.trust.tokens import issue, state_folder

    settings = load_settings()
    folder = state_folder(settings.state, _store().trusted_root())
    token = issue(folder, role, now=resolve_clock(settings.root).now())
    out = output()
    out.remark(f"token for {role}; kept here only as a hash, it is not shown again:")
    out.result({"role": role, "token": token}, token)


def read_named(path: Path, *, option: str) -> bytes:
    """Return the bytes of a file that an option names.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    from lakehouse.errors import InputError

    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{option} {path}: {why}") from error


def _store() -> "KeyStore":
    from lakehouse.settings import load_settings
    from lakehouse.trust.keys import KeyStore

    return KeyStore(load_settings().keys)


def _repository() -> "Repository":
    from flows.wiring import open_workplace

    return open_workplace().repository()


def _known(store: "KeyStore", name: str) -> "KeyRecord":
    from lakehouse.errors import InputError

    records = store.list_keys()
    for record in records:
        if name in {record.name, record.keyid}:
            return record
    known = ", ".join(record.name for record in records) or "none"
    raise InputError(f"key {name!r}: not in {store.folder}; known: {known}")


def _check_role(role: str | None) -> None:
    from lakehouse.errors import InputError
    from lakehouse.trust.ceremony import ROLES

    if role is not None and role not in ROLES:
        raise InputError(f"--role {role!r}: allowed are {', '.join(ROLES)}")


def _start_from(store: "KeyStore", data: bytes, path: Path) -> None:
    """Take `data` as the root to start from, where there is none yet."""
    from tuf.api.metadata import Root

    from lakehouse.errors import InputError
    from lakehouse.trust.workflow import parse

    version = parse(data, Root).signed.version
    if not store.root_path.exists():
        store.keep_root(version, data)
    elif store.trusted_root() != data:
        raise InputError(f"--trust {path}: {store.root_path} is another root")


def _refuse_stranger(repository: "Repository", keyid: str) -> None:
    """Refuse a key that signs neither the present nor the staged root."""
    from tuf.api.metadata import Root

    from lakehouse.trust.ceremony import STAGED
    from lakehouse.trust.errors import KeyPolicyError
    from lakehouse.trust.workflow import parse

    roots = [repository.writer.load().root]
    if data := repository.writer.files.read(STAGED):
        roots.append(parse(data, Root).signed)
    if not any(keyid in root.roles[Root.type].keyids for root in roots):
        raise KeyPolicyError(f"root: key {keyid[:16]} is not one of its keys")


def _tell_keys(records: "Sequence[KeyRecord]") -> None:
    documents = [
        {
            "name": record.name,
            "owner": record.owner,
            "keyid": record.keyid,
            "public": record.public,
            "has_private": record.has_private,
        }
        for record in records
    ]
    lines = [
        f"{record.name:<16} {record.owner:<12} {record.keyid[:16]}"
        f"{'' if record.has_private else '  public part only'}"
        for record in records
    ]
    output().result(documents, lines or ["no keys; run `alphalake init`"])
