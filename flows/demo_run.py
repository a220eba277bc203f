"""The flows of the demo, in order, and what they added."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from flows.runs import Outcome
from lakehouse.errors import RefusedError
from lakehouse.store import Lake

DATA_TABLES: Final = (
    "instruments",
    "ohlcv",
    "quarantine",
    "economic_calendar",
    "ml_predictions",
    "prediction_scores",
    "conformal_bands",
    "skill_verdicts",
    "regimes",
    "sleeve_returns",
    "wf_snapshots",
    "trials",
    "gate_verdicts",
    "sleeve_transitions",
    "bot_orders",
    "bot_shadow_decisions",
    "model_events",
    "model_predictions",
)
# A network's forecast costs a thousand times a baseline's: the demo makes fewer.
MODEL_STRIDE: Final = {"1d": 2, "1h": 3}


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What a demo does.

    Attributes
    ----------
    now : datetime
        The date it takes as the present, UTC.
    timeframe : str
        `1h` or `1d`.
    days : int
        Earlier moments to forecast as of.
    every : int
        Days between them: trading days for daily bars.
    source : str
        Of the bars.
    bars, releases : Path or None
        Files, for the source `files`.
    symbols : tuple of str
        Only these; all if empty.
    """

    now: datetime
    timeframe: str
    days: int
    every: int
    source: str
    bars: Path | None = None
    releases: Path | None = None
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Rows of the data tables at one moment.

    Attributes
    ----------
    counts : dict of str to int
        Table to rows.
    """

    counts: dict[str, int]

    @classmethod
    def of(cls, lake: Lake) -> "RowCounts":
        """Count the rows of every data table."""
        return cls(
            {
                name: lake.read(name, columns=[_first_key(name)]).num_rows
                for name in DATA_TABLES
            }
        )

    def minus(self, before: "RowCounts") -> dict[str, int]:
        """Return the rows added since `before`."""
        return {name: n - before.counts[name] for name, n in self.counts.items()}

    def compare(self, before: "RowCounts") -> str:
        """Say what was added since `before`."""
        added = {name: n for name, n in self.minus(before).items() if n}
        total = ", ".join(f"{name} {n}" for name, n in self.counts.items())
        if not added:
            return f"no data row added: everything was there already ({total})"
        return "added " + ", ".join(f"{name} +{n}" for name, n in added.items())


def _first_key(table: str) -> str:
    from lakehouse.schema.catalogue import table_spec

    return table_spec(table).key[0]


def run_story(plan: DemoPlan, tell: Callable[[str, str], None]) -> list[Outcome]:
    """Ingest, forecast, score, walk sleeves forward, trade on paper, learn and publish.

    Parameters
    ----------
    plan : DemoPlan
        What to do.
    tell : callable
        Called with a step's name and what came of it.
    """
    from flows.forecast import forecast
    from flows.ingest import ingest_calendar, ingest_ohlcv
    from flows.lifecycle import sleeve_lifecycle
    from flows.paper import paper
    from flows.publish import publish
    from flows.score import score_signals
    from flows.train import train_ensemble
    from flows.train_models import train_winprob
    from flows.walkforward import walk_forward

    outcomes: list[Outcome] = []

    def done(step: str, outcome: Outcome) -> None:
        outcomes.append(outcome)
        tell(step, outcome.message)

    done(
        "ingest",
        ingest_ohlcv(
            source=plan.source,
            timeframe=plan.timeframe,
            path=None if plan.bars is None else str(plan.bars),
            symbols=list(plan.symbols) or None,
        ),
    )
    if plan.releases is not None:
        done("calendar", ingest_calendar(path=str(plan.releases)))
    done(
        "forecast",
        forecast(
            model="naive,seasonal",
            timeframe=plan.timeframe,
            earlier=plan.days,
            every=plan.every,
        ),
    )
    stride = MODEL_STRIDE[plan.timeframe]
    done(
        "models",
        forecast(
            model="kronos,chronos2",
            timeframe=plan.timeframe,
            earlier=plan.days // stride,
            every=plan.every * stride,
        ),
    )
    done("score", score_signals(timeframe=plan.timeframe))
    # The ensemble learns from scores, as of past moments, and is then scored itself.
    done("ensemble", train_ensemble(timeframe=plan.timeframe, is_backfill=True))
    done("judge", score_signals(timeframe=plan.timeframe))
    done("walkforward", walk_forward(timeframe=plan.timeframe))
    done("lifecycle", sleeve_lifecycle())
    done("publish", publish())
    # What is signed is traded: the past teaches, the newest bar is decided on.
    done("orders", paper(timeframe=plan.timeframe, is_backfill=True))
    try:
        done("winprob", train_winprob())
        done("publish", publish())
    except RefusedError as error:
        tell("winprob", str(error))
    done("paper", paper(timeframe=plan.timeframe))
    return outcomes
