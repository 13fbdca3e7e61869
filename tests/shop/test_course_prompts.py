"""Guesses are stored once, told about at once, and counted at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shop.course import check_answer, my_guesses, predict, prompts
from shop.course.prompts import Reply
from shop.course.questions import question


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "guesses.json"
    monkeypatch.setenv("AIOPS_LAB_GUESSES", str(path))
    return path


def test_without_a_guess_the_question_is_shown_and_nothing_stored(file: Path) -> None:
    shown = predict("00.3", ...)
    assert shown.right is None
    assert repr(shown).splitlines()[:3] == [
        "00.3: The clock of /payment is 30 ms ahead. Whose self time comes out wrong?",
        "  a) /payment",
        "  b) → /payment, the call to it",
    ]
    assert 'predict("00.3", "a", sure=0.7)' in shown
    assert not file.exists()


def test_a_right_guess_is_told_and_stored(file: Path) -> None:
    assert predict("00.1", 5, sure=0.8).right is True
    assert json.loads(file.read_text())["00.1"] == {
        "answer": "5",
        "right": True,
        "misconception": "",
        "sure": 0.8,
    }


def test_a_wrong_guess_names_the_misconception_and_not_the_answer(file: Path) -> None:
    told = predict("00.1", 3)
    assert told.right is False
    assert "requests only" in told
    assert "5" not in told
    assert predict("00.1", 17) == prompts.WRONG


def test_the_first_guess_counts(file: Path) -> None:
    predict("00.1", 3)
    assert predict("00.1", 5).right is True
    shown = predict("00.1", ...)
    assert shown.right is False
    assert "Your guess was: 3 (requests only)." in shown


def test_an_answer_is_checked_and_not_stored(file: Path) -> None:
    assert check_answer("00.6", [15, 5, 45, 6, 24]).right is True
    told = check_answer("00.6", [-15, 5, 45, 6, 24])
    assert told.right is False
    assert "summed overlapping children" in told
    assert not file.exists()


def test_without_an_answer_the_question_is_shown() -> None:
    shown = check_answer("08.19", ...)
    assert shown.right is None
    assert shown.splitlines() == [
        "08.19: What ends the failure?",
        "  a) the end of the trigger at second 45",
        "  b) time: it wears off",
        "  c) a /checkout that does not try again",
        'Answer in place of the dots, for example: check_answer("08.19", "a")',
    ]


@pytest.mark.parametrize("asks", [predict, check_answer])
@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("08.19", "the retries", "answer must be one of a, b, c, got 'the retries'"),
        ("08.17", [1015, 1025], "answer must be a number or text, got [1015, 1025]"),
        ("00.6", 15, "answer must be a list, got 15"),
    ],
)
def test_an_answer_of_another_kind_gets_one_line_and_is_not_stored(
    file: Path, asks: Callable[[str, object], Reply], name: str, answer: object, says: str
) -> None:
    told = asks(name, answer)
    assert (told, told.right) == (says, None)
    assert not file.exists()


def test_a_wrong_answer_does_not_send_on_to_a_next_cell() -> None:
    assert check_answer("08.17", 17) == prompts.WRONG_ANSWER
    assert "next cell" not in prompts.WRONG_ANSWER


def test_the_reader_sees_how_good_and_how_sure_the_guesses_were() -> None:
    assert "No guesses" in my_guesses("00")
    predict("00.1", 5, sure=0.9)
    predict("00.3", "a", sure=0.7)
    predict("00.4", 17)
    predict("01.1", 1)
    lines = my_guesses("00").splitlines()
    assert lines[0].startswith("1 of 3 guesses were right")
    assert lines[1:4] == [
        "00.1  5: right",
        "00.3  a: a wrong clock errs about itself",
        "00.4  17: not right",
    ]
    assert lines[4] == "You were 80% sure on average, and 50% of those were right."
    assert my_guesses().startswith("1 of 4")


def test_guesses_are_listed_in_the_order_of_the_questions() -> None:
    for name in ("08.10", "08.2", "00.1"):
        predict(name, 498)
    listed = [line.split()[0] for line in my_guesses().splitlines()[1:]]
    assert listed == ["00.1", "08.2", "08.10"]


def test_no_opinion_is_no_calibration() -> None:
    predict("00.1", 5)
    assert "sure" not in my_guesses("00")


@pytest.mark.parametrize("sure", [-0.1, 1.1])
def test_a_probability_is_between_0_and_1(sure: float) -> None:
    with pytest.raises(ValueError, match="sure must be a number between 0 and 1"):
        predict("00.1", 5, sure=sure)


def test_a_file_that_holds_no_guesses_is_named(file: Path) -> None:
    file.write_text("[1]")
    with pytest.raises(ValueError, match="must hold guesses; delete it to start anew"):
        predict("00.1", ...)


def test_the_form_takes_a_choice_once(file: Path) -> None:
    form = prompts.Prompt(question("00.3"))
    assert repr(form) == str(predict("00.3", ...))
    assert form._repr_mimebundle_()["text/plain"] == repr(form)
    form.button.click()
    assert "must be chosen first" in form.told.value
    assert not file.exists()
    form.answer.value = "→ /payment, the call to it"
    form.sure.value = "90 %"
    form.button.click()
    assert (form.right, form.told.value) == (True, prompts.RIGHT)
    assert form.button.disabled
    assert json.loads(file.read_text())["00.3"]["sure"] == 0.9


def test_the_form_takes_a_number(file: Path) -> None:
    form = prompts.Prompt(question("00.1"))
    form.button.click()
    assert "must be typed first" in form.told.value
    form.answer.value = "3"
    form.button.click()
    assert form.right is False
    assert "requests only" in form.told.value
