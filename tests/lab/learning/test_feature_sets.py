"""Feature sets: no look-ahead, names and hashes that hold, unknown told as unknown."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import FeatureError
from lab.learning import features as formulas
from lab.learning.feature_sets import (
    BAR_FEATURES,
    FEATURE_SETS,
    ORDER_EXTRAS,
    ORDER_FEATURES,
    Feature,
    FeatureSet,
    expand,
    feature_set,
)
from lab.learning.schema import FeatureSchema
from lab.sleeves.own_bars import OwnBars
from tests.lab.sleeves.panels import panel, rough
from tests.lab.test_no_look_ahead_sleeves import futures

SYMBOLS = ("US500", "TLT", "XAUUSD", "BTCUSDT", "EURUSD", "SPY")  # SPY: three bars
SYMBOL_FEATURES = (
    *expand("symbol", symbols=("TLT", "VIX"), windows=(5, 20)),
    *expand("symbol_volatility", symbols=("TLT",), windows=(5,)),
    *expand("forecast_skew", models=("kronos",)),
)
EVERY = FeatureSet("every", 1, (*ORDER_FEATURES.features, *SYMBOL_FEATURES))


def market(timeframe, n_obs):
    """The rough panel with leaders' names, volumes and ranges."""
    found = rough(timeframe, n_obs=n_obs)
    rng = np.random.default_rng(3)
    spread = np.exp(np.abs(rng.normal(0, 0.01, found.close.shape)))
    volume = rng.gamma(2.0, 100.0, found.close.shape)
    volume[:, 4] = np.nan
    volume[50:80, 0] = 0.0
    return replace(
        found,
        symbols=SYMBOLS,
        high=found.close * spread,
        low=found.close / spread,
        volume=volume,
    )


PANELS = {"1d": market("1d", 500), "1h": market("1h", 1500)}


def leaks(chosen, market, cut):
    """Names of the features that change when what comes after the cut does."""
    expected = chosen.compute(market)[:cut]
    others = [market.until(cut)]
    others += [one for _, one in futures(market, cut, np.random.default_rng(cut))]
    later = market.volume.copy()
    later[cut:] = 7.0
    others.append(replace(market, volume=later, high=_changed(market.high, cut)))
    found = set()
    for other in others:
        values = chosen.compute(other)[:cut]
        same = (values == expected) | (np.isnan(values) & np.isnan(expected))
        is_other = ~same.all(axis=(0, 1))
        found |= {chosen.names[k] for k in np.flatnonzero(is_other)}
    return found


def _changed(values, cut):
    found = values.copy()
    found[cut:] *= 1.5
    return found


@pytest.mark.parametrize("timeframe", ["1d", "1h"])
def test_no_feature_changes_when_the_future_does(timeframe):
    found = PANELS[timeframe]

    @settings(max_examples=6, deadline=None, derandomize=True)
    @given(cut=st.integers(20, found.n_obs - 1))
    def check(cut):
        assert leaks(EVERY, found, cut) == set()

    check()


def test_a_feature_that_looks_ahead_is_found():
    def tomorrow(bars):
        close = OwnBars.of(bars).panel.close
        return np.vstack([close[1:], close[-1:]])

    planted = Feature("tomorrow", tomorrow, 1, '{"family":"tomorrow"}')
    leaking = FeatureSet("leaking", 1, (planted,))
    assert leaks(leaking, PANELS["1d"], 300) == {"tomorrow"}


def test_a_row_alone_is_the_row_of_the_whole():
    found = PANELS["1d"]
    whole = EVERY.compute(found)
    for row, asset in ((0, 0), (123, 1), (444, 3), (499, 4)):
        alone = EVERY.row(found, row, asset)
        expected = [None if np.isnan(one) else one for one in whole[row, asset]]
        assert list(alone.values()) == expected
        assert tuple(alone) == EVERY.computed_names


