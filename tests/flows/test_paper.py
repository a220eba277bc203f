"""Paper trading: each bar once and in order, from verified artefacts; what counts."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flows.bodies.lifecycle import explain
from flows.bodies.paper import run_paper
from flows.bodies.publish import publish_artefacts
from flows.bodies.resign import renew_signatures
from flows.bodies.sleeve_registry import Move, NewSleeve, append_moves, register_sleeves
from flows.runs import Outcome, Run, execute
from flows.setup import set_up_trust
from flows.wiring import Workplace
from lab.learning.feature_sets import ORDER_FEATURES
from lab.lifecycle.stages import LADDER
from lab.sleeves.bollinger_reversion import BollingerReversion
from lab.sleeves.phase37 import Phase37
from lakehouse.clock import Clock
from lakehouse.errors import InputError, RefusedError
from lakehouse.schema.catalogue import table_spec
from lakehouse.store import Lake

pytestmark = pytest.mark.xdist_group("paper")

FIRST = datetime(2019, 1, 1, tzinfo=UTC)
TODAY = datetime(2021, 3, 1, tzinfo=UTC)
AT_SEVEN = timedelta(hours=7)
SYMBOLS = {"AAA": "crypto", "BBB": "crypto", "CCC": "crypto", "DDD": "crypto"}
WATCHED = "bollinger-reversion"
N_DAYS = 7


def bars(first: datetime, last: datetime) -> pa.Table:
    """Daily bars that open from `first` up to and without `last`, always the same."""
    days = (last - FIRST).days
    rows = []
    for number, symbol in enumerate(SYMBOLS):
        rng = np.random.default_rng([number, 7])
        close = 100 * np.exp(np.cumsum(0.02 * rng.standard_normal(2000)))
        for day in range((first - FIRST).days, days):
            opened = close[max(day - 1, 0)] * 1.001
            rows.append(
                {
                    "symbol": symbol,
                    "timeframe": "1d",
                    "ts": FIRST + timedelta(days=day),
                    "open": opened,
                    "high": max(opened, close[day]) * 1.01,
                    "low": min(opened, close[day]) * 0.99,
                    "close": close[day],
                    "volume": 1.0,
                    "source": "test",
                    "ingested_at": last,
                    "flags": None,
                }
            )
    return pa.Table.from_pylist(rows, schema=table_spec("ohlcv").to_arrow())


def instruments() -> pa.Table:
    schema = table_spec("instruments").to_arrow()
    rows = [
        dict.fromkeys(schema.names)
        | {
            "symbol": symbol,
            "asset_class": asset_class,
            "calendar": "24x7",
            "is_leader": False,
            "currency": "USD",
            "source": "test",
            "updated_at": TODAY,
        }
        for symbol, asset_class in SYMBOLS.items()
    ]
    return pa.Table.from_pylist(rows, schema=schema)


class World:
    """A lake whose clock is simulated: every day brings its bars, and no others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.day = TODAY

    def place(self, now: datetime | None = None) -> Workplace:
        clock = Clock(now or self.day + AT_SEVEN, "argument")
        lake = Lake.open(str(self.folder / "root"), clock=clock)
        return Workplace(lake, clock, self.folder / "keys", self.folder / "state")

    def run(self, body: Callable[..., str], **parameters: Any) -> Outcome:
        return execute("x", body, workplace=self.place(), parameters=parameters)

    def paper(self, now: datetime | None = None, **parameters: Any) -> Outcome:
        place = self.place(now)
        chosen = {"timeframe": "1d", **parameters}
        return execute("paper", run_paper, workplace=place, parameters=chosen)

    def next_day(self, n_days: int = 1) -> None:
        """Let days pass: each brings its bars when it is over."""
        for _ in range(n_days):
            was, self.day = self.day, self.day + timedelta(days=1)
            window = f"bars/{was:%Y-%m-%d}"
            self.place().lake.append("ohlcv", bars(was, self.day), window=window)
        self.run(renew_signatures)

    def rows(self, table: str, **wanted: Any) -> list[dict[str, Any]]:
        found = self.place().lake.read(table).to_pylist()
        return [
            row for row in found if all(row[name] == v for name, v in wanted.items())
        ]

    def forget(self, *tables: str) -> None:
        """Take away what was traded, as somebody would who starts over."""
        for name in ("decision_records", "bot_orders", "bot_shadow_decisions", *tables):
            shutil.rmtree(self.folder / "root" / "tables" / name)

    def origins(self) -> set[str]:
        """Origins of everything that was traded and watched."""
        rows = [*records(self), *self.rows("bot_orders")]
        return {row["origin"] for row in (*rows, *self.rows("bot_shadow_decisions"))}

    def copy(self, folder: Path) -> "World":
        shutil.copytree(self.folder, folder)
        made = World(folder)
        made.day = self.day
        return made


