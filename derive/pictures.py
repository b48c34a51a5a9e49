"""Pictures of losses, update rules and analyses, from numbers that their generated code computed.

The numbers are rounded, so that pictures are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from derive.latex import escape
from derive.render import compile
from derive.statement import Loss

if TYPE_CHECKING:
    from derive.analyses import Analysis
    from derive.catalogue import Statement
    from derive.differentiate import Derivation
    from derive.rule import UpdateRule

__all__ = ["Picture", "analysis_picture", "loss_picture", "rule_picture"]

#: What gives the generated module of a statement: ``compile``, or one that has printed it before.
Live: TypeAlias = "Callable[[Statement], ModuleType]"


@dataclass(frozen=True)
class Picture:
    """The plots of an ``axis`` environment, its options first, and a caption."""

    lines: tuple[str, ...]
    caption: str


@dataclass(frozen=True)
class Curve:
    """Points of one plot; a jump splits a curve into pieces with one style."""

    title: str
    style: str
    pieces: tuple[tuple[tuple[float, float], ...], ...]


def _digits(value: float) -> str:
    text = f"{value:.4g}"
    return "0" if text == "-0" else text


def _plots(options: Sequence[str], curves: Sequence[Curve]) -> Iterator[str]:
    yield ", ".join(options)
    for curve in curves:
        for n, piece in enumerate(curve.pieces):
            forget = "" if n == 0 else ", forget plot"
            corners = piece if "mark=" in curve.style else _corners(piece)
            points = " ".join(f"({_digits(a)},{_digits(b)})" for a, b in corners)
            yield rf"\addplot[{curve.style}{forget}] coordinates {{{points}}};"
            if n == 0:
                yield rf"\addlegendentry{{{curve.title}}}"


def _corners(piece: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points without those that lie on the straight line between their neighbours."""
    kept: list[tuple[float, float]] = []
    for n, (a, b) in enumerate(piece):
        if 0 < n < len(piece) - 1:
            (before, low), (after, high) = kept[-1], piece[n + 1]
            between = low + (high - low) * (a - before) / (after - before)
            if abs(between - b) < 1e-9 * max(1.0, abs(b)):
                continue
        kept.append((a, b))
    return kept


# -- losses ----------------------------------------------------------------------------------------


def loss_picture(loss: Loss, derivation: Derivation, live: Live = compile) -> Picture | None:
    """The loss and its slope along one score, where the loss has weights, examples and targets."""
    form = derivation.form
    if len(form.parameters) != 1 or len(form.data) != 2 or any(d is None for _, d in form.hyperparameters):
        return None
    (weights,), (examples, targets) = form.parameters, form.data
    if len(examples.shape) != 2 or len(targets.shape) != 1 or targets.shape[0] != examples.shape[0]:
        return None
    classes = len(weights.shape) == 2 and targets.labels is not None and weights.shape[1] == examples.shape[1]
    if not classes and (len(weights.shape) != 1 or targets.labels is not None or weights.shape[0] != examples.shape[1]):
        return None
    module = live(loss)
    # A ridge's or a lasso's penalty has a default; it would hide what the picture is about.
    options = {n: 0.0 for n, _ in form.hyperparameters if n == "reg"}
    scores = np.linspace(-3, 3, 121)
    values, slopes = [], []
    for score in scores:
        if classes:
            w, y = np.array([[0.0], [score]]), np.array([0])
        else:
            w, y = np.array([score]), np.array([1.0])
        value, gradient = module.loss_and_grad(w, np.array([[1.0]]), y, **options)
        values.append(float(value))
        slopes.append(float(np.ravel(gradient)[-1]))
    if not np.all(np.isfinite(values)) or not np.all(np.isfinite(slopes)):
        return None
    curves = [
        Curve("loss", "thick, blue!60!black", tuple(_visible([_points(scores, values)]))),
        Curve("derivative", "thick, red!70!black, densely dashed", tuple(_visible(_jumps(scores, slopes)))),
    ]
    above = max([*values, *slopes])
    along = "score of the wrong class less that of the right one" if classes else "score, for the target 1"
    settings = [
        "width=0.62\\linewidth", "height=5.2cm", "axis lines=left", f"xlabel={{{along}}}", "xmin=-3", "xmax=3.2",
        f"ymax={_digits(min(above, 6) * 1.08)}", "legend pos=outer north east",
        "legend style={draw=none, fill=none, font=\\small}", "legend cell align=left", "label style={font=\\small}",
        "tick label style={font=\\small}", "clip=false",
    ]  # fmt: skip
    what = "One example of two classes" if classes else "One example"
    caption = f"{what} with one feature of value 1: the loss and its derivative, computed by the generated code."
    return Picture(tuple(_plots(settings, curves)), caption)


