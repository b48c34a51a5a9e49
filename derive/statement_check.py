"""The gradient check of a statement: what ``derive gradcheck`` does and says.

Where the statement is known, more can be asked than of two functions. Interval arithmetic proves that a step h crosses
no kink; at a kink the declared convention is held to, not just any subgradient; on fractions, code and statement have
to be equal; and the float64 gradient is compared with 50 digits, in units of what rounding the inputs would do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np

from derive.arithmetic import Arithmetic, digits, interval
from derive.errors import VerificationError
from derive.evaluate import decisions, reference_gradient
from derive.gradient_check import Element, GradientCheck, check_gradient, table
from derive.points import Draw, Point, draw, positive, scattered, tied
from derive.statement import Form, Loss, read
from derive.verify_code import Gate

__all__ = ["StatementCheck", "check_loss", "check_statements"]

_DIGITS: Final = 50
#: Steps tried, largest first. The smallest leaves enough digits to tell right from wrong.
_STEPS: Final = (1e-4, 1e-5, 1e-6, 1e-7)
#: Digits of the intervals: few, so that they cover the rounding errors of the code as well.
_INTERVAL_DIGITS: Final = 13
#: Rounding errors in units of the problem's condition that are taken for right.
_CONDITIONS: Final = 1000.0
_NEAR: Final = 1e-7


@dataclass(frozen=True)
class StatementCheck:
    """What ``derive gradcheck`` found for one loss.

    Attributes
    ----------
    parts : tuple of (str, str, GradientCheck)
        Kind of point, part of the loss, result.
    exact : str
        What the gate of ``derive build`` says, which includes exact arithmetic.
    conditions : dict
        For each parameter the largest error against 50 digits: in units in the last place, and in units of the
        problem's condition.
    """

    name: str
    parts: tuple[tuple[str, str, GradientCheck], ...]
    exact: str
    exact_passed: bool
    conditions: dict[str, tuple[float, float]]

    @property
    def passed(self) -> bool:
        rounding = all(condition <= _CONDITIONS for _, condition in self.conditions.values())
        return self.exact_passed and rounding and all(result.passed for _, _, result in self.parts)

    @property
    def max_relative_error(self) -> float:
        return max(result.max_relative_error for _, _, result in self.parts)

    @property
    def kinks(self) -> tuple[Element, ...]:
        return tuple(e for _, _, result in self.parts for e in result.kinks)

    @property
    def worst(self) -> tuple[Element, ...]:
        """The five worst elements of all parts."""
        every = [e for _, _, result in self.parts for e in result.worst]
        return GradientCheck(directions=tuple(every)).worst

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        lines = [f"{self.name}: {'right' if self.passed else 'WRONG'}"]
        rows: list[tuple[str, ...]] = [
            ("point", "part", "parameter", "tried", "largest relative error", "kinks", "verdict")
        ]
        for point, part, result in self.parts:
            lines += [f"  {point}, {part}: {fault}" for fault in result.faults]
            for p in result.parameters:
                worst = p.worst
                error = f"{worst.relative_error:.1e} at {worst.place}" if worst else ""
                tried = f"{len(p.elements)} of {p.size}"
                rows.append((point, part, p.name, tried, error, str(len(p.kinks)), "right" if p.passed else "WRONG"))
        lines += [*table(rows), ""]
        rows = [("worst", "analytic", "numerical", "error estimate", "slope left", "slope right", "verdict")]
        for e in self.worst:
            numbers = (f"{e.analytic:.12g}", f"{e.numerical:.12g}", f"{e.error:.0e}")
            rows.append((e.place, *numbers, f"{e.left:.9g}", f"{e.right:.9g}", e.verdict))
        lines += [*table(rows), ""]
        for name, (ulps, condition) in self.conditions.items():
            lines.append(
                f"  {name} in float64 against {_DIGITS} digits: {ulps:.1f} units in the last place at most, "
                f"{condition:.2g} of what rounding the arguments does"
            )
        lines.append(f"  {self.exact}")
        orders = [f"{r.taylor_order:.2f}" for _, _, r in self.parts[:1] if r.taylor_order == r.taylor_order]
        lines += [f"  Taylor remainder: order {order} (2 when right)" for order in orders]
        lines.append(f"  calls of the loss: {sum(r.calls for _, _, r in self.parts)}")
        return "\n".join(lines)


def check_statements(statements: Sequence[Any], *, say: Callable[[str], None] = print) -> bool:
    """Check every loss among some statements, and say so; whether all are right."""
    passed = True
    for statement in statements:
        if not isinstance(statement, Loss):
            say(f"{statement.name}: an update rule has no gradient of its own; `derive build` verifies its claims")
            continue
        result = check_loss(statement)
        say(str(result))
        passed = passed and result.passed
    return passed


def check_loss(loss: Loss, module: ModuleType | None = None) -> StatementCheck:
    """Check the generated module of a loss, or another one with the same functions, against the statement."""
    if module is None:
        from derive.render import compile

        module = compile(loss)
    form = read(loss)
    parts = []
    for where, point in _points(form):
        for part, value, gradient, hyperparameters in _parts(form, module, point):
            whole = part == "loss"
            result = check_gradient(
                value,
                gradient,
                tuple(point.arguments.values()),
                hyperparameters,
                wrt=tuple(range(len(form.parameters))) if len(form.parameters) > 1 else 0,
                names=list(point.arguments),
                max_elements=60,
                branches=_Known(form, point) if whole else None,
            )
            if whole or where == "anywhere":
                parts.append((where, part, result))
    try:
        exact, exact_passed = str(Gate(loss).check(module)), True
    except VerificationError as error:
        exact, exact_passed = str(error), False
    return StatementCheck(loss.name, tuple(parts), exact, exact_passed, dict(_conditions(form, module)))


def _points(form: Form) -> Iterator[tuple[str, Point]]:
    """Points anywhere, at ties, and close to ties; those outside the domain of the loss are left out."""
    found = []
    for where, choices in (("anywhere", (scattered, positive)), ("at ties", (tied,)), ("near ties", (tied,))):
        for entries in choices:
            point = _inside(form, entries, near=where == "near ties")
            if point is not None:
                found.append((where, point))
                break
    yield from found


def _inside(form: Form, entries: Draw, *, near: bool) -> Point | None:
    point = draw(form, entries, 3, larger=1).rounded()
    if near:
        rng = np.random.default_rng(0)
        for p in form.parameters:
            moved = point.arguments[p.name] + _NEAR * rng.normal(size=np.shape(point.arguments[p.name]))
            point = Point(point.sizes, {**point.arguments, p.name: np.asarray(moved)}, point.hyperparameters)
    try:
        for p in form.parameters:
            reference_gradient(form, point.values, p.name, arithmetic=digits(20))
    except (ArithmeticError, ValueError):
        return None
    return point


def _parts(form: Form, module: ModuleType, point: Point) -> Iterator[tuple[str, Any, Any, dict[str, Any]]]:
    """The loss; and for every hyperparameter that switches terms of it on, those terms and the others."""
    given = dict(point.hyperparameters)
    yield "loss", module.loss, module.grad, given
    terms = form.value.rhs.expand().args if form.value.rhs.expand().is_Add else (form.value.rhs,)
    for name, _ in form.hyperparameters:
        switched = [term for term in terms if _vanishes(term, name)]
        if not switched or len(switched) == len(terms):
            continue
        off = {**given, name: type(given[name])(0)}
        yield f"{name} = 0", module.loss, module.grad, off

        def value(*args: Any, _off: dict[str, Any] = off) -> Any:
            return module.loss(*args, **given) - module.loss(*args, **_off)

        def gradient(*args: Any, _off: dict[str, Any] = off) -> Any:
            on, without = module.grad(*args, **given), module.grad(*args, **_off)
            return tuple(a - b for a, b in zip(on, without, strict=True)) if isinstance(on, tuple) else on - without

        yield f"terms with {name}", value, gradient, {}


def _vanishes(term: Any, name: str) -> bool:
    symbols = [s for s in term.free_symbols if str(s) == name]
    return bool(symbols) and bool(term.subs(symbols[0], 0) == 0)


class _Known:
    """Kinks as the statement knows them: proofs by interval arithmetic, slopes by dual numbers."""

    def __init__(self, form: Form, point: Point) -> None:
        self.form, self.point = form, point
        self.slopes: dict[str, dict[tuple[int, ...], Any]] = {}

    def step(self, parameter: str, index: tuple[int, ...]) -> float | None:
        box = interval(_INTERVAL_DIGITS)
        centre = float(self.point.arguments[parameter][index])
        scale = max(1.0, abs(centre))
        entries = np.array(self.point.arguments[parameter], dtype=object)
        for h in _STEPS:
            entries[index] = box.between(centre - h * scale, centre + h * scale)
            try:
                decisions(self.form, {**self.point.values, parameter: entries}, arithmetic=box)
            except (ArithmeticError, ValueError, NotImplementedError):
                continue  # an interval that cannot be evaluated proves nothing
            return h * scale
        return None

    def slope(self, parameter: str, index: tuple[int, ...]) -> float:
        if parameter not in self.slopes:
            self.slopes[parameter] = reference_gradient(
                self.form, self.point.values, parameter, arithmetic=digits(_DIGITS)
            )
        return float(self.slopes[parameter][index])


def _conditions(form: Form, module: ModuleType) -> Iterator[tuple[str, tuple[float, float]]]:
    """For each parameter the largest errors of the float64 gradient, in its own last place and in conditions."""
    point = next((p for where, p in _points(form) if where == "anywhere"), None)
    if point is None:
        return
    many: Arithmetic = digits(_DIGITS)
    eps = float(np.finfo(np.float64).eps)
    gradient = point.call(module, "grad")
    parts = gradient if isinstance(gradient, tuple) else (gradient,)
    rng = np.random.default_rng(0)
    nudged = [
        Point(
            point.sizes,
            {n: a if a.dtype.kind == "i" else a * (1 + eps * rng.choice([-1, 1], a.shape)) for n, a in arrays.items()},
            point.hyperparameters,
        )
        for arrays in [{n: np.asarray(a) for n, a in point.arguments.items()}] * 3
    ]
    for p, found in zip(form.parameters, parts, strict=True):
        exact = reference_gradient(form, point.values, p.name, arithmetic=many)
        changes = [reference_gradient(form, n.values, p.name, arithmetic=many) for n in nudged]
        ulps = condition = 0.0
        for index, right in exact.items():
            error = abs(float(many.number(np.asarray(found)[index]) - right))
            moved = max(abs(float(change[index] - right)) for change in changes)
            ulps = max(ulps, error / float(np.spacing(abs(float(right)) or eps)))
            condition = max(condition, error / (moved + float(np.spacing(abs(float(right)) or eps))))
        yield p.name, (ulps, condition)
