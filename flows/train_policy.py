"""Flow that trains the allocation policy."""

from prefect import flow

from flows.bodies.train_policy import run_train_policy
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="train-policy", flow_run_name="train-policy")
def train_policy(
    as_of: str | None = None,
    seeds: int = 5,
    iterations: int | None = None,
    seed: int = 0,
    ray: str | None = None,
) -> Outcome:
    """Train policies by walk-forward, distil them, register the table.

    Parameters
    ----------
    as_of : str, optional
        Only sleeve returns known by then; now if not given.
    seeds : int
        Trainings of each block; fewer than 5 make no challenger.
    iterations : int, optional
        Rounds of PPO for each.
    seed : int
        Of the first training.
    ray : str, optional
        Address of a Ray cluster; a Ray of this machine if not given.
    """
    return run_body(
        "train-policy",
        run_train_policy,
        resource="lab-train",
        as_of=as_of,
        seeds=seeds,
        iterations=iterations,
        seed=seed,
        ray=ray,
    )
