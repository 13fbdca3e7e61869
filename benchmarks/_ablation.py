"""What is each part worth, and what becomes of the answers when data is lost or a constant is another one?

The parts are put together here from those of the package, one left out each time; with all of them in, the answers are
those of the package itself, which tests/test_accuracy.py compares.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

import aiops_lab as lab
import shop
from aiops_lab import envelopes, metrics_rca, symptoms
from aiops_lab.baselines import alpha_of, envelope_step, ewma_step
from aiops_lab.datasets import MetricsCase, SeriesCase, TracesCase
from aiops_lab.rca import Case, learn, open_case, scores_of
from aiops_lab.windows import Key
from benchmarks import _nab, _petshop, _series
from benchmarks._petshop import SILENT, Answer, Calls
from benchmarks._tables import Row, Table, share
from shop.twins import windows_of

SHOP_SEEDS = (7000, 7001)
DRAWS = 3
WHOLE = "everything"
CONDITIONS = "conditions"


@contextmanager
def constants(module: ModuleType, **values: Any) -> Iterator[None]:
    """Give constants of a module other values for a while."""
    before = {name: getattr(module, name) for name in values}
    try:
        for name, value in values.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


# ---- traces


class Settled(NamedTuple):
    """The cases of one setting, opened once, with their truths."""

    name: str
    cases: list[Case]
    truths: list[Any]


def first(case: Case, kinds: Collection[str] = symptoms.KINDS, ledger: bool = True) -> Key | None:
    """Return the first suspect by the ledger, and where that is silent by the symptoms of some kinds."""
    scores = scores_of(case.ledger) if ledger else pd.Series(dtype=float)
    if len(scores):
        best = scores[scores == scores.max()].sort_index()
        return best.index[0][:2]
    if not case.books.requests["entry"].isin(case.usual.entries.index).any():
        return None
    items = case.symptoms[case.symptoms["kind"].isin(kinds)]
    back = {code: key for key, code in case.keys.items()}
    found = symptoms.most_unusual(items, {code: service for code, (service, _) in back.items()})
    return back[found[0].node] if found else None


PARTS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "without the ledger": {"ledger": False},
    "without symptoms": {"kinds": ()},
    **{f"without {kind}": {"kinds": [k for k in symptoms.KINDS if k != kind]} for kind in symptoms.KINDS},
}


def nezha(sets: Mapping[str, Sequence[TracesCase]], progress: bool) -> list[Table]:
    """Return what each kind of evidence is worth, and what loss and other constants do.

    `sets` holds the faults of a day by setting; where its name ends with "all", resources are given, too.
    """
    settings = [_opened(name, cases) for name, cases in sets.items()]
    virtual = [_catalogue(seed) for seed in tqdm(SHOP_SEEDS, desc="virtual shop", leave=False, disable=not progress)]
    rows = [_parts_row(name, settings, virtual, how) for name, how in PARTS.items()]
    rows += [_no_logs(settings, sets)] if any(_everything(name) for name in sets) else []
    columns = (*sets, "virtual shop: right", "wrong")
    notes = [
        "The symptoms are asked where the ledger is silent. Right and wrong in the virtual shop: its catalogue with "
        f"the windows given, {len(SHOP_SEEDS)} seeds a scenario; where nothing is at fault, silence is right.",
        "No public set here records failures: what `errors` and the ledger are for shows in the virtual shop alone.",
    ]
    parts = Table("Traces: one part removed", "AS@1 of Nezha, %", rows, columns, notes)
    return [parts, _hardships(sets, progress)]


def _everything(name: str) -> bool:
    return name.endswith("all")


def _opened(
    name: str, cases: Sequence[TracesCase], change: Callable[[pd.DataFrame], pd.DataFrame] = lambda f: f
) -> Settled:
    metrics = cases[0].resources if _everything(name) else None
    usual = learn(change(cases[0].normal), metrics)
    return Settled(
        name, [open_case(usual, change(c.abnormal), resources=metrics) for c in cases], [c.truth for c in cases]
    )


def _right(settled: Settled, **how: Any) -> int:
    found = [first(case, **how) for case in settled.cases]
    return sum(key is not None and key[0] == truth for key, truth in zip(found, settled.truths, strict=True))


def _catalogue(seed: int) -> Settled:
    """Return every scenario of the virtual shop, opened; the truths are the sets of causes."""
    cases, truths = [], []
    for scenario in shop.SCENARIOS.values():
        before, now = windows_of(scenario, shop.virtual(scenario, seed, progress=False))
        cases.append(open_case(learn(before), now))
        truths.append(set(scenario.causes))
    return Settled("virtual shop", cases, truths)


def _in_the_shop(virtual: Sequence[Settled], how: Mapping[str, Any]) -> tuple[str, str]:
    found = [
        (first(case, **how), t) for settled in virtual for case, t in zip(settled.cases, settled.truths, strict=True)
    ]
    right = sum(key in causes if causes else key is None for key, causes in found)
    wrong = sum(key is not None and key not in causes for key, causes in found)
    return f"{right} of {len(found)}", str(wrong)


def _parts_row(name: str, settings: Sequence[Settled], virtual: Sequence[Settled], how: Mapping[str, Any]) -> Row:
    return _row(name, [(_right(s, **how), len(s.cases)) for s in settings], _in_the_shop(virtual, how))


def _row(
    name: str, counted: Sequence[tuple[float, int]], others: tuple[str, ...] = (), family: str = "part removed"
) -> Row:
    right, asked = (sum(column) for column in zip(*counted, strict=True))
    shown = tuple(f"{k:.3g} of {n}" for k, n in counted)
    return Row(name, "this package" if name == WHOLE else family, share(right, asked), None, "", shown + others)


def _no_logs(settings: Sequence[Settled], sets: Mapping[str, Sequence[TracesCase]]) -> Row:
    counted = [
        (_right(_opened(s.name, sets[s.name], without_logs) if _everything(s.name) else s), len(s.cases))
        for s in settings
    ]
    return _row("without log lines", counted)


def without_logs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the spans that are no log lines."""
    return frame[frame["kind"] != "log"].reset_index(drop=True)


