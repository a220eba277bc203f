"""The peer of W9, run by the Python of an environment of its own: ArcticDB on LMDB.

`arcticdb_peer.py write FOLDER PANEL.npz` stores the panel, `arcticdb_peer.py CASE FOLDER`
times one read and prints JSON. It imports nothing of ours. Of a loop of reads and one
batch the quicker counts.
"""

import hashlib
import json
import resource
import statistics
import sys
import time

import arcticdb
import numpy as np
import pandas as pd

FIELDS = ("open", "high", "low", "close", "volume")
REPEATS = 9


def open_library(folder):
    """Return the library, made on first use."""
    return arcticdb.Arctic(f"lmdb://{folder}").get_library(
        "bars", create_if_missing=True
    )


def write(folder, path):
    """Store one symbol per name, hours as the index."""
    library = open_library(folder)
    stored = np.load(path)
    for name in stored["symbols"]:
        frame = pd.DataFrame(
            {field: stored[f"{name}/{field}"] for field in FIELDS},
            index=pd.DatetimeIndex(stored["ts"]).as_unit("ns"),
        )
        library.write(str(name), frame)


def readers(library, case):
    """Return the ways to read a case; each gives one frame per symbol."""
    names = sorted(library.list_symbols())
    if case == "one":
        return [lambda: [library.read(names[7]).data]]
    if case == "month":
        end = library.tail(names[0], 1).data.index[-1]
        options = {"date_range": (end - pd.Timedelta(days=30), None)}
    else:
        options = {"columns": ["close"]}
    requests = [arcticdb.ReadRequest(name, **options) for name in names]
    return [
        lambda: [library.read(name, **options).data for name in names],
        lambda: [item.data for item in library.read_batch(requests)],
    ]


def digest(frames):
    """Hash hours and values in symbol order."""
    total = hashlib.sha256()
    for frame in frames:
        total.update(frame.index.as_unit("us").asi8.tobytes())
        for name in frame.columns:
            total.update(np.ascontiguousarray(frame[name].to_numpy()).tobytes())
    return total.hexdigest()


def measure(case, folder):
    """Time a case: the first read, then the median of more."""
    library = open_library(folder)
    best = {}
    for read in readers(library, case):
        start = time.perf_counter()
        frames = read()
        cold = time.perf_counter() - start
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            frames = read()
            times.append(time.perf_counter() - start)
        warm = statistics.median(times)
        if not best or warm < best["warm_ms"] / 1e3:
            best = {
                "warm_ms": warm * 1e3,
                "cold_ms": cold * 1e3,
                "digest": digest(frames),
                "n_rows": sum(map(len, frames)),
            }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**best, "peak_rss_mb": peak}


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2], sys.argv[3])
    else:
        print(json.dumps(measure(sys.argv[1], sys.argv[2])))
