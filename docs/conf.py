"""Settings of the documentation site, for Sphinx. `make docs` builds it into docs/_build."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

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


def setup(app: object) -> None:
    """Copy the pages before Sphinx looks for them."""
    copy_pages(app)
