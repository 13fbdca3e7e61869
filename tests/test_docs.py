"""The papers name only what exists: paths, modules, links; and they keep their size."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAPERS = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "data/README.md",
    "docs/fastapi.md",
    "docs/formats.md",
    "docs/history.md",
    "docs/index.md",
    "docs/operating.md",
    "docs/reference.md",
    "docs/results.md",
    "docs/scale.md",
    "docs/troubleshooting.md",
    "docs/preregistration.md",
    "docs/where_it_is_wrong.md",
    "docs/your_own_data.md",
    "notebooks/README.md",
)
ANCHOR = re.compile(r"\]\(([^)#:]*)#([^)]+)\)")
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
FILE = re.compile(r"`((?:aiops_lab|shop|tests|data|notebooks|benchmarks|docs)/[\w/.]+?)/?`")
DOTTED = re.compile(r"`((?:aiops_lab|shop)(?:\.\w+)+)`")


def text_of(paper: str) -> str:
    return (ROOT / paper).read_text("utf-8")


def broken_links(paper: str, text: str) -> list[str]:
    """The relative links of a text that lead nowhere."""
    links = [link for link in LINK.findall(text) if "://" not in link]
    return [link for link in links if not (ROOT / paper).parent.joinpath(link).exists()]


def anchor_of(heading: str) -> str:
    """The anchor of a heading, as GitHub and Sphinx make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_anchors(paper: str, text: str) -> list[str]:
    """The links of a text to headings that are not there."""
    broken = []
    for page, anchor in ANCHOR.findall(text):
        there = (ROOT / paper).parent.joinpath(page).read_text("utf-8") if page else text
        headings = re.findall(r"^#+ (.*)$", there, re.MULTILINE)
        if anchor not in [anchor_of(heading) for heading in headings]:
            broken.append(f"{page}#{anchor}")
    return broken


def missing_files(text: str) -> list[str]:
    """The files and folders in backticks that do not exist."""
    return [path for path in FILE.findall(text) if not (ROOT / path).exists()]


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    try:
        importlib.import_module(dotted)
    except ModuleNotFoundError:
        module, _, name = dotted.rpartition(".")
        return "." in dotted and exists(module) and hasattr(importlib.import_module(module), name)
    return True


@pytest.mark.parametrize("paper", PAPERS)
def test_all_links_lead_somewhere(paper: str) -> None:
    assert broken_links(paper, text_of(paper)) == []


@pytest.mark.parametrize("paper", PAPERS)
def test_all_anchors_are_headings(paper: str) -> None:
    assert broken_anchors(paper, text_of(paper)) == []


@pytest.mark.parametrize("paper", PAPERS)
def test_all_files_that_are_named_exist(paper: str) -> None:
    assert missing_files(text_of(paper)) == []


@pytest.mark.parametrize("paper", PAPERS)
def test_all_dotted_names_resolve(paper: str) -> None:
    assert [name for name in DOTTED.findall(text_of(paper)) if not exists(name)] == []


def test_a_wrong_link_a_wrong_file_and_a_wrong_name_are_seen() -> None:
    assert broken_links("README.md", "[no](no.md)") == ["no.md"]
    assert broken_anchors("README.md", "[no](docs/results.md#no)") == ["docs/results.md#no"]
    assert broken_anchors("README.md", "## A `b`, c\n[it](#a-b-c) [no](#no)") == ["#no"]
    assert missing_files("`shop/no.py`") == ["shop/no.py"]
    assert not exists("aiops_lab.no")


def test_the_readme_has_at_most_120_lines() -> None:
    assert len(text_of("README.md").splitlines()) <= 120


def test_the_house_is_drawn_in_at_most_25_lines() -> None:
    drawing = text_of("ARCHITECTURE.md").split("```")[1]
    assert 10 <= len(drawing.strip("\n").splitlines()) <= 25


def test_binder_installs_what_conda_installs() -> None:
    binder, conda = (
        yaml.safe_load(text_of(name)) for name in ("binder/environment.yml", "environment.yml")
    )
    assert binder["dependencies"][:-1] == conda["dependencies"][:-1]
    assert binder["dependencies"][-1] == {"pip": ["-e .."]}


def test_the_citation_names_this_version() -> None:
    import aiops_lab

    assert yaml.safe_load(text_of("CITATION.cff"))["version"] == aiops_lab.__version__
