"""Loading the models before the first run asks for them."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from flows.checkpoints.models import FAMILIES, family_models, open_forecaster
from flows.wiring import Workplace
from flows.worker.holding import device_held
from lab.errors import LabError
from lakehouse.errors import LakehouseError

_FAILURES: Final = (LabError, LakehouseError, ImportError, OSError)


def load_models(workplace: Workplace, say: Callable[[str], None]) -> None:
    """Load every model with weights; say in one line which one cannot be.

    Parameters
    ----------
    workplace : Workplace
        Whose lake keeps the adapters.
    say : callable
        Takes one line about each model.
    """
    for family in FAMILIES:
        # The base first: damaged adapters do not keep it from being loaded.
        if _is_loaded(family, workplace, say):
            for twin in _twins(family, workplace, say):
                _is_loaded(twin, workplace, say)


def _is_loaded(name: str, workplace: Workplace, say: Callable[[str], None]) -> bool:
    tick = time.monotonic()
    try:
        with device_held():
            version = open_forecaster(name, workplace).version
    except _FAILURES as error:
        say(_why_not(name, error))
        return False
    say(f"{name} {version} loaded in {time.monotonic() - tick:.1f} s")
    return True


def _twins(
    family: str, workplace: Workplace, say: Callable[[str], None]
) -> Sequence[str]:
    try:
        return family_models(family, workplace)[1:]
    except _FAILURES as error:
        say(_why_not(f"{family}-lora", error))
        return ()


def _why_not(name: str, error: Exception) -> str:
    return f"{name} is not loaded: {' '.join(str(error).split())}"
