"""One small analysis before all tests: where numba has no cache yet, it compiles now and not while
a client waits.
"""

import pytest

import aiops_lab as lab
from tests.support.made import Shop, fault


@pytest.fixture(scope="session", autouse=True)
def _compiled():
    (incident,) = lab.replay(Shop(1, fault("/payment", 40, 60, status=500)).run(70)).incidents
    assert incident.root_cause.endpoint == "/payment"
