"""Figures that tell how hard the code is to live in: ``python -m benchmarks.house``.

Most are read from the syntax trees of `aiops_lab` and `shop`, in whatever folders the files lie.
The rest count calls in a replay of one incident, ``data/cause_latency.csv.gz``.
Each figure is a function, and its docstring is the definition.

Words: a code line is neither blank nor a comment nor part of a docstring.
A node is an instance of `ast.expr`.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Any

from benchmarks._house_replay import (
    EXPLANATION,
    ID_COLUMNS,
    PARSERS,
    crossings,
    id_parses,
    modules_on_the_way,
    watched,
)
from benchmarks._source_files import Figure, Source, sources

LONGEST_FILE, LONGEST_LINE = 350, 100
MOST_PARAMETERS = 6
MOST_NODES_A_LINE = 4.5
GOALS = {"aiops_lab": 30_000}  # expression nodes

# Modules and folders of `aiops_lab` that record, read or show: their numbers decide no verdict.
NOT_ANALYSIS = {
    *("spans", "record", "recordings", "formats", "datasets", "show", "scale"),
}
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")

# Names to change when the code changes; one that no module defines is skipped with a note.
ENCODINGS = ("EncodedSpans",)
CODERS = {"factorize", "unique", "Categorical", "_numbers"}
CODED_COLUMNS = ID_COLUMNS | {"service", "endpoint", "peer"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.ClassDef | Function
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


# ---- lines and nodes


def code_lines(source: Source) -> list[int]:
    """Return the numbers of the lines that are not blank, not a comment, not in a docstring.

    A docstring is the first statement of a module, class or function if it is a string.
    A line of another string that is blank, or begins with #, does not count either.
    """
    skipped = _docstring_lines(source.tree)
    lines = enumerate(source.text.splitlines(), start=1)
    return [n for n, line in lines if n not in skipped and _is_code(line)]


def _is_code(line: str) -> bool:
    text = line.strip()
    return text != "" and not text.startswith("#")


def _docstring_lines(tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | Definition):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            lines.update(_span(node.body[0]))
    return lines


def _span(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def hook_lines(source: Source) -> int:
    """Return the number of code lines as the hook before-stop counts them, at least 1.

    The hook differs from `code_lines` in two ways, and so finds fewer lines:
    blank lines within docstrings are subtracted although they were never counted,
    and a body that begins with any constant (also ``...``) loses that statement.
    """
    lines = sum(map(_is_code, source.text.splitlines()))
    for node in ast.walk(source.tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_constant(body[0]):
            lines -= len(_span(body[0]))
    return max(lines, 1)


def _is_constant(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def nodes(source: Source) -> int:
    """Return the number of expression nodes: instances of `ast.expr` in the tree.

    The tree of ``a + b`` has three: the sum and two names.
    """
    return sum(isinstance(node, ast.expr) for node in ast.walk(source.tree))


def size(package: str, modules: list[Source], most: float | None = None) -> list[Figure]:
    """Return files, code lines, nodes and nodes a code line: all nodes over all code lines.

    The last figure is the same ratio with `hook_lines`. `most` is the goal of both ratios.
    """
    lines = sum(len(code_lines(module)) for module in modules)
    total = sum(map(nodes, modules))
    hook_ratio = total / sum(map(hook_lines, modules))
    return [
        Figure(f"files, {package}", len(modules)),
        Figure(f"code lines, {package}", lines),
        Figure(f"expression nodes, {package}", total, GOALS.get(package)),
        Figure(f"nodes a code line, {package}", round(total / max(lines, 1), 2), most),
        Figure(f"nodes a line as before-stop counts, {package}", round(hook_ratio, 2), most),
    ]


def _longest(what: str, unit: str, lengths: dict[str, int], goal: int) -> list[Figure]:
    """Return the longest of some places, and the number of those above the goal."""
    place = max(lengths, key=lambda place: lengths[place])
    above = tuple(f"{name} ({n})" for name, n in lengths.items() if n > goal)
    return [
        Figure(f"longest {what}, {unit}", lengths[place], goal, (place,)),
        Figure(f"{what}s above {goal} {unit}", len(above), 0, above),
    ]


def file_lengths(modules: list[Source]) -> list[Figure]:
    """Return the longest file in code lines, and the number of files above the goal."""
    lengths = {module.name: len(code_lines(module)) for module in modules}
    return _longest("file", "code lines", lengths, LONGEST_FILE)


def line_lengths(modules: list[Source]) -> list[Figure]:
    """Return the longest line in characters, and the number of lines above the goal.

    All lines count: code, comments and docstrings.
    """
    lengths = {}
    for module in modules:
        for number, line in enumerate(module.text.splitlines(), start=1):
            lengths[f"{module.name}:{number}"] = len(line)
    return _longest("line", "characters", lengths, LONGEST_LINE)


# ---- functions and statements


def _functions(modules: list[Source]) -> Iterator[tuple[Source, str, Function]]:
    """Yield each function and method with its module and place, nested ones too, lambdas not."""
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, Function):
                yield module, f"{module.name}:{node.lineno} {node.name}", node


def _top_level(modules: list[Source]) -> Iterator[tuple[Source, ast.stmt]]:
    """Yield each statement of the modules themselves, with its module."""
    for module in modules:
        for statement in module.tree.body:
            yield module, statement


def function_lengths(modules: list[Source]) -> list[Figure]:
    """Return median, p90 and longest of the functions' lengths in code lines.

    A length runs from ``def`` to the last line, signature included, decorators excluded.
    A nested function counts by itself and as part of the one around it.
    p90 is the smallest length that at least 90 % of the functions do not exceed.
    """
    code = {module.name: set(code_lines(module)) for module in modules}
    lengths = {}
    for module, place, function in _functions(modules):
        lengths[place] = len(code[module.name].intersection(_span(function)))
    ordered = sorted(lengths.values())
    longest = max(lengths, key=lambda place: lengths[place])
    at_90 = -(-len(ordered) * 9 // 10) - 1
    return [
        Figure("function length, median", statistics.median_low(ordered)),
        Figure("function length, p90", ordered[at_90]),
        Figure("function length, longest", ordered[-1], None, (longest,)),
    ]


def parameters(function: Function) -> int:
    """Return the number of parameters that are not keyword-only.

    ``self`` and ``*args`` count one each, ``**kwargs`` and what follows a ``*`` do not count.
    """
    signature = function.args
    return len(signature.posonlyargs) + len(signature.args) + (signature.vararg is not None)


def many_parameters(modules: list[Source]) -> Iterator[str]:
    """Yield the functions whose `parameters` exceed the goal; lambdas are left out."""
    for _, place, function in _functions(modules):
        if parameters(function) > MOST_PARAMETERS:
            yield f"{place} ({parameters(function)})"


def comprehensions(statement: ast.stmt) -> int:
    """Return the number of comprehensions in a statement's own expressions.

    Generator expressions count. Statements inside a compound one are not its own.
    A comprehension with two ``for`` counts once, one inside another makes two.
    """
    found = 0
    waiting: list[ast.AST] = list(ast.iter_child_nodes(statement))
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.stmt):
            found += isinstance(node, Comprehension)
            waiting.extend(ast.iter_child_nodes(node))
    return found


def crowded_expressions(modules: list[Source]) -> Iterator[str]:
    """Yield the statements with more than one of `comprehensions`."""
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.stmt) and comprehensions(node) > 1:
                yield f"{module.name}:{node.lineno}"


# ---- names and constants


def _assigned(statement: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield each name that an assignment binds, with its own value where that can be told."""
    if isinstance(statement, ast.AnnAssign):
        yield from _bound(statement.target, statement.value)
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            yield from _bound(target, statement.value)


