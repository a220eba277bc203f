"""Keep a heavy package out of a process that does not need it.

pyarrow imports pandas, if it is there, to see whether a value is one of its kinds:
half of the time that `sql`, `status` and `verify` may take to start.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Absent:
    """Finder that says a package is not installed."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the finder's protocol
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Refuse the package, leave every other to the next finder."""
        if name == self._package:
            raise ModuleNotFoundError(f"{name}: kept out of this process", name=name)
        return None


def keep_out(package: str) -> None:
    """Make `import package` fail in this process as if it were not installed."""
    sys.meta_path.insert(0, _Absent(package))
