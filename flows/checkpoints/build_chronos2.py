"""Train the small Chronos-2 of this project: `python -m flows.checkpoints.build_chronos2`.

It learns from daily bars that ship with `arch`, from the synthetic market and from
invented paths, all up to the end of 2015, and is measured on the years after it. The same
seed on the same machine gives the same bytes.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flows.checkpoints.corpus import arch_series, invented_series, synthetic_series
from lab.arrays import FloatArray
from lab.bars.series import Series
from lab.forecasters.chronos2_inputs import Chronos2View, log_levels
from lab.forecasters.chronos2_training import (
    Chronos2Training,
    LevelSet,
    measured_bands,
    train_from_scratch,
)
from lab.forecasters.chronos2_weights import Chronos2Shape, new_pipeline, write_pipeline

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

CUTOFF: Final = datetime(2015, 12, 31, 23, 59, 59, tzinfo=UTC)
FOLDER: Final = Path(__file__).with_name("chronos2_small")
NAME: Final = "chronos2-small"
SEED: Final = 20151231
MARKETS: Final = {"1h": (3.0, (11, 12)), "1d": (15.0, (11, 12, 13))}
"""Years and seeds of the synthetic market, by bar length."""

VIEW: Final = Chronos2View(192, is_mirrored=True)
"""Bars of history; with their image, as much as the model takes."""

HORIZONS: Final = (1, 5, 20, 60, 120)


def training_sets(seed: int) -> list[LevelSet]:
    """Return what the checkpoint learns from, every bar known by the cut-off."""
    invented = invented_series(end=CUTOFF, n_paths=24, n_bars=2000, seed=seed)
    return [
        LevelSet("arch", _levels(arch_series(end=CUTOFF)), 0.15),
        *(
            LevelSet(
                f"synthetic-{timeframe}",
                _levels(
                    one
                    for number in seeds
                    for one in synthetic_series(
                        timeframe, end=CUTOFF, seed=number, years=years
                    )
                ),
                0.15,
            )
            for timeframe, (years, seeds) in MARKETS.items()
        ),
        LevelSet("invented", _levels(invented), 0.55),
    ]


def measure(pipeline: "Chronos2Pipeline") -> dict[str, float]:
    """Return how the bands do on the real daily bars after the cut-off."""
    levels = []
    for one in arch_series(end=datetime(2019, 1, 1, tzinfo=UTC)):
        first = int(np.searchsorted(one.ts, np.datetime64(CUTOFF.replace(tzinfo=None))))
        levels.append(log_levels(one.part(slice(first - VIEW.context, one.n_obs))))
    return dict(measured_bands(pipeline, levels, view=VIEW, horizons=HORIZONS))


def build(
    folder: Path, *, shape: Chronos2Shape, settings: Chronos2Training, seed: int = SEED
) -> dict[str, Any]:
    """Train, measure and write a checkpoint.

    Parameters
    ----------
    folder : Path
        Gets `config.json`, `model.safetensors` and `card.json`.
    shape : Chronos2Shape
        Its size.
    settings : Chronos2Training
        How long, how fast.
    seed : int
        Of weights, paths and windows.

    Returns
    -------
    dict
        The card.
    """
    sets = training_sets(seed)
    pipeline = new_pipeline(shape, seed=seed)
    start = time.perf_counter()
    losses = train_from_scratch(
        pipeline,
        sets,
        view=VIEW,
        settings=settings,
        rng=np.random.default_rng(seed),
        report=_reporter(start),
    )
    files = write_pipeline(pipeline)
    card = {
        "name": NAME,
        "cutoff": CUTOFF.isoformat(),
        "context": VIEW.context,
        "is_mirrored": VIEW.is_mirrored,
        "takes_events": False,
        "data": {
            one.name: {
                "series": len(one.levels),
                "bars": sum(len(level) for level in one.levels),
                "share": one.weight,
            }
            for one in sets
        },
        "markets": {key: list(value) for key, value in MARKETS.items()},
        "seed": seed,
        "settings": {name: getattr(settings, name) for name in settings.__slots__},
        "parameters": sum(one.numel() for one in pipeline.model.parameters()),
        "metrics": {**losses, **measure(pipeline)},
        "sha256": {
            name: hashlib.sha256(data).hexdigest() for name, data in files.items()
        },
    }
    write(folder, files, card)
    return card


def write(folder: Path, files: Mapping[str, bytes], card: Mapping[str, Any]) -> None:
    """Write a checkpoint's files and its card."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    text = json.dumps(card, indent=1, sort_keys=True)
    (folder / "card.json").write_text(text + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Train as the command line says; write the card's measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--steps", type=int, default=Chronos2Training().n_steps)
    parser.add_argument("--batch", type=int, default=Chronos2Training().batch_size)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(options.threads)
    settings = Chronos2Training(n_steps=options.steps, batch_size=options.batch)
    card = build(options.folder, shape=Chronos2Shape(), settings=settings)
    sys.stdout.write(json.dumps(card["metrics"], indent=1) + "\n")
    return 0


def _levels(series: Iterable[Series]) -> list[FloatArray]:
    return [log_levels(one) for one in series]


def _reporter(start: float) -> Callable[[int, float], None]:
    recent: list[float] = []

    def report(step: int, loss: float) -> None:
        recent.append(loss)
        if step % 100 == 99:
            mean = float(np.mean(recent[-100:]))
            spent = time.perf_counter() - start
            sys.stderr.write(f"step {step + 1}: loss {mean:.4f}, {spent:.0f} s\n")

    return report


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
