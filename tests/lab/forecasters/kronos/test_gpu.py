"""Kronos on a GPU against its twin on the CPU: `pytest -m gpu`.

Tolerances: in float32 at least 98 % of the tokens are the CPU's (the rest follow a draw
between two cumulative chances a rounding apart), and where a path's tokens all are, its
bars agree to 1e-3. In bfloat16 at least 85 % of the first coarse tokens are the CPU's,
and the median bar of 64 paths lies within half a normalised unit.
"""

import pytest
import torch

from lab.forecasters.kronos.engine import prepare
from lab.forecasters.kronos.generate import generate
from tests.lab.forecasters.kronos.histories import draws, history
from tests.simulators.kronos import modules, network_config, tokenizer_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]

PAIR = modules(
    1,
    network=network_config(s1_bits=8, s2_bits=8, d_model=128, n_heads=4, ff_dim=256),
    tokenizer=tokenizer_config(s1_bits=8, s2_bits=8, d_model=64, n_heads=4),
)
HISTORIES = [history(length, 24, seed) for seed, length in enumerate([60, 60, 31, 5])]


@pytest.mark.parametrize("window", [96, 64], ids=["captured", "past the window"])
def test_float32_gives_the_tokens_of_the_cpu(window):
    uniforms = draws(4, 20, 24)
    expected = generate(prepare(*PAIR), HISTORIES, uniforms, window=window)
    found = generate(prepare(*PAIR, device="cuda"), HISTORIES, uniforms, window=window)
    is_same = (found.s1 == expected.s1) & (found.s2 == expected.s2)
    assert is_same.float().mean() > 0.98
    paths = is_same.all(dim=-1)
    torch.testing.assert_close(
        found.values[paths], expected.values[paths], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("window", [96, 64], ids=["captured", "past the window"])
def test_bfloat16_stays_near_the_cpu(window):
    uniforms = draws(4, 64, 24)
    expected = generate(prepare(*PAIR), HISTORIES, uniforms, window=window)
    half = prepare(*PAIR, device="cuda", dtype=torch.bfloat16)
    found = generate(half, HISTORIES, uniforms, window=window)
    assert (found.s1 == expected.s1)[..., 0].float().mean() > 0.85
    medians = [one.values.median(dim=1).values for one in (found, expected)]
    assert (medians[0] - medians[1]).abs().mean() < 0.5


def test_calls_with_one_model_give_the_same_again():
    half = prepare(*PAIR, device="cuda", dtype=torch.bfloat16)
    uniforms = draws(4, 20, 24)
    runs = [generate(half, HISTORIES, uniforms, window=96) for _ in range(2)]
    assert torch.equal(runs[0].s1, runs[1].s1)
    assert torch.equal(runs[0].values, runs[1].values)
