"""Find the Prefect server that answers, without importing Prefect."""

import json
import os
import socket
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

LOCAL_API_URL = "http://127.0.0.1:4200/api"
PROBE_S = 0.2
ANSWER_S = 3.0


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
    try:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or parts.hostname is None:
            return False
        port = parts.port or (443 if parts.scheme == "https" else 80)
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


def pool_workers(url: str, pool: str) -> dict[str, str] | None:
    """Return the newest sign of life of each online worker of a work pool.

    Parameters
    ----------
    url : str
        Prefect API that answers.
    pool : str
        Name of the work pool.

    Returns
    -------
    dict of str to str or None
        Worker's name to an ISO 8601 time; None if the server does not say.
    """
    request = urllib.request.Request(  # noqa: S310 - scheme checked by `answers`
        f"{url}/work_pools/{pool}/workers/filter",
        data=b"{}",
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as reply:  # noqa: S310
            found = json.load(reply)
        return {
            one["name"]: one["last_heartbeat_time"]
            for one in found
            if one["status"] == "ONLINE"
        }
    except (OSError, ValueError, KeyError, TypeError, urllib.error.URLError):
        return None
