"""Register the deployments of `prefect.yaml` from Python, without Prefect's command."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

PROJECT: Final = Path(__file__).resolve().parents[1]


def register_deployments(
    *, is_paused: bool, only: Collection[str] | None = None
) -> int:
    """Register the deployments that `prefect.yaml` declares.

    Parameters
    ----------
    is_paused : bool
        Keep the schedules still: a demo has no worker, and its clock stands.
    only : collection of str, optional
        These names, without their schedules; every one with them if not given.

    Returns
    -------
    int
        How many; 0 where there is no `prefect.yaml` beside the package.
    """
    path = PROJECT / "prefect.yaml"
    if not path.is_file():
        return 0
    declared = yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]
    if only is not None:
        declared = [{**one, "schedules": []} for one in declared if one["name"] in only]
    with get_client(sync_client=True) as client:
        for one in declared:
            _register(client, one, is_paused=is_paused)
    return len(declared)


def _register(
    client: SyncPrefectClient, declared: dict[str, Any], *, is_paused: bool
) -> None:
    limit = declared["concurrency_limit"]
    file, name = declared["entrypoint"].split(":")
    flow: Flow[Any, Any] = load_flow_from_entrypoint(f"{PROJECT / file}:{name}")
    client.create_deployment(
        flow_id=client.create_flow_from_name(flow.name),
        name=declared["name"],
        description=declared["description"],
        entrypoint=declared["entrypoint"],
        path=str(PROJECT),
        pull_steps=[
            {
                "prefect.deployments.steps.set_working_directory": {
                    "directory": str(PROJECT)
                }
            }
        ],
        parameters=declared.get("parameters", {}),
        parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(),
        schedules=[
            DeploymentScheduleCreate(
                schedule=CronSchedule(cron=one["cron"], timezone=one["timezone"]),
                active=not is_paused,
            )
            for one in declared.get("schedules", [])
        ],
        concurrency_limit=limit["limit"],
        concurrency_options=ConcurrencyOptions(
            collision_strategy=limit["collision_strategy"]
        ),
        work_pool_name=declared["work_pool"]["name"],
        paused=is_paused,
    )
