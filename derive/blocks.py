"""Row blocks: a loss that is a sum over examples, computed a block of examples at a time.

A matrix of examples is read from memory twice by the usual vectorised code, once for the scores and once for the
gradient. A block of its rows stays in the cache between the two. ``plan`` finds which nodes of an array program belong
to a block, which are sums over examples, and which have nothing to do with examples; it knows nothing of what the
program computes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sympy import Symbol

from derive.program import Node, Update

__all__ = ["Plan", "plan"]


class _NotByRows(Exception):
    """Some node mixes examples in a way that one pass over blocks can't compute."""


@dataclass
class Plan:
    """How the nodes of a program relate to the axis of examples.

    Attributes
    ----------
    size : Symbol
        The number of examples.
    rows : dict
        For each node that belongs to a block, which of its axes is that of the examples.
    sums : dict
        Nodes that add up over examples, by number, in the order in which they were made.
    after : set
        Nodes that depend on such sums.
    inputs : list of str
        The arguments that are read a block of rows at a time.
    """

    size: Symbol
    rows: dict[int, int] = field(default_factory=dict)
    sums: dict[int, Node] = field(default_factory=dict)
    after: set[int] = field(default_factory=set)
    inputs: list[str] = field(default_factory=list)


def plan(roots: Iterable[Node], data: Iterable[str], size: Symbol) -> Plan | None:
    """A plan for one pass over blocks of rows of the data, or None if there is none or it would not pay."""
    nodes: dict[int, Node] = {}

    def collect(node: Node) -> None:
        if node.number not in nodes:
            nodes[node.number] = node
            for child, _ in node.args:
                collect(child)

    roots = list(roots)
    for root in roots:
        collect(root)
    found = Plan(size)
    try:
        for number in sorted(nodes):
            _classify(nodes[number], found, set(data))
    except _NotByRows:
        return None
    if any(r.number in found.rows for r in roots):
        return None
    # Worth it where a matrix of examples is read by two products, the later of them a sum over examples.
    readers: dict[str, int] = {}
    for number, node in nodes.items():
        if node.op == "contract" and (number in found.rows or number in found.sums):
            for child, _ in node.args:
                if child.op == "input" and child.rank > 1 and child.info in found.inputs:
                    readers[child.info] = readers.get(child.info, 0) + 1
    return found if any(n > 1 for n in readers.values()) else None


def _classify(node: Node, found: Plan, data: set[str]) -> None:
    if node.op == "input":
        if found.size in {s for e in node.axes for s in e.free_symbols}:
            if node.info not in data or node.axes[0] != found.size or any(e.has(found.size) for e in node.axes[1:]):
                raise _NotByRows
            found.rows[node.number] = 0
            found.inputs.append(node.info)
        return
    if node.op == "arange":
        if found.size in {s for e in node.info for s in e.free_symbols}:
            raise _NotByRows
        return
    if any(child.number in found.sums or child.number in found.after for child, _ in node.args):
        found.after.add(node.number)
    axes = {at[found.rows[child.number]] for child, at in node.args if child.number in found.rows}
    if node.op in ("take", "clear", "scatter"):
        axes = _indexed_axes(node, found)
    if not axes:
        if any(e.has(found.size) for e in (*node.axes, *node.inner)):
            raise _NotByRows
        return
    if len(axes) > 1 or node.number in found.after:
        raise _NotByRows
    (axis,) = axes
    # The inner axes of a take are those of the array it takes from.
    own = node.axes if node.op == "take" else (*node.axes, *node.inner)
    if any(e.has(found.size) for k, e in enumerate(own) if k != axis):
        raise _NotByRows
    if axis < node.rank:
        found.rows[node.number] = axis
    elif node.op == "contract" or (node.op == "reduce" and node.info == "sum") or node.op == "scatter":
        found.sums[node.number] = node
    else:
        raise _NotByRows


def _indexed_axes(node: Node, found: Plan) -> set[int]:
    """The axes of examples of an operation with positions."""
    axes: set[int] = set()
    for number, (child, at) in enumerate(node.args):
        if child.number not in found.rows:
            continue
        row = found.rows[child.number]
        if node.op == "take" and number == 0:
            # The axes of the array that elements are taken from are named by the positions.
            entry = node.info[row]
            if entry[0] != "slice" or entry[2] != 0 or (*node.axes, *node.inner)[entry[1]] != found.size:
                raise _NotByRows
            axes.add(entry[1])
        elif node.op == "clear" and number == 0 and node.info[row][0] != "slice":
            raise _NotByRows
        else:
            axes.add(at[row])
    if node.op == "scatter" and node.info and axes:
        (axis,) = axes if len(axes) == 1 else (-1,)
        for update in node.info[1:]:
            assert isinstance(update, Update)
            child, at = node.args[update.value]
            mentions = child.number in found.rows or any(
                e[0] == "gather" and node.args[e[1]][0].number in found.rows for e in update.index
            )
            slices = [e for e in update.index if e[0] == "slice" and e[1] == axis]
            if axis < node.rank:
                if len(slices) != 1 or slices[0][2] != 0:
                    raise _NotByRows
            elif not mentions:
                raise _NotByRows
        base = node.args[0][0] if node.info[0] == ("onto",) else None
        if base is not None and axis >= node.rank and base.number in found.rows:
            raise _NotByRows
    return axes
