"""Scenarios as TOML files: everything can be said, and whatever is wrong is named with its place in
the file.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import aiops_lab as lab
import shop
from aiops_lab.checks import FieldError
from aiops_lab.explain.rules import RULES
from aiops_lab.record.faults import Fault
from shop.catalogue import SCENARIOS
from shop.hard_scenarios import HARD_SCENARIOS
from shop.shops import MARKET
from shop.topology import SEED_SHOP, Call, Endpoint, Topology
from shop.virtual_time.scenario import NotedChange, Scenario, VirtualFault
from shop.virtual_time.scenario_file import find_scenario, read_scenario
from shop.virtual_time.twins import twin, windows_of

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "data" / "scenarios" / "slow_bank.toml"


def toml(value: Any) -> str:
    """A value as TOML has it on one line."""
    if is_dataclass(value):
        return toml(plain(value))
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{json.dumps(key)} = {toml(one)}" for key, one in value.items()) + "}"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(one) for one in value) + "]"
    return json.dumps(value) if isinstance(value, (str, bool)) else repr(value)


def plain(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that are given: TOML knows no null."""
    given = {f.name: getattr(value, f.name) for f in fields(value)}
    return {name: one for name, one in given.items() if one is not None}


def document(table: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in table.items())


def written(scenario: Scenario) -> str:
    """A scenario as a file, with its topology in full."""
    own, shop_of_it = plain(scenario), plain(scenario.topology)
    del own["topology"]
    return document(own | shop_of_it)


@pytest.fixture
def read(tmp_path: Path):
    def read_text(text: str) -> Scenario:
        file = tmp_path / "mine.toml"
        file.write_text(text, "utf-8")
        return read_scenario(file)

    return read_text


# ---- what can be said


@pytest.mark.parametrize("scenarios", [SCENARIOS, HARD_SCENARIOS], ids=["catalogue", "harder"])
def test_every_scenario_of_the_catalogue_can_be_written_as_a_file(scenarios, read) -> None:
    for scenario in scenarios.values():
        assert read(written(scenario)) == scenario


def test_every_field_can_be_said(read) -> None:
    everything = Scenario(
        name="all",
        causes=(("a", "/a"),),
        faults=(
            Fault("delay", "a", "/a", 10.0, 20.0, 300.0, 100.0, 0.5, 503, 5.0),
            VirtualFault(
                "network",
                "b",
                "/b",
                10,
                20,
                300.0,
                100.0,
                0.5,
                503,
                5.0,
                factor=2.0,
                caller=("a", "/a"),
            ),
        ),
        defeats="this",
        why="because",
        topology=Topology(
            (
                Endpoint(
                    "a",
                    "/a",
                    "POST",
                    7.0,
                    0.1,
                    (Call("b", "/b", 2.0, 1), (Call("b", "/b"), Call("b", "/b"))),
                ),
                Endpoint("b", "/b", capacity=3),
            ),
            front="a",
        ),
        rate=5.0,
        seconds=30.0,
        mix={"/a": 1.0},
        changes=(VirtualFault("slow", "b", "*", 1.0, factor=1.5),),
        profile=((0.0, 1.0), (10.0, 2.0)),
        daily=0.1,
        workers={"b": 2},
        backoff_ms=20.0,
        network_ms=1.0,
        overhead_ms=0.1,
        skew_ms={"b": -5.0},
        lost=0.2,
        sampled=0.5,
        noted=(NotedChange(9.0, "a", "deployment", behind=True),),
        window=(10.0, 15.0),
    )
    at_default = [f.name for f in fields(Scenario) if getattr(everything, f.name) == f.default]
    assert at_default == [], "a new field is to be said here, too"
    assert read(written(everything)) == everything


def test_what_is_left_out_keeps_its_default(read) -> None:
    assert read('name = "calm"') == Scenario("calm")
    assert read('name = "calm"\ntopology = "seed"').topology is SEED_SHOP
    assert read('name = "calm"\ntopology = "market"').topology is MARKET


def test_a_mark_at_the_begin_of_the_file_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b'\xef\xbb\xbfname = "calm"\r\n')
    assert read_scenario(tmp_path / "x.toml") == Scenario("calm")


def test_the_example_has_an_effect_and_defeats_the_rule_that_it_says(tmp_path: Path) -> None:
    scenario = shop.read_scenario(EXAMPLE)
    usual, now = windows_of(scenario, twin(scenario, 1).with_fault)
    first = {
        name: RULES[name](lab.learn(usual), now)[0].key for name in ("ledger", scenario.defeats)
    }
    assert (first["ledger"],) == scenario.causes
    assert first[scenario.defeats] not in scenario.causes


