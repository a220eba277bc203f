"""All sleeves by name, found by themselves.

A sleeve is in the catalogue once its file is in this package: every concrete subclass of
`Sleeve` that a module of the package defines, unless the module's name begins with an
underscore. Modules kept elsewhere can be added as an argument; the caller imports them.
A file that cannot be imported hides its own sleeves, not those of the others: `faults`
says which, and why.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from functools import partial
from types import ModuleType

import lab.sleeves
from lab.errors import SleeveError
from lab.sleeves._base import Sleeve
from lab.sleeves._faults import Fault, attempt


def sleeves(extra: Iterable[ModuleType] = ()) -> dict[str, type[Sleeve]]:
    """Return every sleeve, ordered by its id.

    Parameters
    ----------
    extra : iterable of module
        Modules outside the package that define sleeves too.

    Raises
    ------
    SleeveError
        If a sleeve has no id, or two have the same.
    """
    found: dict[str, type[Sleeve]] = {}
    for module in (*_own_modules(), *extra):
        for made in _defined(module):
            name = getattr(made, "sleeve_id", "")
            if not name:
                raise SleeveError(
                    f"{made.__module__}: {made.__name__} has no sleeve_id"
                )
            known = found.setdefault(name, made)
            if known is not made:
                raise SleeveError(
                    f"sleeve {name!r}: in {known.__module__} and in {made.__module__}"
                )
    return dict(sorted(found.items()))


def find(
    sleeve_id: str, known: Mapping[str, type[Sleeve]] | None = None
) -> type[Sleeve]:
    """Return the sleeve called `sleeve_id`.

    Parameters
    ----------
    sleeve_id : str
        Its name.
    known : mapping of str to type, optional
        Where to look; `sleeves()` if not given.

    Raises
    ------
    SleeveError
        If there is none.
    """
    catalogue = sleeves() if known is None else known
    if sleeve_id not in catalogue:
        raise SleeveError(f"no sleeve {sleeve_id!r}: one of {', '.join(catalogue)}")
    return catalogue[sleeve_id]


def faults() -> dict[str, str]:
    """Return the files of the package that cannot be imported, and why, in a line each."""
    return _imported()[1]


def _own_modules() -> list[ModuleType]:
    return _imported()[0]


def _imported() -> tuple[list[ModuleType], dict[str, str]]:
    modules: list[ModuleType] = []
    wrong: dict[str, str] = {}
    for name in sorted(one.name for one in pkgutil.iter_modules(lab.sleeves.__path__)):
        if name == "catalogue" or name.startswith("_"):
            continue
        module = attempt(partial(importlib.import_module, f"lab.sleeves.{name}"))
        if isinstance(module, Fault):
            wrong[f"lab/sleeves/{name}.py"] = module.reason
        else:
            modules.append(module)
    return modules, wrong


def _defined(module: ModuleType) -> list[type[Sleeve]]:
    return [
        made
        for _, made in inspect.getmembers(module, inspect.isclass)
        if issubclass(made, Sleeve)
        and made.__module__ == module.__name__
        and not inspect.isabstract(made)
    ]
