"""The leak checker finds every planted leak, believes every honest twin, and judges all."""

from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lab.bars.timeframes import to_moment
from lab.errors import BarsError, ValidationError
from lab.sleeves.catalogue import sleeves
from lab.validation.grading import grade_checker, grade_with
from lab.validation.leaks import (
    Answers,
    LeakVerdict,
    check_causal,
    check_fill,
    replays,
)
from lab.validation.markets import END, Market, cut_moments, moments
from lab.validation.planted import KINDS, PlantedFill, plant
from lab.validation.practice import practice_market
from lab.validation.subjects import EngineFill, OfPanel, engine_fills, real_subjects
from tests.lab.backtest.random_panels import random_panel

pytestmark = pytest.mark.xdist_group("leaks")


@pytest.fixture(scope="module")
def market():
    return practice_market(n_days=800, n_hours=1200)


@pytest.fixture(scope="module")
def daily(market):
    return replays(market, "1d", rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def hourly(market):
    return replays(market, "1h", rng=np.random.default_rng(0))


@pytest.mark.parametrize("seed", [0])
def test_every_planted_leak_is_found_and_no_honest_twin_alarms(seed):
    grade = grade_checker(seed=seed)
    assert grade.is_passed, [one.wrong for one in grade.kinds]
    assert grade.recall == 1.0
    assert grade.n_alarms == 0
    assert [one.kind for one in grade.kinds] == list(KINDS)
    assert all(one.n_leaks == one.n_honest == 12 for one in grade.kinds)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 21))
def test_the_grade_holds_on_other_markets_and_variants(seed):
    grade = grade_checker(seed=seed)
    assert grade.is_passed, [one.wrong for one in grade.kinds]


def test_the_engines_returns_can_be_asked_of_a_market_of_300_instruments():
    subjects = {one.name: one for one in real_subjects("1d", ())}
    panel = random_panel(0, 40, 300)
    found = subjects["engine: returns"].work(panel)
    assert found.shape == (40, 300)
    assert (np.nan_to_num(found) != 0).any()


def test_a_checker_that_finds_nothing_fails_its_examination():
    def blind(subject, market, plans):
        return LeakVerdict(subject.name, is_leaking=False, n_rows=1, n_telling=1)

    grade = grade_with(blind, n_variants=2)
    assert not grade.is_passed
    # Fills are found by their own check.
    assert grade.recall == pytest.approx(1 / len(KINDS))


def test_a_checker_that_suspects_everything_fails_its_examination():
    def paranoid(subject, market, plans):
        return LeakVerdict(subject.name, is_leaking=True, n_rows=1, n_telling=1)

    grade = grade_with(paranoid, n_variants=2)
    assert grade.recall == 1.0
    assert grade.n_alarms == 2 * (len(KINDS) - 1)
    assert not grade.is_passed


def test_a_dozen_variants_are_a_dozen_programs():
    for number, kind in enumerate(KINDS):
        made = {
            plant(kind, is_leak=True, rng=np.random.default_rng([0, number, k])).name
            for k in range(12)
        }
        assert len(made) >= (4 if kind == "same-bar fill" else 7), kind


@pytest.mark.parametrize("timeframe", ["1d", "1h"])
def test_no_sleeve_feature_or_label_leaks(timeframe, market, daily, hourly):
    plans = daily if timeframe == "1d" else hourly
    verdicts = [
        check_causal(one, market, plans)
        for one in real_subjects(timeframe, market.models)
    ]
    assert [v for v in verdicts if v.is_leaking] == []
    spoke = {v.subject.split(" ")[1] for v in verdicts if v.n_telling}
    assert {v.subject.split(" ")[1] for v in verdicts} == spoke
    assert all(v.n_rows > 1000 for v in verdicts)


