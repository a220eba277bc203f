"""Plots of a walk-forward run as files: one PNG and one page of HTML a sleeve.

Each shows the out-of-sample equity with its drawdown, the Sharpe ratio of every window
and what costs leave of the whole, beside the locked baseline. A page of HTML holds its
drawing and figures itself and loads nothing. The same rows give the same bytes:
nothing of the clock, the user's settings or a random id goes into a file.
"""

import html
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.progress import track
from lab.arrays import FloatArray, TimeArray
from lakehouse.errors import InputError
from lakehouse.store import Lake

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BASELINE: Final = "phase37"
_INK: Final = {"sleeve": "#0b6b7a", "baseline": "#a2521b", "soft": "#4d5f6d"}
_GAIN, _LOSS = "#0f7b53", "#b3312f"
_FLOOR: Final = 1e-3  # equity below it is drawn at it: a log scale has no zero
_NONE: Final = "\N{EN DASH}"
_DPI: Final = 110
_STYLE: Final[dict[Any, Any]] = {
    "figure.facecolor": "white",
    "font.size": 9.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d5dde3",
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "alphalake",
    "svg.fonttype": "none",
    "axes.unicode_minus": True,
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; margin: 1rem auto; max-width: 64rem; padding: 0 1rem; color: #14212b; background: #fff; }} svg {{ width: 100%; height: auto; }} table {{ border-collapse: collapse; }} caption {{ text-align: left; }} th, td {{ padding: .25rem .75rem; border-bottom: 1px solid #d5dde3; text-align: right; }}</style>
</head>
<body>
<h1>{title}</h1>
<p>{lead}</p>
<figure role="img" aria-label="{label}" style="margin: 0">{svg}</figure>
<div style="overflow-x: auto">
<table>
<caption>Out of sample, annualised by the days observed</caption>
<thead><tr>{head}</tr></thead>
<tbody>{body}</tbody>
</table>
</div>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class _Rung:
    slippage_bps: float
    ts: TimeArray  # (n_days,)
    net: FloatArray  # (n_days,)
    window_start: TimeArray  # (n_windows,)
    window_sharpe: FloatArray  # (n_windows,), NaN where returns do not vary


@dataclass(frozen=True, slots=True)
class _Walked:
    sleeve_id: str
    timeframe: str
    rungs: tuple[_Rung, ...]

    @property
    def shown(self) -> _Rung:
        from flows.bodies.sleeve_book import judged_rung

        return self.rungs[judged_rung([one.slippage_bps for one in self.rungs])]


def write_plots(lake: Lake, run_id: str, folder: Path) -> list[Path]:
    """Write a PNG and an HTML page for every sleeve of a walk-forward run.

    Parameters
    ----------
    lake : Lake
        Where its rows are.
    run_id : str
        The walk-forward run.
    folder : Path
        Made if it is not there; files of the same name are replaced.

    Returns
    -------
    list of Path
        The files, by sleeve and timeframe: `SLEEVE-TIMEFRAME.png` and `.html`.

    Raises
    ------
    InputError
        If the run left no out-of-sample rows, or the folder cannot be written.
    """
    walked = _read(lake, run_id)
    if not walked:
        raise InputError(f"run {run_id}: no out-of-sample returns to plot")
    bases = {one.timeframe: one for one in walked if one.sleeve_id == _BASELINE}
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in track(walked, "plots", total=len(walked)):
            base = bases.get(one.timeframe)
            beside = base if base is not one else None
            written += _write(one, beside, run_id, folder)
    except OSError as error:
        raise InputError(f"plots: {folder}: cannot be written: {error}") from error
    return written


def _write(
    one: _Walked, baseline: _Walked | None, run_id: str, folder: Path
) -> list[Path]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{one.sleeve_id}-{one.timeframe}")
    picture, page = folder / f"{name}.png", folder / f"{name}.html"
    with _own_style():
        figure = _draw(one, baseline)
        FigureCanvasAgg(figure)
        raster, vector = io.BytesIO(), io.StringIO()
        figure.savefig(raster, format="png", dpi=_DPI, metadata={"Software": None})
        figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
    picture.write_bytes(raster.getvalue())
    page.write_text(_page(one, run_id, vector.getvalue()), encoding="utf-8")
    return [picture, page]


def _read(lake: Lake, run_id: str) -> list[_Walked]:
    of_run = pc.field("run_id") == run_id
    returns = lake.read("sleeve_returns", filter=of_run & (pc.field("phase") == "test"))
    windows = lake.read("wf_snapshots", filter=of_run)
    found: dict[tuple[str, str], list[_Rung]] = {}
    starts = dict(_groups(windows, "window"))
    for key, rows in _groups(returns, "ts"):
        sleeve_id, timeframe, slippage = key
        own = starts.get(key, windows.schema.empty_table())
        rung = _Rung(
            slippage,
            _times(rows["ts"]),
            rows["return_net"].to_numpy(),
            _times(own["test_start"]),
            own["sharpe"].cast(pa.float64()).to_numpy(),
        )
        found.setdefault((sleeve_id, timeframe), []).append(rung)
    return [
        _Walked(sleeve_id, timeframe, tuple(rungs))
        for (sleeve_id, timeframe), rungs in found.items()
    ]


def _groups(
    rows: pa.Table, order: str
) -> Iterator[tuple[tuple[str, str, float], pa.Table]]:
    key = ["sleeve_id", "timeframe", "slippage_bps"]
    ordered = rows.sort_by([(name, "ascending") for name in (*key, order)])
    sizes = ordered.group_by(key, use_threads=False).aggregate([(order, "count")])
    start = 0
    for group in sizes.to_pylist():
        size = group[f"{order}_count"]
        yield (
            (group["sleeve_id"], group["timeframe"], group["slippage_bps"]),
            ordered.slice(start, size),
        )
        start += size


def _times(column: pa.ChunkedArray) -> TimeArray:
    return np.asarray(column.cast(pa.timestamp("us")).to_numpy())


@contextmanager
def _own_style() -> Iterator[None]:
    # Matplotlib's defaults and ours, whatever the user's own settings are.
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _draw(one: _Walked, baseline: _Walked | None) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8), layout="constrained")
    grid = figure.add_gridspec(3, 2, height_ratios=(3, 1.2, 2))
    equity = figure.add_subplot(grid[0, :])
    depth = figure.add_subplot(grid[1, :], sharex=equity)
    both = [(one, _INK["sleeve"], 1.6)]
    if baseline is not None:
        both.append((baseline, _INK["baseline"], 0.9))
    _draw_equity(equity, depth, both)
    _draw_windows(figure.add_subplot(grid[2, 0]), one)
    _draw_costs(figure.add_subplot(grid[2, 1]), both)
    bps = one.shown.slippage_bps
    figure.suptitle(
        f"{one.sleeve_id}, {one.timeframe}: out of sample, net of {bps:g} bps"
    )
    return figure


