"""The mutation check, on a project so small that a reader can count its mutants."""

from __future__ import annotations

import pytest

from benchmarks import mutants
from benchmarks.mutants import CAUGHT, SURVIVED, TIMED_OUT, Result

SOURCE = '''"""A docstring with 3 < 4."""

LIMIT, START = 8, 0
lower = 5


class Knobs:
    z: float = 3.0
    name: str = "5"


def far(x: "int < 7", width=2):
    label = f"{x > 9:>5} é"
    return label, (  # é
        x * 60 / 1e9 > LIMIT
    ), x[-1] == 4 <= 0.5
'''

CODE = """LIMIT = 8


def far(x):
    return x > LIMIT
"""

TEST = """from aiops_lab.detect.tiny import far


def test_far():
    assert far(20)
    assert not far(8)
"""


@pytest.fixture
def project(tmp_path):
    """A project of one module, whose tests notice all mutants but the doubled limit."""
    root = tmp_path / "project"
    files = {
        "aiops_lab/__init__.py": "",
        "aiops_lab/detect/__init__.py": "",
        "aiops_lab/detect/tiny.py": CODE,
        "tests/detect/test_tiny.py": TEST,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def changes(source: str) -> list[tuple[str, int, str]]:
    return [(m.kind, m.line, m.change) for m in mutants.mutants_of("detect.tiny", source)]


def test_numbers_and_comparisons_are_changed_one_at_a_time():
    assert changes(SOURCE) == [
        ("constant", 3, "8 -> 16"),
        ("constant", 3, "8 -> 4"),
        ("constant", 8, "3.0 -> 1.5"),
        ("constant", 8, "3.0 -> 6.0"),
        ("comparison", 15, "> -> <="),
        ("comparison", 16, "== -> !="),
        ("constant", 16, "4 -> 2"),
        ("constant", 16, "4 -> 8"),
        ("comparison", 16, "<= -> >"),
        ("constant", 16, "0.5 -> 0.25"),
        ("constant", 16, "0.5 -> 1.0"),
    ]


def test_places_are_bytes_of_the_file():
    content = SOURCE.encode()
    for mutant in mutants.mutants_of("detect.tiny", SOURCE):
        assert content[mutant.start : mutant.end].decode() == mutant.old
        changed = content[: mutant.start] + mutant.new.encode() + content[mutant.end :]
        compile(changed, "tiny.py", "exec")


def test_modules_are_found_by_wing_and_by_name(project):
    assert mutants.modules_of(project, []) == ["detect.tiny"]
    assert mutants.modules_of(project, ["detect"]) == ["detect.tiny"]
    assert mutants.modules_of(project, ["tiny"]) == ["detect.tiny"]
    with pytest.raises(SystemExit, match=r"must name one of detect\.tiny, got 'huge'"):
        mutants.modules_of(project, ["huge"])


def test_a_module_has_its_own_tests_or_those_of_its_wing(project):
    assert mutants.tests_of(project, "detect.tiny") == ("tests/detect/test_tiny.py",)
    assert mutants.tests_of(project, "detect.other") == ("tests/detect",)


def test_every_table_of_tests_names_files_that_exist():
    known = mutants.modules_of(mutants.ROOT, [])
    for module in mutants.TESTS:
        assert module in known
    for module in known:
        assert all(
            (mutants.ROOT / test).exists() for test in mutants.tests_of(mutants.ROOT, module)
        )


def test_each_mutant_is_tested_in_a_copy(project):
    found = mutants.mutants_of("detect.tiny", CODE)
    results = mutants.run(project, found, jobs=2, timeout_s=30)
    assert {r.mutant.change: r.outcome for r in results} == {
        "8 -> 4": CAUGHT,
        "8 -> 16": SURVIVED,
        "> -> <=": CAUGHT,
    }
    assert (project / "aiops_lab/detect/tiny.py").read_text() == CODE


def test_tests_that_fail_before_any_change_are_told(project):
    (project / "tests/detect/test_tiny.py").write_text("def test(): assert False")
    found = mutants.mutants_of("detect.tiny", CODE)
    with pytest.raises(SystemExit, match="failed before anything was changed"):
        mutants.run(project, found, jobs=1, timeout_s=30)


def test_tests_that_take_too_long_notice_the_mutant(project, tmp_path):
    shop = mutants.Workshop(project, timeout_s=0.01)
    shop.open(tmp_path / "copies", [], 1)
    assert shop.outcome(mutants.mutants_of("detect.tiny", CODE)[0]) == TIMED_OUT
    assert (tmp_path / "copies/0/aiops_lab/detect/tiny.py").read_text() == CODE
    with pytest.raises(SystemExit, match=r"tests/detect/test_tiny.py took more than 0\.01 s"):
        shop.open(tmp_path / "others", ["detect.tiny"], 1)


def test_nothing_starts_after_the_end(project, tmp_path):
    shop = mutants.Workshop(project)
    shop.open(tmp_path / "copies", [], 1)
    shop.close()
    assert shop.outcome(mutants.mutants_of("detect.tiny", CODE)[0]) == TIMED_OUT


# ---- what is told


@pytest.fixture
def results():
    outcomes = {"8 -> 4": CAUGHT, "8 -> 16": SURVIVED, "> -> <=": TIMED_OUT}
    return [Result(m, outcomes[m.change]) for m in mutants.mutants_of("detect.tiny", CODE)]


def test_a_number_counts_as_noticed_when_one_of_its_mutants_is(results):
    assert mutants.tally(results) == {
        "constants": 2,
        "constants_caught": 1,
        "numbers": 1,
        "numbers_caught": 1,
        "comparisons": 1,
        "comparisons_caught": 1,
        "timed_out": 1,
    }


def test_survivors_are_listed_the_accepted_ones_with_their_reason(results, tmp_path):
    first, *_, last, note = mutants.report(results, {}).splitlines()
    assert first == "aiops_lab/detect/tiny.py:1  8 -> 16  | LIMIT = 8"
    assert last.split() == ["all", "|", "1/2", "50%", "|", "1/1", "100%", "|", "1/1", "100%"]
    assert note == "1 caught by the time limit only"

    entry = ["[[survivor]]", 'module = "detect.tiny"', 'line = "LIMIT = 8"', 'change = "8 -> 16"']
    path = tmp_path / "accepted.toml"
    path.write_text("\n".join([*entry, 'reason = "a bound that no input reaches"']))
    reasons = mutants.accepted_reasons(path)
    first = mutants.report(results, reasons).splitlines()[0]
    place = "accepted: aiops_lab/detect/tiny.py:1  8 -> 16"
    assert first == f"{place}  | a bound that no input reaches"
    data = mutants.as_data(results, reasons)
    assert [row["reason"] for row in data["mutants"] if row["outcome"] == SURVIVED] == [
        "a bound that no input reaches"
    ]


def test_every_accepted_survivor_is_still_a_mutant():
    known = set()
    for module in mutants.modules_of(mutants.ROOT, []):
        path = mutants.ROOT / mutants.PACKAGE / f"{module.replace('.', '/')}.py"
        found = mutants.mutants_of(module, path.read_text("utf-8"))
        known |= {(m.module, m.text, m.change) for m in found}
    assert set(mutants.accepted_reasons(mutants.ACCEPTED)) <= known
