"""Filtering, draws, scales and stamps."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import ForecastError
from lab.forecasters.kronos.filtering import Filter, chances
from lab.forecasters.kronos.normalise import normalise, restore, stamps
from lab.forecasters.kronos.sampling import draw, path_uniforms

AS_OF = datetime(2024, 3, 1, 12, tzinfo=UTC)


def filtered_slowly(logits, by):
    """Chances of one row as SPEC 5.1 words them."""
    scaled = logits / by.temperature
    order = torch.argsort(scaled, descending=True, stable=True)
    chance = scaled.softmax(dim=-1)
    kept, before = [], 0.0
    for place in order:
        if before > by.top_p:
            break
        kept.append(int(place))
        before += float(chance[place])
    out = torch.full_like(scaled, -torch.inf)
    out[kept] = scaled[kept]
    return out.softmax(dim=-1)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_p=st.sampled_from([0.05, 0.37, 0.9, 0.999]),
)
def test_top_p_keeps_the_entry_that_crosses_the_border(seed, temperature, top_p):
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(4, 64, generator=rng)
    by = Filter(temperature=temperature, top_p=top_p)
    ours = chances(logits, by)
    for row, found in zip(logits, ours, strict=True):
        expected = filtered_slowly(row.double(), by)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


def test_equals_at_the_border_are_dropped_as_a_sort_orders_them():
    logits = torch.zeros(3, 8)
    logits[1, 5] = 1.0
    logits[2] = torch.arange(8.0)
    found = chances(logits, Filter(top_p=0.5))
    assert ((found > 0).sum(dim=-1) == torch.tensor([5, 4, 1])).all()
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(3))


def test_equals_of_the_kth_largest_all_survive():
    logits = torch.tensor([[3.0, 1.0, 1.0, 1.0, 0.0]])
    assert (chances(logits, Filter(top_k=2)) > 0).sum() == 4
    assert (chances(logits, Filter(top_k=99)) > 0).all()
    assert (chances(logits, Filter(top_k=1)) > 0).sum() == 1


def test_draws_have_the_frequencies_of_the_chances():
    chance = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    uniforms = torch.linspace(0, 1 - 1e-9, 10_001, dtype=torch.float64)
    found = draw(chance.expand(10_001, 6), uniforms)
    share = torch.bincount(found, minlength=6) / 10_001
    torch.testing.assert_close(share, chance, rtol=0, atol=2e-3)


def test_draws_from_what_is_no_chance_are_refused():
    with pytest.raises(ForecastError, match="not finite"):
        draw(torch.full((1, 4), torch.nan), torch.zeros(1, dtype=torch.float64))


def uniforms(**changes):
    name = {
        "seed": 1, "symbol": "BTC", "timeframe": "1h", "as_of": AS_OF, "n_paths": 5,
        "horizon": 4,
    }  # fmt: skip
    return path_uniforms(**{**name, **changes})


def test_draws_of_a_path_depend_on_its_name_alone():
    base = uniforms()
    np.testing.assert_array_equal(uniforms(n_paths=20)[:5], base)
    np.testing.assert_array_equal(uniforms(horizon=9)[:, :8], base)
    for change in (
        {"seed": 2},
        {"symbol": "ETH"},
        {"timeframe": "1d"},
        {"as_of": AS_OF.replace(minute=1)},
    ):
        assert not np.isin(uniforms(**change), base).any()
    assert len(np.unique(base)) == base.size


def test_stamps_are_the_fields_that_pandas_gives():
    ts = np.arange("1969-12-20T03", "2032-03-02T00", 12_347, dtype="datetime64[m]")
    fields = pd.DatetimeIndex(ts)
    expected = np.stack(
        [fields.minute, fields.hour, fields.day_of_week, fields.day, fields.month],
        axis=1,
    )
    np.testing.assert_array_equal(stamps(ts.astype("datetime64[us]")), expected)
    with pytest.raises(ForecastError, match="missing"):
        stamps(np.array(["NaT"], dtype="datetime64[us]"))


def test_constant_columns_give_zeros_and_come_back():
    bars = np.random.default_rng(0).uniform(1, 2, (400, 6))
    bars[:, 0] = 1_234_567.8  # its float32 mean rounds to another number
    bars[:, 4] = 0.0
    x, scale = normalise(bars)
    assert (x[:, [0, 4]] == 0).all()
    back = restore(x, scale)
    np.testing.assert_array_equal(back[:, 0], np.float32(1_234_567.8))
    np.testing.assert_allclose(back, bars, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_bars_without_finite_float32_values_are_refused(value):
    bars = np.ones((5, 6))
    bars[3, 4] = value
    with pytest.raises(ForecastError, match="volume holds values"):
        normalise(bars)


def test_bars_without_rows_or_with_overflowing_variance_are_refused():
    with pytest.raises(ForecastError, match="rows of 6 columns"):
        normalise(np.zeros((0, 6)))
    huge = np.ones((4, 6))
    huge[::2, 1] = 3e38
    with pytest.raises(ForecastError, match="too large"):
        normalise(huge)
