"""The sleeve book and the sleeve set, joined for answering."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
import pyarrow as pa

from serve.schemas import Curve, Gate, Rung, Sleeve, Windows

BASELINE: Final = "phase37"
_DIGITS: Final = 6  # significant ones of figures that are shown
T = TypeVar("T")


class BookError(ValueError):
    """A JSON column of the book does not hold what its declaration says."""


def index_sleeves(book: pa.Table, weights: pa.Table) -> tuple[Sleeve, ...]:
    """Join the rows of `artefact_sleeve_book` and `artefact_sleeve_set`.

    Parameters
    ----------
    book : pyarrow.Table
        One row a sleeve and timeframe.
    weights : pyarrow.Table
        One row a sleeve; its stage and weight win over those in the book, which are
        as old as the book.

    Returns
    -------
    tuple of Sleeve
        By timeframe, the baseline first, then by id.

    Raises
    ------
    BookError
        If a JSON column cannot be read as declared.
    """
    held = {row["sleeve_id"]: row for row in weights.to_pylist()}
    found = [_to_sleeve(row, held.get(row["sleeve_id"])) for row in book.to_pylist()]
    return tuple(sorted(found, key=_order))


def _order(sleeve: Sleeve) -> tuple[str, bool, str]:
    return (sleeve.timeframe, not sleeve.is_baseline, sleeve.sleeve_id)


def _to_sleeve(row: Mapping[str, Any], held: Mapping[str, Any] | None) -> Sleeve:
    windows = _decode(row, "windows", Windows)
    if len(windows.start) != len(windows.sharpe):
        raise BookError(f"{row['sleeve_id']}: windows without a Sharpe each")
    lengths = {len(row[name]) for name in ("curve_ts", "equity", "drawdown")}
    if len(lengths) != 1:
        raise BookError(f"{row['sleeve_id']}: series of several lengths")
    kept = ("run_id", "ran_at", "as_of", "first_ts", "last_ts", "n_obs")
    chosen = row if held is None else held
    return Sleeve(
        sleeve_id=row["sleeve_id"],
        timeframe=row["timeframe"],
        is_baseline=row["sleeve_id"] == BASELINE,
        stage=chosen["stage"] or row["stage"],
        runtime_weight=chosen["runtime_weight"],
        content_sha256=None if held is None else held["content_sha256"],
        slippage_bps=row["slippage_bps"],
        rungs=_decode(row, "rungs", list[Rung]),
        curve=Curve(
            ts=row["curve_ts"],
            equity=[_rounded(value) for value in row["equity"]],
            drawdown=[_rounded(value) for value in row["drawdown"]],
        ),
        windows=windows,
        gates=_decode(row, "gates", list[Gate]),
        weights=None
        if row["weights"] is None
        else _decode(row, "weights", dict[str, float]),
        run_id_before=row["run_id_before"],
        **{name: row[name] for name in kept},
    )


def _decode(row: Mapping[str, Any], name: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(row[name], type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        where = f"{row['sleeve_id']}/{row['timeframe']}"
        raise BookError(f"{where}: {name}: {error}") from error


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
