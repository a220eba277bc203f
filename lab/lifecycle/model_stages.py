"""What the chain of model events says: each version's stage, who is champion.

A model's versions go None → Staging → Production → Archived, and back to Production by
a rollback. The chain (`model_events`) is folded row by row; a row that no stage allows
is refused before it is appended, and a stored one breaks the fold.

- `register` enters a version at the stage that its evidence names, None or Staging.
- `promote` makes a version Production. The one that was Production before must have
  been archived by the row before: a model has at most one champion at any row.
- `archive` takes the champion out of Production; its evidence says by what, a
  `promotion` or a `rollback`.
- `rollback` makes an archived version Production again.
- `alarm` was recorded and not acted on.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from lab.errors import LifecycleError

NONE: Final = "None"
STAGING: Final = "Staging"
PRODUCTION: Final = "Production"
ARCHIVED: Final = "Archived"
BY_PROMOTION: Final = "promotion"
BY_ROLLBACK: Final = "rollback"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered version.

    Attributes
    ----------
    model_name, version : str
        The version is the content hash of its files.
    stage : str
        `None`, `Staging`, `Production` or `Archived`.
    metrics : mapping
        Figures of its training.
    manifest : mapping
        Reproducibility manifest: schema, seeds, commit, table versions, environment,
        and under `sha256` the digest of every file.
    artefact_sha256 : str
        Over the digests of its files.
    registered_at : datetime
        Clock time, aware.
    run_id : str
        Run that registered it.
    registered_seq : int
        Its row in the chain.
    promoted_at : datetime or None
        Since when it is the champion; None if it is not.
    archived_seq : int or None
        Row at which it was archived last; None if it is not archived.
    is_withdrawn : bool
        Whether a rollback took it out of Production: no rollback returns to it.
    """

    model_name: str
    version: str
    stage: str
    metrics: Mapping[str, Any]
    manifest: Mapping[str, Any]
    artefact_sha256: str
    registered_at: datetime
    run_id: str
    registered_seq: int
    promoted_at: datetime | None = None
    archived_seq: int | None = None
    is_withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """Something that is to be appended to the chain.

    Attributes
    ----------
    model_name, version : str
        Whom it is about.
    event : str
        `register`, `promote`, `archive`, `rollback` or `alarm`.
    who : str
        Person or flow.
    why : str
        Reason, in words.
    evidence : mapping
        JSON.
    decided_at : datetime
        Clock time, aware.
    """

    model_name: str
    version: str
    event: str
    who: str
    why: str
    evidence: Mapping[str, Any]
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Registry:
    """What the chain says, at one of its rows.

    Attributes
    ----------
    by_key : mapping of (str, str) to ModelVersion
        By model and version, in the order in which they were registered.
    rollbacks : mapping of str to datetime
        When each model was rolled back last.
    """

    by_key: Mapping[tuple[str, str], ModelVersion] = field(default_factory=dict)
    rollbacks: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models that have a version, sorted."""
        return tuple(sorted({name for name, _ in self.by_key}))

    def versions(self, model_name: str) -> tuple[ModelVersion, ...]:
        """Return a model's versions, oldest first."""
        return tuple(
            one for (name, _), one in self.by_key.items() if name == model_name
        )

    def version(self, model_name: str, version: str) -> ModelVersion | None:
        """Return one version; None if it is not registered."""
        return self.by_key.get((model_name, version))

    def champion(self, model_name: str) -> ModelVersion | None:
        """Return the version in Production; None if there is none."""
        found = self._at(model_name, PRODUCTION)
        return found[0] if found else None

    def challenger(self, model_name: str) -> ModelVersion | None:
        """Return the newest version in Staging; None if none is newer than the champion."""
        found = self._at(model_name, STAGING)
        champion = self.champion(model_name)
        is_newer = found and (
            champion is None or found[-1].registered_seq > champion.registered_seq
        )
        return found[-1] if is_newer else None

    def archived(self, model_name: str) -> tuple[ModelVersion, ...]:
        """Return the archived versions, the newest archived first."""
        found = self._at(model_name, ARCHIVED)
        return tuple(sorted(found, key=lambda one: one.archived_seq or 0, reverse=True))

    def last_rollback(self, model_name: str) -> datetime | None:
        """Return when a model was rolled back last; None if never."""
        return self.rollbacks.get(model_name)

    def after(self, row: Mapping[str, Any]) -> "Registry":
        """Return the registry with one more row of the chain.

        Parameters
        ----------
        row : mapping
            Columns of `model_events`.

        Raises
        ------
        LifecycleError
            If the row does not fit the version's stage.
        """
        return _STEPS[row["event"]](self, row)

    def _at(self, model_name: str, stage: str) -> list[ModelVersion]:
        return [one for one in self.versions(model_name) if one.stage == stage]


