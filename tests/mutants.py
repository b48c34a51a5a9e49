"""Faults planted in generated code, one at a time: what a check of that code has to catch."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from types import ModuleType

FUNCTIONS = ("loss", "grad", "loss_and_grad")

SWAPPED = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.Div),
    ast.Div: (ast.Mult,),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}
#: The same for what is written with ``out=``.
FUNCTIONS_SWAPPED = {
    "add": {"subtract": "Sub"},
    "subtract": {"add": "Add"},
    "multiply": {"divide": "Div", "add": "Add"},
    "divide": {"multiply": "Mult"},
    "greater": {"greater_equal": "GtE", "less": "Lt"},
    "greater_equal": {"greater": "Gt", "less_equal": "LtE"},
    "less": {"less_equal": "LtE", "greater": "Gt"},
    "less_equal": {"less": "Lt", "greater_equal": "GtE"},
}
RENAMED = {"maximum": "minimum", "minimum": "maximum", "sum": "mean", "max": "min", "sign": "abs", "exp": "expm1"}


def mutants(
    source: str, labels: tuple[str, ...] = (), functions: tuple[str, ...] = FUNCTIONS
) -> Iterator[tuple[str, str]]:
    """(what was done, the changed source), one fault each, in the functions a user calls or in those named."""
    tree = ast.parse(source)
    for number, function in enumerate(tree.body):
        if not isinstance(function, ast.FunctionDef) or function.name not in functions:
            continue
        for path, node in _walk(function):
            for what, changed in _faults(node, labels):
                other = copy.deepcopy(tree)
                _put(other.body[number], path, changed)
                text = ast.unparse(ast.fix_missing_locations(other))
                yield f"{function.name}, line {getattr(node, 'lineno', '?')}: {what}", text


def _walk(node: ast.AST, path: tuple = ()) -> Iterator[tuple[tuple, ast.AST]]:
    """Every node below the arguments and the docstring, with the way to it."""
    for field, value in ast.iter_fields(node):
        if field in ("args", "returns", "decorator_list") and isinstance(node, ast.FunctionDef):
            continue
        children = enumerate(value) if isinstance(value, list) else [(None, value)]
        for position, child in children:
            if isinstance(child, ast.AST) and not _is_argument_check(child):
                here = (*path, (field, position))
                yield here, child
                yield from _walk(child, here)


def _is_argument_check(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # the docstring
    return isinstance(node, ast.Assign) and "_arguments(" in ast.unparse(node)


def _put(root: ast.AST, path: tuple, new: ast.AST | None) -> None:
    for field, position in path[:-1]:
        value = getattr(root, field)
        root = value if position is None else value[position]
    field, position = path[-1]
    if position is None:
        setattr(root, field, new)
    elif new is None:
        getattr(root, field)[position] = ast.Pass()
    else:
        getattr(root, field)[position] = new


def _faults(node: ast.AST, labels: tuple[str, ...]) -> Iterator[tuple[str, ast.AST | None]]:
    text = ast.unparse(node)
    if isinstance(node, ast.BinOp):
        for operator in SWAPPED.get(type(node.op), ()):
            yield f"operator of {text} to {operator.__name__}", ast.BinOp(node.left, operator(), node.right)
        if isinstance(node.op, ast.Div | ast.Mult):
            yield f"dropped the right factor of {text}", node.left
        if isinstance(node.op, ast.Add | ast.Sub):
            yield f"dropped the right term of {text}", node.left
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield f"sign of {text}", node.operand
    if isinstance(node, ast.Compare):
        for operator in SWAPPED.get(type(node.ops[0]), ()):
            yield f"{text} to {operator.__name__}", ast.Compare(node.left, [operator()], node.comparators)
    if isinstance(node, ast.Attribute) and node.attr == "T":
        yield f"{text} not transposed", node.value
    if isinstance(node, ast.Attribute) and node.attr in RENAMED:
        yield f"{text} to {RENAMED[node.attr]}", ast.Attribute(node.value, RENAMED[node.attr], ast.Load())
    if isinstance(node, ast.Attribute):
        for name, operator in FUNCTIONS_SWAPPED.get(node.attr, {}).items():
            yield f"{text} to {operator}", ast.Attribute(node.value, name, ast.Load())
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and "out=" in text:
        yield f"dropped {text}", None
    if isinstance(node, ast.AugAssign):
        yield f"dropped {text}", None
        for operator in SWAPPED.get(type(node.op), ()):
            yield f"operator of {text}", ast.AugAssign(node.target, operator(), node.value)
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        yield f"dropped {text}", None
    if isinstance(node, ast.keyword) and node.arg == "axis" and isinstance(node.value, ast.Constant):
        yield f"axis of {text}", ast.keyword("axis", ast.Constant(1 - abs(int(node.value.value))))
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield f"{text} to {node.value + 1}", ast.Constant(node.value + 1)
    if isinstance(node, ast.Name) and node.id in labels and isinstance(node.ctx, ast.Load):
        yield f"label {text} off by one", ast.BinOp(node, ast.Sub(), ast.Constant(1))
    if isinstance(node, ast.Expr) and text.startswith(("np.add.at(", "np.subtract.at(")):
        target, index, value = node.value.args
        operator = ast.Add() if text.startswith("np.add") else ast.Sub()
        place = ast.Subscript(target, index, ast.Store())
        yield f"{text} keeps one of the repeats", ast.AugAssign(place, operator, value)
        yield f"dropped {text}", None


def load(source: str, name: str = "mutant") -> ModuleType:
    module = ModuleType(name)
    exec(compile(source, f"<{name}>", "exec"), module.__dict__)
    return module
