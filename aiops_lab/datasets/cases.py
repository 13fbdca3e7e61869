"""The cases that every public data set is read into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# NAB's authors do not score the first rows of a file: a detector may learn there
UNSCORED_SHARE, UNSCORED_ROWS = 0.15, 750


@dataclass(frozen=True, eq=False)
class Case:
    """One question with its answer: what was usual, what happened, and the truth.

    Attributes
    ----------
    name : str
        Unique within its data set.
    group : str
        Cases that share `normal` (PetShop: scenario, Nezha: system and day), a system
        (Cloud-OpsBench, RCD), a kind of series (NAB) or the set itself (WSD, UCR, AIOPS).
    truth : Any
        The right answer: a node (PetShop, Cloud-OpsBench, RCD), a service (Nezha), windows as
        (first row, last row) (series).
    normal, abnormal : DataFrame or array
        Every kind of case has both. They may be shared between cases: do not write into them.
    """

    name: str
    group: str
    truth: Any


@dataclass(frozen=True, eq=False)
class MetricsCase(Case):
    """A fault told by metrics, as `rank_from_metrics(normal, abnormal, calls, target)` takes it.

    Attributes
    ----------
    calls : list of (caller, callee), or None
        None: the set has no call graph.
    target : dict, or None
        The alarm; None: the set names no single one.
    fault : str
        The kind of fault, such as ``"cpu"``. Empty where the set has no names for kinds.
    alerts : dict
        The alarmed nodes, and what of each was unusual, in words of the set itself.
    """

    normal: pd.DataFrame = field(repr=False)
    abnormal: pd.DataFrame = field(repr=False)
    calls: list[tuple[str, str]] | None = field(repr=False)
    target: dict[str, Any] | None
    fault: str = ""
    alerts: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class SpansCase(Case):
    """A fault told by spans, of a data set of your own: `truth` is a tuple of services, empty where
    nothing is at fault.

    Attributes
    ----------
    fault : str
        The kind of fault; empty where none is named.
    """

    normal: pd.DataFrame = field(repr=False)
    abnormal: pd.DataFrame = field(repr=False)
    fault: str = ""


@dataclass(frozen=True, eq=False)
class SeriesCase(Case):
    """A labelled series: `truth` and `windows` are the rows of its anomalies.

    Attributes
    ----------
    values : array, shape (n,)
    times : DatetimeIndex, or None
        None: the set has no times.
    learning : int, or None
        First rows that are not scored, their anomalies neither. None: as NAB does, 15 % of the
        rows, at most 750.
    """

    values: np.ndarray = field(repr=False)
    times: pd.DatetimeIndex | None = field(repr=False)
    learning: int | None = None

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """(First row, last row) of each anomaly, both included."""
        return self.truth

    @property
    def scored_from(self) -> int:
        """The first row that is scored."""
        if self.learning is None:
            return unscored(len(self.values))
        return self.learning

    @property
    def normal(self) -> np.ndarray:
        """The first rows, which are not scored."""
        return self.values[: self.scored_from]

    @property
    def abnormal(self) -> np.ndarray:
        """All rows after `normal`."""
        return self.values[self.scored_from :]


@dataclass(frozen=True)
class Dataset:
    """Cases, in a fixed order, with licence and source. `left_out` names cases whose data the
    source lacks.
    """

    name: str
    licence: str
    source: str
    cases: tuple[Case, ...] = field(repr=False)
    left_out: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, number: int) -> Case:
        return self.cases[number]


ReadCases = tuple[list[Case], list[str]]
"""The cases that were read, and the names of those that were left out."""


def unscored(rows: int) -> int:
    """Return how many first rows of a NAB file of `rows` rows are not scored.

    Examples
    --------
    >>> unscored(1000), unscored(10000)
    (150, 750)
    """
    return min(int(UNSCORED_SHARE * rows), UNSCORED_ROWS)
