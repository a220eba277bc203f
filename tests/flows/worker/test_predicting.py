"""The worker's side of `/predict`: a real gateway process, real worker threads."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

import httpx
import msgspec
import numpy as np
import pytest

from flows.checkpoints.kronos import write_folder
from flows.checkpoints.models import forget_forecasters, open_forecaster
from flows.worker.gateway import AwayError, GatewayClient, check_gateway
from flows.worker.requested import (
    Refusal,
    Request,
    encode_outcome,
    forecast_jobs,
)
from lab.bars.series import Series
from lab.errors import CheckpointError
from lab.forecasters._base import ForecastRequest
from lab.forecasters.naive import NaiveForecaster
from lab.forecasters.registry import make_forecaster
from lakehouse.errors import InputError
from serve.predict.requests import read_order
from tests.simulators.gateway import REPOSITORY, GatewayProcess
from tests.simulators.kronos import modules
from tests.simulators.predict import Desk, WorkerThread, body, working


class Conditioned(NaiveForecaster):
    """Forecasts as `naive` does, in calls of many requests, and keeps the events."""

    takes_events = True
    cutoff = None
    card: ClassVar[dict] = {}

    def __init__(self):
        super().__init__()
        self.calls: list[int] = []
        self.events: list = []
        self.before = lambda: None

    def forecast_requests(self, requests, *, horizon, n_samples=20, seed=0):
        self.before()
        self.calls.append(len(requests))
        self.events += [one.events for one in requests]
        return [
            self.forecast(
                [one.series],
                as_of=one.as_of,
                horizon=horizon,
                n_samples=n_samples,
                seed=seed,
            )[0]
            for one in requests
        ]


class Particular(Conditioned):
    """Raises for one symbol, which spoils the call it is in."""

    def __init__(self, error: Exception):
        super().__init__()
        self.error = error

    def forecast(self, series: list[Series], **options):
        if series[0].symbol == "BAD":
            raise self.error
        return super().forecast(series, **options)


def wire(request: dict) -> Request:
    order = read_order(msgspec.json.encode(request), {})
    return msgspec.json.decode(order.payload, type=Request)


def made(model, *requests: dict) -> list[dict]:
    found = forecast_jobs([wire(one) for one in requests], None, lambda *_: model)
    return [msgspec.json.decode(encode_outcome(one)) for one in found]


def test_an_outcome_is_what_the_model_says_of_these_bars():
    (outcome,) = made(make_forecaster("naive"), body(300, pred_len=24))
    assert outcome["status"] == "done"
    assert outcome["is_conditioned"] is False
    bars = wire(body(300, pred_len=24)).ohlcv
    ts = np.array([one.replace(tzinfo=None) for one in bars.ts], "datetime64[us]")
    names = ("open", "high", "low", "close", "volume")
    prices = {name: np.array(getattr(bars, name)) for name in names}
    series = Series("unnamed", "1h", "24x7", "other", ts, **prices)
    as_of = bars.ts[-1] + timedelta(hours=1)
    (forecast,) = NaiveForecaster().forecast([series], as_of=as_of, horizon=24)
    assert outcome["as_of"] == as_of.isoformat().replace("+00:00", "Z")
    assert outcome["p50"] == forecast.p50.tolist()
    assert np.array_equal(np.float32(outcome["samples"]), forecast.samples)


def test_events_are_cut_to_the_models_own_context():
    model = Conditioned()
    n_bars, n_given = 1100, 1105
    events = [[float(row)] * 20 for row in range(n_given)]
    (outcome,) = made(model, body(n_bars, events=events))
    assert outcome["is_conditioned"] is True
    (tensor,) = model.events
    assert tensor.shape == (1005, 20)
    assert tensor.dtype == np.float32
    assert (tensor[0, 0], tensor[-1, 0]) == (100.0, 1104.0)
    (plain,) = made(model, body(n_bars))
    assert plain["is_conditioned"] is False
    (baseline,) = made(make_forecaster("naive"), body(n_bars, events=events))
    assert baseline["is_conditioned"] is False


UNFIT = {
    "short": (body(20), "20 bars, model naive needs 100"),
    "no calendar": (body(150, calendar="NOPE"), "calendar 'NOPE': allowed are"),
    "closed then": (
        body(150, timeframe="1d", calendar="XNYS", seed=3),
        "calendar 'XNYS' has no 1d bar there",
    ),
    "beyond the calendars": (
        {
            **body(150),
            "ohlcv": {
                **body(150)["ohlcv"],
                "ts": [f"2050-01-{1 + i // 24:02d}T{i % 24:02d}:00:00Z" for i in range(150)],
            },
        },
        "has no 1h bar there",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "match"), UNFIT.values(), ids=UNFIT)
def test_bars_that_cannot_be_forecast_are_unfit_in_words(request_, match):
    if request_.get("calendar") == "XNYS":
        # The last of 150 days from 2021-01-01 is Sunday, 30 May.
        assert request_["ohlcv"]["ts"][-1].startswith("2021-05-30")
    (outcome,) = made(make_forecaster("naive"), request_)
    assert (outcome["status"], outcome["reason"]) == ("failed", "unfit")
    assert match in outcome["detail"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CheckpointError("weights are gone"), "no-model"),
        (RuntimeError("CUDA out of memory"), "broken"),
        (ValueError("secret path"), "broken"),
    ],
    ids=str,
)
def test_one_bad_history_spoils_no_other(error, reason):
    model = Particular(error)
    requests = [body(150, seed=n, symbol="AB"[n % 2] * 3) for n in range(4)]
    requests[2]["symbol"] = "BAD"
    outcomes = made(model, *requests, body(20))
    assert [one["status"] for one in outcomes] == [
        "done", "done", "failed", "done", "failed",
    ]  # fmt: skip
    assert outcomes[2]["reason"] == reason
    assert "secret" not in outcomes[2]["detail"]
    assert model.calls[0] == 4
    alone = made(NaiveForecaster(), requests[0])[0]
    assert outcomes[0]["samples"] == alone["samples"]


def test_a_model_that_cannot_be_opened_is_no_model():
    def opener(name, _):
        raise CheckpointError(f"{name}: no weights")

    found = forecast_jobs([wire(body()), wire(body())], None, opener)
    assert found == [(Refusal("no-model", "naive: no weights"), False)] * 2


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("ftp://x", "t"),
        ("http://", "t"),
        ("http://x:99999", "t"),
        ("http://x/path", "t"),
        ("http://x?y=1", "t"),
        ("http://x", ""),
        ("http://x", "a\nb"),
        ("http://x", "ä"),
    ],
)
def test_what_is_no_gateway_is_refused(url, token):
    with pytest.raises(InputError, match="gateway"):
        check_gateway(url, token)


# --- over a real gateway ---


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    yield desk
    desk.gateway.stop()


def attended(desk: Desk) -> None:
    httpx.get(
        f"{desk.url}/work/next?worker=sign&max=0&wait=0", headers=desk.headers("worker")
    ).raise_for_status()


def until(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_waiting_jobs_of_one_kind_are_one_call(desk):
    model = Conditioned()
    attended(desk)
    with ThreadPoolExecutor(24) as pool:
        asked = [pool.submit(desk.ask, body(150, seed=n)) for n in range(23)]
        asked.append(pool.submit(desk.ask, body(150, pred_len=6)))
        until(lambda: desk.metric('predict_queue{state="waiting"}') == 24)
        with working(desk, opener=lambda *_: model):
            answers = [one.result() for one in asked]
    assert {one.status_code for one in answers} == {200}
    assert sorted(model.calls) == [1, 23]


def test_a_refusal_is_the_clients_problem_document(desk):
    with working(desk):
        attended(desk)
        answer = desk.ask(body(20))
        broken = desk.ask(body(150, model="kronos", calendar="NOPE"))
    assert answer.status_code == 422
    assert answer.json()["detail"] == "20 bars, model naive needs 100"
    assert broken.status_code == 503
    assert broken.json()["type"].endswith("no-model")


def test_a_slow_batch_keeps_its_lease_and_is_finished_when_asked_to_stop(
    desk, monkeypatch
):
    monkeypatch.setattr("flows.worker.predicting._RENEW_S", 0.1)
    model, entered, release = Conditioned(), threading.Event(), threading.Event()

    def before() -> None:
        entered.set()
        release.wait(20)

    model.before = before
    worker = WorkerThread(desk, opener=lambda *_: model)
    attended(desk)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(desk.ask, body(150, seed=1000))
        assert entered.wait(10)
        worker.stop.set()
        time.sleep(0.5)
        assert desk.metric("predict_worker_absent_seconds") < 0.4
        assert worker.thread.is_alive()
        release.set()
        assert asked.result(10).status_code == 200
    worker.end()
    assert model.calls == [1]


def test_a_busy_device_gives_jobs_back_when_asked_to_stop(desk):
    lock = threading.Lock()
    attended(desk)
    with lock, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(desk.ask, body(150, seed=2000))
        worker = WorkerThread(desk, device_lock=lock)
        until(lambda: desk.metric('predict_queue{state="running"}') == 1)
        started = time.monotonic()
        worker.end()
        assert time.monotonic() - started < 2
        assert desk.metric('predict_queue{state="waiting"}') == 1
        with working(desk):
            answer = asked.result(10)
    assert answer.status_code == 200


def test_models_are_loaded_before_the_first_poll(desk):
    opened, lock = [], threading.Lock()

    def opener(name, _):
        assert lock.locked()
        opened.append(name)
        if name == "gone":
            raise CheckpointError("weights are gone")
        return make_forecaster(name)

    options = {"device_lock": lock, "preload": ("naive", "gone", "seasonal")}
    with working(desk, opener=opener, **options):
        attended(desk)
        answer = desk.ask(body(150, seed=4000))
    assert answer.status_code == 200
    assert opened == ["naive", "gone", "seasonal", "naive"]


def test_an_idle_worker_stops_within_a_poll(desk):
    worker = WorkerThread(desk)
    time.sleep(0.3)
    started = time.monotonic()
    worker.end()
    assert time.monotonic() - started < 3


@pytest.fixture
def kronos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a small random Kronos, which this process's settings name."""
    folder = tmp_path / "kronos"
    write_folder(folder, *modules(), card={"name": "random", "cutoff": None})
    monkeypatch.setenv("ALPHALAKE_KRONOS", str(folder))
    forget_forecasters()
    yield folder
    forget_forecasters()


