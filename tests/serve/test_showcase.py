"""What the public routes answer."""

import json

import pytest

from serve.settings import ServeSettings
from tests.simulators.artefacts import SYMBOLS, MemoryProvider, report, tables


def assert_problem(answer, status: int, kind: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["type"] == f"urn:alphalake:problem:{kind}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]


def test_prediction_is_the_published_row(client, provider):
    row = next(
        row
        for row in tables()["latest_predictions"].to_pylist()
        if row["symbol"] == "BTC-USD"
        and row["timeframe"] == "1d"
        and row["model_name"] == "seasonal"
    )
    got = client.get(
        "/showcase/ml-prediction/BTC-USD?model_name=seasonal&timeframe=1d"
    ).json()
    assert got["p10"] == row["p10"]
    assert got["p50"] == row["p50"]
    assert got["p90"] == row["p90"]
    assert got["target_ts"][0] == "2022-03-04T21:00:00Z"
    assert got["stale"] is False
    assert got["has_skill"] is None
    assert got["artefact"] == {"version": 1, "sha256": f"{1:064x}"}


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_defaults_are_hourly_bars_and_the_preferred_model(client, symbol):
    got = client.get(f"/showcase/ml-prediction/{symbol}").json()
    assert (got["symbol"], got["timeframe"]) == (symbol, "1h")
    assert got["model_name"] == "naive"


def test_an_ensemble_is_preferred_in_the_same_bar(start):
    client = start(MemoryProvider(tables(models=("naive", "kronos", "ensemble"))))
    got = client.get("/showcase/ml-prediction/BTC-USD").json()
    assert got["model_name"] == "ensemble"


def test_a_symbol_with_a_slash_is_reached_both_ways(client):
    plain = client.get("/showcase/ml-prediction/EUR/USD")
    quoted = client.get("/showcase/ml-prediction/EUR%2FUSD")
    assert plain.status_code == quoted.status_code == 200
    assert plain.content == quoted.content


def test_unknown_symbol_and_known_without_forecast_are_two_problems(client):
    assert_problem(client.get("/showcase/ml-prediction/NOPE"), 404, "unknown-symbol")
    assert_problem(client.get("/showcase/ml-prediction/GOLD"), 404, "no-forecast")
    assert_problem(
        client.get("/showcase/ml-prediction/BTC-USD?model_name=kronos"),
        404,
        "no-forecast",
    )
    assert_problem(client.get("/showcase/ohlcv/GOLD"), 404, "no-bars")


@pytest.mark.parametrize(
    "url",
    [
        "/showcase/ml-prediction/BTC-USD?timeframe=5m",
        "/showcase/ml-prediction/BTC-USD?model_name=",
        "/showcase/ml-prediction/BTC-USD?model_name=a%00b",
        "/showcase/ml-prediction/BTC-USD?timeframe=1h&timeframe=1d",
        "/showcase/ml-prediction/BTC-USD?unknown=1",
        "/showcase/ohlcv/BTC-USD?limit=0",
        "/showcase/ohlcv/BTC-USD?limit=ten",
        "/showcase/ohlcv/BTC-USD?offset=-1",
        "/showcase/instruments?limit=999999",
        "/showcase/evaluation?horizon=0",
        "/showcase/evaluation?symbol=%27%3B--",
    ],
)
def test_malformed_parameters_are_400(client, url):
    assert_problem(client.get(url), 400, "malformed-request")


def test_nothing_verified_is_503(start):
    provider = MemoryProvider()
    provider.broken = OSError("gone")
    client = start(provider)
    for url in (
        "/showcase/ml-prediction/BTC-USD",
        "/showcase/instruments",
        "/showcase/ohlcv/BTC-USD",
        "/showcase/evaluation",
        "/health/ready",
    ):
        answer = client.get(url)
        assert_problem(answer, 503, "nothing-verified")
        assert int(answer.headers["retry-after"]) > 0
    assert client.get("/health/live").status_code == 200
    assert client.get("/").status_code == 200


def test_instruments_say_what_there_is(client):
    got = client.get("/showcase/instruments").json()
    assert (got["total"], got["offset"], got["limit"]) == (5, 0, 500)
    by_symbol = {item["symbol"]: item for item in got["items"]}
    assert by_symbol["GOLD"]["forecasts"] == []
    assert by_symbol["ES=F"]["timeframes"] == ["1h", "1d"]
    assert by_symbol["ES=F"]["forecasts"][0] == {
        "timeframe": "1h",
        "model_name": "naive",
    }


def test_bar_pages_cover_every_bar_once_and_run_forward(client):
    whole = client.get("/showcase/ohlcv/BTC-USD?timeframe=1d").json()
    pages = [
        client.get(
            f"/showcase/ohlcv/BTC-USD?timeframe=1d&limit=25&offset={offset}"
        ).json()
        for offset in (0, 25, 50, 75)
    ]
    assert [len(page["items"]) for page in pages] == [25, 25, 10, 0]
    joined = [bar for page in reversed(pages) for bar in page["items"]]
    assert joined == whole["items"]
    assert joined == sorted(joined, key=lambda bar: bar["ts"])
    assert whole["items"][0]["volume"] is None


def test_scores_can_be_filtered(client):
    got = client.get(
        "/showcase/evaluation?symbol=ES%3DF&timeframe=1h&model_name=naive&horizon=4"
    ).json()
    assert got["total"] == 1
    item = got["items"][0]
    assert (item["symbol"], item["horizon"], item["model_name"]) == ("ES=F", 4, "naive")
    assert client.get("/showcase/evaluation").json()["total"] == 48


@pytest.fixture
def judged(start):
    """A gateway whose artefacts hold the court's report."""
    return start(MemoryProvider(tables() | {"evaluation_report": report()}))


def test_a_forecast_says_at_which_horizons_it_has_skill(judged):
    url = "/showcase/ml-prediction/BTC-USD?timeframe=1d&model_name="
    skilled = judged.get(url + "seasonal").json()
    assert skilled["has_skill"] is True
    assert [one["horizon"] for one in skilled["skill"]] == [1, 4, 24]
    assert skilled["skill"][0] == {"horizon": 1, "has_skill": True}
    assert skilled["skill"][2] == {"horizon": 24, "has_skill": None}
    baseline = judged.get(url + "naive").json()
    assert baseline["has_skill"] is False


def test_what_was_never_judged_has_no_verdict(client, start):
    got = client.get("/showcase/ml-prediction/BTC-USD").json()
    assert (got["has_skill"], got["skill"]) == (None, [])
    scores = client.get("/showcase/evaluation").json()
    assert scores["report"] is None
    assert {(one["has_skill"], one["court"]) for one in scores["items"]} == {
        (None, None)
    }
    too_few = report(symbols=("ES=F",), models={"naive": (0.0, 1.0)})
    other = start(MemoryProvider(tables() | {"evaluation_report": too_few}))
    got = other.get("/showcase/ml-prediction/BTC-USD").json()
    assert (got["has_skill"], got["skill"]) == (None, [])


def test_scores_carry_the_courts_figures(judged):
    got = judged.get(
        "/showcase/evaluation?symbol=ES%3DF&timeframe=1d&model_name=seasonal&horizon=1"
    ).json()
    (item,) = got["items"]
    assert item["has_skill"] is item["court"]["has_skill"] is True
    court = item["court"]
    assert court["q_skill"] <= 0.05
    assert court["mae"] < court["mae_persistence"]
    assert court["reason"] == "beats persistence and naive"
    assert sum(court["pit_histogram"]) == pytest.approx(court["n_obs"])
    assert got["report"] == got["artefact"]


def test_pools_are_asked_for_by_level(judged):
    whole = judged.get("/showcase/evaluation?level=all&timeframe=1d").json()
    assert {one["symbol"] for one in whole["items"]} == {"all"}
    assert whole["total"] == 6
    assert whole["items"][0]["court"]["n_symbols"] == len(SYMBOLS)
    classes = judged.get("/showcase/evaluation?level=asset_class&symbol=fx").json()
    assert {one["symbol"] for one in classes["items"]} == {"fx"}
    assert_problem(judged.get("/showcase/evaluation?level=x"), 400, "malformed-request")


def test_a_page_of_scores_stays_small(judged):
    body = judged.get("/showcase/evaluation").content
    assert len(body) / 48 < 1500


def test_no_spelling_of_an_absent_parameter_shares_its_answer(client):
    assert client.get("/showcase/evaluation?symbol=None&limit=7").json()["total"] == 0
    assert client.get("/showcase/evaluation?limit=7").json()["total"] == 48
    assert client.get("/showcase/ml-prediction/BTC-USD?&").status_code == 200
    assert_problem(
        client.get("/showcase/ml-prediction/BTC-USD?model_name=None"),
        404,
        "no-forecast",
    )


def test_status_tells_the_demo_date_and_the_artefacts(client):
    got = client.get("/showcase/status").json()
    assert got["demo"] is True
    assert got["now"] == got["verified_at"] == "2022-03-04T21:00:00Z"
    assert got["stale"] is False
    assert {one["kind"] for one in got["artefacts"]} == {
        "latest_predictions",
        "signal_performance",
        "instruments",
        "recent_bars",
    }


def test_cors_is_open_on_showcase_only(client):
    origin = {"Origin": "https://elsewhere.example"}
    shown = client.get("/showcase/instruments", headers=origin)
    assert shown.headers["access-control-allow-origin"] == "*"
    missing = client.get("/showcase/ml-prediction/NOPE", headers=origin)
    assert missing.headers["access-control-allow-origin"] == "*"
    for url in ("/", "/schema/openapi.json", "/admin/health"):
        closed = client.get(url, headers=origin)
        assert "access-control-allow-origin" not in closed.headers
    preflight = client.request("OPTIONS", "/showcase/instruments", headers=origin)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-methods"] == "GET, HEAD"


@pytest.mark.parametrize(
    "url", ["/", "/evaluation?symbol=X", "/showcase/status", "/nope", "/schema"]
)
def test_every_answer_carries_the_protective_headers(client, url):
    headers = client.get(url).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"].startswith("default-src 'none';")


def test_wrong_methods_are_405_with_allow(client):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for url in ("/showcase/instruments", "/showcase/ml-prediction/BTC-USD", "/"):
            answer = client.request(method, url)
            assert_problem(answer, 405, "method-not-allowed")
            assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_pages_and_assets_are_served_from_memory(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for asset in ("/vendor/lightweight-charts.js", "/vendor/swagger-ui-bundle.js"):
        answer = client.get(asset)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/javascript")
        again = client.get(asset, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    for url in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/nope.js"):
        assert client.get(url).status_code in {400, 404}


def test_both_spellings_of_the_schema_page_have_its_policy(client):
    plain, slashed = client.get("/schema"), client.get("/schema/")
    policy = "content-security-policy"
    assert plain.content == slashed.content
    assert plain.headers[policy] == slashed.headers[policy]


def test_the_openapi_document_names_no_other_host(client):
    page = client.get("/schema").text
    assert "https://" not in page
    document = client.get("/schema/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) >= {
        "/showcase/ml-prediction/{symbol}",
        "/showcase/instruments",
        "/showcase/ohlcv/{symbol}",
        "/showcase/evaluation",
        "/showcase/status",
        "/admin/health",
    }
    assert "http://" not in json.dumps(document)


def test_probes_are_for_loopback(client):
    for url in ("/health/live", "/health/ready", "/health/freshness", "/metrics"):
        assert client.get(url).status_code == 200
        for spelling in (url, f"/{url}", f"{url}/"):
            answer = client.get(f"http://gateway.test{spelling}", peer="192.0.2.7")
            assert_problem(answer, 403, "loopback-only")
        forwarded = {"X-Forwarded-For": "192.0.2.7"}
        assert_problem(client.get(url, headers=forwarded), 403, "loopback-only")


def test_settings_read_back_what_was_written(settings: ServeSettings, monkeypatch):
    from serve.settings import to_environment

    for name, value in to_environment(settings).items():
        if name.startswith("ALPHALAKE_SERVE_"):
            monkeypatch.setenv(name, value)
    assert ServeSettings() == settings
