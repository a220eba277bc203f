"""Bars in, forecasts, scores, signed artefacts: by plain bodies, without a server."""

import json

import pyarrow.compute as pc
import pytest

from flows.bodies.forecast import forecast_baselines, forecast_closes
from flows.bodies.heartbeat import beat
from flows.bodies.ingest import ingest_bars
from flows.bodies.maintain import maintain_tables
from flows.bodies.publish import publish_artefacts
from flows.bodies.replay import replay_run
from flows.bodies.resign import renew_signatures
from flows.bodies.score import score_settled
from flows.setup import set_up_trust
from flows.wiring import Workplace, open_workplace
from lab.errors import LabError
from lakehouse.errors import InputError, RefusedError
from lakehouse.trust.fetching import LocalFetcher
from lakehouse.trust.verification import TrustedClient
from tests.flows.conftest import forget_settings, run_plainly
from tests.simulators.places import Place

DATA = ("ohlcv", "quarantine", "ml_predictions", "prediction_scores", "instruments")


def tell_story(days: int = 6) -> list[str]:
    """Ingest, forecast, score and publish; return the outcomes' messages."""
    return [
        run_plainly("ingest-ohlcv", ingest_bars, source="sample").message,
        run_plainly(
            "forecast",
            forecast_closes,
            model="naive,seasonal",
            timeframe="1d",
            earlier=days,
            samples=5,
        ).message,
        run_plainly("score-signals", score_settled, timeframe="1d").message,
        run_plainly("publish", publish_artefacts).message,
    ]


def counts(workplace: Workplace) -> dict[str, int]:
    return {name: workplace.lake.read(name).num_rows for name in DATA}


def test_a_repeated_story_adds_no_data_row(workplace: Workplace):
    first = tell_story()
    before = counts(workplace)
    assert min(before.values()) > 0
    assert "14 forecasts" in first[1]

    again = tell_story()

    assert counts(workplace) == before
    assert "nothing new" in again[1]
    assert "no settled forecast is left" in again[2]
    assert "nothing changed" in again[3]


def test_a_forecast_before_any_model_could_look_back_says_that_none_was_made(
    workplace: Workplace,
):
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    told = run_plainly(
        "forecast", forecast_closes, timeframe="1d", as_of="1999-01-15", model="kronos"
    )
    assert told.message == (
        "kronos 1d: no symbol could be forecast as of 1999-01-15 00:00"
    )
    assert "kronos 1d: SP500 not forecast: 9 bars known, 16 needed" in told.notes


def test_baselines_of_a_lake_without_such_bars_have_nothing_to_do(workplace: Workplace):
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")

    hourly = run_plainly("forecast-baselines", forecast_baselines, timeframe="1h")

    assert hourly.message.startswith("nothing to forecast: no 1h bars known by")
    daily = run_plainly("forecast-baselines", forecast_baselines, timeframe="1d")
    assert "2 forecasts" in daily.message


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        ({"model": " "}, "--model: name one of naive, seasonal"),
        ({"horizon": 5000}, "horizon 5000: allowed are 1 to 1000"),
        ({"seed": 2**63}, "seed 9223372036854775808: allowed are 0 to"),
    ],
)
def test_a_forecast_that_cannot_be_made_is_refused_before_reading(
    workplace: Workplace, request_: dict, match: str
):
    with pytest.raises((InputError, LabError), match=match):
        run_plainly("forecast", forecast_closes, timeframe="1d", **request_)


def test_every_published_artefact_verifies_and_holds_what_the_tables_hold(
    workplace: Workplace,
):
    tell_story()
    client = TrustedClient(
        workplace.key_store().trusted_root(),
        LocalFetcher(workplace.root),
        None,
        workplace.clock,
    )
    snapshot = client.refresh()

    assert set(snapshot.artefacts) == {
        "latest_predictions",
        "signal_performance",
        "evaluation_report",
        "instruments",
        "recent_bars",
    }
    newest = client.load("latest_predictions")
    assert newest.num_rows == 4  # two symbols, two models
    bars = client.load("recent_bars")
    assert pc.max(pc.value_counts(bars["symbol"]).field("counts")).as_py() == 500
    records = workplace.lake.read("decision_records").to_pylist()
    assert [one["agent_id"] for one in records] == ["publisher"]
    assert set(json.loads(records[0]["output"])["artefacts"]) == set(snapshot.artefacts)


def test_a_changed_forecast_publishes_only_what_changed(workplace: Workplace):
    tell_story()
    run_plainly("forecast", forecast_closes, model="naive", timeframe="1d", seed=1)

    told = run_plainly("publish", publish_artefacts).message

    assert told == "version 3 published: latest_predictions"


def test_leaders_are_not_forecast(workplace: Workplace):
    tell_story()
    symbols = workplace.lake.read("ml_predictions")["symbol"].to_pylist()
    assert set(symbols) == {"SP500", "NASDAQ"}


def test_forecasts_use_only_what_was_known(workplace: Workplace):
    tell_story()
    rows = workplace.lake.read("ml_predictions").to_pylist()
    for row in rows:
        assert row["last_ts"] < row["as_of"] <= workplace.clock.now()
        assert row["known_ts"] <= row["as_of"]
        assert row["target_ts"][0] > row["last_ts"]


