"""What can go wrong in the lakehouse, by what the caller should do about it.

`InputError` and its children mean the caller's input is bad (exit status 2),
`RefusedError` and its children mean a rule said no (exit status 1). Every message is
one line that names what, where and what is allowed.
"""


class LakehouseError(Exception):
    """Root of every error this package raises."""


class InputError(LakehouseError):
    """The input cannot be used as given; nothing was written."""


class SchemaError(InputError):
    """Rows do not fit their table's declaration."""


class TableNotFoundError(InputError):
    """No such table is declared."""


class VersionNotFoundError(InputError):
    """No such version, or a time before the first commit."""


class QueryError(InputError):
    """SQL that cannot be parsed, bound or run."""


class SourceError(InputError):
    """A file or remote source that cannot be read as bars or releases."""


class SourceUnavailableError(LakehouseError):
    """A remote source did not answer; trying again later may help."""


class RefusedError(LakehouseError):
    """A rule refused the request."""


class QueryRefusedError(InputError):
    """SQL that would do anything but read the lake."""


class StoreUnsafeError(RefusedError):
    """An object store without conditional put: commits could be lost."""


class UnsupportedTableError(InputError):
    """A Delta table written with features that a plain file reader misreads."""


class StoreError(LakehouseError):
    """The root cannot be read or written: disk, permissions, network."""


class CommitConflictError(LakehouseError):
    """Another writer kept winning; nothing was written."""


class TrustError(RefusedError):
    """Root of everything that makes an artefact untrusted."""
