"""Writers that are killed: `python -m tests.simulators.kill MODE ROOT ACKNOWLEDGED N`.

A writer stores unit after unit, starting after the last one it was told is stored, and
notes each unit once the write has returned. Between the return and the note it dawdles,
as a flow that has more to do would: a kill in there is the one that duplicates rows
unless the commit itself names the unit.
"""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from lakehouse.schema.catalogue import table_spec
from tests.simulators.lakehouse import START, bars, open_lake

REPOSITORY = Path(__file__).resolve().parents[2]
HOURS_PER_UNIT = 4
DAWDLE_S = 0.03


def unit_rows(unit: int) -> pa.Table:
    """Return one unit's bars: units follow each other in time."""
    start = START + timedelta(hours=HOURS_PER_UNIT * unit)
    return bars(HOURS_PER_UNIT, start=start, symbols=("BTC", "ETH"))


def corrected(unit: int) -> pa.Table:
    """Return the unit's bars with another volume."""
    rows = unit_rows(unit)
    volume = pa.array([float(unit)] * rows.num_rows)
    return rows.set_column(rows.schema.get_field_index("volume"), "volume", volume)


def write_unit(mode: str, root: str, unit: int) -> None:
    """Store one unit: new bars, every third time a correction of the unit before too."""
    if mode == "raw":
        # The control: a blind retry, as a plain Delta append is.
        rows = unit_rows(unit).cast(table_spec("ohlcv").to_arrow())
        write_deltalake(f"{root}/tables/ohlcv", rows, mode="append")
        return
    lake = open_lake(root)
    lake.append("ohlcv", unit_rows(unit), window=f"kill/ohlcv/{unit}")
    if unit % 3 == 2:
        lake.upsert("ohlcv", corrected(unit - 1), window=f"kill/fix/{unit - 1}")


def run_writer(mode: str, root: str, acknowledged: Path, n_units: int) -> None:
    """Store units until `n_units` are acknowledged."""
    done = acknowledged.read_text().count("\n") if acknowledged.exists() else 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for unit in range(done, n_units):
        write_unit(mode, root, unit)
        time.sleep(DAWDLE_S)
        with acknowledged.open("a") as notes:
            notes.write(f"{unit}\n")
            notes.flush()
            os.fsync(notes.fileno())


@dataclass(frozen=True)
class Outcome:
    """What a battery of kills left behind."""

    n_units: int
    n_kills: int
    rows: pa.Table


def run_battery(mode: str, root: Path, *, n_kills: int, seed: int) -> Outcome:
    """Kill writers `n_kills` times, then let one finish every unit that was begun.

    Every other kill strikes at a random moment, the rest right after a commit appears.
    """
    chance = random.Random(seed)
    acknowledged = root.parent / f"{root.name}.acknowledged"
    for number in range(n_kills):
        writer = _spawn(mode, root, acknowledged, n_units=10**6)
        if number % 2:
            _wait_for_commits(root, chance.randint(1, 3))
        else:
            time.sleep(chance.uniform(0.0, 0.25))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    n_units = (acknowledged.read_text().count("\n") if acknowledged.exists() else 0) + 3
    last = _spawn(mode, root, acknowledged, n_units=n_units)
    if last.wait(timeout=120):
        raise RuntimeError("the last writer failed")
    last.communicate()
    stored = DeltaTable(str(root / "tables" / "ohlcv")).to_pyarrow_table()
    return Outcome(n_units, n_kills, stored)


def _spawn(
    mode: str, root: Path, acknowledged: Path, n_units: int
) -> subprocess.Popen[str]:
    module = "tests.simulators.kill"
    writer = subprocess.Popen(
        [
            sys.executable,
            "-m",
            module,
            mode,
            str(root),
            str(acknowledged),
            str(n_units),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    if writer.stdout is None or writer.stdout.readline() != "ready\n":
        raise RuntimeError("the writer did not start")
    return writer


def _wait_for_commits(root: Path, n_commits: int) -> None:
    log = root / "tables" / "ohlcv" / "_delta_log"
    goal = len(list(log.glob("*.json"))) + n_commits
    deadline = time.monotonic() + 10
    while len(list(log.glob("*.json"))) < goal and time.monotonic() < deadline:
        time.sleep(0.002)


if __name__ == "__main__":
    run_writer(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
