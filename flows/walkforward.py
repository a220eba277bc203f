"""Flow that walks every sleeve forward."""

from prefect import flow

from flows.bodies.walkforward import run_walkforward
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="walk-forward", flow_run_name="walk-forward-{timeframe}")
def walk_forward(
    *,
    sleeves: list[str] | None = None,
    timeframe: str = "1d",
    as_of: str | None = None,
    years: float = 8,
    train_days: int = 180,
    test_days: int = 30,
    slippage: str = "0,5,10,20",
    ray: str | None = None,
    workers: int | None = None,
) -> Outcome:
    """Walk the baseline and every candidate forward, then judge them by the gates.

    Parameters
    ----------
    sleeves : list of str, optional
        Only these beside the baseline; else all.
    timeframe : str
        `1h` or `1d`.
    as_of : str, optional
        Use only what was known then; else the newest bars.
    years : float
        How far back the first train span may reach.
    train_days, test_days : int
        Lengths of the spans in calendar days.
    slippage : str
        Cost ladder: basis points a unit of turnover, separated by commas.
    ray : str, optional
        Address of a Ray cluster, or `local`.
    workers : int, optional
        Processes of this machine; one a core if not given.
    """
    return run_body(
        "walk-forward",
        run_walkforward,
        resource="lab-batch",
        sleeves=sleeves,
        timeframe=timeframe,
        as_of=as_of,
        years=years,
        train_days=train_days,
        test_days=test_days,
        slippage=slippage,
        ray=ray,
        workers=workers,
    )
