"""Search of training settings by Optuna, one trial at a time, from what is written down.

Rules:

- A study is a list of records. Each next trial is a function of the records before it,
  the rows and the seed: a study that is taken up again after days or a kill goes on as
  if it had never stopped.
- The sampler (TPE) is seeded anew for each trial from the seed and the trial's number.
  The first trial is the settings that training takes without a search.
- A trial's value is its skill out of fold: 1 less its loss over that of the base rate,
  over all windows so far. After each window the median of earlier trials at that window
  may end it (pruned). No trial is told the future: windows come in the order of time.
- The last block, on which a training checks what it keeps, is not searched on.
- Every trial has daily returns, pruned ones too (0 from where it ended): the ledger
  counts all that was tried.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from lab.arrays import FloatArray, TimeArray
from lab.errors import TrainingError
from lab.learning.config import TrainingConfig
from lab.learning.metrics import acted
from lab.learning.samples import Samples
from lab.learning.walk import WindowScores, neutral_score, walk_windows

State: TypeAlias = Literal["complete", "pruned"]

STARTUP_TRIALS: Final = 8
"""Trials drawn at random before the sampler learns from what was tried."""

PRUNE_AFTER_TRIALS: Final = 4
PRUNE_AFTER_WINDOWS: Final = 3
PRUNE_AFTER_SHARE: Final = 0.25
"""Trials that are never pruned, and the windows, at least that share of all, that one
is given before it may be."""

_BOOSTED: Final[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
    {
        "n_estimators": (50, 200, {"step": 25}),
        "learning_rate": (0.01, 0.2, {"log": True}),
        "max_depth": (2, 4, {}),
        "l2": (0.1, 1000.0, {"log": True}),
        "min_leaf_rows": (10, 200, {"log": True}),
        "subsample": (0.5, 1.0, {}),
        "colsample": (0.3, 1.0, {}),
        "half_life_days": (30.0, 3650.0, {"log": True}),
    }
)
SPACES: Final[Mapping[str, Mapping[str, tuple[Any, ...]]]] = MappingProxyType(
    {
        "xgboost": _BOOSTED,
        "lightgbm": _BOOSTED,
        # CatBoost grows symmetric trees: it has no fewest rows in a leaf.
        "catboost": {k: v for k, v in _BOOSTED.items() if k != "min_leaf_rows"},
        "ridge": {
            "l2": (0.01, 1e4, {"log": True}),
            "half_life_days": (30.0, 3650.0, {"log": True}),
        },
    }
)
"""What is searched, by learner: lowest, highest, and how. Periods are not searched: all
trials of a study are judged on the same rows."""


@dataclass(frozen=True, slots=True)
class Record:
    """One trial, as it is written down.

    Attributes
    ----------
    number : int
        From 0.
    parameters : mapping of str to number
        The searched settings.
    values : tuple of float
        Skill after each window it saw.
    state : {"complete", "pruned"}
        How it ended.
    """

    number: int
    parameters: Mapping[str, float]
    values: tuple[float, ...]
    state: State

    @property
    def value(self) -> float:
        """Skill over all windows it saw."""
        return self.values[-1]

    def to_json(self) -> str:
        """Return the record as JSON with sorted keys."""
        content = {**asdict(self), "parameters": dict(self.parameters)}
        return json.dumps(content, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Record":
        """Read what `to_json` gave.

        Raises
        ------
        TrainingError
            If it is no record.
        """
        try:
            content = json.loads(text)
            found = cls(
                number=int(content["number"]),
                parameters=dict(content["parameters"]),
                values=tuple(float(one) for one in content["values"]),
                state=content["state"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"study: not a trial: {error}") from error
        if not found.values or found.state not in {"complete", "pruned"}:
            raise TrainingError(f"study: trial {found.number} never ended")
        if not all(math.isfinite(one) for one in found.values):
            raise TrainingError(f"study: trial {found.number} has no skill")
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """A trial that was just made.

    Attributes
    ----------
    record : Record
        For the study.
    config : TrainingConfig
        What was tried.
    days : ndarray of shape (n_days,), datetime64[D]
        Days on which rows settled that any trial could score.
    returns : ndarray of shape (n_days,), float64
        What acting on its out-of-fold scores earned each day.
    """

    record: Record
    config: TrainingConfig
    days: TimeArray
    returns: FloatArray


def searched_rows(samples: Samples, base: TrainingConfig) -> Samples:
    """Return the rows before the last block of a training of the same rows.

    Notes
    -----
    Point in time: labels known `backtest_period_days` before the newest decision.
    """
    if len(samples) == 0:
        return samples
    length = np.timedelta64(base.backtest_period_days, "D")
    return samples.known_by(samples.start[-1] - length)


def study_id(samples: Samples, base: TrainingConfig, *, seed: int) -> str:
    """Return the name of the one study of these rows, settings and seed.

    Parameters
    ----------
    samples : Samples
        Labelled rows: other rows are another study.
    base : TrainingConfig
        What every trial shares.
    seed : int
        Of the sampler.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    plan = [base.to_json(), seed, sorted(SPACES[base.model].items()), STARTUP_TRIALS]
    content = json.dumps([*plan, samples_hash(samples)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def samples_hash(samples: Samples) -> str:
    """Return the SHA-256 of everything in samples."""
    digest = hashlib.sha256("\n".join(samples.names).encode())
    for name in ("features", "start", "end", "label", "outcome"):
        digest.update(np.ascontiguousarray(getattr(samples, name)).tobytes())
    for name in ("subject_id", "symbol", "timeframe"):
        digest.update("\n".join(getattr(samples, name).tolist()).encode())
    return digest.hexdigest()


def try_next(
    records: Sequence[Record],
    samples: Samples,
    base: TrainingConfig,
    *,
    seed: int,
) -> Tried:
    """Choose the next settings and try them, window by window.

    Parameters
    ----------
    records : sequence of Record
        All trials of the study so far, in order.
    samples : Samples
        Labelled rows.
    base : TrainingConfig
        Learner, objective, periods and everything that is not searched.
    seed : int
        Of the sampler; models are fitted with the base's own.

    Raises
    ------
    TrainingError
        If the records are not a study's, or no window has enough rows to train on.

    Notes
    -----
    Point in time: a window's skill comes from a model that knew nothing of it, see
    `lab.learning.walk`; the search as a whole knows all rows given.

    References
    ----------
    .. [1] Bergstra et al. (2011), Algorithms for Hyper-Parameter Optimization, NeurIPS.
    .. [2] Akiba et al. (2019), Optuna: A Next-generation Hyperparameter Optimization
       Framework, KDD.
    """
    if [one.number for one in records] != list(range(len(records))):
        raise TrainingError("study: its trials are not numbered from 0 without gaps")
    study = _study(records, base, seed, n_kept=_windows_kept(samples, base))
    space = _distributions(base.model)
    if not records:
        study.enqueue_trial({name: getattr(base, name) for name in space})
    trial = study.ask(space)
    config = with_settings(base, trial.params)
    found, values, state = _walk(trial, samples, config)
    if not found:
        raise TrainingError(
            f"no walk-forward window of {len(samples)} rows has {base.min_rows} settled"
            " rows of both outcomes to train on"
        )
    record = Record(len(records), dict(trial.params), tuple(values), state)
    days, returns = _daily(samples, config, found)
    return Tried(record, config, days, returns)


def best_of(records: Sequence[Record]) -> Record | None:
    """Return the complete trial of highest skill, the earliest of equals; None if none."""
    complete = [one for one in records if one.state == "complete"]
    return max(complete, key=lambda one: (one.value, -one.number), default=None)


def with_settings(
    base: TrainingConfig, parameters: Mapping[str, float]
) -> TrainingConfig:
    """Return settings with a trial's in place of their own.

    Raises
    ------
    TrainingError
        If one is unknown or out of range.
    """
    return TrainingConfig.from_mapping({**asdict(base), **parameters})


def _study(
    records: Sequence[Record], base: TrainingConfig, seed: int, *, n_kept: int
) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    words = f"{seed}/{len(records)}".encode()
    drawn = int.from_bytes(hashlib.sha256(words).digest()[:4], "big")
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(
            seed=drawn, n_startup_trials=STARTUP_TRIALS, multivariate=True
        ),
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=PRUNE_AFTER_TRIALS,
            n_warmup_steps=n_kept,
        ),
    )
    space = _distributions(base.model)
    for one in records:
        if set(one.parameters) != set(space):
            raise TrainingError(f"study: trial {one.number} is of another space")
        study.add_trial(_stored(one, space))
    return study


