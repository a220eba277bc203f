"""Studies of training settings under the root: one file a trial, and what was best.

`studies/<study>/<number>.json` is a trial. Files are only ever added, so a search that is
killed loses the trial it was in and nothing else; the next one takes it up from there.
A file is written whole or not at all, on a disk as on S3. Two searches of one study at
a time write the same trials: each is a function of those before it.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np

from flows.checkpoints.store import CheckpointStore
from flows.runs import Run
from lab.bars.timeframes import to_moment
from lab.learning.config import TrainingConfig
from lab.learning.samples import Samples
from lab.learning.search import SPACES, Record, with_settings
from lab.lifecycle.model_stages import ModelVersion
from lakehouse.clock import parse_moment
from lakehouse.storage.location import Location

CONFIG_FILE: Final = "config.json"
STUDY_FILE: Final = "study.json"


class StudyStore:
    """The studies of a lake.

    Parameters
    ----------
    root : str
        Lake root, a folder or `s3://bucket/prefix`.
    """

    def __init__(self, root: str) -> None:
        self._place = Location.of(root)

    def records(self, study: str) -> list[Record]:
        """Return a study's trials in order; those after a gap do not count.

        Raises
        ------
        TrainingError
            If a file is damaged.
        StoreError
            If the root cannot be read.
        """
        found: list[Record] = []
        while (
            data := self._place.read_bytes(self._path(study, len(found)))
        ) is not None:
            found.append(Record.from_json(data))
        return found

    def add(self, study: str, record: Record) -> None:
        """Write a trial down.

        Raises
        ------
        StoreError
            If the root cannot be written.
        """
        path = self._path(study, record.number)
        self._place.write_bytes(path, record.to_json().encode())

    def _path(self, study: str, number: int) -> str:
        return self._place.path("studies", study, f"{number:06d}.json")


def keep_tuned(
    root: str,
    config: TrainingConfig,
    *,
    model: str,
    study: Mapping[str, Any],
    created_at: datetime,
    cutoff: datetime,
) -> str:
    """Keep the best settings of a study as a checkpoint; return its version.

    Parameters
    ----------
    root : str
        Lake root.
    config : TrainingConfig
        Settings, the learner among them.
    model : str
        Registered model they are for.
    study : mapping
        JSON values: what was searched and how it ended.
    created_at, cutoff : datetime
        Clock time, and when the newest label was known that the search looked at.

    Raises
    ------
    StoreError
        If the root cannot be written.
    """
    files = {
        CONFIG_FILE: config.to_json().encode(),
        STUDY_FILE: json.dumps(dict(study), sort_keys=True).encode(),
    }
    card = {
        "kind": "tuned",
        "created_at": created_at.isoformat(),
        "cutoff": cutoff.isoformat(),
        **study,
    }
    return (
        CheckpointStore(root).save(tuned_name(model, config.model), files, card).version
    )


def tuned_config(
    root: str, *, model: str, learner: str, until: datetime
) -> TrainingConfig | None:
    """Return the settings that the newest search found best; None if there was none.

    Parameters
    ----------
    root : str
        Lake root.
    model, learner : str
        What was searched.
    until : datetime
        Decision time.

    Raises
    ------
    CheckpointError, TrainingError
        If they are damaged.

    Notes
    -----
    Point in time: only searches whose newest label was known by `until`.
    """
    saved = CheckpointStore(root).newest(tuned_name(model, learner), until=until)
    return None if saved is None else TrainingConfig.from_json(saved.files[CONFIG_FILE])


def tuned_until(
    versions: Iterable[ModelVersion], config: TrainingConfig
) -> datetime | None:
    """Return what settings that are given were selected on; None if nobody knows of it.

    Parameters
    ----------
    versions : iterable of ModelVersion
        Of the model. A retraining is given a champion's settings: what a search found
        is selected, by whatever way it came.
    config : TrainingConfig
        Settings.

    Returns
    -------
    datetime or None
        Latest `tuned_until` of a version with equal settings in all that is searched.
    """
    names = ("model", *SPACES.get(config.model, {}))
    found = [
        parse_moment(one.manifest["tuned_until"], what="tuned_until")
        for one in versions
        if one.manifest.get("tuned_until") is not None
        and all(
            one.manifest.get("config", {}).get(name) == getattr(config, name)
            for name in names
        )
    ]
    return max(found, default=None)


def with_tuned(
    run: Run, samples: Samples, config: TrainingConfig, *, model: str
) -> tuple[TrainingConfig, datetime | None]:
    """Return settings with those in place that the newest search found best.

    Parameters
    ----------
    run : Run
        Whose lake; a line of its notes says what was taken.
    samples : Samples
        What will be trained on.
    config : TrainingConfig
        Settings without a search; what is not searched stays.
    model : str
        Registered model.

    Returns
    -------
    config : TrainingConfig
        Settings.
    tuned_until : datetime or None
        The search's cut-off: out-of-fold rows up to it are what the settings were
        selected on, no evidence for them. None without a search.

    Notes
    -----
    Point in time: only searches that knew no label later than the start of the last
    block, on which the training checks what it keeps.
    """
    if len(samples) == 0 or config.model not in SPACES:
        return config, None
    length = np.timedelta64(config.backtest_period_days, "D")
    until = to_moment(samples.start[-1] - length)
    name = tuned_name(model, config.model)
    saved = CheckpointStore(run.workplace.root).newest(name, until=until)
    if saved is None:
        return config, None
    found = TrainingConfig.from_json(saved.files[CONFIG_FILE])
    run.notes.append(f"settings of the newest search: {name}")
    settings = {one: getattr(found, one) for one in SPACES[config.model]}
    return with_settings(config, settings), saved.cutoff


def tuned_name(model: str, learner: str) -> str:
    """Return the checkpoint's name of a model's best settings."""
    return f"tuned-{model}-{learner}"
