"""Fusion: which nodes of an array program one loop over rows computes together.

A row is what a program computes from one example: row i of the scores, the loss of example i. Many operations make a
row of their result from the same rows of their arguments and nothing else; such work is *local*. A loop that goes from
row to row can do all of it while the row is in the first cache, where one pass over whole arrays for each operation
reads and writes memory every time. What mixes rows, or what a library does better, stays an operation on whole arrays.

``kernels`` groups local nodes by level, which is the number of operations on whole arrays on the longest way to a node.
Nodes of one level have no such operation between them, so that one loop can compute them all. It knows nothing of what
the program computes, nor of how a loop is written (:mod:`derive.row_loops`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sympy import Expr

from derive.program import Node, Update

__all__ = ["Kernel", "index_like", "is_inverse", "is_local", "is_minus", "kernels", "reachable", "row_axes"]

#: Functions that NumPy computes for many numbers at once, in vector registers, and compiled loops one by one: 0.35 ms
#: against 1.8 ms for the exponentials of 1,000,000 float32. Where they are functions of whole matrices they stay NumPy.
_VECTORISED = {"exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"}


@dataclass(frozen=True, eq=False)
class Kernel:
    """Nodes that one loop over rows computes.

    Attributes
    ----------
    nodes : tuple of Node
        In an order in which they can be computed.
    outputs : tuple of Node
        Those that are needed outside.
    rows : mapping of int to int
        For each node, and for each array that has a row for each of theirs: which of its axes is that of the rows.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[Node, ...]
    rows: Mapping[int, int]


def kernels(roots: Iterable[Node], size: Expr) -> list[Kernel]:
    """What loops over an axis of this size compute of a program with these results, in order."""
    roots = list(roots)
    nodes = reachable(roots)
    rows = row_axes(nodes, size)
    local = {n.number for n in nodes if is_local(n, rows)}
    while True:
        levels = _levels(nodes, roots, local)
        groups: dict[int, list[Node]] = {}
        for node in nodes:
            if node.number in local:
                groups.setdefault(levels[node.number], []).append(node)
        # One operation is one pass over memory however it is written.
        alone = {n.number for group in groups.values() if sum(not is_minus(n) for n in group) < 2 for n in group}
        if not alone:
            break
        local -= alone
    users = _users(nodes)
    wanted = {r.number for r in roots}
    found = []
    for level in sorted(groups):
        inside = {n.number for n in groups[level]}
        outputs = [
            n for n in groups[level] if n.number in wanted or any(u.number not in inside for u in users[n.number])
        ]
        found.append(Kernel(tuple(groups[level]), tuple(outputs), rows))
    return found


def is_minus(node: Node) -> bool:
    """Whether a node is minus another one: a sign in front of it, wherever it is used."""
    minus = node.op == "map" and node.info == "mul" and any(c.op == "scalar" and c.info == -1 for c, _ in node.args)
    return minus and len(node.args) == 2


def is_inverse(node: Node) -> bool:
    """Whether a node is one over another one."""
    return node.op == "map" and node.info == "pow" and bool(node.args[1][0].info == -1)


def index_like(node: Node) -> bool:
    """Whether a node is made of the values of indices alone; what depends on them is computed where it is used."""
    if node.op == "arange":
        return True
    return node.op == "map" and node.kind != "float" and all(c.op == "scalar" or index_like(c) for c, _ in node.args)


def reachable(roots: Iterable[Node]) -> list[Node]:
    """All nodes of a program, arguments first."""
    found: dict[int, Node] = {}

    def collect(node: Node) -> None:
        if node.number not in found:
            found[node.number] = node
            for child, _ in node.args:
                collect(child)

    for root in roots:
        collect(root)
    return [found[n] for n in sorted(found)]


def _users(nodes: Iterable[Node]) -> dict[int, list[Node]]:
    users: dict[int, list[Node]] = {n.number: [] for n in nodes}
    for node in nodes:
        for child, _ in node.args:
            users[child.number].append(node)
    return users


def row_axes(nodes: Iterable[Node], size: Expr) -> dict[int, int]:
    """Which axis of each node is that of the rows, for those that have one."""
    rows: dict[int, int] = {}
    for node in nodes:
        if node.op in ("input", "arange"):
            places: set[int | None] = {k for k, e in enumerate(node.axes) if e == size}
        else:
            places = set(_row_places(node, rows))
        place = places.pop() if len(places) == 1 else None
        if place is not None and place < node.rank and node.axes[place] == size:
            rows[node.number] = place
    return rows


def _row_places(node: Node, rows: Mapping[int, int]) -> list[int | None]:
    """Where the rows of arguments come to lie among the axes of a node; None where rows are mixed."""
    found: list[int | None] = []
    for number, (child, at) in enumerate(node.args):
        if child.number not in rows:
            continue
        row = rows[child.number]
        if number == 0 and node.op in ("take", "clear"):
            kind, place, *start = node.info[row]
            found.append(place if kind == "slice" and start == [0] else None)
        else:
            found.append(at[row])
    return found


def is_local(node: Node, rows: Mapping[int, int]) -> bool:
    """Whether each row of a node is made of the same rows of its arguments, and a loop does it well."""
    if node.op in ("input", "scalar", "arange") or node.number not in rows:
        return False
    row = rows[node.number]
    for number, (child, at) in enumerate(node.args):
        # An array without rows is read as a whole.
        if child.number not in rows and row in at and not (number == 0 and node.op == "take"):
            return False
    if node.op == "map":
        return node.info not in _VECTORISED or node.rank == 1
    if node.op == "reduce":
        # Compiled loops look for a maximum one by one: 0.46 ms for 1,000,000 float32, and NumPy 0.11.
        return bool(node.info == "sum")
    if node.op == "contract":
        # A product in which numbers are used more than once is for a library.
        whole = node.rank + len(node.inner)
        return any(len(set(at)) == whole for _, at in node.args) and all(c.number in rows for c, _ in node.args)
    if node.op == "clear":
        return all(entry[0] != "slice" or entry[2] == 0 for entry in node.info)
    if node.op == "scatter":
        return bool(node.info) and all(_writes_own_row(node, update, row) for update in node.info[1:])
    return bool(node.op == "take")


def _writes_own_row(node: Node, update: Update, row: int) -> bool:
    entry = update.index[row]
    return bool(entry[0] == "slice" and entry[1] == row and entry[2] == 0)


def _levels(nodes: list[Node], roots: list[Node], local: set[int]) -> dict[int, int]:
    """For each node, how many operations on whole arrays stand before it; local nodes as late as their users allow."""
    levels: dict[int, int] = {}
    for node in nodes:
        found = 0
        for child, _ in node.args:
            after = child.number in local and node.number not in local
            found = max(found, levels[child.number] + after)
        levels[node.number] = found
    users = _users(nodes)
    wanted = {r.number for r in roots}
    for node in reversed(nodes):
        # What an operation on whole arrays reads has to be there before it; what a loop reads may be made in it.
        limits = [levels[u.number] - (u.number not in local) for u in users[node.number]]
        if node.number in local and node.number not in wanted and limits:
            levels[node.number] = max(levels[node.number], min(limits))
    return levels
