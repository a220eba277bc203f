"""Flow that breeds sleeves and lets into genesis what passes every gate."""

from prefect import flow

from flows.bodies.evolve import run_evolve
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="evolve", flow_run_name="evolve-{timeframe}")
def evolve(
    *,
    timeframe: str = "1d",
    as_of: str | None = None,
    years: float = 8,
    population: int = 20,
    generations: int = 1,
    seed: int = 0,
    ray: str | None = None,
    workers: int | None = None,
) -> Outcome:
    """Breed genomes; those that pass every gate over the whole search enter genesis.

    Parameters
    ----------
    timeframe : str
        `1h` or `1d`.
    as_of : str, optional
        Decision time; when the newest bar was known if not given.
    years : float
        How far back the first train span reaches.
    population, generations : int
        Genomes of a generation, and how many generations.
    seed : int
        Of the search; another one is another cycle.
    ray : str, optional
        Address of a Ray cluster that evaluates.
    workers : int, optional
        Processes of this machine that evaluate.
    """
    return run_body(
        "evolve",
        run_evolve,
        resource="lab-batch",
        timeframe=timeframe,
        as_of=as_of,
        years=years,
        population=population,
        generations=generations,
        seed=seed,
        ray=ray,
        workers=workers,
    )
