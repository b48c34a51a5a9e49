"""Rewrites of the array program that save passes over arrays and compute what is there already.

Each rewrite is an equation between array programs, applied where its right side costs nothing because most of it is
computed anyway. They know nothing of losses:

- a > 0 is max(0, a) > 0, where max(0, a) is computed: a itself is then free.
- An indicator 1(a > 0) or a power of a, with elements cleared, is that of a with those elements cleared, where that is
  computed: zeros stay zeros.
- c * sum(A) is sum(c * A), where c * A is computed: A is then scaled where it is made, and free.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sympy import Expr, S, Symbol

from derive.program import Axis, Graph, Node, Ref, Update

__all__ = ["Context", "Economy"]


class Economy:
    """What becomes of nodes, for a function that computes ``roots``."""

    def __init__(self, graph: Graph, roots: Iterable[Node]) -> None:
        self.graph = graph
        self.computed: set[int] = set()
        self.done: dict[int, Ref] = {}
        roots = list(roots)
        for root in roots:
            self.collect(root)
        #: max(0, a), by the number of a.
        self.positive_parts: dict[int, Node] = {}
        for number in sorted(self.computed):
            node = graph.nodes[number]
            if node.op == "map" and node.info == "maximum":
                (a, _), (b, _) = node.args
                for zero, part in ((a, b), (b, a)):
                    if is_zero(zero) and part.rank == node.rank > 0:
                        self.positive_parts.setdefault(part.number, node)
        for root in roots:
            self.rewritten(root)

    def collect(self, node: Node) -> None:
        if node.number not in self.computed:
            self.computed.add(node.number)
            for child, _ in node.args:
                self.collect(child)

    def use(self, ref: Ref) -> Ref:
        """What a use of a node becomes; a node that is not computed stays as it is."""
        if ref.node.number not in self.done:
            return ref
        found = self.done[ref.node.number]
        at = {axis_name(ref.node, p): name for p, name in enumerate(ref.names)}
        return Ref(found.node, tuple(at[n] for n in found.names))

    def rewritten(self, node: Node) -> Ref:
        """The node, its arguments rewritten first; its axes are called by their positions."""
        if node.number in self.done:
            return self.done[node.number]
        names = [axis_name(node, p) for p in range(node.rank + len(node.inner))]
        args, info = [], named(node.info, names)
        for n, (child, at) in enumerate(node.args):
            self.rewritten(child)
            ref = self.use(Ref(child, tuple(names[p] for p in at)))
            if n == 0 and node.op in ("take", "clear"):
                # Positions are given in the order of the axes of the array.
                place = {names[p]: k for k, p in enumerate(at)}
                info = tuple(info[place[name]] for name in ref.names)
            args.append(ref)
        sizes = (*node.axes, *node.inner)
        context = Context(
            self.graph, node, names, {name: Axis(S.Zero, s) for name, s in zip(names, sizes, strict=True)}
        )
        changed = any(ref.node is not child for ref, (child, _) in zip(args, node.args, strict=True))
        result = self.saved(node, args, info, context)
        if result is None:
            result = context.make(node, args, info) if changed else Ref(node, tuple(names[: node.rank]))
        self.done[node.number] = result
        return result

    def saved(self, node: Node, args: list[Ref], info: Any, context: Context) -> Ref | None:
        """The right side of a rewrite whose left side the node is."""
        if node.op == "map" and node.info in ("gt", "lt"):
            large = 0 if node.info == "gt" else 1
            child, at = node.args[large]
            whole = self.positive_parts.get(child.number)
            if whole is not None and is_zero(node.args[1 - large][0]):
                inside = next(where for part, where in whole.args if part is child)
                axis_of = dict(zip(inside, at, strict=True))
                args[large] = self.part(whole, tuple(context.names[axis_of[p]] for p in range(whole.rank)))
                return context.make(node, args, info)
        if node.op == "clear" and (kept := keeps_zeros(args[0])) is not None:
            array, known = kept[-1], len(self.graph.nodes)
            order = {name: k for k, name in enumerate(args[0].names)}
            cleared = context.make(node, [array, *args[1:]], tuple(info[order[n]] for n in array.names))
            if cleared.node.number < known and cleared.node.number in self.computed:
                for outer in reversed(kept[:-1]):
                    cleared = context.make(
                        outer.node, [cleared, *(Ref(n) for n, _ in outer.node.args[1:])], outer.node.info
                    )
                return cleared
        if node.op == "map" and node.info == "mul" and len(args) == 2:
            for scale, total in ((args[0], args[1]), (args[1], args[0])):
                if scale.node.op != "scalar" or total.node.op != "reduce" or total.node.info != "sum":
                    continue
                summand, inside = total.node.args[0]
                if summand.op in ("input", "scalar"):
                    continue
                for sign in (1, -1):
                    found_sum = self.scaled_sum(sign * scale.node.info, summand, inside, total, context)
                    if found_sum is not None:
                        if sign == 1:
                            return found_sum
                        minus = context.scalar(S.NegativeOne)
                        return context.make(node, [minus, found_sum], info)
        return None

    def part(self, node: Node, names: tuple[Symbol, ...]) -> Ref:
        self.rewritten(node)
        return self.use(Ref(node, names))

    def scaled_sum(
        self, scale: Expr, summand: Node, inside: tuple[int, ...], total: Ref, context: Context
    ) -> Ref | None:
        """The sum of the scaled summand, if the scaled summand is computed."""
        own = [axis_name(total.node, p) for p in range(total.node.rank + len(total.node.inner))]
        sizes = (*total.node.axes, *total.node.inner)
        axes = {name: Axis(S.Zero, s) for name, s in zip(own, sizes, strict=True)}
        there = Context(self.graph, total.node, own, axes)
        known = len(self.graph.nodes)
        factor = there.scalar(scale)
        if factor.node.number >= known:
            return None
        names = tuple(own[p] for p in inside)
        scaled = self.graph.make(
            "map", [factor, Ref(summand, names)], names, axes, info="mul", kind="float", scope=names
        )
        if scaled.node.number >= known or scaled.node.number not in self.computed | self.made():
            return None
        found = there.make(total.node, [scaled], None if total.node.info is None else total.node.info)
        outer = dict(zip(own, total.names, strict=False))
        return Ref(found.node, tuple(outer[n] for n in found.names))

    def made(self) -> set[int]:
        """The numbers of nodes that others became."""
        return {ref.node.number for ref in self.done.values()}


class Context:
    """Makes nodes with the axes, and the order of axes in memory, of a node that they take the place of."""

    def __init__(self, graph: Graph, node: Node, names: list[Symbol], axes: dict[Symbol, Axis]) -> None:
        self.graph, self.names, self.axes = graph, names, axes
        self.outer = names[: node.rank]
        self.scope = [names[p] for p in node.order]

    def make(self, node: Node, args: list[Ref], info: Any) -> Ref:
        return self.graph.make(node.op, args, tuple(self.outer), self.axes, info=info, kind=node.kind, scope=self.scope)

    def scalar(self, value: Expr) -> Ref:
        return self.graph.make("scalar", [], (), self.axes, info=value)


def is_zero(node: Node) -> bool:
    return node.op == "scalar" and node.info == 0


def keeps_zeros(ref: Ref) -> tuple[Ref, ...] | None:
    """For 1(a > 0) or a power of a: the elementwise operations on a, from the outside in, and a."""
    node = ref.node
    if node.op != "map" or not node.args or node.args[0][0].rank != node.rank:
        return None
    child, at = node.args[0]
    inner = Ref(child, tuple(ref.names[p] for p in at))
    if node.info == "indicator" and child.op == "map" and child.info == "gt" and is_zero(child.args[1][0]):
        array, inside = child.args[0]
        if array.rank == node.rank:
            return ref, inner, Ref(array, tuple(inner.names[p] for p in inside))
    if node.info == "pow" and node.args[1][0].op == "scalar" and node.args[1][0].info.is_positive:
        return ref, inner
    return None


def axis_name(node: Node, position: int) -> Symbol:
    """An axis of a node by its position; what comes before the prime is its letter."""
    return Symbol(f"{node.letters[position]}''{position}", integer=True)


def named(info: Any, names: list[Symbol]) -> Any:
    """What an operation holds, with axes by name instead of by position."""
    if isinstance(info, Update):
        return Update(named(info.index, names), info.value, info.repeated)
    if isinstance(info, tuple):
        if len(info) == 3 and info[0] == "slice":
            return ("slice", names[info[1]], info[2])
        return tuple(named(x, names) for x in info)
    return info
