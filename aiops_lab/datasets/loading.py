"""The public data sets behind one interface, `load(name, directory)`.

None of the data is part of this package. `load` says where to get it; Nezha's files are first made
compact by ``python -m aiops_lab.datasets nezha SOURCE OUT`` (SOURCE: a clone of its
repository).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aiops_lab.datasets.cases import Dataset, ReadCases
from aiops_lab.datasets.cloudopsbench import read_cloudopsbench
from aiops_lab.datasets.delag import read_delag
from aiops_lab.datasets.labelled_series import LABELLED_SERIES, reader
from aiops_lab.datasets.nab import read_nab
from aiops_lab.datasets.nezha import read_nezha
from aiops_lab.datasets.petshop import read_petshop
from aiops_lab.datasets.rcd import read_rcd
from aiops_lab.datasets.sources import SOURCES

_READERS: dict[str, Callable[[Path], ReadCases]] = {
    "petshop": read_petshop,
    "delag": read_delag,
    "nab": read_nab,
    "cloudopsbench": read_cloudopsbench,
    "rcd": read_rcd,
    **{name: reader(name) for name in LABELLED_SERIES},
}


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
        raise FileNotFoundError(f"load({name!r}) needs a directory. {about.how_to_get}")
    if not Path(directory).is_dir():
        raise FileNotFoundError(f"{directory} is no directory. {about.how_to_get}")
    if name == "nezha":
        cases, left_out = read_nezha(Path(directory), logs)
    else:
        cases, left_out = _READERS[name](Path(directory))
    if not cases:
        raise FileNotFoundError(f"{directory} holds no data of {name!r}. {about.how_to_get}")
    return Dataset(name, about.licence, about.source, tuple(cases), tuple(left_out))
