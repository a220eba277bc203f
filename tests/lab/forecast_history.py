"""Forecasts of the toy market by two models, one a day, and what came of them."""

from datetime import timedelta

import numpy as np
import pyarrow as pa

from lab.bars.panel import Panel
from lab.forecasters.batches import forecast_panel
from lab.forecasters.conformal_rows import BandInputs
from lab.forecasters.frames import predictions_table
from lab.forecasters.naive import NaiveForecaster
from lab.forecasters.scheduled import ScheduledReleases
from lab.forecasters.seasonal import SeasonalForecaster
from lab.scoring.predictions import settle_predictions
from lakehouse.schema.bands import CONFORMAL_BANDS
from lakehouse.schema.market import ECONOMIC_CALENDAR
from tests.lab import toy_market
from tests.lab.toy_market import moment

BEGIN = moment("2021-01-20T21:00")
NOW = moment("2022-01-01")
CLASSES = toy_market.CLASSES


def forecasts(n_as_ofs=20, horizon=30, every_hours=24):
    """Rows of `ml_predictions`, hourly, `n_as_ofs` decision times."""
    panel = Panel.from_tables(
        toy_market.market(), toy_market.instruments(), timeframe="1h"
    )
    found = []
    for number in range(n_as_ofs):
        as_of = BEGIN + timedelta(hours=every_hours * number)
        for forecaster in (NaiveForecaster(), SeasonalForecaster()):
            series = panel.as_of(as_of, context=forecaster.context)
            found += forecast_panel(
                forecaster, series, as_of=as_of, horizon=horizon, n_samples=0
            ).forecasts
    return predictions_table(found, generated_at=NOW, run_id="run")


def scores(predictions, ohlcv=None):
    """Everything that settles, as rows of `prediction_scores`."""
    return settle_predictions(
        predictions,
        toy_market.market() if ohlcv is None else ohlcv,
        toy_market.instruments(),
        now=NOW,
        run_id="run",
    ).scores


def calendar(*releases):
    """Rows of `economic_calendar`: (ts, currency, kind, importance, days announced)."""
    rows = [
        {
            "event_id": f"{number:032x}",
            "ts": moment(ts),
            "currency": currency,
            "symbol": None,
            "event": kind,
            "event_type": kind,
            "importance": importance,
            "actual": None,
            "forecast": None,
            "previous": None,
            "is_timed": True,
            "scheduled_known_ts": moment(ts) - timedelta(days=days),
            "actual_known_ts": moment(ts),
            "source": "test",
            "ingested_at": NOW,
        }
        for number, (ts, currency, kind, importance, days) in enumerate(releases)
    ]
    return pa.Table.from_pylist(rows, schema=ECONOMIC_CALENDAR.to_arrow())


def schedule(*releases):
    """The same, as dates for the toy market's symbols."""
    return ScheduledReleases.from_table(
        calendar(*releases), {"EURUSD": ("EUR", "USD"), "BTC": ("USD",)}
    )


WEEKLY = tuple(
    (str(day) + "T13:30", "USD", "cpi", 3, 30)
    for day in np.arange("2021-01-06", "2021-03-20", 7, dtype="datetime64[D]")
)


def band_inputs(settled, given=None):
    """What bands are made of, with a release each week."""
    empty = CONFORMAL_BANDS.to_arrow().empty_table()
    return BandInputs(
        settled, empty if given is None else given, schedule(*WEEKLY), CLASSES
    )
