"""A ridge over the scores of other learners, asked like one learner."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lab.arrays import FloatArray
from lab.errors import ModelError
from lab.learning._base import Learner, shares
from lab.learning.learners import MODEL_FILES, load_learner
from lab.learning.ridge import RidgeLearner


@dataclass(frozen=True, slots=True)
class Stack:
    """Members and the ridge that weighs their scores.

    Attributes
    ----------
    members : mapping of str to Learner
        By kind, in the order of the ridge's columns.
    meta : RidgeLearner
        Over the members' scores.
    """

    members: Mapping[str, Learner]
    meta: RidgeLearner

    @property
    def n_features(self) -> int:
        """Number of columns the members were fitted on."""
        return next(iter(self.members.values())).n_features

    def scores(self, features: FloatArray) -> FloatArray:
        """Return the ridge's scores, shape (n_rows,)."""
        columns = [one.scores(features) for one in self.members.values()]
        return self.meta.scores(np.column_stack(columns))

    def contributions(self, features: FloatArray) -> FloatArray:
        """Return the members' SHAP values as the ridge weighs them.

        Returns
        -------
        ndarray of shape (n_rows, n_features + 1), float64
            Exact: the ridge is linear, so a row's sum is its score.
        """
        slopes = self.meta.coefficients / self.meta.scale
        parts = [one.contributions(features) for one in self.members.values()]
        found = np.tensordot(slopes, np.stack(parts), axes=1)
        found[:, -1] += self.meta.intercept - slopes @ self.meta.mean
        return np.asarray(found, dtype=np.float64)

    def importance(self) -> FloatArray:
        """Return the members' shares of the gain, weighted by the ridge's importance."""
        parts = [one.importance() for one in self.members.values()]
        return shares(np.asarray(self.meta.importance() @ np.stack(parts)))

    def files(self) -> dict[str, bytes]:
        """Return the file of every member and of the ridge, by name."""
        found = {
            MODEL_FILES[kind]: one.to_bytes() for kind, one in self.members.items()
        }
        return found | {MODEL_FILES["ridge"]: self.meta.to_bytes()}

    @classmethod
    def of_files(cls, kinds: list[str], files: Mapping[str, bytes]) -> "Stack":
        """Read what `files` gave.

        Raises
        ------
        ModelError
            If a file is missing or damaged, or the ridge is over other members.
        """
        missing = [one for one in (*kinds, "ridge") if MODEL_FILES[one] not in files]
        if missing:
            raise ModelError(f"stack: no file of {', '.join(missing)}")
        members = {kind: load_learner(kind, files[MODEL_FILES[kind]]) for kind in kinds}
        meta = RidgeLearner.load(files[MODEL_FILES["ridge"]])
        if meta.n_features != len(members):
            raise ModelError(f"stack: {len(members)} members, {meta.n_features} slopes")
        return cls(members, meta)
