"""Are students' own incidents clear, and are 200 answers marked in five minutes?

    python -m benchmarks.assignments                 200 seeds
    python -m benchmarks.assignments --seeds 20

For each seed: how often the incident was drawn until its twin had no doubt, whether the suspect
that the package names first, given the spans and the times, is the cause, and whether the replay of
the spans alone opens an incident with that cause. Then the true answers are handed in as files and
marked, and all must get ten points.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import aiops_lab as lab
from shop.course.assignment import Assignment, assigned_truth, clear_incident
from shop.course.grading import grade_folder
from shop.experiments.parallel import spread
from shop.virtual_time.twins import windows_of


class Trial(NamedTuple):
    """What one seed gave: the kind, the cause, whether it is named, and by the replay too."""

    seed: str
    kind: str
    cause: str
    named: bool
    replayed: bool
    affected: tuple[str, ...]
    began: str


def trial(seed: str) -> Trial:
    truth = assigned_truth(seed)
    scenario, pair = clear_incident(seed, "")
    suspects = lab.rank_root_causes(*windows_of(scenario, pair.with_fault))
    incidents = lab.replay(pair.with_fault).incidents
    causes = [incident.root_cause for incident in incidents]
    return Trial(
        seed,
        truth.kind,
        " ".join(truth.cause),
        bool(suspects) and suspects[0].key == truth.cause,
        any(cause is not None and cause.key == truth.cause for cause in causes),
        tuple(" ".join(place) for place in truth.affected),
        str(truth.began),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Try the incidents of many students.")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    seeds = [f"student {n}" for n in range(options.seeds)]
    trials = spread(trial, seeds, options.jobs, unit="seed", progress=sys.stderr.isatty())
    print(f"{len(trials)} incidents: {dict(Counter(t.kind for t in trials))}")
    print(f"named first, given the times: {sum(t.named for t in trials)}")
    print(f"named by a replay of the spans alone: {sum(t.replayed for t in trials)}")
    for each in trials:
        if not each.named:
            print(f"  not named: {each.seed}: {each.kind} at {each.cause}")
    with tempfile.TemporaryDirectory() as folder:
        return _mark(trials, Path(folder), options.jobs)


def _mark(trials: list[Trial], folder: Path, jobs: int | None) -> int:
    for each in trials:
        hand_in = Assignment(each.seed, None).submit  # type: ignore[arg-type]
        hand_in(each.cause, each.kind, each.began, each.affected, folder=folder)
    began = time.monotonic()
    grades = grade_folder(folder, folder / "marks.csv", jobs=jobs, progress=False)
    took_s = time.monotonic() - began
    full = sum(grade.points == 10 for grade in grades)
    print(f"{len(grades)} answers marked in {took_s:.0f} s, {full} with ten points")
    return 0 if full == len(grades) else 1


if __name__ == "__main__":
    sys.exit(main())
