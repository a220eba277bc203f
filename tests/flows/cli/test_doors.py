"""Verbs against what stands outside: an exchange, Yahoo, a gateway, an S3 store."""

import json
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.cli.app import run
from flows.processes import LOOPBACK, answers_ok, crew, free_port
from tests.flows.conftest import forget_settings
from tests.simulators.exchange import Binance, serving
from tests.simulators.places import Place

START_MS = int(datetime(2018, 9, 1, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 86_400_000


def call(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    status = run(list(words))
    caught = capsys.readouterr()
    assert status == 0, caught.err
    return caught.out


def test_bars_of_an_exchange_come_in_by_the_verb(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with serving(Binance()) as server:
        server.add_bars("BTCUSDT", START_MS, range(100, 140), step_ms=DAY_MS)
        words = ["ingest", "ohlcv", "--source", "ccxt", "--base-url", server.url]
        words += ["--symbols", "BTC/USDT", "--since", "2018-09-01"]
        told = call(capsys, *words, "--exchange", "binance")
        # 30 days are complete at 2018-10-01 00:00.
        assert "ccxt: read 30, good 30, quarantined 0, written 30" in told
        monkeypatch.setenv("ALPHALAKE_EXCHANGE", "binance")
        forget_settings()
        assert "good 30, quarantined 0, written 0" in call(capsys, *words)
    # It has gone away: said in one line, recorded, nothing changed.
    monkeypatch.setattr("flows.runs.FETCH_WAITS_S", ())
    status = run(words)
    said = capsys.readouterr().err.splitlines()
    assert (status, len(said)) == (1, 2)
    assert said[1].startswith("alphalake: ccxt:binance")
    runs = json.loads(call(capsys, "--json", "runs"))
    assert [one["status"] for one in runs].count("failed") == 1


def test_a_consumer_verifies_a_gateway_to_the_last_data_file(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for words in (["init"], ["ingest", "ohlcv", "--symbols", "SP500"], ["publish"]):
        call(capsys, *words)
    token = call(capsys, "keys", "token", "--for", "consumer:ann").strip()
    url = f"http://{LOOPBACK}:{free_port()}"
    with crew() as members:
        members.start(
            "gateway",
            [
                *(Path(sys.executable).parent / "alphalake", "serve"),
                *("--port", url.rsplit(":", 1)[1]),
            ],
            log=place.folder / "serve.log",
        )
        members.wait_for(
            "gateway", lambda: answers_ok(f"{url}/health/ready"), timeout_s=60
        )
        report = json.loads(
            call(capsys, "verify", "--url", url, "--token", token, "--json")
        )
        assert {one["kind"] for one in report["artefacts"]} == {
            "instruments",
            "recent_bars",
        }
        assert run(["verify", "--url", url]) == 1
        assert "--token or ALPHALAKE_TOKEN" in capsys.readouterr().err
        monkeypatch.setenv("ALPHALAKE_TOKEN", "wrong")
        assert run(["verify", "--url", url]) == 1
        assert "answered 401" in capsys.readouterr().err

        # Its roles rotate and it keeps serving.
        for role in ("timestamp", "shadow"):
            call(capsys, "keys", "rotate", role)
        call(capsys, "verify", "--url", url, "--token", token)
        with urllib.request.urlopen(f"{url}/showcase/ohlcv/SP500") as reply:
            assert json.load(reply)["total"] == 500

        # A changed byte of data is found, also through the gateway.
        for path in Path(place.root).glob("tables/artefact_recent_bars/*.parquet"):
            path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
        assert run(["verify", "--url", url, "--token", token]) == 1
        assert "artefact_recent_bars" in capsys.readouterr().err


@pytest.mark.s3
def test_the_whole_way_on_s3(
    place: Place,
    s3_root: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("ALPHALAKE_ROOT", s3_root)
    forget_settings()
    call(capsys, "init")
    assert "written 4968" in call(capsys, "ingest", "ohlcv", "--symbols", "SP500")
    assert "3 forecasts" in call(capsys, "forecast", "--earlier", "2", "--samples", "3")
    call(capsys, "score")
    call(capsys, "publish")
    assert "shadow/signal_performance" in call(capsys, "verify", "--history")
    found = call(capsys, "sql", "SELECT count(*) AS n FROM ohlcv", "--json")
    assert json.loads(found) == [{"n": 4968}]
    assert "4968" in call(capsys, "status")
    [forecast] = json.loads(call(capsys, "--json", "runs", "--flow", "forecast"))
    assert "0 differ" in call(capsys, "replay", forecast["run_id"])
    call(capsys, "verify", forecast["run_id"])

    url = f"http://{LOOPBACK}:{free_port()}"
    with crew() as members:
        members.start(
            "gateway",
            [
                *(Path(sys.executable).parent / "alphalake", "--root", s3_root),
                *("serve", "--port", url.rsplit(":", 1)[1]),
            ],
            log=place.folder / "serve.log",
        )
        members.wait_for(
            "gateway",
            lambda: answers_ok(f"{url}/showcase/ml-prediction/SP500"),
            timeout_s=60,
        )
