"""Which requests are one, when training is due, and what an alarm is answered by."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from lab.errors import LifecycleError
from lab.lifecycle.reaction import PROBATION, SPACING, Alarm, alarm_of, react
from lab.lifecycle.retraining import (
    TRIGGERS,
    check_trigger,
    due_at,
    interval_of,
    request_id,
    window_name,
)

END = datetime(2019, 6, 1, tzinfo=UTC)
LONG_AGO = END - PROBATION - timedelta(days=1)


def row(feature: str, *, is_alarm: bool = True) -> dict[str, object]:
    return {
        "model_name": "winprob",
        "version": "v1",
        "window_end": END,
        "feature": feature,
        "is_alarm": is_alarm,
    }


def alarm(*features: str) -> Alarm:
    found = alarm_of([row(name) for name in features])
    assert found is not None
    return found


def test_a_request_is_its_model_trigger_and_window():
    window = window_name("drift", END)
    name = request_id("winprob", "drift", window)
    assert name == request_id("winprob", "drift", window)
    others = {
        request_id("policy", "drift", window),
        request_id("winprob", "manual", window),
        request_id("winprob", "drift", window_name("drift", END + timedelta(1))),
    }
    assert len(others | {name}) == 4


def test_no_two_requests_share_a_name_by_how_their_parts_are_joined():
    assert request_id("a", "manual", "b/c") != request_id("a/b", "manual", "c")


def test_one_moment_is_one_window_in_every_time_zone():
    east = END.astimezone(timezone(timedelta(hours=5)))
    assert window_name("drift", east) == window_name("drift", END)
    assert window_name("manual", east) == window_name("manual", END)


def test_the_schedule_asks_once_a_day():
    late = END + timedelta(hours=23)
    assert window_name("scheduled", late) == window_name("scheduled", END)
    assert window_name("scheduled", END + timedelta(1)) != window_name("scheduled", END)


def test_a_window_without_a_time_zone_is_refused():
    with pytest.raises(LifecycleError, match="aware of their time zone"):
        window_name("drift", datetime(2019, 6, 1))  # noqa: DTZ001 - what is refused


@pytest.mark.parametrize("trigger", ["", "Drift", "cron"])
def test_an_unknown_trigger_is_refused_with_the_allowed_ones(trigger: str):
    with pytest.raises(LifecycleError, match="one of scheduled, drift, manual"):
        check_trigger(trigger)
    assert TRIGGERS == ("scheduled", "drift", "manual")


def test_a_model_is_due_an_interval_after_its_newest_version():
    trained = [END - timedelta(days=9), END - timedelta(days=2)]
    assert due_at("winprob", trained) == END + timedelta(days=5)
    assert due_at("gbm-1d", trained) == END - timedelta(days=2) + interval_of("gbm-1d")
    assert due_at("winprob", []) is None


def test_a_report_without_an_alarm_is_no_alarm():
    assert alarm_of([]) is None
    assert alarm_of([row("prediction", is_alarm=False)]) is None


def test_an_alarm_names_inputs_and_performance_apart():
    found = alarm_of(
        [
            row("win_rate"),
            row("volatility_20"),
            row("x", is_alarm=False),
            row("prediction"),
        ]
    )
    assert found == Alarm(
        "winprob", "v1", END, ("prediction", "volatility_20"), ("win_rate",)
    )
    assert found.cause == "performance"
    assert alarm("volatility_20").cause == "drift"


def test_moved_inputs_are_answered_by_training():
    for features in (
        ["volatility_20"],
        ["prediction"],
        ["volatility_20", "prediction"],
    ):
        found = react(
            alarm(*features), champion="v1", promoted_at=END, has_archived=True
        )
        assert found.action == "retrain"


def test_fewer_trades_are_a_change_of_inputs_not_of_performance():
    found = react(
        alarm("trades_count"), champion="v1", promoted_at=END, has_archived=True
    )
    assert found.action == "retrain"


def test_a_new_champion_that_earns_worse_is_taken_back():
    features = alarm("profit_total", "volatility_20")
    found = react(
        features, champion="v1", promoted_at=END - PROBATION, has_archived=True
    )
    assert found.action == "rollback"
    assert "within 60 days of its promotion" in found.why


def test_an_old_champion_that_earns_worse_in_the_same_market_is_taken_back():
    for names in (["sharpe_ratio"], ["sharpe_ratio", "prediction"]):
        found = react(
            alarm(*names), champion="v1", promoted_at=LONG_AGO, has_archived=True
        )
        assert found.action == "rollback"
        assert "no feature moved" in found.why


def test_an_old_champion_that_earns_worse_in_another_market_is_trained_anew():
    found = react(
        alarm("profit_total", "volatility_20"),
        champion="v1",
        promoted_at=LONG_AGO,
        has_archived=True,
    )
    assert found.action == "retrain"


def test_without_a_version_to_go_back_to_training_is_the_answer():
    found = react(
        alarm("profit_total"), champion="v1", promoted_at=END, has_archived=False
    )
    assert found.action == "retrain"


def test_a_lasting_drift_is_one_reason_to_train_not_one_a_day():
    moved = alarm("volatility_20")

    def answer(age: timedelta) -> str:
        return react(
            moved,
            champion="v1",
            promoted_at=LONG_AGO,
            has_archived=True,
            trained_at=END - age,
        ).action

    assert answer(timedelta(days=1)) == "wait"
    assert answer(SPACING) == "wait"
    assert answer(SPACING + timedelta(days=1)) == "retrain"


def test_a_new_candidate_does_not_keep_a_bad_champion_in_place():
    found = react(
        alarm("profit_total"),
        champion="v1",
        promoted_at=END,
        has_archived=True,
        trained_at=END,
    )
    assert found.action == "rollback"


def test_a_long_list_of_features_is_cut():
    found = react(
        alarm(*(f"x{k}" for k in range(9))),
        champion="v1",
        promoted_at=None,
        has_archived=False,
    )
    assert found.why == "x0, x1, x2, x3, x4 and 4 more moved"


def test_a_champion_does_not_answer_for_the_version_before_it():
    for features in (["profit_total"], ["volatility_20"]):
        found = react(
            alarm(*features), champion="v2", promoted_at=END, has_archived=True
        )
        assert found.action == "wait"
        assert "v1 made way for v2" in found.why