def fewer_spans(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return nine tenths of the spans; who loses a parent keeps its id."""
    return frame[rng.random(len(frame)) >= 0.1].reset_index(drop=True)


def fewer_traces(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return half of the traces."""
    code, traces = pd.factorize(frame["trace_id"])
    return frame[(rng.random(len(traces)) < 0.5)[code]].reset_index(drop=True)


OTHER_CONSTANTS = (("USUAL", 0.9, 0.98), ("RARER", 2.0, 10.0), ("SIGMAS", 2.0, 4.0), ("FAR", 2.0, 5.0))


def _hardships(sets: Mapping[str, Sequence[TracesCase]], progress: bool) -> Table:
    """Return what becomes of the answers: lost data, averaged over some draws, and other constants."""
    rows = [_row(WHOLE, _counted(sets))]
    for name, lose in (("10 % of the spans lost", fewer_spans), ("half of the traces lost", fewer_traces)):
        rngs = [np.random.default_rng(seed) for seed in range(DRAWS)]
        draws = [_counted(sets, partial(lose, rng=rng)) for rng in _bar(rngs, name, progress)]
        mean = np.mean([[k for k, _ in draw] for draw in draws], axis=0)
        rows.append(_row(name, [(float(k), n) for k, (_, n) in zip(mean, draws[0], strict=True)], family=CONDITIONS))
    for constant, value in _bar([(c, v) for c, *both in OTHER_CONSTANTS for v in both], "constants", progress):
        name = f"{constant} {value:g} instead of {getattr(symptoms, constant):g}"
        with constants(symptoms, **{constant: value}):
            rows.append(_row(name, _counted(sets), family=CONDITIONS))
    notes = [f"Lost from what is usual and from the fault, {DRAWS} draws. Constants: aiops_lab/symptoms.py tells each."]
    return Table("Traces: data lost, other constants", "AS@1 of Nezha, %", rows, tuple(sets), notes)


def _counted(
    sets: Mapping[str, Sequence[TracesCase]], change: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame
) -> list[tuple[float, int]]:
    """Return right of asked for each setting, all spans changed."""
    return [(_right(_opened(name, cases, change)), len(cases)) for name, cases in sets.items()]


def _bar(items: Collection[Any], name: str, progress: bool) -> Iterable[Any]:
    return tqdm(items, desc=name, leave=False, disable=not progress)


# ---- metrics


def evenly(normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]) -> Answer:
    """Ask with every interval that has requests counting the same."""
    return _petshop.this_package(_one_request(normal), _one_request(abnormal), calls, target)


