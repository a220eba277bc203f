"""Plots of a training for MLflow, drawn from its manifest alone."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_FEATURES: Final = 25
_INK: Final = "#0b6b7a"
_SOFT: Final = "#4d5f6d"
_DPI: Final = 100


def draw_plots(manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """Return PNG files by name; what the manifest does not hold is not drawn.

    Parameters
    ----------
    manifest : mapping
        `importance` (kind to feature to share), `reliability` (means and shares by
        bin) and `windows` (each with `metrics`) are drawn.
    """
    found = {}
    importance = manifest.get("importance")
    for kind, values in (importance or {}).items():
        if isinstance(values, Mapping) and values:
            found[f"importance-{kind}.png"] = _png(_bars(values, f"Importance, {kind}"))
    curve = manifest.get("reliability")
    if isinstance(curve, Mapping) and curve.get("predicted"):
        found["reliability.png"] = _png(_reliability(curve))
    windows = manifest.get("windows")
    if isinstance(windows, list) and windows:
        found |= _windows([one.get("metrics") or {} for one in windows])
    return found


def _figure(title: str, *, height: float = 4.0) -> "tuple[Figure, Any]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left")
    axes.grid(visible=True, color="#d5dde3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _bars(values: Mapping[str, Any], title: str) -> "Figure":
    known = {name: float(value or 0.0) for name, value in values.items()}
    top = sorted(known, key=lambda name: (-abs(known[name]), name))[:_MOST_FEATURES]
    figure, axes = _figure(title, height=1.0 + 0.25 * len(top))
    axes.barh(top[::-1], [known[name] for name in top[::-1]], color=_INK)
    return figure


def _reliability(curve: Mapping[str, Any]) -> "Figure":
    figure, axes = _figure("Reliability, out of fold", height=5.0)
    axes.plot([0, 1], [0, 1], color=_SOFT, linestyle="--", linewidth=0.8)
    axes.plot(curve["predicted"], curve["observed"], color=_INK, marker="o")
    axes.set_xlabel("predicted probability, mean of the bin")
    axes.set_ylabel("share that came true")
    return figure


def _windows(metrics: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    found = {}
    for name in sorted({key for one in metrics for key in one}):
        values = [one.get(name) for one in metrics]
        if not any(isinstance(value, int | float) for value in values):
            continue
        figure, axes = _figure(f"{name} by window")
        line = [float("nan") if value is None else float(value) for value in values]
        axes.plot(range(len(line)), line, color=_INK, marker="o", markersize=3)
        axes.set_xlabel("window")
        found[f"window-{name}.png"] = _png(figure)
    return found


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
