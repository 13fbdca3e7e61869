"""Names come from requests: whatever they hold is shown escaped, cut and as text."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.text import Text

from aiops_lab import Span, replay, service_graph, to_frame
from aiops_lab.endpoints import display_names, printable
from aiops_lab.show import plots

NAMES = {
    "formula": r"/a$\frac{/b$",
    "escaped dollar": r"/a\$b$",
    "terminal and null": "/a\x1b[31mred\x07\r\n\x00b",
    "tags": "/<script>alert(1)</script>",
    "long": "/" + "x" * 10_000,
    "right to left": "/\u202eabc\u2066",
}
MS = 1_000_000


def spans_at(name: str) -> pd.DataFrame:
    """Return ten minutes of a caller and of an endpoint `name`, slow and failing at their end."""
    rows = []
    for n in range(300):
        bad = n >= 240
        start = 1_790_000_000 * 10**9 + n * 2 * 10**9
        trace, (entry, called) = f"{n + 1:032x}", (f"{2 * n + k:016x}" for k in (1, 2))
        times = (start, (300 if bad else 30) * MS, 500 if bad else 200)
        error = f"Error: {name}"[:900] if bad else None
        rows.append(Span(trace, entry, None, "shop", "/entry", "server", None, *times, None))
        rows.append(Span(trace, called, entry, "back", name, "server", None, *times, error))
    return to_frame(rows)


@pytest.fixture(params=NAMES, scope="module")
def frame(request):
    return spans_at(NAMES[request.param])


@pytest.fixture(scope="module")
def report(frame):
    return replay(frame)


DRAWN = {
    "timeline": lambda frame, report: plots.timeline(report.windows, report.anomalies),
    "overview": lambda frame, report: plots.overview(report.windows, report.anomalies),
    "incidents": lambda frame, report: plots.incidents(report.incidents),
    "call_graph": lambda frame, report: plots.call_graph(service_graph(frame)),
    "waterfall": lambda frame, report: plots.waterfall(frame, frame["trace_id"].iloc[-1]),
}


@pytest.mark.parametrize("drawing", DRAWN)
def test_every_name_can_be_drawn(frame, report, drawing):
    drawn = DRAWN[drawing](frame, report)
    figure = getattr(drawn, "figure", drawn)
    figure.savefig(io.BytesIO(), format="png")
    plt.close(figure)


def ledger_of(name):
    table = pd.DataFrame({"account": [name, "/other"], "excess": [3.0, 1.0]})
    table.attrs |= {"entry": name, "unit": "ms"}
    return table


def shares_of(name):
    rules = dict.fromkeys([name, *"abcdefgh"], [0.5])
    return pd.DataFrame(rules, index=pd.MultiIndex.from_tuples([(name, name)]))


def sizes_of(name):
    rows = {"size": [0.1, 1.0], "rule": name, "right": [0.2, 0.9], "right_low": 0.1}
    return pd.DataFrame(rows | {"right_high": 1.0})


def sweep_of(name):
    return pd.DataFrame({"z": [1.0, 2.0], "recall": 0.5, "precision": [0.1, 0.2], name: [3.0, 4.0]})


SCORES = {
    "ledger": lambda name: plots.ledger(ledger_of(name)),
    "leaderboard": lambda name: plots.leaderboard(shares_of(name)),
    "size curve": lambda name: plots.size_curve(sizes_of(name), bold=(name,)),
    "precision": lambda name: plots.precision_recall({name: sweep_of(name)}),
    "cost": lambda name: plots.cost_curve(sweep_of(name), "z", [name]),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("drawing", SCORES)
def test_every_name_can_stand_in_a_figure_of_scores(name, drawing):
    figure = SCORES[drawing](name).figure
    figure.savefig(io.BytesIO(), format="png")
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert all(text.isprintable() and len(text) < 300 for text in texts)
    plt.close(figure)


def test_texts_hold_no_control_characters_and_are_short(report):
    (incident,) = report.incidents
    text = f"{incident!r} {incident.title} {' '.join(incident.affected_endpoints)}"
    assert text.isprintable()
    assert len(text) < 1000
    steps = str(incident.explain())
    assert steps.replace("\n", "").isprintable()


def test_pages_hold_no_tags():
    (incident,) = replay(spans_at(NAMES["tags"])).incidents
    assert "<script" not in incident.explain()._repr_html_()


def test_what_is_printable_stays_as_it_is():
    for text in ("/items/<int:number>", "/caf\u00e9", "/\u05e9\u05dc\u05d5\u05dd", "POST /users"):
        assert printable(text) == text


def test_names_that_would_look_the_same_are_told_apart():
    keys = [("shop", "/" + "x" * 500 + end) for end in "ab"]
    names = list(display_names(keys).values())
    assert len(set(names)) == 2
    assert max(map(len, names)) < 150
