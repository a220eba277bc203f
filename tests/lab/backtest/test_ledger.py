"""The ledger: what a family is, what a trial keeps, and the matrix made of it."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from lab.backtest.ledger import Trial, TrialMatrix, family_id, trial_id, trial_tables
from lab.errors import BacktestError

DAYS = np.arange("2020-01-01", "2020-07-01", dtype="datetime64[D]").astype(
    "datetime64[us]"
)
NOW = datetime(2021, 1, 1, tzinfo=UTC)
SPAN = (DAYS[0], DAYS[-1])


def trials(n, *, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Trial(f'{{"n":{k}}}', rng.standard_t(4, len(DAYS)) * 0.01) for k in range(n)
    ]


def tables(made, family="f"):
    return trial_tables(
        made, family=family, origin="tests", days=DAYS, tried_at=NOW, run_id="r"
    )


def test_a_family_is_its_instruments_bars_and_days_in_any_order():
    found = family_id(["B", "A", "A"], "1d", SPAN)
    assert found == family_id(("A", "B"), "1d", SPAN)
    noon = (DAYS[0] + np.timedelta64(12, "h"), DAYS[-1])
    assert found == family_id(("A", "B"), "1d", noon)
    others = [
        family_id(("A",), "1d", SPAN),
        family_id(("A", "B"), "1h", SPAN),
        family_id(("A", "B"), "1d", (DAYS[1], DAYS[-1])),
    ]
    assert len({found, *others}) == 4


def test_a_trial_keeps_its_moments_as_scipy_has_them():
    (made,) = trials(1)
    (row,) = tables([made])[0].to_pylist()
    assert row["sharpe"] == pytest.approx(
        made.returns.mean() / made.returns.std(ddof=1)
    )
    assert row["skewness"] == pytest.approx(stats.skew(made.returns))
    assert row["kurtosis"] == pytest.approx(stats.kurtosis(made.returns, fisher=False))
    assert row["n_obs"] == len(DAYS)
    assert row["trial_id"] == trial_id("f", made.configuration)


def test_a_series_that_never_varies_has_no_moments():
    rows = tables([Trial("flat", np.full(len(DAYS), 0.001))])[0]
    assert rows["sharpe"].to_pylist() == [None]
    assert rows["kurtosis"].to_pylist() == [None]


def test_a_configuration_tried_twice_is_one_trial():
    made = trials(3)
    rows, returns = tables([*made, made[1]])
    assert rows.num_rows == returns.num_rows == 3


def test_stored_and_unstored_trials_make_the_same_matrix():
    made = [*trials(6), Trial("flat", np.zeros(len(DAYS)))]
    rows, returns = tables(made)
    shuffled = rows.take(pa.array([3, 0, 6, 1, 5, 2, 4]))
    stored = TrialMatrix.from_tables(shuffled, returns)
    fresh = TrialMatrix.from_trials(made[::-1], family="f")
    assert stored.trial_ids == fresh.trial_ids
    assert stored.configurations == fresh.configurations
    np.testing.assert_array_equal(stored.returns, fresh.returns)
    flat = stored.row_of("flat")
    np.testing.assert_array_equal(np.flatnonzero(stored.is_constant), [flat])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(stored.sharpes)), [flat])
    one = stored.row_of(made[2].configuration)
    assert stored.sharpes[one] == pytest.approx(rows["sharpe"][2].as_py(), rel=1e-5)
    with pytest.raises(BacktestError, match="no trial of unknown"):
        stored.row_of("unknown")


def test_the_effective_rank_counts_independent_bets():
    base = trials(4)
    rank = TrialMatrix.from_trials(base, family="f").effective_rank
    assert 3.8 < rank <= 4
    copies = [Trial(f"c{k}", 2 * base[0].returns) for k in range(20)]
    assert TrialMatrix.from_trials(copies, family="f").effective_rank == pytest.approx(
        1
    )
    many = trials(len(DAYS) + 40)
    assert TrialMatrix.from_trials(many, family="f").effective_rank <= len(DAYS)
    flat = [Trial("flat", np.zeros(len(DAYS)))]
    assert TrialMatrix.from_trials(flat, family="f").effective_rank == 0


def test_returns_of_another_length_or_not_finite_are_refused():
    with pytest.raises(BacktestError, match="not 182 finite"):
        tables([Trial("short", np.zeros(3))])
    with pytest.raises(BacktestError, match="not 182 finite"):
        tables([Trial("nan", np.full(len(DAYS), np.nan))])
    with pytest.raises(BacktestError, match="not 2 finite"):
        TrialMatrix.from_trials(
            [Trial("a", np.zeros(2)), Trial("b", np.zeros(3))], family="f"
        )


def test_trials_of_two_families_or_without_returns_make_no_matrix():
    rows, returns = tables(trials(2))
    others, _ = tables(trials(2), family="g")
    with pytest.raises(BacktestError, match="trials of 2 families"):
        TrialMatrix.from_tables(pa.concat_tables([rows, others]), returns)
    with pytest.raises(BacktestError, match="trials of 0 families"):
        TrialMatrix.from_tables(rows.slice(0, 0), returns)
    with pytest.raises(BacktestError, match="has no returns"):
        TrialMatrix.from_tables(rows, returns.slice(0, 1))
