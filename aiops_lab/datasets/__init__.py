"""Public incident data behind one interface, ``load(name, directory)``, and data sets of your own,
``read_folder(directory)``.
"""

from aiops_lab.datasets.cases import Case, Dataset, MetricsCase, SeriesCase, SpansCase
from aiops_lab.datasets.folder import read_folder
from aiops_lab.datasets.loading import load
from aiops_lab.datasets.nezha import TracesCase
from aiops_lab.datasets.sources import SOURCES

__all__ = [
    "SOURCES",
    "Case",
    "Dataset",
    "MetricsCase",
    "SeriesCase",
    "SpansCase",
    "TracesCase",
    "load",
    "read_folder",
]
