"""Find the Prefect server, and run a flow on it if it answers, else without it.

Nothing here imports Prefect before a server has answered, and an ephemeral server is
never started.
"""

import json
import os
import socket
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows.progress import say
from flows.runs import Body, Outcome, execute
from flows.wiring import open_workplace

LOCAL_API_URL = "http://127.0.0.1:4200/api"
PROBE_S = 0.2
ANSWER_S = 3.0
ENVIRONMENT = {
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "100",
    "PREFECT_CLIENT_ENABLE_METRICS": "false",
    "DO_NOT_TRACK": "1",
}


def api_url() -> str:
    """Return the API of `PREFECT_API_URL`, of Prefect's active profile, or the local one."""
    return (
        os.environ.get("PREFECT_API_URL") or _profile_api_url() or LOCAL_API_URL
    ).rstrip("/")


def _profile_api_url() -> str | None:
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "")
    value = profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return str(value) if value else None


def answers(url: str) -> bool:
    """Return whether a Prefect API answers at `url`; an empty port is found in 0.2 s."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.hostname is None:
        return False
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname, port), timeout=PROBE_S):
            pass
        with urllib.request.urlopen(f"{url}/health", timeout=ANSWER_S) as reply:  # noqa: S310 - scheme checked
            return json.load(reply) is True
    except (OSError, ValueError, urllib.error.URLError):
        return False


def find_server() -> str | None:
    """Return the API that answers, or None."""
    url = api_url()
    return url if answers(url) else None


def use_server(url: str) -> None:
    """Point this process, and Prefect when it is imported, at `url`."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["PREFECT_API_URL"] = url


def run_flow(
    name: str, body: Body, load: Callable[[], Callable[..., Outcome]], **parameters: Any
) -> Outcome:
    """Run a flow on the server that answers, or its body without one.

    Parameters
    ----------
    name : str
        Base name of the flow.
    body : callable
        Its plain body.
    load : callable
        Returns the Prefect flow over that body; called only if a server answers, so
        that Prefect is not imported for nothing.
    **parameters
        Arguments of the flow.

    Raises
    ------
    LakehouseError
        Whatever the body raised.
    """
    url = find_server()
    if url is None:
        say(f"no Prefect server at {api_url()}: ran without one, recorded in `runs`")
        return execute(name, body, workplace=open_workplace(), parameters=parameters)
    use_server(url)
    return load()(**parameters)
