"""Routes that ask for a token: the repository and operations."""

import threading
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lakehouse.clock import Clock
from lakehouse.schema.catalogue import table_spec
from lakehouse.store import Lake
from lakehouse.trust.tokens import issue
from serve.laboratory import LabReport
from serve.pulls import PullLog
from tests.simulators.artefacts import NOW

PATHS = (
    "/artefacts/metadata/timestamp.json",
    "/artefacts/targets/shadow/instruments.json",
    "/artefacts/tables/artefact_instruments/part-0.parquet",
    "/admin/health",
)


@pytest.fixture
def folder(client) -> Path:
    return client.app.inner.state.gateway.pulls.folder


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer wrong", "bearer \xff"],
)
def test_without_a_live_token_it_is_401(client, folder, path, header):
    issue(folder, "admin", now=NOW)
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    answer = client.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_token_opens_only_its_own_routes(client, folder):
    admin = issue(folder, "admin", now=NOW)
    consumer = issue(folder, "consumer:desk", now=NOW)
    assert client.get("/admin/health", headers=bearer(consumer)).status_code == 401
    assert client.get(PATHS[0], headers=bearer(admin)).status_code == 401
    assert client.get("/admin/health", headers=bearer(admin)).status_code == 200


def test_a_pull_is_noted_and_shown(client, provider, folder):
    provider.files["artefacts/metadata/timestamp.json"] = b"{}"
    token = issue(folder, "consumer:desk", now=NOW)
    issue(folder, "consumer:idle", now=NOW)
    admin = issue(folder, "admin", now=NOW)
    got = client.get(PATHS[0], headers=bearer(token))
    assert (got.status_code, got.content) == (200, b"{}")
    assert client.get(PATHS[1], headers=bearer(token)).status_code == 404
    health = client.get("/admin/health", headers=bearer(admin)).json()
    assert health["consumers"] == [
        {
            "consumer": "desk",
            "last_successful_pull": "2022-03-04T21:00:00Z",
            "n_pulls": 2,
        },
        {"consumer": "idle", "last_successful_pull": None, "n_pulls": 0},
    ]
    assert health["unsigned"] is True
    assert health["lab_uptime"] is None
    assert health["substrate"] is None


def test_a_damaged_log_of_pulls_stops_neither_pulls_nor_operations(
    client, provider, folder, caplog
):
    provider.files["artefacts/metadata/timestamp.json"] = b"{}"
    token = issue(folder, "consumer:desk", now=NOW)
    admin = issue(folder, "admin", now=NOW)
    (folder / "pulls.sqlite").write_bytes(b"no database" * 100)
    assert client.get(PATHS[0], headers=bearer(token)).content == b"{}"
    assert "is not noted" in caplog.text
    health = client.get("/admin/health", headers=bearer(admin))
    assert health.status_code == 200
    assert health.json()["consumers"] == []
    assert "not a database" in health.json()["telemetry_problem"]
    log = PullLog(folder)
    log.start(NOW)
    log.note("desk", "x", status=200, n_bytes=1, now=NOW)
    assert [pull.n_pulls for pull in log.summary([])] == [1]


def test_a_silent_lake_holds_one_thread_and_no_answer(client, folder, monkeypatch):
    release, asked = threading.Event(), []

    def wait(root: str, *, now: datetime) -> LabReport:
        asked.append(root)
        release.wait(20)
        return LabReport(None, None, None)

    monkeypatch.setattr("serve.laboratory.read_lab", wait)
    client.app.inner.state.gateway.laboratory.patience_s = 0.05
    admin = bearer(issue(folder, "admin", now=NOW))
    try:
        for _ in range(10):
            answer = client.get("/admin/health", headers=admin)
            assert answer.status_code == 200
            assert "has not answered" in answer.json()["telemetry_problem"]
    finally:
        release.set()
    assert len(asked) == 1


@pytest.mark.parametrize("damage", ["file", "log", "data", "columns", "types"])
def test_operations_say_what_is_wrong_with_the_lake(start, provider, tmp_path, damage):
    lake = Lake.open(str(tmp_path / "lake"), clock=Clock(NOW, "argument"))
    runs = tmp_path / "lake" / "tables" / "runs"
    if damage == "file":
        (tmp_path / "lake").write_text("a file")
    elif damage in {"columns", "types"}:
        odd = {"columns": {"a": [1]}, "types": {"flow": [1], "finished_at": ["x"]}}
        write_deltalake(str(runs), pa.table(odd[damage]))
    else:
        lake.append("runs", run_rows(), window="runs/1")
        wanted = "*.parquet" if damage == "data" else "_delta_log/*.json"
        for path in runs.glob(wanted):
            path.write_bytes(b"PAR1 junk" * 9)
    client = start(provider)
    folder = client.app.inner.state.gateway.pulls.folder
    admin = bearer(issue(folder, "admin", now=NOW))
    answer = client.get("/admin/health", headers=admin)
    assert answer.status_code == 200, answer.text
    assert answer.json()["last_runs"] is None
    assert (answer.json()["telemetry_problem"] is None) is (damage == "columns")


def run_rows() -> pa.Table:
    schema = table_spec("runs").to_arrow()
    row = {}
    for field in schema:
        if field.nullable:
            continue
        is_text = pa.types.is_string(field.type)
        zero = pa.scalar(0, pa.int64())
        row[field.name] = "{}" if is_text else zero.cast(field.type).as_py()
    row["status"] = "completed"
    return pa.Table.from_pylist([row], schema=schema)


def test_data_files_are_those_of_current_manifests(client, provider, folder):
    provider.files["tables/artefact_instruments/part-0.parquet"] = b"data"
    provider.files["tables/artefact_instruments/other.parquet"] = b"old"
    provider.files["tables/ohlcv/part-0.parquet"] = b"private"
    headers = bearer(issue(folder, "consumer:desk", now=NOW))
    assert client.get(PATHS[2], headers=headers).content == b"data"
    for path in (
        "/artefacts/tables/artefact_instruments/other.parquet",
        "/artefacts/tables/ohlcv/part-0.parquet",
    ):
        assert client.get(path, headers=headers).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/artefacts/metadata/..%2f..%2fclock.json",
        "/artefacts/metadata/%2e%2e",
        "/artefacts/targets/../metadata/root.json",
        "/artefacts/targets/shadow/../../x.json",
        "/artefacts/targets//etc/passwd",
        "/artefacts/metadata/x.json%00.html",
        "/artefacts/tables/artefact_instruments/..%2f..%2fclock.json",
        "/artefacts/tables/../part-0.parquet",
        "/artefacts/keys/root.json",
    ],
)
def test_no_path_leaves_the_repository(client, folder, path):
    headers = bearer(issue(folder, "consumer:desk", now=NOW))
    assert client.get(path, headers=headers).status_code in {400, 404}
