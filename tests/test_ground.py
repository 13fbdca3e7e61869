"""The ground to stand on: the environments agree, the public names resolve, the import stays cheap."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import aiops_lab

ROOT = Path(__file__).parents[1]
HEAVY = ("pandas", "numpy", "numba", "matplotlib", "flask", "networkx", "requests", "IPython")


def pip_names() -> tuple[str, set[str]]:
    """Name, and what pyproject.toml asks for: `dependencies`, the extras lab, data and dev, python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {*project["dependencies"], *extras["lab"], *extras["data"], *extras["dev"]} - {
        "aiops-lab[data,lab]"
    }
    return project["name"], wanted | {f"python{project['requires-python']}"}


def conda_names(text: str) -> tuple[str, set[str], list[str]]:
    """Name, conda packages and pip lines of an environment.yml."""
    environment = yaml.safe_load(text)
    rows = environment["dependencies"]
    pip = [line for row in rows if isinstance(row, dict) for line in row["pip"]]
    return environment["name"], {row for row in rows if isinstance(row, str)} - {"pip"}, pip


def test_conda_and_pip_ask_for_the_same_packages() -> None:
    name, packages, pip = conda_names((ROOT / "environment.yml").read_text("utf-8"))
    assert (name, packages) == pip_names()
    assert pip == ["-e ."]


def test_a_bound_that_differs_between_conda_and_pip_is_seen() -> None:
    text = (ROOT / "environment.yml").read_text("utf-8").replace("pandas>=3.0", "pandas>=2.0")
    assert conda_names(text)[1] != pip_names()[1]


@pytest.mark.parametrize("name", aiops_lab.__all__)
def test_every_public_name_resolves_to_something_with_a_docstring(name: str) -> None:
    assert getattr(aiops_lab, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'rank_root_cause'"):
        aiops_lab.rank_root_cause  # noqa: B018


def test_there_are_at_most_30_public_names() -> None:
    assert len(aiops_lab.__all__) <= 30


def loaded_after(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after running `code`."""
    code = f"{code}\nimport sys\nprint(*(m for m in {HEAVY!r} if m in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(run.stdout.split())


def test_import_aiops_lab_loads_nothing_heavy() -> None:
    assert loaded_after("import aiops_lab") == set()


def test_the_first_frame_loads_pandas() -> None:
    assert "pandas" in loaded_after("import aiops_lab; aiops_lab.to_frame([])")


def test_the_map_names_every_module() -> None:
    modules = {file.stem for file in (ROOT / "aiops_lab").glob("*.py")} - {"__init__"}
    assert modules <= set(re.findall(r"^(\w+)  ", aiops_lab.__doc__ or "", re.MULTILINE))


PAPERS = (
    "LICENSE",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Makefile",
    ".ci/run",
)


@pytest.mark.parametrize("file", PAPERS)
def test_the_papers_are_here(file: str) -> None:
    assert (ROOT / file).read_text("utf-8").strip()


def test_the_changelog_knows_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == aiops_lab.__version__
    assert f"## {aiops_lab.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


MACHINE_PATH = re.compile(
    r"(?<![\w.}])/(?:work|root|home|Users|mnt|private|opt)/[\w.]|\b[A-Z]:\\+Users\\", re.ASCII
)
TEXT = {".py", ".md", ".toml", ".yml", ".cfg", ".ipynb", ".json", ".txt", ".csv", ""}


def text_files() -> list[Path]:
    folders = ("aiops_lab", "shop", "tests", "notebooks", "benchmarks", "data", ".ci")
    files = [f for folder in folders for f in (ROOT / folder).rglob("*") if f.is_file()]
    files += [f for f in ROOT.iterdir() if f.is_file()]
    hidden = ("__pycache__", ".ipynb_checkpoints")
    return [f for f in files if f.suffix in TEXT and not any(part in hidden for part in f.parts)]


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    named = [
        f for f in text_files() if MACHINE_PATH.search(f.read_text("utf-8")) and f != Path(__file__)
    ]
    assert named == []


@pytest.mark.parametrize(
    "text", ["open('/home/ann/x')", "file:///mnt/x", r"C:\Users\ann", "cd /opt/x"]
)
def test_a_machine_path_is_seen(text: str) -> None:
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize(
    "text", ["GET /inventory", "data/work/x.csv", "see.org/home/a", "/homepage"]
)
def test_a_route_or_a_relative_path_is_none(text: str) -> None:
    assert not MACHINE_PATH.search(text)
