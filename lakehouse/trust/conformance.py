"""Command line of the public tuf-conformance suite, over our client workflow.

`python -m lakehouse.trust.conformance --metadata-dir D [--metadata-url U]
[--target-name N --target-base-url U --target-dir D] init ROOT | refresh | download`;
exit status 0 or 1. It follows the specification alone: the rules that Alphalake adds for
its own keys (`lakehouse.trust.policy`) and its injected clock are left out. A downloaded
target is kept under its quoted path and is not fetched again while it is what is signed.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from tuf.api.metadata import TargetFile

from lakehouse.clock import Clock
from lakehouse.errors import InputError
from lakehouse.trust.errors import (
    DownloadError,
    HashError,
    LengthError,
    StateError,
    UnverifiedError,
)
from lakehouse.trust.fetching import HttpFetcher
from lakehouse.trust.files import write_atomically
from lakehouse.trust.state import DirectoryCache
from lakehouse.trust.workflow import Workflow, check_content


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "init":
            _init(options)
        else:
            workflow = _refresh(options)
            if options.command == "download":
                for name in options.target_name:
                    _download(options, workflow, name)
    except (UnverifiedError, InputError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lakehouse.trust.conformance")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-base-url")
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser


def _init(options: argparse.Namespace) -> None:
    folder: Path = options.metadata_dir
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "root.json", options.root.read_bytes())


def _refresh(options: argparse.Namespace) -> Workflow:
    if options.metadata_url is None:
        raise InputError("--metadata-url: required to refresh")
    base = options.metadata_url.rstrip("/")
    fetcher = HttpFetcher(base)

    def download(name: str, *, max_length: int) -> bytes:
        return fetcher.fetch_url(f"{base}/{name}", max_length=max_length)

    cache = DirectoryCache(options.metadata_dir)
    root = cache.get("root")
    if root is None:
        raise StateError(f"{options.metadata_dir}: no root.json, init first")
    workflow = Workflow(
        root, cache=cache, download=download, reference_time=Clock().now()
    )
    workflow.refresh()
    return workflow


def _download(options: argparse.Namespace, workflow: Workflow, name: str) -> None:
    if options.target_dir is None or options.target_base_url is None:
        raise InputError("--target-dir and --target-base-url: required to download")
    target = workflow.find(name)
    if target is None:
        raise DownloadError(f"{name!r}: no role that may vouch for it does")
    place = options.target_dir / _file_name(name)
    if _is_current(place, target):
        return
    folder, slash, base = name.rpartition("/")
    if workflow.root.consistent_snapshot:
        base = f"{next(iter(target.hashes.values()))}.{base}"
    url = f"{options.target_base_url.rstrip('/')}/{folder}{slash}{base}"
    fetcher = HttpFetcher(options.target_base_url)
    data = fetcher.fetch_url(url, max_length=target.length)
    check_content(target, data, what=name)
    options.target_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(place, data)


def _file_name(name: str) -> str:
    # Quoted, it holds no separator; dots alone would still be a folder.
    quoted = quote(os.fsencode(name), "")
    return f"%2E{quoted[1:]}" if quoted in {".", ".."} else quoted


def _is_current(place: Path, target: TargetFile) -> bool:
    try:
        check_content(target, place.read_bytes(), what=place.name)
    except (OSError, HashError, LengthError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
