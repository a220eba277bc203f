"""Fixtures shared by all packages."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def market() -> Path:
    """Folder of real market data beside the checkout."""
    folder = SHARED / "market"
    if not folder.is_dir():
        pytest.skip(f"real market data absent: {folder}")
    return folder
