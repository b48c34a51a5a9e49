"""Pictures of losses and update rules, from numbers that their generated code computed.

The numbers are rounded, so that pictures are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from derive.latex import escape
from derive.statement import Loss

if TYPE_CHECKING:
    from derive.catalogue import Statement
    from derive.differentiate import Derivation
    from derive.rule import UpdateRule

__all__ = ["Picture", "loss_picture", "rule_picture"]


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


def loss_picture(loss: Loss, derivation: Derivation) -> Picture | None:
    """The loss and its slope along one score, where the loss has weights, examples and targets."""
    form = derivation.form
    if len(form.parameters) != 1 or len(form.data) != 2 or any(d is None for _, d in form.hyperparameters):
        return None
    (weights,), (examples, targets) = form.parameters, form.data
    if len(examples.shape) != 2 or len(targets.shape) != 1 or targets.shape[0] != examples.shape[0]:
        return None
    from derive.render import compile as compiled

    classes = len(weights.shape) == 2 and targets.labels is not None and weights.shape[1] == examples.shape[1]
    if not classes and (len(weights.shape) != 1 or targets.labels is not None or weights.shape[0] != examples.shape[1]):
        return None
    module = compiled(loss)
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


def rule_picture(rule: UpdateRule, among: Sequence[Statement]) -> Picture | None:
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
        lengths = _step_lengths(r, count)
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


def _step_lengths(rule: UpdateRule, count: int) -> list[float]:
    from derive.render import compile as compiled

    module = compiled(rule)
    rate = next((h.default for h in rule.hyperparameters if h.name == "learning_rate"), None) or 1.0
    params, gradient = np.zeros(1), np.ones(1)
    state, lengths = module.init(params), []
    for _ in range(count):
        moved, state = module.update(params, gradient, state)
        lengths.append(float(abs(moved[0] - params[0]) / rate))
        params = moved
    return lengths
