"""W1, walk-forward: 23 x 70,080 hours x 100 variants, four rungs, 91 windows.

Each instrument is walked forward by itself: `sweep` and `select`, the functions that
`alphalake walkforward` calls, against vectorbt, NumPy and a fused pass made for this
contract. Every side gets the same int8 weights of trend followers and has to choose the
same variant in every cell (instrument, window, rung). CPU-seconds of one thread, without
making the weights; ours and the fused pass take turns, instrument by instrument, three
times over. vectorbt runs three of the 23 instruments and is counted 23/3 times.

The second case is the call as it stands in walk-forward: one book of all instruments,
float64 weights, one variant after the other.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench.measure import REPOSITORY, fresh_process, resident_mb
from bench.panel import N_BARS, N_SYMBOLS, START
from bench.walkforward_peers import (
    BLOCK,
    SLIPPAGES,
    TRAIN,
    blocked_numpy,
    fused,
    fused_book,
    plain_numpy,
)
from lab.backtest.engine import Fill
from lab.backtest.panel import AlignedPanel
from lab.backtest.sweep import select, sweep

N_VARIANTS, REPEATS = 100, 3
N_BLOCKS = N_BARS // BLOCK
EDGES = np.arange(N_BLOCKS + 1) * BLOCK
WINDOWS = [
    (slice(k, k + TRAIN), slice(k + TRAIN, k + TRAIN + 1))
    for k in range(N_BLOCKS - TRAIN)
]
ENVIRONMENT = REPOSITORY / ".bench" / "vectorbt"
PEER = REPOSITORY / "bench" / "vectorbt_peer.py"
PEER_VERSION = "vectorbt==1.2.0"
PEER_INSTRUMENTS = (0, 9, 19)


def prices(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return opens and closes of random walks, (n_obs, n_assets)."""
    rng = np.random.default_rng([seed, 1])
    steps = rng.standard_normal((N_BARS, N_SYMBOLS)) * 0.004
    close = 100 * np.exp(np.cumsum(steps, axis=0))
    before = np.vstack([np.full((1, N_SYMBOLS), 100.0), close[:-1]])
    return before * np.exp(rng.standard_normal(close.shape) * 0.001), close


def panel_of(opens: np.ndarray, close: np.ndarray) -> AlignedPanel:
    """Return these instruments as a panel."""
    n_assets = close.shape[1]
    hour = np.timedelta64(3_600_000_000, "us")
    ts = np.datetime64(START.replace(tzinfo=None), "us") + np.arange(N_BARS) * hour
    return AlignedPanel(
        timeframe="1h",
        symbols=tuple(f"S{i:02d}USDT" for i in range(n_assets)),
        asset_classes=("crypto",) * n_assets,
        calendars=("24x7",) * n_assets,
        ts=ts,
        known_ts=ts + hour,
        open=opens,
        high=np.maximum(opens, close),
        low=np.minimum(opens, close),
        close=close,
        volume=np.ones_like(close),
        is_break=np.zeros(close.shape, dtype=np.bool_),
        delisted=np.full(n_assets, -1),
    )


def trend(close: np.ndarray, variant: int) -> np.ndarray:
    """Return the sign of the move since some hours ago, (n_obs, ...), int8."""
    hours = 4 + 5 * variant
    weights = np.zeros(close.shape, dtype=np.int8)
    weights[hours:] = np.sign(close[hours:] - close[:-hours])
    return weights


def weights_of(close: np.ndarray) -> np.ndarray:
    """Return all variants of one instrument, (n_obs, n_variants), int8."""
    return np.stack([trend(close, number) for number in range(N_VARIANTS)], axis=1)


def ours(panel: AlignedPanel, weights: np.ndarray, fill: Fill) -> np.ndarray:
    """Walk one instrument forward; return the chosen variants."""
    sums = sweep(panel, weights[:, None, :], EDGES, fill=fill)
    return select(sums, WINDOWS, SLIPPAGES).chosen


