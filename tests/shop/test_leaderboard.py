"""The leaderboard: tables that can be counted by hand, several processes, rules of the user, the
command.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import active_children
from pathlib import Path

import pandas as pd
import pytest

import shop
from aiops_lab.explain.ranking import rank_root_causes
from aiops_lab.explain.rules import RULES
from aiops_lab.record.faults import Fault
from shop.__main__ import main
from shop.catalogue import GROUPS
from shop.experiments import calibrate, fault_size, report
from shop.experiments.leaderboard import (
    Board,
    by_scenario,
    by_size,
    confidences,
    pipeline_table,
    play,
    totals,
)
from shop.experiments.parallel import spread
from shop.experiments.trials import PipelineResult, RuleResult
from shop.experiments.user_rules import UserRule, read_rules
from shop.shops import MARKET, PAYMENT
from shop.virtual_time.scenario import Scenario

NAN = math.nan
SLOW = Fault("delay", *PAYMENT, start_s=60.0, end_s=80.0, duration_ms=400)
SHORT = {
    "slow": Scenario("slow", (PAYMENT,), (SLOW,), seconds=90.0),
    "nothing": Scenario("nothing", seconds=90.0),
}


def trial(
    scenario: str, rule: str, rank: int, causes: int = 1, confidence: float = 0.5, **more
) -> RuleResult:
    """The answer of a rule: rank 0 = silent, -1 = a wrong one only."""
    silent, rank = rank == 0, max(rank, 0)
    exact = silent if causes == 0 else rank == 1
    made = RuleResult(
        scenario, 1, rule, causes, "", rank, exact, silent, NAN if silent else confidence, 0.01
    )
    return made._replace(**more)


def runs(*rows: tuple[str, RuleResult]) -> pd.DataFrame:
    return pd.DataFrame([(group, *t) for group, t in rows], columns=["group", *RuleResult._fields])


RUNS = runs(
    ("faults", trial("delay", "poor", -1)),
    ("faults", trial("delay", "good", 1)),
    ("faults", trial("delay", "poor", 4)),
    ("faults", trial("delay", "good", 1, cpu_s=0.03)),
    ("no fault", trial("calm", "poor", -1, 0)),
    ("no fault", trial("calm", "good", 0, 0)),
    ("by size", trial("weak delay 20 %", "poor", 1)),
    ("by size", trial("weak delay 20 %", "good", 0)),
    ("by size", trial("deployment", "poor", -1, 0)),
    ("by size", trial("deployment", "good", -1, 0)),
    ("traces lie", trial("lost spans", "poor", 2)),
    ("traces lie", trial("lost spans", "good", 0)),
)


# ---- summaries


def test_totals_count_the_faults_except_those_by_size() -> None:
    table = totals(RUNS)
    assert list(table.index) == ["good", "poor"]
    good, poor = table.loc["good"], table.loc["poor"]
    assert (good["n"], poor["n"]) == (3, 3)
    assert good[
        ["top1", "top3", "mrr", "exact", "silent", "wrong", "quiet"]
    ].tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2 / 3, 1 / 3, 0, 1])
    assert poor[
        ["top1", "top3", "mrr", "exact", "silent", "wrong", "quiet"]
    ].tolist() == pytest.approx([0, 1 / 3, (1 / 4 + 1 / 2) / 3, 0, 0, 1, 0])
    assert (good["top1_low"], good["top1_high"]) == (0, 1)
    assert good["cpu_ms"] == pytest.approx(10)


def test_the_groups_stand_in_the_order_of_the_catalogue_and_the_best_rule_first() -> None:
    table = by_scenario(RUNS)
    assert list(table.columns) == ["good", "poor"]
    assert list(table.index) == [
        ("all", "faults that count"),
        ("faults", "delay"),
        ("traces lie", "lost spans"),
        ("no fault", "calm"),
        ("by size", "weak delay 20 %"),
        ("by size", "deployment"),
    ]
    assert table["good"].tolist() == pytest.approx([2 / 3, 1, 0, 1, 0, 0])
    assert table["poor"].tolist() == [0, 0, 0, 0, 1, 0]


def test_without_any_fault_there_is_no_total_but_a_row_for_each_scenario() -> None:
    table = by_scenario(RUNS[RUNS["group"] == "no fault"])
    assert table["good"].isna().tolist() == [True, False]
    assert table["good"].iloc[1] == 1


def test_of_scenarios_by_size_alone_there_is_no_table_of_totals() -> None:
    empty = pd.DataFrame(columns=["kind", "size", *RuleResult._fields])
    board = Board(RUNS[RUNS["group"] == "by size"], empty, empty, empty)
    (title, _, table), *_ = report.sections(board)
    assert title == "Share of correct runs, by scenario"
    assert table.index[0] == "by size:"


def test_confidence_is_asked_of_answers_and_silence_is_a_question_without_one() -> None:
    rows = runs(
        ("faults", trial("delay", "ledger", 1, confidence=0.9)),
        ("faults", trial("delay", "ledger", 2, confidence=0.3)),
        ("faults", trial("delay", "ledger", 0)),
        ("no fault", trial("calm", "ledger", -1, 0, confidence=0.6)),
        ("no fault", trial("calm", "ledger", 0, 0)),
        ("by size", trial("deployment", "ledger", -1, 0, confidence=1.0)),
        ("faults", trial("delay", "other", -1, confidence=1.0)),
    )
    c, curve = confidences(rows)
    assert c.n == 3
    assert c.ece == pytest.approx((0.1 + 0.3 + 0.6) / 3)
    assert c.brier == pytest.approx((0.1**2 + 0.3**2 + 0.6**2) / 3)
    assert curve["coverage"].tolist() == [0.5, 0.75]
    assert curve["risk"].tolist() == pytest.approx([1 / 2, 2 / 3])


def finding(scenario: str, **more) -> PipelineResult:
    missed = PipelineResult(scenario, 1, 1, 0, 0, 0.1, NAN, "", NAN, NAN, NAN, NAN)
    return missed._replace(**more)


def test_pipeline_rates_are_of_all_runs_and_delays_of_the_detected_ones() -> None:
    seen = {"incidents": 1, "detector": "timeout", "named": 1.0, "jaccard": 1.0, "exact": 1.0}
    rows = [
        ("no fault", finding("calm", causes=0, false_incidents=3)),
        ("no fault", finding("calm", causes=0)),
        ("no fault", finding("calm", causes=0)),
        ("by size", finding("deployment", causes=0, false_incidents=1)),
        ("faults", finding("hang", **seen, detect_s=10.0, rank=1)),
        ("faults", finding("hang", **seen, detect_s=20.0, rank=2)._replace(jaccard=0.5, exact=0.0)),
        ("faults", finding("hang")),
        ("by size", finding("weak delay 20 %")),
    ]
    table = pipeline_table(
        pd.DataFrame([(g, *f) for g, f in rows], columns=["group", *PipelineResult._fields])
    )
    assert list(table.index.get_level_values(1)) == [
        "faults that count",
        "without a fault",
        "hang",
        "calm",
        "deployment",
        "weak delay 20 %",
    ]
    hang = table.loc[("faults", "hang")]
    assert hang[["runs", "detected", "median_s", "worst_s", "first"]].tolist() == [
        3,
        2 / 3,
        15,
        20,
        "timeout",
    ]
    assert hang[["right", "named", "false_runs", "false_per_hour"]].tolist() == [1 / 3, 2 / 3, 0, 0]
    assert hang[["jaccard", "exact"]].tolist() == [0.75, 0.5]
    assert table.loc[("all", "faults that count"), "runs"] == 3
    assert table.loc[("by size", "weak delay 20 %"), "detected"] == 0
    for calm in (table.loc[("no fault", "calm")], table.loc[("all", "without a fault")]):
        assert calm[["detected", "right", "named"]].isna().all()
        assert calm[["runs", "false_runs", "false_per_hour"]].tolist() == pytest.approx(
            [3, 1 / 3, 10]
        )


def test_the_table_of_the_pipeline_fits_on_a_page() -> None:
    seen = {"incidents": 1, "named": 1.0, "jaccard": 1.0, "exact": 1.0, "rank": 1, "detect_s": 10.0}
    first = " + ".join(("error_spike", "latency_anomaly", "timeout", "traffic_drop"))
    rows = [("faults", finding(name, **seen, detector=first)) for name in GROUPS["faults"]]
    table = report._pipeline(
        pipeline_table(
            pd.DataFrame([(g, *f) for g, f in rows], columns=["group", *PipelineResult._fields])
        )
    )
    lines = table.to_string(line_width=report.WIDTH).splitlines()
    assert len(lines) == len(table) + 1, "wide tables are cut into several"
    assert lines[0].split() == [
        "found",
        "median",
        "worst",
        "first",
        "right",
        "named",
        "agree",
        "exact",
        "false",
        "/h",
    ]


def test_sizes_are_counted_by_kind_size_and_rule() -> None:
    rows = [
        ("delay", 0.1, trial("delay 0.1", "ledger", 1)),
        ("delay", 0.1, trial("delay 0.1", "ledger", 0)),
        ("delay", 0.1, trial("delay 0.1", "poor", -1)),
        ("change", 0.1, trial("change 0.1", "ledger", -1, 0)),
    ]
    table = by_size(
        pd.DataFrame(
            [(k, s, *t) for k, s, t in rows], columns=["kind", "size", *RuleResult._fields]
        )
    )
    assert table[["kind", "rule", "right", "wrong", "silent", "n"]].values.tolist() == [
        ["delay", "ledger", 0.5, 0, 0.5, 2],
        ["delay", "poor", 0, 1, 0, 1],
        ["change", "ledger", 0, 1, 0, 1],
    ]
    assert table.loc[0, ["right_low", "right_high"]].tolist() == pytest.approx(
        [0.0945, 0.9055], abs=1e-3
    )
    told = report.answer_rates(table)
    assert told[["rule", "answers"]].values.tolist() == [["a fault", 0.5], ["a deployment", 1]]


# ---- runs, in several processes


MINE = """
from aiops_lab.results import Suspect

