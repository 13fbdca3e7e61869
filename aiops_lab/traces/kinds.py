"""Which kind is each span of? As recorded, but what answers another service serves a request.

Older tools record no kinds, and then all spans are internal. Who calls whom shows all the same::

    gateway   internal               a root that calls: serves
    gateway     internal             a step of its own: internal
    orders        internal           its parent is of another service: serves
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.columns import factorize
from aiops_lab.spans import KINDS, SERVING
from aiops_lab.traces.ids import find_parents

KIND_ORDER = (*SERVING, *(kind for kind in KINDS if kind not in SERVING))
"""The kinds by code: those that serve come first."""

_SERVER, _CONSUMER, _INTERNAL, _PRODUCER = (
    KIND_ORDER.index(kind) for kind in ("server", "consumer", "internal", "producer")
)
_LOG = KIND_ORDER.index("log")

FindParents = Callable[[], NDArray]


def kind_codes(frame: pd.DataFrame, service: NDArray, parents: FindParents) -> NDArray:
    """Return the position in `KIND_ORDER` of each span's kind.

    An internal span below another service serves, or consumes where that sent a message; and so
    does one at the top of those that call others without a span for the call.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    service : array of int
        The code of each span's service.
    parents
        Returns the position of each span's parent, -1 for none; it is asked only where there are
        internal spans and several services.
    """
    code, known = factorize(frame["kind"])
    position = np.array([KIND_ORDER.index(kind) for kind in known], dtype=np.int8)
    kind = position[code]
    internal = kind == _INTERNAL
    if not internal.any() or (service == service[0]).all():
        return kind
    parent = parents()
    answers = _answers(kind, service, parent)
    if not answers.any():
        return kind
    above = parent[answers]
    kind[answers] = np.where(kind[above] == _PRODUCER, _CONSUMER, _SERVER)
    callers = above[internal[above]]
    heads = _tops(internal, service, parent)[callers]
    kind[_alike(frame, service, heads, internal & (parent < 0))] = _SERVER
    return kind


def with_kinds(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a spans frame with the kinds by `kind_codes` in place of those that were recorded."""
    service, _ = factorize(frame["service"])
    code = kind_codes(frame, service, lambda: find_parents(frame).position)
    names = np.array(KIND_ORDER, dtype=object)
    kind = names[code]
    if (kind == frame["kind"].to_numpy(dtype=object)).all():
        return frame
    return frame.assign(kind=pd.Categorical(kind))


def _answers(kind: NDArray, service: NDArray, parent: NDArray) -> NDArray:
    """Return which internal spans lie directly below a span of another service."""
    has_parent = parent >= 0
    is_other = service[parent] != service
    is_span = kind[parent] != _LOG
    return (kind == _INTERNAL) & has_parent & is_other & is_span


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
