"""An explanation reads as text anywhere and as HTML in a notebook, and what came in with requests
stays text.
"""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

import aiops_lab as lab
from aiops_lab.results import Explanation, Step
from tests.support.made import Shop, fault

NASTY = "/<script>alert('x')</script>&<img src=x onerror=y>"


class Page(HTMLParser):
    """The tags of a page, its attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.text += " "
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def incident():
    (found,) = lab.replay(Shop(1, fault("/payment", 120, 180, added_ms=3000)).run(220)).incidents
    return found


def test_tables_are_text_under_plain_headers() -> None:
    row = {"endpoint": "/a", "usual_ms": 1.25, "now_ms": float("nan"), "n_now": 3, "cost": 1.0}
    (table,) = Step("1. What", "was compared", [row]).tables
    assert table.columns.tolist() == ["endpoint", "usual (ms)", "now (ms)", "requests now"]
    assert table.to_numpy().tolist() == [["/a", "1.25", "–", "3"]]


def test_an_explanation_is_a_list_of_steps(incident) -> None:
    said = incident.explain()
    assert isinstance(said, list)
    assert [step.title[:2] for step in said] == ["1.", "2.", "3.", "4."]


def test_text_and_page_tell_the_same(incident) -> None:
    said = incident.explain()
    page = Page(said._repr_html_())
    for step in said:
        assert step.title in str(said)
        assert step.text in str(said)
        assert step.title in page.text
        assert all(line in page.text for line in step.text.splitlines())
    assert page.tags.count("table") == 4  # of entries, of accounts, of suspects, of traces
    assert set(str(said).split()) <= set(page.text.split())


def test_a_console_shows_the_text(incident) -> None:
    assert repr(incident.explain()) == str(incident.explain())
    assert repr(incident.why_not("/checkout")) == str(incident.why_not("/checkout"))


def test_the_verdict_shows_the_traces_behind_it(incident) -> None:
    *before, last = incident.explain()
    assert not any(step.traces for step in before)
    assert last.traces == incident.to_dict()["trace_correlation"]["sample_traces"]
    assert all(trace["trace_id"] in str(last) for trace in last.traces)


def test_the_tables_of_an_explanation_have_headers_with_units(incident) -> None:
    first, *_, last = map(str, incident.explain())
    assert "usual (ms)" in first
    assert "usual requests" in last  # the unit of the score
    assert "of these, largest excess here" in last
    assert "endpoint of the cause" in last
    assert "root_endpoint" not in last


def test_why_not_shows_the_traces_that_pass_through(incident) -> None:
    elsewhere = [{"trace_id": "1", "affected_chain": ["/payment"]}]
    assert (
        replace(incident, verdict=replace(incident.verdict, sample_traces=elsewhere))
        .why_not("/checkout")
        .traces
        == []
    )
    through = incident.why_not("/checkout").traces
    assert through
    assert all("/checkout" in trace["affected_chain"] for trace in through)
    assert "/checkout own time" in Page(incident.why_not("/checkout")._repr_html_()).text


def test_traces_are_not_stored_twice(incident) -> None:
    incident.explain()
    assert all(step["traces"] == [] for step in incident.to_record()["verdict"]["steps"])
    again = lab.Incident.from_record(incident.to_record())
    assert again == incident
    assert again.explain() == incident.explain()


def test_a_record_from_before_steps_had_traces_is_read(incident) -> None:
    record = incident.to_record()
    for step in record["verdict"]["steps"]:
        del step["traces"]
    assert lab.Incident.from_record(record) == incident


def test_a_record_in_the_words_of_an_older_version_is_read(incident) -> None:
    suspect = replace(incident.root_cause, by="deviations")
    verdict = replace(incident.verdict, suspects=(suspect,))
    weak = replace(incident, verdict=verdict)
    text = json.dumps(weak.to_record())
    words = {"attributed_to": "blames", "reassigned": "handed", "deviations": "symptoms"}
    for today, before in words.items():
        assert f'"{today}"' in text
        text = text.replace(f'"{today}"', f'"{before}"')
    assert lab.Incident.from_record(json.loads(text)) == weak


def test_without_a_verdict_there_is_nothing_to_explain(incident) -> None:
    record = incident.to_record() | {"verdict": {}}
    said = lab.Incident.from_record(record).explain()
    assert said == []
    assert str(said) == said._repr_html_() == ""


def test_what_came_in_with_requests_cannot_inject_html() -> None:
    trace = {
        "trace_id": NASTY,
        "root_endpoint": NASTY,
        "root_status": 200,
        "affected_chain": [NASTY, NASTY],
    }
    step = Step(NASTY, NASTY, [{"endpoint": NASTY, NASTY: 1.0}], [trace])
    page = Page(Explanation([step])._repr_html_())
    assert set(page.tags) <= {
        "div",
        "p",
        "strong",
        "br",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    }
    assert page.attributes <= {"class", "style"}
    assert page.text.count(NASTY) == 8  # whole, as text


def test_a_dollar_in_a_name_is_no_formula() -> None:
    assert Step("$x$", "")._repr_html_().startswith('<div class="tex2jax_ignore mathjax_ignore">')


def test_a_long_name_is_not_cut_off() -> None:
    assert "/a" * 99 in Page(Step("t", "", [{"endpoint": "/a" * 99}])._repr_html_()).text


def rows(n: int) -> list[dict]:
    return [
        {"entry": "/x", "account": f"/{i} own time", "endpoint": "/y", "cost": -float(i)}
        for i in range(n)
    ]


def test_of_many_accounts_the_dearest_are_shown_in_their_order() -> None:
    said = str(Step("t", "", rows(20)))
    assert [f"/{i} own time" in said for i in range(20)] == [False] * 8 + [True] * 12
    assert said.index("/8 own") < said.index("/19 own")
    assert said.endswith("and 8 smaller rows")
    assert "and 8 smaller rows" in Page(Step("t", "", rows(20))._repr_html_()).text
    assert "smaller" not in str(Step("t", "", rows(12)))


def test_a_repaired_failure_is_told_apart_from_a_real_one() -> None:
    both = [{"account": "/a itself", "masked": masked} for masked in (True, False)]
    assert "masked" in str(Step("t", "", both))
    assert "masked" not in str(Step("t", "", both[1:]))


@pytest.mark.parametrize(
    ("value", "shown"), [(12345.678, "12,350"), (0.0123461, "0.01235"), (4.0, "4"), (-0.5, "-0.5")]
)
def test_numbers_have_four_digits(value: float, shown: str) -> None:
    assert str(Step("t", "", [{"now": value}])).split()[-1] == shown
