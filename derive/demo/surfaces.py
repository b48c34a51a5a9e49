"""Paths in the plane: a long bowl, a saddle, and Rosenbrock's valley, walked by every optimizer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from derive.demo.generated import OPTIMIZERS, module
from derive.demo.page import Picture, Section
from derive.demo.style import COLOURS, DASHES, INK, Label, axes, figure, label_ends, panels, svg
from derive.loops import DivergenceError, gradient_descent

__all__ = ["SURFACES", "Surface", "sections", "walk"]

#: Below this a loss counts as 0.
LOWEST = 1e-8

RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


class Surface(NamedTuple):
    """A loss of two variables, and a walk on it."""

    name: str
    title: str
    loss: Callable[[np.ndarray], float]
    loss_and_grad: Callable[[np.ndarray], tuple[float, np.ndarray]]
    start: tuple[float, float]
    steps: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    minima: tuple[tuple[float, float], ...]
    floor: float
    rates: dict[str, float] | None
    about: str


def _surface(loss: str, bound: dict[str, float], **what: Any) -> Surface:
    compiled = module(loss)
    return Surface(
        name=loss,
        loss=functools.partial(compiled.loss, **bound),
        loss_and_grad=functools.partial(compiled.loss_and_grad, **bound),
        **what,
    )


def SURFACES() -> tuple[Surface, ...]:
    """The three surfaces; a function, for it compiles them."""
    momenta = dict.fromkeys(("momentum", "momentum_velocity", "nesterov", "nesterov_lookahead"), 0.02)
    adaptive = {"adagrad": 0.5, "rmsprop": 0.1, "adam_almost": 0.1, "adam": 0.1}
    return (
        _surface(
            "quadratic",
            {"kappa": 20.0},
            title="A long bowl, curvatures 1 and 20",
            start=(-2.0, 0.7),
            steps=60,
            x_range=(-2.4, 1.2),
            y_range=(-1.0, 1.0),
            minima=((0.0, 0.0),),
            floor=0.0,
            rates={"sgd": 0.092, **momenta, **adaptive},
            about="Plain descent jumps across the bowl and creeps along it. Momentum swings across it less and less "
            "while it moves along. To the adaptive rules the bowl is round: they set out at the same pace in both "
            "directions.",
        ),
        _surface(
            "saddle",
            {},
            title="A saddle between two minima",
            start=(-1.2, 0.001),
            steps=60,
            x_range=(-1.5, 0.8),
            y_range=(-0.6, 1.5),
            minima=((0.0, 1.0), (0.0, -1.0)),
            floor=-0.25,
            rates=dict.fromkeys(OPTIMIZERS, 0.1),
            about="All start 0.001 beside the ridge, with learning rate 0.1. Plain descent walks down the ridge and "
            "lingers at the saddle point; momentum gathers speed on the way out. The adaptive rules divide by the size "
            "of the gradient and take the small slope across the ridge for as good as any other.",
        ),
        _surface(
            "rosenbrock",
            {},
            title="Rosenbrock's valley",
            start=(-1.2, 1.0),
            steps=400,
            x_range=(-1.9, 1.7),
            y_range=(-0.8, 2.2),
            minima=((1.0, 1.0),),
            floor=0.0,
            rates=None,
            about="A bent valley with steep walls and a flat bottom, which goes down from the cliff on the left to the "
            "minimum on the right. Of seven learning rates each rule walks with the one that keeps it lowest over "
            "the run, and in the picture.",
        ),
    )


def walk(surface: Surface, optimizer: str, rate: float) -> np.ndarray:
    """The points of a walk, as rows; fewer if it leaves the range of floating-point numbers."""
    points: list[np.ndarray] = []
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            result = gradient_descent(
                surface.loss_and_grad,
                np.array(surface.start),
                optimizer=module(optimizer),
                steps=surface.steps,
                callback=lambda step, loss, at: points.append(at),
                learning_rate=rate,
            )
            points.append(result.params)
    except DivergenceError:
        pass
    return np.array(points)


def _best_rate(surface: Surface, optimizer: str) -> float:
    """The learning rate at which the walk stays in the picture, and lowest: by the geometric mean of its heights."""
    corners = np.array([surface.x_range, surface.y_range]).T

    def height(rate: float) -> float:
        points = walk(surface, optimizer, rate)
        if len(points) <= surface.steps or (points < corners[0]).any() or (points > corners[1]).any():
            return np.inf
        return float(np.log([surface.loss(point) - surface.floor + LOWEST for point in points]).mean())

    return min(RATES, key=height)


# -- sections ----------------------------------------------------------------------------------------------------------


def sections(tell: Callable[[str], None]) -> list[Section]:
    return [_section(surface, tell) for surface in SURFACES()]


def _section(surface: Surface, tell: Callable[[str], None]) -> Section:
    tell(f"paths: {surface.title}")
    rates = surface.rates or {name: _best_rate(surface, name) for name in OPTIMIZERS}
    if surface.rates is None:
        print("          learning rates: " + ", ".join(f"{name} {rate:g}" for name, rate in rates.items()))
    paths = {name: walk(surface, name, rates[name]) for name in OPTIMIZERS}
    pictures = (
        Picture(
            f"paths-{surface.name}",
            _paths(surface, paths),
            f"{surface.title}: {surface.steps} steps from the circle; a cross marks a minimum.",
        ),
        Picture(f"loss-{surface.name}", _losses(surface, paths), f"{surface.title}: height above the minimum."),
    )
    told = ", ".join(f"{name} {rates[name]:g}" for name in OPTIMIZERS)
    constant = len(set(rates.values())) == 1
    return Section(surface.title, surface.about + ("" if constant else f" Learning rates: {told}."), pictures)


def _paths(surface: Surface, paths: dict[str, np.ndarray]) -> str:
    """One panel for each optimizer: nine paths in one would hide each other."""
    x, y = np.linspace(*surface.x_range, 61), np.linspace(*surface.y_range, 61)
    heights = np.array([[surface.loss(np.array([a, b])) for a in x] for b in y]) - surface.floor
    levels = np.quantile(np.sqrt(heights), np.linspace(0.03, 0.95, 8)) ** 2
    picture = figure(4.8, 5.0)
    for ax, (name, points) in zip(panels(picture, 3, 3), paths.items(), strict=True):
        ax.contour(x, y, heights, levels=levels, colors="#c4c4c4", linewidths=0.5)
        ax.plot(*points.T, color=COLOURS[name], linewidth=1.1, marker="o", markersize=1.5, markeredgewidth=0)
        ax.plot(*surface.start, "o", color=INK, markersize=4, markerfacecolor="white", markeredgewidth=0.9)
        for minimum in surface.minima:
            ax.plot(*minimum, "x", color=INK, markersize=4.5, markeredgewidth=1.0)
        ax.set_xlim(*surface.x_range)
        ax.set_ylim(*surface.y_range)
        ax.set_title(name, color=COLOURS[name], fontsize=8.5, fontweight="bold")
    return svg(picture)


def _losses(surface: Surface, paths: dict[str, np.ndarray]) -> str:
    picture = figure(4.8, 5.0)
    ax = axes(picture, x="step", y="loss above the minimum", title=surface.title, yscale="log")
    ends = []
    for name, points in paths.items():
        heights = np.maximum([surface.loss(p) - surface.floor for p in points], LOWEST)
        ax.plot(heights, color=COLOURS[name], linestyle=DASHES[name])
        ends.append(Label(heights[-1], name, COLOURS[name]))
    ax.set_xlim(0, surface.steps)
    ax.set_ylim(max(ax.get_ylim()[0], LOWEST), min(ax.get_ylim()[1], 100.0))
    label_ends(ax, ends)
    return svg(picture)
