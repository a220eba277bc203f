"""Requests meant to break things get 4xx, a problem document and nothing else."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.answers import SYMBOL_PATTERN
from serve.fast import refuse_oversize

HOSTILE = [
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e",
    "..%5c..%5cwin.ini",
    "'%20OR%201=1--",
    "%22%3E%3Cscript%3E",
    "BTC%00USD",
    "%00",
    "%ff%fe",
    "%c0%ae%c0%ae",
    "%F0%9F%92%A3",
    "%E2%80%AE",
    "%0d%0aSet-Cookie:x=1",
    "%25252e",
    "A" * 65,
    "A" * 2_100,
    "A" * 10_000,
    "..%2f" * 3_000,
    "${jndi:ldap:x}",
    "{{7*7}}",
    "-rf",
    ".",
    "..",
    "%20",
    "~",
    ";ls",
]


@pytest.mark.parametrize("symbol", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("route", ["ml-prediction", "ohlcv"])
def test_hostile_symbols_are_refused(client, route, symbol):
    answer = client.get(f"/showcase/{route}/{symbol}")
    assert answer.status_code in {400, 404, 414}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text
    assert "set-cookie" not in answer.headers


def test_ten_kilobytes_are_414(client):
    assert client.get("/showcase/ml-prediction/" + "A" * 10_000).status_code == 414
    assert client.get("/showcase/evaluation?symbol=" + "A" * 5_000).status_code == 414


def test_oversized_bodies_and_headers_are_refused(client):
    assert client.request("POST", "/", content=b"x" * 20_000).status_code == 413
    many = {f"x-{i}": "v" for i in range(80)}
    assert client.get("/showcase/status", headers=many).status_code == 431
    long = {"x-long": "v" * 20_000}
    assert client.get("/showcase/status", headers=long).status_code == 431


@given(
    path=st.text(max_size=80),
    query=st.binary(max_size=40),
    length=st.binary(max_size=6),
)
@settings(max_examples=100)
def test_guard_never_raises(path, query, length):
    scope = {
        "path": path,
        "query_string": query,
        "headers": [(b"content-length", length)],
    }
    refused = refuse_oversize(scope)
    assert refused is None or 400 <= refused[0] < 500


@given(text=st.from_regex(SYMBOL_PATTERN, fullmatch=True))
@settings(max_examples=50)
def test_legal_symbols_hold_no_dots_first_and_no_control_characters(text):
    assert not text.startswith((".", "/"))
    assert re.fullmatch(r"[!-~]{1,97}", text)


def test_a_bug_is_logged_and_answered_without_its_details(start, caplog):
    from tests.simulators.artefacts import MemoryProvider, tables

    class Buggy(MemoryProvider):
        def read(self, path: str, *, max_length: int) -> bytes:
            raise RuntimeError("secret detail")

    from datetime import UTC, datetime

    from lakehouse.trust.tokens import issue

    client = start(Buggy(tables()))
    folder = client.app.inner.state.gateway.pulls.folder
    token = issue(folder, "consumer:desk", now=datetime(2022, 3, 4, tzinfo=UTC))
    answer = client.get(
        "/artefacts/metadata/timestamp.json",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "secret detail" in caplog.text
