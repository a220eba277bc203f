"""Say that the lab is up."""

from datetime import timedelta

from flows.runs import Run
from flows.telemetry import telemetry_rows

SLOT = timedelta(minutes=5)


def beat(run: Run) -> str:
    """Write `lab.heartbeat`, once per five minutes."""
    now = run.now
    slot = now - timedelta(
        minutes=now.minute % 5, seconds=now.second, microseconds=now.microsecond
    )
    rows = telemetry_rows({"lab.heartbeat": (1.0, "1")}, ts=slot, run_id="heartbeat")
    written = run.append(
        "telemetry", rows, window=f"heartbeat/telemetry/{slot.isoformat()}"
    )
    return "beat" if written.is_new else "this slot has its beat already"
