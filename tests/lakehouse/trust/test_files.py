"""Durable writes and what pruning makes of odd files."""

import pytest

from lakehouse.trust.files import write_atomically
from lakehouse.trust.pruning import prune
from tests.simulators.repository import SignedLake


def test_a_write_that_fails_leaves_the_old_bytes_and_nothing_else(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "inside").write_bytes(b"old")

    with pytest.raises(OSError, match="a"):
        write_atomically(tmp_path / "a", b"new")

    assert [path.name for path in tmp_path.rglob("*")] == ["a", "inside"]


def test_pruning_passes_over_what_it_cannot_read(tmp_path):
    lake = SignedLake(tmp_path)
    for version in range(3):
        lake.publish(lake.manifest(version=version))
    metadata = lake.artefacts / "metadata"
    (metadata / "3.snapshot.json").write_bytes(b"damaged")
    (metadata / "2.shadow.json").write_bytes(b"damaged")
    (metadata / "notes.snapshot.json").write_bytes(b"no version")

    assert prune(lake.repository.writer.files, 2) == 6
    assert prune(lake.repository.writer.files, 0) == 0
    assert lake.client().refresh().artefacts["prices"].version == 2
