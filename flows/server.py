"""Run a flow on the Prefect server that answers, else its body without one.

Nothing here imports Prefect before a server has answered, and an ephemeral server is
never started.
"""

import os
from collections.abc import Callable
from typing import Any

from flows.probe import api_url, find_server
from flows.progress import say
from flows.runs import Body, Outcome, execute
from flows.wiring import open_workplace

ENVIRONMENT = {
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLIENT_ENABLE_METRICS": "false",
    "DO_NOT_TRACK": "1",
}


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