def test_two_processes_run_a_file_with_retries_parallel_calls_and_jitter_alike(
    tmp_path: Path,
) -> None:
    scenario = read_scenario(EXAMPLE)
    stages = [stage for endpoint in scenario.topology.endpoints for stage in endpoint.stages]
    assert any(len(stage) > 1 for stage in stages)
    assert any(call.retries for stage in stages for call in stage)
    assert scenario.backoff_ms
    assert scenario.faults[0].jitter_ms
    assert 0 < scenario.faults[0].rate < 1
    made = set()
    for hash_seed in ("1", "2"):
        file = tmp_path / f"{hash_seed}.csv"
        command = [
            sys.executable,
            "-m",
            "shop",
            "record",
            str(file),
            "--scenario",
            str(EXAMPLE),
            "--seed",
            "5",
        ]
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        made.add((file.read_bytes(), Path(f"{file}.truth.json").read_bytes()))
    assert len(made) == 1


# ---- what is wrong is named


BASE: dict[str, Any] = {
    "name": "mine",
    "causes": [["bank", "/pay"]],
    "seconds": 60,
    "mix": {"/order": 1},
    "workers": {"bank": 2},
    "front": "front",
    "endpoints": [
        {
            "service": "front",
            "route": "/order",
            "calls": [{"service": "bank", "endpoint": "/pay", "timeout_s": 1}],
        },
        {"service": "bank", "route": "/pay", "calls": []},
        {"service": "bank", "route": "/idle"},
    ],
    "faults": [
        {
            "kind": "delay",
            "service": "bank",
            "endpoint": "/pay",
            "start_s": 20,
            "end_s": 40,
            "duration_ms": 90,
        },
        {
            "kind": "network",
            "service": "bank",
            "endpoint": "/pay",
            "caller": ["front", "/order"],
            "duration_ms": 90,
        },
    ],
}
GONE = object()


