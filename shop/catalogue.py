"""The scenarios of the virtual shop: faults and what only resembles one, each with its true causes.

Each fault names a rule of `aiops_lab.explain.rules.RULES` that it defeats: one that names a wrong
endpoint in most runs. Where no rule does so, it names one that returns no suspect, and the scenario
says so. The shops themselves are in `shop.shops`.
"""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill

from aiops_lab.record.faults import Fault
from shop.scenario_parts import (
    END,
    START,
    ScenariosByName,
    fault_at,
    on_market,
    virtual_fault_at,
)
from shop.shops import (
    CHECKOUT,
    FORGIVING,
    IMPATIENT,
    INVENTORY,
    MARKET,
    MARKET_MIX,
    NARROW,
    PAYMENT,
    STUBBORN,
    with_calls,
)
from shop.virtual_time.scenario import EVERYWHERE, Scenario, VirtualFault

__all__ = [
    "CHECKOUT",
    "GROUPS",
    "IMPATIENT",
    "MARKET",
    "MARKET_MIX",
    "SCENARIOS",
    "Scenario",
    "VirtualFault",
    "with_calls",
]

NAME_WIDTH = 21

"""Width of the column of names in `listing`, in characters."""


def _weak(name: str, fault: Fault, defeats: str) -> Scenario:
    why = (
        "So small that it is hardly distinguishable from chance: the curve over its size says more "
        "than one verdict."
    )
    return Scenario(f"weak {name}", (PAYMENT,), (fault,), defeats, why)


SLOW_PAYMENT = fault_at("delay", PAYMENT, duration_ms=400)

