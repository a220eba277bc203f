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

    lake = run.workplace.lake
    reports = list(
        track(maintain(lake, keep_versions=published_versions(run)), "maintain tables")
    )
    run.count("tables", len(reports))
    return f"{len(reports)} tables maintained"


def published_versions(run: Run) -> dict[str, list[int]]:
    """Return the table versions that published manifests name, by table."""
    repository = run.workplace.repository()
    if not repository.is_initialised:
        return {}
    found: dict[str, list[int]] = {}
    for role in ("shadow", "live"):
        for manifest in repository.manifests(role).values():
            found.setdefault(manifest.table, []).append(manifest.table_version)
    return found
