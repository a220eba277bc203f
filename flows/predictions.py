"""Where a fixed model's predictions come from: a file, S3 or MLflow, by one protocol.

The scheme of the URI decides:

    predictions.csv, /data/predictions.parquet, file:///data/predictions.csv
    s3://bucket/folder/predictions.csv          credentials from `AWS_*`
    runs:/<run id>/predictions.csv              an artefact of an MLflow run
    models:/<name>@champion/predictions.csv     or of a registered model
    mlflow-artifacts:/...

Loaders fetch bytes; what is in them `lab.learning.predictions_io` checks, whatever the
place. Nothing that a loader reads is ever run.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final, Protocol
from urllib.parse import unquote

import pyarrow as pa

from flows.tracking import one_line, tracking_uri
from flows.wiring import Workplace
from lab.errors import FeatureError
from lab.learning.predictions_io import MAX_BYTES, parse_predictions
from lakehouse.errors import SourceError, SourceUnavailableError, StoreError
from lakehouse.storage.location import Location

_QUIET: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
}


class PredictionLoader(Protocol):
    """Something that predictions can be fetched from."""

    def fetch(self) -> bytes:
        """Return the file.

        Raises
        ------
        SourceError
            If there is no such file.
        SourceUnavailableError
            If the place does not answer.
        """


@dataclass(frozen=True, slots=True)
class FileLoader:
    """A file of this machine."""

    path: Path

    def fetch(self) -> bytes:
        """Return the file, see `PredictionLoader`."""
        try:
            path = self.path.expanduser()
            _require_size(str(path), path.stat().st_size)
            return path.read_bytes()
        except (OSError, RuntimeError, ValueError) as error:  # no such user; a NUL
            raise SourceError(f"{self.path}: {one_line(error)}") from error


@dataclass(frozen=True, slots=True)
class S3Loader:
    """An object of a bucket."""

    uri: str

    def fetch(self) -> bytes:
        """Return the object, see `PredictionLoader`."""
        folder, _, name = self.uri.rpartition("/")
        if not name or folder in {"s3:/", "s3:"}:
            raise SourceError(f"{self.uri}: s3://bucket/key is needed")
        place = Location.of(folder)
        path = place.path(name)
        try:
            size = place.filesystem.get_file_info(path).size
            _require_size(self.uri, size or 0)
            data = place.read_bytes(path)
        except (OSError, StoreError) as error:
            raise SourceUnavailableError(f"{self.uri}: {one_line(error)}") from error
        if data is None:
            raise SourceError(f"{self.uri}: there is no such object")
        return data


@dataclass(frozen=True, slots=True)
class MlflowLoader:
    """An artefact of an MLflow run or model.

    Attributes
    ----------
    uri : str
        `runs:/...`, `models:/...` or `mlflow-artifacts:/...`, down to the file.
    tracking : str
        Where MLflow is.
    """

    uri: str
    tracking: str

    def fetch(self) -> bytes:
        """Return the artefact, see `PredictionLoader`."""
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow.artifacts import download_artifacts
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError
        except ImportError as error:
            raise SourceUnavailableError(f"{self.uri}: {one_line(error)}") from error
        with TemporaryDirectory() as folder:
            try:
                found = Path(
                    download_artifacts(
                        artifact_uri=self.uri,
                        dst_path=folder,
                        tracking_uri=self.tracking,
                    )
                )
            except MlflowException as error:
                raise _told(self.uri, error, error.error_code) from error
            except (SQLAlchemyError, OSError, ValueError) as error:
                raise SourceUnavailableError(
                    f"{self.uri}: {one_line(error)}"
                ) from error
            if not found.is_file():
                raise SourceError(f"{self.uri}: a folder; name the file in it")
            return FileLoader(found).fetch()


_ABSENT: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


def _told(
    uri: str, error: Exception, code: str | None
) -> SourceError | SourceUnavailableError:
    kind = SourceError if code in _ABSENT else SourceUnavailableError
    return kind(f"{uri}: {one_line(error)}")


def loader_of(uri: str, workplace: Workplace) -> PredictionLoader:
    """Return the loader of a URI.

    Parameters
    ----------
    uri : str
        See the module; a path without a scheme is a file.
    workplace : Workplace
        Whose MLflow is asked.

    Raises
    ------
    SourceError
        If the scheme is another.
    """
    scheme, separator, _ = uri.partition(":")
    if not separator:
        return FileLoader(Path(uri))
    if scheme == "file":
        return FileLoader(Path(unquote(uri.removeprefix("file://"))))
    if scheme not in _LOADERS:
        raise SourceError(f"{uri}: a path, {', '.join(f'{s}:' for s in _LOADERS)}")
    return _LOADERS[scheme](uri, workplace)


def load_predictions(uri: str, workplace: Workplace) -> tuple[pa.Table, bytes]:
    """Return the predictions at a URI, and the bytes they were read from.

    Parameters
    ----------
    uri : str
        See the module.
    workplace : Workplace
        Whose MLflow is asked.

    Returns
    -------
    tuple of pyarrow.Table and bytes
        `lab.learning.predictions_io.PREDICTIONS`; the bytes' hash is their version.

    Raises
    ------
    SourceError
        If there is no such file, or it holds no predictions.
    SourceUnavailableError
        If the place does not answer.
    """
    data = loader_of(uri, workplace).fetch()
    try:
        return parse_predictions(data, uri), data
    except FeatureError as error:
        raise SourceError(str(error)) from error


_LOADERS: Final[Mapping[str, Callable[[str, Workplace], PredictionLoader]]] = (
    MappingProxyType(
        {
            "s3": lambda uri, _: S3Loader(uri),
            **dict.fromkeys(
                ("runs", "models", "mlflow-artifacts"),
                lambda uri, place: MlflowLoader(uri, tracking_uri(place)),
            ),
        }
    )
)


def _require_size(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise SourceError(f"{name}: {size} bytes, at most {MAX_BYTES} are read")
