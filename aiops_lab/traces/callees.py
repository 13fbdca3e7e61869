"""Which service answers at an address? The one whose server spans lie below the calls to it.

The spans of two services come apart, each from its own process, so that a caller can tell no more
than where it called. Here both are together::

    orders   client   peer 10.0.0.7:8080
    prices     server                       its parent is that call: the peer is prices
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.traces.ids import Ids

SEVERAL = ""  # in place of a service: more than one answers at the address

Addresses = dict[tuple[str, str], str]
"""The service that answers, by caller and address; `SEVERAL` where more than one does."""


class Places(NamedTuple):
    """Who ran each span and whom it calls: codes, and the names that they stand for."""

    service: NDArray
    services: list[str]
    peer: NDArray  # -1 for none
    peers: list[str]


def name_callees(
    places: Places,
    client: NDArray,
    server: NDArray,
    ids: Callable[[], Ids],
    serving: Collection[str],
    before: Mapping[tuple[str, str], str],
) -> tuple[Places, Addresses]:
    """Return the places with services in place of addresses, and what is known of addresses.

    A peer that is none of the services in `serving` is an address. A call with a server span below
    it reached that one's service. Where that span is lost, the calls of this service to this
    address decide, those before and these, if all of them reached one service.

    Parameters
    ----------
    places
        As recorded.
    client, server : array of bool
        Which spans call, and which serve.
    ids
        Returns who belongs to whom; it is asked only where there is an address.
    serving
        Services.
    before
        What is known of addresses from earlier spans.
    """
    addresses = dict(before)
    service, services, peer, peers = places
    is_address = np.array([name not in serving for name in peers], dtype=bool)
    calls = np.flatnonzero(client & (peer >= 0))
    calls = calls[is_address[peer[calls]]]
    if not calls.size:
        return places, addresses
    callee = _answered_by(service, server, ids().parent)[calls]
    columns = {
        "caller": service[calls],
        "address": peer[calls],
        "callee": callee,
    }
    pairs = pd.DataFrame(columns)
    answered = pairs[callee >= 0].drop_duplicates()
    _learn(answered, places, addresses)
    known = filter(None, addresses.values())
    names = [*dict.fromkeys([*services, *known])]
    usual = _usual_callees(pairs, places, addresses, names)
    reached = np.where(callee >= 0, callee, usual)
    is_known = reached >= 0
    named = peer.copy()
    named[calls[is_known]] = len(peers) + reached[is_known]
    return places._replace(peer=named, peers=[*peers, *names]), addresses


def _usual_callees(
    pairs: pd.DataFrame, places: Places, addresses: Addresses, names: list[str]
) -> NDArray:
    """Return for each pair of caller and address who answers there: a position in `names`, or -1
    where that is not known.
    """
    code = {name: number for number, name in enumerate(names)}
    index = pd.MultiIndex.from_frame(pairs[["caller", "address"]])
    pair, distinct = index.factorize()
    keys = [(places.services[caller], places.peers[address]) for caller, address in distinct]
    usual = [addresses.get(key, SEVERAL) for key in keys]
    usual_code = np.array([code.get(name, -1) for name in usual])
    return usual_code[pair]


def _answered_by(service: NDArray, server: NDArray, parent: NDArray) -> NDArray:
    """Return the service of the server span below each span, -1 for none."""
    callee = np.full(service.size, -1)
    below = np.flatnonzero(server & (parent >= 0))
    callee[parent[below]] = service[below]
    return callee


def _learn(answered: pd.DataFrame, places: Places, addresses: Addresses) -> None:
    """Note which service answered at which address, in place."""
    for caller, address, callee in answered.itertuples(index=False):
        key = places.services[caller], places.peers[address]
        name = places.services[callee]
        if addresses.setdefault(key, name) != name:
            addresses[key] = SEVERAL