def test_another_symbol_is_forecast_at_an_as_of_that_is_done(workplace: Workplace):
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    one = run_plainly("forecast", forecast_closes, timeframe="1d", symbols=["SP500"])
    both = run_plainly("forecast", forecast_closes, timeframe="1d")

    assert one.counts["forecasts"] == both.counts["forecasts"] == 1
    assert workplace.lake.read("ml_predictions").num_rows == 2


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"timeframe": "1d", "as_of": "2019-01-01"}, "later than now"),
        ({"timeframe": "1d", "as_of": "yesterday"}, "not an ISO 8601 time"),
        ({"timeframe": "1d", "symbols": ["NOPE"]}, "not in `instruments`: NOPE"),
        ({"timeframe": "1h"}, "no 1h bars known"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    workplace: Workplace, parameters: dict[str, object], reason: str
):
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    with pytest.raises(InputError, match=reason):
        run_plainly("forecast", forecast_closes, **parameters)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"source": "moon"}, "--source 'moon': allowed are sample"),
        ({"source": "files"}, "needs --path"),
        ({"source": "sample", "path": "x.csv"}, "--path is for --source files"),
        ({"source": "sample", "timeframe": "5m"}, "--timeframe '5m'"),
        ({"source": "sample", "options": {"seed": "1"}}, "takes no --seed"),
        ({"source": "synthetic", "options": {"seed": "x"}}, "--seed 'x'"),
        ({"source": "files", "path": "/nowhere/*.csv"}, "nowhere"),
    ],
)
def test_an_unusable_ingest_is_refused_and_recorded(
    workplace: Workplace, parameters: dict[str, object], reason: str
):
    with pytest.raises(InputError, match=reason):
        run_plainly("ingest-ohlcv", ingest_bars, **parameters)
    runs = workplace.lake.read("runs").to_pylist()
    assert [run["status"] for run in runs] == ["failed"]
    assert runs[0]["message"]


def test_a_refusal_is_recorded_with_its_reason(place: Place):
    with pytest.raises(RefusedError, match="no repository here"):
        run_plainly("publish", publish_artefacts)
    runs = open_workplace().lake.read("runs").to_pylist()
    assert [(run["flow"], run["status"]) for run in runs] == [("publish", "refused")]
    assert "no repository here" in runs[0]["message"]


def test_replay_reproduces_every_number(workplace: Workplace):
    tell_story(days=3)
    runs = {run["flow"]: run for run in workplace.lake.read("runs").to_pylist()}
    # Later rows must not matter: the run's versions are pinned.
    run_plainly("forecast", forecast_closes, timeframe="1d", seed=3)

    for flow in ("forecast", "score-signals"):
        report = replay_run(workplace, runs[flow]["run_id"])
        assert report.is_equal, report.lines()
        assert report.n_rows > 0
        assert report.n_numbers > report.n_rows


def test_replay_of_an_unknown_or_other_run_is_refused(workplace: Workplace):
    tell_story(days=1)
    runs = {run["flow"]: run for run in workplace.lake.read("runs").to_pylist()}
    with pytest.raises(InputError, match="not in `runs`"):
        replay_run(workplace, "nope")
    with pytest.raises(InputError, match="publish cannot be replayed, only completed"):
        replay_run(workplace, runs["publish"]["run_id"])


def test_a_run_leaves_its_manifest_and_its_metrics(workplace: Workplace):
    tell_story(days=1)
    runs = {run["flow"]: run for run in workplace.lake.read("runs").to_pylist()}
    forecast = runs["forecast"]
    assert json.loads(forecast["tables_read"]).keys() >= {"instruments", "ohlcv"}
    assert json.loads(forecast["tables_written"]).keys() == {"ml_predictions"}
    assert json.loads(forecast["seeds"]) == {"forecast": 0}
    assert len(forecast["lock_hash"]) == 64
    assert forecast["prefect_run_id"] is None
    metrics = workplace.lake.read("telemetry").to_pylist()
    good = next(one for one in metrics if one["name"] == "ingest-ohlcv.rows_good")
    assert good["value"] == json.loads(runs["ingest-ohlcv"]["counts"])["rows_good"]


def test_a_heartbeat_is_written_once_per_slot(workplace: Workplace):
    assert run_plainly("heartbeat", beat).message == "beat"
    assert "already" in run_plainly("heartbeat", beat).message
    rows = workplace.lake.read(
        "telemetry", filter=pc.field("name") == "lab.heartbeat"
    ).to_pylist()
    assert len(rows) == 1


def test_months_pass_and_everything_keeps_verifying(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    scored = []
    for now in ("2024-01-15", "2024-02-20", "2024-03-28", "2024-04-30"):
        monkeypatch.setenv("ALPHALAKE_NOW", f"{now}T22:30:00Z")
        forget_settings()
        workplace = open_workplace()
        set_up_trust(workplace)
        run_plainly(
            "ingest-ohlcv",
            ingest_bars,
            source="synthetic",
            timeframe="1d",
            options={"years": "0.6"},
        )
        run_plainly("forecast", forecast_closes, timeframe="1d", samples=3)
        run_plainly("score-signals", score_settled, timeframe="1d")
        run_plainly("publish", publish_artefacts)
        run_plainly("resign", renew_signatures)
        run_plainly("maintain", maintain_tables)
        client = TrustedClient(
            workplace.key_store().trusted_root(),
            LocalFetcher(workplace.root),
            None,
            workplace.clock,
        )
        assert client.refresh().artefacts
        scored.append(workplace.lake.read("prediction_scores").num_rows)
    assert scored == sorted(scored)
    assert scored[-1] > scored[0]
