"""Verbs of trust: publish, resign, verify, keys."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.data import run_and_tell
from flows.cli.session import output

if TYPE_CHECKING:
    from lakehouse.trust.keys import KeyRecord, KeyStore

keys = typer.Typer(help="Signing keys and access tokens.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to `app`."""
    app.command()(publish)
    app.command()(resign)
    app.command()(verify)
    app.add_typer(keys, name="keys")


def publish() -> None:
    """Publish a new signed version of every artefact whose content changed."""
    from flows.bodies.publish import publish_artefacts

    def load() -> Any:
        from flows.publish import publish as flow

        return flow

    run_and_tell("publish", publish_artefacts, load)


def resign() -> None:
    """Renew the short-lived signatures without new content."""
    from flows.bodies.resign import renew_signatures

    def load() -> Any:
        from flows.resign import resign as flow

        return flow

    run_and_tell("resign", renew_signatures, load)


def verify(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Check this run's record.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Verify a gateway; its token in ALPHALAKE_TOKEN.")
    ] = None,
    has_history: Annotated[
        bool,
        typer.Option(
            "--history", help="Also every earlier version that is still there."
        ),
    ] = False,
    trust: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Trusted root.json; else the key folder's."),
    ] = None,
) -> None:
    """Prove the signature chain, from the trusted root to every data file."""
    from flows.cli.proving import prove_repository, prove_run

    if run is not None:
        prove_run(run)
        return
    prove_repository(
        url=url,
        has_history=has_history,
        trust=trust,
        token=os.environ.get("ALPHALAKE_TOKEN"),
    )


@keys.command("new")
def new_key(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    owner: Annotated[str, typer.Option(help="Who holds it.")],
) -> None:
    """Make a key pair in the key folder."""
    _tell_keys([_store().create(name, owner=owner)])


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
    if pem is not None:
        if owner is None:
            raise InputError("keys enrol: --owner is needed with --pem")
        store.enrol(name, pem.read_bytes(), owner=owner)
    if role is not None:
        from lakehouse.trust.ceremony import enrol

        enrol(_repository(), role, store.record(name))
    _tell_keys([store.record(name)])


@keys.command("rotate")
def rotate_key(name: Annotated[str, typer.Argument(help="Key to rotate.")]) -> None:
    """Replace a key pair and sign the metadata that names it again."""
    from lakehouse.trust.ceremony import rotate

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
    from lakehouse.trust.ceremony import revoke

    record = _store().record(name)
    revoke(_repository(), name, role=role)
    _tell_keys([record])


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


def _store() -> "KeyStore":
    from lakehouse.settings import load_settings
    from lakehouse.trust.keys import KeyStore

    return KeyStore(load_settings().keys)


def _repository() -> Any:
    from flows.wiring import open_workplace

    return open_workplace().repository()


def _tell_keys(records: "list[KeyRecord] | tuple[KeyRecord, ...]") -> None:
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