def _points(along: Any, values: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple((float(a), float(b)) for a, b in zip(along, values, strict=True))


#: What lies beyond is not drawn.
FLOOR, CEILING = -20.0, 6.5


def _visible(pieces: Iterable[tuple[tuple[float, float], ...]]) -> Iterator[tuple[tuple[float, float], ...]]:
    """The parts of curves between floor and ceiling."""
    for piece in pieces:
        for inside, run in groupby(piece, key=lambda point: FLOOR <= point[1] <= CEILING):
            if inside:
                yield tuple(run)


def _jumps(along: Any, values: Sequence[float]) -> Iterator[tuple[tuple[float, float], ...]]:
    """The points of a curve, split where it jumps."""
    steps = np.abs(np.diff(values))
    big = max(0.25, 8 * float(np.median(steps)))
    start = 0
    for n, step in enumerate(steps, start=1):
        if step > big:
            yield _points(along[start:n], values[start:n])
            start = n
    yield _points(along[start:], values[start:])


# -- update rules ----------------------------------------------------------------------------------

_STYLES = (
    "thick, blue!60!black, mark=*, mark size=1.3pt",
    "thick, red!70!black, mark=o, mark size=1.5pt",
    "thick, green!45!black, mark=square, mark size=1.3pt",
    "thick, orange!80!black, mark=triangle, mark size=1.6pt",
)


def rule_picture(rule: UpdateRule, among: Sequence[Statement], live: Live = compile) -> Picture | None:
    """How far the rule moves at each step under a constant gradient, beside the rules that keep the same state."""
    if not rule.state or any(h.default is None for h in rule.hyperparameters):
        return None
    kept = {s.name for s in rule.state}
    family = [rule]
    for other in among:
        if isinstance(other, Loss) or other is rule or any(h.default is None for h in other.hyperparameters):
            continue
        if {s.name for s in other.state} == kept:
            family.append(other)
    if all("learning_rate" not in {h.name for h in r.hyperparameters} for r in family):
        return None
    count = 10 if any(r.counts_steps for r in family) else 40
    curves = []
    for r, style in zip(family, _STYLES, strict=False):
        lengths = _step_lengths(live(r), r, count)
        if not np.all(np.isfinite(lengths)):
            return None
        marks = style if count <= 10 else style.split(", mark=")[0]
        curves.append(Curve(escape(r.name), marks, (_points(range(1, count + 1), lengths),)))
    settings = [
        "width=0.62\\linewidth", "height=5.2cm", "axis lines=left", "xlabel={step}",
        "ylabel={step / learning rate}", "xmin=0", f"xmax={count + 1}", "ymin=0",
        "legend style={draw=none, fill=none, font=\\small}", "legend cell align=left", "label style={font=\\small}",
        "tick label style={font=\\small}", "legend pos=outer north east",
    ]  # fmt: skip
    lengths = [b for c in curves for piece in c.pieces for _, b in piece]
    if max(lengths) > 20 * min(lengths) > 0:
        settings = [*(s for s in settings if s != "ymin=0"), "ymode=log", "log ticks with fixed point"]
    else:
        settings.append(f"ymax={_digits(1.1 * max(lengths))}")
    caption = "The steps under a constant gradient of 1, computed by the generated code with default hyperparameters."
    return Picture(tuple(_plots(settings, curves)), caption)


def _step_lengths(module: ModuleType, rule: UpdateRule, count: int) -> list[float]:
    rate = next((h.default for h in rule.hyperparameters if h.name == "learning_rate"), None) or 1.0
    params, gradient = np.zeros(1), np.ones(1)
    state, lengths = module.init(params), []
    for _ in range(count):
        moved, state = module.update(params, gradient, state)
        lengths.append(float(abs(moved[0] - params[0]) / rate))
        params = moved
    return lengths


# -- analyses --------------------------------------------------------------------------------------

_SETTINGS = (
    "width=0.6\\linewidth", "height=5.2cm", "axis lines=left", "legend pos=outer north east",
    "legend style={draw=none, fill=none, font=\\small}", "legend cell align=left", "label style={font=\\small}",
    "tick label style={font=\\small}",
)  # fmt: skip


def analysis_picture(analysis: Analysis, live: Live = compile) -> Picture | None:
    """What the generated code does where the analysis says what it must do; None for an analysis without a picture."""
    drawn = {"conditioning": _bowl_picture, "saddles": _saddle_picture, "noise": _noise_picture}
    return drawn[analysis.name](live) if analysis.name in drawn else None


def _path(
    loss: ModuleType, optimizer: ModuleType, start: tuple[float, float], steps: int, kappa: Any = None, **how: Any
) -> Any:
    """The points of a descent with the generated code, the start first."""
    options = {} if kappa is None else {"kappa": kappa}
    x = np.array(start)
    state, points = optimizer.init(x), [x]
    for _ in range(steps):
        _, slope = loss.loss_and_grad(x, **options)
        x, state = optimizer.update(x, slope, state, **how)
        points.append(x)
    return np.array(points)


def _bowl_picture(live: Live) -> Picture:
    """Both coordinates on the bowl, at a low learning rate and at the best."""
    from derive.losses.quadratic import quadratic
    from derive.optimizers.sgd import sgd

    kappa, steps = 10.0, 15
    best = 2 / (1 + kappa)
    curves = []
    for rate, mark in ((0.5 / kappa, "densely dashed, mark=o"), (best, "mark=*")):
        points = _path(live(quadratic), live(sgd), (1.0, 1.0), steps, kappa=kappa, learning_rate=rate)
        for axis, name, colour in ((0, "shallow", "blue!60!black"), (1, "steep", "red!70!black")):
            style = f"thick, {colour}, {mark}, mark options={{solid}}, mark size=1.3pt"
            title = f"{name}, rate {_digits(rate)}"
            curves.append(Curve(title, style, (_points(range(steps + 1), points[:, axis]),)))
    window = ("xmin=0", f"xmax={steps + 1}", "ymin=-1", "ymax=1.1")
    settings = [*_SETTINGS, "xlabel={step}", "ylabel={coordinate}", *window]
    caption = (
        f"The two coordinates on a bowl with curvatures 1 and {_digits(kappa)}, at a low learning rate and at the "
        "best, computed by the generated code."
    )
    return Picture(tuple(_plots(settings, curves)), caption)


def _saddle_picture(live: Live) -> Picture:
    """The distance from the ridge, step by step."""
    from derive.losses.saddle import saddle
    from derive.optimizers.momentum import momentum
    from derive.optimizers.sgd import sgd

    rate, steps, every = 0.1, 160, 4
    curves = []
    for rule, colour in ((sgd, "blue!60!black"), (momentum, "red!70!black")):
        for start, dashes in ((1e-3, ""), (1e-6, ", densely dashed")):
            far = _path(live(saddle), live(rule), (1.0, start), steps, learning_rate=rate)[:, 1]
            title = f"{escape(rule.name)}, from {_power_of_ten(start)}"
            curve = _points(range(0, steps + 1, every), far[::every])
            curves.append(Curve(title, f"thick, {colour}{dashes}", (curve,)))
    settings = [*_SETTINGS, "xlabel={step}", "ylabel={distance from the ridge}", "xmin=0", f"xmax={steps}", "ymode=log"]
    caption = (
        f"Leaving the saddle point of the catalogue at learning rate {_digits(rate)}, computed by the generated code. "
        "Straight lines are powers; a start that is a thousand times closer shifts them."
    )
    return Picture(tuple(_plots(settings, curves)), caption)


def _power_of_ten(value: float) -> str:
    return f"$10^{{{round(np.log10(value))}}}$"


def _noise_picture(live: Live) -> Picture:
    """The variance of x under noise that is 1 or -1, over every sequence of signs, and the level that is proved."""
    from derive.analyses.noise import LEVEL, c, sigma
    from derive.optimizers.sgd import sgd
    from derive.rule import learning_rate

    steps = 12
    module = live(sgd)
    signs = 1.0 - 2.0 * ((np.arange(2**steps)[:, None] >> np.arange(steps)) & 1)
    curves, levels = [], []
    for rate, style in zip((0.6, 0.3, 0.15), _STYLES, strict=False):
        x, spread = np.zeros(2**steps), [0.0]
        state = module.init(x)
        for step in range(steps):
            x, state = module.update(x, x + signs[:, step], state, learning_rate=rate)
            spread.append(float(np.mean(x**2) - np.mean(x) ** 2))
        curves.append(Curve(f"rate {_digits(rate)}", f"only marks, {style}", (_points(range(steps + 1), spread),)))
        level = float(LEVEL.subs({learning_rate: rate, c: 1, sigma: 1}))
        levels.append(((0.0, level), (float(steps), level)))
    curves.append(Curve("levels", "gray, densely dashed", tuple(levels)))
    settings = [*_SETTINGS, "xlabel={step}", "ylabel={variance}", "xmin=0", f"xmax={steps + 0.5}", "ymin=0"]
    caption = (
        "The variance of the parameter where the curvature is 1 and the noise of a step is 1 or $-1$: dots, over every "
        f"sequence of {steps} signs, computed by the generated code; lines, the levels that are proved."
    )
    return Picture(tuple(_plots(settings, curves)), caption)
