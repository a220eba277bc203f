"""All forecasters by name.

A test walks this registry: a new model is held to the contract once it is listed.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from lab.errors import ForecastError
from lab.forecasters._base import Forecaster
from lab.forecasters.naive import NaiveForecaster
from lab.forecasters.seasonal import SeasonalForecaster

FORECASTERS: Final[Mapping[str, Callable[[], Forecaster]]] = MappingProxyType(
    {"naive": NaiveForecaster, "seasonal": SeasonalForecaster}
)


def make_forecaster(name: str) -> Forecaster:
    """Return the forecaster called `name` with its default parameters.

    Raises
    ------
    ForecastError
        If there is none.
    """
    try:
        return FORECASTERS[name]()
    except KeyError:
        allowed = ", ".join(FORECASTERS)
        raise ForecastError(f"model {name!r}: allowed are {allowed}") from None
