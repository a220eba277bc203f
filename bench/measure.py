"""Time and memory of one piece of work in a process of its own."""

import gc
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]


def resident_mb(field: str) -> float:
    """Return `VmRSS` or `VmHWM` of this process, MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1024


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Run once; return seconds, the peak RSS and what it rose by, MB."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    before = resident_mb("VmRSS")
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    peak = resident_mb("VmHWM")
    return {"seconds": seconds, "peak_rss_mb": peak, "extra_rss_mb": peak - before}


def fresh_process(module: str, *arguments: str) -> dict[str, Any]:
    """Run `python -m module ARGUMENTS`; return the JSON of its last line."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
