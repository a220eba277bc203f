"""The repository on S3: the same states, and several publishers at once."""

import hashlib
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from lakehouse.clock import Clock
from lakehouse.errors import CommitConflictError, StoreError
from lakehouse.storage.location import fsspec_options
from lakehouse.trust import ceremony
from lakehouse.trust.errors import (
    DownloadError,
    FileAbsentError,
    HashError,
    LengthError,
)
from lakehouse.trust.fetching import LocalFetcher
from lakehouse.trust.keys import KeyStore
from lakehouse.trust.manifest import FileDigest, Manifest
from lakehouse.trust.policy import SHADOW
from lakehouse.trust.pruning import pinned_versions
from lakehouse.trust.publishing import Repository
from lakehouse.trust.repository_files import LocalFiles, RemoteFiles
from lakehouse.trust.verification import TrustedClient

pytestmark = pytest.mark.s3
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
CLOCK = Clock(NOW, "argument")


@pytest.fixture
def repository(s3_root: str, tmp_path: Path) -> Repository:
    repository = Repository(s3_root, KeyStore(tmp_path / "keys"), CLOCK)
    assert repository.init()
    return repository


def put(root: str, path: str, data: bytes) -> None:
    files, base = fsspec.core.url_to_fs(root, **fsspec_options(root))
    files.pipe_file(f"{base}/{path}", data)


def manifest(kind: str, version: int = 0) -> Manifest:
    return Manifest(
        kind=kind,
        table=f"artefact_{kind}",
        table_id="id",
        table_version=version,
        files={},
        valid_from=NOW,
        valid_until=NOW + timedelta(days=1),
        published_at=NOW,
        as_of=NOW,
        author="lab",
        code_commit="",
        lock_hash="",
    )


def look(repository: Repository, *, with_data: bool = False) -> TrustedClient:
    client = TrustedClient(
        repository.keys.trusted_root(),
        LocalFetcher(repository.lake_root),
        None,
        CLOCK,
        with_data=with_data,
    )
    client.refresh()
    return client


def test_a_repository_in_a_bucket_publishes_rotates_and_verifies(
    repository, monkeypatch
):
    monkeypatch.setattr("lakehouse.trust.signing.KEPT_SNAPSHOTS", 2)
    repository.publish([manifest("a")])
    ceremony.rotate(repository, "timestamp")
    for version in range(1, 4):
        repository.publish([manifest("a", version)])
    repository.remove("a")
    repository.publish([manifest("a", 4)])

    assert look(repository).snapshot.artefacts["a"].version == 4
    assert max(pinned_versions(repository.lake_root)["artefact_a"]) == 4
    assert len(repository.writer.files.names("metadata")) < 12


def test_data_files_in_a_bucket_are_verified(repository):
    data = b"not parquet"
    found = FileDigest(hashlib.sha256(data).hexdigest(), len(data))
    fields = {name: getattr(manifest("a"), name) for name in Manifest.__slots__}
    repository.publish([Manifest(**fields | {"files": {"x.parquet": found}})])

    with pytest.raises(FileAbsentError, match="no such file"):
        look(repository, with_data=True)
    for wrong, error in (
        (b"longer than that", LengthError),
        (b"NOT PARQUET", HashError),
    ):
        put(repository.lake_root, "tables/artefact_a/x.parquet", wrong)
        with pytest.raises(error, match=r"x\.parquet"):
            look(repository, with_data=True)


def test_publishers_that_compete_lose_nothing(repository):
    kinds = ["a", "b"]
    failures = []

    def work(kind: str) -> None:
        for version in range(3):
            try:
                mine = Repository(repository.lake_root, repository.keys, CLOCK)
                mine.publish([manifest(kind, version)])
            except CommitConflictError as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    artefacts = look(repository).snapshot.artefacts
    assert not failures
    assert {kind: artefacts[kind].version for kind in kinds} == dict.fromkeys(kinds, 2)


def test_a_slow_publisher_does_not_undo_a_fast_one_of_the_same_keys(repository):
    slow = repository.writer.load()
    repository.stage_target(slow, SHADOW, manifest("a"))
    slow.changed.add(SHADOW)
    repository.publish([manifest("b")])

    with pytest.raises(CommitConflictError):
        repository.writer.write(slow)
    repository.publish([manifest("c")])

    assert set(look(repository).snapshot.artefacts) == {"b", "c"}


@pytest.mark.parametrize("where", ["bucket", "folder"])
def test_files_are_created_once_and_replaced_knowingly(where, s3_root, tmp_path):
    files = RemoteFiles(s3_root) if where == "bucket" else LocalFiles(tmp_path)

    assert files.read("a/b") is None
    assert files.names("a") == []
    assert files.create("a/b", b"1")
    assert files.create("a/b", b"1")
    assert not files.create("a/b", b"2")
    files.replace("a/b", b"2", previous=b"1")
    with pytest.raises(CommitConflictError, match="a/b"):
        files.replace("a/b", b"3", previous=b"1")
    with pytest.raises(CommitConflictError, match="a/b"):
        files.replace("a/b", b"3", previous=None)
    files.replace("a/c", b"4", previous=None)
    assert (files.read("a/b"), files.names("a")) == (b"2", ["a/b", "a/c"])
    files.remove("a/b")
    files.remove("a/b")
    assert files.names("a") == ["a/c"]


def test_a_stale_etag_does_not_replace(s3_root):
    files = RemoteFiles(s3_root)
    files.create("x", b"1")
    read = files.read

    def read_then_lose(path):
        data = read(path)
        put(s3_root, "artefacts/x", b"9")
        return data

    files.read = read_then_lose
    with pytest.raises(CommitConflictError, match="another writer was faster"):
        files.replace("x", b"2", previous=b"1")
    assert read("x") == b"9"


def test_a_store_that_is_gone_is_an_error_of_ours(
    s3_environment, tmp_path, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(DownloadError, match="cannot be read"):
        LocalFetcher("s3://gone/lake").fetch("x", max_length=1)
    with pytest.raises(StoreError, match="s3://gone/lake: cannot be written"):
        Repository("s3://gone/lake", KeyStore(tmp_path / "keys"), CLOCK).init()
