"""The file lock that proves a worker dead, and the device it guards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.worker.devices import choose_device, device_label, peak_memory
from flows.worker.fence import fenced, lock_folder
from lakehouse.errors import InputError, RefusedError

HOLD = """
import sys, pathlib
from flows.worker.fence import fenced
with fenced(pathlib.Path(sys.argv[1]), "cpu", server=None):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_living_holder_is_named_and_a_killed_one_frees_the_lock(tmp_path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(RefusedError, match=f"cpu.lock: held by process {holder.pid};"),
        fenced(tmp_path, "cpu", server=None),
    ):
        pass
    with fenced(tmp_path, "mps", server=None):
        pass  # another device of the host is free
    holder.kill()
    holder.communicate(timeout=30)
    with fenced(tmp_path, "cpu", server=None):
        assert (tmp_path / "cpu.lock").read_text() == str(os.getpid())


def test_two_devices_of_a_host_do_not_share_one_pool(tmp_path: Path):
    with fenced(tmp_path, "cpu", server="http://a/api"):
        with (
            pytest.raises(RefusedError, match="pool-"),
            fenced(tmp_path, "mps", server="http://a/api"),
        ):
            pass
        with fenced(tmp_path, "mps", server="http://b/api"):
            pass


def test_locks_are_never_under_the_lake(tmp_path: Path):
    with pytest.raises(InputError, match="under the lake's root"):
        lock_folder(tmp_path / "locks", "cpu", root=str(tmp_path))
    elsewhere = lock_folder(tmp_path / "locks", "cpu", root="s3://bucket/lake")
    assert elsewhere == tmp_path / "locks"


def test_an_accelerators_locks_are_the_hosts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    at_home = lock_folder(None, "cpu", root=str(tmp_path / "root"))
    assert at_home == tmp_path / ".alphalake-worker"
    shared = lock_folder(None, "cuda", root=str(tmp_path / "root"))
    assert not shared.is_relative_to(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1,2")
    assert device_label("cuda") == "cuda-GPU-1-2"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert device_label("cuda") == "cuda-0"
    assert device_label("cpu") == "cpu"


def test_only_a_device_that_is_there_is_chosen():
    assert choose_device("cpu") == "cpu"
    with pytest.raises(InputError, match="--device 'tpu': expected one of auto, cpu"):
        choose_device("tpu")
    assert peak_memory("cpu")["rss_bytes"] > 1e7
