"""`/admin`: operations, by bearer token. Only here may unsigned telemetry be shown."""

import asyncio
from typing import Any

from litestar import Controller, Request, Response, get

from lakehouse.errors import LakehouseError
from serve.gateway import Gateway, GatewayPart
from serve.laboratory import LabReport
from serve.problems import documented
from serve.pulls import PullLogError
from serve.schemas import AdminHealth, Pull

_UNKNOWN = LabReport(uptime=None, runs=None, substrate=None)


class AdminController(Controller):
    """The lab and its consumers at a glance."""

    path = "/admin"
    tags = ("admin",)

    @get(
        "/health",
        operation_id="readAdminHealth",
        summary="Lab uptime, pulls, last runs, substrate",
        security=[{"admin": []}],
        responses=documented(401, 414, 429),
    )
    async def read_health(
        self, request: Request[Any, Any, Any], gateway: GatewayPart
    ) -> Response[AdminHealth]:
        """Return the gateway's own state and what the lab says of itself."""
        gateway.tokens.require(request.headers.get("authorization"), "admin")
        lab, problem = await _read(gateway)
        consumers = [
            role.removeprefix("consumer:")
            for role in gateway.tokens.book().digests
            if role.startswith("consumer:")
        ]
        pulls: list[Pull] = []
        try:
            pulls = await asyncio.to_thread(gateway.pulls.summary, consumers)
        except PullLogError as error:
            problem = "; ".join(filter(None, (problem, str(error))))
        health = AdminHealth(
            gateway=gateway.status(),
            consumers=pulls,
            refused_total=dict(gateway.refresher.refused_total),
            unsigned=True,
            lab_uptime=lab.uptime,
            last_runs=lab.runs,
            substrate=lab.substrate,
            telemetry_problem=problem,
        )
        return Response(health, headers={"Cache-Control": "no-store"})


async def _read(gateway: Gateway) -> tuple[LabReport, str | None]:
    root, now = gateway.settings.root, gateway.clock.now()
    if root.startswith(("http://", "https://")):
        return _UNKNOWN, "the root is another gateway: its telemetry is not shown"
    try:
        return await gateway.laboratory.read(now=now), None
    except (LakehouseError, OSError) as error:
        return _UNKNOWN, " ".join(str(error).split())
