"""Root cause on traces: what is each kind of evidence worth, and what do lost data and other
constants do?

The package is asked with one part left out each time; with all of them in, the answers are those of
`rank_root_causes`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import shop
from aiops_lab.datasets.nezha import TracesCase
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.deviations import DEVIATION_KINDS
from aiops_lab.explain.ledger import Comparison, compare
from aiops_lab.explain.ranking import rank_by_deviations, rank_by_ledger
from aiops_lab.explain.reference import learn
from aiops_lab.spans import Key
from benchmarks._ablation import CONDITIONS, REMOVED, WHOLE, bar, family
from benchmarks._tables import Row, Table, share
from shop.virtual_time.random_topology import anywhere, layered
from shop.virtual_time.twins import windows_of

# the virtual shop's catalogue once, and random shops of 50 endpoints
SHOP_SEED, WORLDS, SIZE = 7000, 20, 50
DRAWS = 3
WHERE = "Nezha, days that were seen while tuning"


class Settled(NamedTuple):
    """The cases of one setting, opened once, with their truths."""

    name: str
    cases: list[Comparison]
    truths: list[Any]


def ranked(
    case: Comparison, kinds: Collection[str] = DEVIATION_KINDS, ledger: bool = True
) -> list[Key]:
    """Return the suspects by the ledger, and where that is silent by the symptoms of some kinds."""
    found = rank_by_ledger(case) if ledger else []
    return [suspect.key for suspect in found or rank_by_deviations(case, kinds)]


PARTS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "without the ledger": {"ledger": False},
    "without symptoms": {"kinds": ()},
    **{
        f"without {kind}": {"kinds": [k for k in DEVIATION_KINDS if k != kind]}
        for kind in DEVIATION_KINDS
    },
}


def nezha(sets: Mapping[str, Sequence[TracesCase]], progress: bool) -> list[Table]:
    """Return what each kind of evidence is worth, and what loss and other constants do.

    `sets` holds the faults of a day by setting; where its name ends with "all", resources are
    given, too.
    """
    settings = [_opened(name, cases) for name, cases in sets.items()]
    virtual = _virtual(progress)
    rows = [_parts_row(name, settings, virtual, how) for name, how in PARTS.items()]
    rows += [_no_logs(settings, sets)] if any(_everything(name) for name in sets) else []
    columns = (*sets, "virtual shop: right", "exact", "wrong")
    notes = [
        "The symptoms are asked where the ledger is silent.",
        f"Virtual shop: its catalogue and {WORLDS} random shops of {SIZE} endpoints, the windows "
        "given. Right: the "
        "first suspect is a cause; exact: the first suspects are all causes; wrong: it speaks, "
        "and the first is none. "
        "Where nothing is at fault, silence is right.",
        "No public set here records failures: what `errors` and the ledger are for shows in the "
        "virtual shop alone.",
    ]
    parts = Table("Traces: one part removed", WHERE, "AS@1 of Nezha, %", rows, columns, notes)
    return [parts, _hardships(sets, progress)]


def _everything(name: str) -> bool:
    return name.endswith("all")


def _opened(
    name: str,
    cases: Sequence[TracesCase],
    change: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame,
    config: RcaConfig | None = None,
) -> Settled:
    metrics = cases[0].resources if _everything(name) else None
    reference = learn(change(cases[0].normal), metrics, config=config)
    compared = [compare(reference, change(case.abnormal), metrics) for case in cases]
    return Settled(name, compared, [case.truth for case in cases])


def _right(settled: Settled, **how: Any) -> int:
    found = [ranked(case, **how)[:1] for case in settled.cases]
    return sum(
        [service for service, _ in keys] == [truth]
        for keys, truth in zip(found, settled.truths, strict=True)
    )


def _virtual(progress: bool) -> Settled:
    """Return every scenario of the virtual shop and faults in random shops, opened; the truths are
    sets of causes.
    """
    random = [anywhere(layered(SIZE, SHOP_SEED + seed), seed) for seed in range(WORLDS)]
    scenarios = [*shop.SCENARIOS.values(), *random]
    cases = []
    for scenario in bar(scenarios, "virtual shop", progress):
        before, now = windows_of(scenario, shop.virtual(scenario, SHOP_SEED, progress=False))
        cases.append(compare(learn(before), now))
    return Settled("virtual shop", cases, [set(scenario.causes) for scenario in scenarios])


def _in_the_shop(virtual: Settled, how: Mapping[str, Any]) -> tuple[str, ...]:
    """Return how often the first suspect is a cause, and the first ones are all causes; and how
    often it is wrong.
    """
    found = [
        (ranked(case, **how), causes)
        for case, causes in zip(virtual.cases, virtual.truths, strict=True)
    ]
    right = sum(
        keys[0] in causes if keys and causes else not keys and not causes for keys, causes in found
    )
    exact = sum(
        set(keys[: len(causes)]) == causes if causes else not keys for keys, causes in found
    )
    wrong = sum(bool(keys) and keys[0] not in causes for keys, causes in found)
    return f"{right} of {len(found)}", f"{exact}", f"{wrong}"


def _parts_row(
    name: str, settings: Sequence[Settled], virtual: Settled, how: Mapping[str, Any]
) -> Row:
    return _row(
        name, [(_right(s, **how), len(s.cases)) for s in settings], _in_the_shop(virtual, how)
    )


def _row(
    name: str,
    counted: Sequence[tuple[float, int]],
    others: tuple[str, ...] = (),
    kind: str = REMOVED,
) -> Row:
    right, asked = (sum(column) for column in zip(*counted, strict=True))
    shown = tuple(f"{k:.3g} of {n}" for k, n in counted)
    return Row(name, family(name, kind), share(right, asked), None, "", shown + others)


def _no_logs(settings: Sequence[Settled], sets: Mapping[str, Sequence[TracesCase]]) -> Row:
    counted = [
        (
            _right(_opened(s.name, sets[s.name], without_logs) if _everything(s.name) else s),
            len(s.cases),
        )
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


OTHER_CONSTANTS = (
    ("quantile", 0.9, 0.98),
    ("rarity_ratio", 2.0, 10.0),
    ("n_sigma", 2.0, 4.0),
    ("resource_margin", 1.0, 4.0),
)


def _hardships(sets: Mapping[str, Sequence[TracesCase]], progress: bool) -> Table:
    """Return the answers with lost data, averaged over some draws, and with other constants."""
    rows = [_row(WHOLE, _counted(sets))]
    for name, lose in (
        ("10 % of the spans lost", fewer_spans),
        ("half of the traces lost", fewer_traces),
    ):
        rngs = [np.random.default_rng(seed) for seed in range(DRAWS)]
        draws = [_counted(sets, partial(lose, rng=rng)) for rng in bar(rngs, name, progress)]
        mean = np.mean([[k for k, _ in draw] for draw in draws], axis=0)
        rows.append(
            _row(
                name,
                [(float(k), n) for k, (_, n) in zip(mean, draws[0], strict=True)],
                kind=CONDITIONS,
            )
        )
    others = [(field, value) for field, *both in OTHER_CONSTANTS for value in both]
    for field, value in bar(others, "constants", progress):
        name = f"{field} {value:g} instead of {getattr(RcaConfig(), field):g}"
        config = RcaConfig(**{field: value})
        rows.append(_row(name, _counted(sets, config=config), kind=CONDITIONS))
    notes = [f"Lost from what is usual and from the fault, {DRAWS} draws. Constants: `RcaConfig`."]
    return Table(
        "Traces: data lost, other constants", WHERE, "AS@1 of Nezha, %", rows, tuple(sets), notes
    )


def _counted(
    sets: Mapping[str, Sequence[TracesCase]],
    change: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame,
    config: RcaConfig | None = None,
) -> list[tuple[float, int]]:
    """Return right of asked for each setting, all spans changed."""
    return [
        (_right(_opened(name, cases, change, config)), len(cases)) for name, cases in sets.items()
    ]
