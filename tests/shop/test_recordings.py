"""Recordings of scenarios: the command, the truth beside them, and those in data/."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

import aiops_lab as lab
import shop
from aiops_lab import read_spans
from aiops_lab.evaluate.scoring import score
from aiops_lab.explain.rules import RULES
from aiops_lab.record.faults import Fault
from shop.__main__ import main
from shop.catalogue import SCENARIOS, SLOW_PAYMENT, listing
from shop.command_line import parser
from shop.live import record as record_module
from shop.recordings import read_truth, true_faults
from shop.shops import PAYMENT
from shop.virtual_time import simulate
from shop.virtual_time.record import record_scenario
from shop.virtual_time.scenario import Scenario, VirtualFault
from shop.virtual_time.simulate import virtual
from shop.virtual_time.twins import affected, twin, windows_of

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data"
MAKE = runpy.run_path(str(DATA / "make.py"))
VIRTUAL: dict[str, Scenario] = MAKE["VIRTUAL"]
LIVE = MAKE["LIVE"]
SHORT = Scenario(
    "short", (PAYMENT,), (replace(SLOW_PAYMENT, start_s=10, end_s=20),), "this", "so", seconds=25
)


def at(second: float) -> pd.Timestamp:
    return pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(seconds=second)


# ---- the truth


def test_the_truth_of_a_scenario_is_read_off_its_twin(tmp_path: Path) -> None:
    spans = record_scenario(tmp_path / "x.csv", SHORT, 3)
    pair, truth = twin(SHORT, 3), read_truth(tmp_path / "x.csv")
    pd.testing.assert_frame_equal(spans, pair.with_fault)
    pd.testing.assert_frame_equal(read_spans(tmp_path / "x.csv"), spans)
    (fault,) = truth.to_dict("records")
    told = (
        fault["start"],
        fault["end"],
        fault["kind"],
        fault["service"],
        fault["endpoint"],
        fault["duration_ms"],
    )
    assert told == (at(10), at(20), "delay", *PAYMENT, 400)
    assert fault["affected"] == affected(pair, 10, 20) == truth.attrs["affected"]
    assert ("checkout", "/checkout") in fault["affected"]
    assert truth.attrs["window"] == (at(10), at(20))
    known = {
        name: truth.attrs[name]
        for name in ("name", "causes", "defeats", "why", "seed", "rate", "seconds")
    }
    assert known == {
        "name": "short",
        "causes": [PAYMENT],
        "defeats": "this",
        "why": "so",
        "seed": 3,
        "rate": 20,
        "seconds": 25,
    }


def test_of_two_faults_each_has_what_it_alone_degrades_and_both_are_one_incident(
    tmp_path: Path,
) -> None:
    record_scenario(tmp_path / "x.csv", VIRTUAL["two_faults"])
    truth = read_truth(tmp_path / "x.csv")
    stock, bank = (set(places) for places in truth["affected"])
    assert stock == {("warehouse", "/shelf"), ("stock", "/reserve"), ("front", "/order")}
    assert bank == {("bank", "/transfer"), ("billing", "/charge"), ("front", "/order")}
    assert set(truth.attrs["affected"]) == stock | bank
    assert truth["group"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("places", "starts", "groups"),
    [
        ((PAYMENT, ("inventory", "/inventory")), (10, 10), [1, 1]),  # both slow down /checkout
        ((PAYMENT, ("inventory", "/inventory")), (10, 16), [1, 2]),  # one after the other
        ((PAYMENT, ("health", "/health")), (10, 10), [1, 2]),
        ((("health", "/health"), PAYMENT, ("inventory", "/inventory")), (10, 10, 10), [1, 2, 2]),
        # the third links the others
        ((PAYMENT, PAYMENT, ("inventory", "/inventory")), (5, 14, 10), [2, 2, 2]),
    ],
)
def test_faults_that_degrade_a_common_endpoint_at_once_are_one_group(
    places, starts, groups, tmp_path: Path
) -> None:
    def delay(place: tuple[str, str], start_s: float) -> Fault:
        return Fault("delay", *place, start_s=start_s, end_s=start_s + 6, duration_ms=300)

    faults = tuple(map(delay, places, starts))
    record_scenario(tmp_path / "x.csv", Scenario("x", places, faults, seconds=25))
    assert read_truth(tmp_path / "x.csv")["group"].tolist() == groups


def test_a_fault_too_weak_to_degrade_anything_counts_as_affecting_its_endpoint(
    tmp_path: Path,
) -> None:
    weak = replace(SHORT, faults=(replace(SHORT.faults[0], duration_ms=1),))
    record_scenario(tmp_path / "x.csv", weak)
    truth = read_truth(tmp_path / "x.csv")
    assert truth.attrs["affected"] == []
    assert truth["affected"].tolist() == [[PAYMENT]]


def test_a_fault_of_a_whole_service_has_no_endpoint_and_one_that_never_ends_ends_with_the_run(
    tmp_path: Path,
) -> None:
    slow = VirtualFault("slow", "payment", "*", start_s=10, factor=9)
    record_scenario(tmp_path / "x.csv", replace(SHORT, faults=(slow,)))
    (fault,) = read_truth(tmp_path / "x.csv").to_dict("records")
    assert (fault["service"], fault["endpoint"], fault["end"]) == ("payment", None, at(25))
    assert (fault["factor"], fault["caller"]) == (9, None)


def test_the_faults_of_a_scenario_are_those_that_its_recording_tells(tmp_path: Path) -> None:
    forever = VirtualFault("slow", "inventory", "*", start_s=5, factor=9)
    scenario = replace(SHORT, faults=(*SHORT.faults, forever))
    record_scenario(tmp_path / "x.csv", scenario)
    told, known = read_truth(tmp_path / "x.csv"), true_faults(scenario)
    shared = [column for column in known if column != "caller"]  # None there, NaN here
    assert {"start", "end", "service", "endpoint", "duration_ms", "factor"} <= set(shared)
    pd.testing.assert_frame_equal(known[shared], told[shared], check_dtype=False)


def test_a_scenario_without_faults_can_be_scored_without_a_file() -> None:
    faults = true_faults(SCENARIOS["calm"])
    assert faults.empty
    assert score(lab.replay(virtual(SCENARIOS["calm"])), faults).faults == 0


def test_the_truth_of_a_scenario_without_faults_has_none_and_can_be_scored(tmp_path: Path) -> None:
    spans = record_scenario(tmp_path / "x.csv.gz", replace(SCENARIOS["bad client"], seconds=190))
    truth = read_truth(tmp_path / "x.csv.gz")
    assert truth.empty
    assert truth.attrs["causes"] == truth.attrs["affected"] == []
    assert truth.attrs["window"] == (at(120), at(180))
    assert score(lab.replay(spans), truth).faults == 0


def test_read_truth_takes_the_name_of_either_file_and_says_what_is_none(tmp_path: Path) -> None:
    beside = DATA / "skew.csv.gz.truth.json"
    pd.testing.assert_frame_equal(read_truth(beside), read_truth(DATA / "skew.csv.gz"))
    (tmp_path / "x.truth.json").write_text("[]")
    with pytest.raises(ValueError, match="path must be a recording with its truth beside it, got"):
        read_truth(tmp_path / "x")


@pytest.mark.parametrize("name", LIVE)
def test_the_truth_of_a_live_recording_is_read_alike(name: str) -> None:
    spans, truth = read_spans(DATA / f"{name}.csv.gz"), read_truth(DATA / f"{name}.csv.gz")
    assert truth["start"].dtype == truth["end"].dtype == spans["start"].dtype
    assert ((spans["start"].min() < truth["start"]) & (truth["start"] < truth["end"])).all()
    assert "affected" not in truth
    assert truth.attrs["seed"] in (1, 2, 3, 4)
    found = score(lab.replay(spans, lab.Sensitivity(window_s=5)), truth)
    assert (found.precision, found.recall) == (1, 1) or name == "graded"


# ---- the command


def test_record_runs_a_scenario_by_name_within_seconds_and_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "running", None)  # nothing may start a shop
    file = tmp_path / "x.csv.gz"
    assert main(["record", str(file), "--scenario", "quiet night", "--seed", "4"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"\d+ spans in {file}, the truth in {file}.truth.json\n", out)
    assert err == ""
    pd.testing.assert_frame_equal(read_spans(file), shop.virtual(SCENARIOS["quiet night"], 4))
    assert json.loads(Path(f"{file}.truth.json").read_text())["seed"] == 4


LONG = 'name = "long"\nrate = 1000\nseconds = 101\nmix = { "/health" = 1 }\n'


@pytest.mark.parametrize(("more", "shown"), [([], True), (["--quiet"], False)])
def test_a_long_run_shows_how_far_it_is_unless_it_is_to_be_quiet(
    more: list[str],
    shown: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not shown:  # a shorter run is long enough to be asked to be quiet
        monkeypatch.setattr(simulate, "LONG_RUN", 1000)
    (tmp_path / "long.toml").write_text(LONG if shown else LONG.replace("101", "2"))
    words = ["record", str(tmp_path / "x.csv"), "--scenario", str(tmp_path / "long.toml"), *more]
    assert main(words) == 0
    assert ("virtual s" in capsys.readouterr().err) is shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--rate", "20"],
            "--rate must not be given with --scenario, which defines the run, got 20.0",
        ),
        (
            ["--fault", "error"],
            "--fault must not be given with --scenario, which defines the run, got 'error'",
        ),
        (
            ["--quiet", "--warmup", "1", "--recovery", "2"],
            "--warmup must not be given with --scenario",
        ),
        (["--services", "many"], "--services must not be given with --scenario"),
        (
            ["--scenario", "leek"],
            "--scenario must be one that `scenarios` lists, such as 'leak', or a .toml file,",
        ),
        (["--scenario", "no.toml"], "--scenario must be a file that can be read, got 'no.toml'"),
        (
            ["--scenario", "bad.toml"],
            "bad.toml: rate must be a number between 0.001 and 100000, got -1",
        ),
        (
            ["--scenario", "worse.toml"],
            "--scenario must be valid TOML: Expected '=' after a key in a key/value pair ",
        ),
        (
            ["--scenario", "idle.toml"],
            "faults must have an effect on some request (seed 0), got 'delay at payment",
        ),
    ],
)
def test_what_record_cannot_do_with_a_scenario_is_said_before_it_writes(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text('name = "x"\nrate = -1')
    (tmp_path / "worse.toml").write_text("name")
    (tmp_path / "idle.toml").write_text(
        'name = "x"\nseconds = 5\ncauses = [["payment", "/payment"]]\n'
        '[[faults]]\nkind = "delay"\nservice = "payment"\nendpoint = "/payment"\n'
    )
    assert main(["record", "x.csv", "--scenario", "delay", *words]) == 2
    assert capsys.readouterr().err.startswith(f"shop record: {message}")
    assert not list(tmp_path.glob("x.csv*"))


def test_ctrl_c_leaves_the_old_files_as_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, beside = tmp_path / "x.csv", tmp_path / "x.csv.truth.json"
    file.write_text("old")

    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    # the spans are written by now, the truth is not
    monkeypatch.setattr(Path, "write_text", interrupted)
    assert main(["record", str(file), "--scenario", "quiet night"]) == 130
    assert capsys.readouterr().err == "Stopped.\n"
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
    assert not beside.exists()


def test_scenarios_lists_the_catalogue_in_100_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenarios"]) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 100
    flat = " ".join(told.split())
    for name, scenario in SCENARIOS.items():
        causes = ", ".join(" ".join(place) for place in scenario.causes)
        head = (
            f"{name} cause{'s' * (len(scenario.causes) > 1)}: {causes}; defeats: {scenario.defeats}"
        )
        assert f"{head if causes else f'{name} no fault'} {scenario.why}" in flat
    assert max(map(len, listing(60).splitlines())) <= 60


# ---- data/


@cache
def recorded(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    return read_spans(DATA / f"{name}.csv.gz"), read_truth(DATA / f"{name}.csv.gz")


def test_the_recordings_are_made_again_span_for_span_in_another_process(tmp_path: Path) -> None:
    command = [sys.executable, str(DATA / "make.py"), *VIRTUAL, "--out", str(tmp_path)]
    subprocess.run(
        command, check=True, env=os.environ | {"PYTHONHASHSEED": "17", "PYTHONPATH": str(ROOT)}
    )
    for name in VIRTUAL:
        pd.testing.assert_frame_equal(
            read_spans(tmp_path / f"{name}.csv.gz"), recorded(name)[0], check_exact=True
        )
        beside = f"{name}.csv.gz.truth.json"
        assert (tmp_path / beside).read_text("utf-8") == (DATA / beside).read_text("utf-8")
    assert sorted(path.name for path in tmp_path.glob("*.csv.gz*")) == sorted(
        f"{name}.csv.gz{more}" for name in VIRTUAL for more in ("", ".truth.json")
    )


def test_a_recording_for_other_tools_is_made_again_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MAKE["for_other_tools"].__globals__, "JAEGER", ("two faults",))
    MAKE["for_other_tools"](tmp_path / "jaeger")
    for name in ("two_faults.json.gz", "two_faults.json.gz.truth.json"):
        assert (tmp_path / "jaeger" / name).exists()
    made, stored = (
        read_spans(folder / "jaeger" / "two_faults.json.gz") for folder in (tmp_path, DATA)
    )
    pd.testing.assert_frame_equal(made, stored, check_exact=True)


def test_every_recording_has_its_truth_its_maker_and_its_lines_in_the_readme() -> None:
    there = {path.name for path in DATA.glob("*.csv.gz*")}
    assert there == {
        f"{name}.csv.gz{more}" for name in (*VIRTUAL, *LIVE) for more in ("", ".truth.json")
    }
    told = (DATA / "README.md").read_text("utf-8")
    assert all(name in told for name in (*VIRTUAL, *LIVE))


@pytest.mark.parametrize(("name", "words"), MAKE["RECORD"].items())
def test_a_live_recording_was_made_by_the_command_of_the_readme(name: str, words: str) -> None:
    assert f"    python -m shop record data/{name}.csv.gz {words}\n" in (
        DATA / "README.md"
    ).read_text("utf-8")
    options, truth = parser().parse_args(["record", "x.csv", *words.split()]), recorded(name)[1]
    given = {
        "rate": options.rate,
        "seed": options.seed,
        "services": options.services,
        "warmup_s": options.warmup,
    }
    given |= {"fault_s": options.seconds, "recovery_s": options.recovery}
    assert truth.attrs == given
    assert (truth["kind"].tolist(), truth["endpoint"].tolist()) == (
        [options.fault],
        [options.endpoint],
    )


def test_the_graded_recording_has_a_fault_of_each_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"WARMUP_S": 0.2, "FAULT_S": 0.2, "CALM_S": 0.1, "ADDED_MS": (80, 20), "RATE": 40}
    for name, value in short.items():
        monkeypatch.setitem(MAKE["graded"].__globals__, name, value)
    MAKE["live"]("graded", tmp_path / "x.csv")
    assert read_truth(tmp_path / "x.csv")["duration_ms"].tolist() == [80, 20]
    assert len(read_spans(tmp_path / "x.csv")) > 10
    assert recorded("graded")[1]["duration_ms"].tolist() == [80, 20, 320, 40, 160]


@pytest.mark.parametrize("words", [["nope"], ["graded"], ["--live", "skew"]])
def test_what_cannot_be_made_is_refused_with_what_can(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["make.py", *words])
    with pytest.raises(SystemExit, match="2"):
        MAKE["main"]()
    known = ", ".join(LIVE if "--live" in words else (*VIRTUAL, "jaeger"))
    assert f"NAME must be one of {known}, got {words[-1]!r}" in capsys.readouterr().err


@pytest.mark.parametrize("name", VIRTUAL)
def test_a_recording_is_what_the_readme_says(name: str) -> None:
    (row,) = re.findall(rf"^\| {name} \|.*$", (DATA / "README.md").read_text("utf-8"), re.MULTILINE)
    _, _, _, times, rate, size, right, _ = (cell.strip() for cell in row.split("|"))
    (spans, truth), scenario = recorded(name), VIRTUAL[name]
    kb = round((DATA / f"{name}.csv.gz").stat().st_size / 1000)
    assert size == f"{len(spans):,}, {kb}"
    assert kb < 150
    fault = scenario.faults[0]
    assert (
        times == f"{fault.start_s}, {fault.end_s - fault.start_s}, {scenario.seconds - fault.end_s}"
    )
    assert rate == f"{scenario.rate}"
    since, until = ((moment - at(0)).total_seconds() for moment in truth.attrs["window"])
    usual, now = windows_of(replace(scenario, window=(since, until)), spans)
    causes, reference = truth.attrs["causes"], lab.learn(usual)
    names = {
        rule
        for rule, rank in RULES.items()
        if {s.key for s in rank(reference, now)[: len(causes)]} == {*causes}
    }
    assert "ledger" in names
    others = set(RULES) - {"ledger", "random"}
    said = (
        others - {"entry", "first by start"}
        if right.startswith("all but")
        else set(right.split(", ")) - {"none"}
    )
    assert names & others == said


@pytest.mark.parametrize("name", VIRTUAL)
def test_a_replay_of_a_recording_finds_its_fault_and_its_cause(name: str) -> None:
    spans, truth = recorded(name)
    found = score(lab.replay(spans), truth)
    assert (found.incidents, found.precision, found.recall, found.ranks, found.grouping_f1) == (
        1,
        1,
        1,
        (1,),
        1,
    )