_REQUEST_FAULTS = (
    Scenario(
        "delay",
        (PAYMENT,),
        (SLOW_PAYMENT,),
        "entry",
        "/checkout is slow too, because it waits for /payment.",
    ),
    Scenario(
        "jitter",
        (PAYMENT,),
        (fault_at("delay", PAYMENT, duration_ms=300, jitter_ms=300),),
        "entry",
        "Half of the requests are hardly delayed, so the median rises less than the mean; "
        "/checkout waits for the others.",
    ),
    Scenario(
        "entry",
        (CHECKOUT,),
        (fault_at("delay", CHECKOUT, duration_ms=300),),
        "deepest error",
        "The entry itself is slow, and its callees are not. Nothing fails, so this rule returns no "
        "suspect; most others are right.",
    ),
    Scenario(
        "errors",
        (PAYMENT,),
        (fault_at("error", PAYMENT),),
        "total z",
        "Failed requests end early: the durations of /checkout fall, and /inventory is no longer "
        "called.",
    ),
    Scenario(
        "flaky",
        (INVENTORY,),
        (fault_at("error", INVENTORY, rate=0.3),),
        "self-time z",
        "Three of ten requests fail; the durations hardly change.",
    ),
    Scenario(
        "repaired",
        (PAYMENT,),
        (fault_at("error", PAYMENT, rate=0.3),),
        "total z",
        "Two retries repair nearly all failures: customers see no error, but wait longer.",
        topology=FORGIVING,
    ),
    Scenario(
        "hang",
        (PAYMENT,),
        (fault_at("hang", PAYMENT),),
        "first by start",
        "/payment never answers; the failure that is recorded is that of /checkout, which began "
        "earlier and gave up.",
    ),
    Scenario(
        "refused",
        (PAYMENT,),
        (virtual_fault_at("refuse", PAYMENT),),
        "deepest error",
        "A service that accepts no connections writes no spans: only its callers fail.",
    ),
    Scenario(
        "impatient caller",
        (PAYMENT,),
        (fault_at("delay", PAYMENT, duration_ms=2000),),
        "first by end",
        "/checkout gives up after 0.5 s and fails; /payment answers well, when nobody waits any "
        "more.",
        topology=IMPATIENT,
    ),
    on_market(
        "ordered timeouts",
        (("bank", "/transfer"),),
        (fault_at("delay", ("bank", "/transfer"), duration_ms=10_000),),
        "first by end",
        "/charge waits for 1 s and /order for 3: they fail one after the other, and the bank "
        "answers correctly, but late.",
    ),
    Scenario(
        "retry storm",
        (PAYMENT,),
        (fault_at("delay", PAYMENT, duration_ms=450),),
        "total z",
        "Each call times out and is made four times; the work that nobody waits for fills the "
        "service.",
        topology=STUBBORN,
        workers={"payment": 24},
        backoff_ms=50,
    ),
    on_market(
        "network edge",
        (("price", "/price"),),
        (
            virtual_fault_at(
                "network",
                ("price", "/price"),
                caller=("front", "/order"),
                duration_ms=150,
                jitter_ms=30,
            ),
        ),
        "self-time z",
        "The way to /price is slow. No endpoint is: the time lies between the spans.",
    ),
    on_market(
        "host network",
        (("catalog", "/products"), ("catalog", "/find")),
        (virtual_fault_at("network", ("catalog", EVERYWHERE), duration_ms=120, jitter_ms=20),),
        "walk down",
        "All calls to one service travel slowly; its own spans are as short as before.",
    ),
    on_market(
        "slow parallel child",
        (("recommend", "/similar"),),
        (fault_at("delay", ("recommend", "/similar"), duration_ms=250),),
        "Ochiai",
        "Two calls run in parallel and the request waits for the slower one; but every slow "
        "request made both.",
    ),
    on_market(
        "load shedding",
        (("stock", "/reserve"),),
        (virtual_fault_at("shed", ("stock", "/reserve"), rate=0.6),),
        "total z",
        "An endpoint that sheds load answers 503 at once: it is faster than before, and so are its "
        "callers.",
    ),
    on_market(
        "leak",
        (("cart", "/cart"),),
        (virtual_fault_at("leak", ("cart", "/cart"), duration_ms=400),),
        "Ochiai",
        "The delay grows slowly: no two windows differ much. And every request that reached the "
        "cart reached the bank, too.",
    ),
    on_market(
        "processor",
        (("catalog", "/products"), ("catalog", "/find")),
        (virtual_fault_at("slow", ("catalog", EVERYWHERE), factor=5.0),),
        "entry",
        "All endpoints of one service are slow at once, because they share a processor.",
    ),
    on_market(
        "two faults",
        (("warehouse", "/shelf"), ("bank", "/transfer")),
        (
            fault_at("delay", ("warehouse", "/shelf"), duration_ms=300),
            fault_at("error", ("bank", "/transfer"), rate=0.5),
        ),
        "first by start",
        "One is slow and one fails, in the same requests: counted by failures, there is only one.",
    ),
    Scenario(
        "upstream saturated",
        (PAYMENT,),
        (SLOW_PAYMENT,),
        "self-time z",
        "/checkout occupies its 4 workers while it waits for /payment; the time in its queue looks "
        "like its own work.",
        workers={"checkout": 4},
    ),
    Scenario(
        "upstream full",
        (PAYMENT,),
        (fault_at("hang", PAYMENT),),
        "Ochiai",
        "All 8 requests that /checkout admits wait for /payment, so it refuses most customers; "
        "these requests never reach the cause.",
        topology=NARROW,
    ),
    Scenario(
        "metastable",
        (PAYMENT,),
        (fault_at("delay", PAYMENT, duration_ms=3000, end_s=135.0),),
        "first by start",
        "The trigger is long gone; retries keep /payment saturated, and nearly all its work is "
        "for nobody.",
        topology=STUBBORN,
        workers={"payment": 1},
        rate=16.0,
        window=(150.0, 200.0),
    ),
)

_WEAK = (
    _weak("errors 2 %", fault_at("error", PAYMENT, rate=0.02), "self-time z"),
    _weak("errors 5 %", fault_at("error", PAYMENT, rate=0.05), "self-time z"),
    _weak("delay 20 %", fault_at("delay", PAYMENT, duration_ms=9), "entry"),
    _weak("delay 50 %", fault_at("delay", PAYMENT, duration_ms=22), "entry"),
)

_UNDER_THE_NOISE = Scenario(
    "under the noise",
    (PAYMENT,),
    (fault_at("delay", PAYMENT, duration_ms=0.5),),
    "entry",
    "Cannot be solved from spans: chance alone changes the mean of these 800 requests by half a "
    "millisecond, and the fault by no more. Only the twin shows it.",
)