def _set_up(world: World) -> None:
    place = world.place()
    set_up_trust(place)
    place.lake.append("instruments", instruments(), window="i")
    place.lake.append("ohlcv", bars(FIRST, TODAY), window="bars/history")
    world.run(_register)
    world.run(publish_artefacts)


def _register(run: Run) -> str:
    configuration = BollingerReversion().configuration
    entries = [
        NewSleeve("phase37", Phase37().configuration, "catalogue"),
        NewSleeve(WATCHED, configuration, "catalogue"),
    ]
    register_sleeves(run, entries)
    for day, (stage, above) in enumerate(pairwise(LADDER[:5])):
        moment = run.now - timedelta(days=4 - day)
        move = Move(WATCHED, stage, above, "test", {}, moment)
        append_moves(run, lambda _, move=move: [move])
    return "registered"


@pytest.fixture(scope="module")
def born(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("paper") / "born")
    _set_up(world)
    return world


@pytest.fixture
def world(born: World, tmp_path: Path) -> World:
    return born.copy(tmp_path / "world")


def told(rows: list[dict[str, Any]], *left_out: str) -> list[str]:
    """Rows without who wrote them, in order."""
    gone = {"run_id", *left_out}
    plain = [{k: v for k, v in row.items() if k not in gone} for row in rows]
    return sorted(json.dumps(row, default=str, sort_keys=True) for row in plain)


def records(world: World) -> list[dict[str, Any]]:
    rows = world.rows("decision_records", agent_id="paper-1d")
    return sorted(
        (json.loads(row["input_snapshot"]) | json.loads(row["output"]) for row in rows),
        key=lambda row: str(row["bar"]),
    )


