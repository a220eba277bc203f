"""The whole story on one machine: real bars in, a verified forecast on a page out.

Nothing is written outside the lake's root, the key folder, the gateway's folder and
Prefect's home; no process outlives the demo. The flows run in this process, on a
Prefect server of the demo's own.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Final

from flows.cli.output import Output
from flows.cli.session import watching
from flows.demo_run import DATA_TABLES, DemoPlan, RowCounts, run_story
from flows.probe import answers
from flows.processes import LOOPBACK, Crew, answers_ok, crew, free_port
from flows.server import use_server
from flows.setup import set_up_trust
from flows.wiring import Workplace, open_workplace
from lakehouse.clock import freeze_clock
from lakehouse.errors import InputError, RefusedError
from lakehouse.settings import load_settings

SAMPLE_NOW: Final = datetime(2018, 10, 1, tzinfo=UTC)
MARKET_NOW: Final = datetime(2022, 3, 4, 21, tzinfo=UTC)
SAMPLE_DAYS: Final = 150  # one a week: three years, so that long horizons settle too
SAMPLE_EVERY: Final = 5
MARKET_DAYS: Final = 60
SERVER_START_S: Final = 150
GATEWAY_START_S: Final = 60
# The hourly panel; all of them are covered 2019-09 to 2022-03.
# fmt: off
MARKET_PANEL: Final = (
    "BTCUSDT", "ETHUSDT", "XRPUSDT", "LTCUSDT", "ADAUSDT", "LINKUSDT",
    "EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCAD", "USDCHF", "EURJPY",
    "US500", "US100", "US30", "DE40", "UK100",
    "XAUUSD", "XAGUSD", "BRENT", "AAPL_CFD", "TSLA_CFD",
)
# fmt: on
_QUERY: Final = (
    "SELECT symbol, horizon, model_name, n_scored, hit_rate, coverage_80, skill_mae"
    " FROM signal_performance ORDER BY 1, 2, 3"
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a person looks.

    Attributes
    ----------
    pages, prefect, api_docs : str
        URLs.
    curl, sql : str
        Commands to try.
    """

    pages: str
    prefect: str
    api_docs: str
    curl: str
    sql: str


def run_demo(
    out: Output, *, market: Path | None, days: int | None, is_served: bool, port: int
) -> None:
    """Run the demo.

    Parameters
    ----------
    out : Output
        How to speak.
    market : Path, optional
        Folder with `ohlcv_1h.parquet` and `economic_calendar.parquet`; the embedded
        daily sample if not given.
    days : int, optional
        Earlier days to forecast as of: one a week on daily bars.
    is_served : bool
        Stay up until Ctrl-C.
    port : int
        Wanted port of the gateway.

    Raises
    ------
    InputError
        If `market` lacks a file, or another present is given.
    RefusedError
        If the root holds tables that this demo did not make.
    """
    started = time.monotonic()
    plan = plan_demo(market, days)
    workplace = prepare_place(plan)
    story = Story(out, started)
    story.say(
        f"the demo takes {plan.now:%Y-%m-%d %H:%M} UTC as now; ages are against that date"
    )
    before = RowCounts.of(workplace.lake)
    with crew() as members, watching(), last_logs_sent():
        api = start_prefect(members, story)
        outcomes = run_story(plan, story.tell)
        gateway = start_gateway(members, story, port)
        after = RowCounts.of(workplace.lake)
        story.say(after.compare(before))
        addresses = describe(workplace, gateway, api, plan)
        out.result(
            {
                "now": plan.now,
                "seconds": time.monotonic() - started,
                "rows": after.counts,
                "new_rows": after.minus(before),
                "runs": [outcome.run_id for outcome in outcomes],
                **{name: getattr(addresses, name) for name in Addresses.__slots__},
            },
            address_lines(addresses, plan),
        )
        if is_served:
            story.say("Ctrl-C ends it")
            wait_for_end(members)
    story.say("every process of the demo has ended")


@contextmanager
def last_logs_sent() -> Iterator[None]:
    """Send what Prefect still holds of the flows' logs while its server is up."""
    try:
        yield
    finally:
        if "prefect" in sys.modules:
            from prefect.logging.handlers import APILogHandler

            APILogHandler().flush()


class Story:
    """Says each step with the seconds it took.

    Parameters
    ----------
    out : Output
        How to speak.
    started : float
        Monotonic start of the demo, in seconds.
    """

    def __init__(self, out: Output, started: float) -> None:
        self._out = out
        self._last = started

    def tell(self, step: str, detail: str) -> None:
        """Say that a step is done."""
        now = time.monotonic()
        self.say(f"{now - self._last:6.1f} s  {step:<12} {detail}")
        self._last = now

    def say(self, line: str) -> None:
        """Say a line; nothing under `--json` or `--quiet`."""
        if not (self._out.is_json or self._out.is_quiet):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def plan_demo(market: Path | None, days: int | None) -> DemoPlan:
    """Return what the demo does.

    Raises
    ------
    InputError
        If a file of the market folder is missing.
    """
    if market is None:
        return DemoPlan(SAMPLE_NOW, "1d", days or SAMPLE_DAYS, SAMPLE_EVERY, "sample")
    bars, releases = market / "ohlcv_1h.parquet", market / "economic_calendar.parquet"
    for path in (bars, releases):
        if not path.is_file():
            raise InputError(f"--market {market}: no {path.name} there")
    return DemoPlan(
        MARKET_NOW,
        "1h",
        days or MARKET_DAYS,
        1,
        "files",
        bars=bars,
        releases=releases,
        symbols=MARKET_PANEL,
    )