def test_kronos_answers_clients_with_what_it_forecasts_alone(desk, kronos):
    histories = [body(n, seed=n, model="kronos") for n in (60, 150, 450)]
    attended(desk)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(desk.ask, one) for one in histories]
        until(lambda: desk.metric('predict_queue{state="waiting"}') == 3)
        with working(desk, opener=open_forecaster, preload=("kronos",)):
            answers = [one.result() for one in asked]
    assert {one.status_code for one in answers} == {200}
    model = open_forecaster("kronos", desk.workplace)
    for history, answer in zip(histories, answers, strict=True):
        got = answer.json()
        bars = wire(history).ohlcv
        series = Series(
            *("unnamed", "1h", "24x7", "other"),
            np.array([ts.replace(tzinfo=None) for ts in bars.ts], "datetime64[us]"),
            *(np.array(getattr(bars, name)) for name in bars.__struct_fields__[1:]),
        )
        as_of = datetime.fromisoformat(got["as_of"])
        (alone,) = model.forecast_requests([ForecastRequest(series, as_of)], horizon=5)
        assert got["model_version"] == alone.model_version == model.version
        assert got["is_contaminated"]
        for name in ("p10", "p50", "p90"):
            assert got[name] == getattr(alone, name).tolist()
        assert np.array_equal(np.float32(got["samples"]), alone.samples)


