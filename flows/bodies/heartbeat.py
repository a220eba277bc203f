"""Say that the lab is up."""

from datetime import timedelta

from flows.runs import Run
from flows.telemetry import telemetry_rows

SLOT = timedelta(minutes=5)


def beat(run: Run, *, gpu_workers: int | None = None) -> str:
    """Write `lab.heartbeat`, once per five minutes.

    Parameters
    ----------
    run : Run
        Where to write.
    gpu_workers : int, optional
        Workers that poll pool `gpu`, written as `gpu.workers`; unknown if not given.
    """
    now = run.now
    slot = now - timedelta(
        minutes=now.minute % 5, seconds=now.second, microseconds=now.microsecond
    )
    figures = {"lab.heartbeat": (1.0, "1")}
    if gpu_workers is not None:
        figures["gpu.workers"] = (float(gpu_workers), "1")
    rows = telemetry_rows(figures, ts=slot, run_id="heartbeat")
    written = run.append(
        "telemetry", rows, window=f"heartbeat/telemetry/{slot.isoformat()}"
    )
    said = "beat" if written.is_new else "this slot has its beat already"
    return f"{said}; no worker polls pool gpu" if gpu_workers == 0 else said
