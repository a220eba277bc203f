"""Kronos trained on a lake's bars: every weight, and adapters by asset class."""

import numpy as np
import pytest

from flows.bodies.ingest import ingest_bars
from flows.bodies.train_kronos import cut_parts, finetune_kronos, train_kronos
from flows.checkpoints.kronos import open_kronos
from flows.checkpoints.kronos_lora import open_kronos_lora
from flows.checkpoints.models import accepted_adapters
from flows.checkpoints.settings import ModelSettings
from flows.checkpoints.store import CheckpointStore, Saved
from flows.wiring import Workplace
from lab.bars.panel import Panel
from lab.errors import CheckpointError, TrainingError
from lab.forecasters._base import ForecastRequest
from lab.forecasters.kronos.windows import WindowPlan
from lakehouse.errors import InputError
from tests.flows.conftest import run_plainly

SETTINGS = ModelSettings(kronos="compact", device="cpu")
PLAN = WindowPlan(96, 32, 8)


@pytest.fixture
def lake(workplace: Workplace) -> Workplace:
    done = run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    assert done.status == "completed", done
    return workplace


def panel(lake: Workplace) -> Panel:
    return Panel.from_tables(
        lake.lake.read("ohlcv"), lake.lake.read("instruments"), timeframe="1d"
    )


def finetuned(lake: Workplace, **options) -> Saved:
    done = run_plainly(
        "kronos-rolling-finetune",
        finetune_kronos,
        **{"timeframe": "1d", "asset_class": "index", "steps": 3, **options},
    )
    assert done.status == "completed", done
    kept = CheckpointStore(lake.root).newest("kronos-lora-index-1d")
    assert kept is not None
    return kept


def test_an_adapter_is_trained_judged_kept_and_forecasts_by_its_route(
    lake: Workplace,
) -> None:
    kept = finetuned(lake, steps=8)
    metrics = kept.card["metrics"]
    assert kept.card["is_accepted"] == (metrics["ce"] < metrics["ce_base"])
    assert metrics["judged_windows"] >= 8
    assert kept.card["cutoff"].startswith("2018-09-2")
    assert set(kept.files) >= {"adapter_config.json", "adapter_model.safetensors"}
    expected = {"index-1d"} if kept.card["is_accepted"] else set()
    assert set(accepted_adapters("kronos", lake)) == expected
    found = open_kronos_lora(SETTINGS, {"index-1d": kept})
    assert found.cutoff == kept.cutoff
    series, as_of = panel(lake).series["SP500"], lake.clock.now()
    asked = [ForecastRequest(series.until(as_of), as_of)]
    base = open_kronos(SETTINGS)
    before = base.forecast_requests(asked, horizon=5, n_samples=9)[0]
    tuned = found.forecast_requests(asked, horizon=5, n_samples=9)[0]
    after = base.forecast_requests(asked, horizon=5, n_samples=9)[0]
    assert np.array_equal(before.samples, after.samples)
    assert np.array_equal(before.samples, tuned.samples) == (metrics["best_step"] == 0)
    assert not tuned.is_contaminated
    other = Saved(
        kept.name, kept.version, {**kept.card, "base_version": "x"}, kept.files
    )
    with pytest.raises(CheckpointError, match="trained on x"):
        open_kronos_lora(SETTINGS, {"index-1d": other})


def test_the_same_seed_trains_the_same_adapter_on_what_was_known(
    lake: Workplace,
) -> None:
    first, second = (
        finetuned(lake, steps=1, as_of="2017-01-01", seed=5) for _ in range(2)
    )
    assert first.version == second.version
    assert first.card["cutoff"] == "2016-12-30T21:00:00+00:00"
    assert first.card["data"]["SP500"]["last"] == "2016-12-30T00:00:00.000000"


def test_a_fully_tuned_predictor_opens_with_its_tokenizer(lake: Workplace) -> None:
    done = run_plainly(
        "train-kronos", train_kronos, timeframe="1d", steps=500, max_minutes=1e-4
    )
    assert done.status == "completed", done
    store = CheckpointStore(lake.root)
    kept, codes = store.newest("kronos-1d"), store.newest("kronos-tokenizer-1d")
    assert kept is not None
    assert codes is not None
    [told] = [note for note in done.notes if note.startswith("forecast with it: ")]
    named = dict(word.split("=", 1) for word in told.split(": ", 1)[1].split())
    found = open_kronos(
        ModelSettings(
            kronos=named["ALPHALAKE_KRONOS"],
            kronos_tokenizer=named["ALPHALAKE_KRONOS_TOKENIZER"],
            device="cpu",
        )
    )
    assert kept.version in named["ALPHALAKE_KRONOS"]
    assert codes.version in named["ALPHALAKE_KRONOS_TOKENIZER"]
    assert found.cutoff == kept.cutoff
    assert kept.card["metrics"]["steps"] < 50
    assert found.context == open_kronos(SETTINGS).context


def test_windows_to_learn_stop_and_judge_by_follow_each_other(lake: Workplace) -> None:
    series = [panel(lake).series[name] for name in ("SP500", "NASDAQ")]
    split, judged, _ = cut_parts(series, plan=PLAN, what="index 1d")
    assert split.train.last_ts().max() < split.validation.first_ts().min()
    assert split.validation.last_ts().max() < judged.first_ts().min()


def test_too_few_bars_are_refused_with_the_reason(lake: Workplace) -> None:
    with pytest.raises(InputError, match="no 1h bars known"):
        run_plainly("f", finetune_kronos, timeframe="1h")
    with pytest.raises(InputError, match="classes with bars: index"):
        run_plainly("f", finetune_kronos, timeframe="1d", asset_class="fx")
    with pytest.raises(TrainingError, match="index 1d: not trained: "):
        run_plainly("f", finetune_kronos, timeframe="1d", as_of="1999-12-01")
    with pytest.raises(InputError, match="later than now"):
        run_plainly("f", train_kronos, timeframe="1d", as_of="2019-06-01")
