"""The array program: a graph of operations on whole arrays, shared where it is the same.

A ``Node`` is an array with axes known by position; it does not know what its axes are called elsewhere, so that
s[i, j] - s[i, y_i] is one node whatever letters it was written with. A ``Ref`` is a use of a node in some context, with
the context's name for each axis. Nodes are made by a ``Graph``, which makes each only once.

Operations (``op``), with what ``info`` holds:

========== =========================================================================================================
input      an argument or a hyperparameter; info: its name
scalar     a number, or an expression in sizes and hyperparameters; info: the SymPy expression
arange     the values of an index; info: (lo, size)
map        elementwise, broadcast by axis; info: the function's name (see ``MAPS``)
take       elements of an array; info: for each of its axes ("slice", axis, start), ("at", expression) or
           ("gather", number of the argument that holds the positions)
reduce     info: "sum" or "max", over the axes that do not appear in the result
contract   the sum of a product of two arrays over the axes that do not appear in the result
clear      an array with the elements at some positions set to zero; info: as for take, but for the first argument
scatter    zeros or the first argument, with values added at positions; info: a tuple of ``Update``
========== =========================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sympy import Expr, Symbol

__all__ = ["MAPS", "Graph", "Node", "Ref", "Update"]

#: Elementwise functions: what they return.
MAPS = {
    "add": "float", "mul": "float", "pow": "float", "maximum": "float", "minimum": "float", "where": "float",
    "indicator": "float", "exp": "float", "log": "float", "sin": "float", "cos": "float", "tan": "float",
    "asin": "float",
    "acos": "float", "atan": "float", "sinh": "float", "cosh": "float", "tanh": "float", "abs": "float",
    "sign": "float", "softplus": "float", "sigmoid": "float", "real": "float",
    "eq": "bool", "ne": "bool", "lt": "bool", "le": "bool", "gt": "bool", "ge": "bool", "and": "bool",
    "or": "bool", "not": "bool",
}  # fmt: skip
_COMMUTATIVE = {"add", "mul"}


@dataclass(frozen=True)
class Axis:
    """The values an index runs over: ``size`` of them, from ``lo``."""

    lo: Expr
    size: Expr


@dataclass(frozen=True, eq=False)
class Node:
    """An operation.

    ``args`` are (node, its axes as positions among this node's axes and inner axes); ``axes`` and ``inner`` are sizes;
    ``order`` is the order of axes in memory, ``letters`` what the axes were called where the node was first made.
    """

    number: int
    op: str
    info: Any
    args: tuple[tuple[Node, tuple[int, ...]], ...]
    axes: tuple[Expr, ...]
    inner: tuple[Expr, ...]
    kind: str
    order: tuple[int, ...]
    letters: tuple[str, ...]

    @property
    def rank(self) -> int:
        return len(self.axes)

    def __repr__(self) -> str:
        inside = ", ".join(f"#{n.number}{list(a)}" for n, a in self.args)
        return f"#{self.number} {self.op} {self.info} ({inside}) rank {self.rank}"


@dataclass(frozen=True)
class Ref:
    """A use of a node: ``names`` are what the context calls its axes."""

    node: Node
    names: tuple[Symbol, ...] = ()


@dataclass(frozen=True)
class Update:
    """Values, argument number ``value``, added at positions; ``repeated`` where positions may occur more than once."""

    index: tuple[tuple[Any, ...], ...]
    value: int
    repeated: bool


@dataclass
class Graph:
    """Makes nodes, each once."""

    nodes: list[Node] = field(default_factory=list)
    table: dict[Any, Node] = field(default_factory=dict)

    def make(
        self,
        op: str,
        args: list[Ref],
        names: list[Symbol] | tuple[Symbol, ...],
        axes: dict[Symbol, Axis],
        *,
        info: Any = None,
        kind: str = "float",
        scope: list[Symbol] | tuple[Symbol, ...] = (),
    ) -> Ref:
        """A use of the node; ``names`` are its axes, all others of its arguments are inner.

        ``info`` may mention axes by name where the operation's layout in the module docstring says axis.
        """
        commutative = (op == "map" and info in _COMMUTATIVE) or op == "contract"
        ordered = sorted(args, key=lambda r: r.node.number) if commutative else args
        wanted = set(names)
        out: list[Symbol] = []
        inner: list[Symbol] = []
        for ref in ordered:
            for n in ref.names:
                if n in wanted and n not in out:
                    out.append(n)
                if n not in wanted and n not in inner:
                    inner.append(n)
        out.extend(n for n in names if n not in out)
        if op == "scatter":
            # Positions are given axis by axis, so the axes keep the order of the left side.
            out = list(names)
            inner = [n for n in inner if n not in out]
            inner.extend(n for n in _axes_of(info) if n not in out and n not in inner)
        position = {n: k for k, n in enumerate((*out, *inner))}
        local_info = _localised(info, position)
        sizes = tuple(axes[n].size for n in out), tuple(axes[n].size for n in inner)
        edges = tuple((r.node, tuple(position[n] for n in r.names)) for r in args)
        keyed = tuple((r.node.number, tuple(position[n] for n in r.names)) for r in ordered)
        key = (op, local_info, keyed, sizes)
        node = self.table.get(key)
        if node is None:
            rank = {n: k for k, n in enumerate(scope)}
            order = tuple(sorted(range(len(out)), key=lambda k: rank.get(out[k], 99 + k)))
            letters = tuple(str(n.name).split("'")[0] for n in (*out, *inner))
            node = Node(len(self.nodes), op, local_info, edges, *sizes, kind, order, letters)
            self.nodes.append(node)
            self.table[key] = node
        return Ref(node, tuple(out))


def _axes_of(info: Any) -> list[Symbol]:
    """The axes that positions mention."""
    if isinstance(info, Update):
        return _axes_of(info.index)
    if isinstance(info, tuple):
        if len(info) == 3 and info[0] == "slice":
            return [info[1]]
        return [n for x in info for n in _axes_of(x)]
    return []


def _localised(info: Any, position: dict[Symbol, int]) -> Any:
    if isinstance(info, Update):
        return Update(_localised(info.index, position), info.value, info.repeated)
    if isinstance(info, tuple):
        if len(info) == 3 and info[0] == "slice":
            return ("slice", position[info[1]], info[2])
        return tuple(_localised(x, position) for x in info)
    return info
