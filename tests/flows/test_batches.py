"""A family's batch: the base and its twin, in one run."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow.compute as pc
import torch

from flows.bodies.batch import run_batch
from flows.bodies.ingest import ingest_bars
from flows.checkpoints.kronos import build_pair, read_pair
from flows.checkpoints.store import CheckpointStore
from flows.runs import execute
from flows.wiring import Workplace
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


def test_a_twin_forecasts_as_of_its_bases_moment_and_both_are_on_record(
    workplace: Workplace,
) -> None:
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    pair = read_pair("compact")
    generator = torch.Generator().manual_seed(0)
    adapted = add_lora(build_pair(pair)[1], LoraSettings(rank=2), generator)
    CheckpointStore(workplace.root).save(
        "kronos-lora-index-1d",
        adapted.files(),
        {
            "created_at": "2018-01-01",
            "cutoff": "2018-01-01",
            "base_version": pair.version,
            "is_accepted": True,
        },
    )
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
