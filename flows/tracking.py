"""MLflow as a mirror of the registry."""

from flows.runs import Run
from lab.lifecycle.model_stages import Registry


def mirror_models(run: Run, registry: Registry) -> None:
    """Bring MLflow up to the registry; say so on the run's notes if it is down.

    Parameters
    ----------
    run : Run
        Whose notes and root.
    registry : Registry
        What the chain says.
    """
    _ = run, registry
