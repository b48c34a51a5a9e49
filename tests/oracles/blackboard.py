"""A statement evaluated as a person would with patience: one element at a time, nested loops, nothing rewritten.

Three kinds of numbers can be put in: floats; ``mpmath`` numbers, for as many digits as wanted; and dual numbers, which
carry the derivatives along (forward mode), so that the gradient comes out without a single rule of the toolkit's. It
reads the ``Loss`` as the user wrote it and shares no code with the toolkit.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import sympy
from sympy import Idx, Indexed, IndexedBase

__all__ = ["Dual", "gradient", "precise_value", "value"]


class Dual:
    """a + b.eps with eps_i eps_j = 0: a value and its derivatives with respect to every parameter's every element."""

    def __init__(self, value: float, slope: np.ndarray) -> None:
        self.value, self.slope = value, slope

    def __add__(self, other: Any) -> Dual:
        if isinstance(other, Dual):
            return Dual(self.value + other.value, self.slope + other.slope)
        return Dual(self.value + float(other), self.slope)

    def __mul__(self, other: Any) -> Dual:
        if isinstance(other, Dual):
            return Dual(self.value * other.value, self.value * other.slope + other.value * self.slope)
        return Dual(self.value * float(other), float(other) * self.slope)

    __radd__, __rmul__ = __add__, __mul__

    def __pow__(self, p: Any) -> Dual:
        if isinstance(p, Dual):
            power = self.value**p.value
            return Dual(power, power * (p.slope * math.log(self.value) + p.value / self.value * self.slope))
        if p == 0:
            return Dual(1.0, 0 * self.slope)
        return Dual(self.value**p, p * self.value ** (p - 1) * self.slope)

    def __rpow__(self, base: float) -> Dual:
        power = float(base) ** self.value
        return Dual(power, power * math.log(base) * self.slope)

    def __float__(self) -> float:
        raise TypeError("a dual number must not lose its derivatives")

    def through(self, f: Any, derivative: Any) -> Dual:
        return Dual(f(self.value), derivative(self.value) * self.slope)


def plain(a: Any) -> Any:
    return a.value if isinstance(a, Dual) else a


def sign(a: Any) -> int:
    return int(plain(a) > 0) - int(plain(a) < 0)


def greatest(*entries: Any) -> Any:
    """The greatest entry; constants win ties, so that max(0, a) has the derivative 0 at a = 0."""
    best = entries[0]
    for e in entries[1:]:
        if plain(e) > plain(best) or (plain(e) == plain(best) and not isinstance(e, Dual)):
            best = e
    return best


def least(*entries: Any) -> Any:
    best = entries[0]
    for e in entries[1:]:
        if plain(e) < plain(best) or (plain(e) == plain(best) and not isinstance(e, Dual)):
            best = e
    return best


#: name: (float function, its derivative)
FUNCTIONS: dict[str, tuple[Any, Any]] = {
    "exp": (math.exp, math.exp),
    "log": (math.log, lambda a: 1 / a),
    "sin": (math.sin, math.cos),
    "cos": (math.cos, lambda a: -math.sin(a)),
    "tan": (math.tan, lambda a: 1 / math.cos(a) ** 2),
    "sinh": (math.sinh, math.cosh),
    "cosh": (math.cosh, math.sinh),
    "tanh": (math.tanh, lambda a: 1 / math.cosh(a) ** 2),
    "asin": (math.asin, lambda a: 1 / math.sqrt(1 - a * a)),
    "acos": (math.acos, lambda a: -1 / math.sqrt(1 - a * a)),
    "atan": (math.atan, lambda a: 1 / (1 + a * a)),
    "Abs": (abs, sign),
    "sign": (sign, lambda a: 0.0),
}