def _one_request(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.copy()
    requests = frame.columns.get_level_values(1) == "requests"
    frame.loc[:, requests] = (frame.loc[:, requests] > 0).astype(float)
    return frame


def no_callees(normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]) -> Answer:
    """Ask without a call graph, and without guessing one."""
    return no_bridges(normal, abnormal, [], target)


def no_bridges(normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]) -> Answer:
    """Ask with no missing call guessed: no two courses have a cosine of 2."""
    with constants(metrics_rca, ALIKE=2.0):
        return _petshop.this_package(normal, abnormal, calls, target)


def no_noise(normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]) -> Answer:
    """Take the largest own excess, whatever is usual of it."""
    suspects = lab.rank_from_metrics(normal, abnormal, calls, target)
    return Answer(max(suspects, key=lambda s: s.evidence[0]["own"]).service) if suspects else SILENT


def no_before(normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]) -> Answer:
    """Compare with the normal median alone, not with what was before the alarm."""
    abnormal = abnormal.copy()
    abnormal.iloc[0, abnormal.columns.get_level_values(1) != "requests"] = np.nan
    return _petshop.this_package(normal, abnormal, calls, target)


METRIC_PARTS: dict[str, _petshop.Ask] = {
    WHOLE: _petshop.this_package,
    "without request weighting": evenly,
    "without callee subtraction": no_callees,
    "without bridging": no_bridges,
    "without noise": no_noise,
    "without the time before the alarm": no_before,
}
METRIC_CONSTANTS = (("QUANTILE", 0.95, 0.999), ("UNKNOWN", 0.25, 1.0), ("SURE", 2.0, 4.0), ("ALIKE", 0.8, 0.95))


def petshop(cases: Sequence[MetricsCase], progress: bool) -> list[Table]:
    """Return what each part of the metric accounts is worth, and what other constants do."""
    parts = [_metrics_row(name, ask, cases) for name, ask in _bar(METRIC_PARTS.items(), "metric parts", progress)]
    others = [_metrics_row(WHOLE, _petshop.this_package, cases)]
    for constant, value in _bar([(c, v) for c, *both in METRIC_CONSTANTS for v in both], "constants", progress):
        name = f"{constant} {value:g} instead of {getattr(metrics_rca, constant):g}"
        with constants(metrics_rca, **{constant: value}):
            others.append(_metrics_row(name, _petshop.this_package, cases)._replace(family=CONDITIONS))
    columns, measure = ("top-1, %", "silent, %"), "top-1 of PetShop with 10 % of the edges dropped, %"
    return [
        Table("Metrics: one part removed", measure, parts, columns),
        Table("Metrics: other constants", measure, others, columns),
    ]


def _metrics_row(name: str, ask: _petshop.Ask, cases: Sequence[MetricsCase]) -> Row:
    judged = _petshop.judge(ask, cases)
    k, n = (number / _petshop.DRAWS for number in judged.dropped)
    shown = tuple(f"{100 * right / asked:.1f}" for right, asked in (judged.right, judged.silent))
    return Row(name, "this package" if name == WHOLE else "part removed", share(k, n), None, "", shown)


# ---- series

VIEWS = ("value", "residual", "drift")


