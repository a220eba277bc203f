"""Our Kronos against every array that the reference wrote into a fixture.

The fixture's folder is `KRONOS_FIXTURE`, by default the one beside the checkout.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from lab.forecasters.kronos.weights import write
from tests.conftest import SHARED
from tests.lab.forecasters.kronos.parity import FAMILIES, Parity

pytestmark = [
    pytest.mark.kronos_parity,
    pytest.mark.xdist_group("kronos_parity"),
]


@pytest.fixture(scope="module")
def parity():
    folder = Path(os.environ.get("KRONOS_FIXTURE", SHARED / "kronos" / "fixture"))
    if not (folder / "meta.json").is_file():
        pytest.skip(f"Kronos fixture absent: {folder}")
    return Parity(folder)


def compare(parity, name, ours):
    """Hold one array to the tolerance that the fixture's README states for its kind."""
    expected = parity.expected[name]
    ours = np.asarray(ours)
    assert ours.shape == expected.shape, name
    if np.issubdtype(expected.dtype, np.integer):
        np.testing.assert_array_equal(ours, expected, err_msg=name)
    elif name == "filter_probs":
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(ours == 0, expected == 0, err_msg=name)
    elif name.endswith(("_forecast", "_forecast_mean")):
        columns = tuple(range(expected.ndim - 1))
        atol = 1e-3 * expected.std(axis=columns[-1], keepdims=True)
        off = np.abs(ours - expected) - (atol + 1e-4 * np.abs(expected))
        assert (off <= 0).all(), f"{name}: off by {off.max()} more than allowed"
    elif "loss" in name:
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-7, err_msg=name)
    else:
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_arrays_equal_the_reference(parity, family):
    found = getattr(parity, family)()
    assert found
    for name, ours in found.items():
        compare(parity, name, ours)


def test_no_array_of_the_fixture_is_left_uncompared(parity):
    names = [name for family in FAMILIES for name in getattr(parity, family)()]
    assert sorted(names) == sorted(parity.expected)


@pytest.mark.parametrize("half", ["tokenizer", "model"])
def test_gradients_have_the_references_norms(parity, half):
    ours = parity.gradient_norms[half][-1]
    expected = parity.meta["grad_norms"][half]
    assert ours.keys() == expected.keys()
    for name, norm in expected.items():
        np.testing.assert_allclose(ours[name], norm, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("family", ["generation", "sampling"])
def test_the_slow_reference_gives_the_same_tokens(parity, family):
    for name, ours in getattr(parity, family)(by_reference=True).items():
        compare(parity, name, ours)


@pytest.mark.parametrize("half", ["tokenizer", "model"])
def test_what_is_written_is_what_was_read_to_the_byte(parity, half):
    module = parity.tokenizer if half == "tokenizer" else parity.network
    assert write(module) == parity.files(half)
