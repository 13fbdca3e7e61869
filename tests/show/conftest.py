"""A monitor of a small shop that failed, for the tests of what is shown of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import aiops_lab as lab
from tests.support.made import Shop, fault
from tests.test_monitor import at, fill


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Monitor]:
    """Yield a monitor that has judged 52 of the 60 seconds in which /payment failed."""
    with lab.SpanStore(tmp_path_factory.mktemp("store") / "s.sqlite") as store:
        fill(store, Shop(1, fault("/payment", 120, 180, status=500)).run(220))
        monitor = lab.Monitor(store)
        monitor.step(at(172))
        yield monitor


@pytest.fixture
def closed_figures() -> Iterator[None]:
    """Close what a test has drawn."""
    yield
    from matplotlib import pyplot as plt

    plt.close("all")
