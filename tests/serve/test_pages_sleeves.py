"""The page of sleeves in a real Chromium: pick, read, by keyboard, on a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.test_pages import CHROMIUM, DESK, PHONE, SWITCHES, Visit
from tests.simulators.artefacts import NOW, report, tables
from tests.simulators.gateway import GatewayProcess
from tests.simulators.published import PublishedLake
from tests.simulators.sleeves import SLEEVES, made_up_book

MINUS = "\N{MINUS SIGN}"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser-sleeves"),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("sleeves")
    lake = PublishedLake(folder)
    book = made_up_book(folder / "made", now=NOW)
    lake.publish(tables() | {"evaluation_report": report()} | book)
    process = GatewayProcess(lake, folder / "state", "--rate-limit", "0")
    process.until("/health/ready", lambda answer: answer.status_code == 200)
    yield process
    process.stop()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=shutil.which(str(CHROMIUM)), args=SWITCHES
        )
        yield started
        started.close()


@pytest.fixture
def visit(browser, gateway):
    opened: list[Visit] = []

    def start(path: str, size: dict = DESK) -> Visit:
        opened.append(Visit(browser, gateway, path, size))
        return opened[-1]

    yield start
    for one in opened:
        one.page.close()


@pytest.fixture
def served(gateway) -> dict[tuple[str, str], dict]:
    """The items behind the page, by timeframe and sleeve."""
    items = gateway.get("/showcase/sleeves").json()["items"]
    return {(one["timeframe"], one["sleeve_id"]): one for one in items}


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_page_opens_on_the_baseline_without_a_complaint(visit, gateway, size):
    one = visit("/sleeves", size)
    assert one.drawn("#equity", "phase37") == "1d/phase37"
    assert one.page.inner_text("#sleeve-title") == "phase37, the locked baseline"
    for plot in ("equity", "windows", "costs"):
        assert one.page.locator(f"#{plot} svg").count() == 1
    assert "none of" not in one.page.inner_text("#lead")
    assert "time-series-momentum passed all gates" in one.page.inner_text("#lead")
    assert one.page.inner_text("#ladder [aria-current]") == "live"
    assert one.complaints == []
    assert all(url.startswith(gateway.url) for url in one.requests)
    overflow = one.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow <= 0


def test_picking_a_sleeve_redraws_it_over_the_baseline_and_is_in_the_address(visit):
    one = visit("/sleeves")
    one.drawn("#equity", "1d/phase37")
    assert one.page.locator("#equity path.trace").count() == 2  # equity and drawdown
    one.page.select_option("#sleeve", "rsi-reversion")
    one.drawn("#equity", "1d/rsi-reversion")
    assert one.page.locator("#equity path.trace").count() == 4
    names = one.page.locator("#equity .name").all_text_contents()
    assert set(names) == {"rsi-reversion", "phase37"}
    one.page.select_option("#timeframe", "1h")
    assert one.drawn("#equity", "1h/") == "1h/rsi-reversion"
    again = visit("/" + one.page.url.split("/", 3)[3])
    assert again.drawn("#equity", "1h/") == "1h/rsi-reversion"
    assert one.complaints == again.complaints == []


def test_shown_figures_and_gates_are_the_served_ones(visit, served):
    one = visit("/sleeves?timeframe=1d&sleeve=time-series-momentum")
    one.drawn("#equity", "time-series-momentum")
    item = served["1d", "time-series-momentum"]
    shown = [
        row.locator("th, td").all_inner_texts()
        for row in one.page.locator("#rungs tbody tr").all()
    ]
    assert [row[0] for row in shown] == ["0 bps", "5 bps", "10 bps", "20 bps"]
    for row, rung in zip(shown, item["rungs"], strict=True):
        assert float(row[1].replace(MINUS, "-")) == pytest.approx(
            rung["sharpe"], abs=0.005
        )
        assert row[6] == f"{rung['trades']:,}"
    gates = one.page.locator("#gates tbody tr").all()
    assert len(gates) == 3
    for line, gate in zip(gates, item["gates"], strict=True):
        cells = line.locator("th, td").all_inner_texts()
        assert cells[1] == "passed"
        assert cells[2] == gate["words"]
        assert float(cells[3]) == pytest.approx(gate["value"], rel=0.01)
        assert cells[5] == "214"
    bars = one.page.locator("#windows rect.bar")
    assert bars.count() == len(item["windows"]["sharpe"])
    gains = one.page.locator("#windows rect.gain").count()
    assert gains == sum(value > 0 for value in item["windows"]["sharpe"])
    weights = one.page.locator("#weights tbody tr").all_inner_texts()
    assert weights[1] == f"EURUSD\t{MINUS}12.5 %"


def test_the_series_are_there_as_tables_too(visit, served):
    one = visit("/sleeves?sleeve=hour-of-week")
    one.drawn("#equity", "hour-of-week")
    one.page.click("summary")
    item = served["1d", "hour-of-week"]
    assert one.page.locator("#series tbody tr").count() == len(item["curve"]["ts"])
    last = one.page.locator("#series tbody tr").last.locator("th, td")
    cells = last.all_inner_texts()
    assert cells[0] == "2019-10-02"
    assert float(cells[1]) == pytest.approx(item["curve"]["equity"][-1], abs=5e-5)
    baseline = served["1d", "phase37"]["curve"]["equity"][-1]
    assert float(cells[3]) == pytest.approx(baseline, abs=5e-5)
    assert one.page.locator("#sharpes tbody tr").count() == 68


def test_all_sleeves_are_listed_and_each_can_be_opened(visit):
    one = visit("/sleeves")
    one.drawn("#equity", "phase37")
    names = one.page.locator("#all tbody button").all_inner_texts()
    assert names[0] == "phase37"
    assert set(names) == set(SLEEVES)
    chips = one.page.locator("#all tbody tr").nth(4).locator(".chip.yes")
    assert chips.all_inner_texts() == ["DSR ✓", "RC ✓", "PBO ✓"]
    one.page.click("#all button:text('flat')")
    one.drawn("#equity", "1d/flat")
    assert "never vary" in one.page.text_content("#windows svg")
    assert one.complaints == []


def test_a_week_is_read_with_the_pointer_or_the_arrows(visit, served):
    one = visit("/sleeves?sleeve=time-series-momentum")
    one.drawn("#equity", "time-series-momentum")
    one.page.focus("#equity")
    one.page.keyboard.press("ArrowLeft")
    told = one.page.inner_text("#readout")
    curve = served["1d", "time-series-momentum"]["curve"]
    assert told.startswith(f"Week to {curve['ts'][-2][:10]}: time-series-momentum")
    assert "phase37" in told
    one.page.hover("#equity", position={"x": 200, "y": 100})
    assert one.page.inner_text("#readout") != told


def test_the_plots_follow_the_width_of_the_window(visit):
    one = visit("/sleeves")
    one.drawn("#equity", "phase37")
    wide = one.page.get_attribute("#equity svg", "viewBox")
    one.page.set_viewport_size(PHONE)
    one.page.wait_for_function(
        "old => document.querySelector('#equity svg').getAttribute('viewBox') !== old",
        arg=wide,
    )
    assert one.complaints == []


def test_a_screen_reader_finds_names_and_what_the_plots_say(visit):
    page = visit("/sleeves?sleeve=rsi-reversion").page
    page.wait_for_selector("#equity[data-drawn]", timeout=10_000)
    labels = [
        element.get_attribute("aria-label")
        for element in page.locator("[role=img]").all()
    ]
    assert len(labels) == 3
    assert "deepest drawdown" in labels[0]
    assert "68 out-of-sample windows" in labels[1]
    assert "at 20 bps" in labels[2]
    assert page.locator("main").count() == page.locator("h1").count() == 1
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('select, a, button, table')].filter((one) =>
        !(one.labels?.length || one.getAttribute('aria-label') || one.textContent.trim() || one.caption))
        .map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert unnamed == []
    current = page.locator("nav a[aria-current=page]").all_inner_texts()
    assert current == ["Sleeves"]


@pytest.mark.parametrize("path", ["/", "/evaluation"])
def test_the_other_pages_lead_here(visit, path):
    one = visit(path)
    one.page.click("nav a:text('Sleeves')")
    assert one.drawn("#equity", "phase37") == "1d/phase37"


def test_before_any_run_the_page_says_what_to_run(browser, tmp_path):
    lake = PublishedLake(tmp_path)
    lake.publish(tables())
    process = GatewayProcess(lake, tmp_path / "state")
    try:
        process.until("/health/ready", lambda answer: answer.status_code == 200)
        one = Visit(browser, process, "/sleeves", DESK)
        one.page.wait_for_selector("#problem:not([hidden])", timeout=10_000)
        assert "alphalake walkforward" in one.page.inner_text("#problem")
        assert one.page.is_hidden("#book")
        assert one.complaints == []
        one.page.close()
    finally:
        process.stop()