def test_damaged_weights_are_a_refusal_and_cost_no_other_model(desk, kronos):
    weights = kronos / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with working(desk, opener=open_forecaster, preload=("kronos",)):
        attended(desk)
        answer = desk.ask(body(150, model="kronos", seed=5000))
        other = desk.ask(body(150, seed=5000))
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("no-model")
    assert "model.safetensors is not the file its card" in answer.json()["detail"]
    assert other.status_code == 200


KILLED = """
import os, signal, sys, threading
from flows.worker.predicting import serve_predictions
def opener(name, _):
    print("taken", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
serve_predictions(sys.argv[1], sys.argv[2], stop=threading.Event(),
                  device_lock=threading.Lock(), workplace=None, opener=opener, preload=())
"""


@pytest.mark.full
def test_the_job_of_a_killed_worker_is_done_by_the_next(desk):
    with ThreadPoolExecutor(1) as pool:
        attended(desk)
        asked = pool.submit(desk.ask, body(150, seed=3000))
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, desk.url, desk.tokens["worker"]],
            cwd=REPOSITORY,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert killed.returncode == -9
        with working(desk):
            answer = asked.result(40)
    if answer.status_code == 202:
        with working(desk):
            until(lambda: desk.fetch(answer.json()["location"]).status_code == 200, 20)
    else:
        assert answer.status_code == 200
    assert desk.metric("predict_offered_again_total") >= 1


@pytest.mark.full
def test_a_worker_waits_for_a_gateway_that_is_away(tmp_path, caplog):
    desk = Desk(tmp_path)
    port = desk.gateway.port
    worker = WorkerThread(desk)
    try:
        attended(desk)
        assert desk.ask(body(150)).status_code == 200
        desk.gateway.kill()
        until(lambda: "no predictions for now" in caplog.text)
        desk.gateway = GatewayProcess(
            desk.lake, desk.gateway.state, "--rate-limit", "0", port=port
        )
        until(lambda: desk.ask(body(150, seed=2)).status_code == 200, 20)
    finally:
        worker.end()
        desk.gateway.stop()


def test_a_worker_asks_again_while_there_is_no_gateway(desk, caplog):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with working(desk, url=url) as worker:
            until(lambda: "no predictions for now" in caplog.text)
            time.sleep(1)
            assert worker.thread.is_alive()
    assert caplog.text.count("no predictions for now") == 1


def test_a_wrong_token_is_said_once_and_tried_again(desk, caplog):
    with working(desk, token="wrong"):
        time.sleep(1.3)
    assert caplog.text.count("not a live worker token") == 1
    client = GatewayClient(desk.url, "wrong", "a")
    with pytest.raises(AwayError, match="status 401"):
        client.take(1, wait_s=0)
    client.close()
