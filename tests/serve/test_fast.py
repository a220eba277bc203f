"""The layer ahead of the router answers as the router would, only sooner."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.limits import TokenBuckets
from serve.renditions import Rendition, accepts_gzip, matches_etag
from tests.simulators.artefacts import SYMBOLS

# The router recomputes these, or they may differ by a second.
VOLATILE = {"age", "content-length", "content-type"}

HOT = [
    "/showcase/instruments",
    "/showcase/instruments?limit=500&offset=0",
    "/showcase/evaluation",
    "/",
    "/evaluation",
    "/static/api.js",
    "/vendor/lightweight-charts.js",
    *(f"/showcase/ml-prediction/{symbol}" for symbol in SYMBOLS),
    *(f"/showcase/ohlcv/{symbol}" for symbol in SYMBOLS),
    *(
        f"/showcase/ml-prediction/BTC-USD?model_name={model}&timeframe={timeframe}"
        for model in ("naive", "seasonal")
        for timeframe in ("1h", "1d")
    ),
    "/showcase/ml-prediction/BTC-USD?timeframe=1d",
    "/showcase/ml-prediction/BTC-USD?model_name=seasonal",
    "/showcase/ohlcv/BTC-USD?timeframe=1d&limit=500&offset=0",
]


@pytest.mark.parametrize("url", HOT)
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_fast_layer_equals_the_router(client, url, encoding):
    before = sum(n for (_, by, _), n in client.app.answered.items() if by == "fast")
    headers = {"Accept-Encoding": encoding}
    fast = client.get(url, headers=headers)
    after = sum(n for (_, by, _), n in client.app.answered.items() if by == "fast")
    assert after == before + 1
    slow = client.get(url, headers=headers, inner=True)
    assert (fast.status_code, fast.content) == (slow.status_code, slow.content)
    assert fast.headers["content-type"] == slow.headers["content-type"]
    assert fast.headers["content-length"] == slow.headers["content-length"]
    for name in set(fast.headers) - VOLATILE:
        assert fast.headers[name] == slow.headers[name], name
    again = {"Accept-Encoding": encoding, "If-None-Match": fast.headers["etag"]}
    for answer in (
        client.get(url, headers=again),
        client.get(url, headers=again, inner=True),
    ):
        assert answer.status_code == 304
        assert answer.content == b""
        assert answer.headers["etag"] == fast.headers["etag"]


def test_head_has_the_headers_and_no_body(client):
    for url in (HOT[0], "/showcase/instruments?limit=1", "/schema"):
        got = client.get(url)
        head = client.request("HEAD", url)
        assert head.status_code == 200
        assert head.content == b""
        assert head.headers["content-length"] == got.headers["content-length"]
        assert head.headers.get("etag") == got.headers.get("etag")


@pytest.mark.parametrize(
    ("header", "is_match"),
    [
        ('W/"abc"', True),
        ('"abc"', True),
        ('"x", W/"abc" , "y"', True),
        ("*", True),
        ('"x", W/"y"', False),
        ("abc", False),
        ("", False),
    ],
)
def test_if_none_match_compares_weakly(header, is_match):
    assert matches_etag(header.encode(), b'W/"abc"') is is_match


@pytest.mark.parametrize(
    ("header", "is_allowed"),
    [
        ("gzip, deflate, br", True),
        ("GZIP", True),
        ("*", True),
        ("br;q=1.0, gzip;q=0.8", True),
        ("gzip;q=0", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("identity", False),
        ("gzip;q=oops", False),
        ("", False),
    ],
)
def test_accept_encoding(header, is_allowed):
    assert accepts_gzip(header.encode()) is is_allowed


@pytest.mark.parametrize("inner", [False, True])
def test_several_fields_of_one_name_are_one_list(client, inner):
    url = "/showcase/instruments"
    for tags in (['"x"', "*"], ["*", '"x"']):
        headers = [("If-None-Match", tag) for tag in tags]
        assert client.get(url, headers=headers, inner=inner).status_code == 304
    for codings in (["br", "gzip"], ["gzip", "br"]):
        headers = [("Accept-Encoding", coding) for coding in codings]
        answer = client.get(url, headers=headers, inner=inner)
        assert answer.headers["content-encoding"] == "gzip"


def test_packed_and_plain_bodies_are_the_same():
    body = b'{"x": 1.25}' * 500
    rendition = Rendition(body, path="/showcase/x", route="/showcase/x")
    answer = rendition.answer(b"", b"gzip", 0)
    assert dict(answer.headers)["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == body


def test_age_follows_the_verification():
    rendition = Rendition(b"{}", path="/showcase/x", route="/showcase/x")
    ages = [dict(rendition.answer(b"", b"", age).headers)["age"] for age in (0, 0, 7)]
    assert ages == ["0", "0", "7"]


def test_too_many_requests_get_429_until_the_bucket_fills(start, provider):
    client = start(provider, changes={"rate_limit": 0.5, "burst": 3})
    codes = [client.get("/showcase/instruments").status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    refused = client.get("/showcase/instruments")
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.headers["retry-after"]) <= 3
    spoofed = {"X-Forwarded-For": "203.0.113.9"}
    assert client.get("/showcase/instruments", headers=spoofed).status_code == 429
    assert client.get("/showcase/instruments", peer="192.0.2.1").status_code == 200


@given(gaps=st.lists(st.floats(0, 5), max_size=60))
@settings(max_examples=30)
def test_a_bucket_never_allows_more_than_rate_and_burst(gaps):
    buckets = TokenBuckets(rate=2.0, burst=5.0)
    now, n_allowed = 100.0, 0
    for gap in gaps:
        now += gap
        n_allowed += buckets.wait("client", now) == 0.0
    assert n_allowed <= 5 + 2 * sum(gaps) + 1e-6


def test_full_buckets_are_forgotten():
    buckets = TokenBuckets(rate=10.0, burst=2.0, max_clients=50)
    for i in range(500):
        buckets.wait(f"client-{i}", float(i))
    assert len(buckets) <= 51
    buckets = TokenBuckets(rate=0.001, burst=2.0, max_clients=50)
    for i in range(500):
        buckets.wait(f"client-{i}", 0.0)
    assert len(buckets) <= 51
