"""Flows that bring bars and releases in."""

from prefect import flow

from flows.bodies.ingest import ingest_bars, ingest_releases
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="ingest-ohlcv", flow_run_name="ingest-{timeframe}")
def ingest_ohlcv(
    *,
    source: str | None = None,
    timeframe: str | None = None,
    path: str | None = None,
    symbols: list[str] | None = None,
    options: dict[str, str] | None = None,
) -> Outcome:
    """Read bars from `source`, screen them, write what is good.

    Parameters
    ----------
    source : str, optional
        `sample`, `synthetic`, `files`, `ccxt` or `yfinance`; `ALPHALAKE_SOURCE` if
        not given.
    timeframe : str, optional
        `1h` or `1d`; both, or what the files hold, if not given.
    path : str, optional
        Glob of files.
    symbols : list of str, optional
        Only these.
    options : dict of str to str, optional
        Options of the source, as the verb `ingest ohlcv` names them.
    """
    return run_body(
        "ingest-ohlcv",
        ingest_bars,
        resource="lab-batch",
        source=source,
        timeframe=timeframe,
        path=path,
        symbols=symbols,
        options=options,
    )


@flow(name="ingest-calendar")
def ingest_calendar(path: str | None = None, timezone: str | None = None) -> Outcome:
    """Read economic releases and write what is good.

    Parameters
    ----------
    path : str, optional
        File; `ALPHALAKE_CALENDAR` if not given.
    timezone : str, optional
        IANA name or ±HH:MM, where the file does not state it.
    """
    return run_body(
        "ingest-calendar",
        ingest_releases,
        resource="lab-batch",
        path=path,
        timezone=timezone,
    )
