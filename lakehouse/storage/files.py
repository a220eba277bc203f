"""Reading data files of a table plainly, whatever declaration they were written under."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.errors import StoreError
from lakehouse.schema._spec import TableSpec
from lakehouse.storage.commits import StoredFile
from lakehouse.storage.keys import CodedRows
from lakehouse.storage.location import Location
from lakehouse.storage.validate import coded_columns, encode


def read_files(
    location: Location,
    spec: TableSpec,
    files: Sequence[StoredFile],
    *,
    columns: Sequence[str] | None = None,
    where: Any = None,
) -> pa.Table:
    """Read files into one table in the declared types.

    Parameters
    ----------
    location : Location
        The lake.
    spec : TableSpec
        The table.
    files : sequence of StoredFile
        Its files.
    columns : sequence of str, optional
        All declared ones by default; one that a file lacks is null.
    where : pyarrow.compute.Expression, optional
        Rows to keep.

    Raises
    ------
    StoreError
        If a file is missing or damaged.
    """
    import pyarrow.dataset as ds  # imports pandas where installed: 0.1 s at start-up

    names = list(columns) if columns is not None else [c.name for c in spec.columns]
    schema = pa.schema(
        [c.to_field().with_nullable(nullable=True) for c in spec.columns]
    )
    paths = [location.path("tables", spec.name, file.path) for file in files]
    try:
        source = ds.FileSystemDataset.from_paths(
            paths,
            schema=schema,
            format=ds.ParquetFileFormat(),
            filesystem=location.filesystem,
        )
        found = source.to_table(columns=names, filter=where)
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(f"table {spec.name}: cannot be read: {error}") from error
    return declared_nullability(spec, found)


def read_rows(
    location: Location,
    spec: TableSpec,
    file: StoredFile,
    columns: Sequence[str] | None = None,
) -> CodedRows:
    """Read one file in its stored row order, encoded as `conform` does.

    Parameters
    ----------
    location : Location
        The lake.
    spec : TableSpec
        The table.
    file : StoredFile
        One of its files.
    columns : sequence of str, optional
        All declared ones by default; one that the file lacks is null.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    """
    names = list(columns) if columns is not None else [c.name for c in spec.columns]
    coded = coded_columns(spec)
    try:
        with pq.ParquetFile(
            location.path("tables", spec.name, file.path),
            filesystem=location.filesystem,
            read_dictionary=sorted(coded),
        ) as source:
            present = set(source.schema_arrow.names)
            rows = source.read([name for name in names if name in present])
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(f"table {spec.name}: cannot be read: {error}") from error
    columns_read = {
        name: rows.column(name)
        if name in present
        else pa.chunked_array([pa.nulls(rows.num_rows, spec.column(name).dtype)])
        for name in names
    }
    return CodedRows(encode(spec, pa.table(columns_read)))


def declared_nullability(spec: TableSpec, rows: pa.Table) -> pa.Table:
    """Mark columns non-null as declared, unless rows older than the column have null."""
    fields = [
        spec.column(name).to_field()
        if not rows.column(name).null_count
        else spec.column(name).to_field().with_nullable(nullable=True)
        for name in rows.column_names
    ]
    return pa.table(rows.columns, schema=pa.schema(fields))
