"""Random shops: everybody is reached, the seed decides, and the ledger finds its way."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import aiops_lab as lab
import shop
from shop.virtual_time.random_topology import anywhere, layered
from shop.virtual_time.twins import windows_of


@pytest.mark.parametrize("size", [5, 20, 50, 200])
def test_a_random_shop_has_its_size_and_customers_reach_all_of_it(size: int) -> None:
    for seed in range(3):
        topology = layered(size, seed)
        assert len(topology.endpoints) == size
        assert anywhere(topology, seed).reached() == {
            endpoint.place for endpoint in topology.endpoints
        }
        assert topology.endpoints == layered(size, seed).endpoints
    assert layered(size, 0) != layered(size, 1)


def test_a_random_shop_has_parallel_calls_and_shared_callees() -> None:
    topology = layered(50, 1)
    stages = [stage for endpoint in topology.endpoints for stage in endpoint.stages]
    called = [(call.service, call.endpoint) for stage in stages for call in stage]
    assert any(len(stage) > 1 for stage in stages)
    assert any(len(stage) == 1 for stage in stages)
    assert len(called) > len(set(called))
    assert 10 <= len(topology.services) <= 25


def test_two_processes_make_the_same_random_shop() -> None:
    code = (
        "from shop.virtual_time.random_topology import anywhere, layered; "
        "print(anywhere(layered(50, 3), 4))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(told) == 1


def test_the_faults_differ_by_seed() -> None:
    world = layered(50, 1)
    scenarios = [anywhere(world, seed) for seed in range(30)]
    assert len({scenario.causes for scenario in scenarios}) > 10
    assert {scenario.faults[0].kind for scenario in scenarios} == {
        "delay",
        "error",
        "hang",
        "slow",
        "network",
        "shed",
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_the_ledger_finds_a_fault_anywhere(seed: int) -> None:
    scenario = anywhere(layered(30, seed), seed, rate=10.0)
    (first, *_) = lab.rank_root_causes(*windows_of(scenario, shop.twin(scenario, seed).with_fault))
    assert ((first.service, first.endpoint),) == scenario.causes


@pytest.mark.parametrize("size", [4, 501, 10.0, True])
def test_a_size_that_cannot_be_is_refused(size: object) -> None:
    with pytest.raises(
        ValueError, match=f"size must be a whole number between 5 and 500, got {size}"
    ):
        layered(size)  # type: ignore[arg-type]
