"""Train an ensemble checkpoint from settled scores, and measure it honestly.

Decision times are cut in three: one part trains, the next chooses the softmax's
temperature, the last measures. Labels of one part have settled before the next part
begins, so no window reaches over a cut. The checkpoint itself is then trained on all
labels with the temperature chosen. Its card says what the last part showed: the
ensemble beside equal weights, the member that was best before, and every member.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lab.arrays import BoolArray, FloatArray
from lab.bars.timeframes import to_instant, to_moment
from lab.errors import TrainingError
from lab.forecasters.ensemble import (
    EnsembleModel,
    combined,
    equal_weights,
    predicted_losses,
    softmax_weights,
)
from lab.forecasters.ensemble_features import (
    EnsembleContext,
    MemberPairs,
    MemberRows,
    feature_names,
    member_features,
    member_losses,
    scaled_pinball,
)

if TYPE_CHECKING:
    from xgboost import Booster

YEARS: Final = 2
TRAIN_SHARE: Final = 0.6
TUNE_SHARE: Final = 0.2
_LOSS_CAP: Final = 20.0
_MIN_SCALE: Final = 1e-8


@dataclass(frozen=True, slots=True)
class EnsembleParameters:
    """Settings of the training.

    Attributes
    ----------
    min_rows, min_as_ofs : int
        Fewest labelled rows and decision times of the asset class in all.
    min_part_rows : int
        Fewest in the part that tunes and in the one that measures.
    other_class_weight : float
        What a label of another asset class counts.
    temperatures : tuple of float
        Candidates, in units of the loss; equal weights are one more.
    n_rounds, max_depth : int
        Trees and their depth.
    learning_rate, l2, min_child_weight : float
        Of the boosting.
    seed : int
        Of the boosting.
    """

    min_rows: int = 200
    min_as_ofs: int = 20
    min_part_rows: int = 30
    other_class_weight: float = 0.25
    temperatures: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003)
    n_rounds: int = 120
    max_depth: int = 3
    learning_rate: float = 0.05
    l2: float = 20.0
    min_child_weight: float = 20.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TrainedEnsemble:
    """A checkpoint's files and what is known of it.

    Attributes
    ----------
    files : dict of str to bytes
        See `EnsembleModel.to_files`; equal labels and settings give equal bytes.
    card : dict
        JSON values: `cutoff`, labels, members, temperature, validation.
    """

    files: dict[str, bytes]
    card: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Settled rows with their features, made once for all asset classes.

    Attributes
    ----------
    rows : MemberRows
        Forecasts and outcomes.
    pairs : MemberPairs
        Their features.
    """

    rows: MemberRows
    pairs: MemberPairs

    @classmethod
    def of(
        cls, rows: MemberRows, context: EnsembleContext, *, as_of: datetime
    ) -> "LabelledRows":
        """Take the rows that may be learnt from as of a moment.

        Notes
        -----
        Point in time: labels with `known` <= `as_of`, of decision times in the two
        years before.
        """
        now = to_instant(as_of)
        begin = now - np.timedelta64(int(YEARS * 365.25 * 86_400), "s")
        usable = rows.keep(
            np.isfinite(rows.outcome)
            & (rows.known <= now)
            & (rows.as_of > begin)
            & (rows.scale > _MIN_SCALE)
            & rows.is_present.any(axis=1)
        )
        return cls(usable, member_features(usable, context))

    def keep(self, chosen: BoolArray) -> "LabelledRows":
        """Return the rows where `chosen` is true."""
        return LabelledRows(self.rows.keep(chosen), self.pairs.keep(chosen))


def fit_ensemble(
    labelled: LabelledRows,
    *,
    asset_class: str,
    parameters: EnsembleParameters | None = None,
) -> TrainedEnsemble:
    """Train the weights of one asset class.

    Parameters
    ----------
    labelled : LabelledRows
        Of one timeframe and all asset classes.
    asset_class : str
        Whose weights.
    parameters : EnsembleParameters, optional
        Settings.

    Raises
    ------
    TrainingError
        If there are too few labels, or fewer than two members.

    Notes
    -----
    Point in time: the card's `cutoff` is when the newest of the labels was known.
    """
    chosen = parameters or EnsembleParameters()
    usable = labelled.rows
    own = usable.asset_class == asset_class
    _require(usable, own, asset_class, chosen)
    parts = _parts(usable, own)
    for name in ("tune", "test"):
        if (n_rows := int(parts[name].sum())) < chosen.min_part_rows:
            raise TrainingError(
                f"{asset_class}: {n_rows} settled rows to {name} on,"
                f" {chosen.min_part_rows} are needed"
            )
    trial = _boosted(labelled.keep(parts["train"]), asset_class, chosen)
    temperature = _tuned(trial, labelled.keep(parts["tune"]), chosen)
    trial = _boosted(labelled.keep(parts["before"]), asset_class, chosen)
    validation = _measured(
        trial,
        temperature,
        usable.keep(parts["before"] & own),
        labelled.keep(parts["test"]),
    )
    booster = _boosted(labelled, asset_class, chosen)
    model = EnsembleModel(usable.members, temperature, booster, "")
    return TrainedEnsemble(
        model.to_files(),
        {
            "kind": "ensemble",
            "asset_class": asset_class,
            "cutoff": to_moment(usable.known.max()).isoformat(),
            "members": list(usable.members),
            "temperature": temperature,
            "n_labels": int(own.sum()),
            "n_labels_of_others": int((~own).sum()),
            "n_as_ofs": len(np.unique(usable.as_of[own])),
            "first_as_of": to_moment(usable.as_of[own].min()).isoformat(),
            "last_as_of": to_moment(usable.as_of[own].max()).isoformat(),
            "validation": validation,
            "parameters": _as_json(chosen),
            "importance": _importance(booster, usable.members),
        },
    )


