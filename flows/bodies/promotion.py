"""Move models between stages by hand or on an alarm: promote and roll back."""

from flows.runs import Run


def run_promote(run: Run, *, model: str, version: str, why: str) -> str:
    """Make a version the champion; the one before is archived.

    Parameters
    ----------
    run : Run
        Where to read and write.
    model, version : str
        A registered version.
    why : str
        Reason, in words.
    """
    raise NotImplementedError(f"{run.flow} {model} {version} {why}")


def run_rollback(
    run: Run, *, model: str = "winprob", why: str, cause: str = "manual"
) -> str:
    """Return to the newest archived version whose artefact still verifies.

    Parameters
    ----------
    run : Run
        Where to read and write.
    model : str
        Whose champion is taken back.
    why : str
        Reason, in words.
    cause : str
        `manual`, `drift` or `performance`.
    """
    raise NotImplementedError(f"{run.flow} {model} {why} {cause}")
