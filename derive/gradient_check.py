"""A gradient check for anybody's pair of functions, with no tolerance to choose.

Every element tried is compared with a difference quotient that estimates its own error (:mod:`derive.slopes`), and
elements that sit on a kink are recognised and reported as such. In a test of your own, one line is enough::

    assert derive.gradcheck(loss, grad, W, X, y)

>>> import numpy as np
>>> def loss(w, x):
...     return float(np.sum(np.maximum(0, w * x)))
>>> def grad(w, x):
...     return (w * x > 0) * x
>>> result = gradcheck(loss, grad, np.array([1.0, 0.0, -2.0]), np.array([3.0, 4.0, 5.0]))
>>> result.passed, [kink.place for kink in result.kinks]
(True, ['argument 0[1]'])
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import numpy as np

from derive.slopes import AGREES, EPS, KINK, WRONG, Slope, first_step, noise_level, slope_at_zero

__all__ = ["Branches", "Element", "GradientCheck", "ParameterCheck", "check_gradient", "gradcheck"]

#: Elements of one parameter that are tried, at most, unless told otherwise.
MAX_ELEMENTS: Final = 400
#: When so many elements were found wrong after a close look, the verdict is clear, and the others get a short one.
_CLOSE_LOOKS: Final = 2
_DIRECTIONS: Final = 3
_NEIGHBOURS: Final = 32
_NOISE_DIRECTIONS: Final = 5
#: Spacings of the grids on which noise is measured: coarser ones for functions that do not move on the finer ones.
_GRIDS: Final = (3e-14, 1e-12, 1e-9, 1e-6)
_LONG: Final = 10.0
_WORST: Final = 5


@dataclass(frozen=True)
class Element:
    """One element of one parameter: what the gradient says and what the function does."""

    parameter: str
    index: tuple[int, ...] | None
    analytic: float
    numerical: float
    error: float
    left: float
    right: float
    relative_error: float
    verdict: str

    @property
    def place(self) -> str:
        if self.index is None:
            return self.parameter
        return f"{self.parameter}[{', '.join(map(str, self.index))}]" if self.index else self.parameter


@dataclass(frozen=True)
class ParameterCheck:
    """The elements of one parameter that were tried."""

    name: str
    size: int
    elements: tuple[Element, ...]

    @property
    def worst(self) -> Element | None:
        return max(self.elements, key=_badness, default=None)

    @property
    def kinks(self) -> tuple[Element, ...]:
        return tuple(e for e in self.elements if e.verdict == KINK)

    @property
    def passed(self) -> bool:
        return all(e.verdict != WRONG for e in self.elements)


def _badness(element: Element) -> tuple[bool, float]:
    error = element.relative_error
    return element.verdict == WRONG, math.inf if math.isnan(error) else error


@dataclass(frozen=True)
class GradientCheck:
    """The outcome; true if the gradient is right.

    Attributes
    ----------
    passed : bool
    max_relative_error : float
        Largest ``|analytic - numerical|`` over the larger of the two, or over the typical size of the parameter's
        gradient where both are far below it; 0 inside the interval of subgradients at a kink; nan if nothing could be
        compared.
    worst : tuple of Element
        The five elements with the largest relative errors, wrong ones first.
    kinks : tuple of Element
        The elements that sit on a kink.
    parameters : tuple of ParameterCheck
    faults : tuple of str
        What else is wrong: an exception, a shape, nan, an argument changed in place.
    taylor_order : float
        The order at which the Taylor remainder in a random direction shrinks: 2 for a right gradient of a smooth
        function, 1 for a wrong one; nan if it vanishes in rounding at once, as for a linear function.
    calls : int
        Calls of the loss.
    """

    parameters: tuple[ParameterCheck, ...] = ()
    directions: tuple[Element, ...] = ()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    taylor_order: float = math.nan
    calls: int = 0

    @property
    def elements(self) -> tuple[Element, ...]:
        return (*(e for p in self.parameters for e in p.elements), *self.directions)

    @property
    def passed(self) -> bool:
        return not self.faults and all(e.verdict != WRONG for e in self.elements)

    @property
    def max_relative_error(self) -> float:
        errors = [e.relative_error for e in self.elements]
        return max(errors, key=lambda e: math.inf if math.isnan(e) else e) if errors else math.nan

    @property
    def worst(self) -> tuple[Element, ...]:
        return tuple(sorted(self.elements, key=_badness, reverse=True)[:_WORST])

    @property
    def kinks(self) -> tuple[Element, ...]:
        return tuple(e for e in self.elements if e.verdict == KINK)

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        if self.passed:
            return f"<gradient right: largest relative error {self.max_relative_error:.1e}, {len(self.kinks)} on kinks>"
        if self.faults:
            return f"<gradient check failed: {self.faults[0]}>"
        wrong = [e for e in self.elements if e.verdict == WRONG]
        worst = self.worst[0]
        return (
            f"<gradient WRONG at {len(wrong)} of {len(self.elements)}: {worst.place} is {worst.analytic:.10g}, "
            f"should be {worst.numerical:.10g} ± {worst.error:.0e}>"
        )

    def __str__(self) -> str:
        lines = [f"gradient check: {'passed' if self.passed else 'FAILED'}"]
        lines += [f"  {fault}" for fault in self.faults]
        if self.parameters:
            rows: list[tuple[str, ...]] = [
                ("parameter", "elements tried", "largest relative error", "at", "kinks", "verdict")
            ]
            for p in self.parameters:
                worst = p.worst
                rows.append(
                    (
                        p.name,
                        f"{len(p.elements)} of {p.size}",
                        f"{worst.relative_error:.1e}" if worst else "",
                        _index(worst.index) if worst else "",
                        str(len(p.kinks)),
                        "right" if p.passed else "WRONG",
                    )
                )
            lines += table(rows)
        if self.worst:
            rows = [("worst", "analytic", "numerical", "error estimate", "slope left", "slope right", "")]
            for e in self.worst:
                numbers = (f"{e.analytic:.12g}", f"{e.numerical:.12g}", f"{e.error:.0e}")
                rows.append((e.place, *numbers, f"{e.left:.9g}", f"{e.right:.9g}", _SAID[e.verdict]))
            lines += ["", *table(rows)]
        lines += [f"  {note}" for note in (*self._overview(), *self.notes)]
        return "\n".join(lines)

    def _overview(self) -> Iterator[str]:
        if not self.parameters:
            return
        if math.isnan(self.taylor_order):
            yield "Taylor remainder: no larger than rounding"
        else:
            order = f"order {self.taylor_order:.2f}"
            yield f"Taylor remainder: {order} (2 for a right gradient of a smooth function, 1 for a wrong one)"
        yield f"calls of the loss: {self.calls}"


_SAID: Final = {AGREES: "", KINK: "on a kink", WRONG: "WRONG"}


def _index(index: tuple[int, ...] | None) -> str:
    return "" if not index else f"[{', '.join(map(str, index))}]"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns, the first one to the left and the others to the right, the last to the left again."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    last = len(widths) - 1
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if column in (0, last) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


# -------------------------------------------------------------------------------------------------------------- calling


def gradcheck(
    loss: Callable[..., Any],
    grad: Callable[..., Any],
    *args: Any,
    wrt: int | Sequence[int] = 0,
    **hyperparameters: Any,
) -> GradientCheck:
    """Check an analytic gradient against the function it belongs to.

    Parameters
    ----------
    loss : callable
        ``loss(*args, **hyperparameters)`` returns one number.
    grad : callable
        ``grad(*args, **hyperparameters)`` returns an array of the shape of the parameter, or a tuple of them.
    *args : arrays and scalars
        Floating arrays of lower precision are raised to float64, and so are integer parameters.
    wrt : int or tuple of int
        Positions of the parameters among `args`. If `grad` returns a tuple of n arrays and `wrt` is one position,
        the n parameters start there.
    **hyperparameters
        Passed on to both functions.

    Returns
    -------
    GradientCheck
        True if the gradient is right. Print it for a table.

    See Also
    --------
    check_gradient : the same with its options.
    """
    return check_gradient(loss, grad, args, hyperparameters, wrt=wrt)


def check_gradient(
    loss: Callable[..., Any],
    grad: Callable[..., Any],
    args: Sequence[Any],
    hyperparameters: Mapping[str, Any] | None = None,
    *,
    wrt: int | Sequence[int] = 0,
    names: Sequence[str] = (),
    max_elements: int = MAX_ELEMENTS,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
    branches: Branches | None = None,
) -> GradientCheck:
    """`gradcheck` with its options.

    Parameters
    ----------
    names : sequence of str
        What to call the arguments, by position.
    max_elements : int
        Elements of each parameter that are tried; if it has more, a random choice of them, and random directions
        through all elements besides.
    seed : int
        Of the random choices.
    say : callable, optional
        Is told the number of calls before they begin. Left out, it is printed to stderr when they will take long.
    branches : Branches, optional
        What is known of the kinks of the loss from its statement.
    """
    subject = _Subject(loss, grad, args, dict(hyperparameters or {}), names)
    try:
        subject.prepare(wrt)
    except _Fault as fault:
        return GradientCheck(faults=(str(fault),), notes=tuple(subject.notes), calls=subject.calls)
    return _Check(subject, np.random.default_rng(seed), max_elements, say, branches).run()


class Branches(Protocol):
    """What a statement knows of the kinks of its loss, near the point of the check."""

    def step(self, parameter: str, index: tuple[int, ...]) -> float | None:
        """An h that crosses no kink for certain when this element changes; None if there is none worth the name."""

    def slope(self, parameter: str, index: tuple[int, ...]) -> float:
        """The derivative by this element, with the declared convention where it does not exist."""


class _Fault(Exception):
    """What makes comparing pointless; the message is for the user."""


class _Subject:
    """The pair of functions and the point at which they are compared, every parameter a float64 array."""

    def __init__(
        self,
        loss: Callable[..., Any],
        grad: Callable[..., Any],
        args: Sequence[Any],
        hyperparameters: dict[str, Any],
        names: Sequence[str],
    ) -> None:
        self.loss, self.grad, self.hyperparameters = loss, grad, hyperparameters
        self.names = [names[n] if n < len(names) else f"argument {n}" for n in range(len(args))]
        self.notes: list[str] = []
        self.args = [self._raised(n, arg) for n, arg in enumerate(args)]
        self.calls = 0
        self.seconds = 0.0
        self.positions: tuple[int, ...] = ()
        self.gradients: list[np.ndarray[Any, Any]] = []
        self.value = math.nan

    def _raised(self, position: int, arg: Any) -> Any:
        """A copy of an argument, floats in float64."""
        if isinstance(arg, float | int | str | None) or callable(arg):
            return arg
        array = np.array(arg)
        if array.dtype.kind == "f" and array.dtype.itemsize < 8:
            self.notes.append(f"{self.names[position]} was raised from {array.dtype} to float64")
        return array.astype(np.float64) if array.dtype.kind == "f" else array

    def prepare(self, wrt: int | Sequence[int]) -> None:
        """Call both functions once, and see that what comes back can be compared."""
        first = wrt if isinstance(wrt, int) else None
        given = (wrt,) if isinstance(wrt, int) else tuple(wrt)
        self._require_positions(given)
        for position in range(len(self.args)) if first is not None else given:
            if position in given or isinstance(self.args[position], np.ndarray):
                self._require_reals(position, position in given)
        raw = self._call_untouched(self.grad, "grad")
        several = isinstance(raw, tuple | list)
        parts = list(raw) if several else [raw]
        if several and first is not None:
            given = tuple(range(first, first + len(parts)))
        if first is not None and first + len(parts) > len(self.args):
            left = len(self.args) - first
            raise _Fault(
                f"grad returned {len(parts)} arrays, but there are only {left} arguments from position {first} on"
            )
        if len(parts) != len(given):
            raise _Fault(f"grad returned {len(parts)} arrays for {len(given)} parameters")
        self._require_positions(given)
        self.positions = given
        for position in given:
            self.args[position] = np.array(self.args[position], dtype=np.float64)
        for position, part in zip(given, parts, strict=True):
            self.gradients.append(self._gradient(position, part))
        value = self._call_untouched(self.loss, "loss")
        if np.ndim(value) != 0 and np.size(value) != 1:
            raise _Fault(f"loss returned an array of shape {np.shape(value)}, not one number")
        self.value = float(np.asarray(value).reshape(()))
        if not math.isfinite(self.value):
            raise _Fault(f"loss returned {self.value}")

    def _require_positions(self, positions: Sequence[int]) -> None:
        for position in positions:
            if not 0 <= position < len(self.args):
                raise ValueError(f"wrt: there is no argument {position} among {len(self.args)}")

    def _require_reals(self, position: int, parameter: bool) -> None:
        kind = np.asarray(self.args[position]).dtype.kind
        if parameter and kind not in "biufO":
            raise TypeError(f"{self.names[position]} is a parameter and must hold real numbers")
        if parameter:
            self.args[position] = np.array(self.args[position], dtype=np.float64)

    def _gradient(self, position: int, part: Any) -> np.ndarray[Any, Any]:
        name, expected = self.names[position], np.shape(self.args[position])
        try:
            gradient = np.array([] if part is None else part, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise _Fault(f"grad returned no array of numbers for {name}: {error}") from error
        if gradient.shape != expected:
            raise _Fault(f"grad returned shape {gradient.shape} for {name}, which has shape {expected}")
        if not np.all(np.isfinite(gradient)):
            bad = tuple(int(n) for n in np.argwhere(~np.isfinite(gradient))[0])
            raise _Fault(f"grad returned {gradient[bad]} for {name}{_index(bad)}")
        return gradient

    def _call_untouched(self, function: Callable[..., Any], name: str) -> Any:
        """Call a function and see whether it leaves its arguments as they are."""
        before = [np.array(arg) if isinstance(arg, np.ndarray) else arg for arg in self.args]
        started = time.perf_counter()
        try:
            with np.errstate(all="ignore"):
                result = function(*self._passed(), **self.hyperparameters)
        except Exception as error:
            raise _Fault(f"{name} raised {type(error).__name__}: {error}") from error
        self.seconds = time.perf_counter() - started
        self.calls += name == "loss"
        for position, (old, new) in enumerate(zip(before, self.args, strict=True)):
            if isinstance(old, np.ndarray) and not _same(old, new):
                raise _Fault(f"{name} changed {self.names[position]} in place")
        return result

    def _passed(self) -> list[Any]:
        """The arguments as the functions get them: a scalar parameter as a float."""
        return [arg[()] if isinstance(arg, np.ndarray) and arg.ndim == 0 else arg for arg in self.args]

    def at(self, point: Mapping[int, np.ndarray[Any, Any]]) -> float:
        """The loss with some arguments replaced; nan where it cannot be computed."""
        self.calls += 1
        args = [point.get(n, arg) for n, arg in enumerate(self.args)]
        args = [arg[()] if isinstance(arg, np.ndarray) and arg.ndim == 0 else arg for arg in args]
        try:
            with np.errstate(all="ignore"):
                return float(np.asarray(self.loss(*args, **self.hyperparameters)).reshape(()))
        except (ArithmeticError, ValueError):
            return math.nan


def _same(old: np.ndarray[Any, Any], new: np.ndarray[Any, Any]) -> bool:
    return (
        old.dtype == new.dtype and old.shape == new.shape and bool(np.all((old == new) | ((old != old) & (new != new))))
    )


# ------------------------------------------------------------------------------------------------------------- checking


@dataclass
class _Check:
    subject: _Subject
    random: np.random.Generator
    max_elements: int
    say: Callable[[str], None] | None
    branches: Branches | None = None
    noise: float = 0.0
    confirmed: int = 0
    progress: Callable[[], None] = field(default=lambda: None)

    def run(self) -> GradientCheck:
        chosen = [self._chosen(gradient) for gradient in self.subject.gradients]
        faults = self._repeatable()
        self._announce(chosen)
        self.noise = self._noise()
        parameters = []
        for position, gradient, indices in zip(self.subject.positions, self.subject.gradients, chosen, strict=True):
            parameters.append(self._parameter(position, gradient, indices))
        partly = any(len(i) < g.size for i, g in zip(chosen, self.subject.gradients, strict=True))
        directions = tuple(self._direction(n) for n in range(_DIRECTIONS)) if partly else ()
        if partly:
            self.subject.notes.append(
                f"elements were chosen at random; {_DIRECTIONS} random directions through all of them were tried too"
            )
        return GradientCheck(
            parameters=tuple(parameters),
            directions=directions,
            faults=faults,
            notes=tuple(self.subject.notes),
            taylor_order=self._taylor_order(),
            calls=self.subject.calls,
        )

    def _chosen(self, gradient: np.ndarray[Any, Any]) -> list[tuple[int, ...]]:
        count = min(gradient.size, self.max_elements)
        flat = np.sort(self.random.choice(gradient.size, count, replace=False)) if count < gradient.size else None
        numbers = range(gradient.size) if flat is None else flat
        return [tuple(int(n) for n in np.unravel_index(number, gradient.shape)) for number in numbers]

    def _announce(self, chosen: list[list[tuple[int, ...]]]) -> None:
        tried, size = sum(map(len, chosen)), sum(g.size for g in self.subject.gradients)
        calls = 4 * tried + 200
        seconds = calls * self.subject.seconds
        text = f"{tried} of {size} elements, about {calls} calls of the loss, about {seconds:.0f} s"
        if self.say is not None:
            self.say(text)
        elif seconds > _LONG:
            print(f"gradient check: {text}", file=sys.stderr)
        if seconds > _LONG and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            bar = tqdm(total=tried, unit="element", leave=False)
            self.progress = lambda: bar.update(1) and None

    # -- functions of one variable -----------------------------------------------------------------

    def _along(self, position: int, index: tuple[int, ...]) -> Callable[[float], float]:
        """The loss as a function of the change of one element."""
        point = self.subject.args[position].copy()
        centre = float(point[index])

        def function(change: float) -> float:
            point[index] = centre + change
            result = self.subject.at({position: point})
            point[index] = centre
            return result

        return function

    def _through(self, direction: Mapping[int, np.ndarray[Any, Any]]) -> Callable[[float], float]:
        """The loss as a function of the distance in a direction."""
        return lambda t: self.subject.at({n: self.subject.args[n] + t * v for n, v in direction.items()})

    def _random_direction(self) -> dict[int, np.ndarray[Any, Any]]:
        """A direction of length 1 through all parameters, none of them special."""
        direction = {n: self.random.normal(size=np.shape(self.subject.args[n])) for n in self.subject.positions}
        length = math.sqrt(sum(float(np.sum(v**2)) for v in direction.values()))
        return {n: v / (length or 1.0) for n, v in direction.items()}

    def _noise(self) -> float:
        """A bound on the rounding errors of the loss near the point."""
        levels = [EPS * abs(self.subject.value)]
        functions = [self._through(self._random_direction()) for _ in range(_NOISE_DIRECTIONS)]
        for spacing in _GRIDS:
            measured = [self._noise_along(function, spacing * self._scale()) for function in functions]
            known = sorted(level for level in measured if level is not None)
            # The median: in some directions there may be a kink so close by that it looks like noise.
            levels += known[len(known) // 2 : len(known) // 2 + 1]
            if len(known) > _NOISE_DIRECTIONS // 2 and spacing != _GRIDS[0]:
                return max(levels)
        # A function that does not move at all may be log(1 + 1e-30), whose true changes drown in the rounding of the 1.
        return max(*levels, EPS)

    def _noise_along(self, function: Callable[[float], float], spacing: float, count: int = 8) -> float | None:
        """A bound on rounding errors on grids ahead and behind; None where the loss does not move, or fails.

        The smaller of the two: a kink on one side can look like noise.
        """
        coarse = spacing > 1e-10 * self._scale()
        levels = []
        for side in (function, lambda t: function(-t)):
            if side(spacing) == self.subject.value == side(count * spacing):
                return None
            levels.append(4 * noise_level(side, spacing, max(count, 24) if coarse else count, robust=coarse))
        level = min(levels) if all(map(math.isfinite, levels)) else None
        return None if coarse and level == 0 else level

    def _scale(self) -> float:
        sizes = [float(np.max(np.abs(self.subject.args[n]), initial=0.0)) for n in self.subject.positions]
        return max(1.0, *sizes)

    # -- elements ----------------------------------------------------------------------------------

    def _parameter(
        self, position: int, gradient: np.ndarray[Any, Any], indices: list[tuple[int, ...]]
    ) -> ParameterCheck:
        name = self.subject.names[position]
        typical = float(np.sqrt(np.mean(gradient**2))) if gradient.size else 0.0
        elements = []
        for index in indices:
            analytic = float(gradient[index])
            size = max(1.0, abs(float(self.subject.args[position][index])))
            slope = self._known(position, index, analytic, typical)
            if slope is None:
                slope = self._slope(self._along(position, index), analytic, size, typical, self.noise)
                if slope.verdict == WRONG and self.confirmed < _CLOSE_LOOKS:
                    slope = self._second_opinion(slope, position, index, size, typical)
                    self.confirmed += slope.verdict == WRONG
                slope = self._by_convention(slope, position, index)
            elements.append(self._element(name, index, slope, typical))
            self.progress()
        return ParameterCheck(name, int(gradient.size), tuple(elements))

    def _known(self, position: int, index: tuple[int, ...], analytic: float, typical: float) -> Slope | None:
        """The comparison with an h that crosses no kink for certain, where the statement knows one."""
        h = self.branches.step(self.subject.names[position], index) if self.branches is not None else None
        if h is None:
            return None
        function, value = self._along(position, index), self.subject.value
        for noise in (self.noise, self._noise_along(function, h / 64, count=24) or 0.0):
            slope = slope_at_zero(
                function, analytic, value=value, noise=noise, step=h, typical=typical, smallest=h / 1000
            )
            if slope.verdict != WRONG:
                return replace(slope, verdict=AGREES)
        return slope

    def _by_convention(self, slope: Slope, position: int, index: tuple[int, ...]) -> Slope:
        """At a kink the statement says which slope counts; any other is wrong, subgradient or not."""
        if self.branches is None:
            return slope
        declared = self.branches.slope(self.subject.names[position], index)
        right = abs(slope.analytic - declared) <= 1e-9 * max(1.0, abs(declared))
        return replace(slope, numerical=declared, verdict=KINK if right else WRONG)

    def _slope(
        self, function: Callable[[float], float], analytic: float, scale: float, typical: float, noise: float
    ) -> Slope:
        h = first_step(scale, noise, abs(self.subject.value))
        smallest = h / 2 if self.confirmed >= _CLOSE_LOOKS else 256 * EPS * scale
        return slope_at_zero(
            function, analytic, value=self.subject.value, noise=noise, step=h, typical=typical, smallest=smallest
        )

    def _second_opinion(
        self, slope: Slope, position: int, index: tuple[int, ...], scale: float, typical: float
    ) -> Slope:
        """What seems wrong is looked at again: with the noise along this one element, then as a meeting of kinks."""
        function = self._along(position, index)
        measured = (self._noise_along(function, spacing * scale, count=24) for spacing in _GRIDS[1:])
        most = 1e3 * EPS * max(1.0, abs(self.subject.value))
        noise = min(next((level for level in measured if level is not None), 0.0), most)
        if noise > self.noise:
            slope = self._slope(function, slope.analytic, scale, typical, noise)
        if slope.verdict == WRONG:
            slope = self._among_neighbours(slope, position, index, max(noise, self.noise))
        if slope.verdict == WRONG:
            slope = self._between_kinks(slope, position, index)
        return slope

    def _among_neighbours(self, slope: Slope, position: int, index: tuple[int, ...], noise: float) -> Slope:
        """An element's slopes at random points so close by that only kinks in the very point lie between.

        Where many kinks meet, the slopes along one axis do not show all subgradients; those at neighbours do.
        """
        mismatch = abs(slope.analytic - slope.numerical)
        if not mismatch > 0:
            return slope
        step = max(200 * noise / mismatch, 1e-13 * self._scale())
        if step > 1e-8 * self._scale():
            return slope
        near, far = (self._slopes_nearby(position, index, step, radius) for radius in (10 * step, 100 * step))
        found = [s for s in (*near, slope.left, slope.right) if math.isfinite(s)]
        spread = [max(s, default=0.0) - min(s, default=0.0) for s in (near, far)]
        margin = 0.1 * mismatch
        inside = min(found) - margin <= slope.analytic <= max(found) + margin
        # Curvature spreads slopes in proportion to the radius; a kink in the very point does not care.
        if inside and spread[0] > max(0.5 * mismatch, 0.5 * spread[1]):
            return replace(slope, numerical=slope.analytic, error=margin, verdict=KINK)
        return slope

    def _slopes_nearby(self, position: int, index: tuple[int, ...], step: float, radius: float) -> list[float]:
        slopes = []
        for _ in range(_NEIGHBOURS):
            moved = {n: np.array(x + radius * self.random.normal(size=x.shape)) for n, x in self._point().items()}
            ahead, behind = moved[position].copy(), moved[position].copy()
            ahead[index] += step
            behind[index] -= step
            values = [self.subject.at(moved | {position: side}) for side in (ahead, behind)]
            slopes.append((values[0] - values[1]) / float(ahead[index] - behind[index]))
        return [s for s in slopes if math.isfinite(s)]

    def _point(self) -> dict[int, np.ndarray[Any, Any]]:
        return {n: self.subject.args[n] for n in self.subject.positions}

    def _between_kinks(self, slope: Slope, position: int, index: tuple[int, ...]) -> Slope:
        """A third opinion: whether the point lies in a gap between kinks, too narrow for differences to see into.

        It does if the gradient is the same all around the point, at a distance lost in rounding, and a little further
        off, on both sides, agrees with the change of the loss.
        """
        point = self.subject.args[position]
        scale = max(1.0, abs(float(point[index])))
        close = slope.analytic
        for _ in range(4):
            moved = point + 1e-12 * scale * self.random.choice([-1.0, 1.0], point.shape)
            close = self._gradient_at(position, moved, index)
            if not abs(close - slope.analytic) <= 1e-9 * abs(slope.analytic):
                return slope
        function = self._along(position, index)
        step = slope.step if math.isfinite(slope.step) else 1e-4 * scale
        for side in (-step, step):
            secant = (function(side) - self.subject.value) / side
            inside = []
            for part in (1 / 8, 3 / 8, 5 / 8, 7 / 8):
                moved = point.copy()
                moved[index] += part * side
                inside.append(self._gradient_at(position, moved, index))
            margin = 10 * self.noise / step + max(inside) - min(inside)
            if not abs(sum(inside) / len(inside) - secant) <= margin < abs(slope.analytic - secant) / 2:
                return slope
        return replace(slope, numerical=slope.analytic, verdict=KINK)

    def _gradient_at(self, position: int, moved: np.ndarray[Any, Any], index: tuple[int, ...]) -> float:
        """One element of the analytic gradient elsewhere; nan if it fails there."""
        args = [moved if n == position else arg for n, arg in enumerate(self.subject.args)]
        args = [arg[()] if isinstance(arg, np.ndarray) and arg.ndim == 0 else arg for arg in args]
        try:
            with np.errstate(all="ignore"):
                result = self.subject.grad(*args, **self.subject.hyperparameters)
        except (ArithmeticError, ValueError):
            return math.nan
        if isinstance(result, tuple | list):
            result = result[self.subject.positions.index(position)]
        return float(np.asarray(result)[index])

    def _direction(self, number: int) -> Element:
        direction = self._random_direction()
        pairs = zip(self.subject.positions, self.subject.gradients, strict=True)
        analytic = float(sum(np.sum(direction[n] * g) for n, g in pairs))
        size = math.sqrt(float(sum(np.sum(g**2) for g in self.subject.gradients)))
        typical = size / math.sqrt(max(sum(g.size for g in self.subject.gradients), 1))
        slope = self._slope(self._through(direction), analytic, self._scale(), typical, self.noise)
        return self._element(f"random direction {number + 1}", None, slope, typical)

    def _element(self, name: str, index: tuple[int, ...] | None, slope: Slope, typical: float) -> Element:
        difference = abs(slope.analytic - slope.numerical)
        size = max(abs(slope.analytic), abs(slope.numerical), typical, 1e-300)
        if typical == 0:  # a gradient of zeros: compare with the size of the function instead
            size = max(size, 1e-3 * abs(self.subject.value))
        return Element(
            name,
            index,
            slope.analytic,
            slope.numerical,
            slope.error,
            slope.left,
            slope.right,
            difference / size,
            slope.verdict,
        )

    # -- the functions as a whole ------------------------------------------------------------------

    def _repeatable(self) -> tuple[str, ...]:
        """Random numbers inside a loss make every comparison void."""
        started = time.perf_counter()
        again = self.subject.at({})
        self.subject.seconds = min(self.subject.seconds, time.perf_counter() - started)  # the first call warms up
        if again != self.subject.value:
            return (f"loss is not repeatable: {self.subject.value!r} at first, {again!r} for the same arguments later",)
        return ()

    def _taylor_order(self) -> float:
        direction = self._random_direction()
        pairs = zip(self.subject.positions, self.subject.gradients, strict=True)
        slope = float(sum(np.sum(direction[n] * g) for n, g in pairs))
        function = self._through(direction)
        remainders = []
        for halvings in range(10):
            t = 0.05 * 2.0**-halvings
            remainder = abs(function(t) - self.subject.value - t * slope)
            if not remainder > 100 * self.noise:
                break
            remainders.append(remainder)
        if len(remainders) < 3:
            return math.nan
        return float(np.median(np.diff(-np.log2(remainders))))
