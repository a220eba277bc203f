"""Kronos' weights in folders and in the Hub's cache."""

import json
from pathlib import Path

import pytest

from flows.checkpoints.kronos import build_pair, read_pair, write_folder
from flows.checkpoints.pairing import PUBLISHED
from flows.checkpoints.settings import load_model_settings
from lab.errors import CheckpointError
from tests.simulators.kronos import modules

CARD = {"name": "tiny", "cutoff": "2015-12-31T00:00:00+00:00", "window": 48}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "tiny", *modules(), card=CARD)
    return tmp_path / "tiny"


def test_what_was_written_opens_with_the_same_bytes(folder: Path) -> None:
    pair = read_pair(str(folder))
    assert pair.rests_on == "card"
    assert pair.window == 48
    assert pair.version.startswith("tiny+")
    codes, network = build_pair(pair)
    write_folder(folder.with_name("again"), codes, network, card=CARD)
    assert read_pair(str(folder.with_name("again"))).sha256 == pair.sha256
    assert not network.training
    assert not codes.training


def test_a_version_can_stand_in_a_path_whatever_the_folder_is_called(
    folder: Path,
) -> None:
    odd = folder.with_name("my weights, é / v2".replace("/", "_"))
    folder.rename(odd)
    (odd / "model" / "card.json").unlink()
    assert read_pair(str(odd)).version.startswith("my-weights-_-v2+")


def test_a_hub_id_is_found_in_the_cache_with_its_published_tokenizer(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for half, name in (
        ("model", "NeoQuasar/Kronos-small"),
        ("tokenizer", PUBLISHED["NeoQuasar/Kronos-small"]),
    ):
        place = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        snapshot = place / "snapshots" / "abc"
        snapshot.parent.mkdir(parents=True)
        (folder / half).rename(snapshot)
        (snapshot / "card.json").unlink(missing_ok=True)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("abc")
    pair = read_pair("NeoQuasar/Kronos-small")
    assert pair.tokenizer.source == "NeoQuasar/Kronos-Tokenizer-base"
    assert pair.card["pairing"] == "bits"
    assert "cutoff" not in pair.card
    build_pair(pair)


def test_what_is_nowhere_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(CheckpointError, match="neither a folder here nor in the Hub"):
        read_pair("NeoQuasar/Kronos-mini")
    with pytest.raises(CheckpointError, match="no such folder, and no Hub id"):
        read_pair(str(tmp_path / "nowhere"))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(CheckpointError, match=r"is a file; give the folder of config"):
        read_pair(str(tmp_path / "model.safetensors"))


def test_an_empty_setting_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHALAKE_KRONOS", "")
    monkeypatch.setenv("ALPHALAKE_KRONOS_TOKENIZER", "")
    settings = load_model_settings()
    assert (settings.kronos, settings.kronos_tokenizer) == ("compact", None)


def test_a_predictor_without_a_known_tokenizer_asks_for_one(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"which tokenizer\? give ALPHALAKE"):
        read_pair(str(folder / "model"))
    assert read_pair(str(folder / "model"), str(folder / "tokenizer")).version


def test_a_file_that_its_card_does_not_describe_is_refused(folder: Path) -> None:
    card = folder / "model" / "card.json"
    stated = json.loads(card.read_text())
    stated["sha256"]["config.json"] = "0" * 64
    card.write_text(json.dumps(stated))
    with pytest.raises(CheckpointError, match=r"config\.json is not the file its card"):
        read_pair(str(folder))


@pytest.mark.parametrize("cut", [0, 7, 100, -1], ids=str)
def test_truncated_weights_are_one_line(folder: Path, cut: int) -> None:
    card = folder / "model" / "card.json"
    card.unlink()
    weights = folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=r"kronos .*tiny: ") as caught:
        build_pair(read_pair(str(folder)))
    assert "\n" not in str(caught.value)


def test_weights_in_a_pickle_are_never_loaded(folder: Path) -> None:
    weights = folder / "model" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a pickle"):
        read_pair(str(folder))


def test_opening_leaves_torch_four_threads_at_most() -> None:
    import torch

    from flows.checkpoints.kronos import open_kronos
    from flows.checkpoints.settings import ModelSettings

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(6)
        open_kronos(ModelSettings(device="cpu"))
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
