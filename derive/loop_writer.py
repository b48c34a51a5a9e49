"""A function's body with loops: what :mod:`derive.fusion` finds is computed by compiled loops, the rest as ever.

The walk over the program is that of :class:`derive.writer.Writer`. Where it comes to a node that a loop computes, it
writes the call of that loop instead of lines of array operations, and the loop itself is put beside the function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sympy import Expr

from derive.elementwise import Target
from derive.fusion import Kernel, index_like, kernels
from derive.program import Node
from derive.row_loops import Array, RowLoop
from derive.rule_pages import laid_out
from derive.writer import WIDTH, Output, Writer

__all__ = ["LoopWriter"]

_TYPES = {"float": "dtype", "int": "np.intp", "bool": "np.bool_"}
#: What loops call; an array of such a name gets another one inside.
_CALLED = {"np", "numba", "math", "os", "len", "range"}


@dataclass(kw_only=True)
class LoopWriter(Writer):
    """Writes one function's body, and the loops that it calls.

    Parameters
    ----------
    elements : Target
        How operations on elements are spelled in loops.
    decorator : str
        What stands above a loop; ``{}`` for further options.
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
        made = {}
        names: set[str] = {a.name for a, _ in given.values()}
        for node in kernel.outputs:
            name, layout = self.layouts.get(node.number, ("", node.order))
            if self.named.get(node.number) != name or not name:
                name = self.named.get(node.number) or self.invent(node)
            made[node.number] = Array(_distinct(name, names), layout)
            self.variables[node.number] = (name, layout)
        outside = {number: self.variables[number][0] for number in made}
        loop = RowLoop(
            kernel,
            self.elements,
            given={number: array for number, (array, _) in given.items()},
            made=made,
            name=self.describe_value,
            stated=lambda node: node.number in self.named and node.number not in self.optional,
            outside=lambda node: self.text(node, (), ())[0],
            reserved=(),
        )
        own = f"_{self.function}_rows" + (f"_{len(self.loops) + 1}" if self.loops else "")
        self.loops.append(self.source(own, kernel, loop))
        for node in kernel.outputs:
            shape = self.shape_source([node.axes[p] for p in made[node.number].layout])
            self.line(outside[node.number], self.call("empty", shape, _TYPES[node.kind]))
        arguments = [
            *(own, f"{own}_in_parallel", "dtype"),
            _tuple([*(text for _, text in given.values()), *loop.counts]),
            _tuple(list(loop.scalars)),
            _tuple([outside[number] for number in made]),
        ]
        room = 120 - WIDTH - (0 if self.block is None else 4) + 4
        self.lines.extend(laid_out("_over_rows(", arguments, ")", indent=room))
        for name in self.computed(kernel):
            self.mark(name)

    def given(self, kernel: Kernel) -> dict[int, tuple[Array, str]]:
        """The arrays that a loop reads, and what they are called outside."""
        inside = {n.number for n in kernel.nodes}
        found: dict[int, tuple[Array, str]] = {}
        names: set[str] = set()
        for child, _ in (arg for node in kernel.nodes for arg in node.args):
            if child.number in inside or child.number in found or child.op == "scalar":
                continue
            if child.number not in kernel.rows and index_like(child):
                continue
            if child.rank == 0:
                self.prepare(child)
                continue
            name = child.info
            layout = tuple(range(child.rank))
            if child.op == "arange":
                name = outside = self.arange(child.info, child.letters[0])
            elif child.op == "input":
                outside = self.inputs.get(child.info, child.info)
            else:
                self.materialise(child)
                name, layout = self.variables[child.number]
                outside = name
            found[child.number] = (Array(_distinct(name, names), layout), outside)
        return found

    def computed(self, kernel: Kernel) -> list[str]:
        """The quantities of the statement, and their gradients, that a loop computes, by their equations' numbers."""
        names = {self.named[n.number] for n in kernel.nodes if n.number in self.named and n.number not in self.optional}
        return sorted(names & set(self.equations), key=self.equations.__getitem__)

    def describe_value(self, node: Node) -> str:
        """A name for a node inside a loop, where a block of rows is called as all of them are."""
        known, self.inputs = self.inputs, {}
        name = self.named.get(node.number) or self.describe(node)
        self.inputs = known
        return name

    # -- the loop ----------------------------------------------------------------------------------

    def source(self, own: str, kernel: Kernel, loop: RowLoop) -> str:
        """A loop and its parallel twin."""
        results = [a.name for a in loop.made.values()]
        given = [a.name for a in loop.given.values()]
        parameters = [*given, *loop.counts.values(), *loop.scalars.values(), *results]
        numbers = [self.equations[name] for name in self.computed(kernel)]
        equations = " and ".join(", ".join(f"({n})" for n in part) for part in (numbers[:-1], numbers[-1:]) if part)
        about = f"row by row: {', '.join(results)}."
        if numbers:
            about = f"Equation{'s' if len(numbers) > 1 else ''} {equations}, {about}"
        lines = [
            self.decorator.format(""),
            *laid_out(f"def {own}(", parameters, "):"),
            f'    """{about[0].upper() + about[1:]}"""',
            *(f"    {line}" for line in loop.lines),
            *("", ""),
            self.decorator.format(", parallel=True"),
            *laid_out(f"def {own}_in_parallel(", parameters, "):"),
            '    """The same, a piece of the rows on each thread."""',
            *(f"    {line}" for line in _pieces(own, parameters, kernel, loop)),
        ]
        return "\n".join(lines)


def _pieces(own: str, parameters: Sequence[str], kernel: Kernel, loop: RowLoop) -> list[str]:
    taken = set(parameters)
    threads, piece, start, stop = (_distinct(name, taken) for name in ("threads", "piece", "start", "stop"))
    by_rows = {array.name: axis for n, array in loop.arrays.items() if (axis := loop.by_rows(n)) is not None}
    cut = [
        f"{name}[{':, ' * by_rows[name]}{start}:{stop}]" if name in by_rows else name for name in parameters
    ]
    return [
        f"{threads} = numba.get_num_threads()",
        f"for {piece} in numba.prange({threads}):",
        f"    {start} = {loop.length()} * {piece} // {threads}",
        f"    {stop} = {loop.length()} * ({piece} + 1) // {threads}",
        *(f"    {line}" for line in laid_out(f"{own}(", cut, ")", indent=8)),
    ]


def _distinct(name: str, taken: set[str]) -> str:
    while name in taken or name in _CALLED:
        name += "_"
    taken.add(name)
    return name


def _tuple(items: Sequence[str]) -> str:
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
