"""The gateway's clock follows the lake's while it runs."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from lakehouse.clock import Clock, freeze_clock, thaw_clock
from serve.present import LakeClock
from serve.settings import ServeSettings
from tests.simulators.artefacts import NOW


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake with a repository, frozen at NOW."""
    monkeypatch.delenv("ALPHALAKE_NOW", raising=False)
    metadata = tmp_path / "lake" / "artefacts" / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "timestamp.json").write_bytes(b"{}")
    freeze_clock(str(tmp_path / "lake"), NOW)
    return tmp_path / "lake"


def test_a_moved_and_a_thawed_clock_are_noticed(root):
    clock = LakeClock.resolve(str(root))
    assert (clock.now(), clock.is_demo) == (NOW, True)
    freeze_clock(str(root), NOW + timedelta(days=1))
    assert clock.now() == NOW
    clock.follow()
    assert clock.now() == NOW + timedelta(days=1)
    assert thaw_clock(str(root))
    clock.follow()
    assert clock.now() > NOW + timedelta(days=2)
    assert clock.is_demo is False
    freeze_clock(str(root), NOW)
    clock.follow()
    assert (clock.now(), clock.is_demo) == (NOW, True)


def test_a_lake_that_is_away_thaws_nothing(root):
    clock = LakeClock.resolve(str(root))
    away = root.with_name("away")
    root.rename(away)
    clock.follow()
    assert clock.now() == NOW
    away.rename(root)
    shutil.rmtree(root / "artefacts")
    (root / "clock.json").unlink()
    clock.follow()
    assert clock.now() == NOW


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"now": 5}', '{"now": "soon"}', "[" * 900, "x" * 9000]
)
def test_an_odd_clock_file_changes_nothing(root, text, caplog):
    clock = LakeClock.resolve(str(root))
    (root / "clock.json").write_text(text)
    clock.follow()
    assert clock.now() == NOW
    assert "the clock stays as it was" in caplog.text


def test_a_given_moment_is_kept(root, monkeypatch):
    later = NOW + timedelta(days=3)
    for clock in (
        LakeClock.resolve(str(root), now=later.isoformat()),
        LakeClock(Clock(later, "argument")),
    ):
        clock.follow()
        assert clock.now() == later
    monkeypatch.setenv("ALPHALAKE_NOW", later.isoformat())
    for place in (str(root), "http://gateway.test"):
        clock = LakeClock.resolve(place)
        clock.follow()
        assert clock.now() == later


def test_the_gateway_shows_the_thaw(root, start, provider, settings: ServeSettings):
    from serve.app import create_app
    from tests.serve.conftest import Client

    assert "ALPHALAKE_NOW" not in os.environ
    chosen = settings.model_copy(update={"root": str(root), "refresh_seconds": 0.05})
    client = Client(create_app(chosen, provider=provider))
    try:
        first = client.get("/showcase/status").json()
        assert (first["demo"], first["stale"]) == (True, False)
        thaw_clock(str(root))
        for _ in range(400):
            status = client.get("/showcase/status").json()
            if not status["demo"] and status["stale"]:
                return
        raise AssertionError(f"still {status}")
    finally:
        client.close()
