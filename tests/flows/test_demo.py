"""The demo as a person runs it: everything up, everything down again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows.probe import answers
from flows.processes import ProcessFailedError, crew, free_port
from tests.simulators.places import Place, bare_environment


def children_of(folder: Path) -> list[psutil.Process]:
    """Return processes that work in the place: their environment names it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT_HOME", "").startswith(str(folder)):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_crew_is_stopped_with_its_children(tmp_path: Path):
    script = "import subprocess, sys, time\nsubprocess.Popen(['sleep', '100'])\n"
    script += "print('up', flush=True)\ntime.sleep(100)"
    log = tmp_path / "log"
    with crew() as members:
        members.start("pair", [sys.executable, "-c", script], log=log)
        members.wait_for("pair", lambda: "up" in log.read_text(), timeout_s=20)
        pair = [
            one
            for one in psutil.Process().children(recursive=True)
            if "sleep" in " ".join(one.cmdline())
        ]
        assert len(pair) == 2
    _, alive = psutil.wait_procs(pair, timeout=10)
    assert [one for one in alive if one.status() != "zombie"] == []


def test_a_process_that_fails_is_said_with_its_last_line(tmp_path: Path):
    with crew() as members:
        members.start(
            "sorry",
            [sys.executable, "-c", "raise SystemExit('no way')"],
            log=tmp_path / "l",
        )
        with pytest.raises(
            ProcessFailedError, match="sorry ended with status 1: no way"
        ):
            members.wait_for("sorry", lambda: False, timeout_s=20)


def test_a_taken_port_is_not_chosen():
    port = free_port()
    assert free_port(port) == port
    assert not answers(f"http://127.0.0.1:{port}/api")


def test_a_root_with_real_tables_is_not_taken_over(tmp_path: Path):
    place = Place(tmp_path)
    assert place.verb("ingest", "ohlcv").returncode == 0
    done = place.verb("demo", "--no-serve")
    assert done.returncode == 1
    assert "holds tables that no demo made" in done.stderr
    assert not (tmp_path / "root" / "clock.json").exists()


@pytest.mark.full
@pytest.mark.prefect
def test_the_demo_runs_twice_and_leaves_nothing_running(tmp_path: Path):
    place = Place(tmp_path)
    seconds = []
    for _ in range(2):
        started = time.monotonic()
        done = place.verb("--json", "demo", "--no-serve", "--days", "10", timeout_s=400)
        seconds.append(time.monotonic() - started)
        assert done.returncode == 0, done.stderr
        assert children_of(tmp_path) == []
    report = json.loads(done.stdout)
    assert set(report["new_rows"].values()) == {0}
    assert report["rows"]["ml_predictions"] == 44
    assert max(seconds) < 240
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"root", "keys", "state", "prefect"}


@pytest.mark.full
@pytest.mark.prefect
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_ended_leaves_nothing_running(tmp_path: Path, number: int):
    place = Place(tmp_path)
    demo = subprocess.Popen(
        [Path(sys.executable).parent / "alphalake", "demo", "--days", "2"],
        env={**bare_environment(), **place.environment},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "Ctrl-C ends it" in line:
            break
    os.kill(demo.pid, number)
    demo.communicate(timeout=60)
    assert demo.returncode == (0 if number == signal.SIGINT else 128 + number)
    assert children_of(tmp_path) == []
