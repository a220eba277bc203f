"""The client workflow against every kind of repository, one attack at a time."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadError as TufDownloadError
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import Key, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from lakehouse.trust.errors import (
    FreezeError,
    HashError,
    LengthError,
    MetadataFormatError,
    MixAndMatchError,
    RollbackError,
    SignatureError,
    UnverifiedError,
    WrongRoleError,
)
from lakehouse.trust.state import DirectoryCache, MemoryCache
from lakehouse.trust.workflow import Limits, Workflow, parse, signing_keys
from tests.simulators.repository import TufSimulator, signer


def look(simulator, cache=None, *, now=None, root=None, limits=None):
    workflow = Workflow(
        root or simulator.trusted_root,
        cache=cache or MemoryCache(),
        download=simulator.download,
        reference_time=now or datetime.now(UTC),
        limits=limits,
    )
    workflow.refresh()
    return workflow


def version(cache, role):
    data = cache.get(role)
    return None if data is None else json.loads(data)["signed"]["version"]


def test_first_look_asks_for_each_role_once_in_order():
    simulator = TufSimulator()

    look(simulator)

    assert simulator.asked == [
        "2.root.json",
        "timestamp.json",
        "1.snapshot.json",
        "1.targets.json",
    ]


def test_second_look_at_an_unchanged_repository_asks_for_root_and_timestamp():
    simulator, cache = TufSimulator(), MemoryCache()
    look(simulator, cache)
    simulator.asked.clear()

    look(simulator, cache)

    assert simulator.asked == ["2.root.json", "timestamp.json"]


def test_without_consistent_snapshots_plain_names_are_asked_for():
    simulator = TufSimulator()
    simulator.root.consistent_snapshot = False
    simulator.publish("root")

    look(simulator)

    assert simulator.asked[-3:] == ["timestamp.json", "snapshot.json", "targets.json"]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_every_kind_of_key_verifies(kind):
    simulator = TufSimulator()
    simulator.root.roles["snapshot"].threshold = 2
    simulator.enrol("snapshot", kind)
    simulator.publish("root")
    simulator.publish_all("targets")

    assert look(simulator).snapshot.version == 2


def test_unknown_fields_are_accepted_and_stay_signed():
    simulator = TufSimulator()
    simulator.root.unrecognized_fields["extra"] = {"a": [1, "ä", None, True]}
    simulator.publish("root")

    assert look(simulator).root.version == 2


# --- attacks -----------------------------------------------------------------


def older_timestamp(simulator):
    simulator.timestamp.version = 0
    simulator.publish("timestamp")


def older_snapshot(simulator):
    simulator.snapshot.version = 0
    simulator.publish("snapshot", "timestamp")


def older_targets(simulator):
    simulator.targets.version = 0
    simulator.publish_all("targets")


def vanished_role(simulator):
    del simulator.snapshot.meta["a.json"]
    simulator.publish("snapshot", "timestamp")


def expired(role):
    def attack(simulator):
        simulator.roles[role].expires = datetime(2020, 1, 1, tzinfo=UTC)
        roles = {"root": ["root"], "timestamp": ["timestamp"]}
        simulator.publish(*roles.get(role, [role]))
        if role not in roles:
            simulator.publish(*{"snapshot", "timestamp"} - {role} or ["timestamp"])
            simulator.publish("timestamp")

    return attack


def expired_targets(simulator):
    simulator.targets.expires = datetime(2020, 1, 1, tzinfo=UTC)
    simulator.publish_all("targets")


def expired_snapshot(simulator):
    simulator.snapshot.expires = datetime(2020, 1, 1, tzinfo=UTC)
    simulator.publish("snapshot", "timestamp")


def foreign_key(role):
    def attack(simulator):
        simulator.signers[role] = [signer(900)]
        rest = {"root": [], "timestamp": [], "snapshot": ["timestamp"]}
        simulator.publish(role, *rest.get(role, ["snapshot", "timestamp"]))

    return attack


def targets_key_signs_timestamp(simulator):
    simulator.signers["timestamp"] = simulator.signers["targets"]
    simulator.publish("timestamp")


def skipped_root(simulator):
    simulator.root.version += 1
    simulator.publish("root")
    data = simulator.published["root"][-1]
    simulator._serve_metadata = lambda name, serve=simulator._serve_metadata: (
        data if name == "2.root.json" else serve(name)
    )


def snapshot_as_targets(simulator):
    simulator.publish_all("targets")
    data = simulator.published["snapshot"][0]
    simulator._serve_metadata = lambda name, serve=simulator._serve_metadata: (
        data if name.endswith("targets.json") else serve(name)
    )


def mixed_snapshot(simulator):
    simulator.publish("targets")
    simulator.publish("snapshot", "timestamp")
    first = simulator.published["snapshot"][0]
    simulator._serve_metadata = lambda name, serve=simulator._serve_metadata: (
        first if name.endswith("snapshot.json") else serve(name)
    )


def mixed_targets(simulator):
    simulator.publish_all("targets")
    first = simulator.published["targets"][0]
    simulator._serve_metadata = lambda name, serve=simulator._serve_metadata: (
        first if name.endswith("targets.json") else serve(name)
    )


def swapped_bytes(simulator):
    simulator.has_hashes = True
    simulator.publish_all("targets")
    simulator.targets.unrecognized_fields["x"] = 1
    simulator.publish("targets", bump=False)


def longer_bytes(simulator):
    simulator.has_hashes = True
    simulator.publish_all("targets")
    simulator.snapshot.meta["targets.json"].length -= 1
    simulator.publish("snapshot", "timestamp")


def endless(role):
    def attack(simulator):
        simulator.roles[role].unrecognized_fields["x"] = "y" * 6_000_000
        rest = {"root": [], "timestamp": [], "snapshot": ["timestamp"]}
        simulator.publish(role, *rest.get(role, ["snapshot", "timestamp"]))

    return attack


def one_key_two_ids(simulator):
    twin = signer(910).public_key
    for keyid in ("a" * 64, "b" * 64):
        key = Key.from_dict(keyid, twin.to_dict() | {"keyval": dict(twin.keyval)})
        simulator.root.add_key(key, "timestamp")
    simulator.root.roles["timestamp"].threshold = 2
    simulator.publish("root")
    simulator.signers["timestamp"] = [_Renamed(keyid) for keyid in ("a" * 64, "b" * 64)]
    simulator.publish("timestamp")


class _Renamed:
    def __init__(self, keyid):
        self.keyid = keyid

    def sign(self, payload):
        signature = signer(910).sign(payload)
        signature.keyid = self.keyid
        return signature


def unlisted_targets(simulator):
    simulator.snapshot.meta.pop("targets.json")
    simulator.published["snapshot"].clear()
    simulator.publish("snapshot", "timestamp")


ATTACKS = {
    "timestamp rollback": (older_timestamp, RollbackError),
    "snapshot rollback": (older_snapshot, RollbackError),
    "targets rollback": (older_targets, RollbackError),
    "role removed from snapshot": (vanished_role, RollbackError),
    "frozen root": (expired("root"), FreezeError),
    "frozen timestamp": (expired("timestamp"), FreezeError),
    "frozen snapshot": (expired_snapshot, FreezeError),
    "frozen targets": (expired_targets, FreezeError),
    "foreign root key": (foreign_key("root"), SignatureError),
    "foreign timestamp key": (foreign_key("timestamp"), SignatureError),
    "foreign snapshot key": (foreign_key("snapshot"), SignatureError),
    "foreign targets key": (foreign_key("targets"), SignatureError),
    "targets key signs timestamp": (targets_key_signs_timestamp, SignatureError),
    "one key under two ids": (one_key_two_ids, SignatureError),
    "skipped root version": (skipped_root, RollbackError),
    "snapshot shown as targets": (snapshot_as_targets, WrongRoleError),
    "old snapshot under a new timestamp": (mixed_snapshot, RollbackError),
    "old targets under a new snapshot": (mixed_targets, MixAndMatchError),
    "targets changed after the snapshot": (swapped_bytes, LengthError),
    "targets longer than signed": (longer_bytes, LengthError),
    "endless root": (endless("root"), LengthError),
    "endless timestamp": (endless("timestamp"), LengthError),
    "endless snapshot": (endless("snapshot"), LengthError),
    "endless targets": (endless("targets"), LengthError),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused_and_trusted_metadata_stays(name):
    attack, error = ATTACKS[name]
    simulator, cache = TufSimulator(), MemoryCache()
    simulator.delegate("targets", "a")
    simulator.publish_all("a", "targets")
    look(simulator, cache)
    before = version(cache, "targets")

    attack(simulator)

    with pytest.raises(error, match=r"\w"):
        look(simulator, cache)
    assert version(cache, "targets") == before


def test_first_snapshot_without_targets_is_refused():
    simulator = TufSimulator()
    unlisted_targets(simulator)

    with pytest.raises(MixAndMatchError, match="not in the snapshot"):
        look(simulator)


def test_new_snapshot_of_the_wrong_version_is_refused_on_the_first_look():
    simulator = TufSimulator()
    simulator.publish("snapshot")
    simulator.timestamp.snapshot_meta.version = 2
    simulator.publish("timestamp")
    data = simulator.published["snapshot"][0]
    simulator._serve_metadata = lambda name, serve=simulator._serve_metadata: (
        data if name.endswith("snapshot.json") else serve(name)
    )

    with pytest.raises(MixAndMatchError, match="version 1, timestamp says 2"):
        look(simulator)


def test_content_with_the_signed_length_but_another_hash_is_refused():
    simulator = TufSimulator()
    simulator.has_hashes = True
    simulator.publish_all("targets")
    document = json.loads(simulator.published["targets"][-1])
    signature = document["signatures"][0]
    signature["sig"] = signature["sig"].upper()
    simulator.published["targets"][-1] = json.dumps(
        document, separators=(",", ":")
    ).encode()

    with pytest.raises(HashError, match="targets: content"):
        look(simulator)


def test_same_timestamp_version_with_other_content_changes_nothing():
    simulator, cache = TufSimulator(), MemoryCache()
    look(simulator, cache)
    before = cache.get("timestamp")
    simulator.timestamp.snapshot_meta.version = 100
    simulator.publish("timestamp", bump=False)

    look(simulator, cache)

    assert cache.get("timestamp") == before


def test_expired_local_metadata_still_guards_against_rollback_and_can_be_updated():
    now = datetime.now(UTC)
    simulator, cache = TufSimulator(now), MemoryCache()
    simulator.timestamp.expires = now.replace(microsecond=0) + timedelta(days=7)
    simulator.publish_all("targets")
    look(simulator, cache)
    simulator.timestamp.expires = now.replace(microsecond=0) + timedelta(days=21)
    simulator.publish_all("targets")

    look(simulator, cache, now=now + timedelta(days=18))

    assert version(cache, "targets") == 3


def test_an_unchanged_repository_whose_timestamp_expired_is_a_freeze():
    now = datetime.now(UTC).replace(microsecond=0)
    simulator, cache = TufSimulator(now), MemoryCache()
    simulator.timestamp.expires = now + timedelta(hours=2)
    simulator.publish("timestamp")
    look(simulator, cache, now=now + timedelta(hours=2, seconds=-1))

    with pytest.raises(FreezeError, match="timestamp: expired"):
        look(simulator, cache, now=now + timedelta(hours=2))


def test_fast_forward_of_timestamp_and_snapshot_is_recovered_by_new_keys():
    simulator, cache = TufSimulator(), MemoryCache()
    simulator.timestamp.version = simulator.snapshot.version = 99_998
    simulator.publish("snapshot", "timestamp")
    assert look(simulator, cache).snapshot.version == 99_999
    simulator.rotate("timestamp")
    simulator.rotate("snapshot")
    simulator.publish("root")
    simulator.timestamp.version = simulator.snapshot.version = 0
    simulator.publish("snapshot", "timestamp")

    assert look(simulator, cache).snapshot.version == 1


def test_fast_forward_of_targets_is_recovered_by_a_new_snapshot_key():
    simulator, cache = TufSimulator(), MemoryCache()
    simulator.targets.version = 99
    simulator.publish_all("targets")
    look(simulator, cache)
    simulator.rotate("snapshot")
    simulator.publish("root")
    simulator.targets.version = 0
    simulator.publish_all("targets")

    assert look(simulator, cache).targets.version == 1


def test_a_stolen_timestamp_key_is_worthless_after_its_rotation():
    simulator, cache = TufSimulator(), MemoryCache()
    stolen = list(simulator.signers["timestamp"])
    simulator.rotate("timestamp")
    simulator.publish("root", "timestamp")
    look(simulator, cache)
    simulator.signers["timestamp"] = stolen
    simulator.publish("timestamp")

    with pytest.raises(SignatureError, match="timestamp: signed by 0 of 1 keys"):
        look(simulator, cache)


def test_no_more_root_rotations_are_followed_than_the_limit():
    simulator = TufSimulator()
    for _ in range(5):
        simulator.publish("root")

    assert look(simulator, limits=Limits(max_root_rotations=3)).root.version == 4


ROTATIONS = {
    # keys, threshold, signatures of the next root; whether it is accepted
    "same keys": ([0, 1, 2], 2, [0, 1], True),
    "another pair of the same keys": ([0, 1, 2], 2, [1, 2], True),
    "one replaced, signed by enough of both": ([0, 1, 3], 2, [0, 1], True),
    "all replaced, signed by both sets": ([3, 4, 5], 2, [0, 1, 3, 4], True),
    "unused signatures beside": ([0, 1, 2], 2, [0, 1, 7, 8], True),
    "threshold raised, signed by three": ([0, 1, 2], 3, [0, 1, 2], True),
    "threshold lowered, signed by two": ([0, 1, 2], 1, [0, 1], True),
    "threshold lowered, signed by one": ([0, 1, 2], 1, [0], False),
    "threshold raised, signed by two": ([0, 1, 2], 3, [0, 1], False),
    "signed by one old and one new": ([0, 3, 4], 2, [0, 3], False),
    "signed by the new alone": ([3, 4, 5], 2, [3, 4], False),
    "signed by the old alone": ([3, 4, 5], 2, [0, 1], False),
    "signed by nobody": ([0, 1, 2], 2, [], False),
}


@pytest.mark.parametrize("name", ROTATIONS)
def test_root_needs_the_threshold_of_the_old_and_of_the_new_keys(name):
    keys, threshold, signatures, is_accepted = ROTATIONS[name]
    simulator = TufSimulator()
    simulator.published["root"].clear()
    simulator.root.version = 0
    for chosen, needed, signing in (
        ([0, 1, 2], 2, [0, 1]),
        (keys, threshold, signatures),
    ):
        role = simulator.root.roles["root"]
        role.keyids.clear()
        role.threshold = needed
        for number in chosen:
            simulator.root.add_key(signer(100 + number).public_key, "root")
        simulator.signers["root"] = [signer(100 + number) for number in signing]
        simulator.publish("root")
    cache = MemoryCache()

    if is_accepted:
        assert look(simulator, cache).root.version == 2
    else:
        with pytest.raises(SignatureError, match="root: signed by"):
            look(simulator, cache)
        assert version(cache, "root") == 1


# --- delegations -------------------------------------------------------------

GRAPHS = {
    "one": ([("targets", "A")], ["A"]),
    "two beside": ([("targets", "A"), ("targets", "B")], ["A", "B"]),
    "depth first": (
        [("targets", "A"), ("targets", "B"), ("A", "C"), ("A", "D")],
        ["A", "C", "D", "B"],
    ),
    "cycle": (
        [("targets", "A"), ("targets", "B"), ("B", "C"), ("C", "D"), ("D", "B")],
        ["A", "B", "C", "D"],
    ),
    "third role twice": (
        [("targets", "A"), ("targets", "B"), ("B", "C"), ("A", "C")],
        ["A", "C", "B"],
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_delegations_are_searched_depth_first_in_order(name):
    edges, expected = GRAPHS[name]
    simulator = TufSimulator()
    for delegator, role in edges:
        simulator.delegate(delegator, role)
    simulator.publish_all(*{role for edge in edges for role in edge})
    workflow = look(simulator)
    simulator.asked.clear()

    assert workflow.find("missing") is None
    assert simulator.asked == [f"1.{role}.json" for role in expected]


def test_a_terminating_delegation_ends_the_search():
    simulator = TufSimulator()
    simulator.delegate("targets", "A", is_terminating=True)
    simulator.delegate("targets", "B")
    simulator.add_target("B", "file", b"b")
    simulator.publish_all("A", "B", "targets")

    assert look(simulator).find("file") is None


def test_a_role_is_not_asked_for_paths_outside_its_delegation():
    simulator = TufSimulator()
    simulator.delegate("targets", "A", paths=["a/*"])
    simulator.add_target("A", "b/file", b"b")
    simulator.add_target("A", "a/file", b"a")
    simulator.publish_all("A", "targets")
    workflow = look(simulator)

    assert workflow.find("b/file") is None
    assert workflow.find("a/deep/file") is None
    assert workflow.find("a/file").length == 1


def test_path_hash_prefixes_and_hash_bins_are_followed():
    simulator = TufSimulator()
    simulator.delegate("targets", "low", prefixes=[*"01234567"])
    simulator.delegate("targets", "high", prefixes=[*"89abcdef"])
    bins = simulator.delegate_bins("high", 2)
    for number in range(16):
        role = bins.get_role_for_target(f"f{number}")
        simulator.add_target(role, f"f{number}", b"x" * number)
        simulator.add_target("low", f"f{number}", b"x" * number)
    simulator.publish_all("low", "high", "targets", *bins.get_roles())
    workflow = look(simulator)

    found = [workflow.find(f"f{number}") for number in range(16)]
    assert [target.length for target in found] == list(range(16))
    assert any(".bin-" in name for name in simulator.asked)


def test_no_more_delegations_are_visited_than_the_limit():
    simulator = TufSimulator()
    for number in range(40):
        simulator.delegate("targets", f"r{number}")
    simulator.publish_all("targets", *(f"r{number}" for number in range(40)))
    workflow = look(simulator)
    simulator.asked.clear()

    assert workflow.find("missing") is None
    assert len(simulator.asked) == 32


def test_a_role_is_verified_against_the_delegator_that_leads_to_it():
    simulator = TufSimulator()
    simulator.delegate("targets", "A", paths=["a/*"])
    simulator.delegate("targets", "B", paths=["b/*"])
    simulator.delegate("A", "C", paths=["a/*"])
    simulator.delegate("B", "C", paths=["b/*"])
    simulator.signers["C"].pop()  # B's key for C signs nothing
    simulator.add_target("C", "a/file", b"1")
    simulator.add_target("C", "b/file", b"2")
    simulator.publish_all("C", "A", "B", "targets")
    cache = MemoryCache()
    workflow = look(simulator, cache)

    assert workflow.find("a/file") is not None
    with pytest.raises(SignatureError, match="C: signed by 0 of 1 keys"):
        workflow.find("b/file")
    assert workflow.find("a/file") is not None


@pytest.mark.parametrize("role", ["?", "#", "/a", "../a", "ä b", "a%2Fb"])
def test_role_names_of_any_kind_are_quoted(role, tmp_path):
    simulator = TufSimulator()
    simulator.delegate("targets", role)
    simulator.publish_all(role, "targets")
    cache = DirectoryCache(tmp_path / "state")

    assert look(simulator, cache).find("missing") is None
    assert cache.get(role) == simulator.published[role][-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]
    assert len(list((tmp_path / "state").glob("*.json"))) == 5


def test_a_delegation_whose_role_is_not_in_the_snapshot_is_refused():
    simulator = TufSimulator()
    simulator.delegate("targets", "A")
    simulator.publish_all("targets")

    with pytest.raises(MixAndMatchError, match="A: delegated, but not in the snapshot"):
        look(simulator).find("file")


def test_an_expired_delegated_role_is_refused_and_a_newer_one_taken():
    now = datetime.now(UTC)
    simulator, cache = TufSimulator(now), MemoryCache()
    simulator.delegate("targets", "A")
    simulator.add_target("A", "file", b"1")
    simulator.roles["A"].expires = now.replace(microsecond=0) + timedelta(days=7)
    simulator.publish_all("A", "targets")
    later = now + timedelta(days=18)
    look(simulator, cache).find("file")

    with pytest.raises(FreezeError, match="A: expired"):
        look(simulator, cache, now=later).find("file")
    simulator.roles["A"].expires = now.replace(microsecond=0) + timedelta(days=21)
    simulator.publish_all("A")
    assert look(simulator, cache, now=later).find("file") is not None


# --- bytes of any kind -------------------------------------------------------

ODD_BYTES = {
    "nothing": b"",
    "not UTF-8": b"\xff\xfe{}",
    "a number": b"1",
    "null": b"null",
    "a list": b"[]",
    "deep": b'{"signed":' * 50_000,
    "deep list": b"[" * 100_000,
    "huge integer": b'{"signed":{"_type":"timestamp","version":' + b"9" * 5000 + b"}}",
    "no signed": b'{"signatures":[]}',
    "unknown type": b'{"signatures":[],"signed":{"_type":"mirror"}}',
    "lone surrogate": b'{"signatures":[],"signed":{"_type":"\\ud800"}}',
    "infinity": b'{"signatures":[],"signed":{"_type":"timestamp","version":Infinity}}',
}


@pytest.mark.parametrize("name", ODD_BYTES)
def test_bytes_of_any_kind_are_only_ever_refused(name):
    with pytest.raises(MetadataFormatError, match="timestamp"):
        parse(ODD_BYTES[name], Timestamp)


ODD_FIELDS = {
    "version a float": ("version", 1.5),
    "version a string": ("version", "2"),
    "version true": ("version", True),
    "version negative": ("version", -1),
    "version null": ("version", None),
    "expires a number": ("expires", 5),
    "expires nonsense": ("expires", "2026-13-45T00:00:00Z"),
    "spec version 2": ("spec_version", "2.0.0"),
    "spec version a list": ("spec_version", []),
    "meta a list": ("meta", []),
    "meta without snapshot": ("meta", {}),
    "meta version true": ("meta", {"snapshot.json": {"version": True}}),
    "meta length a float": ("meta", {"snapshot.json": {"version": 1, "length": 1.5}}),
    "meta length negative": ("meta", {"snapshot.json": {"version": 1, "length": -1}}),
    "meta hashes empty": ("meta", {"snapshot.json": {"version": 1, "hashes": {}}}),
    "lone surrogate": ("x", "\ud800"),
    "not a number": ("x", float("nan")),
}


@pytest.mark.parametrize("name", ODD_FIELDS)
def test_fields_of_the_wrong_kind_are_refused(name):
    simulator = TufSimulator()
    document = json.loads(simulator.published["timestamp"][-1])
    field, value = ODD_FIELDS[name]
    document["signed"][field] = value
    simulator.published["timestamp"][-1] = json.dumps(document).encode()

    with pytest.raises(MetadataFormatError, match="timestamp"):
        look(simulator)


ODD_KEYS = {
    "no public part": {"keytype": "ed25519", "scheme": "ed25519", "keyval": {}},
    "public part not hex": {
        "keytype": "ed25519",
        "scheme": "ed25519",
        "keyval": {"public": "zz"},
    },
    "public part too short": {
        "keytype": "ed25519",
        "scheme": "ed25519",
        "keyval": {"public": "00"},
    },
    "not PEM": {
        "keytype": "rsa",
        "scheme": "rsassa-pss-sha256",
        "keyval": {"public": "-----BEGIN"},
    },
    "unknown kind": {"keytype": "x", "scheme": "x", "keyval": {"public": "00"}},
    "a list": [],
    "null": None,
}


@pytest.mark.parametrize("name", ODD_KEYS)
def test_keys_that_are_none_sign_nothing(name):
    simulator = TufSimulator()
    document = json.loads(simulator.published["root"][-1])
    role = document["signed"]["roles"]["root"]
    document["signed"]["keys"][role["keyids"][0]] = ODD_KEYS[name]

    with pytest.raises(UnverifiedError, match="root"):
        look(simulator, root=json.dumps(document).encode())


def test_a_signature_of_any_kind_only_fails_to_verify():
    simulator = TufSimulator()
    document = json.loads(simulator.published["root"][-1])
    for odd in ("", "zz", "00", "ä", 5, None, ["00"]):
        document["signatures"][0]["sig"] = odd
        with pytest.raises(UnverifiedError, match="root"):
            look(simulator, root=json.dumps(document).encode())


def test_key_ids_that_are_not_digests_are_accepted_by_the_plain_workflow():
    simulator = TufSimulator()
    public = signer(920).public_key
    simulator.root.add_key(Key.from_dict("anything", public.to_dict()), "snapshot")
    simulator.signers["snapshot"] = [_Named(920, "anything")]
    simulator.publish("root")
    simulator.publish_all("targets")

    assert look(simulator).snapshot.version == 2


class _Named:
    def __init__(self, number, keyid):
        self.number, self.keyid = number, keyid

    def sign(self, payload):
        signature = signer(self.number).sign(payload)
        signature.keyid = self.keyid
        return signature


def test_unreadable_keys_count_by_their_id():
    class Odd(Key):
        @classmethod
        def from_dict(cls, keyid, key_dict):
            raise NotImplementedError

        def to_dict(self):
            return self._to_dict()

        def verify_signature(self, signature, data):
            """Accept everything."""

    simulator = TufSimulator()
    signature = simulator.signers["root"][0].sign(b"x")
    root = simulator.root
    root.roles["root"] = type(root.roles["root"])(["odd"], 1)
    root.keys["odd"] = Odd("odd", "odd", "odd", {})

    assert [k.keyid for k in signing_keys(root, "root", b"x", {"odd": signature})] == [
        "odd"
    ]


def test_a_role_that_is_not_delegated_has_no_signers():
    with pytest.raises(WrongRoleError, match="nobody: not delegated"):
        signing_keys(TufSimulator().root, "nobody", b"", {})


def test_roles_are_not_at_hand_before_the_refresh():
    simulator = TufSimulator()
    workflow = Workflow(
        simulator.trusted_root,
        cache=MemoryCache(),
        download=simulator.download,
        reference_time=None,
    )

    with pytest.raises(MixAndMatchError, match="targets: not verified yet"):
        _ = workflow.targets


def test_damaged_local_metadata_is_fetched_again(tmp_path):
    simulator, cache = TufSimulator(), DirectoryCache(tmp_path)
    simulator.publish("root")
    look(simulator, cache)
    for path in [*tmp_path.glob("*.json"), *tmp_path.glob("root_history/*")]:
        path.write_bytes(b"{damaged")

    assert look(simulator, cache).root.version == 2
    assert version(cache, "timestamp") == 1


# --- beside python-tuf's own client ------------------------------------------


class _Memory(FetcherInterface):
    def __init__(self, simulator):
        self.simulator = simulator

    def _fetch(self, url):
        try:
            return iter([self.simulator.serve(url.removeprefix("memory://"))])
        except KeyError:
            raise DownloadHTTPError("absent", 404) from None


def _stock(simulator, folder: Path, root):
    updater = Updater(
        str(folder),
        "memory://metadata/",
        fetcher=_Memory(simulator),
        bootstrap=root,
    )
    updater.refresh()
    return updater._trusted_set


STATES = {
    **{name: attack for name, (attack, _) in ATTACKS.items()},
    "honest": lambda s: None,
}
STRICTER = {"one key under two ids"}  # the stock client counts ids


@pytest.mark.parametrize("name", STATES)
def test_the_stock_client_decides_the_same(name, tmp_path):
    simulator = TufSimulator()
    simulator.delegate("targets", "a")
    simulator.publish_all("a", "targets")
    root, cache = simulator.trusted_root, DirectoryCache(tmp_path / "ours")
    (tmp_path / "stock").mkdir()
    _stock(simulator, tmp_path / "stock", root)
    look(simulator, cache, root=root)
    STATES[name](simulator)

    try:
        _stock(simulator, tmp_path / "stock", root)
        stock = True
    except (RepositoryError, TufDownloadError):
        stock = False
    try:
        look(simulator, cache, root=root)
        ours = True
    except UnverifiedError:
        ours = False

    assert ours == stock or (name in STRICTER and not ours)
    for role in (
        () if name in STRICTER else ("root", "timestamp", "snapshot", "targets")
    ):
        theirs = (tmp_path / "stock" / f"{role}.json").read_bytes()
        assert cache.get(role) == theirs, role


def test_a_role_name_that_is_no_text_is_refused():
    simulator = TufSimulator()
    workflow = look(simulator)
    workflow.snapshot.meta["\ud800.json"] = workflow.snapshot.meta["targets.json"]

    with pytest.raises(MetadataFormatError, match="role name is not Unicode"):
        workflow.load("\ud800", workflow.root)


def test_delegations_that_cannot_be_followed_are_refused():
    simulator = TufSimulator()
    simulator.delegate("targets", "A")
    simulator.publish_all("A", "targets")

    with pytest.raises(MetadataFormatError, match="delegations cannot be followed"):
        _follow_with_prefixes(simulator)


def _follow_with_prefixes(simulator):
    role = simulator.targets.delegations.roles["A"]
    role.paths, role.path_hash_prefixes = None, ["0"]
    simulator.publish_all("targets")
    look(simulator).find("\ud800")


@pytest.mark.parametrize("hashes", [{"none": "00"}, {"sha256": "00"}])
def test_hashes_that_cannot_match_are_refused(hashes):
    simulator = TufSimulator()
    simulator.snapshot.meta["targets.json"].hashes = hashes
    simulator.publish("snapshot", "timestamp")

    with pytest.raises(HashError, match="targets: content is not the signed one"):
        look(simulator)
