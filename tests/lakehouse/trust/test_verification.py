"""What a consumer accepts of a signed lake, and what it keeps when it refuses."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tuf.api.metadata import Key, TargetFile

from lakehouse.trust import ceremony
from lakehouse.trust.approval import propose_live, sign_live
from lakehouse.trust.errors import (
    ArtefactDataError,
    DownloadError,
    FileAbsentError,
    FreezeError,
    HashError,
    KeyPolicyError,
    LengthError,
    ManifestError,
    NotYetValidError,
    RollbackError,
    SignatureError,
    StateError,
    UnverifiedError,
    WrongRoleError,
)
from lakehouse.trust.fetching import LocalFetcher
from lakehouse.trust.keys import KeyStore
from lakehouse.trust.manifest import Manifest
from lakehouse.trust.publishing import Repository
from lakehouse.trust.verification import TrustedClient
from tests.simulators.repository import SignedLake


@pytest.fixture
def lake(tmp_path):
    lake = SignedLake(tmp_path)
    lake.publish()
    return lake


def values(client, kind="prices"):
    return client.load(kind)["value"].to_pylist()


def approve(lake, *manifests, by=("live-1", "live-2")):
    propose_live(lake.repository, manifests)
    for name in by:
        report = sign_live(lake.repository, name)
    return report


def test_what_was_published_is_what_is_served(lake):
    client = lake.client()

    snapshot = client.refresh()

    artefact = snapshot.artefacts["prices"]
    assert values(client) == [1, 2, 3]
    assert artefact.manifest_sha256 == artefact.manifest.sha256
    assert (artefact.version, artefact.role) == (0, "shadow")
    assert snapshot.verified_at == lake.now
    assert client.snapshot is snapshot


def test_a_new_version_takes_the_place_of_the_old(lake):
    client = lake.client("state")
    client.refresh()
    lake.publish(lake.manifest(values=[9], version=1))

    assert client.refresh().artefacts["prices"].version == 1
    assert values(client) == [9]


def test_unchanged_artefacts_are_not_read_again(lake):
    client = lake.client("state")
    before = client.refresh().artefacts["prices"].table
    lake.repository.resign()
    Path(lake.root, "tables/artefact_prices/part-0.parquet").unlink()

    assert client.refresh().artefacts["prices"].table is before


def test_nothing_is_loaded_before_it_was_verified(lake):
    with pytest.raises(ManifestError, match="prices: no verified artefact"):
        lake.client().load("prices")


def test_manifests_alone_can_be_verified(lake):
    Path(lake.root, "tables/artefact_prices/part-0.parquet").unlink()
    client = TrustedClient(
        lake.keys.trusted_root(),
        LocalFetcher(lake.root),
        None,
        lake.clock,
        with_data=False,
    )

    assert client.refresh().artefacts["prices"].version == 0
    with pytest.raises(ArtefactDataError, match="verifies manifests only"):
        client.load("prices")


# --- attacks with the lab's own stolen keys, and on what lies in the lake ----


def keep(lake, folder="before"):
    """Copy the repository as it is, to be shown again later."""
    target = lake.folder / folder / "artefacts"
    _copy(lake.artefacts, target)
    return lambda: _copy(target, lake.artefacts)


def _copy(source, target):
    for path in source.rglob("*"):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())


def timestamp_rollback(lake):
    back = keep(lake)
    lake.publish(lake.manifest(values=[9], version=1))
    lake.client("state").refresh()
    back()


def frozen(lake):
    lake.wait(hours=2)


def frozen_root(lake):
    lake.wait(days=366)


def manifest_rollback(lake):
    lake.publish(lake.manifest(values=[9], version=1))
    lake.client("state").refresh()
    old = lake.manifest(version=0)
    place(lake, old)
    lake.forge(listing({f"shadow/{old.target_name}": old.to_bytes()}))


def place(lake, manifest, role="shadow", name=None):
    name = name or manifest.target_name
    path = lake.artefacts / "targets" / role / f"{manifest.sha256}.{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(manifest.to_bytes())


def listing(targets, role="shadow"):
    def edit(signed):
        signed[role].targets = {
            path: TargetFile.from_data(path, data, ["sha256"])
            for path, data in targets.items()
        }

    return edit


def swapped_manifest(lake):
    other = lake.manifest("other")
    place(lake, other, name="prices.json")
    lake.forge(listing({"shadow/prices.json": other.to_bytes()}))


def shadow_vouches_for_live(lake):
    manifest = lake.manifest()
    place(lake, manifest, "live")
    lake.forge(listing({"live/prices.json": manifest.to_bytes()}))


def targets_vouches_itself(lake):
    manifest = lake.manifest()
    place(lake, manifest)
    lake.forge(
        listing({"shadow/prices.json": manifest.to_bytes()}, "targets"),
        roles=["targets"],
    )


def shadow_delegates(lake):
    def edit(signed):
        signed["shadow"].delegations = signed["targets"].delegations

    lake.forge(edit)


def signed_by_the_timestamp_key(lake):
    lake.forge(lambda signed: None, names={"shadow": ("timestamp",)})


def not_a_manifest(lake):
    data = b"{}"
    target = TargetFile.from_data("shadow/prices.json", data, ["sha256"])
    path = lake.artefacts / "targets/shadow" / f"{target.hashes['sha256']}.prices.json"
    path.write_bytes(data)
    lake.forge(listing({"shadow/prices.json": data}))


def climbing_name(lake):
    def edit(signed):
        target = signed["shadow"].targets.pop("shadow/prices.json")
        signed["shadow"].targets["shadow/..json"] = target

    lake.forge(edit)


def huge_manifest(lake):
    def edit(signed):
        signed["shadow"].targets["shadow/prices.json"].length = 10**9

    lake.forge(edit)


def no_sha256(lake):
    def edit(signed):
        target = signed["shadow"].targets["shadow/prices.json"]
        target.hashes = {"md5": "0" * 32}

    lake.forge(edit)


def odd_sha256(lake):
    def edit(signed):
        target = signed["shadow"].targets["shadow/prices.json"]
        target.hashes = {"sha256": "../" + "0" * 61}

    lake.forge(edit)


def of_tomorrow(lake):
    now = lake.now
    lake.wait(days=1)
    manifest = lake.manifest(version=1)
    lake.now = now
    place(lake, manifest)
    lake.forge(listing({"shadow/prices.json": manifest.to_bytes()}))


def outdated(lake):
    lake.publish(lake.manifest(version=1, days=1))
    lake.wait(days=1)
    lake.repository.resign()


def one_key_two_ids(lake):
    def edit(signed):
        delegations = signed["targets"].delegations
        key = lake.keys.record("live-1").key()
        twin = Key.from_dict("a" * 64, key.to_dict())
        delegations.keys[twin.keyid] = twin
        delegations.roles["live"].keyids.append(twin.keyid)

    lake.forge(edit, roles=["targets"])


def one_key_two_schemes(lake):
    def edit(signed):
        delegations = signed["targets"].delegations
        key = lake.keys.record("live-1").key()
        document = key.to_dict()
        document["keyval"] = {"public": key.keyval["public"].upper()}
        twin = Key.from_dict("", document)
        from lakehouse.trust.policy import compute_keyid

        twin.keyid = compute_keyid(twin)
        delegations.keys[twin.keyid] = twin
        delegations.roles["live"].keyids.append(twin.keyid)

    lake.forge(edit, roles=["targets"])


def live_of_one(lake):
    lake.forge(
        lambda signed: setattr(
            signed["targets"].delegations.roles["live"], "threshold", 1
        ),
        roles=["targets"],
    )


def live_not_terminating(lake):
    lake.forge(
        lambda signed: setattr(
            signed["targets"].delegations.roles["live"], "terminating", False
        ),
        roles=["targets"],
    )


def live_keys_of_one_owner(lake):
    def edit(signed):
        for key in signed["targets"].delegations.keys.values():
            key.unrecognized_fields["x-alphalake-owner"] = "somebody"

    lake.forge(edit, roles=["targets"])


def live_key_without_owner(lake):
    def edit(signed):
        for key in signed["targets"].delegations.keys.values():
            key.unrecognized_fields.clear()

    lake.forge(edit, roles=["targets"])


def lab_key_may_sign_live(lake):
    def edit(signed):
        roles = signed["targets"].delegations.roles
        roles["live"].keyids += roles["shadow"].keyids

    lake.forge(edit, roles=["targets"])


def wider_shadow(lake):
    def edit(signed):
        signed["targets"].delegations.roles["shadow"].paths = ["*/*"]

    lake.forge(edit, roles=["targets"])


def third_role(lake):
    def edit(signed):
        roles = signed["targets"].delegations.roles
        roles["other"] = type(roles["live"])(
            "other", [], 1, terminating=False, paths=["other/*"]
        )

    lake.forge(edit, roles=["targets"])


def changed(pattern, edit):
    def attack(lake):
        (path,) = sorted(Path(lake.root).glob(pattern))[-1:]
        path.write_bytes(edit(path.read_bytes()))

    return attack


def flip(data):
    return (
        data[: len(data) // 2]
        + bytes([data[len(data) // 2] ^ 1])
        + data[len(data) // 2 + 1 :]
    )


def removed(pattern):
    def attack(lake):
        sorted(Path(lake.root).glob(pattern))[-1].unlink()

    return attack


DATA = "tables/artefact_prices/*.parquet"
MANIFEST = "artefacts/targets/shadow/*.json"

ATTACKS = {
    "older timestamp": (timestamp_rollback, RollbackError),
    "older table version": (manifest_rollback, RollbackError),
    "two hours of silence": (frozen, FreezeError),
    "a year of silence": (frozen_root, FreezeError),
    "manifest of another kind": (swapped_manifest, ManifestError),
    "shadow vouches for live": (shadow_vouches_for_live, WrongRoleError),
    "targets vouches itself": (targets_vouches_itself, WrongRoleError),
    "timestamp key signs shadow": (signed_by_the_timestamp_key, SignatureError),
    "signed, but no manifest": (not_a_manifest, ManifestError),
    "name that climbs": (climbing_name, ManifestError),
    "over-long manifest": (huge_manifest, LengthError),
    "manifest without sha256": (no_sha256, HashError),
    "sha256 that climbs": (odd_sha256, HashError),
    "valid from tomorrow": (of_tomorrow, NotYetValidError),
    "valid until yesterday": (outdated, FreezeError),
    "one key under two ids": (one_key_two_ids, KeyPolicyError),
    "one key in two spellings": (one_key_two_schemes, KeyPolicyError),
    "live with threshold one": (live_of_one, KeyPolicyError),
    "live not terminating": (live_not_terminating, KeyPolicyError),
    "live keys of one owner": (live_keys_of_one_owner, KeyPolicyError),
    "live keys without owners": (live_key_without_owner, KeyPolicyError),
    "the lab's key may sign live": (lab_key_may_sign_live, KeyPolicyError),
    "shadow covers more": (wider_shadow, KeyPolicyError),
    "a third role": (third_role, KeyPolicyError),
    "manifest flipped": (changed(MANIFEST, flip), HashError),
    "manifest longer": (changed(MANIFEST, lambda data: data + b" "), LengthError),
    "manifest shorter": (changed(MANIFEST, lambda data: data[:-1]), LengthError),
    "manifest gone": (removed(MANIFEST), FileAbsentError),
    "data flipped": (changed(DATA, flip), HashError),
    "data longer": (changed(DATA, lambda data: data + b" "), LengthError),
    "data shorter": (changed(DATA, lambda data: data[:-1]), LengthError),
    "data gone": (removed(DATA), FileAbsentError),
    "timestamp gone": (removed("artefacts/metadata/timestamp.json"), FileAbsentError),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused_and_the_last_verified_payload_stays(name, lake):
    attack, error = ATTACKS[name]
    client = lake.client("first")
    served = client.refresh()
    attack(lake)
    fresh = lake.client("state")  # remembers what an attack let it see

    with pytest.raises(error, match=r"\w") as refusal:
        fresh.refresh()

    assert refusal.value.reason == error.reason
    assert client.snapshot is served
    assert values(client) == [1, 2, 3]


@pytest.mark.parametrize(
    "name",
    sorted(
        set(ATTACKS)
        - {
            "data flipped",
            "data longer",
            "data shorter",
            "data gone",
            "manifest gone",
            "manifest flipped",
            "manifest longer",
            "manifest shorter",
            "valid until yesterday",
            "shadow delegates",
        }
    ),
)
def test_attack_is_refused_by_a_client_that_had_accepted_before(name, lake):
    attack, error = ATTACKS[name]
    client = lake.client("state")
    client.refresh()
    attack(lake)
    again = lake.client("state")
    assert again.restore() is not None

    with pytest.raises(error, match=r"\w"):
        again.refresh()
    assert again.snapshot is not None


def test_delegations_of_shadow_have_to_keep_the_rules_too(lake):
    shadow_delegates(lake)

    assert lake.client().refresh().artefacts["prices"].version == 0


def test_an_outdated_artefact_that_was_accepted_in_time_stays_and_says_so(lake):
    client = lake.client("state")
    lake.publish(lake.manifest(version=1, days=1))
    client.refresh()
    lake.wait(days=1)
    lake.repository.resign()
    again = lake.client("state")
    again.restore()

    artefact = again.refresh().artefacts["prices"]

    assert not artefact.is_valid_at(lake.now)
    assert artefact.is_valid_at(artefact.manifest.valid_from)


def test_mix_and_match_of_two_states_is_refused(lake):
    first = {p.name: p.read_bytes() for p in (lake.artefacts / "metadata").iterdir()}
    lake.publish(lake.manifest(values=[9], version=1))
    metadata = lake.artefacts / "metadata"
    (metadata / "3.snapshot.json").write_bytes(first["2.snapshot.json"])

    with pytest.raises(UnverifiedError, match="snapshot"):
        lake.client().refresh()


def test_signed_data_that_is_no_table_is_refused(lake):
    manifest = lake.manifest(version=1)
    path = Path(lake.root, "tables/artefact_prices/part-1.parquet")
    for data in (b"not parquet", b"", path.read_bytes()[:-4] + b"XXXX"):
        path.write_bytes(data)
        lake.publish(_rehash(lake, manifest, data))
        with pytest.raises(ArtefactDataError, match="prices: data files are not rows"):
            lake.client().refresh()


def _rehash(lake, manifest, data):
    import hashlib

    from lakehouse.trust.manifest import FileDigest

    digest = FileDigest(hashlib.sha256(data).hexdigest(), len(data))
    fields = {name: getattr(manifest, name) for name in Manifest.__slots__}
    return Manifest(**fields | {"files": {"part-1.parquet": digest}})


def test_rows_of_a_declared_table_must_fit_its_declaration(lake):
    lake.publish(lake.manifest("instruments"))

    with pytest.raises(ArtefactDataError, match="not rows of artefact_instruments"):
        lake.client().refresh()


# --- live --------------------------------------------------------------------


def test_a_live_artefact_hides_the_shadow_one_of_its_kind(lake):
    approve(lake, lake.manifest(values=[7], version=5))
    client = lake.client("state")

    snapshot = client.refresh()

    assert (snapshot.artefacts["prices"].role, values(client)) == ("live", [7])


def test_live_signed_by_one_owner_twice_is_refused(lake):
    approve(lake, lake.manifest(values=[7], version=5))
    lake.forge(
        lambda signed: None, roles=["live"], names={"live": ("live-1", "live-1")}
    )

    with pytest.raises(SignatureError, match="live: signed by 1 of 2 keys"):
        lake.client().refresh()


def test_live_signed_by_its_author_and_one_other_is_refused(lake):
    approve(lake, lake.manifest(values=[7], version=5))
    own = lake.manifest(values=[8], version=6, author="approver-1")
    place(lake, own, "live")
    lake.forge(listing({"live/prices.json": own.to_bytes()}, "live"), roles=["live"])

    with pytest.raises(KeyPolicyError, match="approver-1 may not approve their own"):
        lake.client().refresh()


def test_live_signed_by_the_lab_is_refused(lake):
    approve(lake, lake.manifest(values=[7], version=5))
    lake.forge(
        lambda signed: None, roles=["live"], names={"live": ("shadow", "targets")}
    )

    with pytest.raises(SignatureError, match="live: signed by 0 of 2 keys"):
        lake.client().refresh()


def test_an_expired_live_role_lapses_and_shadow_goes_on(lake):
    approve(lake, lake.manifest(values=[7], version=5))
    client = lake.client("state")
    client.refresh()
    lake.wait(days=31)
    report = lake.repository.resign()
    later = lake.client("state")

    snapshot = later.refresh()

    assert snapshot.lapsed == ("live",)
    assert snapshot.artefacts["prices"].role == "shadow"
    assert "live expires" in report.notes[0]


def test_an_expired_shadow_role_is_refused(lake):
    def edit(signed):
        signed["shadow"].expires = lake.now.replace(microsecond=0)

    lake.forge(edit)

    with pytest.raises(FreezeError, match="shadow: expired"):
        lake.client().refresh()


def test_a_rotated_key_no_longer_publishes(lake):
    client = lake.client("state")
    client.refresh()
    old = lake.keys.record("timestamp").keyid
    ceremony.rotate(lake.repository, "timestamp")
    client.refresh()
    lake.forge(lambda signed: None, roles=[], names={"timestamp": (old,)})

    with pytest.raises(SignatureError, match="timestamp: signed by 0 of 1 keys"):
        client.refresh()


# --- memory ------------------------------------------------------------------


def test_the_last_payload_is_served_after_a_restart_without_the_lake(lake):
    lake.client("state").refresh()
    lake.wait(days=40)  # long expired: its age is shown, not hidden

    client = lake.client("state", root="/nonexistent")
    snapshot = client.restore()

    assert values(client) == [1, 2, 3]
    assert snapshot.verified_at < lake.now
    with pytest.raises(DownloadError, match="no such file"):
        client.refresh()
    assert client.snapshot is snapshot


def test_nothing_is_restored_where_nothing_was_accepted(lake):
    assert lake.client().restore() is None
    assert lake.client("state").restore() is None


def test_a_payload_survives_key_rotation_and_resigning(lake):
    client = lake.client("state")
    client.refresh()
    for name in ("timestamp", "snapshot", "root-1"):
        ceremony.rotate(lake.repository, name)
    client.refresh()
    client.refresh()

    assert lake.client("state", root="/nonexistent").restore() is not None


def test_a_damaged_payload_is_not_restored(lake):
    lake.client("state").refresh()
    payload = lake.folder / "state" / "payload"
    stored = {path: path.read_bytes() for path in payload.rglob("*") if path.is_file()}
    assert len(stored) == 7
    for path, data in stored.items():
        for damaged in (flip(data), data[:-1], b"", b"[" * 100_000, b"{}"):
            path.write_bytes(damaged)
            client = lake.client("state", root="/nonexistent")
            if client.restore() is not None:  # only the time of day was changed
                assert values(client) == [1, 2, 3]
                assert path.name == "accepted.json"
        path.unlink()
        assert lake.client("state", root="/nonexistent").restore() is None
        path.write_bytes(data)
    assert lake.client("state", root="/nonexistent").restore() is not None


def test_a_damaged_payload_is_mended_by_the_next_refresh(lake):
    lake.client("state").refresh()
    files = lake.folder / "state/payload/files"
    for path in files.iterdir():
        path.write_bytes(flip(path.read_bytes()))
    lake.client("state").refresh()

    client = lake.client("state", root="/nonexistent")
    assert client.restore() is not None
    assert values(client) == [1, 2, 3]


@pytest.mark.parametrize("moment", ["2022-03-04T21:00:00", "soon", 5, None])
def test_a_payload_of_no_moment_is_not_restored(lake, moment):
    lake.client("state").refresh()
    index = lake.folder / "state/payload/accepted.json"
    document = json.loads(index.read_bytes())
    index.write_text(json.dumps(document | {"verified_at": moment}))

    assert lake.client("state", root="/nonexistent").restore() is None


def test_workers_that_share_a_state_folder_take_turns(lake):
    slow, fast = lake.client("state"), lake.client("state")
    slow.refresh()
    fetch, reading, go_on = slow._fetcher.fetch, threading.Event(), threading.Event()

    class Slow:
        def fetch(self, path: str, *, max_length: int) -> bytes:
            data = fetch(path, max_length=max_length)
            if path.endswith("timestamp.json"):
                reading.set()
                go_on.wait(10)
            return data

    slow._fetcher = Slow()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(slow.refresh)
        assert reading.wait(10)
        lake.publish(lake.manifest(values=[9], version=1))
        second = pool.submit(fast.refresh)
        time.sleep(0.2)
        assert not second.done()
        go_on.set()
        first.result(10)
        second.result(10)
    client = lake.client("state", root="/nonexistent")
    client.restore()
    assert values(client) == [9]


def test_old_payload_files_are_cleared_away(lake):
    client = lake.client("state")
    client.refresh()
    for version in range(1, 4):
        lake.publish(lake.manifest(values=[version], version=version))
        client.refresh()

    assert len(list((lake.folder / "state/payload/files").iterdir())) == 6


def test_a_state_folder_that_cannot_be_written_accepts_nothing_new(lake):
    (lake.folder / "state").write_bytes(b"a file where a folder should be")

    with pytest.raises(StateError, match="cannot be written"):
        lake.client("state").refresh()


def test_a_payload_that_cannot_be_stored_is_not_accepted(lake):
    lake.client("state").refresh()
    lake.publish(lake.manifest(values=[9], version=1))
    files = lake.folder / "state/payload/files"
    for path in files.iterdir():
        path.unlink()
    files.rmdir()
    files.write_bytes(b"")
    client = lake.client("state")

    with pytest.raises(StateError, match="cannot be written"):
        client.refresh()
    assert client.snapshot is None


def test_amnesia_is_what_the_state_folder_protects_from(lake):
    back = keep(lake)
    lake.publish(lake.manifest(values=[9], version=1))
    lake.client("state").refresh()
    back()

    assert lake.client().refresh().artefacts["prices"].version == 0
    with pytest.raises(RollbackError, match="timestamp: version"):
        lake.client("state").refresh()


def test_a_table_that_was_made_anew_starts_again(lake):
    lake.publish(lake.manifest(version=8))
    client = lake.client("state")
    client.refresh()
    lake.publish(lake.manifest(version=0, table_id="table-2"))

    assert client.refresh().artefacts["prices"].version == 0


def test_a_wrong_trusted_root_trusts_nothing(lake, tmp_path):
    keys = KeyStore(tmp_path / "other-keys")
    Repository(str(tmp_path / "other"), keys, lake.clock).init()
    for root in (keys.trusted_root(), b"", b"{}"):
        client = TrustedClient(root, LocalFetcher(lake.root), None, lake.clock)
        with pytest.raises(UnverifiedError, match=r"\w"):
            client.refresh()


def test_a_root_of_one_signature_is_not_trusted(lake):
    import json

    document = json.loads(lake.keys.trusted_root())
    document["signatures"] = document["signatures"][:1]
    client = TrustedClient(
        json.dumps(document).encode(), LocalFetcher(lake.root), None, lake.clock
    )

    with pytest.raises(SignatureError, match="root: signed by 1 of 2 keys"):
        client.refresh()
