"""Real TUF repositories for tests: one in memory for any attack, one of a small lake.

`TufSimulator` holds metadata that a test edits freely and publishes in any order, as an
attacker could; it serves clients in memory or over loopback HTTP and notes what they
asked for. `SignedLake` is a folder that `Repository` publishes, with Parquet files
that need no Delta log.
"""

import atexit
import hashlib
import http.server
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from lakehouse.clock import Clock
from lakehouse.trust.errors import FileAbsentError, LengthError
from lakehouse.trust.fetching import LocalFetcher
from lakehouse.trust.keys import KeyStore
from lakehouse.trust.manifest import FileDigest, Manifest
from lakehouse.trust.publishing import Repository
from lakehouse.trust.verification import TrustedClient

TOP_LEVEL = (Root.type, Timestamp.type, Snapshot.type, Targets.type)
START = datetime(2026, 11, 22, 10, tzinfo=UTC)


@cache
def signer(number: int, kind: str = "ed25519") -> CryptoSigner:
    """Return the same key for the same number, within one run."""
    generate = {
        "ed25519": CryptoSigner.generate_ed25519,
        "ecdsa": CryptoSigner.generate_ecdsa,
        "rsa": CryptoSigner.generate_rsa,
    }[kind]
    return generate()


class TufSimulator:
    """A repository whose owner may be malicious.

    Parameters
    ----------
    now : datetime
        Metadata expires 30 days later.
    """

    def __init__(self, now: datetime | None = None) -> None:
        self.expiry = (now or datetime.now(UTC)).replace(microsecond=0) + timedelta(30)
        self.signers: dict[str, list[CryptoSigner]] = {}
        self.published: dict[str, list[bytes]] = {}
        self.targets_served: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.has_hashes = False
        self._next_key = 0
        self.roles = {
            Root.type: Root(expires=self.expiry, consistent_snapshot=True),
            Timestamp.type: Timestamp(expires=self.expiry),
            Snapshot.type: Snapshot(expires=self.expiry, meta={}),
            Targets.type: Targets(expires=self.expiry),
        }
        for role in TOP_LEVEL:
            self.roles[role].version = 0
            self.signers[role] = []
            self.enrol(role)
        self.publish(Targets.type, Snapshot.type, Timestamp.type, Root.type)

    @property
    def root(self) -> Root:
        return self.roles[Root.type]

    @property
    def timestamp(self) -> Timestamp:
        return self.roles[Timestamp.type]

    @property
    def snapshot(self) -> Snapshot:
        return self.roles[Snapshot.type]

    @property
    def targets(self) -> Targets:
        return self.roles[Targets.type]

    @property
    def trusted_root(self) -> bytes:
        return self.published[Root.type][0]

    def fresh_signer(self, kind: str = "ed25519") -> CryptoSigner:
        self._next_key += 1
        return signer(self._next_key, kind)

    def enrol(self, role: str, kind: str = "ed25519") -> CryptoSigner:
        """Let one more key sign a top-level role."""
        fresh = self.fresh_signer(kind)
        self.root.add_key(fresh.public_key, role)
        self.signers[role].append(fresh)
        return fresh

    def rotate(self, role: str) -> None:
        """Replace all keys of a top-level role."""
        for keyid in list(self.root.roles[role].keyids):
            self.root.revoke_key(keyid, role)
        self.signers[role].clear()
        self.enrol(role)

    def delegate(
        self,
        delegator: str,
        role: str,
        *,
        paths: list[str] | None = None,
        prefixes: list[str] | None = None,
        is_terminating: bool = False,
    ) -> None:
        """Delegate to a role with a key of its own."""
        parent = self.roles[delegator]
        if parent.delegations is None:
            parent.delegations = Delegations({}, {})
        if paths is None and prefixes is None:
            paths = ["*"]
        parent.delegations.roles[role] = DelegatedRole(
            role, [], 1, is_terminating, paths, prefixes
        )
        fresh = self.fresh_signer()
        parent.add_key(fresh.public_key, role)
        self.signers.setdefault(role, []).append(fresh)
        if role not in self.roles:
            self.roles[role] = Targets(expires=self.expiry)
            self.roles[role].version = 0

    def delegate_bins(self, delegator: str, bit_length: int) -> SuccinctRoles:
        """Delegate every path to hash bins."""
        parent = self.roles[delegator]
        bins = SuccinctRoles([], 1, bit_length, "bin")
        parent.delegations = Delegations({}, None, bins)
        fresh = self.fresh_signer()
        parent.add_key(fresh.public_key)
        for role in bins.get_roles():
            self.roles[role] = Targets(expires=self.expiry)
            self.roles[role].version = 0
            self.signers[role] = [fresh]
        return bins

    def add_target(self, role: str, path: str, data: bytes) -> None:
        target = TargetFile.from_data(path, data, ["sha256"])
        self.roles[role].targets[path] = target
        self.targets_served[path] = data

    def publish(self, *roles: str, bump: bool = True) -> None:
        """Sign roles and make them what clients are given."""
        for role in roles:
            signed = self.roles[role]
            signed.version += 1 if bump else 0
            metadata = Metadata(signed)
            for each in self.signers[role]:
                metadata.sign(each, append=True)
            data = metadata.to_bytes()
            self.published.setdefault(role, []).append(data)
            meta = (
                MetaFile.from_data(signed.version, data, ["sha256"])
                if self.has_hashes
                else MetaFile(signed.version)
            )
            if role == Snapshot.type:
                self.timestamp.snapshot_meta = meta
            elif role not in TOP_LEVEL or role == Targets.type:
                self.snapshot.meta[f"{role}.json"] = meta

    def publish_all(self, *roles: str) -> None:
        """Publish roles and what refers to them."""
        self.publish(*roles, Snapshot.type, Timestamp.type)

    def serve(self, path: str) -> bytes:
        """Return the bytes of `metadata/…` or `targets/…`."""
        kind, _, name = path.partition("/")
        if kind == "metadata":
            return self._serve_metadata(name)
        folder, slash, base = unquote(name).rpartition("/")
        if self.root.consistent_snapshot:
            base = base.partition(".")[2]
        self.asked.append(f"targets/{folder}{slash}{base}")
        return self.targets_served[f"{folder}{slash}{base}"]

    def _serve_metadata(self, name: str) -> bytes:
        self.asked.append(name)
        stem = name.removesuffix(".json")
        if self.root.consistent_snapshot or stem.endswith(".root"):
            version, _, role = stem.partition(".")
            if version.isdigit():
                for data in reversed(self.published[unquote(role)]):
                    if Metadata.from_bytes(data).signed.version == int(version):
                        return data
                raise KeyError(name)
        return self.published[unquote(stem)][-1]

    def download(self, name: str, *, max_length: int) -> bytes:
        """Serve a workflow in memory."""
        try:
            data = self.serve(f"metadata/{name}")
        except KeyError as error:
            raise FileAbsentError(name) from error
        if len(data) > max_length:
            raise LengthError(name)
        return data

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Serve over loopback HTTP; yields the address."""
        simulator = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    data = simulator.serve(self.path.lstrip("/"))
                except (KeyError, ValueError):
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                """Keep quiet."""

        with serving(Handler) as address:
            yield address


@contextmanager
def serving(
    handler: Callable[..., http.server.BaseHTTPRequestHandler],
) -> Iterator[str]:
    """Run a handler on a free loopback port; yields the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@cache
