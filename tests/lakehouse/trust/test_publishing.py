"""Publishing: versions, expiries, pruning, key changes, approval, two writers."""

import functools
import http.server
import json
from datetime import UTC, datetime, timedelta

import pytest
from tuf.api.metadata import Metadata
from tuf.ngclient import Updater

from lakehouse.clock import Clock
from lakehouse.errors import CommitConflictError, StoreError
from lakehouse.trust import ceremony
from lakehouse.trust.approval import Proposal, propose_live, sign_live, staged_proposal
from lakehouse.trust.errors import (
    KeyPolicyError,
    KeyStoreError,
    PublishError,
    SignatureError,
    UnverifiedError,
)
from lakehouse.trust.keys import KeyStore
from lakehouse.trust.pruning import pinned_versions
from lakehouse.trust.publishing import Repository
from tests.simulators.repository import START, SignedLake, serving, signer


@pytest.fixture
def lake(tmp_path):
    return SignedLake(tmp_path)


def signed(lake, name):
    return json.loads((lake.artefacts / "metadata" / name).read_bytes())["signed"]


def test_an_empty_repository_verifies(lake):
    snapshot = lake.client().refresh()

    assert dict(snapshot.artefacts) == {}
    assert lake.repository.is_initialised
    assert not lake.repository.init()


def test_nothing_is_published_without_a_repository(tmp_path):
    repository = Repository(
        str(tmp_path / "lake"), KeyStore(tmp_path / "keys"), Clock()
    )

    assert not repository.is_initialised
    with pytest.raises(PublishError, match="no repository here"):
        repository.resign()


def test_keys_under_the_lake_are_refused(tmp_path):
    with pytest.raises(KeyStoreError, match="may not lie under"):
        Repository(str(tmp_path), KeyStore(tmp_path / "keys"), Clock())


def test_expiries_are_counted_from_the_injected_clock(lake):
    lake.publish()

    expected = {
        "1.root.json": timedelta(days=365),
        "1.targets.json": timedelta(days=30),
        "2.shadow.json": timedelta(days=2),
        "2.snapshot.json": timedelta(days=7),
        "timestamp.json": timedelta(hours=2),
    }
    for name, span in expected.items():
        assert signed(lake, name)["expires"] == (START + span).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        )


def test_a_report_says_what_is_published(lake):
    manifest = lake.manifest()

    report = lake.repository.publish([manifest])

    assert report.targets == {"prices": manifest.sha256}
    assert report.expires == START + timedelta(hours=2)
    assert lake.repository.manifests() == {"prices": manifest}
    assert lake.repository.manifests("live") == {}


def test_publishing_one_kind_leaves_the_others(lake):
    lake.publish(lake.manifest("a"), lake.manifest("b"))
    lake.publish(lake.manifest("a", version=1))

    versions = {
        kind: m.table_version for kind, m in lake.repository.manifests().items()
    }
    assert versions == {"a": 1, "b": 0}


def test_publishing_never_goes_back(lake):
    lake.publish(lake.manifest(version=3))
    with pytest.raises(PublishError, match="version 2 is older than the published 3"):
        lake.publish(lake.manifest(version=2))
    later = lake.manifest(version=4)
    lake.wait(hours=-1)
    with pytest.raises(PublishError, match="published_at lies after the clock"):
        lake.publish(later)
    with pytest.raises(PublishError, match="before the published"):
        lake.publish(lake.manifest(version=4))
    lake.publish(lake.manifest(version=0, table_id="made anew"))


def test_live_is_not_published_with_one_key(lake):
    with pytest.raises(PublishError, match="live: only shadow is published"):
        lake.repository.publish([lake.manifest()], "live")


def test_an_artefact_can_be_taken_back(lake):
    lake.publish()

    lake.repository.remove("prices")

    assert dict(lake.client().refresh().artefacts) == {}
    with pytest.raises(PublishError, match="prices: is not published"):
        lake.repository.remove("prices")


