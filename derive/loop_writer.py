"""A function's body with loops: what :mod:`derive.fusion` finds is computed by compiled loops, the rest as ever.

The walk over the program is that of :class:`derive.writer.Writer`. Where it comes to a node that a loop computes, it
writes the call of that loop instead of lines of array operations, and the loop itself is put beside the function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sympy import Expr

from derive.elementwise import Target
from derive.fusion import Kernel, index_like, is_minus, kernels
from derive.program import Node
from derive.python_source import ATOM
from derive.row_loops import CALLED, Array, RowLoop
from derive.rule_pages import laid_out
from derive.writer import INDENT, Output, Writer

__all__ = ["LoopWriter"]

_TYPES = {"float": "dtype", "int": "np.intp", "bool": "np.bool_"}


@dataclass(kw_only=True)
class LoopWriter(Writer):
    """Writes one function's body, and the loops that it calls.

    Parameters
    ----------
    elements : Target
        How operations on elements are spelled in loops.
    decorator : str
        What stands above a loop.
    function : str
        The name of the function.
    sizes : sequence of Expr
        Sizes that may be the number of rows, where there is no plan that says it: the first that serves is taken.
    equations : dict
        The numbers of equations, by the names of what they define.

    Attributes
    ----------
    loops : list of str
        The source of the loops that have been called so far.
    """

    elements: Target
    decorator: str
    function: str
    sizes: Sequence[Expr]
    equations: dict[str, int] = field(default_factory=dict)
    loops: list[str] = field(default_factory=list)
    kernel_of: dict[int, Kernel] = field(default_factory=dict)
    pending: list[Kernel] = field(default_factory=list)
    layouts: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def write(self, definitions: Sequence[Output], outputs: Sequence[Output]) -> None:
        roots = [o.ref.node for o in outputs]
        sizes = self.sizes if self.plan is None else [self.plan.size]
        found: list[Kernel] = next((k for k in (kernels(roots, size) for size in sizes) if k), [])
        self.kernel_of = {n.number: kernel for kernel in found for n in kernel.nodes}
        self.pending = list(found)
        for d in definitions:
            layout = tuple(d.ref.names.index(n) for n in d.order)
            self.layouts.setdefault(d.ref.node.number, (d.name, layout))
        super().write(definitions, outputs)

    # -- where the walk meets a loop ---------------------------------------------------------------

    def assign(self, output: Output, result: bool) -> None:
        if output.ref.node.number in self.kernel_of and output.ref.node.number not in self.variables:
            self.materialise(output.ref.node)
        if output.ref.node.number not in self.kernel_of or result:
            super().assign(output, result)

    def prepare(self, node: Node) -> None:
        if node.number in self.kernel_of:
            self.materialise(node)
        else:
            super().prepare(node)

    def gives_way(self, node: Node) -> bool:
        return not (node.args and node.args[0][0].number in self.kernel_of) and super().gives_way(node)

    def materialise(self, node: Node, name: str | None = None, layout: tuple[int, ...] | None = None) -> None:
        if node.number in self.kernel_of:
            if self.kernel_of[node.number] in self.pending:
                self.pending.remove(self.kernel_of[node.number])
                self.write_kernel(self.kernel_of[node.number])
        else:
            super().materialise(node, name, layout)

    # -- the call ----------------------------------------------------------------------------------

    def write_kernel(self, kernel: Kernel) -> None:
        """The lines that call a loop."""
        given = self.given(kernel)
        names = {array.name for array, _ in given.values()}
        made = {}
        for node in kernel.outputs:
            name, layout = self.place_of(node, kernel.rows[node.number])
            made[node.number] = Array(node, _distinct(self.inside(node, name), names), layout)
            self.variables[node.number] = (name, layout)
        loop = RowLoop(
            kernel,
            self.elements,
            given={number: array for number, (array, _) in given.items()},
            made=made,
            name=self.describe_value,
            stated=lambda node: node.number in self.named and node.number not in self.optional,
            outside=lambda node: self.text(node, (), ())[0],
        )
        own = f"_{self.function}_rows" + (f"_{len(self.loops) + 1}" if self.loops else "")
        self.loops.append(self.source(own, kernel, loop))
        for node in kernel.outputs:
            shape = self.shape_source([node.axes[p] for p in made[node.number].layout])
            self.line(self.variables[node.number][0], self.call("empty", shape, _TYPES[node.kind]))
        rows = [text for number, (_, text) in given.items() if number in kernel.rows]
        whole = [text for number, (_, text) in given.items() if number not in kernel.rows]
        shared = [*whole, *(f"np.intp({text})" for text in loop.counts), *loop.scalars]
        results = [self.variables[number][0] for number in made]
        arguments = [own, "dtype", *map(_tuple, (rows, shared, results))]
        indent = INDENT if self.block is None else 2 * INDENT
        self.lines.extend(laid_out("_over_rows(", arguments, ")", indent=indent))
        for name in self.computed(kernel):
            self.mark(name)

    def place_of(self, node: Node, row: int) -> tuple[str, tuple[int, ...]]:
        """The variable in which a loop puts a node, and its axes, that of the rows first."""
        name, layout = self.layouts.get(node.number, ("", node.order))
        if name and name == self.named.get(node.number) and layout[0] == row:
            return name, layout
        if node.number in self.named and node.number not in self.layouts:
            return self.named[node.number], (row, *(p for p in node.order if p != row))
        return self.invent(node), (row, *(p for p in node.order if p != row))

    def given(self, kernel: Kernel) -> dict[int, tuple[Array, str]]:
        """The arrays that a loop reads, and what it gets for each."""
        inside = {n.number for n in kernel.nodes}
        found: dict[int, tuple[Array, str]] = {}
        names: set[str] = set()
        for child, _ in (arg for node in kernel.nodes for arg in node.args):
            while is_minus(child) and child.number not in inside and child.number not in self.variables:
                # The loop has a sign of its own.
                child = next(c for c, _ in child.args if c.op != "scalar")
            if child.number in inside or child.number in found or child.op == "scalar":
                continue
            if child.number not in kernel.rows and index_like(child):
                continue
            if child.rank == 0:
                self.prepare(child)
                continue
            layout = tuple(range(child.rank))
            if child.op == "arange":
                name, outside = "index", self.arange(child.info, child.letters[0])
            elif child.op == "input":
                name, outside = child.info, self.inputs.get(child.info, child.info)
            else:
                self.materialise(child)
                outside, layout = self.variables[child.number]
                name = self.inside(child, outside)
            row = kernel.rows.get(child.number, layout[0])
            if layout[0] != row:
                moved = (row, *(p for p in layout if p != row))
                outside = self.aligned((outside, ATOM), list(layout), moved)[0]
                layout = moved
            found[child.number] = (Array(child, _distinct(name, names), layout), outside)
        # What is cut into pieces comes first.
        return dict(sorted(found.items(), key=lambda item: item[0] not in kernel.rows))

    def inside(self, node: Node, name: str) -> str:
        """What an array is called in a loop, where a block of rows is called as all of them are."""
        return self.describe_value(node) if name.endswith("_rows") else name

    def computed(self, kernel: Kernel) -> list[str]:
        """The quantities of the statement, and their gradients, that a loop computes, by their equations' numbers."""
        names = {self.named[n.number] for n in kernel.nodes if n.number in self.named and n.number not in self.optional}
        return sorted(names & set(self.equations), key=self.equations.__getitem__)

    def describe(self, node: Node) -> str:
        if node.op == "contract" and node.number in self.kernel_of and node.args[0] == node.args[1]:
            child = node.args[0][0]
            return f"sum_{self.named.get(child.number) or self.describe(child)}_squared"
        return super().describe(node)

    def describe_value(self, node: Node) -> str:
        """A name for a node inside a loop, where a block of rows is called as all of them are."""
        if node.op == "input":
            return str(node.info)
        known, self.inputs = self.inputs, {}
        name = self.named.get(node.number) or self.describe(node)
        self.inputs = known
        return name

    # -- the loop ----------------------------------------------------------------------------------

    def source(self, own: str, kernel: Kernel, loop: RowLoop) -> str:
        """A loop as a function."""
        results = [a.name for a in loop.made.values()]
        given = [a.name for a in loop.given.values()]
        parameters = [*given, *loop.counts.values(), *loop.scalars.values(), *results]
        numbers = [self.equations[name] for name in self.computed(kernel)]
        equations = " and ".join(", ".join(f"({n})" for n in part) for part in (numbers[:-1], numbers[-1:]) if part)
        about = f"row by row: {', '.join(results)}."
        if numbers:
            about = f"Equation{'s' if len(numbers) > 1 else ''} {equations}, {about}"
        lines = [
            self.decorator,
            *laid_out(f"def {own}(", parameters, "):"),
            f'    """{about[0].upper() + about[1:]}"""',
            *(f"    {line}" for line in loop.lines),
        ]
        return "\n".join(lines)


def _distinct(name: str, taken: set[str]) -> str:
    while name in taken or name in CALLED:
        name += "_"
    taken.add(name)
    return name


def _tuple(items: Sequence[str]) -> str:
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
