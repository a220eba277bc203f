"""Keep the tables fast and small."""

from flows.progress import track
from flows.runs import Run


def maintain_tables(run: Run) -> str:
    """Compact, order, checkpoint and vacuum every table.

    Parameters
    ----------
    run : Run
        Whose lake is maintained. Versions named by a published manifest are kept.
    """
    from lakehouse.maintenance import maintain
    from lakehouse.trust.pruning import pinned_versions

    lake = run.workplace.lake
    reports = list(
        track(
            maintain(lake, keep_versions=pinned_versions(lake.root)), "maintain tables"
        )
    )
    run.count("tables", len(reports))
    return f"{len(reports)} tables maintained"
