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


def test_what_decided_stands_before_the_ledger_that_says_nothing() -> None:
    row = {"kind": "shape", "account": "/x itself", "what": ""}
    parts = {"n": 22.0, "k": 15.0, "usual_n": 463.0, "usual_k": 0.0, "share": 0.3}
    suspect = Suspect("b", "/x", 0.1, 0.9, evidence=(row | parts,), by="deviations")
    asked = Shown(("a",), [suspect], LEDGER, failures._decided([suspect]))
    failure = Failure("One", "Because.", lambda folder: asked)
    decided, ledger, accounts = list(failures._told(failure, asked))[-3:]
    assert decided.endswith("| rare set of calls | /x itself | 0 of 463 | 15 of 22 | 0.3 |")
    assert ledger == "The ledger, which says nothing here:"
    assert accounts.startswith("| account | now |")


def test_accounts_of_metrics_add_up_and_failures_are_called_so() -> None:
    row = {"node": "b", "metric": "availability", "excess": 9.0, "passed_on": 2.0}
    row |= {"bridged": 3.0, "own": 4.0}
    (shown_row,) = failures._of_metrics([Suspect("b", "", 1.0, evidence=(row,))]).to_dict("records")
    assert shown_row["metric"] == "failures (share)"
    gone = shown_row["passed_on"] + shown_row["bridged"]
    assert shown_row["own"] == shown_row["excess"] - gone


def test_a_scenario_of_the_virtual_shop_is_asked_again_with_its_ledger(tmp_path: Path) -> None:
    asked = failures.in_the_shop("under the noise", tmp_path)
    assert asked.truth == ("payment",)
    assert not asked.is_right
    assert asked.ledger["cost"].abs().is_monotonic_decreasing
    assert list(asked.ledger.columns) == failures.OF_SPANS
