"""Compare, promote, roll back: who is champion, by what evidence, and when nobody moves."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from flows.bodies.compare import run_compare
from flows.bodies.model_registry import read_chain, read_registry
from flows.bodies.promotion import run_promote, run_rollback
from flows.cli.states import describe_place
from flows.runs import Outcome
from flows.wiring import open_workplace
from lab.errors import LifecycleError
from lab.lifecycle.model_stages import ModelVersion, Registry
from lakehouse.errors import InputError, RefusedError
from tests.flows.conftest import forget_settings, run_plainly
from tests.simulators.models import FIRST_DAY, enter, new_run, noise, predictions
from tests.simulators.places import Place


def registry() -> Registry:
    return read_registry(open_workplace().lake)


def champion() -> str | None:
    found = registry().champion("winprob")
    return None if found is None else found.version


def promote(version: ModelVersion) -> str:
    return run_promote(
        new_run("promote"), model="winprob", version=version.version, why="by hand"
    )


def compare(**parameters: object) -> Outcome:
    return run_plainly("compare", run_compare, **parameters)


def rollback(cause: str = "drift") -> str:
    return run_rollback(new_run("rollback"), why="it drifts", cause=cause)


def events() -> list[tuple[str, str]]:
    rows = read_chain(open_workplace().lake).to_pylist()
    return [(row["event"], row["version"]) for row in rows]


def verdicts() -> list[dict[str, object]]:
    rows = open_workplace().lake.read("decision_records").to_pylist()
    found = [row for row in rows if row["agent_id"] == "model-compare"]
    return [json.loads(row["output"]) for row in found]


def at(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    monkeypatch.setenv("ALPHALAKE_NOW", moment)
    forget_settings()


def damage(place: Place, one: ModelVersion) -> None:
    folder = Path(place.root) / "models" / one.model_name / one.version
    (folder / "model.json").write_bytes(b"{}")


def two_models() -> tuple[ModelVersion, ModelVersion]:
    old, new = enter("old"), enter("new")
    promote(old)
    return old, new


def stages() -> dict[str, str]:
    rows = open_workplace().lake.read("model_versions").to_pylist()
    return {row["version"]: row["stage"] for row in rows}


def test_a_better_challenger_becomes_champion_and_the_old_one_is_archived(
    place: Place,
):
    old, new = two_models()
    base = noise(1)
    predictions(old, base)
    predictions(new, base + 0.002)
    done = compare()
    assert done.message.startswith(f"PROMOTE: winprob {new.version} against")
    assert "standard error" in done.message
    assert champion() == new.version
    assert [one.version for one in registry().archived("winprob")] == [old.version]
    assert events()[-2:] == [("archive", old.version), ("promote", new.version)]
    evidence = json.loads(read_chain(open_workplace().lake).to_pylist()[-1]["evidence"])
    assert evidence["comparison"]["confidence"] >= 0.8
    assert evidence["comparison"]["standard_error"] > 0
    (verdict,) = verdicts()
    assert verdict["decision"] == "PROMOTE"
    assert verdict["n_rows"] == 400
    again = compare()
    assert again.message.startswith("KEEP: winprob: no version in Staging is newer")
    assert champion() == new.version


@pytest.mark.parametrize(
    "is_tuned", [("old",), ("new",)], ids=["champion", "challenger"]
)
@pytest.mark.parametrize("place_of_cutoff", [None, 250, 400])
def test_rows_that_settings_were_selected_on_are_no_witnesses(
    place: Place, is_tuned: tuple[str, ...], place_of_cutoff: int | None
):
    """Four rows a day: the search for either's settings knew the first 250, or all."""
    last = (place_of_cutoff or 1) - 1
    until = FIRST_DAY + timedelta(days=last // 4, minutes=last % 4)
    card = {"tuned_until": until.isoformat() if place_of_cutoff else None}
    old, new = (
        enter(name, **(card if name in is_tuned else {})) for name in ("old", "new")
    )
    promote(old)
    base = noise(1)
    predictions(old, base)
    predictions(new, base + 0.002)
    compare()
    (verdict,) = verdicts()
    assert verdict["n_rows"] == 400 - (place_of_cutoff or 0)
    if place_of_cutoff == 400:
        assert verdict["decision"] == "NEEDS_MORE_DATA"


def test_live_rows_are_witnesses_whatever_the_search_knew(place: Place):
    card = {"tuned_until": "2018-09-01T00:00:00+00:00"}
    old, new = enter("old"), enter("new", **card)
    promote(old)
    predictions(old, noise(1), origin="live")
    predictions(new, noise(1), origin="live")
    compare()
    assert verdicts()[0]["n_rows"] == 400


@pytest.mark.parametrize(
    ("better", "n_rows", "decision"),
    [(0.0, 400, "KEEP"), (-0.002, 400, "KEEP"), (0.002, 80, "NEEDS_MORE_DATA")],
)
def test_a_tie_a_worse_one_and_too_few_rows_move_nobody(
    place: Place, better: float, n_rows: int, decision: str
):
    old, new = two_models()
    base = noise(1)
    predictions(old, base)
    predictions(new, base[:n_rows] + better)
    before = events()
    assert compare().message.startswith(decision)
    assert events() == before
    assert champion() == old.version
    assert verdicts()[0]["decision"] == decision


def test_only_rows_that_both_predicted_out_of_sample_count(place: Place):
    old, new = two_models()
    base = noise(1)
    predictions(old, base[:200])
    predictions(new, base[:200] + 0.002)
    # In-sample, and of other subjects: neither is evidence.
    for origin in ("replay", "backfill"):
        predictions(old, base, origin=origin, prefix="seen")
        predictions(new, base + 0.01, origin=origin, prefix="seen")
    predictions(new, base, prefix="unasked")
    done = compare()
    assert done.parameters["comparison"]["n_rows"] == 200


def test_a_live_prediction_goes_over_one_out_of_fold(place: Place):
    old, new = two_models()
    base = noise(1)
    predictions(old, base)
    predictions(new, base + 0.01)
    predictions(new, base - 0.002, origin="live")
    done = compare()
    assert done.parameters["comparison"]["n_rows"] == 400
    assert done.message.startswith("KEEP")


def test_outcomes_known_later_than_as_of_change_nothing(place: Place):
    old, new = two_models()
    base = noise(1)
    predictions(old, base[:200])
    predictions(new, base[:200] + noise(2, 200))
    as_of = "2018-05-01T00:00:00+00:00"
    before = compare(as_of=as_of).parameters["comparison"]
    late = datetime(2018, 6, 1, 14, tzinfo=UTC)
    predictions(old, noise(3), first=late, prefix="late")
    predictions(new, noise(3) + 1.0, first=late, prefix="late")
    assert compare(as_of=as_of).parameters["comparison"] == before
    with pytest.raises(InputError, match="later than now"):
        compare(as_of="2019-01-01")


def test_the_first_champion_must_beat_no_model_in_profit_and_prediction(place: Place):
    poor = enter("poor")
    gains = noise(1, mean=0.002)
    predictions(poor, gains, probability=0.5)
    done = compare()
    assert done.message.startswith(f"INCONCLUSIVE: winprob {poor.version} against no")
    assert champion() is None
    good = enter("good")
    lake = open_workplace().lake
    predictions(good, gains)
    rows = lake.read("model_predictions")
    is_good = np.array(rows["version"].to_pylist()) == good.version
    told = np.where(np.array(rows["label"].to_pylist()) > 0, 0.8, 0.2)
    sure = rows.set_column(
        rows.schema.get_field_index("prediction"), "prediction", [told]
    ).filter(is_good)
    lake.upsert("model_predictions", sure)
    assert compare().message.startswith("PROMOTE")
    assert champion() == good.version


def test_a_corrupt_challenger_is_refused_and_the_champion_stays(place: Place):
    old, new = two_models()
    predictions(old, noise(1))
    predictions(new, noise(1) + 0.002)
    damage(place, new)
    with pytest.raises(RefusedError, match=r"refused: .* model.json is altered"):
        compare()
    assert champion() == old.version


def test_a_model_that_nobody_registered_is_told_in_one_line(place: Place):
    enter("a")
    for call in (
        lambda: compare(model="winprop"),
        lambda: run_rollback(new_run(), model="winprop", why="so"),
        lambda: run_promote(new_run(), model="winprop", version="x", why="so"),
    ):
        with pytest.raises(InputError, match="did you mean winprob"):
            call()
    with pytest.raises(InputError, match="no version 'x'; did you mean"):
        run_promote(new_run(), model="winprob", version="x", why="so")
    with pytest.raises(InputError, match="a reason is needed"):
        run_promote(new_run(), model="winprob", version="x", why=" ")
    with pytest.raises(InputError, match="no champion to take back"):
        rollback()
    with pytest.raises(LifecycleError, match="one of manual, drift, performance"):
        rollback("mood")


@pytest.mark.parametrize("again", ["compare", "rollback"])
def test_stages_that_a_killed_run_left_behind_are_told_by_the_next(
    place: Place, again: str
):
    old, new = two_models()
    base = noise(1)
    predictions(old, base)
    predictions(new, base + 0.002)
    lake = open_workplace().lake
    behind = lake.read("model_versions")
    compare()
    if again == "rollback":
        behind = lake.read("model_versions")
        rollback()
    true = stages()
    lake.upsert("model_versions", behind)  # killed after the chain, before the rest
    assert stages() != true
    if again == "compare":
        assert compare().message.startswith("KEEP")
    else:
        with pytest.raises(RefusedError, match="rolled back lately"):
            rollback("manual")
    assert stages() == true


def test_promoting_the_champion_again_changes_nothing(place: Place):
    old, _ = two_models()
    before = events()
    assert promote(old) == f"winprob {old.version} is the champion already"
    assert events() == before


def test_a_rollback_returns_to_the_newest_archived_that_still_verifies(place: Place):
    versions = [enter(name) for name in "abcd"]
    for one in versions:
        promote(one)
    damage(place, versions[2])
    run = new_run("rollback")
    said = run_rollback(run, why="it drifts", cause="drift")
    assert said.startswith(f"winprob {versions[1].version} is the champion again")
    assert f"{versions[2].version} was passed over" in run.notes[0]
    assert champion() == versions[1].version
    row = read_chain(open_workplace().lake).to_pylist()[-1]
    assert (row["event"], row["who"], row["why"]) == (
        "rollback",
        "rollback",
        "it drifts",
    )
    assert json.loads(row["evidence"])["cause"] == "drift"


def test_a_second_alarm_within_the_cooldown_is_recorded_and_not_acted_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    a, b, c = (enter(name) for name in "abc")
    for one in (a, b, c):
        promote(one)
    at(monkeypatch, "2018-10-02T00:00:00+00:00")
    rollback()
    assert champion() == b.version
    at(monkeypatch, "2018-10-02T23:59:59+00:00")
    before = events()
    assert rollback("performance").startswith("alarm recorded, not acted on")
    assert events() == [*before, ("alarm", b.version)]
    with pytest.raises(RefusedError, match="not again before 2018-10-03 00:00 UTC"):
        rollback("manual")
    assert events() == [*before, ("alarm", b.version)]
    assert champion() == b.version
    at(monkeypatch, "2018-10-03T00:00:00+00:00")
    rollback("performance")
    assert champion() == a.version
    # Neither of the two that were taken back is a place to return to.
    at(monkeypatch, "2018-10-05T00:00:00+00:00")
    assert "no archived version" in rollback()
    with pytest.raises(RefusedError, match="no archived version whose artefact"):
        rollback("manual")
    promote(c)
    rollback("manual")
    assert champion() == a.version


def test_the_cooldown_can_be_set(place: Place, monkeypatch: pytest.MonkeyPatch):
    for name in "abc":
        promote(enter(name))
    monkeypatch.setenv("ALPHALAKE_ROLLBACK_COOLDOWN_HOURS", "0")
    forget_settings()
    rollback()
    assert rollback().endswith("is archived")
    assert [event for event, _ in events()].count("rollback") == 2


def test_alarms_delivered_at_once_roll_back_once(place: Place):
    for name in "abcd":
        promote(enter(name))

    def deliver(number: int) -> str:
        run = new_run("rollback", f"rollback-{number}")
        return run_rollback(run, why="it drifts", cause="drift")

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(deliver, range(4)))
    assert sum("champion again" in one for one in said) == 1
    assert [event for event, _ in events()].count("rollback") == 1
    assert [event for event, _ in events()].count("alarm") == 3


def test_every_move_is_a_decision_record(place: Place):
    old, new = two_models()
    promote(new)
    rollback()
    with pytest.raises(RefusedError):
        rollback("manual")
    rows = open_workplace().lake.read("decision_records").to_pylist()
    chained = [row for row in rows if row["agent_id"] == "model-registry"]
    assert len(chained) == len(events())
    refused = [row for row in rows if row["agent_id"] == "model-rollback"]
    assert json.loads(refused[0]["output"])["decision"] == "REFUSED"
    assert all(row["ts"] - chained[0]["ts"] < timedelta(days=1) for row in rows)
    assert champion() == old.version


def test_status_names_the_champion_and_what_waits(place):
    old, new = two_models()

    state = describe_place()

    assert state.models == [
        {
            "model_name": "winprob",
            "champion": old.version,
            "staging": new.version,
            "versions": 2,
        }
    ]
    assert any(old.version in line for line in state.lines())
