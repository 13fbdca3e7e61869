"""Random days: all kinds, unlike places at once, room between the scenes, and the seed decides."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd
import pytest

import shop
from shop.topology import SEED_SHOP, Call, Endpoint, Topology
from shop.virtual_time.random_day import DAY_KINDS, GAP_S, WARM_UP_S, Day, random_day
from shop.virtual_time.random_topology import entry_mix, layered

SEEDS = range(6)


def day(seed: int, hours: float = 24.0) -> Day:
    """Return a day of the seed's shop, or of a random one."""
    if seed % 2:
        topology = layered(12, seed)
        return random_day(topology, seed, hours=hours, mix=entry_mix(topology))
    return random_day(SEED_SHOP, seed, hours=hours)


def scenes(truth: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the faults in groups between which nothing is broken for `GAP_S`."""
    gaps = truth["start"] - truth["end"].cummax().shift()
    return [part for _, part in truth.groupby((gaps.dt.total_seconds() >= GAP_S).cumsum())]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_day_has_twenty_faults_of_all_kinds(seed: int) -> None:
    found = day(seed)
    assert len(set(found.origins)) == 20
    assert set(found.kinds) == set(DAY_KINDS)
    lengths = [(fault.length_s or 0) / 60 for fault in found.scenario.faults]
    assert min(lengths) >= 3
    assert max(lengths) <= 40
    assert found.scenario.faults[0].start_s >= WARM_UP_S


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_of_one_scene_are_at_places_that_do_not_call_each_other(seed: int) -> None:
    found = day(seed)
    topology = found.scenario.topology
    several = [scene for scene in scenes(found.truth()) if scene["group"].nunique() == 2]
    assert len(several) >= 5
    overlapping = 0
    for scene in several:
        (_, first), (_, second) = scene.iterrows()
        places = [endpoint.place for endpoint in topology.of(first["service"])]
        linked = topology.above(places) | topology.below(places)
        assert second["service"] not in {service for service, _ in linked}
        if second["start"] < first["end"]:
            overlapping += 1
            # else the caller goes no further, and the second fault strikes nobody
            assert not DAY_KINDS[first["kind"]].stops
            assert not DAY_KINDS[second["kind"]].stops
    assert 0 < overlapping < len(several)


def test_what_recurs_within_ten_minutes_has_one_origin() -> None:
    truth = day(0).truth()
    flapping = [part for _, part in truth.groupby("group") if len(part) > 1]
    assert flapping
    for part in flapping:
        assert part[["service", "kind"]].drop_duplicates().shape[0] == 1
        rows = list(part.itertuples())
        pauses = [(b.start - a.end).total_seconds() for a, b in pairwise(rows)]
        assert all(0 < pause <= 600 for pause in pauses)


def test_what_is_no_fault_happens_where_nothing_is_broken() -> None:
    found = day(0)
    scenario = found.scenario
    assert {change.kind for change in scenario.changes} == {"slow", "reject"}
    assert {factor for _, factor in scenario.profile} == {3.0, 0.1, 1.0}
    begins = [second for second, factor in scenario.profile if factor != 1]
    begins += [change.start_s for change in scenario.changes]
    for at in begins:
        assert not any(f.start_s <= at < (f.end_s or 0) + GAP_S for f in scenario.faults)


def test_a_pipeline_notes_when_it_deployed_which_service() -> None:
    found = day(0)
    slow = [change for change in found.scenario.changes if change.kind == "slow"]
    noted = found.noted_changes()
    assert [change.service for change in noted] == [each.service for each in slow]
    begin = pd.Timestamp("2026-01-01", tz="UTC")
    seconds = [(change.time - begin).total_seconds() for change in noted]
    assert seconds == pytest.approx([each.start_s for each in slow])
    assert len(noted) == 2


def test_the_seed_decides() -> None:
    assert day(2) == day(2)
    assert day(2).scenario.faults != day(4).scenario.faults


def test_affected_are_those_who_wait_and_after_failures_those_called_less() -> None:
    truth = day(0).truth()
    slow = truth[(truth["kind"] == "delay") & (truth["service"] == "inventory")]
    failing = truth[truth["kind"].isin(["refuse", "error"]) & (truth["service"] == "payment")]
    for affected in slow["affected"]:
        assert affected == [("checkout", "/checkout"), ("inventory", "/inventory")]
    for affected in failing["affected"]:
        assert ("inventory", "/inventory") in affected
    assert len(slow) + len(failing) > 0


def test_a_short_day_runs() -> None:
    found = day(1, hours=2)
    assert len(set(found.origins)) == 3
    spans = shop.virtual(found.scenario, 1, progress=False)
    assert len(spans) > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hours": 0.5}, "hours must be a number between 1 and 48, got 0.5"),
        ({"hours": 2, "faults": 30}, "hours must leave room for all faults, got 2"),
        ({"faults": 0}, "faults must be a whole number between 1 and 200, got 0"),
        ({"rate": 0.01}, "rate must give some endpoint enough requests, got 0.01"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_day(**options)


def test_a_shop_in_which_everybody_calls_everybody_has_no_two_unlike_places() -> None:
    chain = Topology(
        (Endpoint("a", "/a", calls=(Call("b", "/b"),)), Endpoint("b", "/b")), front="a"
    )
    with pytest.raises(ValueError, match="topology must have places that do not call each other"):
        random_day(chain, mix={"/a": 1.0})
