"""The gate before a loss is written: its generated code against its statement, and against its own differences.

The statement is evaluated word by word (:mod:`derive.evaluate`), its gradient taken by dual numbers; neither knows
anything of the rules that made the code. Where the loss is piecewise rational, the code runs on fractions, and has to
give the very same fractions, at ties too. Where it is a polynomial near the point, differences of the code's own loss
are exact as well. Everything else is compared in float64 with 50 digits.
"""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType
from typing import Any, Final, TypeAlias

import numpy as np

from derive.arithmetic import EXACT, FLOAT, Arithmetic, NotRational, digits
from derive.errors import VerificationError
from derive.evaluate import decisions, evaluate_loss, reference_gradient
from derive.gradient_check import check_gradient
from derive.on_fractions import on_fractions
from derive.points import Draw, Point, draw, positive, scattered, tied
from derive.statement import Form, Loss, read

__all__ = ["CodeCheck", "Gate", "verify_code"]

DIGITS: Final = 50
#: Rounding errors of the code in float64 and float32, in units of the format, relative to the largest element.
_UNITS: Final = 2000
#: The value of a loss, and the derivative by each element of each parameter.
Reference: TypeAlias = tuple[Any, dict[str, dict[tuple[int, ...], Any]]]
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
    return str(Gate(loss).check(module))


