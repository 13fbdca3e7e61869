"""The browser of these tests: the system's Chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


@pytest.fixture
def chromium() -> str:
    """Where the browser is; asked for first, so that nothing is started in vain."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(
            "there is no Chromium: apt-get install chromium, or let CHROMIUM be the path of one"
        )
    return found


@pytest.fixture
def browser(chromium: str) -> Iterator[Any]:
    api = pytest.importorskip(
        "playwright.sync_api", reason="there is no playwright: make test-browser installs it"
    )
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=list(QUIET), headless=True
        )
        yield browser
        browser.close()
