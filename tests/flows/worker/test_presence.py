"""What the heartbeat says of pool `gpu`."""

import pytest

from flows.bodies.heartbeat import beat
from lakehouse.clock import Clock
from lakehouse.store import Lake
from tests.flows.conftest import run_plainly
from tests.simulators.places import Place


@pytest.mark.parametrize(
    ("n_workers", "said", "figures"),
    [
        (0, "beat; no worker polls pool gpu", {"gpu.workers": 0.0}),
        (1, "beat", {"gpu.workers": 1.0}),
        (None, "beat", {}),
    ],
)
def test_the_heartbeat_says_whether_a_worker_polls(
    place: Place, n_workers: int | None, said: str, figures: dict[str, float]
):
    assert run_plainly("heartbeat", beat, gpu_workers=n_workers).message == said
    rows = Lake.open(place.root, clock=Clock()).read("telemetry").to_pylist()
    found = {row["name"]: row["value"] for row in rows if row["run_id"] == "heartbeat"}
    assert found == {"lab.heartbeat": 1.0, **figures}
