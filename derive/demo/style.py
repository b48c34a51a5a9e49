"""How the pictures look: one colour per optimizer everywhere, lines that bear their own names."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

__all__ = [
    "BLUE",
    "COLOURS",
    "DASHES",
    "GREY",
    "INK",
    "ORANGE",
    "Label",
    "axes",
    "figure",
    "label_ends",
    "panels",
    "shades",
    "svg",
]

INK, GREY, BLUE, ORANGE = "#222222", "#767676", "#0072b2", "#d55e00"

#: After Okabe and Ito (2008), whose colours people tell apart however they see colours. Two rules that walk (almost)
#: together share a hue, and one of them is dashed, so that both are seen where they meet.
COLOURS = {
    "sgd": "#222222",
    "momentum": "#0060b0",
    "momentum_velocity": "#3a98d4",
    "nesterov": "#007a55",
    "nesterov_lookahead": "#2a9d7c",
    "adagrad": "#dc9a00",
    "rmsprop": "#bd4b00",
    "adam_almost": "#cc79a7",
    "adam": "#660066",
}
DASHES: dict[str, Any] = dict.fromkeys(COLOURS, "solid") | {
    "momentum_velocity": (0, (3, 2)),
    "nesterov_lookahead": (0, (3, 2)),
    "adam_almost": (0, (3, 2)),
}

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "svg.hashsalt": "derive",
    "svg.fonttype": "path",
}


class Label(NamedTuple):
    """The name of a line, at the height at which the line ends."""

    height: float
    text: str
    colour: str


def figure(width: float = 4.8, height: float = 3.4) -> Figure:
    """An empty picture; inches, at the size at which it is seen."""
    with matplotlib.rc_context(_SETTINGS):
        return Figure(figsize=(width, height), layout="constrained")


def axes(picture: Figure, *, x: str, y: str, title: str, **options: Any) -> Any:
    """One pair of axes with its labels; ``options`` are scales and limits."""
    with matplotlib.rc_context(_SETTINGS):
        ax = picture.add_subplot(**options)
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        ax.set_title(title, loc="left", color=INK, fontweight="bold")
        ax.grid(True, color="#e6e6e6", linewidth=0.7)
        ax.set_axisbelow(True)
    return ax


def panels(picture: Figure, rows: int, columns: int) -> list[Any]:
    """Small pictures side by side, without ticks: they are to be compared with each other."""
    with matplotlib.rc_context(_SETTINGS):
        grid = picture.subplots(rows, columns)
    for ax in grid.flat:
        ax.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
        for side in ("top", "right", "bottom", "left"):
            ax.spines[side].set(visible=True, color="#d0d0d0", linewidth=0.7)
    return list(grid.flat)


def label_ends(ax: Any, labels: Sequence[Label], *, size: float = 8.5) -> None:
    """Write names at the right of the axes, at the height of their lines or as close as they fit.

    To be called when limits and scales are final.
    """
    _plain_ticks(ax)
    ax.figure.canvas.draw()
    box = ax.get_window_extent()
    gap = 1.25 * size / 72 * ax.figure.dpi / box.height
    to_axes = (ax.transData + ax.transAxes.inverted()).transform
    ends = sorted((min(max(to_axes((ax.get_xlim()[1], at.height))[1], 0.0), 1.0), at) for at in labels)
    heights = _spread([end for end, _ in ends], gap)
    for height, (end, label) in zip(heights, ends, strict=True):
        ax.annotate(
            label.text,
            xy=(1.0, end),
            xytext=(1.06, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=label.colour,
            fontsize=size,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": label.colour,
                "linewidth": 0.7,
                "relpos": (0.0, 0.5),
                "shrinkA": 1,
                "shrinkB": 0,
            },
        )


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Sorted heights moved apart to at least ``gap``, as little as that takes: neighbours that touch move as one."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-1], gap) < _bottom(groups[-2], gap) + gap * len(groups[-2]):
            last = groups.pop()
            groups[-1] += last
    return [_bottom(group, gap) + gap * n for group in groups for n in range(len(group))]


def _bottom(group: Sequence[float], gap: float) -> float:
    """The lowest place of a group of names: centred on the heights of their lines, and within the axes."""
    length = gap * (len(group) - 1)
    return max(min(sum(group) / len(group) - length / 2, 1 - length), 0.0)


def _plain_ticks(ax: Any) -> None:
    """1, 2, 5 and not 10 to the 0 where a logarithmic axis spans few decades."""
    for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
        if axis.get_scale() == "log" and high / low < 10_000:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 30 else (1,)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())


def shades(count: int) -> list[str]:
    """Colours of growing darkness, for a quantity that grows."""
    ramp = matplotlib.colormaps["viridis_r"]
    return [matplotlib.colors.to_hex(ramp(0.25 + 0.7 * n / max(count - 1, 1))) for n in range(count)]


def svg(picture: Figure) -> str:
    """The picture as the text of an SVG file, its letters drawn as outlines."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_SETTINGS):
        picture.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
