"""Checkpoints that this lake trained: kept under the root, checked when they are read.

`models/<name>/<version>/` holds the files and, written last, `card.json`: a version
without its card does not exist, so a killed save leaves nothing that could be loaded.
The version is a hash of the files: saving the same bytes twice is one checkpoint.
Nothing is pickled; what the files hold is for the model's own reader to check.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pyarrow import fs

from lab.errors import CheckpointError
from lakehouse.clock import parse_moment
from lakehouse.storage.location import Location

CARD: Final = "card.json"
KEPT: Final = timedelta(days=183)
"""Six months: what a forecast was made with can be looked at that long."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Saved:
    """One checkpoint.

    Attributes
    ----------
    name, version : str
        Its place.
    card : mapping
        What is known of it; `created_at`, `cutoff` and `sha256` are always there.
    files : mapping of str to bytes
        File name to content.
    """

    name: str
    version: str
    card: Mapping[str, Any]
    files: Mapping[str, bytes]

    @property
    def created_at(self) -> datetime:
        """When it was saved, by the lake's clock."""
        return parse_moment(self.card["created_at"], what=f"{self.name}: created_at")

    @property
    def cutoff(self) -> datetime | None:
        """Newest moment its weights may know of; None where nobody knows."""
        return card_cutoff(self.card)


class CheckpointStore:
    """The checkpoints of a lake.

    Parameters
    ----------
    root : str
        Lake root, a folder or `s3://bucket/prefix`.
    """

    def __init__(self, root: str) -> None:
        self._place = Location.of(root)

    def save(
        self,
        name: str,
        files: Mapping[str, bytes],
        card: Mapping[str, Any],
    ) -> Saved:
        """Keep a checkpoint.

        Parameters
        ----------
        name : str
            Small letters, digits, `-`, `_`, `.`.
        files : mapping of str to bytes
            At least one.
        card : mapping
            JSON values; must name `created_at` and `cutoff` (ISO 8601, or null).

        Raises
        ------
        CheckpointError
            If the name, the files or the card cannot be used.
        StoreError
            If the root cannot be written; nothing that could be loaded is left then.
        """
        _check(name, files, card)
        digests = {key: _sha256(data) for key, data in sorted(files.items())}
        version = _sha256(json.dumps(digests, sort_keys=True).encode())[:16]
        full = {**card, "name": name, "version": version, "sha256": digests}
        is_there = self._card(name, version) is not None
        for key, data in files.items():
            path = self._path(name, version, key)
            # What is there already is mended where a file was damaged since.
            if not is_there or self._place.read_bytes(path) != data:
                self._place.write_bytes(path, data)
        if not is_there:
            payload = json.dumps(full, sort_keys=True, indent=1).encode()
            self._place.write_bytes(self._path(name, version, CARD), payload)
        return Saved(name, version, full, dict(files))

    def folder(self, saved: Saved) -> str:
        """Return where the files of a checkpoint lie."""
        return self._path(saved.name, saved.version)

    def cards(self, name: str) -> list[dict[str, Any]]:
        """Return the cards of a checkpoint's versions, oldest first."""
        found = [self._card(name, version) for version in self._folders(name)]
        return sorted(
            (card for card in found if card is not None),
            key=lambda card: (card["created_at"], card["version"]),
        )

    def names(self) -> list[str]:
        """Return the names of all checkpoints."""
        return self._folders()

    def newest(self, name: str, *, until: datetime | None = None) -> Saved | None:
        """Return the newest version; None if there is none.

        Parameters
        ----------
        name : str
            Checkpoint.
        until : datetime, optional
            Only versions whose cut-off is known and not later.

        Notes
        -----
        Point in time: with `until` set to a decision time, no version that could know
        more than that moment is returned.
        """
        cards = [
            card
            for card in self.cards(name)
            if until is None
            or ((cutoff := card_cutoff(card)) is not None and cutoff <= until)
        ]
        return self.load(name, cards[-1]["version"]) if cards else None

    def load(self, name: str, version: str) -> Saved:
        """Return one version, every file checked against its card.

        Raises
        ------
        CheckpointError
            If it is not there, or a file is missing or altered.
        """
        card = self._card(name, version)
        if card is None:
            raise CheckpointError(f"checkpoint {name} {version}: not in the lake")
        files = {}
        for key, digest in card["sha256"].items():
            data = self._place.read_bytes(self._path(name, version, key))
            if data is None or _sha256(data) != digest:
                state = "missing" if data is None else "altered"
                raise CheckpointError(f"checkpoint {name} {version}: {key} is {state}")
            files[key] = data
        return Saved(name, version, card, files)

    def prune(
        self,
        *,
        now: datetime,
        keep: timedelta = KEPT,
        in_use: Collection[tuple[str, str]] = (),
    ) -> list[str]:
        """Delete versions older than `keep`, never the one in use.

        In use is a name's newest version, and the newest that was accepted: adapters
        trained since may all have been refused.

        Parameters
        ----------
        now : datetime
            Ages are counted up to it.
        keep : timedelta
            Younger versions stay.
        in_use : collection of (str, str)
            Names and versions that stay, however old.

        Returns
        -------
        list of str
            `name/version` of what was deleted.
        """
        gone = []
        for name in self.names():
            cards = self.cards(name)
            accepted = [card["version"] for card in cards if card.get("is_accepted")]
            for card in cards[:-1]:
                is_old = parse_moment(card["created_at"]) < now - keep
                kept = [*accepted[-1:], *(one for key, one in in_use if key == name)]
                if is_old and card["version"] not in kept:
                    self._delete(name, card)
                    gone.append(f"{name}/{card['version']}")
        return gone

    def _delete(self, name: str, card: Mapping[str, Any]) -> None:
        # The card first: a half-deleted version is one that does not exist.
        for key in (CARD, *card["sha256"]):
            self._place.delete(self._path(name, card["version"], key))

    def _path(self, *parts: str) -> str:
        return self._place.path("models", *parts)

    def _card(self, name: str, version: str) -> dict[str, Any] | None:
        data = self._place.read_bytes(self._path(name, version, CARD))
        if data is None:
            return None
        try:
            card = json.loads(data)
            parse_moment(card["created_at"])
            _check_names(card, version)
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"checkpoint {name} {version}: {CARD} is damaged: {error}"
            ) from error
        return dict(card)

    def _folders(self, *parts: str) -> list[str]:
        base = self._path(*parts)
        found = self._place.filesystem.get_file_info(
            fs.FileSelector(base, allow_not_found=True)
        )
        return sorted(
            one.base_name for one in found if one.type == fs.FileType.Directory
        )


