"""What has a pipeline learned of the system? Its calls and endpoints, as plain data and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiops_lab.pipeline import Pipeline

LEARNED_TABLES = "edges", "keys", "methods"


def learned_to_record(pipeline: Pipeline) -> dict[str, Any]:
    """Return the known calls, endpoints, methods and addresses as rows for JSON.

    A row of ``edges`` is (caller, called, Unix ns of the first call), one of ``keys`` (service,
    endpoint, Unix ns of the first request), one of ``methods`` (service, route, method), and one of
    ``addresses``, which is left out where none are known, (caller, address, service).
    """
    first_seen = {key: pipeline.seen[key] for key in pipeline.keys}
    tables = {
        "edges": _rows(pipeline.edges),
        "keys": _rows(first_seen),
        "methods": _rows(pipeline.methods),
    }
    if pipeline.addresses:
        tables["addresses"] = _rows(pipeline.addresses)
    return tables


def _rows(table: Mapping[Any, object]) -> list[list[object]]:
    """Return a row for each entry of a dict whose keys are tuples, with the value at its end."""
    return [[*key, value] for key, value in table.items()]


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
