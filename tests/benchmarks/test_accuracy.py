"""The benchmark on public data: its counts on small data of this test's own, and that its parts are
the package's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
import shop
from aiops_lab import datasets
from aiops_lab.datasets import cases
from aiops_lab.datasets.__main__ import main
from aiops_lab.explain.ledger import compare
from aiops_lab.explain.reference import learn
from benchmarks import (
    _ablation_metrics,
    _ablation_series,
    _ablation_shops,
    _ablation_traces,
    _data,
    _nab,
    _petshop,
    accuracy,
)
from benchmarks._tables import Estimate, Row, Table, markdown, picture, share
from shop.virtual_time.twins import windows_of
from tests.support import public


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All six sets, small."""
    root = tmp_path_factory.mktemp("data")
    public.petshop(root / "petshop")
    public.nab(root / "nab")
    for name in ("wsd", "aiops", "ucr"):
        public.labelled(root / name)
    main(["nezha", str(public.clone(root / "clone")), str(root / "nezha")])
    return root


def test_without_data_it_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accuracy.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.err.count("git clone https://github.com/") == 9
    assert said.out == ""
    assert "%|" not in said.err  # no bar where nothing is compared
    assert not (tmp_path / "out").exists()


def test_a_folder_may_have_either_name(tmp_path: Path) -> None:
    assert not _data.is_at_hand("rcd", tmp_path)
    assert _data.folder_of("rcd", tmp_path) == tmp_path / "rcd"
    other = tmp_path / "rcd_sockshop"
    own = tmp_path / "rcd"
    for folder in (other, own):
        folder.mkdir()
        assert _data.folder_of("rcd", tmp_path) == folder
    assert _data.is_at_hand("rcd", tmp_path)


@pytest.fixture(scope="module")
def out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one run writes."""
    folder = tmp_path_factory.mktemp("out")
    assert accuracy.main(["--data", str(data), "--out", str(folder), "--quick"]) == 0
    return folder


def test_one_command_writes_a_table_and_a_picture_of_each_set(out: Path) -> None:
    text = (out / "accuracy.md").read_text("utf-8")
    assert headings(out) == [
        "## PetShop: metrics and a call graph",
        "## Nezha: traces alone",
        "## Nezha: traces, logs and metrics",
        "## NAB: single series",
        "## WSD: series of web services",
        "## AIOPS KPI: series of web services",
        "## UCR's archive: one anomaly a series",
        "## PetShop: metrics and a call graph, by system and kind",
        "## Nezha: traces alone, by system and kind",
        "## Nezha: traces, logs and metrics, by system and kind",
        "## NAB: single series, by category (2 files, not seen while tuning)",
        "## Root causes, all sets and systems",
        "## What is expected of cases that were never looked at",
    ]
    for row in (
        "| **aiops_lab** | this package | 100.0 (51.0–100.0)",
        "| walk down | classic rule",
        "| random | baseline",
        "| **anomaly_scores** | this package | 100.0 (100.0–100.0) | 3 of 3 | 0 | 0.1 | 100.0",
        '| **anomaly_scores, method="matrix-profile"** | this package | 100.0 (43.8–100.0)',
    ):
        assert row in text
    assert (out / "accuracy.png").read_bytes()[:4] == b"\x89PNG"
    assert not (out / "parts.md").exists()


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("river", "river Gauss"),
        ("adtk", "adtk Inter"),
        ("dowhy", "| dowhy "),
        ("pyrca", "PyRCA HT"),
    ],
)
def test_a_peer_is_run_or_said_to_be_missing(name: str, row: str, out: Path) -> None:
    text = (out / "accuracy.md").read_text("utf-8")
    assert (f"Not installed: {name} (" in text) != (row in text)


def headings(folder: Path) -> list[str]:
    text = (folder / "accuracy.md").read_text("utf-8")
    return [line for line in text.splitlines() if line.startswith("## ")]


def test_only_the_set_that_is_asked_for(data: Path, tmp_path: Path) -> None:
    asked = ["--data", str(data), "--out", str(tmp_path), "--only", "wsd", "--quick"]
    assert accuracy.main(asked) == 0
    assert headings(tmp_path) == [
        "## WSD: series of web services",
        "## What is expected of cases that were never looked at",
    ]


MINE = """
import numpy as np

