"""Cases of the lessons: what is hidden is gone, who waits gets a bar, figures hold the rows."""

from __future__ import annotations

import io
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import aiops_lab as lab
import shop
from aiops_lab.progress import Bar
from shop.course import cases, figures
from shop.course.drawing import drawn_spans, waterfalls
from shop.course.waiting import WorkingSign, somebody_waits, steps

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def slow() -> cases.LessonCase:
    fault = lab.Fault("delay", "payment", "/payment", start_s=20, end_s=30, duration_ms=300)
    return cases.played(shop.Scenario("slow", (("payment", "/payment"),), (fault,), seconds=30))


def test_of_a_service_without_spans_the_calls_stay_unless_they_are_lost_too(
    slow: cases.LessonCase,
) -> None:
    silent, lost = (cases.without(slow, "payment", calls) for calls in (True, False))
    assert "payment" not in {*silent.now["service"], *silent.usual.frame["service"]}
    assert "payment" in set(silent.now["peer"])
    assert "payment" not in {*lost.now["peer"], *lost.usual.frame["peer"]}
    assert slow.cause == silent.cause == "/payment"


def test_rules_are_asked_whom_they_name_first(slow: cases.LessonCase) -> None:
    assert cases.answers(slow, ["ledger", "deepest error"]) == {
        "ledger": "/payment",
        "deepest error": cases.SILENT,
    }
    calm = cases.played(shop.Scenario("calm", seconds=30, window=(20, 30)))
    assert calm.cause == cases.SILENT


def test_the_table_ticks_what_is_right() -> None:
    named = {"one": {"a": "/x", "b": "/y"}, "two": {"a": "/z", "b": cases.SILENT}}
    table = cases.ticked(named, {"one": "/x", "two": "/y"})
    assert table.loc["a"].tolist() == ["/x ✓", "/z ✗", 1]
    assert table.loc["b"].tolist() == ["/y ✗", "silent", 0]


def test_a_silence_that_is_right_is_counted() -> None:
    table = cases.ticked({"calm": {"a": cases.SILENT}}, {"calm": cases.SILENT})
    assert table.loc["a"].tolist() == ["silent", 1]


def test_the_table_of_verdicts_grows_by_a_case(slow: cases.LessonCase) -> None:
    told = cases.Verdicts()
    told.ask("first", slow, ["ledger"])
    table = told.ask("second", slow, ["deepest error", "ledger"])
    assert table.loc["ledger"].tolist() == ["/payment ✓", "/payment ✓"]
    assert table.loc["deepest error"].tolist() == ["", "silent"]
    assert table.index[-1] == "ledger"  # in the order of the rules
    assert told.said["first"] == {"ledger": "/payment"}


def test_the_excess_of_a_case_is_in_the_account_of_its_cause(slow: cases.LessonCase) -> None:
    excess = cases.accounts(slow, "/checkout")["excess"]
    assert excess.idxmax() == "/payment own time"
    few = cases.accounts(slow, "/checkout", slow.now.head(40))
    assert few["now"].sum() != pytest.approx(cases.accounts(slow, "/checkout")["now"].sum())


def test_a_failed_request_is_whole() -> None:
    case = cases.recording("data/skew.csv.gz")
    failed = cases.failed_request(case, "/checkout")
    assert failed["trace_id"].nunique() == 1
    assert failed["status"].iloc[0] == 502
    other = cases.failed_request(case, "/checkout", 1)
    assert other["trace_id"].iloc[0] != failed["trace_id"].iloc[0]


def test_an_edge_gap_is_the_call_less_what_was_called() -> None:
    spans = drawn_spans(
        [
            ("a", None, "server", "/order", 0, 100),
            ("b", "a", "client", "/price", 10, 60),
            ("c", "b", "server", "/price", 25, 45),
        ]
    )
    assert cases.edge_gaps(spans).to_dict() == {"/order → /price": 30.0}


def test_both_ledgers_add_up_to_the_same_total() -> None:
    rows = pd.DataFrame({"account": ["a", "b"], "excess": [1.0, 9.0], "reassigned": [-8.0, 8.0]})
    figures.two_ledgers(rows, "/order")
    above, below = plt.gcf().axes
    assert [ax.patches[-1].get_width() for ax in (above, below)] == [10.0, 10.0]
    assert [ax.patches[0].get_width() for ax in (above, below)] == [9.0, 9.0]
    assert above.get_title("left") == "as the spans say"
    plt.close()


def test_both_ledgers_show_the_same_accounts() -> None:
    rows = pd.DataFrame({"account": list("abcde"), "excess": [0.0, 9, 3, 2, 1]})
    rows["reassigned"] = [-9.0, 9, 0, 0, 0]  # a is the largest as the spans say, and then 0
    figures.two_ledgers(rows, "/order")
    names = [{label.get_text() for label in ax.get_yticklabels()} for ax in plt.gcf().axes]
    assert names == [{"a", "b", "c", "2 others", "total at /order"}] * 2
    plt.close()


def test_the_axis_of_several_traces_has_room_for_the_longest() -> None:
    lasted = (200, 100)
    drawn = [drawn_spans([("a", None, "server", "/a", 0, ms)]) for ms in lasted]
    above, below = waterfalls({"long": (drawn[0], "t"), "short": (drawn[1], "t")})
    assert above.get_xlim() == below.get_xlim() == (0, pytest.approx(1.22 * 200))
    plt.close()


def test_gaps_are_drawn_edge_by_edge() -> None:
    figures.gaps(pd.DataFrame({"usual": [2.0, 2.0], "now": [2.0, 400.0]}, index=["a → b", "a → c"]))
    axes = plt.gca()
    assert [line.get_label() for line in axes.lines] == ["usual", "now"]
    assert [text.get_text().strip() for text in axes.texts] == ["400 ms"]
    plt.close()


# ---- waiting


@pytest.mark.parametrize("asks", [True, False])
def test_a_person_gets_a_bar_and_a_program_none(
    asks: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {"content": {"allow_stdin": asks}}
    shell = SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda: request))
    ipython: Any = SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert somebody_waits() is asks
    assert list(steps([1, 2], "case")) == [1, 2]
    assert ("0/2" in capsys.readouterr().err) is asks


class Heard(io.StringIO):
    """A screen that tells when something was written on it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        self.written.set()
        return written


def screen_of_a_person(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """Put a screen before a person who waits: in a test, as pytest sets stderr after fixtures."""
    screen = Heard()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_seconds_count_up_and_are_wiped_off(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_of_a_person(monkeypatch)
    clock = WorkingSign(tick_s=0.001)
    clock.begin()
    assert screen.written.wait(30)
    clock.end()
    told = screen.getvalue()
    assert told.startswith("\rworking … 0 s\r")
    assert told.endswith(f"\r{' ' * len('working … 0 s')}\r")


def test_no_seconds_beside_a_bar_and_none_where_nobody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = screen_of_a_person(monkeypatch)
    clock = WorkingSign(tick_s=0.001)
    with Bar(total=2, file=io.StringIO()):
        clock.begin()
        assert not screen.written.wait(0.05)
        clock.end()
    monkeypatch.setattr(screen, "isatty", lambda: False)
    clock.begin()
    assert clock._thread is None
    clock.end()


def test_without_a_notebook_a_terminal_says_whether_somebody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not somebody_waits()