def _draw_equity(
    equity: "Axes", depth: "Axes", both: Sequence[tuple[_Walked, str, float]]
) -> None:
    for place, (one, colour, width) in enumerate(both):
        ts = one.shown.ts
        level = np.cumprod(np.maximum(1.0 + one.shown.net, 0.0))
        peak = np.maximum.accumulate(np.maximum(level, 1.0))
        fall = level / peak - 1.0
        shown = np.maximum(level, _FLOOR)
        equity.plot(ts, shown, color=colour, linewidth=width, label=one.sleeve_id)
        depth.plot(ts, 100 * fall, color=colour, linewidth=width * 0.7)
        if place == 0:
            depth.fill_between(ts, 100 * fall, 0.0, color=colour, alpha=0.16, lw=0)
    equity.axhline(1.0, color=_INK["soft"], linewidth=0.8, linestyle="--")
    equity.set_yscale("log")
    _mark_levels(equity)
    equity.tick_params(labelbottom=False)
    equity.set_ylabel("equity, log scale")
    depth.set_ylabel("drawdown, %")
    equity.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)


def _mark_levels(equity: "Axes") -> None:
    # A decade has too few ticks for a book that never left it.
    from matplotlib.ticker import (
        LogLocator,
        MaxNLocator,
        NullLocator,
        ScalarFormatter,
        StrMethodFormatter,
    )

    low, high = equity.get_ylim()
    is_wide = high / low > 4
    locator = LogLocator(subs=(1, 2, 5)) if is_wide else MaxNLocator(6)
    equity.yaxis.set_major_locator(locator)
    equity.yaxis.set_minor_locator(NullLocator())
    equity.yaxis.set_major_formatter(
        StrMethodFormatter("{x:.3g}") if is_wide else ScalarFormatter(useOffset=False)
    )


