"""The accelerator: which one, what it is called on this host, how much memory it took.

torch is imported only where an accelerator could be found.
"""

import os
import re
import sys
from importlib.util import find_spec
from typing import Final, Literal

import psutil

from lakehouse.errors import InputError

Device = Literal["cpu", "cuda", "mps"]
DEVICES: Final = ("auto", "cpu", "cuda", "mps")


def choose_device(wanted: str) -> Device:
    """Return the device to work on.

    Parameters
    ----------
    wanted : str
        `cpu`, `cuda`, `mps`, or `auto` for the first of cuda, mps, cpu that is there.

    Raises
    ------
    InputError
        If there is no such device.
    """
    if wanted not in DEVICES:
        raise InputError(f"--device {wanted!r}: expected one of {', '.join(DEVICES)}")
    if wanted == "cpu":
        return "cpu"
    found = _accelerators()
    if wanted == "auto":
        return found[0] if found else "cpu"
    if wanted not in found:
        raise InputError(
            f"--device {wanted}: this machine has {', '.join(found) or 'none'}"
        )
    return wanted


def _accelerators() -> list[Device]:
    if find_spec("torch") is None:
        return []
    import torch

    found: list[Device] = ["cuda"] if torch.cuda.is_available() else []
    return [*found, "mps"] if torch.backends.mps.is_available() else found


def device_label(device: Device) -> str:
    """Return the device's name among this host's, for files: `cpu`, `cuda-0`."""
    if device != "cuda":
        return device
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    return f"cuda-{re.sub(r'[^A-Za-z0-9]+', '-', visible).strip('-') or '0'}"


def begin_measuring(device: Device) -> None:
    """Let `peak_memory` count from here."""
    if device == "cuda" and "torch" in sys.modules:
        import torch

        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: Device) -> dict[str, int]:
    """Return bytes this process holds, and the device's peak since it was last reset.

    Returns
    -------
    dict of str to int
        `rss_bytes`, and `device_bytes_peak` where the device has memory of its own.
    """
    found = {"rss_bytes": int(psutil.Process().memory_info().rss)}
    if "torch" not in sys.modules:
        return found
    import torch

    if device == "cuda":
        found["device_bytes_peak"] = int(torch.cuda.max_memory_allocated())
    elif device == "mps":
        found["device_bytes_peak"] = int(torch.mps.driver_allocated_memory())
    return found


def let_go_of_memory(device: Device) -> None:
    """Hand memory back that a failed run left cached on the device."""
    if device == "cuda" and "torch" in sys.modules:
        import torch

        torch.cuda.empty_cache()
