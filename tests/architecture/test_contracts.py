"""The walls of the house: who may import whom, and where writing happens."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("lakehouse", "lab", "flows", "serve")
SOURCES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if "notebooks" not in path.parts
)
# The only modules that may import deltalake's writing functions.
WRITERS = {"write_deltalake", "CommitProperties", "Transaction"}


def imported_names(path: Path) -> set[tuple[str, str]]:
    """Return every (module, name) that a file imports, functions' bodies included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "", alias.name) for alias in node.names}
    return found


def test_sources_are_found():
    assert len(SOURCES) > 30


def test_import_contracts_hold():
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_short_enough_to_read(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("package", PACKAGES)
def test_package_inits_import_nothing(package: str):
    for path in (ROOT / package).rglob("__init__.py"):
        assert imported_names(path) == set(), f"{path} imports something"


def test_only_the_storage_behind_the_store_writes_delta_tables():
    for path in SOURCES:
        names = {
            name
            for module, name in imported_names(path)
            if module.startswith("deltalake")
        }
        if names & WRITERS:
            assert path.parent == ROOT / "lakehouse" / "storage", path


def test_nothing_loads_pickles():
    banned = {"pickle", "cloudpickle", "joblib", "dill", "shelve"}
    for path in SOURCES:
        modules = {module.split(".")[0] for module, _ in imported_names(path)}
        assert not modules & banned, path


def test_no_package_reads_the_wall_clock_but_the_clock():
    for path in SOURCES:
        if path == ROOT / "lakehouse" / "clock.py":
            continue
        calls = {
            node.func.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in {"datetime", "date", "dt"}
        }
        assert not calls & {"now", "utcnow", "today"}, f"{path} reads the wall clock"
