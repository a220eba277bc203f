import numpy as np
import pytest

from lab.drift.performance import (
    METRICS,
    Judged,
    estimate_accuracy,
    hits,
    trading_days,
)
from lab.errors import DriftError
from tests.lab.drift.simulated import START, judged

HOUR = np.timedelta64(1, "h")


def rows(seed: int, n: int, *, scale: float = 1.0) -> Judged:
    rng = np.random.default_rng(seed)
    return judged(rng, scale * rng.standard_normal((n, 2)), first=0, per_day=8)


def test_days_of_trading_are_those_of_a_plain_loop():
    found = rows(0, 100)
    days, table = trading_days(found)
    assert len(days) == 13
    for day, metrics in zip(days, table, strict=True):
        own = found.outcome[found.times.astype("datetime64[D]") == day]
        total = peak = fall = 0.0
        for one in own:
            total += one
            peak = max(peak, total)
            fall = max(fall, peak - total)
        sharpe = own.mean() / own.std(ddof=1)
        expected = [own.sum(), (own > 0).mean(), sharpe, fall, len(own)]
        np.testing.assert_allclose(metrics, expected)
    assert METRICS[-1] == "trades_count"


def test_a_day_with_one_trade_has_no_sharpe_ratio():
    one = Judged(np.array([START]), np.ones(1), np.ones(1), np.array([-0.2]))
    _, [metrics] = trading_days(one)
    assert np.isnan(metrics[2])
    np.testing.assert_allclose(metrics[[0, 1, 3, 4]], [-0.2, 0.0, 0.2, 1.0])


def test_rows_settled_early_do_not_speak_for_those_still_open():
    # Losses are known at once, gains much later: the newest days look all bad.
    found = rows(1, 400)
    label = found.label.copy()
    label[300:][label[300:] > 0] = np.nan
    ripe = Judged(found.times, found.prediction, label, found.outcome).ripe()
    assert 300 <= len(ripe.times) < 330
    assert ripe.label[:300].mean() == found.label[:300].mean()


def test_hits_are_sides_of_one_half_or_of_zero():
    times = START + np.arange(4) * HOUR
    found = Judged(
        times,
        np.array([0.6, 0.4, 0.6, -0.1]),
        np.array([1.0, 1.0, 0.0, -2.0]),
        np.ones(4),
    )
    assert hits(found, "classification").tolist() == [1.0, 0.0, 0.0, 1.0]
    assert hits(found, "regression").tolist() == [1.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_the_accuracy_of_open_predictions_is_estimated_from_their_confidence(scale):
    past, now = rows(2, 20_000), rows(3, 4_000, scale=scale)
    blind = Judged(now.times, now.prediction, np.full(4_000, np.nan), now.outcome)
    found = estimate_accuracy(past, blind, "classification")
    assert found is not None
    truth = hits(now, "classification").mean()
    assert found.accuracy == pytest.approx(truth, abs=0.03)
    assert found.n_rows == 4_000
    if scale == 1.0:
        assert abs(found.accuracy - truth) < 3 * found.standard_error


def test_known_labels_of_the_window_change_no_estimate():
    past, now = rows(4, 2_000), rows(5, 600)
    label = np.where(np.arange(600) < 300, now.label, np.nan)
    one, other = (
        estimate_accuracy(
            past, Judged(now.times, now.prediction, each, now.outcome), "classification"
        )
        for each in (label, np.where(np.isnan(label), label, 1.0 - label))
    )
    assert one == other
    assert estimate_accuracy(past, now, "classification") is None


def test_predictions_that_do_not_fit_are_refused():
    times = START + np.arange(3) * HOUR
    with pytest.raises(DriftError, match="of one length"):
        Judged(times, np.ones(3), np.ones(2), np.ones(3))
    with pytest.raises(DriftError, match="not in time order"):
        Judged(times[::-1], np.ones(3), np.ones(3), np.ones(3))
