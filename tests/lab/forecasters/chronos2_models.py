"""Chronos-2 models for tests: the project's small one, and one with random weights."""

import json
from functools import lru_cache
from pathlib import Path

import torch

from lab.forecasters.chronos2 import Chronos2Forecaster
from lab.forecasters.chronos2_inputs import Chronos2View
from lab.forecasters.chronos2_weights import (
    Chronos2Shape,
    new_pipeline,
    read_pipeline,
)
from tests.lab.toy_market import moment

SMALL = Path(__file__).parents[3] / "flows" / "checkpoints" / "chronos2_small"
CUTOFF = moment("2015-12-31")
TINY = Chronos2Shape(d_model=32, d_kv=8, d_ff=32, n_layers=2, length=192)


def small_files():
    return {
        name: (SMALL / name).read_bytes()
        for name in ("config.json", "model.safetensors")
    }


@lru_cache
def small_pipeline():
    torch.set_num_threads(1)
    return read_pipeline(*small_files().values())


@lru_cache
def random_pipeline(seed=1):
    """A model that looks at everything it is shown, covariates and mates too."""
    torch.set_num_threads(1)
    pipeline = new_pipeline(TINY, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    head = pipeline.model.output_patch_embedding
    for layer in (head.output_layer, head.residual_layer):
        torch.nn.init.normal_(layer.weight, std=0.05, generator=generator)
    return pipeline


def small_forecaster(**changes):
    card = json.loads((SMALL / "card.json").read_bytes())
    view = Chronos2View(card["context"], is_mirrored=card["is_mirrored"])
    return make(small_pipeline(), view, takes_events=card["takes_events"], **changes)


def random_forecaster(**changes):
    return make(random_pipeline(), Chronos2View(96, is_mirrored=True), **changes)


def make(pipeline, view, **changes):
    usual = {"version": "1", "cutoff": CUTOFF, "card": {"name": "test"}}
    return Chronos2Forecaster(pipeline, view=view, **{**usual, **changes})
