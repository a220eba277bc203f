"""Feature sets as code: families of formulas expanded over windows, symbols and models.

    expand("momentum", windows=(5, 20))             momentum_5, momentum_20
    expand("symbol", symbols=("SPY", "TLT"), windows=(20,))
                                                    symbol_SPY_20, symbol_TLT_20

A set's definition names every feature with its family, parameters and the version of
its formula; the hash of the definition is locked into models (`lab.learning.schema`).
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from typing import Any, Final

import numpy as np

from lab.arrays import FloatArray
from lab.backtest.panel import AlignedPanel
from lab.errors import FeatureError
from lab.learning.features import FAMILIES, LEADERS, Formula
from lab.learning.schema import canonical, definition_hash, matrix_of, require_names
from lab.sleeves.own_bars import OwnBars, Prices

FORECASTERS: Final = ("kronos", "chronos2", "ensemble", "naive")
CLASSES: Final = ("commodity", "crypto", "equity", "fx", "index", "rates")
SIGNALS: Final = (
    "kronos",
    "chronos2",
    "ensemble",
    "trend",
    "reversion",
    "event",
    "regime",
)
"""Signals whose value at entry an order's features hold; the 8th is made from them."""

ORDER_EXTRAS: Final = (
    "side",
    "size",
    *(f"signal_{name}" for name in SIGNALS),
    "sleeve_phase37",
    "sleeve_signals",
)
"""What an order's features hold beside those of its bar: 1 or -1, weight of the book,
each signal's value, and whose order it is (phase37's, or the published signals')."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: a formula with its parameters.

    Attributes
    ----------
    name : str
        Column.
    compute : callable
        `compute(panel)`, an array of shape (n_obs, n_assets) of float64; a panel's
        `OwnBars` may be given in its place.
    span : int, bars
        Trailing bars it looks at; a row with fewer is NaN or the same with more.
    definition : str
        Canonical JSON: family, parameters, version.
    """

    name: str
    compute: Formula
    span: int
    definition: str


@dataclass(frozen=True)
class FeatureSet:
    """Features in order.

    Attributes
    ----------
    name : str
        E.g. `order-v1`.
    version : int
        Of the choice of features; formulas have versions of their own.
    features : tuple of Feature
        Columns computed from a panel.
    extras : tuple of str
        Columns after them that the caller knows, e.g. the side of an order.
    """

    name: str
    version: int
    features: tuple[Feature, ...]
    extras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names that are empty or come twice."""
        require_names(self.names)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Columns in order, extras last."""
        return (*(one.name for one in self.features), *self.extras)

    @property
    def computed_names(self) -> tuple[str, ...]:
        """Columns of `compute`: all but the extras."""
        return self.names[: len(self.features)]

    @cached_property
    def definition(self) -> str:
        """Canonical JSON of everything that decides what the columns hold."""
        features = [json.loads(one.definition) for one in self.features]
        return canonical(
            {
                "set": self.name,
                "version": self.version,
                "names": list(self.names),
                "features": features,
                "extras": list(self.extras),
            }
        )

    @cached_property
    def sha256(self) -> str:
        """Hash of the definition."""
        return definition_hash(self.definition)

    @property
    def span(self) -> int:
        """Trailing bars that the widest feature looks at."""
        return max((one.span for one in self.features), default=0)

    def compute(self, panel: Prices) -> FloatArray:
        """Return the features of every row, without extras.

        Parameters
        ----------
        panel : AlignedPanel or OwnBars
            Bars, forecasts and surprises.

        Returns
        -------
        ndarray of shape (n_obs, n_assets, n_features), float64
            NaN = unknown. A row without a bar holds what the instrument's newest bar
            says, until that is too old.

        Notes
        -----
        Point in time: row t uses what was known by the row's `known_ts`.
        """
        bars = OwnBars.of(panel)
        shape = (bars.panel.n_obs, bars.panel.n_assets, len(self.features))
        found = np.empty(shape)
        for column, one in enumerate(self.features):
            found[:, :, column] = one.compute(bars)
        found[np.isinf(found)] = np.nan
        return found

    def row(self, panel: AlignedPanel, row: int, asset: int) -> dict[str, float | None]:
        """Return one instrument's features on one row by name, without extras.

        Parameters
        ----------
        panel : AlignedPanel
            Rows after `row` are left out before anything is computed.
        row, asset : int
            Which.

        Returns
        -------
        dict of str to float or None
            None = unknown; ready for JSON.

        Raises
        ------
        FeatureError
            If there is no such row or asset.

        Notes
        -----
        Point in time: computed from `panel.until(row + 1)`.
        """
        if not (0 <= row < panel.n_obs and 0 <= asset < panel.n_assets):
            raise FeatureError(
                f"features: row {row}, asset {asset}: the panel has"
                f" {panel.n_obs} x {panel.n_assets}"
            )
        return self.named(self.compute(panel.until(row + 1))[row, asset])

    def named(self, values: FloatArray) -> dict[str, float | None]:
        """Return computed values, shape (n_features,), by name; None = unknown."""
        names = self.computed_names
        if values.shape != (len(names),):
            raise FeatureError(
                f"features: values of shape {values.shape}, not ({len(names)},)"
            )
        return {
            name: float(value) if np.isfinite(value) else None
            for name, value in zip(names, values, strict=True)
        }

    def matrix(self, rows: Sequence[Mapping[str, float | None]]) -> FloatArray:
        """Return rows by name, extras included, as columns in order.

        Raises
        ------
        FeatureError
            If a row lacks a name, has another, or a value is no number.
        """
        return matrix_of(self.names, rows)


