"""Train Chronos-2 on the lake's bars: a small one from scratch, or adapters on the base.

The newest fifth of every series' bars is kept back and judges the result. The cut-off in
the card is the newest bar that was read, judged ones included: choosing is learning too.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from flows.bodies.events import open_encoder
from flows.bodies.training_bars import (
    describe_series,
    encoded_history,
    series_by_class,
)
from flows.checkpoints.chronos2 import build_chronos2, read_chronos2, view_of
from flows.checkpoints.kronos import pick_device
from flows.checkpoints.settings import load_model_settings
from flows.checkpoints.store import CheckpointStore, card_cutoff
from flows.runs import Run
from lab.bars.calendars import known_ts
from lab.bars.series import Series
from lab.bars.timeframes import to_moment
from lab.errors import TrainingError
from lab.forecasters.chronos2_inputs import Chronos2View, log_levels
from lab.forecasters.chronos2_windows import Stretch
from lakehouse.errors import InputError

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

    from lab.features.events import EventEncoder

HELD_BACK: Final = 0.2
HORIZON: Final = 120
SCRATCH_STEPS: Final = 1500


class Split(NamedTuple):
    """Log prices to train on and to judge with.

    Attributes
    ----------
    train : list of Stretch
        Oldest four fifths of each series.
    judge : list of Stretch
        The newest fifth, after a context of older bars that are only shown.
    newest : datetime
        When the newest bar of all was known.
    """

    train: list[Stretch]
    judge: list[Stretch]
    newest: datetime


def train_chronos2(
    run: Run,
    *,
    timeframe: str,
    as_of: str | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> str:
    """Train a small Chronos-2 from scratch; kept as `chronos2-<timeframe>`.

    Its folder under the root's `models` opens with `ALPHALAKE_CHRONOS2=<folder>`.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1h` or `1d`.
    as_of : str, optional
        Use only what was known then; now if not given.
    steps, seed : int, optional
        Optimiser steps; seed of weights and windows.

    Raises
    ------
    TrainingError
        If there are not enough bars to train and to judge.

    Notes
    -----
    Point in time: only bars with `known_ts` <= `as_of`.
    """
    from lab.forecasters.chronos2_training import (
        Chronos2Training,
        LevelSet,
        measured_bands,
        train_from_scratch,
    )
    from lab.forecasters.chronos2_weights import (
        Chronos2Shape,
        new_pipeline,
        write_pipeline,
    )

    series = [
        one for each in series_by_class(run, timeframe, as_of).values() for one in each
    ]
    shape = Chronos2Shape()
    view = Chronos2View(shape.length // 2, is_mirrored=True)
    split = split_series(series, context=view.context, what=timeframe)
    settings = Chronos2Training(n_steps=steps or SCRATCH_STEPS)
    pipeline = new_pipeline(shape, seed=seed)
    pipeline.model.to(pick_device(load_model_settings().device))
    run.seeds["train"] = seed
    measures = train_from_scratch(
        pipeline,
        [LevelSet(timeframe, [one.levels[: one.stop] for one in split.train], 1.0)],
        view=view,
        settings=settings,
        rng=np.random.default_rng(seed),
    )
    judged = [one.levels[one.first :] for one in split.judge]
    measures |= measured_bands(
        pipeline, judged, view=view, horizons=(1, 5, 20, 60, HORIZON)
    )
    card = {
        "created_at": run.now.isoformat(),
        "cutoff": split.newest.isoformat(),
        "context": view.context,
        "is_mirrored": view.is_mirrored,
        "takes_events": False,
        "timeframe": timeframe,
        "seed": seed,
        "data": describe_series(series),
        "settings": {name: getattr(settings, name) for name in settings.__slots__},
        "metrics": measures,
        "run_id": run.run_id,
    }
    store = CheckpointStore(run.workplace.root)
    saved = store.save(f"chronos2-{timeframe}", write_pipeline(pipeline), card)
    run.parameters["checkpoint"] = f"{saved.name}/{saved.version}"
    run.notes.append(f"forecast with it: ALPHALAKE_CHRONOS2={store.folder(saved)}")
    return (
        f"{saved.name} {saved.version}: {settings.n_steps} steps on {len(series)}"
        f" series, 80 % band holds {measures['coverage_20']:.0%} at 20 bars"
    )


def finetune_chronos2(
    run: Run,
    *,
    timeframe: str,
    as_of: str | None = None,
    asset_class: str | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> str:
    """Train one LoRA adapter per asset class; kept as `chronos2-lora-<class>-<timeframe>`.

    An adapter is accepted, and used from then on, if its loss on the bars kept back is
    below the base's. All are kept, whatever they measured.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1h` or `1d`.
    as_of : str, optional
        Use only what was known then; now if not given.
    asset_class : str, optional
        Only this one.
    steps, seed : int, optional
        Optimiser steps; seed of adapter and windows.

    Raises
    ------
    InputError
        If there are no bars of the class.
    TrainingError
        If `peft` is missing, or no class has enough bars to train and to judge.

    Notes
    -----
    Point in time: only bars with `known_ts` <= `as_of`.
    """
    from lab.forecasters.chronos2_lora import require_peft

    require_peft()
    classes = series_by_class(run, timeframe, as_of)
    if asset_class is not None and asset_class not in classes:
        found = ", ".join(sorted(classes)) or "none"
        raise InputError(f"--asset-class {asset_class}: classes with bars: {found}")
    wanted = sorted(classes) if asset_class is None else [asset_class]
    tuner = _Tuner(run, timeframe, steps, seed)
    lines = []
    for name in wanted:
        try:
            lines.append(tuner.tune(name, classes[name]))
        except TrainingError as error:
            run.notes.append(f"{name} {timeframe}: not trained: {error}")
    if not lines:
        raise TrainingError(
            run.notes[-1] if run.notes else f"chronos2 {timeframe}: no bars"
        )
    return "; ".join(lines)


class _Tuner:
    """Adapters of one run, all on the same base."""

    def __init__(self, run: Run, timeframe: str, steps: int | None, seed: int) -> None:
        from flows.checkpoints.chronos2_tuning import LoraSettings

        self._run, self._timeframe, self._seed = run, timeframe, seed
        settings = load_model_settings()
        self._source = read_chronos2(settings.chronos2)
        self._base = build_chronos2(self._source)
        device = pick_device(settings.device)
        self._base.model.to(device)
        self._view = view_of(self._base, self._source.card)
        takes_events = bool(self._source.card.get("takes_events", True))
        self._encoder = open_encoder(run, timeframe) if takes_events else None
        usual = LoraSettings(horizon=HORIZON)
        self._settings = LoraSettings(n_steps=steps or usual.n_steps, horizon=HORIZON)
        run.seeds["train"] = seed
        run.parameters["base"] = self._source.version

    def tune(self, name: str, series: Sequence[Series]) -> str:
        from flows.checkpoints.chronos2_tuning import tune_chronos2
        from lab.forecasters.chronos2_lora import adapter_files

        what = f"{name} {self._timeframe}"
        split = split_series(
            series, context=self._view.context, what=what, encoder=self._encoder
        )
        tuned = tune_chronos2(
            self._base,
            split.train,
            view=self._view,
            settings=self._settings,
            seed=self._seed,
        )
        metrics = self._judge(tuned, split.judge)
        is_accepted = metrics["loss"] < metrics["loss_base"]
        saved = CheckpointStore(self._run.workplace.root).save(
            f"chronos2-lora-{name}-{self._timeframe}",
            adapter_files(tuned),
            {
                **self._card(split, series),
                "metrics": metrics,
                "is_accepted": is_accepted,
            },
        )
        self._run.count("adapters", 1)
        verdict = "accepted" if is_accepted else "not accepted"
        return (
            f"{saved.name} {saved.version}: loss {metrics['loss']:.4f}, base"
            f" {metrics['loss_base']:.4f}, {verdict}"
        )

    def _judge(
        self, tuned: "Chronos2Pipeline", kept: Sequence[Stretch]
    ) -> dict[str, float]:
        from lab.forecasters.chronos2_windows import held_out_loss

        base = held_out_loss(self._base, kept, view=self._view, horizon=HORIZON)
        found = held_out_loss(tuned, kept, view=self._view, horizon=HORIZON)
        return {
            "loss": float(found.mean()),
            "loss_base": float(base.mean()),
            "share_better": float(np.mean(found < base)),
            "n_windows": float(len(found)),
        }

    def _card(self, split: Split, series: Sequence[Series]) -> dict[str, Any]:
        base_cutoff = card_cutoff(self._source.card)
        newest = None if base_cutoff is None else max(base_cutoff, split.newest)
        settings = self._settings
        return {
            "created_at": self._run.now.isoformat(),
            "cutoff": None if newest is None else newest.isoformat(),
            "base": self._source.base.source,
            "base_version": self._source.version,
            "context": self._view.context,
            "is_mirrored": self._view.is_mirrored,
            "takes_events": bool(self._source.card.get("takes_events", True)),
            "timeframe": self._timeframe,
            "seed": self._seed,
            "data": describe_series(series),
            "settings": {name: getattr(settings, name) for name in settings.__slots__},
            "run_id": self._run.run_id,
        }


def split_series(
    series: Sequence[Series],
    *,
    context: int,
    what: str,
    encoder: "EventEncoder | None" = None,
) -> Split:
    """Cut each series' log prices into what trains and what judges.

    Parameters
    ----------
    series : sequence of Series
        Already cut at the decision time.
    context : int, bars
        Older bars that a judged window is shown.
    what : str
        Whose they are, for messages.
    encoder : EventEncoder, optional
        Gives the series' events, for a model that takes them.

    Raises
    ------
    TrainingError
        If no series leaves a whole window to judge with.

    Notes
    -----
    Point in time: every series is cut at the same moment, so nothing that trains is
    newer than anything that judges.
    """
    train, judge, newest = [], [], []
    own = sorted(
        one.ts[int(one.n_obs * (1 - HELD_BACK))] for one in series if one.n_obs
    )
    for one in series:
        first = int(np.searchsorted(one.ts, own[len(own) // 2])) if own else 0
        if first < context or one.n_obs - first < HORIZON:
            continue
        levels = log_levels(one)
        events = None if encoder is None else encoded_history(encoder, one)
        train.append(Stretch(levels, 0, first, events))
        judge.append(Stretch(levels, first - context, one.n_obs, events))
        known = known_ts(one.ts[-1:], timeframe=one.timeframe, calendar=one.calendar)
        newest.append(to_moment(known[0]))
    if not judge:
        longest = max((one.n_obs for one in series), default=0)
        needed = max(int(np.ceil(context / (1 - HELD_BACK))), int(HORIZON / HELD_BACK))
        raise TrainingError(f"{what}: {longest} bars, {needed} are needed")
    return Split(train, judge, max(newest))
