"""Train the compact Kronos of this project: `python -m flows.checkpoints.build_compact`.

It learns from daily bars that ship with `arch`, from the synthetic market and from
invented paths, all up to the end of 2015. The tokenizer starts as a ruler set by hand
(`lab.forecasters.kronos.ruler`), of which training changes the decoder; the predictor
starts from random weights. The same seed on the same machine and number of threads
gives the same bytes.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from flows.checkpoints.corpus import arch_series, invented_series, synthetic_series
from flows.checkpoints.kronos import write_folder
from lab.forecasters.kronos.bands import BandSettings, band_coverage, starts_every
from lab.forecasters.kronos.bigram import bigram_cross_entropy
from lab.forecasters.kronos.config import NetworkConfig, TokenizerConfig
from lab.forecasters.kronos.engine import prepare
from lab.forecasters.kronos.filtering import Filter
from lab.forecasters.kronos.finetune import train_from_scratch
from lab.forecasters.kronos.losses import evaluate, rebuilt_error, token_pairs
from lab.forecasters.kronos.network import KronosNetwork
from lab.forecasters.kronos.tokenizer import KronosTokenizer
from lab.forecasters.kronos.training import (
    StepReport,
    TrainingConfig,
    tokenizer_config,
)
from lab.forecasters.kronos.windows import (
    Split,
    WindowPlan,
    join_windows,
    split_windows,
)

CUTOFF: Final = datetime(2015, 12, 31, 23, 59, 59, tzinfo=UTC)
BOUNDARY: Final = np.datetime64("2013-01-01", "us")
FOLDER: Final = Path(__file__).with_name("compact")
NAME: Final = "kronos-compact"
SEED: Final = 20151231
WINDOW: Final = 256
MARKETS: Final = {"1h": (1.5, (21, 22, 23)), "1d": (12.0, (21, 22, 23))}
"""Years and seeds of the synthetic market, by bar length."""

N_PATHS: Final = 24
N_BARS: Final = 2000
"""Invented series of each habitat, and bars of each."""

HORIZONS: Final = (1, 5, 20, 60)
"""At which the bands are measured, after the cut-off."""

ARCH_REPEATS: Final = 2
"""How often a real window is shown, for each time that another is."""

PLAN: Final = WindowPlan(lookback=136, predict=120, min_lookback=48, stride=24)
ARCH_PLAN: Final = replace(PLAN, stride=4)
SAMPLING: Final[dict[str, Any]] = {"temperature": 1.0, "top_p": 0.97, "top_k": 0}
TOKENIZER: Final = TokenizerConfig(
    d_in=6,
    d_model=32,
    n_heads=4,
    ff_dim=160,
    n_enc_layers=2,
    n_dec_layers=2,
    ffn_dropout_p=0.0,
    attn_dropout_p=0.0,
    resid_dropout_p=0.0,
    s1_bits=7,
    s2_bits=7,
    beta=0.05,
    gamma0=1.0,
    gamma=1.1,
    zeta=0.05,
    group_size=7,
)
NETWORK: Final = NetworkConfig(
    s1_bits=7,
    s2_bits=7,
    n_layers=3,
    d_model=64,
    n_heads=4,
    ff_dim=128,
    ffn_dropout_p=0.0,
    attn_dropout_p=0.0,
    resid_dropout_p=0.0,
    token_dropout_p=0.0,
    learn_te=True,
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long the two stages take.

    Attributes
    ----------
    tokenizer, network : TrainingConfig
        Of each stage.
    n_paths : int
        Invented series of each habitat.
    """

    tokenizer: TrainingConfig
    network: TrainingConfig
    n_paths: int = N_PATHS

    def lasting(self, minutes: float) -> "Recipe":
        """Return the recipe with its steps scaled to `minutes` of a quiet machine."""
        share = minutes / USUAL_MINUTES
        return replace(
            self,
            tokenizer=_scaled(self.tokenizer, share),
            network=_scaled(self.network, share),
        )


