"""All declared tables by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from lakehouse.errors import TableNotFoundError
from lakehouse.schema import (
    artefacts,
    bands,
    forecasts,
    lifecycle,
    market,
    research,
    telemetry,
    verdicts,
)
from lakehouse.schema._spec import TableSpec

TABLES: Final[Mapping[str, TableSpec]] = MappingProxyType(
    {
        spec.name: spec
        for module in (
            market,
            forecasts,
            bands,
            verdicts,
            research,
            lifecycle,
            telemetry,
            artefacts,
        )
        for spec in module.TABLES
    }
)


def table_spec(name: str) -> TableSpec:
    """Return the declaration of table `name`.

    Raises
    ------
    TableNotFoundError
        If no such table is declared.
    """
    try:
        return TABLES[name]
    except KeyError:
        known = ", ".join(sorted(TABLES))
        raise TableNotFoundError(f"no table {name!r}; tables: {known}") from None
