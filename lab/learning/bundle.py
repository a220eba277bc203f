"""A trained model as files, and the light reader that asks it.

A bundle holds the model in its library's own safe format (`model.ubj`, `model.cbm`,
`model.txt` or `model.json`; a stack has its members' and the ridge's), and

- `calibrator.json`: Platt's curve, or none for a regression,
- `schema.json`: names, definition and novelty guard of the features,
- `reference.arrow`: profile of the training rows, what drift is measured from,
- `config.json`: the configuration, and the SHA-256 of every other file.

Hashes are checked before a library sees a byte. Reading needs numpy and the model's own
library, imported when it is loaded; a server may load bundles.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from lab.arrays import BoolArray, FloatArray
from lab.errors import FeatureError, ModelError, TrainingError
from lab.learning._base import Learner
from lab.learning.calibration import Platt
from lab.learning.config import BOOSTERS, TrainingConfig
from lab.learning.learners import MODEL_FILES, load_learner
from lab.learning.schema import FeatureSchema
from lab.learning.stack import Stack

CONFIG: Final = "config.json"
CALIBRATOR: Final = "calibrator.json"
SCHEMA: Final = "schema.json"
REFERENCE: Final = "reference.arrow"
_FORMAT: Final = 1
_NO_CALIBRATOR: Final = b'{"kind": "none"}'


@dataclass(frozen=True, slots=True)
class Predictor:
    """A model that answers.

    Attributes
    ----------
    config : TrainingConfig
        How it was trained.
    schema : FeatureSchema
        Its features.
    model : Learner or Stack
        What scores.
    calibrator : Platt or None
        None for a regression.
    """

    config: TrainingConfig
    schema: FeatureSchema
    model: Learner | Stack
    calibrator: Platt | None

    @property
    def names(self) -> tuple[str, ...]:
        """Features, in the order of the columns."""
        return self.schema.names

    @property
    def schema_sha256(self) -> str:
        """Hash of the features' definition."""
        return self.schema.sha256

    def scores(self, features: FloatArray) -> FloatArray:
        """Return raw scores of features of shape (n_rows, n_features), shape (n_rows,).

        Raises
        ------
        ModelError
            If the columns are not the model's, or a value is infinite.
        """
        return self.model.scores(self._checked(features))

    def probabilities(self, features: FloatArray) -> FloatArray:
        """Return calibrated probabilities of a 1, shape (n_rows,).

        Raises
        ------
        ModelError
            If it is a regression; else as `scores`.
        """
        if self.calibrator is None:
            raise ModelError("model is a regression: it has no probabilities")
        return self.calibrator.apply(self.scores(features))

    def predictions(self, features: FloatArray) -> FloatArray:
        """Return probabilities of a classification, values of a regression."""
        scores = self.scores(features)
        return scores if self.calibrator is None else self.calibrator.apply(scores)

    def contributions(self, features: FloatArray) -> FloatArray:
        """Return what each feature adds to the raw score: the library's SHAP values.

        Returns
        -------
        ndarray of shape (n_rows, n_features + 1), float64
            The last column is the expected score; a row's sum is its score.

        Raises
        ------
        ModelError
            As `scores`.
        """
        return self.model.contributions(self._checked(features))

    def is_novel(self, features: FloatArray) -> BoolArray:
        """Return which rows are unlike the training rows, shape (n_rows,)."""
        return self.schema.is_novel(features)

    def _checked(self, features: FloatArray) -> FloatArray:
        table = np.asarray(features, dtype=np.float64)
        if table.ndim != 2 or table.shape[1] != len(self.names):
            raise ModelError(
                f"features of shape {table.shape}, not (n_rows, {len(self.names)})"
            )
        is_bad = np.isinf(table)
        if bool(is_bad.any()):
            column = int(np.flatnonzero(is_bad.any(axis=0))[0])
            raise ModelError(f"feature {self.names[column]} is infinite")
        return table


