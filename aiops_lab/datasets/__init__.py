"""Public incident data behind one interface: ``load(name, directory)``."""

from aiops_lab.datasets.cases import Case, Dataset, MetricsCase, SeriesCase, TracesCase
from aiops_lab.datasets.sources import SOURCES, load

__all__ = ["SOURCES", "Case", "Dataset", "MetricsCase", "SeriesCase", "TracesCase", "load"]
