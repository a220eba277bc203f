"""MLflow is told what the registry knows, and may be down without losing anything."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from flows.bodies.model_registry import read_registry, verify_models
from flows.bodies.promotion import run_promote, run_rollback
from flows.tracking import aliases_of, tracking_uri
from flows.wiring import open_workplace
from lab.lifecycle.model_stages import ModelVersion
from tests.flows.conftest import forget_settings
from tests.simulators.models import enter, new_run, ridge
from tests.simulators.places import Place

pytestmark = pytest.mark.xdist_group("mlflow")
CARD = {
    "config": {"model": "ridge", "max_depth": 4},
    "importance": {"gain": {"a": 0.7, "b": 0.3}},
    "reliability": {"predicted": [0.2, 0.7], "observed": [0.3, 0.6]},
    "windows": [{"metrics": {"auc": 0.5, "brier": None}}, {"metrics": {"auc": 0.6}}],
}


@pytest.fixture
def tracked(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place whose models are mirrored beside its tables."""
    monkeypatch.setenv("ALPHALAKE_TRACKING", "mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    forget_settings()
    yield place
    forget_settings()


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow's that was made once."""
    from mlflow.tracking import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def store(tracked: Place, empty_store: Path) -> Place:
    """The same with its database there already."""
    folder = Path(tracked.root) / "mlflow"
    folder.mkdir(parents=True)
    shutil.copy(empty_store, folder / "mlflow.db")
    return tracked


def client() -> Any:
    from mlflow.tracking import MlflowClient

    uri = tracking_uri(open_workplace())
    return MlflowClient(uri, registry_uri=uri)


def promote(version: ModelVersion) -> None:
    run_promote(new_run(), model="winprob", version=version.version, why="by hand")


def aliases() -> dict[str, str]:
    """Return the versions of ours that MLflow's aliases name."""
    found = client()
    by_number = {
        one.version: one.tags["alphalake.version"]
        for one in found.search_model_versions("name='winprob'")
    }
    held = found.get_registered_model("winprob").aliases
    return {alias: by_number[number] for alias, number in held.items()}


def runs() -> list[Any]:
    found = client()
    experiment = found.get_experiment_by_name("alphalake-winprob")
    return list(found.search_runs([experiment.experiment_id]))


def test_a_training_is_a_run_with_figures_environment_plots_and_files(store: Place):
    version = enter("a", **CARD)
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["auc"] == 0.6
    assert run.data.params == {"model": "ridge", "max_depth": "4"}
    assert run.data.tags["alphalake.version"] == version.version
    assert run.data.tags["environment.python"].startswith("3.")
    history = client().get_metric_history(run.info.run_id, "window.auc")
    assert [(one.step, one.value) for one in history] == [(0, 0.5), (1, 0.6)]
    folder = Path(store.root) / "mlflow" / "artifacts" / run.info.run_id / "artifacts"
    assert (folder / "model" / "model.json").read_bytes() == ridge("a")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest == version.manifest
    for name in ("importance-gain", "reliability", "window-auc"):
        assert (folder / "plots" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert not (Path(store.root) / "tables" / "mlflow").exists()


def test_aliases_follow_the_chain(store: Place):
    a, b, c = (enter(name) for name in "abc")
    assert aliases() == {"challenger": c.version}
    promote(a)
    promote(b)
    assert aliases() == {
        "champion": b.version,
        "challenger": c.version,
        "archived-1": a.version,
    }
    run_rollback(new_run(), why="bad", cause="drift")
    registry = read_registry(open_workplace().lake)
    assert aliases() == aliases_of(registry, "winprob")
    assert aliases()["champion"] == a.version
    assert len(runs()) == 3


def test_a_dead_server_is_told_and_loses_no_result(
    store: Place, monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    uri = f"http://user:secret@127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    run = new_run()
    lost = enter("a", run=run, **CARD)
    (note,) = run.notes
    assert f"MLflow at http://127.0.0.1:{port}" in note
    assert "nothing is lost" in note
    assert "secret" not in note
    assert run.counts["mlflow_down"] == 1
    assert read_registry(open_workplace().lake).challenger("winprob") == lost
    assert verify_models(open_workplace().lake) == 1
    # Up again: the next training tells it all.
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    run = new_run()
    enter("b", run=run)
    assert run.notes == []
    told = {one.data.tags["alphalake.version"]: one.data.metrics for one in runs()}
    assert told[lost.version]["auc"] == 0.6
    assert len(told) == 2


class Mute(BaseHTTPRequestHandler):
    """Takes every request and answers none."""

    def do_POST(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)


def test_a_server_that_says_nothing_is_told_without_the_password(
    store: Place, monkeypatch: pytest.MonkeyPatch
):
    with HTTPServer(("127.0.0.1", 0), Mute) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://user:secret@127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        run = new_run()
        version = enter("a", run=run)
        server.shutdown()
    (note,) = run.notes
    assert "nothing is lost" in note
    assert "secret" not in note
    assert read_registry(open_workplace().lake).challenger("winprob") == version


@pytest.mark.parametrize("address", ["http://host:port/", "http://a..b/", "http://[x"])
def test_an_address_that_is_none_is_told_and_loses_no_result(
    store: Place, monkeypatch: pytest.MonkeyPatch, address: str
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    run = new_run()
    version = enter("a", run=run)
    (note,) = run.notes
    assert "nothing is lost" in note
    assert read_registry(open_workplace().lake).challenger("winprob") == version


def test_a_broken_store_is_told_and_loses_no_result(tracked: Place):
    folder = Path(tracked.root) / "mlflow"
    folder.mkdir(parents=True)
    (folder / "mlflow.db").write_bytes(b"not a database" * 100)
    run = new_run()
    version = enter("a", run=run)
    (note,) = run.notes
    assert "mlflow.db" in note
    assert "\n" not in note
    assert read_registry(open_workplace().lake).challenger("winprob") == version


def test_a_mirror_that_was_killed_half_way_is_finished(
    store: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ALPHALAKE_TRACKING", "none")
    forget_settings()
    version = enter("a")
    monkeypatch.setenv("ALPHALAKE_TRACKING", "mlflow")
    forget_settings()
    found = client()
    place = (Path(store.root) / "mlflow" / "artifacts").as_uri()
    experiment = found.create_experiment("alphalake-winprob", artifact_location=place)
    half = found.create_run(experiment, tags={"alphalake.version": version.version})
    enter("b")
    assert half.info.run_id not in {one.info.run_id for one in runs()}
    assert len(runs()) == 2
    assert {one.info.status for one in runs()} == {"FINISHED"}
    assert len(list(found.search_model_versions("name='winprob'"))) == 2


@pytest.mark.parametrize("wait_s", [0.05, 0.5])
def test_a_store_whose_making_was_killed_is_made_anew(
    tracked: Place, monkeypatch: pytest.MonkeyPatch, wait_s: float
):
    monkeypatch.setenv("ALPHALAKE_TRACKING", "none")
    forget_settings()
    enter("a")
    environment = {**os.environ, "ALPHALAKE_TRACKING": "mlflow"}
    verb = [str(Path(sys.executable).parent / "alphalake"), "compare"]
    folder = Path(tracked.root) / "mlflow"
    with subprocess.Popen(
        verb, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as making:
        while making.poll() is None and not list(folder.rglob("*.db")):
            time.sleep(0.01)
        time.sleep(wait_s)
        making.kill()
    monkeypatch.setenv("ALPHALAKE_TRACKING", "mlflow")
    forget_settings()
    enter("b")
    assert len(runs()) == 2


def test_a_version_whose_files_are_gone_is_mirrored_without_them(
    store: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ALPHALAKE_TRACKING", "none")
    forget_settings()
    gone = enter("a", auc=0.1)
    shutil.rmtree(Path(store.root) / "models" / "winprob" / gone.version)
    monkeypatch.setenv("ALPHALAKE_TRACKING", "mlflow")
    forget_settings()
    enter("b")
    tags = {one.data.tags["alphalake.version"]: one.data.tags for one in runs()}
    assert "refused" in tags[gone.version]["alphalake.artefacts"]
    assert len(tags) == 2


def test_mlflow_loads_the_very_bytes_that_were_registered(store: Place):
    import numpy as np
    import xgboost

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3))
    data = xgboost.DMatrix(rows, (rows[:, 0] > 0).astype(float))
    booster = xgboost.train({"nthread": 1, "max_depth": 2}, data, 5)
    version = enter("a", files={"model.ubj": bytes(booster.save_raw("ubj"))})
    promote(version)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, on import
        import mlflow
        import mlflow.xgboost

        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(tracking_uri(open_workplace()))
        try:
            loaded = mlflow.xgboost.load_model("models:/winprob@champion")
        finally:
            mlflow.set_tracking_uri(before)
    assert np.array_equal(loaded.predict(data), booster.predict(data))


def test_a_store_is_made_beside_the_tables_where_none_is(tracked: Place):
    enter("a")
    assert (Path(tracked.root) / "mlflow" / "mlflow.db").is_file()
    assert len(runs()) == 1
