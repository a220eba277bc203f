"""The key folder: private keys that never leave it, and the trusted root.

The folder has mode 0700 and is never under a lake's root. Private keys are Ed25519 in
PKCS8 PEM files of mode 0600, encrypted if a passphrase is given. `register.json` says
which name belongs to which key and owner; keys of other people are known by their
public part only. `root.json` is the root that clients start from. What a key may sign
is not written here but in the signed metadata (`lakehouse.trust.publishing`).
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from lakehouse.trust.errors import KeyPolicyError, KeyStoreError
from lakehouse.trust.files import write_atomically
from lakehouse.trust.policy import OWNER_FIELD, compute_keyid, public_identity

PASSPHRASE_VARIABLE = "ALPHALAKE_KEY_PASSPHRASE"  # noqa: S105  a name, not a secret
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")

DEVELOPMENT_KEYS = {
    "root-1": "owner-1",
    "root-2": "owner-2",
    "root-3": "owner-3",
    "targets": "lab",
    "snapshot": "lab",
    "timestamp": "lab",
    "shadow": "lab",
    "live-1": "approver-1",
    "live-2": "approver-2",
    "live-3": "approver-3",
}


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key that the folder knows.

    Attributes
    ----------
    name : str
        What people call it.
    owner : str
        Who holds it.
    keyid : str
        sha256 of its canonical description.
    public : str
        Ed25519 public key, hexadecimal.
    has_private : bool
        Whether the private part is in the folder.
    """

    name: str
    owner: str
    keyid: str
    public: str
    has_private: bool = True

    def key(self) -> SSlibKey:
        """Return it as TUF metadata carries it, with its owner."""
        return SSlibKey(
            self.keyid,
            "ed25519",
            "ed25519",
            {"public": self.public},
            {OWNER_FIELD: self.owner},
        )