def build_bundle(
    config: TrainingConfig,
    model: Learner | Stack,
    *,
    schema: FeatureSchema,
    calibrator: Platt | None,
    reference: bytes,
) -> dict[str, bytes]:
    """Return the files of a trained model; equal parts give equal bytes.

    Parameters
    ----------
    config : TrainingConfig
        Of the model; of the ridge for a stack.
    model : Learner or Stack
        Fitted.
    schema : FeatureSchema
        Of its features.
    calibrator : Platt or None
        None for a regression.
    reference : bytes
        See `lab.drift.profile`.
    """
    members: list[str] = []
    if isinstance(model, Stack):
        members, files = list(model.members), model.files()
    else:
        files = {MODEL_FILES[config.model]: model.to_bytes()}
    files |= {
        CALIBRATOR: calibrator.to_json().encode() if calibrator else _NO_CALIBRATOR,
        SCHEMA: schema.to_json().encode(),
        REFERENCE: reference,
    }
    head = {
        "format": _FORMAT,
        "config": asdict(config),
        "members": members,
        "sha256": {name: _sha256(data) for name, data in sorted(files.items())},
    }
    return files | {CONFIG: json.dumps(head, sort_keys=True, indent=1).encode()}


def load_predictor(files: Mapping[str, bytes]) -> Predictor:
    """Read a bundle.

    Parameters
    ----------
    files : mapping of str to bytes
        As `build_bundle` returned them; files it does not name are not looked at.
        `reference.arrow` may be left out: prediction does not need it.

    Raises
    ------
    ModelError
        If a file is missing, altered or not a model's, or they do not fit together.
    """
    config, members = _read_head(files)
    try:
        schema = FeatureSchema.from_json(files[SCHEMA])
    except FeatureError as error:
        raise ModelError(f"bundle: {error}") from error
    model: Learner | Stack
    if members:
        model = Stack.of_files(members, files)
    else:
        model = load_learner(config.model, files[MODEL_FILES[config.model]])
    if model.n_features != schema.n_features:
        raise ModelError(
            f"bundle: a model of {model.n_features} features, a schema of"
            f" {schema.n_features}"
        )
    calibrator = (
        Platt.from_json(files[CALIBRATOR]) if config.is_classification else None
    )
    return Predictor(config, schema, model, calibrator)


def _read_head(files: Mapping[str, bytes]) -> tuple[TrainingConfig, list[str]]:
    if CONFIG not in files:
        raise ModelError(f"bundle: {CONFIG} is missing")
    try:
        head = json.loads(files[CONFIG])
        form, digests = head["format"], dict(head["sha256"])
        members = list(head["members"])
        config = TrainingConfig.from_mapping(head["config"])
    except (ValueError, TypeError, KeyError, TrainingError) as error:
        raise ModelError(f"bundle: {CONFIG} is damaged: {error}") from error
    if form != _FORMAT:
        raise ModelError(f"bundle: format {form!r}, {_FORMAT} is known")
    if any(one not in BOOSTERS for one in members):
        raise ModelError(f"bundle: members {members}: of {', '.join(BOOSTERS)}")
    _check_digests(files, digests, config, members)
    return config, members


def _check_digests(
    files: Mapping[str, bytes],
    digests: Mapping[str, Any],
    config: TrainingConfig,
    members: list[str],
) -> None:
    kinds = {*members, "ridge"} if members else {config.model}
    needed = {CALIBRATOR, SCHEMA, *(MODEL_FILES[kind] for kind in kinds)}
    unnamed = sorted(needed - set(digests))
    if unnamed:
        raise ModelError(f"bundle: {CONFIG} names no {unnamed[0]}")
    for name, digest in digests.items():
        data = files.get(name)
        if data is None and name == REFERENCE:
            continue
        if data is None or _sha256(data) != digest:
            state = "missing" if data is None else "altered"
            raise ModelError(f"bundle: {name} is {state}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
