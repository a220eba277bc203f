"""A real Prefect server on loopback, and what tests ask of it by HTTP."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flows.probe import answers
from flows.processes import LOOPBACK, crew, free_port


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """Yield the API of a server that keeps everything in `folder`."""
    port = free_port()
    api = f"http://{LOOPBACK}:{port}/api"
    with crew() as members:
        members.start(
            "server",
            [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
            log=folder / "server.log",
            environment={
                "PREFECT_HOME": str(folder / "prefect"),
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "PREFECT_SERVER_UI_ENABLED": "false",
                "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.2",
                "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
                    "prefect.server.concurrency.lease_storage.filesystem"
                ),
            },
        )
        members.wait_for("server", lambda: answers(api), timeout_s=240)
        yield api


def ask(api: str, path: str, **body: Any) -> Any:
    """Post `body` to the API and return the answer, as Prefect's client would."""
    request = urllib.request.Request(
        f"{api}/{path}",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    for wait_s in (0.5, 1.0, 2.0, 4.0):
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:  # its database is busy
                raise
        time.sleep(wait_s)
    raise TimeoutError(f"{path}: the server's database stayed busy")
