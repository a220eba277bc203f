"""The ensemble: members' quantiles averaged with weights that depend on the situation.

One gradient-boosted model per asset class and timeframe predicts each member's loss
relative to the other members', from what they forecast, the regime, the calendar and
the asset class. Weights are a softmax of minus that loss; a member that is missing
drops out and the others' weights are renormalised. Quantiles are averaged in log price,
level by level; steps between the trained horizons take weights between theirs, linear
in log step. Without a trained checkpoint every member present counts the same, which
the version says (`1+equal`).

What was considered:

- weights learnt directly by boosting the combined loss (FFORMA [1]_): its softmax is
  over a fixed set of members, and a missing one would need a model of its own;
- quantile regression on the members' quantiles (stacking): needs many more settled
  labels an asset class than two years of daily decisions give, and quantiles can cross;
- averaging probabilities instead of quantiles [2]_: wider bands, and members that give
  three quantiles have no distribution function to average;
- one weight per member from past mean losses: what the boosting falls back on when the
  features tell nothing, since the member itself is one of them.

References
----------
.. [1] Montero-Manso, Athanasopoulos, Hyndman and Talagala (2020), FFORMA: Feature-based
   forecast model averaging, Int. J. Forecasting 36, 86-92.
.. [2] Lichtendahl, Grushka-Cockayne and Winkler (2013), Is it better to average
   probabilities or quantiles? Management Science 59, 1594-1611.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lab.arrays import BoolArray, FloatArray, IntArray
from lab.errors import CheckpointError
from lab.forecasters.ensemble_features import (
    EnsembleContext,
    MemberPairs,
    MemberRows,
    feature_names,
    member_features,
)

if TYPE_CHECKING:
    from xgboost import Booster

NAME: Final = "ensemble"
CODE_VERSION: Final = "1"
EQUAL_VERSION: Final = f"{CODE_VERSION}+equal"
MODEL_FILE: Final = "model.ubj"
SETTINGS_FILE: Final = "ensemble.json"
_MISSING_LOSS: Final = np.inf


@dataclass(frozen=True, slots=True)
class EnsembleModel:
    """A trained checkpoint.

    Attributes
    ----------
    members : tuple of str
        Models it knows, in the order of its features.
    temperature : float or None
        Of the softmax; None weighs all members the same.
    booster : xgboost.Booster
        Predicts relative losses.
    version : str
        Of the checkpoint, for the forecasts' `model_version`.
    """

    members: tuple[str, ...]
    temperature: float | None
    booster: "Booster"
    version: str

    def weights(self, rows: MemberRows, context: EnsembleContext) -> FloatArray:
        """Return the members' weights; rows that no known member forecast have none.

        Parameters
        ----------
        rows : MemberRows
            With this model's members.
        context : EnsembleContext
            Calendar and regimes.

        Returns
        -------
        ndarray of shape (n_rows, n_members), float64
            0 for a missing member; each row adds up to 1, or to 0.

        Raises
        ------
        CheckpointError
            If the rows' members are others.

        Notes
        -----
        Point in time: see `member_features`.
        """
        if rows.members != self.members:
            raise CheckpointError(
                f"ensemble {self.version}: members {', '.join(rows.members)};"
                f" it knows {', '.join(self.members)}"
            )
        if self.temperature is None or len(rows.symbol) == 0:
            return equal_weights(rows.is_present)
        loss = predicted_losses(self.booster, member_features(rows, context))
        return softmax_weights(loss, self.temperature)

    def to_files(self) -> dict[str, bytes]:
        """Return the checkpoint's files."""
        settings = {
            "format": 1,
            "members": list(self.members),
            "temperature": self.temperature,
            "features": feature_names(self.members),
        }
        return {
            MODEL_FILE: bytes(self.booster.save_raw("ubj")),
            SETTINGS_FILE: json.dumps(settings, sort_keys=True, indent=1).encode(),
        }


