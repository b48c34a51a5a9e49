"""The three problems of SGD: what the analyses prove is drawn as lines, what the generated code does as dots."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from sympy import Expr

from derive.demo.digits import SOFTMAX, load
from derive.demo.generated import module
from derive.demo.page import Picture, Section
from derive.demo.style import BLUE, COLOURS, GREY, ORANGE, Label, axes, figure, label_ends, shades, svg
from derive.loops import gradient_descent

__all__ = ["sections"]

# The package has the analyses themselves under these names.
bowl = import_module("derive.analyses.conditioning")
ridge = import_module("derive.analyses.saddles")
spread = import_module("derive.analyses.noise")


def number(expr: Expr, **values: float) -> float:
    """A formula of an analysis, its symbols replaced by numbers by name."""
    return float(expr.subs({symbol: values[symbol.name] for symbol in expr.free_symbols}))


def sections(tell: Callable[[str], None]) -> list[Section]:
    tell("the three problems of SGD")
    return [_conditioning(), _saddles(), _noise()]


def _path(loss: str, start: Sequence[float], steps: int, optimizer: str, **options: Any) -> np.ndarray:
    """The points of a run, from the start on."""
    hyperparameters = {name: options.pop(name) for name in ("learning_rate", "rho") if name in options}
    points: list[np.ndarray] = []
    result = gradient_descent(
        functools.partial(module(loss).loss_and_grad, **options),
        np.array(start, float),
        optimizer=module(optimizer),
        steps=steps,
        callback=lambda step, height, at: points.append(at),
        **hyperparameters,
    )
    return np.array([*points, result.params])


# -- fast in one direction, slow in another --------------------------------------------------------------------------


def _conditioning() -> Section:
    about = (
        "A bowl with curvatures a in the steep direction and b in the shallow one. A step multiplies the two "
        "coordinates by 1 − lr a and 1 − lr b. Above lr = 1/a the steep one changes sign each time: the path zig-zags; "
        "above 2/a it diverges. At the best rate both shrink by (κ − 1)/(κ + 1), where κ = a/b is the condition "
        "number; momentum has √κ in the place of κ. Lines are what is proved, dots what the generated code does."
    )
    return Section("First problem: fast in one direction, slow in another", about, (_factors(), _steps_needed()))


def _factors() -> Picture:
    kappa = 10.0
    rates = np.linspace(0.005, 0.215, 43)
    picture = figure()
    title = f"Factor of one step, curvatures 1 and {kappa:g}"
    ax = axes(picture, x="learning rate", y="size of the factor", title=title, ylim=(0, 1.25), xlim=(0, 0.225))
    ax.set_xticks([0, 0.05, 0.1, 0.15, 0.2])
    for place, name in ((1 / kappa, "1/a"), (2 / (1 + kappa), "best"), (2 / kappa, "2/a")):
        ax.axvline(place, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
        ax.annotate(name, (place, 1.25), (2, -3), textcoords="offset points", color=GREY, fontsize=8, va="top")
    ends = []
    for curvature, axis, name, colour in ((1.0, 0, "shallow", BLUE), (kappa, 1, "steep", ORANGE)):
        factor = [abs(number(bowl.factor(bowl.c), c=curvature, learning_rate=rate)) for rate in rates]
        ax.plot(rates, factor, color=colour)
        for rate in rates[2::4]:
            points = _path("quadratic", (1.0, 1.0), 10, "sgd", kappa=kappa, learning_rate=float(rate))[:, axis]
            ax.plot(rate, abs(points[-1] / points[0]) ** 0.1, "o", color=colour, markersize=3.5)
        ends.append(Label(factor[-1], name, colour))
    label_ends(ax, ends)
    return Picture("problem-1-factors", svg(picture), "The rate that suits both directions is close to the brink.")


def _steps_needed() -> Picture:
    kappas = (2.0, 5.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
    goal = 1e-6
    picture = figure()
    title = "Steps to a millionth of the distance"
    ax = axes(picture, x="condition number", y="steps", title=title, xscale="log", yscale="log")
    ends = []
    for name in ("sgd", "momentum"):
        theory, counted = [], []
        for kappa in kappas:
            factor = number(bowl.BEST if name == "sgd" else bowl.BEST_WITH_MOMENTUM, kappa=kappa)
            rate = bowl.BEST_RATE if name == "sgd" else bowl.BEST_RATE_WITH_MOMENTUM
            options = {} if name == "sgd" else {"rho": factor**2}
            theory.append(np.log(goal) / np.log(factor))
            points = _path(
                "quadratic", (1.0, 1.0), int(2 * theory[-1]) + 20, name, kappa=kappa,
                learning_rate=number(rate, a=kappa, b=1.0), **options,
            )  # fmt: skip
            counted.append(int((np.abs(points).max(axis=1) <= goal).argmax()))
        ax.plot(kappas, theory, color=COLOURS[name])
        ax.plot(kappas, counted, "o", color=COLOURS[name], markersize=4)
        ends.append(Label(theory[-1], name, COLOURS[name]))
    ax.set_xlim(kappas[0] * 0.85, kappas[-1] * 1.15)
    label_ends(ax, ends)
    caption = (
        "At their best rates. Dots of momentum lie above their line: a double root costs a factor that grows with t."
    )
    return Picture("problem-1-steps", svg(picture), caption)


# -- local minima and saddle points ----------------------------------------------------------------------------------


def _saddles() -> Section:
    rate, rho, out = 0.05, 0.9, 0.01
    distances = 10.0 ** -np.arange(3, 15)
    picture = figure()
    title = "Steps to leave the saddle point"
    ax = axes(picture, x="distance from the ridge at the start", y="steps", title=title, xscale="log")
    ends = []
    growths = {
        "sgd": number(ridge.GROWTH, b=1.0, learning_rate=rate),
        "momentum": number(ridge.GROWTH_WITH_MOMENTUM, b=1.0, learning_rate=rate, rho=rho),
    }
    for name, growth in growths.items():
        # Momentum starts at rest: of its two powers, the one that grows has this share.
        other = 1 + rho + rate - growth
        share = 1.0 if name == "sgd" else (1 + rate - other) / (growth - other)
        theory = np.log(out / (share * distances)) / np.log(growth)
        options = {} if name == "sgd" else {"rho": rho}
        counted = [
            int((_path("saddle", (0.0, d), int(t) + 10, name, learning_rate=rate, **options)[:, 1] >= out).argmax())
            for d, t in zip(distances, theory, strict=True)
        ]
        ax.plot(distances, theory, color=COLOURS[name])
        ax.plot(distances, counted, "o", color=COLOURS[name], markersize=4)
        ends.append(Label(theory[-1], name, COLOURS[name]))
    ax.invert_xaxis()
    ax.set_ylim(bottom=0)
    label_ends(ax, ends)
    about = (
        "At a minimum or a saddle point the gradient is zero, and so is the step. On the ridge that leads to a saddle "
        "point, plain descent stays for ever; from a distance e beside it, it leaves, in a time that grows like "
        "log(1/e): ten times closer costs a constant number of steps more. Momentum gathers speed and leaves sooner."
    )
    caption = f"Until the distance is {out:g}, at learning rate {rate:g}. Lines are what is proved, dots are counted."
    pictures = (Picture("problem-2-escape", svg(picture), caption),)
    return Section("Second problem: local minima and saddle points", about, pictures)


# -- noise -----------------------------------------------------------------------------------------------------------


def _noise() -> Section:
    about = (
        "The gradient of a minibatch of B examples is right on average. Its variance falls like 1/B, and faster when "
        "the batch is a good part of the data: drawn without replacement, all of the data has no noise. At a constant "
        "learning rate the noise keeps the weights moving: their variance does not go to zero but settles at a level "
        "that is about proportional to the learning rate."
    )
    return Section("Third problem: noise", about, (_batch_variance(), _level()))


def _batch_variance() -> Picture:
    digits = load()
    N = 512
    X, y, W = digits.X[:N].astype(float), digits.y[:N], np.asarray(SOFTMAX.start(None), float)
    grad = module("softmax").grad
    each = np.array([grad(W, X[i : i + 1], y[i : i + 1]).ravel() for i in range(N)])
    total = each.var(axis=0).sum()
    rng = np.random.default_rng(0)
    sizes = (1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 480, 508)
    picture = figure()
    title = f"Variance of the minibatch gradient, {N} digits"
    ax = axes(picture, x="batch size", y="variance, all weights together", title=title, xscale="log", yscale="log")
    steps = np.unique(np.geomspace(1, N - 1, 200).astype(int))
    without = [total / B * number(spread.FACTOR, N=N, B=int(B)) for B in steps]
    ax.plot(steps, total / steps, color=GREY, linewidth=1.0, linestyle=(0, (3, 2)))
    ax.plot(steps, without, color=BLUE)
    mean = each.mean(axis=0)
    for B in sizes:
        draws = [grad(W, X[rows], y[rows]).ravel() for rows in (rng.permutation(N)[:B] for _ in range(100))]
        ax.plot(B, ((np.array(draws) - mean) ** 2).sum(axis=1).mean(), "o", color=BLUE, markersize=4)
    ax.set_xlim(0.85, N * 1.1)
    ax.set_ylim(bottom=without[-1] * 0.7)
    label_ends(ax, [Label(total / N, "1/B alone", GREY), Label(total / N / 12, "without\nreplacement", BLUE)])
    return Picture("problem-3-variance", svg(picture), "Lines are what is proved, dots are measured, 100 batches each.")


def _level() -> Picture:
    particles, steps, curvature, sigma = 4000, 120, 1.0, 1.0
    sgd, rng = module("sgd"), np.random.default_rng(0)
    formula = spread.VARIANCE
    picture = figure()
    title = "Variance of x on a bowl, noise in every step"
    ax = axes(picture, x="step", y="variance", title=title)
    rates, ends = (0.05, 0.1, 0.2, 0.4), []
    for rate, colour in zip(rates, shades(len(rates)), strict=True):
        x = np.zeros(particles)
        state = sgd.init(x)
        values = {"learning_rate": rate, "sigma": sigma, "q": (1 - rate * curvature) ** 2}
        theory = [number(formula, t=t, **values) for t in range(steps + 1)]
        for t in range(1, steps + 1):
            sgd.step(x, curvature * x + sigma * rng.standard_normal(particles), state, learning_rate=rate)
            if t % 8 == 0:
                ax.plot(t, x.var(), "o", color=colour, markersize=3, clip_on=False)
        ax.plot(theory, color=colour)
        ends.append(Label(theory[-1], f"lr = {rate:g}", colour))
    ax.set_xlim(0, steps)
    ax.set_ylim(bottom=0)
    label_ends(ax, ends)
    caption = (
        f"Lines are what is proved, dots the variance of {particles} runs. Half the learning rate, half the level."
    )
    return Picture("problem-3-level", svg(picture), caption)
