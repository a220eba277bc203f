"""A SQL condition over one table's columns, evaluated on rows in memory."""

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from lakehouse.errors import QueryError, SchemaError
from lakehouse.schema._spec import TableSpec
from lakehouse.storage.keys import BoolArray


class Predicate:
    """A condition such as `timeframe = '1h' AND ts >= '2024-01-01T00:00:00Z'`.

    Raises
    ------
    QueryError
        If it is not one SQL expression over the table's columns.
    """

    def __init__(self, spec: TableSpec, text: str) -> None:
        self.text = text
        self._spec = spec
        self._connection: Any = duckdb.connect(
            config={
                "enable_external_access": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            }
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("SET python_enable_replacements = false")
        self._connection.execute("SET lock_configuration = true")
        self.holds(spec.to_arrow().empty_table())

    def holds(self, rows: pa.Table) -> BoolArray:
        """Return where the condition is true (neither false nor null), (n_rows,), bool."""
        self._connection.register("rows", rows)
        try:
            statements = self._connection.extract_statements(
                f"SELECT coalesce(({self.text}\n)::BOOLEAN, false) AS holds FROM rows"  # noqa: S608
            )
            if len(statements) != 1 or statements[0].type.name != "SELECT":
                raise QueryError(f"predicate {self.text!r}: one condition expected")
            found = self._connection.execute(statements[0]).fetchnumpy()["holds"]
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            raise QueryError(
                f"table {self._spec.name}: predicate {self.text!r}: {first}"
            ) from error
        finally:
            self._connection.unregister("rows")
        return np.asarray(found, dtype=np.bool_)

    def refuse_outside(self, rows: pa.Table) -> None:
        """Refuse rows for which the condition does not hold.

        Raises
        ------
        SchemaError
        """
        outside = np.flatnonzero(~self.holds(rows))
        if outside.size:
            raise SchemaError(
                f"table {self._spec.name}: row {int(outside[0])} does not satisfy "
                f"{self.text!r} ({outside.size} such rows)"
            )
