"""Train the allocation policy, walk it forward, register it beside its benchmarks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flows.bodies.model_registry import (
    Bound,
    ModelVersion,
    enter_model,
    load_files,
    read_registry,
)
from flows.bodies.moments import decision_moment
from flows.bodies.winprob_artefact import enter_candidate
from flows.runs import Run
from lab.arrays import FloatArray, TimeArray
from lab.backtest.figures import figures
from lab.bars.timeframes import to_moment
from lab.errors import PolicyError
from lab.evaluation.decisions import record_decision
from lab.lifecycle.model_stages import STAGING
from lab.policy.benchmarks import BASELINE, baseline, buy_and_hold, equal_weight
from lakehouse.errors import InputError, RefusedError

if TYPE_CHECKING:
    from flows.policy_training.inputs import PolicyInputs
    from flows.policy_training.walk import PolicyPlan, Trained

MODEL: Final = "policy"
SEEDS_MIN: Final = 5
RECENT_DAYS: Final = 28
THRESHOLDS: Final = (Bound("n_seeds", at_least=SEEDS_MIN),)
"""Of a challenger; whether it is better than the champion is for `compare` to say."""

_TRAINER: Final = "train-policy"


def run_train_policy(
    run: Run,
    *,
    as_of: str | None = None,
    seeds: int = SEEDS_MIN,
    iterations: int | None = None,
    seed: int = 0,
    ray: str | None = None,
) -> str:
    """Train policies by walk-forward, distil them, register the table.

    The newest version and the champion are told on their days out of sample: rows of
    `model_predictions`, from which `compare` decides. Buy-and-hold, equal weight and
    the locked baseline over the same days stand beside it, whatever they show.

    Parameters
    ----------
    run : Run
        Where to read and write.
    as_of : str, optional
        Only returns known by then; now if not given.
    seeds : int
        Trainings of each block; with fewer than 5 it is registered, and no challenger.
    iterations : int, optional
        Rounds of PPO for each; what `PPOSettings` says if not given.
    seed : int
        Of the first training; the others follow it.
    ray : str, optional
        Address of a Ray cluster; a Ray of this machine is started if not given.

    Returns
    -------
    str
        One line.

    Raises
    ------
    InputError
        If `as_of` is no time or later than now, a count is below 1, or no Ray answers.
    RefusedError
        If there are too few returns (NEEDS_MORE_DATA), or none of the baseline.

    Notes
    -----
    Point in time: rows of `sleeve_returns_v1` known by `as_of`, of a walk-forward that
    had ended by then; each block's training knows the days up to its first decision.
    """
    from flows.policy_training.inputs import read_inputs
    from flows.policy_training.walk import train_policies

    moment = decision_moment(run, as_of)
    run.parameters["as_of"] = moment.isoformat()
    run.seeds["training"] = seed
    inputs = read_inputs(run, moment)
    run.count("days", inputs.days.n_days)
    plan = _plan(inputs, seeds=seeds, iterations=iterations, seed=seed)
    if BASELINE not in inputs.days.sleeves:
        raise RefusedError(
            f"NEEDS_MORE_DATA: no returns of {BASELINE} to measure it by"
        )
    try:
        trained = train_policies(inputs.days, plan, ray=ray)
    except PolicyError as error:
        raise RefusedError(f"NEEDS_MORE_DATA: {error}") from error
    beside = compared(inputs, plan, trained)
    version = _register(run, inputs, plan, trained, beside)
    _record(run, version, inputs, beside)
    return _line(version, trained, beside)


def compared(
    inputs: "PolicyInputs", plan: "PolicyPlan", trained: "Trained"
) -> dict[str, dict[str, Any]]:
    """Return the figures of the policy and of what it is shown beside.

    Parameters
    ----------
    inputs : PolicyInputs
        What was trained on.
    plan : PolicyPlan
        How.
    trained : Trained
        What came of it.

    Returns
    -------
    dict of str to dict
        By name: Sharpe ratio (null without spread), that of the newest 28 days, annual
        return, volatility, deepest drawdown, all over the same out-of-sample days.
    """
    rows, cost = trained.rows, plan.rules.cost_bps
    days, ts = inputs.days, trained.table_walk.ts
    series: dict[str, FloatArray] = {
        "policy": trained.table_walk.net,
        "network": trained.network_walk.net,
        "equal_weight": equal_weight(days, rows=rows, cost_bps=cost),
        BASELINE: baseline(days, rows=rows, cost_bps=cost),
    }
    if inputs.reference is not None:
        series["buy_and_hold"] = buy_and_hold(inputs.market, rows=rows, cost_bps=cost)
    for number, walked in enumerate(trained.seed_walks):
        series[f"seed_{plan.seeds[number]}"] = walked.net
    return {name: _figures(net, ts) for name, net in series.items()}


def _plan(
    inputs: "PolicyInputs", *, seeds: int, iterations: int | None, seed: int
) -> "PolicyPlan":
    from flows.policy_training.ppo import PPOSettings
    from flows.policy_training.walk import PolicyPlan
    from lab.policy.rewards import RewardRules

    if seeds < 1 or (iterations is not None and iterations < 1):
        raise InputError(f"--seeds {seeds}, --iterations {iterations}: 1 or more")
    chosen = PPOSettings() if iterations is None else PPOSettings(iterations=iterations)
    return PolicyPlan(
        seeds=tuple(range(seed, seed + seeds)),
        ppo=chosen,
        rules=RewardRules(cost_bps=inputs.slippage_bps),
    )


def _figures(net: FloatArray, ts: TimeArray) -> dict[str, Any]:
    found = figures(net, ts)
    recent = figures(net[-RECENT_DAYS:], ts[-RECENT_DAYS:])
    return {
        "sharpe": found.sharpe,
        "sharpe_28d": recent.sharpe,
        "annual_return": found.annual_return,
        "volatility": found.volatility,
        "max_drawdown": found.max_drawdown,
        "n_days": found.n_obs,
    }


def _register(
    run: Run,
    inputs: "PolicyInputs",
    plan: "PolicyPlan",
    trained: "Trained",
    beside: Mapping[str, Mapping[str, Any]],
) -> ModelVersion:
    from flows.policy_training.bundle import policy_config, policy_files

    seeds = [beside[f"seed_{one}"] for one in plan.seeds]
    metrics = {
        "n_seeds": len(plan.seeds),
        "n_days_out_of_sample": len(trained.table_walk.ts),
        "fidelity": trained.table.fidelity,
        "fidelity_out_of_sample": trained.fidelity,
        "sharpe_28d_median": float(
            np.median([one["sharpe_28d"] or 0.0 for one in seeds])
        ),
        "sharpe_seeds_median": float(
            np.median([one["sharpe"] or 0.0 for one in seeds])
        ),
        **{
            f"sharpe_{name}": told["sharpe"]
            for name, told in beside.items()
            if not name.startswith("seed_")
        },
    }
    config = policy_config(inputs, plan)
    version = enter_model(
        run,
        model_name=MODEL,
        files=policy_files(inputs, plan, trained),
        card={
            "cutoff": to_moment(inputs.days.known_ts[-1]).isoformat(),
            "config": config,
            "reference": inputs.reference,
            "out_of_sample": beside,
        },
        metrics=metrics,
        who=_TRAINER,
        why=f"PPO, {len(plan.seeds)} seeds, {inputs.days.n_days} days of"
        f" {len(inputs.days.sleeves)} sleeves",
        evidence={"out_of_sample": beside, "walk_run": inputs.walk_run},
        thresholds=THRESHOLDS,
        keep=lambda name: _tell(run, name, inputs, plan, trained),
    )
    if version.stage == STAGING:
        enter_candidate(run, version.version, model=MODEL)
    return version


def _tell(
    run: Run,
    version: str,
    inputs: "PolicyInputs",
    plan: "PolicyPlan",
    trained: "Trained",
) -> None:
    from flows.policy_training.bundle import policy_config, read_config
    from flows.policy_training.rows import append_walks, walk_on

    cost = plan.rules.cost_bps
    told = append_walks(
        run,
        version,
        list(trained.seed_walks),
        days=inputs.days,
        config=policy_config(inputs, plan),
        cost_bps=cost,
    )
    champion = read_registry(run.workplace.lake).champion(MODEL)
    if champion is not None and champion.version != version:
        try:
            files = load_files(run.workplace.lake, champion)
            walks = walk_on(champion, files, inputs)
        except (RefusedError, PolicyError) as error:
            run.notes.append(f"champion {champion.version} was not walked on: {error}")
            walks = []
        else:
            sleeves = walks[0][0].menu.sleeves if walks else ()
            told += append_walks(
                run,
                champion.version,
                [walked for _, walked in walks],
                days=inputs.days.of(sleeves) if walks else inputs.days,
                config=read_config(files),
                cost_bps=cost,
            )
    run.count("predictions", told)


def _record(
    run: Run,
    version: ModelVersion,
    inputs: "PolicyInputs",
    beside: Mapping[str, Mapping[str, Any]],
) -> None:
    decision = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id=_TRAINER,
        model={
            "name": "policy-trainer",
            "thresholds": [str(one) for one in THRESHOLDS],
        },
        input_snapshot={
            "as_of": run.parameters["as_of"],
            "walk_run": inputs.walk_run,
            "tables_read": dict(run.tables_read),
        },
        output={"version": version.version, "stage": version.stage},
        rationale=f"out-of-sample Sharpe {_said(beside)}",
    )
    window = f"{_TRAINER}/decision_records/{run.run_id}"
    run.append("decision_records", decision, window=window)


def _said(beside: Mapping[str, Mapping[str, Any]]) -> str:
    names = [name for name in beside if not name.startswith(("seed_", "network"))]
    return ", ".join(
        f"{name.replace('_', ' ')} {beside[name]['sharpe'] or 0.0:.2f}"
        for name in names
    )


def _line(
    version: ModelVersion,
    trained: "Trained",
    beside: Mapping[str, Mapping[str, Any]],
) -> str:
    return (
        f"{MODEL} {version.version}: stage {version.stage}, weight 0;"
        f" {len(trained.table_walk.ts)} days out of sample, Sharpe {_said(beside)};"
        f" table's fidelity {trained.table.fidelity:.0%},"
        f" out of sample {trained.fidelity:.0%}"
    )
