"""The compiled engine against the slow one, and what must hold of any book."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.backtest.engine import Fill, simulate
from lab.backtest.parts import asset_parts, trade_list
from lab.errors import BacktestError
from tests.lab.backtest.random_panels import START, random_panel, random_positions
from tests.lab.backtest.slow_engine import simulate_slowly

SEEDS = st.integers(0, 2**32 - 1)
FILLS = st.sampled_from(list(Fill))
SHAPES = st.tuples(st.integers(1, 120), st.integers(1, 5), st.integers(1, 4))
COLUMNS = ("gross", "cost_base", "turnover", "trades", "exposure")


def check_against_slow(seed, shape, fill):
    n_obs, n_assets, n_variants = shape
    panel = random_panel(seed, n_obs, n_assets)
    positions = random_positions(seed, n_obs, n_assets, n_variants)
    found = simulate(panel, positions, fill=fill)
    for variant in range(n_variants):
        slow = simulate_slowly(panel, positions[:, :, variant], fill.value)
        for name in COLUMNS:
            np.testing.assert_allclose(
                getattr(found, name)[:, variant], slow[name],
                rtol=1e-10, atol=1e-10, err_msg=name,
            )  # fmt: skip
    alone = simulate(panel, positions[:, :, -1], fill=fill, is_by_asset=True)
    np.testing.assert_array_equal(alone.gross[:, 0], found.gross[:, -1])
    np.testing.assert_allclose(alone.asset_gross, slow["parts"], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        alone.asset_cost_base, slow["costs"], rtol=1e-10, atol=1e-10
    )
    return found


@settings(max_examples=250, deadline=None)
@given(seed=SEEDS, shape=SHAPES, fill=FILLS)
def test_the_engine_equals_the_slow_one_on_any_panel(seed, shape, fill):
    check_against_slow(seed, shape, fill)


@pytest.mark.full
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS, shape=SHAPES, fill=FILLS)
def test_the_engine_equals_the_slow_one_on_many_panels(seed, shape, fill):
    check_against_slow(seed, shape, fill)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, shape=SHAPES, fill=FILLS, at=st.floats(0, 1))
def test_a_shorter_panel_gives_the_same_rows(seed, shape, fill, at):
    n_obs, n_assets, n_variants = shape
    panel = random_panel(seed, n_obs, n_assets)
    positions = random_positions(seed, n_obs, n_assets, n_variants)
    rows = 1 + int(at * (n_obs - 1))
    whole = simulate(panel, positions, fill=fill)
    short = simulate(panel.until(rows), positions[:rows], fill=fill)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(short, name), getattr(whole, name)[:rows])


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, shape=SHAPES, fill=FILLS, slippage=st.floats(0, 500))
def test_costs_only_subtract_and_twice_the_slippage_never_helps(
    seed, shape, fill, slippage
):
    n_obs, n_assets, n_variants = shape
    panel = random_panel(seed, n_obs, n_assets)
    found = simulate(
        panel, random_positions(seed, n_obs, n_assets, n_variants), fill=fill
    )
    assert (found.cost_base >= 0).all()
    assert (found.turnover >= 0).all()
    free, once, twice = (found.net(bps) for bps in (0, slippage, 2 * slippage))
    np.testing.assert_array_equal(free, found.gross)
    if not fill.is_compounding:
        assert (once <= free).all()
        assert (twice <= once).all()
        return
    # A book that costs have ruined earns 0 afterwards, which may beat a loss; what it
    # is worth never does.
    grown = [np.cumprod(1 + each, axis=0) for each in (free, once, twice)]
    is_alive = np.cumprod(once > -1, axis=0).astype(bool)
    assert (once <= free)[is_alive].all()
    is_alive &= np.cumprod(twice > -1, axis=0).astype(bool)
    assert (twice <= once)[is_alive].all()
    for richer, poorer in pairwise(grown):
        assert (poorer <= richer * (1 + 1e-12)).all()


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, shape=SHAPES)
def test_flipped_positions_flip_gross_pnl_on_fixed_notional(seed, shape):
    n_obs, n_assets, n_variants = shape
    panel = random_panel(seed, n_obs, n_assets)
    positions = random_positions(seed, n_obs, n_assets, n_variants)
    found = simulate(panel, positions, fill=Fill.SAME_CLOSE)
    flipped = simulate(panel, -positions, fill=Fill.SAME_CLOSE)
    np.testing.assert_array_equal(flipped.gross, -found.gross)
    np.testing.assert_array_equal(flipped.cost_base, found.cost_base)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, n_obs=st.integers(2, 60), n_assets=st.integers(1, 5))
def test_flipped_positions_flip_what_each_fill_earns_until_the_next(
    seed, n_obs, n_assets
):
    # Compounding, holdings that wait for a bar drift with the book, and the drift is
    # not symmetric: only what a fill earns while its weight is the target flips. With
    # a bar on every row, filled at the close, that is every row; filled at the open,
    # the leg from open to close.
    panel = random_panel(seed, n_obs, n_assets, is_clean=True)
    positions = random_positions(seed, n_obs, n_assets, 1)[:, :, 0]
    at_close = [
        simulate(panel, sign * positions, fill=Fill.NEXT_CLOSE).gross
        for sign in (1, -1)
    ]
    np.testing.assert_allclose(at_close[1], -at_close[0], rtol=0, atol=1e-12)
    earned = []
    for sign in (1, -1):
        gross = simulate(panel, sign * positions).gross[:, 0]
        parts = asset_parts(panel, sign * positions, fill=Fill.NEXT_OPEN, gross=gross)
        opened = 1 + parts.legs[0].sum(axis=1)
        earned.append(parts.legs[1] / opened[:, None])
    np.testing.assert_allclose(earned[1], -earned[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("fill", list(Fill))
def test_noise_in_no_alpha_out(fill):
    panel = random_panel(7, 4_000, 5, is_clean=True, size=0.005)
    positions = random_positions(8, 4_000, 5, 60)
    steps = np.diff(np.log(panel.close), axis=0, prepend=np.nan)
    trend = np.nan_to_num(np.sign(steps))[:, :, None] / 5
    positions = np.concatenate([positions, trend, -trend], axis=2)
    gross = simulate(panel, positions, fill=fill).gross
    scores = gross.mean(axis=0) / gross.std(axis=0) * np.sqrt(len(gross))
    assert abs(scores.mean()) < 0.5
    assert np.abs(scores).max() < 4
    # The same score finds the future where it is used.
    ahead = np.roll(trend[:, :, 0], -2 if fill is Fill.NEXT_CLOSE else -1, axis=0)
    ahead[-2:] = 0
    cheat = simulate(panel, ahead, fill=fill).gross
    assert cheat.mean() / cheat.std() * np.sqrt(len(cheat)) > 20


@pytest.mark.parametrize("fill", list(Fill))
def test_a_book_that_never_trades_earns_nothing(fill):
    panel = random_panel(3, 80, 4)
    found = simulate(panel, np.zeros((80, 4)), fill=fill)
    for name in COLUMNS:
        assert not getattr(found, name).any()
    assert not found.net(20).any()
    assert trade_list(panel, np.zeros((80, 4)), fill=fill) == ()


def test_next_open_is_worked_out_by_hand():
    panel = one_instrument(opens=[10, 20, 44, 50], closes=[16, 40, 40, 50])
    found = simulate(panel, np.array([[0.5], [0.5], [0.0], [0.0]]))
    # Half the book at 20 rises to 40: 1.5. At 44 it is worth 1.1 of 0.5 + 1.1 = 1.6,
    # brought back to half, 0.8, which falls by 1/11. At 50 all of it is sold.
    fell = 0.8 / 11
    grown = 1.6 - fell
    sold = (0.8 - fell) * 50 / 40
    opened = 0.8 + sold
    np.testing.assert_allclose(
        found.gross[:, 0], [0, 0.5, grown / 1.5 - 1, opened / grown - 1]
    )
    turnover = [0, 0.5, 0.3 / 1.6, sold / opened]
    np.testing.assert_allclose(found.turnover[:, 0], turnover)
    np.testing.assert_allclose(found.net(10)[1, 0], (1 - 0.001 * 0.5) * 1.5 - 1)
    assert found.trades[:, 0].tolist() == [0, 1, 0, 1]


def test_fixed_notional_is_the_published_formula():
    panel = random_panel(5, 500, 3, is_clean=True)
    weights = random_positions(5, 500, 3, 1)[:, :, 0]
    returns = panel.close[1:] / panel.close[:-1] - 1
    found = simulate(panel, weights, fill=Fill.SAME_CLOSE)
    for cost in (0, 5, 10, 20):
        paid = cost * 1e-4 * np.abs(np.diff(weights, axis=0, prepend=0)).sum(axis=1)
        earned = np.concatenate([[0], (weights[:-1] * returns).sum(axis=1)])
        np.testing.assert_allclose(
            found.net(cost)[:, 0], earned - paid, rtol=0, atol=1e-14
        )


def test_a_delisted_instrument_is_closed_at_its_last_close():
    panel = one_instrument(
        opens=[10, 10, 10, np.nan, np.nan], closes=[10, 10, 5, np.nan, np.nan]
    )
    gone = replace(panel, delisted=np.array([2]))
    found = simulate(gone, np.full((5, 1), 1.0))
    assert found.gross[:, 0].tolist() == [0, 0, -0.5, 0, 0]
    np.testing.assert_allclose(found.cost_base[:, 0], [0, 1, 0.5, 0, 0])
    np.testing.assert_allclose(found.exposure[:, 0], [0, 1, 0, 0, 0])
    kept = simulate(panel, np.full((5, 1), 1.0))
    assert kept.exposure[-1, 0] == 1
    [trade] = trade_list(gone, np.full((5, 1), 1.0))
    assert (trade.exit_ts, trade.exit_price) == (gone.ts[2], 5)


def test_a_silent_instrument_is_closed_once_the_silence_is_long():
    closes = np.full(60, np.nan)
    closes[[0, 1, 2, 50]] = 10, 10, 12, 30
    panel = one_instrument(opens=closes, closes=closes)
    found = simulate(panel, np.full((60, 1), 1.0))
    assert np.flatnonzero(found.cost_base[:, 0]).tolist() == [1, 2 + 25, 50]
    np.testing.assert_allclose(found.gross[:, 0].sum(), 0.2)


def test_a_bar_of_minus_100_percent_ruins_a_long_book_and_ends_the_instrument():
    panel = one_instrument(opens=[10, 10, 10, 10], closes=[10, 10, 0, np.nan])
    for fill in (Fill.NEXT_OPEN, Fill.NEXT_CLOSE):
        long = simulate(panel, np.full((4, 1), 1.0), fill=fill)
        assert long.gross[:, 0].tolist() == [0, 0, -1, 0]
        assert long.net(20)[2:, 0].tolist() == [-1, 0]
        short = simulate(panel, np.full((4, 1), -1.0), fill=fill)
        assert short.gross[:, 0].tolist() == [0, 0, 1, 0]
        assert short.exposure[2:].tolist() == [[0], [0]]


def test_a_ruined_book_stays_flat():
    panel = one_instrument(opens=[10, 10, 30, 30, 10], closes=[10, 10, 30, 30, 10])
    found = simulate(panel, np.full((5, 1), -1.0))
    assert found.gross[:, 0].tolist() == [0, 0, -1, 0, 0]
    assert found.turnover[2:, 0].tolist() == [0, 0, 0]


def test_costs_can_ruin_a_book():
    panel = one_instrument(opens=[10] * 5, closes=[10] * 5)
    positions = np.array([[1.0], [-1.0], [1.0], [-1.0], [1.0]])
    net = simulate(panel, positions).net(6_000)
    assert net[:, 0].tolist() == [0, -0.6, -1, 0, 0]


def test_returns_survive_a_book_that_grows_beyond_all_numbers():
    closes = 2.0 ** np.arange(1020)
    opens = np.concatenate([[1.0], closes[:-1]])
    grown = simulate(one_instrument(opens=opens, closes=closes), np.ones((1020, 1)))
    np.testing.assert_array_equal(grown.gross[1:], 1.0)
    shrunk = simulate(
        one_instrument(opens=opens[::-1], closes=closes[::-1]), np.ones((1020, 1))
    )
    assert (shrunk.gross[2:] == -0.5).all()


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (np.zeros((9, 2)), r"shape \(9, 2\), not \(10, 2\)"),
        (np.zeros((10, 2, 0)), "empty"),
        (np.zeros(10), r"shape \(10,\)"),
        (np.full((10, 2), np.nan), "variant 0 at 2024-01-01T00.* not finite"),
        (np.where(np.arange(20).reshape(10, 2) == 19, np.inf, 0), "T09.* not finite"),
        (np.full((10, 2), 0.51), "absolute weights sum to 1.02, at most 1"),
        (np.full((10, 2), "a"), "must be numbers"),
    ],
)
@pytest.mark.parametrize("fill", list(Fill))
def test_positions_that_cannot_be_are_refused(positions, message, fill):
    panel = random_panel(1, 10, 2, is_clean=True)
    panel = replace(panel, ts=START + np.arange(10) * np.timedelta64(1, "h"))
    with pytest.raises(BacktestError, match=message):
        simulate(panel, positions, fill=fill)


@pytest.mark.parametrize(
    ("opens", "closes", "message"),
    [
        ([10, 10, 10], [10, -1, 10], "close -1.0, must be positive"),
        ([10, 10, 10], [10, np.inf, 10], "close inf"),
        ([10, np.nan, 10], [10, 10, 10], "open nan, must be positive"),
        ([10, 0, 10], [10, 10, 10], "open 0.0, must be positive"),
        ([10, 10, 10], [10, 0, 10], "close of 0 must be the end"),
        ([10, 10, 10], [0, 10, 10], "close of 0 must be the end"),
        ([10, 0, 0], [10, 0, 0], "open 0"),
    ],
)
def test_prices_that_cannot_be_are_refused(opens, closes, message):
    with pytest.raises(BacktestError, match=message):
        simulate(one_instrument(opens=opens, closes=closes), np.zeros((3, 1)))


def test_slippage_below_zero_is_refused():
    found = simulate(random_panel(1, 10, 2), np.zeros((10, 2)))
    with pytest.raises(BacktestError, match="slippage -1 bps"):
        found.net(-1)


def test_parts_and_trades_are_of_one_variant():
    panel = random_panel(1, 10, 2)
    with pytest.raises(BacktestError, match="of 3 variants"):
        simulate(panel, np.zeros((10, 2, 3)), is_by_asset=True)
    with pytest.raises(BacktestError, match="of 3 variants"):
        trade_list(panel, np.zeros((10, 2, 3)))


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS, shape=SHAPES, fill=FILLS)
def test_trades_add_up_to_the_book(seed, shape, fill):
    n_obs, n_assets, _ = shape
    panel = random_panel(seed, n_obs, n_assets)
    positions = random_positions(seed, n_obs, n_assets, 1)
    found = simulate(panel, positions, fill=fill)
    trades = trade_list(panel, positions, fill=fill)
    total = sum(trade.gross for trade in trades), sum(t.cost_base for t in trades)
    np.testing.assert_allclose(
        total, (found.gross.sum(), found.cost_base.sum()), rtol=1e-9, atol=1e-9
    )
    for trade in trades:
        assert np.isnat(trade.exit_ts) or trade.exit_ts >= trade.entry_ts
        assert 0 < trade.weight < 1e6
    for symbol in panel.symbols:
        own = [trade for trade in trades if trade.symbol == symbol]
        for earlier, later in pairwise(own):
            assert earlier.exit_ts <= later.entry_ts


def test_a_flip_ends_one_trade_and_begins_the_next():
    panel = one_instrument(opens=[10, 10, 11, 12], closes=[10, 11, 12, 12])
    first, second = trade_list(panel, np.array([[0.5], [-0.5], [0.0], [0.0]]))
    assert (first.side, second.side) == ("long", "short")
    assert (first.entry_price, first.exit_price) == (10, 11)
    assert (second.entry_price, second.exit_price) == (11, 12)
    assert first.exit_ts == second.entry_ts == panel.ts[2]
    np.testing.assert_allclose(first.gross, 0.05)


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.int64])
def test_other_number_types_mean_the_same(dtype):
    panel = random_panel(2, 100, 1)
    positions = np.sign(random_positions(2, 100, 1, 3))
    found = simulate(panel, positions.astype(dtype))
    np.testing.assert_array_equal(found.gross, simulate(panel, positions).gross)


def one_instrument(opens, closes):
    """Return an hourly panel of one instrument with these prices."""
    n_obs = len(closes)
    panel = random_panel(0, n_obs, 1, is_clean=True)
    columns = {"open": opens, "high": closes, "low": closes, "close": closes}
    arrays = {k: np.array(v, float).reshape(n_obs, 1) for k, v in columns.items()}
    return replace(panel, **arrays)
