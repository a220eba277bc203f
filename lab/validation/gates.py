"""The three gates between a backtest and paper: how sure is it that it was not luck.

Rules:

- Everything a gate counts comes from the family's ledger. N is its rows; nobody types
  it. A series that is no trial of the ledger does not pass.
- A statistic that cannot be had (constant, too short, not numbers) is a gate not
  passed, with the reason in its verdict.
- A verdict holds what it takes to decide it again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lab.arrays import FloatArray, TimeArray
from lab.backtest.ledger import TrialMatrix
from lab.backtest.steps import Fill
from lab.errors import ValidationError
from lab.validation.candidates import Candidate, Figures, dsr, pbo, reality
from lab.validation.evidence import (
    FamilyEvidence,
    GateRules,
    require_series,
    weigh_family,
)
from lakehouse.schema.research import GATE_VERDICTS

__all__ = [
    "GATES",
    "FamilyEvidence",
    "GateRules",
    "GateVerdict",
    "decide_gates",
    "judge",
    "verdict_table",
    "weigh_family",
]

GATES: Final = ("dsr", "reality_check", "pbo")


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """One gate's verdict on one subject.

    Attributes
    ----------
    subject : str
        What was judged.
    gate : str
        One of `GATES`.
    inputs : mapping
        Everything that decided, JSON values; what cannot be had is None.
    thresholds : mapping
        What was asked for, by the figure's name in `inputs`.
    distances : mapping
        `distance`: positive or 0 where the figure suffices, None where there is none.
        `reason`: why it did not pass, None if it did. `change`: what would change the
        verdict, in words. Beside them the figures that those words tell.
    is_passed : bool
        The verdict.
    """

    subject: str
    gate: str
    inputs: Mapping[str, Any]
    thresholds: Mapping[str, Any]
    distances: Mapping[str, Any]
    is_passed: bool

    @property
    def verdict_id(self) -> str:
        """Hash of subject, gate, inputs and thresholds: what it was decided from."""
        content = [self.subject, self.gate, self.inputs, self.thresholds]
        return hashlib.sha256(_canonical(content).encode()).hexdigest()[:32]


def decide_gates(
    subject: str,
    returns: FloatArray,
    matrix: TrialMatrix,
    *,
    baseline: FloatArray | None = None,
    fill: Fill = Fill.NEXT_OPEN,
    days: TimeArray | None = None,
    rules: GateRules | None = None,
) -> tuple[GateVerdict, GateVerdict, GateVerdict]:
    """Judge one candidate by everything its family ever tried.

    Parameters
    ----------
    subject : str
        The candidate's name in the verdicts.
    returns : ndarray of shape (n_days,), float64
        Its out-of-sample daily net returns at 10 bps: one of the matrix's trials.
    matrix : TrialMatrix
        The whole family.
    baseline : ndarray of shape (n_days,), float64, optional
        Returns of the locked baseline: a second p-value, against it, is reported.
    fill : Fill
        How fills were simulated; `same_close` never passes.
    days : ndarray of shape (n_days,), datetime64, optional
        The family's calendar: with it, figures are told per year too.
    rules : GateRules, optional
        Thresholds and counts.

    Returns
    -------
    tuple of three GateVerdict
        In the order of `GATES`.

    Raises
    ------
    ValidationError
        If the lengths differ.

    Notes
    -----
    Several candidates of one family: `weigh_family` once, then `judge` each; the
    verdicts are the same. Point in time: only the series given; a verdict is as honest
    as their claim to be out of sample.
    """
    evidence = weigh_family(matrix, rules or GateRules(), baseline=baseline)
    return judge(subject, returns, evidence, fill=fill, days=days)


def judge(
    subject: str,
    returns: FloatArray,
    evidence: FamilyEvidence,
    *,
    fill: Fill = Fill.NEXT_OPEN,
    days: TimeArray | None = None,
) -> tuple[GateVerdict, GateVerdict, GateVerdict]:
    """Judge one candidate of a family that was weighed; see `decide_gates`.

    Raises
    ------
    ValidationError
        As `decide_gates`.
    """
    require_series(returns, evidence.matrix, subject)
    candidate = Candidate.of(
        np.asarray(returns, dtype=np.float64),
        evidence,
        fill=fill,
        days_a_year=_days_a_year(days, evidence.matrix),
    )
    return (
        _verdict(subject, "dsr", candidate, dsr(candidate)),
        _verdict(subject, "reality_check", candidate, reality(candidate)),
        _verdict(subject, "pbo", candidate, pbo(candidate)),
    )


def verdict_table(
    verdicts: Sequence[GateVerdict], *, decided_at: datetime, run_id: str
) -> pa.Table:
    """Return verdicts as rows of `gate_verdicts`; one that comes twice is kept once.

    Raises
    ------
    ValidationError
        If `decided_at` has no time zone.
    """
    if decided_at.tzinfo is None:
        raise ValidationError("verdicts: decided_at must be aware of its time zone")
    rows = {
        one.verdict_id: {
            "verdict_id": one.verdict_id,
            "subject": one.subject,
            "gate": one.gate,
            "inputs": _canonical(one.inputs),
            "thresholds": _canonical(one.thresholds),
            "distances": _canonical(one.distances),
            "is_passed": one.is_passed,
            "decided_at": decided_at,
            "run_id": run_id,
        }
        for one in verdicts
    }
    return pa.Table.from_pylist(list(rows.values()), schema=GATE_VERDICTS.to_arrow())


def _verdict(
    subject: str, gate: str, candidate: Candidate, figures: Figures
) -> GateVerdict:
    reasons = [*candidate.objections]
    if figures.problem:
        reasons.append(figures.problem)
    if not figures.is_met and not reasons:
        reasons.append(figures.shortfall)
    distances = {
        "distance": figures.distance,
        "reason": "; ".join(reasons) or None,
        "change": figures.change,
        **figures.needed,
    }
    return GateVerdict(
        subject=subject,
        gate=gate,
        inputs=candidate.inputs | figures.inputs,
        thresholds=figures.thresholds,
        distances=distances,
        is_passed=figures.is_met and not reasons,
    )


def _days_a_year(days: TimeArray | None, matrix: TrialMatrix) -> float | None:
    if days is None or len(days) < 2:
        return None
    if days.shape != (matrix.n_days,):
        raise ValidationError(f"days of shape {days.shape}, not ({matrix.n_days},)")
    span = (days[-1] - days[0]) / np.timedelta64(1, "D")
    return float((len(days) - 1) / span * 365.25)


def _canonical(value: Any) -> str:
    # Keys sorted, no spaces: equal content gives equal text.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
