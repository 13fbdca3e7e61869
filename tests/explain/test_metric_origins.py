"""How much of what is slow or fails does a node explain, by who waits for it?"""

from __future__ import annotations

import pandas as pd
import pytest

from aiops_lab.explain.metric_frames import read_frame
from aiops_lab.explain.metric_origins import explained_parts, sure_parts

CALLS = [("front", "cart"), ("front", "pay"), ("cart", "db"), ("db", "cart")]


def parts(calls=CALLS, hosts=None, of=explained_parts, **deviation):
    """What each node explains; a column ``front_latency=(scales, deviation)``."""
    columns = [tuple(name.split("_")) for name in deviation]
    labels = pd.MultiIndex.from_tuples([(*column, "value") for column in columns])
    frame = pd.DataFrame([[1.0] * len(labels)], columns=labels)
    table = pd.DataFrame(list(deviation.values()), labels, ["scales", "deviation"])
    now = read_frame("abnormal", frame, 1)
    return of(table, now, calls, hosts or {}).to_dict()


def slow(**deviation):
    return {f"{node}_latency": (9.0, part) for node, part in deviation.items()}


def test_a_node_explains_itself_and_all_who_wait_for_it():
    found = parts(**slow(front=2.0, cart=1.0, pay=4.0, db=1.0))
    assert found == pytest.approx({"front": 0.25, "cart": 0.5, "pay": 0.75, "db": 0.5})


def test_a_host_explains_what_its_nodes_do():
    placed = {"cart": "host", "pay": "host", "db": "other"}
    found = parts(hosts=placed, **slow(front=2.0, cart=1.0, pay=4.0, db=1.0))
    assert found["host"] == pytest.approx(1.0)  # db waits for cart
    assert found["other"] == pytest.approx(0.5)


def test_falls_of_latency_and_what_a_node_uses_are_no_trouble():
    other = {"db_latency": (-9.0, 5.0), "db_cpu": (9.0, 5.0), "cart_availability": (-9.0, 1.0)}
    found = parts(**slow(front=1.0), **other)
    assert found["front"] == pytest.approx(0.5)
    assert found["db"] == pytest.approx(1.0)
    assert set(parts(db_cpu=(9.0, 5.0), db_latency=(-9.0, 5.0)).values()) == {1.0}


def test_who_is_in_no_call_may_explain_all():
    assert parts(calls=[], **slow(front=1.0, cart=1.0)) == {"front": 1.0, "cart": 1.0}
    assert parts(**slow(front=1.0, queue=1.0))["queue"] == 1.0


def test_without_calls_only_its_own_part_is_sure_of_a_node_that_uses_what_it_did():
    deviations = slow(front=2.0, cart=1.0, pay=1.0) | {
        "pay_cpu": (9.0, 1.0),
        "cart_cpu": (0.0, 0.0),
    }
    sure = parts([], of=sure_parts, **deviations)
    assert sure == {"front": 0.5, "cart": 0.25, "pay": 1.0}
    assert set(parts(of=sure_parts, **deviations).values()) == {1.0}
    placed = {"front": "host", "cart": "host"}
    assert parts([], placed, of=sure_parts, **deviations)["host"] == 0.75


def test_without_calls_and_resources_each_of_the_slow_nodes_is_as_likely():
    sure = parts([], of=sure_parts, **slow(front=6.0, cart=1.0), pay_requests=(9.0, 1.0))
    assert sure == {"front": 0.5, "cart": 0.5, "pay": 0.5}
    queue = parts([], of=sure_parts, **slow(front=6.0, cart=1.0), cart_backlog=(9.0, 1.0))
    assert (queue["front"], queue["cart"]) == (pytest.approx(6 / 7), 1.0)
