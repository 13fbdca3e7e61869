"""A check of the unit tests: ``python -m benchmarks.mutants``.

Each number and each comparison of the analysis is changed, one at a time, in a copy of the project,
and only the unit tests of the changed module are run. A mutant is *caught* if a test fails, or if
the tests take longer than a minute; one that no test notices *survives*.

- A number is halved, and doubled: what a field, a class or a constant in capitals is set to (except
  0), and literals in functions (except -1, 0, 1, 2 and the unit conversions in `UNITS`).
- A comparison is negated: < and >=, <= and >, == and !=.

The tests of ``aiops_lab/explain/metrics.py`` are those that `TESTS` names, else
``tests/explain/test_metrics.py``, else all of ``tests/explain``. numba's compiler is switched off,
as compiling takes longer than most tests do without. Those of `COMPILED` take minutes without: they
have it, and for each mutant an empty cache, because numba does not notice that a function was
changed which lies in another file than its caller.

Survivors that nobody needs to mend stand in ``mutants_survivors.toml`` beside this file, each with
its reason.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib.util import cache_from_source
from itertools import chain, pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
ACCEPTED = Path(__file__).with_name("mutants_survivors.toml")
PACKAGE, WINGS = "aiops_lab", ("detect", "explain", "traces", "evaluate")
TIMEOUT_S = 60.0

DETECTORS = ("detector", "errors", "latency", "shift", "timeouts", "traffic")
THRESHOLDS = ("detect/test_thresholds.py", "detect/test_detectors.py")
LEDGER = (
    "explain/test_ledger.py",
    "explain/test_suspects.py",
    "explain/test_evidence.py",
    "explain/test_config.py",
    "explain/test_queueing.py",
)
# The tests of a module, where neither test_<module>.py nor the whole wing is right.
TESTS = {
    **{f"detect.detectors.{name}": THRESHOLDS for name in DETECTORS},
    "detect.baselines": ("detect/test_baselines.py", "detect/test_thresholds.py"),
    "detect.detectors.shift": ("detect/test_thresholds.py", "detect/test_shifts.py"),
    "detect.judged": THRESHOLDS,
    "detect.scoring": THRESHOLDS,
    "explain.accounts": ("explain/test_attribution.py", "explain/test_ledger.py"),
    "explain.child_sets": ("explain/test_evidence.py", "explain/test_config.py"),
    "explain.deviations": ("explain/test_evidence.py", "explain/test_config.py"),
    "explain.ledger": LEDGER,
    "explain.ledger_rows": LEDGER,
    "explain.queueing": ("explain/test_config.py", "explain/test_queueing.py"),
    "explain.ranking": ("explain/test_suspects.py", "explain/test_config.py"),
    "explain.failures": ("explain/test_attribution.py", "explain/test_ledger.py"),
    "explain.reference": ("explain/test_attribution.py", "explain/test_evidence.py"),
    "explain.verdict": ("explain/test_suspects.py", "explain/test_config.py"),
}

NEGATED = {"<": ">=", ">=": "<", "<=": ">", ">": "<=", "==": "!=", "!=": "=="}
OPERATOR = re.compile("|".join(sorted(NEGATED, key=len, reverse=True)))
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")

# Numbers in functions that only convert units: of time, and a share in percent.
UNITS = {1e3, 1e6, 1e9, 1e-3, 1e-6, 1e-9, 24, 60, 3600, 86_400, 6e10, 3.6e12, 100}
TRIVIAL = {0, 1, 2}

# Without the compiler, numpy warns of an overflow that the hash of span ids relies on.
OVERFLOW = "ignore:overflow encountered in scalar multiply:RuntimeWarning"
PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-W", OVERFLOW)
ENVIRONMENT = {
    "NUMBA_DISABLE_JIT": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # saves two seconds a mutant
    "PYTHONDONTWRITEBYTECODE": "1",
}
COMPILED = ("tests/detect/test_shape.py",)
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "solved", "students")

Function = ast.FunctionDef | ast.AsyncFunctionDef
CAUGHT, SURVIVED, TIMED_OUT = "caught", "survived", "timed out"


class Mutant(NamedTuple):
    """One change: bytes `start` to `end` of the file become `new`."""

    module: str  # "explain.metrics"
    kind: str  # "constant" or "comparison"
    line: int
    text: str  # the line, without indentation
    start: int
    end: int
    old: str
    new: str

    @property
    def path(self) -> str:
        return f"{PACKAGE}/{self.module.replace('.', '/')}.py"

    @property
    def change(self) -> str:
        return f"{self.old} -> {self.new}"


class Result(NamedTuple):
    """What became of a mutant: `CAUGHT`, `SURVIVED` or `TIMED_OUT`."""

    mutant: Mutant
    outcome: str


# ---- what is changed


def mutants_of(module: str, source: str) -> list[Mutant]:
    """Return all mutants of one module, in the order of its lines."""
    tree = ast.parse(source)
    text = Text(source)
    found = [
        *(m for node in _constants(tree) for m in _scaled(module, text, node)),
        *(m for node in _walk(tree) for m in _negated(module, text, node)),
    ]
    return sorted(found, key=lambda mutant: (mutant.start, mutant.new))


class Text:
    """A source file by byte offsets, as syntax trees count them."""

    def __init__(self, source: str) -> None:
        self.content = source.encode()
        self.lines = self.content.split(b"\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)

    def begin(self, node: ast.expr) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.starts[node.end_lineno - 1] + node.end_col_offset

    def mutant(self, module: str, kind: str, span: tuple[int, int], new: str) -> Mutant:
        """Return the mutant that writes `new` in place of the bytes of `span`."""
        start, end = span
        line = self.content[:start].count(b"\n") + 1
        shown = self.lines[line - 1].decode().strip()
        return Mutant(module, kind, line, shown, start, end, self.content[start:end].decode(), new)


def _scaled(module: str, text: Text, node: ast.Constant) -> Iterator[Mutant]:
    """Yield the halved and the doubled number."""
    assert isinstance(node.value, int | float)
    half = node.value // 2 if isinstance(node.value, int) else node.value / 2
    for value in (half, 2 * node.value):
        yield text.mutant(module, "constant", (text.begin(node), text.end(node)), repr(value))


def _negated(module: str, text: Text, node: ast.AST) -> Iterator[Mutant]:
    """Yield the negation of each sign of a comparison."""
    if not isinstance(node, ast.Compare):
        return
    for left, right in pairwise([node.left, *node.comparators]):
        between = text.content[text.end(left) : text.begin(right)].decode()
        sign = OPERATOR.search(between)
        if sign:
            begin = text.end(left) + len(between[: sign.start()].encode())
            span = (begin, begin + len(sign[0]))
            yield text.mutant(module, "comparison", span, NEGATED[sign[0]])


def _constants(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the numbers that are worth changing."""
    for statement in _statements(tree):
        if isinstance(statement, Function):
            yield from _numbers(statement, TRIVIAL | UNITS)
        elif _defines(statement):
            yield from _numbers(statement, {0})


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements of the module and of its classes."""
    for statement in tree.body:
        yield from statement.body if isinstance(statement, ast.ClassDef) else [statement]


def _defines(statement: ast.stmt) -> bool:
    """Return whether a statement sets a field or a constant in capitals."""
    if isinstance(statement, ast.AnnAssign):
        return True
    if not isinstance(statement, ast.Assign):
        return False
    parts = chain.from_iterable(ast.walk(target) for target in statement.targets)
    names = [part.id for part in parts if isinstance(part, ast.Name)]
    return bool(names) and all(CONSTANT.fullmatch(name) for name in names)


def _numbers(tree: ast.AST, exempt: set[float]) -> Iterator[ast.Constant]:
    for node in _walk(tree):
        if not isinstance(node, ast.Constant) or isinstance(node.value, bool):
            continue
        if isinstance(node.value, int | float) and node.value not in exempt:
            yield node


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those in annotations, which run nothing, and in f-strings, whose places
    Python 3.11 does not know.
    """
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns") or isinstance(node, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child)