def composed(
    values: np.ndarray, views: Collection[str] = VIEWS, hold: bool = True, fast: float = envelopes.FAST,
    slow: float = envelopes.SLOW, out: float = envelopes.OUT, back: float = envelopes.BACK,
    warm_up: int = envelopes.WARM_UP, half_life: float = envelopes.HOLD,
) -> np.ndarray:  # fmt: skip
    """Return `anomaly_scores` of a series without NaN, put together from its parts, some of them left out."""
    n = np.arange(1, len(values) + 1)
    mean_fast, mean_slow = _ewma(values, np.maximum(fast, 1 / n)), _ewma(values, np.maximum(slow, 1 / n))
    seen = {
        "value": (values, values[0]),
        "residual": (np.concatenate([[0.0], values[1:] - mean_slow[:-1]]), 0.0),
        "drift": (mean_fast - mean_slow, 0.0),
    }
    score = np.max([_outside(*seen[view], out, back) for view in views], axis=0)
    score[:warm_up] = 0.0
    return _held(score, 1.0 - alpha_of(1.0, half_life)) if hold else score


def _ewma(values: np.ndarray, gains: np.ndarray) -> np.ndarray:
    mean, means = float(values[0]), []
    for value, gain in zip(values.tolist(), gains.tolist(), strict=True):
        mean, _ = ewma_step(mean, 0.0, value, gain)
        means.append(mean)
    return np.array(means)


def _outside(view: np.ndarray, begin: float, out: float, back: float) -> np.ndarray:
    """Return how far each point is outside of the envelope of those before it."""
    low = high = float(begin)
    bounds = []
    for value in view.tolist():
        bounds.append((low, high))
        low, high = envelope_step(low, high, value, out, back)
    lows, highs = np.array(bounds).T
    away = np.maximum(np.maximum(view - highs, lows - view), 0.0)
    return np.divide(away, away + (highs - lows), out=np.zeros(len(view)), where=away > 0)


def _held(scores: np.ndarray, decay: float) -> np.ndarray:
    """Return the scores that beat the decaying one before them."""
    hold, kept = 0.0, np.zeros(len(scores))
    for i, score in enumerate(scores.tolist()):
        hold *= decay
        if score > hold:
            kept[i] = hold = score
    return kept


SERIES_PARTS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    **{f"without the {view}": {"views": [v for v in VIEWS if v != view]} for view in VIEWS},
    "without the hold": {"hold": False},
}
SERIES_CONSTANTS = (
    ("fast", 0.015, 0.06), ("slow", 0.0015, 0.006), ("out", 0.35, 1.0), ("back", 1.5e-5, 6e-5), ("warm_up", 50, 200),
    ("half_life", 25.0, 100.0),
)  # fmt: skip


def nab(cases: Sequence[SeriesCase], progress: bool) -> list[Table]:
    """Return what each part of `anomaly_scores` is worth, and what other constants do."""
    changed = {f"{name} {value:g}": {name: value} for name, *both in SERIES_CONSTANTS for value in both}
    tables = []
    for title, how, family in (
        ("Series: one part removed", SERIES_PARTS, "part removed"),
        ("Series: halved and doubled constants", {WHOLE: {}} | changed, CONDITIONS),
    ):
        rows = [_series_row(name, h, family, cases) for name, h in _bar(how.items(), title, progress)]
        columns = ("low FP", "low FN", "false alarms per 10,000 rows")
        tables.append(Table(title, "NAB, standard profile", rows, columns))
    return tables


def _series_row(name: str, how: Mapping[str, Any], family: str, cases: Sequence[SeriesCase]) -> Row:
    series = [(composed(case.values, **how), case.windows) for case in cases]
    best = _nab.best(series)
    false = 1e4 * best["standard"].false_alarms / max(best["standard"].usual_rows, 1)
    others = f"{best['low_FP'].score:.1f}", f"{best['low_FN'].score:.1f}", f"{false:.1f}"
    family = "this package" if name == WHOLE else family
    return Row(name, family, _series.interval(series, best["standard"]), None, "", others)
