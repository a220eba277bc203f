"""What a repository keeps: the last snapshots and everything they refer to.

Only what lies below the kept snapshots is removed, so that a publication under way
loses nothing. Roots are kept for ever: clients walk them one by one.
"""

import contextlib

from tuf.api.metadata import Snapshot, TargetFile, Targets

from lakehouse.trust.errors import ManifestError, UnverifiedError
from lakehouse.trust.manifest import Manifest
from lakehouse.trust.repository_files import RepositoryFiles, open_files
from lakehouse.trust.workflow import parse


def target_file_name(path: str, target: TargetFile) -> str:
    """Return the name of a target's file: its folder, its sha256, its name."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{target.hashes['sha256']}.{name}"


def prune(files: RepositoryFiles, newest_dropped: int) -> int:
    """Remove snapshots up to a version, and what only they referred to.

    Parameters
    ----------
    files : RepositoryFiles
        The repository.
    newest_dropped : int
        Last snapshot version to go.

    Returns
    -------
    int
        Files removed.
    """
    snapshots = _versions(files, Snapshot.type)
    dropped = [version for version in snapshots if version <= newest_dropped]
    if not dropped:
        return 0
    kept_roles: set[str] = set()
    for version in set(snapshots) - set(dropped):
        kept_roles |= _roles_of(files, version)
    lowest = _lowest(kept_roles)
    kept_targets: set[str] = set()
    for name in kept_roles:
        kept_targets |= _targets_of(files, name)
    gone = [
        f"metadata/{version}.{role}.json"
        for role, first in lowest.items()
        for version in _versions(files, role)
        if version < first
    ]
    # Targets first: metadata still names them if a kill comes in between.
    removed = 0
    for name in gone:
        for target in _targets_of(files, name) - kept_targets:
            files.remove(target)
            removed += 1
    for name in [*gone, *(f"metadata/{version}.snapshot.json" for version in dropped)]:
        files.remove(name)
        removed += 1
    return removed


def pinned_versions(root: str) -> dict[str, set[int]]:
    """Return the Delta versions that published manifests refer to.

    Parameters
    ----------
    root : str
        Root of the lake.

    Returns
    -------
    dict of str to set of int
        Versions by table. A vacuum must keep their files.
    """
    files = open_files(root)
    pinned: dict[str, set[int]] = {}
    for name in files.names("targets"):
        data = files.read(name)
        if data is None:
            continue
        with contextlib.suppress(ManifestError):  # not one of ours pins nothing
            manifest = Manifest.from_bytes(data)
            pinned.setdefault(manifest.table, set()).add(manifest.table_version)
    return pinned


def _versions(files: RepositoryFiles, role: str) -> list[int]:
    found = []
    for name in files.names("metadata"):
        version, _, rest = name.removeprefix("metadata/").partition(".")
        if rest == f"{role}.json" and version.isdigit():
            found.append(int(version))
    return sorted(found)


def _roles_of(files: RepositoryFiles, snapshot_version: int) -> set[str]:
    data = files.read(f"metadata/{snapshot_version}.snapshot.json") or b""
    try:
        snapshot = parse(data, Snapshot).signed
    except UnverifiedError:
        return set()
    return {f"metadata/{meta.version}.{name}" for name, meta in snapshot.meta.items()}


def _targets_of(files: RepositoryFiles, name: str) -> set[str]:
    try:
        targets = parse(files.read(name) or b"", Targets).signed
        return {
            f"targets/{target_file_name(path, target)}"
            for path, target in targets.targets.items()
        }
    except (UnverifiedError, KeyError):
        return set()


def _lowest(names: set[str]) -> dict[str, int]:
    lowest: dict[str, int] = {}
    for name in names:
        version, _, role = name.removeprefix("metadata/").partition(".")
        role = role.removesuffix(".json")
        lowest[role] = min(int(version), lowest.get(role, int(version)))
    return lowest
