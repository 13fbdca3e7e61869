"""What does a verdict rest on? Affected endpoints, sample traces, and the steps to the cause."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.ledger import Comparison
from aiops_lab.numerics import to_records, wilson
from aiops_lab.results import Step, Suspect, Verdict
from aiops_lab.spans import Key
from aiops_lab.traces.encode import NEVER
from aiops_lab.traces.graph import calls_of


def build_verdict(comparison: Comparison, suspects: list[Suspect]) -> Verdict:
    """Return the verdict that names these suspects, whichever rule found them, with the ledger as
    evidence.
    """
    endpoints = _endpoints(comparison)
    affected = _affected(suspects, comparison, endpoints)
    traces = _trace_ids(comparison, comparison.bad.index.to_numpy())
    return Verdict(
        suspects=tuple(suspects),
        affected=tuple(affected),
        steps=tuple(_steps(comparison, suspects, affected)),
        ledger=tuple(to_records(comparison.ledger.rows)),
        endpoints=tuple(to_records(endpoints)),
        sample_traces=tuple(_samples(suspects[0], comparison)) if suspects else (),
        total_traces=len(traces),
        traces=tuple(traces[: comparison.config.max_traces]),
    )


def _trace_ids(comparison: Comparison, roots: NDArray) -> list[str]:
    """Return the trace_ids of root spans, each once, in their order."""
    return list(dict.fromkeys(comparison.spans.texts("trace_id", roots)))


# ---- who is affected


def _endpoints(comparison: Comparison) -> pd.DataFrame:
    """Return each endpoint usual and now, whether it is degraded, and the share of all excess that
    originated there.
    """
    usual = comparison.reference.costs.endpoints
    now = comparison.costs.endpoints
    both = usual.add_suffix("_usual").join(now.add_suffix("_now"), how="outer")
    both = both.fillna(dict.fromkeys(both.columns.drop(["var_usual", "var_now"]), 0))
    names = comparison.endpoints.loc[both.index]
    rows = comparison.ledger.rows
    excess = rows["cost"].clip(lower=0.0).groupby(rows["attributed_to"]).sum()
    share = excess / max(excess.sum(), 1e-12)
    columns = {
        "endpoint": names["name"],
        "service": names["service"],
        "route": names["endpoint"],
        "n_usual": both["n_usual"].astype(int),
        "n_now": both["n_now"].astype(int),
        "usual_ms": both["ms_usual"],
        "now_ms": both["ms_now"],
        "usual_failed": both["failed_usual"] / both["n_usual"].clip(lower=1),
        "now_failed": both["failed_now"] / both["n_now"].clip(lower=1),
        "unanswered": both["unanswered_now"].astype(int),
        "degraded": _degraded(both, comparison.config),
        "share": names["name"].map(share).fillna(0.0),
    }
    return pd.DataFrame(columns).sort_values("endpoint")


def _degraded(e: pd.DataFrame, config: RcaConfig) -> pd.Series:
    """Return which endpoints are slower, or fail more often, than chance and size explain, or have
    unanswered requests.

    Fewer than `min_requests` show no mean: those in progress when the trouble begins are the long
    ones.
    """
    n = e["n_usual"].clip(lower=1)
    m = e["n_now"].clip(lower=1)
    error = np.sqrt(e["var_usual"] / n + e["var_now"] / m)
    least = (config.degraded_ratio * e["ms_usual"]).clip(lower=config.degraded_ms)
    slower = e["ms_now"] - e["ms_usual"] > np.maximum(least, config.n_sigma * error)
    slower &= e["n_now"] >= config.min_requests
    both = (e["failed_usual"] + e["failed_now"] + 1) / (n + m + 2)
    sd = np.sqrt(both * (1 - both) * (1 / n + 1 / m))
    least = (config.n_sigma * sd).clip(lower=config.degraded_share)
    failing = e["failed_now"] / m - e["failed_usual"] / n > least
    known = (e["n_usual"] > 0) & (e["n_now"] > 0)
    return ((slower | failing) & known) | (e["unanswered_now"] >= config.min_unanswered)


def _affected(causes: list[Suspect], comparison: Comparison, endpoints: pd.DataFrame) -> list[str]:
    """Return the degraded endpoints among the cause and those that wait for it, nearest first."""
    keys = comparison.spans.keys
    calls = calls_of(comparison.spans)[["caller", "callee"]].drop_duplicates()
    callers: dict[Key, set[Key]] = defaultdict(set)
    for caller, callee in calls.itertuples(index=False):
        callers[keys[callee]].add(keys[caller])
    order = [cause.key for cause in causes]
    for key in order:  # grows while it is walked
        order += sorted(callers[key] - set(order))
    bad = endpoints[endpoints["degraded"]].set_index(["service", "route"])["endpoint"]
    return [bad[key] for key in order if key in bad.index]


# ---- traces that show it


def _samples(cause: Suspect, comparison: Comparison) -> list[dict[str, Any]]:
    """Return a few of the traces that the cause made worst: failed ones first, then the longest."""
    spans = comparison.spans
    requests = comparison.costs.requests
    codes = [code for code, key in enumerate(spans.keys) if key == cause.key]
    mine = np.flatnonzero(np.isin(spans.node, codes))
    # The server span comes after the client span that called it, and stands alone where there is
    # none.
    mine = mine[np.lexsort((mine, ~spans.client[mine], spans.server[mine]))]
    at_cause = dict(zip(spans.ids.trace[mine], mine, strict=True))
    trace_id = spans.texts("trace_id", requests.index.to_numpy())
    worst = requests.assign(trace_id=trace_id, trace=spans.ids.trace[requests.index])
    worst = worst.sort_values(["failed", "ns", "trace_id"], ascending=[False, False, True])
    traces = worst["trace"].drop_duplicates()
    chosen = traces[traces.isin(at_cause)][: comparison.config.max_samples]
    return [_sample(at_cause[trace], comparison) for trace in chosen]


def _sample(at: int, comparison: Comparison) -> dict[str, Any]:
    """Return what happened in the trace of the span at one position, and at that span."""
    spans = comparison.spans
    names = comparison.display_names
    chain = names[spans.node[spans.server & (spans.ids.trace == spans.ids.trace[at])]]
    status = spans.status[at]
    parent = spans.ids.parent[at]
    given_up = parent >= 0 and spans.status[parent] == 0
    unanswered = spans.end[at] == NEVER or status == 0 or given_up
    return {
        "trace_id": str(spans.texts("trace_id", np.array([at]))[0]),
        "root_endpoint": names[spans.node[at]],
        "root_status": int(status),
        "root_kind": "timeout" if unanswered else "error" if spans.failed[at] else "slow",
        "affected_chain": list(dict.fromkeys(chain)),
    }


# ---- the steps


def _steps(comparison: Comparison, suspects: list[Suspect], affected: list[str]) -> list[Step]:
    ledger = comparison.ledger
    usual = comparison.reference.costs
    entries = to_records(ledger.entries)
    compared = (
        f"{len(comparison.costs.requests)} requests of the incident were compared with "
        f"{len(usual.requests)} usual ones, entry by entry."
    )
    attributed = (
        "Each moment of a request is attributed to the one account that it waited for, each "
        "failure to where it began. For each entry the excess of its accounts adds up to its own."
    )
    return [
        Step("1. What was compared", compared, entries),
        Step("2. What the entries lost", "\n".join(map(_entry_line, entries))),
        Step("3. Where the excess originated", attributed, to_records(ledger.rows)),
        _last_step(suspects, affected),
    ]


def _entry_line(e: dict[str, Any]) -> str:
    still_open = f", {e['open_now']} of them still open" if e["open_now"] else ""
    return (
        f"{e['entry']}: {e['now_ms']:.1f} ms instead of {e['usual_ms']:.1f} ms, "
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
    return Step("4. Verdict", text, list(map(_suspect_row, suspects)))


def _suspect_row(suspect: Suspect) -> dict[str, Any]:
    k, n = suspect.support
    row = {"endpoint": suspect.name, "score": suspect.score, "share": suspect.share}
    return row | {"confidence": suspect.confidence, "k": k, "n": n}


def _reason(first: Suspect) -> str:
    if first.by == "deviations":
        shown = [f"{item['kind']} of {item['account']}" for item in first.evidence[:3]]
        return (
            "customers lost too little to tell, but its service deviates most from what is usual "
            f"({', '.join(dict.fromkeys(shown))})"
        )
    k, n = first.support
    originated = f"{first.share:.0%} of the excess originated there"
    # what waits for others, and slow calls, are reassigned as a whole, not request by request
    if k == 0:
        return originated
    low, high = wilson(k, n)
    return f"{originated}, the largest part in {k} of {n} bad requests ({low:.0%} to {high:.0%})"
