"""The win-probability artefact, loaded for answering."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from lab.arrays import FloatArray
from lab.errors import LabError, ModelError
from lab.learning.calibration import Platt
from serve.ml.requests import RowReader
from serve.ml.schemas import MlAnswer, Win
from serve.schemas import ArtefactRef

if TYPE_CHECKING:
    from lab.learning.bundle import Predictor

log = logging.getLogger("alphalake.serve")

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, eq=False)
class WinModel:
    """A published model and what is said of it in every answer.

    Attributes
    ----------
    row : mapping
        The artefact's row, without its bytes.
    predictor : Predictor
        Safe to ask from several threads.
    calibrator : Platt
        Its own.
    reader : RowReader
        Of requests to it.
    """

    row: Mapping[str, Any]
    predictor: "Predictor"
    calibrator: Platt
    reader: RowReader

    def answer(self, body: bytes, *, ref: ArtefactRef, is_stale: bool) -> bytes:
        """Return the JSON answer to a request. Takes a while: call it in a thread.

        Parameters
        ----------
        body : bytes
            JSON of an `MlRequest`.
        ref : ArtefactRef
            The manifest that vouches for the model.
        is_stale : bool
            Whether it could not be verified anew.

        Raises
        ------
        MalformedError
            If the body is not a request to this model.
        """
        rows, is_explained = self.reader.read(body)
        return _encode(
            MlAnswer(
                model_name=self.row["model_name"],
                model_version=self.row["version"],
                learner=self.row["learner"],
                runtime_weight=self.row["runtime_weight"],
                trained_until=self.row["trained_until"],
                features=list(self.reader.names),
                stale=is_stale,
                artefact=ref,
                predictions=self._ask(rows, is_explained=is_explained),
            )
        )

    def _ask(self, rows: FloatArray, *, is_explained: bool) -> list[Win]:
        scores = self.predictor.scores(rows)
        columns = (
            self.calibrator.apply(scores).tolist(),
            self.predictor.is_novel(rows).tolist(),
            scores.tolist(),
        )
        if not is_explained:
            return [
                Win(probability=p, is_novel=novel, score=score)
                for p, novel, score in zip(*columns, strict=True)
            ]
        parts = self.predictor.contributions(rows)
        names = self.reader.names
        return [
            Win(
                probability=p,
                is_novel=novel,
                score=score,
                contributions=dict(zip(names, part[:-1], strict=True)),
                bias=part[-1],
            )
            for p, novel, score, part in zip(*columns, parts.tolist(), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A signed model that cannot be used here."""

    why: str


def index_model(table: pa.Table) -> WinModel | Unreadable | None:
    """Load the row of `artefact_winprob`; None if there is none.

    Parameters
    ----------
    table : pyarrow.Table
        With the schema of the artefact.

    Notes
    -----
    A model that cannot be loaded (its learner is unknown or not installed, or signed
    bytes are none of its format) is told in the answers of `/ml/predict` alone: the
    forecasts of the same publication are served.
    """
    if table.num_rows == 0:
        return None
    (row, *others) = table.to_pylist()
    if others:
        return Unreadable(f"the artefact holds {table.num_rows} models, allowed is one")
    try:
        model = _load(row)
    except (LabError, ImportError, OSError) as error:  # or what the learner links to
        why = f"{row['model_name']} {row['version']}: {error}"[:300]
        log.warning("the model cannot be served: %s", why)
        return Unreadable(why)
    return model


def _load(row: dict[str, Any]) -> WinModel:
    from lab.learning.bundle import load_predictor
    from lab.learning.config import BOOSTERS
    from lab.learning.learners import MODEL_FILES

    if row["learner"] not in BOOSTERS:
        raise ModelError(f"learner {row['learner']!r}: one of {', '.join(BOOSTERS)}")
    files = {
        MODEL_FILES[row["learner"]]: row.pop("model"),
        "calibrator.json": row["calibrator"].encode(),
        "schema.json": row["schema"].encode(),
        "config.json": row["config"].encode(),
    }
    predictor = load_predictor(files)
    if predictor.calibrator is None:
        raise ModelError("it gives no probabilities")
    # The first question would pay for what the library sets up.
    predictor.contributions(np.zeros((1, len(predictor.names))))
    return WinModel(row, predictor, predictor.calibrator, RowReader(predictor.names))


def expiry(valid_until: datetime, now: datetime) -> str | None:
    """Return what to say of a manifest that has run out, or None."""
    if now < valid_until:
        return None
    return (
        f"the model's manifest was valid until {valid_until.isoformat()}, it is now"
        f" {now.isoformat()}; it answers again once a newer one is published"
    )
