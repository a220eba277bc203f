"""Generation with caches against the naive one, and its independence of company."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from lab.errors import CheckpointError, ForecastError
from lab.forecasters.kronos.engine import prepare
from lab.forecasters.kronos.filtering import Filter
from lab.forecasters.kronos.generate import History, generate
from lab.forecasters.kronos.reference import generate_naively
from tests.lab.forecasters.kronos.histories import draws, history
from tests.simulators.kronos import modules, network_config, tokenizer_config

WINDOW = 24
HORIZON = 7
PAIR = modules()
PREPARED = prepare(*PAIR)

SHAPES = [
    {},
    {"network": network_config(n_layers=1, d_model=24, n_heads=1)},
    {"network": network_config(n_layers=3, d_model=40, n_heads=5, learn_te=False)},
    {"tokenizer": tokenizer_config(n_dec_layers=1, n_enc_layers=1)},
    {
        "network": network_config(s1_bits=3, s2_bits=3),
        "tokenizer": tokenizer_config(s1_bits=3, s2_bits=3, n_enc_layers=3, n_heads=1),
    },
]


def assert_same_bits(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def part(paths, series=slice(None), samples=slice(None)):
    return [one[series][:, samples] for one in paths]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("length", "horizon"),
    [
        (3, 7),  # a short history
        (17, 7),  # fills the window exactly
        (20, 9),  # goes past it
        (24, 24),  # starts full; nothing of the history is left to decode after
        (40, 7),  # longer than the window from the start
        (1, 1),
    ],
)
def test_paths_are_those_of_the_naive_description(shape, length, horizon):
    pair = modules(1, **shape)
    histories = [history(length, horizon, seed) for seed in range(2)]
    uniforms = draws(2, 3, horizon)
    slow = generate_naively(*pair, histories, uniforms, window=WINDOW)
    quick = generate(prepare(*pair), histories, uniforms, window=WINDOW)
    assert torch.equal(quick.s1, slow.s1)
    assert torch.equal(quick.s2, slow.s2)
    torch.testing.assert_close(quick.values, slow.values, rtol=1e-3, atol=1e-4)


def test_conditioning_enters_as_in_the_naive_description():
    extra = torch.randn(20 + 9, 48, generator=torch.Generator().manual_seed(0))
    plain, moved = history(20, 9), history(20, 9, extra=extra)
    uniforms = draws(1, 2, 9)
    slow = generate_naively(*PAIR, [moved], uniforms, window=WINDOW)
    quick = generate(PREPARED, [moved], uniforms, window=WINDOW)
    assert torch.equal(quick.s1, slow.s1)
    assert torch.equal(quick.s2, slow.s2)
    without = generate(PREPARED, [plain], uniforms, window=WINDOW)
    assert not torch.equal(without.s1, quick.s1)
    zero = plain._replace(extra=torch.zeros(29, 48))
    assert_same_bits(generate(PREPARED, [zero], uniforms, window=WINDOW), without)


def test_rolling_is_exact_inside_the_window_and_another_function_past_it():
    inside, past = draws(1, 4, 5), draws(1, 4, 20)
    short = [history(WINDOW - 5, 5)]
    assert_same_bits(
        generate(PREPARED, short, inside, window=WINDOW, mode="rolling"),
        generate(PREPARED, short, inside, window=WINDOW),
    )
    full = [history(WINDOW, 20)]
    rolling = generate(PREPARED, full, past, window=WINDOW, mode="rolling")
    exact = generate(PREPARED, full, past, window=WINDOW)
    assert torch.equal(rolling.s1[..., 0], exact.s1[..., 0])
    assert not torch.equal(rolling.s1, exact.s1)


def test_steps_over_buffers_of_their_final_size_draw_the_same_tokens():
    fixed = replace(PREPARED, has_fixed_steps=True)
    histories = [history(length, 9) for length in (12, 15, 3, 12)]
    uniforms = draws(4, 5, 9)
    found = generate(fixed, histories, uniforms, window=WINDOW)
    expected = generate(PREPARED, histories, uniforms, window=WINDOW)
    assert torch.equal(found.s1, expected.s1)
    assert torch.equal(found.s2, expected.s2)
    past = generate(fixed, [history(20, 9)], uniforms[:1], window=WINDOW)
    assert_same_bits(
        past, generate(PREPARED, [history(20, 9)], uniforms[:1], window=WINDOW)
    )
    odd = modules(4)
    odd[1].head.proj_s2.bias.fill_(torch.nan)
    broken = replace(prepare(*odd), has_fixed_steps=True)
    with pytest.raises(ForecastError, match="not finite"):
        generate(broken, histories, uniforms, window=WINDOW)


def company():
    lengths = [17] * 9 + [20] * 3 + [24, 30, 3, 1] + [17] * 7
    return [history(length, HORIZON, seed) for seed, length in enumerate(lengths)]


def test_a_series_is_the_same_bits_alone_and_in_any_batch():
    histories, uniforms = company(), draws(23, 9, HORIZON)
    together = generate(PREPARED, histories, uniforms, window=WINDOW)
    for number in (0, 8, 10, 12, 13, 14, 15, 22):
        only = slice(number, number + 1)
        alone = generate(PREPARED, histories[only], uniforms[only], window=WINDOW)
        assert_same_bits(alone, part(together, only))
    order = np.random.default_rng(1).permutation(23)
    shuffled = generate(
        PREPARED, [histories[k] for k in order], uniforms[order], window=WINDOW
    )
    assert_same_bits(part(shuffled, torch.from_numpy(np.argsort(order))), together)


@pytest.mark.parametrize("n_paths", [1, 2, 5, 8, 9])
def test_a_path_is_the_same_bits_whatever_the_number_of_paths(n_paths):
    histories, uniforms = company()[8:16], draws(8, 20, HORIZON)
    all_paths = generate(PREPARED, histories, uniforms, window=WINDOW)
    some = generate(PREPARED, histories, uniforms[:, :n_paths], window=WINDOW)
    assert_same_bits(some, part(all_paths, samples=slice(n_paths)))


@pytest.mark.parametrize(
    "shape",
    [
        {},
        # The layer sizes of the published mini model, fewer of them.
        {
            "network": network_config(
                s1_bits=10, s2_bits=10, d_model=256, n_heads=4, ff_dim=512
            ),
            "tokenizer": tokenizer_config(
                s1_bits=10, s2_bits=10, d_model=256, n_heads=4, ff_dim=512
            ),
        },
        # Those of small and base.
        *(
            pytest.param(
                {
                    "network": network_config(
                        s1_bits=10,
                        s2_bits=10,
                        d_model=width,
                        n_heads=n_heads,
                        ff_dim=ff_dim,
                    ),
                    "tokenizer": tokenizer_config(
                        s1_bits=10, s2_bits=10, d_model=256, n_heads=4, ff_dim=512
                    ),
                },
                marks=pytest.mark.full,
            )
            for width, n_heads, ff_dim in ((512, 8, 1024), (832, 16, 2048))
        ),
    ],
)
def test_eight_threads_on_one_model_give_the_bits_of_serial_calls(shape):
    prepared = prepare(*modules(2, **shape))
    histories, uniforms = company(), draws(23, 5, HORIZON)
    serial = [
        generate(prepared, [one], uniforms[k : k + 1], window=WINDOW)
        for k, one in enumerate(histories)
    ]
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(3):
            chosen = rng.choice(23, size=rng.integers(1, 6), replace=False)
            n_paths = int(rng.integers(1, 6))
            found = generate(
                prepared,
                [histories[k] for k in chosen],
                uniforms[chosen, :n_paths],
                window=WINDOW,
            )
            for row, k in enumerate(chosen):
                ours = part(found, slice(row, row + 1))
                theirs = part(serial[k], samples=slice(n_paths))
                if not all(map(torch.equal, ours, theirs)):
                    wrong.append((seed, int(k)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_modules_mode_and_later_changes_do_not_matter():
    tokenizer, network = modules(3, network=network_config(attn_dropout_p=0.5))
    histories, uniforms = [history(20, 9)], draws(1, 2, 9)
    expected = generate(prepare(tokenizer, network), histories, uniforms, window=WINDOW)
    tokenizer.train()
    network.train()
    prepared = prepare(tokenizer, network)
    network.norm.weight.zero_()
    found = generate(prepared, histories, uniforms, window=WINDOW)
    assert_same_bits(found, expected)


def test_a_generation_leaves_torchs_global_state_alone():
    before = torch.get_rng_state()
    generate(PREPARED, [history(5, 3)], draws(1, 2, 3), window=WINDOW)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.full((5, 6), np.nan, np.float32)}, "finite rows"),
        ({"x": np.full((5, 6), np.inf, np.float32)}, "finite rows"),
        ({"x": np.zeros((0, 6), np.float32)}, "finite rows"),
        ({"x": np.zeros((4, 6), np.float32)}, r"allowed are \(4, 5\)"),
        ({"stamp": np.zeros((5, 4), int)}, r"allowed are \(5, 5\)"),
        ({"future": np.zeros((2, 5), int)}, r"and \(3, 5\)"),
        ({"stamp": np.full((5, 5), 99)}, "minute, hour"),
        ({"extra": torch.zeros(5, 48)}, "8 needed"),
    ],
)
def test_histories_that_do_not_fit_are_refused(changes, message):
    whole = history(5, 3)
    odd = History(**{**whole._asdict(), **changes})
    with pytest.raises(ForecastError, match=message):
        generate(PREPARED, [odd], draws(1, 2, 3), window=WINDOW)


def test_requests_that_cannot_be_met_are_refused():
    one, uniforms = [history(5, 3)], draws(1, 2, 3)
    with pytest.raises(ForecastError, match="allowed are 1 to 2, the window"):
        generate(PREPARED, one, uniforms, window=2)
    with pytest.raises(ForecastError, match="exact and rolling"):
        generate(PREPARED, one, uniforms, window=WINDOW, mode="fast")
    with pytest.raises(ForecastError, match="one block of uniforms"):
        generate(PREPARED, one * 2, uniforms, window=WINDOW)
    with pytest.raises(ForecastError, match="two numbers a step"):
        generate(PREPARED, one, uniforms[:, :0], window=WINDOW)
    with pytest.raises(ForecastError, match=r"in \[0, 1\)"):
        generate(PREPARED, one, uniforms + 1, window=WINDOW)
    with pytest.raises(ForecastError, match="allowed is float32"):
        prepare(*PAIR, dtype=torch.bfloat16)


def test_weights_that_give_no_numbers_give_no_forecast():
    tokenizer, network = modules(4)
    network.head.proj_s1.bias.fill_(torch.nan)
    with pytest.raises(ForecastError, match="not finite"):
        generate(
            prepare(tokenizer, network), [history(5, 3)], draws(1, 1, 3), window=WINDOW
        )


def test_a_tokenizer_and_a_predictor_of_other_bits_are_refused():
    wide = network_config(s1_bits=5, s2_bits=5)
    with pytest.raises(CheckpointError, match="do not belong together"):
        prepare(*modules(network=wide))
    uneven = {
        "tokenizer": tokenizer_config(s1_bits=3, s2_bits=5),
        "network": network_config(s1_bits=3, s2_bits=5),
    }
    with pytest.raises(CheckpointError, match="the same number"):
        prepare(*modules(**uneven))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "use top_k = 1"),
        ({"temperature": None}, "must be above 0"),
        ({"temperature": float("nan")}, "must be above 0"),
        ({"top_k": None}, "0 is off"),
        ({"top_k": -1}, "0 is off"),
        ({"top_p": 0.0}, "above 0 to 1"),
        ({"top_p": 1.5}, "above 0 to 1"),
    ],
)
def test_settings_without_defined_chances_are_refused(settings, message):
    with pytest.raises(ForecastError, match=message):
        Filter(**settings)
