"""Kinds of number in which a statement can be evaluated: floats, fractions, many digits, intervals, dual numbers.

The evaluator (:mod:`derive.evaluate`) is written once; what ``1/3`` or ``exp`` means is decided here. A dual number
``a + b*eps`` with ``eps**2 = 0`` carries a derivative along with a value, so that derivatives come out exact to the
last digit of the arithmetic underneath, with no step size.

>>> EXACT.number(0.25), EXACT.reciprocal(3)
(Fraction(1, 4), Fraction(1, 3))
>>> x = Dual(3, 1)
>>> (x * x + 2 * x).slope
8
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from numbers import Integral
from typing import Any, Final

import mpmath
from mpmath.ctx_iv import MPIntervalContext
from sympy import Float, NumberSymbol, Rational
from sympy import Integer as SymPyInteger

__all__ = ["EXACT", "FLOAT", "Arithmetic", "Dual", "NotRational", "Undecided", "digits", "interval", "value_of"]


class NotRational(ArithmeticError):
    """Exact arithmetic met a number that is no fraction, such as exp(1)."""


class Undecided(ArithmeticError):
    """Interval arithmetic cannot tell on which side of a branch point an interval lies."""


class Dual:
    """``value + slope*eps`` with ``eps**2 = 0``.

    Derivatives of derivatives use one eps each: `level` tells them apart, and a dual number is a constant for every
    eps of a higher level.
    """

    __slots__ = ("level", "slope", "value")

    def __init__(self, value: Any, slope: Any, level: int = 0) -> None:
        self.value = value
        self.slope = slope
        self.level = level

    def __repr__(self) -> str:
        return f"Dual({self.value!r}, {self.slope!r}, level={self.level})"

    def __add__(self, other: Any) -> Any:
        a, b, level = _aligned(self, other)
        return Dual(a.value + b.value, a.slope + b.slope, level)

    def __mul__(self, other: Any) -> Any:
        a, b, level = _aligned(self, other)
        return Dual(a.value * b.value, a.slope * b.value + a.value * b.slope, level)

    def __pow__(self, exponent: int) -> Any:
        if exponent == 0:
            return 1
        return Dual(self.value**exponent, exponent * self.value ** (exponent - 1) * self.slope, self.level)

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.slope, self.level)

    def __sub__(self, other: Any) -> Any:
        return self + (-other)

    def __rsub__(self, other: Any) -> Any:
        return (-self) + other

    __radd__ = __add__
    __rmul__ = __mul__


def _aligned(a: Any, b: Any) -> tuple[Dual, Dual, int]:
    """Both numbers as duals of the higher level of the two; the lower one is a constant there."""
    level = max(x.level for x in (a, b) if isinstance(x, Dual))
    first, second = (x if isinstance(x, Dual) and x.level == level else Dual(x, 0, level) for x in (a, b))
    return first, second, level


def value_of(x: Any) -> Any:
    """The number without its derivatives: what comparisons look at."""
    while isinstance(x, Dual):
        x = x.value
    return x


class Arithmetic:
    """Python floats: also the base class of the other kinds, and the place where their shared rules are.

    `number` brings a number of any kind into this arithmetic, `function` looks an elementary function up by name, and
    the rest is written in terms of these two.
    """

    name = "float"

    def number(self, x: Any) -> Any:
        return x if isinstance(x, Dual) else float(x)

    def function(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(math, name)
        return function

    def reciprocal(self, x: Any) -> Any:
        if isinstance(x, Dual):
            inverse = self.reciprocal(x.value)
            return Dual(inverse, -inverse * inverse * x.slope, x.level)
        return 1 / self.number(x)

    def sqrt(self, x: Any) -> Any:
        if isinstance(x, Dual):
            root = self.sqrt(x.value)
            return Dual(root, self.reciprocal(2 * root) * x.slope, x.level)
        return self.function("sqrt")(self.number(x))

    def power(self, base: Any, exponent: Any) -> Any:
        """base**exponent, the exponent not dual; integer powers stay exact and allow negative bases."""
        if self.is_point(exponent) and exponent == int(exponent):
            n = int(exponent)
            return base**n if n >= 0 else self.reciprocal(base) ** -n
        if isinstance(base, Dual):
            slope = exponent * self.power(base.value, exponent - 1) * base.slope
            return Dual(self.power(base.value, exponent), slope, base.level)
        return self.plain_power(base, exponent)

    def plain_power(self, base: Any, exponent: Any) -> Any:
        return math.pow(base, exponent)

    def is_point(self, x: Any) -> bool:
        """Whether x is one number, not an interval."""
        return True

    def compare(self, a: Any, b: Any) -> int:
        """The sign of a - b: -1, 0 or 1."""
        a, b = value_of(a), value_of(b)
        if math.isnan(a) or math.isnan(b):
            raise ArithmeticError("a comparison with nan has no answer")
        return int(a > b) - int(a < b)

    def constant(self, x: NumberSymbol) -> Any:
        return float(x)


class _Exact(Arithmetic):
    """Integers and fractions."""

    name = "exact"

    def number(self, x: Any) -> Any:
        if isinstance(x, Fraction | int | Dual):
            return x
        if isinstance(x, SymPyInteger | Integral):
            return int(x)
        if isinstance(x, Rational):
            return Fraction(int(x.p), int(x.q))
        number = float(x)
        return Fraction(number) if math.isfinite(number) else number

    def function(self, name: str) -> Callable[..., Any]:
        return {"exp": _exact_exp, "log": _exact_log, "sqrt": _exact_sqrt}.get(name, _exact_at_zero(name))

    def reciprocal(self, x: Any) -> Any:
        return super().reciprocal(x) if isinstance(x, Dual) else Fraction(1) / x

    def plain_power(self, base: Any, exponent: Any) -> Any:
        if base in (0, 1):
            return base
        raise NotRational(f"{base}**{exponent}")

    def constant(self, x: NumberSymbol) -> Any:
        raise NotRational(str(x))


def _exact_exp(x: Any) -> int:
    if x == 0:
        return 1
    raise NotRational(f"exp({x})")


def _exact_log(x: Any) -> int:
    if x == 1:
        return 0
    raise NotRational(f"log({x})")


def _exact_sqrt(x: Any) -> Any:
    if x < 0:
        raise ValueError(f"sqrt({x})")
    root = Fraction(math.isqrt(Fraction(x).numerator), math.isqrt(Fraction(x).denominator))
    if root * root == x:
        return root
    raise NotRational(f"sqrt({x})")


def _exact_at_zero(name: str) -> Callable[[Any], Any]:
    """An elementary function in exact arithmetic: known at 0 where its value there is 0 or 1, and nowhere else."""
    at_zero = {"cos": 1, "cosh": 1} | dict.fromkeys(("sin", "tan", "sinh", "tanh", "asin", "atan", "asinh", "erf"), 0)

    def function(x: Any) -> Any:
        if x == 0 and name in at_zero:
            return at_zero[name]
        if name in ("floor", "ceil"):
            return getattr(math, name)(x)
        raise NotRational(f"{name}({x})")

    return function


class _Digits(Arithmetic):
    """mpmath numbers with so many decimal digits, in a context of their own."""

    def __init__(self, count: int) -> None:
        self.name = f"{count} digits"
        self.context = mpmath.MPContext()
        self.context.dps = count

    def number(self, x: Any) -> Any:
        if isinstance(x, Dual):
            return x
        if isinstance(x, Fraction | Rational):
            return self.context.mpf(int(x.numerator)) / int(x.denominator)
        if isinstance(x, Integral):
            return self.context.mpf(int(x))
        if isinstance(x, Float):
            return self.context.mpf(float(x))
        return self.context.mpf(x if isinstance(x, mpmath.mpf | float) or hasattr(x, "_mpf_") else float(x))

    def function(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(self.context, name)

        def real(x: Any) -> Any:
            result = function(x)
            if not isinstance(result, self.context.mpf | int) or self.context.isinf(result) > self.context.isinf(x):
                raise ValueError(f"{name}({x}) is not a real number")
            return result

        return real

    def plain_power(self, base: Any, exponent: Any) -> Any:
        result = self.context.power(base, exponent)
        if not isinstance(result, self.context.mpf):
            raise ArithmeticError(f"{base}**{exponent} is not a real number")
        return result

    def sqrt(self, x: Any) -> Any:
        if value_of(x) < 0:
            raise ValueError("the square root of a negative number is not real")
        return super().sqrt(x)

    def constant(self, x: NumberSymbol) -> Any:
        return self.context.mpf(str(x.evalf(self.context.dps + 10)))


class _Interval(Arithmetic):
    """Intervals with outward rounding: what holds for the interval holds for every number in it."""

    def __init__(self, count: int) -> None:
        self.name = f"intervals of {count} digits"
        self.context = MPIntervalContext()
        self.context.dps = count

    def number(self, x: Any) -> Any:
        if isinstance(x, Dual | self.context.mpf):
            return x
        if isinstance(x, Fraction | Rational):
            return self.context.mpf(int(x.numerator)) / self.context.mpf(int(x.denominator))
        return self.context.mpf(int(x) if isinstance(x, Integral) else float(x))

    def between(self, low: Any, high: Any) -> Any:
        """The interval from low to high."""
        return self.context.mpf([low, high])

    def function(self, name: str) -> Callable[..., Any]:
        iv = self.context
        by_exp = {
            "tanh": lambda x: 1 - 2 / (iv.exp(2 * x) + 1),
            "sinh": lambda x: (iv.exp(x) - iv.exp(-x)) / 2,
            "cosh": lambda x: (iv.exp(x) + iv.exp(-x)) / 2,
        }
        if name in by_exp:
            return by_exp[name]
        if name in ("exp", "log", "sqrt", "sin", "cos", "tan"):
            plain: Callable[..., Any] = getattr(iv, name)
            return plain
        raise Undecided(f"no interval version of {name}")

    def plain_power(self, base: Any, exponent: Any) -> Any:
        return self.context.exp(exponent * self.context.log(base))

    def is_point(self, x: Any) -> bool:
        return not isinstance(x, self.context.mpf) or x.a == x.b

    def compare(self, a: Any, b: Any) -> int:
        if a is b:
            return 0
        if isinstance(a, int) and isinstance(b, int):
            return int(a > b) - int(a < b)
        difference = self.number(a) - self.number(b)
        if difference.a > 0:
            return 1
        if difference.b < 0:
            return -1
        if difference.a == 0 and difference.b == 0:
            return 0
        raise Undecided(f"the sign of a number between {difference.a} and {difference.b}")

    def constant(self, x: NumberSymbol) -> Any:
        low = self.context.mpf(str(x.evalf(self.context.dps + 10)))
        return low + self.context.mpf([-1, 1]) * self.context.eps


FLOAT: Final = Arithmetic()
EXACT: Final = _Exact()


@cache
def digits(count: int) -> Arithmetic:
    """Numbers with so many decimal digits."""
    return _Digits(count)


@cache
def interval(count: int) -> _Interval:
    """Intervals whose ends have so many decimal digits."""
    return _Interval(count)


def as_integer(x: Any) -> int:
    """x as the integer it is; anything else is refused."""
    try:
        return operator.index(x)
    except TypeError:
        x = value_of(x)
        if x == int(x):
            return int(x)
        raise