def _bound(target: ast.expr, value: ast.expr | None) -> Iterator[tuple[str, ast.expr | None]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple):
        values: list[Any] = [None] * len(target.elts)
        if isinstance(value, ast.Tuple) and len(value.elts) == len(values):
            values = value.elts
        for part, its_value in zip(target.elts, values, strict=True):
            yield from _bound(part, its_value)


def defined(module: Source) -> set[str]:
    """Return the names that the statements of a module itself define.

    These are its functions, classes and assigned names. Imports do not count, nor do statements
    within a module-level ``if`` or ``try``.
    """
    names: set[str] = set()
    for statement in module.tree.body:
        if isinstance(statement, Definition):
            names.add(statement.name)
        names.update(name for name, _ in _assigned(statement))
    return names


def two_meanings(modules: list[Source]) -> Iterator[str]:
    """Yield the public names that more than one of the modules defines.

    Public is what has no leading underscore. ``main``, the entry of each command, is left out.
    So are imports and re-exports. A module that has the name of something in it is not counted.
    """
    homes = defaultdict(list)
    for module in modules:
        for name in defined(module):
            homes[name].append(module.name)
    for name in sorted(homes):
        if len(homes[name]) > 1 and not name.startswith("_") and name != "main":
            yield f"{name}: {', '.join(homes[name])}"


def is_number(value: ast.expr | None) -> bool:
    """Return whether an expression is a number that the source states.

    That is a literal, arithmetic over literals and UPPER names, or a tuple, list or dict whose
    values are all numbers, which counts once. A call is no number, nor is True or False.
    """
    match value:
        case ast.Constant(value=known):
            return isinstance(known, (int, float)) and not isinstance(known, bool)
        case ast.UnaryOp(operand=operand):
            return is_number(operand)
        case ast.BinOp(left=left, right=right):
            return _is_term(left) and _is_term(right)
        case ast.Tuple(elts=values) | ast.List(elts=values) | ast.Dict(values=values):
            return bool(values) and all(map(is_number, values))
    return False


def _is_term(value: ast.expr) -> bool:
    if isinstance(value, ast.Name):
        return CONSTANT.fullmatch(value.id) is not None
    return is_number(value)


def analysis(modules: list[Source]) -> list[Source]:
    """Return the modules whose dotted name has no part in `NOT_ANALYSIS`."""
    return [module for module in modules if NOT_ANALYSIS.isdisjoint(module.name.split("."))]