def test_every_sleeve_of_the_catalogue_is_checked(market):
    for timeframe in ("1d", "1h"):
        names = [one.name for one in real_subjects(timeframe, market.models)]
        for sleeve_id, kind in sleeves().items():
            if timeframe in kind.timeframes:
                of_it = [n for n in names if n.split()[:2] == ["sleeve:", sleeve_id]]
                assert len(of_it) >= min(2, len(kind.variants())), sleeve_id


def test_a_follower_of_forecasts_is_checked_where_there_are_some():
    names = [one.name for one in real_subjects("1d", ("kronos",))]
    assert any("follow-kronos" in name for name in names)
    assert not any("follow-ensemble" in name for name in names)


@pytest.mark.parametrize("timeframe", ["1d", "1h"])
def test_the_engine_fills_after_the_decision_and_same_close_does_not(timeframe, market):
    panel = market.panel(timeframe)
    rng = np.random.default_rng(0)
    assert not any(check_fill(one, panel, rng=rng).is_leaking for one in engine_fills())
    found = check_fill(EngineFill("same_close"), panel, rng=rng)
    assert found.is_leaking
    assert "with other prices up to the decision" in found.detail


def test_a_leak_is_told_with_the_row_the_column_and_the_future(market, daily):
    def tomorrow(panel):
        moved = np.full(panel.close.shape, np.nan)
        moved[:-1] = panel.close[1:]
        return moved

    found = check_causal(OfPanel("peeks", "1d", tomorrow), market, daily)
    assert found.is_leaking
    assert found.detail.startswith("cut 20")
    assert ", value: nan, not" in found.detail


def test_an_instrument_that_is_listed_after_a_cut_has_no_past_before_its_first_bar():
    whole = practice_market(n_days=300, n_hours=0)
    newest = pc.max(whole.ohlcv["ts"]).as_py() - timedelta(days=20)
    is_early = pc.and_(
        pc.equal(whole.ohlcv["symbol"], "SPY"), pc.less(whole.ohlcv["ts"], newest)
    )
    late = replace(whole, ohlcv=whole.ohlcv.filter(pc.invert(is_early)), _made={})
    said = OfPanel("panel: surprises", "1d", lambda panel: panel.surprises)
    # It has surprises on rows on which it has no bar yet.
    panel = late.panel("1d")
    spy = list(panel.symbols).index("SPY")
    assert (panel.surprises[~panel.has_bar[:, spy], spy] != 0).any()
    found = check_causal(said, late, replays(late, "1d", rng=np.random.default_rng(0)))
    assert not found.is_leaking, found.detail
    assert found.n_telling > 10


def test_a_subject_that_cannot_answer_for_a_cut_market_leaks(market, daily):
    def needs_all(panel):
        if panel.n_obs < market.panel("1d").n_obs:
            raise BarsError("needs every row")
        return panel.close

    found = check_causal(OfPanel("needs all", "1d", needs_all), market, daily)
    assert found.is_leaking
    assert found.detail.endswith("it cannot answer: needs every row")


def test_a_future_with_a_hole_of_years_is_no_leak_of_the_walk_forward():
    whole = practice_market(n_days=500, n_hours=0)
    pair = pa.array(["GAPS", "SPY"])
    two = replace(
        whole,
        ohlcv=whole.ohlcv.filter(pc.is_in(whole.ohlcv["symbol"], pair)),
        instruments=whole.instruments.filter(
            pc.is_in(whole.instruments["symbol"], pair)
        ),
        predictions=whole.predictions.slice(0, 0),
        _made={},
    )
    subjects = [s for s in real_subjects("1d", ()) if s.name.startswith("walk-")]
    assert [s.name for s in subjects] == [
        "walk-forward: returns of moving-average-cross"
    ]
    plans = replays(two, "1d", rng=np.random.default_rng(0))
    rows = {np.diff(plan.market.panel("1d").ts).max() for plan in plans}
    assert max(rows) > np.timedelta64(365, "D")
    found = check_causal(subjects[0], two, plans)
    assert not found.is_leaking, found.detail
    assert found.n_telling > 100


