"""Which kind is each span of? As recorded; without kinds, what answers another service serves.

Older tools record no kinds, and then all spans are internal. Who calls whom shows all the same::

    gateway   internal               a root that calls: serves
    gateway     internal             a step of its own: internal
    orders        internal           its parent is of another service: serves

Where any span of a frame has another kind, kinds were recorded, and internal ones are steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.columns import factorize
from aiops_lab.spans import KINDS, SERVING
from aiops_lab.traces.ids import find_parents

KIND_ORDER = (*SERVING, *(kind for kind in KINDS if kind not in SERVING))
"""The kinds by code: those that serve come first."""

_SERVER, _INTERNAL = (KIND_ORDER.index(kind) for kind in ("server", "internal"))

FindParents = Callable[[], NDArray]


def kind_codes(frame: pd.DataFrame, service: NDArray, parents: FindParents) -> NDArray:
    """Return the position in `KIND_ORDER` of each span's kind.

    Of spans that are all internal, but for logs, those below another service serve; and so do
    those at the top of what calls others.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    service : array of int
        The code of each span's service.
    parents
        Returns the position of each span's parent, -1 for none; it is asked only where no kinds
        were recorded, of several services.
    """
    code, known = factorize(frame["kind"])
    position = np.array([KIND_ORDER.index(kind) for kind in known], dtype=np.int8)
    kind = position[code]
    if not _are_unknown(known) or (service == service[0]).all():
        return kind
    internal = kind == _INTERNAL
    parent = parents()
    answers = _answers(internal, service, parent)
    kind[answers] = _SERVER
    heads = _tops(internal, service, parent)[parent[answers]]
    kind[_alike(frame, service, heads, internal & (parent < 0))] = _SERVER
    return kind


def with_kinds(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a spans frame with the kinds by `kind_codes` in place of those that were recorded."""
    if not _are_unknown(frame["kind"].unique()):
        return frame
    service, _ = factorize(frame["service"])
    code = kind_codes(frame, service, lambda: find_parents(frame).position)
    names = np.array(KIND_ORDER, dtype=object)
    return frame.assign(kind=pd.Categorical(names[code]))


def _are_unknown(kinds: Iterable[str]) -> bool:
    """Return whether all kinds of a frame are internal, beside logs."""
    return {*kinds} - {"log"} == {"internal"}


def _answers(internal: NDArray, service: NDArray, parent: NDArray) -> NDArray:
    """Return which internal spans lie directly below one of another service, no log."""
    is_below = internal & (parent >= 0) & internal[parent]
    return is_below & (service[parent] != service)


def _tops(internal: NDArray, service: NDArray, parent: NDArray) -> NDArray:
    """Return the topmost of the internal spans of one service above each span."""
    itself = np.arange(parent.size)
    is_step = internal & (parent >= 0) & internal[parent] & (service[parent] == service)
    top = np.where(is_step, parent, itself)
    for _ in range(top.size.bit_length()):  # each turn doubles the distance, cycles end too
        above = top[top]
        if np.array_equal(above, top):
            break
        top = above
    return top


def _alike(frame: pd.DataFrame, service: NDArray, heads: NDArray, among: NDArray) -> NDArray:
    """Return which spans of a mask have the service and the name of one that is among the heads."""
    endpoint, distinct = factorize(frame["endpoint"])
    place = service.astype(np.int64) * len(distinct) + endpoint
    wanted = heads[among[heads]]
    return among & np.isin(place, place[wanted])
