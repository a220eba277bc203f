"""The verb that trains: ensemble, Kronos, Chronos-2 and their adapters."""

from typing import Annotated, Any, Final

import typer

KINDS: Final = {
    "ensemble": "train-ensemble",
    "kronos": "train-kronos",
    "kronos-lora": "kronos-rolling-finetune",
    "chronos2": "train-chronos2",
    "chronos2-lora": "chronos2-rolling-finetune",
}
"""What can be trained, and the flow that does it."""

_TRAINED: Final = frozenset(["as_of", "seed", "steps"])
_OPTIONS: Final = {
    "ensemble": frozenset(["as_of", "seed", "is_backfill"]),
    "kronos": _TRAINED,
    "kronos-lora": _TRAINED | {"asset_class"},
    "chronos2": _TRAINED,
    "chronos2-lora": _TRAINED | {"asset_class"},
}


def register(app: typer.Typer) -> None:
    """Add the verb of this module to `app`."""
    app.command()(train)


def train(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="ensemble, kronos, kronos-lora (an adapter per asset class), chronos2"
            " or chronos2-lora.",
        ),
    ],
    *,
    timeframe: Annotated[str, typer.Option(metavar="1h|1d", help="Bar length.")] = "1d",
    as_of: Annotated[
        str | None,
        typer.Option(metavar="TS", help="Use only what was known then; else now."),
    ] = None,
    asset_class: Annotated[
        str | None,
        typer.Option(help="For adapters: this class only; else each that has bars."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps; else the model's own.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    is_backfill: Annotated[
        bool,
        typer.Option(
            "--backfill",
            help="For the ensemble: train as of past moments, forecast what came after.",
        ),
    ] = False,
) -> None:
    """Train on what the lake knew, validate on later data, keep the checkpoint."""
    from flows.cli.data import run_and_tell
    from lakehouse.errors import InputError

    if kind not in KINDS:
        raise InputError(f"train {kind}: allowed are {', '.join(KINDS)}")
    given = {
        "as_of": as_of,
        "asset_class": asset_class,
        "steps": steps,
        "seed": seed or None,
        "is_backfill": is_backfill or None,
    }
    parameters = {name: value for name, value in given.items() if value is not None}
    for name in sorted(set(parameters) - _OPTIONS[kind]):
        option = "backfill" if name == "is_backfill" else name.replace("_", "-")
        raise InputError(f"train {kind}: takes no --{option}")
    from flows.bodies.training import BODIES

    def load() -> Any:
        from flows.train import FLOWS

        return FLOWS[KINDS[kind]]

    run_and_tell(
        KINDS[kind], BODIES[KINDS[kind]], load, timeframe=timeframe, **parameters
    )
