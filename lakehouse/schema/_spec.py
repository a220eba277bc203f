"""What a table declaration is made of.

A `TableSpec` is data: it says which columns a table has, in which unit, which values
are allowed and what identifies a row. `lakehouse.store` enforces it on every write,
`lakehouse.query` builds views and comments from it, and the table catalogue in the
documentation is generated from it. Nothing here reads or writes.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import pyarrow as pa

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")
TEXT: Final = pa.string()
FLOAT: Final = pa.float64()
INTEGER: Final = pa.int64()
BOOLEAN: Final = pa.bool_()
BYTES: Final = pa.binary()
TIMESTAMPS: Final = pa.list_(TIMESTAMP)
FLOATS: Final = pa.list_(FLOAT)
PATHS: Final = pa.list_(pa.list_(pa.float32()))

TIMEFRAMES: Final = ("1h", "1d")
ASSET_CLASSES: Final = (
    "crypto",
    "fx",
    "equity",
    "index",
    "commodity",
    "rates",
    "other",
)


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column.

    Attributes
    ----------
    name : str
        Column name; derived columns carry their unit in it.
    dtype : pyarrow.DataType
        Exact Arrow type on disk. Times are `timestamp[us, UTC]`.
    description : str
        What the value means, one sentence.
    unit : str or None
        Unit of the value, where it has one.
    is_nullable : bool
        Whether null is a legal value ("unknown").
    minimum, maximum : float or None
        Inclusive range. Floats must be finite whether or not a range is given.
    is_positive : bool
        Whether zero is refused too.
    allowed : tuple of str or None
        The closed list of values of a text column.
    has_gaps : bool
        Whether items of a list may be null.
    """

    name: str
    dtype: pa.DataType
    description: str
    unit: str | None = None
    is_nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    is_positive: bool = False
    allowed: tuple[str, ...] | None = None
    has_gaps: bool = False

    def to_field(self) -> pa.Field:
        """Return the Arrow field, nullability included."""
        return pa.field(self.name, self.dtype, nullable=self.is_nullable)


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """A named query over declared tables, offered to SQL beside them."""

    name: str
    description: str
    sql: str


@dataclass(frozen=True, slots=True)
class LatestSpec:
    """Which rows are "newest": per `key`, the row that is last by `order`.

    Attributes
    ----------
    key : tuple of str
        One newest row is kept per value of these.
    order : tuple of str
        The last row by these is the newest.
    exclude : tuple of str
        Bulky columns that the kept rows leave out; read them from the table itself.
    """

    key: tuple[str, ...]
    order: tuple[str, ...]
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table.

    Attributes
    ----------
    name : str
        Folder under `tables/` and name in SQL.
    description : str
        What one row is.
    columns : tuple of ColumnSpec
        In the order on disk.
    key : tuple of str
        Columns that identify a row; unique after every write.
    sort_by : tuple of str
        Order of rows inside a data file: what makes range reads cheap.
    latest : LatestSpec or None
        Set where the newest row per key is kept beside the table.
    views : tuple of ViewSpec
        Views over this table.
    is_append_only : bool
        Whether stored rows may never change (ledgers and hash chains).
    time : str or None
        Timestamp column that is a function of the key (rows with equal keys have
        equal times): files are cut by it and look-ups of stored keys pruned by it.
    provenance : tuple of str
        Columns that say who wrote a row, when and from what. They are not part of
        its content: a row that differs from the stored one in these only is equal.
    """

    name: str
    description: str
    columns: tuple[ColumnSpec, ...]
    key: tuple[str, ...]
    sort_by: tuple[str, ...] = ()
    latest: LatestSpec | None = None
    views: tuple[ViewSpec, ...] = ()
    is_append_only: bool = False
    time: str | None = None
    provenance: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a declaration that names a column it does not have."""
        names = {column.name for column in self.columns}
        used = set(self.key) | set(self.sort_by) | set(self.provenance)
        if self.time is not None:
            used.add(self.time)
        if self.latest is not None:
            used |= {*self.latest.key, *self.latest.order, *self.latest.exclude}
        if missing := sorted(used - names):
            raise ValueError(f"table {self.name}: no such column: {', '.join(missing)}")

    def to_arrow(self) -> pa.Schema:
        """Return the Arrow schema on disk."""
        return pa.schema([column.to_field() for column in self.columns])

    def column(self, name: str) -> ColumnSpec:
        """Return the column called `name`; KeyError when there is none."""
        return self.by_name[name]

    @property
    def by_name(self) -> MappingProxyType[str, ColumnSpec]:
        """Columns by their names."""
        return MappingProxyType({column.name: column for column in self.columns})
