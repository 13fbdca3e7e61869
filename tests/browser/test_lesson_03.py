"""Lesson 03 as a learner meets it: JupyterLab in a real browser, all cells run, a slider moved with
the mouse.

Not part of `make test`: `make test-browser` runs it. It leaves a screenshot, lesson_03.png, in its
own folder.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import requests

ROOT = Path(__file__).parents[2]
LESSON = "03_abnormal.ipynb"
SCREENSHOT = Path(__file__).with_name("lesson_03.png")
SETTINGS: dict[str, dict[str, Any]] = {
    # a question about news would lie over the notebook
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    # cells that are out of sight stay in the page, where the test looks for them
    "notebook-extension/tracker": {"windowingMode": "none"},
}
LONGEST_MS = 180_000  # to run the lesson on a busy machine

pytestmark = pytest.mark.browser


@pytest.fixture
def lab(chromium: str, tmp_path: Path) -> Iterator[str]:
    """JupyterLab with a fresh copy of the lesson without outputs; yields its address."""
    (tmp_path / "notebooks").mkdir()
    shutil.copytree(ROOT / "data", tmp_path / "data")
    lesson = nbformat.read(ROOT / "notebooks" / LESSON, 4)
    for cell in lesson.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    nbformat.write(lesson, tmp_path / "notebooks" / LESSON)
    for plugin, settings in SETTINGS.items():
        file = tmp_path / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings), "utf-8")
    with served(tmp_path) as url:
        yield f"{url}/lab/tree/notebooks/{LESSON}?reset"


class served:  # noqa: N801
    """A JupyterLab on 127.0.0.1 that reads and writes nothing of the user's own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url, port = f"http://127.0.0.1:{free.getsockname()[1]}", free.getsockname()[1]
        own = (
            "JUPYTER_CONFIG_DIR",
            "JUPYTER_DATA_DIR",
            "JUPYTER_RUNTIME_DIR",
            "JUPYTERLAB_WORKSPACES_DIR",
            "IPYTHONDIR",
        )
        environment = os.environ | {name: str(folder / name.lower()) for name in own}
        environment |= {
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "PYTHONPATH": str(ROOT),
        }
        options = {
            "ip": "127.0.0.1",
            "port": port,
            "port_retries": 0,
            "root_dir": folder,
            "allow_root": True,
        }
        options |= {"open_browser": False, "token": ""}
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            *(f"--ServerApp.{name}={value}" for name, value in options.items()),
        ]
        self._log = (folder / "jupyterlab.log").open("w")
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=self._log, stderr=self._log
        )

    def __enter__(self) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                requests.get(f"{self.url}/api", timeout=5).raise_for_status()
            except requests.RequestException:
                time.sleep(0.2)
            else:
                return self.url
        self.__exit__()
        raise AssertionError(Path(self._log.name).read_text("utf-8"))

    def __exit__(self, *_: object) -> None:
        self._process.terminate()  # it takes its kernels along
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(60_000)
    try:
        yield page
    finally:
        page.screenshot(path=SCREENSHOT)  # also of what went wrong


def drag(page: Any, handle: Any, by: int) -> None:
    """Drag with the mouse, in steps, as a hand does."""
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by, y, steps=8)
    page.mouse.up()


def test_a_slider_that_is_moved_changes_picture_and_figures(lab: str, page: Any) -> None:
    page.goto(lab)
    idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").first
    # the indicator is idle, too, while no kernel has been started: then JupyterLab would ask for
    # one
    page.get_by_text("Python 3 (ipykernel) | Idle", exact=True).wait_for(timeout=LONGEST_MS)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.get_by_text("all claims hold", exact=True).wait_for(state="attached", timeout=LONGEST_MS)
    idle.wait_for(state="attached")
    assert (
        page.locator(
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']"
        ).count()
        == 0
    )

    output = page.locator(".jp-OutputArea-output", has=page.locator(".noUi-handle"))  # of one cell
    assert output.count() == 1
    ratio, picture, figures = (
        output.locator(".noUi-handle").nth(1),
        output.locator("img"),
        output.locator("pre"),
    )
    ratio.wait_for(state="attached")
    ratio.scroll_into_view_if_needed()
    assert picture.evaluate("image => image.naturalWidth") > 0
    before = picture.screenshot(), figures.inner_text()
    drag(page, ratio, by=-400)
    figures.filter(has_text="80%").wait_for()  # of recall, where it was 40 %
    idle.wait_for(state="attached")
    assert "40%" in before[1]
    assert "40%" not in figures.inner_text()
    assert picture.screenshot() != before[0]
