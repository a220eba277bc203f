"""The short verbs start fast and import nothing heavy."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.simulators.places import Place

HEAVY = (
    "prefect",
    "torch",
    "ray",
    "mlflow",
    "pandas",
    "litestar",
    "ccxt",
    "boto3",
    "numba",
    "scipy",
    "matplotlib",
)
LIMIT_S = 0.7
PROBE = """
import json, sys
from flows.cli import app
sys.argv = ["alphalake", *{words!r}]
try:
    app.main()
except SystemExit as left:
    status = left.code
heavy = [name for name in {heavy!r} if name in sys.modules]
sys.stderr.write(json.dumps({{"status": status, "heavy": heavy}}))
"""
VERBS = [["--help"], ["sql", "SELECT * FROM runs"], ["status"], ["verify"]]


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place with bars, forecasts and artefacts."""
    place = Place(tmp_path_factory.mktemp("place"), now="2018-10-01T00:00:00Z")
    for words in (["init"], ["ingest", "ohlcv"], ["forecast"], ["publish"]):
        assert place.verb(*words).returncode == 0
    return place


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_a_short_verb_imports_nothing_heavy(lived_in: Place, words: list[str]):
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(words=words, heavy=HEAVY)],
        env={**os.environ, **lived_in.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stderr.splitlines()[-1]) == {"status": 0, "heavy": []}


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_a_short_verb_starts_fast(lived_in: Place, words: list[str]):
    command = [Path(sys.executable).parent / "alphalake", *words]
    times = []
    for _ in range(4):
        before, started = os.times(), time.monotonic()
        subprocess.run(
            command,
            env={**os.environ, **lived_in.environment},
            capture_output=True,
            timeout=60,
            check=True,
        )
        after = os.times()
        # On a busy machine the processor time says what an idle one would take.
        busy = after.children_user - before.children_user
        busy += after.children_system - before.children_system
        times.append(min(time.monotonic() - started, busy * 1.2))
    assert min(times) < 2 * LIMIT_S, times