def prepare_place(plan: DemoPlan) -> Workplace:
    """Freeze the clock, make the keys and the repository.

    Raises
    ------
    InputError
        If `--now` or `ALPHALAKE_NOW` is given.
    RefusedError
        If the root holds tables that this demo did not make.
    """
    if os.environ.get("ALPHALAKE_NOW"):
        raise InputError("demo: sets its own date; leave out --now and ALPHALAKE_NOW")
    workplace = open_workplace()
    clock = workplace.clock
    if clock.is_demo and clock.now() != plan.now:
        raise RefusedError(
            f"{workplace.root} belongs to a demo as of {clock.now():%Y-%m-%d %H:%M};"
            " give another --root, or delete it"
        )
    if not clock.is_demo:
        if any(workplace.lake.version(name) is not None for name in DATA_TABLES):
            raise RefusedError(
                f"{workplace.root} holds tables that no demo made; give another --root"
            )
        freeze_clock(workplace.root, plan.now)
        workplace = open_workplace()
    set_up_trust(workplace)
    return workplace


def prefect_home() -> Path:
    """Return Prefect's home for the demo: `PREFECT_HOME`, else a folder here."""
    return Path(os.environ.get("PREFECT_HOME", "./.alphalake-prefect")).resolve()


def start_prefect(members: Crew, story: Story) -> str:
    """Start the demo's Prefect server and make what it needs; return its API."""
    home = prefect_home()
    home.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(home)
    port = free_port()
    api = f"http://{LOOPBACK}:{port}/api"
    members.start(
        "Prefect server",
        [
            *(sys.executable, "-m", "prefect", "server", "start"),
            *("--host", LOOPBACK, "--port", str(port)),
        ],
        log=home / "demo-server.log",
        environment={
            "PREFECT_API_URL": api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            # In memory they would be forgotten at a restart, and their slots stay taken.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
                "prefect.server.concurrency.lease_storage.filesystem"
            ),
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "DO_NOT_TRACK": "1",
        },
    )
    use_server(api)
    # While the server comes up, load what the flows need.
    import flows.catalogue  # noqa: F401 - for its side on the clock
    from flows.progress import track

    bar = track(repeat(None), "start the Prefect server")
    members.wait_for(
        "Prefect server",
        lambda: answers(api),
        timeout_s=SERVER_START_S,
        between=lambda: next(bar),
    )
    bar.close()
    story.tell("prefect", api.removesuffix("/api"))
    from flows.deployments import register_deployments
    from flows.prefect_setup import set_up_server

    set_up_server()
    n_registered = register_deployments(is_paused=True)
    story.tell("deployments", f"{n_registered} registered, schedules paused")
    return api


def start_gateway(members: Crew, story: Story, port: int) -> str:
    """Start the gateway and wait until it is ready; return its URL."""
    settings = load_settings()
    chosen = free_port(port)
    url = f"http://{LOOPBACK}:{chosen}"
    members.start(
        "gateway",
        [sys.executable, "-m", "serve", "--host", LOOPBACK, "--port", str(chosen)],
        log=prefect_home() / "demo-gateway.log",
        environment={
            "ALPHALAKE_ROOT": settings.root,
            "ALPHALAKE_KEYS": str(settings.keys),
            "ALPHALAKE_STATE": str(settings.state),
        },
    )
    members.wait_for(
        "gateway",
        lambda: answers_ok(f"{url}/health/ready"),
        timeout_s=GATEWAY_START_S,
    )
    story.tell("gateway", url)
    return url


def describe(workplace: Workplace, gateway: str, api: str, plan: DemoPlan) -> Addresses:
    """Return the URLs and commands to show."""
    symbol = "BTCUSDT" if plan.symbols else "SP500"
    place = "" if workplace.root == "./.alphalake" else f" --root {workplace.root}"
    command = Path(sys.argv[0])
    name = str(command) if command.name == "alphalake" else "alphalake"
    return Addresses(
        pages=f"{gateway}/",
        prefect=api.removesuffix("/api"),
        api_docs=f"{gateway}/schema",
        curl=f"curl -s {gateway}/showcase/ml-prediction/{symbol}",
        sql=f'{name}{place} sql "{_QUERY}"',
    )


def address_lines(addresses: Addresses, plan: DemoPlan) -> list[str]:
    """Return the URLs and commands for a person."""
    return [
        "",
        f"  pages        {addresses.pages}   (as of {plan.now:%Y-%m-%d %H:%M} UTC)",
        f"  Prefect UI   {addresses.prefect}",
        f"  API docs     {addresses.api_docs}",
        f"  try          {addresses.curl}",
        f"               {addresses.sql}",
        "",
    ]


def wait_for_end(members: Crew) -> None:
    """Wait for Ctrl-C or SIGTERM, or until a process of the demo ends."""
    try:
        while members.is_whole():
            time.sleep(0.5)
    except KeyboardInterrupt:
        return
    raise RefusedError(
        "a process of the demo ended by itself; see its log in PREFECT_HOME"
    )
