"""The figures of `benchmarks.house`, each on a source so small that a reader can count."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

from benchmarks import _house_replay, house
from benchmarks.house import Source

COUNTED = '''"""One docstring line."""

import os  # 1

# a comment


def f(a, b):  # 2
    """Two docstring lines,

    and a blank one between them.
    """
    # a comment
    return a + b  # 3
'''


def source(text: str, name: str = "aiops_lab.m") -> Source:
    return Source(name, text)


def values(figures: list[house.Figure]) -> list[float | None]:
    return [figure.value for figure in figures]


# ---- lines and nodes


def test_a_code_line_is_not_blank_and_no_comment_and_in_no_docstring() -> None:
    assert house.code_lines(source(COUNTED)) == [3, 8, 14]


def test_the_hook_also_subtracts_blank_lines_of_docstrings() -> None:
    assert house.hook_lines(source(COUNTED)) == 3 - 1
    assert house.hook_lines(source("class A:\n    ...\n")) == 1
    assert house.hook_lines(source("")) == 1


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a + b", 3),  # the sum and two names
        ("f(a, b=1)", 4),  # the call, f, a and 1: a keyword is no expression
        ("x: int = 1", 3),
        ("import os", 0),
    ],
)
def test_nodes_are_the_expressions_of_the_tree(text: str, count: int) -> None:
    assert house.nodes(source(text)) == count


def test_size_gives_files_lines_nodes_and_their_ratio() -> None:
    modules = [source("a + b\nc"), source("")]
    assert values(house.size("both", modules)) == [2, 2, 4, 2.0, 1.33]  # an empty file has a line


def test_the_longest_file_and_line_are_named() -> None:
    modules = [source("x = 1\n" * 351, "long"), source("y = 1  # " + "-" * 92 + "\n", "wide")]
    files, lines = house.file_lengths(modules), house.line_lengths(modules)
    assert (values(files), files[0].where) == ([351, 1], ("long",))
    assert (values(lines), lines[0].where) == ([101, 1], ("wide:1",))


# ---- functions and statements


def test_a_function_is_as_long_as_its_code() -> None:
    one = "def f():\n    return 1\n"
    long = '@cache\ndef g(\n    a,\n):\n    """Doc."""\n\n    # why\n    return a\n'
    assert values(house.function_lengths([source(one * 9 + long)])) == [2, 2, 4]
    assert values(house.function_lengths([source(one * 8 + long * 2)])) == [2, 4, 4]


@pytest.mark.parametrize(
    ("signature", "count"),
    [
        ("a, b, c, d, e, f, g", 7),
        ("a, b, /, c, d, *e", 5),
        ("self, *, b, c, d, e, f, g", 1),
        ("**a", 0),
    ],
)
def test_parameters_after_a_star_are_not_counted(signature: str, count: int) -> None:
    module = source(f"def many({signature}): pass")
    (function,) = module.tree.body
    assert isinstance(function, ast.FunctionDef)
    assert house.parameters(function) == count
    assert len(list(house.many_parameters([module]))) == (count > 6)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("x = 1", 0),
        ("x = [a for a in b for c in a]", 1),
        ("x = [{c for c in a} for a in b]", 2),
        ("x = f(a for a in b), {a: 1 for a in b}", 2),
        ("def f():\n    x = [a for a in b]\n    y = [a for a in b]", 0),
        ("for a in [b for b in c]:\n    x = [a for a in b]", 1),
    ],
)
def test_comprehensions_are_counted_by_statement(text: str, count: int) -> None:
    module = source(text)
    assert house.comprehensions(module.tree.body[0]) == count
    assert len(list(house.crowded_expressions([module]))) == (count > 1)


# ---- names and constants


def test_a_name_defined_in_two_modules_has_two_meanings() -> None:
    first = source("import os\nfrom z import Case\ndef main(): ...\nclass Books: ...\n_A = 1", "a")
    second = source("import os\nCase = 1\ndef main(): ...\nBooks, C = 1, 2\n_A = 1", "b")
    assert list(house.two_meanings([first, second])) == ["Books: a, b"]
    assert list(house.two_meanings([first])) == []


def test_numbers_at_module_level_are_constants() -> None:
    text = """
