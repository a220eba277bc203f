"""Verbs that run data flows: ingest, forecast, score, maintain."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.session import watching

if TYPE_CHECKING:
    from flows.runs import Outcome

ingest = typer.Typer(help="Bring bars or releases in.")


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to `app`."""
    app.add_typer(ingest, name="ingest")
    app.command()(forecast)
    app.command()(score)
    app.command()(maintain)


@ingest.command("ohlcv")
def ingest_ohlcv(
    *,
    source: Annotated[
        str | None,
        typer.Option(
            help="sample, synthetic, files, ccxt or yfinance; else ALPHALAKE_SOURCE, else sample."
        ),
    ] = None,
    path: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Files, for --source files.")
    ] = None,
    dialect: Annotated[
        str, typer.Option(help="How files are written; `auto` looks.")
    ] = "auto",
    symbols: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these symbols.")
    ] = None,
    asset_class: Annotated[
        str | None,
        typer.Option(help="crypto, fx, equity, index, commodity, rates or other."),
    ] = None,
    timeframe: Annotated[
        str | None, typer.Option(metavar="1h|1d", help="Bar length.")
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(metavar="TZ", help="IANA name or ±HH:MM of the files' times."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="FIELD=COLUMN,…", help="Which column is which field."),
    ] = None,
    exchange: Annotated[
        str | None,
        typer.Option(
            help="For ccxt: the exchange, e.g. binance; else ALPHALAKE_EXCHANGE."
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="For ccxt, yfinance: ask this mirror instead."
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TS", help="For ccxt, yfinance: from when.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TS", help="For ccxt, yfinance: till when.")
    ] = None,
    years: Annotated[
        float | None, typer.Option(help="For synthetic: length of the history.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="For synthetic: seed.")
    ] = None,
) -> None:
    """Read bars, screen them, write what is good and quarantine the rest."""
    options = {
        "dialect": None if dialect == "auto" else dialect,
        "asset_class": asset_class,
        "timezone": timezone,
        "columns": columns,
        "exchange": exchange,
        "base_url": base_url,
        "since": since,
        "until": until,
        "years": years,
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
    path: Annotated[
        str | None, typer.Option(metavar="FILE", help="Else ALPHALAKE_CALENDAR.")
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(metavar="TZ", help="IANA name or ±HH:MM of the file's times."),
    ] = None,
) -> None:
    """Read economic releases and write what is good."""
    from flows.bodies.ingest import ingest_releases
    from flows.settings import load_flow_settings
    from lakehouse.errors import InputError

    if not (path or load_flow_settings().calendar):
        raise InputError("ingest calendar: needs --path FILE or ALPHALAKE_CALENDAR")

    def load() -> Any:
        from flows.ingest import ingest_calendar as flow

        return flow

    run_and_tell("ingest-calendar", ingest_releases, load, path=path, timezone=timezone)


def forecast(
    *,
    model: Annotated[
        str,
        typer.Option(
            help="naive, seasonal, kronos, kronos-lora, chronos2, chronos2-lora,"
            " ensemble; several with commas."
        ),
    ] = "naive",
    timeframe: Annotated[str, typer.Option(metavar="1h|1d", help="Bar length.")] = "1d",
    symbols: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these symbols.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TS", help="Decision time; else the panel's newest complete bar."
        ),
    ] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Bars ahead.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=2, help="Sample paths kept.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling.")] = 0,
    earlier: Annotated[
        int, typer.Option(min=0, help="Forecast also as of this many earlier moments.")
    ] = 0,
    every: Annotated[
        int, typer.Option(min=1, help="Days between them; trading days for daily bars.")
    ] = 1,
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
        every=every,
    )


def score(
    timeframe: Annotated[str, typer.Option(metavar="1h|1d", help="Bar length.")] = "1d",
    as_of: Annotated[
        str | None,
        typer.Option(metavar="TS", help="Use only what was known then; else now."),
    ] = None,
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


def run_named(name: str, body: str, entry: str, **parameters: Any) -> "Outcome":
    """Run a flow whose body and entry are given as `module:name`, imported when needed."""
    from flows.isolation import named

    return run_and_tell(name, named(body), lambda: named(entry), **parameters)


def run_and_tell(name: str, body: Any, load: Any, **parameters: Any) -> "Outcome":
    """Run a flow, on a server if one answers, and give its outcome."""
    from flows.cli.verdicts import tell
    from flows.server import run_flow

    with watching():
        outcome = run_flow(name, body, load, **parameters)
    tell(outcome)
    return outcome
