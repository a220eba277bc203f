"""`python -m serve`: the gateway on granian."""

import argparse
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import pydantic
from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from tuf.api.metadata import Root

from lakehouse.errors import InputError
from lakehouse.trust.errors import UnverifiedError
from lakehouse.trust.tokens import state_folder
from lakehouse.trust.workflow import parse as parse_metadata
from serve.present import LakeClock
from serve.settings import ServeSettings, to_environment

_HEADER_TIMEOUT_MS = 10_000  # half-open requests are closed after it
_BACKLOG = 2048  # connections
_KILL_AFTER_S = 10  # a worker whose refresh hangs is not waited for longer


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="alphalake serve", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=8000)
    parser.add_argument("--root", help="lake root: a folder, s3:// or http(s)://")
    parser.add_argument("--trust", type=Path, help="trusted root.json")
    parser.add_argument("--state", type=Path, help="the gateway's own folder")
    parser.add_argument("--now", help="the present, if not wall time")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        choices=range(1, 17),
        help="processes; more than one cannot answer /predict",
    )
    parser.add_argument(
        "--rate-limit", type=float, help="requests a second per address; 0 = no limit"
    )
    parser.add_argument("--refresh-seconds", type=float, help="between verifications")
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not a port, allowed 1 to 65535")
    return port


def read_settings(options: argparse.Namespace) -> ServeSettings:
    """Merge the command line over the environment.

    Raises
    ------
    InputError
        If a value is out of range, or the trusted root or a time cannot be read.
    """
    names = ("root", "trust", "state", "now", "rate_limit", "refresh_seconds")
    given: dict[str, Any] = {
        name: getattr(options, name)
        for name in names
        if getattr(options, name) is not None
    }
    try:
        settings = ServeSettings(**given, processes=options.workers)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"serve {first['loc'][0]}: {first['msg']}") from error
    LakeClock.resolve(settings.root, now=settings.now)
    check_state(settings, check_trust(settings.trust))
    return settings


def check_trust(path: Path) -> bytes:
    """Return a trusted root if it can be read as one.

    Raises
    ------
    InputError
        If it cannot.
    """
    try:
        data = path.read_bytes()
        parse_metadata(data, Root)
    except OSError as error:
        raise InputError(
            f"trusted root {path}: {(error.strerror or 'unreadable').lower()}; run "
            "`alphalake init` or name it with --trust FILE"
        ) from error
    except UnverifiedError as error:
        raise InputError(f"trusted root {path}: {error}") from error
    return data


def check_state(settings: ServeSettings, trusted_root: bytes) -> None:
    """Make the gateway's folder.

    Raises
    ------
    InputError
        If it lies under the lake's root or cannot be written.
    """
    folder = state_folder(settings.state, trusted_root)
    if "://" not in settings.root:
        root = Path(settings.root).resolve()
        if root == folder.resolve() or root in folder.resolve().parents:
            raise InputError(
                f"state {settings.state}: may not lie under the lake's root "
                f"{settings.root}"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise InputError(
            f"state {settings.state}: cannot be written: {error.strerror}"
        ) from error


def check_address(host: str, port: int) -> str:
    """Return the IP address of `host` if something may listen there.

    Raises
    ------
    InputError
        If there is no such host here, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, _, _, address = found[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        raise InputError(f"address {host}:{port}: {reason.lower()}") from error
    return str(address[0])


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; 2 for bad input."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        settings = read_settings(options)
        address = check_address(options.host, options.port)
    except InputError as error:
        print(f"alphalake serve: {error}", file=sys.stderr)  # noqa: T201
        return 2
    os.environ.update(to_environment(settings))
    server = Granian(
        "serve.worker:build",
        factory=True,
        address=address,
        port=options.port,
        interface=Interfaces.RSGI,
        workers=options.workers,
        loop=Loops.auto,
        http=HTTPModes.http1,
        websockets=False,
        backlog=_BACKLOG,
        http1_settings=HTTP1Settings(
            header_read_timeout=_HEADER_TIMEOUT_MS, max_buffer_size=65_536
        ),
        respawn_failed_workers=False,
        workers_kill_timeout=_KILL_AFTER_S,
        log_level=LogLevels.warning,
    )
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
