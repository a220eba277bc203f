"""The signals add beside the baseline, under their cap, and never dilute it."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lab.errors import PaperError
from lab.paper.combine import GROSS_CAP, SignalWeights, combine
from lab.paper.orders import Book
from lab.paper.risk import DEFAULT_LIMITS, RiskLimits
from lab.paper.signals import SIGNALS

N_ASSETS = 6
NOW = datetime(2021, 3, 1, tzinfo=UTC)
held = arrays(np.float64, N_ASSETS, elements=st.floats(-1, 1)).map(
    lambda raw: raw / max(1.0, np.abs(raw).sum())
)
weight = st.floats(0, 1)


def row(signal, value, *, is_fixed=False, cap=0.25):
    return {
        "signal": signal,
        "runtime_weight": value,
        "is_fixed": is_fixed,
        "gross_cap": cap,
        "why": "w",
        "changed_at": NOW,
    }


@settings(deadline=None)
@given(
    baseline=held,
    positions=st.dictionaries(st.sampled_from(SIGNALS), held),
    weights=st.dictionaries(st.sampled_from(SIGNALS), weight),
    cap=weight,
)
def test_the_baseline_is_never_changed_and_the_cap_holds(
    baseline, positions, weights, cap
):
    found = combine(baseline, positions, SignalWeights(weights, cap))
    assert found.baseline is baseline
    gross = np.abs(found.added).sum()
    assert gross <= cap + 1e-12
    assert np.abs(found.added).max() <= DEFAULT_LIMITS.instrument + 1e-12
    assert (found.scale < 1.0) == any("scaled" in one for one in found.reached)
    if not any(weights.get(name, 0) for name in positions):
        assert gross == 0.0


def test_weights_add_and_net():
    up, down = np.array([0.04, 0, 0, 0, 0, 0]), np.array([-0.02, 0.04, 0, 0, 0, 0])
    weights = SignalWeights({"trend": 0.5, "event": 1.0, "kronos": 0.0})
    found = combine(
        np.zeros(6), {"trend": up, "event": down, "kronos": np.ones(6) / 6}, weights
    )
    np.testing.assert_allclose(found.added, [0.0, 0.04, 0, 0, 0, 0])
    assert weights.shadows == tuple(s for s in SIGNALS if s not in {"trend", "event"})


def test_a_halted_book_is_to_hold_nothing():
    weights = SignalWeights({"trend": 1.0})
    found = combine(np.zeros(6), {"trend": np.full(6, 0.01)}, weights, is_halted=True)
    assert not found.added.any()
    assert found.reached == ("drawdown: halted",)
    book = Book.empty(("A",))
    book.net_equity, book.peak = 0.89, 1.0
    assert DEFAULT_LIMITS.is_broken(book)


def test_published_weights_are_read_strictly():
    fixed = row("phase37", 1.0, is_fixed=True)
    found = SignalWeights.from_rows([fixed, row("trend", 0.1)])
    assert (found.of("trend"), found.of("kronos"), found.gross_cap) == (0.1, 0.0, 0.25)
    assert SignalWeights.from_rows([]).shadows == SIGNALS
    assert SignalWeights.from_rows([]).gross_cap == GROSS_CAP
    bad = [
        ([row("trend", 0.1)], "phase37 is not fixed at weight 1"),
        ([row("phase37", 0.5, is_fixed=True)], "phase37 is not fixed at weight 1"),
        ([fixed, row("trend", 0.1, is_fixed=True)], "trend is fixed"),
        ([fixed, row("astrology", 0.1)], "signal 'astrology': one of kronos"),
        ([fixed, row("trend", 1.5)], "trend 1.5, from 0 to 1"),
        ([fixed, row("trend", 0.1, cap=0.9)], "several gross caps"),
    ]
    for rows, match in bad:
        with pytest.raises(PaperError, match=match):
            SignalWeights.from_rows(rows)


def test_positions_that_are_no_book_are_refused():
    with pytest.raises(PaperError, match="trend: absolute weights sum to 1"):
        combine(np.zeros(6), {"trend": np.full(6, 0.2)}, SignalWeights())
    with pytest.raises(PaperError, match="phase37: positions must be 6 finite"):
        combine(np.full(6, np.nan), {}, SignalWeights())
    with pytest.raises(PaperError, match="limit instrument 0"):
        RiskLimits(instrument=0.0)
