"""Scenarios that are harder than those of the catalogue, each with its true causes.

They tell methods apart where the catalogue no longer does. No constant of the package was chosen by
them: each was written before any method was run on it. ``python -m shop leaderboard --group hard``
compares on them, and ``--group changes`` on those in which something was changed on purpose.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aiops_lab.record.faults import Fault
from shop.scenario_parts import ScenariosByName, fault_at, on_market, virtual_fault_at
from shop.shops import CHECKOUT, INVENTORY, MARKET, PAYMENT, with_calls
from shop.virtual_time.scenario import EVERYWHERE, NotedChange, Place, Scenario, VirtualFault

LATE, LATE_END = 780.0, 840.0

"""Start and end of the faults where changes were noted, in virtual seconds: thirteen minutes come
first, as how much a change says depends on how seldom there is one.
"""

HOME: Place = ("front", "/home")
SHELF: Place = ("warehouse", "/shelf")
RESERVE: Place = ("stock", "/reserve")
TRANSFER: Place = ("bank", "/transfer")
PRICE: Place = ("price", "/price")
CHARGE: Place = ("billing", "/charge")
ORDER: Place = ("front", "/order")
PRODUCTS: Place = ("catalog", "/products")


def _names(scenarios: tuple[Scenario, ...]) -> tuple[str, ...]:
    return tuple(scenario.name for scenario in scenarios)


def _again(times: int, at_once: bool) -> VirtualFault:
    return virtual_fault_at("repeat", HOME, times=times, callee=PRODUCTS, at_once=at_once)


def _bursts(service: str) -> tuple[VirtualFault, ...]:
    """Return four times of three seconds in which a service works slowly."""
    begins = (122.0, 137.0, 152.0, 167.0)
    place = (service, EVERYWHERE)
    return tuple(virtual_fault_at("slow", place, at, end_s=at + 3.0, factor=4.0) for at in begins)


IMPATIENT_ORDERS = with_calls(MARKET, RESERVE, timeout_s=0.6, retries=2)

"""The market, whose stock gives up on the warehouse after 0.6 s and asks up to three times."""

TWICE_STUBBORN = with_calls(
    with_calls(MARKET, ORDER, timeout_s=0.8, retries=2), CHARGE, timeout_s=0.3, retries=2
)

"""The market, in which /order makes a failed call up to three times, and so does /charge below."""

HURRIED = with_calls(MARKET, CHARGE, timeout_s=0.8)

"""The market, whose /charge gives up on the bank after 0.8 s."""

_HARD = (
    on_market(
        "repeated calls",
        (HOME,),
        (_again(8, at_once=False),),
        "self-time z",
        "/home asks for each of eight products in turn (N+1 calls): each answer is as fast as "
        "ever.",
    ),
    on_market(
        "repeated calls that queue",
        (HOME,),
        (_again(8, at_once=True),),
        "self-time z",
        "/home asks for eight products at once, and they wait for the two workers of the catalog, "
        "as do all others who call it: the catalog looks slow.",
        workers={"catalog": 2},
    ),
    on_market(
        "lost at the cause",
        (RESERVE,),
        (fault_at("error", RESERVE, rate=0.4),),
        "deepest error",
        "Two in five requests fail at /reserve, and of its service six in ten spans never arrive: "
        "of most failures only the caller's half is left.",
        lost_of={"stock": 0.6},
    ),
    on_market(
        "packet loss",
        (TRANSFER,),
        (virtual_fault_at("network", TRANSFER, rate=0.08, duration_ms=250, jitter_ms=50),),
        "self-time z",
        "Eight in a hundred calls of the bank lose a packet and wait until it is sent again. No "
        "endpoint is slow, and most calls are not.",
    ),
    on_market(
        "slow degradation",
        (PRICE,),
        (virtual_fault_at("leak", PRICE, end_s=600.0, duration_ms=50),),
        "entry",
        "In eight minutes /price becomes 50 ms slower, little by little: a detector that goes "
        "along sees nothing. Half of it is hidden, as /reserve is called beside it.",
        rate=10.0,
        seconds=610.0,
        window=(540.0, 600.0),
    ),
    on_market(
        "noisy neighbours",
        (PRODUCTS, ("catalog", "/find"), ("mail", "/send")),
        (*_bursts("catalog"), *_bursts("mail")),
        "entry",
        "The host of catalog and mail has other tenants, who take its processor for three seconds "
        "four times: in between all is well.",
    ),
    on_market(
        "cascade",
        (SHELF,),
        (fault_at("delay", SHELF, duration_ms=700),),
        "self-time z",
        "The workers of stock wait for /shelf, those of front for stock: in the end /home and "
        "/search wait for a worker, too, and they call neither.",
        workers={"stock": 4, "front": 12},
    ),
    on_market(
        "cascade with retries",
        (SHELF,),
        (fault_at("delay", SHELF, duration_ms=500, jitter_ms=300),),
        "self-time z",
        "The same below callers that give up after 0.6 s and ask again: half of the work at "
        "/shelf is for nobody.",
        topology=IMPATIENT_ORDERS,
        workers={"warehouse": 6, "stock": 6, "front": 16},
        backoff_ms=50,
    ),
    on_market(
        "sampled traces",
        (SHELF,),
        (fault_at("delay", SHELF, duration_ms=40),),
        "Ochiai",
        "One trace in twenty is kept: of five hundred slow orders two dozen remain.",
        sampled=0.05,
    ),
    on_market(
        "sampled and failing",
        (TRANSFER,),
        (fault_at("error", TRANSFER, rate=0.2),),
        "total z",
        "One trace in twenty is kept, in which a handful of orders fails.",
        sampled=0.05,
    ),
    on_market(
        "metastable, retries of retries",
        (TRANSFER,),
        (fault_at("delay", TRANSFER, duration_ms=1500, end_s=135.0),),
        "first by start",
        "The trigger is long gone. Two callers, one above the other, make each failed call three "
        "times: the bank gets nine calls an order, and nearly all of its work is for nobody.",
        topology=TWICE_STUBBORN,
        workers={"bank": 1},
        window=(150.0, 195.0),
    ),
    on_market(
        "metastable, a backlog",
        (TRANSFER,),
        (fault_at("delay", TRANSFER, duration_ms=1500, end_s=135.0),),
        "first by start",
        "The trigger is long gone, and nobody makes a call again. The bank, nearly full as usual, "
        "works off calls that their callers have given up, and each new one waits behind them.",
        topology=HURRIED,
        workers={"bank": 1},
        rate=41.0,
        window=(150.0, 170.0),
    ),
    on_market(
        "metastable below queues",
        (TRANSFER,),
        (fault_at("delay", TRANSFER, duration_ms=1500, end_s=135.0),),
        "first by start",
        "The trigger is long gone. The callers of the bank have few workers themselves, all of "
        "which wait, so that /home and /search wait for a worker, too, and call no bank.",
        topology=TWICE_STUBBORN,
        workers={"bank": 1, "billing": 10, "front": 7},
        window=(150.0, 195.0),
    ),
    on_market(
        "flapping",
        (PRICE,),
        tuple(fault_at("error", PRICE, at, end_s=at + 1.0) for at in (123.0, 141.0, 150.0, 172.0)),
        "self-time z",
        "All requests fail at /price for a second, four times in a minute.",
    ),
    on_market(
        "in the shadow",
        (TRANSFER, PRICE),
        (
            fault_at("delay", TRANSFER, duration_ms=600),
            fault_at("error", PRICE, rate=0.04),
        ),
        "entry",
        "The bank is slow for all, and /price fails for four in a hundred: whoever has found the "
        "one still misses the other.",
    ),
    on_market(
        "hardly instrumented",
        (CHARGE,),
        (fault_at("delay", CHARGE, duration_ms=250),),
        "walk down",
        "Of the slow service nineteen in twenty spans never arrive; what it calls hangs in the "
        "air.",
        lost_of={"billing": 0.95},
    ),
    on_market(
        "lost, skewed and given up",
        (SHELF,),
        (fault_at("delay", SHELF, duration_ms=500, jitter_ms=300),),
        "walk down",
        "Three in ten spans are lost, the clock of stock is 80 ms ahead, and stock gives up on the "
        "slow /shelf after 0.6 s and asks again.",
        topology=IMPATIENT_ORDERS,
        lost=0.3,
        skew_ms={"stock": 80.0},
    ),
    on_market(
        "sampled and weak",
        (TRANSFER,),
        (fault_at("delay", TRANSFER, duration_ms=12),),
        "entry",
        "One trace in ten is kept, and an order takes a tenth longer.",
        sampled=0.1,
    ),
    on_market(
        "sampled and calm",
        (),
        (),
        "",
        "Nothing happens, and one trace in twenty is kept: little is known, and nothing is wrong.",
        sampled=0.05,
    ),
)


def _changed(
    name: str,
    causes: tuple[Place, ...],
    faults: tuple[Fault, ...],
    noted: tuple[NotedChange, ...],
    why: str,
    **fields: Any,
) -> Scenario:
    """Return a scenario of the seed's shop in which something was changed on purpose."""
    common: dict[str, Any] = {"rate": 8.0, "seconds": LATE_END + 20, "noted": noted}
    defeats = "most called" if causes == (CHECKOUT,) else "entry" if causes else ""
    return Scenario(name, causes, faults, defeats, why, **common | fields)


