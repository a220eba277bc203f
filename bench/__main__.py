"""`python -m bench [WORK …] [--seed N] [--json FILE]`: run the contracts, print one table.

Each `bench/w*_*.py` has `run(seed) -> list[dict]` with the keys of `COLUMNS`. A case
whose peer cannot be installed here says so instead of a ratio.
"""

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

COLUMNS = (
    "work",
    "figure",
    "peer",
    "ratio",
    "target",
    "limit",
    "fraction_of_limit",
    "peak_rss_mb",
)


def find_works() -> dict[str, list[str]]:
    """Return the benchmark modules by their works' short names: w3, w4, ..."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(__file__).parent.glob("w*_*.py")):
        found.setdefault(path.stem.split("_")[0], []).append(f"bench.{path.stem}")
    return found


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "works", nargs="*", help="w1 w3 w4 w6 w7 w8 w9; all when none is given"
    )
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--json", type=Path, help="write the rows here too")
    return parser.parse_args(arguments)


def show(rows: list[dict]) -> None:
    """Print the table."""
    table = Table(
        title=f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(row.get(column, "")) for column in COLUMNS))
    Console(width=180).print(table)


def main(arguments: list[str]) -> int:
    """Run what was asked for; 2 for an unknown name."""
    options = parse(arguments)
    works = find_works()
    unknown = sorted(set(options.works) - set(works))
    if unknown:
        print(
            f"bench: no {', '.join(unknown)}; there are {', '.join(works)}",
            file=sys.stderr,
        )
        return 2
    rows: list[dict] = []
    for name in options.works or works:
        for module in works[name]:
            print(f"{module} …", file=sys.stderr, flush=True)
            rows += importlib.import_module(module).run(options.seed)
    show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