def cpu(work, *arguments) -> tuple[float, object]:
    """Return a call's CPU-seconds and its answer."""
    start = time.process_time()
    answer = work(*arguments)
    return time.process_time() - start, answer


def measure_ours(seed: int, folder: str) -> dict:
    """Time our passes and the fused one in turns; keep what was chosen."""
    opens, close = prices(seed)
    columns = [slice(k, k + 1) for k in range(N_SYMBOLS)]
    panels = [panel_of(opens[:, k], close[:, k]) for k in columns]
    first = weights_of(close[:, 0])
    for fill in (Fill.SAME_CLOSE, Fill.NEXT_OPEN):
        ours(panels[0], first, fill)
    fused(close[:, 0].copy(), first)
    before = resident_mb("VmHWM")
    found: dict[str, list[float]] = {"same_close": [], "next_open": [], "fused": []}
    chosen = []
    for repeat in range(REPEATS):
        spent = dict.fromkeys(found, 0.0)
        for number, panel in enumerate(panels):
            own = close[:, number].copy()
            weights = weights_of(own)
            took, peer = cpu(fused, own, weights)
            spent["fused"] += took
            for fill in (Fill.SAME_CLOSE, Fill.NEXT_OPEN):
                took, mine = cpu(ours, panel, weights, fill)
                spent[fill.value] += took
                if fill is Fill.SAME_CLOSE and not np.array_equal(mine, peer):
                    raise RuntimeError(
                        f"w1: instrument {number}: the fused pass differs"
                    )
                if fill is Fill.SAME_CLOSE and repeat == 0:
                    chosen.append(mine)
        for name, seconds in spent.items():
            found[name].append(seconds)
    np.save(Path(folder) / "chosen.npy", np.array(chosen))
    peak = max(before, resident_mb("VmHWM"))
    return {k: statistics.median(v) for k, v in found.items()} | {"rss_mb": peak}


def measure_threads(seed: int, folder: str) -> dict:
    """Time all instruments on one and on two threads, by the wall's clock."""
    opens, close = prices(seed)
    panels = [panel_of(opens[:, [k]], close[:, [k]]) for k in range(N_SYMBOLS)]
    weights = [weights_of(close[:, k]) for k in range(N_SYMBOLS)]
    expected = np.load(Path(folder) / "chosen.npy")
    found: dict[int, list[float]] = {1: [], 2: []}
    sums = {}
    for _ in range(REPEATS + 1):  # the first compiles
        for n_threads, seconds in found.items():
            with ThreadPoolExecutor(n_threads) as pool:
                start = time.perf_counter()
                done = list(pool.map(_walk, panels, weights))
                seconds.append(time.perf_counter() - start)
            sums[n_threads] = np.array([each.sums for each, _ in done])
            if not np.array_equal([chosen for _, chosen in done], expected):
                raise RuntimeError(f"w1: {n_threads} threads choose other variants")
        if not np.array_equal(sums[1], sums[2]):
            raise RuntimeError("w1: the number of threads changes sums")
    return {
        "one": statistics.median(found[1][1:]),
        "two": statistics.median(found[2][1:]),
        "rss_mb": resident_mb("VmHWM"),
    }


def _walk(panel: AlignedPanel, weights: np.ndarray):
    sums = sweep(panel, weights[:, None, :], EDGES, fill=Fill.SAME_CLOSE)
    return sums, select(sums, WINDOWS, SLIPPAGES).chosen