NOISE = 3.0
_A, B = 1, -2
WIDE = 1 << 20
LAST = WIDE - 1
LEAST: dict[str, float] = {"x": 0.5}
lower = 1
NAME = "x"
FLAG = True
MIXED = (1, "x")
MADE = int(3)
class C:
    INSIDE = 1
"""
    found = ["NOISE", "_A", "B", "WIDE", "LAST", "LEAST"]
    assert list(house.loose_constants([source(text, "rca")])) == [f"rca.{name}" for name in found]


@pytest.mark.parametrize("name", ["aiops_lab.show.plots", "aiops_lab.show.plots.style"])
def test_modules_that_only_show_hold_no_constants_of_the_analysis(name: str) -> None:
    assert list(house.loose_constants([source("A = 1", name)])) == []


# ---- encodings


def test_encodings_are_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "ENCODINGS", ("EncodedSpans", "_served", "Calls"))
    module = source(
        "class EncodedSpans: ...\ndef _served(): ...\nCalls = int\nclass Other: ...", "t"
    )
    assert list(house.encodings([module])) == ["t.EncodedSpans", "t._served"]


@pytest.mark.parametrize(
    ("call", "coded"),
    [
        ('pd.factorize(frame["service"])', True),
        ('_numbers(frame["trace_id"][lost], x)', True),
        ('np.unique(frame["kind"])', False),
        ('print(frame["service"])', False),
        ("pd.factorize(pair)", False),
    ],
)
def test_a_function_that_turns_a_column_into_integers_is_an_encoder(call: str, coded: bool) -> None:
    assert len(list(house.encoders([source(f"def f(frame):\n    return {call}")]))) == coded


# ---- one replay

OUTER = """
import house_inner

class Pipeline:
    def verdict(self):
        return sorted([1], key=house_inner.same)  # 1 crossing: C code in between

def parsed():
    return house_inner.parse_ids()  # 2

def run():
    parsed()
    total = sum(house_inner.numbers())  # 3: two numbers, one call
    return total + own() + house_inner.Point(1).x + Pipeline().verdict()[0]  # the class: 0

def own():
    return 1
"""
INNER = """
from dataclasses import dataclass

@dataclass
class Point:
    x: int

def same(x): return x

def numbers():
    yield 1
    yield 2

def parse_ids(): return 1
"""


def test_crossings_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comments in the two sources count them."""
    (tmp_path / "house_outer.py").write_text(OUTER)
    (tmp_path / "house_inner.py").write_text(INNER)
    monkeypatch.syspath_prepend(tmp_path)
    outer = importlib.import_module("house_outer")
    homes = {str(path.resolve()): path.stem for path in tmp_path.glob("*.py")}
    watch, before = _house_replay.Watch(homes), sys.getprofile()
    sys.setprofile(watch)
    try:
        outer.run()
    finally:
        sys.setprofile(before)
    assert values(_house_replay.crossings(watch)) == [3, 1]
    assert watch.modules[True] == {"house_outer", "house_inner"}
    assert values([_house_replay.id_parses(watch)]) == [1]
    assert watch.parses == ["parsed"]


def test_without_an_explanation_its_figures_are_unknown() -> None:
    watch = _house_replay.Watch({})
    assert values(_house_replay.crossings(watch)) == [0, None]
    assert values(_house_replay.modules_on_the_way(watch)) == [0, None]


# ---- the table


def test_the_table_has_a_line_a_figure() -> None:
    figures = [house.Figure("long name", 1000, 5, ("a:1",)), house.Figure("x", None)]
    assert house.table(figures).splitlines()[1:] == [
        "long name |    1,000 | <= 5",
        "x         |        - |",
    ]
    assert "    a:1" in house.table(figures, places=True).splitlines()


def test_names_of_the_tables_that_are_gone_are_noted() -> None:
    known = "class EncodedSpans: ..."
    assert not any(note.startswith("EncodedSpans ") for note in house.notes([source(known)]))
    assert any(note.startswith("EncodedSpans ") for note in house.notes([source("")]))


def test_modules_are_found_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "p" / "wing").mkdir(parents=True)
    for file in ("__init__.py", "a.py", "wing/__init__.py", "wing/b.py"):
        (tmp_path / "p" / file).write_text("")
    names = [module.name for module in house.sources("p", tmp_path)]
    assert sorted(names) == ["p", "p.a", "p.wing", "p.wing.b"]