def _require(
    rows: MemberRows, own: BoolArray, asset_class: str, parameters: EnsembleParameters
) -> None:
    n_as_ofs = len(np.unique(rows.as_of[own]))
    n_rows = int(own.sum())
    if n_rows < parameters.min_rows or n_as_ofs < parameters.min_as_ofs:
        raise TrainingError(
            f"{asset_class}: {n_rows} settled rows at {n_as_ofs} decision times,"
            f" {parameters.min_rows} at {parameters.min_as_ofs} are needed"
        )
    n_members = int(rows.is_present[own].any(axis=0).sum())
    if n_members < 2:
        raise TrainingError(f"{asset_class}: {n_members} member, 2 are needed")


def _parts(rows: MemberRows, own: BoolArray) -> dict[str, BoolArray]:
    # Rows to train on, to tune on, before the test, and to test on; purged at both cuts.
    moments = np.unique(rows.as_of[own])
    tune = moments[int(TRAIN_SHARE * len(moments))]
    test = moments[int((TRAIN_SHARE + TUNE_SHARE) * len(moments))]
    return {
        "train": rows.known <= tune,
        "tune": own & (rows.as_of >= tune) & (rows.known <= test),
        "before": rows.known <= test,
        "test": own & (rows.as_of >= test),
    }


def _boosted(
    labelled: LabelledRows, asset_class: str, parameters: EnsembleParameters
) -> "Booster":
    import xgboost

    rows, pairs = labelled.rows, labelled.pairs
    loss = np.minimum(member_losses(rows), _LOSS_CAP)
    relative = loss - np.nanmean(loss, axis=1, keepdims=True)
    weight = np.where(
        rows.asset_class[pairs.row] == asset_class, 1.0, parameters.other_class_weight
    )
    data = xgboost.DMatrix(
        pairs.features,
        label=relative[pairs.row, pairs.member],
        weight=weight,
        nthread=1,
    )
    return xgboost.train(
        {
            "objective": "reg:squarederror",
            "tree_method": "hist",
            "max_bin": 64,
            "max_depth": parameters.max_depth,
            "eta": parameters.learning_rate,
            "lambda": parameters.l2,
            "min_child_weight": parameters.min_child_weight,
            "base_score": 0.0,
            "seed": parameters.seed,
            "nthread": 1,
        },
        data,
        num_boost_round=parameters.n_rounds,
    )


def _tuned(
    booster: "Booster", labelled: LabelledRows, parameters: EnsembleParameters
) -> float | None:
    # The temperature with the lowest loss; equal weights unless one is better.
    rows = labelled.rows
    loss = predicted_losses(booster, labelled.pairs)
    best, lowest = None, _mean_loss(rows, equal_weights(rows.is_present))
    for temperature in parameters.temperatures:
        found = _mean_loss(rows, softmax_weights(loss, temperature))
        if found < lowest:
            best, lowest = temperature, found
    return best


def _measured(
    booster: "Booster",
    temperature: float | None,
    before: MemberRows,
    test: LabelledRows,
) -> dict[str, Any]:
    # On rows where every member forecast, so that all are judged on the same ones.
    test = test.keep(np.asarray(test.rows.is_present.all(axis=1)))
    rows = test.rows
    if len(rows.symbol) == 0:
        return {"n_rows": 0}
    equal = equal_weights(rows.is_present)
    weights = (
        equal
        if temperature is None
        else softmax_weights(predicted_losses(booster, test.pairs), temperature)
    )
    past = member_losses(before)
    counts = np.isfinite(past).sum(axis=0)
    means = np.where(
        counts > 0, np.nansum(past, axis=0) / np.maximum(counts, 1), np.inf
    )
    best = int(np.argmin(means))
    losses = member_losses(rows).mean(axis=0)
    return {
        "unit": "mean pinball loss at 10, 50, 90 % over recent volatility",
        "n_rows": len(rows.symbol),
        "n_as_ofs": len(np.unique(rows.as_of)),
        "first_as_of": to_moment(rows.as_of.min()).isoformat(),
        "ensemble": _mean_loss(rows, weights),
        "equal": _mean_loss(rows, equal),
        "best_single": float(losses[best]),
        "best_single_model": rows.members[best],
        "members": {
            name: float(one) for name, one in zip(rows.members, losses, strict=True)
        },
    }


def _mean_loss(rows: MemberRows, weights: FloatArray) -> float:
    band = combined(rows.bands, weights)
    return float(scaled_pinball(band, rows.outcome, rows.scale).mean())


def _importance(booster: "Booster", members: tuple[str, ...]) -> dict[str, float]:
    names = feature_names(members)
    gain: dict[str, Any] = booster.get_score(importance_type="total_gain")
    total = sum(gain.values()) or 1.0
    shares = {names[int(key[1:])]: value / total for key, value in gain.items()}
    newest = sorted(shares.items(), key=lambda one: (-one[1], one[0]))[:12]
    return {name: round(float(share), 4) for name, share in newest}


def _as_json(parameters: EnsembleParameters) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name in parameters.__slots__
        for value in (getattr(parameters, name),)
    }
