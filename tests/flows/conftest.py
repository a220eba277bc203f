"""Places to run flows in: bodies in this process, verbs in their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.runs import Body, Outcome, execute
from flows.settings import load_flow_settings
from flows.setup import set_up_trust
from flows.wiring import Workplace, open_workplace
from lakehouse.settings import load_settings
from tests.simulators.places import Place
from tests.simulators.s3 import s3_environment, s3_root, s3_server

__all__ = ["s3_environment", "s3_root", "s3_server"]

NOW = "2018-10-01T00:00:00+00:00"


def forget_settings() -> None:
    load_settings.cache_clear()
    load_flow_settings.cache_clear()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place at the demo's date; this process works there too."""
    found = Place(tmp_path, now=NOW)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    forget_settings()
    yield found
    forget_settings()


@pytest.fixture
def workplace(place: Place) -> Workplace:
    """The opened place, with keys and an empty repository."""
    opened = open_workplace()
    set_up_trust(opened)
    return opened


def run_plainly(flow: str, body: Body, **parameters: object) -> Outcome:
    """Run a body without a server, at the environment's place and time."""
    return execute(flow, body, workplace=open_workplace(), parameters=parameters)
