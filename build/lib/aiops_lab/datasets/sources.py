"""The public data sets behind one interface, `load(name, directory)`.

None of the data is part of this package. `load` says where to get it; Nezha's files are first made
compact by ``python -m aiops_lab.datasets nezha SOURCE OUT`` (SOURCE: a clone of its
repository).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from aiops_lab.datasets import cloudopsbench, delag, labelled_series, nab, rcd
from aiops_lab.datasets.cases import Case, Dataset
from aiops_lab.datasets.nezha import read_nezha
from aiops_lab.datasets.petshop import read_petshop


class _Source(NamedTuple):
    licence: str
    source: str
    get: str  # how to get it
    read: Callable[[Path, bool], tuple[list[Case], list[str]]]


def load(name: str, directory: str | Path | None = None, *, logs: bool = False) -> Dataset:
    """Return the cases of a public data set that lies in `directory`.

    Parameters
    ----------
    name : str
        ``"petshop"`` or ``"cloudopsbench"`` (metrics and a call graph), ``"rcd"``
        (metrics), ``"nezha"`` (traces, resources, logs), ``"delag"`` (traces), ``"nab"``,
        ``"wsd"``, ``"ucr"`` or ``"aiops"`` (series).
    directory : path
        PetShop and NAB: a clone of the public repository, or a selection of it in the same layout.
        Nezha: what ``python -m aiops_lab.datasets nezha`` wrote. Others: as the error about a
        missing directory says.
    logs : bool, default False
        Nezha: log lines enter the spans frames as spans of kind ``log``. OnlineBoutique has none.
        Default as the published comparison by traces alone.

    Raises
    ------
    FileNotFoundError
        No directory, an empty one (the message says how to get the data), or a file is missing.
    ValueError
        A file is truncated or altered; the message names it. Or `name` is unknown.
    ImportError
        Nezha's files need pyarrow.

    Examples
    --------
    >>> load("nab", "NAB")  # doctest: +SKIP
    Dataset(name='nab', licence='MIT', source='https://github.com/numenta/NAB', left_out=())
    """
    if name not in SOURCES:
        raise ValueError(f"name must be one of {sorted(SOURCES)}, got {name!r}")
    about = SOURCES[name]
    if directory is None:
        raise FileNotFoundError(f"load({name!r}) needs a directory. {_how_to_get(name)}")
    if not Path(directory).is_dir():
        raise FileNotFoundError(f"{directory} is no directory. {_how_to_get(name)}")
    cases, left_out = about.read(Path(directory), logs)
    if not cases:
        raise FileNotFoundError(f"{directory} holds no data of {name!r}. {_how_to_get(name)}")
    return Dataset(name, about.licence, about.source, tuple(cases), tuple(left_out))


def _how_to_get(name: str) -> str:
    return f"The data is public ({SOURCES[name].source}): {SOURCES[name].get}"


SOURCES = {
    "petshop": _Source(
        "CC-BY-4.0, Copyright Amazon.com, Inc. or its affiliates",
        "https://github.com/amazon-science/petshop-root-cause-analysis",
        "git clone https://github.com/amazon-science/petshop-root-cause-analysis petshop, "
        "then give that folder.",
        read_petshop,
    ),
    "nezha": _Source(
        "MIT, Copyright 2023 IntelligentDDS",
        "https://github.com/IntelligentDDS/Nezha",
        "git clone https://github.com/IntelligentDDS/Nezha, then "
        "python -m aiops_lab.datasets nezha Nezha nezha, then give the folder nezha.",
        read_nezha,
    ),
    "delag": _Source(delag.LICENCE, delag.SOURCE, delag.GET, delag.read_delag),
    "nab": _Source(nab.LICENCE, nab.SOURCE, nab.GET, nab.read_nab),
    "cloudopsbench": _Source(
        cloudopsbench.LICENCE,
        cloudopsbench.SOURCE,
        cloudopsbench.GET,
        cloudopsbench.read_cloudopsbench,
    ),
    "rcd": _Source(rcd.LICENCE, rcd.SOURCE, rcd.GET, rcd.read_rcd),
    **{
        name: _Source(
            labelled_series.LICENCE,
            labelled_series.SOURCE,
            labelled_series.get(name),
            labelled_series.reader(name),
        )
        for name in labelled_series.FOLDERS
    },
}
