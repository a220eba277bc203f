"""Fixtures of the lakehouse tests."""

from pathlib import Path

import pytest

from lakehouse.store import Lake
from tests.simulators.lakehouse import open_lake
from tests.simulators.s3 import s3_environment, s3_root, s3_server

__all__ = ["lake", "s3_environment", "s3_root", "s3_server"]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake in a folder."""
    return open_lake(tmp_path / "lake")
