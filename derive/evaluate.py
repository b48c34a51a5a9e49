"""What an expression in index notation is worth, read word by word: the oracle of every check.

Sums are loops, a branch that is not taken is not looked at, and a derivative is the slope of a dual number. Nothing
here is shared with the road from a statement to NumPy code, so that an error on that road cannot hide here too. It
takes expressions as a user writes them (``IndexedBase``, ``Idx``, ``Sum``, ``Piecewise``, ``KroneckerDelta``,
``Max``) and the toolkit's own heads (:mod:`derive.notation`), side by side.

>>> from sympy import Idx, IndexedBase, Max, Rational, Sum, symbols
>>> N = symbols("N", integer=True, positive=True)
>>> x, i = IndexedBase("x", shape=(N,)), Idx("i", N)
>>> evaluate(Sum(Max(0, x[i]) / N, i), {"x": [1, -2, 4]}, arithmetic=EXACT)
Fraction(5, 3)

At a tie the derivative is that of the argument that comes first: numbers, then arguments free of everything that
varies, then the others in SymPy's canonical order. So d max(0, a)/da is 0 at a = 0 (the strict indicator), and
d|a|/da is 0 there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import sympy
from sympy import (
    Abs,
    Add,
    Basic,
    Float,
    Idx,
    Integer,
    KroneckerDelta,
    Max,
    Min,
    Mul,
    NumberSymbol,
    Piecewise,
    Pow,
    Product,
    Rational,
    Sum,
    Symbol,
    default_sort_key,
    sign,
)
from sympy.core.function import AppliedUndef, Function
from sympy.core.relational import (
    Equality,
    GreaterThan,
    LessThan,
    Relational,
    StrictGreaterThan,
    StrictLessThan,
    Unequality,
)
from sympy.logic.boolalg import ITE, And, BooleanFalse, BooleanTrue, Not, Or, Xor
from sympy.tensor.indexed import Indexed, IndexedBase

from derive.arithmetic import (
    EXACT,
    FLOAT,
    Arithmetic,
    Dual,
    NotRational,
    as_integer,
    digits,
    interval,
    value_of,
)
from derive.errors import StatementError
from derive.notation import LogSumExp, Partial, Sigmoid, Softplus, Where

__all__ = [
    "EXACT",
    "FLOAT",
    "NotRational",
    "Scope",
    "decisions",
    "digits",
    "evaluate",
    "evaluate_loss",
    "interval",
    "loss_scope",
    "reference_gradient",
]

Indices: TypeAlias = dict[str, int]
Meaning: TypeAlias = Callable[["Scope", Indices], Any]

_INFINITY = float("inf")


# ------------------------------------------------------------------------------------------- values by name and index


class Table(dict[tuple[int, ...], Any]):
    """The entries of an array by index tuple; a scalar is the entry of ``()``.

    The entries of a defined quantity are computed when first asked for, by `rule`.
    """

    def __init__(self, name: str, entries: Mapping[tuple[int, ...], Any] = MappingProxyType({})) -> None:
        super().__init__(entries)
        self.name = name
        self.rule: Callable[[tuple[int, ...]], Any] | None = None

    def __missing__(self, key: tuple[int, ...]) -> Any:
        if self.rule is None:
            place = f"{self.name}[{', '.join(map(str, key))}]" if key else f"the scalar {self.name}"
            raise IndexError(f"{place} does not exist: {self.name} has {_extent(self)}")
        self[key] = value = self.rule(key)
        return value

    def with_entry(self, key: tuple[int, ...], value: Any) -> Table:
        changed = Table(self.name, self)
        changed.rule = self.rule
        changed[key] = value
        return changed


def _extent(table: Table) -> str:
    if not table:
        return "no entries"
    shape = tuple(max(axis) + 1 for axis in zip(*table, strict=True))
    return f"shape {shape}" if shape else "no index"


class Scope(dict[str, Table]):
    """Everything that has a name. `decisions`, where it is a list, collects the branches taken, in order."""

    decisions: list[Any] | None = None

    def __missing__(self, name: str) -> Table:
        raise KeyError(f"{name} has no value; known are {', '.join(sorted(self))}")

    def with_entry(self, name: str, key: tuple[int, ...], value: Any) -> Scope:
        changed = Scope(self)
        changed.decisions = self.decisions
        changed[name] = self[name].with_entry(key, value)
        return changed


def scope(values: Mapping[str, Any], arithmetic: Arithmetic = FLOAT) -> Scope:
    """Named arrays (nested sequences or NumPy arrays) and scalars, their entries brought into the arithmetic.

    Integers stay integers: they may be sizes, labels or indices.
    """
    result = Scope()
    for name, value in values.items():
        table = Table(str(name))
        _fill(table, (), value, arithmetic)
        result[table.name] = table
    return result


def _fill(table: Table, key: tuple[int, ...], value: Any, arithmetic: Arithmetic) -> None:
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.dtype == object else _plain(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        for position, entry in enumerate(value):
            _fill(table, (*key, position), entry, arithmetic)
    else:
        table[key] = int(value) if isinstance(value, Integral) else arithmetic.number(value)


def _plain(array: np.ndarray[Any, Any]) -> Any:
    return array.astype(np.float64).tolist() if array.dtype.kind == "f" else array.tolist()


def _add_sizes(tables: Scope, expr: Basic) -> None:
    """Sizes that stand in declared shapes and have no value yet, read off the arrays."""
    for base in sorted(expr.atoms(IndexedBase), key=str):
        table = tables.get(str(base.label))
        if base.shape is None or table is None or not table or table.rule is not None:
            continue
        extent = tuple(max(axis) + 1 for axis in zip(*table, strict=True))
        for size, length in zip(base.shape, extent, strict=False):
            if isinstance(size, Symbol) and size.name not in tables:
                tables[size.name] = Table(size.name, {(): length})


# --------------------------------------------------------------------------------------------------- public functions


def evaluate(
    expr: Any,
    values: Mapping[str, Any] | Scope,
    indices: Mapping[Any, int] | None = None,
    *,
    arithmetic: Arithmetic = FLOAT,
    varying: Iterable[str] | None = None,
) -> Any:
    """The value of an expression.

    Parameters
    ----------
    expr : Expr or Boolean
    values : mapping from name to nested sequence, array or scalar
        Arrays, scalars, and the sizes that cannot be read off the declared shape of an array. Or a `Scope`.
    indices : mapping from index (symbol, Idx or name) to int
        Values of the free indices.
    arithmetic : Arithmetic
        ``FLOAT``, ``EXACT``, ``digits(50)`` or ``interval(20)``.
    varying : iterable of names, optional
        What derivatives may be taken by (and what is defined from it); it decides ties of Max and Min, see the module's
        docstring. Left out, everything that has a name counts as varying.

    Returns
    -------
    A number of the arithmetic, or a bool.
    """
    expr = sympy.sympify(expr)
    tables = values if isinstance(values, Scope) else scope(values, arithmetic)
    if not isinstance(values, Scope):
        _add_sizes(tables, expr)
    names = None if varying is None else frozenset(str(name) for name in varying)
    bound = {_name(index): int(value) for index, value in (indices or {}).items()}
    result = _meaning(expr, arithmetic, names)(tables, bound)
    return result if isinstance(result, bool | Dual) else arithmetic.number(result)


@dataclass(frozen=True)
class _Definition:
    name: str
    indices: tuple[str, ...]
    rhs: Any


def _definitions(loss: Any) -> list[_Definition]:
    """The definitions of a loss in order, its value last: of a statement (where, value) or of its normal form."""
    if hasattr(loss, "definitions"):
        return [_Definition(str(d.name), tuple(map(_name, d.indices)), d.rhs) for d in loss.definitions]
    found = []
    for equation in loss.where:
        left = equation.lhs
        indices = tuple(map(_name, left.indices)) if isinstance(left, Indexed) else ()
        found.append(_Definition(_name(left), indices, equation.rhs))
    name = "loss"
    while any(d.name == name for d in found):
        name += "_"
    return [*found, _Definition(name, (), sympy.sympify(loss.value))]


def loss_scope(loss: Any, values: Mapping[str, Any], *, arithmetic: Arithmetic = FLOAT) -> Scope:
    """The values of a loss together with the quantities it defines, each computed once, when first asked for.

    `loss` is a statement (``where``, ``value``, ``defaults``) or anything with ``definitions``, each of these with
    ``name``, ``indices`` and ``rhs``. The value of the loss has the name ``loss``.
    """
    given = {str(name): value for name, value in values.items()}
    for symbol, default in dict(getattr(loss, "defaults", None) or {}).items():
        given.setdefault(str(symbol), default)
    tables = scope(given, arithmetic)
    definitions = _definitions(loss)
    for definition in definitions:
        _add_sizes(tables, definition.rhs)
    names = _varying(loss, definitions)
    for definition in definitions:
        tables[definition.name] = Table(definition.name)
    _set_rules(tables, definitions, arithmetic, names)
    return tables


def _set_rules(
    tables: Scope, definitions: list[_Definition], arithmetic: Arithmetic, varying: frozenset[str] | None
) -> None:
    for definition in definitions:
        meaning = _meaning(definition.rhs, arithmetic, varying)
        tables[definition.name].rule = lambda key, m=meaning, d=definition: m(
            tables, dict(zip(d.indices, key, strict=True))
        )


def _varying(loss: Any, definitions: list[_Definition]) -> frozenset[str] | None:
    """The parameters of a loss and whatever is defined from them."""
    parameters = getattr(loss, "wrt", None) or getattr(loss, "parameters", None)
    if not parameters:
        return None
    names = {_name(p) for p in parameters}
    for definition in definitions:
        if names & _mentioned(definition.rhs):
            names.add(definition.name)
    return frozenset(names)


def evaluate_loss(loss: Any, values: Mapping[str, Any], *, arithmetic: Arithmetic = FLOAT) -> Any:
    """The value of a loss; see `loss_scope` for what a loss may be."""
    tables = loss_scope(loss, values, arithmetic=arithmetic)
    return arithmetic.number(tables[_definitions(loss)[-1].name][()])


def decisions(loss: Any, values: Mapping[str, Any], *, arithmetic: Arithmetic = FLOAT) -> list[Any]:
    """Which branch every max, abs, sign and comparison takes on the way to the value; a tie is a branch of its own."""
    tables = loss_scope(loss, values, arithmetic=arithmetic)
    tables.decisions = []
    tables[_definitions(loss)[-1].name][()]
    return tables.decisions


def reference_gradient(
    loss: Any, values: Mapping[str, Any], wrt: Any, *, arithmetic: Arithmetic = FLOAT
) -> dict[tuple[int, ...], Any]:
    """The derivative of a loss by each entry of one parameter, by dual numbers: no step size and no formula.

    Parameters
    ----------
    loss, values, arithmetic
        As for `evaluate_loss`.
    wrt : str, IndexedBase or Symbol
        The parameter.

    Returns
    -------
    dict
        From index tuple (``()`` for a scalar) to derivative.
    """
    name = _name(wrt) if isinstance(wrt, Basic) else str(wrt)
    definitions = _definitions(loss)
    plain = loss_scope(loss, values, arithmetic=arithmetic)
    names = _varying(loss, definitions)
    gradient = {}
    for key, value in plain[name].items():
        tables = plain.with_entry(name, key, Dual(value, 1))
        for definition in definitions:
            tables[definition.name] = Table(definition.name)
        _set_rules(tables, definitions, arithmetic, names)
        result = tables[definitions[-1].name][()]
        gradient[key] = arithmetic.number(result.slope if isinstance(result, Dual) else 0)
    return gradient


# ------------------------------------------------------------------------------------------------ meaning, head by head


@lru_cache(maxsize=20_000)
def _meaning(expr: Any, arithmetic: Arithmetic, varying: frozenset[str] | None, level: int = 1) -> Meaning:
    """The expression as a function of named values and indices.

    `level` counts the derivatives the expression stands under: each has an eps of its own.
    """

    def of(part: Any) -> Meaning:
        return _meaning(part, arithmetic, varying, level)

    for head, rule in _RULES.items():
        if isinstance(expr, head):
            return rule(expr, _Compiler(of, arithmetic, varying, level))
    raise StatementError(f"{expr}: the evaluator does not know {type(expr).__name__}")


@dataclass(frozen=True)
class _Compiler:
    of: Callable[[Any], Meaning]
    arithmetic: Arithmetic
    varying: frozenset[str] | None
    level: int

    def all(self, parts: Iterable[Any]) -> tuple[Meaning, ...]:
        return tuple(self.of(part) for part in parts)


def _name(x: Any) -> str:
    """The name under which an index, an array, an element or a scalar is looked up."""
    if isinstance(x, Indexed):
        x = x.base
    return str(x.label) if isinstance(x, Idx | IndexedBase) else str(x)


def _number(expr: Any, c: _Compiler) -> Meaning:
    if expr in (sympy.oo, -sympy.oo):
        number: Any = _INFINITY if expr == sympy.oo else -_INFINITY
    elif isinstance(expr, NumberSymbol):
        number = c.arithmetic.constant(expr)
    elif isinstance(expr, Integer):
        number = int(expr)
    elif isinstance(expr, Rational | Float):
        number = c.arithmetic.number(expr)
    else:
        raise StatementError(f"{expr} is not a real number")
    return lambda t, k: number


def _symbol(expr: Any, c: _Compiler) -> Meaning:
    name = _name(expr)
    return lambda t, k: k[name] if name in k else t[name][()]


def _indexed(expr: Any, c: _Compiler) -> Meaning:
    name = _name(expr)
    positions = c.all(expr.indices)
    if len(positions) == 1:
        (only,) = positions
        return lambda t, k: t[name][(as_integer(only(t, k)),)]
    return lambda t, k: t[name][tuple([as_integer(p(t, k)) for p in positions])]


def _add(expr: Any, c: _Compiler) -> Meaning:
    first, *others = c.all(expr.args)

    def total(t: Scope, k: Indices) -> Any:
        result = first(t, k)
        for term in others:
            result = result + term(t, k)
        return result

    return total


def _mul(expr: Any, c: _Compiler) -> Meaning:
    first, *others = c.all(expr.args)

    def product(t: Scope, k: Indices) -> Any:
        result = first(t, k)
        for factor in others:
            result = result * factor(t, k)
        return result

    return product


def _pow(expr: Any, c: _Compiler) -> Meaning:
    base, a = c.of(expr.base), c.arithmetic
    if isinstance(expr.exp, Integer):
        n = int(expr.exp)
        if n >= 0:
            return lambda t, k: base(t, k) ** n
        return lambda t, k: a.reciprocal(base(t, k)) ** -n
    if isinstance(expr.exp, Rational) and expr.exp.q == 2:
        n = int(expr.exp.p)
        if n >= 0:
            return lambda t, k: a.sqrt(base(t, k)) ** n
        return lambda t, k: a.reciprocal(a.sqrt(base(t, k))) ** -n
    exponent = c.of(expr.exp)
    log = _elementary("log", c)

    def power(t: Scope, k: Indices) -> Any:
        b, e = base(t, k), exponent(t, k)
        if isinstance(e, Dual):
            return _elementary("exp", c)(e * log(b))
        return a.power(b, e)

    return power


def _elementary(name: str, c: _Compiler) -> Callable[[Any], Any]:
    """An elementary function on numbers that may be dual; SymPy knows its derivative."""
    plain = c.arithmetic.function(name)
    z = Symbol("z", real=True)
    head = {"ceil": sympy.ceiling}.get(name) or getattr(sympy, name)
    slope: Meaning | None = None

    def function(x: Any) -> Any:
        nonlocal slope
        if not isinstance(x, Dual):
            return plain(c.arithmetic.number(x))
        if name in ("floor", "ceil"):
            return function(x.value)
        if slope is None:
            slope = c.of(head(z).diff(z))
        derivative = slope(Scope(z=Table("z", {(): x.value})), {})
        return Dual(function(x.value), derivative * x.slope, x.level)

    return function


_ELEMENTARY = {
    sympy.exp: "exp", sympy.log: "log", sympy.sin: "sin", sympy.cos: "cos", sympy.tan: "tan", sympy.asin: "asin",
    sympy.acos: "acos", sympy.atan: "atan", sympy.sinh: "sinh", sympy.cosh: "cosh", sympy.tanh: "tanh",
    sympy.asinh: "asinh", sympy.acosh: "acosh", sympy.atanh: "atanh", sympy.erf: "erf", sympy.erfc: "erfc",
    sympy.floor: "floor", sympy.ceiling: "ceil",
}  # fmt: skip


def _function(expr: Any, c: _Compiler) -> Meaning:
    name = _ELEMENTARY.get(expr.func)
    if name is None or isinstance(expr, AppliedUndef) or len(expr.args) != 1:
        raise StatementError(f"{expr}: the evaluator does not know the function {expr.func}")
    argument, function = c.of(expr.args[0]), _elementary(name, c)
    return lambda t, k: function(argument(t, k))


def _largest(expr: Any, c: _Compiler) -> Meaning:
    """Max or Min; at a tie the first argument in canonical order counts, which is seen in derivatives only."""
    arguments = c.all(sorted(expr.args, key=lambda argument: _tie_rank(argument, c.varying)))
    compare = c.arithmetic.compare
    wanted = 1 if isinstance(expr, Max) else -1

    def extreme(t: Scope, k: Indices) -> Any:
        entries = [argument(t, k) for argument in arguments]
        best = entries[0]
        for entry in entries[1:]:
            if compare(entry, best) == wanted:
                best = entry
        if t.decisions is not None:
            t.decisions.append(tuple(compare(entry, best) == 0 for entry in entries))
        return best

    return extreme


def _tie_rank(argument: Any, varying: frozenset[str] | None) -> Any:
    names = _mentioned(argument)
    free = not names if varying is None else not (names & varying)
    return (0 if argument.is_number else 1 if free else 2, default_sort_key(argument))


@lru_cache(maxsize=20_000)
def _mentioned(expr: Any) -> frozenset[str]:
    """The names of all arrays and scalars in an expression (bound indices among them do no harm)."""
    return frozenset(map(_name, expr.atoms(Symbol, Idx, IndexedBase)))


def _abs(expr: Any, c: _Compiler) -> Meaning:
    sign_of = _sign(expr, c)
    argument = c.of(expr.args[0])

    def absolute(t: Scope, k: Indices) -> Any:
        return sign_of(t, k) * argument(t, k)

    return absolute


def _sign(expr: Any, c: _Compiler) -> Meaning:
    argument, compare = c.of(expr.args[0]), c.arithmetic.compare

    def sign_of(t: Scope, k: Indices) -> Any:
        result = compare(argument(t, k), 0)
        if t.decisions is not None:
            t.decisions.append(result)
        return result

    return sign_of


def _relational(expr: Any, c: _Compiler) -> Meaning:
    left, right = c.of(expr.lhs), c.of(expr.rhs)
    compare = c.arithmetic.compare
    accepted = {
        Equality: (0,), Unequality: (-1, 1), StrictGreaterThan: (1,), GreaterThan: (0, 1),
        StrictLessThan: (-1,), LessThan: (-1, 0),
    }[type(expr)]  # fmt: skip

    def holds(t: Scope, k: Indices) -> bool:
        result = compare(left(t, k), right(t, k))
        if t.decisions is not None:
            t.decisions.append(result)
        return result in accepted

    return holds


def _and(expr: Any, c: _Compiler) -> Meaning:
    parts = c.all(expr.args)
    return lambda t, k: all(part(t, k) for part in parts)


def _or(expr: Any, c: _Compiler) -> Meaning:
    parts = c.all(expr.args)
    return lambda t, k: any(part(t, k) for part in parts)


def _xor(expr: Any, c: _Compiler) -> Meaning:
    parts = c.all(expr.args)
    return lambda t, k: sum(part(t, k) for part in parts) % 2 == 1


def _not(expr: Any, c: _Compiler) -> Meaning:
    part = c.of(expr.args[0])
    return lambda t, k: not part(t, k)


def _branch(expr: Any, c: _Compiler) -> Meaning:
    condition, yes, no = c.all(expr.args)
    return lambda t, k: yes(t, k) if condition(t, k) else no(t, k)


def _piecewise(expr: Any, c: _Compiler) -> Meaning:
    branches = [(c.of(condition), c.of(value)) for value, condition in expr.args]

    def taken(t: Scope, k: Indices) -> Any:
        for condition, value in branches:
            if condition(t, k):
                return value(t, k)
        raise ValueError(f"{expr}: no condition holds")

    return taken


def _delta(expr: Any, c: _Compiler) -> Meaning:
    left, right = c.all(expr.args[:2])
    return lambda t, k: 1 if left(t, k) == right(t, k) else 0


def _limits(limits: Iterable[Any], c: _Compiler) -> list[tuple[str, Meaning, Meaning]]:
    """Name, lowest and highest value of each index, the outermost loop first."""
    found = []
    for limit in limits:
        index = limit[0]
        if len(limit) == 3:
            low, high = limit[1], limit[2]
        elif isinstance(index, Idx) and index.lower is not None:
            low, high = index.lower, index.upper
        else:
            raise StatementError(f"the index {index} has no range")
        found.append((_name(index), c.of(low), c.of(high)))
    return found[::-1]


def _each(limits: list[tuple[str, Meaning, Meaning]], t: Scope, k: Indices) -> Iterable[Indices]:
    """The indices extended by every combination of the bound ones."""
    if not limits:
        yield k
        return
    (name, low, high), *inner = limits
    for value in range(as_integer(low(t, k)), as_integer(high(t, k)) + 1):
        yield from _each(inner, t, {**k, name: value})


def _sum(expr: Any, c: _Compiler) -> Meaning:
    summand, limits = c.of(expr.function), _limits(expr.limits, c)

    def total(t: Scope, k: Indices) -> Any:
        result: Any = 0
        for inner in _each(limits, t, k):
            result = result + summand(t, inner)
        return result

    return total


def _product(expr: Any, c: _Compiler) -> Meaning:
    factor, limits = c.of(expr.function), _limits(expr.limits, c)

    def product(t: Scope, k: Indices) -> Any:
        result: Any = 1
        for inner in _each(limits, t, k):
            result = result * factor(t, inner)
        return result

    return product


def _log_sum_exp(expr: Any, c: _Compiler) -> Meaning:
    entry, limits = c.of(expr.args[0]), _limits(expr.args[1:], c)
    exp, log = _elementary("exp", c), _elementary("log", c)

    def shifted(t: Scope, k: Indices) -> Any:
        entries = [entry(t, inner) for inner in _each(limits, t, k)]
        entries = [x for x in entries if not (isinstance(x, float) and x == -_INFINITY)]
        if not entries:
            return -_INFINITY
        centres = [value_of(x) for x in entries]
        shift = max(centres) if all(map(c.arithmetic.is_point, centres)) else centres[0]
        result: Any = 0
        for x in entries:
            result = result + exp(x - shift)
        return shift + log(result)

    return shifted


def _softplus(expr: Any, c: _Compiler) -> Meaning:
    argument = c.of(expr.args[0])
    exp, log = _elementary("exp", c), _elementary("log", c)

    def softplus(t: Scope, k: Indices) -> Any:
        z = argument(t, k)
        if c.arithmetic is FLOAT and c.arithmetic.compare(z, 30) > 0:
            return z + exp(-z)  # log(1 + exp(z)) without the overflow
        return log(1 + exp(z))

    return softplus


def _sigmoid(expr: Any, c: _Compiler) -> Meaning:
    argument, exp = c.of(expr.args[0]), _elementary("exp", c)

    def sigmoid(t: Scope, k: Indices) -> Any:
        z = argument(t, k)
        if c.arithmetic is FLOAT and c.arithmetic.compare(z, 0) < 0:
            e = exp(z)
            return e * c.arithmetic.reciprocal(1 + e)
        return c.arithmetic.reciprocal(1 + exp(-z))

    return sigmoid


def _partial(expr: Any, c: _Compiler) -> Meaning:
    body, element = expr.args
    name, level = _name(element), c.level
    positions = c.all(element.indices) if isinstance(element, Indexed) else ()
    inside = _meaning(body, c.arithmetic, c.varying, level + 1)

    def slope(t: Scope, k: Indices) -> Any:
        key = tuple(as_integer(position(t, k)) for position in positions)
        result = inside(t.with_entry(name, key, Dual(t[name][key], 1, level)), k)
        return result.slope if isinstance(result, Dual) and result.level == level else 0

    return slope


def _true(expr: Any, c: _Compiler) -> Meaning:
    return lambda t, k: True


def _false(expr: Any, c: _Compiler) -> Meaning:
    return lambda t, k: False


_RULES: dict[Any, Callable[[Any, _Compiler], Meaning]] = {
    sympy.Number: _number,
    NumberSymbol: _number,
    Idx: _symbol,
    Symbol: _symbol,
    Indexed: _indexed,
    Add: _add,
    Mul: _mul,
    Pow: _pow,
    (Max, Min): _largest,
    Abs: _abs,
    sign: _sign,
    Piecewise: _piecewise,
    KroneckerDelta: _delta,
    Sum: _sum,
    Product: _product,
    Where: _branch,
    LogSumExp: _log_sum_exp,
    Softplus: _softplus,
    Sigmoid: _sigmoid,
    Partial: _partial,
    Relational: _relational,
    And: _and,
    Or: _or,
    Xor: _xor,
    Not: _not,
    ITE: _branch,
    BooleanTrue: _true,
    BooleanFalse: _false,
    Function: _function,
}
