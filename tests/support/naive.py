"""Slow and obvious versions of what the package does fast: oracles for the tests. They share no
code with it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pandas as pd


def ewma(values, half_life):
    """Mean and variance by the definition: weights alpha (1 - alpha)^k, the first value with what
    is left.
    """
    alpha = 1 - 0.5 ** (1 / half_life)
    means, variances = [], []
    for i in range(len(values)):
        weights = [(1 - alpha) ** (i - k) * (alpha if k > 0 else 1) for k in range(i + 1)]
        mean = sum(w * v for w, v in zip(weights, values, strict=False))
        means.append(mean)
        variances.append(sum(w * (v - mean) ** 2 for w, v in zip(weights, values, strict=False)))
    return means, variances


def _rows(frame):
    rows = frame.to_dict("records")
    for row in rows:
        row["from"] = row["start"].value
        open_span = math.isnan(row["duration_ms"])
        row["to"] = math.inf if open_span else row["from"] + round(row["duration_ms"] * 1e6)
        row["parent"] = None if pd.isna(row["parent_id"]) else (row["trace_id"], row["parent_id"])
        row["id"] = (row["trace_id"], row["span_id"])
    return rows


def self_time(frame):
    """Milliseconds of each span in which no child runs, counted between all the moments at which
    anything changes.
    """
    rows = _rows(frame)
    out = []
    for span in rows:
        children = [c for c in rows if c["parent"] == span["id"]]
        edges = (
            {span["from"], span["to"]} | {c["from"] for c in children} | {c["to"] for c in children}
        )
        edges = sorted(e for e in edges if span["from"] <= e <= span["to"])
        own = 0
        for low, high in zip(edges, edges[1:], strict=False):
            if not any(c["from"] <= low and c["to"] >= high for c in children):
                own += high - low
        out.append(math.nan if span["to"] == math.inf else own / 1e6)
    return out


def service_graph(frame):
    """{(caller, called): [calls, errors, sorted durations]} by endpoint, from each call up."""
    rows = _rows(frame)
    by_id = {row["id"]: row for row in rows}
    answered = {row["parent"] for row in rows if row["kind"] == "server"}

    def bad(row):
        closed = row["to"] != math.inf
        return closed and (row["status"] >= 500 or row["status"] == 0 or not pd.isna(row["error"]))

    graph = defaultdict(lambda: [0, 0, []])
    for row in rows:
        if row["kind"] == "client" and row["id"] in answered:
            continue
        above = by_id.get(row["parent"])
        seen = above if row["kind"] == "server" and above and above["kind"] == "client" else row
        while above and above["kind"] != "server":
            above = by_id.get(above["parent"])
        if above is None:
            continue
        called = row["endpoint"]
        entry = graph[above["endpoint"], called]
        entry[0] += 1
        entry[1] += bad(row) or bad(seen)
        if not math.isnan(seen["duration_ms"]):
            entry[2].append(seen["duration_ms"])
    return {k: [n, e, sorted(d)] for k, (n, e, d) in graph.items()}


def windows(frame, window_s, stuck_s):
    """{(window start in s, endpoint): {n, errors, log ms, arrivals, stuck}}: every span is asked
    for every window.
    """
    rows = [r for r in _rows(frame) if r["kind"] == "server"]
    step = int(window_s * 1e9)
    first = min(r["from"] for r in rows) // step
    last = max(r["to"] for r in rows if r["to"] != math.inf) // step
    table = {}
    for w in range(first, last + 1):
        low, high = w * step, (w + 1) * step
        for endpoint in {r["endpoint"] for r in rows}:
            mine = [r for r in rows if r["endpoint"] == endpoint]
            ended = [r for r in mine if low <= r["to"] < high]
            table[w * window_s, endpoint] = {
                "n": len(ended),
                "errors": sum(
                    r["status"] >= 500 or r["status"] == 0 or not pd.isna(r["error"]) for r in ended
                ),
                "total": sum(math.log(r["duration_ms"]) for r in ended),
                "arrivals": sum(low <= r["from"] < high for r in mine),
                "stuck": sum(r["to"] >= high and r["from"] <= high - stuck_s * 1e9 for r in mine),
            }
    return table


def partition(frame, trace_id):
    """{account: ns} of one trace, one nanosecond-exact interval at a time: who was waited for
    between two moments.

    At a moment the request waits for the deepest span on the path that leads, from each span, to
    the child that ends last among those that have begun by the end of the interval and end after
    its start.
    """
    rows = [r for r in _rows(frame) if r["trace_id"] == trace_id and r["kind"] != "log"]
    root = next(r for r in rows if r["parent"] is None)
    total = defaultdict(int)

    def walk(span, low, high):
        children = [c for c in rows if c["parent"] == span["id"]]
        t = high
        while True:
            running = [
                (min(c["to"], t), c) for c in children if c["from"] < t and min(c["to"], t) > low
            ]
            running = [(e, c) for e, c in running if e > max(c["from"], low)]
            if not running:
                break
            end, child = max(running, key=lambda pair: (pair[0], pair[1]["to"]))
            total[span["span_id"]] += t - end
            begin = max(child["from"], low)
            walk(child, begin, end)
            children.remove(child)
            t = begin
        total[span["span_id"]] += t - low

    walk(root, root["from"], root["to"])
    return {k: v for k, v in total.items() if v}


def nab_score(series, threshold, false_alarm, missed):
    """NAB's score of one threshold, row by row as its protocol reads."""
    raw, count = 0.0, 0
    for scores, windows in series:
        begin = min(math.floor(0.15 * len(scores)), 750)
        windows = [(first, last) for first, last in windows if last >= begin]
        alarms = [i for i, score in enumerate(scores) if i >= begin and score >= threshold]
        count += len(windows)
        for first, last in windows:
            size = last - first + 1
            worth = [
                math.tanh(2.5 * (last - i + 1) / size) / math.tanh(2.5)
                for i in alarms
                if first <= i <= last
            ]
            raw += max(worth) if worth else -missed
        for i in alarms:
            if any(first <= i <= last for first, last in windows):
                continue
            before = [(first, last) for first, last in windows if last < i]
            size = before[-1][1] - before[-1][0] if before else 0
            lengths = (i - before[-1][1]) / size if size else math.inf
            raw -= false_alarm * (1 if lengths > 3 else math.tanh(2.5 * lengths))
    return 100 * (raw + missed * count) / (count + missed * count)


