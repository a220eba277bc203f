"""Every forecaster by name, its weights loaded once per process.

torch is imported when a model with weights is opened, not before: the verbs that read
tables start without it.
"""

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from flows.checkpoints.settings import ModelSettings, load_model_settings
from flows.checkpoints.store import CheckpointStore, Saved
from flows.wiring import Workplace
from lab.errors import ForecastError
from lab.forecasters._base import Forecaster, ModelForecaster
from lab.forecasters.registry import FORECASTERS, make_forecaster

FAMILIES: Final = ("kronos", "chronos2")
"""Models with weights; each has a twin `-lora` once adapters were trained."""

MODELS: Final = (
    *FORECASTERS,
    *(name for family in FAMILIES for name in (family, f"{family}-lora")),
    "ensemble",
)
"""Every model that `forecast` takes."""

_OPEN: Final[dict[tuple[object, ...], Forecaster]] = {}
_LOCK: Final = threading.Lock()


def open_forecaster(name: str, workplace: Workplace) -> Forecaster:
    """Return the forecaster called `name`, loaded if it has weights.

    Parameters
    ----------
    name : str
        One of `MODELS` but `ensemble`, which combines stored forecasts instead.
    workplace : Workplace
        Whose lake keeps the adapters.

    Raises
    ------
    ForecastError
        If there is no such model, or no adapters for it yet.
    CheckpointError
        If its weights are missing or damaged.
    """
    if name in FORECASTERS:
        return make_forecaster(name)
    family = name.removesuffix("-lora")
    if family not in FAMILIES or name not in MODELS:
        raise ForecastError(f"model {name!r}: allowed are {', '.join(MODELS)}")
    settings = load_model_settings()
    adapters = accepted_adapters(family, workplace) if name != family else {}
    if name != family and not adapters:
        raise ForecastError(
            f"model {name}: no accepted adapter yet; run `alphalake train {name}`"
        )
    versions = tuple((key, one.version) for key, one in adapters.items())
    key = (name, workplace.root, settings, versions)
    with _LOCK:
        if key not in _OPEN:
            # Weights that newer ones replace are not kept in memory.
            for old in [one for one in _OPEN if one[:2] == key[:2]]:
                del _OPEN[old]
            _OPEN[key] = _open(family, settings, adapters)
        return _OPEN[key]


def forget_forecasters() -> None:
    """Drop every loaded model, so that the next call loads it again."""
    with _LOCK:
        _OPEN.clear()


def accepted_adapters(family: str, workplace: Workplace) -> dict[str, Saved]:
    """Return the newest accepted adapter of each asset class.

    Parameters
    ----------
    family : str
        `kronos` or `chronos2`.
    workplace : Workplace
        Whose lake keeps them.

    Returns
    -------
    dict of str to Saved
        By asset class and timeframe, `equity-1d`.
    """
    store = CheckpointStore(workplace.root)
    found = {}
    for name in store.names():
        route = name.removeprefix(f"{family}-lora-")
        if route == name:
            continue
        accepted = [card for card in store.cards(name) if card.get("is_accepted")]
        if accepted:
            found[route] = store.load(name, accepted[-1]["version"])
    return found


def family_models(family: str, workplace: Workplace) -> list[str]:
    """Return a family's models that can forecast now: the base, and its adapters'."""
    has_adapters = bool(accepted_adapters(family, workplace))
    return [family, f"{family}-lora"] if has_adapters else [family]


def _open(
    family: str, settings: ModelSettings, adapters: Mapping[str, Saved]
) -> ModelForecaster:
    return _OPENERS[family](settings, adapters)


def _open_kronos(
    settings: ModelSettings, adapters: Mapping[str, Saved]
) -> ModelForecaster:
    if adapters:
        from flows.checkpoints.kronos_lora import open_kronos_lora

        return open_kronos_lora(settings, adapters)
    from flows.checkpoints.kronos import open_kronos

    return open_kronos(settings)


def _open_chronos2(
    settings: ModelSettings, adapters: Mapping[str, Saved]
) -> ModelForecaster:
    from flows.checkpoints.chronos2 import open_chronos2, open_chronos2_lora

    if adapters:
        return open_chronos2_lora(settings, adapters)
    return open_chronos2(settings)


_OPENERS: Final[Mapping[str, Callable[..., ModelForecaster]]] = MappingProxyType(
    {"kronos": _open_kronos, "chronos2": _open_chronos2}
)
