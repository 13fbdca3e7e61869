"""What does a verdict rest on? The affected endpoints, the sample traces and the steps that led to
the cause.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aiops_lab.explain.config import N_SIGMA
from aiops_lab.explain.ledger import Comparison
from aiops_lab.numerics import to_records, wilson
from aiops_lab.results import Step, Suspect, Verdict
from aiops_lab.traces.graph import calls_of

_MOST_TRACES, _MOST_SAMPLES = 1000, 5  # that an incident lists, and shows in detail

_FEW = 5


def build_verdict(case: Comparison, suspects: list[Suspect]) -> Verdict:
    """Return the verdict that names these suspects, whichever rule found them, with the books as
    evidence.
    """
    endpoints = _endpoints(case)
    affected = _affected(suspects, case, endpoints)
    traces = case.bad["trace_id"].drop_duplicates().tolist()
    return Verdict(
        suspects=tuple(suspects),
        affected=tuple(affected),
        steps=tuple(_steps(case, suspects, affected)),
        ledger=tuple(to_records(case.ledger.rows)),
        endpoints=tuple(endpoints),
        sample_traces=tuple(_samples(suspects[0], case)) if suspects else (),
        total_traces=len(traces),
        traces=tuple(traces[:_MOST_TRACES]),
    )


# ---- who is affected


def _endpoints(case: Comparison) -> list[dict[str, Any]]:
    """Return each endpoint usual and now, whether it is degraded, and the share of all excess that
    was born there.
    """
    usual, now = case.usual.books.endpoints, case.books.endpoints
    both = usual.add_suffix("_usual").join(now.add_suffix("_now"), how="outer")
    both = both.fillna(
        {
            f"{count}_{when}": 0
            for count in ("n", "failed", "unanswered")
            for when in ("usual", "now")
        }
    )
    born = case.ledger.rows["cost"].clip(lower=0.0).groupby(case.ledger.rows["attributed_to"]).sum()
    share = born / max(born.sum(), 1e-12)
    back = {code: key for key, code in case.keys.items()}
    table = pd.DataFrame(
        {
            "endpoint": [case.shown[code] for code in both.index],
            "service": [back[code][0] for code in both.index],
            "route": [back[code][1] for code in both.index],
            "n_usual": both["n_usual"].astype(int),
            "n_now": both["n_now"].astype(int),
            "usual_ms": both["ms_usual"].fillna(0.0),
            "now_ms": both["ms_now"].fillna(0.0),
            "usual_failed": both["failed_usual"] / both["n_usual"].clip(lower=1),
            "now_failed": both["failed_now"] / both["n_now"].clip(lower=1),
            "unanswered": both["unanswered_now"].astype(int),
            "degraded": _degraded(both),
        }
    )
    table["share"] = table["endpoint"].map(share).fillna(0.0)
    return to_records(table.sort_values("endpoint"))


def _degraded(e: pd.DataFrame) -> pd.Series:
    """Own mean up by more than 10 %, 3 ms and 3 standard errors; or own failures by 2 points and 3;
    or 3 unanswered.

    Fewer than 5 requests show no mean: those in progress when the trouble begins are the long ones.
    """
    n, m = e["n_usual"].clip(lower=1), e["n_now"].clip(lower=1)
    error = np.sqrt(e["var_usual"] / n + e["var_now"] / m)
    slower = e["ms_now"] - e["ms_usual"] > np.maximum(
        np.maximum(0.1 * e["ms_usual"], 3.0), N_SIGMA * error
    )
    slower &= e["n_now"] >= _FEW
    both = (e["failed_usual"] + e["failed_now"] + 1) / (n + m + 2)
    sd = np.sqrt(both * (1 - both) * (1 / n + 1 / m))
    failing = e["failed_now"] / m - e["failed_usual"] / n > np.maximum(0.02, N_SIGMA * sd)
    return ((slower | failing) & (e["n_usual"] > 0) & (e["n_now"] > 0)) | (e["unanswered_now"] >= 3)


def _affected(
    causes: list[Suspect], case: Comparison, endpoints: list[dict[str, Any]]
) -> list[str]:
    """Return the degraded endpoints among the cause and those that wait for it, nearest first."""
    calls, keys = calls_of(case.spans), case.spans.keys
    edges = calls[["caller", "callee"]].drop_duplicates()
    pairs = {(keys[a], keys[c]) for a, c in edges.itertuples(index=False)}
    order = [cause.key for cause in causes]
    for key in order:  # grows while it is walked
        order += sorted({caller for caller, called in pairs if called == key} - set(order))
    bad = {(row["service"], row["route"]): row["endpoint"] for row in endpoints if row["degraded"]}
    return [bad[key] for key in order if key in bad]


# ---- traces that show it


def _samples(cause: Suspect, case: Comparison) -> list[dict[str, Any]]:
    """Return a few of the traces that the cause made worst: failed ones first, then the longest."""
    worst = case.books.requests.sort_values(
        ["failed", "ns", "trace_id"], ascending=[False, False, True]
    )
    frame = case.frame
    owner = frame["service"].where(frame["kind"] != "client", frame["peer"])
    mine = frame[(owner == cause.service) & (frame["endpoint"] == cause.endpoint)]
    # The server span comes after the client span that called it, and stands alone where there is
    # none.
    last = {
        str(row.trace_id): row
        for row in mine.sort_values(["kind", "start", "span_id"]).itertuples()
    }
    chosen = [t for t in worst["trace_id"].drop_duplicates() if t in last][:_MOST_SAMPLES]
    return [_sample(frame[frame["trace_id"] == t], last[t], case) for t in chosen]


def _sample(trace: pd.DataFrame, at_cause: Any, case: Comparison) -> dict[str, Any]:
    served = trace[trace["kind"] == "server"]
    given_up = trace.loc[trace["span_id"] == at_cause.parent_id, "status"].eq(0).any()
    unanswered = np.isnan(at_cause.duration_ms) or at_cause.status == 0 or given_up
    bad = at_cause.status >= 500 or isinstance(at_cause.error, str)
    chain = [
        case.shown[case.keys[s, e]]
        for s, e in zip(served["service"], served["endpoint"], strict=True)
    ]
    owner = at_cause.peer if at_cause.kind == "client" else at_cause.service
    return {
        "trace_id": str(at_cause.trace_id),
        "root_endpoint": case.shown[case.keys[owner, at_cause.endpoint]],
        "root_status": int(at_cause.status),
        "root_kind": "timeout" if unanswered else "error" if bad else "slow",
        "affected_chain": list(dict.fromkeys(chain)),
    }


# ---- the steps


def _steps(case: Comparison, suspects: list[Suspect], affected: list[str]) -> list[Step]:
    entries = to_records(case.ledger.entries)
    n_now, n_usual = len(case.books.requests), len(case.usual.books.requests)
    compared = f"{n_now} requests of the incident with {n_usual} usual ones, entry by entry."
    booked = (
        "Each moment of a request belongs to the one account it waited for, each failure to where it began. "
        "For each entry the excess of its accounts adds up to its own."
    )
    return [
        Step("1. What was compared", compared, entries),
        Step("2. What the entries lost", "\n".join(_entry_line(e) for e in entries)),
        Step("3. Where it was born", booked, to_records(case.ledger.rows)),
        _last_step(suspects, affected),
    ]


def _entry_line(e: dict[str, Any]) -> str:
    still_open = f", {e['open_now']} of them still open" if e["open_now"] else ""
    return (
        f"{e['entry']}: {e['now_ms']:.1f} ms instead of {e['usual_ms']:.1f} ms, "
        f"{e['now_failed']:.1%} failed instead of {e['usual_failed']:.1%} ({e['n_now']} requests{still_open})."
    )


def _last_step(suspects: list[Suspect], affected: list[str]) -> Step:
    if not suspects:
        return Step("4. Verdict", "No cause found: nothing stands out of the noise.")
    first = suspects[0]
    text = (
        f"{first.name} is the root cause: {_reason(first)}. Confidence: {first.confidence:.0%}. "
        f"Affected: {', '.join(affected) or 'none'}."
    )
    rows = [
        {
            "endpoint": s.name,
            "score": s.score,
            "share": s.share,
            "confidence": s.confidence,
            "k": s.support[0],
            "n": s.support[1],
        }
        for s in suspects
    ]
    return Step("4. Verdict", text, rows)


def _reason(first: Suspect) -> str:
    if first.by == "deviations":
        shown = ", ".join(
            dict.fromkeys(f"{e['kind']} of {e['account']}" for e in first.evidence[:3])
        )
        return (
            f"customers lost too little to tell, but its service is the most unusual one ({shown})"
        )
    k, n = first.support
    low, high = wilson(k, n, 1.96) if n else (0.0, 1.0)
    born = f"{first.share:.0%} of the excess was born there"
    # what waits for others, and slow calls, are handed on as a whole, not request by request
    if k == 0:
        return born
    return f"{born}, and in {k} of {n} bad requests ({low:.0%} to {high:.0%}) the largest part"
