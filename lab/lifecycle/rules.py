"""The rules that move a sleeve, as one typed value that a TOML file may override."""

import math
import tomllib
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from lab.errors import LifecycleError
from lakehouse.schema._spec import TIMEFRAMES


def _bounded(default: float, low: float, high: float) -> Any:
    """Declare a number between `low` and `high`; an int default makes it an int."""
    return field(default=default, metadata={"low": low, "high": high})


def _check(name: str, value: Any, default: Any, metadata: Any) -> None:
    where = f"rule {name} = {value!r}"
    if "allowed" in metadata:
        if value not in metadata["allowed"]:
            raise LifecycleError(f"{where}: one of {', '.join(metadata['allowed'])}")
        return
    is_whole = isinstance(default, int)
    is_typed = isinstance(value, int if is_whole else int | float)
    if isinstance(value, bool) or not is_typed or not math.isfinite(value):
        raise LifecycleError(f"{where}: a {'whole ' if is_whole else ''}number")
    low, high = metadata["low"], metadata["high"]
    if not low <= value <= high:
        raise LifecycleError(f"{where}: between {low:g} and {high:g}")


@dataclass(frozen=True, slots=True)
class LifecycleRules:
    """What a sleeve must show before it leaves a stage upwards, and when it is retired.

    Sharpe ratios are annualised by the observed observations a year. A figure must be
    above its `_above`, and at least its `_min`.

    Attributes
    ----------
    backtest_sharpe_above : float
        Net Sharpe at 10 bps of the registered configuration over the family's span.
    backtest_trades_min : int
        Trades in it.
    walk_forward_sharpe_above : float
        Stitched out-of-sample Sharpe at 10 bps.
    stressed_sharpe_above : float
        The same at 20 bps.
    folds_positive_min : float
        Share of test windows with a net return above 0 at 10 bps.
    folds_min : int
        Test windows that make the share worth something.
    paper_days_min, paper_samples_min : int
        Days of live shadow telemetry in paper, and settled live shadow decisions.
    canary_days_min : int
        Days in canary.
    retire_drawdown_ratio : float
        Retired once the drawdown is above this many times the backtest's largest.
    retire_window_days, retire_observations_min : int
        Retired once the Sharpe over the window is below 0 on at least that many days.
    timeframe : str
        Which panel's walk-forward speaks for a sleeve that is walked on several.

    Raises
    ------
    LifecycleError
        If a value is of another type or out of range.
    """

    backtest_sharpe_above: float = _bounded(0.5, -10.0, 10.0)
    backtest_trades_min: int = _bounded(100, 0, 1_000_000)
    walk_forward_sharpe_above: float = _bounded(0.5, -10.0, 10.0)
    stressed_sharpe_above: float = _bounded(0.0, -10.0, 10.0)
    folds_positive_min: float = _bounded(0.7, 0.0, 1.0)
    folds_min: int = _bounded(2, 1, 1000)
    paper_days_min: int = _bounded(28, 0, 3650)
    paper_samples_min: int = _bounded(200, 0, 1_000_000)
    canary_days_min: int = _bounded(14, 0, 3650)
    retire_drawdown_ratio: float = _bounded(1.5, 0.0, 100.0)
    retire_window_days: int = _bounded(90, 2, 3650)
    retire_observations_min: int = _bounded(60, 2, 3650)
    timeframe: str = field(default="1d", metadata={"allowed": TIMEFRAMES})

    def __post_init__(self) -> None:
        """Refuse a value of another type or out of range."""
        for each in fields(self):
            _check(each.name, getattr(self, each.name), each.default, each.metadata)


DEFAULT_RULES: Final = LifecycleRules()


def parse_rules(text: str, *, where: str) -> LifecycleRules:
    """Return the default rules with what a TOML document says otherwise.

    Parameters
    ----------
    text : str
        TOML; its keys are the attributes of `LifecycleRules`, no tables.
    where : str
        Name of the document, for messages.

    Raises
    ------
    LifecycleError
        If it is not TOML, a key is unknown, or a value is of another type or range.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LifecycleError(f"{where}: not TOML: {error}") from error
    known = [each.name for each in fields(LifecycleRules)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise LifecycleError(
            f"{where}: no rule {', '.join(unknown)}; there are {', '.join(known)}"
        )
    try:
        return replace(DEFAULT_RULES, **given)
    except LifecycleError as error:
        raise LifecycleError(f"{where}: {error}") from error
