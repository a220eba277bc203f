"""The peer of W1, run by the Python of an environment of its own: vectorbt.

`vectorbt_peer.py FOLDER NUMBER` walks instrument NUMBER of FOLDER/panel.npz forward and
prints JSON; it imports nothing of ours. The contract is reproduced as it is written:
target values on fixed notional, the cost as fixed fees. A rung is one portfolio of 100
columns. Means and deviations of the windows come from sums over blocks: cheaper than
vectorbt's own statistics, and counted to its favour. The first call compiles, on a
short slice; the time is of the second.
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
import vectorbt as vbt  # noqa: E402

CASH = 1e4  # nothing is ever refused for want of it
BLOCK, TRAIN = 720, 6


def net_returns(close, positions, bps):
    """Return gains on a notional of 1, (n_obs, n_variants)."""
    weights = positions.astype(np.float64)
    changes = np.abs(np.diff(weights, axis=0, prepend=0))
    book = vbt.Portfolio.from_orders(
        pd.Series(close),
        pd.DataFrame(weights),
        size_type="targetvalue",
        fixed_fees=bps * 1e-4 * changes,
        init_cash=CASH,
        freq="1h",
    )
    return np.diff(book.value().to_numpy(), axis=0, prepend=CASH)


def choose(net):
    """Return the variant of the best training Sharpe ratio of each window."""
    n_blocks = len(net) // BLOCK
    blocks = net[: n_blocks * BLOCK].reshape(n_blocks, BLOCK, -1)
    total, square = blocks.sum(axis=1), (blocks * blocks).sum(axis=1)
    chosen, n = [], TRAIN * BLOCK
    for start in range(n_blocks - TRAIN):
        part = slice(start, start + TRAIN)
        mean = total[part].sum(axis=0) / n
        variance = (square[part].sum(axis=0) - n * mean * mean) / (n - 1)
        with np.errstate(all="ignore"):
            sharpe = np.where(variance > 1e-18, mean / np.sqrt(variance), -np.inf)
        chosen.append(int(np.argmax(sharpe)))
    return chosen, total


def walk(close, positions, slippages):
    """Return selections (n_slippages, n_windows) and net sums of the blocks."""
    found = [choose(net_returns(close, positions, bps)) for bps in slippages]
    return [chosen for chosen, _ in found], np.array([total for _, total in found])


def main(folder, number):
    """Time one instrument."""
    stored = np.load(folder / "panel.npz")
    close = stored["close"][:, number]
    positions = np.load(folder / f"positions-{number}.npy")
    slippages = stored["slippages"].tolist()
    walk(close[: BLOCK * 8], positions[: BLOCK * 8], slippages[:1])
    start = time.process_time()
    chosen, totals = walk(close, positions, slippages)
    seconds = time.process_time() - start
    np.save(folder / f"vectorbt-{number}.npy", totals)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "chosen": chosen, "peak_rss_mb": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
