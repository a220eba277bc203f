"""The trial ledger: every configuration ever tried, and what it made each day.

A trial is one configuration on one span. Trials of the same instruments, timeframe and
span are one family: they were choices in one search, whoever made them, so a
statistic that corrects for the search counts them all. Nobody types that count.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import BoolArray, FloatArray, TimeArray
from lab.bars.timeframes import to_instant, to_moment
from lab.errors import BacktestError
from lakehouse.schema.research import TRIAL_RETURNS, TRIALS

LEDGER_BPS: Final = 10.0
"""Slippage of every series in the ledger, basis points a unit of turnover."""

_FLAT: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration and its daily returns.

    Attributes
    ----------
    configuration : str
        Canonical JSON: what was tried, its identity within a family.
    returns : ndarray of shape (n_days,), float64
        Simple net returns at `LEDGER_BPS`, one a day of the family's calendar.
    """

    configuration: str
    returns: FloatArray

    @property
    def is_constant(self) -> bool:
        """Whether the returns never vary: it has no Sharpe."""
        return bool(len(self.returns) == 0 or np.ptp(self.returns) <= _FLAT)


def family_id(
    universe: Collection[str],
    timeframe: str,
    span: tuple[np.datetime64 | datetime, np.datetime64 | datetime],
) -> str:
    """Return the family of trials on these instruments, bars and days.

    Parameters
    ----------
    universe : collection of str
        Symbols of the panel, any order; an instrument counts once.
    timeframe : str
        `1h` or `1d`.
    span : tuple of two moments
        First and last day, UTC.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    days = [str(to_instant(one).astype("datetime64[D]")) for one in span]
    content = json.dumps([sorted(set(universe)), timeframe, *days])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def trial_id(family: str, configuration: str) -> str:
    """Return the identity of one configuration within a family."""
    return hashlib.sha256(f"{family}/{configuration}".encode()).hexdigest()[:32]


def trial_tables(
    trials: Sequence[Trial],
    *,
    family: str,
    origin: str,
    days: TimeArray,
    tried_at: datetime,
    run_id: str,
) -> tuple[pa.Table, pa.Table]:
    """Return trials as rows of `trials` and `trial_returns`.

    Parameters
    ----------
    trials : sequence of Trial
        A configuration that comes twice is kept once, the first time.
    family : str
        See `family_id`.
    origin : str
        Who tried: `walkforward`, `evolution`, `notebook`, ...
    days : ndarray of shape (n_days,), datetime64
        The family's calendar.
    tried_at : datetime
        Clock time, aware.
    run_id : str
        The run that tried.

    Raises
    ------
    BacktestError
        If a trial's returns are not one finite number a day.
    """
    kept = list({one.configuration: one for one in reversed(trials)}.values())[::-1]
    for one in kept:
        _require_returns(one, len(days))
    ids = [trial_id(family, one.configuration) for one in kept]
    shared = {
        "family": family,
        "origin": origin,
        "span_start": to_moment(days[0]) if len(days) else tried_at,
        "span_end": to_moment(days[-1]) if len(days) else tried_at,
        "n_obs": len(days),
        "tried_at": tried_at,
        "run_id": run_id,
    }
    rows = [
        {
            "trial_id": name,
            "configuration": one.configuration,
            **shared,
            **_moments(one),
        }
        for name, one in zip(ids, kept, strict=True)
    ]
    returns = np.array([one.returns for one in kept], dtype=np.float32).reshape(-1)
    offsets = np.arange(len(kept) + 1, dtype=np.int32) * len(days)
    stored = {
        "trial_id": pa.array(ids, pa.string()),
        "family": pa.array([family] * len(kept), pa.string()),
        "returns": pa.ListArray.from_arrays(offsets, pa.array(returns, pa.float32())),
    }
    return (
        pa.Table.from_pylist(rows, schema=TRIALS.to_arrow()),
        pa.table(stored).cast(TRIAL_RETURNS.to_arrow()),
    )


@dataclass(frozen=True, slots=True)
class TrialMatrix:
    """All trials of one family.

    Attributes
    ----------
    family : str
        Its id.
    trial_ids, configurations : tuple of str, n_trials
        Ordered by id, so that the same ledger is the same matrix.
    returns : ndarray of shape (n_trials, n_days), float64
        Daily net returns at `LEDGER_BPS`; stored with 24 significant bits.
    """

    family: str
    trial_ids: tuple[str, ...]
    configurations: tuple[str, ...]
    returns: FloatArray

    @classmethod
    def from_trials(cls, trials: Sequence[Trial], *, family: str) -> "TrialMatrix":
        """Return the matrix of trials that are not stored (yet).

        Returns are rounded as the ledger rounds them: both ways give equal numbers.

        Raises
        ------
        BacktestError
            If trials differ in length, or a return is not finite.
        """
        by_id = {trial_id(family, one.configuration): one for one in reversed(trials)}
        n_days = len(trials[0].returns) if trials else 0
        for one in trials:
            _require_returns(one, n_days)
        ids = tuple(sorted(by_id))
        rows = [by_id[name].returns for name in ids]
        returns = np.array(rows, dtype=np.float32).reshape(len(ids), n_days)
        return cls(
            family,
            ids,
            tuple(by_id[name].configuration for name in ids),
            returns.astype(np.float64),
        )

    @classmethod
    def from_tables(cls, trials: pa.Table, trial_returns: pa.Table) -> "TrialMatrix":
        """Return the matrix of one family's rows of `trials` and `trial_returns`.

        Raises
        ------
        BacktestError
            If the rows are of several families or none, a trial has no returns, or
            the lengths differ.
        """
        families = set(pc.unique(trials["family"]).to_pylist())
        if len(families) != 1:
            raise BacktestError(f"trials of {len(families)} families; one is needed")
        family = families.pop()
        order = np.argsort(trials["trial_id"].to_pylist(), kind="stable")
        ids = [trials["trial_id"][int(row)].as_py() for row in order]
        texts = [trials["configuration"][int(row)].as_py() for row in order]
        row_of = {
            name: k for k, name in enumerate(trial_returns["trial_id"].to_pylist())
        }
        missing = [name for name in ids if name not in row_of]
        if missing:
            raise BacktestError(f"trial {missing[0]} of family {family} has no returns")
        rows = trial_returns["returns"].take(pa.array([row_of[name] for name in ids]))
        lengths = set(pc.list_value_length(rows).to_pylist())
        if len(lengths) != 1:
            raise BacktestError(f"trials of family {family} differ in length")
        values = pc.list_flatten(rows).to_numpy().astype(np.float64)
        return cls(family, tuple(ids), tuple(texts), values.reshape(len(ids), -1))

    @property
    def n_trials(self) -> int:
        """How many configurations were tried, constant ones included."""
        return len(self.trial_ids)

    @property
    def n_days(self) -> int:
        """Length of each series."""
        return int(self.returns.shape[1])

    @property
    def is_constant(self) -> BoolArray:
        """Trials whose returns never vary, shape (n_trials,)."""
        if self.n_days == 0:
            return np.ones(self.n_trials, dtype=np.bool_)
        return np.asarray(np.ptp(self.returns, axis=1) <= _FLAT)

    @property
    def sharpes(self) -> FloatArray:
        """Daily Sharpe ratios, ddof 1, shape (n_trials,); NaN where constant."""
        found = np.full(self.n_trials, np.nan)
        rows = ~self.is_constant
        if self.n_days > 1 and rows.any():
            chosen = self.returns[rows]
            found[rows] = chosen.mean(axis=1) / chosen.std(axis=1, ddof=1)
        return found

    @property
    def effective_rank(self) -> float:
        """Effective rank of the correlation matrix of the trials that vary.

        The exponential of the entropy of its normalised eigenvalues: n_trials when all
        are uncorrelated, 1 when all are one bet. Reported beside N, never used for it.

        References
        ----------
        Roy & Vetterli (2007), The effective rank: a measure of effective
        dimensionality, EUSIPCO.
        """
        rows = self.returns[~self.is_constant]
        if len(rows) == 0:
            return 0.0
        scaled = rows - rows.mean(axis=1, keepdims=True)
        scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
        # The smaller of the two Gram matrices has the same eigenvalues but zeros.
        gram = scaled @ scaled.T if len(rows) <= self.n_days else scaled.T @ scaled
        weights = np.clip(np.linalg.eigvalsh(gram), 0.0, None)
        weights = weights[weights > 0] / weights.sum()
        return float(np.exp(-np.sum(weights * np.log(weights))))

    def row_of(self, configuration: str) -> int:
        """Return the row of a configuration.

        Raises
        ------
        BacktestError
            If the family's ledger has no such trial.
        """
        try:
            return self.configurations.index(configuration)
        except ValueError:
            raise BacktestError(
                f"family {self.family}: no trial of {configuration[:80]}"
            ) from None


def _require_returns(trial: Trial, n_days: int) -> None:
    found = trial.returns.shape
    if found != (n_days,) or not np.all(np.isfinite(trial.returns)):
        raise BacktestError(
            f"trial {trial.configuration[:80]}: {found} returns, not {n_days} finite"
        )


def _moments(trial: Trial) -> dict[str, float | None]:
    # Sharpe with ddof 1; skewness and kurtosis are population moments.
    returns = trial.returns
    if trial.is_constant or len(returns) < 2:
        return {"sharpe": None, "skewness": None, "kurtosis": None}
    centred = returns - returns.mean()
    variance = float(np.mean(centred**2))
    return {
        "sharpe": float(returns.mean() / returns.std(ddof=1)),
        "skewness": float(np.mean(centred**3) / variance**1.5),
        "kurtosis": float(np.mean(centred**4) / variance**2),
    }