def changed(table: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of nested tables and lists in which the value at the path is another, or gone."""
    copy = table.copy()
    if len(path) > 1:
        copy[path[0]] = changed(table[path[0]], path[1:], value)
    elif value is GONE:
        del copy[path[0]]
    else:
        copy[path[0]] = value
    return copy


FIRST_CALL = ("endpoints", 0, "calls", 0)


def test_the_base_of_the_mistakes_is_none(read) -> None:
    assert read(document(BASE)).reached() == {("front", "/order"), ("bank", "/pay")}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("faults", 0, "start_s"),
            -1,
            "faults[0].start_s must be a number between 0 and 3.1536e+07, got -1",
        ),
        (("faults", 1, "start_s"), 60, "faults[1].start_s must be before the end at 60, got 60"),
        (
            ("faults", 0, "end_s"),
            10,
            "faults[0].end_s must be a number between 20 and 3.1536e+07, got 10",
        ),
        (("faults", 1, "kind"), "leak", "faults[1].end_s must be given for a leak, got None"),
        (
            ("faults", 0, "rate"),
            float("nan"),
            "faults[0].rate must be a number between 0 and 1, got nan",
        ),
        (
            ("faults", 0, "status"),
            200,
            "faults[0].status must be a whole number between 400 and 599, got 200",
        ),
        (
            ("faults", 0, "kind"),
            "dealy",
            "faults[0].kind must be one of delay, error, hang, slow, leak, network, refuse, shed, "
            "reject, repeat, got 'dealy'",
        ),
        (("faults", 0, "kind"), GONE, "faults[0].kind must be given, got None"),
        (
            ("faults", 0, "kind"),
            [],
            "faults[0].kind must be one of delay, error, hang, slow, leak, network, refuse",
        ),
        (
            ("faults", 0, "endpoint"),
            "/pray",
            "faults[0] must be at one of front /order, bank /pay, bank /idle, got 'bank /pray'",
        ),
        (
            ("faults", 0, "endpoint"),
            "/idle",
            "faults[0] must be at an endpoint that requests reach, got 'bank /idle'",
        ),
        (
            ("faults", 1, "caller"),
            ["front", "/buy"],
            "faults[1].caller must be one of front /order, bank /pay, bank",
        ),
        (("faults", 1, "caller"), ["front"], "faults[1].caller must be a list of 2, got ['front']"),
        (("faults", 1, "caller"), "front", "faults[1].caller must be a list, got 'front'"),
        (
            ("faults", 0, "strat_s"),
            5,
            "faults[0].strat_s must be a known key, perhaps start_s, got 5",
        ),
        (
            ("faults", 0, "colour"),
            "red",
            "faults[0].colour must be one of the keys kind, service, endpoint, start_s,",
        ),
        (
            ("faults", 0, "factor"),
            2,
            "faults[0].factor must be one of the keys kind, service, endpoint, start_s",
        ),
        (("faults", 0), 5, "faults[0] must be a table, got 5"),
        (("faults",), {"kind": "delay"}, "faults must be a list, got {'kind': 'delay'}"),
        (("faults", 0, "duration_ms"), "90", "faults[0].duration_ms must be a number, got '90'"),
        (("faults", 0, "duration_ms"), True, "faults[0].duration_ms must be a number, got True"),
        (
            (*FIRST_CALL, "timeout_s"),
            -2,
            "endpoints[0].calls[0].timeout_s must be a number between 0.001 and 3600,",
        ),
        (
            (*FIRST_CALL, "timeout"),
            2,
            "endpoints[0].calls[0].timeout must be a known key, perhaps timeout_s, got 2",
        ),
        (
            (*FIRST_CALL, "retries"),
            1.5,
            "endpoints[0].calls[0].retries must be a whole number, got 1.5",
        ),
        (
            (*FIRST_CALL, "retries"),
            -1,
            "endpoints[0].calls[0].retries must be a whole number between 0 and 100, got",
        ),
        (
            (*FIRST_CALL, "endpoint"),
            "/pray",
            "endpoints[0].calls[0] must be to a known endpoint, got 'bank /pray'",
        ),
        ((*FIRST_CALL, "endpoint"), GONE, "endpoints[0].calls[0].endpoint must be given, got None"),
        (
            (*FIRST_CALL,),
            [{"service": "bank", "endpoint": "/pay", "retries": "x"}],
            "endpoints[0].calls[0][0].retries must be a whole number, got 'x'",
        ),
        (
            (*FIRST_CALL,),
            [{"service": "bank", "endpoint": "/pay"}, {"service": "bank", "endpoint": "/x"}],
            "endpoints[0].calls[0][1] must be to a known endpoint, got 'bank /x'",
        ),
        ((*FIRST_CALL,), "bank", "endpoints[0].calls[0] must be a table, got 'bank'"),
        (
            ("endpoints", 1, "calls"),
            [{"service": "front", "endpoint": "/order"}],
            "endpoints[0].calls must not form a cycle, got 'front /order -> bank /pay -> "
            "front /order'",
        ),
        (
            ("endpoints", 1, "median_ms"),
            -5,
            "endpoints[1].median_ms must be a number between 0 and 8.64e+07, got -5",
        ),
        (
            ("endpoints", 1, "capacity"),
            0,
            "endpoints[1].capacity must be a whole number between 1 and 4096, got 0",
        ),
        (
            ("endpoints", 1, "capacity"),
            True,
            "endpoints[1].capacity must be a whole number, got True",
        ),
        (("endpoints", 1, "route"), "pay", "endpoints[1].route must start with /, got 'pay'"),
        (("endpoints", 1, "service"), 5, "endpoints[1].service must be text, got 5"),
        (("endpoints", 2, "route"), "/pay", "endpoints[2] must be given once, got 'bank /pay'"),
        (("endpoints",), GONE, "endpoints must be given, got None"),
        (("endpoint",), [], "endpoint must be a known key, perhaps endpoints, got []"),
        (("front",), "shop", "front must be one of front, bank, got 'shop'"),
        (
            ("topology",),
            "market",
            "topology must not be given together with front, endpoints, got 'market'",
        ),
        (("name",), GONE, "name must be given, got None"),
        (("secnods",), 5, "secnods must be a known key, perhaps seconds, got 5"),
        (("seconds",), "long", "seconds must be a number, got 'long'"),
        (
            ("causes", 0),
            ["bank", "/pray"],
            "causes[0] must be among front /order, bank /pay, bank /idle, got",
        ),
        (("causes",), GONE, "causes must be given where there are faults, and only there, got ()"),
        (("causes", 0, 1), 5, "causes[0][1] must be text, got 5"),
        (("mix", "/buy"), 1, "mix must name endpoints among /order, /pay, /idle, got '/buy'"),
        (("mix", "/order"), "x", "mix['/order'] must be a number, got 'x'"),
        (("mix",), [1], "mix must be a table, got [1]"),
        (("workers", "bank"), 0, "workers['bank'] must be a whole number above 0, got 0"),
        (("workers", "bank"), 1.0, "workers['bank'] must be a whole number, got 1.0"),
        (
            ("profile",),
            [[0, 1], [5, -2]],
            "profile[1][1] must be a number between 0 and 1e+06, got -2",
        ),
        (("window",), [1, 2, 3], "window must be a list of 2, got [1, 2, 3]"),
        (("window",), [5, 15], "window[1] must be after the last fault has started, at 20, got 15"),
        (("name",), "", "name must be text, got ''"),
        (
            ("faults", 1, "caller"),
            ["bank", "/idle"],
            "faults[1].caller must be an endpoint that requests reach and that calls bank /pay, "
            "got 'bank /idle'",
        ),
        (
            ("faults", 0, "endpoint"),
            "*",
            "faults[0].endpoint must be one endpoint for a delay, got '*'",
        ),
        ((*FIRST_CALL,), [], "endpoints[0].calls[0] must hold a call, got ()"),
        (("window",), [20, 10], "window[1] must be a number between 20 and 60, got 10"),
    ],
)
def test_a_mistake_is_named_with_its_place_in_the_file(
    path: tuple[Any, ...], value: Any, message: str, read
) -> None:
    with pytest.raises(FieldError) as caught:
        read(document(changed(BASE, path, value)))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'name = "x"\nrate = fast\n',
            r"scenario must be valid TOML: Invalid value \(at line 2, column 8\), got",
        ),
        (
            'name = "x"\nname = "y"\n',
            r"scenario must be valid TOML: Cannot overwrite a value \(at line 2, column 11\)",
        ),
        ('name = "x', r"scenario must be valid TOML: .* \(at end of document\), got"),
        ("x = " + "[" * 5000, "scenario must be valid TOML: "),
        ("rate = " + "1" * 5000, "scenario must be valid TOML: "),
        (
            'topology = "bazaar"',
            "topology must be one of seed, market, or be defined by endpoints, got 'bazaar'",
        ),
        (
            "topology = [1]",
            r"topology must be one of seed, market, or be defined by endpoints, got \[1\]",
        ),
    ],
)
def test_a_file_that_makes_no_sense_is_named_with_the_line(text: str, message: str, read) -> None:
    with pytest.raises(FieldError, match=message):
        read(text)


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("none.toml", "must be a file that can be read"),
        (".", "must be a file that can be read"),
        ("nul\0.toml", "must be a file that can be read"),
        (
            "bytes.toml",
            "must be valid TOML: 'utf-8' codec can't decode byte 0xff in position 0: invalid "
            "start byte",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    path: str, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(
        FieldError, match=f"^scenario {re.escape(rule)}, got {re.escape(repr(path))}$"
    ):
        read_scenario(path)


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in nested tables and lists."""
    below = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, one in below:
        yield (*path, key)
        yield from nodes(one, (*path, key))


ODD = (
    "x",
    "",
    -1,
    0,
    1e300,
    10**400,
    float("nan"),
    float("inf"),
    True,
    [],
    [[]],
    {},
    {"x": {}},
    ["x"],
    [5, 5],
    GONE,
)


def test_whatever_stands_anywhere_is_a_scenario_or_a_named_mistake(read) -> None:
    named: set[str] = set()
    for path in nodes(BASE):
        for odd in ODD:
            try:
                assert isinstance(read(document(changed(BASE, path, odd))), Scenario)
            except FieldError as error:
                named.add(error.field)
    assert {re.split(r"\W", field)[0] for field in named} == {*BASE}
    assert len(named) > 40


# ---- by name or by file


def test_a_scenario_is_found_by_its_name_or_its_file() -> None:
    assert find_scenario("leak") is SCENARIOS["leak"]
    assert find_scenario(str(EXAMPLE)) == read_scenario(EXAMPLE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "leek",
            "scenario must be one that `scenarios` lists, such as 'leak', or a .toml file, got "
            "'leek'",
        ),
        (
            "",
            "scenario must be one that `scenarios` lists, such as 'delay', or a .toml file, got ''",
        ),
        ("none.toml", "scenario must be a file that can be read, got 'none.toml'"),
        ("bad.toml", "bad.toml: rate must be a number between 0.001 and 100000, got -1"),
    ],
)
def test_what_is_no_scenario_is_refused_by_name_and_a_mistake_names_its_file(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text('name = "x"\nrate = -1\n')
    with pytest.raises(FieldError, match=f"^{re.escape(message)}"):
        find_scenario(name)


def test_a_fault_that_changes_no_request_is_refused_when_it_runs(read) -> None:
    never = document(changed(BASE, ("faults",), [BASE["faults"][0] | {"rate": 1e-9}]))
    with pytest.raises(
        ValueError,
        match=r"faults must have an effect on some request \(seed 0\), got 'delay at bank",
    ):
        twin(replace(read(never), seconds=30))


def test_a_cause_that_no_fault_has_anything_to_do_with_is_refused(read) -> None:
    idle_too = changed(BASE, ("mix",), {"/order": 1, "/idle": 1})
    assert read(document(changed(idle_too, ("causes",), [["front", "/order"]]))).causes == (
        ("front", "/order"),
    )
    with pytest.raises(
        FieldError, match=r"^causes\[1\] must be at a fault, or among those .*, got 'bank /idle'"
    ):
        read(document(changed(idle_too, ("causes",), [["bank", "/pay"], ["bank", "/idle"]])))
