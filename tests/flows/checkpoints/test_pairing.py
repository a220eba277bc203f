"""Which tokenizer belongs to which predictor."""

import json

import pytest

from flows.checkpoints.folders import WEIGHTS, Checkpoint
from flows.checkpoints.pairing import check_pair, tokenizer_of
from lab.errors import CheckpointError

BITS = {"s1_bits": 10, "s2_bits": 10}
MINI = BITS | {"n_layers": 4, "d_model": 256}
SMALL = BITS | {"n_layers": 8, "d_model": 512}
CODES = BITS | {"d_model": 256, "n_enc_layers": 4, "n_dec_layers": 4}


def checkpoint(
    config: dict, *, source: str = "folder", card: dict | None = None
) -> Checkpoint:
    return Checkpoint(source, json.dumps(config).encode(), b"weights", card or {})


@pytest.mark.parametrize(
    ("network", "group_size"), [(MINI, 5), (SMALL, 4)], ids=["mini", "small"]
)
def test_published_shapes_find_their_tokenizer_by_its_group_size(
    network: dict, group_size: int
) -> None:
    right = checkpoint(CODES | {"group_size": group_size})
    wrong = checkpoint(CODES | {"group_size": 9 - group_size})
    assert check_pair(checkpoint(network), right) == "published"
    with pytest.raises(CheckpointError, match=f"group size {group_size}, this one"):
        check_pair(checkpoint(network), wrong)


def test_published_names_are_known() -> None:
    assert tokenizer_of("NeoQuasar/Kronos-mini@main") == "NeoQuasar/Kronos-Tokenizer-2k"
    assert tokenizer_of("somebody/else") is None
    small = checkpoint(SMALL, source="NeoQuasar/Kronos-small")
    other = checkpoint(CODES, source="NeoQuasar/Kronos-Tokenizer-2k@abc")
    with pytest.raises(CheckpointError, match=r"its tokenizer is .*Tokenizer-base"):
        check_pair(small, other)


def test_a_card_names_its_tokenizer_by_its_bytes() -> None:
    codes = checkpoint(BITS)
    named = {"tokenizer_sha256": codes.sha256[WEIGHTS]}
    assert check_pair(checkpoint(BITS, card=named), codes) == "card"
    with pytest.raises(CheckpointError, match="card names another"):
        check_pair(checkpoint(BITS, card={"tokenizer_sha256": "0" * 64}), codes)


def test_an_unknown_pair_must_agree_in_its_bits_at_least() -> None:
    assert check_pair(checkpoint(BITS), checkpoint(BITS)) == "bits"
    with pytest.raises(CheckpointError, match="s2_bits is 10 and 8"):
        check_pair(checkpoint(BITS), checkpoint(BITS | {"s2_bits": 8}))


def test_a_damaged_config_is_one_line() -> None:
    bad = Checkpoint("folder", b"{", b"", {})
    with pytest.raises(CheckpointError, match=r"folder: config\.json is no JSON"):
        check_pair(bad, checkpoint(BITS))
