"""The live page as an operator meets it, in a real browser: break /payment on the page, see the
incident appear with its cause, read why not /checkout, acknowledge, mend, resolve.

Not part of `make test`: `make test-browser` runs it. It leaves screenshots, live_page_*.png, in its
own folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shop
from aiops_lab.detect.sensitivity import Sensitivity
from shop.live.traffic import background

SCREENSHOT = str(Path(__file__).with_name("live_page"))
LONGEST_MS = 90_000  # until what is usual is learned, on a busy machine

CUT = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"

pytestmark = pytest.mark.browser


@pytest.fixture
def url(chromium: str) -> Iterator[str]:
    """The address of a shop with customers, watched every second."""
    knobs = Sensitivity(window_s=2, grace_s=0.5, min_ms=100)  # a busy machine is no incident
    with shop.running(sensitivity=knobs, interval_s=1.0) as running, background(running, 25, 0):
        yield running.url.replace("127.0.0.1", "localhost")


def opened(browser: Any, problems: list[str], **context: Any) -> Any:
    """A new page whose errors are noted."""
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(LONGEST_MS)
    page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: problems.append(str(error)))
    return page


def test_an_operator_breaks_reads_acknowledges_mends_and_resolves(browser: Any, url: str) -> None:
    problems: list[str] = []
    page = opened(
        browser,
        problems,
        viewport={"width": 1200, "height": 900},
        timezone_id="Asia/Kolkata",
        locale="en-GB",
    )
    page.goto(url)
    page.get_by_text("● live").or_(page.locator("#live.on")).wait_for()
    healthy = page.locator("tr", has_text="/payment").locator(".badge", has_text="healthy")
    healthy.wait_for()  # its baseline is learned; the page has noticed by itself

    page.locator("#fault-endpoint").select_option(label="/payment (shop)")
    page.locator("#fault-kind").select_option("delay")
    page.locator("#fault-amount").fill("700")
    page.locator("#break").click()
    page.get_by_text("/payment (shop): 700 ms slower").wait_for()
    page.locator(".verdict", has_text="Cause: /payment, confidence").wait_for()
    assert page.title().startswith("(1) ")
    page.screenshot(path=f"{SCREENSHOT}_overview.png", full_page=True)

    page.locator("article.incident a", has_text="/payment").click()
    page.locator("#cause .big", has_text="/payment").wait_for()
    page.locator("#path", has_text="/checkout").wait_for()
    page.locator("#doubt", has_text="Why not /checkout?").wait_for()
    detected = page.locator("main time").first
    assert "UTC)" in detected.inner_text()  # the reader's zone first, half an hour off
    assert detected.inner_text()[3:5] != detected.get_attribute("datetime")[14:16]
    page.screenshot(path=f"{SCREENSHOT}_incident.png", full_page=True)
    here = page.url

    page.locator("#why-not").click()
    page.locator("table a", has_text="/checkout").click()
    reason = page.locator("#reason")
    assert "of the excess originated there" in reason.inner_text()
    assert "name=/checkout" in page.url or "name=%2Fcheckout" in page.url

    page.goto(here)
    acknowledge = page.get_by_role("button", name="Acknowledge")
    acknowledge.focus()
    page.keyboard.press("Enter")
    page.locator(".badge", has_text="acknowledged").wait_for()
    assert acknowledge.count() == 0

    page.goto(url)
    page.locator("#mend").click()
    page.get_by_text("Nothing is broken on purpose.").wait_for()
    page.goto(here)
    page.get_by_role("button", name="Resolve…", exact=True).click()
    page.get_by_text("It is not over").wait_for()
    page.get_by_role("button", name="Resolve it all the same").click()
    page.locator(".badge", has_text="resolved").wait_for()
    for what in ("opened, severity", "acknowledged", "resolved by hand"):
        page.locator(".life li", has_text=what).wait_for()
    page.get_by_role("link", name="Incidents", exact=True).click()
    page.locator("tr", has_text="resolved").wait_for()
    assert problems == []

    look_at_it_small_and_dark(browser, url, here, problems)
    assert problems == []


def look_at_it_small_and_dark(browser: Any, url: str, incident: str, problems: list[str]) -> None:
    """Nothing is wider than a phone, no table is cut, and in the dark letters are lighter than
    their ground.
    """
    phone = {"width": 390, "height": 844}
    page = opened(browser, problems, viewport=phone, color_scheme="dark", has_touch=True)
    places = {"incidents": incident.rpartition("/")[0], "overview": url, "incident": incident}
    places |= {name: f"{incident}/{name}" for name in ("why-not", "steps", "traces")}
    for name, place in places.items():
        page.goto(place)
        page.locator("#live.on").wait_for()
        width = page.evaluate("document.documentElement.scrollWidth")
        page.screenshot(path=f"{SCREENSHOT}_{name}_phone_dark.png", full_page=True)
        assert width <= phone["width"]
        assert page.evaluate(CUT) == 0
    colours = page.evaluate(
        "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
    )
    letters, ground = (sum(map(int, c[4:-1].split(","))) for c in colours)
    assert letters > ground + 300


def test_pages_beyond_those_that_may_listen_learn_of_changes_all_the_same(
    browser: Any, url: str
) -> None:
    problems: list[str] = []
    pages = [opened(browser, problems) for _ in range(9)]
    for page in pages:
        page.goto(url)
    pages[0].locator("#break").click()
    for page in pages:
        page.get_by_text("/payment (shop): 1,000 ms slower").wait_for()
    refused = [told for told in problems if "503" in told]
    assert len(refused) == len(problems) >= 1
