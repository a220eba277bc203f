"""The same code on S3, and the store that is refused."""

from pathlib import Path

import pytest

from lakehouse import maintenance
from lakehouse.clock import freeze_clock, resolve_clock, thaw_clock
from lakehouse.errors import StoreError, StoreUnsafeError
from lakehouse.store import Lake
from tests.lakehouse.test_store import changed
from tests.simulators.lakehouse import (
    NOW,
    START,
    bars,
    newest_by_scan,
    newest_kept,
    open_lake,
    rows_of,
)
from tests.simulators.s3 import forgetful_server, keys

pytestmark = pytest.mark.s3


def test_the_write_path_is_the_same_on_s3(s3_root: str, s3_server: str) -> None:
    lake = open_lake(s3_root)
    assert lake.version("ohlcv") is None
    lake.append("ohlcv", bars(), window="a")
    assert not lake.append("ohlcv", bars(), window="a").is_new
    lake.upsert("ohlcv", changed(bars(2)))
    lake.replace("ohlcv", bars(0), predicate="symbol = 'SPX'")
    stored = open_lake(s3_root).read("ohlcv")
    assert stored.num_rows == 48
    assert rows_of(lake.read("ohlcv", version=1)) == rows_of(bars())
    assert newest_kept(open_lake(s3_root)) == newest_by_scan(stored)
    assert not [key for key in keys(s3_server, s3_root) if ".probe" in key]


def test_maintenance_is_the_same_on_s3(s3_root: str) -> None:
    lake = open_lake(s3_root)
    for day in range(4):
        lake.append("ohlcv", bars(2, start=START.replace(day=1 + day)), window=f"{day}")
    before = rows_of(lake.read("ohlcv"))
    [report] = maintenance.maintain(lake)
    assert (report.n_files_before, report.n_files_after) == (4, 1)
    assert rows_of(lake.read("ohlcv")) == before
    assert newest_kept(open_lake(s3_root)) == newest_by_scan(lake.read("ohlcv"))


def test_a_store_that_overwrites_is_refused_before_the_first_write(
    s3_root: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forgetful_server(s3_server) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        lake = open_lake(s3_root)
        assert lake.read("ohlcv").num_rows == 0
        with pytest.raises(StoreUnsafeError, match="If-None-Match"):
            lake.append("ohlcv", bars(), window="a")
    assert keys(s3_server, s3_root) == []


def test_a_bucket_that_is_not_there_is_an_error_of_ours(
    s3_environment: dict[str, str],
) -> None:
    with pytest.raises(StoreError, match="s3://no-such-bucket"):
        open_lake("s3://no-such-bucket/lake").append("ohlcv", bars(), window="a")


def test_the_demo_date_is_kept_on_s3_too(s3_root: str) -> None:
    assert resolve_clock(s3_root).source == "wall"
    freeze_clock(s3_root, NOW)
    clock = resolve_clock(s3_root)
    assert (clock.now(), clock.is_demo) == (NOW, True)
    lake = Lake.open(s3_root, clock=clock)
    assert lake.storage_options["AWS_ACCESS_KEY_ID"] == "simulator"
    assert thaw_clock(s3_root)
    assert not thaw_clock(s3_root)


def test_a_folder_keeps_the_demo_date(tmp_path: Path) -> None:
    root = str(tmp_path / "not" / "there" / "yet")
    assert resolve_clock(root).source == "wall"
    freeze_clock(root, NOW)
    assert resolve_clock(root).now() == NOW
    assert thaw_clock(root)
