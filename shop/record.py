"""How is a run kept? ``python -m shop record FILE``: the spans as CSV, and beside them what was broken.

FILE has one row a span, in the columns of the spans frame; start is ISO 8601 in UTC with nanoseconds, an empty
cell is a missing value. It is compressed if its name ends in .gz. FILE.truth.json has the faults.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from aiops_lab.faults import Fault, FieldError, check_number
from aiops_lab.spans import COLUMNS, TEXT_COLUMNS, check
from shop.live import Shop, running
from shop.topology import SEED_SHOP
from shop.traffic import drive

ENDINGS = (".csv", ".csv.gz")


def write_spans(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a spans frame to a file that `read_spans` reads back exactly.

    Raises
    ------
    ValueError
        The name of the file does not end in .csv or .csv.gz.
    """
    _check_ending(path)
    data = _encoded(frame, path)
    with replacing(path) as part:
        part.write_bytes(data)


def _encoded(frame: pd.DataFrame, path: str | Path) -> bytes:
    frame = check(frame)[list(COLUMNS)]
    text = frame.assign(start=frame["start"].map(lambda start: start.isoformat(timespec="nanoseconds")))
    data = text.to_csv(index=False, lineterminator="\n").encode()
    # Neither name nor time of writing in the file: the same spans give the same bytes.
    return gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a name to write to; the file takes its place when the block is done, and is never half-written."""
    part = Path(f"{path}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_folder(field: str, folder: Path, value: object) -> None:
    """Raise `FieldError`, with `field` and `value`, unless files can be written into `folder`."""
    if not folder.is_dir():
        raise FieldError(field, "must be in a folder that exists", str(value))
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        raise FieldError(field, "must be in a folder that can be written to", str(value)) from None


def read_spans(path: str | Path) -> pd.DataFrame:
    """Return the spans frame that `write_spans` wrote."""
    frame = pd.read_csv(
        path,
        dtype=dict.fromkeys((*TEXT_COLUMNS, "duration_ms"), object) | {"status": "int64"},
        keep_default_na=False,
        na_values={column: [""] for column in COLUMNS},
    )
    frame["start"] = pd.to_datetime(frame["start"], utc=True, format="ISO8601").dt.as_unit("ns")
    frame["duration_ms"] = frame["duration_ms"].map(float)  # Python reads back exactly what it wrote
    frame = frame.astype(dict.fromkeys(TEXT_COLUMNS, object))
    return check(frame.where(frame.notna() | ~frame.columns.isin(TEXT_COLUMNS), None))


def record(
    path: str | Path,
    fault: Fault | None,
    *,
    warmup_s: float = 60.0,
    fault_s: float = 30.0,
    recovery_s: float = 0.0,
    rate: float = 20.0,
    seed: int = 0,
    services: str = "one",
    progress: bool = True,
) -> pd.DataFrame:
    """Run normal traffic, then break something, then mend it; write and return the spans.

    Parameters
    ----------
    path : path
        FILE.csv or FILE.csv.gz; FILE.truth.json is written beside it.
    fault : Fault or None
        What is broken after `warmup_s` for `fault_s` seconds; None = nothing, a recording of normal days.
    recovery_s : float
        Seconds of traffic after it was mended.
    rate, seed, services, progress
        As for `drive` and `running`.

    Raises
    ------
    ValueError
        A parameter breaks its rule; said before anything runs.
    """
    _check_file(path)
    for name, seconds in (("warmup_s", warmup_s), ("fault_s", fault_s), ("recovery_s", recovery_s)):
        check_number(name, seconds, 0, 1e6)
    check_number("rate", rate, 0.001, 1e5)
    with running(services, seed=seed) as shop:
        _phase(shop, warmup_s, rate, seed, progress)
        if fault is not None:
            shop.inject(fault)
        _phase(shop, fault_s, rate, seed + 1, progress)
        shop.clear()
        _phase(shop, recovery_s, rate, seed + 2, progress)
        shop.store.flush()
        spans, faults = shop.store.spans(), shop.truth.faults()
    settings = {"rate": rate, "seed": seed, "services": services}
    lengths = {"warmup_s": warmup_s, "fault_s": fault_s, "recovery_s": recovery_s}
    truth = {"faults": json.loads(faults.to_json(orient="records", date_format="iso", date_unit="us"))}
    data = _encoded(spans, path)
    with replacing(path) as file, replacing(f"{path}.truth.json") as beside:
        file.write_bytes(data)
        beside.write_text(json.dumps(truth | settings | lengths, indent=2) + "\n", "utf-8")
    return spans


def _phase(shop: Shop, seconds: float, rate: float, seed: int, progress: bool) -> None:
    if seconds > 0:
        drive(shop, seconds, rate, seed=seed, progress=progress, timeout_s=6.0)


def _check_ending(path: str | Path) -> None:
    if not str(path).endswith(ENDINGS):
        raise FieldError("file", f"must end in one of {', '.join(ENDINGS)}", str(path))


def _check_file(path: str | Path) -> None:
    _check_ending(path)
    if Path(path).is_dir():
        raise FieldError("file", "must be a file", str(path))
    check_folder("file", Path(path).parent, path)


def fault_of(
    kind: str,
    services: str,
    endpoint: str = "/payment",
    duration_ms: float = 1000.0,
    share: float = 1.0,
) -> Fault | None:
    """Return the fault that a command's ``--fault`` names, at `endpoint` of the seed's shop.

    A delay lasts `duration_ms`, give or take a fifth; `share` of the requests are struck.
    """
    topology = SEED_SHOP.as_one() if services == "one" else SEED_SHOP
    places = {e.route: e.service for e in topology.endpoints}
    if endpoint not in places:
        raise FieldError("endpoint", f"must be one of {', '.join(places)}", endpoint)
    check_number("share", share, 0, 1)
    if kind == "none":
        return None
    lasts_ms = duration_ms if kind == "delay" else 0.0
    return Fault(kind, places[endpoint], endpoint, duration_ms=lasts_ms, jitter_ms=lasts_ms / 5, rate=share)
