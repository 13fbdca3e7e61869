"""Calls beyond the usual number are their caller's, however busy they keep its workers."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from tests.support.lines import Drawing, first_suspect
from tests.support.made import MS


def shop(seed: int, times: int, *, kinds: str = "both", n: int = 150) -> pd.DataFrame:
    """Return requests of web, each of which calls a store so many times, one after the other.

    ``kinds``: which side of the calls is recorded.
    """
    drawing = Drawing(seed)
    for _ in range(n):
        trace, t = drawing.request()
        (web,) = drawing.ids(1)
        at = t + drawing.about(10)
        for _ in range(times):
            call, serve = drawing.ids(2)
            ns = drawing.about(20)
            if kinds != "server":
                place: Any = ("web", "/rows", "client", "store")
                drawing.add((trace, call, web), place, at, ns + 2 * MS)
            if kinds != "client":
                above = web if kinds == "server" else call
                place = ("store", "/rows", "server", None)
                drawing.add((trace, serve, above), place, at + MS, ns)
            at += ns + 2 * MS
        drawing.add((trace, web, None), ("web", "/list", "server", None), t, at - t + MS)
    return drawing.frame()


@pytest.mark.parametrize("kinds", ["both", "server", "client"])
@pytest.mark.parametrize(("usual", "now"), [(1, 2), (1, 8), (3, 8)])
def test_who_makes_more_calls_than_usual_is_the_cause(usual, now, kinds):
    normal, abnormal = shop(1, usual, kinds=kinds), shop(2, now, kinds=kinds)
    assert first_suspect(normal, abnormal) == ("web", "/list")
