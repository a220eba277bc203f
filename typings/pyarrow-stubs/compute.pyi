"""pyarrow.compute makes its functions at import; a checker that reads files sees none."""

from typing import Any

def __getattr__(name: str) -> Any: ...