def measure_numpy(seed: int, folder: str) -> dict:
    """Time both NumPy forms; they have to choose what we chose."""
    _, close = prices(seed)
    expected = np.load(Path(folder) / "chosen.npy")
    found: dict[str, list[float]] = {"plain": [], "blocked": []}
    for _ in range(REPEATS):
        spent = dict.fromkeys(found, 0.0)
        for number in range(N_SYMBOLS):
            own = close[:, number].copy()
            weights = weights_of(own)
            for name, work in (("plain", plain_numpy), ("blocked", blocked_numpy)):
                took, chosen = cpu(work, own, weights)
                spent[name] += took
                if not np.array_equal(chosen, expected[number]):
                    raise RuntimeError(f"w1: instrument {number}: {name} NumPy differs")
        for name, seconds in spent.items():
            found[name].append(seconds)
    medians = {name: statistics.median(each) for name, each in found.items()}
    return medians | {"rss_mb": resident_mb("VmHWM")}


def measure_book(seed: int, _folder: str) -> dict:
    """Time one book of all instruments, variants handed over one by one."""
    opens, close = prices(seed)
    panel = panel_of(opens, close)
    steps = np.zeros_like(close)
    steps[1:] = close[1:] / close[:-1] - 1
    making = [0.0]

    def each():
        for number in range(N_VARIANTS):
            took, weights = cpu(lambda number=number: trend(close, number) / N_SYMBOLS)
            making[0] += took
            yield weights

    def book(fill):
        sums = sweep(panel, each(), EDGES, fill=fill)
        return sums, select(sums, WINDOWS, SLIPPAGES).chosen

    def peer():
        found = [fused_book(steps, weights, N_BLOCKS) for weights in each()]
        return np.stack(found, axis=2)

    sweep(panel, [np.zeros(close.shape)], EDGES, fill=Fill.SAME_CLOSE)
    sweep(panel, [np.zeros(close.shape)], EDGES, fill=Fill.NEXT_OPEN)
    fused_book(steps, np.zeros(close.shape), N_BLOCKS)
    found: dict[str, list[float]] = {"fused": [], "same_close": [], "next_open": []}
    for _ in range(REPEATS):
        works = {name: (book, Fill(name)) for name in ("same_close", "next_open")}
        for name, work in {"fused": (peer,), **works}.items():
            making[0] = 0.0
            took, answer = cpu(*work)
            found[name].append(took - making[0])
            if name == "fused":
                expected = answer
            elif name == "same_close" and not np.allclose(
                answer[0].sums, expected, rtol=1e-9, atol=1e-12
            ):
                raise RuntimeError("w1: the fused pass sums a book to something else")
    medians = {name: statistics.median(each) for name, each in found.items()}
    return medians | {"rss_mb": resident_mb("VmHWM")}


def peer_python() -> Path | None:
    """Return the Python that has vectorbt, installing it once; None if it cannot be."""
    python = ENVIRONMENT / "bin" / "python"
    has_it = [str(python), "-c", "import vectorbt"]
    if python.exists() and subprocess.run(has_it, check=False).returncode == 0:
        return python
    try:
        venv.create(ENVIRONMENT, with_pip=True)
        install = [str(python), "-m", "pip", "install", "-q", PEER_VERSION]
        subprocess.run(install, check=True, capture_output=True)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"w1: no vectorbt here, no ratio: {error}", file=sys.stderr)
        return None
    return python


