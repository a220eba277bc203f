"""The court's verdicts, indexed for answering."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from serve.schemas import Court, HorizonSkill, Score

Cell = tuple[str, str, str, int]  # timeframe, symbol, model_name, horizon
_DIGITS: Final = 6  # significant ones of figures that are shown


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the court found, by what was judged.

    Attributes
    ----------
    cells : mapping of (timeframe, symbol, model_name, horizon) to Court
        Verdicts on symbols.
    skill : mapping of (symbol, timeframe, model_name) to list of HorizonSkill
        The same per forecast, by horizon.
    pools : mapping of str to tuple of Score
        Verdicts on asset classes and on all symbols, by scope.
    """

    cells: Mapping[Cell, Court] = field(default_factory=dict)
    skill: Mapping[tuple[str, str, str], list[HorizonSkill]] = field(
        default_factory=dict
    )
    pools: Mapping[str, tuple[Score, ...]] = field(default_factory=dict)

    def has_skill(self, key: tuple[str, str, str]) -> bool | None:
        """Return whether a forecast has skill at any horizon; None if none was judged."""
        found = [one.has_skill for one in self.skill.get(key, ())]
        judged = [one for one in found if one is not None]
        return any(judged) if judged else None


def index_verdicts(table: pa.Table) -> Verdicts:
    """Index the rows of `artefact_evaluation_report`."""
    cells: dict[Cell, Court] = {}
    skill: dict[tuple[str, str, str], list[HorizonSkill]] = {}
    pools: dict[str, list[Score]] = {}
    for row in table.to_pylist():
        court = to_court(row)
        timeframe, name, model = row["timeframe"], row["subject"], row["model_name"]
        if row["scope"] == "symbol":
            cells[timeframe, name, model, row["horizon"]] = court
            step = HorizonSkill(row["horizon"], row["has_skill"])
            skill.setdefault((name, timeframe, model), []).append(step)
        else:
            pools.setdefault(row["scope"], []).append(to_score(row, court))
    for steps in skill.values():
        steps.sort(key=lambda one: one.horizon)
    return Verdicts(
        cells, skill, {scope: tuple(found) for scope, found in pools.items()}
    )


def to_court(row: Mapping[str, Any]) -> Court:
    """Return the wire form of a verdict, its figures rounded."""
    return Court(**{name: _rounded(row[name]) for name in Court.__struct_fields__})


def to_score(row: Mapping[str, Any], court: Court) -> Score:
    """Return a pool's figures in the form of a symbol's; `symbol` names the pool."""
    shared = set(Score.__struct_fields__) & set(row)
    return Score(
        **{name: _rounded(row[name]) for name in shared},
        symbol=row["subject"],
        n_scored=row["n_obs"],
        n_in_skill=row["n_obs"],
        skill_crps=None,
        skill_mae=_rounded(row["skill_persistence"]),
        court=court,
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return value
