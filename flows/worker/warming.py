"""Loading the models before the first run asks for them."""

import time
from collections.abc import Callable

from flows.checkpoints.models import FAMILIES, family_models, open_forecaster
from flows.wiring import Workplace
from flows.worker.holding import device_held
from lab.errors import LabError
from lakehouse.errors import LakehouseError


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
        try:
            for name in family_models(family, workplace):
                tick = time.monotonic()
                with device_held():
                    version = open_forecaster(name, workplace).version
                say(f"{name} {version} loaded in {time.monotonic() - tick:.1f} s")
        except (LabError, LakehouseError, ImportError, OSError) as error:
            say(f"{family} is not loaded: {' '.join(str(error).split())}")
