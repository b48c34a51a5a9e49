"""A rule verified: its claims proved, its printed code compared with its equations.

The equations are evaluated as they stand, number by number, with 30 digits; ``update`` and ``step`` of the printed
module run on the same numbers. A few steps from the start are made, so that states are such as occur.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import mpmath
import numpy as np
from sympy import lambdify

from derive.claims import Proof
from derive.errors import VerificationError
from derive.rule import UpdateRule, g, new, t, x

__all__ = ["RuleVerification", "compare_code", "verify_rule"]

STEPS = 4
TOLERANCE = 1e-12
#: Parameters and gradients of both signs and several sizes, all of them floats that hold their decimals exactly.
PARAMETERS = (0.75, -1.5, 2.0, -0.0625)
GRADIENTS = (
    (0.5, -1.25, 3.0, 0.015625),
    (-0.25, -2.0, 1.5, 0.0625),
    (1.0, 0.75, -0.5, -0.03125),
    (0.125, 4.0, -2.5, 0.5),
)


@dataclass(frozen=True)
class RuleVerification:
    """What was verified: the claims with their proofs, and how far code and equations are apart at most."""

    rule: UpdateRule
    proofs: tuple[Proof, ...]
    largest_error: float

    def __str__(self) -> str:
        claims = f"{len(self.proofs)} claim{'s' if len(self.proofs) != 1 else ''} proved; " if self.proofs else ""
        return f"{self.rule.name}: {claims}update and step agree with the equations to {self.largest_error:.0e}"


def verify_rule(rule: UpdateRule, module: ModuleType | None = None) -> RuleVerification:
    """Prove the claims of a rule and compare its printed module (compiled here, if not given) with its equations.

    Raises
    ------
    VerificationError
        Naming the claim, or the function and the quantity.
    """
    from derive.render import compile

    proofs = rule.proofs
    return RuleVerification(rule, proofs, compare_code(rule, module or compile(rule)))


def compare_code(rule: UpdateRule, module: Any) -> float:
    """Largest relative error of ``update`` and ``step`` against the equations, VerificationError if it is not small."""
    letters = [s.symbol for s in rule.state]
    hyper = {h.name: 0.5 if h.default is None else h.default for h in rule.hyperparameters}
    known = [x, g, t, *letters, *(h.symbol for h in rule.hyperparameters)]
    computed = []
    for equation in rule.equations:
        computed.append(lambdify(known.copy(), equation.rhs, modules="mpmath"))
        known.append(equation.lhs)

    def evaluate(*values: Any) -> list[Any]:
        """The new values of x and the state from old ones, equation by equation."""
        given = list(values)
        for function in computed:
            given.append(function(*given))
        return [given[known.index(new(q))] for q in (x, *letters)]

    params = np.array(PARAMETERS)
    state = module.init(params)
    in_place, its_state = params.copy(), module.init(params)
    largest = 0.0
    with mpmath.workdps(30), np.errstate(all="ignore"):
        kept = [[mpmath.mpf(0) + _start(s.start, p) for s in rule.state] for p in PARAMETERS]
        points = [mpmath.mpf(p) for p in PARAMETERS]
        # Elements whose equations still have a value: outside their domain there is nothing to compare with.
        left = [True] * len(PARAMETERS)
        constants = [mpmath.mpf(hyper[h.name]) for h in rule.hyperparameters]
        for number, row in enumerate(GRADIENTS, start=1):
            grad = np.array(row)
            params, state = module.update(params, grad, state, **hyper)
            module.step(in_place, grad, its_state, **hyper)
            for n, slope in enumerate(row):
                if not left[n]:
                    continue
                try:
                    after = evaluate(points[n], mpmath.mpf(slope), number, *kept[n], *constants)
                    left[n] = all(
                        isinstance(v, mpmath.mpf) and mpmath.isfinite(v) for v in map(mpmath.mpmathify, after)
                    )
                except (ArithmeticError, ValueError):
                    left[n] = False
                if not left[n]:
                    continue
                points[n], kept[n] = after[0], after[1:]
                for function, array, kept_arrays in (("update", params, state), ("step", in_place, its_state)):
                    got = [array[n], *(getattr(kept_arrays, s.name)[n] for s in rule.state)]
                    for name, value, expected in zip(
                        ["params", *(s.name for s in rule.state)], got, after, strict=True
                    ):
                        error = _error(float(value), expected)
                        largest = max(largest, error)
                        if error > TOLERANCE:
                            raise VerificationError(
                                f"{rule.name}: {function} makes {name} {float(value)!r} at step {number}, where the "
                                f"equations make it {mpmath.nstr(expected, 17)}"
                            )
    return largest


def _start(start: Any, point: float) -> Any:
    return mpmath.mpf(point) if start == x else mpmath.mpf(str(float(start)))


def _error(value: float, expected: Any) -> float:
    if not np.isfinite(value):
        return float("inf")
    return float(abs(value - expected) / max(abs(expected), mpmath.mpf("1e-6")))
