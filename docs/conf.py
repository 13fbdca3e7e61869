"""Settings of the documentation site, for Sphinx. `make docs` builds it into docs/_build."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "notebooks")]

import hosted  # noqa: E402

project = "AIOps Lab"
author = "AIOps Lab contributors"
copyright = author
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
]
html_theme = "furo"
html_title = "AIOps Lab"
exclude_patterns = ["_build"]
nb_execution_mode = "off"  # the lessons are shown with the outputs that the tests compare
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections name the types
numpydoc_show_class_members = False
# links of the copied pages to files that are not pages of the site, such as LICENSE
suppress_warnings = ["myst.xref_missing", "mystnb.unknown_mime_type"]

PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")


def copy_pages(_: object) -> None:
    """Copy the lessons and the papers of the project into the source folder of the site."""
    lessons = HERE / "lessons"
    shutil.rmtree(lessons, ignore_errors=True)
    shutil.copytree(
        ROOT / "notebooks", lessons, ignore=shutil.ignore_patterns("*.py", "*.cfg", ".*")
    )
    for page in PAGES:
        shutil.copy(ROOT / page, HERE / page.lower())


def add_badges(_: object, page: str, text: list[str]) -> None:
    """Put badges on the map of the course: where the site is built for a repository on GitHub."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    if repository and page in ("index", "lessons/README"):
        title, rest = text[0].split("\n", 1)
        text[0] = f"{title}\n\n{hosted.badges(repository)}\n{rest}"


def setup(app: Sphinx) -> None:
    """Copy the pages before Sphinx looks for them."""
    copy_pages(app)
    app.connect("source-read", add_badges)
