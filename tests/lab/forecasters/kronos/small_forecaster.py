"""A Kronos forecaster with tiny random weights."""

from lab.bars.panel import Panel
from lab.forecasters.kronos.forecaster import KronosForecaster
from tests.lab import toy_market
from tests.lab.toy_market import moment
from tests.simulators.kronos import modules

WINDOW = 96
CONTEXT = 48
AS_OF = moment("2021-02-24T10:55")


def small_forecaster(**changes):
    settings = {
        "version": "test", "cutoff": moment("2020-01-01"), "card": {"data": "none"},
        "window": WINDOW, "context": CONTEXT,
    }  # fmt: skip
    return KronosForecaster(*modules(7), **{**settings, **changes})


def series(as_of=AS_OF, timeframe="1h"):
    panel = Panel.from_tables(
        toy_market.market(), toy_market.instruments(), timeframe=timeframe
    )
    return panel.as_of(as_of)
