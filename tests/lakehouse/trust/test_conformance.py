"""The command line of the conformance suite, over loopback HTTP."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.trust.conformance import main
from tests.simulators.repository import TufSimulator


class Runner:
    """Calls the client as the suite does."""

    def __init__(self, folder: Path, simulator: TufSimulator, address: str):
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self.metadata.mkdir()
        self.targets.mkdir()
        self.simulator, self.address = simulator, address
        self.root = folder / "initial_root.json"

    def init(self, root: bytes | None = None) -> int:
        self.root.write_bytes(root or self.simulator.trusted_root)
        return main(["--metadata-dir", str(self.metadata), "init", str(self.root)])

    def refresh(self) -> int:
        return main([*self.where(), "refresh"])

    def download(self, *names: str) -> int:
        wanted = [part for name in names for part in ("--target-name", name)]
        options = ["--target-dir", str(self.targets)]
        options += ["--target-base-url", f"{self.address}/targets/"]
        return main([*self.where(), *wanted, *options, "download"])

    def where(self) -> list[str]:
        url = f"{self.address}/metadata/"
        return ["--metadata-url", url, "--metadata-dir", str(self.metadata)]

    def roles(self) -> dict[str, int]:
        return {
            path.stem: json.loads(path.read_bytes())["signed"]["version"]
            for path in self.metadata.iterdir()
            if path.suffix == ".json"
        }

    def contents(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in self.targets.iterdir())


@pytest.fixture
def runner(tmp_path):
    simulator = TufSimulator()
    with simulator.listening() as address:
        yield Runner(tmp_path, simulator, address)


def test_refresh_stores_the_top_level_roles_byte_for_byte(runner):
    assert runner.init() == 0
    assert runner.refresh() == 0

    assert runner.roles() == {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}
    for role in runner.roles():
        stored = (runner.metadata / f"{role}.json").read_bytes()
        assert stored == runner.simulator.published[role][-1]
    assert runner.simulator.asked == [
        "2.root.json",
        "timestamp.json",
        "1.snapshot.json",
        "1.targets.json",
    ]


def test_the_module_runs_as_a_program(runner):
    runner.init()
    command = [sys.executable, "-m", "lakehouse.trust.conformance", *runner.where()]

    done = subprocess.run([*command, "refresh"], capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")


def test_an_unusable_initial_root_asks_for_nothing(runner, capsys):
    document = json.loads(runner.simulator.trusted_root)
    del document["signed"]["version"]
    runner.init(json.dumps(document).encode())

    assert runner.refresh() == 1
    document = json.loads(runner.simulator.trusted_root)
    document["signatures"][0]["sig"] = "00" * 64
    runner.init(json.dumps(document).encode())
    assert runner.refresh() == 1
    assert runner.simulator.asked == []
    assert "Traceback" not in capsys.readouterr().err


def test_a_download_of_nothing_known_updates_the_metadata_and_fails(runner):
    runner.init()

    assert runner.download("nonexistent artefact") == 1
    assert runner.roles() == {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}


@pytest.mark.parametrize("name", ["file.txt", "a/b/file.txt", "..", "a b", "ä"])
def test_targets_of_any_name_are_downloaded_once(runner, name):
    runner.simulator.add_target("targets", name, b"content")
    runner.simulator.publish_all("targets")
    runner.init()

    assert runner.download(name) == 0
    asked = len(runner.simulator.asked)
    assert runner.download(name) == 0

    assert runner.contents() == [b"content"]
    assert not [n for n in runner.simulator.asked[asked:] if n.startswith("targets/")]


def test_several_targets_are_downloaded_in_one_run(runner):
    for name in ("one", "two"):
        runner.simulator.add_target("targets", name, name.encode())
    runner.simulator.publish_all("targets")
    runner.init()

    assert runner.download("one", "two") == 0
    assert runner.contents() == [b"one", b"two"]


def test_a_target_that_is_not_the_signed_one_is_not_stored(runner):
    runner.simulator.add_target("targets", "file", b"content")
    runner.simulator.publish_all("targets")
    runner.init()
    for wrong in (b"CONTENT", b"longer content", b"short"):
        runner.simulator.targets_served["file"] = wrong
        assert runner.download("file") == 1
    assert runner.contents() == []


def test_changed_targets_take_the_place_of_old_ones(runner):
    runner.init()
    for content in (b"first", b"second"):
        runner.simulator.add_target("targets", "file", content)
        runner.simulator.publish_all("targets")
        assert runner.download("file") == 0
        assert runner.contents() == [content]


def test_without_consistent_snapshots_targets_have_plain_names(runner):
    runner.simulator.root.consistent_snapshot = False
    runner.simulator.publish("root")
    runner.simulator.add_target("targets", "file", b"content")
    runner.simulator.publish_all("targets")
    runner.init()

    assert runner.download("file") == 0
    assert "targets.json" in runner.simulator.asked


def test_a_rollback_leaves_what_was_trusted(runner):
    runner.simulator.publish_all("targets")
    runner.init()
    runner.refresh()
    before = runner.roles()
    runner.simulator.targets.version = 0
    runner.simulator.publish_all("targets")

    assert runner.refresh() == 1
    after = runner.roles()
    assert (after["snapshot"], after["targets"]) == (
        before["snapshot"],
        before["targets"],
    )


def test_the_newest_root_is_what_lies_in_the_folder(runner):
    runner.init()
    for _ in range(3):
        runner.simulator.publish("root")

    assert runner.refresh() == 0
    newest = runner.simulator.published["root"][-1]
    assert (runner.metadata / "root.json").read_bytes() == newest


def test_missing_options_and_folders_are_failures_not_crashes(runner, capsys):
    assert main(["--metadata-dir", str(runner.metadata), "refresh"]) == 1
    assert runner.refresh() == 1
    runner.init()
    assert main([*runner.where(), "--target-name", "x", "download"]) == 1
    where = ["--metadata-dir", str(runner.metadata / "x")]
    assert main([*where, "init", str(runner.root) + ".absent"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_server_that_is_gone_is_a_failure(tmp_path, capsys):
    runner = Runner(tmp_path, TufSimulator(), "http://127.0.0.1:9")
    runner.init()

    assert runner.refresh() == 1
    assert "DownloadError" in capsys.readouterr().err
