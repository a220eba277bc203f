"""Keep the tables fast and small."""

from flows.runs import Run
from lakehouse.maintenance import maintain
from lakehouse.trust.pruning import pinned_versions


def maintain_tables(run: Run) -> str:
    """Compact, order, checkpoint and vacuum every table; drop old sample paths.

    Parameters
    ----------
    run : Run
        Whose lake is maintained. Versions named by a published manifest are kept.

    Notes
    -----
    Point in time: the age of sample paths is counted by the run's clock.
    """
    lake = run.workplace.lake
    kept = {name: sorted(found) for name, found in pinned_versions(lake.root).items()}
    reports = run.commit(lambda: maintain(lake, keep_versions=kept))
    for report in reports:
        run.count("files_before", report.n_files_before)
        run.count("files_after", report.n_files_after)
        run.count("files_vacuumed", report.n_vacuumed)
        run.count("forecasts_pruned", report.n_pruned)
    run.note_written([report.table for report in reports])
    before, after = run.counts.get("files_before", 0), run.counts.get("files_after", 0)
    return f"{len(reports)} tables maintained: {before} data files are now {after}"