def card_cutoff(card: Mapping[str, Any]) -> datetime | None:
    """Return the cut-off that a card states; None where it states none."""
    text = card.get("cutoff")
    return None if text is None else parse_moment(text, what="card: cutoff")


def fitting(
    adapters: Mapping[str, Saved], family: str, *, base: str
) -> dict[str, Saved]:
    """Return the adapters that were trained on a base.

    A class whose adapter on a new base was not accepted still has its old one: that
    must not keep the other classes from theirs.

    Parameters
    ----------
    adapters : mapping of str to Saved
        By route.
    family : str
        For the message.
    base : str
        Version of the base that is here.

    Raises
    ------
    CheckpointError
        If there are some and none was.
    """
    found = {
        route: saved
        for route, saved in adapters.items()
        if saved.card.get("base_version") == base
    }
    if adapters and not found:
        route, saved = next(iter(adapters.items()))
        raise CheckpointError(
            f"{family} adapter {route} {saved.version}: trained on"
            f" {saved.card.get('base_version')}, the model is {base}; train it again"
        )
    return found


def _check(name: str, files: Mapping[str, bytes], card: Mapping[str, Any]) -> None:
    if not _NAME.fullmatch(name):
        raise CheckpointError(
            f"checkpoint name {name!r}: small letters, digits, - _ . are allowed"
        )
    bad = [key for key in files if not _NAME.fullmatch(key) or key == CARD]
    if not files or bad:
        raise CheckpointError(f"checkpoint {name}: files {bad or 'are missing'}")
    for key in ("created_at", "cutoff"):
        if key not in card:
            raise CheckpointError(f"checkpoint {name}: its card lacks {key}")


def _check_names(card: Mapping[str, Any], version: str) -> None:
    # A card says what is read and, one day, deleted: nothing outside its own folder.
    if card["version"] != version:
        raise ValueError(f"it is of version {card['version']!r}")
    bad = [key for key in dict(card["sha256"]) if not _NAME.fullmatch(key)]
    if bad:
        raise ValueError(f"file name {bad[0]!r}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
