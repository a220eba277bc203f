"""Fixtures shared by all packages."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Before anything loads torch: two test processes share two cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def market() -> Path:
    """Folder of real market data beside the checkout."""
    folder = SHARED / "market"
    if not folder.is_dir():
        pytest.skip(f"real market data absent: {folder}")
    return folder


@lru_cache
def keeps_together(file: Path) -> bool:
    """Return whether a file of tests is marked with a group."""
    return "pytest.mark.xdist_group(" in file.read_text(encoding="utf-8")


class TogetherScheduling(LoadScopeScheduling):
    """Tests of one `xdist_group` go to one process, all others wherever one is free.

    xdist's own `loadgroup` writes the group into a name that pytest 9.2 no longer reads.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return file if keeps_together(self.config.rootpath / file) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return TogetherScheduling(config, log)
