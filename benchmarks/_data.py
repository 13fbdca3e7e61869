"""Where do the public data sets lie?"""

from __future__ import annotations

import os
from pathlib import Path

BESIDE = Path(__file__).parents[2] / "shared" / "data"
FOLDERS = {"aiops": "aiops_kpi", "rcd": "rcd_sockshop"}  # where they differ from the set's name


def data_folder(given: Path | None) -> Path | None:
    """Return the folder of the data sets: as given, or by the environment, or beside the project;
    None: nowhere.
    """
    named = os.environ.get("AIOPS_LAB_DATA")
    return given or (Path(named) if named else BESIDE if BESIDE.is_dir() else None)