def test_resigning_hourly_keeps_a_repository_fresh_for_two_years(lake):
    lake.publish(lake.manifest(days=1000))
    client = lake.client("state")
    client.refresh()
    for _ in range(8):
        lake.wait(days=100)
        lake.repository.resign()
        lake.client("state").refresh()

    assert lake.repository.writer.load().root.version == 3


def test_a_root_that_nobody_here_can_renew_is_noted(lake):
    for name in ("root-2", "root-3"):
        (lake.keys.folder / "private" / f"{name}.pem").unlink()
        _forget_private(lake.keys, name)
    lake.wait(days=340)

    report = lake.repository.resign()

    assert "root expires on 2027-11-22: root 2: lacks 1 signatures" in report.notes


def _forget_private(keys, name):
    path = keys.folder / "register.json"
    entries = json.loads(path.read_bytes())
    for entry in entries:
        entry["has_private"] = entry["has_private"] and entry["name"] != name
    path.write_text(json.dumps(entries))


def test_old_versions_are_pruned_but_never_what_is_referred_to(lake):
    lake.publish(lake.manifest("kept"))
    for version in range(25):
        lake.publish(lake.manifest(version=version))

    metadata = {path.name for path in (lake.artefacts / "metadata").iterdir()}
    assert len([name for name in metadata if ".snapshot." in name]) == 10
    assert len([name for name in metadata if ".shadow." in name]) == 10
    assert {"1.root.json", "1.targets.json", "timestamp.json"} <= metadata
    assert pinned_versions(lake.root) == {
        "artefact_kept": {0},
        "artefact_prices": set(range(15, 25)),
    }
    assert len(lake.client().refresh().artefacts) == 2


def test_what_is_not_a_manifest_pins_nothing(lake):
    lake.publish()
    (lake.artefacts / "targets/shadow/other.json").write_bytes(b"{}")

    assert pinned_versions(lake.root) == {"artefact_prices": {0}}
    assert pinned_versions(str(lake.folder / "nowhere")) == {}


def test_versions_go_on_when_the_lake_is_made_anew(lake):
    lake.publish()
    client = lake.client("state")
    before = client.refresh().version
    other = Repository(str(lake.folder / "other"), lake.keys, lake.clock)

    assert other.init()

    again = lake.client("state", root=str(lake.folder / "other"))
    assert again.refresh().version > before


def test_changed_metadata_is_not_laundered(lake):
    lake.publish()
    path = lake.artefacts / "metadata/2.shadow.json"
    metadata = Metadata.from_bytes(path.read_bytes())
    metadata.signed.targets.clear()
    path.write_bytes(metadata.to_bytes())

    with pytest.raises(UnverifiedError, match="shadow"):
        lake.repository.resign()


def test_a_damaged_manifest_is_repaired_by_the_next_publication(lake):
    manifest = lake.manifest()
    lake.publish(manifest)
    (path,) = (lake.artefacts / "targets/shadow").iterdir()
    path.write_bytes(b"damaged")
    with pytest.raises(UnverifiedError, match=r"shadow/prices\.json"):
        lake.repository.manifests()

    lake.publish(manifest)

    assert lake.client().refresh().artefacts["prices"].manifest == manifest


def test_a_snapshot_left_by_a_kill_is_completed(lake):
    lake.publish()
    before = (lake.artefacts / "metadata/timestamp.json").read_bytes()
    lake.publish(lake.manifest(values=[9], version=1))
    (lake.artefacts / "metadata/timestamp.json").write_bytes(before)
    assert lake.client().refresh().artefacts["prices"].version == 0

    lake.repository.resign()

    assert lake.client().refresh().artefacts["prices"].version == 1


def test_a_snapshot_that_somebody_else_left_is_not_taken(lake):
    lake.publish()
    (lake.artefacts / "metadata/3.snapshot.json").write_bytes(b"{}")

    lake.repository.resign()

    assert lake.client().refresh().artefacts["prices"].version == 0


def test_an_init_that_was_killed_can_be_repeated(lake):
    (lake.artefacts / "metadata/timestamp.json").unlink()
    (lake.keys.folder / "published.json").unlink()

    assert lake.repository.init()
    assert dict(lake.client().refresh().artefacts) == {}


