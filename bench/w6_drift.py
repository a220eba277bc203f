"""W6: how far a million rows of 50 features are from a hundred thousand newer ones.

PSI over ten quantile bins and the two-sample KS test with its p-value, from a stored
profile, against a loop over scipy that has only the rows; and at a tenth of the size
against evidently (an environment of its own under `.bench/`), whose KS is the same test
and whose PSI has bins of its own. Answers must agree before a time counts. Block
permutations of 5,000 rows, which neither peer has, are timed apart.
"""

import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from statistics import median

import numpy as np

from bench.measure import REPOSITORY, fresh_process, resident_mb

N_REFERENCE, N_CURRENT, N_FEATURES = 1_000_000, 100_000, 50
SMALL = 10  # evidently does a tenth of the rows
RUNS = 3
SCIPY_TARGET, EVIDENTLY_TARGET, LIMIT_S = 5.0, 80.0, 2.0
ENVIRONMENT = REPOSITORY / ".bench" / "evidently"
PEER = REPOSITORY / "bench" / "evidently_peer.py"
PEER_VERSIONS = ("evidently>=0.7,<0.8", "pandas<3")
NAMES = [f"x{k}" for k in range(N_FEATURES)]
EMPTY = 1e-4


def make(folder: Path, seed: int, part: int) -> None:
    """Write rows, one in five columns shifted by a little, and our profile of them."""
    from lab.drift.profile import ReferenceProfile

    rng = np.random.default_rng(seed)
    reference = rng.standard_normal((N_REFERENCE // part, N_FEATURES))
    current = rng.standard_normal((N_CURRENT // part, N_FEATURES))
    current[:, ::5] += 0.01
    np.save(folder / "reference.npy", reference)
    np.save(folder / "current.npy", current)
    start = time.perf_counter()
    profile = ReferenceProfile.of(reference, NAMES, points=None)
    seconds = time.perf_counter() - start
    (folder / "profile.arrow").write_bytes(profile.to_bytes())
    (folder / "made.json").write_text(json.dumps(seconds), encoding="ascii")


def ours(folder: Path) -> dict:
    """Compare with the stored profile."""
    from lab.drift.profile import ReferenceProfile
    from lab.drift.statistics import ks_p_values, shifts

    current = np.load(folder / "current.npy")
    start = time.perf_counter()
    profile = ReferenceProfile.from_bytes((folder / "profile.arrow").read_bytes())
    loading = time.perf_counter() - start
    ks_p_values(profile, shifts(profile, current[:100]))  # imports, compiled code
    start = time.perf_counter()
    found = shifts(profile, current)
    p_values = ks_p_values(profile, found)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "loading_s": loading,
        "psi": [one.psi for one in found],
        "ks": [one.ks for one in found],
        "p_values": p_values.tolist(),
    }


def scipy_loop(folder: Path) -> dict:
    """Compare column by column, as one would without us."""
    from scipy.stats import ks_2samp

    reference = np.load(folder / "reference.npy")
    current = np.load(folder / "current.npy")
    psi, ks, p_values = [], [], []
    start = time.perf_counter()
    for k in range(N_FEATURES):
        old, new = reference[:, k], current[:, k]
        edges = np.quantile(old, np.arange(1, 10) / 10)
        shares = [
            np.bincount(np.searchsorted(edges, part), minlength=10) / len(part)
            for part in (old, new)
        ]
        then, now = (np.where(share > 0, share, EMPTY) for share in shares)
        psi.append(float(np.sum((now - then) * np.log(now / then))))
        found = ks_2samp(old, new, method="asymp")
        ks.append(float(found.statistic))
        p_values.append(float(found.pvalue))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "psi": psi, "ks": ks, "p_values": p_values}


def permuted(folder: Path) -> dict:
    """Test every column by block permutations of 5,000 rows."""
    from lab.drift.permutation import block_permutation
    from lab.drift.profile import ReferenceProfile

    profile = ReferenceProfile.from_bytes((folder / "profile.arrow").read_bytes())
    current = np.load(folder / "current.npy")
    moments = np.arange(len(current))
    few = ReferenceProfile.of(current[:500, :2], NAMES[:2])
    rng = np.random.default_rng(0)
    block_permutation(few, current[500:900, :2], moments[500:900], rng=rng)
    start = time.perf_counter()
    found = block_permutation(profile, current, moments, rng=rng)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "n_permutations": found.n_permutations,
        "n_rows": found.n_rows,
    }


CASES = {"ours": ours, "scipy": scipy_loop, "permuted": permuted}


def run(seed: int) -> list[dict]:
    """Run the contract; three rows."""
    with tempfile.TemporaryDirectory() as name:
        large, small = Path(name) / "large", Path(name) / "small"
        for folder, part in ((large, 1), (small, SMALL)):
            folder.mkdir()
            fresh_process("bench.w6_drift", "make", str(folder), str(seed), str(part))
        found = measured(large, ("ours", "scipy", "permuted"))
        check(found["ours"][0], found["scipy"][0])
        rows = [against_scipy(found, large)]
        rows.append(against_evidently(small))
        rows.append(permutation_row(found["permuted"]))
    return rows


def measured(folder: Path, cases: tuple[str, ...]) -> dict[str, list[dict]]:
    """Run cases in turn, each in a process of its own."""
    found: dict[str, list[dict]] = {name: [] for name in cases}
    for _ in range(RUNS):
        for name in cases:
            found[name].append(fresh_process("bench.w6_drift", name, str(folder)))
    return found


def check(own: dict, other: dict) -> None:
    """Refuse times of answers that differ."""
    for name, tolerance in (("psi", 1e-12), ("ks", 1e-12), ("p_values", 1e-5)):
        gap = float(np.abs(np.subtract(own[name], other[name])).max())
        if gap > tolerance:
            raise RuntimeError(f"w6: {name} differ from scipy's by {gap:g}")


def seconds_of(rows: list[dict]) -> float:
    """Return the median time."""
    return median(row["seconds"] for row in rows)


def peak_of(rows: list[dict]) -> int:
    """Return the highest peak."""
    return round(max(row["peak_rss_mb"] for row in rows))


def against_scipy(found: dict[str, list[dict]], folder: Path) -> dict:
    """Return the row of the whole size."""
    own, other = seconds_of(found["ours"]), seconds_of(found["scipy"])
    made = json.loads((folder / "made.json").read_text(encoding="ascii"))
    loading = median(row["loading_s"] for row in found["ours"])
    return {
        "work": "W6",
        "figure": f"PSI + KS, {N_FEATURES} features, 1e6 x 1e5: {own:.2f} s (profile"
        f" made in {made:.1f} s, read in {loading:.2f} s)",
        "peer": f"scipy loop {other:.1f} s",
        "ratio": round(other / own, 1),
        "target": f">= {SCIPY_TARGET:g}",
        "limit": f"{other / SCIPY_TARGET:.2f} s",
        "fraction_of_limit": round(own * SCIPY_TARGET / other, 3),
        "peak_rss_mb": peak_of(found["ours"]),
    }


def against_evidently(folder: Path) -> dict:
    """Return the row of a tenth of the size."""
    row = {"work": "W6", "target": f">= {EVIDENTLY_TARGET:g}"}
    python = peer_python()
    if python is None:
        own = measured(folder, ("ours",))["ours"]
        figure = f"at a tenth of the size: {seconds_of(own):.3f} s"
        return row | {"figure": figure, "peer": "evidently: not here"}
    own, other = [], []
    for _ in range(RUNS):
        own.append(fresh_process("bench.w6_drift", "ours", str(folder)))
        command = [str(python), str(PEER), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        other.append(json.loads(done.stdout.strip().splitlines()[-1]))
    gap = float(np.abs(np.subtract(own[0]["p_values"], other[0]["ks"])).max())
    if gap > 1e-4:
        raise RuntimeError(f"w6: KS p-values differ from evidently's by {gap:g}")
    mine, theirs = seconds_of(own), seconds_of(other)
    return row | {
        "figure": f"at a tenth of the size: {mine:.3f} s",
        "peer": f"evidently {theirs:.1f} s",
        "ratio": round(theirs / mine, 1),
        "limit": f"{theirs / EVIDENTLY_TARGET:.3f} s",
        "fraction_of_limit": round(mine * EVIDENTLY_TARGET / theirs, 3),
        "peak_rss_mb": peak_of(own),
    }


def permutation_row(rows: list[dict]) -> dict:
    """Return the row of what the alarm costs."""
    own = seconds_of(rows)
    return {
        "work": "W6",
        "figure": f"{rows[0]['n_permutations']} block permutations of"
        f" {rows[0]['n_rows']} rows x {N_FEATURES} features {own:.2f} s",
        "peer": "",
        "ratio": "",
        "target": f"<= {LIMIT_S:g} s",
        "limit": f"{LIMIT_S:g} s",
        "fraction_of_limit": round(own / LIMIT_S, 3),
        "peak_rss_mb": peak_of(rows),
    }


def peer_python() -> Path | None:
    """Return the Python that has evidently, installing it once; None if it cannot be."""
    python = ENVIRONMENT / "bin" / "python"
    has_it = [str(python), "-c", "import evidently"]
    if (
        python.exists()
        and not subprocess.run(has_it, check=False, capture_output=True).returncode
    ):
        return python
    try:
        venv.create(ENVIRONMENT, with_pip=True)
        install = [str(python), "-m", "pip", "install", "-q", *PEER_VERSIONS]
        subprocess.run(install, check=True, capture_output=True)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"w6: no evidently here, no ratio: {error}", file=sys.stderr)
        return None
    return python


if __name__ == "__main__":
    place = Path(sys.argv[2])
    if sys.argv[1] == "make":
        make(place, int(sys.argv[3]), int(sys.argv[4]))
        print("{}")
    else:
        answer = CASES[sys.argv[1]](place)
        print(json.dumps(answer | {"peak_rss_mb": resident_mb("VmHWM")}))
