"""What lesson 00 ends with: one step of an order takes longer, and only the seed says which."""

from __future__ import annotations

import random

import pandas as pd

from aiops_lab.record.faults import Fault
from shop.virtual_time.scenario import Scenario, VirtualFault
from shop.virtual_time.simulate import virtual
from shop.virtual_time.twins import windows_of

HIDING_PLACES = ("/checkout", "/payment", "/inventory", "→ /payment", "→ /inventory")
"""The steps of an order; an arrow marks a call: what is slow there is the way."""

_BEGINS_S, _ENDS_S = 10.0, 20.0

_ORDERS_PER_S = 10.0


def hidden_step(seed: int) -> str:
    """Return the step that takes longer in ``slowed(seed)``: to be read after an answer."""
    return _draws(seed).choice(HIDING_PLACES)


def slowed(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the spans of orders before one step takes longer, and since then.

    They come from the shop in virtual time; the seed says which step it is, and how much longer.

    Examples
    --------
    >>> before, since = slowed(1)
    >>> bool(since["duration_ms"].max() > before["duration_ms"].max())
    True
    """
    draws = _draws(seed)
    step = draws.choice(HIDING_PLACES)
    extra_ms = 10.0 * draws.randint(15, 40)
    endpoint = step.removeprefix("→ ")
    service = endpoint.removeprefix("/")
    fault = Fault("delay", service, endpoint, _BEGINS_S, _ENDS_S, extra_ms)
    if step != endpoint:
        fault = VirtualFault("network", service, endpoint, _BEGINS_S, _ENDS_S, extra_ms)
    scenario = Scenario(
        "one slow step",
        (fault.place,),
        (fault,),
        rate=_ORDERS_PER_S,
        seconds=_ENDS_S,
        mix={"/checkout": 1},
    )
    return windows_of(scenario, virtual(scenario, seed))


def _draws(seed: int) -> random.Random:
    return random.Random(f"one slow step/{seed}")
