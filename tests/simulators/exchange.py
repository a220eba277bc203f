"""Loopback servers that speak the wire format of an exchange and of Yahoo's charts.

They keep real HTTP: status lines, headers, query strings, pages of at most 1,000 rows.
What can go wrong is asked for beforehand with `fail_next`.
"""

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

HOUR_MS = 3_600_000
DAY_MS = 86_400_000


@dataclass
class Fault:
    """How the next answer goes wrong."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    is_truncated: bool = False


@dataclass
class Loopback:
    """A server on a free port: what it was asked, and what it will do wrong."""

    url: str = ""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    fault_path: str = ""

    def fail_next(self, path: str, *faults: Fault) -> None:
        self.fault_path = path
        self.faults.extend(faults)

    def paths(self, part: str) -> list[dict[str, str]]:
        return [query for path, query in self.requests if part in path]

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        raise NotImplementedError


@dataclass
class Binance(Loopback):
    """Binance's public REST interface: time, exchangeInfo, klines."""

    klines: dict[str, list[list]] = field(default_factory=dict)

    def add_bars(self, market: str, start_ms: int, closes, step_ms: int = HOUR_MS):
        rows = self.klines.setdefault(market, [])
        for number, close in enumerate(closes):
            start = start_ms + number * step_ms
            prices = (close, close * 1.01, close * 0.99, close)
            quote = f"{close * 5:.8f}"
            rows.append(
                [
                    start,
                    *(f"{price:.8f}" for price in prices),
                    "5.00000000",
                    start + step_ms - 1,
                    quote,
                    10,
                    "2.50000000",
                    quote,
                    "0",
                ]
            )

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        if path == "/api/v3/time":
            return 200, b'{"serverTime":1700000000000}'
        if path == "/api/v3/exchangeInfo":
            return 200, json.dumps(self._info()).encode()
        if path == "/api/v3/klines":
            return self._klines(query)
        return 404, b'{"code":-1,"msg":"no such path"}'

    def _info(self) -> dict:
        return {
            "timezone": "UTC",
            "serverTime": 1700000000000,
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": [_market(name) for name in self.klines],
        }

    def _klines(self, query: dict[str, str]) -> tuple[int, bytes]:
        market = query["symbol"]
        if market not in self.klines:
            return 400, b'{"code":-1121,"msg":"Invalid symbol."}'
        limit = min(int(query.get("limit", 500)), 1000)
        first = int(query.get("startTime", 0))
        rows = [row for row in self.klines[market] if row[0] >= first]
        return 200, json.dumps(rows[:limit]).encode()


def _market(name: str) -> dict:
    return {
        "symbol": name,
        "status": "TRADING",
        "baseAsset": name.removesuffix("USDT"),
        "baseAssetPrecision": 8,
        "quoteAsset": "USDT",
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "icebergAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0.01",
                "maxPrice": "1000000",
                "tickSize": "0.01",
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": "0.00001",
                "maxQty": "9000",
                "stepSize": "0.00001",
            },
        ],
        "permissions": ["SPOT"],
        "permissionSets": [["SPOT"]],
    }


@dataclass
class Yahoo(Loopback):
    """Yahoo's chart endpoint, its cookie and its crumb."""

    charts: dict[tuple[str, str], dict] = field(default_factory=dict)

    def add_chart(self, ticker: str, interval: str, *, meta: dict, rows: list) -> None:
        """Rows are (seconds, open, high, low, close, volume)."""
        columns = list(zip(*rows, strict=True)) if rows else [()] * 6
        names = ("open", "high", "low", "close", "volume")
        quote = {
            name: list(column) for name, column in zip(names, columns[1:], strict=True)
        }
        self.charts[ticker, interval] = {
            "meta": {"symbol": ticker, "dataGranularity": interval, **meta},
            "timestamp": list(columns[0]),
            "indicators": {
                "quote": [quote],
                "adjclose": [{"adjclose": quote["close"]}],
            },
        }

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        if path.startswith("/v8/finance/chart/"):
            ticker = unquote(path.rsplit("/", 1)[1])
            return self._chart(self.charts.get((ticker, query["interval"])))
        if path == "/v1/test/getcrumb":
            return 200, b"crumb123"
        return 200, b"<html></html>"

    @staticmethod
    def _chart(chart: dict | None) -> tuple[int, bytes]:
        if chart is None:
            problem = {"code": "Not Found", "description": "No data found"}
            answer = {"chart": {"result": None, "error": problem}}
            return 404, json.dumps(answer).encode()
        return 200, json.dumps({"chart": {"result": [chart], "error": None}}).encode()


@contextmanager
def serving(server: Loopback) -> Iterator[Loopback]:
    """Serve on a free loopback port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            server.requests.append((parts.path, query))
            status, body = server.answer(parts.path, query)
            fault = Fault(status)
            if server.faults and server.fault_path in parts.path:
                fault = server.faults.popleft()
                body = body if fault.body is None else fault.body
            self.send_response(fault.status)
            self.send_header("Content-Type", "application/json")
            for name, value in fault.headers.items():
                self.send_header(name, value)
            sent = body[: len(body) // 2] if fault.is_truncated else body
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *arguments) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        server.url = f"http://127.0.0.1:{httpd.server_port}"
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield server
        httpd.shutdown()
        thread.join()
