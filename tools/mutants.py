"""Whether the tests of a module notice when the module is wrong.

    python tools/mutants.py src/loqal/engine/step_budget.py [MODULE ...] [--count 10] [--seed 0]

Each mutant is the module with one small mistake: a comparison flipped, an operator exchanged, a constant off by one, a
condition negated, a statement left out, nothing returned. The module's test file (tests/engine/test_step_budget.py, or
``--tests``) runs against a copy of the package that has it. A mutant that no test notices survives, and is listed.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import copy
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src/loqal"

_COMPARED = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_DELETABLE = (ast.Assign, ast.AugAssign, ast.Expr, ast.Raise, ast.Break, ast.Continue)


class Mutant(NamedTuple):
    """The source of a module with one mistake."""

    line: int
    change: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module that differs from it and compiles."""
    tree = ast.parse(source)
    plain = ast.unparse(tree)
    found = []
    for number, (node, change) in enumerate(_changes(tree)):
        changed = copy.deepcopy(tree)
        twin, again = next(pair for at, pair in enumerate(_changes(changed)) if at == number)
        assert again == change
        _apply(changed, twin, change)
        try:
            text = ast.unparse(ast.fix_missing_locations(changed))
            compile(text, "mutant", "exec")
        except (SyntaxError, ValueError):
            continue
        if text != plain:
            found.append(Mutant(getattr(node, "lineno", 0), f"{change}: {ast.unparse(node)[:60]}", text))
    return found


def _changes(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Places that can be changed, and how. Docstrings, imports, annotations and messages are left alone."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        yield from _changes_of(node)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_params", "msg"):
                continue
            children = value if isinstance(value, list) else [value]
            stack += [child for child in children if isinstance(child, ast.AST) and not _is_left_alone(child)]


def _is_left_alone(node: ast.AST) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.JoinedStr)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _changes_of(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node, ast.Compare):
        yield node, "comparison"
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _OPERATORS:
        yield node, "operator"
    elif isinstance(node, ast.BoolOp):
        yield node, "and/or"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield node, "sign or not dropped"
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield node, "constant"
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield node, "flag"
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield node, "condition negated"
    elif isinstance(node, ast.Return) and node.value is not None:
        yield node, "nothing returned"
    if isinstance(node, _DELETABLE) and getattr(node, "col_offset", 0):  # not at the module's own level
        yield node, "left out"


def _apply(tree: ast.Module, node: ast.AST, change: str) -> None:
    if isinstance(node, ast.Compare) and change == "comparison":
        node.ops[0] = _COMPARED[type(node.ops[0])]()
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and change == "operator":
        node.op = _OPERATORS[type(node.op)]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp):
        _replace(tree, node, node.operand)
    elif isinstance(node, ast.Constant):
        node.value = not node.value if change == "flag" else node.value + 1  # type: ignore[operator]
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Return):
        node.value = ast.Constant(None)
    else:
        _replace(tree, node, ast.Pass())


def _replace(tree: ast.Module, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list):
                value[:] = [new if one is old else one for one in value]


def is_killed(module: Path, source: str, tests: Path, copied: Path, timeout_s: float) -> bool:
    """Whether the tests fail, or never end, with this source in the place of the module."""
    target = copied / module.relative_to(PACKAGE.parent)
    target.write_text(source)
    Path(importlib.util.cache_from_source(str(target))).unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(copied), "PYTHONDONTWRITEBYTECODE": "1"}
    options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-m", "not parity"]
    command = [sys.executable, "-m", "pytest", *options, str(tests)]
    try:
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return True
    return run.returncode != 0


def main() -> None:
    """Print a table, and the survivors below it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("modules", nargs="+", type=Path)
    parser.add_argument("--tests", type=Path, help="the test file, where it is not the one of the module's name")
    parser.add_argument("--count", type=int, default=10, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0, help="which mutants are drawn")
    parser.add_argument("--timeout-s", type=float, default=120.0, help="seconds of one run of the tests")
    args = parser.parse_args()
    survivors = []
    print("| module | killed | of |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder)
        shutil.copytree(PACKAGE, copied / "loqal", ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(str(copied), quiet=1)
        for module in (path.resolve() for path in args.modules):
            name = module.relative_to(PACKAGE)
            tests = args.tests or ROOT / "tests" / name.parent / f"test_{name.name}"
            if is_killed(module, source := module.read_text(), tests, copied, args.timeout_s):
                sys.exit(f"{tests} fails without any mutant, or does not exist.")
            every = mutants(source)
            drawn = random.Random(args.seed).sample(every, min(args.count, len(every)))
            left = [one for one in drawn if not is_killed(module, one.source, tests, copied, args.timeout_s)]
            is_killed(module, source, tests, copied, args.timeout_s)  # the module as it is, for the next ones
            survivors += [f"`{name}` {one.line}, {' '.join(one.change.split())}" for one in left]
            print(f"| {name} | {len(drawn) - len(left)} | {len(drawn)} |", flush=True)
    print("\nSurvivors:" if survivors else "\nNo survivor.", *survivors, sep="\n- " if survivors else "\n")


if __name__ == "__main__":
    main()
