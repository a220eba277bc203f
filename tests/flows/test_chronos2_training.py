"""Chronos-2 trained on a lake's bars: from scratch, and adapters by asset class."""

import json

import pytest

from flows.bodies.ingest import ingest_bars
from flows.bodies.train_chronos2 import finetune_chronos2, train_chronos2
from flows.checkpoints.chronos2 import open_chronos2, open_chronos2_lora
from flows.checkpoints.models import accepted_adapters
from flows.checkpoints.settings import ModelSettings
from flows.checkpoints.store import CheckpointStore
from flows.wiring import Workplace
from lab.errors import TrainingError
from lakehouse.errors import InputError
from tests.flows.conftest import run_plainly


@pytest.fixture
def lake(workplace: Workplace) -> Workplace:
    done = run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    assert done.status == "completed", done
    return workplace


def test_an_adapter_is_trained_judged_and_kept(lake: Workplace) -> None:
    done = run_plainly(
        "chronos2-rolling-finetune",
        finetune_chronos2,
        timeframe="1d",
        asset_class="index",
        steps=3,
    )
    assert done.status == "completed", done
    kept = CheckpointStore(lake.root).newest("chronos2-lora-index-1d")
    assert kept is not None
    metrics = kept.card["metrics"]
    assert kept.card["is_accepted"] == (metrics["loss"] < metrics["loss_base"])
    assert metrics["n_windows"] > 20
    assert kept.card["cutoff"].startswith("2018-09-2")
    adapters = {"index-1d": kept}
    settings = ModelSettings(chronos2="small", device="cpu")
    found = open_chronos2_lora(settings, adapters)
    assert found.cutoff == kept.cutoff
    expected = {"index-1d"} if kept.card["is_accepted"] else set()
    assert set(accepted_adapters("chronos2", lake)) == expected


def test_a_model_from_scratch_opens_from_the_lakes_folder(lake: Workplace) -> None:
    done = run_plainly("train-chronos2", train_chronos2, timeframe="1d", steps=3)
    assert done.status == "completed", done
    kept = CheckpointStore(lake.root).newest("chronos2-1d")
    assert kept is not None
    folder = f"{lake.root}/models/chronos2-1d/{kept.version}"
    found = open_chronos2(ModelSettings(chronos2=folder, device="cpu"))
    assert found.cutoff == kept.cutoff
    assert found.context == 192
    assert json.loads(json.dumps(kept.card["data"]))["SP500"]["bars"] > 4000


def test_what_was_not_known_is_not_trained_on(lake: Workplace) -> None:
    run_plainly(
        "train-chronos2", train_chronos2, timeframe="1d", steps=1, as_of="2012-01-01"
    )
    kept = CheckpointStore(lake.root).newest("chronos2-1d")
    assert kept is not None
    assert kept.card["cutoff"] == "2011-12-30T21:00:00+00:00"


def test_a_lake_without_such_bars_is_refused(lake: Workplace) -> None:
    with pytest.raises(InputError, match="no 1h bars known"):
        run_plainly("f", finetune_chronos2, timeframe="1h")
    with pytest.raises(InputError, match="classes with bars: index"):
        run_plainly("f", finetune_chronos2, timeframe="1d", asset_class="fx")
    with pytest.raises(TrainingError, match="600 are needed"):
        run_plainly("f", finetune_chronos2, timeframe="1d", as_of="1999-06-01")
    with pytest.raises(InputError, match="later than now"):
        run_plainly("f", train_chronos2, timeframe="1d", as_of="2019-06-01")
