"""Checkpoints in a folder or in the Hub's cache: found offline, read whole.

A source is a folder, or a Hub id such as `NeoQuasar/Kronos-small`, optionally with
`@revision`. Hub ids are looked up in the local cache only: this machine may have no
network, and a forecast must not depend on one. Only `config.json`, `card.json` and
`*.safetensors` are ever read: weights in a pickle are refused.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flows.checkpoints.store import CARD
from lab.errors import CheckpointError

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
_UNSAFE: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published checkpoint's bytes.

    Attributes
    ----------
    source : str
        As the user named it.
    config, weights : bytes
        `config.json` and `model.safetensors`.
    card : mapping
        `card.json`; empty where there is none.
    """

    source: str
    config: bytes
    weights: bytes
    card: Mapping[str, Any]

    @property
    def sha256(self) -> dict[str, str]:
        """Digest per file."""
        return {
            CONFIG: hashlib.sha256(self.config).hexdigest(),
            WEIGHTS: hashlib.sha256(self.weights).hexdigest(),
        }

    @property
    def fingerprint(self) -> str:
        """Eight digits that change with any byte of it."""
        return hashlib.sha256(self.config + self.weights).hexdigest()[:8]


def find_folder(source: str, *, what: str) -> Path:
    """Return the local folder of a source.

    Parameters
    ----------
    source : str
        Folder, or Hub id with an optional `@revision`.
    what : str
        Whose it is, for messages.

    Raises
    ------
    CheckpointError
        If there is no such folder, it is a file, or the Hub id is not in the cache.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(
            f"{what} {source}: is a file; give the folder of {CONFIG} and {WEIGHTS}"
        )
    if not _HUB_ID.fullmatch(source) or source.startswith((".", "/")):
        raise CheckpointError(f"{what} {source}: no such folder, and no Hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    name, _, revision = source.partition("@")
    try:
        return Path(
            snapshot_download(name, revision=revision or None, local_files_only=True)
        )
    except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise CheckpointError(
            f"{what} {source}: neither a folder here nor in the Hub cache; download it"
            f" where there is a network (hf download {name}) or give a folder"
        ) from error


def read_checkpoint(folder: Path, *, source: str, what: str) -> Checkpoint:
    """Read a checkpoint's files.

    Raises
    ------
    CheckpointError
        If a file is missing, cannot be read, or the weights are pickled.
    """
    try:
        names = {one.name for one in folder.iterdir()}
        if WEIGHTS not in names:
            unsafe = sorted(one for one in names if one.endswith(_UNSAFE))
            hint = f" ({unsafe[0]} is a pickle and is never loaded)" if unsafe else ""
            raise CheckpointError(f"{what} {source}: no {WEIGHTS} in {folder}{hint}")
        card = (folder / CARD).read_bytes() if CARD in names else b"{}"
        return Checkpoint(
            source,
            (folder / CONFIG).read_bytes(),
            (folder / WEIGHTS).read_bytes(),
            read_card(card, where=f"{what} {source}"),
        )
    except OSError as error:
        raise CheckpointError(
            f"{what} {source}: {error.filename}: {error.strerror}"
        ) from error


def read_card(data: bytes, *, where: str) -> dict[str, Any]:
    """Return a card's values.

    Raises
    ------
    CheckpointError
        If it is no JSON object.
    """
    try:
        card = json.loads(data)
    except ValueError as error:
        raise CheckpointError(f"{where}: {CARD} is no JSON: {error}") from error
    if not isinstance(card, dict):
        raise CheckpointError(f"{where}: {CARD} must be an object")
    return card


def check_digests(checkpoint: Checkpoint, *, what: str) -> None:
    """Compare a checkpoint's files with the digests of its card, if it states any.

    Raises
    ------
    CheckpointError
        If a file is not the one that the card describes.
    """
    stated = checkpoint.card.get("sha256", {})
    for name, digest in checkpoint.sha256.items():
        if stated.get(name, digest) != digest:
            raise CheckpointError(
                f"{what} {checkpoint.source}: {name} is not the file its card"
                f" describes (sha256 {digest[:12]}…, card {stated[name][:12]}…)"
            )
