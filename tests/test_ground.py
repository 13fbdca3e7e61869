"""The ground to stand on: environments agree, public names resolve, the import stays cheap."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import aiops_lab
from aiops_lab.checks import EXTRAS, missing_extra

ROOT = Path(__file__).parents[1]
HEAVY = (
    "logging",
    "pandas",
    "numpy",
    "numba",
    "matplotlib",
    "flask",
    "networkx",
    "requests",
    "IPython",
)


def project() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def packages_of(extra: str) -> set[str]:
    """What an extra asks for, its own extras resolved."""
    found = set()
    for line in project()["optional-dependencies"][extra]:
        inner = re.fullmatch(r"aiops-lab\[([\w,]+)\]", line)
        found |= set().union(*map(packages_of, inner[1].split(","))) if inner else {line}
    return found


def pip_names() -> tuple[str, set[str]]:
    """Name, and what pyproject.toml asks for: `dependencies`, the extra dev, python."""
    made = project()
    wanted = {*made["dependencies"], f"python{made['requires-python']}"}
    return made["name"], wanted | packages_of("dev")


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
    text = (ROOT / "environment.yml").read_text("utf-8").replace("pandas>=2.2", "pandas>=2.0")
    assert conda_names(text)[1] != pip_names()[1]


@pytest.mark.parametrize(("package", "extra"), EXTRAS.items())
def test_what_is_named_when_a_package_is_missing_installs_it(package: str, extra: str) -> None:
    assert any(re.match(rf"{package}\b", line) for line in packages_of(extra))


def test_make_installs_extras_that_exist() -> None:
    rows = re.findall(r"EXTRAS := \[([\w,]+)\]", (ROOT / "Makefile").read_text("utf-8"))
    extras = {extra for row in rows for extra in row.split(",")}
    assert {"shop", "lab", "dev", "bench"} <= extras <= set(project()["optional-dependencies"])


@pytest.mark.parametrize("package", ["aiops_lab", "shop"])
def test_type_checkers_read_the_annotations(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert "py.typed" in settings["package-data"][package]


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
    return set(output_of(code).split())


def output_of(code: str) -> str:
    """What a fresh interpreter prints that runs `code`, warnings being errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_import_aiops_lab_loads_nothing_heavy() -> None:
    assert loaded_after("import aiops_lab") == set()


def test_the_first_frame_loads_pandas() -> None:
    assert "pandas" in loaded_after("import aiops_lab; aiops_lab.to_frame([])")


BLOCKED = f"import sys\nsys.modules.update(dict.fromkeys({sorted(EXTRAS)}))\n"

VERDICT = """
import logging
import flask
import aiops_lab as lab
from tests.support.made import Shop, fault

heard = []
logging.getLogger("aiops_lab").addHandler(logging.Handler())
logging.getLogger("aiops_lab").handlers[-1].emit = lambda record: heard.append(record.getMessage())
app = flask.Flask("small")
app.add_url_rule("/", view_func=lambda: "hello")
with lab.SpanStore(":memory:") as store:
    lab.instrument(app, store)
    app.test_client().get("/").get_data()
    store.flush()
    print(len(store.spans()))
spans = Shop(1, fault("/payment", 40, 60, status=500)).run(70)
(incident,) = lab.replay(spans).incidents
print(incident.id, incident.root_cause, incident.verdict)
is_late = spans["start"] > spans["start"].iloc[len(spans) // 2]
print(lab.rank_root_causes(spans[~is_late], spans[is_late]))
print(sum("numba" in message for message in heard), file=sys.stderr)
"""


def test_without_any_extra_recording_and_analysis_give_the_same_verdict() -> None:
    assert "/payment" in output_of(f"import sys\n{VERDICT}")
    assert output_of(BLOCKED + VERDICT) == output_of(f"import sys\n{VERDICT}")


def test_without_the_compiler_one_sentence_says_so_once() -> None:
    much = VERDICT.replace("print(sum(", "lab.ewma([1.0] * 200_000, 5)\n" * 4 + "print(sum(")
    to_stdout = "sys.stderr = sys.stdout"
    assert output_of(f"{BLOCKED}{to_stdout}{much}").endswith("\n1\n")
    assert output_of(f"{BLOCKED}{to_stdout}{VERDICT}").endswith("\n0\n")  # little is soon done
    assert output_of(f"import sys\n{to_stdout}{VERDICT}").endswith("\n0\n")


@pytest.mark.parametrize(
    ("code", "command"),
    [
        ("import aiops_lab.show.plots", ".[plots]"),
        ("from aiops_lab.show.plots.trace import waterfall", ".[plots]"),
        ("from aiops_lab.show.tuner import tuner", ".[plots]"),
        ("import shop; shop.running", ".[shop]"),
        (
            "from aiops_lab.show.prometheus import metrics_page; metrics_page(None)",
            ".[watch]",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_command(code: str, command: str) -> None:
    told = output_of(f"{BLOCKED}try:\n    {code}\nexcept ImportError as error:\n    print(error)")
    assert f'is needed for this and not installed: pip install -e "{command}"' in told


def test_a_command_that_lacks_a_package_says_so_and_ends_with_2() -> None:
    code = "sys.stderr = sys.stdout\nfrom shop.__main__ import main\nprint(main(['check']))"
    told = output_of(BLOCKED + code)
    assert "shop check: cheroot is needed for this and not installed: pip install" in told
    assert told.endswith("\n2\n")


def test_another_missing_module_is_told_as_it_is() -> None:
    error = ModuleNotFoundError("No module named 'x'", name="x")
    assert missing_extra(error) is error


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
    assert project()["version"] == aiops_lab.__version__
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
