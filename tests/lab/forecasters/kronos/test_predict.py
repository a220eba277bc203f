"""The data-frame layer's own promises; the fixture's cases are in test_parity."""

import numpy as np
import pandas as pd
import pytest

from lab.errors import ForecastError
from lab.forecasters.kronos.engine import prepare
from lab.forecasters.kronos.filtering import Filter
from lab.forecasters.kronos.normalise import COLUMNS
from lab.forecasters.kronos.predict import Drawing, predict, predict_batch
from tests.simulators.kronos import modules

PREPARED = prepare(*modules())
HOW = Drawing(window=32, by=Filter(top_k=1))


def frame(n_rows=20, seed=0):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(n_rows)))
    return pd.DataFrame(
        {
            "open": close, "high": close * 1.01, "low": close * 0.99, "close": close,
            "volume": rng.uniform(1, 2, n_rows), "amount": rng.uniform(1, 2, n_rows),
        }
    )  # fmt: skip


def times(n_rows=20, horizon=6, zone=None):
    index = pd.date_range("2024-03-30 20:00", periods=n_rows + horizon, freq="h")
    index = index.tz_localize(zone)
    return index[:n_rows], index[n_rows:]


def run(bars=None, how=HOW, **changes):
    past, coming = times()
    given = {"x_timestamp": past, "y_timestamp": coming, **changes}
    return predict(PREPARED, frame() if bars is None else bars, **given, drawing=how)


def test_the_answer_has_all_columns_and_the_stamps_as_given():
    past, coming = times()
    out = run()
    assert list(out.columns) == list(COLUMNS)
    pd.testing.assert_index_equal(out.index, coming)
    assert set(out.dtypes) == {np.dtype("float32")}
    column = run(x_timestamp=pd.Series(past), y_timestamp=pd.Series(coming))
    np.testing.assert_array_equal(column.to_numpy(), out.to_numpy())


def test_frames_of_many_lengths_are_continued_as_each_alone():
    frames = [frame(n_rows, seed) for seed, n_rows in enumerate([20, 7, 40, 20])]
    pairs = [times(len(one)) for one in frames]
    together = predict_batch(
        PREPARED, frames, [x for x, _ in pairs], [y for _, y in pairs], drawing=HOW
    )
    for one, (x, y), found in zip(frames, pairs, together, strict=True):
        pd.testing.assert_frame_equal(predict(PREPARED, one, x, y, drawing=HOW), found)


def test_stamps_are_wall_clock_times_of_their_zone():
    plain = run()
    past, coming = times(zone="Asia/Tokyo")
    zoned = run(x_timestamp=past, y_timestamp=coming)
    np.testing.assert_array_equal(zoned.to_numpy(), plain.to_numpy())


def test_seeds_decide_the_draws():
    how = Drawing(window=32, n_samples=3, seed=1)
    first, again = run(how=how), run(how=how)
    pd.testing.assert_frame_equal(first, again)
    other = run(how=Drawing(window=32, n_samples=3, seed=2))
    assert not np.array_equal(first.to_numpy(), other.to_numpy())


def test_without_volume_an_amount_is_not_looked_at():
    bars = frame().drop(columns="volume")
    np.testing.assert_array_equal(
        run(bars).to_numpy(), run(bars.drop(columns="amount")).to_numpy()
    )


def test_a_three_bar_history_is_continued():
    past, coming = times(3)
    out = run(frame(3), x_timestamp=past, y_timestamp=coming)
    assert np.isfinite(out.to_numpy()).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns=["low", "close"]), "columns missing: low, close"),
        (lambda f: f.assign(close=np.nan), "frame 0: a value is missing"),
        (lambda f: f.assign(volume=np.inf), "volume holds values"),
        (lambda f: f.iloc[:0], "rows of 6 columns needed"),
        (lambda f: f.iloc[:5], "20 stamps for 5 rows"),
    ],
)
def test_frames_that_cannot_be_continued_are_refused(change, message):
    with pytest.raises(ForecastError, match=message):
        run(change(frame()))


def test_stamps_that_do_not_fit_are_refused():
    past, coming = times()
    missing = coming.to_series().reset_index(drop=True)
    missing.iloc[2] = pd.NaT
    with pytest.raises(ForecastError, match="a stamp is missing"):
        run(y_timestamp=missing)
    with pytest.raises(ForecastError, match="before the last row"):
        run(y_timestamp=past[:6])
    with pytest.raises(ForecastError, match="at least one"):
        run(y_timestamp=coming[:0])
    with pytest.raises(ForecastError, match="the window"):
        run(how=Drawing(window=5))
    with pytest.raises(ForecastError, match="as many of each"):
        predict_batch(PREPARED, [frame()], [past, past], [coming])
    with pytest.raises(ForecastError, match="the same number"):
        predict_batch(
            PREPARED, [frame()] * 2, [past] * 2, [coming, coming[:2]], drawing=HOW
        )
