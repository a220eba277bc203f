"""Bearer tokens of the gateway: printed once, kept only as hashes.

A role has at most two live tokens, so that a new one can be handed out before the old
one ends: issuing a third ends the oldest. Roles are `admin`, `predict`, `worker` and
`consumer:NAME`.
"""

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from lakehouse.errors import InputError

TOKENS_FILE: Final = "tokens.json"
LIVE_TOKENS: Final = 2
_ROLE: Final = re.compile(
    r"admin|predict|worker|consumer:[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
)


def state_folder(state: Path, trusted_root: bytes) -> Path:
    """Return the gateway's folder for one trusted root: one per sha256 of root.json."""
    return state / hashlib.sha256(trusted_root).hexdigest()


def issue(folder: Path, role: str, *, now: datetime) -> str:
    """Make a token for `role` and return it; only its hash is kept.

    Parameters
    ----------
    folder : Path
        The gateway's state folder, see `state_folder`.
    role : str
        `admin`, `predict`, `worker` or `consumer:NAME`.
    now : datetime
        Clock time, recorded beside the hash.

    Raises
    ------
    InputError
        If `role` is none of these, or the kept file cannot be read.
    """
    if not _ROLE.fullmatch(role):
        raise InputError(
            f"token role {role!r}: allowed are admin, predict, worker, consumer:NAME"
        )
    token = secrets.token_urlsafe(32)
    entry = {"sha256": _digest(token), "issued_at": now.isoformat()}
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(folder):
        roles = _read(folder / TOKENS_FILE)
        roles[role] = [*roles.get(role, []), entry][-LIVE_TOKENS:]
        _write(folder / TOKENS_FILE, roles)
    return token


@dataclass(frozen=True, slots=True)
class TokenBook:
    """The live hashes by role.

    Attributes
    ----------
    digests : mapping of str to tuple of str
        Role to the sha256 of its live tokens.
    """

    digests: Mapping[str, tuple[str, ...]]

    @classmethod
    def load(cls, folder: Path) -> "TokenBook":
        """Read the book of a state folder; empty when none was issued.

        Raises
        ------
        InputError
            If the file is not a token file.
        """
        roles = _read(folder / TOKENS_FILE)
        return cls(
            {
                role: tuple(entry["sha256"] for entry in entries)
                for role, entries in roles.items()
            }
        )

    def role_of(self, token: str) -> str | None:
        """Return whose token this is; every hash is compared in constant time."""
        wanted = _digest(token)
        found = None
        for role, digests in self.digests.items():
            for digest in digests:
                if hmac.compare_digest(digest, wanted):
                    found = role
        return found


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> dict[str, list[dict[str, str]]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(role): [
                {
                    "sha256": bytes.fromhex(e["sha256"]).hex(),
                    "issued_at": e["issued_at"],
                }
                for e in entries
            ]
            for role, entries in found.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a token file; delete it to start over"
        ) from error


def _write(path: Path, roles: Mapping[str, list[dict[str, str]]]) -> None:
    draft = path.with_suffix(".new")
    with os.fdopen(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
    ) as file:
        json.dump(roles, file, indent=2, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "tokens.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
