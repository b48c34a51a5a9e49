"""The few heads that index notation needs and SymPy lacks, and how to take expressions apart.

Everything between a statement and its array program is a SymPy expression built from ``Add``, ``Mul``, ``Pow``,
elementary functions, ``Indexed``, ``Sum`` and the heads defined here. All of them are inert: they never evaluate
themselves, so that what a rule wrote is what the next rule, the report and the checks read.

Inside the toolkit an index is a plain integer ``Symbol`` whose name is unique in its loss. Renaming bound indices
apart once, when a statement is read, is what makes substitution safe everywhere after.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sympy import Basic, Expr, Function, Integer, Max, Min, Mul, Sum, Symbol, Tuple, expand, sympify
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean, false, true
from sympy.tensor.indexed import Indexed

__all__ = [
    "LogSumExp",
    "Partial",
    "Sigmoid",
    "Softplus",
    "Where",
    "bases",
    "free_symbols",
    "indicator",
    "multiply",
    "rebuild",
    "relation",
    "substitute",
    "sum_over",
    "with_limits",
]


class _Real(Expr):
    """An inert real-valued head."""

    is_commutative = True
    is_extended_real = True

    def __new__(cls, *args: Any) -> Any:
        return Expr.__new__(cls, *(sympify(a) for a in args))


class Where(_Real):
    """``Where(condition, a, b)``: a where the condition holds, else b.

    ``Where(c, 1, 0)`` is the indicator 1(c), ``Where(Eq(i, j), 1, 0)`` the Kronecker delta, and ``Where(c, e, 0)``
    under a ``Sum`` restricts the sum to the indices for which c holds. The branch not taken counts for nothing, even
    where it is infinite or not a number.
    """

    condition = property(lambda self: self.args[0])
    yes = property(lambda self: self.args[1])
    no = property(lambda self: self.args[2])


class LogSumExp(_Real):
    """``LogSumExp(f, (j, lo, hi), ...)``: log of the sum of exp(f) over the limits; evaluated shifted by its maximum.

    Entries f of the form ``Where(c, g, -oo)`` leave out the indices for which c does not hold.
    """

    function = property(lambda self: self.args[0])
    limits = property(lambda self: self.args[1:])


class Softplus(_Real):
    """``Softplus(z)``: log(1 + exp(z))."""


class Sigmoid(_Real):
    """``Sigmoid(z)``: 1/(1 + exp(-z)), the derivative of ``Softplus``."""


class Partial(_Real):
    """``Partial(f, x)``: the derivative of f with respect to the element x (an ``Indexed`` or a ``Symbol``).

    Unevaluated; f may mention quantities that themselves depend on x by way of their definitions, and does not see
    through them: the chain rule over definitions is written out in steps.
    """


def indicator(condition: Boolean) -> Expr:
    """1 where the condition holds, else 0."""
    if condition == True:  # noqa: E712 - SymPy's true
        return Integer(1)
    if condition == False:  # noqa: E712
        return Integer(0)
    return Where(condition, 1, 0)


def sum_over(expr: Expr, *limits: Any) -> Expr:
    """``Sum``, without the cases a person would not write: no limits, a zero summand."""
    if not limits or expr == 0:
        return expr
    return with_limits(Sum, expr, limits)


def with_limits(head: type, expr: Expr, limits: Any) -> Any:
    """A ``Sum`` or ``LogSumExp`` of just this expression; ``Sum(...)`` would look for a Piecewise to pull out first."""
    new = Expr.__new__(head, expr, *(Tuple(*lim) for lim in limits))
    if head is Sum:
        new.is_commutative = True
    return new


def relation(head: type, a: Expr, b: Expr) -> Any:
    """A comparison; decided only where both sides are the same up to a number."""
    if a.is_number and b.is_number:
        return head(a, b)
    if a == b or (free_symbols(a) & free_symbols(b) and expand(a - b).is_number):
        return head(expand(a - b), Integer(0))
    return head(a, b, evaluate=False)


@lru_cache(maxsize=100_000)
def free_symbols(expr: Basic) -> frozenset[Symbol]:
    """The symbols of an expression that no sum in it binds; names of arrays do not count."""
    if isinstance(expr, Symbol):
        return frozenset((expr,))
    if isinstance(expr, Indexed):
        return frozenset().union(*map(free_symbols, expr.indices))
    if isinstance(expr, Sum | LogSumExp):
        inside = free_symbols(expr.args[0]).union(*(free_symbols(e) for lim in expr.args[1:] for e in lim.args[1:]))
        return inside - {lim.args[0] for lim in expr.args[1:]}
    return frozenset().union(*map(free_symbols, expr.args))


@lru_cache(maxsize=100_000)
def bases(expr: Basic) -> frozenset[str]:
    """Names of the arrays and real scalars that an expression mentions; indices and sizes, being integers, are none."""
    if isinstance(expr, Symbol):
        return frozenset() if expr.is_integer else frozenset((expr.name,))
    if isinstance(expr, Indexed):
        return frozenset((str(expr.base.label),)).union(*map(bases, expr.indices))
    return frozenset().union(*map(bases, expr.args))


def multiply(*factors: Any) -> Any:
    """The product, as written: SymPy would turn 2*(a - b) into 2*a - 2*b."""
    flat = [part for f in factors for part in Mul.make_args(f)]
    number = Mul(*(f for f in flat if f.is_Number))
    rest = [f for f in flat if not f.is_Number]
    if len(rest) == 1 and rest[0].is_Add and number not in (0, 1, -1):
        return Mul(number, rest[0], evaluate=False)
    return Mul(number, *rest)


def rebuild(expr: Basic, args: tuple[Basic, ...]) -> Basic:
    """The node with other arguments; heads that would evaluate or reorder themselves are held."""
    if args == expr.args:
        return expr
    if isinstance(expr, Mul):
        return multiply(*args)
    if isinstance(expr, Sum | LogSumExp):
        return with_limits(type(expr), args[0], args[1:])
    if isinstance(expr, Where) and args[0] in (true, false):
        return args[1] if args[0] == true else args[2]
    if isinstance(expr, Relational):
        return relation(type(expr), *args)
    if isinstance(expr, Function) and not any(a.is_Number for a in args):
        return expr.func(*args, evaluate=False)
    if isinstance(expr, Max | Min):
        return type(expr)(*args, evaluate=False)
    return expr.func(*args)


def substitute(expr: Any, mapping: Mapping[Basic, Basic]) -> Any:
    """Replace whole sub-expressions, all at once, without evaluating the heads around them.

    Bound indices are unique in a loss, so nothing can be captured. The base of an ``Indexed`` stays.
    """
    if not mapping:
        return expr
    seen: dict[Basic, Basic] = {}

    def walk(node: Basic) -> Basic:
        if node in mapping:
            return mapping[node]
        if not node.args:
            return node
        if node in seen:
            return seen[node]
        if isinstance(node, Indexed):
            new = rebuild(node, (node.base, *(walk(a) for a in node.indices)))
        elif isinstance(node, Tuple):
            new = Tuple(*(walk(a) for a in node.args))
        else:
            new = rebuild(node, tuple(walk(a) for a in node.args))
        seen[node] = new
        return new

    return walk(expr)
