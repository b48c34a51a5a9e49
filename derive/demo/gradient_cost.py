"""What a gradient costs: numerically, one or two evaluations of the loss for each dimension; analytically, one pass."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import numpy as np

from derive.demo.generated import module, numerical
from derive.demo.page import Picture, Section
from derive.demo.style import BLUE, ORANGE, Label, axes, figure, label_ends, svg

__all__ = ["sections"]

EXAMPLES, CLASSES = 64, 10
FEATURES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def _seconds(call: Callable[[], object], least: float = 0.02) -> float:
    """The shortest of some runs, which is the one that other programs disturbed least."""
    best, spent = np.inf, 0.0
    while spent < least:
        start = time.perf_counter()
        call()
        took = time.perf_counter() - start
        best, spent = min(best, took), spent + took
    return best


def sections(tell: Callable[[str], None]) -> list[Section]:
    tell("numerical against analytic gradient")
    rng, svm = np.random.default_rng(0), module("svm")
    dimensions, slow, fast = [], [], []
    worst = 0.0
    for features in FEATURES:
        W = 0.01 * rng.standard_normal((CLASSES, features))
        X, y = rng.standard_normal((EXAMPLES, features)), rng.integers(CLASSES, size=EXAMPLES)
        loss = functools.partial(_loss, svm, X, y)
        dimensions.append(W.size)
        slow.append(_seconds(functools.partial(numerical().gradient, loss, W)))
        fast.append(_seconds(functools.partial(svm.grad, W, X, y)))
        worst = max(worst, float(np.abs(numerical().gradient(loss, W) - svm.grad(W, X, y)).max()))
    ratio = slow[-1] / fast[-1]
    print(f"          {dimensions[-1]} dimensions: {slow[-1]:.3g} s against {fast[-1]:.3g} s, {ratio:.0f} times")
    picture = figure()
    title = "Time for one gradient of the SVM loss"
    ax = axes(picture, x="dimensions (number of weights)", y="seconds", title=title, xscale="log", yscale="log")
    ax.plot(dimensions, slow, "o-", color=ORANGE, markersize=4)
    ax.plot(dimensions, fast, "o-", color=BLUE, markersize=4)
    ax.set_xlim(dimensions[0] * 0.8, dimensions[-1] * 1.25)
    label_ends(ax, [Label(slow[-1], "numerical", ORANGE), Label(fast[-1], "analytic", BLUE)])
    about = (
        "A numerical gradient moves one weight at a time and evaluates the loss again, twice for central differences: "
        "its time is the number of weights times that of the loss. The analytic gradient is one pass whatever their "
        f"number. At {dimensions[-1]} weights it is {ratio:.0f} times as fast here, and the two agree to "
        f"{worst:.0e}. So one computes the analytic gradient, and checks it with the numerical one."
    )
    caption = f"{EXAMPLES} examples, {CLASSES} classes, 1 to {FEATURES[-1]} features."
    return [Section("Numerical and analytic gradient", about, (Picture("gradient-cost", svg(picture), caption),))]


def _loss(svm: object, X: np.ndarray, y: np.ndarray, W: np.ndarray) -> float:
    return float(svm.loss(W, X, y))  # type: ignore[attr-defined]
