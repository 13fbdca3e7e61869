"""Work beside a block begins with it, and has ended when the block has."""

import threading

import pytest

from aiops_lab.background import in_background


def test_the_work_runs_in_a_daemon_until_the_block_ends():
    began = threading.Event()
    seen = []

    def work(stop):
        seen.append(threading.current_thread())
        began.set()
        assert stop.wait(10)
        seen.append("stopped")

    with in_background("beside", work):
        assert began.wait(10)
        assert len(seen) == 1
    thread, last = seen
    assert (thread.name, thread.daemon, thread.is_alive(), last) == (
        "beside",
        True,
        False,
        "stopped",
    )


def test_the_work_also_ends_where_the_block_fails():
    seen = []
    with pytest.raises(KeyError), in_background("beside", lambda stop: seen.append(stop.wait(10))):
        raise KeyError
    assert seen == [True]
