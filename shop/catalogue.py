"""What can break, and what only looks like it? Scenarios of the virtual shop, each with its true
answer.

Each fault names a rule of `aiops_lab.explain.rules.RULES` that it defeats: one that names somebody
else there, more often than not. Where no rule does, it is one that is silent, and the scenario says
so.
"""

from __future__ import annotations

from dataclasses import replace
from textwrap import fill
from typing import Any

from aiops_lab.record.faults import Fault
from shop.topology import SEED_SHOP, Call, Endpoint, Topology
from shop.virtual_time.scenario import EVERYWHERE, Place, Scenario, VirtualFault

__all__ = ["GROUPS", "MARKET", "SCENARIOS", "Scenario", "VirtualFault"]

START, END = 120.0, 180.0

"""When faults strike, in virtual seconds: two minutes of normal days come first."""

NAME_WIDTH = 21

"""Of the column of names in `listing`."""

PAYMENT, INVENTORY, CHECKOUT = (
    ("payment", "/payment"),
    ("inventory", "/inventory"),
    ("checkout", "/checkout"),
)

MARKET = Topology(
    (
        Endpoint(
            "front",
            "/home",
            median_ms=4,
            calls=((Call("catalog", "/products"), Call("recommend", "/similar")),),
        ),
        Endpoint("front", "/search", median_ms=3, calls=(Call("catalog", "/find"),)),
        Endpoint(
            "front",
            "/order",
            "POST",
            median_ms=6,
            calls=(
                Call("cart", "/cart"),
                (Call("stock", "/reserve"), Call("price", "/price")),
                Call("billing", "/charge", timeout_s=3.0),
                Call("mail", "/send"),
            ),
        ),
        Endpoint("catalog", "/products", median_ms=18),
        Endpoint("catalog", "/find", median_ms=30),
        Endpoint("recommend", "/similar", median_ms=12, calls=(Call("catalog", "/products"),)),
        Endpoint("cart", "/cart", median_ms=8),
        Endpoint("stock", "/reserve", median_ms=10, calls=(Call("warehouse", "/shelf"),)),
        Endpoint("warehouse", "/shelf", median_ms=15),
        Endpoint("price", "/price", median_ms=20),
        Endpoint(
            "billing",
            "/charge",
            "POST",
            median_ms=12,
            calls=(Call("bank", "/transfer", timeout_s=1.0),),
        ),
        Endpoint("bank", "/transfer", "POST", median_ms=50),
        Endpoint("mail", "/send", "POST", median_ms=6),
    ),
    front="front",
)

"""A market of ten services: three entries, parallel calls, a chain of four, a callee that two paths
share.
"""

MARKET_MIX = {"/home": 0.4, "/search": 0.2, "/order": 0.4}


def with_calls(
    topology: Topology, place: Place, timeout_s: float = 5.0, retries: int = 0
) -> Topology:
    """Return a topology in which the endpoint at `place` calls with these timeouts and retries."""

    def changed(endpoint: Endpoint) -> Endpoint:
        if endpoint.place != place:
            return endpoint
        stages = tuple(
            tuple(replace(call, timeout_s=timeout_s, retries=retries) for call in stage)
            for stage in endpoint.stages
        )
        return replace(endpoint, calls=stages)

    return replace(topology, endpoints=tuple(changed(endpoint) for endpoint in topology.endpoints))


def _fault(kind: str, place: Place, **numbers: float) -> Fault:
    values: dict[str, Any] = {"start_s": START, "end_s": END} | numbers
    return Fault(kind, *place, **values)


def _virtual(kind: str, place: Place, **numbers: object) -> VirtualFault:
    values: dict[str, Any] = {"start_s": START, "end_s": END} | numbers
    return VirtualFault(kind, *place, **values)


def _market(
    name: str, causes: tuple[Place, ...], faults: tuple[Fault, ...], defeats: str, why: str
) -> Scenario:
    return Scenario(name, causes, faults, defeats, why, topology=MARKET, mix=MARKET_MIX)


IMPATIENT = with_calls(SEED_SHOP, CHECKOUT, timeout_s=0.5)

STUBBORN = with_calls(SEED_SHOP, CHECKOUT, timeout_s=0.4, retries=3)

FORGIVING = with_calls(SEED_SHOP, CHECKOUT, retries=2)

NARROW = replace(
    SEED_SHOP,
    endpoints=tuple(
        replace(e, capacity=8) if e.place == CHECKOUT else e for e in SEED_SHOP.endpoints
    ),
)

