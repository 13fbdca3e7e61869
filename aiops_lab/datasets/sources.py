"""Where do the public data sets come from, and under which licence?"""

from __future__ import annotations

from typing import NamedTuple


class DataSource(NamedTuple):
    """Where a public data set is."""

    licence: str
    source: str  # the address of its repository
    get: str  # what to do for a folder that `load` reads

    @property
    def how_to_get(self) -> str:
        """Both in a sentence for an error message."""
        return f"The data is public ({self.source}): {self.get}"


_NONE_STATED = "none stated: for evaluation, not to be passed on"


def _labelled_series(folder: str) -> DataSource:
    """Return the source of one folder of a collection of labelled series."""
    source = "https://github.com/CSTCloudOps/datasets"
    get = f"git clone {source}, then give its folder UTS/{folder}."
    return DataSource(_NONE_STATED, source, get)


SOURCES = {
    "petshop": DataSource(
        "CC-BY-4.0, Copyright Amazon.com, Inc. or its affiliates",
        "https://github.com/amazon-science/petshop-root-cause-analysis",
        "git clone https://github.com/amazon-science/petshop-root-cause-analysis petshop, "
        "then give that folder.",
    ),
    "nezha": DataSource(
        "MIT, Copyright 2023 IntelligentDDS",
        "https://github.com/IntelligentDDS/Nezha",
        "git clone https://github.com/IntelligentDDS/Nezha, then "
        "python -m aiops_lab.datasets nezha Nezha nezha, then give the folder nezha.",
    ),
    "delag": DataSource(
        "MIT, Copyright 2024 SPENCER Lab",
        "https://github.com/SpencerLabAQ/icpe-data-challenge-delag",
        "git clone https://github.com/SpencerLabAQ/icpe-data-challenge-delag, then give a folder "
        "with its csv files of one system, tree.json and labels.json.",
    ),
    "nab": DataSource(
        "MIT, Copyright 2014-2024 Numenta Inc.",
        "https://github.com/numenta/NAB",
        "git clone https://github.com/numenta/NAB nab, then give that folder.",
    ),
    "cloudopsbench": DataSource(
        _NONE_STATED,
        "https://github.com/LLM4Ops/Cloud-OpsBench",
        "git clone https://github.com/LLM4Ops/Cloud-OpsBench, then copy metrics.csv, "
        "metadata.json, alert.json and the call graph (calls.json: pairs) of each case that has "
        "metrics into a folder SYSTEM-CATEGORY-NUMBER, and give the folder above.",
    ),
    "rcd": DataSource(
        _NONE_STATED,
        "https://github.com/azamikram/rcd",
        "git clone https://github.com/azamikram/rcd, then give its folder sock-shop-data, with a "
        "folder SERVICE-FAULT-N each.",
    ),
    "wsd": _labelled_series("WSD"),
    "ucr": _labelled_series("UCR"),
    "aiops": _labelled_series("AIOPS"),
}
