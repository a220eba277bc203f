"""W8, Kronos: 23 series, 120 steps, window 512, published layer sizes, random weights.

The peer is the published description executed naively (`kronos.reference`): the whole
window every step, all heads at all positions, a series' paths repeating its history.
Ratios of CPU-seconds, one thread, both in this process, the peer's steps between our
runs. Of the peer's 120 steps five are run, one path per series, at windows from the
first to the last step's; the sum over all steps follows by linear interpolation, and
20 paths are counted as 20 times the work of one. Its encoding and decoding are run
whole. Each step that is run is given our tokens and has to draw the next ones of ours.

The limit is arithmetic and memory together: the multiplications that the caches leave,
at the rate of one large matrix product, and per step one read of the weights and of all
keys and values, at the rate of summing an array; both measured here.
"""

import json
import statistics
import sys
import time
from typing import NamedTuple

import numpy as np
import torch

from bench.measure import fresh_process, resident_mb
from lab.forecasters.kronos.config import NetworkConfig, TokenizerConfig
from lab.forecasters.kronos.engine import prepare
from lab.forecasters.kronos.filtering import Filter
from lab.forecasters.kronos.generate import History, generate
from lab.forecasters.kronos.reference import next_pair, repeated
from lab.forecasters.kronos.weights import new_network, new_tokenizer

N_SERIES, HORIZON, WINDOW = 23, 120, 512
BY = Filter()
SIZES = {"mini": (4, 256, 4, 512), "small": (8, 512, 8, 1024)}


class Case(NamedTuple):
    """Model size, history, paths, the ratio to reach, our runs."""

    size: str
    length: int
    n_paths: int
    target: int
    n_runs: int


CASES = (
    Case("mini", 400, 1, 12, 3),
    Case("mini", 392, 1, 28, 3),
    Case("mini", 392, 20, 60, 1),
    Case("small", 392, 1, 35, 1),
)


def models(size: str, seed: int):
    """Return a tokenizer and a predictor of a published size, weights from a seed."""
    n_layers, d_model, n_heads, ff_dim = SIZES[size]
    generator = torch.Generator().manual_seed(seed)
    tokenizer = TokenizerConfig(
        d_in=6, d_model=256, n_heads=4, ff_dim=512, n_enc_layers=4, n_dec_layers=4,
        ffn_dropout_p=0.0, attn_dropout_p=0.0, resid_dropout_p=0.0,
        s1_bits=10, s2_bits=10, beta=0.05, gamma0=1.0, gamma=1.1, zeta=0.05,
        group_size=5,
    )  # fmt: skip
    network = NetworkConfig(
        s1_bits=10, s2_bits=10, n_layers=n_layers, d_model=d_model, n_heads=n_heads,
        ff_dim=ff_dim, ffn_dropout_p=0.2, attn_dropout_p=0.0, resid_dropout_p=0.2,
        token_dropout_p=0.0, learn_te=True,
    )  # fmt: skip
    pair = new_tokenizer(tokenizer, generator), new_network(network, generator)
    return tuple(one.eval().requires_grad_(requires_grad=False) for one in pair)


def histories(length: int, seed: int) -> list[History]:
    """Return normalised random walks and their hours."""
    rng = np.random.default_rng([seed, length])
    hours = np.arange(length + HORIZON)
    fields = [
        0 * hours,
        hours % 24,
        hours // 24 % 7,
        1 + hours // 24 % 28,
        0 * hours + 1,
    ]
    stamp = np.stack(fields, axis=1)
    found = []
    for _ in range(N_SERIES):
        walk = rng.standard_normal((length, 6)).cumsum(axis=0)
        x = ((walk - walk.mean(axis=0)) / walk.std(axis=0)).astype(np.float32)
        found.append(History(x, stamp[:length], stamp[length:]))
    return found


def cpu_seconds(work) -> tuple[float, object]:
    """Return a call's CPU-seconds, all threads, and its answer."""
    start = time.process_time()
    answer = work()
    return time.process_time() - start, answer


def peer_step(network, given, uniforms, ours, step: int) -> float:
    """Run one step of the peer on our tokens; it has to give our next ones."""
    history, stamp = given
    tokens = [
        torch.cat([old, new[:, 0, :step]], dim=1)[:, -WINDOW:]
        for old, new in zip(history, (ours.s1, ours.s2), strict=True)
    ]
    seen = slice(
        history[0].shape[1] + step - tokens[0].shape[1], history[0].shape[1] + step
    )
    draws = torch.from_numpy(uniforms[:, 0, 2 * step : 2 * step + 2])

    def work():
        with torch.inference_mode():
            return next_pair(network, tuple(tokens), stamp[:, seen], draws, by=BY)

    seconds, found = cpu_seconds(work)
    expected = (ours.s1[:, 0, step], ours.s2[:, 0, step])
    if not all(map(torch.equal, found, expected)):
        raise RuntimeError(f"step {step}: the peer draws other tokens")
    return seconds