def mine(usual, abnormal):
    return [Suspect("payment", "/payment", 1.0, 0.5)]

def broken(usual, abnormal):
    return usual.no_such_thing

text = "no function"
"""


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    path = tmp_path / "my_rules.py"
    path.write_text(MINE, "utf-8")
    return path


def test_the_number_of_processes_changes_nothing_and_a_rule_from_a_file_takes_part(
    rule_file: Path,
) -> None:
    rules = {"ledger": RULES["ledger"], "mine": UserRule(f"{rule_file}:mine")}
    boards = [play(SHORT, (1, 2), rules, sizes=False, jobs=jobs, progress=False) for jobs in (1, 2)]
    for one, two in zip(*boards, strict=True):
        pd.testing.assert_frame_equal(
            one.drop(columns="cpu_s", errors="ignore"), two.drop(columns="cpu_s", errors="ignore")
        )
    told, pipeline, graded, detection = boards[0]
    assert told[["group", "scenario", "seed", "rule"]].values.tolist() == [
        [group, name, seed, rule]
        for group, name in (("faults", "slow"), ("no fault", "nothing"))
        for seed in (1, 2)
        for rule in ("ledger", "mine")
    ]
    assert told["rank"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert told["silent"].tolist() == [False] * 4 + [True, False] * 2
    assert pipeline["incidents"].tolist() == [1, 1, 0, 0]
    assert graded.empty
    assert detection.empty
    assert active_children() == []


def test_a_rule_that_only_this_process_knows_is_tried_here_and_the_pipeline_can_be_left_out() -> (
    None
):
    here = os.getpid()
    seen = []

    def local(usual, abnormal):
        seen.append(os.getpid())
        return []

    board = play(SHORT, (1,), {"local": local}, pipeline=False, sizes=False, jobs=2, progress=False)
    assert seen == [here, here]
    assert board.runs["silent"].all()
    assert board.pipeline.empty


def test_results_are_in_the_order_of_the_items() -> None:
    assert spread(math.sqrt, [9, 4, 1], 1, unit="root", progress=False) == [3, 2, 1]
    assert spread(math.sqrt, [9, 4, 1], 2, unit="root", progress=False) == [3, 2, 1]
    assert spread(math.sqrt, [], unit="root", progress=False) == []


def test_an_error_in_another_process_is_raised_here_and_no_process_is_left() -> None:
    with pytest.raises(
        ValueError, match="rule must be file.py:function or module:function, got 'nonsense'"
    ) as caught:
        spread(UserRule, ["nonsense"] * 2, 2, unit="rule", progress=False)
    assert caught.value.field == "rule"  # type: ignore[attr-defined]
    assert active_children() == []


def test_a_process_that_is_killed_is_no_riddle() -> None:
    with pytest.raises(OSError, match="a process ended before it returned"):
        spread(os._exit, [1, 1], 2, unit="exit", progress=False)
    assert active_children() == []


@pytest.mark.parametrize("jobs", [0, -1, 1.5, True])
def test_processes_are_a_whole_number(jobs) -> None:
    with pytest.raises(ValueError, match=f"jobs must be a whole number above 0, got {jobs}"):
        spread(math.sqrt, [1, 2], jobs, unit="root", progress=False)


# ---- rules of the user


def test_user_rules_come_after_the_classic_rules_and_replace_none_of_them(rule_file: Path) -> None:
    rules = read_rules(
        [
            f"{rule_file}:mine",
            "aiops_lab.explain.ranking:rank_root_causes",
            "aiops_lab.explain.rules:entry",
        ]
    )
    assert list(rules) == [*RULES, "mine", "rank_root_causes", "aiops_lab.explain.rules:entry"]
    assert [s.endpoint for s in rules["mine"](None, None)] == ["/payment"]  # type: ignore[arg-type]
    assert rules["ledger"] is rank_root_causes


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine", "rule must be file.py:function or module:function, got 'mine'"),
        (
            "no_such_module:mine",
            r"rule must be importable \(ModuleNotFoundError: No module named 'no_such_module'\)",
        ),
        (
            "no_such_file.py:mine",
            r"rule must be importable \(FileNotFoundError: .*, got 'no_such_file.py:mine'",
        ),
        ("{file}:other", "rule must name a function of .*my_rules.py, got"),
        ("{file}:text", "rule must name a function of .*my_rules.py, got"),
        ("{bad}:mine", r"rule must be importable \(SyntaxError: "),
    ],
)
def test_a_rule_that_cannot_be_had_is_refused(spec: str, message: str, rule_file: Path) -> None:
    bad = rule_file.with_name("bad.py")
    bad.write_text("def mine(:\n", "utf-8")
    with pytest.raises(ValueError, match=message):
        read_rules([spec.format(file=rule_file, bad=bad)])


# ---- the size of a fault


def test_a_fault_of_each_size_strikes_at_another_place_with_each_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fault_size, "DELAYS", (0.001, 1.0))
    monkeypatch.setattr(fault_size, "RATES", (1.0,))
    asked = {"ledger": RULES["ledger"], "silent": lambda usual, abnormal: []}
    rows = {kind: list(fault_size.sized(kind, 4, asked)) for kind in fault_size.SIZED_KINDS}
    assert [(size, t.rule, t.rank, t.silent) for size, t in rows["delay"]] == [
        (0.001, "ledger", 0, True),
        (0.001, "silent", 0, True),
        (1.0, "ledger", 1, False),
        (1.0, "silent", 0, True),
    ]
    assert [(size, t.rule, t.rank) for size, t in rows["errors"]] == [
        (1.0, "ledger", 1),
        (1.0, "silent", 0),
    ]
    assert [(size, t.rule, t.causes, t.silent) for size, t in rows["change"]] == [
        (0.001, "ledger", 0, True),
        (1.0, "ledger", 0, False),
    ]
    assert rows["delay"][2][1].said == "catalog /find"
    assert MARKET.endpoints[4].place == ("catalog", "/find")


def test_a_fault_that_affects_no_request_is_no_data_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_size, "RATES", (1e-9, 0.002))
    silent = {"silent": lambda usual, abnormal: []}
    told = {
        seed: [size for size, _ in fault_size.sized("errors", seed, silent)] for seed in (9, 12)
    }
    assert told == {9: [], 12: [0.002]}
    weak = {seed: fault_size.stage(seed).scenario("errors", 0.002) for seed in told}
    assert shop.twin(weak[12], 12, progress=False).effect["changed"].any()
    with pytest.raises(ValueError, match="faults must have an effect on some request"):
        shop.twin(weak[9], 9, progress=False)


def test_a_delay_and_a_change_of_the_same_size_are_equally_long() -> None:
    stage = fault_size.Stage(0, ("bank", "/transfer"), 200.0, None, None)  # type: ignore[arg-type]
    (delay,), (change,) = stage.scenario("delay", 0.5).faults, stage.scenario("change", 0.5).changes
    assert delay.duration_ms == 100
    assert change.factor == 1 + 100 / 50  # type: ignore[attr-defined]
    assert stage.scenario("errors", 0.5).faults[0].rate == 0.5
    assert stage.scenario("change", 0.5).causes == ()


def test_a_usual_request_is_one_of_a_customer_who_comes_by() -> None:
    rows = [
        ("t1", None, "front", "/order", 90.0),
        ("t1", "s", "bank", "/transfer", 50.0),
        ("t2", None, "front", "/home", 5.0),
    ]
    frame = pd.DataFrame(
        rows, columns=["trace_id", "parent_id", "service", "endpoint", "duration_ms"]
    )
    assert fault_size.usual_ms(frame.assign(kind="server"), ("bank", "/transfer")) == 90


# ---- the command


def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue of these tests."""
    monkeypatch.setattr(report, "SCENARIOS", SHORT)
    monkeypatch.setattr(report, "find_scenario", SHORT.__getitem__)


