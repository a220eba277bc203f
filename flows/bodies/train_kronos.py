"""Train Kronos on the lake's bars: every weight, or one LoRA per asset class.

The newest bars of each class are kept back: the earlier half of them says when to stop,
the later half judges. The cut-off in the card is the newest bar that was read, judged
ones included: choosing is learning too.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from flows.bodies.events import open_encoder
from flows.bodies.training_bars import (
    describe_series,
    encoded_history,
    series_by_class,
)
from flows.checkpoints.folders import CONFIG, WEIGHTS
from flows.checkpoints.kronos import build_pair, read_pair
from flows.checkpoints.kronos_lora import EVENTS_FILE
from flows.checkpoints.settings import load_model_settings
from flows.checkpoints.store import CheckpointStore, card_cutoff
from flows.runs import Run
from lab.bars.calendars import known_ts
from lab.bars.series import Series
from lab.bars.timeframes import to_moment
from lab.errors import TrainingError
from lakehouse.errors import InputError

if TYPE_CHECKING:
    from flows.checkpoints.kronos import Pair
    from lab.features.events import EventEncoder
    from lab.forecasters.kronos.finetune import FineTuned
    from lab.forecasters.kronos.training import StepReport, TrainingConfig
    from lab.forecasters.kronos.windows import Split, WindowPlan, Windows

LOOKBACK: Final = 96
PREDICT: Final = 32
STRIDES: Final = {"1h": 24, "1d": 8}
HELD_BACK: Final = 0.25
MIN_TRAINING: Final = 32
MIN_JUDGED: Final = 8
"""Fewest windows to learn from, and to judge by."""

STEPS: Final = 200
LORA_RATE: Final = 1e-3
FULL_RATE: Final = 4e-5


class Parts(NamedTuple):
    """Windows of one training.

    Attributes
    ----------
    split : Split
        To learn from, and to stop by.
    judged : Windows
        Later ones still.
    newest : datetime
        When the newest bar of all was known.
    """

    split: "Split"
    judged: "Windows"
    newest: datetime


def train_kronos(
    run: Run,
    *,
    timeframe: str,
    as_of: str | None = None,
    steps: int | None = None,
    max_minutes: float | None = None,
    seed: int = 0,
) -> str:
    """Fine-tune every weight of Kronos' predictor; kept as `kronos-<timeframe>`.

    Its tokenizer is kept beside it as `kronos-tokenizer-<timeframe>`. The folders under
    the root's `models` open with `ALPHALAKE_KRONOS` and `ALPHALAKE_KRONOS_TOKENIZER`.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1h` or `1d`.
    as_of : str, optional
        Use only what was known then; now if not given.
    steps : int, optional
        Optimiser steps.
    max_minutes : float, optional
        End earlier after this long; the same seed may give other weights then.
    seed : int
        Of the windows' order.

    Raises
    ------
    InputError
        If there are no bars.
    TrainingError
        If there are too few windows to learn from or to judge by.

    Notes
    -----
    Point in time: only bars with `known_ts` <= `as_of`.
    """
    from lab.forecasters.kronos.weights import write

    classes = series_by_class(run, timeframe, as_of)
    series = [one for each in classes.values() for one in each]
    tuner = _Tuner(run, timeframe, steps, max_minutes, seed)
    parts = cut_parts(series, plan=tuner.plan, what=timeframe)
    done = tuner.tune_fully(parts)
    store = CheckpointStore(run.workplace.root)
    codes = tuner.pair.tokenizer
    kept_codes = store.save(
        f"kronos-tokenizer-{timeframe}",
        {CONFIG: codes.config, WEIGHTS: codes.weights},
        {"created_at": run.now.isoformat(), "cutoff": tuner.base_cutoff},
    )
    config, weights = write(done.network)
    saved = store.save(
        f"kronos-{timeframe}",
        {CONFIG: config, WEIGHTS: weights},
        tuner.card(done, parts, series),
    )
    run.parameters["checkpoint"] = f"{saved.name}/{saved.version}"
    run.notes.append(
        f"forecast with it: ALPHALAKE_KRONOS={store.folder(saved)}"
        f" ALPHALAKE_KRONOS_TOKENIZER={store.folder(kept_codes)}"
    )
    return f"{saved.name} {saved.version}: {_outcome(done)}"


def finetune_kronos(
    run: Run,
    *,
    timeframe: str,
    as_of: str | None = None,
    asset_class: str | None = None,
    steps: int | None = None,
    max_minutes: float | None = None,
    seed: int = 0,
) -> str:
    """Train one LoRA per asset class; kept as `kronos-lora-<class>-<timeframe>`.

    Where the lake has releases or leaders, an event adapter is trained along. A LoRA is
    accepted, and used from then on, if its cross-entropy on the bars kept back is below
    the base's. All are kept, whatever they measured.

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
    steps : int, optional
        Optimiser steps of each.
    max_minutes : float, optional
        End each earlier after this long; the same seed may give other weights then.
    seed : int
        Of adapters and windows' order.

    Raises
    ------
    InputError
        If there are no bars of the class.
    TrainingError
        If `peft` is missing, or no class has enough bars to train and to judge.

    Notes
    -----
    Point in time: only bars with `known_ts` <= `as_of`; events of a window as they
    were known at the end of its look-back.
    """
    from lab.forecasters.kronos.lora import require_peft

    require_peft()
    classes = series_by_class(run, timeframe, as_of)
    if asset_class is not None and asset_class not in classes:
        found = ", ".join(sorted(classes)) or "none"
        raise InputError(f"--asset-class {asset_class}: classes with bars: {found}")
    wanted = sorted(classes) if asset_class is None else [asset_class]
    tuner = _Tuner(run, timeframe, steps, max_minutes, seed)
    encoder = open_encoder(run, timeframe)
    lines, reason = [], f"kronos {timeframe}: no bars"
    for name in wanted:
        try:
            parts = cut_parts(
                classes[name],
                plan=tuner.plan,
                what=f"{name} {timeframe}",
                encoder=encoder,
            )
        except TrainingError as error:
            reason = f"{name} {timeframe}: not trained: {error}"
            run.notes.append(reason)
            continue
        lines.append(_tune_class(tuner, name, parts, classes[name]))
    if not lines:
        raise TrainingError(reason)
    return "; ".join(lines)


def cut_parts(
    series: Sequence[Series],
    *,
    plan: "WindowPlan",
    what: str,
    encoder: "EventEncoder | None" = None,
) -> Parts:
    """Cut windows to learn from, to stop by and to judge by, one after the other.

    Parameters
    ----------
    series : sequence of Series
        Already cut at the decision time.
    plan : WindowPlan
        How windows are cut.
    what : str
        Whose they are, for messages.
    encoder : EventEncoder, optional
        Gives the series' events.

    Raises
    ------
    TrainingError
        If there are too few windows for any of the three.

    Notes
    -----
    Point in time: the three are disjoint in time over all series.
    """
    from lab.forecasters.kronos.windows import split_windows

    newest = max(_newest(one) for one in series)
    told = (
        None if encoder is None else [encoded_history(encoder, one) for one in series]
    )
    split = split_windows(series, plan, cutoff=newest, share=HELD_BACK, events=told)
    stop, judged = _halves(split.validation)
    if split.train.n_windows < MIN_TRAINING or judged.n_windows < MIN_JUDGED:
        raise TrainingError(
            f"{what}: {split.train.n_windows} windows of {plan.n_rows} bars to learn"
            f" from and {judged.n_windows} to judge by; {MIN_TRAINING} and {MIN_JUDGED}"
            " are needed"
        )
    if stop.n_windows == 0:
        raise TrainingError(f"{what}: no window of {plan.n_rows} bars to stop by")
    return Parts(replace(split, validation=stop), judged, newest)


class _Tuner:
    """Trainings of one run, all from the same base."""

    def __init__(
        self,
        run: Run,
        timeframe: str,
        steps: int | None,
        max_minutes: float | None,
        seed: int,
    ) -> None:
        from lab.forecasters.kronos.windows import WindowPlan

        settings = load_model_settings()
        self.pair: Pair = read_pair(settings.kronos, settings.kronos_tokenizer)
        self.tokenizer, self.network = build_pair(self.pair)
        self.plan = WindowPlan(LOOKBACK, PREDICT, STRIDES[timeframe])
        self._run, self._timeframe, self._seed = run, timeframe, seed
        self._steps, self._max_minutes = steps or STEPS, max_minutes
        run.seeds["train"] = seed
        run.parameters["base"] = self.pair.version

    @property
    def base_cutoff(self) -> str | None:
        """The base's cut-off as its card states it."""
        stated = card_cutoff(self.pair.predictor.card)
        return None if stated is None else stated.isoformat()

    def tune_fully(self, parts: Parts) -> "FineTuned":
        return self._tune(parts, rate=FULL_RATE, is_lora=False)

    def tune_lora(self, parts: Parts) -> "FineTuned":
        return self._tune(parts, rate=LORA_RATE, is_lora=True)

    def _tune(self, parts: Parts, *, rate: float, is_lora: bool) -> "FineTuned":
        import torch

        from lab.forecasters.kronos.adapter import EventAdapter
        from lab.forecasters.kronos.finetune import fine_tune
        from lab.forecasters.kronos.lora import LoraSettings

        generator = torch.Generator().manual_seed(self._seed)
        takes_events = is_lora and parts.split.train.has_events
        adapter = (
            EventAdapter(self.network.config.d_model, generator=generator)
            if takes_events
            else None
        )
        return fine_tune(
            self.network,
            self.tokenizer,
            parts.split,
            self.config(rate),
            generator,
            lora=LoraSettings() if is_lora else None,
            adapter=adapter,
            judged=parts.judged,
            progress=_until(self._max_minutes),
        )

    def config(self, rate: float) -> "TrainingConfig":
        """Return how these trainings are made."""
        from lab.forecasters.kronos.training import TrainingConfig

        return TrainingConfig(
            self._steps,
            batch_size=16,
            learning_rate=rate,
            validate_every=max(1, min(25, self._steps)),
            n_validation=128,
            patience=4,
            dependency="both",
        )

    def card(
        self, done: "FineTuned", parts: Parts, series: Sequence[Series]
    ) -> dict[str, Any]:
        """Return what is known of a training's weights."""
        base = card_cutoff(self.pair.predictor.card)
        newest = None if base is None else max(base, parts.newest).isoformat()
        stated = self.pair.predictor.card
        return {
            "created_at": self._run.now.isoformat(),
            "cutoff": newest,
            "base": self.pair.predictor.source,
            "base_version": self.pair.version,
            "base_sha256": self.pair.sha256,
            "tokenizer_sha256": self.pair.tokenizer.sha256[WEIGHTS],
            **{key: stated[key] for key in ("context", "sampling") if key in stated},
            "window": self.pair.window,
            "takes_events": done.adapter is not None,
            "timeframe": self._timeframe,
            "seed": self._seed,
            "settings": asdict(self.config(FULL_RATE if not done.files else LORA_RATE)),
            "data": describe_series(series),
            "metrics": {
                "windows": parts.split.train.n_windows,
                "event_windows": int(parts.split.train.is_event.sum()),
                "judged_windows": parts.judged.n_windows,
                "steps": done.result.steps,
                "best_step": done.result.best_step,
                **{f"{k}_base": v for k, v in done.before._asdict().items()},
                **done.after._asdict(),
            },
            "is_accepted": done.after.ce < done.before.ce,
            "run_id": self._run.run_id,
        }

    def save(self, name: str, files: Mapping[str, bytes], card: dict[str, Any]) -> str:
        """Keep a checkpoint; return its name and version."""
        saved = CheckpointStore(self._run.workplace.root).save(name, files, card)
        self._run.count("adapters", 1)
        return f"{saved.name} {saved.version}"


