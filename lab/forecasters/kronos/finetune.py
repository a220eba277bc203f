"""Training from scratch, and from weights that exist: all of them, or a few beside them.

Whatever is trained is a copy: a network that is given stays as it is and may go on
forecasting. What comes back is ready for inference.
"""

import copy
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from lab.forecasters.kronos.adapter import EventAdapter
from lab.forecasters.kronos.config import NetworkConfig, TokenizerConfig
from lab.forecasters.kronos.lora import LoraSettings, add_lora
from lab.forecasters.kronos.losses import Metrics, evaluate
from lab.forecasters.kronos.network import KronosNetwork
from lab.forecasters.kronos.ruler import freeze_codes, ruled_tokenizer
from lab.forecasters.kronos.tokenizer import KronosTokenizer
from lab.forecasters.kronos.training import (
    Progress,
    TrainingConfig,
    TrainingResult,
    train_network,
    train_tokenizer,
)
from lab.forecasters.kronos.weights import check_pair, new_network
from lab.forecasters.kronos.windows import Split, Windows

_SAMPLE: Final = 1500  # windows that a tokenizer's marks are taken from


@dataclass(frozen=True, slots=True)
class FineTuned:
    """Weights after fine-tuning, and what it brought.

    Attributes
    ----------
    network : KronosNetwork
        Adapters merged, ready for inference.
    adapter : EventAdapter or None
        Where events were trained.
    files : dict of str to bytes
        The LoRA files; empty after full fine-tuning.
    before, after : Metrics
        On the validation windows.
    result : TrainingResult
        How it went.
    """

    network: KronosNetwork
    adapter: EventAdapter | None
    files: dict[str, bytes]
    before: Metrics
    after: Metrics
    result: TrainingResult


@dataclass(frozen=True, slots=True)
class Trained:
    """A pair trained from scratch, ready for inference.

    Attributes
    ----------
    tokenizer, network : KronosTokenizer, KronosNetwork
        The pair.
    codes, result : TrainingResult
        How the two stages went.
    """

    tokenizer: KronosTokenizer
    network: KronosNetwork
    codes: TrainingResult
    result: TrainingResult


def train_from_scratch(
    configs: tuple[TokenizerConfig, NetworkConfig],
    split: Split,
    stages: tuple[TrainingConfig, TrainingConfig],
    generator: torch.Generator,
    *,
    progress: Progress | None = None,
) -> Trained:
    """Train a tokenizer and then a predictor on its tokens.

    The tokenizer starts as a ruler (`lab.forecasters.kronos.ruler`) whose codes stay;
    its decoder is trained.

    Parameters
    ----------
    configs : tuple of TokenizerConfig and NetworkConfig
        Sizes of the pair.
    split : Split
        Windows to learn from and to judge by.
    stages : tuple of TrainingConfig
        Of the tokenizer and of the predictor.
    generator : torch.Generator
        Source of all randomness.
    progress : callable, optional
        Called after every step of either stage; returns whether to go on.

    Raises
    ------
    TrainingError
        If a side of the split is empty, or the ruler does not fit the configuration.

    Notes
    -----
    Point in time: both stages keep the weights that are best on later windows.
    """
    some = split.train.spread(_SAMPLE)
    sample = some.batch(np.arange(some.n_windows)).values
    tokenizer = ruled_tokenizer(configs[0], sample, generator)
    freeze_codes(tokenizer)
    codes = train_tokenizer(tokenizer, split, stages[0], generator, progress=progress)
    _freeze(tokenizer)
    network = new_network(configs[1], generator)
    check_pair(tokenizer, network)
    result = train_network(
        network, tokenizer, split, stages[1], generator, progress=progress
    )
    _freeze(network)
    return Trained(tokenizer, network, codes, result)


def fine_tune(
    network: KronosNetwork,
    tokenizer: KronosTokenizer,
    split: Split,
    config: TrainingConfig,
    generator: torch.Generator,
    *,
    lora: LoraSettings | None = None,
    adapter: EventAdapter | None = None,
    judged: Windows | None = None,
    progress: Progress | None = None,
) -> FineTuned:
    """Fine-tune a copy of a predictor: every weight, or adapters beside them.

    Parameters
    ----------
    network, tokenizer : KronosNetwork, KronosTokenizer
        The pair to start from; neither is changed.
    split : Split
        Windows to learn from and to stop by.
    config : TrainingConfig
        Steps, rates and which coarse token the fine one is told.
    generator : torch.Generator
        Source of all randomness.
    lora : LoraSettings, optional
        Train adapters of this size instead of the weights.
    adapter : EventAdapter, optional
        Trained along on the windows' events; a copy of it is.
    judged : Windows, optional
        Windows for `before` and `after`; those of the split's validation if not given.
    progress : callable, optional
        Called after every step; returns whether to go on.

    Raises
    ------
    TrainingError
        If a side of the split is empty, an adapter has no events to learn from, or
        `peft` is missing.
    CheckpointError
        If the pair does not belong together.

    Notes
    -----
    Point in time: windows to stop by, and to judge, are later than all training bars.
    """
    check_pair(tokenizer, network)
    windows = split.validation if judged is None else judged
    before = evaluate(network, tokenizer, windows)
    if lora is None:
        apart, tuned = None, _thawed(network)
    else:
        apart = add_lora(network, lora, generator)
        tuned = apart.network
    learning = None if adapter is None else copy.deepcopy(adapter)
    if learning is not None:
        learning.requires_grad_(requires_grad=True)
    result = train_network(
        tuned,
        tokenizer,
        split,
        config,
        generator,
        adapter=learning,
        progress=progress,
    )
    whole = tuned if apart is None else apart.merged()
    _freeze(whole)
    if learning is not None:
        _freeze(learning)
    after = evaluate(whole, tokenizer, windows, adapter=learning)
    files = {} if apart is None else apart.files()
    return FineTuned(whole, learning, files, before, after, result)


def train_adapter(
    network: KronosNetwork,
    tokenizer: KronosTokenizer,
    split: Split,
    config: TrainingConfig,
    generator: torch.Generator,
    *,
    adapter: EventAdapter,
    progress: Progress | None = None,
) -> FineTuned:
    """Train a copy of an event adapter alone, beside a predictor that stays as it is.

    Parameters
    ----------
    network, tokenizer, split, config, generator, adapter, progress
        As in `fine_tune`.

    Raises
    ------
    TrainingError
        If a side of the split is empty or brings no events.
    """
    check_pair(tokenizer, network)
    before = evaluate(network, tokenizer, split.validation)
    frozen, learning = copy.deepcopy(network), copy.deepcopy(adapter)
    frozen.requires_grad_(requires_grad=False)
    learning.requires_grad_(requires_grad=True)
    result = train_network(
        frozen,
        tokenizer,
        split,
        config,
        generator,
        adapter=learning,
        progress=progress,
    )
    _freeze(learning)
    after = evaluate(network, tokenizer, split.validation, adapter=learning)
    return FineTuned(frozen, learning, {}, before, after, result)


def _thawed(network: KronosNetwork) -> KronosNetwork:
    # Time tables that are fixed by the configuration stay fixed.
    tuned = copy.deepcopy(network)
    tuned.requires_grad_(requires_grad=True)
    if not network.config.learn_te:
        tuned.time_emb.requires_grad_(requires_grad=False)
    return tuned


def _freeze(module: torch.nn.Module) -> None:
    module.eval()
    module.requires_grad_(requires_grad=False)
