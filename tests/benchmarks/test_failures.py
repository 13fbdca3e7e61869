"""The page of wrong answers: what is asked again, what is left out, what has become right."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from aiops_lab.results import Suspect
from benchmarks import failures
from benchmarks.failures import Failure, Shown

LEDGER = pd.DataFrame({"account": ["a"], "now": [1.25], "excess": [-12345.6]})


def shown(truth: tuple[str, ...], *suspects: tuple[str, float]) -> Shown:
    return Shown(truth, [Suspect(name, "/x", 1.0, sure) for name, sure in suspects], LEDGER)


def test_where_nothing_is_at_fault_a_suspect_that_nobody_vouches_for_is_right() -> None:
    assert shown(("a",), ("a", 0.1)).is_right
    assert not shown(("a",), ("b", 0.9), ("a", 0.9)).is_right
    assert not shown(("a",)).is_right
    assert shown((), ("a", 0.49)).is_right
    assert not shown((), ("a", 0.5)).is_right


def test_the_page_has_answer_reason_and_accounts_and_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = (
        Failure("One", "Because.", lambda folder: shown(("a",), ("b", 0.9))),
        Failure("Two", "Why?", lambda folder: shown(("a",), ("a", 0.9))),
        failures.FAILURES[0],
    )
    monkeypatch.setattr(failures, "FAILURES", some)
    assert failures.main(["--data", str(tmp_path), "--out", str(tmp_path / "page.md")]) == 0
    text = (tmp_path / "page.md").read_text("utf-8")
    assert "Truth: **a**. Answer: b /x (score 1.000, confidence 0.90).\n\nBecause." in text
    assert "| account | now | excess |\n| --- | --- | --- |\n| a | 1.25 | -12,346 |" in text
    assert "*This answer is right by now.*" in text
    assert "Why?" not in text
    assert text.endswith("boutique-infrastructure-41).\n")


def test_a_scenario_of_the_virtual_shop_is_asked_again_with_its_ledger(tmp_path: Path) -> None:
    asked = failures.in_the_shop("under the noise", tmp_path)
    assert asked.truth == ("payment",)
    assert not asked.is_right
    assert asked.ledger["cost"].abs().is_monotonic_decreasing
    assert list(asked.ledger.columns) == failures.OF_SPANS
