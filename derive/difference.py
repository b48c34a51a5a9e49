"""Difference quotients from the limit definition of the derivative, their two errors, and the step that balances them.

The derivative is the limit of (f(x + h) - f(x))/h. A computer stops before the limit, which costs a truncation error
that shrinks with h (Taylor's theorem), and works with rounded values of f, which costs an error that grows as h
shrinks. The best h makes their sum smallest. SymPy does all of it here; the page generated/numerical.py prints the
quotients, errors and steps found.

>>> CENTRAL.truncation, CENTRAL.rounding, CENTRAL.best_step**3
(f'''*h**2/6, F*eps/h, 3*F*eps/f''')
>>> f"{CENTRAL.default_step:.0e}", f"{FORWARD.default_step:.0e}"
('1e-05', '1e-08')
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, NamedTuple

from sympy import (
    Add,
    Derivative,
    Expr,
    Function,
    Integer,
    Limit,
    Mul,
    Symbol,
    cancel,
    diff,
    exp,
    expand,
    factorial,
    fraction,
    limit,
    powsimp,
    simplify,
    solve,
    symbols,
    together,
)
from sympy.core.function import AppliedUndef

from derive.errors import VerificationError
from derive.files import SHARED, banner
from derive.numerical_guards import _value, _working_copy

__all__ = ["CENTRAL", "FORWARD", "Difference", "NumericalPage", "Step", "numerical_page", "page", "verify"]

x = Symbol("x", real=True)
h, eps, F = symbols("h eps F", positive=True)
f = Function("f")
#: Sizes of the second, third, ... derivative at x, under the names they have on a blackboard.
PRIMES: Final = {order: Symbol("f" + "'" * order, positive=True) for order in range(1, 6)}


class Step(NamedTuple):
    """``before`` becomes ``after`` by ``rule``."""

    rule: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Difference:
    """A difference quotient and what is known of it.

    Attributes
    ----------
    quotient : Expr
        In terms of f at shifted points and of h.
    truncation : Expr
        Leading term of quotient minus derivative, as a size: f', f'', ... stand for absolute values at x.
    rounding : Expr
        Largest error of the quotient when each value of f is off by at most eps*F, F being the size of f near x.
    best_step : Expr
        The h that makes the sum of the two smallest.
    steps : tuple of Step
        How they were found.
    """

    name: str
    quotient: Expr
    truncation: Expr
    rounding: Expr
    best_step: Expr
    steps: tuple[Step, ...]

    @property
    def values(self) -> tuple[AppliedUndef, ...]:
        """The values of f it uses, from the right to the left."""
        return tuple(sorted(self.quotient.atoms(AppliedUndef), key=lambda v: -_shift(v).coeff(h)))

    @property
    def smallest_error(self) -> Expr:
        """The sum of the two errors at the best step."""
        total = (self.truncation + self.rounding).subs(h, self.best_step)
        return powsimp(cancel(together(total)), force=True)

    @property
    def float64_step(self) -> float:
        """The best step in float64 for a function whose value and derivatives have size 1."""
        sizes = {F: 1, eps: sys.float_info.epsilon, **dict.fromkeys(PRIMES.values(), 1)}
        return float(self.best_step.subs(sizes))

    @property
    def default_step(self) -> float:
        """The power of ten nearest to it: sizes are never exactly 1, so more digits would be a pretence."""
        return float(10.0 ** round(math.log10(self.float64_step)))


def _shift(value: AppliedUndef) -> Expr:
    """How far from x a value of f is taken."""
    return value.args[0] - x


def _taylor(expr: Expr, order: int) -> Expr:
    """Each f(x + d) replaced by its Taylor polynomial in d."""
    polynomials = {
        value: Add(*(diff(f(x), x, n) * _shift(value) ** n / factorial(n) for n in range(order + 1)))
        for value in expr.atoms(AppliedUndef)
    }
    return Add(*(term for term in Add.make_args(expr.xreplace(polynomials).doit().expand())))


def _sized(expr: Expr) -> Expr:
    """Derivatives at x written as their sizes."""
    return expr.xreplace({diff(f(x), x, n): symbol for n, symbol in PRIMES.items()})


def _difference(name: str, quotient: Expr, found_by: Sequence[Step]) -> Difference:
    order = 4
    expanded = _taylor(quotient, order)
    error = (expanded - diff(f(x), x)).expand()
    leading = min(Add.make_args(error), key=lambda term: term.as_coeff_exponent(h)[1])
    truncation = _sized(leading)
    weights = [quotient.expand().coeff(value) for value in quotient.atoms(AppliedUndef)]
    rounding = Add(*(abs(weight) for weight in weights)) * eps * F
    slope = diff(truncation + rounding, h)
    # As simple as it is, and checked with the other steps.
    (best,) = (root for root in solve(slope, h, simplify=False, check=False) if root.is_positive)
    best = powsimp(best, force=True)
    steps = (
        *found_by,
        Step("Taylor's theorem", quotient, expanded),
        Step("leading term of the truncation error", error, leading),
        Step("rounding error of the values, at worst", quotient, rounding),
        Step("where the sum of both errors is smallest, its slope is 0", slope, best),
    )
    return Difference(name, quotient, truncation, rounding, best, steps)


def _forward() -> Difference:
    definition = Limit((f(x + h) - f(x)) / h, h, 0)
    quotient = definition.args[0]
    found_by = (
        Step("definition of the derivative", Derivative(f(x), x), definition),
        Step("stop before the limit", definition, quotient),
    )
    return _difference("forward", quotient, found_by)


def _central() -> Difference:
    right = FORWARD.quotient
    left = right.subs(h, -h)
    both = (right + left) / 2
    quotient = Mul(1 / (2 * h), Add(f(x + h), -f(x - h)), evaluate=False)
    definition = Limit(both, h, 0)
    found_by = (
        Step("definition of the derivative, the mean of its limits from both sides", Derivative(f(x), x), definition),
        Step("stop before the limit", definition, both),
        Step("common denominator; f(x) cancels", both, quotient),
    )
    return _difference("central", quotient, found_by)


FORWARD: Final = _forward()
CENTRAL: Final = _central()


# ------------------------------------------------------------------------------------------------------- verification

_PROBES: Final = (x**3 - 2 * x, x**4 + x**2, exp(x))


def verify(difference: Difference) -> None:
    """Check every step on functions whose derivatives are known; a step that fails is named.

    Raises
    ------
    VerificationError
    """
    for step in difference.steps:
        if not _CHECKS[step.rule](step, difference):
            rule = f"numerical gradient, {difference.name} difference, rule '{step.rule}'"
            raise VerificationError(f"{rule}: {step.before} is not {step.after}")


def _with(expr: Any, probe: Expr) -> Any:
    return expr.replace(f, lambda at: probe.subs(x, at)).doit()


def _same_limit(step: Step, difference: Difference) -> bool:
    return all(simplify(_with(step.before, probe) - _with(step.after, probe)) == 0 for probe in _PROBES)


def _stops_before(step: Step, difference: Difference) -> bool:
    return bool(step.before.args[0] == step.after)


def _same_value(step: Step, difference: Difference) -> bool:
    return bool(simplify(step.before - step.after) == 0)


def _exact_for_polynomials(step: Step, difference: Difference) -> bool:
    """A Taylor polynomial of degree 4 is exact for polynomials of degree 4."""
    return all(expand(_with(step.before - step.after, probe)) == 0 for probe in _PROBES[:2])


def _leads(step: Step, difference: Difference) -> bool:
    """Error over leading term goes to 1, with the error taken from the quotient itself, not from its expansion."""
    error = _with(difference.quotient, exp(x)) - exp(x)
    return bool(limit((error / _with(step.after, exp(x))).subs(x, 0), h, 0) == 1)


def _worst_of_all_signs(step: Step, difference: Difference) -> bool:
    values = difference.values
    changes = (
        step.before.xreplace({v: v + s * eps * F for v, s in zip(values, signs, strict=True)}) - step.before
        for signs in product((-1, 1), repeat=len(values))
    )
    return bool(max(simplify(change / (eps * F / h)) for change in changes) == simplify(step.after / (eps * F / h)))


def _is_smallest(step: Step, difference: Difference) -> bool:
    total = difference.truncation + difference.rounding
    convex = diff(total, h, 2).is_positive
    return bool(simplify(diff(total, h).subs(h, step.after)) == 0 and convex)


_CHECKS: Final[dict[str, Callable[[Step, Difference], bool]]] = {
    "definition of the derivative": _same_limit,
    "definition of the derivative, the mean of its limits from both sides": _same_limit,
    "stop before the limit": _stops_before,
    "common denominator; f(x) cancels": _same_value,
    "Taylor's theorem": _exact_for_polynomials,
    "leading term of the truncation error": _leads,
    "rounding error of the values, at worst": _worst_of_all_signs,
    "where the sum of both errors is smallest, its slope is 0": _is_smallest,
}


# --------------------------------------------------------------------------------------------------------------- page


@dataclass(frozen=True)
class FunctionPage:
    """Finished text for one function of the generated module."""

    name: str
    kind: str
    default_step: str
    quotient: str
    truncation: str
    rounding: str
    best_step: str
    float64_step: str
    smallest_error: str
    calls: str
    body: tuple[str, ...]


@dataclass(frozen=True)
class NumericalPage:
    """What the template of generated/numerical.py places."""

    banner: str
    exports: str
    functions: tuple[FunctionPage, ...]
    guards: tuple[str, ...]


_VALUE_NAMES: Final = {h: "ahead", Integer(0): "here", -h: "behind"}
_POINTS: Final = {h: "center + h", Integer(0): "center", -h: "center - h"}


def numerical_page(heading: str) -> NumericalPage:
    """The page of generated/numerical.py."""
    functions = (_function_page("gradient", CENTRAL), _function_page("forward_gradient", FORWARD))
    exports = ", ".join(sorted(f'"{f.name}"' for f in functions))
    guards = tuple(inspect.getsource(f).rstrip("\n") for f in (_working_copy, _value))
    return NumericalPage(heading, exports, functions, guards)


def page() -> dict[str, str]:
    """The path and text of generated/numerical.py."""
    from derive.render import place

    return {"numerical.py": place("numerical.py.jinja", numerical_page(banner(SHARED)))}


def _function_page(name: str, difference: Difference) -> FunctionPage:
    shifts = [_shift(value) for value in difference.values]
    before, loop = [], ["center = point[index]"]
    for shift in shifts:
        if shift == 0:
            before.append(f"{_VALUE_NAMES[shift]} = _value(f, point)")
        else:
            loop.append(f"point[index] = {_POINTS[shift]}")
            loop.append(f"{_VALUE_NAMES[shift]} = _value(f, point)")
    loop += ["point[index] = center", f"slope[index] = {_spelled(difference)}"]
    per_element = len(shifts) - len(before)
    calls = f"{per_element} per element of x" + (f", and {len(before)} more" if before else "")
    at_size_one = {F: 1, eps: sys.float_info.epsilon, **dict.fromkeys(PRIMES.values(), 1)}
    return FunctionPage(
        name=name,
        kind=difference.name,
        default_step=_short(difference.default_step),
        quotient=_on_the_blackboard(difference),
        truncation=str(difference.truncation),
        rounding=str(difference.rounding),
        best_step=_as_root(difference.best_step),
        float64_step=f"{difference.float64_step:.1e}",
        smallest_error=f"{float(difference.smallest_error.subs(at_size_one)):.0e}",
        calls=calls,
        body=(
            "point = _working_copy(x, h)",
            "slope = np.empty_like(point)",
            *before,
            "for index in np.ndindex(point.shape):",
            *(f"    {line}" for line in loop),
            "return slope",
        ),
    )


def _fraction(difference: Difference, names: Mapping[Expr, str]) -> str:
    """The quotient as ``(a - b) / (2 * h)``, values from the right to the left under the names given."""
    numerator, denominator = fraction(together(difference.quotient))
    terms = ""
    for value in difference.values:
        coefficient = numerator.expand().coeff(value)
        size = "" if abs(coefficient) == 1 else f"{abs(coefficient)} * "
        joint = (" - " if coefficient < 0 else " + ") if terms else ("-" if coefficient < 0 else "")
        terms += joint + size + names[_shift(value)]
    below = " * ".join(str(factor) for factor in denominator.as_ordered_factors())
    return f"({terms}) / ({below})" if denominator.is_Mul else f"({terms}) / {below}"


def _spelled(difference: Difference) -> str:
    return _fraction(difference, _VALUE_NAMES)


def _on_the_blackboard(difference: Difference) -> str:
    return _fraction(difference, {h: "f(x + h)", Integer(0): "f(x)", -h: "f(x - h)"})


def _as_root(expr: Expr) -> str:
    """A positive number such as 2*sqrt(a) as one root: sqrt(4*a)."""
    for degree in range(2, 6):
        inside = powsimp(expr**degree, force=True)
        if inside.is_rational_function():
            return f"sqrt({inside})" if degree == 2 else f"({inside})**(1/{degree})"
    return str(expr)


def _short(number: float) -> str:
    """1e-05 as people write it: 1e-5."""
    mantissa, exponent = f"{number:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"
