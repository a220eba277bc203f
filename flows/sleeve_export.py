"""Flow that exports the out-of-sample sleeve returns."""

from prefect import flow

from flows.bodies.sleeve_export import run_sleeve_export
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="sleeve-returns-export")
def sleeve_returns_export(as_of: str | None = None) -> Outcome:
    """Export `sleeve_returns_v1` as Parquet beside the tables, if it changed.

    Parameters
    ----------
    as_of : str, optional
        Decision time; the clock's now if not given.
    """
    return run_body(
        "sleeve-returns-export",
        run_sleeve_export,
        resource="lab-publish",
        as_of=as_of,
    )
