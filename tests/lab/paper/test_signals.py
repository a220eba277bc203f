"""The eight signals: within a book, without the future, silent where they know nothing."""

from dataclasses import replace

import numpy as np
import pytest

from lab.errors import PaperError
from lab.learning.feature_sets import ORDER_FEATURES
from lab.learning.feature_sets import SIGNALS as FROZEN
from lab.paper.frozen import decision_times, order_features
from lab.paper.orders import replay
from lab.paper.signals import (
    SIGNALS,
    RegimeCalls,
    signal_positions,
    winprob_positions,
)
from lab.sleeves.phase37 import Phase37
from tests.lab.sleeves.panels import rough

PANEL = rough("1d", n_obs=700)
# A price of 0 in the middle of a series is for the tests of sleeves: it cannot be traded.
PANEL = replace(
    PANEL,
    **{
        name: np.where(getattr(PANEL, name) == 0.0, 1.0, getattr(PANEL, name))
        for name in ("open", "high", "low", "close")
    },
)
CLASSES = ("crypto", "equity", "index", "fx", "equity", "fx")
CALLS = RegimeCalls(
    PANEL.known_ts[100::7],
    np.tile([0.1, 0.3, 0.6, 0.4, 0.2], 18)[: len(PANEL.ts[100::7])],
)


def test_seven_signals_are_read_off_a_panel_and_the_eighth_is_made():
    found = signal_positions(PANEL, CALLS)
    assert set(found) == set(FROZEN) == set(SIGNALS) - {"winprob"}
    for name, held in found.items():
        assert held.shape == PANEL.close.shape, name
        assert np.isfinite(held).all(), name
        assert np.abs(held).sum(axis=1).max() <= 1 + 1e-9, name
        assert held.any(), name
    bare = signal_positions(replace(PANEL, forecasts={}))
    assert set(bare) == {"trend", "reversion", "event"}


@pytest.mark.parametrize("cut", [300, 450, 699])
def test_no_signal_sees_the_future(cut):
    whole = signal_positions(PANEL, CALLS)
    part = signal_positions(PANEL.until(cut), CALLS)
    for name, held in part.items():
        assert np.array_equal(held, whole[name][:cut]), name


def test_risky_instruments_are_held_while_the_market_is_calm():
    panel = replace(PANEL, asset_classes=CLASSES, forecasts={})
    known = panel.known_ts[200:260]
    risk = np.concatenate([np.full(30, 0.1), np.full(10, 0.4), np.full(20, 0.6)])
    held = signal_positions(panel, RegimeCalls(known, risk))["regime"]
    assert not held[:200].any()
    assert held[205:230].any()
    assert held[232:239].any()
    assert not held[240:].any(), "turbulent, then no call any more"
    assert not held[:, [3, 5]].any(), "currencies are not risky"
    assert held.min() == 0.0
    calm = signal_positions(panel, RegimeCalls(known, np.full(60, 0.1)))["regime"]
    assert calm[265].any()
    assert not calm[271:].any(), "an old call says nothing"


def test_winprob_adds_to_what_it_believes_in_and_takes_nothing_back():
    baseline = np.array([0.2, -0.1, 0.3, 0.1, 0.0])
    sure = np.array([0.75, 1.0, 0.3, np.nan, 0.9])
    found = winprob_positions(baseline, sure, base_rate=0.5)
    np.testing.assert_allclose(found, [0.1, -0.1, 0.0, 0.0, 0.0])
    with pytest.raises(PaperError, match="not between 0 and 1"):
        winprob_positions(baseline, np.full(5, 1.1), base_rate=0.5)
    rare = winprob_positions(baseline, np.full(5, 0.44), base_rate=0.3)
    np.testing.assert_allclose(rare, 0.2 * baseline)
    with pytest.raises(PaperError, match="base rate 1, above 0"):
        winprob_positions(baseline, sure, base_rate=1.0)


def test_features_of_orders_are_those_of_the_deciding_row():
    targets = Phase37().positions(PANEL)
    book, closed = replay(PANEL, targets)
    orders = [*closed, *book.open_orders()]
    positions = signal_positions(PANEL, CALLS)
    found = order_features(PANEL, orders, sleeve_id="phase37", positions=positions)
    assert all(tuple(row) == ORDER_FEATURES.names for row in found)
    for order, row in list(zip(orders, found, strict=True))[::7]:
        at = int(np.searchsorted(PANEL.ts, order.decided_ts))
        assert PANEL.ts[at + 1] <= order.entry_ts
        column = PANEL.symbols.index(order.symbol)
        (decided,) = decision_times(PANEL, [order])
        assert decided == PANEL.known_ts[at] <= order.entry_ts
        alone = order_features(
            PANEL.until(at + 1),
            [order],
            sleeve_id="phase37",
            positions={k: held[: at + 1] for k, held in positions.items()},
        )
        assert alone == [row], "rows after the decision change nothing"
        assert row["side"] == np.sign(targets[at, column])
        assert row["size"] == pytest.approx(abs(targets[at, column]))
        assert row["signal_trend"] == positions["trend"][at, column]
        assert (row["sleeve_phase37"], row["sleeve_signals"]) == (1.0, 0.0)
    missing = {k: v for k, v in positions.items() if k != "kronos"}
    (one,) = order_features(PANEL, orders[:1], sleeve_id="phase37", positions=missing)
    assert one["signal_kronos"] is None
    assert order_features(PANEL, [], sleeve_id="signals", positions=positions) == []
    with pytest.raises(PaperError, match="sleeve 'x': one of phase37, signals"):
        order_features(PANEL, orders[:1], sleeve_id="x", positions=positions)
