"""`/ml/predict` over a real gateway process and a signed model."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from statistics import median

import httpx
import msgspec
import pytest

from lakehouse.trust.tokens import issue, state_folder
from tests.simulators.artefacts import NOW, tables
from tests.simulators.gateway import GatewayProcess
from tests.simulators.published import PublishedLake
from tests.simulators.winprob import NAMES, artefact, rows, serving_lake, trained

pytestmark = pytest.mark.xdist_group("ml-process")


class Served:
    """A gateway process, its lake and a token."""

    def __init__(self, lake: PublishedLake, gateway: GatewayProcess):
        self.lake, self.gateway = lake, gateway
        folder = state_folder(gateway.state, lake.trust.read_bytes())
        self.token = issue(folder, "predict", now=NOW)
        self.headers = {"Authorization": f"Bearer {self.token}"}

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.gateway.url, headers=self.headers, timeout=60)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    lake = PublishedLake(folder)
    lake.publish(tables() | {"winprob": artefact(trained())})
    with serving_lake(lake, folder / "state") as gateway:
        yield Served(lake, gateway)
    assert "Traceback" not in gateway.log.read_text()


def test_a_row_and_ten_thousand_rows_are_answered_soon(served):
    # Generous: other tests share the machine. `python -m bench w10` measures.
    values = rows(10_000, seed=3)
    bodies = {
        n: msgspec.json.encode({"features": list(NAMES), "rows": values[:n].tolist()})
        for n in (1, 10_000)
    }
    spent: dict[int, list[float]] = {1: [], 10_000: []}
    with served.client() as client:
        for n, times in ((1, 100), (10_000, 5)):
            for _ in range(times):
                started = time.perf_counter()
                answer = client.post("/ml/predict", content=bodies[n])
                spent[n].append(time.perf_counter() - started)
                assert answer.status_code == 200, answer.text[:300]
    assert len(answer.json()["predictions"]) == 10_000
    assert median(spent[1]) < 0.05  # seconds
    assert min(spent[10_000]) < 1.0


def test_batches_do_not_hold_up_the_showcase(served):
    body = msgspec.json.encode({"rows": rows(10_000, seed=4).tolist()})
    crowd = subprocess.Popen(
        [sys.executable, "-c", _CROWD, served.gateway.url, served.token, "3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    crowd.stdin.write(body)
    crowd.stdin.close()
    spent = []
    with httpx.Client(base_url=served.gateway.url) as client:
        while crowd.poll() is None:
            started = time.perf_counter()
            answer = client.get("/showcase/ml-prediction/BTC-USD")
            spent.append(time.perf_counter() - started)
            assert answer.status_code == 200
    assert crowd.stdout.read().strip() == b"[200]"
    crowd.stdout.close()
    assert median(spent) < 0.2  # seconds


_CROWD = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
import httpx
body = sys.stdin.buffer.read()
url, token, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
end = time.monotonic() + seconds
def send(_):
    found = set()
    headers = {"Authorization": "Bearer " + token}
    with httpx.Client(timeout=60, headers=headers) as client:
        while time.monotonic() < end:
            found.add(client.post(url + "/ml/predict", content=body).status_code)
    return found
with ThreadPoolExecutor(3) as pool:
    print(sorted(set().union(*pool.map(send, range(3)))))
"""


def test_while_the_artefact_is_tampered_with_answers_say_stale(served):
    path = served.lake.data_file("winprob")
    whole = path.read_bytes()
    served.lake.flip_byte(path)
    request = {"rows": rows(1).tolist()}
    try:
        with served.client() as client:
            until = time.monotonic() + 60
            while not client.post("/ml/predict", json=request).json()["stale"]:
                assert time.monotonic() < until
                time.sleep(0.5)
    finally:
        path.write_bytes(whole)
    assert 'reason="' in served.gateway.get("/metrics").text


def test_after_valid_until_it_is_503_though_the_showcase_answers(served, tmp_path):
    # What an earlier process verified is shown, as stale, when the lab fell silent.
    shutil.copytree(served.gateway.state, tmp_path / "state")
    late = (NOW + timedelta(days=31)).isoformat()
    with serving_lake(served.lake, tmp_path / "state", "--now", late) as gateway:
        other = Served(served.lake, gateway)
        with other.client() as client:
            answer = client.post("/ml/predict", json={"rows": rows(1).tolist()})
            shown = client.get("/showcase/ml-prediction/BTC-USD")
        assert answer.status_code == 503
        assert answer.json()["type"].endswith("artefact-expired")
        assert (shown.status_code, shown.json()["stale"]) == (200, True)


@pytest.mark.parametrize(
    ("phases", "n_examples"),
    [
        ("examples,fuzzing", 15),
        pytest.param("examples,coverage,fuzzing,stateful", 300, marks=pytest.mark.full),
    ],
    ids=["short", "long"],
)
def test_schemathesis_finds_nothing(served, tmp_path, phases, n_examples):
    # The document cannot know a model's features, so a request in its terms may be
    # refused; what it forbids has to be.
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        f'[auth.openapi.predict]\nbearer = "{served.token}"\n'
        "[checks]\npositive_data_acceptance.expected-statuses = ['2xx', '400', '401']\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *("run", f"{served.gateway.url}/schema/openapi.json", "--checks", "all"),
            *("--include-path", "/ml/predict", "--phases", phases),
            *("--max-examples", str(n_examples), "--seed", "20261122"),
            *("--continue-on-failure", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert 'status="500"' not in served.gateway.get("/metrics").text
