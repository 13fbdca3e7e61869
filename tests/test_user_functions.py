"""What a user wrote is loaded from a file or module, or refused by name."""

from __future__ import annotations

import math

import pytest

from aiops_lab.user_functions import load_function, load_named, raised


def test_a_function_is_loaded_from_a_file_or_a_module(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def twice(x):\n    return 2 * x\nnumber = 7\n")
    assert load_function("rule", f"{file}:twice")(21) == 42
    assert load_function("rule", "math:sqrt") is math.sqrt
    assert load_named("remedy", f"{file}:number", "name") == (str(file), 7)
    assert load_named("remedy", f"{file}:nothing", "name") == (str(file), None)
    with pytest.raises(ValueError, match="rule must name a function of .*mine.py, got"):
        load_function("rule", f"{file}:number")


@pytest.mark.parametrize("spec", ["math", ":sqrt", "math:not-a-name", ""])
def test_another_form_is_refused(spec):
    with pytest.raises(ValueError, match="rule must be file.py:function or module:function, got"):
        load_function("rule", spec)


def test_what_cannot_be_imported_is_refused_with_the_reason(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("1 / 0")
    with pytest.raises(ValueError, match=r"must be importable \(ZeroDivisionError: division by"):
        load_function("rule", f"{file}:f")


def test_what_raises_is_told_with_its_file_and_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("\n\ndef fail():\n    raise KeyError('x')\n")
    try:
        load_function("rule", f"{file}:fail")()
    except KeyError as error:
        told = raised("rule", error)
    assert str(told) == "rule must not raise, got KeyError: 'x' (mine.py, line 4)"
