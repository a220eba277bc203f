"""The pages in a real Chromium: open, pick, see; by keyboard, on a phone, with nothing external."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulators.artefacts import SYMBOLS, report, tables
from tests.simulators.gateway import GatewayProcess
from tests.simulators.published import PublishedLake

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("pages")
    lake = PublishedLake(folder)
    lake.publish(tables() | {"evaluation_report": report()})
    process = GatewayProcess(lake, folder / "state", "--rate-limit", "0")
    process.until("/health/ready", lambda answer: answer.status_code == 200)
    yield process
    process.stop()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield started
        started.close()


class Visit:
    """One open page, with everything it complained about and asked for."""

    def __init__(self, browser, gateway: GatewayProcess, path: str, size: dict):
        self.page = browser.new_page(viewport=size)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(gateway.url + path)

    def drawn(self, selector: str, text: str) -> str:
        """Wait until an element says it was drawn for `text`; return what it says."""
        self.page.wait_for_selector(f'{selector}[data-drawn*="{text}"]', timeout=10_000)
        return str(self.page.get_attribute(selector, "data-drawn"))


@pytest.fixture
def visit(browser, gateway):
    opened: list[Visit] = []

    def start(path: str, size: dict = DESK) -> Visit:
        opened.append(Visit(browser, gateway, path, size))
        return opened[-1]

    yield start
    for one in opened:
        one.page.close()


def painted_colours(page) -> int:
    """Count distinct colours over all canvases: an unpainted chart has one or two."""
    return page.evaluate(
        """() => { const seen = new Set();
        for (const canvas of document.querySelectorAll('#chart canvas')) {
          const { width, height } = canvas; if (!width || !height) continue;
          const data = canvas.getContext('2d').getImageData(0, 0, width, height).data;
          for (let i = 0; i < data.length; i += 4) seen.add(data[i] << 24 | data[i + 1] << 16 | data[i + 2] << 8 | data[i + 3]);
        } return seen.size; }"""
    )


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_front_page_draws_the_chart_without_a_complaint(visit, gateway, size):
    one = visit("/", size)
    one.drawn("#chart", "naive")
    assert painted_colours(one.page) > 20
    assert one.complaints == []
    assert all(url.startswith(gateway.url) for url in one.requests)
    overflow = one.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow <= 0


def test_first_chart_takes_less_than_a_second_on_loopback(visit):
    visit("/").drawn("#chart", "naive")  # the browser itself is warm
    one = visit("/")
    one.drawn("#chart", "naive")
    seconds = one.page.evaluate(
        "performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))"
        ".reduce((last, entry) => Math.max(last, entry.responseEnd), 0) / 1000"
    )
    assert 0 < seconds < 1


def test_picking_a_symbol_model_and_horizon_redraws_and_is_in_the_address(visit):
    one = visit("/")
    one.drawn("#chart", "naive")
    one.page.select_option("#symbol", "EUR/USD")
    one.drawn("#chart", "EUR/USD/")
    one.page.select_option("#model", "seasonal")
    one.drawn("#chart", "EUR/USD/seasonal")
    one.page.select_option("#horizon", "5")
    one.drawn("#chart", "EUR/USD/seasonal/5")
    assert "EUR/USD" in one.page.inner_text("#headline")
    assert one.page.locator("#rows tr").count() == 5
    assert "symbol=EUR%2FUSD" in one.page.url
    again = visit("/" + one.page.url.split("/", 3)[3])
    assert again.drawn("#chart", "EUR/USD") == "EUR/USD/seasonal/5"
    assert one.complaints == again.complaints == []


def test_shown_numbers_are_the_served_ones(visit, gateway):
    one = visit("/?symbol=BTC-USD&model=naive&timeframe=1h&horizon=24")
    one.drawn("#chart", "BTC-USD/naive/24")
    served = gateway.get(
        "/showcase/ml-prediction/BTC-USD?model_name=naive&timeframe=1h"
    ).json()
    one.page.click("summary")
    cells = one.page.locator("#rows tr").nth(23).locator("td").all_inner_texts()
    shown = [float(text.replace(",", "")) for text in cells[2:]]
    expected = [served[name][23] for name in ("p10", "p50", "p90")]
    assert shown == pytest.approx(expected, abs=0.001)


def test_the_calibrated_band_is_drawn_beside_the_models_and_each_can_be_hidden(
    visit, gateway
):
    one = visit("/?symbol=BTC-USD&model=seasonal&timeframe=1h&horizon=24")
    one.drawn("#chart", "BTC-USD/seasonal/24")
    both = painted(one.page)
    for box in ("show-calibrated", "show-band"):
        one.page.uncheck(f"#{box}")
        one.page.wait_for_timeout(300)
        hidden = painted(one.page)
        assert hidden != both
        one.page.check(f"#{box}")
        one.page.wait_for_timeout(300)
        assert painted(one.page) == both
    band = gateway.get(
        "/showcase/ml-prediction/BTC-USD?model_name=seasonal&timeframe=1h"
    ).json()["band"]
    one.page.click("summary")
    cells = one.page.locator("#rows tr").nth(3).locator("td").all_inner_texts()
    shown = [float(text.replace(",", "")) for text in cells[-2:]]
    assert shown == pytest.approx([band["p10"][3], band["p90"][3]], abs=0.001)
    assert "(no settled forecasts of this symbol)" in one.page.inner_text("#facts")
    assert one.complaints == []


def test_a_forecast_without_a_calibrated_band_offers_none(visit):
    one = visit("/?symbol=BTC-USD&model=naive&timeframe=1h&horizon=24")
    one.drawn("#chart", "BTC-USD/naive/24")
    assert one.page.is_hidden("#show-calibrated")
    assert one.page.locator("#head th").count() == 5
    assert "not yet: too little has settled" in one.page.inner_text("#facts")
    one.page.select_option("#model", "seasonal")
    one.drawn("#chart", "BTC-USD/seasonal/24")
    assert one.page.is_visible("#show-calibrated")


def test_keyboard_reaches_every_control_and_moves_the_chart(visit):
    one = visit("/")
    one.drawn("#chart", "naive")
    reached = []
    for _ in range(20):
        one.page.keyboard.press("Tab")
        reached.append(
            one.page.evaluate(
                "document.activeElement.id || document.activeElement.tagName"
            )
        )
    for control in ("symbol", "timeframe", "model", "horizon", "chart", "SUMMARY"):
        assert control in reached
    before = painted(one.page)
    one.page.focus("#chart")
    for _ in range(5):
        one.page.keyboard.press("ArrowLeft")
    one.page.wait_for_timeout(300)
    assert painted(one.page) != before
    assert one.complaints == []


def painted(page) -> str:
    """Return the chart's pixels."""
    return page.evaluate(
        "[...document.querySelectorAll('#chart canvas')].map((canvas) => canvas.toDataURL()).join()"
    )


