"""Verbs that run data flows: ingest, forecast, score, maintain."""

from typing import TYPE_CHECKING, Any

import typer

from flows.cli.session import watching

if TYPE_CHECKING:
    from flows.runs import Outcome

ingest = typer.Typer(help="Bring bars or releases in.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to `app`."""
    app.add_typer(ingest, name="ingest")
    app.command()(forecast)
    app.command()(score)
    app.command()(maintain)


@ingest.command("ohlcv")
def ingest_ohlcv(
    *,
    source: str = typer.Option(
        None,
        help="sample, synthetic, files, ccxt or yfinance; else ALPHALAKE_SOURCE, else sample.",
    ),
    path: str = typer.Option(None, metavar="GLOB", help="Files, for --source files."),
    dialect: str = typer.Option("auto", help="How files are written; `auto` looks."),
    symbols: str = typer.Option(None, metavar="A,B", help="Only these symbols."),
    asset_class: str = typer.Option(
        None, help="crypto, fx, equity, index, commodity, rates or other."
    ),
    timeframe: str = typer.Option(None, metavar="1h|1d", help="Bar length."),
    timezone: str = typer.Option(
        None, metavar="TZ", help="IANA name or ±HH:MM of the files' times."
    ),
    columns: str = typer.Option(
        None, metavar="FIELD=COLUMN,…", help="Which column is which field."
    ),
    exchange: str = typer.Option(None, help="For ccxt: the exchange, e.g. binance."),
    since: str = typer.Option(
        None, metavar="TS", help="For ccxt, yfinance: from when."
    ),
    until: str = typer.Option(
        None, metavar="TS", help="For ccxt, yfinance: till when."
    ),
    days: int = typer.Option(None, min=1, help="For synthetic: length."),
    seed: int = typer.Option(None, min=0, help="For synthetic: seed."),
) -> None:
    """Read bars, screen them, write what is good and quarantine the rest."""
    options = {
        "dialect": dialect,
        "asset_class": asset_class,
        "timezone": timezone,
        "columns": columns,
        "exchange": exchange,
        "since": since,
        "until": until,
        "days": days,
        "seed": seed,
    }
    from flows.bodies.ingest import ingest_bars
    from flows.cli.verdicts import split_list

    def load() -> Any:
        from flows.ingest import ingest_ohlcv as flow

        return flow

    run_and_tell(
        "ingest-ohlcv",
        ingest_bars,
        load,
        source=source,
        timeframe=timeframe,
        path=path,
        symbols=split_list(symbols),
        options={
            key: str(value) for key, value in options.items() if value is not None
        },
    )


@ingest.command("calendar")
def ingest_calendar(
    path: str = typer.Option(None, metavar="FILE", help="Else ALPHALAKE_CALENDAR."),
    timezone: str = typer.Option(
        None, metavar="TZ", help="IANA name or ±HH:MM of the file's times."
    ),
) -> None:
    """Read economic releases and write what is good."""
    from flows.bodies.ingest import ingest_releases

    def load() -> Any:
        from flows.ingest import ingest_calendar as flow

        return flow

    run_and_tell("ingest-calendar", ingest_releases, load, path=path, timezone=timezone)


def forecast(
    *,
    model: str = typer.Option("naive", help="naive, seasonal; several with commas."),
    timeframe: str = typer.Option("1d", metavar="1h|1d", help="Bar length."),
    symbols: str = typer.Option(None, metavar="A,B", help="Only these symbols."),
    as_of: str = typer.Option(
        None, metavar="TS", help="Decision time; else the panel's newest complete bar."
    ),
    horizon: int = typer.Option(None, min=1, help="Bars ahead."),
    samples: int = typer.Option(None, min=2, help="Sample paths kept."),
    seed: int = typer.Option(0, min=0, help="Seed of the sampling."),
    earlier: int = typer.Option(
        0, min=0, help="Forecast also as of this many days before."
    ),
) -> None:
    """Forecast every listed symbol once per as-of."""
    from flows.bodies.forecast import forecast_closes
    from flows.cli.verdicts import split_list

    def load() -> Any:
        from flows.forecast import forecast as flow

        return flow

    run_and_tell(
        "forecast",
        forecast_closes,
        load,
        model=model,
        timeframe=timeframe,
        symbols=split_list(symbols),
        as_of=as_of,
        horizon=horizon,
        samples=samples,
        seed=seed,
        earlier=earlier,
    )


def score(
    timeframe: str = typer.Option("1d", metavar="1h|1d", help="Bar length."),
    as_of: str = typer.Option(
        None, metavar="TS", help="Use only what was known then; else now."
    ),
) -> None:
    """Score the forecasts whose targets have settled."""
    from flows.bodies.score import score_settled

    def load() -> Any:
        from flows.score import score_signals

        return score_signals

    run_and_tell("score-signals", score_settled, load, timeframe=timeframe, as_of=as_of)


def maintain() -> None:
    """Compact, order, checkpoint and vacuum the tables."""
    from flows.bodies.maintain import maintain_tables

    def load() -> Any:
        from flows.maintain import maintain as flow

        return flow

    run_and_tell("maintain", maintain_tables, load)


def run_and_tell(name: str, body: Any, load: Any, **parameters: Any) -> "Outcome":
    """Run a flow, on a server if one answers, and give its outcome."""
    from flows.cli.verdicts import tell
    from flows.server import run_flow

    with watching():
        outcome = run_flow(name, body, load, **parameters)
    tell(outcome)
    return outcome
