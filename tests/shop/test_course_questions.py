"""Each right answer is right, and each wrong one shows the misconception that it is known for."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from shop.course.questions import QUESTIONS_FILE, Question, canonical, mark, question, questions

ANSWERS = tomllib.loads(Path(__file__).with_name("course_answers.toml").read_text("utf-8"))


def test_the_answers_that_are_tested_are_those_of_all_questions() -> None:
    assert list(ANSWERS) == list(questions())


def test_what_is_right_is_right() -> None:
    for name, answers in ANSWERS.items():
        for answer in answers["right"]:
            assert mark(question(name), answer).right, (name, answer)


def test_each_wrong_answer_shows_its_misconception() -> None:
    for name, answers in ANSWERS.items():
        for wrong in answers.get("wrong", []):
            for answer in wrong["answers"]:
                found = mark(question(name), answer)
                assert not found.right, (name, answer)
                assert found.misconception == wrong["name"], (name, answer)
                assert found.hint, (name, answer)


def test_every_wrong_choice_shows_a_misconception() -> None:
    for name in ANSWERS:
        asked = question(name)
        marks = [mark(asked, letter) for letter in asked.lettered]
        assert all(m.right or m.misconception for m in marks), name
        assert [m.right for m in marks].count(True) == (1 if marks else 0), name


def test_no_digest_stands_for_two_things() -> None:
    for name in ANSWERS:
        asked = question(name)
        digests = [*asked.right, *(d for wrong in asked.wrong for d in wrong.digests)]
        assert len(digests) == len(set(digests)), name


def test_neither_the_file_of_questions_nor_a_lesson_holds_an_answer() -> None:
    for line in QUESTIONS_FILE.read_text("utf-8").splitlines():
        if line.startswith(("right", "digests")):
            assert re.fullmatch(r'\w+ = \[("[0-9a-f]{16}"(, )?)+\]', line)


def test_an_answer_that_is_wrong_in_no_known_way_is_only_wrong() -> None:
    assert mark(question("00.1"), 17) == (False, "", "")


NUMBER = Question("n", "How many?", ())
SEVERAL = Question("s", "Which?", (), several=True)
CHOICE = Question("c", "Which?", (), choices=("the call", "the callee"))


def test_what_means_the_same_is_equal() -> None:
    assert {canonical(NUMBER, a) for a in (5, 5.0, "5", " 5.2 ", np.int64(5), np.float64(4.9))} == {
        "5"
    }
    assert canonical(NUMBER, -0.2) == "0"
    assert canonical(NUMBER, " `/Payment` ") == "/payment"
    lists = ([1, 2], (1, 2), "1, 2", "[1,2]", "1 2", np.array([1, 2]))
    assert {canonical(SEVERAL, a) for a in lists} == {"1, 2"}
    assert canonical(SEVERAL, "A b, c") == "a b, c"
    assert canonical(SEVERAL, {"b", "a"}) == "a, b"
    assert {canonical(CHOICE, a) for a in ("b", "B", "(b)", "The  callee")} == {"b"}


def test_decimals_say_how_much_is_compared() -> None:
    share = NUMBER._replace(decimals=2)
    assert canonical(share, 0.754) == canonical(share, "0.75") == "0.75"
    assert canonical(share, 0.756) == "0.76"


@pytest.mark.parametrize(
    ("asked", "answer", "message"),
    [
        (CHOICE, "c", "answer must be one of a, b, got 'c'"),
        (NUMBER, [1], "answer must be a number or text, got"),
        (SEVERAL, 1, "answer must be a list, got 1"),
        (SEVERAL._replace(length=2), [1], "answer must be a list of 2 numbers, got [1]"),
        (SEVERAL._replace(length=2), "1, x", "answer must be a list of 2 numbers, got '1, x'"),
    ],
)
def test_another_kind_of_answer_is_refused(asked: Question, answer: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        canonical(asked, answer)


def test_a_question_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"question must be one of 00\.1, .*got '00\.99'"):
        question("00.99")


@pytest.mark.parametrize("name", [name for name, asked in questions().items() if asked.example])
def test_an_example_can_be_answered_and_is_not_right(name: str) -> None:
    asked = question(name)
    assert not mark(asked, ast.literal_eval(asked.example)).right


def test_who_asks_for_a_name_gives_a_name_as_example() -> None:
    for name, answers in ANSWERS.items():
        asked = question(name)
        is_text = not asked.choices and not re.match(r"[-\d]", str(answers["right"][0]))
        assert asked.example or not is_text, name