SLOW_PAYMENT = _fault("delay", PAYMENT, duration_ms=400)

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
        (_fault("delay", PAYMENT, duration_ms=300, jitter_ms=300),),
        "entry",
        "Half of the requests are hardly late, so a median moves less than a mean; /checkout "
        "waits for the others.",
    ),
    Scenario(
        "entry",
        (CHECKOUT,),
        (_fault("delay", CHECKOUT, duration_ms=300),),
        "deepest error",
        "The entry itself is slow; whom it calls is not. Nothing fails, so the rule is silent; "
        "most others are right.",
    ),
    Scenario(
        "errors",
        (PAYMENT,),
        (_fault("error", PAYMENT),),
        "total z",
        "What fails, fails fast: the durations of /checkout fall, and /inventory is not called "
        "any more.",
    ),
    Scenario(
        "flaky",
        (INVENTORY,),
        (_fault("error", INVENTORY, rate=0.3),),
        "self-time z",
        "Three of ten requests fail; time shows nothing.",
    ),
    Scenario(
        "repaired",
        (PAYMENT,),
        (_fault("error", PAYMENT, rate=0.3),),
        "total z",
        "Two more tries repair nearly all: customers see no error, but pay for the failures in "
        "time.",
        topology=FORGIVING,
    ),
    Scenario(
        "hang",
        (PAYMENT,),
        (_fault("hang", PAYMENT),),
        "first by start",
        "/payment never answers; the failure that shows is that of /checkout, which began before "
        "and gave up.",
    ),
    Scenario(
        "refused",
        (PAYMENT,),
        (_virtual("refuse", PAYMENT),),
        "deepest error",
        "Who takes no connections writes no spans: only its callers fail.",
    ),
    Scenario(
        "impatient caller",
        (PAYMENT,),
        (_fault("delay", PAYMENT, duration_ms=2000),),
        "first by end",
        "/checkout gives up after 0.5 s and fails; /payment answers well, when nobody waits any "
        "more.",
        topology=IMPATIENT,
    ),
    _market(
        "ordered timeouts",
        (("bank", "/transfer"),),
        (_fault("delay", ("bank", "/transfer"), duration_ms=10_000),),
        "first by end",
        "/charge waits for 1 s and /order for 3: each fails in good order, and the bank answers "
        "well, but late.",
    ),
    Scenario(
        "retry storm",
        (PAYMENT,),
        (_fault("delay", PAYMENT, duration_ms=450),),
        "total z",
        "Each call times out and is made four times; the work that nobody waits for fills the "
        "service.",
        topology=STUBBORN,
        workers={"payment": 24},
        backoff_ms=50,
    ),
    _market(
        "network edge",
        (("price", "/price"),),
        (
            _virtual(
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
    _market(
        "host network",
        (("catalog", "/products"), ("catalog", "/find")),
        (_virtual("network", ("catalog", EVERYWHERE), duration_ms=120, jitter_ms=20),),
        "walk down",
        "All ways to one service are slow; its own spans are as short as ever.",
    ),
    _market(
        "slow parallel child",
        (("recommend", "/similar"),),
        (_fault("delay", ("recommend", "/similar"), duration_ms=250),),
        "Ochiai",
        "Two calls run at once and the request waits for the slower; but every slow request made "
        "both.",
    ),
    _market(
        "load shedding",
        (("stock", "/reserve"),),
        (_virtual("shed", ("stock", "/reserve"), rate=0.6),),
        "total z",
        "Who sheds load answers 503 at once: faster than ever, and so are its callers.",
    ),
    _market(
        "leak",
        (("cart", "/cart"),),
        (_virtual("leak", ("cart", "/cart"), duration_ms=400),),
        "Ochiai",
        "It grows slowly: no two windows differ much. And who came by the cart came by the bank, "
        "too.",
    ),
    _market(
        "processor",
        (("catalog", "/products"), ("catalog", "/find")),
        (_virtual("slow", ("catalog", EVERYWHERE), factor=5.0),),
        "entry",
        "All endpoints of one service are slow at once, because they share a processor.",
    ),
    _market(
        "two faults",
        (("warehouse", "/shelf"), ("bank", "/transfer")),
        (
            _fault("delay", ("warehouse", "/shelf"), duration_ms=300),
            _fault("error", ("bank", "/transfer"), rate=0.5),
        ),
        "first by start",
        "One is slow and one fails, in the same requests: counted by failures, there is only one.",
    ),
    Scenario(
        "upstream saturated",
        (PAYMENT,),
        (SLOW_PAYMENT,),
        "self-time z",
        "/checkout holds its 4 workers while it waits for /payment; the time in its queue looks "
        "like its own.",
        workers={"checkout": 4},
    ),
    Scenario(
        "upstream full",
        (PAYMENT,),
        (_fault("hang", PAYMENT),),
        "Ochiai",
        "All 8 places of /checkout wait for /payment, so it turns most customers away; they never "
        "come by the cause.",
        topology=NARROW,
    ),
    Scenario(
        "metastable",
        (PAYMENT,),
        (_fault("delay", PAYMENT, duration_ms=3000, end_s=135.0),),
        "first by start",
        "The trigger is long gone; retries keep /payment saturated, and nearly all its work is "
        "for nobody.",
        topology=STUBBORN,
        workers={"payment": 1},
        rate=16.0,
        window=(150.0, 200.0),
    ),
)

_WEAK = tuple(
    Scenario(
        f"weak {name}",
        (PAYMENT,),
        (fault,),
        defeats,
        "So small that it has to be told from chance; the curve over its size says more than one "
        "verdict.",
    )
    for name, fault, defeats in (
        ("errors 2 %", _fault("error", PAYMENT, rate=0.02), "self-time z"),
        ("errors 5 %", _fault("error", PAYMENT, rate=0.05), "self-time z"),
        ("delay 20 %", _fault("delay", PAYMENT, duration_ms=9), "entry"),
        ("delay 50 %", _fault("delay", PAYMENT, duration_ms=22), "entry"),
    )
)

_BEYOND_SPANS = (
    Scenario(
        "under the noise",
        (PAYMENT,),
        (_fault("delay", PAYMENT, duration_ms=0.5),),
        "entry",
        "Cannot be solved from spans: chance alone moves the mean of these 800 requests by half a "
        "millisecond, and the "
        "fault by no more. Only the twin knows.",
    ),
    _market(
        "shared host",
        (("cart", "/cart"), ("mail", "/send")),
        tuple(_virtual("slow", (service, EVERYWHERE), factor=5.0) for service in ("cart", "mail")),
        "entry",
        "Cannot be solved from spans: both run on one host that lacks processor time. Spans name "
        "services, not hosts: "
        "they show that both are slow, and not why.",
    ),
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
        (_fault("error", INVENTORY, rate=0.5),),
        "first by end",
        "The clock of /inventory is ahead: its failures seem to come after those of its caller.",
        skew_ms={"inventory": 300.0},
    ),
    Scenario(
        "lost spans",
        (PAYMENT,),
        (SLOW_PAYMENT,),
        "entry",
        "Three of ten spans never arrive: callers seem to do themselves what they waited for.",
        lost=0.3,
    ),
)

_NO_FAULT = (
    Scenario("calm", why="Nothing happens."),
    Scenario(
        "surge",
        why="Three times the customers, and room for them.",
        profile=((START, 3.0), (END, 1.0)),
        window=(START, END),
    ),
    Scenario(
        "deployment",
        why="A new /payment takes 20 % longer, for good: a new normal. Cannot be solved from "
        "spans: by its size alone "
        "it is a weak fault.",
        changes=(_virtual("slow", PAYMENT, factor=1.2, end_s=None),),
    ),
    Scenario(
        "quiet night",
        why="Hardly anybody comes: silence is not an outage.",
        profile=((START, 0.1),),
        window=(START, 200.0),
    ),
    Scenario(
        "bad client",
        why="One customer sends orders that make no sense, and gets 400: that is the right answer.",
        changes=(_virtual("reject", CHECKOUT, rate=0.4, status=400),),
    ),
)

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (*_REQUEST_FAULTS, *_WEAK, *_CONDITIONS, *_NO_FAULT, *_BEYOND_SPANS)
}

