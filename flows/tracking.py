"""MLflow as a mirror of the registry: a copy for people's tools, never the truth.

Everything in it is made from the chain of model events and the kept files: a run for
each registered version with its parameters, metrics, tags, environment, plots and files;
a model version on it; and the aliases `champion`, `challenger`, `archived-1`,
`archived-2`, ... (the newest archived first). So when MLflow is down nothing is lost:
the run says so, and the next one to find it up brings the mirror up to the chain. A
mirror that was killed half-way is finished the same way.

`MLFLOW_TRACKING_URI` says where it is; else SQLite and local artefacts in `mlflow/`
under the root, beside `tables/` (a root on an object store: under the gateway's state).
"""

import logging
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from flows.runs import Run
from flows.settings import load_flow_settings
from flows.tracking_runs import Described, describe, write_artefacts
from flows.wiring import Workplace
from lab.lifecycle.model_stages import ModelVersion, Registry
from lakehouse.errors import RefusedError, SourceUnavailableError
from lakehouse.storage.location import is_remote
from lakehouse.store import Lake

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

VERSION_TAG: Final = "alphalake.version"
STAGE_TAG: Final = "alphalake.stage"
_OWN_ALIASES: Final = ("champion", "challenger", "archived-")
_CONNECT_S: Final = 3.0
_BATCH: Final = 90
_LONGEST_LINE: Final = 200
_CREDENTIALS: Final = re.compile(r"//[^\s/]*@")
_QUIET: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Where the user says nothing else: no usage data, no pickles, no minutes of retries."""


def mirror_models(run: Run, registry: Registry) -> None:
    """Bring MLflow up to the registry; a line of the run's notes says if it is down.

    Parameters
    ----------
    run : Run
        Whose notes and place; a replay mirrors nothing.
    registry : Registry
        What the chain says.
    """
    if run.is_replay or load_flow_settings().tracking == "none":
        return
    try:
        with _opened(run.workplace) as client:
            _Mirror(client, run.workplace).bring_up(registry)
    except SourceUnavailableError as error:
        run.count("mlflow_down", 1)
        run.notes.append(
            f"{error}; nothing is lost: every version with its figures is in"
            " model_events, and MLflow is told when it is up again"
        )


def tracking_uri(workplace: Workplace) -> str:
    """Return where MLflow is: `MLFLOW_TRACKING_URI`, else a SQLite file of the lake."""
    if given := os.environ.get("MLFLOW_TRACKING_URI"):
        return given
    return f"sqlite:///{_folder(workplace) / 'mlflow.db'}"


@contextmanager
def _opened(workplace: Workplace) -> "Iterator[MlflowClient]":
    uri = tracking_uri(workplace)
    shown = _shown(uri)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        _reach(uri)
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
        from sqlalchemy.exc import SQLAlchemyError
    except (ImportError, OSError, ValueError) as error:
        raise SourceUnavailableError(f"MLflow at {shown}: {one_line(error)}") from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            _make_store(_folder(workplace))
        yield MlflowClient(uri, registry_uri=uri)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise SourceUnavailableError(f"MLflow at {shown}: {one_line(error)}") from error


def _make_store(folder: Path) -> None:
    # Under another name until it is whole: MLflow takes seconds and many commits to make
    # its tables, and what a kill or a second process leaves of them can never be opened.
    from mlflow.tracking import MlflowClient

    final = folder / "mlflow.db"
    if final.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".draft-") as drafts:
        draft = Path(drafts) / final.name
        uri = f"sqlite:///{draft}"
        MlflowClient(uri, registry_uri=uri).search_experiments(max_results=1)
        try:
            final.hardlink_to(draft)
        except OSError:  # another process was first, or the disk has no links
            if not final.exists():
                draft.replace(final)


def _reach(uri: str) -> None:
    # MLflow's own client would try a dead server for minutes.
    parts = urlsplit(uri)
    if parts.scheme in {"http", "https"} and parts.hostname:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_S).close()


def _folder(workplace: Workplace) -> Path:
    if is_remote(workplace.root):
        return workplace.state.absolute() / "mlflow"
    return Path(workplace.lake.location.base) / "mlflow"


def _shown(uri: str) -> str:
    # Without the user and the password that it may hold.
    try:
        parts = urlsplit(uri)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "MLFLOW_TRACKING_URI"
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else uri


def one_line(error: BaseException) -> str:
    """Return what went wrong in a line of 200 characters, without users and passwords.

    MLflow's client repeats the address it was given.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    text = _CREDENTIALS.sub("//", text)
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}..."