def measure_vectorbt(python: Path, seed: int, folder: Path) -> dict:
    """Time the peer on a few instruments; it has to choose and earn what we do."""
    opens, close = prices(seed)
    np.savez(folder / "panel.npz", close=close, slippages=np.array(SLIPPAGES))
    expected = np.load(folder / "chosen.npy")
    found = []
    for number in PEER_INSTRUMENTS:
        weights = weights_of(close[:, number])
        np.save(folder / f"positions-{number}.npy", weights)
        command = [str(python), str(PEER), str(folder), str(number)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
        if not np.array_equal(np.array(found[-1]["chosen"]).T, expected[number]):
            raise RuntimeError(f"w1: instrument {number}: vectorbt chooses differently")
        own = slice(number, number + 1)
        panel = panel_of(opens[:, own], close[:, own])
        sums = sweep(panel, weights[:, None, :], EDGES, fill=Fill.SAME_CLOSE)
        theirs = np.load(folder / f"vectorbt-{number}.npy")
        mine = [[sums.mean(slice(b, b + 1), bps) for b in range(N_BLOCKS)]
                for bps in SLIPPAGES]  # fmt: skip
        if not np.allclose(np.array(mine) * BLOCK, theirs, rtol=0, atol=1e-6):
            raise RuntimeError(
                f"w1: instrument {number}: vectorbt earns something else"
            )
    spent = statistics.mean(run["seconds"] for run in found) * N_SYMBOLS
    return {"seconds": spent, "rss_mb": max(run["peak_rss_mb"] for run in found)}


def line(figure: str, *, peer: str = "", ratio: float, target: str, **others) -> dict:
    """Return one row of the table."""
    row = {"work": "W1", "figure": figure, "peer": peer, "ratio": round(ratio, 2)}
    return row | {"target": target, "limit": "", "fraction_of_limit": "", **others}


def run(seed: int) -> list[dict]:
    """Run the contract; one row per comparison."""
    with tempfile.TemporaryDirectory() as name:
        mine = fresh_process("bench.w1_walkforward", "ours", str(seed), name)
        plain = fresh_process("bench.w1_walkforward", "numpy", str(seed), name)
        threads = fresh_process("bench.w1_walkforward", "threads", str(seed), name)
        book = fresh_process("bench.w1_walkforward", "book", str(seed), name)
        python = peer_python()
        peer = measure_vectorbt(python, seed, Path(name)) if python else None
    fixed, opening = mine["same_close"], mine["next_open"]
    limit = {
        "limit": f"fused pass {mine['fused']:.2f} CPU-s",
        "fraction_of_limit": round(mine["fused"] / fixed, 2),
        "peak_rss_mb": round(mine["rss_mb"]),
    }
    rows = []
    if peer:
        said = f"vectorbt {peer['seconds']:.0f} CPU-s (3 of 23 run), {peer['rss_mb']:.0f} MB"
        rows += [
            line(f"same_close, one core: {fixed:.2f} CPU-s", peer=said,
                 ratio=peer["seconds"] / fixed, target=">= 100x", **limit),
            line(f"two threads: {threads['two']:.2f} s, one {threads['one']:.2f} s, weights held",
                 peer=said, ratio=peer["seconds"] / threads["two"], target=">= 300x",
                 peak_rss_mb=round(threads["rss_mb"])),
        ]  # fmt: skip
    tell = f"same_close: {fixed:.2f} CPU-s"
    return [
        *rows,
        line(tell, peer=f"plain NumPy {plain['plain']:.1f} CPU-s",
             ratio=plain["plain"] / fixed, target=">= 5x"),
        line(tell, peer=f"NumPy by block, five sums {plain['blocked']:.2f} CPU-s",
             ratio=plain["blocked"] / fixed, target=""),
        line(tell, peer=f"fused compiled pass {mine['fused']:.2f} CPU-s",
             ratio=fixed / mine["fused"], target="<= 2"),
        line(f"next_open, compounding: {opening:.2f} CPU-s", peer=tell,
             ratio=opening / fixed, target="<= 2", peak_rss_mb=round(mine["rss_mb"])),
        line(f"one book, variant by variant: {book['same_close']:.2f} CPU-s",
             peer=f"fused compiled pass {book['fused']:.2f} CPU-s",
             ratio=book["same_close"] / book["fused"], target="<= 2",
             peak_rss_mb=round(book["rss_mb"])),
        line(f"one book, next_open: {book['next_open']:.2f} CPU-s",
             peer=f"same_close {book['same_close']:.2f} CPU-s",
             ratio=book["next_open"] / book["same_close"], target="<= 2"),
    ]  # fmt: skip


MEASURES = {
    "ours": measure_ours,
    "numpy": measure_numpy,
    "threads": measure_threads,
    "book": measure_book,
}

if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]](int(sys.argv[2]), sys.argv[3])))