def registry_of(rows: Iterable[Mapping[str, Any]]) -> Registry:
    """Fold the chain's rows, in their order.

    Parameters
    ----------
    rows : iterable of mapping
        Columns of `model_events`, by rising `seq`.

    Raises
    ------
    LifecycleError
        If a row does not fit what came before it.
    """
    found = Registry()
    for row in rows:
        found = found.after(row)
    return found


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure of training must show before a version is Staging.

    Attributes
    ----------
    metric : str
        Its name among the metrics.
    at_least, at_most : float or None
        Bounds, inclusive.
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        parts = []
        if self.at_least is not None:
            parts.append(f">= {self.at_least:g}")
        if self.at_most is not None:
            parts.append(f"<= {self.at_most:g}")
        return f"{self.metric} {' and '.join(parts)}"

    def holds(self, metrics: Mapping[str, Any]) -> bool:
        """Return whether the figure is known and within the bounds."""
        value = metrics.get(self.metric)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low = self.at_least is None or value >= self.at_least
        high = self.at_most is None or value <= self.at_most
        return low and high  # a NaN is neither


def first_stage(
    metrics: Mapping[str, Any], thresholds: Sequence[Bound]
) -> tuple[str, tuple[str, ...]]:
    """Return the stage at which a new version starts, and what it did not meet.

    Parameters
    ----------
    metrics : mapping
        Figures of its training.
    thresholds : sequence of Bound
        Every one must hold for Staging; without any, a version stays at None.
    """
    missed = tuple(str(bound) for bound in thresholds if not bound.holds(metrics))
    is_staging = bool(thresholds) and not missed
    return (STAGING if is_staging else NONE), missed


def _register(registry: Registry, row: Mapping[str, Any]) -> Registry:
    key = (row["model_name"], row["version"])
    if key in registry.by_key:
        raise _unfit(row, "it is registered already")
    said = json.loads(row["evidence"])
    stage = said["stage"]
    if stage not in {NONE, STAGING}:
        raise _unfit(row, f"a new version is at None or Staging, not {stage}")
    one = ModelVersion(
        *key,
        stage=stage,
        metrics=said["metrics"],
        manifest=said["manifest"],
        artefact_sha256=said["artefact_sha256"],
        registered_at=row["decided_at"],
        run_id=said["run_id"],
        registered_seq=row["seq"],
    )
    return replace(registry, by_key={**registry.by_key, key: one})


def _promote(registry: Registry, row: Mapping[str, Any]) -> Registry:
    one = _known(registry, row)
    if one.stage == PRODUCTION:
        raise _unfit(row, "it is the champion already")
    return _crown(registry, row, one)


def _rollback(registry: Registry, row: Mapping[str, Any]) -> Registry:
    one = _known(registry, row)
    if one.stage != ARCHIVED:
        raise _unfit(row, f"it is at {one.stage}; only Archived is rolled back to")
    whole = _crown(registry, row, one)
    rolled = {**whole.rollbacks, one.model_name: row["decided_at"]}
    return replace(whole, rollbacks=rolled)


def _crown(registry: Registry, row: Mapping[str, Any], one: ModelVersion) -> Registry:
    champion = registry.champion(one.model_name)
    if champion is not None:
        raise _unfit(row, f"{champion.version} is the champion still")
    return _put(
        registry,
        replace(
            one,
            stage=PRODUCTION,
            promoted_at=row["decided_at"],
            archived_seq=None,
            is_withdrawn=False,
        ),
    )


def _archive(registry: Registry, row: Mapping[str, Any]) -> Registry:
    one = _known(registry, row)
    if one.stage != PRODUCTION:
        raise _unfit(row, f"it is at {one.stage}; only the champion is archived")
    cause = json.loads(row["evidence"])["cause"]
    return _put(
        registry,
        replace(
            one,
            stage=ARCHIVED,
            promoted_at=None,
            archived_seq=row["seq"],
            is_withdrawn=cause == BY_ROLLBACK,
        ),
    )


def _alarm(registry: Registry, row: Mapping[str, Any]) -> Registry:
    _known(registry, row)
    return registry


_STEPS: Final = {
    "register": _register,
    "promote": _promote,
    "rollback": _rollback,
    "archive": _archive,
    "alarm": _alarm,
}


def _put(registry: Registry, one: ModelVersion) -> Registry:
    key = (one.model_name, one.version)
    return replace(registry, by_key={**registry.by_key, key: one})


def _known(registry: Registry, row: Mapping[str, Any]) -> ModelVersion:
    found = registry.version(row["model_name"], row["version"])
    if found is None:
        raise _unfit(row, "it is not registered")
    return found


def _unfit(row: Mapping[str, Any], why: str) -> LifecycleError:
    return LifecycleError(
        f"model {row['model_name']} {row['version']}: no {row['event']}: {why}"
    )
