"""What has a pipeline learned of the system? Its calls and endpoints, as plain data and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiops_lab.pipeline import Pipeline

TABLES = "edges", "keys", "methods"


def learned_to_record(pipeline: Pipeline) -> dict[str, Any]:
    """Return the known calls, endpoints, methods and addresses as rows for JSON.

    A row of ``edges`` is (caller, called, Unix ns of the first call), one of ``keys`` (service,
    endpoint, Unix ns of the first request), one of ``methods`` (service, route, method), and one of
    ``addresses``, which is left out where none are known, (caller, address, service).
    """
    p = pipeline
    tables = {
        "edges": [[*pair, first] for pair, first in p.edges.items()],
        "keys": [[*key, p.seen[key]] for key in p.keys],
        "methods": [[*route, method] for route, method in p.methods.items()],
    }
    if p.addresses:
        tables["addresses"] = [[*pair, service] for pair, service in p.addresses.items()]
    return tables


def take_learned(pipeline: Pipeline, tables: dict[str, Any]) -> None:
    """Let a new pipeline know what another one had learned."""
    p = pipeline
    for caller, called, first in tables["edges"]:
        p.edges[tuple(caller), tuple(called)] = first
    for service, route, method in tables["methods"]:
        p.methods[service, route] = method
    for caller, address, service in tables.get("addresses", []):
        p.addresses[caller, address] = service
    for service, endpoint, first in tables["keys"]:
        p.keys[service, endpoint] = len(p.keys)
        p.seen[service, endpoint] = first
