"""The routes of clients and workers, over the ASGI interface."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import msgspec
import pytest

from lakehouse.trust.tokens import issue
from serve.predict.documents import inline_schema
from serve.predict.schemas import Outcome
from tests.simulators.artefacts import NOW
from tests.simulators.predict import body, done

NEXT = "/work/next?worker=a&wait=0"


class Asgi:
    """A gateway in memory, its tokens, and a hand on its limits."""

    def __init__(self, client):
        self.client = client
        self.gateway = client.app.inner.state.gateway
        folder = self.gateway.pulls.folder
        self.headers = {
            role: {"Authorization": f"Bearer {issue(folder, role, now=NOW)}"}
            for role in ("predict", "worker")
        }
        self.limit(patience_s=0.2)

    def limit(self, **limits) -> None:
        self.gateway.queue.limits = replace(self.gateway.queue.limits, **limits)

    def ask(self, request: dict | bytes, **options):
        kind = {"content": request} if isinstance(request, bytes) else {"json": request}
        return self.client.request(
            "POST", "/predict", headers=self.headers["predict"], **kind, **options
        )

    def fetch(self, path: str):
        return self.client.get(path, headers=self.headers["predict"])

    def poll(self, url: str = NEXT):
        return self.client.get(url, headers=self.headers["worker"])

    def answer(self, job_id: str, outcome: dict | bytes):
        data = outcome if isinstance(outcome, bytes) else msgspec.json.encode(outcome)
        return self.client.request(
            "POST", f"/work/{job_id}", content=data, headers=self.headers["worker"]
        )

    def start(self, request: dict) -> str:
        """Ask without patience; return the path of the forecast."""
        self.poll()
        answer = self.ask(request)
        assert answer.status_code == 202, answer.text
        return answer.headers["location"]


@pytest.fixture
def desk(client) -> Asgi:
    return Asgi(client)


def test_a_client_gets_what_the_worker_made(desk):
    desk.limit(patience_s=10)
    with ThreadPoolExecutor(1) as pool:
        waiting = desk.poll("/work/next?worker=a&wait=0")
        assert (waiting.status_code, waiting.content) == (204, b"")
        asked = pool.submit(desk.ask, body(symbol="BTC-USD"))
        jobs = desk.poll("/work/next?worker=a&wait=5&max=23").json()["jobs"]
        (job,) = jobs
        assert (job["attempt"], job["request"]["symbol"]) == (1, "BTC-USD")
        assert desk.answer(job["id"], done()).status_code == 204
        answer = asked.result(5)
    assert answer.status_code == 200, answer.text
    got = answer.json()
    assert got["p50"] == [100.0] * 5
    assert len(got["samples"]) == 20
    assert (got["symbol"], got["timeframe"], got["id"]) == ("BTC-USD", "1h", job["id"])
    assert got["generated_at"] == "2022-03-04T21:00:00Z"
    assert got["is_cached"] is False
    again = desk.ask(body(symbol="BTC-USD"))
    assert again.json() == {**got, "is_cached": True}
    assert desk.fetch(f"/predict/{job['id']}").json() == got
    assert again.headers["cache-control"] == "no-store"


def test_without_a_worker_it_is_503_with_retry_after(desk):
    answer = desk.ask(body())
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "10"
    assert answer.json()["type"] == "urn:alphalake:problem:no-worker"
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_takes_longer_is_202_and_fetched_later(desk):
    path = desk.start(body())
    assert re.fullmatch("/predict/[A-Za-z0-9_-]{22}", path)
    queued = desk.fetch(path)
    assert (queued.status_code, queued.json()["status"]) == (202, "queued")
    assert queued.headers["location"] == path
    assert queued.headers["retry-after"] == "2"
    desk.poll()
    assert desk.fetch(path).json()["status"] == "running"
    desk.answer(path.rpartition("/")[2], done())
    fetched = desk.fetch(path)
    assert (fetched.status_code, fetched.json()["is_cached"]) == (200, False)


def test_a_full_queue_is_503(desk):
    desk.limit(max_open=1)
    desk.start(body())
    answer = desk.ask(body(seed=8))
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("queue-full")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("reason", "status", "kind"),
    [
        ("unfit", 422, "cannot-forecast"),
        ("no-model", 503, "no-model"),
        ("broken", 502, "model-failed"),
    ],
)
def test_a_workers_refusal_is_passed_on(desk, reason, status, kind):
    path = desk.start(body())
    outcome = {"status": "failed", "reason": reason, "detail": "3 bars, 100 needed"}
    assert desk.answer(path.rpartition("/")[2], outcome).status_code == 204
    for _ in range(2):
        answer = desk.fetch(path)
        assert answer.status_code == status
        assert answer.json()["type"].endswith(kind)
        assert answer.json()["detail"] == "3 bars, 100 needed"


def test_a_job_that_workers_lose_is_504(desk):
    desk.limit(lease_s=0.0)
    path = desk.start(body())
    for _ in range(3):
        assert desk.poll().status_code == 200
    assert desk.poll().status_code == 204
    assert desk.fetch(path).status_code == 504


ROUTES = [
    ("POST", "/predict", "predict"),
    ("GET", "/predict/abc", "predict"),
    ("GET", NEXT, "worker"),
    ("POST", "/work/abc", "worker"),
]


@pytest.mark.parametrize(("method", "path", "role"), ROUTES)
def test_only_a_token_of_its_own_role_opens_a_route(desk, method, path, role):
    other = desk.headers["worker" if role == "predict" else "predict"]
    for headers in ({}, {"Authorization": "Bearer x"}, other):
        answer = desk.client.request(method, path, headers=headers, content=b"[")
        assert answer.status_code == 401, answer.text
        assert answer.headers["www-authenticate"].startswith("Bearer")
    right = desk.client.request(method, path, headers=desk.headers[role], content=b"[")
    assert right.status_code in {204, 400, 404}


@pytest.mark.parametrize(("method", "path", "role"), ROUTES)
def test_a_gateway_of_several_processes_says_why_not(
    start, provider, method, path, role
):
    desk = Asgi(start(provider, changes={"processes": 2}))
    answer = desk.client.request(method, path, headers=desk.headers[role])
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("no-queue")
    assert "--workers 1" in answer.json()["detail"]


def test_malformed_bodies_are_400(desk):
    desk.poll()
    for request in (b"", b"{", b'{"ohlcv": NaN}', {"ohlcv": {}}, body(2)):
        answer = desk.ask(request)
        assert answer.status_code == 400, answer.text
        assert answer.json()["type"].endswith("malformed-request")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_bodies_over_a_mebibyte_are_413(desk, is_chunked):
    async def parts():
        for _ in range(1100):
            yield b" " * 1000

    def send(path: str, data):
        role = "predict" if path == "/predict" else "worker"
        return desk.client.request(
            "POST", path, content=data, headers=desk.headers[role]
        ).status_code

    assert send("/predict", parts() if is_chunked else b" " * 1_048_577) == 413
    assert send("/work/x", b" " * 4_194_305) == 413
    assert send("/work/x", b" " * 1_048_577) == 400
    assert desk.client.request("POST", "/", content=b" " * 16_385).status_code == 413


def test_the_largest_body_that_is_allowed_is_read(desk):
    data = msgspec.json.encode(body(4096, pred_len=512, model="kronos"))
    padded = data + b" " * (1_048_576 - len(data))
    desk.poll()
    assert desk.ask(padded).status_code == 202


def test_odd_polls_are_400(desk):
    for query in (
        "",
        "worker=",
        "worker=a%20b",
        "worker=a&max=65",
        "worker=a&max=-1",
        "worker=a&max=x",
        "worker=a&wait=26",
        "worker=a&wait=nan",
        "worker=a&wait=-1",
        "worker=" + "a" * 65,
    ):
        answer = desk.poll(f"/work/next?{query}")
        assert answer.status_code == 400, (query, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_head_takes_nothing(desk):
    path = desk.start(body())
    head = desk.client.request("HEAD", NEXT, headers=desk.headers["worker"])
    assert (head.status_code, head.content) == (204, b"")
    assert desk.fetch(path).json()["status"] == "queued"


def test_odd_answers_are_refused(desk):
    path = desk.start(body())
    job_id = path.rpartition("/")[2]
    desk.poll()
    for outcome in (b"", b"[]", b'{"status":"maybe"}', done(p10=[None] * 5), done(4)):
        answer = desk.answer(job_id, outcome)
        assert answer.status_code == 400, answer.text
    assert desk.fetch(path).status_code == 202
    assert desk.answer(job_id, done()).status_code == 204
    assert desk.answer(job_id, done()).status_code == 409
    for stranger in ("x" * 22, "x" * 2000, "%00", "..%2f..", "~"):
        assert desk.answer(stranger, done()).status_code in {400, 404}
        assert desk.fetch(f"/predict/{stranger}").status_code in {400, 404}


def test_a_bug_in_a_worker_stays_its_own(desk):
    desk.start(body())
    assert desk.answer("next", done()).status_code in {404, 405}


def test_the_queue_is_in_the_metrics(desk):
    path = desk.start(body())
    desk.poll()
    desk.answer(path.rpartition("/")[2], done())
    desk.ask(body())
    text = desk.client.get("/metrics").text
    for line in (
        'predict_queue{state="waiting"} 0.0',
        'predict_queue{state="running"} 0.0',
        'predict_jobs_total{outcome="done"} 1.0',
        'predict_lookups_total{result="hit"} 1.0',
        'predict_lookups_total{result="miss"} 1.0',
        "predict_offered_again_total 0.0",
        "predict_wait_seconds_count 1.0",
        "predict_service_seconds_count 1.0",
    ):
        assert f"\n{line}\n" in text
    assert 'route="/predict"' in text
    assert re.search(r"\npredict_worker_absent_seconds \d", text)


def test_the_document_describes_both_sides(desk):
    paths = desk.client.get("/schema/openapi.json").json()["paths"]
    ask = paths["/predict"]["post"]
    schema = ask["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["ohlcv"]["required"] == [
        "ts",
        "open",
        "high",
        "low",
        "close",
    ]
    assert ask["security"] == [{"predict": []}]
    assert set(ask["responses"]) >= {"200", "202", "400", "401", "413", "422", "503"}
    assert paths["/work/next"]["get"]["security"] == [{"worker": []}]
    assert "$ref" not in str(inline_schema(Outcome))
    assert "discriminator" not in str(inline_schema(Outcome))
