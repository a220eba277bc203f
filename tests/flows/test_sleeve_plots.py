"""Plots of a walk-forward run as PNG and HTML files."""

import struct
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from flows.plots import write_plots
from lakehouse.clock import Clock
from lakehouse.errors import InputError
from lakehouse.store import Lake
from tests.simulators.sleeves import walk_rows, write_walk

NOW = datetime(2022, 3, 4, 21, tzinfo=UTC)
RUN = "walk-forward-0123456789abcdef"
NAMES = ("flat", "phase37", "time-series-momentum")

pytestmark = pytest.mark.xdist_group("sleeve-plots")


class Outline(HTMLParser):
    """Tags and addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [
            value for name, value in attrs if name in {"src", "href"} and value
        ]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    root = str(tmp_path_factory.mktemp("plots") / "lake")
    made = Lake.open(root, clock=Clock(NOW, "argument"))
    write_walk(made, RUN, ended=NOW, sleeves=NAMES, n_days=700)
    return made


@pytest.fixture(scope="module")
def plots(lake, tmp_path_factory) -> list[Path]:
    return write_plots(lake, RUN, tmp_path_factory.mktemp("drawn") / "new")


def test_every_sleeve_has_a_picture_and_a_page(plots):
    assert [path.name for path in plots] == [
        f"{name}-1d.{kind}" for name in NAMES for kind in ("png", "html")
    ]
    for path in plots[::2]:
        head = path.read_bytes()[:24]
        assert head.startswith(b"\x89PNG")
        assert struct.unpack(">II", head[16:24]) == (1100, 880)


def test_a_page_holds_its_drawing_and_figures_and_loads_nothing(plots):
    page = Outline()
    page.feed(plots[5].read_text(encoding="utf-8"))
    assert page.tags.count("svg") == 1
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert all(address.startswith("#") for address in page.addresses)
    assert "20 bps" in page.text
    assert RUN in page.text
    assert page.tags.count("tr") == 5


def test_the_same_rows_give_the_same_bytes_whatever_the_users_settings(
    lake, plots, tmp_path
):
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "axes.grid": False}):
        again = write_plots(lake, RUN, tmp_path)
    assert [a.read_bytes() for a in again] == [b.read_bytes() for b in plots]


def test_a_book_that_is_lost_a_single_day_and_odd_names_are_drawn(tmp_path):
    lake = Lake.open(str(tmp_path / "lake"), clock=Clock(NOW, "argument"))
    ruin = np.r_[np.full(20, 0.01), -1.5, np.full(39, 0.02)]
    for name, gross in (("a/b <i>", ruin), ("one-day", np.array([0.01]))):
        returns, snapshots = walk_rows(
            name, run_id=RUN, n_days=len(gross), gross=gross, rungs=(20.0,)
        )
        lake.append("sleeve_returns", returns, window=name)
        lake.append("wf_snapshots", snapshots, window=name)
    found = write_plots(lake, RUN, tmp_path / "out")
    assert [path.name for path in found[::2]] == ["a_b__i_-1d.png", "one-day-1d.png"]
    assert "a/b &lt;i&gt;" in found[1].read_text(encoding="utf-8")


def test_a_run_without_rows_or_a_file_in_the_way_is_refused(lake, tmp_path):
    with pytest.raises(InputError, match="run nope: no out-of-sample returns to plot"):
        write_plots(lake, "nope", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_plots(lake, RUN, tmp_path / "file")