class Blackboard:
    def __init__(self, loss: Any, arguments: dict[str, Any], number: Any) -> None:
        self.loss, self.number = loss, number
        self.arrays: dict[str, Any] = dict(arguments)
        self.sizes: dict[str, int] = {}
        for thing in (*loss.wrt, *loss.data):
            if isinstance(thing, IndexedBase) and thing.shape:
                for size, n in zip(thing.shape, np.shape(arguments[str(thing.label)]), strict=True):
                    if len(size.free_symbols) == 1:  # N itself, or 2 N, or N + 1
                        (symbol,) = size.free_symbols
                        (root,) = sympy.solve(size - n, symbol) or [None]
                        self.sizes.setdefault(str(symbol), n if root is None else int(root))

    def run(self) -> Any:
        for equation in self.loss.where:
            left = equation.lhs
            if isinstance(left, Indexed):
                name = str(left.base.label)
                ranges = []
                for axis, index in enumerate(left.indices):
                    if isinstance(index, Idx) and index.upper is not None:
                        ranges.append(range(self.integer(index.lower, {}), self.integer(index.upper, {}) + 1))
                    else:
                        ranges.append(range(self.integer(left.base.shape[axis], {})))
                entries = {}
                for at in itertools.product(*ranges):
                    entries[at] = self.value(equation.rhs, dict(zip(left.indices, at, strict=True)))
                self.arrays[name] = entries
            else:
                self.arrays[str(left)] = self.value(equation.rhs, {})
        return self.value(sympy.sympify(self.loss.value), {})

    def integer(self, e: Any, scope: dict[Any, int]) -> int:
        result = self.value(e, scope)
        assert int(result) == result, e
        return int(result)

    def value(self, e: Any, scope: dict[Any, int]) -> Any:
        if e in scope:
            return scope[e]
        if isinstance(e, sympy.Integer):
            return int(e)
        if isinstance(e, sympy.Rational):
            return self.number(int(e.p)) / self.number(int(e.q))
        if isinstance(e, sympy.Float | sympy.NumberSymbol):
            return self.number(mpmath.mpf(str(e.evalf(60))) if self.number is mpmath.mpf else float(e))
        if isinstance(e, Idx) and isinstance(e.label, sympy.Integer):
            return int(e.label)
        if isinstance(e, Indexed):
            at = tuple(self.integer(a, scope) for a in e.indices)
            entries = self.arrays[str(e.base.label)]
            if isinstance(entries, np.ndarray):
                if any(a < 0 for a in at):
                    raise IndexError(f"{e} at {at}")
                entry = entries[at]
                return int(entry) if isinstance(entry, np.integer) else entry
            return entries[at]
        if isinstance(e, sympy.Symbol):
            name = str(e)
            if name in self.arrays:
                return self.arrays[name]
            if name in self.sizes:
                return self.sizes[name]
            same = [v for s, v in scope.items() if str(s) == name]
            if same:
                return same[0]
            raise KeyError(name)
        if isinstance(e, sympy.Sum):
            return self.total(e.function, list(e.limits), scope)
        if isinstance(e, sympy.Add):
            result = self.value(e.args[0], scope)
            for a in e.args[1:]:
                result = result + self.value(a, scope)
            return result
        if isinstance(e, sympy.Mul):
            result = self.value(e.args[0], scope)
            for a in e.args[1:]:
                result = result * self.value(a, scope)
            return result
        if isinstance(e, sympy.Pow):
            base, p = self.value(e.base, scope), self.value(e.exp, scope)
            if isinstance(base, int) and not isinstance(p, Dual) and p < 0:
                base = self.number(base)
            return base**p
        if isinstance(e, sympy.exp):
            return self.apply("exp", self.value(e.args[0], scope))
        if isinstance(e, sympy.Max):
            return greatest(*(self.value(a, scope) for a in e.args))
        if isinstance(e, sympy.Min):
            return least(*(self.value(a, scope) for a in e.args))
        if isinstance(e, sympy.Piecewise):
            for branch, condition in e.args:
                if self.holds(condition, scope):
                    return self.value(branch, scope)
            raise ValueError(f"no branch of {e} holds")
        if isinstance(e, sympy.KroneckerDelta):
            return int(self.integer(e.args[0], scope) == self.integer(e.args[1], scope))
        return self.apply(type(e).__name__, self.value(e.args[0], scope))

    def total(self, body: Any, limits: list[Any], scope: dict[Any, int]) -> Any:
        if not limits:
            return self.value(body, scope)
        index, lo, hi = limits[-1]
        result: Any = 0
        for at in range(self.integer(lo, scope), self.integer(hi, scope) + 1):
            result = result + self.total(body, limits[:-1], {**scope, index: at})
        return result

    def holds(self, c: Any, scope: dict[Any, int]) -> bool:
        if c in (sympy.true, sympy.false):
            return bool(c)
        if isinstance(c, sympy.And):
            return all(self.holds(a, scope) for a in c.args)
        if isinstance(c, sympy.Or):
            return any(self.holds(a, scope) for a in c.args)
        if isinstance(c, sympy.Not):
            return not self.holds(c.args[0], scope)
        a, b = (plain(self.value(s, scope)) for s in c.args)
        return {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[c.rel_op]

    def apply(self, name: str, a: Any) -> Any:
        f, derivative = FUNCTIONS[name]
        if isinstance(a, Dual):
            return a.through(f, derivative)
        if self.number is mpmath.mpf:
            return f(a) if name in ("Abs", "sign") else getattr(mpmath, name)(a)
        return f(a)


def _arguments(loss: Any, positional: tuple[Any, ...], hyper: dict[str, Any], number: Any) -> dict[str, Any]:
    values = {str(s): v for s, v in loss.defaults.items()} | hyper
    for thing, given in zip((*loss.wrt, *loss.data), positional, strict=True):
        name = str(getattr(thing, "label", thing))
        if np.issubdtype(np.asarray(given).dtype, np.integer) or number in (float, Fraction):
            values[name] = np.asarray(given) if np.ndim(given) else given
        elif np.ndim(given):
            values[name] = np.array([number(float(a)) for a in np.ravel(given)], dtype=object).reshape(np.shape(given))
        else:
            values[name] = number(float(given))
    return values


def value(loss: Any, *positional: Any, **hyper: Any) -> float:
    """The loss, by nested loops over floats."""
    return float(Blackboard(loss, _arguments(loss, positional, hyper, float), float).run())


def precise_value(loss: Any, *positional: Any, digits: int = 50, **hyper: Any) -> Any:
    """The loss, by nested loops over numbers of so many digits."""
    with mpmath.workdps(digits):
        return Blackboard(loss, _arguments(loss, positional, hyper, mpmath.mpf), mpmath.mpf).run()


def gradient(loss: Any, *positional: Any, **hyper: Any) -> list[np.ndarray]:
    """The gradient for each parameter in turn, by nested loops over dual numbers."""
    values = _arguments(loss, positional, hyper, float)
    shapes = [np.shape(positional[n]) for n in range(len(loss.wrt))]
    counts = [math.prod(shape) for shape in shapes]
    at = 0
    for thing, given, shape, count in zip(loss.wrt, positional, shapes, counts, strict=False):
        units = np.zeros((count, sum(counts)))
        units[np.arange(count), at + np.arange(count)] = 1.0
        duals = np.empty(count, dtype=object)
        for n, a in enumerate(np.ravel(given)):
            duals[n] = Dual(float(a), units[n])
        values[str(getattr(thing, "label", thing))] = duals.reshape(shape) if shape else duals[0]
        at += count
    result = Blackboard(loss, values, float).run()
    slope = result.slope if isinstance(result, Dual) else np.zeros(sum(counts))
    pieces = np.split(slope, np.cumsum(counts)[:-1])
    return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
