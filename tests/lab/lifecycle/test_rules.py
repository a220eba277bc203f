"""Rules are typed and bounded; a file overrides them or is refused in one line."""

from dataclasses import fields

import pytest

from lab.errors import LifecycleError
from lab.lifecycle.rules import DEFAULT_RULES, LifecycleRules, parse_rules


def test_the_defaults_are_those_that_were_promised():
    assert {
        each.name: getattr(DEFAULT_RULES, each.name) for each in fields(LifecycleRules)
    } == {
        "backtest_sharpe_above": 0.5,
        "backtest_trades_min": 100,
        "walk_forward_sharpe_above": 0.5,
        "stressed_sharpe_above": 0.0,
        "folds_positive_min": 0.7,
        "folds_min": 2,
        "paper_days_min": 28,
        "paper_samples_min": 200,
        "canary_days_min": 14,
        "retire_drawdown_ratio": 1.5,
        "retire_window_days": 90,
        "retire_observations_min": 60,
        "timeframe": "1d",
    }


def test_a_file_overrides_what_it_names():
    found = parse_rules(
        "backtest_trades_min = 30\nfolds_positive_min = 1\ntimeframe = '1h'", where="r"
    )
    assert found.backtest_trades_min == 30
    assert found.folds_positive_min == 1
    assert found.timeframe == "1h"
    assert found.canary_days_min == 14
    assert parse_rules("", where="r") == DEFAULT_RULES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paper_dayz = 3", r"r\.toml: no rule paper_dayz; there are backtest_sharpe"),
        ("[paper]\ndays = 3", r"r\.toml: no rule paper"),
        ("paper_days_min = 2.5", r"rule paper_days_min = 2\.5: a whole number"),
        ("paper_days_min = true", "rule paper_days_min = True: a whole number"),
        ("paper_days_min = '28'", "rule paper_days_min = '28': a whole number"),
        ("folds_positive_min = 1.2", r"folds_positive_min = 1\.2: between 0 and 1"),
        ("folds_positive_min = nan", "folds_positive_min = nan: a number"),
        ("timeframe = '1w'", "timeframe = '1w': one of 1h, 1d"),
        ("paper_days_min = ", r"r\.toml: not TOML"),
    ],
)
def test_what_cannot_be_a_rule_is_refused_in_one_line(text: str, message: str):
    with pytest.raises(LifecycleError, match=message) as caught:
        parse_rules(text, where="r.toml")
    assert "\n" not in str(caught.value)