def _late(fault: Fault) -> Fault:
    return replace(fault, start_s=LATE, end_s=LATE_END)


_SLOW_INVENTORY = _late(fault_at("delay", INVENTORY, duration_ms=150))

_CHANGES = (
    _changed(
        "guilty deployment",
        (PAYMENT,),
        (_late(virtual_fault_at("slow", PAYMENT, factor=4.0)),),
        (
            NotedChange(300.0, "inventory", "deployment 1.7"),
            NotedChange(LATE, "payment", "deployment 2.4", behind=True),
        ),
        "The new version of payment takes four times as long. That of inventory, eight minutes "
        "before, has nothing to do with it.",
    ),
    _changed(
        "guilty flag",
        (CHECKOUT,),
        (_late(virtual_fault_at("repeat", CHECKOUT, times=6, callee=INVENTORY)),),
        (NotedChange(LATE, "checkout", "flag check-each-item on", behind=True),),
        "A flag makes /checkout ask for each item of the cart in turn.",
    ),
    _changed(
        "innocent deployment",
        (INVENTORY,),
        (_SLOW_INVENTORY,),
        (NotedChange(LATE - 15, "payment", "deployment 2.4"),),
        "Payment was changed a quarter of a minute before inventory became slow, by chance.",
    ),
    _changed(
        "innocent deployment there",
        (INVENTORY,),
        (_SLOW_INVENTORY,),
        (
            NotedChange(200.0, "inventory", "deployment 1.7"),
            NotedChange(560.0, "inventory", "deployment 1.8"),
        ),
        "Inventory itself was changed twice, the last time more than three minutes before it "
        "became slow, which has another reason.",
    ),
    _changed(
        "scaled in answer",
        (PAYMENT,),
        (_late(fault_at("error", PAYMENT, rate=0.5)),),
        (NotedChange(LATE + 25, "payment", "scaled from 2 to 4 instances"),),
        "What was changed after the failures began is an answer to them and not their reason.",
    ),
    _changed(
        "meant deployment",
        (),
        (),
        (NotedChange(LATE, "payment", "deployment 2.4", behind=True),),
        "The new version of payment takes 20 % longer, and that is meant: no fault.",
        changes=(virtual_fault_at("slow", PAYMENT, LATE, factor=1.2, end_s=None),),
    ),
)

HARD_SCENARIOS = ScenariosByName({each.name: each for each in _HARD + _CHANGES})

"""The harder scenarios by name."""

HARD_GROUPS: dict[str, tuple[str, ...]] = {"hard": _names(_HARD), "changes": _names(_CHANGES)}

"""Their names by group."""
