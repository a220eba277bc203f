"""Where `--root` and `--now` are made to hold for this process and its children."""

import os
from pathlib import Path

from lakehouse.clock import parse_moment
from lakehouse.errors import InputError
from lakehouse.settings import load_settings


def refuse_file(root: str) -> None:
    """Refuse a root that is a file.

    Raises
    ------
    InputError
        If it is one.
    """
    folder = Path(root.removeprefix("file://"))
    if "://" not in str(folder) and folder.exists() and not folder.is_dir():
        raise InputError(f"root {root}: a file, expected a folder")


def point_environment(*, root: str | None = None, now: str | None = None) -> None:
    """Make `--root` and `--now` hold for this process and every process it starts.

    Raises
    ------
    InputError
        If one is empty, or `now` is not a time.
    """
    if root == "" or now == "":
        raise InputError(f"--{'root' if root == '' else 'now'}: is empty")
    if root is not None:
        os.environ["ALPHALAKE_ROOT"] = root
    if now is not None:
        parse_moment(now, what="--now")
        os.environ["ALPHALAKE_NOW"] = now
    load_settings.cache_clear()


def let_threads_sleep() -> None:
    """Let OpenMP's idle threads sleep instead of spinning, before torch is loaded.

    On a machine that other processes use too, spinning made a Kronos batch ten times
    slower; sleeping costs an idle machine nothing that could be measured.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
