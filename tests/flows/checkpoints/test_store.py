"""Checkpoints under a lake's root."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.checkpoints.store import CheckpointStore
from lab.errors import CheckpointError
from lakehouse.errors import StoreError

DAY = datetime(2020, 1, 1, tzinfo=UTC)


def card(created_at: datetime = DAY, cutoff: datetime | None = DAY) -> dict:
    return {
        "created_at": created_at.isoformat(),
        "cutoff": None if cutoff is None else cutoff.isoformat(),
    }


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(str(tmp_path))


def test_what_was_saved_is_loaded_with_its_card(store: CheckpointStore) -> None:
    saved = store.save("kronos-lora-fx-1h", {"a.ubj": b"1", "b.json": b"{}"}, card())
    found = store.newest("kronos-lora-fx-1h")
    assert found == saved
    assert found.files == {"a.ubj": b"1", "b.json": b"{}"}
    assert found.cutoff == DAY
    assert store.names() == ["kronos-lora-fx-1h"]


def test_the_same_bytes_are_one_version_and_keep_their_first_card(
    store: CheckpointStore,
) -> None:
    first = store.save("m", {"w": b"1"}, card())
    again = store.save("m", {"w": b"1"}, card(DAY + timedelta(days=9)))
    assert again.version == first.version
    assert [one["created_at"] for one in store.cards("m")] == [DAY.isoformat()]


def test_a_save_that_was_killed_before_its_card_does_not_exist(
    store: CheckpointStore, tmp_path: Path
) -> None:
    saved = store.save("m", {"w": b"1"}, card())
    (tmp_path / "models" / "m" / saved.version / "card.json").unlink()
    assert store.newest("m") is None


def test_an_altered_file_is_refused(store: CheckpointStore, tmp_path: Path) -> None:
    saved = store.save("m", {"w": b"1"}, card())
    place = tmp_path / "models" / "m" / saved.version
    (place / "w").write_bytes(b"2")
    with pytest.raises(CheckpointError, match=r"m \w+: w is altered"):
        store.newest("m")
    (place / "w").unlink()
    with pytest.raises(CheckpointError, match="w is missing"):
        store.newest("m")
    (place / "card.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"card\.json is damaged"):
        store.newest("m")


def test_saving_the_same_bytes_again_mends_what_was_damaged(
    store: CheckpointStore, tmp_path: Path
) -> None:
    saved = store.save("m", {"v": b"0", "w": b"1"}, card())
    place = tmp_path / "models" / "m" / saved.version
    (place / "w").write_bytes(b"2")
    (place / "v").unlink()
    assert store.save("m", {"v": b"0", "w": b"1"}, card()).version == saved.version
    assert store.load("m", saved.version).files == {"v": b"0", "w": b"1"}


def test_the_newest_that_a_decision_may_use_knows_no_more_than_it(
    store: CheckpointStore,
) -> None:
    for n in range(3):
        day = DAY + timedelta(days=10 * n)
        store.save("m", {"w": bytes([n])}, card(day, day))
    store.save("m", {"w": b"unknown"}, card(DAY + timedelta(days=90), None))
    found = store.newest("m", until=DAY + timedelta(days=15))
    assert found is not None
    assert found.files == {"w": b"\x01"}
    assert store.newest("m", until=DAY - timedelta(days=1)) is None
    newest = store.newest("m")
    assert newest is not None
    assert newest.files == {"w": b"unknown"}


def test_versions_older_than_six_months_go_but_never_the_newest(
    store: CheckpointStore,
) -> None:
    for n in range(4):
        store.save("m", {"w": bytes([n])}, card(DAY + timedelta(days=80 * n)))
    store.save("old", {"w": b"1"}, card())
    gone = store.prune(now=DAY + timedelta(days=300))
    assert len(gone) == 2
    assert [one["created_at"] for one in store.cards("m")] == [
        (DAY + timedelta(days=days)).isoformat() for days in (160, 240)
    ]
    assert len(store.cards("old")) == 1
    assert store.prune(now=DAY + timedelta(days=300)) == []


@pytest.mark.parametrize(
    ("name", "files", "given", "said"),
    [
        ("../m", {"w": b""}, card(), r"name '../m'"),
        ("m", {}, card(), "files are missing"),
        ("m", {"../w": b""}, card(), r"files \['../w'\]"),
        ("m", {"card.json": b""}, card(), r"files \['card.json'\]"),
        ("m", {"w": b""}, {"cutoff": None}, "lacks created_at"),
        ("m", {"w": b""}, {"created_at": DAY.isoformat()}, "lacks cutoff"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    store: CheckpointStore, name: str, files: dict, given: dict, said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        store.save(name, files, given)


def test_a_root_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(StoreError, match=r"models.*cannot be"):
        CheckpointStore(str(tmp_path)).save("m", {"w": b"1"}, card())


def test_an_accepted_version_stays_while_all_later_ones_were_refused(
    store: CheckpointStore,
) -> None:
    for n, is_accepted in enumerate((True, True, False, False)):
        day = DAY + timedelta(days=80 * n)
        store.save("m", {"w": bytes([n])}, {**card(day), "is_accepted": is_accepted})
    assert len(store.prune(now=DAY + timedelta(days=400))) == 2
    assert [one["is_accepted"] for one in store.cards("m")] == [True, False]
    (in_use,) = (one for one in store.cards("m") if one["is_accepted"])
    assert store.load("m", in_use["version"]).files == {"w": b"\x01"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": {"../../../../victim": "0"}}, r"file name '\.\./"),
        ({"version": "../other"}, r"of version '\.\./other'"),
    ],
)
def test_a_card_reaches_nothing_outside_its_folder(
    tmp_path: Path, change: dict, said: str
) -> None:
    store = CheckpointStore(str(tmp_path / "lake"))
    (tmp_path / "victim").write_text("stays")
    old = store.save("m", {"w": b"1"}, card())
    store.save("m", {"w": b"2"}, card(DAY + timedelta(days=1)))
    place = tmp_path / "lake" / "models" / "m" / old.version / "card.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **change}))
    with pytest.raises(CheckpointError, match=rf"card\.json is damaged: .*{said}"):
        store.prune(now=DAY + timedelta(days=400))
    assert (tmp_path / "victim").read_text() == "stays"