def nezha_rows(spans, logs=(), is_wanted=lambda row: True):
    """The rows of a day's spans frame, in order, as the data's README tells: dicts with `fault`
    (-1: fault-free); those of the wanted spans.
    """

    def fault_of(row):
        return row["window"] if row["abnormal"] else -1

    by_id = {row["span_id"]: row for row in spans}
    children = defaultdict(list)
    for row in sorted(spans, key=lambda row: (row["start_ns"], row["span_id"])):
        children[row["parent_id"]].append(row)
    peers = defaultdict(set)
    for row in spans:
        for child in children[row["span_id"]]:
            if child["service"] != row["service"]:
                peers[row["service"], row["operation"]].add(child["service"])
    out = []
    for row in spans:
        if not is_wanted(row):
            continue
        known = peers.get((row["service"], row["operation"]), ())
        own = [c["service"] for c in children[row["span_id"]] if c["service"] != row["service"]]
        peer = own[0] if own else list(known)[0] if len(known) == 1 else None
        out.append(
            {
                "trace_id": f"{row['trace_id']:032x}",
                "span_id": f"{row['span_id']:016x}",
                "parent_id": None if row["parent_id"] == -1 else f"{row['parent_id']:016x}",
                "service": row["service"],
                "endpoint": row["operation"],
                "kind": "client" if known else "server",
                "peer": peer,
                "start": row["start_ns"],
                "duration_ms": row["duration_us"] / 1000,
                "status": 200,
                "error": None,
                "fault": fault_of(row),
            }
        )
    for number, line in enumerate(logs, start=max(by_id) + 1):
        row = by_id[line["span_id"]]
        if not is_wanted(row):
            continue
        end = row["start_ns"] + row["duration_us"] * 1000
        out.append(
            {
                "trace_id": f"{row['trace_id']:032x}",
                "span_id": f"{number:016x}",
                "parent_id": f"{row['span_id']:016x}",
                "service": row["service"],
                "endpoint": line["location"],
                "kind": "log",
                "peer": None,
                "start": min(max(line["time_ns"], row["start_ns"]), end),
                "duration_ms": 0.0,
                "status": 200,
                "error": None,
                "fault": fault_of(row),
            }
        )
    return sorted(out, key=lambda row: (row["start"], row["span_id"]))


