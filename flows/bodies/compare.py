"""Decide between a model's champion and its challenger, and move them."""

from flows.runs import Run


def run_compare(
    run: Run, *, model: str = "winprob", as_of: str | None = None, seed: int = 0
) -> str:
    """Compare champion and challenger on the rows both predicted, and act on it.

    Parameters
    ----------
    run : Run
        Where to read and write.
    model : str
        Registered model.
    as_of : str, optional
        Only outcomes known by then count; now if not given.
    seed : int
        Of the bootstrap.
    """
    raise NotImplementedError(f"{run.flow} {model} {as_of} {seed}")
