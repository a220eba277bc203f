"""Where `--root` and `--now` are made to hold for this process and its children."""

import os

from lakehouse.clock import parse_moment
from lakehouse.settings import load_settings


def point_environment(*, root: str | None = None, now: str | None = None) -> None:
    """Make `--root` and `--now` hold for this process and every process it starts."""
    if root is not None:
        os.environ["ALPHALAKE_ROOT"] = root
    if now is not None:
        parse_moment(now, what="--now")
        os.environ["ALPHALAKE_NOW"] = now
    load_settings.cache_clear()