def measure(case: Case, seed: int) -> dict[str, float]:
    """Measure one case in this process."""
    torch.set_num_threads(1)
    pair = models(case.size, seed)
    prepared = prepare(*pair)
    given = histories(case.length, seed)
    uniforms = np.random.default_rng(seed).random((N_SERIES, case.n_paths, 2 * HORIZON))
    bars, stamp, _ = repeated(given, 1)
    with torch.inference_mode():
        encoding, tokens = cpu_seconds(lambda: pair[0].encode(bars.clamp(-5, 5)))
    steps = np.linspace(0, HORIZON - 1, 5).round().astype(int)
    waits, ours = [], None
    seconds: list[float] = []
    shares = np.array_split(steps, case.n_runs)
    for share in shares:
        took, ours = cpu_seconds(
            lambda: generate(prepared, given, uniforms, window=WINDOW, by=BY)
        )
        seconds.append(took)
        waits += [
            peer_step(pair[1], (tokens, stamp), uniforms, ours, int(step))
            for step in share
        ]
    whole = [
        torch.cat([old, new[:, 0]], dim=1)[:, -WINDOW:]
        for old, new in zip(tokens, (ours.s1, ours.s2), strict=True)
    ]
    with torch.inference_mode():
        decoding, values = cpu_seconds(lambda: pair[0].decode(*whole)[:, -HORIZON:])
    if not torch.allclose(values, ours.values[:, 0], rtol=1e-3, atol=1e-4):
        raise RuntimeError("the peer decodes other values")
    stepping = float(np.interp(np.arange(HORIZON), steps, waits).sum())
    return {
        "ours": statistics.median(seconds),
        "peer": case.n_paths * (encoding + stepping + decoding),
        "limit": limit(case),
        "rss_mb": resident_mb("VmHWM"),
    }


def limit(case: Case) -> float:
    """Return the least CPU-seconds that the caches' work takes on this machine."""
    n_layers, d, _, ff = SIZES[case.size]
    token, coder = n_layers * (4 * d * d + 3 * d * ff), 3 * (4 * 256**2 + 3 * 256 * 512)
    over = range(max(0, case.length + HORIZON - WINDOW))
    rows = N_SERIES * case.n_paths
    n_cached = HORIZON - len(over)
    tokens = N_SERIES * (case.length + sum(WINDOW - HORIZON + k for k in over))
    tokens += rows * (n_cached + sum(HORIZON - 1 - k for k in over))
    multiplications = tokens * (token + 2 * d * d)
    multiplications += rows * HORIZON * 2 * 1024 * d
    coded = N_SERIES * (case.length + WINDOW - HORIZON) + rows * HORIZON
    multiplications += coded * coder
    attended = (n_layers + 1) * 2 * d * rows * n_cached * (case.length + HORIZON / 2)
    floats = n_cached * (token + (n_layers + 1) * 2 * d * N_SERIES * case.length)
    floats += n_cached * (n_layers + 1) * 2 * d * rows * HORIZON / 2
    rate, bandwidth = product_rate(), read_rate()
    return (multiplications + attended) / rate + 4 * floats / bandwidth


def product_rate() -> float:
    """Return multiplications a second of a large matrix product, best of five."""
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    waits = [cpu_seconds(lambda: torch.mm(left, right))[0] for _ in range(5)]
    return 1024**3 / min(waits)


def read_rate() -> float:
    """Return bytes a second of summing 256 MiB, best of five."""
    values = torch.ones(1 << 26)
    return values.nbytes / min(cpu_seconds(values.sum)[0] for _ in range(5))


def measure_gpu(seed: int) -> dict[str, float]:
    """Measure small, 20 paths, in bfloat16 on a GPU; seconds, and the limit of a step."""
    prepared = prepare(*models("small", seed), device="cuda", dtype=torch.bfloat16)
    given = histories(392, seed)
    uniforms = np.random.default_rng(seed).random((N_SERIES, 20, 2 * HORIZON))
    waits = []
    for _ in range(4):
        start = time.perf_counter()
        generate(prepared, given, uniforms, window=WINDOW, by=BY)
        waits.append(time.perf_counter() - start)
    n_layers, d, _, ff = SIZES["small"]
    values = n_layers * (4 * d * d + 3 * d * ff) + 2 * 1024 * d
    values += (n_layers + 1) * 2 * d * N_SERIES * (392 + 20 * HORIZON / 2)
    block = torch.ones(1 << 28, device="cuda")
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(10):
        block.sum()
    torch.cuda.synchronize()
    bandwidth = 10 * block.nbytes / (time.perf_counter() - start)
    return {
        "ours": statistics.median(waits[1:]),
        "limit": HORIZON * 2 * values / bandwidth,
        "rss_mb": resident_mb("VmHWM"),
    }


def gpu_row(found: dict[str, float]) -> dict:
    """Return the line of the GPU's case."""
    return {
        "work": "W8",
        "figure": f"small, L = 392, 20 paths, bf16 on a GPU: {found['ours']:.2f} s",
        "peer": "",
        "ratio": "",
        "target": "< 1 s",
        "limit": f"{found['limit']:.3f} s (weights, keys and values read each step)",
        "fraction_of_limit": round(found["limit"] / found["ours"], 2),
        "peak_rss_mb": round(found["rss_mb"]),
    }


def run(seed: int) -> list[dict]:
    """Run the contract; one row per case."""
    lines = []
    if torch.cuda.is_available():
        lines.append(gpu_row(fresh_process("bench.w8_kronos", "gpu", str(seed))))
    for number, case in enumerate(CASES):
        found = fresh_process("bench.w8_kronos", str(number), str(seed))
        ours, peer = found["ours"], found["peer"]
        paths = "1 path" if case.n_paths == 1 else f"{case.n_paths} paths"
        lines.append(
            {
                "work": "W8",
                "figure": f"{case.size}, L = {case.length}, {paths}: {ours:.1f} CPU-s",
                "peer": f"naive description {peer:,.0f} CPU-s (5 of 120 steps run)",
                "ratio": round(peer / ours, 1),
                "target": f">= {case.target}x",
                "limit": f"{found['limit']:.1f} CPU-s",
                "fraction_of_limit": round(found["limit"] / ours, 2),
                "peak_rss_mb": round(found["rss_mb"]),
            }
        )
    return lines


if __name__ == "__main__":
    case, seed_given = sys.argv[1], int(sys.argv[2])
    found_here = (
        measure_gpu(seed_given)
        if case == "gpu"
        else measure(CASES[int(case)], seed_given)
    )
    print(json.dumps(found_here))
