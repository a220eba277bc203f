"""What a model may be asked about: names in order, their definition's hash, the guard.

The schema is locked into every model. Features of another definition are refused by
the hash, even where the names are the same: `momentum_20` computed another way is
another feature. Only numpy is needed, so a server may load it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lab.arrays import BoolArray, FloatArray
from lab.errors import FeatureError
from lab.learning.novelty import NoveltyGuard

_FIELDS: Final = ("definition", "guard", "names", "sha256")


def canonical(content: Any) -> str:
    """Return the one JSON text of a definition."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def definition_hash(definition: str) -> str:
    """Return the SHA-256 of a definition's canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(definition.encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSchema:
    """Names, definition and the guard of a model's features.

    Attributes
    ----------
    names : tuple of str, n_features
        In the order of the columns.
    sha256 : str
        Hash of the definition.
    guard : NoveltyGuard
        Fitted to the training rows.
    definition : str
        Canonical JSON: `names`, and for a feature set its families, parameters and
        the version of each formula.
    """

    names: tuple[str, ...]
    sha256: str
    guard: NoveltyGuard
    definition: str

    def __post_init__(self) -> None:
        """Refuse names, a definition, a hash and a guard that are not of one another."""
        require_names(self.names)
        if self.sha256 != definition_hash(self.definition):
            raise FeatureError(
                "schema: the hash is not that of the definition: it was altered"
            )
        if _names_of(self.definition) != list(self.names):
            raise FeatureError("schema: the names are not those of the definition")
        if self.guard.n_features != len(self.names):
            raise FeatureError(
                f"schema: {len(self.names)} names, a guard of {self.guard.n_features}"
            )

    @classmethod
    def fit(
        cls,
        names: Sequence[str],
        features: FloatArray,
        *,
        definition: str | None = None,
    ) -> "FeatureSchema":
        """Lock names and training rows into a schema.

        Parameters
        ----------
        names : sequence of str
            In the order of the columns; `FeatureSet.names` of a set.
        features : ndarray of shape (n, n_features), float64
            Training rows; NaN = unknown.
        definition : str, optional
            `FeatureSet.definition` of a set; only the names if not given.

        Raises
        ------
        FeatureError
            If a name is empty or comes twice, or the rows are unusable.

        Notes
        -----
        Point in time: the guard knows the rows given and nothing else.
        """
        text = canonical({"names": list(names)}) if definition is None else definition
        return cls(
            tuple(names), definition_hash(text), NoveltyGuard.fit(features), text
        )

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.names)

    def is_novel(self, features: FloatArray) -> BoolArray:
        """Return which rows are unlike the training rows, see `NoveltyGuard`."""
        return self.guard.is_novel(features)

    def matrix(self, rows: Sequence[Mapping[str, float | None]]) -> FloatArray:
        """Return rows by name as columns in order, see `matrix_of`."""
        return matrix_of(self.names, rows)

    def require(self, sha256: str) -> None:
        """Refuse features of another definition.

        Raises
        ------
        FeatureError
            If the hash is another.
        """
        if sha256 != self.sha256:
            raise FeatureError(
                f"schema: features of definition {sha256[:12]}, the model was trained"
                f" on {self.sha256[:12]}"
            )

    def to_json(self) -> str:
        """Return canonical JSON."""
        return canonical(
            {
                "definition": self.definition,
                "guard": self.guard.to_dict(),
                "names": list(self.names),
                "sha256": self.sha256,
            }
        )

    @classmethod
    def from_json(
        cls, text: str | bytes, *, sha256: str | None = None
    ) -> "FeatureSchema":
        """Take a schema back.

        Parameters
        ----------
        text : str or bytes
            What `to_json` gave.
        sha256 : str, optional
            The definition it must be of.

        Raises
        ------
        FeatureError
            If it is no schema, was altered, or is of another definition.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise FeatureError(f"schema: not JSON: {error}") from error
        if not isinstance(content, dict) or sorted(content) != sorted(_FIELDS):
            raise FeatureError(f"schema: a schema has {', '.join(_FIELDS)}")
        names, own = content["names"], content["sha256"]
        definition = content["definition"]
        if not isinstance(names, list) or not (
            isinstance(own, str) and isinstance(definition, str)
        ):
            raise FeatureError("schema: names must be a list, hash and definition text")
        guard = NoveltyGuard.from_dict(content["guard"])
        schema = cls(tuple(names), own, guard, definition)
        if sha256 is not None:
            schema.require(sha256)
        return schema


def matrix_of(
    names: Sequence[str], rows: Sequence[Mapping[str, float | None]]
) -> FloatArray:
    """Return rows by name as columns in order.

    Parameters
    ----------
    names : sequence of str
        Columns.
    rows : sequence of mapping of str to float
        Every name and no other; None = unknown.

    Returns
    -------
    ndarray of shape (n, n_features), float64
        NaN = unknown.

    Raises
    ------
    FeatureError
        If a row lacks a name, has another, or a value is no number.
    """
    wanted = set(names)
    for number, row in enumerate(rows):
        if row.keys() != wanted:
            raise FeatureError(f"row {number}: {_difference(row.keys(), wanted)}")
    try:
        values = [[_number(row[name]) for name in names] for row in rows]
    except TypeError as error:
        raise FeatureError(f"features: {error}") from error
    return np.array(values, dtype=np.float64).reshape(len(rows), len(names))


def require_names(names: Sequence[str]) -> None:
    """Refuse names that are no words or not one a column.

    Raises
    ------
    FeatureError
        If there is none, one is empty or no text, or one comes twice.
    """
    words: list[Any] = list(names)
    if not words or any(not isinstance(one, str) or not one for one in words):
        raise FeatureError(
            "features: every feature needs a name, and there must be one"
        )
    twice = sorted({one for one in words if words.count(one) > 1})
    if twice:
        raise FeatureError(f"features: twice: {', '.join(twice)}")


def _names_of(definition: str) -> Any:
    try:
        content = json.loads(definition)
    except ValueError as error:
        raise FeatureError(f"schema: the definition is not JSON: {error}") from error
    return content.get("names") if isinstance(content, dict) else None


def _difference(found: Any, wanted: set[str]) -> str:
    missing, more = sorted(wanted - set(found)), sorted(set(found) - wanted)
    if missing:
        return f"missing: {', '.join(missing[:5])}"
    return f"unknown: {', '.join(more[:5])}"


def _number(value: Any) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, str | bytes):
        raise TypeError(f"{value!r} is no number")
    return float(value)