def by_name(normal, abnormal, calls, target):
    normal.iloc[:] = 0  # a copy: others see what they saw
    return [target["node"]]

def jumps(values):
    return np.abs(np.diff(values, prepend=values[0])) / 10

jumps.threshold = 0.4

def short(values):
    return values[1:]

def gaps(values):
    return np.where(values == values[7], np.nan, 0.0)

def never(values):
    return values

never.threshold = None

def breaks(normal, abnormal, calls, target):
    raise KeyError("no")
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(MINE, "utf-8")
    return file


def test_methods_of_the_user_stand_in_the_tables_of_their_kind(
    data: Path, mine: Path, tmp_path: Path
) -> None:
    words = ["--metrics-rule", f"{mine}:by_name", "--detector", f"{mine}:jumps"]
    only = ["--only", "petshop", "--only", "wsd", "--only", "nab"]
    out = tmp_path / "out"
    assert accuracy.main(["--data", str(data), "--out", str(out), "--quick", *words, *only]) == 0
    text = (out / "accuracy.md").read_text("utf-8")
    assert text.count("| by_name | your own |") == 1
    assert text.count("| jumps | your own |") == 2
    by_name, alarmed = (row(text, name) for name in ("| by_name ", "| the alarmed node "))
    assert by_name[3] == alarmed[3]
    assert row(text[text.index("## WSD") :], "| jumps ")[6] == "0.4"


