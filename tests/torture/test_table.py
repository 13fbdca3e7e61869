"""What `make torture` prints, and that it notices what is lost."""

from __future__ import annotations

import pytest

from aiops_lab import Span, SpanStore
from tests.torture import __main__ as torture
from tests.torture.load import Sent, count_doubled, count_lost
from tests.torture.soak import Usage, growth
from tests.torture.table import HEADER, Row, line_of, summary

FINE = Row("kill -9", 10, "nowhere", 2000, 0, 0)


def test_a_row_has_a_cell_for_each_column():
    assert line_of(FINE) == "| kill -9 | 10 | 2,000 | 0 | 0 | nowhere |"
    assert line_of(Row("x", 1, "log")) == "| x | 1 | – | – | – | log |"
    assert line_of(FINE).count("|") == HEADER.count("|")


@pytest.mark.parametrize(
    ("change", "failed"),
    [({}, False), ({"lost": 1}, True), ({"unanswered": 1}, True), ({"seen": "FAILED: x"}, True)],
)
def test_what_is_lost_or_wrong_fails(change, failed):
    assert FINE._replace(**change).failed == failed


def test_the_last_line_adds_up():
    told = summary([FINE, Row("x", 5, "FAILED: y", 100, 2, 3)], 120.0)
    assert told == (
        "2 kinds of trouble, thrown 15 times in 2 min: of 2,100 requests 2 had no answer,"
        " of their spans 3 were lost, and 1 kinds did harm."
    )


def test_a_span_that_is_missing_or_there_twice_is_counted(tmp_path):
    file = tmp_path / "s.sqlite"
    place = "shop", "/pay", "server", None, 0, 1, 200, None
    with SpanStore(file) as store:
        store.add(Span("a" * 32, "1" * 16, None, *place))
    sent = [Sent("a" * 32, 1.0, 200), Sent("b" * 32, 1.0, 200), Sent("c" * 32, 1.0, 0)]
    assert count_lost(sent, file) == 1
    assert count_lost(sent, file, until=1.0) == 0
    assert count_doubled(file) == 0


def test_one_kind_is_chosen_by_its_name(capsys):
    assert torture.main(["--only", "refused", "--minutes", "0"]) == 0
    told = capsys.readouterr().out
    assert told.count("\n| ") == 2
    assert "1 kinds of trouble, thrown 4 times" in told


def test_an_error_of_its_own_is_a_row_too(monkeypatch, capsys):
    def breaks(folder):
        raise OSError("no port")

    monkeypatch.setattr(torture, "ALL", (breaks,))
    assert torture.main(["--minutes", "0"]) == 1
    assert "| breaks | 0 | – | – | – | FAILED: OSError |" in capsys.readouterr().out


def test_growth_is_that_of_the_last_third_over_the_second():
    warm = [Usage(100.0 + minute, 50, 9, 1000) for minute in range(30)]
    flat = [Usage(130.0, 50, 9, 1000)] * 60
    assert growth(warm + flat) == (0, 0, 0, 0)
    leaking = [Usage(130.0 + minute, 50, 9, 1000 + minute) for minute in range(60)]
    assert growth(warm + leaking) == (30, 0, 0, 30)
