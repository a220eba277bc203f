"""The one clock that flows, expiries, cooldowns and streaks read.

Order: an explicit moment (`--now`), `ALPHALAKE_NOW`, the date that a demo froze into
the root's `clock.json`, wall time. Cache ages, timeouts and polling never use this
clock: they are monotonic.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import fsspec

from lakehouse.errors import InputError
from lakehouse.storage.location import fsspec_options, is_remote

ClockSource = Literal["argument", "environment", "demo", "wall"]
CLOCK_FILE = "clock.json"


def parse_moment(text: str, *, what: str = "time") -> datetime:
    """Parse an ISO 8601 moment; without an offset it is UTC.

    Raises
    ------
    InputError
        If `text` is not ISO 8601.
    """
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        return (
            moment.replace(tzinfo=UTC)
            if moment.tzinfo is None
            else moment.astimezone(UTC)
        )
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{what}: {text!r} is not an ISO 8601 time, e.g. 2022-03-04T21:00:00Z"
        ) from error


@dataclass(frozen=True, slots=True)
class Clock:
    """Clock time, frozen or running.

    Attributes
    ----------
    frozen : datetime or None
        The moment it stands at, UTC; None runs with the wall clock.
    source : str
        Where the moment came from. `demo` holds back rows beyond it.
    """

    frozen: datetime | None = None
    source: ClockSource = "wall"

    def now(self) -> datetime:
        """Return the present moment, UTC."""
        return self.frozen if self.frozen is not None else datetime.now(UTC)

    @property
    def is_demo(self) -> bool:
        """Whether the root's demo date stands in for the present."""
        return self.source == "demo"


def _options(root: str, given: dict[str, Any] | None) -> dict[str, Any]:
    return dict(given) if given is not None else fsspec_options(root)


def resolve_clock(
    root: str,
    *,
    now: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Clock:
    """Find the clock that holds for `root`.

    Parameters
    ----------
    root : str
        Local path or `s3://bucket/prefix`.
    now : str, optional
        Value of `--now`.
    storage_options : dict, optional
        fsspec options for a remote root; from the `AWS_*` environment by default.

    Raises
    ------
    InputError
        If a given time or `clock.json` cannot be parsed.
    """
    if now is not None:
        return Clock(parse_moment(now, what="--now"), "argument")
    if text := os.environ.get("ALPHALAKE_NOW"):
        return Clock(parse_moment(text, what="ALPHALAKE_NOW"), "environment")
    path = f"{root.rstrip('/')}/{CLOCK_FILE}"
    try:
        opened: Any = fsspec.open(path, "r", **_options(root, storage_options))
        with opened as file:
            text = str(json.load(file)["now"])
    except FileNotFoundError:
        return Clock()
    except NotADirectoryError as error:
        raise InputError(f"root {root}: a file, expected a folder") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a clock file, expected {{'now': TIME}}"
        ) from error
    return Clock(parse_moment(text, what=path), "demo")


def freeze_clock(
    root: str, moment: datetime, *, storage_options: dict[str, Any] | None = None
) -> None:
    """Make `moment` the present of `root` until it is thawed."""
    path = f"{root.rstrip('/')}/{CLOCK_FILE}"
    options = _options(root, storage_options)
    if not is_remote(root):
        options["auto_mkdir"] = True
    opened: Any = fsspec.open(path, "w", **options)
    with opened as file:
        json.dump({"now": moment.astimezone(UTC).isoformat()}, file)


def thaw_clock(root: str, *, storage_options: dict[str, Any] | None = None) -> bool:
    """Let time run again; return whether it had been frozen."""
    filesystem, path = fsspec.core.url_to_fs(
        f"{root.rstrip('/')}/{CLOCK_FILE}", **_options(root, storage_options)
    )
    if not filesystem.exists(path):
        return False
    filesystem.rm(path)
    return True
