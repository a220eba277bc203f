"""Who takes part in a walk-forward: the catalogue, and what evolution has found."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from flows.runs import Run
from lab.backtest.panel import AlignedPanel
from lab.backtest.walkforward import Tradable
from lab.errors import SleeveError
from lab.evolution.sleeve import is_genome, sleeve_from
from lab.lifecycle.stages import LOCKED, RETIRED
from lab.sleeves._base import Sleeve
from lab.sleeves._faults import Fault, attempt
from lab.sleeves.catalogue import faults, find, sleeves
from lakehouse.errors import InputError


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sleeve to walk forward.

    Attributes
    ----------
    sleeve_id : str
        Its name.
    variants : tuple of Tradable
        What may be chosen from in train.
    configuration : str
        Canonical JSON of the sleeve as it is registered: its defaults, or its genome.
    author : str
        `catalogue` or who stored it.
    """

    sleeve_id: str
    variants: tuple[Tradable, ...]
    configuration: str
    author: str


def resolve_sleeve(configuration: str) -> Sleeve:
    """Return the sleeve of a configuration as in `sleeves` and `trials`.

    Parameters
    ----------
    configuration : str
        Canonical JSON: a sleeve of the catalogue with its parameters, the locked
        baseline, or a genome.

    Raises
    ------
    InputError
        If it is no JSON object of a sleeve.
    SleeveError
        If the catalogue has no such sleeve, or it no such parameters.
    EvolutionError
        If a genome is damaged.
    """
    if is_genome(configuration):
        return sleeve_from(configuration)
    try:
        content = json.loads(configuration)
        name, parameters = content["sleeve"], content.get("parameters", {})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"configuration {configuration[:80]!r}: no JSON of a sleeve: {error}"
        ) from None
    return find(name).from_parameters(parameters)


def find_candidates(
    run: Run, panel: AlignedPanel, *, names: Sequence[str] | None
) -> list[Candidate]:
    """Return who takes part, the locked baseline first, the rest by name.

    Parameters
    ----------
    run : Run
        Where to read; who is left out, and why, is said in its notes.
    panel : AlignedPanel
        A follower of forecasts needs them here.
    names : sequence of str, optional
        Only these, and the baseline; else the whole catalogue and every stored genome
        that is not retired.

    Raises
    ------
    InputError
        If a name is neither in the catalogue nor stored.
    SleeveError
        If the locked baseline itself cannot be made.
    """
    of_catalogue, wrong = _of_catalogue()
    found = {one.sleeve_id: one for one in (*of_catalogue, *_stored(run))}
    unknown = sorted(set(names or ()) - set(found))
    if unknown:
        told = "".join(f"; {where}: {reason}" for where, reason in wrong.items())
        raise InputError(
            f"--sleeves: no sleeve {', '.join(unknown)}; one of {', '.join(found)}{told}"
        )
    if LOCKED not in found:
        raise SleeveError("; ".join(f"{one}: {wrong[one]}" for one in sorted(wrong)))
    run.notes += [f"{where}: skipped, {reason}" for where, reason in wrong.items()]
    if wrong:
        run.count("sleeves_skipped", len(wrong))
    wanted = set(found) if names is None else {*names, LOCKED}
    kept, without = [], []
    for name in sorted(wanted, key=lambda one: (one != LOCKED, one)):
        first = found[name].variants[0]
        needs = getattr(first, "needs", "")
        if needs and needs not in panel.forecasts:
            without.append(name)
        elif panel.timeframe in getattr(first, "timeframes", (panel.timeframe,)):
            kept.append(found[name])
    if without:
        run.notes.append(
            f"{', '.join(without)}: skipped, no {panel.timeframe} forecasts to follow"
        )
    return kept


def _of_catalogue() -> tuple[list[Candidate], dict[str, str]]:
    # A file or a class that is wrong takes no other down.
    found, wrong = [], faults()
    for name, made in sleeves().items():
        own = attempt(partial(_candidate, name, made))
        if isinstance(own, Fault):
            wrong[name] = own.reason
        elif own.variants:
            found.append(own)
        else:
            wrong[name] = "no combination of its tried values makes sense"
    return found, wrong


def _candidate(name: str, made: type[Sleeve]) -> Candidate:
    return Candidate(name, made.variants(), made().configuration, "catalogue")


def _stored(run: Run) -> list[Candidate]:
    found = []
    for row in run.read("sleeves").to_pylist():
        if is_genome(row["configuration"]) and row["stage"] != RETIRED:
            one = sleeve_from(row["configuration"])
            found.append(
                Candidate(one.sleeve_id, (one,), one.configuration, row["author"])
            )
    return found