RECIPE: Final = Recipe(
    tokenizer=replace(tokenizer_config(250), batch_size=16, n_validation=64),
    network=TrainingConfig(
        1500,
        batch_size=24,
        learning_rate=2e-3,
        validate_every=200,
        n_validation=128,
        dependency="both",
    ),
)
USUAL_MINUTES: Final = 8.0


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is learned from, and what is judged by.

    Attributes
    ----------
    split : Split
        All sources together.
    real : Split
        The real bars alone.
    n_bars : dict of str to int
        Bars by source.
    """

    split: Split
    real: Split
    n_bars: Mapping[str, int]


def make_corpus(*, seed: int = SEED, n_paths: int = N_PATHS) -> Corpus:
    """Return the windows, every bar of which was known at the cut-off.

    Notes
    -----
    Point in time: training windows end before 2013 in the real series and before the
    last 15 % of each timeframe's invented ones; validation windows begin after that.
    """
    real_series = arch_series(end=CUTOFF)
    real = split_windows(real_series, ARCH_PLAN, cutoff=CUTOFF, boundary=BOUNDARY)
    n_bars = {"arch": sum(one.n_obs for one in real_series)}
    trains, judges = [real.train] * ARCH_REPEATS, [real.validation]
    invented = list(
        invented_series(end=CUTOFF, n_paths=n_paths, n_bars=N_BARS, seed=seed)
    )
    for timeframe, (years, seeds) in MARKETS.items():
        market = [
            one
            for number in seeds
            for one in synthetic_series(timeframe, end=CUTOFF, seed=number, years=years)
        ]
        paths = [one for one in invented if one.timeframe == timeframe]
        for name, series in (("synthetic", market), ("invented", paths)):
            part = split_windows(series, PLAN, cutoff=CUTOFF)
            trains.append(part.train)
            judges.append(part.validation)
            n_bars[f"{name}-{timeframe}"] = sum(one.n_obs for one in series)
    whole = Split(join_windows(trains), join_windows(judges), real.boundary)
    return Corpus(whole, real, n_bars)


def build(
    folder: Path,
    recipe: Recipe = RECIPE,
    *,
    seed: int = SEED,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train, measure and write the checkpoint.

    Parameters
    ----------
    folder : Path
        Gets `tokenizer` and `model`, the latter with `card.json`.
    recipe : Recipe
        How long.
    seed : int
        Of weights, paths and windows.
    say : callable, optional
        Told how it goes, line by line.

    Returns
    -------
    dict
        The card, without the digests.
    """
    corpus = make_corpus(seed=seed, n_paths=recipe.n_paths)
    say(
        f"{corpus.split.train.n_windows} windows, {corpus.split.validation.n_windows}"
        " to validate"
    )
    trained = train_from_scratch(
        (TOKENIZER, NETWORK),
        corpus.split,
        (recipe.tokenizer, recipe.network),
        torch.Generator().manual_seed(seed),
        progress=_reporter(say),
    )
    tokenizer, network = trained.tokenizer, trained.network
    card = {
        "name": NAME,
        "cutoff": CUTOFF.isoformat(),
        "window": WINDOW,
        "context": PLAN.lookback,
        "sampling": SAMPLING,
        "data": dict(corpus.n_bars),
        "markets": {name: list(one) for name, one in MARKETS.items()},
        "seed": seed,
        "steps": {
            "tokenizer": trained.codes.steps,
            "predictor": trained.result.steps,
        },
        "settings": {
            "tokenizer": asdict(recipe.tokenizer),
            "predictor": asdict(recipe.network),
        },
        "parameters": sum(
            one.numel() for half in (tokenizer, network) for one in half.parameters()
        ),
        "threads": torch.get_num_threads(),
        "metrics": {
            **measures(tokenizer, network, corpus),
            "coverage": coverage(tokenizer, network),
        },
    }
    write_folder(folder, tokenizer, network, card=card)
    return card


def measures(
    tokenizer: KronosTokenizer, network: KronosNetwork, corpus: Corpus
) -> dict[str, Any]:
    """Return cross-entropies on validation windows beside the bigram's.

    Notes
    -----
    Point in time: validation windows are later than all training bars of their kind.
    """
    sets = {
        "all": (corpus.split.train, corpus.split.validation.spread(512)),
        "arch": (corpus.real.train, corpus.real.validation),
    }
    known = token_pairs(tokenizer, corpus.split.train.spread(6000))
    found: dict[str, Any] = {}
    for name, (_, judged) in sets.items():
        ce = evaluate(network, tokenizer, judged)
        bigram = bigram_cross_entropy(
            known,
            token_pairs(tokenizer, judged),
            n_s1=1 << NETWORK.s1_bits,
            n_s2=1 << NETWORK.s2_bits,
        )
        found[name] = {
            "windows": judged.n_windows,
            **{key: round(value, 5) for key, value in ce._asdict().items()},
            "bigram_ce": round(bigram.mean, 5),
            "below_bigram": round(1 - ce.ce / bigram.mean, 5),
            "rebuilt_mse": round(rebuilt_error(tokenizer, judged), 6),
        }
    return found


def coverage(
    tokenizer: KronosTokenizer, network: KronosNetwork, *, every: int = 5
) -> dict[str, float]:
    """Return the raw 80 % band's coverage on real daily bars after the cut-off.

    Parameters
    ----------
    tokenizer, network : KronosTokenizer, KronosNetwork
        The pair.
    every : int, default 5
        Bars between forecasts.

    Returns
    -------
    dict of str to float
        Share of closes inside, by horizon; `n` forecasts.
    """
    starts = starts_every(
        arch_series(end=datetime(2019, 1, 1, tzinfo=UTC)),
        since=np.datetime64(CUTOFF.replace(tzinfo=None)),
        every=every,
        context=PLAN.lookback,
        horizon=max(HORIZONS),
    )
    found = band_coverage(
        prepare(tokenizer, network),
        starts,
        HORIZONS,
        settings=BandSettings(PLAN.lookback, WINDOW),
        by=Filter(**SAMPLING),
    )
    return {"n": len(starts)} | {str(h): round(one, 4) for h, one in found.items()}


def _scaled(config: TrainingConfig, share: float) -> TrainingConfig:
    return replace(config, steps=max(1, round(config.steps * share)))


def _reporter(say: Callable[[str], None]) -> Callable[[StepReport], bool]:
    start = time.perf_counter()

    def report(now: StepReport) -> bool:
        if now.validation is not None:
            spent = time.perf_counter() - start
            say(
                f"step {now.step}/{now.steps}: loss {now.loss:.4f},"
                f" validation {now.validation:.4f}, {spent:.0f} s"
            )
        return True

    return report


def main(arguments: Sequence[str]) -> int:
    """Train as the command line says; write the card's measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--minutes", type=float, default=USUAL_MINUTES)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    card = build(
        options.out,
        RECIPE.lasting(options.minutes),
        say=lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
    )
    sys.stdout.write(json.dumps(card["metrics"], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
