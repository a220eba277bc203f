"""W2: how lucky is the best of 1,000 trials of 2,000 days.

Hansen's SPA with 1,000 stationary resamples against `arch.bootstrap.SPA`, at the same
block length and, as arch has it, without studentising; PBO over all 12,870 splits of 16
blocks against the loop that the paper describes, in NumPy; the deflated Sharpe ratio of
every trial; and all three gates with their verdicts, as a sweep is judged. The loop does
every tenth split, and its time counts ten times; its answers must be ours to 1e-12.
"""

import json
import sys
import time
from itertools import combinations, islice
from statistics import median

import numpy as np

from bench.measure import fresh_process, resident_mb

N_OBS, N_TRIALS = 2_000, 1_000
N_BOOT, BLOCK, N_BLOCKS = 1_000, 44, 16
EVERY = 10
RUNS = 3
SPA_TARGET, PBO_TARGET, LIMIT_MB, CHEAP_S = 12.0, 150.0, 300, 2.0


def trials(seed: int) -> np.ndarray:
    """Return daily returns (n_obs, n_trials) that share a market; a few have skill."""
    rng = np.random.default_rng(seed)
    returns = rng.standard_normal((N_OBS, N_TRIALS))
    returns += 0.5 * rng.standard_normal((N_OBS, 1))
    returns *= 0.01
    returns[:, :: N_TRIALS // 8] += 0.0004
    return returns


def spa(seed: int) -> dict:
    """Run our SPA."""
    from lab.validation.reality import superior_predictive_ability

    excess = trials(seed)
    start = time.perf_counter()
    found = superior_predictive_ability(
        excess,
        n_boot=N_BOOT,
        block=BLOCK,
        rng=np.random.default_rng(seed),
        is_studentized=False,
    )
    seconds = time.perf_counter() - start
    p_values = [found.lower, found.consistent, found.upper]
    return {"seconds": seconds, "p_values": p_values}


def spa_arch(seed: int) -> dict:
    """Run arch's."""
    from arch.bootstrap import SPA

    losses = -trials(seed)
    start = time.perf_counter()
    peer = SPA(np.zeros(N_OBS), losses, block_size=BLOCK, reps=N_BOOT, seed=seed)
    peer.compute()
    seconds = time.perf_counter() - start
    p_values = [float(peer.pvalues[name]) for name in ("lower", "consistent", "upper")]
    return {"seconds": seconds, "p_values": p_values}


def pbo(seed: int) -> dict:
    """Run our CSCV."""
    from lab.validation.overfitting import probability_of_backtest_overfitting

    returns = trials(seed)
    start = time.perf_counter()
    found = probability_of_backtest_overfitting(returns, n_blocks=N_BLOCKS)
    seconds = time.perf_counter() - start
    logits = found.logits[::EVERY].tolist()
    return {"seconds": seconds, "pbo": found.pbo, "logits": logits}


def pbo_numpy(seed: int) -> dict:
    """Run the paper's loop over every tenth split."""
    returns = trials(seed)
    blocks = np.split(returns, N_BLOCKS)
    logits = []
    start = time.perf_counter()
    splits = combinations(range(N_BLOCKS), N_BLOCKS // 2)
    for train in islice(splits, 0, None, EVERY):
        test = [block for block in range(N_BLOCKS) if block not in train]
        inside = np.concatenate([blocks[block] for block in train])
        outside = np.concatenate([blocks[block] for block in test])
        best = np.argmax(inside.mean(axis=0) / inside.std(axis=0, ddof=1))
        sharpes = outside.mean(axis=0) / outside.std(axis=0, ddof=1)
        rank = 1 + np.count_nonzero(sharpes < sharpes[best])
        relative = rank / (N_TRIALS + 1)
        logits.append(float(np.log(relative / (1 - relative))))
    seconds = (time.perf_counter() - start) * EVERY
    return {"seconds": seconds, "logits": logits}


def gates(seed: int) -> dict:
    """Deflate every trial's Sharpe ratio; then judge one as a sweep is judged."""
    from lab.backtest.ledger import Trial, TrialMatrix
    from lab.validation.gates import decide_gates
    from lab.validation.sharpe import deflated_sharpe, moments

    rows = np.ascontiguousarray(trials(seed).T)
    start = time.perf_counter()
    found = [moments(row) for row in rows]
    variance = float(np.var([one.sharpe for one in found], ddof=1))
    deflated = [
        deflated_sharpe(
            one.sharpe,
            one.n_obs,
            skewness=one.skewness,
            kurtosis=one.kurtosis,
            trial_variance=variance,
            n_trials=N_TRIALS,
        )
        for one in found
    ]
    dsr_s = time.perf_counter() - start
    best = int(np.argmax([one.sharpe for one in found]))
    matrix = TrialMatrix.from_trials(
        [Trial(str(k), row) for k, row in enumerate(rows)], family="bench"
    )
    start = time.perf_counter()
    verdicts = decide_gates("best", rows[best], matrix)
    seconds = time.perf_counter() - start
    if abs(verdicts[0].inputs["dsr"] - deflated[best]) > 1e-5:
        raise RuntimeError("the gate's deflated Sharpe ratio is another")
    return {"seconds": seconds, "dsr_s": dsr_s}


CASES = {
    "spa": spa,
    "spa-arch": spa_arch,
    "pbo": pbo,
    "pbo-numpy": pbo_numpy,
    "gates": gates,
}


def run(seed: int) -> list[dict]:
    """Run the contract; three rows."""
    found: dict[str, list[dict]] = {name: [] for name in CASES}
    for _ in range(RUNS):
        for name in CASES:
            found[name].append(fresh_process("bench.w2_selection", name, str(seed)))
    check(found)
    return [
        compared(found, "spa", "spa-arch", "arch.bootstrap.SPA", SPA_TARGET),
        compared(found, "pbo", "pbo-numpy", "the obvious NumPy loop", PBO_TARGET),
        judged(found["gates"]),
    ]


def check(found: dict[str, list[dict]]) -> None:
    """Refuse times of answers that differ."""
    ours, theirs = found["spa"][0], found["spa-arch"][0]
    for own, other in zip(ours["p_values"], theirs["p_values"], strict=True):
        middle = (own + other) / 2
        error = (2 * middle * (1 - middle) / N_BOOT) ** 0.5
        if abs(own - other) > 4 * error + 1 / N_BOOT:
            raise RuntimeError(f"p-values differ: {ours}, arch {theirs}")
    own, other = (found[name][0]["logits"] for name in ("pbo", "pbo-numpy"))
    if len(own) != len(other) or np.abs(np.subtract(own, other)).max() > 1e-12:
        raise RuntimeError("logits differ from the loop's")


def seconds_of(rows: list[dict]) -> float:
    """Return the median time."""
    return median(row["seconds"] for row in rows)


def compared(
    found: dict[str, list[dict]], name: str, peer: str, called: str, target: float
) -> dict:
    """Return one comparison's row of the table."""
    own, other = seconds_of(found[name]), seconds_of(found[peer])
    rss = max(row["rss_mb"] for row in found[name])
    answer = found[name][0]
    told = (
        f"consistent p {answer['p_values'][1]:.3f}, arch"
        f" {found[peer][0]['p_values'][1]:.3f}"
        if name == "spa"
        else f"PBO {answer['pbo']:.3f}"
    )
    return {
        "work": "W2",
        "figure": f"{name.upper()} T = {N_OBS}, N = {N_TRIALS}: {own:.2f} s ({told})",
        "peer": f"{called} {other:.1f} s",
        "ratio": round(other / own, 1),
        "target": f">= {target:g}, < {LIMIT_MB} MB",
        "limit": f"{other / target:.2f} s",
        "fraction_of_limit": round(own * target / other, 3),
        "peak_rss_mb": round(rss),
    }


def judged(rows: list[dict]) -> dict:
    """Return the row of what a sweep pays for its verdicts."""
    own = seconds_of(rows)
    dsr_s = median(row["dsr_s"] for row in rows)
    return {
        "work": "W2",
        "figure": f"three gates and verdicts of one candidate {own:.2f} s;"
        f" DSR of every trial {dsr_s:.3f} s",
        "peer": "",
        "ratio": "",
        "target": f"<= {CHEAP_S:g} s, < {LIMIT_MB} MB",
        "limit": f"{CHEAP_S:g} s",
        "fraction_of_limit": round(own / CHEAP_S, 3),
        "peak_rss_mb": round(max(row["rss_mb"] for row in rows)),
    }


if __name__ == "__main__":
    answer = CASES[sys.argv[1]](int(sys.argv[2]))
    print(json.dumps(answer | {"rss_mb": resident_mb("VmHWM")}))