def _tune_class(
    tuner: _Tuner, name: str, parts: Parts, series: Sequence[Series]
) -> str:
    done = tuner.tune_lora(parts)
    files = dict(done.files)
    if done.adapter is not None:
        files[EVENTS_FILE] = done.adapter.to_bytes()
    timeframe = series[0].timeframe
    saved = tuner.save(
        f"kronos-lora-{name}-{timeframe}", files, tuner.card(done, parts, series)
    )
    return f"{saved}: {_outcome(done)}"


def _outcome(done: "FineTuned") -> str:
    verdict = "accepted" if done.after.ce < done.before.ce else "not accepted"
    return (
        f"{done.result.steps} steps, cross-entropy {done.after.ce:.4f}, base"
        f" {done.before.ce:.4f}, {verdict}"
    )


def _until(max_minutes: float | None) -> "Callable[[StepReport], bool] | None":
    if max_minutes is None:
        return None
    end = time.monotonic() + 60.0 * max_minutes
    return lambda _: time.monotonic() < end


def _halves(windows: "Windows") -> tuple["Windows", "Windows"]:
    # By time, without a shared bar; what reaches over the middle belongs to neither.
    first, last = windows.first_ts(), windows.last_ts()
    middle = first.min() + (last.max() - first.min()) // 2
    return (
        windows.take(np.flatnonzero(last < middle)),
        windows.take(np.flatnonzero(first >= middle)),
    )


def _newest(series: Series) -> datetime:
    known = known_ts(
        series.ts[-1:], timeframe=series.timeframe, calendar=series.calendar
    )
    return to_moment(known[0])
