"""Renew the short-lived signatures."""

from flows.runs import Run


def renew_signatures(run: Run) -> str:
    """Sign timestamp, snapshot and shadow again, without new content.

    Parameters
    ----------
    run : Run
        Whose keys sign; its clock sets the new expiries.

    Raises
    ------
    TrustError
        If the repository or a key is missing.
    """
    report = run.workplace.repository().resign()
    return f"signed again: version {report.version}"
