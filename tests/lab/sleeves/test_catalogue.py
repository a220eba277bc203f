"""The catalogue finds every sleeve by itself, and refuses parameters out of range."""

import importlib
import sys
from dataclasses import fields

import pytest

import lab.sleeves
from lab.errors import SleeveError
from lab.sleeves import catalogue
from lab.sleeves._base import Sleeve
from tests.lab.sleeves.panels import panel

IDS = (
    "bollinger-reversion",
    "cross-sectional-momentum",
    "donchian-breakout",
    "event-drift",
    "follow-chronos2",
    "follow-ensemble",
    "follow-kronos",
    "hour-of-week",
    "moving-average-cross",
    "pairs-reversion",
    "phase37",
    "rsi-reversion",
    "time-series-momentum",
    "volatility-targeted-trend",
)
SOURCE = """
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lab.sleeves._base import Sleeve, ranged


@dataclass(frozen=True)
class AlwaysLong(Sleeve):
    sleeve_id: ClassVar[str] = "{sleeve_id}"
    share: float = ranged(1.0, 0.0, 1.0, tried=(0.5, 1.0))

    def positions(self, panel):
        return np.full(panel.close.shape, self.share / panel.n_assets)
"""


@pytest.fixture
def add_file(tmp_path, monkeypatch):
    """Write a module that is importable under its name while the test runs."""
    added = []

    def add(name, source, package=""):
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()
        added.append(f"{package}{name}")
        return f"{package}{name}"

    monkeypatch.syspath_prepend(tmp_path)
    yield add
    for name in added:
        sys.modules.pop(name, None)


def test_the_catalogue_holds_the_sleeves_in_order():
    assert tuple(catalogue.sleeves()) == IDS


def test_one_file_in_the_package_is_all_that_a_new_sleeve_needs(
    add_file, tmp_path, monkeypatch
):
    folders = [*lab.sleeves.__path__, str(tmp_path)]
    monkeypatch.setattr(lab.sleeves, "__path__", folders)
    add_file("always_long", SOURCE.format(sleeve_id="always-long"), "lab.sleeves.")
    try:
        found = catalogue.sleeves()
        assert tuple(found) == ("always-long", *IDS)
        assert len(found["always-long"].variants()) == 2
        assert catalogue.find("always-long") is found["always-long"]
    finally:
        vars(lab.sleeves).pop("always_long", None)


def test_sleeves_kept_elsewhere_are_an_argument(add_file):
    name = add_file("my_sleeves", SOURCE.format(sleeve_id="my-own"))
    found = catalogue.sleeves([importlib.import_module(name)])
    assert set(found) == {*IDS, "my-own"}
    assert "my-own" not in catalogue.sleeves()
    assert catalogue.find("my-own", found) is found["my-own"]


def test_two_sleeves_of_one_name_are_refused(add_file):
    name = add_file("another_baseline", SOURCE.format(sleeve_id="phase37"))
    with pytest.raises(
        SleeveError, match=r"'phase37': in lab\.sleeves\.phase37 and in"
    ):
        catalogue.sleeves([importlib.import_module(name)])


def test_a_sleeve_without_a_name_is_refused(add_file):
    source = SOURCE.replace('    sleeve_id: ClassVar[str] = "{sleeve_id}"\n', "")
    name = add_file("nameless", source)
    with pytest.raises(SleeveError, match="AlwaysLong has no sleeve_id"):
        catalogue.sleeves([importlib.import_module(name)])


def test_an_unknown_sleeve_is_refused():
    with pytest.raises(SleeveError, match="no sleeve 'carry': one of bollinger"):
        catalogue.find("carry")


@pytest.mark.parametrize("sleeve_id", IDS)
def test_a_sleeve_has_four_to_twelve_variants_all_different(sleeve_id):
    made = catalogue.find(sleeve_id)
    names = [one.configuration for one in made.variants()]
    assert len(set(names)) == len(names)
    assert 4 <= len(names) <= 12 or sleeve_id == "phase37"
    assert made.from_parameters(made().parameters) == made()
    assert made.__doc__
    assert sys.modules[made.__module__].__doc__


def ranges():
    for sleeve_id, made in catalogue.sleeves().items():
        for each in fields(made):
            for bound, step in (("low", -1), ("high", 1)):
                yield sleeve_id, each.name, each.metadata[bound] + step


@pytest.mark.parametrize(("sleeve_id", "name", "value"), list(ranges()))
def test_a_parameter_outside_its_range_is_refused(sleeve_id, name, value):
    with pytest.raises(SleeveError, match=rf"{sleeve_id}: {name} = .*between"):
        catalogue.find(sleeve_id)(**{name: value})


def test_averages_of_nearly_one_length_are_refused():
    with pytest.raises(SleeveError, match="slow = 50: at least twice fast = 30"):
        catalogue.find("moving-average-cross")(fast=30, slow=50)


def test_a_follower_without_forecasts_says_which():
    sleeve = catalogue.find("follow-kronos")()
    assert sleeve.needs == "kronos"
    with pytest.raises(SleeveError, match="the panel has no kronos forecasts"):
        sleeve.positions(panel([1.0, 2.0]))


def test_every_sleeve_is_a_sleeve():
    assert all(issubclass(made, Sleeve) for made in catalogue.sleeves().values())
