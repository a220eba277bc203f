"""Reading with limits, from disk and over HTTP."""

import http.server
import os
import threading
import time

import pytest

from lakehouse.trust.errors import (
    DownloadError,
    FileAbsentError,
    LengthError,
    SlowRetrievalError,
)
from lakehouse.trust.fetching import HttpFetcher, LocalFetcher
from tests.simulators.repository import serving


@pytest.fixture
def lake(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a").write_bytes(b"12345")
    return LocalFetcher(str(tmp_path))


def test_a_file_of_the_allowed_length_is_read(lake):
    assert lake.fetch("tables/a", max_length=5) == b"12345"


def test_a_longer_file_is_refused(lake):
    with pytest.raises(LengthError, match="longer than 4 bytes"):
        lake.fetch("tables/a", max_length=4)


@pytest.mark.parametrize("path", ["tables/b", "tables", "tables/a/b"])
def test_what_is_no_file_is_absent(lake, path):
    with pytest.raises(FileAbsentError, match="no such file"):
        lake.fetch(path, max_length=5)


@pytest.mark.parametrize(
    "path", ["../a", "/etc/passwd", "a//b", "a/./b", "a\0", "a\\b"]
)
def test_paths_that_leave_the_lake_are_refused(lake, path):
    with pytest.raises(DownloadError, match="not a path inside the lake"):
        lake.fetch(path, max_length=5)


def test_a_file_that_cannot_be_read_is_a_download_error(lake):
    with pytest.raises(DownloadError, match="cannot be read"):
        lake.fetch("tables/" + "x" * 300, max_length=5)


def test_a_link_may_point_into_the_lake_but_not_out_of_it(tmp_path):
    root = tmp_path / "lake"
    (root / "tables").mkdir(parents=True)
    (root / "tables" / "a").write_bytes(b"12345")
    (root / "tables" / "b").symlink_to("a")
    (tmp_path / "secret").write_bytes(b"key")
    (root / "tables" / "c").symlink_to(tmp_path / "secret")
    (root / "away").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(root)
    assert LocalFetcher(str(tmp_path / "link")).fetch("tables/b", max_length=5)
    for path in ("tables/c", "away/secret"):
        with pytest.raises(DownloadError, match="leads out of the lake"):
            LocalFetcher(str(root)).fetch(path, max_length=5)


@pytest.mark.timeout(10)
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "timestamp.json")
    with pytest.raises(DownloadError, match="not a regular file"):
        LocalFetcher(str(tmp_path)).fetch("timestamp.json", max_length=5)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        getattr(self, f"_{self.path.strip('/').split('/')[0]}")()

    def _good(self):
        self._head(200, 5)
        self.wfile.write(b"12345")

    def _token(self):
        body = (self.headers.get("Authorization") or "none").encode()
        self._head(200, len(body))
        self.wfile.write(body)

    def _gone(self):
        self.send_error(410)

    def _broken(self):
        self.send_error(500)

    def _moved(self):
        self.send_response(302)
        self.send_header("Location", "/good")
        self.end_headers()

    def _short(self):
        self._head(200, 50)
        self.wfile.write(b"12345")

    def _endless(self):
        self._head(200, None)
        while True:
            self.wfile.write(b"x" * 65536)

    def _drip(self):
        self._head(200, None)
        for _ in range(200):
            self.wfile.write(b"x")
            time.sleep(0.02)

    def _creep(self):
        for _ in range(200):
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX: x\r\n"[:1])
            time.sleep(0.05)

    def _crawl(self):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        for _ in range(90):
            self.wfile.write(b"X: x\r\n")
            time.sleep(0.05)

    def _silent(self):
        self.server.release.wait(5)

    def _head(self, status, length):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def handle(self):
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def log_message(self, *args):
        """Keep quiet."""


@pytest.fixture
def address():
    release = threading.Event()

    def handler(request, client, server):
        server.release = release
        return _Handler(request, client, server)

    with serving(handler) as where:
        yield where
        release.set()


def test_http_bodies_and_tokens_pass(address):
    fetcher = HttpFetcher(address + "/", token="secret")

    assert fetcher.fetch("good", max_length=5) == b"12345"
    assert fetcher.fetch("token", max_length=50) == b"Bearer secret"
    assert HttpFetcher(address).fetch("token", max_length=50) == b"none"
    assert "secret" not in repr(fetcher)


HTTP_FAILURES = {
    "gone": FileAbsentError,
    "broken": DownloadError,
    "moved": DownloadError,
    "short": DownloadError,
    "endless": LengthError,
    "drip": SlowRetrievalError,
    "creep": SlowRetrievalError,
    "crawl": SlowRetrievalError,
    "silent": SlowRetrievalError,
}


@pytest.mark.parametrize("name", HTTP_FAILURES)
def test_http_failure_is_refused_in_bounded_time(address, name):
    fetcher = HttpFetcher(address, timeout_s=0.3, total_s=0.3, min_bytes_per_s=10**6)
    started = time.monotonic()

    with pytest.raises(HTTP_FAILURES[name], match=name):
        fetcher.fetch(name, max_length=1_000_000)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "http://[", "ftp://x", "nonsense"]
)
def test_addresses_that_cannot_be_reached_are_download_errors(url):
    with pytest.raises(DownloadError, match="x"):
        HttpFetcher(url, timeout_s=0.5).fetch("x", max_length=1)
