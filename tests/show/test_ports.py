"""A port that is taken, and the next one that is free."""

from __future__ import annotations

import re
import socket

import pytest

from aiops_lab.checks import FieldError
from aiops_lab.show.ports import HOST, check_free, check_port, is_free


@pytest.fixture
def taken():
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_taken_port_names_the_next_free_one(taken):
    assert not is_free(taken)
    with pytest.raises(FieldError) as refused:
        check_port(taken)
    told = str(refused.value)
    assert told.startswith(f"port must be free on {HOST} (the next free one is ")
    assert told.endswith(f", got {taken}")
    (hint,) = re.findall(r"one is (\d+)", told)
    assert taken < int(hint) <= taken + 100
    check_port(int(hint))


def test_where_none_is_free_none_is_named(taken, monkeypatch):
    monkeypatch.setattr("aiops_lab.show.ports.MOST_TRIED", 0)
    with pytest.raises(FieldError, match=rf"^port must be free on {HOST}, got {taken}$"):
        check_port(taken)


def test_the_shop_is_told_by_an_oserror(taken):
    with pytest.raises(OSError, match=f"port {taken} on {HOST} is in use"):
        check_free(taken)


def test_any_port_is_free():
    check_port(0)
    check_free(0)