def test_every_feature_is_known_somewhere_and_never_infinite():
    values = EVERY.compute(PANELS["1d"])
    assert not np.isinf(values).any()
    unknown = {
        EVERY.names[k] for k in np.flatnonzero(np.isnan(values).all(axis=(0, 1)))
    }
    # The panel has no VIX and no naive forecasts.
    assert unknown == {
        "symbol_VIX_5",
        "symbol_VIX_20",
        "forecast_move_naive",
        "forecast_width_naive",
    }


def test_a_scale_of_prices_changes_no_feature():
    found = PANELS["1d"]
    scaled = replace(
        found,
        **{
            name: getattr(found, name) * 8.0
            for name in ("open", "high", "low", "close")
        },
        volume=found.volume * 4.0,
    )
    np.testing.assert_allclose(EVERY.compute(scaled), EVERY.compute(found), rtol=1e-12)


def test_a_leader_is_the_first_of_its_symbols_with_a_figure():
    close = 100 * np.exp(
        np.cumsum(np.random.default_rng(0).normal(0, 0.01, (120, 2)), 0)
    )
    close[100:, 0] = np.nan
    both = replace(panel(close), symbols=("SPY", "US500"))
    (feature,) = expand("leader", leaders=("equities",), windows=(5,))
    own = formulas.momentum(OwnBars.of(both), window=5)
    led = feature.compute(both)
    np.testing.assert_array_equal(led[:105, 1], own[:105, 0])
    np.testing.assert_array_equal(led[112:, 0], own[112:, 1])


