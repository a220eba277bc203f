"""Canonical bytes, and nothing but canonical bytes."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.clock import Clock
from lakehouse.trust.errors import ManifestError
from lakehouse.trust.manifest import (
    MAX_MANIFEST_LENGTH,
    FileDigest,
    Manifest,
    build_manifest,
)

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
FIELDS = {
    "kind": "latest_predictions",
    "table": "artefact_latest_predictions",
    "table_id": "id",
    "table_version": 3,
    "files": {"a.parquet": FileDigest("0" * 64, 10)},
    "models": {"model.ubj": "1" * 64},
    "metrics": {"skill": 0.25, "n": 3},
    "valid_from": NOW,
    "valid_until": NOW + timedelta(days=1),
    "published_at": NOW,
    "as_of": NOW,
    "author": "lab",
    "code_commit": "c" * 40,
    "lock_hash": "d" * 64,
}
names = st.from_regex(r"[a-z0-9_][a-z0-9_.=-]{0,20}", fullmatch=True)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)


def test_bytes_read_back_as_the_same_manifest():
    manifest = Manifest(**FIELDS)

    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert manifest.target_name == "latest_predictions.json"
    assert len(manifest.sha256) == 64


@given(
    files=st.dictionaries(names, st.tuples(digests, st.integers(0, 2**27)), max_size=6),
    metrics=st.dictionaries(names, st.floats(-1e9, 1e9), max_size=6),
    seed=st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_bytes_do_not_depend_on_any_order(files, metrics, seed):
    def shuffled(mapping):
        items = list(mapping.items())
        seed.shuffle(items)
        return dict(items)

    found = {path: FileDigest(*entry) for path, entry in files.items()}
    one = Manifest(**FIELDS | {"files": found, "metrics": metrics})
    fields = shuffled(FIELDS | {"files": shuffled(found), "metrics": shuffled(metrics)})

    assert Manifest(**fields).to_bytes() == one.to_bytes()
    assert Manifest.from_bytes(one.to_bytes()) == one


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_bytes_that_are_no_manifest_are_only_ever_refused(data):
    with pytest.raises(ManifestError, match="manifest"):
        Manifest.from_bytes(data)


ODD_VALUES = {
    "kind with a slash": ("kind", "../x"),
    "kind a number": ("kind", 5),
    "table with a capital": ("table", "Artefact"),
    "table id with a newline": ("table_id", "a\nb"),
    "author empty": ("author", ""),
    "author null": ("author", None),
    "version negative": ("table_version", -1),
    "version true": ("table_version", True),
    "version huge": ("table_version", 2**63),
    "files a list": ("files", []),
    "file without length": ("files", {"a": {"sha256": "0" * 64}}),
    "file entry a string": ("files", {"a": "0" * 64}),
    "file digest short": ("files", {"a": {"sha256": "00", "length": 1}}),
    "file digest upper case": ("files", {"a": {"sha256": "A" * 64, "length": 1}}),
    "file length negative": ("files", {"a": {"sha256": "0" * 64, "length": -1}}),
    "file too long": ("files", {"a": {"sha256": "0" * 64, "length": 10**12}}),
    "file climbs": ("files", {"../a": {"sha256": "0" * 64, "length": 1}}),
    "file absolute": ("files", {"/a": {"sha256": "0" * 64, "length": 1}}),
    "file hidden": ("files", {"a/.b": {"sha256": "0" * 64, "length": 1}}),
    "file backslash": ("files", {"a\\b": {"sha256": "0" * 64, "length": 1}}),
    "file NUL": ("files", {"a\0": {"sha256": "0" * 64, "length": 1}}),
    "file empty part": ("files", {"a//b": {"sha256": "0" * 64, "length": 1}}),
    "file name long": ("files", {"a" * 600: {"sha256": "0" * 64, "length": 1}}),
    "model climbs": ("models", {"../m": "0" * 64}),
    "model digest": ("models", {"m": 5}),
    "metric a string": ("metrics", {"a": "1"}),
    "metric true": ("metrics", {"a": True}),
    "metric an integer": ("metrics", {"a": 1}),
    "metric huge": ("metrics", {"a": 10**400}),
    "metric infinite": ("metrics", {"a": float("inf")}),
    "time without zone": ("as_of", "2026-11-22T10:00:00.000000"),
    "time impossible": ("as_of", "2026-13-22T10:00:00.000000Z"),
    "time a number": ("as_of", 5),
    "period backwards": ("valid_until", "2020-11-22T10:00:00.000000Z"),
    "schema of tomorrow": ("schema", "alphalake.manifest/2"),
    "schema a list": ("schema", []),
    "unknown field": ("more", 1),
}


@pytest.mark.parametrize("name", ODD_VALUES)
def test_a_manifest_with_an_odd_value_is_refused(name):
    document = json.loads(Manifest(**FIELDS).to_bytes())
    field, value = ODD_VALUES[name]
    document[field] = value
    data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    with pytest.raises(ManifestError, match="manifest"):
        Manifest.from_bytes(data)


def test_a_missing_field_is_refused():
    document = json.loads(Manifest(**FIELDS).to_bytes())
    del document["author"]

    with pytest.raises(ManifestError, match="missing or unknown: \\['author'\\]"):
        Manifest.from_bytes(json.dumps(document).encode())


ODD_BYTES = {
    "another spelling": lambda data: data.replace(b":", b": ", 1),
    "a field twice": lambda data: data.replace(b"{", b'{"author":"x",', 1),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "trailing space": lambda data: data + b" ",
    "deep": lambda data: b"[" * 100_000,
    "huge integer": lambda data: b"9" * 10_000,
    "not a number": lambda data: data.replace(b"0.25", b"NaN"),
    "a list": lambda data: b"[]",
    "over-long": lambda data: data + b" " * MAX_MANIFEST_LENGTH,
}


@pytest.mark.parametrize("name", ODD_BYTES)
def test_other_bytes_are_refused(name):
    with pytest.raises(ManifestError, match="manifest"):
        Manifest.from_bytes(ODD_BYTES[name](Manifest(**FIELDS).to_bytes()))


def test_a_time_without_a_zone_cannot_be_signed():
    with pytest.raises(ManifestError, match="as_of: has no time zone"):
        Manifest(**FIELDS | {"as_of": datetime(2026, 1, 1)})  # noqa: DTZ001


class FolderLake:
    """A lake with one table of two files, without Delta."""

    def __init__(self, root):
        self.root, self.clock = str(root), Clock(NOW, "argument")

    def version(self, table):
        return 4 if table == "artefact_instruments" else None

    def table_id(self, table):
        return "the-id"

    def data_files(self, table, *, version=None):
        return ["a.parquet", "b.parquet"]


def build(lake, kind):
    return build_manifest(
        lake,
        kind,
        valid_until=NOW + timedelta(hours=2),
        as_of=NOW,
        author="lab",
        code_commit="c",
        lock_hash="l",
        metrics={"n": 2},
    )


def test_a_manifest_is_built_from_the_files_of_a_version(tmp_path):
    folder = tmp_path / "tables" / "artefact_instruments"
    folder.mkdir(parents=True)
    for name in ("a.parquet", "b.parquet"):
        (folder / name).write_bytes(name.encode())

    manifest = build(FolderLake(tmp_path), "instruments")

    assert (manifest.table_version, manifest.table_id) == (4, "the-id")
    assert {path: digest.length for path, digest in manifest.files.items()} == {
        "a.parquet": 9,
        "b.parquet": 9,
    }
    assert (manifest.valid_from, manifest.published_at) == (NOW, NOW)


def test_a_table_that_was_never_written_cannot_be_published(tmp_path):
    with pytest.raises(ManifestError, match="artefact_x: never written"):
        build(FolderLake(tmp_path), "x")