def _stored(one: Record, space: Mapping[str, Any]) -> Any:
    from optuna.trial import TrialState, create_trial

    try:
        return create_trial(
            state=TrialState[one.state.upper()],
            value=one.value,
            params=dict(one.parameters),
            distributions=dict(space),
            intermediate_values=dict(enumerate(one.values)),
        )
    except ValueError as error:
        raise TrainingError(f"study: trial {one.number}: {error}") from error


def _windows_kept(samples: Samples, base: TrainingConfig) -> int:
    if len(samples) == 0:
        return PRUNE_AFTER_WINDOWS
    length = np.timedelta64(base.backtest_period_days, "D")
    n_windows = int((samples.start[-1] - samples.start[0]) / length)
    return max(PRUNE_AFTER_WINDOWS, int(PRUNE_AFTER_SHARE * n_windows))


def _distributions(kind: str) -> dict[str, Any]:
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        name: (IntDistribution if isinstance(low, int) else FloatDistribution)(
            low, high, **how
        )
        for name, (low, high, how) in SPACES[kind].items()
    }


def _walk(
    trial: Any, samples: Samples, config: TrainingConfig
) -> tuple[list[WindowScores], list[float], State]:
    found: list[WindowScores] = []
    values: list[float] = []
    loss = baseline = 0.0
    for number, one in enumerate(walk_windows(samples, config)):
        own, naive = _losses(one.window.metrics)
        loss += own * one.window.n_test
        baseline += naive * one.window.n_test
        found.append(one)
        values.append(1.0 - loss / baseline if baseline > 0 else 0.0)
        trial.report(values[-1], number)
        if trial.should_prune():
            return found, values, "pruned"
    return found, values, "complete"


def _losses(metrics: Mapping[str, float | None]) -> tuple[float, float]:
    name = "log_loss" if "log_loss" in metrics else "squared_error"
    own, naive = metrics.get(name), metrics.get(f"baseline_{name}")
    if own is None or naive is None:
        raise TrainingError("study: a window has no loss")
    return own, naive


def _daily(
    samples: Samples, config: TrainingConfig, found: Sequence[WindowScores]
) -> tuple[TimeArray, FloatArray]:
    # A row earns on the day it settles; a regression's rows share one book.
    could = samples.end[samples.start >= found[0].window.start]
    days = np.unique(could.astype("datetime64[D]"))
    returns = np.zeros(len(days))
    share, cost = 1.0, None
    if not config.is_classification:
        share = 1.0 / len(np.unique(samples.symbol))
        cost = 2.0 * config.cost_bps / 10_000.0
    for one in found:
        neutral = neutral_score(config, one.window.base)
        earned = acted(one.scores, samples.outcome[one.rows], neutral, cost=cost)
        place = np.searchsorted(days, samples.end[one.rows].astype("datetime64[D]"))
        np.add.at(returns, place, np.nan_to_num(earned) * share)
    return days, returns
