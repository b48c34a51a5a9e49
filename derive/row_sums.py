"""A sum over rows and more is a sum over rows of the sums along each.

Where what is summed is made row by row, the loop that makes it can add it up as well: instead of an array of all
terms, written and read again, there is one number for each row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sympy import Expr

from derive.economy import Context, Economy
from derive.fusion import is_local, reachable, row_axes
from derive.program import Graph, Node, Ref

__all__ = ["RowSums"]


class RowSums(Economy):
    """The economies of any program, and this one.

    Parameters
    ----------
    size : Expr
        The number of rows.
    """

    def __init__(self, graph: Graph, roots: Iterable[Node], size: Expr) -> None:
        self.size = size
        super().__init__(graph, roots)

    def saved(self, node: Node, args: list[Ref], info: Any, context: Context) -> Ref | None:
        return super().saved(node, args, info, context) or self.row_by_row(node, args, context)

    def row_by_row(self, node: Node, args: list[Ref], context: Context) -> Ref | None:
        """A sum of everything as a sum of rows' sums, if a loop makes the terms."""
        total = node.op == "contract" or (node.op == "reduce" and node.info == "sum")
        places = [k for k, e in enumerate(node.inner) if e == self.size]
        if not total or node.rank or len(node.inner) < 2 or len(places) != 1:
            return None
        row = context.names[places[0]]
        if any(set(ref.names) != set(context.names) for ref in args):
            return None
        for ref in args:
            rows = row_axes(reachable([ref.node]), self.size)
            made = ref.node.op not in ("input", "take") and is_local(ref.node, rows)
            if made and ref.names[rows[ref.node.number]] == row:
                sums = self.graph.make(node.op, args, (row,), context.axes, info=node.info, scope=(row,))
                return self.graph.make("reduce", [sums], (), context.axes, info="sum")
        return None
