from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from lab.errors import TrainingError
from lab.forecasters.kronos.bigram import TokenPairs, bigram_cross_entropy
from lab.forecasters.kronos.finetune import fine_tune, train_from_scratch
from lab.forecasters.kronos.losses import (
    encoded,
    evaluate,
    predictor_loss,
    rebuilt_error,
    token_pairs,
)
from lab.forecasters.kronos.ruler import ruled_tokenizer
from lab.forecasters.kronos.training import (
    TrainingConfig,
    tokenizer_config,
    train_network,
    train_tokenizer,
)
from lab.forecasters.kronos.weights import new_network, new_tokenizer, write
from tests.lab.forecasters.kronos.small_kronos import NETWORK, PAIR, PLAN, pair, split

QUICK = TrainingConfig(
    30, batch_size=8, learning_rate=5e-3, validate_every=10, n_validation=16
)
CODES = replace(tokenizer_config(12), batch_size=8, validate_every=6, n_validation=16)


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def all_of(windows):
    return windows.batch(np.arange(windows.n_windows))


def trained(seed, config=QUICK):
    parts = split()
    done = train_from_scratch((PAIR, NETWORK), parts, (CODES, config), seeded(seed))
    return done, parts


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    short = replace(QUICK, steps=10)
    first, second, third = (trained(seed, short)[0] for seed in (1, 1, 2))
    assert write(first.network) == write(second.network)
    assert write(first.tokenizer) == write(second.tokenizer)
    assert write(first.network) != write(third.network)


def test_training_leaves_the_global_generator_where_it_was():
    state = torch.random.get_rng_state()
    trained(1, replace(QUICK, steps=2))
    assert torch.equal(state, torch.random.get_rng_state())


def test_training_lowers_the_loss_on_later_windows():
    done, parts = trained(1)
    assert done.result.best < done.result.before
    assert evaluate(
        done.network, done.tokenizer, parts.validation.spread(16)
    ).ce == pytest.approx(done.result.best, abs=1e-6)


def test_what_is_trained_comes_back_ready_for_inference():
    done, _ = trained(1, replace(QUICK, steps=2))
    for half in (done.tokenizer, done.network):
        assert not half.training
        assert not any(one.requires_grad for one in half.parameters())


def test_drawn_coarse_tokens_are_seeded_too():
    config = replace(QUICK, steps=4, s1_given="sampled")
    first, second = (trained(1, config)[0] for _ in range(2))
    assert write(first.network) == write(second.network)
    assert write(first.network) != write(trained(1, replace(QUICK, steps=4))[0].network)


def test_the_fine_token_never_sees_a_later_one_in_either_mode():
    tokenizer, network = pair()
    batch = all_of(split().validation)
    s1, s2 = encoded(tokenizer, batch)
    for mode in (True, False):
        network.train(mode)
        h = network.hidden(s1[:, :-1], s2[:, :-1], None)
        torch.manual_seed(0)
        before = network.s2_logits_teacher(h, s1[:, 1:], is_causal=True)
        altered = h.clone()
        altered[:, 12:] += 1.0
        after = network.s2_logits_teacher(altered, s1[:, 1:], is_causal=True)
        assert torch.equal(before[:, :12], after[:, :12])
        assert not torch.allclose(before[:, 12:], after[:, 12:])


def test_validation_equals_the_training_loss_without_dropout():
    tokenizer, network = pair()
    windows = split().validation
    batch = all_of(windows)
    parts = predictor_loss(network, encoded(tokenizer, batch), batch)
    metrics = evaluate(network, tokenizer, windows)
    assert metrics.ce == pytest.approx(float(parts.total), abs=1e-5)
    assert metrics.ce == pytest.approx((metrics.ce1 + metrics.ce2) / 2)


def test_the_generation_loss_is_that_of_the_last_positions_logits():
    tokenizer, network = pair()
    batch = all_of(split().validation.spread(3))
    s1, s2 = encoded(tokenizer, batch)
    stamps = torch.from_numpy(batch.stamps)
    lengths = range(1, s1.shape[1])
    found = []
    for n in lengths:
        h = network.hidden(s1[:, :n], s2[:, :n], stamps[:, :n])
        logits = network.s2_logits_last(h, s1[:, n : n + 1])
        found.append(torch.nn.functional.cross_entropy(logits, s2[:, n]))
    expected = torch.stack(found).mean()
    parts = predictor_loss(network, (s1, s2), batch)
    assert float(parts.ce2_generation) == pytest.approx(float(expected), abs=1e-5)


def test_training_stops_when_nothing_improves_and_keeps_the_best_weights():
    tokenizer, network = pair()
    before = write(network)
    network.requires_grad_(requires_grad=True)
    useless = replace(QUICK, learning_rate=0.5, validate_every=1, patience=3)
    result = train_network(network, tokenizer, split(), useless, seeded())
    assert result.steps < useless.steps
    if result.best_step == 0:
        assert write(network) == before
    assert result.best == min(loss for _, loss in result.history)


def test_a_callback_may_end_training():
    tokenizer, network = pair()
    network.requires_grad_(requires_grad=True)
    seen = []

    def progress(report):
        seen.append(report.step)
        return report.step < 3

    result = train_network(
        network, tokenizer, split(), QUICK, seeded(), progress=progress
    )
    assert seen == [1, 2, 3]
    assert result.steps == 3


def test_fine_tuning_all_weights_leaves_the_base_alone():
    tokenizer, network = pair()
    before = write(network), write(tokenizer)
    tuned = fine_tune(network, tokenizer, split(), QUICK, seeded())
    assert (write(network), write(tokenizer)) == before
    assert tuned.after.ce < tuned.before.ce
    assert tuned.files == {}


