"""Exit statuses, one line for every error, one JSON document for every result."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.bodies.sleeve_registry import NewSleeve, register_sleeves
from flows.cli.app import hoist_global_options, run
from flows.cli.session import output
from flows.runs import Run
from flows.wiring import open_workplace
from tests.simulators.places import Place

EVIL = "../../x'; DROP TABLE ohlcv; --\x01"


@pytest.fixture(autouse=True)
def _place(place: Place) -> None:
    """Every test works in a place of its own."""


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = run(list(words))
    caught = capsys.readouterr()
    return status, caught.out, caught.err


def test_init_then_a_whole_day_by_verbs(capsys: pytest.CaptureFixture[str]):
    assert call(capsys, "init")[0] == 0
    status, out, err = call(capsys, "ingest", "ohlcv")
    assert status == 0
    assert "read 19642, good 19388, quarantined 254" in out
    assert "ran without one" in err
    assert call(capsys, "forecast", "--earlier", "3", "--samples", "5")[0] == 0
    assert call(capsys, "score")[0] == 0
    assert call(capsys, "publish")[0] == 0
    assert call(capsys, "resign")[0] == 0
    status, out, _ = call(capsys, "verify", "--history")
    assert status == 0
    assert "shadow/latest_predictions" in out
    assert "metadata files verified" in out
    status, out, _ = call(capsys, "status")
    assert status == 0
    assert "19388" in out
    assert call(capsys, "doctor")[0] == 0
    status, out, _ = call(capsys, "--json", "runs", "--flow", "forecast")
    run_id = json.loads(out)[0]["run_id"]
    assert call(capsys, "verify", run_id)[0] == 0
    assert call(capsys, "replay", run_id)[0] == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["forecast", "--horizon", "x"], 2, "--horizon"),
        (["forecast", "--horizon", "0"], 2, "--horizon"),
        (["forecast", "--nope"], 2, "No such option"),
        (["forecast", "--model", EVIL], 2, "allowed are naive, seasonal"),
        (["forecast", "--timeframe", EVIL], 2, "allowed are 1h, 1d"),
        (["forecast"], 2, "no 1d bars known"),
        (["score", "--timeframe", "7d"], 2, "allowed are 1h, 1d"),
        (["score", "--as-of", "soon"], 2, "--as-of: 'soon' is not an ISO 8601"),
        (["ingest", "ohlcv", "--source", "moon"], 2, "allowed are sample"),
        (["ingest", "ohlcv", "--path", "/nowhere/*.csv"], 2, "/nowhere"),
        (["ingest", "ohlcv", "--path", "\x00"], 2, "path"),
        (["ingest", "calendar", "--path", "/nowhere.csv"], 2, "/nowhere.csv"),
        (["sql", "selec 1"], 2, "syntax error"),
        (["sql", "copy (select 1) to '/tmp/x'"], 2, "not allowed"),
        (["sql"], 2, "a query is needed"),
        (["sql", "select 1", "--format", "xml"], 2, "allowed are table, json"),
        (["sql", "select 1", "--at", "1999-01-01"], 2, ""),
        (["sql", "select 1", "--at", "ohlcv=99"], 2, "ohlcv"),
        (["replay", EVIL], 2, "not in `runs`"),
        (["verify", EVIL], 2, "not in `runs`"),
        (["verify"], 1, "no trusted root"),
        (["publish"], 1, "no repository here"),
        (["resign"], 1, "no repository here"),
        (["keys", "token", "--for", "king"], 2, "token role 'king'"),
        (["keys", "rotate", "nope"], 2, "nope"),
        (["keys", "revoke", "nope"], 2, "nope"),
        (["keys", "enrol", "live-1", "--role", "king"], 2, "allowed are root"),
        (["keys", "enrol", "live-1", "--role", "live"], 1, "enrolled already"),
        (["keys", "enrol", "live-1", "--role", "root", "--owner", "me"], 2, "held by"),
        (["keys", "sign"], 1, "none is staged"),
        (["keys", "sign", "root-1", "--trust", "/nowhere"], 2, "--trust /nowhere"),
        (["keys"], 2, "a command is needed: new, public, list"),
        (["ingest"], 2, "a command is needed: ohlcv, calendar"),
        (["ingest", "calendar"], 2, "needs --path FILE or ALPHALAKE_CALENDAR"),
        (["ingest", "ohlcv", "--source", "ccxt"], 2, "needs --exchange, --symbols"),
        (["ingest", "ohlcv", "--source", "yfinance"], 2, "needs --symbols"),
        (["ingest", "ohlcv", "--symbols", ","], 2, "names nothing"),
        (
            ["ingest", "ohlcv", "--source", "synthetic", "--symbols", "A"],
            2,
            "takes no --symbols",
        ),
        (["train", "winprob", "--steps", "3"], 2, "winprob: takes no --steps"),
        (["train", "winprob", "--config", "/nowhere"], 2, "--config /nowhere: No such"),
        (["compare"], 2, "no version is registered; `alphalake train` makes one"),
        (["score", "--as-of", "2999-01-01"], 2, "later than now"),
        (["score", "--as-of", "0001-01-01T00:00:00+14:00"], 2, "not an ISO 8601"),
        (["verify", "x", "--url", "http://127.0.0.1:9"], 2, "leave out --url"),
        (["verify", "--url", "127.0.0.1:9"], 2, "expected http:// or https://"),
        (["verify", "--url", "http://127.0.0.1:9"], 1, "no trusted root"),
        (["verify", "--trust", "/nowhere"], 2, "--trust /nowhere: No such file"),
        (["sql", "select 1", "--catalog", "x.duckdb"], 2, "not both"),
        (["runs", "--limit", "99999999999999999999"], 2, "--limit"),
        (["--root", "", "status"], 2, "--root: is empty"),
        (["--root", "/dev/null", "status"], 2, "a file, expected a folder"),
        (["keys", "enrol", "x"], 2, "--pem FILE, --role ROLE or both"),
        (["keys", "enrol", "x", "--pem", "/nowhere", "--owner", "me"], 2, "nowhere"),
        (["--now", "soon", "status"], 2, "--now: 'soon'"),
        (["--root", "gs://bucket", "status"], 2, "gs://bucket"),
        (["demo", "--market", "/nowhere"], 2, "no ohlcv_1h.parquet there"),
        (["demo"], 2, "leave out --now and ALPHALAKE_NOW"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], status: int, said: str
):
    if words[0] in {"sql", "keys", "runs"} and len(words) > 1:
        call(capsys, "init")
    got, out, err = call(capsys, *words)
    last = err.strip().splitlines()[-1]
    assert (got, out) == (status, ""), err
    assert last.startswith("alphalake: ")
    assert said in last
    assert "Traceback" not in err
    assert "internal error" not in err


def test_a_learner_and_settings_that_name_another_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    settings = tmp_path / "settings.toml"
    settings.write_text('model = "catboost"\n')
    for kind in ("winprob", "gbm"):
        words = ("train", kind, "--config", str(settings))
        status, _, err = call(capsys, *words, "--learner", "lightgbm")
        assert status == 2
        assert "--learner lightgbm: --config says model = 'catboost'" in err
        err = call(capsys, *words)[2]
        assert "catboost" not in err, "the file names the learner where no option does"


@pytest.mark.parametrize(
    "words",
    [["score", "--timeframe", "7d"], ["nonsense"], ["verify"], ["sql", "selec 1"]],
)
def test_an_error_is_one_json_document_too(
    capsys: pytest.CaptureFixture[str], words: list[str]
):
    call(capsys, "nonsense")  # how the call before spoke is forgotten
    status, out, err = call(capsys, *words, "--json")
    assert status in {1, 2}
    assert set(json.loads(out)) == {"error"}
    assert err == ""


@pytest.mark.parametrize(
    "words",
    [
        ["init"],
        ["status"],
        ["doctor"],
        ["runs"],
        ["keys", "list"],
        ["ingest", "ohlcv"],
        ["heartbeat-is-no-verb"],
        ["sql", "SELECT 1 AS one"],
    ],
)
def test_json_is_one_document_and_nothing_else(
    capsys: pytest.CaptureFixture[str], words: list[str]
):
    _, out, err = call(capsys, "--json", *words)
    json.loads(out)
    assert err == ""


def test_sql_prints_what_it_was_asked_for(capsys: pytest.CaptureFixture[str]):
    call(capsys, "init")
    query = "SELECT 1 AS one, 'a' AS letter, NULL AS gap, 0.5 AS half, [1, 2] AS pair"
    _, out, _ = call(capsys, "sql", query, "--format", "json")
    assert json.loads(out) == [
        {"one": 1, "letter": "a", "gap": None, "half": 0.5, "pair": [1, 2]}
    ]
    _, out, _ = call(capsys, "sql", query, "--format", "csv")
    assert out == 'one,letter,gap,half,pair\n1,a,,0.5,"[1, 2]"\n'
    _, out, _ = call(capsys, "sql", query)
    assert out.splitlines()[0].split() == ["one", "letter", "gap", "half", "pair"]
    _, out, _ = call(capsys, "sql", "SELECT 'nan'::DOUBLE AS x", "--json")
    assert json.loads(out) == [{"x": None}]


def test_a_token_is_printed_once_and_only_its_hash_is_kept(
    capsys: pytest.CaptureFixture[str], place: Place
):
    call(capsys, "init")
    status, out, err = call(capsys, "keys", "token", "--for", "admin")
    token = out.strip()
    assert status == 0
    assert token not in err
    kept = "".join(p.read_text() for p in place.folder.rglob("tokens.json"))
    assert "admin" in kept
    assert token not in kept


def test_keys_are_made_rotated_and_revoked(capsys: pytest.CaptureFixture[str]):
    call(capsys, "init")
    made = call(capsys, "--json", "keys", "new", "carol", "--owner", "carol")
    assert made[0] == 0
    before = json.loads(call(capsys, "--json", "keys", "list")[1])
    assert "carol" in {key["name"] for key in before}
    assert call(capsys, "keys", "enrol", "carol", "--role", "shadow")[0] == 0
    assert call(capsys, "keys", "rotate", "shadow")[0] == 0
    assert call(capsys, "verify")[0] == 0
    assert call(capsys, "keys", "revoke", "carol")[0] == 0
    assert call(capsys, "verify")[0] == 0
    after = json.loads(call(capsys, "--json", "keys", "list")[1])
    assert "carol" not in {key["name"] for key in after}


def test_thaw_lets_time_run_again(
    capsys: pytest.CaptureFixture[str], place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("ALPHALAKE_NOW")
    Path(place.root).mkdir()
    for broken in ("{", "[]", '{"now": 3}'):
        (Path(place.root) / "clock.json").write_text(broken)
        assert call(capsys, "status")[0] == 2
    (Path(place.root) / "clock.json").write_text('{"now": "2018-10-01T00:00:00Z"}')
    assert "frozen by the demo" in call(capsys, "status")[1]
    assert "runs again" in call(capsys, "init", "--thaw")[1]
    assert "frozen" not in call(capsys, "status")[1]


def test_global_options_may_stand_anywhere():
    assert hoist_global_options(["sql", "q", "--json", "--root", "r"]) == [
        "--json",
        "--root",
        "r",
        "sql",
        "q",
    ]
    assert hoist_global_options(["status", "--now=T"]) == ["--now=T", "status"]
    assert hoist_global_options(["sql", "--", "--json"]) == ["sql", "--", "--json"]


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]):
    status, out, _ = call(capsys, "--version")
    assert status == 0
    assert out.strip()[0].isdigit()
    assert output() is not None


def test_a_reader_that_goes_away_is_no_error(place: Place):
    run(["init", "--quiet"])
    command = Path(sys.executable).parent / "alphalake"
    verb = subprocess.Popen(
        [command, "sql", "SELECT * FROM range(200000)", "--format", "csv"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **place.environment},
    )
    assert verb.stdout is not None
    assert verb.stderr is not None
    verb.stdout.readline()
    verb.stdout.close()
    said = verb.stderr.read()
    verb.stderr.close()
    assert verb.wait(timeout=60) in {0, 141}
    assert said == b""


def test_a_damaged_lake_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], place: Place
):
    call(capsys, "ingest", "ohlcv")
    log = Path(place.root) / "tables" / "ohlcv" / "_delta_log"
    for path in log.glob("*.json"):
        path.write_text("{not json")
    for words in (["sql", "SELECT * FROM ohlcv"], ["forecast"]):
        status, _, err = call(capsys, *words)
        assert status in {1, 2}, words
        assert "Traceback" not in err
        assert "internal error" not in err
    status, out, _ = call(capsys, "status")
    assert status == 0
    [damaged] = [line for line in out.splitlines() if " damaged " in line]
    assert damaged.startswith("ohlcv ")
    assert "ingest-ohlcv" in out


def test_the_doctor_looks_at_the_models_that_are_set(
    capsys: pytest.CaptureFixture[str], place: Place, monkeypatch: pytest.MonkeyPatch
):
    call(capsys, "init")
    _, out, _ = call(capsys, "doctor")
    assert "ok    models: kronos-compact+" in out
    monkeypatch.setenv("ALPHALAKE_KRONOS", "/nowhere")
    status, out, _ = call(capsys, "doctor")
    assert status == 1
    assert "fail  models: kronos /nowhere: no such folder, and no Hub id" in out


def test_a_lost_log_is_named_by_the_doctor(
    capsys: pytest.CaptureFixture[str], place: Place
):
    call(capsys, "init")
    call(capsys, "ingest", "ohlcv")
    shutil.rmtree(Path(place.root) / "tables" / "ohlcv" / "_delta_log")
    status, out, _ = call(capsys, "doctor")
    assert status == 1
    assert "data files but no _delta_log: ohlcv" in out


@pytest.mark.parametrize("url", ["http://[::1", "http://x:99999/api", "ftp://x/api"])
def test_an_unusable_prefect_address_is_as_good_as_no_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str
):
    monkeypatch.setenv("PREFECT_API_URL", url)
    status, out, _ = call(capsys, "status")
    assert status == 0
    assert f"none answers at {url}" in out


def test_a_wrong_setting_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ALPHALAKE_MAX_COMMIT_RETRIES", "many")
    status, _, err = call(capsys, "status")
    assert status == 2
    assert err.startswith("alphalake: ALPHALAKE_MAX_COMMIT_RETRIES: Input should be")
    assert err.endswith("not 'many'\n")


def test_no_word_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]):
    status, out, err = call(capsys)
    assert (status, err) == (2, "")
    assert "Commands:" in out


@pytest.mark.parametrize(
    ("words", "redirect", "status"),
    [
        ("status", "> /dev/full", 2),
        ("--json status", "> /dev/full", 2),
        ("status", ">&-", 0),
        ("status", "2>&-", 0),
        ("runs", "| true", 2),
        ("status", "| true", 141),
    ],
)
def test_output_that_goes_nowhere_is_no_traceback(
    place: Place, words: str, redirect: str, status: int
):
    command = Path(sys.executable).parent / "alphalake"
    # The reader has gone before the first word.
    pause = "sleep 0.2; " if redirect.startswith("|") else ""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"({pause}{command} {words}) {redirect}"],
        env={**os.environ, **place.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_an_interrupted_verb_says_nothing_and_leaves_130(place: Place):
    command = Path(sys.executable).parent / "alphalake"
    verb = subprocess.Popen(
        [command, "ingest", "ohlcv", "--source", "synthetic", "--timeframe", "1h"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **place.environment, "ALPHALAKE_NOW": "2018-10-01"},
    )
    time.sleep(0.9)
    verb.send_signal(signal.SIGINT)
    out, err = verb.communicate(timeout=60)
    assert verb.returncode in {0, 130, -signal.SIGINT}, err
    assert "Traceback" not in err + out


def test_verify_proves_the_chain_of_sleeve_transitions(
    capsys: pytest.CaptureFixture[str], place: Place
):
    assert call(capsys, "init")[0] == 0
    assert "sleeve_transitions" not in call(capsys, "verify")[1]
    entries = [NewSleeve(name, "{}", "me") for name in ("a", "b")]
    register_sleeves(Run(open_workplace(), "walk-forward", "walk-forward-1"), entries)
    assert "sleeve_transitions: 2 rows, chain whole" in call(capsys, "verify")[1]

    folder = Path(place.root, "tables", "sleeve_transitions")
    [stored] = [one for one in folder.glob("**/*.parquet") if "_log" not in str(one)]
    rows = pq.read_table(stored).to_pylist()
    rows[-1]["why"] = "bribed"
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(stored)), stored)
    status, out, err = call(capsys, "verify")
    assert (status, out) == (1, "")
    assert re.fullmatch(
        r"alphalake: table sleeve_transitions: row \d: [^\n]*\n", err
    ), err


def test_a_folder_for_plots_is_tried_before_the_work(
    capsys: pytest.CaptureFixture[str], place: Place
):
    file = place.folder / "taken"
    file.touch()
    status, out, err = call(capsys, "--json", "walkforward", "--plots", str(file))
    assert (status, err) == (2, "")
    assert json.loads(out) == {
        "error": f"--plots {file}: cannot be written: File exists"
    }


def test_gates_say_that_nothing_was_walked_yet(capsys: pytest.CaptureFixture[str]):
    status, _, err = call(capsys, "gates", "--sleeve", "phase37")
    assert status == 2
    assert "no sleeve is registered yet; run `alphalake walkforward` first" in err
