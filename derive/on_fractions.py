"""Generated code, run in rational arithmetic.

On object arrays of ``fractions.Fraction`` the lines of a generated module compute exactly, but for one thing: the
quotient of two Python integers is a float, and integers arise where a mask or max(0, a) leaves nothing but zeros and
ones. Here the same source is compiled with each ``/`` read as the exact quotient. Nothing else is changed.
"""

from __future__ import annotations

import ast
import inspect
from fractions import Fraction
from numbers import Rational
from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["on_fractions"]

_QUOTIENT = "_exact_quotient"


def on_fractions(module: ModuleType) -> ModuleType:
    """The module with every quotient of rational numbers exact."""
    tree = ast.fix_missing_locations(_ExactQuotients().visit(ast.parse(inspect.getsource(module))))
    exact = ModuleType(f"{module.__name__}_on_fractions")
    exact.__file__ = f"<{exact.__name__}>"
    exact.__dict__[_QUOTIENT] = _quotient
    exec(compile(tree, exact.__file__, "exec"), exact.__dict__)
    return exact


class _ExactQuotients(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div):
            return node
        return ast.Call(ast.Name(_QUOTIENT, ast.Load()), [node.left, node.right], [])

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div):
            return node
        target = node.target
        value: ast.expr = ast.parse(ast.unparse(target), mode="eval").body
        return ast.Assign([target], ast.Call(ast.Name(_QUOTIENT, ast.Load()), [value, node.value], []))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """``np.divide(a, b, out=c)``, whose result nothing reads but by its name."""
        self.generic_visit(node)
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "divide":
            return ast.Call(ast.Name(_QUOTIENT, ast.Load()), node.args, [])
        return node


def _quotient(a: Any, b: Any) -> Any:
    if isinstance(a, np.ndarray) and a.dtype == object:
        a = np.array([_exact(x) for x in a.flat], dtype=object).reshape(a.shape)
    return _exact(a) / b


def _exact(x: Any) -> Any:
    if isinstance(x, bool | np.bool_ | int | np.integer):
        return Fraction(int(x))
    return Fraction(x) if isinstance(x, Rational) else x
