"""Which workers poll pool `gpu`."""

from datetime import datetime, timedelta
from typing import Final

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import Worker
from prefect.exceptions import ObjectNotFound

from flows.prefect_steps import GPU

BEAT_S: Final = 15
ALIVE: Final = timedelta(seconds=3 * BEAT_S)


def living_workers(
    client: SyncPrefectClient, *, now: datetime, within: timedelta = ALIVE
) -> list[Worker]:
    """Return the workers of pool `gpu` that the server has heard of lately.

    Parameters
    ----------
    client : SyncPrefectClient
        The server.
    now : datetime
        Wall time, UTC.
    within : timedelta
        How long ago still counts; three of a worker's beats by default.
    """
    try:
        found = client.read_workers_for_work_pool(GPU)
    except ObjectNotFound:
        return []
    return [
        one
        for one in found
        if one.last_heartbeat_time is not None
        and one.last_heartbeat_time > now - within
    ]


def sign_off(name: str) -> None:
    """Take a worker that has ended off the pool's list, so that another may follow.

    Parameters
    ----------
    name : str
        As the server knows it.
    """
    with get_client(sync_client=True) as client:
        client.request(
            "DELETE",
            "/work_pools/{work_pool_name}/workers/{name}",
            path_params={"work_pool_name": GPU, "name": name},
        )