@pytest.fixture(scope="module")
def lived(born: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A week, each day traded when it was news."""
    world = born.copy(tmp_path_factory.mktemp("lived") / "world")
    world.paper()
    for _ in range(N_DAYS - 1):
        world.next_day()
        world.paper()
    return world


def test_days_are_traded_live_one_after_the_other(lived: World):
    found = records(lived)
    assert len(found) == N_DAYS
    assert {row["origin"] for row in found} == {"live"}
    assert len({row["since"] for row in found}) == 1
    opened = lived.rows("bot_orders")
    assert opened
    assert {row["origin"] for row in opened} == {"live"}
    assert {row["sleeve_id"] for row in opened} == {"phase37"}, "weights are 0"
    for row in opened:
        assert set(json.loads(row["features"])) == set(ORDER_FEATURES.names)
    known = {row["bar"][:10]: row["known"] for row in found}
    for row in opened:
        bar = row["entry_ts"] - timedelta(days=1)  # they trade every day
        assert row["decided_at"].isoformat() == known[f"{bar:%Y-%m-%d}"]
    shadows = lived.rows("bot_shadow_decisions")
    assert {row["origin"] for row in shadows} == {"live"}
    assert WATCHED in {row["signal"] for row in shadows}
    assert {"trend", "reversion"} <= {row["signal"] for row in shadows}
    settled = [row for row in shadows if row["settled_at"] is not None]
    assert settled
    assert all(row["settled_at"] > row["decided_at"] for row in settled)
    days = {row["decided_at"] for row in shadows if row["settled_at"] is None}
    assert min(days) >= max(row["decided_at"] for row in shadows) - timedelta(days=1)


def test_a_late_run_trades_the_same_bars_in_order_and_they_count_for_nothing(
    lived: World, world: World
):
    world.paper()
    world.next_day(N_DAYS - 1)
    done = world.paper()
    assert done.counts["bars"] == N_DAYS - 1
    assert done.counts["bars_live"] == 1, "only the newest was news"
    late, on_time = records(world), records(lived)
    assert [row["origin"] for row in late] == [
        "live",
        *["replay"] * (N_DAYS - 2),
        "live",
    ]
    for left, right in zip(late, on_time, strict=True):
        assert left["books"] == right["books"], left["bar"]
    for table in ("bot_orders", "bot_shadow_decisions"):
        assert told(world.rows(table), "origin") == told(lived.rows(table), "origin")
    replayed = [row for row in world.rows("bot_orders") if row["exit_ts"] is not None]
    assert all(row["origin"] == "replay" for row in replayed)


def test_a_bar_is_traded_once(world: World):
    world.paper()
    before = {name: world.rows(name) for name in ("bot_orders", "bot_shadow_decisions")}
    again = world.paper()
    assert again.message.endswith("everything is traded")
    assert {name: world.rows(name) for name in before} == before
    assert len(records(world)) == 1


def test_a_run_that_was_killed_before_its_record_is_done_again_the_same(
    lived: World, world: World, monkeypatch: pytest.MonkeyPatch
):
    world.paper()
    append = Run.append

    def dies(run: Run, table: str, rows: pa.Table, *, window: Any) -> Any:
        if table == "decision_records":
            raise KeyboardInterrupt
        return append(run, table, rows, window=window)

    for _ in range(N_DAYS - 1):
        world.next_day()
        monkeypatch.setattr(Run, "append", dies)
        with pytest.raises(KeyboardInterrupt):
            world.paper()
        monkeypatch.undo()
        world.paper()
    for table in ("bot_orders", "bot_shadow_decisions"):
        assert told(world.rows(table)) == told(lived.rows(table))
    assert [row["books"] for row in records(world)] == [
        row["books"] for row in records(lived)
    ]


def test_a_past_as_of_counts_for_nothing(lived: World, tmp_path: Path):
    cheat = lived.copy(tmp_path / "cheat")
    cheat.forget()
    for day in range(4):
        past = TODAY + AT_SEVEN + timedelta(days=day)
        cheat.paper(as_of=past.isoformat())
    assert cheat.origins() == {"replay"}
    assert len(records(cheat)) == 4


def test_a_clock_that_is_turned_back_counts_for_nothing(lived: World, tmp_path: Path):
    cheat = lived.copy(tmp_path / "cheat")
    cheat.forget("runs")
    cheat.day = TODAY
    for _ in range(4):
        # Signed anew at the time that the clock pretends; the bars after it are there.
        cheat.run(renew_signatures)
        done = cheat.paper()
        assert any("nothing decided now counts as live" in one for one in done.notes)
        cheat.day += timedelta(days=1)
    assert cheat.origins() == {"replay"}


def test_a_clock_that_ran_ahead_and_came_back_counts_for_nothing(world: World):
    world.run(lambda _: "seen")
    ahead = world.place(TODAY + timedelta(days=30))
    execute("x", lambda _: "ahead", workplace=ahead, parameters={})
    world.paper()
    assert world.origins() == {"replay"}


def test_cheating_moves_no_sleeve(lived: World, tmp_path: Path):
    def evidence(world: World) -> dict[str, Any]:
        found = explain(world.place(), WATCHED).document["evidence"]
        return {name: found[name] for name in ("samples", "live_days")}

    honest = evidence(lived)
    assert honest["samples"] > 0
    assert honest["live_days"] == pytest.approx(N_DAYS - 1)
    cheat = lived.copy(tmp_path / "cheat")
    cheat.paper(is_backfill=True)
    assert evidence(cheat) == honest
    cheat.forget()
    cheat.paper(as_of=(TODAY + AT_SEVEN).isoformat())
    cheat.next_day(40)
    cheat.run(publish_artefacts)
    cheat.paper()
    assert len(records(cheat)) > 40
    assert evidence(cheat) == {"samples": 0, "live_days": 0.0}


def test_a_backfill_replays_the_baseline_alone_and_counts_for_nothing(world: World):
    done = world.paper(is_backfill=True)
    rows = world.rows("bot_orders")
    assert len(rows) > 30
    assert {row["origin"] for row in rows} == {"backfill"}
    assert {row["sleeve_id"] for row in rows} == {"phase37"}
    assert world.rows("bot_shadow_decisions") == []
    assert f"{sum(r['exit_ts'] is not None for r in rows)} closed" in done.message
    again = world.paper(is_backfill=True)
    assert again.message.endswith("all stored already")
    assert world.rows("bot_orders") == rows
    world.next_day(3)
    world.paper(is_backfill=True)
    later = {row["order_id"]: row for row in world.rows("bot_orders")}
    for row in rows:
        if row["exit_ts"] is not None:
            assert told([later[row["order_id"]]]) == told([row])
    world.paper()
    origins = {row["origin"] for row in world.rows("bot_orders")}
    assert origins == {"backfill"}, "the paper book fills with the next bar"


def test_a_backfill_that_was_killed_before_its_record_is_recorded_by_the_next(
    world: World,
):
    world.paper(is_backfill=True)
    shutil.rmtree(world.folder / "root" / "tables" / "decision_records")
    for _ in range(2):
        again = world.paper(is_backfill=True)
        assert again.message.endswith("all stored already")
        assert len(world.rows("decision_records", agent_id="paper-backfill")) == 1


def test_a_backfill_sees_no_bar_after_its_time(world: World):
    cut = TODAY - timedelta(days=100)
    world.paper(is_backfill=True)
    whole = world.rows("bot_orders")
    world.paper(is_backfill=True, as_of=cut.isoformat())
    early = world.rows("bot_orders")
    closed = [row for row in whole if row["exit_ts"] and row["exit_ts"] < cut]
    assert told([row for row in early if row["exit_ts"]]) == told(closed)


def test_what_does_not_verify_is_not_traded_on_and_positions_are_kept(world: World):
    world.paper()
    world.next_day()
    world.paper()
    held = records(world)[-1]["books"]
    world.next_day()
    (data,) = world.folder.glob("root/tables/artefact_signal_weights/*.parquet")
    good = data.read_bytes()
    data.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(RefusedError, match="nothing traded, positions kept"):
        world.paper()
    assert records(world)[-1]["books"] == held
    (refused,) = world.rows("decision_records", agent_id="paper-artefacts")
    assert json.loads(refused["output"]) == {"is_refused": True, "positions": "kept"}
    assert "signed" in refused["rationale"]
    data.write_bytes(good)
    assert world.paper().counts["bars"] == 1, "the bar was left to be traded"


def test_signatures_that_ran_out_are_refused_with_what_renews_them(world: World):
    later = world.day + timedelta(days=3)
    with pytest.raises(RefusedError, match=r"expired at .*`alphalake resign` renews"):
        world.paper(now=later)


def test_without_published_artefacts_nothing_is_traded(tmp_path: Path):
    world = World(tmp_path / "bare")
    place = world.place()
    set_up_trust(place)
    place.lake.append("instruments", instruments(), window="i")
    place.lake.append("ohlcv", bars(FIRST, TODAY), window="bars/history")
    with pytest.raises(RefusedError, match="nothing traded"):
        world.paper()
    assert world.rows("bot_orders") == []
    assert world.paper(is_backfill=True).counts["orders"] > 0


def test_a_day_is_decided_on_once_its_last_market_closed(world: World):
    world.next_day()
    before = world.day - timedelta(minutes=1)
    done = world.paper(now=before)
    assert done.counts["bars_live"] == 0
    assert records(world)[-1]["bar"].startswith("2021-02-28")
    with pytest.raises(InputError, match="later than now"):
        world.paper(as_of=(world.day + timedelta(days=9)).isoformat())


def test_published_signals_trade_a_book_of_their_own_and_leave_the_baseline_s(
    lived: World, world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("flows.bodies.publish._LOCKS", {})
    weighted = {
        "artefact_id": "trend",
        "seq": 0,
        "kind": "signal",
        "version": "1",
        "manifest_sha256": "0" * 64,
        "stage": "live",
        "runtime_weight": 0.5,
        "changed_at": TODAY,
        "run_id": "people",
    }
    schema = table_spec("production_sleeve_set").to_arrow()
    table = pa.Table.from_pylist([weighted], schema=schema)
    world.place().lake.append("production_sleeve_set", table, window="people")
    world.run(publish_artefacts)
    world.paper()
    for _ in range(N_DAYS - 1):
        world.next_day()
        world.paper()
    orders = world.rows("bot_orders")
    assert {row["sleeve_id"] for row in orders} == {"phase37", "signals"}
    own = [row for row in orders if row["sleeve_id"] == "phase37"]
    assert told(own) == told(lived.rows("bot_orders")), "never diluted"
    shadows = world.place().lake.read("bot_shadow_decisions")
    assert "trend" not in set(pc.unique(shadows["signal"]).to_pylist())
    for row in records(world):
        added = row["books"]["signals"]["rows"].values()
        assert sum(abs(one["target"]) for one in added) <= 0.25 + 1e-12