@pytest.mark.parametrize("path", ["/", "/evaluation"])
def test_a_screen_reader_finds_names_headings_and_landmarks(visit, path):
    one = visit(path)
    one.page.wait_for_selector("[data-drawn]", timeout=10_000)
    page = one.page
    assert page.locator("main").count() == 1
    assert page.locator("h1").count() == 1
    assert page.get_attribute("html", "lang") == "en"
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('select, [role=img], a, button, img')].filter((element) =>
        !(element.labels?.length || element.getAttribute('aria-label') || element.textContent.trim() || element.getAttribute('alt') === ''))
        .map((element) => element.outerHTML.slice(0, 80))"""
    )
    assert unnamed == []
    labels = [
        page.locator("[role=img]").nth(i).get_attribute("aria-label") or ""
        for i in range(page.locator("[role=img]").count())
    ]
    assert labels
    assert all(len(label) > 30 for label in labels)


def test_evaluation_page_shows_calibration_coverage_skill_and_all_scores(
    visit, gateway
):
    one = visit("/evaluation")
    one.drawn("#scores", "1d/")
    for plot in ("calibration", "coverage", "skill"):
        assert one.page.locator(f"#{plot} svg circle").count() >= 4
    total = gateway.get("/showcase/evaluation?limit=500").json()["items"]
    daily = [row for row in total if row["timeframe"] == "1d"]
    assert one.page.locator("#scores tbody tr").count() == len(daily)
    one.page.select_option("#timeframe", "1h")
    one.page.select_option("#symbol", "^GSPC")
    one.drawn("#scores", "1h/")
    assert set(one.page.locator("#scores tbody td:first-child").all_inner_texts()) == {
        "^GSPC"
    }
    one.page.click("text=CRPS >> nth=0")
    assert one.complaints == []


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_evaluation_page_shows_every_verdict_beside_the_baselines(visit, gateway, size):
    one = visit("/evaluation?timeframe=1d&horizon=1", size)
    one.drawn("#scores", "1d/1/")
    head = one.page.locator("#verdicts thead th").all_inner_texts()
    assert head == ["", "persistence", "naive (baseline)", "seasonal"]
    names = one.page.locator("#verdicts tbody th").all_inner_texts()
    assert names[:4] == ["All symbols", "All crypto", "All fx", "All other"]
    assert set(names[4:]) == set(SYMBOLS)
    served = gateway.get("/showcase/evaluation?timeframe=1d&horizon=1").json()["items"]
    said = {None: "not judged", True: "skill", False: "no skill"}
    for row in one.page.locator("#verdicts tbody tr").all()[4:]:
        symbol = row.locator("th").inner_text()
        chips = row.locator(".chip").all_inner_texts()
        expected = [
            said[item["has_skill"]]
            for model in ("naive", "seasonal")
            for item in served
            if (item["symbol"], item["model_name"]) == (symbol, model)
        ]
        assert chips == expected
    assert {"skill", "no skill"} <= set(one.page.locator(".chip").all_inner_texts())
    assert one.page.locator("#pit svg").count() == 2
    assert one.page.locator("#pit svg rect").count() == 20
    assert one.complaints == []
    overflow = one.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow <= 0


def test_what_is_not_judged_yet_says_why_and_a_model_can_be_picked(visit):
    one = visit("/evaluation?timeframe=1h&horizon=24")
    one.drawn("#scores", "1h/24/")
    chips = one.page.locator("#verdicts .chip")
    assert set(chips.all_inner_texts()) == {"not judged"}
    assert "of 10 blocks" in chips.first.get_attribute("title")
    assert "not judged yet" in one.page.inner_text("#lead")
    one.page.select_option("#model", "seasonal")
    one.drawn("#scores", "1h/24/all/seasonal")
    assert "model=seasonal" in one.page.url
    assert one.page.locator("#pit svg").count() == 1
    assert one.page.locator("#verdicts thead th").count() == 3
    assert one.complaints == []


@pytest.mark.parametrize("path", ["/schema", "/schema/"])
def test_the_schema_page_shows_every_route_and_answers_without_a_complaint(
    visit, gateway, path
):
    one = visit(path)
    one.page.wait_for_selector(".opblock", timeout=10_000)
    assert one.page.locator(".opblock").count() >= 9
    one.page.click("#operations-showcase-readStatus .opblock-summary")
    one.page.click("text=Try it out")
    one.page.click(".execute")
    one.page.wait_for_selector(".live-responses-table", timeout=10_000)
    assert one.complaints == []
    assert all(url.startswith(gateway.url) for url in one.requests)


def test_an_empty_gateway_says_what_to_do(browser, tmp_path):
    lake = PublishedLake(tmp_path)
    process = GatewayProcess(lake, tmp_path / "state")
    try:
        one = Visit(browser, process, "/", DESK)
        one.page.wait_for_selector("#problem:not([hidden])", timeout=10_000)
        assert len(one.page.inner_text("#problem")) > 20
        one.page.close()
    finally:
        process.stop()
