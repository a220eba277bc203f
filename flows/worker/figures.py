"""What one run cost, as a line for a person and as rows of `telemetry`."""

from dataclasses import dataclass, field
from datetime import datetime

from flows.telemetry import telemetry_rows
from flows.wiring import Workplace


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What is reported of a run.

    Attributes
    ----------
    run_id : str
        Prefect's id of the run.
    attempt : int
        First, second, ... time that it runs.
    name, state, message : str
        Name of the run, how it ended, and why in one line.
    queued_s, seconds : float
        From the scheduled to the real start, and from there to the end.
    device : str
        `cpu`, `cuda` or `mps`.
    memory : dict of str to int
        Bytes by name, as `devices.peak_memory` returns them.
    """

    run_id: str
    attempt: int
    name: str
    state: str
    message: str
    queued_s: float
    seconds: float
    device: str
    memory: dict[str, int] = field(default_factory=dict)

    def line(self) -> str:
        """Return the figures for a person."""
        used = max(self.memory.values(), default=0) / 2**30
        why = f": {self.message}" if self.message else ""
        return (
            f"{self.name} {self.state}{why}  (queued {self.queued_s:.1f} s,"
            f" ran {self.seconds:.1f} s, {used:.2f} GiB)"
        )


def report_figures(workplace: Workplace, figures: RunFigures, *, ts: datetime) -> None:
    """Append a run's figures to `telemetry`, once per run and attempt.

    Raises
    ------
    LakehouseError
        If they cannot be written.
    """
    values = {
        "worker.queue_seconds": (figures.queued_s, "s"),
        "worker.run_seconds": (figures.seconds, "s"),
        "worker.is_completed": (float(figures.state == "Completed"), "1"),
        **{
            f"worker.{name}": (float(n_bytes), "B")
            for name, n_bytes in figures.memory.items()
        },
    }
    rows = telemetry_rows(
        values,
        ts=ts,
        run_id=figures.run_id,
        labels={"device": figures.device, "run": figures.name},
    )
    workplace.lake.append(
        "telemetry",
        rows,
        window=f"worker/telemetry/{figures.run_id}/{figures.attempt}",
    )
