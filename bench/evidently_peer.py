"""A peer of W6, run by the Python of an environment of its own: evidently.

`evidently_peer.py FOLDER` compares FOLDER/current.npy with FOLDER/reference.npy and
prints JSON; it imports nothing of ours. One run is a report of a KS and a PSI drift
metric for every column, as evidently's documentation has it.
"""

import json
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

warnings.simplefilter("ignore")
from evidently import DataDefinition, Dataset, Report  # noqa: E402
from evidently.metrics import ValueDrift  # noqa: E402


def answers(snapshot, names):
    """Return a column's KS p-value and PSI, by metric and column."""
    found = {"ks": {}, "psi": {}}
    for metric in snapshot.dict()["metrics"]:
        config = metric["config"]
        found[config["method"]][config["column"]] = float(metric["value"])
    return {key: [values[name] for name in names] for key, values in found.items()}


def main(folder):
    """Time one report."""
    tables = {}
    for name in ("reference", "current"):
        values = np.load(folder / f"{name}.npy")
        tables[name] = pd.DataFrame(
            values, columns=[f"x{k}" for k in range(values.shape[1])]
        )
    names = list(tables["current"])
    metrics = [
        ValueDrift(column=name, method=method)
        for name in names
        for method in ("ks", "psi")
    ]
    start = time.perf_counter()
    definition = DataDefinition(numerical_columns=names)
    sets = {
        name: Dataset.from_pandas(table, data_definition=definition)
        for name, table in tables.items()
    }
    snapshot = Report(metrics).run(sets["current"], sets["reference"])
    found = answers(snapshot, names)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_rss_mb": peak, **found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