def odd_shapes(normal, abnormal, rarer):
    """The spans whose children were rare for such a span under such a parent, and none below them
    is odd.
    """

    def seen(frame):
        rows = frame.to_dict("records")
        by_id = {row["span_id"]: n for n, row in enumerate(rows)}
        parent = [by_id.get(row["parent_id"], -1) for row in rows]
        served = {
            parent[n]: n for n, row in enumerate(rows) if row["kind"] == "server" and parent[n] >= 0
        }

        def what(n):  # of a client span: who calls what it reached
            row = rows[n]
            if row["kind"] == "server":
                return row["endpoint"]
            above = rows[parent[n]]["endpoint"] if parent[n] >= 0 else None
            return above, rows[served[n]]["endpoint"] if n in served else row["endpoint"]

        node = [what(n) for n in range(len(rows))]
        sets = [
            frozenset(node[c] for c in range(len(rows)) if parent[c] == n) for n in range(len(rows))
        ]
        above = [sets[p] if p >= 0 else None for p in parent]
        return parent, node, sets, above

    _, *before = seen(normal)
    parent, *now = seen(abnormal)
    both, under_parent, alone, anywhere = Counter(), Counter(), Counter(), Counter()
    for node, children, theirs in zip(*before, strict=True):
        both[node, theirs, children] += 1
        under_parent[node, theirs] += 1
        alone[node, children] += 1
        anywhere[node] += 1
    here, there = (
        Counter(zip(*now, strict=True)),
        Counter((node, theirs) for node, _, theirs in zip(*now, strict=True)),
    )
    odd = set()
    for n, (node, children, theirs) in enumerate(zip(*now, strict=True)):
        if under_parent[node, theirs]:
            usual = both[node, theirs, children] / under_parent[node, theirs]
        elif anywhere[node]:
            usual = alone[node, children] / anywhere[node]
        else:
            continue
        if here[node, children, theirs] / there[node, theirs] > rarer * usual:
            odd.add(n)
    deep = set(odd)
    for n in odd:
        p, walked = parent[n], set()
        while p >= 0 and p not in walked:  # what is compared on neither side is its own parent
            walked.add(p)
            deep.discard(p)
            p = parent[p]
    return sorted(deep)