def ledger_alone(
    monkeypatch: pytest.MonkeyPatch, scenario: str, out: Path, first_seed: int = 1000
) -> None:
    """Run the command on one scenario, once, with one rule and without the pipeline."""
    short(monkeypatch)
    monkeypatch.setattr(report, "read_rules", lambda specs: {"ledger": RULES["ledger"]})
    words = f"--scenario {scenario} --seeds 1 --first-seed {first_seed} --jobs 1 --no-pipeline"
    assert main(["leaderboard", *words.split(), "--out", str(out)]) == 0


def test_the_command_prints_tables_that_fit_and_saves_them_with_pictures(
    rule_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short(monkeypatch)
    monkeypatch.setattr(fault_size, "DELAYS", (0.02, 0.5))
    monkeypatch.setattr(fault_size, "RATES", (0.5,))
    monkeypatch.setattr(
        report, "read_rules", lambda specs: {"ledger": RULES["ledger"], "mine": UserRule(specs[0])}
    )
    words = ["--seeds", "1", "--first-seed", "1", "--jobs", "1", "--rule", f"{rule_file}:mine"]
    assert main(["leaderboard", *words, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines()[:-1])) <= 110
    for line in (
        "2 scenarios, 2 rules, seeds 1 to 1.",
        report.PUBLISHED_RUN,
        "count in no total",
        "faults that count",
    ):
        assert line in " ".join(told.split())
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {
        "runs.csv",
        "pipeline.csv",
        "sizes.csv",
        "leaderboard.md",
        "leaderboard.png",
        "size_curve.png",
        "deployment.png",
        "reliability.png",
    }
    page = (tmp_path / "out" / "leaderboard.md").read_text("utf-8")
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("|")]
    assert [" ledger ", " 100 (0-100) "] in [row[:2] for row in rows], (
        "one scenario says nothing of others"
    )
    assert len({len(row) for row in rows}) > 1
    assert (tmp_path / "out" / "size_curve.png").read_bytes().startswith(b"\x89PNG")
    assert pd.read_csv(tmp_path / "out" / "runs.csv")["rule"].tolist() == ["ledger", "mine"] * 2


