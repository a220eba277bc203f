"""What is published of the sleeves, from tables that a walk-forward left."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.bodies.ingest import ingest_bars
from flows.bodies.publish import publish_artefacts, read_content
from flows.bodies.sleeve_book import judged_rung, weekly, why_unlocked
from flows.bodies.sleeve_export import run_sleeve_export
from flows.plots import write_plots
from flows.wiring import Workplace
from lab.backtest.figures import figures
from lab.sleeves.phase37 import LOCKED_HASH
from lakehouse.query import connect
from lakehouse.trust.fetching import LocalFetcher
from lakehouse.trust.verification import TrustedClient
from tests.flows.conftest import run_plainly
from tests.simulators.sleeves import (
    SLEEVES,
    artefacts_of,
    register,
    verdict_rows,
    write_walk,
)

ENDED = datetime(2018, 9, 24, 5, 4, tzinfo=UTC)
RUN = "walk-forward-b"


def walk(workplace: Workplace, run_id: str = RUN, **options) -> None:
    write_walk(workplace.lake, run_id, **{"ended": ENDED, "n_days": 400} | options)


def publish() -> str:
    return run_plainly("publish", publish_artefacts).message


def verified(workplace: Workplace, kind: str) -> list[dict]:
    client = TrustedClient(
        workplace.key_store().trusted_root(),
        LocalFetcher(workplace.root),
        None,
        workplace.clock,
    )
    client.refresh()
    return client.load(kind).to_pylist()


def book_of(workplace: Workplace) -> dict[tuple[str, str], dict]:
    rows = artefacts_of(workplace)["sleeve_book"].to_pylist()
    return {(row["sleeve_id"], row["timeframe"]): row for row in rows}


def test_a_registered_baseline_is_published_before_anything_was_walked(
    workplace: Workplace,
):
    assert publish() == "nothing changed since the last publication"
    register(workplace, ("phase37", "flat"))
    assert publish() == "version 2 published: sleeve_set, signal_weights"
    rows = {row["sleeve_id"]: row for row in verified(workplace, "sleeve_set")}
    assert rows["phase37"]["runtime_weight"] == 1.0
    assert rows["phase37"]["stage"] == "live"
    assert rows["phase37"]["content_sha256"] == LOCKED_HASH
    assert rows["flat"]["runtime_weight"] == 0.0
    assert publish() == "nothing changed since the last publication"


def test_set_and_book_are_signed_and_hold_what_the_run_left(workplace: Workplace):
    walk(workplace)
    register(workplace)
    assert publish() == "version 2 published: sleeve_set, sleeve_book, signal_weights"
    rows = verified(workplace, "sleeve_book")
    assert {(row["sleeve_id"], row["timeframe"]) for row in rows} == {
        (name, "1d") for name in SLEEVES
    }
    (baseline,) = (row for row in rows if row["sleeve_id"] == "phase37")
    assert (baseline["stage"], baseline["runtime_weight"]) == ("live", 1.0)
    assert baseline["n_obs"] == 400
    assert baseline["as_of"] == baseline["last_ts"] + timedelta(days=1)
    assert baseline["run_id_before"] is None
    assert publish() == "nothing changed since the last publication"


def test_every_figure_is_the_engines_own_on_the_rows_of_the_view(workplace: Workplace):
    walk(workplace)
    book = book_of(workplace)
    with connect(workplace.root, threads=1) as session:
        rows = session.sql("FROM sleeve_returns_v1 ORDER BY ts").pl()
        snapshots = session.sql("FROM wf_snapshots").pl()
    for name in SLEEVES:
        for rung in json.loads(book[name, "1d"]["rungs"]):
            bps = rung["slippage_bps"]
            own = rows.filter(sleeve_id=name, slippage_bps=bps)
            windows = snapshots.filter(sleeve_id=name, slippage_bps=bps)
            ts = own["ts"].dt.replace_time_zone(None).to_numpy()
            expected = figures(own["return_net"].to_numpy(), ts)
            for figure in ("sharpe", "annual_return", "volatility", "max_drawdown"):
                value = getattr(expected, figure)
                assert rung[figure] == (value and pytest.approx(value, rel=1e-5))
            turnover = own["turnover"].mean()
            assert rung["turnover_day"] == pytest.approx(turnover, rel=1e-5)
            assert rung["trades"] == windows["trades"].sum()
            share = (windows["return_net"] > 0).mean()
            assert rung["positive_windows"] == pytest.approx(share, rel=1e-5)


def test_the_run_before_is_named_with_its_sharpe(workplace: Workplace):
    walk(workplace, "walk-forward-a", ended=ENDED - timedelta(days=7), n_days=393)
    walk(workplace)
    walk(workplace, "walk-forward-c", ended=ENDED + timedelta(days=1), status="failed")
    row = book_of(workplace)["phase37", "1d"]
    assert (row["run_id"], row["run_id_before"]) == (RUN, "walk-forward-a")
    with connect(workplace.root, threads=1) as session:
        view = session.sql(
            "SELECT slippage_bps, sharpe, sharpe_before FROM wf_degradation"
            " WHERE sleeve_id = 'phase37' ORDER BY slippage_bps"
        ).rows()
    found = json.loads(row["rungs"])
    for rung, expected in zip(found, view, strict=True):
        assert rung["sharpe"] == pytest.approx(expected["sharpe"], rel=1e-4)
        before = expected["sharpe_before"]
        assert rung["sharpe_before"] == pytest.approx(before, rel=1e-4)


def test_each_bar_length_shows_its_own_newest_run(workplace: Workplace):
    walk(workplace, "walk-forward-h", timeframe="1h", sleeves=("phase37",))
    walk(workplace, ended=ENDED - timedelta(days=2))
    book = book_of(workplace)
    assert book["phase37", "1h"]["run_id"] == "walk-forward-h"
    assert book["phase37", "1d"]["run_id"] == RUN


def test_a_sleeve_that_the_newest_run_left_out_is_left_out(workplace: Workplace):
    walk(workplace, "walk-forward-a", ended=ENDED - timedelta(days=7))
    walk(workplace, sleeves=("phase37", "flat"))
    assert {name for name, _ in book_of(workplace)} == {"phase37", "flat"}


def test_the_newest_verdict_on_that_run_counts(workplace: Workplace):
    walk(workplace, sleeves=("phase37", "flat"))
    later = ENDED + timedelta(hours=2)
    for run_id, is_passed in ((RUN, True), ("walk-forward-z", False)):
        rows = verdict_rows(
            "flat", run_id=run_id, decided_at=later, is_passed=is_passed
        )
        workplace.lake.append("gate_verdicts", rows, window=f"again/{run_id}")
        later += timedelta(hours=1)
    gates = json.loads(book_of(workplace)["flat", "1d"]["gates"])
    assert [gate["gate"] for gate in gates] == ["dsr", "reality_check", "pbo"]
    assert [gate["is_passed"] for gate in gates] == [True] * 3
    dsr = gates[0]
    assert dsr["value"] == 0.98
    assert dsr["threshold"] == 0.95
    assert dsr["distance"] == pytest.approx(0.03)
    assert dsr["n_trials"] == 214
    assert dsr["words"].startswith("0.03 to spare. Passes at")
    failed = json.loads(book_of(workplace)["phase37", "1d"]["gates"])[1]
    assert failed["value"] == 0.265
    assert failed["distance"] == pytest.approx(-0.215)
    assert failed["words"].startswith("Reality_check 0.265, asked for 0.05. Passes")


# fmt: off
LOOSENED = [
    ("flat", "runtime_weight", 0.25, "flat has weight 0.25; a candidate has 0"),
    ("phase37", "runtime_weight", 0.5, "phase37 has weight 0.5; locked at 1"),
    ("phase37", "content_sha256", "0" * 64, "registered with other content than is locked"),
]
# fmt: on


@pytest.mark.parametrize(("sleeve_id", "column", "value", "match"), LOOSENED)
def test_a_set_that_is_not_the_locked_one_says_why(
    workplace: Workplace, sleeve_id, column, value, match
):
    register(workplace, ("phase37", "flat"))
    with connect(workplace.root, threads=1) as session:
        rows = read_content(session, "sleeve_set")
    assert why_unlocked(rows) is None
    loose = rows.to_pylist()
    for row in loose:
        if row["sleeve_id"] == sleeve_id:
            row[column] = value
    assert match in str(why_unlocked(pa.Table.from_pylist(loose, schema=rows.schema)))


def test_a_candidate_with_a_weight_is_not_published_and_the_set_before_stays(
    workplace: Workplace,
):
    register(workplace, ("phase37", "flat"))
    publish()
    (row,) = (
        row
        for row in workplace.lake.read("production_sleeve_set").to_pylist()
        if row["artefact_id"] == "flat"
    )
    bold = row | {"seq": row["seq"] + 1, "runtime_weight": 0.5}
    schema = workplace.lake.read("production_sleeve_set").schema
    workplace.lake.append(
        "production_sleeve_set",
        pa.Table.from_pylist([bold], schema=schema),
        window="bold",
    )
    done = run_plainly("publish", publish_artefacts)
    assert done.message == "nothing changed since the last publication"
    assert done.counts["artefacts_refused"] == 1
    assert done.notes == (
        "sleeve_set not published: flat has weight 0.5; a candidate has 0",
    )
    held = {row["sleeve_id"]: row for row in verified(workplace, "sleeve_set")}
    assert held["flat"]["runtime_weight"] == 0.0


@given(
    start=st.integers(0, 3000),
    net=st.lists(st.floats(-1.2, 0.5), min_size=1, max_size=60),
    gaps=st.lists(st.integers(1, 12), min_size=60, max_size=60),
)
def test_weekly_points_are_the_weeks_last_equity_and_deepest_drawdown(start, net, gaps):
    days = np.datetime64("2012-01-01") + start + np.cumsum(gaps[: len(net)])
    ts, equity, drawdown = weekly(days.astype("datetime64[us]"), np.array(net))
    level, peak, by_week = 1.0, 1.0, {}
    for day, value in zip(days.tolist(), net, strict=True):
        level *= max(1 + value, 0.0)
        peak = max(peak, level)
        week = day.isocalendar()[:2]
        deepest = max(by_week.get(week, (0, 0, 0.0))[2], 1 - level / peak)
        by_week[week] = (day, level, deepest)
    expected = list(by_week.values())
    assert ts.astype("datetime64[D]").tolist() == [one[0] for one in expected]
    assert equity == pytest.approx([one[1] for one in expected], rel=1e-5, abs=1e-12)
    assert drawdown == pytest.approx([one[2] for one in expected], rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("rungs", "place"),
    [((0, 5, 10, 20), 2), ((0, 5), 1), ((0, 15, 20), 1), ((10,), 0), ((25, 30), 0)],
)
def test_the_gates_rung_is_shown_else_the_next_dearer(rungs, place):
    assert judged_rung(rungs) == place


def test_a_real_walk_forward_is_published_plotted_and_exported(
    workplace: Workplace, tmp_path
):
    from flows.bodies.walkforward import run_walkforward

    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    walked = run_plainly(
        "walk-forward",
        run_walkforward,
        sleeves=["time-series-momentum"],
        years=2,
        workers=1,
    )
    assert "sleeve_set, sleeve_book" in publish()
    rows = {row["sleeve_id"]: row for row in verified(workplace, "sleeve_book")}
    assert set(rows) == {"phase37", "time-series-momentum"}
    for row in rows.values():
        assert row["run_id"] == walked.run_id
        assert len(json.loads(row["gates"])) == 3
        weights = json.loads(row["weights"])
        assert sum(map(abs, weights.values())) <= 1 + 1e-9
        assert len(json.loads(row["windows"])["start"]) > 15
    plots = write_plots(workplace.lake, walked.run_id, tmp_path / "plots")
    assert len(plots) == 4
    told = run_plainly("sleeve-returns-export", run_sleeve_export)
    n_days = rows["phase37"]["n_obs"]
    assert told.counts["rows_exported"] == n_days * 4 * 2
