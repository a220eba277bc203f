"""A family's batch: the base and its twin, in one run."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
import torch

from flows.bodies.batch import run_batch
from flows.bodies.ingest import ingest_bars
from flows.checkpoints.kronos import build_pair, read_pair
from flows.checkpoints.store import CheckpointStore, Saved
from flows.runs import execute
from flows.wiring import Workplace
from flows.worker.warming import load_models
from lab.forecasters.kronos.lora import LoraSettings, add_lora
from lakehouse.clock import Clock
from lakehouse.store import Lake
from tests.flows.conftest import run_plainly

BEFORE = datetime(2018, 9, 27, tzinfo=UTC)
AFTER = datetime(2018, 9, 28, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TurningClock(Clock):
    """A clock whose day turns while forecasts are written."""

    lake: Lake | None = None

    def now(self) -> datetime:
        """Return the day before while nothing is forecast."""
        assert self.lake is not None
        return AFTER if self.lake.version("ml_predictions") is not None else BEFORE


def save_adapter(workplace: Workplace) -> Saved:
    """Keep an accepted adapter of the compact Kronos for indices' daily bars."""
    pair = read_pair("compact")
    generator = torch.Generator().manual_seed(0)
    adapted = add_lora(build_pair(pair)[1], LoraSettings(rank=2), generator)
    return CheckpointStore(workplace.root).save(
        "kronos-lora-index-1d",
        adapted.files(),
        {
            "created_at": "2018-01-01",
            "cutoff": "2018-01-01",
            "base_version": pair.version,
            "is_accepted": True,
        },
    )


def test_a_twin_forecasts_as_of_its_bases_moment_and_both_are_on_record(
    workplace: Workplace,
) -> None:
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    save_adapter(workplace)
    turning = replace(workplace, clock=TurningClock(lake=workplace.lake))
    done = execute(
        "kronos-batch",
        run_batch,
        workplace=turning,
        parameters={"model": "kronos", "timeframe": "1d"},
    )
    assert done.notes == ()
    stored = workplace.lake.read("ml_predictions", columns=["model_name", "as_of"])
    assert stored.num_rows == 4
    assert len(pc.unique(stored["as_of"])) == 1
    assert set(done.parameters["checkpoints"]) == {"kronos", "kronos-lora"}


def test_damaged_adapters_leave_the_bases_forecasts_alone(workplace: Workplace) -> None:
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    folder = CheckpointStore(workplace.root).folder(save_adapter(workplace))
    weights = Path(folder) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    done = run_plainly("kronos-batch", run_batch, model="kronos", timeframe="1d")
    assert done.message.startswith("kronos 1d: 2 forecasts")
    (note,) = done.notes
    assert "kronos-lora 1d: not forecast: checkpoint kronos-lora-index-1d" in note
    assert note.endswith("adapter_model.safetensors is altered")

    said: list[str] = []
    load_models(workplace, said.append)
    assert [line.split()[0] for line in said] == ["kronos", "kronos-lora", "chronos2"]
    assert [" loaded in " in line for line in said] == [True, False, True]
    assert said[1].endswith("adapter_model.safetensors is altered")