def test_one_scenario_can_be_chosen_and_then_sizes_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger_alone(monkeypatch, "slow", tmp_path / "out")
    assert "nothing" not in capsys.readouterr().out
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"runs.csv", "leaderboard.md", "leaderboard.png", "reliability.png"}


def test_where_nothing_counts_the_totals_are_empty_and_of_confidence_there_is_nothing_to_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger_alone(monkeypatch, "nothing", tmp_path / "out")
    told = capsys.readouterr().out
    assert told.startswith("1 scenario, 1 rule, seeds 1000 to 1000.")
    assert "nan" not in told
    assert "confidence" not in told


def test_a_rule_that_raises_is_named_as_typed_and_nothing_is_saved(
    rule_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short(monkeypatch)
    words = ["--scenario", "slow", "--seeds", "1", "--jobs", "1", "--rule", f"{rule_file}:broken"]
    assert main(["leaderboard", *words, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("shop leaderboard: --rule broken must not raise, got AttributeError: ")
    assert "(my_rules.py, line 8)" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("seeds", "first"), [("1", "50000"), ("2", "49999"), ("10000", "40001"), ("1", "2000000000")]
)
def test_seeds_that_the_confidence_was_learned_from_are_refused(
    seeds: str, first: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--seeds", seeds, "--first-seed", first, "--out", str(tmp_path / "out")]
    assert main(["leaderboard", *words]) == 2
    told = f"--first-seed must be at most {50_000 - int(seeds)} for {seeds} seed"
    assert capsys.readouterr().err.startswith(f"shop leaderboard: {told}")
    assert calibrate.CALIBRATION_SEED == 50_000
    assert not (tmp_path / "out").exists()


def test_the_last_seeds_before_them_are_fine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger_alone(monkeypatch, "slow", tmp_path / "out", first_seed=49999)
    assert "seeds 49999 to 49999" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_ends_the_leaderboard_and_all_its_processes_in_the_midst_of_work(
    tmp_path: Path,
) -> None:
    rule, at_work, out = tmp_path / "noting.py", tmp_path / "at_work", tmp_path / "out"
    rule.write_text(NOTING, "utf-8")
    at_work.mkdir()
    words = ["--scenario", "delay", "--seeds", "9", "--no-pipeline", "--rule", f"{rule}:noting"]
    command = [
        sys.executable,
        "-u",
        "-m",
        "shop",
        "leaderboard",
        "--jobs",
        "2",
        "--out",
        str(out),
        *words,
    ]
    environment = os.environ | {
        "PYTHONPATH": str(Path(shop.__file__).parents[1]),
        "AT_WORK": str(at_work),
    }
    streams = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "encoding": "utf-8",
        "start_new_session": True,
    }
    with subprocess.Popen(command, env=environment, **streams) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline().startswith("1 scenario")
            workers = {int(path.name) for path in waited_for(lambda: list(at_work.iterdir()), 2)}
            assert process.pid not in workers
            assert all(alive(pid) for pid in workers)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
            # ends when nobody holds the other end any more
            rest, _ = process.communicate(timeout=30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, rest) == (130, "Stopped.\n")
    assert not any(alive(pid) for pid in workers)
    assert {path.name for path in tmp_path.iterdir()} <= {"noting.py", "at_work", "__pycache__"}, (
        "nothing half-written"
    )


NOTING = """
import os
import time
from pathlib import Path

def noting(usual, abnormal):
    Path(os.environ["AT_WORK"], str(os.getpid())).touch()
    time.sleep(60)  # nobody may wait until the work is done
    return []
"""


def waited_for(look: Callable[[], list[Path]], n: int) -> list[Path]:
    """What is seen once there are `n` of it."""
    deadline = time.monotonic() + 120
    while len(seen := look()) < n:
        assert time.monotonic() < deadline, f"{len(seen)} of {n} processes are at work"
        time.sleep(0.05)
    return seen


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
