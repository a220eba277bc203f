"""The notebooks run from the first cell to the last, in a lake of their own."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.simulators.places import Place

FOLDER = Path(__file__).resolve().parents[3] / "lab" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    found = Place(tmp_path, now="2018-10-01T00:00:00+00:00")
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


def printed(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(one.get("text", "") for one in cell.outputs) for cell in cells]


def test_there_is_a_notebook_from_an_idea_to_its_verdict():
    assert [path.stem for path in NOTEBOOKS] == ["from_idea_to_verdict"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
def test_a_notebook_runs_and_ends_in_the_verdict_that_it_shows(path, place):
    shown = nbformat.read(path, as_version=4)
    run = nbformat.read(path, as_version=4)
    NotebookClient(run, timeout=240, kernel_name="python3").execute()
    verdicts = re.findall(
        r"^(\w+) +(passed|not passed)", printed(run)[-1], re.MULTILINE
    )
    assert [gate for gate, _ in verdicts] == ["dsr", "reality_check", "pbo"]
    kept = re.findall(r"^(\w+) +(passed|not passed)", printed(shown)[-1], re.MULTILINE)
    assert verdicts == kept
    assert "40 rows replayed, none differs" in printed(run)[3]


def test_a_notebook_run_twice_enters_no_trial_twice(place):
    path = NOTEBOOKS[0]
    told = []
    for _ in range(2):
        run = nbformat.read(path, as_version=4)
        NotebookClient(run, timeout=240, kernel_name="python3").execute()
        told.append(printed(run)[-2])
    assert told[0].startswith("10 trials entered\n10 trials in the family")
    assert told[1].startswith("0 trials entered\n10 trials in the family")
