"""Whether a given slope of a function of one variable can be right: difference quotients that know their own error.

A central difference D(h) has a truncation error, seen in D(h) - D(h/2), and a rounding error, the noise of the
function over h. Extrapolated (Richardson), it comes with an estimate of what is left, so that "close enough" is
measured, not chosen. Where the one-sided slopes keep disagreeing however small h gets, there is a kink at 0, and every
value between them is a slope (a subgradient). Where they agree once h is small enough, the kink is nearby only.

A slope that seems wrong is looked at with smaller and smaller h until rounding noise hides the disagreement. The
smallest h that still shows it decides.

The noise of the function is measured with difference tables (Moré and Wild, Estimating computational noise, 2011).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

__all__ = ["AGREES", "KINK", "WRONG", "Slope", "first_step", "noise_level", "slope_at_zero"]

AGREES: Final = "agrees"
KINK: Final = "kink"
WRONG: Final = "wrong"

EPS: Final = float(np.finfo(np.float64).eps)
#: Relative precision at which an estimate is good enough to stop.
_RESOLVED: Final = 1e-6
#: Rounding errors of a quotient are bounded by these multiples of noise/h: of the extrapolated central difference, and
#: of an extrapolated one-sided one.
_CENTRAL_ROUNDING: Final = 3.0
_ONE_SIDED_ROUNDING: Final = 10.0
#: How far beyond the estimate a disagreement is believed. The estimates are of the right size, not bounds.
_TRUST_TRUNCATION: Final = 3.0
_TRUST_ROUNDING: Final = 10.0

Function = Callable[[float], float]


@dataclass(frozen=True)
class Slope:
    """What was found about the slope of a function at 0.

    Attributes
    ----------
    numerical : float
        Extrapolated central difference; at a kink the value between the one-sided slopes nearest to the analytic one.
    error : float
        Estimated error of it, truncation and rounding together.
    left, right : float
        One-sided slopes.
    step : float
        The h that decided.
    verdict : str
        ``agrees``, ``kink`` (the analytic value is a subgradient at a kink) or ``wrong``.
    """

    analytic: float
    numerical: float
    error: float
    left: float
    right: float
    step: float
    verdict: str


@dataclass(frozen=True)
class _Look:
    """Everything the values at 0, ±h/2 and ±h say."""

    step: float
    central: float
    truncation: float
    rounding: float
    left: float
    right: float
    half_jump: float
    one_sided_truncation: float
    one_sided_rounding: float

    @property
    def one_sided_error(self) -> float:
        return self.one_sided_truncation + self.one_sided_rounding

    @property
    def reach(self) -> float:
        """How far the one-sided slopes may still move before rounding hides it.

        Kinks closer than h show as a truncation error that grows as h shrinks, up to tenfold with the next h.
        """
        unsettled = self.one_sided_truncation > self.one_sided_rounding / _ONE_SIDED_ROUNDING
        return self.one_sided_error + (10 * self.one_sided_truncation if unsettled else 0.0)

    @property
    def tolerance(self) -> float:
        return _TRUST_TRUNCATION * self.truncation + _TRUST_ROUNDING * self.rounding

    @property
    def jump(self) -> float:
        """How much the slopes from both sides disagree. A smooth function's differ by h f'', which is taken out."""
        return abs(self.right - self.left)

    @property
    def jumps(self) -> bool:
        """Whether that is more than rounding and truncation can do."""
        return self.jump > 2 * _ONE_SIDED_ROUNDING / _CENTRAL_ROUNDING * self.rounding + 2 * self.truncation

    @property
    def kinked(self) -> bool:
        """Whether the jump is there to stay as h shrinks: the curvature's share of it is the smaller one."""
        return self.jumps and self.jump > 0.25 * abs(self.half_jump)

    def distance(self, slope: float) -> float:
        """How far a slope is from the interval between the one-sided ones."""
        low, high = min(self.left, self.right), max(self.left, self.right)
        return max(low - slope, slope - high, 0.0)


def noise_level(function: Function, spacing: float, count: int = 8, *, robust: bool = False) -> float:
    """The size of the rounding errors of a function, from difference tables on a fine grid right of 0.

    High differences of a smooth function vanish on a grid so fine; what is left is noise. Each order gives an estimate
    of it, and the largest is taken. On a coarser grid there may be a kink, which spoils a few differences and would
    pass for noise: `robust` looks at their median, which is blind to a few.
    """
    differences = np.array([function((n + 1) * spacing) for n in range(count)])
    if not np.all(np.isfinite(differences)):
        return math.nan
    estimates = []
    for order in range(1, 6):
        differences = np.diff(differences)
        weight = math.factorial(order) ** 2 / math.factorial(2 * order)
        if order >= 2:
            size = float(np.median(np.abs(differences)) if robust else np.sqrt(np.mean(differences**2)))
            estimates.append(math.sqrt(weight) * size)
    return max(estimates)


