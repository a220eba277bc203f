"""Orders as samples, base rates, weeks."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import FeatureError
from lab.learning.config import TrainingConfig
from lab.learning.walk import training_rows
from lab.learning.winprob import (
    Week,
    base_rates,
    order_samples,
    take_order,
    week_of,
    weekly_calibration,
    weeks_running,
)
from lakehouse.schema.catalogue import table_spec

NOON = datetime(2024, 3, 4, 12, tzinfo=UTC)  # a Monday
NAMES = ("a", "b")
HOUR = timedelta(hours=1)
CONFIG = TrainingConfig(feature_set="order-v1", objective="classification")


def order(number: int, **changes) -> dict:
    """An order of an hour that wins when its number is even."""
    return {
        "order_id": f"order-{number:03d}",
        "sleeve_id": "phase37",
        "symbol": "BTC-USD",
        "timeframe": "1h",
        "origin": "backfill",
        "side": "long",
        "decided_at": NOON + number * HOUR,
        "entry_ts": NOON + number * HOUR,
        "entry_price": 100.0,
        "exit_ts": NOON + (number + 1) * HOUR,
        "exit_price": 101.0,
        "size": 0.1,
        "costs": 0.0001,
        "pnl_net": 0.01 if number % 2 == 0 else -0.02,
        "features": json.dumps({"a": number, "b": None}),
        "run_id": "run",
        **changes,
    }


def table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=table_spec("bot_orders").to_arrow())


def test_closed_orders_become_rows_with_their_frozen_features():
    found = order_samples(
        table([order(2), order(0), order(1, decided_at=NOON - 63 * HOUR)]),
        names=NAMES,
        as_of=NOON + 9 * HOUR,
    )
    rows = found.samples
    assert rows.subject_id.tolist() == ["order-001", "order-000", "order-002"]
    np.testing.assert_array_equal(
        rows.features, [[1, np.nan], [0, np.nan], [2, np.nan]]
    )
    assert rows.label.tolist() == [0.0, 1.0, 1.0]
    assert rows.outcome.tolist() == [-0.02, 0.01, 0.01]
    assert rows.start[1] == np.datetime64("2024-03-04T12:00")
    assert rows.start[0] == np.datetime64("2024-03-01T21:00")
    assert rows.end[1] == np.datetime64("2024-03-04T13:00")


def test_an_order_teaches_only_once_it_is_closed():
    still_open = order(5, exit_ts=None, exit_price=None, pnl_net=None)
    orders = table([*map(order, range(5)), still_open])
    for n_closed in range(6):
        found = order_samples(orders, names=NAMES, as_of=NOON + n_closed * HOUR)
        assert len(found.samples) == min(n_closed, 5)


def test_an_order_decided_on_friday_knows_nothing_of_the_weekend():
    """Filled on Monday; what closed from Saturday on taught it nothing."""
    friday = datetime(2024, 3, 1, 21, tzinfo=UTC)
    monday = order(
        0, decided_at=friday, entry_ts=NOON - 12 * HOUR, exit_ts=NOON + 12 * HOUR
    )
    weekend = [
        order(
            number,
            decided_at=friday - (number + 30) * HOUR,
            entry_ts=friday - 26 * HOUR,
            exit_ts=friday + (number - 3) * 12 * HOUR,
            pnl_net=0.01,
        )
        for number in range(1, 7)
    ]
    found = order_samples(
        table([monday, *weekend]), names=NAMES, as_of=NOON + 24 * HOUR
    ).samples
    (row,) = np.flatnonzero(found.subject_id == "order-000")
    known = training_rows(found, CONFIG, moment=found.start[row])
    assert sorted(found.subject_id[known]) == ["order-001", "order-002"]
    rate = base_rates(
        found.start[[row]], settled_at=found.end, label=np.ones(len(found))
    )
    assert rate[0] == pytest.approx(3 / 4)


def test_orders_closed_later_change_nothing():
    before = table([order(number) for number in range(4)])
    after = table(
        [
            *(order(number) for number in range(4)),
            *(order(number, pnl_net=9.0, features="{}") for number in range(4, 9)),
        ]
    )
    found = [
        order_samples(one, names=NAMES, as_of=NOON + 4 * HOUR).samples
        for one in (before, after)
    ]
    np.testing.assert_array_equal(found[0].features, found[1].features)
    np.testing.assert_array_equal(found[0].outcome, found[1].outcome)


def test_orders_of_another_definition_are_counted_and_left_out():
    odd = [
        order(1, features='{"a": 1}'),
        order(2, features='{"a": 1, "b": 2, "c": 3}'),
    ]
    found = order_samples(table([order(0), *odd]), names=NAMES, as_of=NOON + 9 * HOUR)
    assert (len(found.samples), found.n_odd) == (1, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "order order-000: features: not JSON"),
        ("[1, 2]", "order order-000: features: a JSON object"),
        ('{"a": "1", "b": 2}', "'1' is no number"),
    ],
)
def test_features_that_are_no_numbers_are_refused(text, said):
    with pytest.raises(FeatureError, match=said):
        order_samples(
            table([order(0, features=text)]), names=NAMES, as_of=NOON + 9 * HOUR
        )


moments = st.lists(st.integers(0, 900), min_size=0, max_size=30)


@given(days=moments, at=st.integers(0, 1000), wins=st.randoms(use_true_random=False))
def test_a_base_rate_counts_the_trailing_year_known_at_the_moment(days, at, wins):
    label = np.array([float(wins.random() < 0.4) for _ in days])
    start = np.datetime64("2020-01-01", "us")
    settled = start + np.array(days, dtype="timedelta64[D]")
    moment = start + np.timedelta64(at, "D")
    known = (settled < moment) & (settled >= moment - np.timedelta64(365, "D"))
    expected = (label[known].sum() + 1) / (known.sum() + 2)
    found = base_rates(np.array([moment]), settled_at=settled, label=label)
    assert found[0] == pytest.approx(expected)


def test_an_order_is_taken_above_the_base_rate():
    won = {"pnl": 0.02, "costs": 0.001}
    assert take_order(0.5, 0.4, **won) == {
        "label": 1.0,
        "outcome": 0.02,
        "costs": 0.001,
    }
    assert take_order(0.4, 0.4, **won) == {"label": 1.0, "outcome": 0.0, "costs": 0.0}
    lost = take_order(0.9, 0.4, pnl=-0.01, costs=0.001)
    assert lost == {"label": 0.0, "outcome": -0.01, "costs": 0.001}


def test_weeks_that_are_over_are_measured_by_hand():
    settled = np.array(
        [
            "2024-03-04T00:00",
            "2024-03-10T23:59",
            "2024-03-11T00:00",
            "2024-03-18T00:00",
        ],
        "datetime64[us]",
    )
    weeks = weekly_calibration(
        probability=np.array([0.8, 0.4, 0.5, 0.9]),
        label=np.array([1.0, 0.0, 1.0, 1.0]),
        base_rate=np.array([0.5, 0.5, 0.25, 0.5]),
        settled_at=settled,
        until=datetime(2024, 3, 18, tzinfo=UTC),
    )
    assert [one.week.day for one in weeks] == [4, 11]
    first = weeks[0]
    assert first.n_settled == 2
    assert first.brier == pytest.approx((0.04 + 0.16) / 2)
    assert first.log_loss == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert first.baseline_log_loss == pytest.approx(np.log(2))
    assert first.ece == pytest.approx((0.2 + 0.4) / 2)
    assert weeks[1].baseline_log_loss == pytest.approx(np.log(4))


def week(number: int, *, n: int = 60, loss: float = 0.6, base: float = 0.69) -> Week:
    return Week(
        datetime(2024, 3, 4, tzinfo=UTC) + number * 7 * 24 * HOUR,
        n,
        0.2,
        loss,
        base,
        0.01,
    )


NOW = datetime(2024, 4, 3, tzinfo=UTC)  # Wednesday of the fifth week


@pytest.mark.parametrize(
    ("weeks", "won"),
    [
        ([], 0),
        ([week(0), week(1), week(2), week(3)], 4),
        ([week(1), week(2), week(3)], 3),
        ([week(0), week(1), week(2)], 0),  # the last one that is over is missing
        ([week(0), week(1), week(3)], 1),  # a week without a settled order
        ([week(0), week(1), week(2), week(3, n=49)], 0),
        ([week(0, loss=0.66), week(1), week(2), week(3)], 3),  # 0.69 / 1.05 = 0.657
        ([week(3, loss=0.657)], 1),
        ([week(3), week(4)], 1),  # one that is not over does not count
    ],
)
def test_weeks_running_are_counted_back_from_the_last_that_is_over(weeks, won):
    assert weeks_running(weeks, as_of=NOW) == won


def test_a_week_without_probabilities_is_none():
    row = {
        "week": NOW,
        "n_settled": 3,
        "brier": None,
        "log_loss": None,
        "baseline_log_loss": None,
        "ece": None,
    }
    assert week_of(row) is None
    whole = {**row, "brier": 0.2, "log_loss": 0.6, "baseline_log_loss": 0.7, "ece": 0.0}
    assert week_of(whole) == Week(NOW, 3, 0.2, 0.6, 0.7, 0.0)
