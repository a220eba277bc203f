"""The chain of model events says where each version stands, and nothing else does."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import LifecycleError
from lab.lifecycle.model_stages import (
    Bound,
    Registry,
    first_stage,
    registry_of,
)
from lab.lifecycle.rollback import (
    check_cause,
    cooling_until,
    rollback_targets,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def row(seq: int, event: str, version: str, **said: Any) -> dict[str, Any]:
    if event == "register":
        said = {
            "stage": "Staging",
            "metrics": {},
            "manifest": {},
            "artefact_sha256": "x",
            "run_id": "r",
        } | said
    if event == "archive":
        said = {"cause": "promotion"} | said
    return {
        "seq": seq,
        "model_name": "winprob",
        "version": version,
        "event": event,
        "evidence": json.dumps(said),
        "decided_at": START + timedelta(hours=seq),
    }


def chain(*steps: tuple[str, str] | tuple[str, str, dict[str, Any]]) -> Registry:
    rows = [
        row(seq, step[0], step[1], **(step[2] if len(step) > 2 else {}))
        for seq, step in enumerate(steps)
    ]
    return registry_of(rows)


def test_a_version_goes_through_the_stages_and_back_by_a_rollback():
    found = chain(
        ("register", "a"),
        ("promote", "a"),
        ("register", "b"),
        ("archive", "a"),
        ("promote", "b"),
        ("archive", "b", {"cause": "rollback"}),
        ("rollback", "a"),
    )
    champion = found.champion("winprob")
    assert champion is not None
    assert champion.version == "a"
    assert champion.promoted_at == START + timedelta(hours=6)
    (gone,) = found.archived("winprob")
    assert (gone.version, gone.is_withdrawn, gone.promoted_at) == ("b", True, None)
    assert found.last_rollback("winprob") == START + timedelta(hours=6)
    assert rollback_targets(found, "winprob") == ()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([("promote", "a")], "it is not registered"),
        ([("alarm", "a")], "it is not registered"),
        ([("register", "a"), ("register", "a")], "registered already"),
        ([("register", "a"), ("archive", "a")], "only the champion is archived"),
        ([("register", "a"), ("rollback", "a")], "only Archived is rolled back to"),
        ([("register", "a", {"stage": "Production"})], "at None or Staging"),
        (
            [("register", "a"), ("promote", "a"), ("promote", "a")],
            "the champion already",
        ),
        (
            [("register", "a"), ("register", "b"), ("promote", "a"), ("promote", "b")],
            "a is the champion still",
        ),
    ],
)
def test_a_row_that_no_stage_allows_is_refused_in_one_line(steps, message):
    with pytest.raises(LifecycleError, match=message):
        chain(*steps)


def test_the_challenger_is_the_newest_in_staging_that_is_newer_than_the_champion():
    steps = [("register", "a"), ("register", "b"), ("register", "c", {"stage": "None"})]
    challenger = chain(*steps).challenger("winprob")
    assert challenger is not None
    assert challenger.version == "b"
    assert chain(*steps, ("promote", "b")).challenger("winprob") is None
    assert chain(*steps, ("promote", "a")).challenger("winprob") == challenger
    assert chain().challenger("winprob") is None


def test_the_newest_archived_comes_first_and_a_withdrawn_one_is_no_target():
    found = chain(
        ("register", "a"),
        ("register", "b"),
        ("register", "c"),
        ("promote", "a"),
        ("archive", "a"),
        ("promote", "b"),
        ("archive", "b"),
        ("promote", "c"),
        ("archive", "c", {"cause": "rollback"}),
        ("rollback", "b"),
    )
    assert [one.version for one in found.archived("winprob")] == ["c", "a"]
    assert [one.version for one in rollback_targets(found, "winprob")] == ["a"]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["register", "promote", "archive", "rollback", "alarm"]),
        st.sampled_from("abc"),
    ),
    max_size=20,
)


@given(EVENTS)
def test_whatever_is_tried_there_is_at_most_one_champion(steps):
    found = Registry()
    for seq, (event, version) in enumerate(steps):
        try:
            found = found.after(row(seq, event, version))
        except LifecycleError:
            continue
        stages = [one.stage for one in found.versions("winprob")]
        assert stages.count("Production") <= 1


@pytest.mark.parametrize(
    ("metrics", "stage"),
    [
        ({"auc": 0.6, "ece": 0.01}, "Staging"),
        ({"auc": 0.52, "ece": 0.1}, "Staging"),
        ({"auc": 0.51, "ece": 0.01}, "None"),
        ({"auc": 0.6, "ece": 0.11}, "None"),
        ({"auc": 0.6}, "None"),
        ({"auc": None, "ece": 0.01}, "None"),
        ({"auc": float("nan"), "ece": 0.01}, "None"),
        ({"auc": True, "ece": 0.01}, "None"),
    ],
)
def test_a_version_is_staging_only_if_every_figure_is_known_and_within_bounds(
    metrics, stage
):
    bounds = [Bound("auc", at_least=0.52), Bound("ece", at_most=0.1)]
    found, missed = first_stage(metrics, bounds)
    assert found == stage
    assert bool(missed) == (stage == "None")
    assert first_stage(metrics, []) == ("None", ())


def test_a_cooldown_ends_at_its_hour_and_not_when_the_clock_is_set_back():
    day = timedelta(hours=24)
    assert cooling_until(None, START) is None
    assert cooling_until(START, START) == START + day
    assert cooling_until(START, START + day - timedelta(microseconds=1)) == START + day
    assert cooling_until(START, START + day) is None
    assert cooling_until(START, START - day) == START + day
    assert cooling_until(START, START, cooldown=timedelta(0)) is None
    with pytest.raises(LifecycleError, match="0 or longer"):
        cooling_until(START, START, cooldown=timedelta(hours=-1))
    with pytest.raises(LifecycleError, match="one of manual, drift, performance"):
        check_cause("mood")