def _draw_windows(axes: "Axes", one: _Walked) -> None:
    rung = one.shown
    known = np.isfinite(rung.window_sharpe)
    axes.set_title("Sharpe ratio of each window", fontsize=9)
    if not known.any():
        axes.set_axis_off()
        axes.text(0.5, 0.5, "none: no window's returns vary", ha="center")
        return
    steps = np.diff(rung.window_start) / np.timedelta64(1, "D")
    width = 0.8 * float(np.median(steps)) if len(steps) else 20.0
    sharpe = rung.window_sharpe[known]
    colours = [_GAIN if value > 0 else _LOSS for value in sharpe]
    starts = rung.window_start[known]
    axes.bar(starts, sharpe, width=width, align="edge", color=colours)
    axes.axhline(0.0, color=_INK["soft"], linewidth=0.8)


def _draw_costs(axes: "Axes", both: Sequence[tuple[_Walked, str, float]]) -> None:
    for one, colour, width in both:
        found = [(rung.slippage_bps, _figures(rung).sharpe) for rung in one.rungs]
        points = [(bps, sharpe) for bps, sharpe in found if sharpe is not None]
        if points:
            bps, sharpes = zip(*points, strict=True)
            axes.plot(bps, sharpes, color=colour, lw=width, marker="o", ms=4)
    axes.axhline(0.0, color=_INK["soft"], linewidth=0.8, linestyle="--")
    axes.set_xticks([rung.slippage_bps for rung in both[0][0].rungs])
    axes.set_xlabel("slippage, bps a unit of turnover")
    axes.set_title("What costs leave of the Sharpe ratio", fontsize=9)


def _figures(rung: _Rung) -> Any:
    from lab.backtest.figures import figures

    return figures(rung.net, rung.ts)


def _page(one: _Walked, run_id: str, drawing: str) -> str:
    rung = one.shown
    found = _figures(rung)
    span = f"{_day(rung.ts[0])} to {_day(rung.ts[-1])}"
    titles = ("Slippage", "Sharpe", "Sortino", "Calmar", "Return a year")
    more = ("Volatility", "Max drawdown", "Days")
    label = (
        f"Equity, drawdown, Sharpe ratio of each window and cost ladder of "
        f"{one.sleeve_id}: Sharpe ratio {_number(found.sharpe)}, deepest drawdown "
        f"{_percent(found.max_drawdown)}"
    )
    return _PAGE.format(
        title=html.escape(f"{one.sleeve_id}, {one.timeframe}"),
        lead=html.escape(
            f"Run {run_id}, {span}, out of sample; drawn net of "
            f"{rung.slippage_bps:g} bps a unit of turnover."
        ),
        label=html.escape(label),
        svg=drawing[drawing.index("<svg") :].strip(),
        head=_cells("th", (*titles, *more)),
        body="".join(f"<tr>{_cells('td', _line(each))}</tr>" for each in one.rungs),
    )


def _line(rung: _Rung) -> tuple[str, ...]:
    found = _figures(rung)
    return (
        f"{rung.slippage_bps:g} bps",
        *(_number(value) for value in (found.sharpe, found.sortino, found.calmar)),
        _percent(found.annual_return),
        _percent(found.volatility),
        _percent(found.max_drawdown),
        str(found.n_obs),
    )


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.1f} %"


def _day(instant: np.datetime64) -> str:
    return str(instant.astype("datetime64[D]"))
