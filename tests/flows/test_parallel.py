"""Tasks on processes: the same numbers, errors that say what, nobody left behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from flows.parallel import WorkerLostError, cores, map_tasks
from lab.errors import BacktestError
from lakehouse.errors import InputError
from tests.simulators import tasks
from tests.simulators.places import REPOSITORY

COMMON = np.random.default_rng(0).normal(size=50_000)


def test_processes_give_the_numbers_of_one_process_to_the_last_bit():
    alone = dict(map_tasks(tasks.scaled, range(5), common=COMMON, workers=1))
    spread = dict(map_tasks(tasks.scaled, range(5), common=COMMON, workers=3))
    assert sorted(alone) == sorted(spread) == list(range(5))
    for number, result in alone.items():
        np.testing.assert_array_equal(result, spread[number])


def test_each_process_has_one_thread_and_this_one_keeps_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    found = list(map_tasks(tasks.where, range(4), common=None, workers=2))
    assert os.getpid() not in {process for _, (process, _) in found}
    assert {process for _, (process, _) in found} != {os.getpid()}
    for _, (_, threads) in found:
        assert threads == {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "NUMBA_NUM_THREADS" not in os.environ


def test_one_worker_or_one_task_stays_in_this_process():
    for n_tasks, workers in ((3, 1), (1, 8)):
        found = list(map_tasks(tasks.where, range(n_tasks), common=0, workers=workers))
        assert {process for _, (process, _) in found} == {os.getpid()}
    assert list(map_tasks(tasks.where, [], common=0)) == []
    assert cores() >= 1


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_is_raised_as_it_was(workers):
    with pytest.raises(BacktestError, match="task 2: no bars"):
        list(map_tasks(tasks.failing, range(4), common=None, workers=workers))


def test_a_killed_process_is_told_in_one_line():
    with pytest.raises(WorkerLostError, match="ended without a result"):
        list(map_tasks(tasks.killed, range(3), common=None, workers=2))


def test_whoever_stops_reading_leaves_no_process_behind(tmp_path: Path):
    noted = tmp_path / "processes"
    found = map_tasks(tasks.first_is_quick, range(2), common=str(noted), workers=2)
    assert next(found) == (0, 0)
    found.close()
    assert _gone(noted)


def test_workers_end_with_their_parent(tmp_path: Path):
    noted = tmp_path / "processes"
    words = [sys.executable, "-m", "tests.simulators.tasks", str(noted)]
    parent = subprocess.Popen(words, cwd=REPOSITORY)
    while not noted.exists() or len(noted.read_text().splitlines()) < 2:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert _gone(noted)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_an_address_where_no_cluster_answers_is_told_at_once(address):
    with pytest.raises(InputError, match=rf"--ray {address}: no cluster answers"):
        list(map_tasks(tasks.scaled, [1], common=COMMON, ray=address))


def test_an_address_that_is_none_is_refused():
    with pytest.raises(InputError, match="HOST:PORT, auto or local"):
        list(map_tasks(tasks.scaled, [1], common=COMMON, ray="somewhere"))


def _gone(noted: Path) -> bool:
    processes = [int(line) for line in noted.read_text().splitlines()]
    assert processes
    for _ in range(100):
        if not any(Path(f"/proc/{one}").exists() for one in processes):
            return True
        time.sleep(0.05)
    return False
