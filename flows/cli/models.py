"""Verbs of the model lifecycle: orders to learn from, drift, retraining, promotion."""

from typing import Annotated

import typer

from flows.cli.data import run_named

AS_OF = Annotated[
    str | None,
    typer.Option(metavar="TS", help="Use only what was known then; else now."),
]
MODEL = Annotated[
    str, typer.Option(metavar="NAME", help="Registered model: winprob, gbm-1d, policy.")
]
SEED = Annotated[int, typer.Option(min=0, help="Seed.")]
WHY = Annotated[
    str, typer.Option(metavar="TEXT", help="Reason; it is kept in the chain.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to `app`."""
    app.command()(paper)
    app.command("predict-bars")(predict_bars)
    app.command("load-predictions")(load_predictions)
    app.command()(tune)
    app.command()(drift)
    app.command()(retrain)
    app.command()(compare)
    app.command()(promote)
    app.command()(rollback)


def paper(
    *,
    timeframe: Annotated[str, typer.Option(metavar="1h|1d", help="Bar length.")] = "1d",
    as_of: AS_OF = None,
    is_backfill: Annotated[
        bool,
        typer.Option(
            "--backfill",
            help="Replay phase37 alone over the stored bars; such orders teach, and"
            " count for nothing else.",
        ),
    ] = False,
) -> None:
    """Trade on paper: the verified sleeves and signals, filled on the next bar."""
    run_named(
        "paper",
        "flows.bodies.paper:run_paper",
        "flows.paper:paper",
        timeframe=timeframe,
        as_of=as_of,
        is_backfill=is_backfill,
    )


def predict_bars(
    *,
    timeframe: Annotated[str, typer.Option(metavar="1h|1d", help="Bar length.")] = "1d",
    as_of: AS_OF = None,
) -> None:
    """Ask the return model and its challenger about new bars; settle what is due."""
    run_named(
        "predict-bars",
        "flows.bodies.bar_predictions:run_predict_bars",
        "flows.predict_bars:predict_bars",
        timeframe=timeframe,
        as_of=as_of,
    )


def load_predictions(
    source: Annotated[
        str,
        typer.Option(
            metavar="URI",
            help="CSV or Parquet: a path, s3://…, runs:/… or models:/… of MLflow.",
        ),
    ],
    model: Annotated[str, typer.Option(metavar="NAME", help="Name of the model.")],
) -> None:
    """Enter what a fixed model said elsewhere, for comparison; never as live rows."""
    run_named(
        "load-predictions",
        "flows.bodies.load_predictions:run_load_predictions",
        "flows.load_predictions:load_predictions",
        source=source,
        model=model,
    )


def tune(
    *,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="winprob, gbm-1d or gbm-1h.")
    ] = "winprob",
    learner: Annotated[
        str, typer.Option(help="xgboost, catboost or lightgbm.")
    ] = "xgboost",
    trials: Annotated[int, typer.Option(min=1, help="Trials to add.")] = 20,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", min=1, help="Seconds after which none is begun."),
    ] = None,
    as_of: AS_OF = None,
    seed: SEED = 0,
) -> None:
    """Search training settings; the study goes on where it stopped, every trial counts."""
    run_named(
        "tune",
        "flows.bodies.tune:run_tune",
        "flows.tune:tune",
        model=model,
        learner=learner,
        trials=trials,
        timeout_s=timeout_s,
        as_of=as_of,
        seed=seed,
    )


def drift(
    *,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="This model; else each with a champion."),
    ] = None,
    as_of: AS_OF = None,
    seed: SEED = 0,
) -> None:
    """Compare live prediction rows with what the champion was trained on."""
    run_named(
        "drift",
        "flows.bodies.drift:run_drift",
        "flows.drift:drift",
        model=model,
        as_of=as_of,
        seed=seed,
    )


def retrain(
    *,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Registered model; else winprob, or each that is due."
        ),
    ] = None,
    trigger: Annotated[
        str, typer.Option(help="scheduled (if due), drift or manual.")
    ] = "manual",
    window: Annotated[
        str | None,
        typer.Option(
            metavar="TS|NAME",
            help="For drift: the end of the report's window; else the newest alarm's."
            " For manual: a name of your own, trained once; else the present.",
        ),
    ] = None,
    as_of: AS_OF = None,
    seed: SEED = 0,
) -> None:
    """Train a candidate anew, once per trigger and window, and enter it at weight 0."""
    run_named(
        "retrain",
        "flows.bodies.retrain:run_retrain",
        "flows.retrain:retrain",
        model=model or (None if trigger == "scheduled" else "winprob"),
        trigger=trigger,
        window=window,
        as_of=as_of,
        seed=seed,
    )


def compare(*, model: MODEL = "winprob", as_of: AS_OF = None, seed: SEED = 0) -> None:
    """Judge the challenger against the champion on common rows; promote if it is better."""
    run_named(
        "compare",
        "flows.bodies.compare:run_compare",
        "flows.compare:compare",
        model=model,
        as_of=as_of,
        seed=seed,
    )


def promote(
    version: Annotated[str, typer.Option(metavar="VERSION", help="Which version.")],
    why: WHY,
    *,
    model: MODEL = "winprob",
) -> None:
    """Make a version the champion by hand; it stays at weight 0."""
    run_named(
        "promote",
        "flows.bodies.promotion:run_promote",
        "flows.compare:promote",
        model=model,
        version=version,
        why=why,
    )


def rollback(why: WHY, *, model: MODEL = "winprob") -> None:
    """Go back to the newest archived version that still verifies; once in 24 hours."""
    run_named(
        "rollback",
        "flows.bodies.promotion:run_rollback",
        "flows.compare:rollback",
        model=model,
        why=why,
        cause="manual",
    )
