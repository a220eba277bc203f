"""From bytes of a client to a matrix of features, quickly. Pure.

The decoder is made for one model: a row's names, or its length, are checked while the
body is parsed, so ten thousand rows cost one pass.
"""

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct

from lab.arrays import FloatArray
from serve.errors import MalformedError
from serve.ml.schemas import MAX_EXPLAINED, MAX_ROWS, Value


class RowReader:
    """Reads the requests to one model.

    Parameters
    ----------
    names : sequence of str
        The model's features, in its order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            _request_type(self.names)
        )

    def read(self, body: bytes) -> tuple[FloatArray, bool]:
        """Return the rows of a request, and whether they are to be explained.

        Parameters
        ----------
        body : bytes
            JSON of an `MlRequest`.

        Returns
        -------
        rows : ndarray of shape (n_rows, n_features), float64
            NaN where a feature is null.
        is_explained : bool

        Raises
        ------
        MalformedError
            If it is no JSON, a feature is missing, unknown or not a finite number of
            moderate size, or there are too many rows.
        """
        try:
            request = self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError(f"body: {error}"[:400]) from error
        rows = request.rows
        if request.features is not None:
            rows = self._in_order(rows, request.features)
        if request.contributions and len(rows) > MAX_EXPLAINED:
            raise MalformedError(
                f"contributions of {len(rows)} rows: at most {MAX_EXPLAINED} are allowed"
            )
        return _matrix(rows, len(self.names)), request.contributions

    def _in_order(self, rows: Sequence[Any], given: Sequence[str]) -> Sequence[Any]:
        if missing := sorted(set(self.names) - set(given)):
            raise MalformedError(f"features: missing: {', '.join(missing[:5])}"[:400])
        if unknown := sorted(set(given) - set(self.names)):
            raise MalformedError(f"features: unknown: {', '.join(unknown[:5])}"[:400])
        if len(given) != len(self.names):
            raise MalformedError("features: one is named twice")
        if list(given) == list(self.names):
            return rows
        take = itemgetter(*(given.index(name) for name in self.names))
        return [list(take(row)) if type(row) is list else row for row in rows]


def _request_type(names: Sequence[str]) -> type[Struct]:
    # Field names need not be identifiers on the wire: they are renamed there.
    fields = {f"f{place}": name for place, name in enumerate(names)}
    row = msgspec.defstruct(
        "Row",
        [(field, Value | None) for field in fields],
        rename=fields,
        forbid_unknown_fields=True,
        gc=False,
    )
    width = len(names)
    ordered = Annotated[list[Value | None], Meta(min_length=width, max_length=width)]
    rows: Any = Annotated[
        list[row | ordered],  # type: ignore[valid-type]
        Meta(min_length=1, max_length=MAX_ROWS),
    ]
    return msgspec.defstruct(
        "Request",
        [
            ("rows", rows),
            ("features", list[str] | None, None),
            ("contributions", bool, False),
        ],
        forbid_unknown_fields=True,
    )


_as_tuple: Final = msgspec.structs.astuple


def _matrix(rows: Sequence[Any], width: int) -> FloatArray:
    values = [row if type(row) is list else _as_tuple(row) for row in rows]
    try:
        flat = np.fromiter(
            chain.from_iterable(values), np.float64, count=len(rows) * width
        )
    except TypeError:  # a null somewhere: the slower way makes it NaN
        return np.array(values, dtype=np.float64)
    return flat.reshape(len(rows), width)
