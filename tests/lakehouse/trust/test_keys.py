"""The key folder and the rules of enrolment."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Key

from lakehouse.trust.errors import KeyPolicyError, KeyStoreError
from lakehouse.trust.keys import DEVELOPMENT_KEYS, KeyStore, load_signer
from lakehouse.trust.policy import (
    check_approval,
    check_keys,
    check_owners,
    compute_keyid,
    owner_of,
    public_identity,
)


@pytest.fixture
def keys(tmp_path):
    return KeyStore(tmp_path / "keys")


def public_pem(signer):
    return signer._private_key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )


def test_development_keys_are_made_once(keys):
    made = keys.create_development_keys()

    assert {record.name for record in made} == set(DEVELOPMENT_KEYS)
    assert keys.create_development_keys() == ()
    assert len({record.owner for record in made if record.name[:4] == "root"}) == 3


def test_only_the_owner_of_the_folder_can_read_it(keys):
    keys.create("a", owner="me")

    assert keys.folder.stat().st_mode & 0o777 == 0o700
    for path in keys.folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_signer_signs_what_its_key_verifies(keys):
    record = keys.create("a", owner="me")

    signature = keys.signer("a").sign(b"payload")

    record.key().verify_signature(signature, b"payload")
    assert signature.keyid == record.keyid == compute_keyid(record.key())
    assert owner_of(keys.signer(record.keyid).public_key) == "me"


def test_keys_are_never_under_the_lake(tmp_path):
    for folder in ("lake", "lake/keys", "lake/../lake/a/b"):
        with pytest.raises(KeyStoreError, match="may not lie under the lake's root"):
            KeyStore(tmp_path / folder).refuse_under(str(tmp_path / "lake"))
    KeyStore(tmp_path / "lake-keys").refuse_under(str(tmp_path / "lake"))
    KeyStore(tmp_path / "keys").refuse_under("s3://bucket/lake")


def test_a_passphrase_encrypts_and_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHALAKE_KEY_PASSPHRASE", "correct horse")
    KeyStore(tmp_path / "keys").create("a", owner="me")
    assert b"ENCRYPTED" in (tmp_path / "keys/private/a.pem").read_bytes()
    assert KeyStore(tmp_path / "keys").signer("a").sign(b"x")

    for wrong in ("", "battery staple"):
        monkeypatch.setenv("ALPHALAKE_KEY_PASSPHRASE", wrong)
        with pytest.raises(KeyStoreError, match="passphrase is wrong"):
            KeyStore(tmp_path / "keys").signer("a")


@pytest.mark.parametrize("name", ["", "../a", "a/b", "a b", "x" * 70, ".hidden"])
def test_names_that_are_no_names_are_refused(keys, name):
    with pytest.raises(KeyStoreError, match="allowed are letters"):
        keys.create(name, owner="me")
    with pytest.raises(KeyStoreError, match="key owner"):
        keys.create("a", owner=name)


def test_a_name_belongs_to_one_key(keys):
    keys.create("a", owner="me")

    with pytest.raises(KeyStoreError, match="the name is taken"):
        keys.create("a", owner="me")


def test_public_keys_of_others_are_enrolled_once(keys):
    signer = CryptoSigner.generate_ed25519()

    record = keys.enrol("hers", public_pem(signer), owner="she")

    assert (record.keyid, record.has_private) == (signer.public_key.keyid, False)
    with pytest.raises(KeyPolicyError, match="is already known as hers"):
        keys.enrol("again", public_pem(signer), owner="he")
    with pytest.raises(KeyStoreError, match="no private key here"):
        keys.signer("hers")


def test_only_public_ed25519_keys_are_enrolled(keys):
    with pytest.raises(KeyStoreError, match="not a public key in PEM"):
        keys.enrol("a", b"-----BEGIN", owner="me")
    with pytest.raises(KeyStoreError, match="expected an Ed25519 key"):
        keys.enrol("a", public_pem(CryptoSigner.generate_ecdsa()), owner="me")


def test_rotation_keeps_the_old_key_under_another_name(keys):
    keys.create("a", owner="me")

    old, new = keys.rotate("a")

    assert keys.record("a") == new
    assert keys.signer(old.keyid).public_key.keyid == old.keyid
    assert old.name.startswith("a.")


def test_revocation_destroys_the_private_key(keys):
    record = keys.create("a", owner="me")

    assert keys.revoke("a") == record

    with pytest.raises(KeyStoreError, match=r"key 'a': not in .*; known: none"):
        keys.signer("a")
    assert list((keys.folder / "private").iterdir()) == []


def test_a_damaged_folder_is_said_in_one_line(keys):
    record = keys.create("a", owner="me")
    other = keys.create("b", owner="me")
    private = keys.folder / "private"
    (private / "a.pem").write_bytes((private / "b.pem").read_bytes())
    with pytest.raises(KeyPolicyError, match=f"enrolled {record.keyid[:16]}"):
        keys.signer("a")
    (private / "a.pem").write_bytes(b"nothing")
    with pytest.raises(KeyStoreError, match="not a private key"):
        keys.signer("a")
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (private / "a.pem").write_bytes(curve)
    with pytest.raises(KeyStoreError, match="expected an Ed25519 key"):
        load_signer(private / "a.pem", owner="me")
    (keys.folder / "register.json").write_bytes(b"[1]")
    with pytest.raises(KeyStoreError, match="not a key register"):
        keys.list_keys()
    assert other.has_private


def test_there_is_no_trusted_root_before_init(keys):
    with pytest.raises(KeyStoreError, match="no trusted root here"):
        keys.trusted_root()


# --- rules -------------------------------------------------------------------


def key(document=None, keyid=None, **fields):
    signer = CryptoSigner.generate_ed25519()
    document = document or signer.public_key.to_dict()
    return Key.from_dict(keyid or signer.public_key.keyid, document | fields)


def test_an_id_must_be_its_keys():
    wrong = key(keyid="f" * 64)

    with pytest.raises(KeyPolicyError, match=r"root: key id f{16} is not its key's"):
        check_keys({wrong.keyid: wrong}, where="root")


def test_one_key_has_one_id():
    one = key()
    document = json.loads(json.dumps(one.to_dict()))
    document["keyval"]["public"] = document["keyval"]["public"].upper()
    twin = Key.from_dict("", document)
    twin.keyid = compute_keyid(twin)

    assert public_identity(one) == public_identity(twin)
    with pytest.raises(KeyPolicyError, match="one key under two ids"):
        check_keys({one.keyid: one, twin.keyid: twin}, where="targets")


def test_one_rsa_key_under_two_schemes_is_one_key():
    document = CryptoSigner.generate_rsa().public_key.to_dict()
    pss = Key.from_dict("a", dict(document))
    pkcs = Key.from_dict("b", dict(document) | {"scheme": "rsa-pkcs1v15-sha256"})

    assert public_identity(pss) == public_identity(pkcs)


def test_what_is_no_key_has_no_identity():
    odd = key()
    for public in ("zz", "ä", 5, None):
        odd.keyval = {"public": public}
        with pytest.raises(KeyPolicyError, match="no"):
            public_identity(odd)
    odd.keyval = {"public": 1.5}
    with pytest.raises(KeyPolicyError, match="cannot be described"):
        compute_keyid(odd)


def test_every_key_of_a_shared_role_names_its_owner():
    named = key(**{"x-alphalake-owner": "a"})
    for other, message in (
        (key(), "names no owner"),
        (key(**{"x-alphalake-owner": ""}), "names no owner"),
        (key(**{"x-alphalake-owner": "a"}), "1 distinct owners, required 2"),
    ):
        found = {named.keyid: named, other.keyid: other}
        with pytest.raises(KeyPolicyError, match=message):
            check_owners(found, found, threshold=2, where="live")


APPROVALS = {
    "two others": (["a", "b"], "c", True),
    "three with the author": (["a", "b", "c"], "c", True),
    "one other": (["a"], "c", False),
    "author and one other": (["a", "c"], "c", False),
    "one owner with two keys": (["a", "a"], "c", False),
    "nobody": ([], "c", False),
}


@pytest.mark.parametrize("name", APPROVALS)
def test_approval_counts_distinct_owners_other_than_the_author(name):
    owners, author, is_enough = APPROVALS[name]
    signers = [key(**{"x-alphalake-owner": owner}) for owner in owners]

    if is_enough:
        check_approval(signers, author=author, threshold=2)
    else:
        with pytest.raises(KeyPolicyError, match="distinct owners, required 2"):
            check_approval(signers, author=author, threshold=2)
