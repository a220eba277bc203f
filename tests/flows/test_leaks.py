"""`alphalake leaks` grades its checker, judges everything, and keeps what it found."""

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest

from flows.bodies import leaks as body
from flows.bodies.ingest import ingest_bars
from flows.bodies.leaks import lake_market, run_leaks
from flows.runs import Run
from flows.wiring import open_workplace
from lab.validation.grading import Grade, KindGrade, grade_checker
from lab.validation.leaks import Answers
from lab.validation.subjects import OfPanel, real_subjects
from lakehouse.errors import RefusedError
from tests.flows.conftest import run_plainly

pytestmark = pytest.mark.xdist_group("leaks-flow")


@lru_cache
def graded(seed):
    return grade_checker(seed=seed)


def evaluations():
    rows = open_workplace().lake.read("evaluations").to_pylist()
    return {row["metric"]: row for row in rows if row["module"] == "leak-lab"}


@pytest.fixture
def short(monkeypatch):
    """One sleeve only, on a short market: the whole list is checked in the lab's tests."""
    real = body.real_subjects
    # Graded once for all tests of this file.
    monkeypatch.setattr(body, "grade_checker", lambda *, seed: graded(seed))
    monkeypatch.setattr(body, "PRACTICE_DAYS", 200)
    monkeypatch.setattr(body, "PRACTICE_HOURS", 0)
    monkeypatch.setattr(
        body,
        "real_subjects",
        lambda *asked: [one for one in real(*asked) if "phase37" in one.name],
    )


@pytest.mark.usefixtures("short")
def test_leaks_are_looked_for_on_the_lakes_own_bars_too(workplace):
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    done = run_plainly("leaks", run_leaks)
    assert done.message == (
        "no leak in 3 subjects on a practice market and the lake's own bars; checker:"
        " 72 of 72 planted leaks found, 0 false alarms on 72 honest twins"
    )
    kept = evaluations()
    assert kept["recall"]["value"] == 1.0
    assert kept["false_alarms"]["value"] == 0.0
    row = kept["leak/the lake's own bars/1d sleeve: phase37"]
    assert row["value"] == 0.0
    assert json.loads(row["detail"])["telling"] > 100
    decision = workplace.lake.read("decision_records").to_pylist()[-1]
    assert decision["agent_id"] == "leak-lab"
    assert json.loads(decision["output"]) == {"is_certified": True, "leaks": []}
    assert any(note.startswith("centred window: 12 of 12") for note in done.notes)


@pytest.mark.usefixtures("short", "workplace")
def test_a_lake_without_releases_is_no_error(monkeypatch):
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    monkeypatch.setattr(
        body,
        "real_subjects",
        lambda *asked: [
            one for one in real_subjects(*asked) if "surprises" in one.name
        ],
    )
    done = run_plainly("leaks", run_leaks)
    silent = "the lake's own bars: nothing to say: "
    assert any(
        note.startswith(silent) and "feature: release surprises" in note
        for note in done.notes
    )


@pytest.mark.usefixtures("short", "workplace")
def test_a_leak_is_refused_by_name_and_kept(monkeypatch):
    def peeks(panel):
        return np.nan_to_num(np.roll(panel.close, -1, axis=0))

    monkeypatch.setattr(
        body, "real_subjects", lambda timeframe, _: [OfPanel("peeks", timeframe, peeks)]
    )
    said = r"^1 leak: 1d peeks; 1d peeks on a practice market, cut 2018-"
    with pytest.raises(RefusedError, match=said):
        run_plainly("leaks", run_leaks)
    row = evaluations()["leak/a practice market/1d peeks"]
    assert row["value"] == 1.0
    assert json.loads(row["detail"])["first_difference"].startswith("cut 2018-")


@pytest.mark.usefixtures("workplace")
def test_a_checker_that_fails_its_examination_certifies_nothing(monkeypatch):
    failed = Grade((KindGrade("centred window", 12, 11, 12, 0, ("missed: this",)),))
    monkeypatch.setattr(body, "grade_checker", lambda *, seed: failed)
    with pytest.raises(RefusedError, match="certified: missed: this"):
        run_plainly("leaks", run_leaks)
    assert set(evaluations()) == {"recall", "false_alarms", "planted/centred window"}


@pytest.mark.usefixtures("short", "workplace")
def test_a_subject_without_a_row_is_named_and_not_certified_in_silence(monkeypatch):
    @dataclass(frozen=True)
    class Absent:
        name: str = "absent"
        timeframe: str = "1d"

        def answers(self, market, as_of):
            none = np.zeros(0, "datetime64[us]")
            return Answers(np.zeros(0, str), none, none, np.zeros((0, 1)), ("a",))

    monkeypatch.setattr(body, "real_subjects", lambda timeframe, _: [Absent()])
    done = run_plainly("leaks", run_leaks)
    assert "a practice market: nothing to say: 1d absent" in done.notes


@pytest.mark.usefixtures("workplace")
def test_an_empty_lake_has_no_bars_to_replay():
    assert lake_market(Run(open_workplace(), "test", "test-run")).ohlcv.num_rows == 0
