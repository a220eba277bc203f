"""The files of a trained policy: tables and networks, in formats that run no code.

- `lookup.json`: the table that is published, of the mean of all seeds.
- `table-K.json`, `network-K.safetensors`: each seed's table and network.
- `config.json`: how it was trained, on what, and what its numbers mean.
- `reference.arrow`: profile of the training states, what drift is measured from.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from flows.manifests import to_json
from flows.policy_training.inputs import PolicyInputs
from flows.policy_training.walk import PolicyPlan, Trained
from lab.bars.timeframes import to_moment
from lab.drift.profile import ReferenceProfile
from lab.errors import PolicyError
from lab.policy.lookup import Lookup
from lab.policy.rewards import HOLD_DAYS
from lab.policy.state import market_states

LOOKUP: Final = "lookup.json"
CONFIG: Final = "config.json"
REFERENCE: Final = "reference.arrow"


def policy_files(
    inputs: PolicyInputs, plan: PolicyPlan, trained: Trained
) -> dict[str, bytes]:
    """Return the files of a training, equal trainings as equal bytes.

    Parameters
    ----------
    inputs : PolicyInputs
        What was trained on.
    plan : PolicyPlan
        How.
    trained : Trained
        What came of it.
    """
    files = {
        LOOKUP: trained.table.to_json(),
        CONFIG: to_json(policy_config(inputs, plan)).encode(),
        REFERENCE: _profile(inputs, plan, trained).to_bytes(),
    }
    for number, network in enumerate(trained.networks):
        files[f"network-{number}.safetensors"] = network.to_bytes()
        files[f"table-{number}.json"] = trained.tables[number].to_json()
    return files


def policy_config(inputs: PolicyInputs, plan: PolicyPlan) -> dict[str, Any]:
    """Return what `config.json` says.

    Parameters
    ----------
    inputs : PolicyInputs
        What is trained on.
    plan : PolicyPlan
        How.
    """
    days = inputs.days
    names = market_states(days, plan.states).names
    return {
        "sleeves": list(days.sleeves),
        "timeframe": inputs.timeframe,
        "slippage_bps": inputs.slippage_bps,
        "walk_run": inputs.walk_run,
        "cutoff": to_moment(days.known_ts[-1]),
        "features": list(names),
        "hold_days": HOLD_DAYS,
        "plan": asdict(plan),
    }


def schema_sha256(config: Mapping[str, Any]) -> str:
    """Return the hash of what a policy's states are made of.

    Parameters
    ----------
    config : mapping
        As `policy_config` returns it, or read from `config.json`.
    """
    said = {"features": config["features"], "states": config["plan"]["states"]}
    return hashlib.sha256(to_json(said).encode()).hexdigest()


def read_config(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return `config.json` of a registered policy.

    Raises
    ------
    PolicyError
        If it is missing or damaged.
    """
    try:
        config = json.loads(files[CONFIG])
        return {**config, "plan": {**config["plan"]}}
    except (KeyError, ValueError, TypeError) as error:
        raise PolicyError(f"policy: {CONFIG} is damaged: {error}") from error


def read_tables(files: Mapping[str, bytes]) -> tuple[Lookup, ...]:
    """Return the seeds' tables of a registered policy, in their order.

    Raises
    ------
    PolicyError
        If one is damaged, or there are none.
    """
    numbers = [name for name in files if name.startswith("table-")]
    if not numbers:
        raise PolicyError("policy: no table of any seed")
    return tuple(
        Lookup.from_json(files[f"table-{number}.json"])
        for number in range(len(numbers))
        if f"table-{number}.json" in files
    )


def _profile(
    inputs: PolicyInputs, plan: PolicyPlan, trained: Trained
) -> ReferenceProfile:
    states = market_states(inputs.days, plan.states)
    rows = np.arange(states.warm_up, inputs.days.n_days)
    # Drawdowns as they were met: none before the first day out of sample.
    drawdowns = np.zeros(inputs.days.n_days)
    drawdowns[trained.table_walk.rows] = trained.table_walk.drawdowns
    seen = states.many(rows, drawdowns[rows])
    return ReferenceProfile.of(seen, states.names, times=inputs.days.known_ts[rows])
