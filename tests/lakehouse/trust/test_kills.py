"""A killed publisher or client leaves a repository or a memory that works."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.simulators.repository import SignedLake

# Forks a worker for every line it reads: starting an interpreter takes longer than
# the work that is to be killed.
NURSERY = """
import os, sys
from pathlib import Path
from tests.simulators.repository import SignedLake

def work(folder, with_client):
    lake = SignedLake.__new__(SignedLake)
    lake.attach(Path(folder))
    client = lake.client("state")
    found = lake.repository.manifests().values()
    version = first = max((m.table_version for m in found), default=0)
    while True:
        version += 1
        lake.publish(lake.manifest(values=[version], version=version))
        if with_client:
            client.refresh()
        if version == first + 1:
            print("warm", flush=True)

print("ready", flush=True)
for line in sys.stdin:
    worker = os.fork()
    if worker == 0:
        work(sys.argv[1], sys.argv[2] == "client")
    print(worker, flush=True)
    os.waitpid(worker, 0)
    print("gone", flush=True)
"""


@contextmanager
def killing(folder, what):
    """Yield a function that lets a worker work for a moment and kills it."""
    rng = random.Random(5)
    nursery = subprocess.Popen(
        [sys.executable, "-c", NURSERY, str(folder), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )

    def kill_one():
        nursery.stdin.write("go\n")
        nursery.stdin.flush()
        worker = int(nursery.stdout.readline())
        assert nursery.stdout.readline() == "warm\n"
        time.sleep(rng.uniform(0, 0.12))
        os.kill(worker, signal.SIGKILL)
        assert nursery.stdout.readline() == "gone\n"

    try:
        assert nursery.stdout.readline() == "ready\n"
        yield kill_one
    finally:
        nursery.stdin.close()
        nursery.wait()
        nursery.stdout.close()


def check_after_kill(lake, last):
    snapshot = lake.client().refresh()
    artefact = snapshot.artefacts["prices"]
    assert artefact.table["value"].to_pylist() == [artefact.version]
    assert artefact.version >= last
    lake.repository.resign()
    again = lake.client().refresh().artefacts["prices"]
    assert again.version in {artefact.version, artefact.version + 1}
    return again.version


def publisher_kills(tmp_path, n_kills):
    lake = SignedLake(tmp_path)
    lake.publish(lake.manifest(values=[0]))
    last = 0
    with killing(tmp_path, "publisher") as kill_one:
        for _ in range(n_kills):
            kill_one()
            last = check_after_kill(lake, last)
    return last


def client_kills(tmp_path, n_kills):
    lake = SignedLake(tmp_path)
    lake.publish(lake.manifest(values=[0]))
    lake.client("state").refresh()
    last = 0
    with killing(tmp_path, "client") as kill_one:
        for _ in range(n_kills):
            kill_one()
            restored = lake.client("state", root="/nonexistent").restore()
            artefact = restored.artefacts["prices"]
            assert artefact.table["value"].to_pylist() == [artefact.version]
            assert artefact.version >= last
            check_after_kill(lake, artefact.version)
            last = lake.client("state").refresh().artefacts["prices"].version
            assert last >= artefact.version
    return last


def test_a_killed_publisher_leaves_a_working_repository(tmp_path):
    assert publisher_kills(tmp_path, 6) >= 6


def test_a_killed_client_restores_what_it_accepted(tmp_path):
    assert client_kills(tmp_path, 6) >= 6


@pytest.mark.full
def test_a_hundred_kills_of_publisher_and_client(tmp_path):
    assert publisher_kills(tmp_path / "publisher", 50) > 50
    assert client_kills(tmp_path / "client", 50) > 50