@dataclass(frozen=True, slots=True)
class _Mirror:
    client: "MlflowClient"
    workplace: Workplace

    @property
    def lake(self) -> Lake:
        return self.workplace.lake

    def bring_up(self, registry: Registry) -> None:
        for name in registry.model_names:
            self._bring_up_model(name, registry)

    def _bring_up_model(self, name: str, registry: Registry) -> None:
        self._ensure_model(name)
        versions = registry.versions(name)
        known = self._known(name)
        for one in versions:
            if one.version not in known:
                known[one.version] = self._enter(one)
        numbers = {version: found.version for version, found in known.items()}
        for one in versions:
            if known[one.version].tags.get(STAGE_TAG) != one.stage:
                self.client.set_model_version_tag(
                    name, numbers[one.version], STAGE_TAG, one.stage
                )
        wanted = {
            alias: numbers[version]
            for alias, version in aliases_of(registry, name).items()
        }
        self._set_aliases(name, wanted)

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _known(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for page in _pages(self.client.search_model_versions, f"name='{name}'"):
            for one in page:
                version = one.tags.get(VERSION_TAG)
                is_first = version not in found or (
                    int(one.version) < int(found[version].version)
                )
                if version is not None and is_first:
                    found[version] = one
        return found

    def _enter(self, version: ModelVersion) -> Any:
        run_id = self._run(version)
        return self.client.create_model_version(
            version.model_name,
            source=f"runs:/{run_id}/model",
            run_id=run_id,
            tags={VERSION_TAG: version.version, STAGE_TAG: version.stage},
        )

    def _run(self, version: ModelVersion) -> str:
        experiment = self._experiment(version.model_name)
        tag = f"tags.`{VERSION_TAG}` = '{version.version}'"
        for page in _pages(self.client.search_runs, [experiment], filter_string=tag):
            for one in page:
                run_id: str = one.info.run_id
                if one.info.status == "FINISHED":
                    return run_id
                self.client.delete_run(run_id)  # killed half-way
        return self._log(experiment, version)

    def _log(self, experiment: str, version: ModelVersion) -> str:
        told = describe(version)
        at_ms = int(version.registered_at.timestamp() * 1000)
        run = self.client.create_run(
            experiment,
            start_time=at_ms,
            tags={VERSION_TAG: version.version, **told.tags},
            run_name=f"{version.model_name}-{version.version[:8]}",
        )
        run_id: str = run.info.run_id
        self._log_figures(run_id, told, at_ms)
        with TemporaryDirectory() as folder:
            try:
                write_artefacts(self.lake, version, Path(folder))
            except RefusedError as error:
                self.client.set_tag(run_id, "alphalake.artefacts", str(error))
            self.client.log_artifacts(run_id, folder)
        self.client.set_terminated(run_id, "FINISHED", end_time=at_ms)
        return run_id

    def _log_figures(self, run_id: str, told: Described, at_ms: int) -> None:
        from mlflow.entities import Metric, Param

        metrics = [
            Metric(name, value, at_ms, step) for name, value, step in told.metrics
        ]
        params = [Param(name, value) for name, value in told.params.items()]
        for some in _batches(metrics):
            self.client.log_batch(run_id, metrics=some)
        for some in _batches(params):
            self.client.log_batch(run_id, params=some)

    def _experiment(self, name: str) -> str:
        wanted = os.environ.get("MLFLOW_EXPERIMENT_NAME") or f"alphalake-{name}"
        found = self.client.get_experiment_by_name(wanted)
        if found is not None:
            known: str = found.experiment_id
            return known
        place = None
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            place = (_folder(self.workplace) / "artifacts").as_uri()
        made: str = self.client.create_experiment(wanted, artifact_location=place)
        return made

    def _set_aliases(self, name: str, wanted: Mapping[str, str]) -> None:
        held = dict(self.client.get_registered_model(name).aliases)
        for alias in held:
            if alias.startswith(_OWN_ALIASES) and alias not in wanted:
                self.client.delete_registered_model_alias(name, alias)
        for alias, number in wanted.items():
            if str(held.get(alias)) != str(number):
                self.client.set_registered_model_alias(name, alias, number)


def aliases_of(registry: Registry, name: str) -> dict[str, str]:
    """Return which version each alias of a model names.

    Parameters
    ----------
    registry : Registry
        What the chain says.
    name : str
        Registered model.
    """
    found = {}
    if (champion := registry.champion(name)) is not None:
        found["champion"] = champion.version
    if (challenger := registry.challenger(name)) is not None:
        found["challenger"] = challenger.version
    for place, one in enumerate(registry.archived(name), start=1):
        found[f"archived-{place}"] = one.version
    return found


def _pages(search: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(*arguments, page_token=token, **options)
        yield page
        token = page.token
        if not token:
            return


def _batches(entries: Iterable[Any]) -> Iterator[list[Any]]:
    whole = list(entries)
    for start in range(0, len(whole), _BATCH):
        yield whole[start : start + _BATCH]