def test_fixed_time_tables_stay_fixed():
    tokenizer, _ = pair()
    network = new_network(replace(NETWORK, learn_te=False), seeded())
    tuned = fine_tune(network, tokenizer, split(), replace(QUICK, steps=3), seeded())
    for name, value in network.time_emb.state_dict().items():
        assert torch.equal(value, tuned.network.time_emb.state_dict()[name])


def test_the_predictor_stage_leaves_the_tokenizer_alone():
    tokenizer, _ = pair()
    before = write(tokenizer)
    fine_tune(pair()[1], tokenizer, split(), replace(QUICK, steps=3), seeded())
    assert write(tokenizer) == before


def test_a_loss_that_is_not_finite_ends_training_with_an_error():
    tokenizer, network = pair()
    with torch.no_grad():
        network.norm.weight.fill_(float("nan"))
    network.requires_grad_(requires_grad=True)
    with pytest.raises(TrainingError, match="loss is nan after 0 steps"):
        train_network(network, tokenizer, split(), QUICK, seeded())


def test_frozen_weights_cannot_be_trained():
    tokenizer, network = pair()
    with pytest.raises(TrainingError, match="no parameter takes gradients"):
        train_network(network, tokenizer, split(), QUICK, seeded())


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"patience": 0}]
)
def test_settings_with_which_nothing_can_be_trained_are_refused(change):
    with pytest.raises(TrainingError, match="training:"):
        replace(QUICK, **change)


def test_an_empty_validation_set_is_refused():
    parts = split()
    none = parts.validation.take(np.zeros(0, dtype=np.int64))
    tokenizer, network = pair()
    network.requires_grad_(requires_grad=True)
    with pytest.raises(TrainingError, match="no windows"):
        train_network(
            network, tokenizer, replace(parts, validation=none), QUICK, seeded()
        )


def test_a_tokenizer_from_random_weights_can_be_trained():
    parts = split()
    tokenizer = new_tokenizer(PAIR, seeded())
    config = replace(CODES, steps=30, learning_rate=3e-3)
    result = train_tokenizer(tokenizer, parts, config, seeded())
    assert result.best < result.before
    error = rebuilt_error(tokenizer, parts.validation.spread(16))
    assert error == pytest.approx(result.best, abs=1e-6)


def test_a_ruled_tokenizer_measures_closes_finely_and_uses_its_codes():
    parts = split()
    sample = all_of(parts.train).values
    tokenizer = ruled_tokenizer(PAIR, sample, seeded())
    x = torch.from_numpy(all_of(parts.validation).values)
    with torch.no_grad():
        s1, s2 = tokenizer.encode(x)
        error = (tokenizer.decode(s1, s2) - x)[..., 3]
    assert len(s1.unique()) > 40
    step = (x[:, 1:, 3] - x[:, :-1, 3]).std()
    assert float(error.std()) < 0.25 * float(step)


def test_a_rulers_levels_are_in_order_and_neighbours_differ_in_one_bit():
    sample = all_of(split().train).values
    tokenizer = ruled_tokenizer(PAIR, sample, seeded())
    bars = torch.zeros(1, 2001, 6)
    bars[0, :, :4] = torch.linspace(-4.99, 4.99, 2001)[:, None]
    s1, _ = tokenizer.encode(bars)
    codes = s1[0].unique_consecutive()
    assert len(codes) == len(codes.unique()) == 64
    flips = [int(a ^ b).bit_count() for a, b in pairwise(codes)]
    assert set(flips) == {1}


def test_a_ruler_that_does_not_fit_is_refused():
    sample = all_of(split().train).values
    with pytest.raises(TrainingError, match="needs ff_dim >= 76"):
        ruled_tokenizer(replace(PAIR, ff_dim=40), sample, seeded())


def chain(n_windows, rng):
    # The next pair depends on the present one.
    s1 = np.zeros((n_windows, 50), dtype=np.int64)
    s2 = np.zeros_like(s1)
    for t in range(1, 50):
        s1[:, t] = (s1[:, t - 1] + rng.integers(0, 2, n_windows)) % 8
        s2[:, t] = (s2[:, t - 1] + s1[:, t]) % 4
    return TokenPairs(s1, s2)


def test_a_bigram_finds_the_entropy_of_a_chain():
    rng = np.random.default_rng(0)
    found = bigram_cross_entropy(chain(200, rng), chain(50, rng), n_s1=8, n_s2=4)
    assert found.s1 == pytest.approx(np.log(2), abs=0.02)
    assert found.s2 == pytest.approx(0.0, abs=0.02)
    assert found.mean == pytest.approx((found.s1 + found.s2) / 2)


def test_a_bigram_gives_unseen_tokens_a_chance():
    known = TokenPairs(np.zeros((4, 5), int), np.zeros((4, 5), int))
    other = TokenPairs(np.full((1, 5), 7), np.full((1, 5), 3))
    found = bigram_cross_entropy(known, other, n_s1=8, n_s2=4)
    assert np.isfinite(found.mean)
    assert found.s1 > np.log(8)


def test_a_bigram_without_windows_is_refused():
    none = TokenPairs(np.zeros((0, 5), int), np.zeros((0, 5), int))
    with pytest.raises(TrainingError, match="bigram: 0 windows"):
        bigram_cross_entropy(none, none, n_s1=8, n_s2=4)


def test_token_pairs_are_those_of_the_tokenizer():
    tokenizer, _ = pair()
    windows = split().validation
    pairs = token_pairs(tokenizer, windows)
    s1, s2 = tokenizer.encode(torch.from_numpy(all_of(windows).values))
    assert np.array_equal(pairs.s1, s1.numpy())
    assert np.array_equal(pairs.s2, s2.numpy())
    assert pairs.s1.shape == (windows.n_windows, PLAN.n_rows)