def first_step(scale: float, noise: float, size: float) -> float:
    """The h to begin with, for a variable and a function of these sizes: balances h**4 against noise/h, or nearly."""
    relative = noise / size if size > 0 else EPS
    return scale * min(max(relative**0.25, 1e-4), 0.1)


def slope_at_zero(
    function: Function, analytic: float, *, value: float, noise: float, step: float, typical: float, smallest: float
) -> Slope:
    """Compare a slope with difference quotients.

    Parameters
    ----------
    function : callable
        Function of one variable; nan where it cannot be evaluated.
    analytic : float
        The slope it is said to have at 0.
    value : float
        Its value at 0.
    noise : float
        Bound on the rounding errors of its values.
    step : float
        First h.
    typical : float
        Size of slopes of this kind; a slope far below is compared with it instead of with itself.
    smallest : float
        No h below this: the variable itself is rounded.
    """
    looks: list[_Look] = []
    h = step
    while h >= smallest:
        look = _look(function, h, value, noise)
        h /= 10
        if look is None:
            continue
        looks.append(look)
        size = max(abs(analytic), abs(look.central), typical)
        agrees = abs(look.central - analytic) <= look.tolerance + 64 * EPS * size
        if agrees and not look.kinked and look.tolerance <= _RESOLVED * size:
            return _found(look, analytic, AGREES)
        in_doubt = max(
            look.jump if look.kinked else 0.0,
            0.0 if agrees else abs(look.central - analytic),
            0.0 if look.tolerance <= _RESOLVED * size else look.truncation,
        )
        if 10 * look.rounding > 0.1 * in_doubt:
            break
    if not looks:
        return Slope(analytic, math.nan, math.nan, math.nan, math.nan, h, WRONG)
    return _decided(looks, analytic, typical)


def _decided(looks: list[_Look], analytic: float, typical: float) -> Slope:
    """The verdict of the smallest h; its numbers may come from a larger h that says the same with fewer errors."""
    last = looks[-1]
    slack = 64 * EPS * max(abs(analytic), abs(last.central), typical)
    if not last.kinked and abs(last.central - analytic) <= last.tolerance + slack:
        return _found(last, analytic, AGREES)
    if last.jumps:
        consistent = [
            look
            for look in looks
            if look.jumps
            and abs(look.left - last.left) <= look.one_sided_error + last.one_sided_error
            and abs(look.right - last.right) <= look.one_sided_error + last.one_sided_error
        ]
        clearest = min(consistent, key=lambda look: look.one_sided_error)
        inside = clearest.distance(analytic) <= clearest.one_sided_error + slack
        if inside or last.distance(analytic) <= last.reach + slack:
            return _found(clearest, analytic, KINK)
        if last.kinked:
            return _found(clearest, analytic, WRONG)
    before = looks[-2] if len(looks) > 1 else last
    drift = abs(last.central - before.central)
    if last.truncation > last.rounding or drift > last.tolerance + _TRUST_ROUNDING * before.rounding:
        # Kinks so close by that rounding hides the last of the way to them: what lies between the slopes is possible.
        seen = [slope for look in (before, last) for slope in (look.left, look.right)]
        margin = last.reach + slack
        if min(seen) - margin <= analytic <= max(seen) + margin:
            return _found(last, analytic, KINK)
    smooth = [look for look in looks if not look.kinked] or looks
    return _found(min(smooth, key=lambda look: look.tolerance), analytic, WRONG)


def _look(function: Function, h: float, value: float, noise: float) -> _Look | None:
    ahead, behind, half_ahead, half_behind = function(h), function(-h), function(h / 2), function(-h / 2)
    if not all(map(math.isfinite, (ahead, behind, half_ahead, half_behind))):
        return None
    whole, half = (ahead - behind) / (2 * h), (half_ahead - half_behind) / h
    central = (4 * half - whole) / 3
    right_whole, right_half = (ahead - value) / h, 2 * (half_ahead - value) / h
    left_whole, left_half = (value - behind) / h, 2 * (value - half_behind) / h
    right, left = 2 * right_half - right_whole, 2 * left_half - left_whole
    return _Look(
        step=h,
        central=central,
        truncation=abs(central - half),
        rounding=_CENTRAL_ROUNDING * noise / h,
        left=left,
        right=right,
        half_jump=right_half - left_half,
        one_sided_truncation=max(abs(right - right_half), abs(left - left_half)),
        one_sided_rounding=_ONE_SIDED_ROUNDING * noise / h,
    )


def _found(look: _Look, analytic: float, verdict: str) -> Slope:
    numerical, error = look.central, look.truncation + look.rounding
    if look.kinked or verdict == KINK:
        low, high = min(look.left, look.right), max(look.left, look.right)
        numerical, error = min(max(analytic, low), high), look.one_sided_error
    return Slope(analytic, numerical, error, look.left, look.right, look.step, verdict)
