"""Flow that trades on paper what the lab has published."""

from prefect import flow

from flows.bodies.paper import run_paper
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="paper", flow_run_name="paper-{timeframe}")
def paper(
    timeframe: str = "1h", as_of: str | None = None, *, is_backfill: bool = False
) -> Outcome:
    """Trade every bar that was not traded yet, in order; or replay phase37 alone.

    Parameters
    ----------
    timeframe : str
        `1h` or `1d`.
    as_of : str, optional
        Only bars known by then; now if not given.
    is_backfill : bool, default False
        Replay the locked baseline over the stored bars instead.
    """
    return run_body(
        "paper",
        run_paper,
        resource="lab-batch",
        timeframe=timeframe,
        as_of=as_of,
        is_backfill=is_backfill,
    )
