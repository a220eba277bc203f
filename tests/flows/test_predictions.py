"""One protocol, three places: files, S3 and MLflow give the same rows."""

import pytest

from flows.bodies.load_predictions import run_load_predictions
from flows.predictions import load_predictions
from lakehouse.errors import InputError, SourceError, SourceUnavailableError
from tests.flows.conftest import run_plainly
from tests.simulators.s3 import client

DATA = b"""symbol,timeframe,as_of,prediction
SP500,1d,2018-03-05T21:00:00Z,0.25
NASDAQ,1d,2018-03-06T21:00:00Z,-0.5
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "said.csv"
    path.write_bytes(DATA)
    return path


def test_a_file_and_its_uri_give_the_same_rows(workplace, file):
    rows, data = load_predictions(str(file), workplace)
    assert data == DATA
    assert rows.num_rows == 2
    assert load_predictions(f"file://{file}", workplace)[0].equals(rows)


@pytest.mark.s3
def test_s3_gives_the_rows_of_the_file(workplace, file, s3_root, s3_environment):
    bucket = s3_root.removeprefix("s3://").partition("/")[0]
    client(s3_environment["AWS_ENDPOINT_URL"]).put_object(
        Bucket=bucket, Key="models/said.csv", Body=DATA
    )
    rows, _ = load_predictions(f"s3://{bucket}/models/said.csv", workplace)
    assert rows.equals(load_predictions(str(file), workplace)[0])
    with pytest.raises(SourceError, match="no such object"):
        load_predictions(f"s3://{bucket}/models/other.csv", workplace)


def test_an_artefact_of_mlflow_gives_the_rows_of_the_file(
    workplace, file, tmp_path, monkeypatch
):
    from mlflow.tracking import MlflowClient

    tracking = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    there = MlflowClient(tracking)
    experiment = there.create_experiment("fixed", str(tmp_path / "artefacts"))
    made = there.create_run(experiment).info.run_id
    there.log_artifact(made, str(file))
    rows, data = load_predictions(f"runs:/{made}/said.csv", workplace)
    assert data == DATA
    assert rows.equals(load_predictions(str(file), workplace)[0])
    with pytest.raises(SourceError, match=f"runs:/{'0' * 32}/said.csv"):
        load_predictions(f"runs:/{'0' * 32}/said.csv", workplace)


def test_a_place_that_does_not_answer_is_unavailable(workplace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(SourceUnavailableError, match="runs:/abc/said"):
        load_predictions("runs:/abc/said.csv", workplace)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("ftp://host/said.csv", "a path, s3:, runs:"),
        ("s3://bucket", "s3://bucket/key is needed"),
        ("/nowhere/said.csv", "No such file"),
        ("~nobody-of-this-name/said.csv", "home directory"),
        ("/nowhere/\0.csv", "null byte"),
    ],
)
def test_other_places_are_refused(workplace, uri, reason):
    with pytest.raises(SourceError, match=reason):
        load_predictions(uri, workplace)


def test_a_file_uri_may_hold_spaces(workplace, file):
    spaced = file.with_name("what was said.csv")
    spaced.write_bytes(DATA)
    assert load_predictions(spaced.as_uri(), workplace)[1] == DATA


@pytest.mark.parametrize("address", ["http://host:port/", "http://a..b/", "http://[x"])
def test_an_address_of_mlflow_that_is_none_is_unavailable(
    workplace, monkeypatch, address
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(SourceUnavailableError, match="runs:/abc/said"):
        load_predictions("runs:/abc/said.csv", workplace)


def test_loaded_predictions_are_rows_once_and_never_live(workplace, file):
    first = run_plainly("load", run_load_predictions, source=str(file), model="fixed")
    again = run_plainly("load", run_load_predictions, source=str(file), model="fixed")
    assert first.counts["predictions"] == 2
    assert again.counts["predictions"] == 0
    assert "were there before" in again.message
    rows = workplace.lake.read("model_predictions").to_pylist()
    assert [row["prediction"] for row in rows] == [0.25, -0.5]
    assert {row["origin"] for row in rows} == {"replay"}
    assert {row["version"] for row in rows} == {first.parameters["version"]}


def test_another_file_is_another_version_of_the_model(workplace, file):
    first = run_plainly("load", run_load_predictions, source=str(file), model="fixed")
    file.write_bytes(DATA.replace(b"0.25", b"0.26"))
    other = run_plainly("load", run_load_predictions, source=str(file), model="fixed")
    assert first.parameters["version"] != other.parameters["version"]
    assert workplace.lake.read("model_predictions").num_rows == 4


def test_a_prediction_from_the_future_is_refused(workplace, file):
    file.write_bytes(DATA.replace(b"2018-03-06", b"2019-03-06"))
    with pytest.raises(InputError, match="later than now"):
        run_plainly("load", run_load_predictions, source=str(file), model="fixed")
    assert workplace.lake.read("model_predictions").num_rows == 0


def test_a_model_needs_a_plain_name(workplace, file):
    with pytest.raises(InputError, match="small letters"):
        run_plainly("load", run_load_predictions, source=str(file), model="../x")
