"""`POST /ml/predict` over the ASGI interface."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import msgspec
import numpy as np
import pytest

from lab.learning.bundle import load_predictor
from lakehouse.errors import TrustError
from lakehouse.trust.tokens import issue
from serve.ml.lanes import MAX_WAITING, Lanes
from tests.serve.ml.asking import Asking
from tests.simulators.artefacts import NOW, MemoryProvider, tables
from tests.simulators.winprob import NAMES, artefact, named, rows, trained

pytestmark = pytest.mark.xdist_group("ml")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return trained(n_trees=20, n_rows=400)


@pytest.fixture
def provider(files) -> MemoryProvider:
    return MemoryProvider(tables() | {"winprob": artefact(files)})


@pytest.fixture
def desk(client) -> Asking:
    return Asking(client)


def test_a_row_gets_its_calibrated_probability_and_whose_it_is(desk, files):
    values = rows(3, seed=5)
    answer = desk.ask({"rows": named(values)})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    got = answer.json()
    predictor = load_predictor(files)
    found = [one["probability"] for one in got["predictions"]]
    assert found == predictor.probabilities(values).tolist()
    assert [one["score"] for one in got["predictions"]] == predictor.scores(
        values
    ).tolist()
    told = {name: got[name] for name in got if name != "predictions"}
    assert told == {
        "model_name": "winprob",
        "model_version": "v1",
        "learner": "xgboost",
        "runtime_weight": 0.0,
        "trained_until": "2022-03-04T21:00:00Z",
        "features": list(NAMES),
        "stale": False,
        "artefact": {"version": 1, "sha256": f"{1:064x}"},
    }


def test_contributions_add_up_to_the_score(desk):
    values = rows(100, seed=6)
    got = desk.ask({"rows": values.tolist(), "contributions": True}).json()
    for one in got["predictions"]:
        assert list(one["contributions"]) == list(NAMES)
        total = one["bias"] + sum(one["contributions"].values())
        assert total == pytest.approx(one["score"], abs=1e-4)
    alone = desk.ask({"rows": values[:1].tolist()}).json()["predictions"][0]
    assert alone["contributions"] is None
    assert alone["probability"] == got["predictions"][0]["probability"]


def test_a_row_far_from_the_training_rows_is_told(desk):
    near, far = rows(1, seed=8)[0], rows(1, seed=8)[0]
    far[3] = 1e6
    unknown = [None, *near[1:].tolist()]  # training rows had no unknown value
    got = desk.ask({"rows": [near.tolist(), far.tolist(), unknown]}).json()
    assert [one["is_novel"] for one in got["predictions"]] == [False, True, True]


def test_a_large_batch_is_answered_in_order(desk, files):
    values = rows(5000, seed=9)
    got = desk.ask({"rows": values.tolist()}).json()["predictions"]
    expected = load_predictor(files).probabilities(values)
    np.testing.assert_array_equal([one["probability"] for one in got], expected)


def test_only_a_predict_token_opens_it(desk):
    request = {"rows": rows(1).tolist()}
    folder = desk.gateway.pulls.folder
    for role in ("worker", "admin", "consumer:desk"):
        headers = {"Authorization": f"Bearer {issue(folder, role, now=NOW)}"}
        answer = desk.ask(request, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["connection"] == "close"
    assert desk.ask(request, headers={}).status_code == 401
    assert desk.client.get("/ml/predict", headers=desk.headers).status_code == 405


def test_a_wrong_row_is_a_problem(desk):
    row = named(rows(1))[0]
    for wrong in ({**row, "extra": 1}, {**row, NAMES[0]: "1"}, {NAMES[0]: 1}, [], 1):
        answer = desk.ask({"rows": [wrong]})
        assert answer.status_code == 400, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert "rows[0]" in answer.json()["detail"]
    many = desk.ask({"rows": rows(101).tolist(), "contributions": True})
    assert many.status_code == 400
    nan = msgspec.json.encode({"rows": rows(1).tolist()}).replace(b"-", b"NaN", 1)
    assert desk.ask(nan).status_code == 400


def test_bodies_over_eight_mebibytes_are_413(desk):
    most = 8 * 2**20
    data = msgspec.json.encode({"rows": rows(1).tolist()})
    assert desk.ask(data + b" " * (most - len(data))).status_code == 200
    assert desk.ask(data + b" " * (most - len(data) + 1)).status_code == 413

    async def parts():
        for _ in range(9):
            yield b" " * 2**20

    assert desk.ask(parts()).status_code == 413
    assert desk.gateway.lanes.n_large == 0


def test_without_a_model_it_is_503(start):
    desk = Asking(start(MemoryProvider(tables())))
    answer = desk.ask({"rows": [[1.0]]})
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("no-model")
    assert answer.headers["retry-after"] == "60"


def test_a_manifest_that_ran_out_answers_503_though_it_is_served_elsewhere(
    start, provider
):
    held = provider._current["winprob"]
    provider._current["winprob"] = replace(held, valid_until=NOW)
    desk = Asking(start(provider))
    answer = desk.ask({"rows": rows(1).tolist()})
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("artefact-expired")
    assert "valid until 2022-03-04T21:00:00+00:00" in answer.json()["detail"]
    assert desk.client.get("/showcase/instruments").status_code == 200
    provider._current["winprob"] = replace(
        held, version=2, valid_until=NOW + timedelta(microseconds=1)
    )
    desk.gateway.refresher.refresh()
    assert desk.ask({"rows": rows(1).tolist()}).status_code == 200


def test_while_the_source_is_refused_answers_say_stale(desk, provider):
    provider.broken = TrustError("tampered")
    desk.gateway.refresher.refresh()
    answer = desk.ask({"rows": rows(1).tolist()})
    assert (answer.status_code, answer.json()["stale"]) == (200, True)


def test_a_new_version_answers_from_the_next_request_on(desk, provider):
    other = artefact(trained(n_trees=5, n_rows=300, names=("x", "y")), version="v2")
    provider.publish(tables() | {"winprob": other})
    desk.gateway.refresher.refresh()
    got = desk.ask({"rows": [{"y": 1, "x": 2}]}).json()
    assert (got["model_version"], got["features"]) == ("v2", ["x", "y"])
    assert got["artefact"]["version"] == 2


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("model", b"UBJ?"),
        ("calibrator", "{}"),
        ("schema", "{"),
        ("config", "[]"),
        ("learner", "forest"),
    ],
)
def test_a_model_that_cannot_be_read_stops_nothing_else(start, files, column, value):
    damaged = artefact(files, **{column: value})
    desk = Asking(start(MemoryProvider(tables() | {"winprob": damaged})))
    answer = desk.ask({"rows": rows(1).tolist()})
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("no-model")
    assert "cannot read" in answer.json()["detail"]
    assert desk.client.get("/showcase/instruments").json()["stale"] is False


@pytest.mark.parametrize("learner", ["catboost", "lightgbm"])
def test_every_learner_answers(start, learner):
    made = trained(learner, n_trees=10, n_rows=300)
    desk = Asking(start(MemoryProvider(tables() | {"winprob": artefact(made)})))
    values = rows(2, seed=5)
    got = desk.ask({"rows": values.tolist(), "contributions": True}).json()
    assert got["learner"] == learner
    expected = load_predictor(made).probabilities(values)
    assert [one["probability"] for one in got["predictions"]] == expected.tolist()


def test_large_batches_beyond_the_bound_are_503(desk):
    desk.gateway.lanes.n_large = MAX_WAITING
    large = msgspec.json.encode({"rows": rows(400).tolist()})
    answer = desk.ask(large)
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("busy")
    assert answer.headers["retry-after"] == "1"
    assert desk.ask({"rows": rows(1).tolist()}).status_code == 200


def test_small_requests_do_not_wait_for_large_ones():
    async def race() -> list[str]:
        lanes, told = Lanes(), []
        release = asyncio.Event()
        loop = asyncio.get_running_loop()

        def large() -> None:
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
            told.append("large")

        waiting = asyncio.create_task(lanes.run(large, is_large=True))
        await lanes.run(lambda: told.append("small"), is_large=False)
        release.set()
        await waiting
        return told

    assert asyncio.run(race()) == ["small", "large"]


def test_the_document_describes_it(desk):
    route = desk.client.get("/schema/openapi.json").json()["paths"]["/ml/predict"]
    asked = route["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert asked["required"] == ["rows"]
    assert asked["properties"]["rows"]["maxItems"] == 50_000
    assert route["post"]["security"] == [{"predict": []}]
    assert set(route["post"]["responses"]) >= {"200", "400", "401", "413", "503"}
