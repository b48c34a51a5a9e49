"""The gate before a loss is written: its generated code against its statement, and against its own differences.

The statement is evaluated word by word (:mod:`derive.evaluate`), its gradient taken by dual numbers; neither knows
anything of the rules that made the code. Where the loss is piecewise rational, the code runs on fractions, and has to
give the very same fractions, at ties too. Where it is a polynomial near the point, differences of the code's own loss
are exact as well. Everything else is compared in float64 with 50 digits.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType
from typing import Any, Final

import numpy as np

from derive.arithmetic import EXACT, FLOAT, Arithmetic, NotRational, digits
from derive.errors import VerificationError
from derive.evaluate import decisions, evaluate_loss, reference_gradient
from derive.gradient_check import check_gradient
from derive.points import Draw, Point, draw, positive, scattered, tied
from derive.statement import Form, Loss, read

__all__ = ["CodeCheck", "verify_code"]

DIGITS: Final = 50
#: Rounding errors of the code in float64 and float32, in units of the format, relative to the largest element.
_UNITS: Final = 2000
_OUTSIDE: Final = (ValueError, ZeroDivisionError, OverflowError, ArithmeticError)


@dataclass
class CodeCheck:
    """What was compared; as words, for the log of a build."""

    exact_points: int = 0
    numeric_points: int = 0
    exact_differences: int = 0
    largest_error: float = 0.0

    def __str__(self) -> str:
        parts = []
        if self.exact_points:
            parts.append(f"code exact at {self.exact_points} points")
        if self.exact_differences:
            parts.append(f"{self.exact_differences} elements equal to exact differences")
        if self.numeric_points:
            parts.append(f"float64 within {self.largest_error:.0e} of {DIGITS} digits at {self.numeric_points} points")
        return ", ".join([*parts, "numerical gradient agrees"])


def verify_code(loss: Loss, module: ModuleType) -> str:
    """Compare the generated module of a loss with its statement.

    Returns
    -------
    str
        What was compared, in words.

    Raises
    ------
    VerificationError
        Naming the loss, the function, the element and both values.
    """
    return str(_Gate(loss, module).run())


class _Gate:
    def __init__(self, loss: Loss, module: ModuleType) -> None:
        self.loss = loss
        self.form: Form = read(loss)
        self.module = module
        self.names = [p.name for p in self.form.parameters]
        self.found = CodeCheck()
        self.rational = False

    def run(self) -> CodeCheck:
        for entries, seed, larger in ((scattered, 0, 0), (tied, 0, 0), (tied, 1, 1), (scattered, 1, 1)):
            point = self.inside(entries, seed, larger)
            if point is None:
                continue
            if self.exactly(point, differences=(entries, seed) == (scattered, 0)):
                continue
            if seed == 0 or self.rational:
                self.numerically(point.rounded(), at_ties=entries is tied)
        if not self.found.exact_points + self.found.numeric_points:
            raise VerificationError(f"loss '{self.form.name}': no point was found at which it can be evaluated")
        self.against_differences()
        return self.found

    def inside(self, entries: Draw, seed: int, larger: int) -> Point | None:
        """A point in the domain of the loss."""
        for choice in (entries, positive) if entries is scattered else (entries,):
            point = draw(self.form, choice, seed, larger=larger)
            try:
                evaluate_loss(self.form, point.values, arithmetic=digits(20))
            except _OUTSIDE:
                continue
            return point
        return None

    # -- exactly -------------------------------------------------------------------------------------------------------

    def exactly(self, point: Point, *, differences: bool) -> bool:
        """Whether the loss is rational at this point; if it is, code and statement must be equal."""
        try:
            value = evaluate_loss(self.form, point.values, arithmetic=EXACT)
            gradients = self.reference(point, EXACT)
        except NotRational:
            return False
        self.rational = True
        try:
            results = self.results(point)
            if differences:
                self.exact_differences(point, gradients)
        except TypeError:
            return False
        rounded = False
        for name, found, element, reference in _pairs(results, value, gradients):
            if not isinstance(found, numbers.Rational):
                # Python's own int / int is a float: the code leaves the rationals, and is compared in float64 instead.
                rounded = True
            elif found != reference:
                raise self.wrong(name, element, found, reference, "in exact arithmetic")
        self.found.exact_points += not rounded
        return not rounded

    def exact_differences(self, point: Point, gradients: dict[str, dict[tuple[int, ...], Any]]) -> None:
        """Five-point differences of the code's loss: exact where it is a polynomial of degree up to 4."""
        step = Fraction(1, 10**6)
        here = decisions(self.form, point.values, arithmetic=EXACT)
        for name in self.names:
            for index, slope in list(gradients[name].items())[:12]:
                centre = point.arguments[name][index]
                moved = {k: point.with_entry(name, index, centre + k * step) for k in (-2, -1, 1, 2, 3)}
                if any(decisions(self.form, moved[k].values, arithmetic=EXACT) != here for k in (-2, 3)):
                    continue
                values = {k: p.call(self.module, "loss") for k, p in moved.items()}
                values[0] = point.call(self.module, "loss")
                if not all(isinstance(v, numbers.Rational) for v in values.values()):
                    return
                fifth = values[3] - 5 * values[2] + 10 * values[1] - 10 * values[0] + 5 * values[-1] - values[-2]
                if fifth != 0:
                    continue
                difference = (values[-2] - 8 * values[-1] + 8 * values[1] - values[2]) / (12 * step)
                if difference != slope:
                    raise self.wrong("grad", (name, index), slope, difference, "by exact differences of loss")
                self.found.exact_differences += 1

    # -- numerically ------------------------------------------------------------------------------------------------------

    def numerically(self, point: Point, *, at_ties: bool) -> None:
        many = digits(DIGITS)
        if at_ties and not self.same_branches(point):
            return
        value = evaluate_loss(self.form, point.values, arithmetic=many)
        gradients = self.reference(point, many)
        for dtype in (np.float64, np.float32):
            eps = float(np.finfo(dtype).eps)
            if dtype == np.float32 and at_ties:
                continue
            low = point.rounded(dtype) if dtype == np.float32 else point
            if dtype == np.float32:
                value = evaluate_loss(self.form, low.values, arithmetic=many)
                gradients = self.reference(low, many)
            size = {
                "loss": abs(value) + max((abs(x) for g in gradients.values() for x in g.values()), default=0),
                **{n: max((abs(x) for x in g.values()), default=0) for n, g in gradients.items()},
            }
            for name, found, element, reference in _pairs(self.results(low), value, gradients):
                error = abs(found - reference) / max(size[element[0] if element else "loss"], 1)
                if not error <= _UNITS * eps:
                    raise self.wrong(name, element, found, float(reference), f"in {np.dtype(dtype).name}")
                if dtype == np.float64:
                    self.found.largest_error = max(self.found.largest_error, float(error))
        self.found.numeric_points += 1

    def same_branches(self, point: Point) -> bool:
        """Whether ties are ties in float64 as well, so that code in float64 can be held to what happens there."""
        try:
            return decisions(self.form, point.values, arithmetic=FLOAT) == decisions(
                self.form, point.values, arithmetic=digits(DIGITS)
            )
        except _OUTSIDE:
            return False

    def against_differences(self) -> None:
        point = self.inside(scattered, 2, 1) or self.inside(scattered, 0, 0)
        if point is None:
            return
        low = point.rounded()
        positions = tuple(range(len(self.names)))
        result = check_gradient(
            self.module.loss,
            self.module.grad,
            tuple(low.arguments.values()),
            low.hyperparameters,
            wrt=positions if len(positions) > 1 else 0,
            names=list(low.arguments),
            max_elements=24,
        )
        if not result:
            raise VerificationError(f"loss '{self.form.name}': the generated gradient is wrong\n{result}")

    # -- both -------------------------------------------------------------------------------------------------------------

    def reference(self, point: Point, arithmetic: Arithmetic) -> dict[str, dict[tuple[int, ...], Any]]:
        return {n: reference_gradient(self.form, point.values, n, arithmetic=arithmetic) for n in self.names}

    def results(self, point: Point) -> list[tuple[str, Any, dict[str, Any]]]:
        """(function, loss or None, gradients by name) for each generated function."""
        value, gradient = point.call(self.module, "loss_and_grad")
        return [
            ("loss", point.call(self.module, "loss"), {}),
            ("grad", None, self.by_name(point.call(self.module, "grad"))),
            ("loss_and_grad", value, self.by_name(gradient)),
        ]

    def by_name(self, gradient: Any) -> dict[str, Any]:
        parts = tuple(gradient) if isinstance(gradient, tuple) else (gradient,)
        return dict(zip(self.names, parts, strict=True))

    def wrong(self, function: str, element: Any, found: Any, expected: Any, how: str) -> VerificationError:
        place = ""
        if element:
            name, index = element
            place = f" of {name}[{', '.join(map(str, index))}]" if index else f" of {name}"
        return VerificationError(
            f"loss '{self.form.name}': generated {function}{place} gives {found}, but the statement gives {expected} ({how})"
        )


def _pairs(
    results: list[tuple[str, Any, dict[str, Any]]], value: Any, gradients: dict[str, dict[tuple[int, ...], Any]]
) -> Iterator[tuple[str, Any, Any, Any]]:
    """(function, found, element, reference) for every number the generated functions return."""
    for function, found, by_name in results:
        if found is not None:
            yield function, found, None, value
        for name, array in by_name.items():
            entries = np.asarray(array)
            shape = tuple(max(axis) + 1 for axis in zip(*gradients[name], strict=True))
            if entries.shape != shape:
                raise VerificationError(f"generated {function} has shape {entries.shape} for {name}, not {shape}")
            for index, reference in gradients[name].items():
                yield function, entries[index], (name, index), reference
