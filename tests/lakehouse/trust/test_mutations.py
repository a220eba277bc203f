"""Random damage to everything that is published: never served as something else."""

import json
import random
import shutil
from pathlib import Path

import pytest

from lakehouse.trust.approval import propose_live, sign_live
from lakehouse.trust.errors import UnverifiedError
from tests.simulators.repository import SignedLake


def flip_bit(data, rng):
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def truncate(data, rng):
    return data[: rng.randrange(len(data))]


def insert(data, rng):
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randrange(1, 20)) + data[at:]


def delete(data, rng):
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randrange(1, 20) :]


def repeat(data, rng):
    return data + data


def noise(data, rng):
    return rng.randbytes(rng.randrange(2000))


def replace_number(data, rng):
    return data.replace(b"1", rng.choice([b"2", b"1e999", b"-1", b"9" * 400]), 1)


def nest(data, rng):
    return b"[" * 100_000


def replace_value(data, rng):
    """Put an odd value somewhere into a JSON document."""
    try:
        document = json.loads(data)
    except ValueError:
        return flip_bit(data, rng)
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = rng.choice(keys)
        if (
            not isinstance(place[key], dict | list)
            or not place[key]
            or rng.random() < 0.2
        ):
            break
        place = place[key]
    odd = [None, True, -1, 0, 2**70, 1.5, "", "\ud800", "../x", [], {}, [[]], "a" * 99]
    place[key] = rng.choice(odd)
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def drop_field(data, rng):
    """Leave a field of a JSON document out."""
    try:
        document = json.loads(data)
        place = rng.choice([document, document.get("signed", document)])
        place.pop(rng.choice(list(place)))
    except (ValueError, AttributeError, IndexError):
        return truncate(data, rng)
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


MUTATIONS = (
    flip_bit,
    truncate,
    insert,
    delete,
    repeat,
    noise,
    replace_number,
    nest,
    replace_value,
    drop_field,
)


def batter(tmp_path, n_mutations, seed):
    """Damage one published file at a time; return how often a client refused."""
    rng = random.Random(seed)
    lake = SignedLake(tmp_path)
    lake.publish(lake.manifest("a", range(50)), lake.manifest("b"))
    propose_live(lake.repository, [lake.manifest("c", [7, 8])])
    sign_live(lake.repository, "live-1")
    sign_live(lake.repository, "live-2")
    client = lake.client("state")
    truth = payload(client.refresh())
    lake.repository.resign()
    files = [
        path
        for folder in ("artefacts/metadata", "artefacts/targets", "tables")
        for path in sorted(Path(lake.root, folder).rglob("*"))
        if path.is_file()
    ]
    n_refused = 0
    for number in range(n_mutations):
        path = rng.choice(files)
        original = path.read_bytes()
        path.write_bytes(rng.choice(MUTATIONS)(original, rng))
        n_refused += look(lake, None, truth)
        if number % 4 == 0:
            state = f"state-{number}"
            shutil.copytree(tmp_path / "state", tmp_path / state)
            n_refused += look(lake, state, truth)
            shutil.rmtree(tmp_path / state)
        path.write_bytes(original)
    assert payload(lake.client("state").refresh()) == truth
    return n_refused


def look(lake, state, truth):
    """Let a client look; return 1 if it refused, 0 if it served the truth."""
    client = lake.client(state)
    assert state is None or payload(client.restore()) == truth
    try:
        served = client.refresh()
    except UnverifiedError as error:
        refusal = error
        served = client.snapshot
    else:
        refusal = None
    assert refusal is None or (refusal.reason and "\n" not in str(refusal))
    assert served is not None or (state is None and refusal is not None)
    assert served is None or payload(served) == truth
    return int(refusal is not None)


def payload(snapshot):
    return {
        kind: (a.manifest_sha256, a.role, a.table.to_pydict())
        for kind, a in snapshot.artefacts.items()
    }


def test_no_random_damage_is_served(tmp_path):
    assert batter(tmp_path, 100, seed=20261122) > 60


@pytest.mark.full
def test_no_random_damage_is_served_in_two_thousand(tmp_path):
    assert batter(tmp_path, 2000, seed=7) > 1200
