"""What does a verdict rest on? Affected endpoints, sample traces, and the steps to the cause."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.attribution import CostTable
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.ledger import Comparison
from aiops_lab.numerics import wilson
from aiops_lab.results import Step, Suspect, TableRow, Verdict
from aiops_lab.spans import Key
from aiops_lab.traces.encode import NEVER, EncodedSpans
from aiops_lab.traces.graph import calls_of


def build_verdict(comparison: Comparison, suspects: list[Suspect]) -> Verdict:
    """Return the verdict that names these suspects, whichever rule found them, with the ledger as
    evidence.
    """
    endpoints = _endpoints(comparison)
    rows = comparison.ledger.rows.to_dict("records")
    affected = _affected(suspects, comparison, endpoints)
    requests = comparison.costs.requests
    at = requests.index.to_numpy()
    trace_id = comparison.spans.texts("trace_id", at)
    requests = requests.assign(trace_id=trace_id)
    bad = requests.loc[comparison.bad.index]
    traces = bad["trace_id"].unique()
    samples = _samples(suspects[0], comparison, requests) if suspects else []
    steps = _steps(comparison, rows, suspects, affected)
    return Verdict(
        suspects=tuple(suspects),
        affected=tuple(affected),
        steps=tuple(steps),
        ledger=tuple(rows),
        endpoints=tuple(endpoints.to_dict("records")),
        sample_traces=tuple(samples),
        total_traces=len(traces),
        traces=tuple(traces[: comparison.config.max_traces]),
    )


# ---- who is affected


class Served(NamedTuple):
    """What endpoints served, arrays with an entry an endpoint: answers (``n``), their mean ``ms``
    and its variance ``var`` (NaN without answers), how many requests ``failed``, how many are
    ``unanswered``.
    """

    n: NDArray
    ms: NDArray
    var: NDArray
    failed: NDArray
    unanswered: NDArray


def _served(costs: CostTable, codes: NDArray) -> Served:
    table = costs.endpoints.reindex(codes)
    columns = {name: table[name].to_numpy() for name in Served._fields}
    variance = columns.pop("var")
    counted = {name: np.nan_to_num(column) for name, column in columns.items()}
    return Served(var=variance, **counted)


def _endpoints(comparison: Comparison) -> pd.DataFrame:
    """Return each endpoint usual and now, whether it is degraded, and the share of all excess that
    originated there.
    """
    usual_costs = comparison.reference.costs
    costs = comparison.costs
    codes = np.union1d(usual_costs.endpoints.index, costs.endpoints.index)
    usual = _served(usual_costs, codes)
    now = _served(costs, codes)
    names = comparison.display_names[codes]
    excess = _excess_by_name(comparison)
    originated = np.array([excess[name] for name in names])
    whole_excess = sum(excess.values()) or 1.0
    columns = {
        "endpoint": names,
        "service": comparison.services[codes],
        "route": comparison.routes[codes],
        "n_usual": usual.n.astype(int),
        "n_now": now.n.astype(int),
        "usual_ms": usual.ms,
        "now_ms": now.ms,
        "usual_failed": usual.failed / np.maximum(usual.n, 1),
        "now_failed": now.failed / np.maximum(now.n, 1),
        "unanswered": now.unanswered.astype(int),
        "degraded": _degraded(usual, now, comparison.config),
        "share": originated / whole_excess,
    }
    table = pd.DataFrame(columns, index=codes)
    return table.sort_values("endpoint")


def _excess_by_name(comparison: Comparison) -> dict[str, float]:
    """Return the excess in usual requests, gains left out, by the endpoint it is attributed to."""
    rows = comparison.ledger.rows
    excess: dict[str, float] = defaultdict(float)
    for name, cost in zip(rows["attributed_to"], rows["cost"], strict=True):
        excess[name] += max(cost, 0.0)
    return excess


def _degraded(usual: Served, now: Served, config: RcaConfig) -> NDArray:
    """Return which endpoints are slower, or fail more often, than chance and size explain, or have
    unanswered requests.
    """
    answered = usual.n > 0
    answers = now.n > 0
    slower = _is_slower(usual, now, config)
    fails_more = _fails_more(usual, now, config)
    worse = answered & answers & (slower | fails_more)
    hangs = now.unanswered >= config.min_unanswered
    return worse | hangs


def _is_slower(usual: Served, now: Served, config: RcaConfig) -> NDArray:
    """Return which endpoints are slower.

    Fewer than `min_requests` show no mean: those in progress when the trouble begins are the long
    ones.
    """
    rise = now.ms - usual.ms
    usual_variance = usual.var / np.maximum(usual.n, 1)
    variance_now = now.var / np.maximum(now.n, 1)
    variance = usual_variance + variance_now
    noise = config.n_sigma * np.sqrt(variance)
    least = np.maximum(config.degraded_ratio * usual.ms, config.degraded_ms)
    enough = now.n >= config.min_requests
    return (rise > noise) & (rise > least) & enough


def _fails_more(usual: Served, now: Served, config: RcaConfig) -> NDArray:
    n_usual = np.maximum(usual.n, 1)
    n_now = np.maximum(now.n, 1)
    usual_share = usual.failed / n_usual
    rise = now.failed / n_now - usual_share
    failed = usual.failed + now.failed
    n = n_usual + n_now
    both = (failed + 1) / (n + 2)
    in_both = 1 / n_usual + 1 / n_now
    variance = both * (1 - both) * in_both
    noise = config.n_sigma * np.sqrt(variance)
    return (rise > noise) & (rise > config.degraded_share)


def _affected(causes: list[Suspect], comparison: Comparison, endpoints: pd.DataFrame) -> list[str]:
    """Return the degraded endpoints among the cause and those that wait for it, nearest first.

    Those that call it come first, then those that wait for workers which it keeps busy.
    """
    callers = _callers(comparison.spans)
    order = [cause.key for cause in causes]
    _add_callers(order, callers)
    waiting = _wait_for_workers(causes, comparison)
    order += sorted(waiting.difference(order))
    _add_callers(order, callers)
    bad = endpoints[endpoints["degraded"]]
    keys = zip(bad["service"], bad["route"], strict=True)
    names = dict(zip(keys, bad["endpoint"], strict=True))
    return [names[key] for key in order if key in names]


def _add_callers(order: list[Key], callers: dict[Key, set[Key]]) -> None:
    """Add to some endpoints those that call them, and so on."""
    for key in order:  # grows while it is walked
        new = callers[key].difference(order)
        order += sorted(new)


def _wait_for_workers(causes: list[Suspect], comparison: Comparison) -> set[Key]:
    """Return the endpoints whose excess was reassigned to a cause, as they waited for what it keeps
    busy.
    """
    rows = comparison.ledger.rows
    named = {cause.key for cause in causes}
    keys = list(zip(rows["service"], rows["endpoint"], strict=True))
    is_cause = np.array([key in named for key in keys], dtype=bool)
    is_given = rows["reassigned"] > 0
    is_taken = rows["reassigned"] < 0
    entries = rows.loc[is_given & is_cause, "entry"]
    waits = is_taken & rows["entry"].isin(entries)
    return {key for key, waited in zip(keys, waits, strict=True) if waited}


def _callers(spans: EncodedSpans) -> dict[Key, set[Key]]:
    """Return the endpoints that call each endpoint."""
    keys = spans.keys
    calls = calls_of(spans)
    pairs = set(zip(calls["caller"], calls["callee"], strict=True))
    callers: dict[Key, set[Key]] = defaultdict(set)
    for caller, callee in pairs:
        callers[keys[callee]].add(keys[caller])
    return callers


# ---- traces that show it


def _samples(cause: Suspect, comparison: Comparison, requests: pd.DataFrame) -> list[TableRow]:
    """Return a few of the traces that the cause made worst: failed ones first, then the longest.

    `requests` is that of the `CostTable`, with the column trace_id.
    """
    spans = comparison.spans
    at_cause = _spans_at(cause.key, spans)
    trace = spans.ids.trace[requests.index]
    table = requests.assign(trace=trace)
    shows_it = table["trace"].isin(at_cause)
    table = table[shows_it]
    worst = table.sort_values(["failed", "ns", "trace_id"], ascending=[False, False, True])
    chosen = worst.drop_duplicates("trace")[: comparison.config.max_samples]
    return [
        {"trace_id": str(trace_id)} | _sample(at_cause[trace], comparison)
        for trace, trace_id in zip(chosen["trace"], chosen["trace_id"], strict=True)
    ]


def _spans_at(key: Key, spans: EncodedSpans) -> dict[int, int]:
    """Return the position of the span at an endpoint, by the code of its trace.

    Of several it is the last server span; a client span where there is no server span.
    """
    codes = [code for code, other in enumerate(spans.keys) if other == key]
    is_mine = np.isin(spans.node, codes)
    mine = np.flatnonzero(is_mine)
    is_client = spans.client[mine]
    is_server = spans.server[mine]
    order = np.lexsort((mine, ~is_client, is_server))
    mine = mine[order]
    traces = spans.ids.trace[mine].tolist()
    return dict(zip(traces, mine.tolist(), strict=True))


def _sample(at: int, comparison: Comparison) -> TableRow:
    """Return what happened in the trace of the span at one position, and at that span."""
    spans = comparison.spans
    trace = spans.ids.trace
    names = comparison.display_names
    is_same = trace == trace[at]
    requests = spans.server & is_same
    chain = names[spans.node[requests]]
    return {
        "root_endpoint": names[spans.node[at]],
        "root_status": int(spans.status[at]),
        "root_kind": _kind_of(at, spans),
        "affected_chain": list(dict.fromkeys(chain)),
    }


def _kind_of(at: int, spans: EncodedSpans) -> str:
    """Return how a span went wrong: "timeout", "error" or "slow"."""
    parent = spans.ids.parent[at]
    is_open = spans.end[at] == NEVER
    if is_open or spans.status[at] == 0:
        return "timeout"
    if parent >= 0 and spans.status[parent] == 0:  # who called has given up
        return "timeout"
    return "error" if spans.failed[at] else "slow"


# ---- the steps


def _steps(
    comparison: Comparison,
    rows: list[TableRow],
    suspects: list[Suspect],
    affected: list[str],
) -> list[Step]:
    usual = comparison.reference.cost_by_entry
    n_usual = int(usual["n"].sum())
    entries = comparison.ledger.entries.to_dict("records")
    compared = (
        f"{len(comparison.costs.requests)} requests of the incident were compared with "
        f"{n_usual} usual ones, entry by entry."
    )
    attributed = (
        "Each moment of a request is attributed to the one account that it waited for, each "
        "failure to where it began. For each entry the excess of its accounts adds up to its own."
    )
    return [
        Step("1. What was compared", compared, entries),
        Step("2. What the entries lost", "\n".join(map(_entry_line, entries))),
        Step("3. Where the excess originated", attributed, rows),
        _last_step(suspects, affected),
    ]


def _entry_line(e: TableRow) -> str:
    open_now = e["open_now"]
    still_open = f", {open_now} of them still open" if open_now else ""
    return (
        f"{e['entry']}: mean latency {e['now_ms']:.1f} ms instead of {e['usual_ms']:.1f} ms, "
        f"{e['now_failed']:.1%} failed instead of {e['usual_failed']:.1%} "
        f"({e['n_now']} requests{still_open})."
    )


def _last_step(suspects: list[Suspect], affected: list[str]) -> Step:
    if not suspects:
        return Step("4. Verdict", "No cause found: nothing exceeds the noise.")
    first = suspects[0]
    text = (
        f"{first.name} is the root cause: {_reason(first)}. Confidence: {first.confidence:.0%}. "
        f"Affected: {', '.join(affected) or 'none'}."
    )
    rows = [_suspect_row(suspect) for suspect in suspects]
    return Step("4. Verdict", text, rows)


def _suspect_row(suspect: Suspect) -> TableRow:
    k, n = suspect.support
    return {
        "endpoint": suspect.name,
        "score": suspect.score,
        "unit": "usual requests" if suspect.by == "excess" else "0 to 1",
        "share": suspect.share,
        "confidence": suspect.confidence,
        "n": n,
        "k": k,
    }


def _reason(first: Suspect) -> str:
    if first.by == "deviations":
        shown = [f"{item['kind']} of {item['account']}" for item in first.evidence[:3]]
        distinct = ", ".join(dict.fromkeys(shown))
        return (
            "customers lost too little to tell, but its service deviates most from what is usual "
            f"({distinct})"
        )
    k, n = first.support
    originated = f"{first.share:.0%} of the excess originated there"
    # what waits for others, and slow calls, are reassigned as a whole, not request by request
    if k == 0:
        return originated
    low, high = wilson(k, n)
    return f"{originated}, the largest part in {k} of {n} bad requests ({low:.0%} to {high:.0%})"