def loose_constants(modules: list[Source]) -> Iterator[str]:
    """Yield the UPPER or _UPPER names that a module of `analysis` binds to a number.

    Only module level counts, so a field of a dataclass or an attribute of a class does not.
    """
    for module, statement in _top_level(analysis(modules)):
        for name, value in _assigned(statement):
            if CONSTANT.fullmatch(name) and is_number(value):
                yield f"{module.name}.{name}"


# ---- encodings


def encodings(modules: list[Source]) -> Iterator[str]:
    """Yield which of the names in `ENCODINGS` a module still defines as class or function.

    Each of them is one way to hold a spans frame as arrays of integers: a class, or where the
    result has no class, the function that makes it. A new way has to be added to the table.
    """
    for module, statement in _top_level(modules):
        if isinstance(statement, Definition) and statement.name in ENCODINGS:
            yield f"{module.name}.{statement.name}"


def codes_a_column(call: ast.AST) -> bool:
    """Return whether a node is a call that turns columns of a spans frame into integers.

    It calls one of `CODERS`, by name or as an attribute, and among its arguments, at any depth, is
    a subscript with the name of one of `CODED_COLUMNS`, such as ``frame["service"]``.
    """
    if not isinstance(call, ast.Call):
        return False
    called = call.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in CODERS and any(map(_has_column, [*call.args, *call.keywords]))


def _has_column(argument: ast.AST) -> bool:
    return not CODED_COLUMNS.isdisjoint(map(_subscript, ast.walk(argument)))


def _subscript(node: ast.AST) -> str:
    """Return the text between the brackets of a subscript, "" for what is something else."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return ""


def encoders(modules: list[Source]) -> Iterator[str]:
    """Yield the functions in `analysis` modules with a call that `codes_a_column`.

    It needs no names of ours beyond `CODERS`, so it also sees an encoding that is new.
    """
    for _, place, function in _functions(analysis(modules)):
        if any(map(codes_a_column, ast.walk(function))):
            yield place


# ---- the table


def static_figures(modules: dict[str, list[Source]]) -> list[Figure]:
    """Return all figures that are read from the sources, which are given by package."""
    both = [module for package in modules.values() for module in package]
    figures = size("aiops_lab", modules["aiops_lab"]) + size("shop", modules["shop"])
    figures += size("both", both, MOST_NODES_A_LINE)
    figures += file_lengths(both) + line_lengths(both) + function_lengths(both)
    own = modules["aiops_lab"]
    return [
        *figures,
        _counted("functions with more than 6 parameters", many_parameters(both), 0),
        _counted("expressions with more than one comprehension", crowded_expressions(both), 0),
        _counted("public names with two meanings, both", two_meanings(both), 0),
        _counted("public names with two meanings, aiops_lab", two_meanings(own), 0),
        _counted("numeric constants outside configs", loose_constants(own), None),
        _counted("encodings of a spans frame", encodings(own), 1),
        _counted("functions that encode columns of spans", encoders(own), 1),
    ]


def _counted(name: str, places: Iterator[str], goal: float | None) -> Figure:
    """Return the number of places as a figure."""
    where = tuple(places)
    return Figure(name, len(where), goal, where)


def replay_figures(modules: list[Source]) -> list[Figure]:
    """Return all figures of one replay."""
    watch = watched(modules)
    return [id_parses(watch), *crossings(watch), *modules_on_the_way(watch)]


def notes(modules: list[Source]) -> list[str]:
    """Return which names of the tables no module defines, one sentence each."""
    walks = (ast.walk(module.tree) for module in modules)
    known = {node.name for node in chain.from_iterable(walks) if isinstance(node, Definition)}
    wanted = [*ENCODINGS, *PARSERS, *EXPLANATION.split(".")]
    return [f"{name} is not defined, so it is not counted." for name in wanted if name not in known]


def table(figures: list[Figure], places: bool = False) -> str:
    """Return the figures as lines of name | value | goal, each with its places if asked for."""
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'figure':{width}} | {'value':>8} | goal"]
    for figure in figures:
        value = "-" if figure.value is None else f"{figure.value:,}"
        goal = "" if figure.goal is None else f"<= {figure.goal:,}"
        lines.append(f"{figure.name:{width}} | {value:>8} | {goal}".rstrip())
        if places:
            lines.extend(f"    {place}" for place in figure.where)
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    options = _parser().parse_args(arguments)
    packages = {name: sources(name) for name in ("aiops_lab", "shop")}
    both = [*packages["aiops_lab"], *packages["shop"]]
    figures = static_figures(packages)
    if not options.no_replay:
        figures += replay_figures(both)
    if options.json:
        rows = [figure._asdict() for figure in figures]
        print(json.dumps({"figures": rows, "notes": notes(both)}, indent=1))
    else:
        print("\n".join([table(figures, options.places), *notes(both)]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.house",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with all places")
    parser.add_argument("--places", action="store_true", help="list the places behind each figure")
    parser.add_argument("--no-replay", action="store_true", help="only what is read from sources")
    return parser


if __name__ == "__main__":
    main()
