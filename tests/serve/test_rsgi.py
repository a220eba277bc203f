"""The server's own protocol answers every request as ASGI does."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from serve.rsgi import Bridge, RsgiGateway
from tests.simulators.artefacts import SYMBOLS

PATHS = (
    "/",
    "/evaluation",
    "/static/api.js",
    "/vendor/swagger-ui.css",
    "/schema",
    "/schema/openapi.json",
    "/showcase/instruments",
    "/showcase/evaluation",
    "/showcase/status",
    "/metrics",
    "/health/ready",
    "/admin/health",
    "/artefacts/metadata/timestamp.json",
    "/artefacts/targets/../x.json",
    "/tables/a/b.parquet",
    "/nope",
    "*",
    "/showcase/ml-prediction/NOPE",
    "/showcase/ml-prediction/a\x00b",
    "/showcase/ml-prediction/\ufffd",
    *(f"/showcase/ml-prediction/{symbol}" for symbol in SYMBOLS),
    *(f"/showcase/ohlcv/{symbol}" for symbol in SYMBOLS),
)
ENDS = ("", "", "", "/", "//", ";x", "%2f", "a" * 2100)
QUERIES = (
    "",
    "",
    "timeframe=1d",
    "timeframe=%31d",
    "model_name=naive&timeframe=1h",
    "limit=3",
    "limit=3&limit=3",
    "x=1",
    "&",
    "?",
    "model_name=None",
    "a" * 4200,
)
METHODS = ("GET", "GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "TRACE", "get")
FIELDS = (
    ("accept-encoding", "gzip"),
    ("accept-encoding", "gzip;q=0"),
    ("accept-encoding", "identity;q=0, *"),
    ("if-none-match", "*"),
    ("if-none-match", '"x"'),
    ("range", "bytes=0-9"),
    ("authorization", "Bearer \xff"),
    ("content-length", "20000"),
    ("content-length", "+1"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-long", "v" * 17_000),
    ("origin", "https://elsewhere.example"),
)


class Fields(list):
    """Header fields as granian hands them over."""

    def items(self) -> list[tuple[str, str]]:
        return list(self)

    def get_all(self, name: str) -> list[str]:
        return [value for found, value in self if found == name]


@dataclass
class Request:
    """A request in granian's words, and the answer to it."""

    method: str
    path: str
    query_string: str
    headers: Fields
    client: str = "127.0.0.1:5"
    server: str = "127.0.0.1:8000"
    scheme: str = "http"
    proto: str = "http"
    http_version: str = "1.1"
    body: tuple[bytes, ...] = ()
    answer: list = field(default_factory=list)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.body:
            yield part

    def response_empty(self, status, headers):
        self.answer.append((status, headers, b""))

    def response_bytes(self, status, headers, body):
        self.answer.append((status, headers, body))


def draw(seed: int, n: int) -> list[Request]:
    rng = random.Random(seed)
    return [
        Request(
            rng.choice(METHODS),
            rng.choice(PATHS) + rng.choice(ENDS),
            rng.choice(QUERIES),
            Fields(rng.sample(FIELDS, rng.randint(0, 3))),
            client=rng.choice(["127.0.0.1:5", "::1:5", "[::1]:5", "192.0.2.7:5"]),
        )
        for _ in range(n)
    ]


async def ask_asgi(app, request: Request) -> tuple:
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    host = request.client.rpartition(":")[0].strip("[]")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": Bridge(request, request).scope["raw_path"],
        "query_string": request.query_string.encode(),
        "root_path": "",
        "headers": [(n.encode(), v.encode("latin-1")) for n, v in request.headers],
        "client": (host, 5),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    await app(scope, receive, send)
    headers = [(n.decode(), v.decode("latin-1")) for n, v in sent[0]["headers"]]
    return sent[0]["status"], headers, b"".join(m["body"] for m in sent[1:])


def compare(status: int, headers: list, body: bytes) -> tuple:
    return status, sorted(pair for pair in headers if pair[0] != "age"), body


@pytest.mark.parametrize("n", [600, pytest.param(20_000, marks=pytest.mark.full)])
def test_random_requests_are_answered_alike(client, n):
    gateway = RsgiGateway(client.app)
    seen = set()
    for request in draw(20261122, n):
        client._run(gateway.__rsgi__(request, request))
        assert len(request.answer) == 1, request
        expected = compare(*client._run(ask_asgi(client.app, request)))
        got = compare(*request.answer[0])
        if request.path.startswith("/metrics") and got[0] == 200:
            continue  # it counts these very requests
        assert got == expected, request
        status, headers, body = got
        seen.add(status)
        if status >= 400:
            assert ("content-type", "application/problem+json") in headers
        if status < 500 and request.method == "HEAD":
            assert body in {b"", expected[2]}
    assert seen >= {200, 204, 304, 400, 401, 403, 404, 405, 413, 414, 431}
    assert seen.isdisjoint({500, 502})


def test_a_body_is_handed_on_in_parts(client):
    request = Request("POST", "/", "", Fields(), body=(b"a" * 9, b"b" * 9))
    bridge = Bridge(request, request)

    async def read() -> list[dict]:
        return [await bridge.receive() for _ in range(4)]

    messages = client._run(read())
    assert [message.get("body") for message in messages] == [
        b"a" * 9,
        b"b" * 9,
        b"",
        None,
    ]
    assert [message.get("more_body") for message in messages[:3]] == [True, True, False]
    assert messages[3]["type"] == "http.disconnect"
