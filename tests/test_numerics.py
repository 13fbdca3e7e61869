"""Little work is done as plain Python, much by the compiler, and both say the same to the bit."""

import math
import os
from importlib.util import module_from_spec, spec_from_file_location
from unittest.mock import ANY

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab import numerics
from aiops_lab.numerics import compiled_after, compiled_part, log_gamma
from tests.support.made import Shop, fault

MUCH = 10**9


def test_a_function_is_plain_until_it_has_taken_so_many_values(monkeypatch):
    monkeypatch.setattr(numerics, "_njit", lambda function: lambda *arguments: "compiled")

    @compiled_after(10)
    def kernel(array, pair, number):
        return "plain"

    said = [kernel(np.zeros(2), (np.zeros(1), 5), 7) for _ in range(4)]
    assert said == ["plain", "plain", "plain", "compiled"]
    assert kernel(np.zeros(0), (), 7) == "compiled"


def test_until_a_function_is_compiled_another_may_do_the_same_faster(monkeypatch):
    monkeypatch.setattr(numerics, "_njit", lambda function: lambda array: "compiled")
    kernel = compiled_after(10, plainly=lambda array: "plainly")(lambda array: "plain")
    assert [kernel(np.zeros(6)) for _ in range(2)] == ["plainly", "compiled"]


def test_one_call_with_much_is_compiled_at_once(monkeypatch):
    monkeypatch.setattr(numerics, "_njit", lambda function: lambda *arguments: "compiled")
    assert compiled_after(10)(lambda array: array.size)(np.zeros(10)) == "compiled"
    assert compiled_after(10)(lambda array: array.size)(np.zeros(9)) == 9


def test_what_an_earlier_run_has_compiled_is_used_after_a_fifth_of_the_work(tmp_path):
    from numba import njit

    for kept, said in ((False, None), (True, "compiled")):
        kernel = made_kernel(tmp_path / "kernels.py")
        assert list(tmp_path.rglob("*.nbi")) == ([ANY] if kept else [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(numerics, "_njit", lambda function: lambda *arguments: "compiled")
            assert [compiled_after(10)(kernel)(np.zeros(1)) for _ in range(2)] == [None, None]
            assert compiled_after(10)(kernel)(np.zeros(2)) == said
        njit(cache=True)(kernel)(np.zeros(1))


def test_what_was_compiled_before_another_module_changed_is_compiled_anew(tmp_path, monkeypatch):
    kernel = made_kernel(tmp_path / "kernels.py")
    part = made_kernel(tmp_path / "parts.py")
    monkeypatch.setattr(numerics, "_modules", set())
    compiled_after(10)(kernel)
    compiled_part(part)
    (tmp_path / "__pycache__").mkdir(exist_ok=True)
    index = tmp_path / "__pycache__" / "kernels.kernel-1.py3.nbi"
    for changed_s, is_kept in ((-10, True), (10, False)):
        index.touch()
        now = index.stat().st_mtime
        os.utime(tmp_path / "kernels.py", (now - 10, now - 10))
        os.utime(tmp_path / "parts.py", (now + changed_s, now + changed_s))
        numerics._forget_older(kernel)
        assert index.exists() == is_kept


def made_kernel(path):
    """Return a function of a module that has been written, if it was not there, and loaded."""
    if not path.exists():
        path.write_text("def kernel(array):\n    return None\n")
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.kernel


def test_log_gamma_is_that_of_the_standard_library():
    for x in (0.25, 0.5, 1.0, 2.0, 3.0, 7.5, 19.9, 20.0, 20.1, 1e3, 1e6):
        assert log_gamma(x) == pytest.approx(math.lgamma(x), rel=1e-13, abs=1e-13)


def both_ways(work, monkeypatch):
    """Return what some work says compiled, and as plain Python."""
    with monkeypatch.context() as patch:
        patch.setattr(numerics, "_values_in", lambda arguments: MUCH)
        fast = work()
    with monkeypatch.context() as patch:
        patch.setattr(numerics, "_njit", lambda function: function)
        return fast, work()


@pytest.mark.parametrize("how", [{"status": 500, "rate": 0.5}, {"added_ms": 300}])
def test_a_replay_says_the_same_to_the_bit(how, monkeypatch):
    frame = Shop(5, fault("/payment", 60, 90, **how)).run(110)
    fast, plain = both_ways(lambda: lab.replay(frame), monkeypatch)
    pd.testing.assert_frame_equal(fast.windows, plain.windows, check_exact=True)
    assert len(fast.incidents) == 1
    assert repr(fast.incidents[0].explain()) == repr(plain.incidents[0].explain())


@pytest.mark.parametrize("method", ["envelope", "matrix-profile"])
def test_scores_of_series_are_the_same_to_the_bit(method, monkeypatch):
    values = np.sin(np.arange(1_500) / 4) + np.random.default_rng(0).normal(0, 0.05, 1_500)
    values[1_400:1_410] += 5.0
    fast, plain = both_ways(lambda: lab.anomaly_scores(values, method=method), monkeypatch)
    assert fast.any()
    np.testing.assert_array_equal(fast, plain)


def test_where_no_folder_can_be_written_functions_are_compiled_none_the_less(monkeypatch):
    caching = pytest.importorskip("numba.core.caching")
    for kind in vars(caching).values():
        if hasattr(kind, "_locator_classes"):
            monkeypatch.setattr(kind, "_locator_classes", [])

    @compiled_after(0)
    def double(values):
        return 2 * values.sum()

    assert double(np.arange(4)) == 12


def test_numbers_are_mixed_as_splitmix64_does():
    """The first three numbers of its stream that begins at 0."""
    golden = 0x9E3779B97F4A7C15
    keys = np.array([0, golden, 2 * golden % 2**64], dtype=np.uint64)
    assert numerics.mixed(keys).tolist() == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]
