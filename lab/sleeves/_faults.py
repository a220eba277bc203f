"""The one place where a sleeve's code, which is its author's, may raise anything."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lab.errors import LabError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """What a sleeve's code raised.

    Attributes
    ----------
    reason : str
        One line: an error of ours as it reads, any other with its type before it.
    """

    reason: str


def attempt(call: Callable[[], T]) -> T | Fault:
    """Run a sleeve's code; what is wrong with it is the result, and stops no other's.

    Parameters
    ----------
    call : callable
        Runs the code.

    Raises
    ------
    MemoryError
        That is the machine's, not the sleeve's.
    """
    try:
        return call()
    except MemoryError:
        raise
    except LabError as error:
        return Fault(_one_line(error))
    except Exception as error:  # noqa: BLE001 - a sleeve is a user's code
        return Fault(f"{type(error).__name__}: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
