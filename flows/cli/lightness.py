"""Keep heavy packages out of a process that does not need them.

pyarrow imports pandas, if it is there, to see whether a value is one of its kinds, and
securesystemslib imports boto3 for a signer that nobody here uses: together most of the
time that `sql`, `status` and `verify` may take to start.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Absent:
    """Finder that says packages are not installed."""

    def __init__(self, packages: frozenset[str]) -> None:
        self._packages = packages

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the finder's protocol
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Refuse these packages, leave every other to the next finder."""
        if name in self._packages:
            raise ModuleNotFoundError(f"{name}: kept out of this process", name=name)
        return None


def keep_out(*packages: str) -> None:
    """Make importing `packages` fail in this process as if they were not installed."""
    sys.meta_path.insert(0, _Absent(frozenset(packages)))
