"""Verbs that are killed: `python -m tests.simulators.flow_kills verb WORD…`.

The process loads everything first and says so, so that a kill after a random delay
lands in the flow and not in its imports. `control GLOB ROOT NOTES` is what a flow
without the transaction does: read a file, append it, note that it is done.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.simulators.places import REPOSITORY, Place, bare_environment

DAWDLE_S = 0.2


def run_verb(words: Sequence[str]) -> int:
    """Run one verb in this process, everything it needs loaded before."""
    import lakehouse.sources.files  # noqa: F401
    from flows.cli.app import run

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    return run([*words, "--quiet"])


def run_control(pattern: str, root: str, notes: Path) -> int:
    """Append every file that is not noted as done, and note it afterwards."""
    from deltalake import write_deltalake

    from lakehouse.schema.catalogue import table_spec
    from lakehouse.sources.files import read_bars

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    done = set(notes.read_text().split()) if notes.exists() else set()
    names = [field.name for field in table_spec("ohlcv").to_arrow()][:3]
    for path in sorted(Path(pattern).parent.glob(Path(pattern).name)):
        if path.name in done:
            continue
        for raw in read_bars(path):
            rows = raw.bars.append_column(
                "timeframe", [[raw.timeframe] * len(raw.bars)]
            )
            write_deltalake(f"{root}/tables/ohlcv", rows.select(names), mode="append")
        time.sleep(DAWDLE_S)
        with notes.open("a") as file:
            file.write(f"{path.name}\n")
    return 0


def kill_once(
    place: Place, words: Sequence[str], *, delay_s: float
) -> tuple[bool, str]:
    """Start a process, kill it `delay_s` after it is ready.

    Returns
    -------
    was_killed : bool
        False if it had ended by itself.
    said : str
        What it wrote to standard error.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.simulators.flow_kills", *words],
        cwd=REPOSITORY,
        env={**bare_environment(), **place.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        process.wait(timeout=delay_s)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    return process.returncode == -signal.SIGKILL, said


def run_battery(
    place: Place, words: Sequence[str], *, n_kills: int, seed: int, longest_s: float
) -> int:
    """Kill `n_kills` processes at random, then let one finish; return the kills."""
    dice = random.Random(seed)
    n_killed = 0
    for _ in range(n_kills):
        was_killed, said = kill_once(place, words, delay_s=dice.uniform(0.0, longest_s))
        assert "Traceback" not in said, said
        n_killed += was_killed
    was_killed, said = kill_once(place, words, delay_s=120)
    assert not was_killed, said
    assert said == ""
    return n_killed


if __name__ == "__main__":
    mode, *rest = sys.argv[1:]
    if mode == "control":
        sys.exit(run_control(rest[0], rest[1], Path(rest[2])))
    sys.exit(run_verb(rest))
