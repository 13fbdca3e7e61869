"""Ten answers of this package that are wrong, with the accounts that they rest on: ``python -m
benchmarks.failures [--data DIR] [--out docs/where_it_is_wrong.md]``.

From the scenarios of the virtual shop, Cloud-OpsBench, PetShop and Nezha. A case whose answer has
become right is said to be so. Cases whose data is not at hand are left out; without any: exit 2.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import aiops_lab as lab
import shop
from aiops_lab import datasets
from aiops_lab.datasets.cases import Case, MetricsCase
from aiops_lab.datasets.nezha import TracesCase
from aiops_lab.explain.ledger import compare
from aiops_lab.explain.metric_costs import AVAILABILITY
from aiops_lab.known_names import UnknownNameWarning
from benchmarks import _petshop
from benchmarks._data import data_folder_or_hint, data_parser
from shop.virtual_time.scenario_file import find_scenario
from shop.virtual_time.twins import windows_of

OUT = Path(__file__).parents[1] / "docs" / "where_it_is_wrong.md"
SEED = 20_000
ROWS = 6  # of a ledger
SUSPECTS = 3  # whose accounts are shown
SURE = 0.5  # from which a method speaks, where it is asked about normal windows
DAY = "TrainTicket_2023-01-29"
OF_SPANS = ["entry", "account", "unit", "usual", "now", "excess", "se", "cost"]
DECIDED = ["kind", "account", "usual", "now", "share"]
OF_METRICS = [
    *("node", "metric", "usual", "now", "requests", "due"),
    *("excess", "passed_on", "bridged", "own"),
]
DEVIATING = ["node", "metric", "usual", "now", "deviation"]
SHARE_OF_FAILURES = "failures (share)"
NOTHING = pd.DataFrame()


class Shown(NamedTuple):
    """An answer beside the truth, and what it rests on. ``truth``: services, empty: nothing.
    ``deviations``: those of the suspects, whatever they cost.
    """

    truth: tuple[str, ...]
    suspects: list[lab.Suspect]
    ledger: pd.DataFrame
    deviations: pd.DataFrame = NOTHING

    @property
    def is_right(self) -> bool:
        """Whether the first suspect is a truth; without a truth, whether nobody is vouched for."""
        first = self.suspects[:1]
        if self.truth:
            return any(suspect.service in self.truth for suspect in first)
        return not any(suspect.confidence >= SURE for suspect in first)


class Failure(NamedTuple):
    """A case to show: a title, why the answer is wrong, and how to ask again."""

    title: str
    why: str
    ask: Callable[[Path], Shown]


# ---- how to ask again


def in_the_shop(name: str, folder: Path) -> Shown:
    """Return the answer on a scenario of the virtual shop."""
    scenario = find_scenario(name)
    before, now = windows_of(scenario, shop.virtual(scenario, SEED, progress=False))
    reference = lab.learn(before)
    truth = tuple(service for service, _ in scenario.causes)
    found = lab.rank_root_causes(reference, now)
    return Shown(truth, found, _of_spans(reference, now), _decided(found))


def in_metrics(name: str, folder: Path) -> Shown:
    """Return the answer on a fault of Cloud-OpsBench."""
    cases = _loaded("cloudopsbench", folder)
    (case,) = (case for case in cases if case.name.rpartition("/")[2] == name)
    assert isinstance(case, MetricsCase)
    found = lab.rank_from_metrics(case.normal, case.abnormal, case.calls, case.target)
    return Shown((case.truth,), found, _of_metrics(found), _deviating(found))


def in_a_normal_window(folder: Path) -> Shown:
    """Return the first answer on a window of PetShop without a fault that is vouched for; else the
    last one.
    """
    cases = [case for case in _loaded("petshop", folder) if isinstance(case, MetricsCase)]
    found: list[lab.Suspect] = []
    for window in _petshop.quiet_windows(cases):
        found = lab.rank_from_metrics(*window)
        if found and found[0].confidence >= SURE:
            break
    return Shown((), found, _of_metrics(found), _deviating(found))


def in_traces(number: int, folder: Path) -> Shown:
    """Return the answer on a fault of Nezha by traces alone."""
    cases = [case for case in _loaded("nezha", folder) if case.group == DAY]
    case = cases[number]
    assert isinstance(case, TracesCase)
    reference = lab.learn(case.normal)
    found = lab.rank_root_causes(reference, case.abnormal)
    ledger = _of_spans(reference, case.abnormal)
    return Shown((case.truth,), found, ledger, _decided(found))


@cache
def _loaded(name: str, folder: Path) -> tuple[Case, ...]:
    return tuple(datasets.load(name, folder / name))


def _of_spans(reference: lab.Reference, abnormal: pd.DataFrame) -> pd.DataFrame:
    rows = compare(reference, abnormal).ledger.rows
    largest = rows["cost"].abs().nlargest(ROWS).index
    return rows.loc[largest, OF_SPANS].reset_index(drop=True)


def _of_metrics(suspects: Sequence[lab.Suspect]) -> pd.DataFrame:
    accounts = [row for row in _evidence(suspects) if row.get("excess")]
    table = pd.DataFrame(accounts, columns=OF_METRICS)
    return table.replace({"metric": {AVAILABILITY: SHARE_OF_FAILURES}})


def _deviating(suspects: Sequence[lab.Suspect]) -> pd.DataFrame:
    """Return the metric of each suspect that deviates most."""
    rows = [row for row in _evidence(suspects) if "deviation" in row]
    table = pd.DataFrame(rows, columns=DEVIATING)
    return table.drop_duplicates("node")  # the largest comes first


def _decided(suspects: Sequence[lab.Suspect]) -> pd.DataFrame:
    """Return the deviations by which suspects are named; none where it is by their excess."""
    rows = [_part(row) for row in _evidence(suspects) if "usual_k" in row]
    table = pd.DataFrame(rows, columns=DECIDED).drop_duplicates()
    return table.sort_values("share", ascending=False).head(ROWS)


def _part(row: dict[Any, Any]) -> dict[str, Any]:
    """Return a deviation with the parts that are unusual, as "k of n"."""
    usual = f"{row['usual_k']:,.0f} of {row['usual_n']:,.0f}"
    now = f"{row['k']:,.0f} of {row['n']:,.0f}"
    kind = KINDS[row["kind"]]
    account = f"{row['account']} {row['what']}".strip()
    return row | {"kind": kind, "account": account, "usual": usual, "now": now}


def _evidence(suspects: Sequence[lab.Suspect]) -> list[dict[Any, Any]]:
    return [row for suspect in suspects[:SUSPECTS] for row in suspect.evidence]


KINDS = {
    "errors": "failures",
    "self": "long own time",
    "shape": "rare set of calls",
    "calls": "more calls",
    "resources": "resource",
}
"""What the kinds of deviations are called on the page."""


# ---- which

A_HOST = (
    "The network of a host is slow, and no table says which services run on it (`placed=` was not "
    "given), so the excess stays with the services that it slows. "
)

FAILURES = (
    Failure(
        "A host's network is slow (Cloud-OpsBench, boutique-infrastructure-41)",
        A_HOST + "The caution says that much is slow where nobody waits for the suspect.",
        partial(in_metrics, "boutique-infrastructure-41"),
    ),
    Failure(
        "A host's network is so slow that callers give up (Cloud-OpsBench, "
        "boutique-infrastructure-44)",
        A_HOST + "Requests fall to a quarter and the latency of frontend is not measured any more. "
        "Of what is left most is the own excess of a service that calls nobody.",
        partial(in_metrics, "boutique-infrastructure-44"),
    ),
    Failure(
        "A delay on the way out (Cloud-OpsBench, trainticket-performance-26)",
        "The network of ts-preserve-service is slow, and the latencies of what it calls rise too, "
        "probably as they are measured from the caller's side. Without callees of its own, "
        "ts-contacts-service can pass nothing on.",
        partial(in_metrics, "trainticket-performance-26"),
    ),
    Failure(
        "A normal window in which requests fail (PetShop)",
        "The set counts the window as one without a fault, but a quarter of the requests failed "
        "at PetSite, and none before. The label is as doubtful as the answer.",
        in_a_normal_window,
    ),
    Failure(
        "A wrong return value, by traces alone (Nezha, TrainTicket, fault 0)",
        "A method returns a wrong value: no span is slower and none fails, so chance decides among "
        "small deviations. As they are slight, in few requests, the confidence is lowered.",
        partial(in_traces, 0),
    ),
    Failure(
        "The same, and silence (Nezha, TrainTicket, fault 2)",
        "Nothing in the spans is unusual enough, so nobody is named. With the log lines as spans "
        "and the resources the answer is right.",
        partial(in_traces, 2),
    ),
    Failure(
        "The same, at a high confidence (Nezha, TrainTicket, fault 3)",
        "The wrong value of ts-basic-service makes its caller go another way, which is a set of "
        "calls that was never seen there. No span tells that the answer below it was wrong.",
        partial(in_traces, 3),
    ),
    Failure(
        "A weak fault in a tenth of the traces (virtual shop)",
        "An order takes a tenth longer, and one trace in ten is kept. The excess is four standard "
        "errors, three of which are taken off as what chance may do; what is left is below the "
        "least score (`RcaConfig.min_score`). More traces would tell.",
        partial(in_the_shop, "sampled and weak"),
    ),
    Failure(
        "A deployment that takes longer (virtual shop)",
        "Nothing is at fault: a new version is a little slower, for good. By size alone it is a "
        "weak fault; only what is known of changes tells them apart.",
        partial(in_the_shop, "deployment"),
    ),
    Failure(
        "A fault under the noise (virtual shop)",
        "The delay is smaller than three standard errors of the excess, so it is not told from "
        "chance; more requests would tell.",
        partial(in_the_shop, "under the noise"),
    ),
)


# ---- the page

HEAD = """# Where it is wrong

