"""Tables by system and kind of fault, the regret of picking by all of them, LaTeX, own data."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import aiops_lab as lab
from benchmarks import _groups, _metrics, _spans, accuracy
from benchmarks._own import read_own
from benchmarks._tables import Asked, Grid, Row, Table, latex, markdown, share
from shop.experiments.user_rules import UserRule
from tests.support.made import Shop, fault

SYSTEMS = ["a"] * 4 + ["b"] * 2
KINDS = ["cpu", "cpu", "mem", "mem", "cpu", "cpu"]
RIGHT = {
    "ours": [True, True, True, False, False, False],
    "z": [True, False, False, False, True, True],
    "poor": [False] * 6,
    "always the same": [True] * 6,
}


def table(right: dict[str, list[bool]] = RIGHT) -> Table:
    asked = [Asked(*pair) for pair in zip(SYSTEMS, KINDS, strict=True)]
    rows = [Row("ours", "this package", share(3, 6), None, "")]
    return Table("T", "six faults", "top-1, %", rows, asked=asked, right=right)


def test_regret_is_what_lies_between_a_method_and_the_best_of_each_system() -> None:
    judged = _groups.judgements([table()])
    assert _groups.regret(judged).to_dict() == {
        "ours": {"a": 0.0, "b": 100.0},
        "z": {"a": 50.0, "b": 0.0},
        "poor": {"a": 75.0, "b": 100.0},
    }
    assert _groups.pooled_best(judged) == "ours"
    assert _groups.pooled_best(judged, ["ours"]) == "z"


def test_a_grid_has_a_row_a_system_and_kind_with_intervals_and_says_the_regret() -> None:
    grid = _groups.grid("G", [table()])
    assert list(grid.frame.index) == [
        "all",
        "**a**",
        "a, cpu",
        "a, mem",
        "**b**",
        "regret, mean over systems",
        "regret, worst system",
    ]
    assert grid.frame["cases"].tolist() == ["6", "4", "2", "2", "2", "", ""]
    assert grid.frame["ours"].tolist()[2:] == [
        "2 of 2",
        "1 of 2",
        "0 of 2",
        "50",
        "100",
    ]
    assert grid.frame["always the same"].tolist()[-2:] == ["", ""]
    assert grid.notes == [
        "Best over all cases is ours, which lies 50 points below the best one on the mean system "
        "and 100 on the worst (b). Counted without this package (the rows above count with it): "
        "none is better than z on any system."
    ]
    alone = _groups.grid_of("H", _groups.judgements([table()])[:4])
    assert alone.notes == [], "of one system there is nothing to pick from"


def test_the_best_of_ten_cases_is_bold_but_not_who_was_told_the_answers() -> None:
    right = {"ours": [True] * 5, "z": [True] * 5, "poor": [True, *[False] * 4]}
    judged = pd.DataFrame(right | {"always the same": [True] * 5}).assign(kind="", system="a")
    ten = pd.concat([judged[["system", "kind", *right, "always the same"]]] * 2)
    grid = _groups.grid_of("G", ten)
    cells = grid.frame.loc["all"].tolist()
    assert cells == ["10", "**100 (72–100)**", "**100 (72–100)**", "20 (6–51)", "100 (72–100)"]
    assert "**" not in latex([grid])


def test_of_many_rivals_the_best_three_are_shown_and_the_others_told() -> None:
    rivals = {f"r{k}": [i < k for i in range(6)] for k in (1, 5, 2, 4, 3)}
    right = {"ours": [True] * 6, **rivals, "random": [False] * 6, "mine": [False] * 6}
    judged = _groups.judgements([table(right)])
    grid = _groups.grid_of("G", judged, ["mine"])
    assert list(grid.frame.columns) == ["cases", "ours", "r5", "r4", "r3", "random", "mine"]
    assert grid.notes[-1] == "Not shown, right of all cases in percent: r1 17, r2 33."
    whole = _groups.answers([table(right), table()])
    assert len(whole) == 6 * (len(right) + len(RIGHT))
    assert whole.loc[whole["method"] == "r2", "right"].sum() == 2


def test_tables_of_one_title_become_one_grid_of_the_methods_that_all_have() -> None:
    less = {name: RIGHT[name] for name in ("ours", "z")}
    (grid,) = accuracy.grids([table(), table(less), Table("U", "none", "F1", [])])
    assert grid.title == "T, by system and kind"
    assert list(grid.frame.columns) == ["cases", "ours", "z"]
    assert grid.frame.loc["all", "cases"] == "12"


def test_latex_holds_the_same_cells_with_its_signs_escaped() -> None:
    grid = Grid("G_1", pd.DataFrame({"50 %": ["1–2"]}, index=["**a&b**"]), ["so"])
    odd = Grid("{~^\\}", pd.DataFrame({"x": ["1"]}), ["two\nlines"])
    assert r"\caption{\{\textasciitilde{}\textasciicircum{}\textbackslash{}\}}" in latex([odd])
    assert latex([odd]).startswith("% two lines\n\\begin")
    text = latex([table(), grid])
    assert text.count(r"\begin{tabular}") == text.count(r"\bottomrule") == 2
    for part in (r"top-1, \%", r"\caption{T (six faults)}", "ours & this package & 50.0 (18.8--"):
        assert part in text
    for part in ("% so\n", r"\caption{G\_1}", r"a\&b & 1--2 \\", r" & 50 \% \\"):
        assert part in text
    assert "**a&b**" in markdown([grid], "# H")


# ---- methods on spans


SPANS = Shop(1, fault("/payment", 60, 90, status=500)).run(90)
BEGIN = SPANS["start"].min().floor("s")


def test_alarms_are_requests_that_fail_or_are_slower_than_nearly_all_before() -> None:
    late = SPANS["start"] >= BEGIN + pd.Timedelta("60s")
    usual = lab.learn(SPANS[~late])
    failing = _spans.alarms(usual, SPANS[late])
    assert len(failing) > 0
    assert (failing["share"] > 0.15).all()
    assert _spans.alarms(usual, SPANS[~late]).empty
    assert _spans.loudest_alarm(usual, SPANS[late]) == str(failing["bad"].idxmax())
    assert _spans.deepest_alarm(usual, SPANS[~late]) == ""


def test_of_slow_services_the_one_without_a_slow_callee_alarms_deepest() -> None:
    start = pd.Timestamp("2026-01-01", tz="UTC")

    def spans(ms: float, n: int, first: str) -> pd.DataFrame:
        made = []
        for k in range(n):
            t, at = f"{first}{k:031x}", start.value + k * 10**9
            trace = [("1", None, "front", ms * 2, "server"), ("3", "2", "cart", ms, "server")]
            trace.append(("2", "1", "front", ms * 1.5, "client"))
            for own, parent, service, long, kind in trace:
                ids = (t, f"{own}{k:015x}", parent and f"{parent}{k:015x}")
                peer = "cart" if kind == "client" else None
                ns = int(long * 1e6)
                made.append(lab.Span(*ids, service, "/x", kind, peer, at, ns, 200, None))
        return lab.to_frame(made)

    usual = lab.learn(spans(10, 40, "a"))
    assert _spans.deepest_alarm(usual, spans(90, 20, "b")) == "cart"
    assert set(_spans.alarms(usual, spans(90, 20, "b")).index) == {"cart", "front"}


def test_silence_is_right_where_nothing_is_at_fault() -> None:
    case = lab.datasets.SpansCase("n", "g", (), SPANS, SPANS)
    assert _spans.is_right("", case)
    assert not _spans.is_right("shop", case)


# ---- the command on a folder


MINE = """
from aiops_lab.results import Suspect

