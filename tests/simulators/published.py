"""A real lake with a signed repository, and ways to break it."""

from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from lakehouse.clock import Clock
from lakehouse.store import Lake
from lakehouse.trust.keys import KeyStore
from lakehouse.trust.manifest import build_manifest
from lakehouse.trust.publishing import Repository
from tests.simulators.artefacts import NOW, tables


class PublishedLake:
    """Development keys, one lake, and everything published from `tables`."""

    def __init__(self, folder: Path):
        self.root = folder / "lake"
        self.keys = folder / "keys"
        self.clock = Clock(NOW, "argument")
        self.lake = Lake.open(str(self.root), clock=self.clock)
        self.repository = Repository(str(self.root), KeyStore(self.keys), self.clock)
        self.repository.init()

    @property
    def trust(self) -> Path:
        """The trusted root that a gateway starts from."""
        return self.keys / "root.json"

    def publish(self, rows: dict[str, pa.Table] | None = None) -> None:
        """Write and sign a new version of every kind."""
        manifests = []
        for kind, table in (rows or tables()).items():
            self.lake.replace(f"artefact_{kind}", table)
            manifests.append(
                build_manifest(
                    self.lake,
                    kind,
                    valid_until=NOW + timedelta(days=30),
                    as_of=NOW,
                    author="lab",
                    code_commit="0" * 40,
                    lock_hash="0" * 64,
                )
            )
        self.repository.publish(manifests)

    def data_file(self, kind: str) -> Path:
        """Return the newest data file of an artefact."""
        table = f"artefact_{kind}"
        return self.root / "tables" / table / self.lake.data_files(table)[0]

    def flip_byte(self, path: Path, position: int = -20) -> None:
        """Change one byte of a file."""
        data = bytearray(path.read_bytes())
        data[position] ^= 1
        path.write_bytes(bytes(data))