def read_model(files: Mapping[str, bytes], *, version: str) -> EnsembleModel:
    """Read a checkpoint's files.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged, or of another layout.
    """
    from xgboost import Booster
    from xgboost.core import XGBoostError

    if missing := [key for key in (MODEL_FILE, SETTINGS_FILE) if key not in files]:
        raise CheckpointError(f"ensemble {version}: no {missing[0]}")
    try:
        settings: dict[str, Any] = json.loads(files[SETTINGS_FILE])
        members = tuple(str(one) for one in settings["members"])
        temperature = settings["temperature"]
        is_known = settings["features"] == feature_names(members)
        booster = Booster()
        booster.load_model(bytearray(files[MODEL_FILE]))
    except (ValueError, KeyError, TypeError, XGBoostError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"ensemble {version}: damaged: {reason}") from error
    if not is_known or booster.num_features() != len(feature_names(members)):
        raise CheckpointError(f"ensemble {version}: its features are not these")
    return EnsembleModel(
        members, None if temperature is None else float(temperature), booster, version
    )


def predicted_losses(booster: "Booster", pairs: MemberPairs) -> FloatArray:
    """Return each member's predicted relative loss; infinite where it is missing.

    Returns
    -------
    ndarray of shape (n_rows, n_members), float64
    """
    loss = np.full(pairs.shape, _MISSING_LOSS)
    if len(pairs.row):
        loss[pairs.row, pairs.member] = booster.inplace_predict(pairs.features)
    return loss


def softmax_weights(loss: FloatArray, temperature: float) -> FloatArray:
    """Return weights from losses: ``exp(−loss / temperature)``, normalised by row.

    Parameters
    ----------
    loss : ndarray of shape (n_rows, n_members), float64
        Infinite where a member is missing.
    temperature : float
        Positive; the larger, the more equal.

    Returns
    -------
    ndarray of shape (n_rows, n_members), float64
    """
    is_present = np.isfinite(loss)
    best = np.min(loss, axis=1, keepdims=True, initial=np.inf)
    excess = np.where(is_present, loss - np.where(np.isfinite(best), best, 0.0), 0.0)
    return _normalised(np.where(is_present, np.exp(-excess / temperature), 0.0))


def equal_weights(is_present: BoolArray) -> FloatArray:
    """Return the same weight for every member present, (n_rows, n_members)."""
    return _normalised(is_present.astype(np.float64))


def combined(bands: FloatArray, weights: FloatArray) -> FloatArray:
    """Return weighted means of log quantiles.

    Parameters
    ----------
    bands : ndarray of shape (n_rows, n_members, 3), float64
        NaN where a member is missing.
    weights : ndarray of shape (n_rows, n_members), float64
        0 there.

    Returns
    -------
    ndarray of shape (n_rows, 3), float64
        In order, since each member's are.
    """
    return np.asarray(
        np.einsum("nmq,nm->nq", np.where(np.isfinite(bands), bands, 0.0), weights)
    )


def weights_between(
    horizons: Sequence[int] | IntArray, weights: FloatArray, n_steps: int
) -> FloatArray:
    """Return weights for every step from those at some horizons, linear in log step.

    Parameters
    ----------
    horizons : sequence of int
        Increasing.
    weights : ndarray of shape (n_horizons, n_members), float64
        There.
    n_steps : int
        Steps wanted; those outside take the nearest horizon's.

    Returns
    -------
    ndarray of shape (n_steps, n_members), float64
        Each row adds up to 1.
    """
    steps = np.log(np.arange(1, n_steps + 1))
    points = np.log(np.asarray(horizons, dtype=np.float64))
    columns = [np.interp(steps, points, weights[:, k]) for k in range(weights.shape[1])]
    return _normalised(np.stack(columns, axis=1))


def _normalised(weights: FloatArray) -> FloatArray:
    total = weights.sum(axis=1, keepdims=True)
    return np.asarray(
        np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    )
