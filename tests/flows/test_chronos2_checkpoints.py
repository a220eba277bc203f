"""Chronos-2 from folders, the Hub's cache, and adapters on it."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.checkpoints.build_chronos2 import main as build_chronos2_small
from flows.checkpoints.chronos2 import (
    Chronos2Source,
    build_chronos2,
    open_chronos2,
    open_chronos2_lora,
    read_chronos2,
)
from flows.checkpoints.chronos2_tuning import LoraSettings, tune_chronos2
from flows.checkpoints.corpus import arch_series
from flows.checkpoints.folders import Checkpoint
from flows.checkpoints.settings import ModelSettings
from flows.checkpoints.store import CheckpointStore
from lab.bars.schedules import schedule
from lab.bars.series import Series
from lab.errors import CheckpointError, TrainingError
from lab.features.events import EventEncoder
from lab.forecasters.chronos2_inputs import Chronos2View, log_levels
from lab.forecasters.chronos2_lora import adapter_files
from lab.forecasters.chronos2_windows import Stretch, held_out_loss
from tests.lab.features.toy_events import releases
from tests.lab.forecasters.chronos2_models import random_pipeline

SMALL = Path("flows/checkpoints/chronos2_small").resolve()
AS_OF = datetime(2018, 6, 1, 22, tzinfo=UTC)


def settings(source: object = "small") -> ModelSettings:
    return ModelSettings(chronos2=str(source), device="cpu")


@pytest.fixture(scope="module")
def series() -> list[Series]:
    torch.set_num_threads(1)
    return arch_series(end=AS_OF)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SMALL, tmp_path / "mine"))


def test_the_small_checkpoint_opens_with_its_card(series: list[Series]) -> None:
    found = open_chronos2(settings())
    assert found.cutoff == datetime(2015, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert set(found.card["sha256"]) == {"config.json", "model.safetensors"}
    forecasts = found.forecast(series, as_of=AS_OF, horizon=20)
    assert not any(one.is_contaminated for one in forecasts)
    early = found.forecast(series, as_of=datetime(2014, 1, 2, tzinfo=UTC), horizon=20)
    assert all(one.is_contaminated for one in early)


def test_the_bands_hold_after_the_cutoff() -> None:
    metrics = json.loads((SMALL / "card.json").read_bytes())["metrics"]
    for horizon in (1, 5, 20, 60):
        assert 0.65 <= metrics[f"coverage_{horizon}"] <= 0.92
        assert metrics[f"median_{horizon}"] < 0.25


@pytest.mark.full
def test_the_script_rebuilds_the_checkpoint(tmp_path: Path) -> None:
    assert build_chronos2_small(["--folder", str(tmp_path)]) == 0
    mine, theirs = (
        json.loads((folder / "card.json").read_bytes()) for folder in (tmp_path, SMALL)
    )
    assert mine["data"] == theirs["data"]
    assert mine["metrics"] == pytest.approx(theirs["metrics"], abs=0.05)


def test_a_folder_without_a_card_is_contaminated_throughout(
    folder: Path, series: list[Series]
) -> None:
    (folder / "card.json").unlink()
    found = open_chronos2(settings(folder))
    assert found.cutoff is None
    assert found.takes_events
    assert found.context == 384
    forecasts = found.forecast(series, as_of=AS_OF, horizon=5)
    assert all(one.is_contaminated for one in forecasts)
    assert found.version != open_chronos2(settings()).version


def test_the_version_names_the_bytes(folder: Path) -> None:
    same = read_chronos2(str(folder))
    assert same.version == read_chronos2("small").version
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "card.json").unlink()
    assert read_chronos2(str(folder)).base.fingerprint != same.base.fingerprint


def test_a_hub_id_is_found_in_the_cache_and_only_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(CheckpointError, match="nor in the Hub cache; download it"):
        read_chronos2("someone/chronos-2-mine")
    cached = tmp_path / "hub" / "models--someone--chronos-2-mine"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("a" * 40, encoding="ascii")
    shutil.move(folder, cached / "snapshots" / ("a" * 40))
    found = read_chronos2("someone/chronos-2-mine")
    assert found.base.weights == (SMALL / "model.safetensors").read_bytes()


def test_an_altered_file_is_one_line(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="not the file its card describes"):
        open_chronos2(settings(folder))
    (folder / "card.json").unlink()
    with pytest.raises(CheckpointError, match=r"mine: chronos2: model\.safe") as caught:
        open_chronos2(settings(folder))
    assert "\n" not in str(caught.value)


def test_a_pickle_is_never_loaded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="is a pickle and is never loaded"):
        open_chronos2(settings(folder))


# --- adapters ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(series: list[Series]) -> dict[str, bytes]:
    base = build_chronos2(read_chronos2("small"))
    before = {name: one.clone() for name, one in base.model.state_dict().items()}
    tuned = tune_chronos2(
        base,
        [Stretch(log_levels(one), 0, one.n_obs) for one in series],
        view=context_view(),
        settings=LoraSettings(n_steps=3, batch_size=4, rank=2, learning_rate=1e-2),
        seed=1,
    )
    for name, one in base.model.state_dict().items():
        assert torch.equal(one, before[name])
    return adapter_files(tuned)


def context_view() -> Chronos2View:
    card = json.loads((SMALL / "card.json").read_bytes())
    return Chronos2View(card["context"], is_mirrored=card["is_mirrored"])


def saved(tmp_path: Path, files: dict[str, bytes], **card: object):
    usual = {
        "created_at": "2018-06-01T00:00:00+00:00",
        "cutoff": "2018-06-01T00:00:00+00:00",
        "base_version": read_chronos2("small").version,
    }
    store = CheckpointStore(str(tmp_path))
    return store.save("chronos2-lora-index-1d", files, {**usual, **card})


def test_an_adapter_forecasts_by_its_own_name(
    tmp_path: Path, adapter: dict[str, bytes], series: list[Series]
) -> None:
    found = open_chronos2_lora(settings(), {"index-1d": saved(tmp_path, adapter)})
    one = found.forecast(series, as_of=AS_OF, horizon=20)[0]
    plain = open_chronos2(settings()).forecast(series, as_of=AS_OF, horizon=20)[0]
    assert one.model_name == "chronos2-lora"
    assert one.is_contaminated is False
    assert not np.array_equal(one.p10, plain.p10)
    np.testing.assert_allclose(one.p10, plain.p10, rtol=0.2)


def test_an_adapter_of_another_base_is_refused(
    tmp_path: Path, adapter: dict[str, bytes]
) -> None:
    other = saved(tmp_path, adapter, base_version="1.other+00000000")
    with pytest.raises(CheckpointError, match=r"trained on 1\.other.*train it again"):
        open_chronos2_lora(settings(), {"index-1d": other})
    found = open_chronos2_lora(
        settings(), {"fx-1d": other, "index-1d": saved(tmp_path / "fits", adapter)}
    )
    assert found.routes == {"index-1d"}


def test_a_folder_with_an_adapter_names_its_base(
    tmp_path: Path, adapter: dict[str, bytes], series: list[Series]
) -> None:
    for name, data in adapter.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match="names no base model"):
        read_chronos2(str(tmp_path))
    config = json.loads(adapter["adapter_config.json"])
    config["base_model_name_or_path"] = str(SMALL)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    found = open_chronos2(settings(tmp_path))
    assert found.cutoff is None
    assert "adapter_model.safetensors" in found.card["sha256"]
    assert found.card["is_mirrored"] is True
    assert found.takes_events is open_chronos2(settings()).takes_events
    assert found.forecast(series, as_of=AS_OF, horizon=5)[0].is_contaminated


@pytest.mark.parametrize(
    ("base", "adapter", "both"),
    [
        ("2015-12-31", "2018-06-01", "2018-06-01"),
        ("2020-01-01", "2018-06-01", "2020-01-01"),
        (None, "2018-06-01", None),
        ("2015-12-31", None, None),
    ],
)
def test_an_adapter_knows_all_that_its_base_may_know(
    base: str | None, adapter: str | None, both: str | None
) -> None:
    source = Chronos2Source(
        *(Checkpoint(one or "", b"{}", b"", {"cutoff": one}) for one in (base, adapter))
    )
    assert (source.card["cutoff"] or "")[:10] == (both or "")


def test_an_adapter_learns_from_events_where_the_base_takes_them() -> None:
    base, view = random_pipeline(), Chronos2View(96, is_mirrored=True)
    encoder = EventEncoder(releases(), {})
    ts = schedule("24x7", "1d").opens
    ts = ts[np.searchsorted(ts, np.datetime64("2019-01-01", "us")) :][:600]
    history = encoder.history(ts, timeframe="1d", calendar="24x7")
    levels = np.cumsum(np.random.default_rng(0).normal(0, 0.01, 600))
    stretches = [Stretch(levels, 0, 600, history)]
    tuned = tune_chronos2(
        base,
        stretches,
        view=view,
        settings=LoraSettings(n_steps=2, batch_size=32, rank=2, horizon=32),
        seed=1,
    )
    losses = [
        held_out_loss(one, stretches, view=view, horizon=32) for one in (base, tuned)
    ]
    assert losses[0].shape == losses[1].shape == (20,)
    assert not np.array_equal(losses[0], losses[1])


def test_too_few_bars_to_tune_on_are_refused() -> None:
    base = build_chronos2(read_chronos2("small"))
    with pytest.raises(TrainingError, match="no series of 312 bars"):
        tune_chronos2(
            base,
            [Stretch(np.zeros(100), 0, 100)],
            view=context_view(),
            settings=LoraSettings(),
            seed=0,
        )