def _template() -> Path:
    # Keys and an empty repository, made once per run: durable writes are slow.
    folder = Path(tempfile.mkdtemp(prefix="alphalake-signed-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    clock = Clock(START, "argument")
    Repository(str(folder / "lake"), KeyStore(folder / "keys"), clock).init()
    return folder


class SignedLake:
    """A small lake with a repository, its keys and the time of day.

    Parameters
    ----------
    folder : Path
        Where lake, keys and client states go.
    """

    def __init__(self, folder: Path) -> None:
        shutil.copytree(_template(), folder, dirs_exist_ok=True)
        self.attach(folder)

    def attach(self, folder: Path) -> None:
        """Take over a folder that another process made."""
        self.folder = folder
        self.root = str(folder / "lake")
        self.now = START
        self.keys = KeyStore(folder / "keys")

    @property
    def clock(self) -> Clock:
        return Clock(self.now, "argument")

    @property
    def repository(self) -> Repository:
        return Repository(self.root, self.keys, self.clock)

    @property
    def artefacts(self) -> Path:
        return self.folder / "lake" / "artefacts"

    def wait(self, **spans: float) -> None:
        """Let time pass."""
        self.now += timedelta(**spans)

    def manifest(
        self,
        kind: str = "prices",
        values: Iterable[int] = (1, 2, 3),
        *,
        version: int = 0,
        author: str = "lab",
        table_id: str = "table-1",
        days: float = 90,
    ) -> Manifest:
        """Write one version of an artefact's table and describe it."""
        folder = self.folder / "lake" / "tables" / f"artefact_{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"value": pa.array(list(values), pa.int64())}), sink)
        data = sink.getvalue().to_pybytes()
        name = f"part-{version}.parquet"
        (folder / name).write_bytes(data)
        return Manifest(
            kind=kind,
            table=f"artefact_{kind}",
            table_id=table_id,
            table_version=version,
            files={name: FileDigest(hashlib.sha256(data).hexdigest(), len(data))},
            valid_from=self.now,
            valid_until=self.now + timedelta(days=days),
            published_at=self.now,
            as_of=self.now,
            author=author,
            code_commit="0" * 40,
            lock_hash="f" * 64,
        )

    def publish(self, *manifests: Manifest) -> None:
        self.repository.publish(manifests or [self.manifest()])

    def client(
        self, state: str | None = None, *, root: str | None = None
    ) -> TrustedClient:
        """Return a client at the present time, with or without a memory."""
        return TrustedClient(
            self.keys.trusted_root(),
            LocalFetcher(root or self.root),
            None if state is None else self.folder / state,
            self.clock,
        )

    def forge(
        self,
        edit: Callable[[dict[str, Metadata]], None],
        *,
        roles: Iterable[str] = ("shadow",),
        names: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Publish edited metadata signed with the lab's own (stolen) keys.

        `names` says which keys of the folder sign a role; default: the rightful.
        """
        state = self.repository.writer.load()
        signed = {
            "root": state.root,
            "timestamp": state.timestamp,
            "snapshot": state.snapshot,
            "targets": state.targets,
            **state.roles,
        }
        edit(signed)
        for role in roles:
            data = self._sign(signed[role], role, names)
            signed["snapshot"].meta[f"{role}.json"] = MetaFile.from_data(
                signed[role].version, data, ["sha256"]
            )
        data = self._sign(signed["snapshot"], "snapshot", names)
        signed["timestamp"].snapshot_meta = MetaFile.from_data(
            signed["snapshot"].version, data, ["sha256"]
        )
        self._sign(signed["timestamp"], "timestamp", names)

    def _sign(
        self, signed: object, role: str, names: dict[str, tuple[str, ...]] | None
    ) -> bytes:
        default = {"live": ("live-1", "live-2")}.get(role, (role,))
        signed.version += 1
        metadata = Metadata(signed)
        for name in (names or {}).get(role, default):
            metadata.sign(self.keys.signer(name), append=True)
        data = metadata.to_bytes()
        prefix = "" if role == "timestamp" else f"{signed.version}."
        (self.artefacts / "metadata" / f"{prefix}{role}.json").write_bytes(data)
        return data
