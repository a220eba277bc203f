"""Keep the tables fast and small."""

from lakehouse.maintenance import maintain

from flows.progress import track
from flows.runs import Run
from lakehouse.trust.publishing import pinned_versions


def maintain_tables(run: Run) -> str:
    """Compact, order, checkpoint and vacuum every table.

    Parameters
    ----------
    run : Run
        Whose lake is maintained. Versions named by a published manifest are kept.
    """
    workplace = run.workplace
    pinned = pinned_versions(workplace.root)
    reports = list(
        track(maintain(workplace.lake, keep_versions=pinned), "maintain tables")
    )
    run.count("tables", len(reports))
    return f"{len(reports)} tables maintained"