def row(text: str, begin: str) -> list[str]:
    (found, *_) = (line for line in text.splitlines() if line.startswith(begin))
    return [cell.strip() for cell in found.split("|")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--detector", "{}:none", "--only", "wsd"], "--detector must name a function of "),
        (["--detector", "{}:short", "--only", "wsd"], "--detector short must return "),
        (["--detector", "{}:gaps", "--only", "wsd"], "gaps must return finite numbers, also at "),
        (["--detector", "{}:never", "--only", "wsd"], "--detector never must have a finite number"),
        (["--detector", "{}:jumps", "--only", "nezha"], "--detector jumps must have data to judge"),
        (["--metrics-rule", "{}:breaks", "--only", "petshop"], "rule breaks must not raise"),
    ],
)
def test_what_a_method_of_the_user_does_wrong_is_said(
    words: list[str],
    message: str,
    data: Path,
    mine: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = [word.format(mine) for word in words]
    out = str(mine.parent / "out")
    assert accuracy.main(["--data", str(data), "--quick", "--out", out, *asked]) == 2
    assert message in capsys.readouterr().err


def test_what_was_seen_while_tuning_is_told_apart(data: Path) -> None:
    told = {
        name: accuracy.parts(name, datasets.load(name, data / name).cases)
        for name in ("petshop", "nab", "nezha")
    }
    assert [(part, len(cases), on) for part, cases, on in told["petshop"]] == [
        ("seen while tuning", 4, "these cases")
    ]
    assert [part for part, _, _ in told["nab"]] == ["not seen while tuning"]
    # the day, not the faults, is what is known
    assert [part for part, _, _ in told["nezha"]] == ["seen while tuning"]


# tables


def test_a_share_has_wilsons_interval() -> None:
    assert str(share(9, 10)) == "90.0 (59.6–98.2)"
    assert share(0, 20).low == 0


def test_a_row_without_further_columns_is_filled_up() -> None:
    rows = [
        Row("mine", "this package", Estimate(1, 0, 2), 0.5, "nothing", ("x",)),
        Row("no", "peer", Estimate(0, 0, 0), None, ""),
    ]
    lines = markdown([Table("T", "all", "share", rows, ("more",), ["so"])], "# H").splitlines()
    assert lines[0] == "# H"
    assert [line.count("|") for line in lines if line.startswith("|")] == [7, 7, 7, 7]
    assert lines[-1] == "* so"


def test_a_picture_has_a_panel_a_table_and_a_mark_a_row() -> None:
    table = Table(
        "T",
        "all",
        "share",
        [Row("a", "this package", share(1, 2), None, ""), Row("b", "peer", share(2, 2), None, "")],
    )
    panels = [axes for axes in picture([table] * 3).axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in panels] == ["T\nall"] * 3
    for axes in panels:
        assert [line.get_xdata().tolist() for line in axes.lines] == [[50.0], [100.0]]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


# PetShop


def test_a_method_is_judged_on_issues_dropped_edges_and_normal_windows(data: Path) -> None:
    cases = datasets.load("petshop", data / "petshop").cases
    judged = _petshop.judge(_petshop.always(public.NODES[1]), cases)
    assert judged.right == (4, 4)
    assert judged.dropped == (4 * _petshop.DRAWS,) * 2
    assert judged.silent == (0, 2 * (20 // 5))  # the second half of 40 rows, for two kinds of alarm
    assert _petshop.judge(lambda *_: _petshop.SILENT, cases)[:3] == ((0, 4), (0, 20), (8, 8))
    assert _petshop.judge(_petshop.this_package, cases).right == (4, 4)


def test_each_draw_withholds_a_tenth_and_the_same_again() -> None:
    calls = [("a", str(k)) for k in range(20)]
    case = cases.MetricsCase("n", "g", "1", pd.DataFrame(), pd.DataFrame(), calls, {})
    drawn = [kept for _, kept in _petshop._cut([case])]
    assert [len(kept) for kept in drawn] == [18] * _petshop.DRAWS
    assert len({tuple(kept) for kept in drawn}) > 1
    assert drawn == [kept for _, kept in _petshop._cut([case])]


def test_random_shops_have_a_cause_that_is_called() -> None:
    (case,) = _ablation_metrics.random_shops(1, 10)
    cut = [calls for _, calls in _ablation_metrics.paths_cut([case])]
    assert cut
    assert all(len(calls) == len(case.calls) - 1 for calls in cut)
    assert (
        _petshop.this_package(case.normal, case.abnormal, case.calls, case.target).node
        == case.truth
    )


# parts


@pytest.mark.parametrize("name", ["delay", "errors", "weak errors 2 %", "two faults", "calm"])
def test_all_parts_together_answer_as_the_package(name: str) -> None:
    scenario = shop.SCENARIOS[name]
    before, now = windows_of(scenario, shop.virtual(scenario, 3, progress=False))
    reference = learn(before)
    comparison, suspects = compare(reference, now), lab.rank_root_causes(reference, now)
    assert _ablation_traces.ranked(comparison) == [suspect.key for suspect in suspects]


def test_of_harder_shops_each_part_is_left_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [("a", replace(shop.SCENARIOS[name], rate=8.0), 3) for name in ("flaky", "calm")]
    monkeypatch.setattr(_ablation_shops, "scenarios", lambda: some)
    told = {row.method: row.others for row in _ablation_shops.table().rows}
    assert told["everything"] == ("2 of 2",)
    assert told["without symptoms"] == ("2 of 2",)
    assert list(told) == list(_ablation_traces.PARTS)


def test_without_the_ledger_deviations_decide_and_without_both_nobody_is_suspected() -> None:
    scenario = shop.SCENARIOS["delay"]
    before, now = windows_of(scenario, shop.virtual(scenario, 3, progress=False))
    comparison = compare(learn(before), now)
    assert _ablation_traces.ranked(comparison, ledger=False)[0] == ("payment", "/payment")
    assert _ablation_traces.ranked(comparison, kinds=["errors"], ledger=False) == []
    assert _ablation_traces.ranked(comparison, kinds=(), ledger=False) == []


@pytest.mark.parametrize("seed", range(3))
def test_the_scores_put_together_are_those_of_the_package(seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, 3000).cumsum()
    scores = lab.anomaly_scores(values)
    np.testing.assert_allclose(_ablation_series.composed(values), scores, atol=1e-12)
    for how in _ablation_series.PARTS.values():
        same = np.allclose(_ablation_series.composed(values, **how), scores, atol=1e-12)
        assert same == (how == {})


def test_files_add_up_to_the_score_of_all() -> None:
    rng = np.random.default_rng(0)
    series = [
        (rng.uniform(size=200), [(60, 70), (100, 130)]),
        (rng.uniform(size=300), []),
        (rng.uniform(size=90), [(5, 9)]),
    ]
    for profile in _nab.PROFILES:
        gained, windows = _nab.by_file(series, 0.97, _nab.PROFILES[profile])
        total = 100 * gained.sum() / ((1 + _nab.PROFILES[profile].missed) * windows.sum())
        assert total == pytest.approx(_nab.at(series, 0.97)[profile].score)
