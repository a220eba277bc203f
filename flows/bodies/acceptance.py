"""Record whether adapters and the ensemble reach their acceptance figures."""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.runs import Run
from lab.bars.timeframes import step
from lab.scoring.acceptance import MIN_EVENTS, Figure, judge_acceptance
from lab.scoring.event_rows import COLUMNS
from lakehouse.schema.research import GATE_VERDICTS

FAMILIES: Final = ("kronos", "chronos2")
ENSEMBLE: Final = "ensemble"
SEED: Final = 0


def record_acceptance(
    run: Run, *, timeframe: str, families: Sequence[str] = FAMILIES
) -> str:
    """Append the acceptance figures of each family's adapters, whatever they are.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1h` or `1d`.
    families : sequence of str
        Models whose `-lora` variant is held against them.

    Returns
    -------
    str
        One line.

    Notes
    -----
    Point in time: scores and releases known at the run's now. The same figures of the
    same scores are recorded once.
    """
    step(timeframe)
    run.parameters |= {"timeframe": timeframe, "families": list(families)}
    run.seeds["acceptance"] = SEED
    scores = run.read(
        "prediction_scores",
        columns=["model_name", *COLUMNS],
        filter=pc.field("timeframe") == timeframe,
    )
    releases = run.read("economic_calendar")
    members = {
        str(name): scores.filter(pc.field("model_name") == name)
        for name in pc.unique(scores["model_name"]).to_pylist()
    }
    rows, told = [], []
    for family in families:
        tuned = f"{family}-lora"
        if tuned not in members:
            told.append(f"{tuned}: no scored forecast")
            continue
        figures = judge_acceptance(
            members,
            releases,
            tuned=tuned,
            base=family,
            ensemble=ENSEMBLE,
            timeframe=timeframe,
            as_of=run.now,
            rng=np.random.default_rng(SEED),
        )
        known = pc.max(members[tuned]["known_ts"]).as_py()
        rows += [_row(run, f"{tuned}/{timeframe}", one, known) for one in figures]
        told.append(f"{tuned}: " + ", ".join(_said(one) for one in figures))
    n_new = _append_new(run, rows)
    run.count("verdicts", n_new)
    return f"{timeframe}: {'; '.join(told)}"


def _append_new(run: Run, rows: list[dict[str, Any]]) -> int:
    # The table is append only: what it holds is left out.
    stored = set(run.read("gate_verdicts", columns=["verdict_id"])[0].to_pylist())
    fresh = [row for row in rows if row["verdict_id"] not in stored]
    if fresh:
        ids = "\n".join(sorted(row["verdict_id"] for row in fresh))
        digest = hashlib.sha256(ids.encode()).hexdigest()
        run.append(
            "gate_verdicts",
            pa.Table.from_pylist(fresh, schema=GATE_VERDICTS.to_arrow()),
            window=f"acceptance/gate_verdicts/{digest}",
        )
    return len(fresh)


def _row(run: Run, subject: str, figure: Figure, known: datetime) -> dict[str, Any]:
    limit = "maximum" if figure.is_ceiling else "minimum"
    decided: dict[str, Any] = {
        "subject": subject,
        "gate": f"lora_{figure.gate}",
        "inputs": _json(
            {
                "verdict": figure.verdict,
                "value": figure.value,
                "interval_95": [figure.low, figure.high],
                "n_events": figure.n_events,
                "n_rows": figure.n_rows,
                "scores_known_by": known.isoformat(),
            }
        ),
        "thresholds": _json({limit: figure.threshold, "min_events": MIN_EVENTS}),
    }
    return decided | {
        "verdict_id": hashlib.sha256(_json(decided).encode()).hexdigest(),
        "distances": _json(
            {
                "to_threshold": figure.distance,
                "events_missing": max(0, MIN_EVENTS - figure.n_events),
            }
        ),
        "is_passed": figure.verdict == "PASS",
        "decided_at": run.now,
        "run_id": run.run_id,
    }


def _said(figure: Figure) -> str:
    value = "unknown" if figure.value is None else f"{figure.value:.3g}"
    return f"{figure.gate} {value} {figure.verdict}"


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
