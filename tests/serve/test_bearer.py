"""Routes that ask for a token: the repository and operations."""

from pathlib import Path

import pytest

from lakehouse.trust.tokens import issue
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
