"""What lesson 13 reads is what the rules say today, and the reader's own sureness is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiops_lab.evaluate.calibration import calibration
from shop.course import reliability, verdicts
from shop.course.cases import SILENT, LessonCase
from shop.course.guesses import Guess, write_guess
from shop.course.own import LEAST_SURE, own_calibration, sure_guesses

plt = pytest.importorskip("matplotlib.pyplot")

RECORDED = verdicts.read_verdicts(Path(__file__).parents[2] / "data" / "verdicts.csv")


@pytest.fixture(autouse=True)
def _own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("AIOPS_LAB_GUESSES", str(tmp_path / "guesses.json"))
    yield
    plt.close("all")


def test_the_recording_holds_every_run_and_rule_once() -> None:
    pairs = [(seed, rule) for seed in range(verdicts.RUNS) for rule in verdicts.ASKED_RULES]
    assert list(zip(RECORDED["seed"], RECORDED["rule"], strict=True)) == pairs
    kinds = RECORDED.drop_duplicates("seed")["kind"]
    assert kinds.tolist() == [verdicts.drawn_scenario(seed).name for seed in range(verdicts.RUNS)]


def test_a_run_that_is_played_anew_says_what_was_recorded() -> None:
    deployment, errors = 3, 0
    seeds = [errors, deployment]
    again = verdicts.answered(seeds).round(verdicts.DECIMALS)
    recorded = RECORDED[RECORDED["seed"].isin(seeds)].reset_index(drop=True)
    assert set(recorded["kind"]) == {"errors", "deployment"}
    pd.testing.assert_frame_equal(again, recorded, check_dtype=False, atol=1e-6)


def test_a_deployment_is_no_fault_and_its_right_answer_is_silence() -> None:
    scenario = verdicts.drawn_scenario(3)
    assert (scenario.name, scenario.faults, scenario.causes) == ("deployment", (), ())
    assert not RECORDED.loc[RECORDED["kind"] == "deployment", "right"].eq(1).any()
    assert verdicts.drawn_scenario(3, deployments=0).causes


def test_a_rule_that_names_nobody_is_silent() -> None:
    case = verdicts.played(verdicts.drawn_scenario(0), 0)
    table = verdicts.verdicts(LessonCase(case.usual, case.now.head(0), SILENT), ["first by end"])
    assert table.to_dict("records") == [{"rule": "first by end", "by": "silence"}]


# ---- the reader's own


def guess(sure: float | None, right: bool, n: int) -> None:
    write_guess(f"00.{n}", Guess("a", right, "", sure))


def test_only_guesses_with_a_probability_count() -> None:
    guess(0.9, True, 1)
    guess(None, False, 2)
    assert sure_guesses().to_dict("index") == {"00.1": {"said": 0.9, "right": True}}


def test_few_guesses_draw_nothing() -> None:
    for n in range(LEAST_SURE - 1):
        guess(0.7, True, n)
    assert own_calibration().startswith(f"{LEAST_SURE - 1} of your guesses say how sure you were")
    assert plt.get_fignums() == []


def test_enough_guesses_are_drawn_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("shop.course.drawing.show", shown.append)
    for n in range(LEAST_SURE):
        guess(0.9, n < 3, n)
    told = own_calibration().splitlines()
    assert told[0] == "5 guesses: 90% sure on average, 60% right (too sure)."
    assert told[1].startswith("Calibration error 0.30; a perfect reader would show 0.1")
    assert told[2] == f"Brier score {(3 * 0.01 + 2 * 0.81) / 5:.2f}; always saying 60%: 0.24."
    assert len(shown) == 1


# ---- figures


def test_a_reliability_diagram_has_a_point_a_bin_and_its_numbers_below() -> None:
    found = calibration([0.9, 0.9, 0.2], [True, False, False])
    reliability.diagrams({"one": {"all": found}, "two": {"all": found, "some": found}})
    one, two = plt.gcf().axes
    assert [ax.get_title("left") for ax in (one, two)] == ["one", "two"]
    labels = [text.get_text() for text in two.get_legend().get_texts()]
    assert labels[1] == "all: 3 answers, error 0.33, of a perfect model 0.22"
    assert [container.lines[0].get_linestyle() for container in one.containers] == ["None"]
    assert [text.get_text() for text in one.texts] == ["1", "2"]
    assert (one.get_xlabel(), "moved apart" in two.get_xlabel()) == (
        "how sure it said it was",
        True,
    )


def test_answers_and_curves_are_drawn_over_the_score() -> None:
    scores, kinds = [5.0, 2.0, 2.0], ["deployment", "slow", "slow"]
    answers = pd.DataFrame({"score": scores, "right": [0, 1, 1], "kind": kinds})
    reliability.curves_and_answers(answers, {"flat": lambda scores, shares: 0 * scores + 0.5})
    drawn = {line.get_label(): line for line in plt.gca().lines}
    assert len(drawn["flat"].get_xdata()) == 100
    assert drawn["deployment"].get_xdata().tolist() == [5.0]
    assert len(set(drawn["slow"].get_ydata())) == 2  # neither covers the other
    assert min(drawn["slow"].get_ydata()) > 1  # beside the axis of probability
    assert max(drawn["deployment"].get_ydata()) < 0


def test_each_rule_has_a_line_of_risks() -> None:
    curve = pd.DataFrame({"answered": [1, 2], "coverage": [0.5, 1.0], "risk": [0.0, 0.5]})
    many = pd.concat([curve] * 2)
    reliability.risks({"a": curve, "b": many})
    lines = plt.gca().lines
    assert [text.get_text() for text in plt.gca().texts] == ["a: 1 at once"]
    assert [line.get_label() for line in lines] == ["a", "b"]
    assert np.array_equal(lines[0].get_ydata(), [0.0, 0.5])