def modules_of(root: Path, names: list[str]) -> list[str]:
    """Return the modules of the analysis that have one of the `names` (none given: all)."""
    package = root / PACKAGE
    paths = [path for wing in WINGS for path in sorted((package / wing).rglob("*.py"))]
    files = [path.relative_to(package) for path in paths if path.stem != "__init__"]
    modules = [".".join(file.with_suffix("").parts) for file in files]
    called = {module: {module, *module.split(".")} for module in modules}
    unknown = sorted(set(names) - set().union(*called.values()))
    if unknown:
        raise SystemExit(f"--module must name one of {', '.join(modules)}, got {unknown[0]!r}")
    return [module for module in modules if not names or called[module] & set(names)]


def tests_of(root: Path, module: str) -> tuple[str, ...]:
    """Return the tests that are run for a module."""
    wing, *_, name = module.split(".")
    own = f"{wing}/test_{name}.py"
    usual = (own,) if (root / "tests" / own).exists() else (wing,)
    return tuple(f"tests/{test}" for test in TESTS.get(module, usual))


# ---- what happens then


@dataclass
class Workshop:
    """Copies of the project, and the tests that run in them."""

    root: Path
    timeout_s: float = TIMEOUT_S
    copies: SimpleQueue[Path] = field(default_factory=SimpleQueue)
    running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    closed: bool = False

    def open(self, folder: Path, modules: Iterable[str], jobs: int) -> None:
        """Copy the project, run the tests of the modules as they are, and copy it once a job."""
        first = folder / "0"
        shutil.copytree(self.root, first, ignore=NOT_COPIED)
        for tests in dict.fromkeys(tests_of(self.root, module) for module in modules):
            self._check(first, tests)
        for job in range(1, jobs):
            shutil.copytree(first, folder / str(job))
        for job in range(jobs):
            self.copies.put(folder / str(job))

    def _check(self, copy: Path, tests: tuple[str, ...]) -> None:
        """Raise if the tests fail or take too long before anything is changed."""
        code, output = self._run(copy, tests, PYTHONDONTWRITEBYTECODE="")
        if code is None:
            raise SystemExit(f"{' '.join(tests)} took more than {self.timeout_s:g} s, unchanged")
        if code != 0:
            raise SystemExit(f"{output}\n{' '.join(tests)} failed before anything was changed")

    def outcome(self, mutant: Mutant) -> str:
        """Return whether the tests notice the mutant."""
        copy = self.copies.get()
        path = copy / mutant.path
        original = path.read_bytes()
        cached = Path(cache_from_source(str(path)))
        try:
            # bytecode is looked up by time in seconds and by size: both may be equal
            cached.unlink(missing_ok=True)
            path.write_bytes(
                original[: mutant.start] + mutant.new.encode() + original[mutant.end :]
            )
            code, _ = self._run(copy, tests_of(self.root, mutant.module))
        finally:
            path.write_bytes(original)
            self.copies.put(copy)
        return TIMED_OUT if code is None else SURVIVED if code == 0 else CAUGHT

    def _run(self, copy: Path, tests: tuple[str, ...], **more: str) -> tuple[int | None, str]:
        """Return the exit code of pytest, None after the time limit, and what it printed."""
        if self.closed:
            return None, ""
        if set(tests).isdisjoint(COMPILED):
            return self._finished(copy, tests, more)
        with tempfile.TemporaryDirectory(prefix="kernels") as kernels:
            compiler = {"NUMBA_DISABLE_JIT": "0", "NUMBA_CACHE_DIR": kernels}
            return self._finished(copy, tests, more | compiler)

    def _finished(
        self, copy: Path, tests: tuple[str, ...], more: dict[str, str]
    ) -> tuple[int | None, str]:
        environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(copy)} | more
        process = subprocess.Popen(
            [*PYTEST, *tests],
            cwd=copy,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.running.add(process)
        try:
            output, _ = process.communicate(timeout=self.timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return None, ""
        finally:
            self.running.discard(process)
        return process.returncode, output.decode(errors="replace")

    def close(self) -> None:
        """End the tests that still run; no further ones start."""
        self.closed = True
        for process in list(self.running):
            process.kill()


def run(
    root: Path, mutants: list[Mutant], *, jobs: int, timeout_s: float = TIMEOUT_S
) -> list[Result]:
    """Return what became of each mutant; of those that were done, after Ctrl-C."""
    shop = Workshop(root, timeout_s)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="mutants") as folder, ThreadPoolExecutor(jobs) as pool:
        try:
            shop.open(Path(folder), (mutant.module for mutant in mutants), jobs)
            waiting = {pool.submit(shop.outcome, mutant): mutant for mutant in mutants}
            for done in tqdm(as_completed(waiting), total=len(mutants), unit="mutant"):
                results.append(Result(waiting[done], done.result()))
        except KeyboardInterrupt:
            print("stopped: what follows is of the mutants before", file=sys.stderr)
        finally:
            shop.close()
            pool.shutdown(cancel_futures=True)
    return sorted(results)


# ---- what is told


def accepted_reasons(path: Path) -> dict[tuple[str, str, str], str]:
    """Return the reasons of the accepted survivors, by module, line and change."""
    if not path.exists():
        return {}
    entries = tomllib.loads(path.read_text("utf-8")).get("survivor", [])
    return {(e["module"], e["line"], e["change"]): e["reason"] for e in entries}


def tally(results: list[Result]) -> dict[str, int]:
    """Return how many mutants there are and how many were caught, of constants and comparisons.

    ``numbers``: constants, and of how many of them at least one mutant was caught.
    """
    by_kind = {
        kind: [r for r in results if r.mutant.kind == kind] for kind in ("constant", "comparison")
    }
    constants, comparisons = by_kind["constant"], by_kind["comparison"]
    noticed = [r for r in constants if r.outcome != SURVIVED]
    return {
        "constants": len(constants),
        "constants_caught": len(noticed),
        "numbers": len(_places(constants)),
        "numbers_caught": len(_places(noticed)),
        "comparisons": len(comparisons),
        "comparisons_caught": sum(r.outcome != SURVIVED for r in comparisons),
        "timed_out": sum(r.outcome == TIMED_OUT for r in results),
    }


def _places(results: list[Result]) -> set[tuple[str, int]]:
    return {(r.mutant.module, r.mutant.start) for r in results}


COLUMNS = {"halved or doubled": "constants", "of constants": "numbers", "negated": "comparisons"}


def report(results: list[Result], reasons: dict[tuple[str, str, str], str]) -> str:
    """Return the survivors, the accepted ones apart, and the caught share of each module."""
    lines = []
    mended = [r.mutant for r in results if r.outcome == SURVIVED]
    for mutant in mended:
        if _key(mutant) not in reasons:
            lines.append(f"{mutant.path}:{mutant.line}  {mutant.change}  | {mutant.text}")
    for mutant in mended:
        if _key(mutant) in reasons:
            place = f"{mutant.path}:{mutant.line}"
            lines.append(f"accepted: {place}  {mutant.change}  | {reasons[_key(mutant)]}")
    names = list(dict.fromkeys(r.mutant.module for r in results))
    width = max(map(len, [*names, "module"]))
    lines.append(f"{'module':{width}} | " + " | ".join(f"{name:>20}" for name in COLUMNS))
    for name in names:
        lines.append(_row(name, width, [r for r in results if r.mutant.module == name]))
    lines.append(_row("all", width, results))
    slow = tally(results)["timed_out"]
    if slow:
        lines.append(f"{slow} caught by the time limit only")
    return "\n".join(lines)


def _key(mutant: Mutant) -> tuple[str, str, str]:
    return mutant.module, mutant.text, mutant.change


def _row(name: str, width: int, results: list[Result]) -> str:
    counts = tally(results)
    cells = [_cell(counts[f"{key}_caught"], counts[key]) for key in COLUMNS.values()]
    return f"{name:{width}} | " + " | ".join(cells)


def _cell(caught: int, total: int) -> str:
    share = f"{caught / total:.0%}" if total else "-"
    return f"{f'{caught}/{total}':>13} {share:>6}"


def as_data(results: list[Result], reasons: dict[tuple[str, str, str], str]) -> dict[str, Any]:
    """Return the results as plain data: a row a mutant, and the tally."""
    rows = [
        {
            "path": r.mutant.path,
            "line": r.mutant.line,
            "kind": r.mutant.kind,
            "change": r.mutant.change,
            "text": r.mutant.text,
            "outcome": r.outcome,
            "reason": reasons.get(_key(r.mutant)),
        }
        for r in results
    ]
    return {"mutants": rows, "tally": tally(results)}


def main(arguments: list[str] | None = None) -> None:
    """Change, test and tell."""
    options = _parser().parse_args(arguments)
    mutants: list[Mutant] = []
    for module in modules_of(ROOT, options.module):
        source = (ROOT / PACKAGE / module.replace(".", "/")).with_suffix(".py").read_text("utf-8")
        mutants += mutants_of(module, source)
    if options.sample is not None and options.sample < len(mutants):
        chosen = random.Random(0).sample(range(len(mutants)), options.sample)
        mutants = [mutants[i] for i in sorted(chosen)]
    if options.list:
        for m in mutants:
            print(f"{m.path}:{m.line}  {m.change}  | {m.text}")
        return
    results = run(ROOT, mutants, jobs=options.jobs, timeout_s=options.timeout)
    reasons = accepted_reasons(ACCEPTED)
    if options.json:
        print(json.dumps(as_data(results, reasons), indent=1))
    else:
        print(report(results, reasons))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--module",
        action="append",
        default=[],
        metavar="NAME",
        help="only this module or wing, such as metrics, explain.metrics or explain; repeatable",
    )
    add("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="tests at a time (default 2)")
    add(
        "--timeout",
        type=float,
        default=TIMEOUT_S,
        metavar="S",
        help="seconds for the tests of a mutant (default 60); more on a busy machine",
    )
    add("--sample", type=int, metavar="N", help="only N of them, drawn at random, always the same")
    add("--list", action="store_true", help="list the mutants and run nothing")
    add("--json", action="store_true", help="print JSON, a row for each mutant")
    return parser


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