Ten answers that count as wrong, picked by hand for what they show; how many of all are wrong is
told in [results.md](results.md). `python -m benchmarks.failures` asks again; this is of
{when}.

**Score.** Of traces, and of PetShop: the excess beyond noise, in usual requests (PetShop: in failed
ones), negative where it lies within the noise. Of Cloud-OpsBench, and of traces where too little is
lost: from 0 to 1, how unusual a node is.

**Metrics.** An account is a service and a metric:

| column | says |
| --- | --- |
| usual, now | cost of a request: latency (Cloud-OpsBench: ms) or the share that fails |
| requests, due | requests that were served; those, or where they fell, as many as usually come |
| excess | (now − usual) × due, summed over the intervals |
| passed_on | the part that the callees explain |
| bridged | the part that is laid to a service whose call by this one nobody recorded |
| own | excess − passed_on − bridged |

*Now* is a mean over the requests that were served, the excess a sum over intervals, so the
columns of a row need not multiply to it. Where an interval served nothing but tells a share of
failures, all that were due count at that share: so failures can be 0 of the served ones and still
have an excess. The second table has the metric of each suspect that deviates most, with medians;
*deviation* is the logarithm of how many times it is beyond the least deviation that counts.

**Traces.** An account is that of the ledger: its mean per request of the entry, the standard error
(se) of the excess, and the cost in usual requests. *Own time* is spent there, an *edge* is the time
between a call and who serves it. Deviations count spans, or requests: how many were unusual, of how
many; *share* is by how much that part has certainly grown. In Nezha the recording itself calls
the entry `/*`."""


def page(folder: Path) -> tuple[str, int]:
    """Return the page, and how many of the cases are on it."""
    when = pd.Timestamp.now("UTC").date()
    parts = [HEAD.format(when=f"{when}, with version {lab.__version__}")]
    left_out = []
    for number, failure in enumerate(FAILURES, 1):
        try:
            shown = failure.ask(folder)
        except (FileNotFoundError, ImportError):
            left_out.append(failure.title)
            continue
        parts += [f"## {number}. {failure.title}", *_told(failure, shown)]
    if left_out:
        parts.append(f"Left out, as the data is not at hand: {'; '.join(left_out)}.")
    return "\n\n".join(parts) + "\n", len(FAILURES) - len(left_out)


def _told(failure: Failure, shown: Shown) -> Iterator[str]:
    truth = ", ".join(shown.truth) or "nothing is at fault"
    yield f"Truth: **{truth}**. Answer: {_answer(shown.suspects)}."
    yield "*This answer is right by now.*" if shown.is_right else failure.why
    is_of_traces = "share" in shown.deviations
    if is_of_traces and len(shown.deviations):
        yield "What decided, as too little was lost to tell by the ledger:"
        yield _table(shown.deviations)
        yield "The ledger, which says nothing here:"
    if len(shown.ledger):
        yield _table(shown.ledger)
    if not is_of_traces and len(shown.deviations):
        yield "The metric of each that deviates most:"
        yield _table(shown.deviations)


def _answer(suspects: Sequence[lab.Suspect]) -> str:
    told = [
        f"{suspect.service} {suspect.endpoint}".strip()
        + f" (score {suspect.score:.3f}, confidence {suspect.confidence:.2f})"
        for suspect in suspects[:SUSPECTS]
    ]
    return ", then ".join(told) or "nobody"


def _table(frame: pd.DataFrame) -> str:
    rows = [list(frame.columns), ["---"] * len(frame.columns)]
    rows += [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _cell(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1e4 else _large(value)


def _large(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; return 2 where there is no data."""
    parser = data_parser("failures", __doc__)
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="the page to write")
    asked = parser.parse_args(arguments)
    folder = data_folder_or_hint(asked.data)
    if folder is None:
        return 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownNameWarning)  # PetShop's calls name what is no node
        text, shown = page(folder)
    asked.out.write_text(text, "utf-8")
    print(f"{shown} of {len(FAILURES)} cases in {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