def test_hand_worked_figures():
    close = np.array([100.0] * 60 + [101.0, 103.02])
    bars = OwnBars.of(panel(close))
    moves = np.log([1.01, 1.02])
    risk = np.sqrt((moves**2).sum() / 60)
    assert formulas.momentum(bars, window=1)[-1, 0] == pytest.approx(moves[1] / risk)
    assert formulas.momentum(bars, window=2)[-1, 0] == pytest.approx(
        moves.sum() / (risk * np.sqrt(2))
    )
    assert formulas.channel(bars, window=20)[-1, 0] == 1.0
    assert formulas.drawdown(bars, window=20)[-1, 0] == 0.0
    assert formulas.weekday(bars)[:8, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    average = (100.0 * 3 + 101 + 103.02) / 5
    gap = (103.02 / average - 1) / np.sqrt((moves**2).sum())
    assert formulas.reversion(bars, window=5)[-1, 0] == pytest.approx(gap)


# Whoever changes a formula's figures raises its version and writes both here.
PINNED: dict[str, tuple[int, float]] = {
    "momentum": (1, 0.820237890677829),
    "volatility": (1, 1.5697515398356998),
    "volatility_ratio": (1, 0.3297119644516222),
    "reversion": (1, 0.4551599301054947),
    "channel": (1, 0.39840243902243),
    "drawdown": (1, 7.856146192649168),
    "range": (1, 1.6435749934753157),
    "volume": (1, 0.6469015953085249),
    "relative": (1, 0.492818734260471),
    "breadth": (1, 0.3965909090909091),
    "turbulence": (1, 0.23816924486203106),
    "leader": (1, 0.7722860165651722),
    "symbol": (1, 0.8256444432922846),
    "symbol_volatility": (1, 0.31999478829362116),
    "forecast_move": (1, 0.7747587632941612),
    "forecast_width": (1, 4.525877463507097),
    "forecast_skew": (1, 0.2563264656547389),
    "agreement": (1, 0.6106003858812847),
    "surprise": (1, 0.1315899056315087),
    "hour": (1, 0.5),
    "weekday": (1, 2.988),
    "class": (1, 0.16666666666666666),
}


def figures():
    """Version and mean figure of each family on the daily panel."""
    found = {}
    for name, family in formulas.FAMILIES.items():
        mine = [one for one in EVERY.features if f'"family":"{name}"' in one.definition]
        values = np.stack([one.compute(PANELS["1d"]) for one in mine])
        found[name] = (family.version, float(np.nanmean(np.abs(values))))
    return found


def test_figures_of_a_formula_change_only_with_its_version():
    found = figures()
    assert found.keys() == PINNED.keys()
    for name, (version, figure) in PINNED.items():
        assert found[name] == (version, pytest.approx(figure, rel=1e-9)), name


def test_expansion_names_each_combination():
    names = [
        one.name for one in expand("symbol", symbols=("SPY", "VIX"), windows=(5, 20))
    ]
    assert names == ["symbol_SPY_5", "symbol_SPY_20", "symbol_VIX_5", "symbol_VIX_20"]
    assert [one.span for one in expand("reversion", windows=(5, 20))] == [6, 21]


@pytest.mark.parametrize(
    ("family", "values", "reason"),
    [
        ("moon", {}, "no feature family 'moon'"),
        ("momentum", {}, "window: needs values"),
        ("momentum", {"windows": (0,)}, "window 0 is unknown"),
        ("momentum", {"windows": (5,), "symbols": ("SPY",)}, "symbol: is not expanded"),
        ("leader", {"windows": (5,), "leaders": ("moon",)}, "leader 'moon' is unknown"),
        ("class", {"classes": ("art",)}, "asset_class 'art' is unknown"),
    ],
)
def test_an_expansion_that_makes_no_sense_is_refused(family, values, reason):
    with pytest.raises(FeatureError, match=reason):
        expand(family, **values)


def test_hashes_hold_names_parameters_and_versions():
    assert feature_set("order-v1") is ORDER_FEATURES
    assert ORDER_FEATURES.names[-len(ORDER_EXTRAS) :] == ORDER_EXTRAS
    one = FeatureSet("one", 1, expand("momentum", windows=(5, 20)))
    others = [
        FeatureSet("one", 2, one.features),
        FeatureSet("two", 1, one.features),
        FeatureSet("one", 1, one.features[::-1]),
        FeatureSet("one", 1, one.features, ("side",)),
        FeatureSet("one", 1, expand("momentum", windows=(5, 21))),
    ]
    newer = one.features[0].definition.replace('"version":1', '"version":2')
    others.append(
        FeatureSet(
            "one", 1, (replace(one.features[0], definition=newer), one.features[1])
        )
    )
    hashes = [one.sha256, *(other.sha256 for other in others)]
    assert len(set(hashes)) == len(hashes)
    again = FeatureSet("one", 1, expand("momentum", windows=(5, 20)))
    assert again.sha256 == one.sha256


def test_sets_are_found_by_name_and_names_come_once():
    assert set(FEATURE_SETS) == {"bars-v1", "order-v1"}
    with pytest.raises(FeatureError, match="no feature set 'moon': bars-v1, order-v1"):
        feature_set("moon")
    with pytest.raises(FeatureError, match="twice: momentum_5"):
        FeatureSet("x", 1, expand("momentum", windows=(5, 5)))
    with pytest.raises(FeatureError, match="the panel has 500 x 6"):
        BAR_FEATURES.row(PANELS["1d"], 500, 0)


def test_an_orders_frozen_features_become_its_row_again():
    found = PANELS["1d"]
    extras = dict.fromkeys(ORDER_EXTRAS, 1.0)
    frozen = ORDER_FEATURES.row(found, 450, 0) | extras
    row = ORDER_FEATURES.matrix([frozen])
    expected = ORDER_FEATURES.compute(found)[450, 0]
    np.testing.assert_array_equal(row[0, : len(expected)], expected)
    assert set(row[0, len(expected) :]) == {1.0}
    with pytest.raises(FeatureError, match="row 0: missing: side"):
        ORDER_FEATURES.matrix([{k: v for k, v in frozen.items() if k != "side"}])


def test_a_set_locks_into_a_schema_and_out_of_another():
    values = BAR_FEATURES.compute(PANELS["1d"])[300:, 0]
    schema = FeatureSchema.fit(
        BAR_FEATURES.names, values, definition=BAR_FEATURES.definition
    )
    assert schema.sha256 == BAR_FEATURES.sha256
    text = schema.to_json()
    again = FeatureSchema.from_json(text, sha256=BAR_FEATURES.sha256)
    assert again.to_json() == text
    with pytest.raises(FeatureError, match="the model was trained on"):
        FeatureSchema.from_json(text, sha256=ORDER_FEATURES.sha256)