class Gate:
    """All that is known of a loss from its statement alone, computed once; modules are held against it."""

    def __init__(self, loss: Loss) -> None:
        self.form: Form = read(loss)
        self.names = [p.name for p in self.form.parameters]
        self.points: list[tuple[Draw, Point]] = []
        ties = [(tied, seed, seed % 2) for seed in range(8)]
        for entries, seed, larger in ((scattered, 0, 0), (scattered, 1, 1), *ties[:2]):
            point = self._inside(entries, seed, larger)
            if point is not None:
                self.points.append((entries, point))
        # > against >= shows at a tie, and nowhere else.
        more = [point for point in (self._inside(*choice) for choice in ties[2:]) if point is not None]
        self.points += [(tied, point) for point in sorted(more, key=self._ties)[-1:]]
        if not self.points:
            raise VerificationError(f"loss '{self.form.name}': no point was found at which it can be evaluated")
        self._known: dict[Any, Any] = {}

    def check(self, module: ModuleType) -> CodeCheck:
        """Compare one module.

        Raises
        ------
        VerificationError
        """
        found = CodeCheck()
        for number, (entries, point) in enumerate(self.points):
            exact = self._reference(number, point, EXACT)
            if exact is None or not self._exactly(found, module, point, exact, differences=number == 0):
                self._numerically(found, module, number, at_ties=entries is tied)
        self._against_differences(module)
        return found

    def _ties(self, point: Point) -> int:
        taken = decisions(self.form, point.values, arithmetic=FLOAT)
        return sum(sum(d) > 1 if isinstance(d, tuple) else d == 0 for d in taken)

    def _inside(self, entries: Draw, seed: int, larger: int) -> Point | None:
        """A point in the domain of the loss."""
        for choice in (entries, positive) if entries is scattered else (entries,):
            point = draw(self.form, choice, seed, larger=larger)
            try:
                for name in self.names:
                    # The gradient may be without a value where the loss has one: the square root at 0.
                    reference_gradient(self.form, point.values, name, arithmetic=digits(20))
            except _OUTSIDE:
                continue
            return point
        return None

    def _reference(self, key: Any, point: Point, arithmetic: Arithmetic) -> Reference | None:
        """Value and gradients by the statement; None where they are not rational and should be."""
        key = (key, arithmetic)
        if key not in self._known:
            try:
                value = evaluate_loss(self.form, point.values, arithmetic=arithmetic)
                gradients = {
                    n: reference_gradient(self.form, point.values, n, arithmetic=arithmetic) for n in self.names
                }
                self._known[key] = (value, gradients)
            except NotRational:
                self._known[key] = None
        known: Reference | None = self._known[key]
        return known

    # -- exactly -----------------------------------------------------------------------------------

    def _exactly(
        self, found: CodeCheck, module: ModuleType, point: Point, reference: Reference, *, differences: bool
    ) -> bool:
        """Whether the code stays within the rationals; if it does, it must be equal to the statement."""
        with contextlib.suppress(OSError, TypeError):
            module = on_fractions(module)
        try:
            results = self._results(module, point)
            if differences:
                self._exact_differences(found, module, point, reference[1])
        except TypeError:
            return False
        rounded = False
        for function, number, element, expected in _pairs(results, *reference):
            if not isinstance(number, numbers.Rational):
                # The code leaves the rationals, and is compared in float64 instead.
                rounded = True
            elif number != expected:
                raise self._wrong(function, element, number, expected, "in exact arithmetic")
        found.exact_points += not rounded
        return not rounded

    def _exact_differences(
        self, found: CodeCheck, module: ModuleType, point: Point, gradients: dict[str, dict[tuple[int, ...], Any]]
    ) -> None:
        """Five-point differences of the code's loss: exact where it is a polynomial of degree up to 4."""
        step = Fraction(1, 10**6)
        here = decisions(self.form, point.values, arithmetic=EXACT)
        for name in self.names:
            for index, slope in list(gradients[name].items())[:12]:
                centre = point.arguments[name][index]
                moved = {k: point.with_entry(name, index, centre + k * step) for k in (-2, -1, 1, 2, 3)}
                if not self._same(name, index, moved, here):
                    continue
                values = {k: p.call(module, "loss") for k, p in moved.items()}
                values[0] = point.call(module, "loss")
                if not all(isinstance(v, numbers.Rational) for v in values.values()):
                    return
                fifth = values[3] - 5 * values[2] + 10 * values[1] - 10 * values[0] + 5 * values[-1] - values[-2]
                if fifth != 0:
                    continue
                difference = (values[-2] - 8 * values[-1] + 8 * values[1] - values[2]) / (12 * step)
                if difference != slope:
                    raise self._wrong("grad", (name, index), slope, difference, "by exact differences of loss")
                found.exact_differences += 1

    def _same(self, name: str, index: tuple[int, ...], moved: dict[int, Point], here: list[Any]) -> bool:
        """Whether no branch changes on the way."""
        key = ("same", name, index)
        if key not in self._known:
            ends = (decisions(self.form, moved[k].values, arithmetic=EXACT) for k in (-2, 3))
            self._known[key] = all(end == here for end in ends)
        return bool(self._known[key])

    # -- numerically -------------------------------------------------------------------------------

    def _numerically(self, found: CodeCheck, module: ModuleType, number: int, *, at_ties: bool) -> None:
        many = digits(DIGITS)
        for dtype in (np.float64,) if number else (np.float64, np.float32):
            name = np.dtype(dtype).name
            point = self.points[number][1].rounded(dtype)
            if at_ties and not self._ties_stay(number, point):
                return
            reference = self._reference((number, name), point, many)
            assert reference is not None
            value, gradients = reference
            size = {n: max((abs(x) for x in g.values()), default=0) for n, g in gradients.items()}
            size["loss"] = abs(value) + max(size.values(), default=0)
            for function, got, element, expected in _pairs(self._results(module, point), value, gradients):
                error = abs(got - expected) / max(size[element[0] if element else "loss"], 1)
                if not error <= _UNITS * float(np.finfo(dtype).eps):
                    raise self._wrong(function, element, got, float(expected), f"in {name}")
                if dtype == np.float64:
                    found.largest_error = max(found.largest_error, float(error))
        found.numeric_points += 1

    def _ties_stay(self, number: int, point: Point) -> bool:
        """Whether ties are ties in float64 as well, so that code in float64 can be held to what happens there."""
        key = ("ties", number)
        if key not in self._known:
            seen = [decisions(self.form, point.values, arithmetic=a) for a in (FLOAT, digits(DIGITS))]
            self._known[key] = seen[0] == seen[1]
        return bool(self._known[key])

    def _against_differences(self, module: ModuleType) -> None:
        low = self.points[0][1].rounded()
        result = check_gradient(
            module.loss,
            module.grad,
            tuple(low.arguments.values()),
            low.hyperparameters,
            wrt=tuple(range(len(self.names))) if len(self.names) > 1 else 0,
            names=list(low.arguments),
            max_elements=24,
        )
        if not result:
            raise VerificationError(f"loss '{self.form.name}': the generated gradient is wrong\n{result}")

    # -- both --------------------------------------------------------------------------------------

    def _results(self, module: ModuleType, point: Point) -> list[tuple[str, Any, dict[str, Any]]]:
        """(function, loss or None, gradients by name) for each generated function."""
        value, gradient = point.call(module, "loss_and_grad")
        return [
            ("loss", point.call(module, "loss"), {}),
            ("grad", None, self._by_name(point.call(module, "grad"))),
            ("loss_and_grad", value, self._by_name(gradient)),
        ]

    def _by_name(self, gradient: Any) -> dict[str, Any]:
        parts = tuple(gradient) if isinstance(gradient, tuple) else (gradient,)
        return dict(zip(self.names, parts, strict=True))

    def _wrong(self, function: str, element: Any, found: Any, expected: Any, how: str) -> VerificationError:
        place = ""
        if element:
            name, index = element
            place = f" of {name}[{', '.join(map(str, index))}]" if index else f" of {name}"
        return VerificationError(
            f"loss '{self.form.name}': generated {function}{place} gives {found}, "
            f"but the statement gives {expected} ({how})"
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
