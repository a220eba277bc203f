"""Flow that scores forecasts whose targets have settled and judges their skill."""

from prefect import flow

from flows.bodies.score import score_settled
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="score-signals", flow_run_name="score-{timeframe}")
def score_signals(timeframe: str, as_of: str | None = None) -> Outcome:
    """Score every forecast × horizon that is settled and not scored yet, then judge.

    Parameters
    ----------
    timeframe : str
        `1h` or `1d`.
    as_of : str, optional
        Only bars known by then count; now if not given.
    """
    return run_body(
        "score-signals",
        score_settled,
        resource="lab-batch",
        timeframe=timeframe,
        as_of=as_of,
    )
