"""The worker's side of a gateway's HTTP: poll for jobs, answer them."""

import http.client
import logging
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode, urlsplit

import msgspec

from lakehouse.errors import InputError

HTTP_S: Final = 15.0  # beyond the poll itself
_MAX_ANSWER: Final = 64 * 1024 * 1024  # bytes
log = logging.getLogger("alphalake.worker")


class AwayError(Exception):
    """The gateway cannot be asked, or does not answer as one."""


@dataclass(slots=True)
class GatewayClient:
    """A kept connection to one gateway; not for two threads at once.

    Parameters
    ----------
    url : str
        `http://` or `https://`, without credentials.
    token : str
        The worker's bearer token.
    name : str
        This worker's own; leases hang on it.
    """

    url: str
    token: str = field(repr=False)
    name: str
    _connection: http.client.HTTPConnection | None = None

    def take(self, n_most: int, *, wait_s: float) -> bytes | None:
        """Poll for jobs; None when there are none. With 0, renew the leases.

        Raises
        ------
        AwayError
            If the gateway does not answer.
        """
        query = urlencode({"worker": self.name, "max": n_most, "wait": wait_s})
        status, body = self._ask("GET", f"/work/next?{query}", None, wait_s)
        if status not in {200, 204}:
            raise _away(status, body)
        return body if status == 200 else None

    def answer(self, job_id: str, outcome: bytes) -> None:
        """Post the outcome of a job; one that nobody wants any longer is dropped.

        Raises
        ------
        AwayError
            If the gateway does not answer.
        """
        status, body = self._ask("POST", f"/work/{job_id}", outcome, 0.0)
        if status == 204:
            return
        if status >= 500 or status in {401, 429}:
            raise _away(status, body)
        log.warning("forecast %s was not taken: %s", job_id, _told(body))

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(
        self, method: str, path: str, body: bytes | None, wait_s: float
    ) -> tuple[int, bytes]:
        connection = self._connection or self._connect()
        self._connection = connection
        headers = {"Authorization": f"Bearer {self.token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            if connection.sock is None:
                connection.timeout = HTTP_S
                connection.connect()
            connection.sock.settimeout(wait_s + HTTP_S)
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise AwayError(
                f"{self.url}: {str(error) or type(error).__name__}"
            ) from error

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        kind = (
            http.client.HTTPSConnection
            if parts.scheme == "https"
            else http.client.HTTPConnection
        )
        return kind(parts.hostname or "", parts.port)


def check_gateway(url: str, token: str) -> None:
    """Refuse what cannot be a gateway's address or token.

    Raises
    ------
    InputError
        If one of them cannot.
    """
    try:
        parts = urlsplit(url)
        is_plain = parts.scheme in {"http", "https"} and bool(parts.hostname)
        port = parts.port
    except ValueError as error:
        raise InputError(f"gateway {url!r}: {error}") from error
    if not is_plain or parts.path.strip("/") or parts.query or port == 0:
        raise InputError(f"gateway {url!r}: allowed is http(s)://HOST[:PORT]")
    if not token or not (token.isascii() and token.isprintable()):
        raise InputError("the gateway's token: allowed are printable ASCII characters")


def _away(status: int, body: bytes) -> AwayError:
    return AwayError(f"status {status}: {_told(body)}")


def _told(body: bytes) -> str:
    try:
        problem = msgspec.json.decode(body, type=dict[str, object])
    except msgspec.MsgspecError:
        return "no problem document"
    return str(problem.get("detail", "no detail"))[:200]
