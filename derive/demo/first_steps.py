"""The first steps of Adam, with and without the correction of its moments: what happens at t = 0?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from derive.demo.generated import module
from derive.demo.page import Picture, Section
from derive.demo.style import COLOURS, DASHES, GREY, Label, axes, figure, label_ends, svg

__all__ = ["sections", "step_lengths"]

STEPS = 3000


def step_lengths(optimizer: str, steps: int, gradient: float = 1.0) -> np.ndarray:
    """The lengths of the steps under a constant gradient, in learning rates."""
    rule, rate = module(optimizer), 0.001
    x, lengths = np.zeros(1), np.empty(steps)
    state = rule.init(x)
    for t in range(steps):
        before = x[0]
        rule.step(x, np.full(1, gradient), state, learning_rate=rate)
        lengths[t] = (before - x[0]) / rate
    return lengths


def sections(tell: Callable[[str], None]) -> list[Section]:
    tell("first steps of Adam")
    names = ("adam_almost", "adam")
    lengths = {name: step_lengths(name, STEPS) for name in names}
    t = np.arange(1, STEPS + 1)
    picture = figure()
    title = "Length of step t under a constant gradient"
    ax = axes(picture, x="t", y="length in learning rates", title=title, xscale="log")
    for name in names:
        ax.plot(t, lengths[name], color=COLOURS[name], linestyle=DASHES[name])
    first, peak = lengths["adam_almost"][0], int(lengths["adam_almost"].argmax())
    ax.plot(1, first, "o", color=COLOURS["adam_almost"], markersize=4, clip_on=False)
    ax.annotate(f"{first:.2f}", (1, first), (7, 1), textcoords="offset points", color=GREY, fontsize=8.5, va="center")
    highest = lengths["adam_almost"][peak]
    ax.annotate(
        f"{highest:.1f} at t = {peak + 1}", (peak + 1, highest), (0, 4), textcoords="offset points", color=GREY,
        fontsize=8.5, ha="center",
    )  # fmt: skip
    ax.set_xlim(1, STEPS)
    ax.set_ylim(0, 1.12 * highest)
    label_ends(ax, [Label(lengths[name][-1], name, COLOURS[name]) for name in names])
    about = (
        "Both moments of Adam start at 0 and are too small at first. The second one is worse off, for its average is "
        f"longer, so without correction the first step is √10 = {np.sqrt(10):.2f} learning rates long, and the "
        "steps grow before they settle. With correction every step is one learning rate long, from the first on."
    )
    caption = f"Without correction the steps go up to {highest:.1f} learning rates; with it they are all alike."
    return [Section("The first steps of Adam", about, (Picture("first-steps", svg(picture), caption),))]