def mine(reference, abnormal):
    abnormal["service"] = "nobody"  # a copy: others see what they saw
    return [Suspect("shop", "/payment", 1.0, 0.5)]

def random(reference, abnormal):
    return []

def number(reference, abnormal):
    return [1]

def blind(normal, abnormal, calls, target):
    del calls[:]
    return []
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE, "utf-8")
    lab.write_spans(SPANS, tmp_path / "spans.csv")
    times = [(BEGIN + pd.Timedelta(s, "s")).isoformat() for s in (0, 30, 60, 90)]
    row = {"spans": "spans.csv", "normal": times[:2], "abnormal": times[2:], "truth": ["shop"]}
    calm = row | {"name": "calm", "abnormal": times[1:3], "truth": []}
    cases = {"name": "two", "cases": [row | {"name": "broken", "kind": "errors"}, calm]}
    (tmp_path / "manifest.json").write_text(json.dumps(cases), "utf-8")
    return tmp_path


def test_own_data_and_an_own_rule_are_compared_and_written_as_latex(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--folder", str(folder), "--rule", f"{folder}/mine.py:mine", "--format", "latex"]
    words += ["--rule", f"{folder}/mine.py:random"]
    assert accuracy.main([*words, "--out", str(folder / "out")]) == 0
    assert r"\begin{tabular}" in capsys.readouterr().out
    text = (folder / "out" / "accuracy.md").read_text("utf-8")
    assert "| mine | your own | 100.0 (20.7–100.0) | 0.0 (0.0–79.3) |" in text
    assert "mine.py:random | your own | 0.0 (" in text
    assert "| first by end | classic rule | 100.0 (" in text
    assert "1 fault, 1 case without a fault." in text
    assert "## two: spans, by system and kind" in text
    names = text[text.index("by system and kind") :].splitlines()[2].split(" | ")
    assert names.count("random") == names.count(f"{folder}/mine.py:random") == 1
    assert {path.suffix for path in (folder / "out").iterdir()} == {
        ".json",
        ".md",
        ".png",
        ".tex",
        ".csv",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rule", "{}/mine.py:other"], "--rule must name a function of "),
        (["--folder", "{}", "--rule", "{}/mine.py:number"], "--rule number must return a list of "),
        (["--folder", "{}", "--metrics-rule", "{}/mine.py:blind"], "must have data to judge (metr"),
        (["--folder", "{}/none"], "must be a folder that exists"),
    ],
)
def test_what_cannot_be_had_is_said(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [word.format(folder) for word in words]
    assert accuracy.main([*asked, "--out", str(folder / "out")]) == 2
    assert message in capsys.readouterr().err


def test_a_rule_of_the_user_is_a_method_on_spans(folder: Path) -> None:
    (method,) = read_own([f"{folder}/mine.py:mine"]).rules
    assert method[:2] == ("mine", "your own")
    assert UserRule(f"{folder}/mine.py:mine")(None, SPANS[:1].copy())[0].service == "shop"  # type: ignore[arg-type]


def test_a_rule_on_metrics_is_given_copies_of_the_calls_too(folder: Path) -> None:
    (method,) = read_own(metrics_rules=[f"{folder}/mine.py:blind"]).on_metrics
    frame = pd.DataFrame({"a_cpu": [1.0, 2.0]})
    case = lab.datasets.MetricsCase("n", "g", "a", frame, frame, [("a", "b")], None)
    assert method.ask(case) == ("", False)
    assert case.calls == [("a", "b")]
    assert list(_metrics.parts([case])) == ["g"], "no kind of fault is given"


# ---- alerts of metrics


def test_without_alerts_of_its_own_a_metric_alarms_beyond_three_deviations() -> None:
    normal = pd.DataFrame({"a_cpu": [1.0, 2.0] * 5, "b_latency": [1.0, 2.0] * 5})
    now = pd.DataFrame({"a_cpu": [2.9] * 4, "b_latency": [3.1] * 4}, index=range(20, 24))
    case = lab.datasets.MetricsCase("n", "g", "b", normal, now, None, None)
    assert _metrics.alerts_of(case) == {"b": ("latency",)}
    assert _metrics.loudest_alarm(case).node == "b"
