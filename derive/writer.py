"""The array program as lines of code.

``Writer`` walks the graph from the results that are wanted. What has a name in the statement, what is used more than
once and what is built in place gets a line of its own; everything else is written where it is used.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from sympy import Expr, Symbol

from derive.blocks import Plan
from derive.expressions import Expressions, is_matrix_product
from derive.program import Node, Ref, Update
from derive.python_source import ATOM, COMPARISONS, Text, is_negative, wrapped
from derive.reuse import Value, in_place

__all__ = ["Output", "Writer"]

#: How long a line of a body may be, its indentation and the number of its equation aside.
WIDTH = 103
INDENT = 4


@dataclass(frozen=True)
class Output:
    """A result: the name of the variable, the use of a node, and the order of axes in which it is wanted."""

    name: str
    ref: Ref
    order: tuple[Symbol, ...]


@dataclass(frozen=True)
class Total:
    """Something added up over blocks: the node, its variable, what each block adds and what it starts from."""

    node: Node
    name: str
    layout: tuple[int, ...]
    parts: tuple[tuple[Node, tuple[int, ...]], ...]
    rest: tuple[tuple[Node, tuple[int, ...]], ...]

    def position(self, axis: int) -> int:
        """Where an axis of the node lies in the variable."""
        return self.layout.index(axis)


@dataclass(kw_only=True)
class Writer(Expressions):
    """Writes one function's body.

    Parameters
    ----------
    named : dict
        Names of nodes that have one in the statement, by number.
    optional : set of int
        Nodes whose names are the toolkit's own: they get a line only if they are used more than once.
    numbers : dict
        Equation numbers of variables.
    typed : set of str
        Results that are to have the type of the arrays even where they are made of plain numbers.
    plan : Plan, optional
        How to compute sums over examples in blocks of rows.
    """

    named: dict[int, str]
    optional: set[int] = field(default_factory=set)
    needed: dict[int, Node] = field(default_factory=dict)
    uses: dict[int, int] = field(default_factory=dict)
    users: dict[int, list[Node]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    typed: set[str] = field(default_factory=set)
    prepared: set[int] = field(default_factory=set)
    values: dict[str, Value] = field(default_factory=dict)
    plan: Plan | None = None
    ranks: dict[str, int] = field(default_factory=dict)

    # -- the walk ----------------------------------------------------------------------------------

    def write(self, definitions: Sequence[Output], outputs: Sequence[Output]) -> None:
        """Write what the outputs need, a line for each definition among it, in order."""
        self.count([o.ref.node for o in outputs])
        wanted = {o.name for o in outputs}
        if self.plan is not None:
            self.write_blocks(self.plan, definitions)
        self.assign_all(definitions, wanted)
        if self.plan is None:
            self.lines = in_place(self, self.lines, self.values, wanted, width=WIDTH)

    def assign_all(self, definitions: Sequence[Output], wanted: set[str]) -> None:
        for d in definitions:
            number = d.ref.node.number
            if number in self.optional and self.uses.get(number) == 1 and d.name not in wanted:
                continue
            if d.name in wanted or number in self.uses:
                self.assign(d, d.name in wanted)

    def write_blocks(self, plan: Plan, definitions: Sequence[Output]) -> None:
        """One loop over blocks of rows, for all sums over examples."""
        names = {o.ref.node.number: o.name for o in reversed(definitions)}
        layouts = {o.ref.node.number: tuple(o.ref.names.index(n) for n in o.order) for o in definitions}
        for node in self.hoisted(plan):
            self.materialise(node, names.get(node.number), layouts.get(node.number))
        slices = self.unused("rows")
        self.block_size = self.unused("n")
        whole, self.inputs = self.inputs, dict(self.inputs)
        for name in plan.inputs:
            self.inputs[name] = self.unused(f"{whole.get(name, name)}_rows")
        if not any(node.op == "scatter" for number, node in plan.sums.items() if number in self.uses):
            by_rows = {*plan.rows, *plan.sums}
            self.products = {n for n, node in self.needed.items() if n in by_rows and is_matrix_product(node)}
            self.product = self.unused("product")
        before, self.lines = self.lines, []
        known, self.aranges = self.aranges, {}
        self.block = plan.size
        for d in definitions:
            number = d.ref.node.number
            if number in plan.rows and number in self.uses and number not in self.optional:
                self.assign(d, False)
        totals = self.totals(plan, definitions)
        for total in totals:
            for child, _ in total.parts:
                self.prepare_parts(child, plan)
            self.write_sum(total, "=" if self.products else "+=")
        sums = {total.name for total in totals}
        body = in_place(self, self.lines, self.values, sums, width=WIDTH - INDENT)
        self.lines = before
        self.block = None
        largest = max(plan.inputs, key=lambda n: self.ranks.get(n, 0))
        arguments = [whole.get(largest, largest), *(self.size_source(e) for e in self.widths(plan))]
        blocks = ", ".join(f"{self.inputs[n]}" for n in plan.inputs)
        head = [f"{blocks} = {', '.join(f'{whole.get(n, n)}[{slices}]' for n in plan.inputs)}"]
        if any(re.search(rf"\b{self.block_size}\b", line) for line in body):
            head.append(f"{self.block_size} = len({self.inputs[largest]})")
        if self.products:
            loop = self.write_terms(slices, [*head, *body], [total.name for total in totals], arguments)
        else:
            loop = [
                "# A block of rows stays in the cache between the products that read it.",
                f"for {slices} in _row_blocks({', '.join(arguments)}):",
                *(f"    {line}" for line in (*head, *body)),
            ]
        for total in totals:
            self.write_start(total)
            self.variables[total.node.number] = (total.name, total.layout)
        self.lines += loop
        self.inputs, self.aranges = whole, known

    def write_sum(self, total: Total, sign: str) -> None:
        """What a block adds to a sum over examples."""
        if total.node.op == "scatter":
            for update in total.node.info[1:]:
                self.write_update(total.node, total.name, total.layout, update)
        else:
            parts = [(c, tuple(total.position(p) for p in at)) for c, at in total.parts]
            context = tuple(range(len(total.layout)))
            inside = [c for c, _ in total.parts]
            text = self.fit_text(inside, partial(self.sum_text, parts, context), len(total.name) + 4)
            minus = sign == "+=" and is_negative(text)
            self.lines.append(f"{total.name} {'-=' if minus else sign} {text[0][1:] if minus else text[0]}")
        self.mark(total.name)

    def write_terms(self, slices: str, body: Sequence[str], sums: Sequence[str], arguments: Sequence[str]) -> list[str]:
        """Write a function of the rows of a block; returns the loop that adds up what it returns."""
        function = self.unused("terms")
        *first, last = body
        if len(sums) == 1 and last.startswith(f"{sums[0]} = "):
            last = last.removeprefix(f"{sums[0]} = ")
        else:
            first, last = [*body], ", ".join(sums)
        self.lines += [
            "",
            f"def {function}({slices}, {self.product}):",
            "    # A block of rows stays in the cache between the products that read it.",
            *(f"    {line}" for line in (*first, f"return {last}")),
            "",
        ]
        terms = [self.unused(f"{name}_terms") for name in sums]
        return [
            f"for {', '.join(terms)} in _by_blocks({', '.join([function, *arguments])}):",
            *(f"    {name} += {term}" for name, term in zip(sums, terms, strict=True)),
        ]

    def widths(self, plan: Plan) -> list[Expr]:
        """The sizes of what is computed from each example, other than copies of it."""
        found: dict[Expr, None] = {}
        seen: set[int] = set()

        def visit(node: Node) -> None:
            if node.number in seen:
                return
            seen.add(node.number)
            if node.op == "contract" and node.number in plan.rows:
                for p, size in enumerate(node.axes):
                    if p != plan.rows[node.number]:
                        found[size] = None
            for child, _ in node.args:
                visit(child)

        for node in plan.sums.values():
            if node.number in self.uses:
                visit(node)
        return list(found)

    def totals(self, plan: Plan, definitions: Sequence[Output]) -> list[Total]:
        """What is added up over blocks: definitions where they are sums over examples plus something else."""
        found: list[Total] = []
        covered: set[int] = set()
        for d in definitions:
            node = d.ref.node
            if node.number not in self.uses or node.number in covered:
                continue
            if node.number not in plan.sums and node.number not in plan.after:
                continue
            layout = tuple(d.ref.names.index(n) for n in d.order)
            parts = node.args if node.op == "map" and node.info == "add" else ((node, tuple(range(node.rank))),)
            inside = [(c, at) for c, at in parts if self.summed(c, plan) is not None]
            rest = [(c, at) for c, at in parts if self.summed(c, plan) is None]
            if not inside or any(c.number in plan.after for c, _ in rest):
                continue
            for c, _ in inside:
                inner = self.summed(c, plan)
                assert inner is not None
                covered.update((c.number, inner.number))
            covered.add(node.number)
            found.append(Total(node, d.name, layout, tuple(inside), tuple(rest)))
        for number, node in plan.sums.items():
            if number in self.uses and number not in covered:
                name = self.named.get(number) or self.invent_sum(node)
                found.append(Total(node, name, node.order, ((node, tuple(range(node.rank))),), ()))
        return found

    def summed(self, node: Node, plan: Plan) -> Node | None:
        """The sum over examples that a node is, or is a multiple of, if nothing else needs it."""
        if node.number in plan.sums:
            return node
        if node.op == "map" and node.info == "mul" and len(node.args) == 2 and self.uses.get(node.number, 0) <= 1:
            (a, _), (b, _) = node.args
            if self.pythonic(a) and b.number in plan.sums and b.op != "scatter" and self.uses.get(b.number, 0) <= 1:
                return b
        return None

    def prepare_parts(self, node: Node, plan: Plan) -> None:
        """Lines for what a sum over examples needs, but none for that sum."""
        inner = self.summed(node, plan) or node
        for child, _ in inner.args:
            self.prepare(child)

    def write_start(self, total: Total) -> None:
        """What a sum over blocks starts from."""
        node, name, layout = total.node, total.name, total.layout
        for child, _ in total.rest:
            self.prepare(child)
        if node.op == "scatter" and node.info[0] == ("onto",):
            child, where = node.args[0]
            self.prepare(child)
            source = self.text(child, where, layout)
            self.line(name, f"{wrapped(source, ATOM)}.copy()" if source[1] == ATOM else source[0])
        elif total.rest:
            context = tuple(range(len(layout)))
            source = self.sum_text([(c, tuple(total.position(p) for p in at)) for c, at in total.rest], context)
            whole = {p for _, at in total.rest for p in at}
            if len(whole) < node.rank:
                self.line(name, self.call("full", self.shape_source([node.axes[p] for p in layout]), source[0]))
            else:
                self.line(name, f"{source[0]}.copy()" if node.rank and source[1] == ATOM else source[0])
        elif node.rank == 0:
            self.line(name, "0")
        else:
            self.line(name, self.call("zeros", self.shape_source([node.axes[p] for p in layout])))

    def hoisted(self, plan: Plan) -> list[Node]:
        """What a block needs and is the same for all blocks."""
        found: dict[int, Node] = {}
        seen: set[int] = set()

        def visit(node: Node) -> None:
            if node.number in seen:
                return
            seen.add(node.number)
            for child, _ in node.args:
                inside = child.number in plan.rows or child.number in plan.sums
                if inside:
                    visit(child)
                elif child.rank and child.op not in ("input", "scalar") and self.worth_naming(child):
                    found[child.number] = child

        for node in plan.sums.values():
            if node.number in self.uses:
                visit(node)
        return [found[n] for n in sorted(found)]

    def invent_sum(self, node: Node) -> str:
        return self.unused(
            self.describe(node) if node.op != "reduce" else f"total_{self.short(node.args[0][0]) or 'sum'}"
        )

    def count(self, roots: list[Node]) -> None:
        def visit(node: Node) -> None:
            self.uses[node.number] = self.uses.get(node.number, 0) + 1
            if node.number in self.needed:
                return
            self.needed[node.number] = node
            for child, _ in node.args:
                self.users.setdefault(child.number, []).append(node)
                visit(child)

        for root in roots:
            visit(root)

    def assign(self, output: Output, result: bool) -> None:
        """A line for a definition."""
        node = output.ref.node
        layout = tuple(output.ref.names.index(n) for n in output.order)
        if result and self.pythonic(node) and output.name in self.typed:
            self.line(output.name, f"dtype.type({self.exact(node, layout)[0]})")
            self.mark(output.name)
            return
        if node.number in self.variables or node.op in ("input", "scalar"):
            if result and self.variables.get(node.number) != (output.name, layout):
                source = self.exact(node, layout)
                # What is returned must not share memory with an argument or another result.
                self.line(output.name, f"{wrapped(source, ATOM)}.copy()" if node.rank else source[0])
                self.mark(output.name)
            return
        view = result and node.op == "take" and not any(e[0] == "gather" for e in node.info)
        self.materialise(node, output.name, layout)
        if view:
            line, separator, comment = self.lines[-1].partition("  # ")
            self.lines[-1] = f"{line}.copy(){separator}{comment}"

    def line(self, name: str, text: str) -> None:
        self.lines.append(f"{name} = {text}")

    def mark(self, name: str) -> None:
        """Put the number of the equation that defines a quantity behind the line that finishes it."""
        number = self.numbers.get(name)
        if number is None or not self.lines:
            return
        line, separator, known = self.lines[-1].partition("  # ")
        self.lines[-1] = f"{line}  # {known + ', ' if separator else ''}({number})"

    def materialise(self, node: Node, name: str | None = None, layout: tuple[int, ...] | None = None) -> None:
        """Give a node a line of its own."""
        if node.number in self.variables:
            return
        gives_way = self.gives_way(node)
        for child, _ in node.args[0][0].args if gives_way else node.args:
            self.prepare(child)
        name = name or self.named.get(node.number) or self.invent(node)
        layout = layout if layout is not None else node.order
        if gives_way:
            self.write_changed(node, name, layout)
        elif node.op == "clear":
            self.write_clear(node, name, layout)
        elif node.op == "scatter":
            self.write_scatter(node, name, layout)
        else:
            self.values[name] = Value(node, tuple(range(node.rank)), layout)
            self.line(name, self.fitted(node, name, layout))
        self.variables[node.number] = (name, layout)
        self.mark(name)

    def fitted(self, node: Node, name: str, layout: tuple[int, ...]) -> str:
        """The expression, with its longest parts given lines of their own until it fits the page."""
        return self.fit([node], lambda: self.exact(node, layout)[0], len(name) + 3)

    def fit_text(self, nodes: Sequence[Node], render: Callable[[], Text], taken: int) -> Text:
        """As ``fit``, with how tightly the text binds."""
        self.fit(nodes, lambda: render()[0], taken)
        return render()

    def fit(self, nodes: Sequence[Node], render: Callable[[], str], taken: int) -> str:
        """What ``render`` gives, after parts of the nodes have lines of their own, so that it fits behind ``taken``."""
        room = WIDTH - taken - (0 if self.block is None else INDENT)
        text = render()
        while len(text) > room:
            parts = [part for node in nodes for part in self.inline_parts(node)]
            sized = [(len(self.exact(n, n.order)[0]), -n.number, n) for n in parts]
            sized = [s for s in sized if s[0] < 0.75 * len(text)] or sized
            if not sized:
                break
            self.materialise(max(sized)[2])
            text = render()
        return text

    def inline_parts(self, node: Node) -> list[Node]:
        """What is written inside the expression of a node and could have a line of its own."""
        found = []
        for child, _ in node.args:
            if child.number in self.variables or self.pythonic(child):
                continue
            summed = self.plan is not None and child.number in self.plan.sums
            if self.worth_naming(child) and not summed:
                found.append(child)
            found.extend(self.inline_parts(child))
        return found

    def prepare(self, node: Node) -> None:
        """Before a node is written in place: what it needs on lines of its own."""
        if node.number in self.variables or node.number in self.prepared:
            return
        self.prepared.add(node.number)
        if (
            node.op in ("clear", "scatter")
            or (node.number in self.named and node.number not in self.optional)
            or (self.uses.get(node.number, 0) > 1 and self.worth_naming(node))
        ):
            self.materialise(node)
            return
        for child, _ in node.args:
            self.prepare(child)

    def worth_naming(self, node: Node) -> bool:
        if node.op in ("input", "scalar", "arange") or self.pythonic(node):
            return False
        if node.op == "take":
            return any(p[0] == "gather" for p in node.info)
        if node.op == "map" and node.info == "mul":
            return not any(c.op == "scalar" and c.info == -1 for c, _ in node.args)
        return True

    # -- names -------------------------------------------------------------------------------------

    def invent(self, node: Node) -> str:
        """A name for a quantity that the statement leaves unnamed: after what it is."""
        name = self.describe(node)
        if not name.isidentifier() or keyword.iskeyword(name):
            name = "part"
        return self.unused(name)

    def short(self, node: Node) -> str:
        """The name of a node, or of the first array in it that has one."""
        if node.number in self.variables:
            return self.variables[node.number][0]
        if node.op == "input":
            return self.inputs.get(node.info, node.info)
        if node.op in ("map", "take"):
            return next((n for n in (self.short(c) for c, _ in node.args) if n), "")
        return ""

    def describe(self, node: Node) -> str:
        inner = [self.short(c) for c, _ in node.args]
        first = next((n for n in inner if n), "")
        if node.op == "take":
            gathered = [self.short(node.args[p[1]][0]) for p in node.info if p[0] == "gather"]
            return "_".join(n for n in (first, *gathered) if n)
        if node.op == "reduce":
            if node.info == "max":
                return f"{first}_max" if first else "largest"
            return f"sum_{first}" if first else "total"
        if node.op == "contract":
            return "_".join(n for n in dict.fromkeys(inner) if n) or "product"
        if node.op == "clear":
            child = node.args[0][0]
            known = child.number in self.variables or child.op == "input"
            return f"{self.short(child)}_masked" if known else self.describe(child)
        if node.op == "map":
            if node.info == "where":
                kept = self.short(node.args[1][0])
                return f"active_{kept}" if kept else "chosen"
            users = {"indicator": "active", "maximum": "hinge", "minimum": "capped", "mul": "product"}
            if node.info in users:
                if node.info == "mul" and any(c.op == "map" and c.info == "pow" for c, _ in node.args):
                    return "quotient"
                return users[node.info]
            if node.info == "add":
                return self.role(node)
            if node.info == "pow":
                squared = node.args[1][0].op == "scalar" and node.args[1][0].info == 2
                return f"{first}_{'squared' if squared else 'power'}" if first else "power"
            if node.info in COMPARISONS or node.info in ("and", "or", "not"):
                return "mask"
            return f"{node.info}_{first}" if first else str(node.info)
        return "part"

    def role(self, node: Node) -> str:
        """A sum under a max is a margin or the input of a unit; other sums are differences or totals."""
        users = self.users.get(node.number, [])
        if any(u.op == "map" and u.info in ("maximum", "minimum", "gt", "ge", "lt", "le") for u in users):
            unit = next((self.named[u.number] for u in users if u.number in self.named), None)
            return f"{unit}_input" if unit else "margin"
        return "difference" if self.is_difference(node) else "total"

    @staticmethod
    def is_difference(node: Node) -> bool:
        return any(
            c.op == "map" and c.info == "mul" and any(g.op == "scalar" and g.info.is_negative for g, _ in c.args)
            for c, _ in node.args
        )

    def write_clear(self, node: Node, name: str, layout: tuple[int, ...]) -> None:
        child, where = node.args[0]
        context = layout
        source = self.text(child, where, context)
        text = source[0]
        if child.number in self.variables or child.op in ("input", "take"):
            text = f"{wrapped(source, ATOM)}.copy()"
        self.values[name] = Value(child, where, context)
        self.line(name, text)
        position = {p: k for k, p in enumerate(where)}
        entries = [node.info[position[p]] for p in layout]
        sizes = [node.axes[p] for p in layout]
        index, _ = self.index(node, entries, sizes, node.order)
        self.lines.append(f"{name}[{index}] = 0")

    def write_scatter(self, node: Node, name: str, layout: tuple[int, ...]) -> None:
        shape = self.shape_source([node.axes[p] for p in layout])
        if not node.info:
            child, where = node.args[0]
            if child.op == "scalar" and child.info == 0:
                self.line(name, self.call("zeros", shape))
            else:
                self.line(name, self.call("full", shape, self.text(child, where, layout)[0]))
            return
        if node.info[0] == ("onto",):
            child, where = node.args[0]
            source = self.fit_text([child], partial(self.text, child, where, layout), len(name) + 3)
            if len(set(where)) < node.rank:
                self.line(name, self.call("full", shape, source[0]))
            elif child.number in self.variables or child.op in ("input", "take"):
                self.line(name, f"{wrapped(source, ATOM)}.copy()")
            else:
                self.values[name] = Value(child, where, layout)
                self.line(name, source[0])
        else:
            self.line(name, self.call("zeros", shape))
        for update in node.info[1:]:
            self.write_update(node, name, layout, update)

    def gives_way(self, node: Node) -> bool:
        """Whether the array that a scatter adds to is needed by its first update at most, and may change in place."""
        if node.op != "scatter" or not node.info or node.info[0] != ("onto",):
            return False
        (base, where), update = node.args[0], node.info[1]
        value = node.args[update.value][0]

        def inside(n: Node) -> bool:
            """Whether nothing but the update reads a node."""
            users = self.users.get(n.number, [])
            return self.uses.get(n.number) == len(users) and all(
                (user is node and n in (base, value))
                or (len(self.users.get(user.number, [])) == 1 and user.number not in self.named and inside(user))
                for user in users
            )

        fresh = base.op in ("map", "contract") and base.number not in self.variables and not self.pythonic(base)
        return fresh and base.number not in self.named and len(set(where)) == node.rank == base.rank and inside(base)

    def write_changed(self, node: Node, name: str, layout: tuple[int, ...]) -> None:
        """A scatter onto an array that becomes its result."""
        base, where = node.args[0]
        self.values[name] = Value(base, where, layout)
        self.line(name, self.fit_text([base], partial(self.text, base, where, layout), len(name) + 3)[0])
        axis_of = {p: k for k, p in enumerate(where)}
        self.variables[base.number] = (name, tuple(axis_of[p] for p in layout))
        for child, _ in node.args[1:]:
            self.prepare(child)
        for update in node.info[1:]:
            self.write_update(node, name, layout, update)

    def write_update(self, node: Node, name: str, layout: tuple[int, ...], update: Update) -> None:
        entries = [update.index[p] for p in layout]
        sizes = [node.axes[p] for p in layout]
        value, where = node.args[update.value]
        prefer = [*(p for p in self.update_order(value, where)), *range(len(node.axes) + len(node.inner))]
        index, order = self.index(node, entries, sizes, list(dict.fromkeys(prefer)))
        text = self.fit_text([value], partial(self.text, value, where, tuple(order)), len(name) + len(index) + 14)
        if update.repeated:
            # A slice among the positions has to be written as one; not so a slice inside an array of positions.
            outside = re.sub(r"\[[^\[\]]*\]", "", index)
            where_to = self.call("positions", index) if ":" in outside else f"({index})" if "," in outside else index
            self.lines.append(self.call("add at", name, where_to, text[0]))
        elif is_negative(text):
            self.lines.append(f"{name}[{index}] -= {text[0][1:]}")
        else:
            self.lines.append(f"{name}[{index}] += {text[0]}")

    def update_order(self, value: Node, where: tuple[int, ...]) -> list[int]:
        return [where[p] for p in self.own_layout(value)]
