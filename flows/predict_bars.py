"""Flow that puts new bars to the registered models of forward returns."""

from prefect import flow

from flows.bodies.bar_predictions import run_predict_bars
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="predict-bars", flow_run_name="predict-bars-{timeframe}")
def predict_bars(timeframe: str = "1d", as_of: str | None = None) -> Outcome:
    """Settle earlier predictions of `gbm-<timeframe>` and predict new bars.

    Parameters
    ----------
    timeframe : str
        `1d` or `1h`.
    as_of : str, optional
        Use only what was known then; now if not given.
    """
    return run_body(
        "predict-bars",
        run_predict_bars,
        resource="lab-batch",
        timeframe=timeframe,
        as_of=as_of,
    )
