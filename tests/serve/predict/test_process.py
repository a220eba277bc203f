"""`/predict` over a real gateway process and a real worker."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median, quantiles

import httpx
import msgspec
import pytest

from lab.forecasters.naive import NaiveForecaster
from tests.simulators.predict import Desk, body, working

SHOWCASE = "/showcase/ml-prediction/BTC-USD"


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    yield desk
    desk.gateway.stop()
    assert "Traceback" not in desk.gateway.log.read_text()


def test_bars_come_back_as_a_forecast_and_then_from_the_cache(desk):
    request = body(400, pred_len=120, symbol="BTC-USD")
    assert desk.ask(request).status_code == 503
    with working(desk):
        until = time.monotonic() + 10
        while (answer := desk.ask(request)).status_code == 503:
            assert time.monotonic() < until
            time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    got = answer.json()
    assert [len(got[name]) for name in ("p10", "p50", "p90", "target_ts")] == [120] * 4
    assert len(got["samples"]) == 20
    assert got["target_ts"][0] == "2021-01-17T16:00:00Z"
    assert got["as_of"] == "2021-01-17T16:00:00Z"
    assert got["last_close"] == pytest.approx(request["ohlcv"]["close"][-1])
    assert got["model_name"] == "naive"
    spent = []
    with httpx.Client(headers=desk.headers()) as client:
        for _ in range(30):
            started = time.perf_counter()
            again = client.post(f"{desk.url}/predict", json=request)
            spent.append(time.perf_counter() - started)
            assert again.json() == {**got, "is_cached": True}
    assert median(spent) < 0.05  # seconds


def test_many_clients_share_calls(desk):
    requests = [body(300, seed=seed, pred_len=24) for seed in range(24)] * 2
    data = [msgspec.json.encode(request) for request in requests]
    with working(desk), ThreadPoolExecutor(48) as pool:
        time.sleep(0.3)
        answers = list(pool.map(desk.ask, data))
    assert {answer.status_code for answer in answers} == {200}
    for first, second in zip(answers[:24], answers[24:], strict=True):
        assert first.json()["id"] == second.json()["id"]
    assert desk.metric('predict_queue{state="running"}') == 0


CROWD = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
import httpx, msgspec
from tests.simulators.predict import body
url, token, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
good = msgspec.json.encode(body(4000, pred_len=1))
bad = good.replace(b'"low":[', b'"low":[1e9,', 1)
print("ready", flush=True)
end = time.monotonic() + seconds
def send(n):
    found = set()
    with httpx.Client(timeout=40) as client:
        while time.monotonic() < end:
            headers = {"Authorization": "Bearer " + token} if n % 2 else {}
            found.add(client.post(url, content=bad, headers=headers).status_code)
    return found
with ThreadPoolExecutor(4) as pool:
    print(sorted(set().union(*pool.map(send, range(4)))))
"""


def test_large_requests_do_not_hold_up_the_showcase(desk):
    # The crowd is a process of its own, so that only the gateway is measured.
    command = [sys.executable, "-c", CROWD, f"{desk.url}/predict"]
    with subprocess.Popen(
        [*command, desk.tokens["predict"], "2"], stdout=subprocess.PIPE, text=True
    ) as crowd:
        assert crowd.stdout.readline() == "ready\n"
        spent = []
        with httpx.Client(base_url=desk.url) as client:
            while crowd.poll() is None:
                started = time.perf_counter()
                assert client.get(SHOWCASE).status_code == 200
                spent.append(time.perf_counter() - started)
        assert crowd.stdout.read() == "[400, 401]\n"
    assert len(spent) > 20
    assert quantiles(spent, n=10)[-1] < 0.2  # seconds


def test_several_processes_answer_503(tmp_path):
    desk = Desk(tmp_path, "--workers", "2")
    try:
        answer = desk.ask(body())
        assert answer.status_code == 503
        assert "--workers 1" in answer.json()["detail"]
        desk.gateway.until(SHOWCASE, lambda answer: answer.status_code == 200)
    finally:
        desk.gateway.stop()


@pytest.mark.parametrize("role", ["predict", "worker"])
@pytest.mark.parametrize(
    ("phases", "n_examples"),
    [
        ("examples,fuzzing", 10),
        pytest.param("examples,coverage,fuzzing,stateful", 200, marks=pytest.mark.full),
    ],
    ids=["short", "long"],
)
def test_schemathesis_finds_nothing(desk, tmp_path, role, phases, n_examples):
    # Columns that a schema can describe hardly ever fit together, so a request in its
    # terms may be refused; what it forbids has to be.
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        f'[parameters]\n"query.wait" = 0\n'
        f'[auth.openapi.{role}]\nbearer = "{desk.tokens[role]}"\n'
        "[checks]\npositive_data_acceptance.expected-statuses = "
        "['2xx', '400', '401', '404', '409', '422']\n"
    )
    with working(desk, opener=lambda *_: NaiveForecaster()):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli"),
                *("--config-file", str(config)),
                *("run", f"{desk.url}/schema/openapi.json", "--checks", "all"),
                *("--include-path-regex", "^/predict|^/work"),
                *(
                    "--phases",
                    phases,
                    "--max-examples",
                    str(n_examples),
                    "--seed",
                    "20261122",
                ),
                *("--continue-on-failure", "--no-color"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert 'status="500"' not in desk.gateway.get("/metrics").text
