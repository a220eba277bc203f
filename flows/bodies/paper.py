"""Trade on paper, bar by bar: what the verified artefacts and newest forecasts say."""

from flows.bodies.paper_backfill import run_backfill
from flows.runs import Run
from lab.bars.timeframes import step
from lakehouse.errors import RefusedError


def run_paper(
    run: Run,
    *,
    timeframe: str = "1h",
    as_of: str | None = None,
    is_backfill: bool = False,
) -> str:
    """Trade every bar that was not traded yet, in order; or replay phase37 alone.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1h` or `1d`.
    as_of : str, optional
        Only bars known by then; now if not given.
    is_backfill : bool, default False
        Replay the locked baseline over all stored bars, see `run_backfill`.
    """
    step(timeframe)
    if is_backfill:
        return run_backfill(run, timeframe=timeframe, as_of=as_of)
    raise RefusedError("paper trading needs --backfill for now")