def test_damaged_memory_of_versions_is_not_overlooked(lake):
    (lake.keys.folder / "published.json").write_bytes(b"[]")

    with pytest.raises(KeyStoreError, match="not a record of published versions"):
        lake.repository.resign()


def test_without_its_key_a_role_cannot_be_signed(lake):
    _forget_private(lake.keys, "timestamp")

    with pytest.raises(KeyStoreError, match="timestamp: none of its signing keys"):
        lake.repository.resign()


def test_a_writer_past_the_lock_is_noticed(lake):
    repository = lake.repository

    def change(state):
        path = lake.artefacts / "metadata/timestamp.json"
        path.write_bytes(path.read_bytes() + b"\n")
        state.changed.add("shadow")

    with pytest.raises(CommitConflictError, match="kept winning"):
        repository.update(change)


def test_a_lake_that_cannot_be_written_is_said_in_one_line(lake):
    (lake.artefacts / "metadata").rename(lake.artefacts / "moved")
    (lake.artefacts / "metadata").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written"):
        lake.repository.resign()
    (lake.folder / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written"):
        Repository(str(lake.folder / "file"), lake.keys, lake.clock).init()


def test_the_stock_client_updates_and_downloads(tmp_path):
    lake = SignedLake(tmp_path)
    lake.now = datetime.now(UTC)
    lake.publish()
    ceremony.rotate(lake.repository, "timestamp")
    handler = functools.partial(_Quiet, directory=str(lake.artefacts))
    for name in ("metadata", "targets"):
        (tmp_path / name).mkdir()
    (tmp_path / "metadata/root.json").write_bytes(lake.keys.trusted_root())

    with serving(handler) as address:
        updater = Updater(
            str(tmp_path / "metadata"),
            f"{address}/metadata/",
            str(tmp_path / "targets"),
            f"{address}/targets/",
            bootstrap=None,
        )
        updater.refresh()
        info = updater.get_targetinfo("shadow/prices.json")
        path = updater.download_target(info)

    with open(path, "rb") as file:  # noqa: PTH123
        assert file.read() == lake.repository.manifests()["prices"].to_bytes()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Keep quiet."""


# --- keys --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["timestamp", "snapshot", "targets", "shadow", "root-1"]
)
def test_clients_follow_the_rotation_of_a_key(lake, name):
    lake.publish()
    client = lake.client("state")
    client.refresh()
    old = lake.keys.record(name).keyid

    ceremony.rotate(lake.repository, name)

    assert client.refresh().artefacts["prices"].version == 0
    assert lake.client().refresh().artefacts["prices"].version == 0
    assert old not in ceremony.roles_of(lake.repository)
    lake.publish(lake.manifest(version=1))
    assert client.refresh().artefacts["prices"].version == 1


def test_a_rotation_killed_before_its_root_leaves_a_working_repository(lake):
    lake.publish()
    ceremony.rotate(lake.repository, "timestamp")
    (lake.artefacts / "metadata/2.root.json").unlink()

    assert lake.client().refresh().artefacts["prices"].version == 0
    lake.repository.resign()


@pytest.mark.parametrize("name", ["timestamp", "shadow"])
def test_a_rotation_that_stopped_at_the_key_folder_goes_on_with_its_pair(lake, name):
    lake.publish()
    old, new = lake.keys.rotate(name)  # and killed before anything was signed

    ceremony.rotate(lake.repository, name)

    assert lake.keys.record(name).keyid == new.keyid
    roles = ceremony.roles_of(lake.repository)
    assert old.keyid not in roles
    assert new.keyid in roles
    assert lake.client().refresh().artefacts["prices"].version == 0
    ceremony.rotate(lake.repository, name)
    assert lake.keys.record(name).keyid != new.keyid


def test_every_role_has_its_keys(lake):
    roles = ceremony.roles_of(lake.repository)
    by_name = {r.name: roles[r.keyid] for r in lake.keys.list_keys()}

    assert by_name["root-2"] == ("root",)
    assert by_name["shadow"] == ("shadow",)
    assert by_name["live-3"] == ("live",)


def test_an_approver_can_be_enrolled_and_revoked(lake):
    pem_owner = lake.keys.create("live-4", owner="approver-4")

    ceremony.enrol(lake.repository, "live", pem_owner)
    assert ceremony.roles_of(lake.repository)[pem_owner.keyid] == ("live",)
    ceremony.revoke(lake.repository, "live-4")

    assert pem_owner.keyid not in ceremony.roles_of(lake.repository)
    with pytest.raises(KeyStoreError, match="live-4"):
        lake.keys.record("live-4")


def test_enrolment_rules_are_kept(lake):
    with pytest.raises(PublishError, match="role 'other': allowed are root"):
        ceremony.enrol(lake.repository, "other", lake.keys.record("live-1"))
    with pytest.raises(KeyPolicyError, match="live: live-1 is enrolled already"):
        ceremony.enrol(lake.repository, "live", lake.keys.record("live-1"))
    with pytest.raises(KeyPolicyError, match="a key of shadow may not sign live"):
        ceremony.enrol(lake.repository, "live", lake.keys.record("shadow"))
    with pytest.raises(PublishError, match="approvers make their own keys"):
        ceremony.rotate(lake.repository, "live-1")
    with pytest.raises(PublishError, match="fewer keys than its threshold"):
        ceremony.revoke(lake.repository, "targets")
    lake.keys.create("idle", owner="me")
    with pytest.raises(PublishError, match="'idle': has no role to be rotated"):
        ceremony.rotate(lake.repository, "idle")
    with pytest.raises(PublishError, match="'idle': has no role at all"):
        ceremony.revoke(lake.repository, "idle")
    with pytest.raises(PublishError, match="has no role root"):
        ceremony.revoke(lake.repository, "live-1", role="root")
    assert lake.repository.writer.load().root.version == 1


def test_too_few_owners_may_not_remain(lake):
    second = lake.keys.create("live-1b", owner="approver-1")
    ceremony.enrol(lake.repository, "live", second)
    ceremony.revoke(lake.repository, "live-2", role="live")

    with pytest.raises(KeyPolicyError, match="1 distinct owners, required 2"):
        ceremony.revoke(lake.repository, "live-3")


def test_a_root_gathers_its_owners_signatures(lake):
    for name in ("root-2", "root-3"):
        _forget_private(lake.keys, name)
    new = lake.keys.create("root-4", owner="owner-4")

    with pytest.raises(PublishError, match="lacks 1 signatures; staged for its owners"):
        ceremony.enrol(lake.repository, "root", new)
    assert lake.repository.writer.load().root.version == 1
    from lakehouse.trust.keys import load_signer

    second = load_signer(lake.keys.folder / "private/root-2.pem", owner="owner-2")
    stranger = signer(930)
    assert ceremony.sign_root(lake.repository, stranger) == 1
    report = ceremony.sign_root(lake.repository, second)

    assert report.version == 2
    assert ceremony.roles_of(lake.repository)[new.keyid] == ("root",)
    lake.client().refresh()
    with pytest.raises(PublishError, match="root: none is staged"):
        ceremony.sign_root(lake.repository, "root-1")


def test_a_staged_root_that_was_overtaken_is_refused(lake):
    for name in ("root-2", "root-3"):
        _forget_private(lake.keys, name)
    new = lake.keys.create("root-4", owner="owner-4")
    with pytest.raises(PublishError, match="staged"):
        ceremony.enrol(lake.repository, "root", new)
    staged = (lake.artefacts / "staged/root.json").read_bytes()
    path = lake.keys.folder / "register.json"
    path.write_text(path.read_text().replace("false", "true"))
    ceremony.rotate(lake.repository, "timestamp")
    (lake.artefacts / "staged/root.json").write_bytes(staged)

    with pytest.raises(PublishError, match="another version was released meanwhile"):
        ceremony.sign_root(lake.repository, "root-1")


# --- approval ----------------------------------------------------------------


def test_live_needs_two_owners(lake):
    manifest = lake.manifest(values=[7])

    proposal = propose_live(lake.repository, [manifest])
    assert (proposal.missing, proposal.changed) == (2, ("prices",))
    assert dict(lake.client().refresh().artefacts) == {}
    first = sign_live(lake.repository, "live-1")
    assert isinstance(first, Proposal)
    assert (first.missing, first.approved_by) == (1, ("approver-1",))
    assert staged_proposal(lake.repository) == first
    assert dict(lake.client().refresh().artefacts) == {}

    report = sign_live(lake.repository, lake.keys.signer("live-2"))

    assert report.version == 2
    assert lake.client().refresh().artefacts["prices"].role == "live"
    assert staged_proposal(lake.repository) is None
    assert lake.repository.manifests("live") == {"prices": manifest}


def test_nobody_approves_twice_or_for_themselves_or_uninvited(lake):
    with pytest.raises(PublishError, match="nothing is staged"):
        sign_live(lake.repository, "live-1")
    propose_live(lake.repository, [lake.manifest(author="approver-1")])
    with pytest.raises(KeyPolicyError, match="may not approve their own candidate"):
        sign_live(lake.repository, "live-1")
    with pytest.raises(KeyPolicyError, match="is not enrolled for approvals"):
        sign_live(lake.repository, "shadow")
    sign_live(lake.repository, "live-2")
    with pytest.raises(KeyPolicyError, match="approver-2 approved already"):
        sign_live(lake.repository, "live-2")
    sign_live(lake.repository, "live-3")

    assert lake.client().refresh().artefacts["prices"].role == "live"


def test_a_signer_with_a_borrowed_id_is_refused(lake):
    propose_live(lake.repository, [lake.manifest()])
    borrowed = lake.keys.signer("live-1")
    borrowed.public_key.keyid = "f" * 64

    with pytest.raises(KeyPolicyError, match="key id is not the enrolled one"):
        sign_live(lake.repository, borrowed)


def test_live_can_be_renewed_and_emptied(lake):
    for manifests, without in (([lake.manifest()], []), ([], []), ([], ["prices"])):
        propose_live(lake.repository, manifests, without=without)
        sign_live(lake.repository, "live-1")
        sign_live(lake.repository, "live-2")

    assert dict(lake.client().refresh().artefacts) == {}
    with pytest.raises(PublishError, match="prices: is not live"):
        propose_live(lake.repository, [], without=["prices"])


def test_an_overtaken_proposal_is_refused(lake):
    propose_live(lake.repository, [lake.manifest()])
    sign_live(lake.repository, "live-1")
    staged = (lake.artefacts / "staged/live.json").read_bytes()
    sign_live(lake.repository, "live-2")
    (lake.artefacts / "staged/live.json").write_bytes(staged)

    with pytest.raises(PublishError, match="a newer version was approved meanwhile"):
        sign_live(lake.repository, "live-3")


def test_a_key_that_live_rests_on_is_not_revoked_before_others_approve(lake):
    propose_live(lake.repository, [lake.manifest()])
    sign_live(lake.repository, "live-1")
    sign_live(lake.repository, "live-2")

    with pytest.raises(PublishError, match="have the others approve it again first"):
        ceremony.revoke(lake.repository, "live-1")
    propose_live(lake.repository, [])
    sign_live(lake.repository, "live-2")
    sign_live(lake.repository, "live-3")
    ceremony.revoke(lake.repository, "live-1")

    assert lake.client().refresh().artefacts["prices"].role == "live"


def test_resigning_does_not_touch_what_owners_signed(lake):
    propose_live(lake.repository, [lake.manifest()])
    sign_live(lake.repository, "live-1")
    sign_live(lake.repository, "live-2")
    before = (lake.artefacts / "metadata/1.live.json").read_bytes()
    for _ in range(15):
        lake.repository.resign()

    assert (lake.artefacts / "metadata/1.live.json").read_bytes() == before
    assert lake.client().refresh().artefacts["prices"].role == "live"
    lake.forge(lambda s: None, roles=["live"], names={"live": ("live-1",)})
    with pytest.raises(SignatureError, match="live: signed by 1 of 2 keys"):
        lake.client().refresh()