def own_excess(normal, abnormal, calls, metric):
    """For each node of `abnormal` (row 0: before the alarm): excess, passed_on, own, by loops over
    the definition.
    """

    def cost(frame, node, row):
        value = frame[node, metric, "Average"].iloc[row]
        return 1 - value / 100 if metric == "availability" else value

    def requests(node, row):
        return abnormal[node, "requests", "Sum"].iloc[row]

    nodes = list(dict.fromkeys(abnormal.columns.get_level_values(0)))
    rows = range(1, len(abnormal))
    out = {}
    for node in nodes:
        usual = sorted(cost(normal, node, row) for row in range(len(normal)))
        middle = (usual[(len(usual) - 1) // 2] + usual[len(usual) // 2]) / 2
        reference = max(middle, cost(abnormal, node, 0))
        excess = sum((cost(abnormal, node, row) - reference) * requests(node, row) for row in rows)
        out[node] = {
            "usual": reference,
            "requests": sum(requests(node, row) for row in rows),
            "excess": excess,
        }
    for node in nodes:
        passed_on = 0.0
        for callee in (b for a, b in calls if a == node):
            traffic = {
                a: min(out[a]["requests"], out[callee]["requests"]) for a, b in calls if b == callee
            }
            passed_on += max(0.0, out[callee]["excess"]) * traffic[node] / sum(traffic.values())
        out[node]["passed_on"] = passed_on
        out[node]["own"] = out[node]["excess"] - passed_on
    return out


def anomaly_scores(values, fast_gain=0.1, slow_gain=0.003, spread=2e-4, warm_up=100, half_life=50):
    """Scores of a series, point by point: the worst of a record of the residual, a record of the
    drift, and a point far from its surroundings? Else, how much is left of the worst while the
    level is unusual?
    """
    past, scores, residuals, drifts = [], [], [0.0], [0.0]
    fast = slow = level = hold = extent = mean_square = level_square = 0.0
    for value in values:
        if math.isnan(value):
            scores.append(0.0)
            continue
        past.append(value)
        if len(past) == 1:
            fast = slow = level = value
            scores.append(0.0)
            continue
        distance, residual, away = abs(value - fast), value - slow, abs(value - level)
        fast, slow = (
            sum(past) / len(past) if 1 / len(past) >= gain else gain * value + (1 - gain) * mean
            for mean, gain in ((fast, fast_gain), (slow, slow_gain))
        )
        drift = fast - slow
        rounding = max(1e-15, 2**-22 * max(map(abs, past)))
        record = 0.0
        for weight, view, seen in ((20.0, residual, residuals), (1.5, drift, drifts)):
            low, high = min(seen), max(seen)
            if low - rounding <= view <= high + rounding:
                continue
            odds = weight * _widths_outside(view, low, high)
            record = max(record, 1.0 if math.isinf(odds) else odds / (1 + odds))
        decay = 0.5 ** (1 / half_life)
        local = _beyond_usual(distance, mean_square, rounding)
        score = max(record, 0.11 * local)
        if len(past) <= warm_up:
            record = local = score = 0.0
        extent *= 1.0 if _beyond_usual(away, level_square, rounding) else decay
        extent = max(extent, record, local)
        hold = hold * decay
        scores.append(score if score > max(hold, 0.09) else 0.09 * extent)
        hold = max(hold, score)
        residuals.append(residual)
        drifts.append(drift)
        weight = max(spread, 1 / len(past))
        mean_square += weight * (distance**2 - mean_square)
        most = 2.4 * math.sqrt(level_square)
        if len(past) > warm_up and most > 2.4 * rounding:
            value = min(max(value, level - most), level + most)
        level_square += weight * ((value - level) ** 2 - level_square)
        level += weight * (value - level)
    return scores


def _beyond_usual(distance, mean_square, rounding):
    """How far a distance is beyond 2.4 usual ones: 0 within, almost 1 far away."""
    z = math.inf if mean_square == 0 else distance / math.sqrt(mean_square)
    return 1 - (2.4 / z) ** 2 if z > 2.4 and distance > rounding else 0.0


def shape_scores(values, first=1000, fade=0.3, period=None):
    """Distance of each fading window to the nearest earlier one, each window weighed by hand."""
    values, scores, begin = np.asarray(values, float), np.zeros(len(values)), first
    while begin < len(values):
        past, end = values[:begin], min(2 * begin, len(values))
        lag = period or peak_of_autocorrelation(past)
        decay = math.exp(-1 / max(fade * lag, 1.0))
        for i in range(begin, end):
            weights = (1 - decay) * decay ** np.arange(i + 1)
            weights[-1] /= 1 - decay  # the first point stands for all before it
            mine = values[: i + 1][::-1]
            squares = [
                _fading_distance(mine, values[: j + 1][::-1], weights)
                for j in range(math.ceil(3 * fade * lag), i - lag + 1)
            ]
            square, variance = min(squares), np.var(mine)
            scores[i] = square / (square + variance)
        begin = end
    return scores


def _fading_distance(mine, other, weights):
    difference = np.concatenate([mine[: len(other)] - other, mine[len(other) :] - other[-1]])
    mean = np.sum(weights * difference)
    return np.sum(weights * (difference - mean) ** 2)


def peak_of_autocorrelation(past, shortest=8, repeats=4):
    """Lag at which the mean product of points so far apart is the largest of its neighbours."""
    centred = past - past.mean()
    similar = [
        np.mean(centred[lag:] * centred[: len(centred) - lag])
        for lag in range(len(past) // repeats + 1)
    ]
    peaks = [
        lag
        for lag in range(shortest, len(similar) - 1)
        if similar[lag] > similar[lag - 1] and similar[lag] >= similar[lag + 1]
    ]
    return max(peaks, key=lambda lag: similar[lag]) if peaks else 50


def _widths_outside(value, low, high):
    if low <= value <= high:
        return 0.0
    away = value - high if value > high else low - value
    return away / (high - low) if high > low else math.inf
