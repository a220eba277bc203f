"""Keys of a team: three people, three folders, one lab; by verbs alone."""

import json
from pathlib import Path

import pytest

from flows.cli.app import run
from tests.flows.conftest import forget_settings
from tests.simulators.places import Place


@pytest.fixture
def team(place: Place, monkeypatch: pytest.MonkeyPatch, capsys):
    """Call a verb as the lab or as a person with a key folder of their own."""

    def call(who: str, *words: str) -> tuple[int, str]:
        monkeypatch.setenv("ALPHALAKE_KEYS", str(place.folder / who))
        forget_settings()
        status = run(list(words))
        caught = capsys.readouterr()
        return status, caught.out if status == 0 else caught.err

    return call


def enrol_owners(team, folder: Path) -> None:
    """Three people make root keys; the lab enrols their public parts."""
    assert team("keys", "init")[0] == 0
    for who in ("ann", "bob", "cyd"):
        assert team(who, "keys", "new", f"root-{who}", "--owner", who)[0] == 0
        pem = folder / f"{who}.pem"
        pem.write_text(team(who, "keys", "public", f"root-{who}")[1])
        done = team(
            *("keys", "keys", "enrol", f"root-{who}", "--pem", str(pem)),
            *("--owner", who, "--role", "root"),
        )
        assert done[0] == 0, done[1]


def test_the_owners_take_over_from_development_keys(team, place: Place):
    enrol_owners(team, place.folder)
    first = str(place.folder / "keys" / "root.json")
    assert team("keys", "keys", "revoke", "root-1")[0] == 0
    # The lab holds one root key of two from here on, then none.
    for name in ("root-2", "root-3"):
        status, said = team("keys", "keys", "revoke", name)
        assert status == 1
        assert "staged for its owners to sign" in said
        for who in ("ann", "bob"):
            status, said = team(who, "keys", "sign", f"root-{who}", "--trust", first)
            assert status == 0, said
        status, said = team("keys", "keys", "sign", "--json")
        assert (status, json.loads(said)["released"]) == (0, True)
        assert team("keys", "keys", "revoke", name)[0] == 0  # its private part
    assert not list((place.folder / "keys" / "private").glob("root-*.pem"))

    status, said = team("keys", "verify", "--history")
    assert status == 0, said
    assert team("keys", "resign")[0] == 0
    # Whoever trusts the first root alone walks to the newest.
    assert team("ann", "verify", "--trust", first)[0] == 0


def test_every_online_role_rotates_and_old_metadata_still_verifies(team):
    assert team("keys", "init")[0] == 0
    for name in ("timestamp", "snapshot", "shadow", "targets"):
        status, said = team("keys", "keys", "rotate", name)
        assert status == 0, said
        status, said = team("keys", "verify", "--history")
        assert status == 0, said
    retired = [
        one["name"]
        for one in json.loads(team("keys", "keys", "list", "--json")[1])
        if one["name"].startswith("shadow.")
    ]
    assert team("keys", "keys", "revoke", *retired)[0] == 0
    assert team("keys", "resign")[0] == 0


def test_a_key_cannot_be_known_twice_or_sign_as_a_stranger(team, place: Place):
    enrol_owners(team, place.folder)
    again = ("keys", "enrol", "again", "--pem", str(place.folder / "ann.pem"))
    status, said = team("keys", *again, "--owner", "ann")
    assert (status, said.count("\n")) == (1, 1)
    assert "already known as root-ann" in said
    assert team("keys", "keys", "revoke", "root-1")[0] == 0
    assert team("keys", "keys", "revoke", "root-2")[0] == 1  # staged
    status, said = team("keys", "keys", "sign", "live-1")
    assert status == 1
    assert "is not one of its keys" in said
    status, said = team("keys", "keys", "sign")
    assert status == 0
    assert "1 more signatures are missing" in said
