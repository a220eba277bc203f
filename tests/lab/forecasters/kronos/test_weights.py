"""Checkpoints: strict reading, published keys, what cannot be a pair."""

import json

import pytest
import torch
from safetensors.torch import load, save

from lab.errors import CheckpointError
from lab.forecasters.kronos.config import NetworkConfig, TokenizerConfig
from lab.forecasters.kronos.weights import (
    new_network,
    read_network,
    read_tokenizer,
    write,
)
from tests.simulators.kronos import checkpoint, modules, network_config

FILES = checkpoint()
READERS = {
    "tokenizer": (read_tokenizer, FILES.tokenizer_config, FILES.tokenizer_weights),
    "network": (read_network, FILES.network_config, FILES.network_weights),
}
each_half = pytest.mark.parametrize("half", sorted(READERS))


def altered(weights, **changes):
    """Weights with keys set, or dropped where the value is None."""
    state = load(weights)
    for name, value in changes.items():
        key = name.replace("__", ".")
        if value is None:
            del state[key]
        else:
            state[key] = value
    return save(state)


@each_half
def test_what_is_written_reads_back_to_the_same_bytes(half):
    read, config, weights = READERS[half]
    module = read(config, weights)
    assert write(module) == (config, weights)
    assert not module.training
    assert not any(one.requires_grad for one in module.parameters())


@each_half
def test_rotary_and_quantiser_buffers_may_be_absent(half):
    read, config, weights = READERS[half]
    state = load(weights)
    computed = [
        key for key in state if "inv_freq" in key or key.startswith("tokenizer.bsq")
    ]
    assert computed
    for key in computed:
        del state[key]
    assert write(read(config, save(state))) == (config, weights)


@each_half
def test_half_precision_rotary_tables_are_replaced_and_others_refused(half):
    read, config, weights = READERS[half]
    state = load(weights)
    key = next(key for key in state if "inv_freq" in key)
    good = state[key]
    halved = save({**state, key: good.half()})
    assert write(read(config, halved)) == (config, weights)
    for bad in (good / 2, good[:-1]):
        with pytest.raises(CheckpointError, match="inv_freq: not the values"):
            read(config, save({**state, key: bad}))


@each_half
def test_damaged_weights_are_refused(half):
    read, config, weights = READERS[half]
    state = load(weights)
    key = next(key for key in state if key.endswith("norm1.weight"))
    named = key.replace(".", "__")
    cases = [
        (weights[:-5], "cannot be read"),
        (b"", "cannot be read"),
        (altered(weights, **{named: None}), f"missing: {key}"),
        (altered(weights, extra__weight=torch.ones(1)), "not known: extra.weight"),
        (altered(weights, **{named: state[key][:-1]}), "allowed is"),
        (altered(weights, **{named: state[key] * torch.nan}), "not finite"),
        (altered(weights, **{named: state[key].long()}), "floating-point"),
    ]
    for changed, message in cases:
        with pytest.raises(CheckpointError, match=message):
            read(config, changed)


def test_one_half_is_not_the_other():
    with pytest.raises(CheckpointError, match="keys missing or not allowed"):
        read_network(FILES.tokenizer_config, FILES.tokenizer_weights)
    with pytest.raises(CheckpointError, match=r"weights missing.* and \d+ more"):
        read_network(FILES.network_config, FILES.tokenizer_weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_model": "48"}, "must be int"),
        ({"n_layers": True}, "must be int"),
        ({"n_layers": 0}, "allowed are 1 to"),
        ({"s1_bits": 17}, "allowed are 1 to 16"),
        ({"ffn_dropout_p": 1.0}, "0 to below 1"),
        ({"n_heads": 5}, "even multiple of n_heads"),
        ({"d_model": 36}, "the dependency layer's heads"),
        ({"max_context": 512}, "not allowed: max_context"),
    ],
)
def test_configurations_that_make_no_network_are_refused(change, message):
    values = json.loads(FILES.network_config)
    with pytest.raises(CheckpointError, match=message):
        NetworkConfig.from_json(json.dumps({**values, **change}).encode())


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises(CheckpointError, match="TokenizerConfig"):
        TokenizerConfig.from_json(text)


def test_fixed_time_tables_have_their_published_names_and_stay_fixed():
    config = network_config(learn_te=False)
    module = new_network(config, torch.Generator().manual_seed(0))
    state = load(write(module)[1])
    assert state["time_emb.minute_embed.emb.weight"].shape == (60, config.d_model)
    frozen = [name for name, one in module.named_parameters() if not one.requires_grad]
    assert frozen == [
        f"time_emb.{name}_embed.emb.weight"
        for name in ("minute", "hour", "weekday", "day", "month")
    ]


def test_new_weights_depend_on_their_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, other = checkpoint(5), checkpoint(5)
    assert one == other
    assert one != checkpoint(6)
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_weights_are_read_as_float32():
    state = load(FILES.network_weights)
    halved = {
        key: value if "inv_freq" in key else value.bfloat16()
        for key, value in state.items()
    }
    module = read_network(FILES.network_config, save(halved))
    assert {one.dtype for one in module.parameters()} == {torch.float32}


def test_the_sampled_loss_conditions_on_drawn_tokens():
    _, network = modules()
    rng = torch.Generator().manual_seed(0)
    s1, s2 = (torch.randint(0, 16, (3, 12), generator=rng) for _ in range(2))
    stamp = torch.zeros(3, 12, 5)
    told = network.losses(s1, s2, stamp)
    drawn = [
        network.losses(
            s1, s2, stamp, s1_given="sampled",
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert torch.equal(drawn[0].ce2, drawn[1].ce2)
    assert not torch.equal(drawn[0].ce2, drawn[2].ce2)
    assert torch.equal(told.ce1, drawn[0].ce1)
    assert not torch.equal(told.ce2, drawn[0].ce2)


def test_the_loss_of_a_position_does_not_see_later_tokens():
    _, network = modules()
    rng = torch.Generator().manual_seed(0)
    s1, s2 = (torch.randint(0, 16, (1, 12), generator=rng) for _ in range(2))
    later = s1.clone()
    later[:, 8:] = 15 - later[:, 8:]
    h, changed = (network.hidden(one[:, :-1], s2[:, :-1], None) for one in (s1, later))
    logits, other = (
        network.s2_logits_teacher(states, one[:, 1:], is_causal=True)
        for states, one in ((h, s1), (changed, later))
    )
    assert torch.equal(logits[:, :7], other[:, :7])
    assert not torch.equal(logits[:, 7:], other[:, 7:])