class KeyStore:
    """Keys in one folder.

    Parameters
    ----------
    folder : Path
        Created with mode 0700 when the first key is made.
    passphrase : str, optional
        Encrypts private keys; default: `ALPHALAKE_KEY_PASSPHRASE`.
    """

    def __init__(self, folder: Path, *, passphrase: str | None = None) -> None:
        self.folder = Path(folder)
        chosen = passphrase or os.environ.get(PASSPHRASE_VARIABLE)
        self._passphrase = chosen.encode() if chosen else None

    @property
    def root_path(self) -> Path:
        """Where the trusted root lies."""
        return self.folder / "root.json"

    def trusted_root(self) -> bytes:
        """Return the trusted root.

        Raises
        ------
        KeyStoreError
            If there is none yet.
        """
        try:
            return self.root_path.read_bytes()
        except OSError as error:
            raise KeyStoreError(
                f"{self.root_path}: no trusted root here; run `alphalake init`"
            ) from error

    def roots(self) -> list[bytes]:
        """Return every root released with these keys, oldest first."""
        history = self.folder / "root_history"
        found: list[bytes] = []
        while (path := history / f"{len(found) + 1}.root.json").exists():
            found.append(path.read_bytes())
        return found

    def keep_root(self, version: int, data: bytes) -> None:
        """Remember a released root; the first becomes the trusted one.

        Clients start from the first and walk to the newest, so that what they remember
        of the repository stays theirs when keys rotate.
        """
        self._prepare()
        history = self.folder / "root_history"
        history.mkdir(exist_ok=True)
        write_atomically(history / f"{version}.root.json", data)
        if not self.root_path.exists():
            write_atomically(self.root_path, data)

    def refuse_under(self, lake_root: str) -> None:
        """Refuse to keep keys where the lake's readers can see them.

        Raises
        ------
        KeyStoreError
            If the folder is the lake's root or under it.
        """
        if "://" in lake_root:
            return
        root = Path(lake_root).resolve()
        folder = self.folder.resolve()
        if folder == root or root in folder.parents:
            raise KeyStoreError(
                f"{self.folder}: keys may not lie under the lake's root {lake_root}"
            )

    def list_keys(self) -> tuple[KeyRecord, ...]:
        """Return every key the folder knows, by name.

        Raises
        ------
        KeyStoreError
            If the register cannot be read.
        """
        try:
            entries = json.loads((self.folder / "register.json").read_bytes())
            records = [KeyRecord(**entry) for entry in entries]
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError) as error:
            raise KeyStoreError(
                f"{self.folder / 'register.json'}: not a key register"
            ) from error
        return tuple(sorted(records, key=lambda record: record.name))

    def record(self, name: str) -> KeyRecord:
        """Return the key called `name` or with that key id.

        Raises
        ------
        KeyStoreError
            If there is none.
        """
        records = self.list_keys()
        for found in records:
            if name in {found.name, found.keyid}:
                return found
        known = ", ".join(record.name for record in records) or "none"
        raise KeyStoreError(f"key {name!r}: not in {self.folder}; known: {known}")

    def create_development_keys(self) -> tuple[KeyRecord, ...]:
        """Make the keys that a development lake needs, once.

        Returns
        -------
        tuple of KeyRecord
            Those made now; empty if all were there.
        """
        known = {record.name for record in self.list_keys()}
        return tuple(
            self.create(name, owner=owner)
            for name, owner in DEVELOPMENT_KEYS.items()
            if name not in known
        )

    def create(self, name: str, *, owner: str) -> KeyRecord:
        """Make a key pair.

        Raises
        ------
        KeyStoreError
            If the name is taken or not a plain name.
        """
        private = Ed25519PrivateKey.generate()
        record = self._describe(name, owner, private.public_key(), has_private=True)
        self._prepare()
        pem = private.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, self._encryption()
        )
        write_atomically(self._private_path(name), pem, mode=0o600)
        self._register((*self.list_keys(), record))
        return record

    def enrol(self, name: str, pem: bytes, *, owner: str) -> KeyRecord:
        """Take in somebody's public key.

        Parameters
        ----------
        name : str
            What to call it.
        pem : bytes
            Ed25519 public key, PEM.
        owner : str
            Who holds the private part.

        Raises
        ------
        KeyStoreError
            If `pem` is no Ed25519 public key or the name is taken.
        KeyPolicyError
            If the key is already known under another name.
        """
        try:
            public = load_pem_public_key(pem)
        except ValueError as error:
            raise KeyStoreError(f"key {name!r}: not a public key in PEM") from error
        if not isinstance(public, Ed25519PublicKey):
            raise KeyStoreError(f"key {name!r}: expected an Ed25519 key")
        record = self._describe(name, owner, public, has_private=False)
        self._prepare()
        self._register((*self.list_keys(), record))
        return record

    def rotate(self, name: str) -> tuple[KeyRecord, KeyRecord]:
        """Replace a key pair by a new one of the same name and owner.

        Returns
        -------
        old, new : KeyRecord
            The old one stays known as `<name>.<first 8 of its id>`.
        """
        old = self.record(name)
        retired = KeyRecord(
            f"{old.name}.{old.keyid[:8]}",
            old.owner,
            old.keyid,
            old.public,
            old.has_private,
        )
        others = tuple(r for r in self.list_keys() if r.name != old.name)
        if old.has_private:
            pem = self._private_path(old.name).read_bytes()
            write_atomically(self._private_path(retired.name), pem, mode=0o600)
        self._register((*others, retired))
        return retired, self.create(old.name, owner=old.owner)

    def revoke(self, name: str) -> KeyRecord:
        """Forget a key and destroy its private part.

        Raises
        ------
        KeyStoreError
            If there is none of that name.
        """
        record = self.record(name)
        self._register(tuple(r for r in self.list_keys() if r.name != record.name))
        self._private_path(record.name).unlink(missing_ok=True)
        return record

    def signer(self, name: str) -> CryptoSigner:
        """Return the signer of a key, by name or key id.

        Raises
        ------
        KeyStoreError
            If the private part is not here or the passphrase is wrong.
        """
        record = self.record(name)
        path = self._private_path(record.name)
        return load_signer(
            path, owner=record.owner, keyid=record.keyid, passphrase=self._passphrase
        )

    def signers(self, keyids: Sequence[str]) -> list[CryptoSigner]:
        """Return the signers of those of `keyids` whose private parts are here."""
        here = {record.keyid for record in self.list_keys() if record.has_private}
        return [self.signer(keyid) for keyid in keyids if keyid in here]

    def _describe(
        self, name: str, owner: str, public: Ed25519PublicKey, *, has_private: bool
    ) -> KeyRecord:
        for what, value in (("name", name), ("owner", owner)):
            if not _NAME.fullmatch(value):
                raise KeyStoreError(
                    f"key {what} {value[:70]!r}: allowed are letters, digits, . _ @ -"
                )
        key = SSlibKey.from_crypto(public)
        for known in self.list_keys():
            if known.name == name:
                raise KeyStoreError(f"key {name!r}: the name is taken")
            if public_identity(known.key()) == public_identity(key):
                raise KeyPolicyError(f"key {name!r}: is already known as {known.name}")
        return KeyRecord(
            name, owner, compute_keyid(key), str(key.keyval["public"]), has_private
        )

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        (self.folder / "private").mkdir(exist_ok=True, mode=0o700)

    def _private_path(self, name: str) -> Path:
        return self.folder / "private" / f"{name}.pem"

    def _encryption(self) -> KeySerializationEncryption:
        if self._passphrase is None:
            return NoEncryption()
        return BestAvailableEncryption(self._passphrase)

    def _register(self, records: Sequence[KeyRecord]) -> None:
        entries = [asdict(r) for r in sorted(records, key=lambda r: r.name)]
        write_atomically(
            self.folder / "register.json",
            json.dumps(entries, indent=1).encode(),
            mode=0o600,
        )


def load_signer(
    path: Path, *, owner: str, keyid: str | None = None, passphrase: bytes | None = None
) -> CryptoSigner:
    """Open a private key file.

    Parameters
    ----------
    path : Path
        Ed25519 private key, PKCS8 PEM.
    owner : str
        Who holds it.
    keyid : str, optional
        What its id must be.
    passphrase : bytes, optional
        If the file is encrypted.

    Raises
    ------
    KeyStoreError
        If it cannot be opened as that key.
    """
    try:
        private = load_pem_private_key(path.read_bytes(), passphrase)
    except OSError as error:
        raise KeyStoreError(f"{path}: no private key here") from error
    except (ValueError, TypeError) as error:
        raise KeyStoreError(
            f"{path}: not a private key, or the passphrase is wrong"
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyStoreError(f"{path}: expected an Ed25519 key")
    key = SSlibKey.from_crypto(private.public_key())
    key.unrecognized_fields[OWNER_FIELD] = owner
    if keyid is not None and key.keyid != keyid:
        raise KeyPolicyError(f"{path}: key id {key.keyid[:16]}, enrolled {keyid[:16]}")
    return CryptoSigner(private, key)
