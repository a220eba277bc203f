import json

import pytest
import torch
from safetensors.torch import load, save

from lab.errors import CheckpointError, TrainingError
from lab.forecasters.kronos import lora as lora_module
from lab.forecasters.kronos.finetune import fine_tune
from lab.forecasters.kronos.lora import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    LoraSettings,
    add_lora,
    merge_lora,
)
from lab.forecasters.kronos.training import TrainingConfig
from lab.forecasters.kronos.weights import read_network, write
from tests.lab.forecasters.kronos.small_kronos import pair, split

QUICK = TrainingConfig(
    20, batch_size=8, learning_rate=2e-2, validate_every=10, n_validation=16
)
SMALL = LoraSettings(rank=2, alpha=4, targets=("q_proj", "v_proj"))


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def tuned():
    tokenizer, network = pair()
    return network, fine_tune(network, tokenizer, split(), QUICK, seeded(), lora=SMALL)


def test_fresh_adapters_change_nothing_and_only_they_take_gradients():
    _, network = pair()
    adapted = add_lora(network, SMALL, seeded())
    s1 = torch.randint(0, 64, (2, 12), generator=seeded())
    assert torch.equal(
        network.hidden(s1, s1, None), adapted.network.hidden(s1, s1, None)
    )
    learning = [n for n, p in adapted.network.named_parameters() if p.requires_grad]
    assert learning
    assert all("lora_" in name for name in learning)


def test_training_adapters_helps_and_leaves_the_base_alone():
    network, done = tuned()
    assert done.after.ce < done.before.ce
    assert write(network) == write(pair()[1])
    assert not any("lora" in name for name in done.network.state_dict())


def test_merging_the_saved_files_gives_the_tuned_network():
    network, done = tuned()
    merged = merge_lora(network, done.files)
    assert write(merged) == write(done.network)
    assert write(network) == write(pair()[1])
    assert write(read_network(*write(merged))) == write(merged)


def test_only_the_named_layers_differ_after_merging():
    network, done = tuned()
    old, new = network.state_dict(), done.network.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed
    assert {name.split(".")[-2] for name in changed} == {"q_proj", "v_proj"}


def test_the_same_seed_gives_the_same_adapter_bytes():
    assert tuned()[1].files == tuned()[1].files


def test_adding_adapters_leaves_the_global_generator_where_it_was():
    _, network = pair()
    state = torch.random.get_rng_state()
    add_lora(network, SMALL, seeded())
    assert torch.equal(state, torch.random.get_rng_state())


def test_without_peft_nothing_is_trained(monkeypatch):
    monkeypatch.setattr(lora_module, "find_spec", lambda name: None)
    tokenizer, network = pair()
    with pytest.raises(TrainingError, match="needs the package peft"):
        fine_tune(network, tokenizer, split(), QUICK, seeded(), lora=SMALL)
    with pytest.raises(TrainingError, match="needs the package peft"):
        merge_lora(network, {})


@pytest.mark.parametrize(
    "settings", [{"rank": 0}, {"alpha": 0}, {"targets": ()}, {"targets": ("head",)}]
)
def test_adapters_that_cannot_be_added_are_refused(settings):
    with pytest.raises(TrainingError, match="LoRA: rank"):
        LoraSettings(**settings)


def damaged(files, change):
    config = json.loads(files[CONFIG_FILE])
    state = load(files[WEIGHTS_FILE])
    if change == "no config":
        return {WEIGHTS_FILE: files[WEIGHTS_FILE]}
    if change == "torn":
        return {**files, WEIGHTS_FILE: files[WEIGHTS_FILE][:50]}
    first = sorted(state)[0]
    if change == "rank":
        config["r"] = 3
    if change == "missing":
        del state[first]
    if change == "nan":
        state[first] = torch.full_like(state[first], torch.nan)
    return {CONFIG_FILE: json.dumps(config).encode(), WEIGHTS_FILE: save(state)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("no config", "adapter_config.json cannot be used"),
        ("torn", "adapter_model.safetensors cannot be read"),
        ("rank", "of shape"),
        ("missing", "missing or not known"),
        ("nan", "finite values"),
    ],
)
def test_damaged_adapters_are_refused(change, said):
    network, done = tuned()
    with pytest.raises(CheckpointError, match=said):
        merge_lora(network, damaged(done.files, change))