def expand(
    family: str,
    *,
    windows: Collection[int] = (),
    symbols: Collection[str] = (),
    leaders: Collection[str] = (),
    models: Collection[str] = (),
    classes: Collection[str] = (),
    parts: Collection[str] = (),
) -> tuple[Feature, ...]:
    """Return a family's features, one for each combination of what it is expanded over.

    Parameters
    ----------
    family : str
        A name of `lab.learning.features.FAMILIES`.
    windows : collection of int, bars, optional
        At least 1.
    symbols : collection of str, optional
        Instruments; NaN on a panel without one.
    leaders : collection of str, optional
        Keys of `LEADERS`.
    models : collection of str, optional
        Forecasters. `agreement` takes them all together.
    classes : collection of str, optional
        Asset classes.
    parts : collection of str, optional
        `sin`, `cos` of the hour.

    Raises
    ------
    FeatureError
        If there is no such family, one of its parameters has no values or an unknown
        one, or values are given for a parameter that it has not.
    """
    if family not in FAMILIES:
        raise FeatureError(f"no feature family {family!r}: {', '.join(FAMILIES)}")
    chosen = FAMILIES[family]
    given: dict[str, Sequence[Any]] = {
        "window": tuple(windows),
        "symbol": tuple(symbols),
        "leader": tuple(leaders),
        "model": tuple(models),
        "asset_class": tuple(classes),
        "part": tuple(parts),
    }
    if "models" in chosen.axes:
        given["models"], given["model"] = [tuple(models)] if models else (), ()
    for axis, values in given.items():
        _require_axis(family, axis, values, is_wanted=axis in chosen.axes)
    combinations = product(*(given[axis] for axis in chosen.axes))
    return tuple(
        _feature(family, dict(zip(chosen.axes, one, strict=True)))
        for one in combinations
    )


def feature_set(name: str) -> FeatureSet:
    """Return a set by its name.

    Raises
    ------
    FeatureError
        If there is no such set.
    """
    if name not in FEATURE_SETS:
        raise FeatureError(f"no feature set {name!r}: {', '.join(FEATURE_SETS)}")
    return FEATURE_SETS[name]


def _feature(family: str, parameters: dict[str, Any]) -> Feature:
    chosen = FAMILIES[family]
    parts = [value for axis, value in parameters.items() if axis != "models"]
    definition = {
        "family": family,
        "parameters": parameters,
        "version": chosen.version,
    }
    return Feature(
        name="_".join([family, *(str(one) for one in parts)]),
        compute=_Computed(partial(chosen.formula, **parameters)),
        span=max(int(parameters.get("window", 0)) + 1, chosen.bars),
        definition=canonical(definition),
    )


@dataclass(frozen=True, slots=True)
class _Computed:
    formula: Formula

    def __call__(self, panel: Prices) -> FloatArray:
        return self.formula(OwnBars.of(panel))


def _require_axis(
    family: str, axis: str, values: Sequence[Any], *, is_wanted: bool
) -> None:
    if is_wanted != bool(values):
        said = "needs values" if is_wanted else "is not expanded over"
        raise FeatureError(f"feature family {family}: {axis}: {said}")
    allowed = {"leader": LEADERS, "part": ("sin", "cos"), "asset_class": CLASSES}
    for value in values:
        is_known = value in allowed[axis] if axis in allowed else bool(value)
        if axis == "window":
            is_known = isinstance(value, int) and value >= 1
        if not is_known:
            raise FeatureError(f"feature family {family}: {axis} {value!r} is unknown")


def _bar_features() -> tuple[Feature, ...]:
    return (
        *expand("momentum", windows=(1, 5, 20, 60)),
        *expand("volatility", windows=(20, 60)),
        *expand("volatility_ratio", windows=(5, 20)),
        *expand("reversion", windows=(5, 20, 60)),
        *expand("channel", windows=(20, 60)),
        *expand("drawdown", windows=(60,)),
        *expand("range", windows=(5,)),
        *expand("volume", windows=(20,)),
        *expand("relative", windows=(5, 20)),
        *expand("breadth", windows=(20,)),
        *expand("turbulence", windows=(5, 20)),
        *expand("leader", leaders=tuple(LEADERS), windows=(1, 20)),
        *expand("surprise", windows=(1, 5)),
        *expand("hour", parts=("sin", "cos")),
        *expand("weekday"),
        *expand("class", classes=CLASSES),
    )


def _order_features() -> tuple[Feature, ...]:
    return (
        *_bar_features(),
        *expand("forecast_move", models=FORECASTERS),
        *expand("forecast_width", models=FORECASTERS),
        *expand("agreement", models=FORECASTERS),
    )


BAR_FEATURES: Final = FeatureSet("bars-v1", 1, _bar_features())
"""What a model of forward returns may look at: bars, leaders, releases, the calendar."""

ORDER_FEATURES: Final = FeatureSet("order-v1", 1, _order_features(), ORDER_EXTRAS)
"""What is known when an order is placed: those of its bar, then `ORDER_EXTRAS`."""

FEATURE_SETS: Final[Mapping[str, FeatureSet]] = {
    one.name: one for one in (BAR_FEATURES, ORDER_FEATURES)
}
