"""What calls does a service make with aiohttp? A `TraceConfig` that records them as client spans.

session = aiohttp.ClientSession(trace_configs=[trace_config(store, "orders")])
"""

from __future__ import annotations

from typing import Any

import aiohttp

from aiops_lab.record.calls import Peers, begin_call, checked_peers
from aiops_lab.record.recorder import Recorder, Sink, describe_call_error, known_status


def trace_config(
    sink: Sink, service: str = "shop", peers: Peers | None = None
) -> aiohttp.TraceConfig:
    """Return what a ``ClientSession`` needs to send the trace on and to record client spans.

    A span ends with the headers of the answer, as far as aiohttp tells. A call that is redirected
    is one span, with the status of the last answer. Without an answer the status is 0 and the error
    names the exception.

    Parameters
    ----------
    sink, service, peers
        As of `aiops_lab.Session`.

    Raises
    ------
    ValueError
        A parameter breaks its rule.
    """
    recorder = Recorder(sink, service)
    names: Peers = checked_peers(peers)

    async def begin(session: Any, context: Any, request: aiohttp.TraceRequestStartParams) -> None:
        address = str(request.url)
        context.span = begin_call(recorder, names, request.method, address, request.headers)

    async def end(session: Any, context: Any, answer: aiohttp.TraceRequestEndParams) -> None:
        context.span.status = known_status(answer.response.status)
        context.span.end()

    async def fail(session: Any, context: Any, failed: aiohttp.TraceRequestExceptionParams) -> None:
        context.span.error = describe_call_error(failed.exception)
        context.span.end()

    config = aiohttp.TraceConfig()
    config.on_request_start.append(begin)
    config.on_request_end.append(end)
    config.on_request_exception.append(fail)
    return config
