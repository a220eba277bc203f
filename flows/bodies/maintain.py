"""Keep the tables fast and small."""

from flows.bodies.model_registry import models_in_use
from flows.checkpoints.store import CheckpointStore
from flows.runs import Run
from lakehouse.errors import RefusedError
from lakehouse.maintenance import maintain
from lakehouse.trust.pruning import pinned_versions


def maintain_tables(run: Run) -> str:
    """Compact, order and vacuum every table; drop old sample paths and checkpoints.

    Parameters
    ----------
    run : Run
        Whose lake is maintained. Versions named by a published manifest are kept.

    Notes
    -----
    Point in time: ages of sample paths (kept 90 days) and of trained checkpoints (kept
    six months, those in use and models that may be rolled back to always) are counted by the run's clock.
    """
    lake = run.workplace.lake
    kept = {name: sorted(found) for name, found in pinned_versions(lake.root).items()}
    reports = run.commit(lambda: maintain(lake, keep_versions=kept))
    for report in reports:
        run.count("files_before", report.n_files_before)
        run.count("files_after", report.n_files_after)
        run.count("files_vacuumed", report.n_vacuumed)
        run.count("forecasts_pruned", report.n_pruned)
    try:
        in_use = models_in_use(lake)
    except RefusedError as error:
        run.notes.append(f"no checkpoint was pruned: {error}")
    else:
        gone = CheckpointStore(lake.root).prune(now=run.now, in_use=in_use)
        run.count("checkpoints_pruned", len(gone))
    run.note_written([report.table for report in reports])
    before, after = run.counts.get("files_before", 0), run.counts.get("files_after", 0)
    return f"{len(reports)} tables maintained: {before} data files are now {after}"