_SHARED_HOST = on_market(
    "shared host",
    (("cart", "/cart"), ("mail", "/send")),
    (
        virtual_fault_at("slow", ("cart", EVERYWHERE), factor=5.0),
        virtual_fault_at("slow", ("mail", EVERYWHERE), factor=5.0),
    ),
    "entry",
    "Cannot be solved from spans: both services run on one host that lacks processor time. Spans "
    "name services, not hosts: they show that both are slow, and not why.",
)

_CONDITIONS = (
    Scenario(
        "skew 60 ms",
        (PAYMENT,),
        (SLOW_PAYMENT,),
        "first by end",
        "The clock of /payment is ahead: it seems to end after its caller, which waited for it.",
        skew_ms={"payment": 60.0},
    ),
    Scenario(
        "skew 300 ms",
        (INVENTORY,),
        (fault_at("error", INVENTORY, rate=0.5),),
        "first by end",
        "The clock of /inventory is ahead: its failures seem to come after those of its caller.",
        skew_ms={"inventory": 300.0},
    ),
    Scenario(
        "lost spans",
        (PAYMENT,),
        (SLOW_PAYMENT,),
        "entry",
        "Three of ten spans never arrive: the time that callers waited looks like their own work.",
        lost=0.3,
    ),
)

_DEPLOYMENT = Scenario(
    "deployment",
    why="A new version of /payment takes 20 % longer from now on, which is no fault. Cannot be "
    "solved from spans: by its size alone it is a weak fault.",
    changes=(virtual_fault_at("slow", PAYMENT, factor=1.2, end_s=None),),
)

_NO_FAULT = (
    Scenario("calm", why="Nothing happens."),
    Scenario(
        "surge",
        why="Three times as many customers, within the capacity.",
        profile=((START, 3.0), (END, 1.0)),
        window=(START, END),
    ),
    _DEPLOYMENT,
    Scenario(
        "quiet night",
        why="A tenth of the usual traffic: little traffic is not an outage.",
        profile=((START, 0.1),),
        window=(START, 200.0),
    ),
    Scenario(
        "bad client",
        why="One customer sends invalid orders and gets 400: that is the right answer.",
        changes=(virtual_fault_at("reject", CHECKOUT, rate=0.4, status=400),),
    ),
)

_BEYOND_SPANS = (_UNDER_THE_NOISE, _SHARED_HOST)

_ALL = (*_REQUEST_FAULTS, *_WEAK, *_CONDITIONS, *_NO_FAULT, *_BEYOND_SPANS)

SCENARIOS = ScenariosByName({scenario.name: scenario for scenario in _ALL})

"""All scenarios by name; one without causes has no fault."""

BY_SIZE = "by size"


def _names(*scenarios: Scenario) -> tuple[str, ...]:
    return tuple(scenario.name for scenario in scenarios)


GROUPS: dict[str, tuple[str, ...]] = {
    "faults": _names(*_REQUEST_FAULTS, _SHARED_HOST),
    "traces lie": _names(*_CONDITIONS),
    "no fault": _names(*(scenario for scenario in _NO_FAULT if scenario is not _DEPLOYMENT)),
    BY_SIZE: _names(*_WEAK, _UNDER_THE_NOISE, _DEPLOYMENT),
}

"""The names of the scenarios of each group. For those "by size" a curve over the size says more
than one verdict.
"""


def listing(width: int = 100, scenarios: Mapping[str, Scenario] = SCENARIOS) -> str:
    """Return scenarios as text: name, true causes, the rule that each defeats, and why.

    `width` is the most characters of a line, default 100; `scenarios` are by default those of the
    catalogue.
    """
    return "\n".join(_entry(scenario, width) for scenario in scenarios.values())


def _entry(scenario: Scenario, width: int) -> str:
    name = f"{scenario.name:<{NAME_WIDTH - 1}} "
    indent = " " * NAME_WIDTH
    answer = fill(_answer(scenario), width, initial_indent=name, subsequent_indent=indent)
    why = fill(scenario.why, width, initial_indent=indent, subsequent_indent=indent)
    return f"{answer}\n{why}"


def _answer(scenario: Scenario) -> str:
    if not scenario.causes:
        return "no fault"
    causes = ", ".join(" ".join(place) for place in scenario.causes)
    label = "causes" if len(scenario.causes) > 1 else "cause"
    return f"{label}: {causes}; defeats: {scenario.defeats}"