@dataclass(frozen=True)
class Forgets:
    """Answers with fewer rows, or more, once it is asked about a cut market."""

    name: str
    by: int
    timeframe: str = "1d"

    def answers(self, market, as_of):
        ts = market.panel("1d", as_of).ts
        is_cut = len(ts) != market_rows
        rows = np.arange(200 + (self.by if is_cut else 0))
        return Answers(
            np.full(len(rows), "x"), ts[rows], ts[rows], np.ones((len(rows), 1)), ("a",)
        )


market_rows = 0


@pytest.mark.parametrize(("by", "word"), [(-1, "is missing"), (1, "is new")])
def test_rows_that_vanish_or_appear_in_the_past_are_leaks(by, word, market, daily):
    global market_rows
    market_rows = market.panel("1d").n_obs
    found = check_causal(Forgets("forgets", by), market, daily)
    assert found.is_leaking
    assert found.detail.endswith(word)


def test_a_check_that_compares_nothing_is_refused(market, daily):
    @dataclass(frozen=True)
    class Late:
        name: str = "late"
        timeframe: str = "1d"

        def answers(self, market, as_of):
            ts = market.panel("1d", as_of).ts[:5]
            known = np.full(5, END)
            return Answers(np.full(5, "x"), ts, known, np.ones((5, 1)), ("a",))

    with pytest.raises(ValidationError, match="late: no row to compare"):
        check_causal(Late(), market, daily)
    with pytest.raises(ValidationError, match="no decision earned anything"):
        check_fill(Idle(), market.panel("1d"), rng=np.random.default_rng(0))


@dataclass(frozen=True)
class Idle:
    name: str = "idle"

    def earned(self, panel, weights):
        return np.zeros(panel.n_obs)


def test_a_fill_that_earns_before_it_decides_is_found(market):
    rule = PlantedFill("early", 0, "open")
    found = check_fill(rule, market.panel("1d"), rng=np.random.default_rng(1))
    assert found.is_leaking


def test_a_market_cut_at_a_moment_holds_nothing_of_later(market):
    cut = np.datetime64("2019-06-03T21:00", "us")
    then = market.as_known(cut)
    assert then.known().max() <= cut
    assert (moments(then.releases, "scheduled_known_ts") <= cut).all()
    stated = then.releases["actual"].is_valid().to_numpy()
    assert (moments(then.releases, "actual_known_ts")[stated] <= cut).all()
    assert (~stated).any()
    assert (moments(then.revisions, "known_ts") <= cut).all()
    assert (moments(then.predictions, "known_ts") <= cut).all()
    ends = [one for one in then.instruments["listed_to"].to_pylist() if one]
    assert all(one <= to_moment(cut) for one in ends)


def test_a_future_changes_nothing_of_the_past(market):
    cut = cut_moments(market, "1d", rng=np.random.default_rng(5))[1]
    past = market.as_known(cut)
    for name, other in market.futures(cut, np.random.default_rng(2)):
        again = other.as_known(cut)
        assert again.ohlcv.equals(past.ohlcv), name
        assert again.releases.equals(past.releases), name
        assert again.predictions.equals(past.predictions), name
        assert again.revisions.equals(past.revisions), name


def test_cuts_fall_between_closes_of_one_date_too(market):
    cuts = cut_moments(market, "1d", rng=np.random.default_rng(0))
    assert len(cuts) == 6
    hours = {int(one.astype("datetime64[h]").astype(int) % 24) for one in cuts}
    assert len(hours) > 1


def test_a_market_of_a_few_rows_is_not_cut(market):
    few = replace(market, ohlcv=market.ohlcv.slice(0, 20), _made={})
    assert isinstance(few, Market)
    with pytest.raises(ValidationError, match="40 rows of 1d needed, 20 found"):
        cut_moments(few, "1d", rng=np.random.default_rng(0))