"""All scenarios by name; without causes: no fault at all."""

BY_SIZE = "by size"

GROUPS: dict[str, tuple[str, ...]] = {
    "faults": (*(scenario.name for scenario in _REQUEST_FAULTS), "shared host"),
    "traces lie": tuple(scenario.name for scenario in _CONDITIONS),
    "no fault": tuple(scenario.name for scenario in _NO_FAULT if scenario.name != "deployment"),
    BY_SIZE: (*(scenario.name for scenario in _WEAK), "under the noise", "deployment"),
}

"""The names of the scenarios by what they are. Of the last group a curve over size tells more than
one verdict.
"""


def listing(width: int = 100) -> str:
    """Return all scenarios as text: name, true causes, what it defeats, and why, in lines of at
    most `width`.
    """
    return "\n".join(_entry(scenario, width) for scenario in SCENARIOS.values())


def _entry(scenario: Scenario, width: int) -> str:
    name = f"{scenario.name:<{NAME_WIDTH}}"
    below = " " * NAME_WIDTH
    causes = ", ".join(" ".join(place) for place in scenario.causes)
    label = "causes" if len(scenario.causes) > 1 else "cause"
    answer = f"{label}: {causes}; defeats: {scenario.defeats}" if causes else "no fault"
    lines = [
        fill(text, width, initial_indent=below, subsequent_indent=below)
        for text in (answer, scenario.why)
    ]
    return name + "\n".join(lines).removeprefix(below)
