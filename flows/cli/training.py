"""The verb that trains: forecasters, boosted models, win probability, the policy."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that can be trained.

    Attributes
    ----------
    flow : str
        Name of the flow that does it.
    body, entry : str
        `module:name` of its plain body and of the flow.
    options : frozenset of str
        Which options it takes.
    """

    flow: str
    body: str
    entry: str
    options: frozenset[str]


def _forecaster(flow: str, body: str, *options: str) -> Kind:
    return Kind(
        flow,
        f"flows.bodies.training:{body}",
        f"flows.train:{flow.replace('-', '_')}",
        frozenset(["timeframe", "as_of", "seed", *options]),
    )


def _model(kind: str, *options: str) -> Kind:
    module = "train_policy" if kind == "policy" else "train_models"
    return Kind(
        f"train-{kind}",
        f"flows.bodies.train_{kind}:run_train_{kind}",
        f"flows.{module}:train_{kind}",
        frozenset(["as_of", "seed", *options]),
    )


KINDS: Final = {
    "winprob": _model("winprob", "learner", "config"),
    "gbm": _model("gbm", "timeframe", "learner", "config"),
    "policy": _model("policy", "seeds", "iterations", "ray"),
    "ensemble": _forecaster("train-ensemble", "train_ensemble", "is_backfill"),
    "kronos": _forecaster("train-kronos", "train_kronos", "steps"),
    "kronos-lora": _forecaster(
        "kronos-rolling-finetune", "finetune_kronos", "steps", "asset_class"
    ),
    "chronos2": _forecaster("train-chronos2", "train_chronos2", "steps"),
    "chronos2-lora": _forecaster(
        "chronos2-rolling-finetune", "finetune_chronos2", "steps", "asset_class"
    ),
}
"""What can be trained, and how."""


def register(app: typer.Typer) -> None:
    """Add the verb of this module to `app`."""
    app.command()(train)


def train(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="winprob (P(win) of an order), gbm (boosted return models), policy"
            " (allocation by PPO), ensemble, kronos, kronos-lora (an adapter per asset"
            " class), chronos2 or chronos2-lora.",
        ),
    ],
    *,
    timeframe: Annotated[
        str | None, typer.Option(metavar="1h|1d", help="Bar length; else 1d.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="TS", help="Use only what was known then; else now."),
    ] = None,
    learner: Annotated[
        str | None,
        typer.Option(
            help="For winprob, gbm: xgboost, catboost, lightgbm; gbm also ridge, over all."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML or JSON of training settings."),
    ] = None,
    asset_class: Annotated[
        str | None,
        typer.Option(help="For adapters: this class only; else each that has bars."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps; else the model's own.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=5, help="For the policy: how many seeds; else 5.")
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="For the policy: PPO iterations a seed.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="For the policy: this Ray cluster."),
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
    """Train on what the lake knew, validate on later data, keep the model."""
    from flows.cli.data import run_named
    from lakehouse.errors import InputError

    if kind not in KINDS:
        raise InputError(f"train {kind}: allowed are {', '.join(KINDS)}")
    chosen = KINDS[kind]
    given = {
        "timeframe": timeframe,
        "as_of": as_of,
        "learner": learner,
        "config": None if config is None else read_settings(config),
        "asset_class": asset_class,
        "steps": steps,
        "seeds": seeds,
        "iterations": iterations,
        "ray": ray,
        "seed": seed or None,
        "is_backfill": is_backfill or None,
    }
    parameters = {name: value for name, value in given.items() if value is not None}
    _agree(parameters)
    for name in sorted(set(parameters) - chosen.options):
        option = "backfill" if name == "is_backfill" else name.replace("_", "-")
        raise InputError(f"train {kind}: takes no --{option}")
    if "timeframe" in chosen.options:
        parameters.setdefault("timeframe", "1d")
    run_named(chosen.flow, chosen.body, chosen.entry, **parameters)


def _agree(parameters: dict[str, Any]) -> None:
    # A file of settings may name the learner; it must not overrule another one silently.
    from lakehouse.errors import InputError

    named = parameters.get("config", {}).get("model")
    if not isinstance(named, str):
        return
    learner = parameters.setdefault("learner", named)
    if learner != named:
        raise InputError(f"--learner {learner}: --config says model = {named!r}")


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a TOML or JSON file.

    Raises
    ------
    InputError
        If it cannot be read, or is neither.
    """
    from lakehouse.errors import InputError

    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"--config {path}: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"--config {path}: a table of settings is wanted")
    return found
