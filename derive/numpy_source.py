"""The array program as lines of NumPy.

``Writer`` walks the graph from the results that are wanted. What has a name in the statement, what is used more than
once and what is built in place gets a line of its own; everything else is written where it is used.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sympy import Add, Expr, Integer, Mul, NumberSymbol, Pow, Rational, S, Symbol, expand
from sympy.core.function import Function

from derive.blocks import Plan
from derive.program import Node, Ref, Update

__all__ = ["Output", "Writer", "scalar_source"]

#: How long a line of a body may be, its indentation and the number of its equation aside.
WIDTH = 103
INDENT = 4
_ATOM, _POWER, _UNARY, _PRODUCT, _SUM, _AND, _OR, _COMPARE = 12, 11, 10, 9, 8, 7, 6, 4
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_CALLS = {
    "exp": "np.exp", "log": "np.log", "sin": "np.sin", "cos": "np.cos", "tan": "np.tan", "asin": "np.arcsin",
    "acos": "np.arccos", "atan": "np.arctan", "sinh": "np.sinh", "cosh": "np.cosh", "tanh": "np.tanh",
    "abs": "np.abs", "sign": "np.sign", "maximum": "np.maximum", "minimum": "np.minimum",
}  # fmt: skip
_MATH = {
    "exp": "exp", "log": "log", "sin": "sin", "cos": "cos", "tan": "tan", "asin": "asin", "acos": "acos",
    "atan": "atan", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh",
}  # fmt: skip

Text = tuple[str, int]


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


def wrapped(text: Text, level: int) -> str:
    """The text, in parentheses where it binds less tightly than its surroundings."""
    return text[0] if text[1] >= level else f"({text[0]})"


def number_source(value: Rational) -> Text:
    if value.q == 1:
        return (str(value.p), _ATOM if value.p >= 0 else _UNARY)
    return (f"{value.p} / {value.q}", _PRODUCT)


def scalar_source(e: Expr) -> Text:
    """An expression in sizes and hyperparameters: plain Python, so that float32 arrays stay float32."""
    if isinstance(e, Rational):
        return number_source(e)
    if e == S.Infinity:
        return "np.inf", _ATOM
    if e == S.NegativeInfinity:
        return "-np.inf", _UNARY
    if isinstance(e, NumberSymbol):
        return {S.Pi: ("math.pi", _ATOM), S.Exp1: ("math.e", _ATOM)}.get(e) or (repr(float(e)), _ATOM)
    if isinstance(e, Symbol):
        return e.name, _ATOM
    if isinstance(e, Add):
        parts = sorted(e.args, key=lambda a: a.could_extract_minus_sign() or a.is_Number)
        result = scalar_source(parts[0])[0]
        for a in parts[1:]:
            if a.could_extract_minus_sign():
                result += " - " + wrapped(scalar_source(-a), _PRODUCT)
            else:
                result += " + " + wrapped(scalar_source(a), _SUM)
        return result, _SUM
    if isinstance(e, Mul):
        return product_source(e)
    if isinstance(e, Pow):
        if e.exp == S.Half:
            return f"math.sqrt({scalar_source(e.base)[0]})", _ATOM
        if e.exp.could_extract_minus_sign():
            return "1 / " + wrapped(scalar_source(Pow(e.base, -e.exp)), _UNARY), _PRODUCT
        return f"{wrapped(scalar_source(e.base), _ATOM)}**{wrapped(scalar_source(e.exp), _UNARY)}", _POWER
    name = type(e).__name__.lower()
    if name == "abs":
        return f"abs({scalar_source(e.args[0])[0]})", _ATOM
    assert isinstance(e, Function), e
    return f"math.{_MATH[name]}({scalar_source(e.args[0])[0]})", _ATOM


def product_source(e: Mul) -> Text:
    if e.could_extract_minus_sign():
        return minus_sign(scalar_source(-e))
    above, below = e.as_numer_denom()
    factors = [scalar_source(f) for f in Mul.make_args(above) if f != 1]
    text = " * ".join(wrapped(f, _PRODUCT) for f in factors) or "1"
    level = _PRODUCT if len(factors) > 1 else (factors[0][1] if factors else _ATOM)
    if below != 1:
        text = f"{wrapped((text, level), _PRODUCT)} / {wrapped(scalar_source(below), _UNARY)}"
        level = _PRODUCT
    return text, level


@dataclass
class Writer:
    """Writes one function's body.

    Parameters
    ----------
    named : dict
        Names of nodes that have one in the statement, by number.
    reserved : set of str
        Names that a new variable must not take.
    optional : set of int
        Nodes whose names are the toolkit's own: they get a line only if they are used more than once.
    numbers : dict
        Equation numbers of variables.
    typed : set of str
        Results that are to have the type of the arrays even where they are made of plain numbers.
    plan : Plan, optional
        How to compute sums over examples in blocks of rows.
    inputs : dict
        Names of arguments inside the function, where they differ.
    """

    named: dict[int, str]
    reserved: set[str]
    optional: set[int] = field(default_factory=set)
    inputs: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    variables: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    aranges: dict[tuple[Expr, Expr], str] = field(default_factory=dict)
    uses: dict[int, int] = field(default_factory=dict)
    users: dict[int, list[Node]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    typed: set[str] = field(default_factory=set)
    prepared: set[int] = field(default_factory=set)
    plain: dict[int, bool] = field(default_factory=dict)
    plan: Plan | None = None
    block: Expr | None = None
    block_size: str = "n"
    ranks: dict[str, int] = field(default_factory=dict)

    # -- the walk ----------------------------------------------------------------------------------

    def write(self, definitions: Sequence[Output], outputs: Sequence[Output]) -> None:
        """Write what the outputs need, a line for each definition among it, in order."""
        self.count([o.ref.node for o in outputs])
        wanted = {o.name for o in outputs}
        if self.plan is not None:
            self.write_blocks(self.plan, definitions)
        self.assign_all(definitions, wanted)

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
            if total.node.op == "scatter":
                for update in total.node.info[1:]:
                    self.write_update(total.node, total.name, total.layout, update)
            else:
                parts = [(c, tuple(total.position(p) for p in at)) for c, at in total.parts]
                context = tuple(range(len(total.layout)))
                inside = [c for c, _ in total.parts]
                text = self.fit_text(inside, partial(self.sum_text, parts, context), len(total.name) + 4)
                sign = "-=" if is_negative(text) else "+="
                self.lines.append(f"{total.name} {sign} {text[0][1:] if is_negative(text) else text[0]}")
            self.mark(total.name)
        body, self.lines = self.lines, before
        self.block = None
        for total in totals:
            self.write_start(total)
            self.variables[total.node.number] = (total.name, total.layout)
        blocks = ", ".join(f"{self.inputs[n]}" for n in plan.inputs)
        pieces = ", ".join(f"{whole.get(n, n)}[{slices}]" for n in plan.inputs)
        largest = max(plan.inputs, key=lambda n: self.ranks.get(n, 0))
        self.lines.append("# A block of rows stays in the cache between the products that read it.")
        widths = [self.size_source(e) for e in self.widths(plan)]
        self.lines.append(f"for {slices} in _row_blocks({', '.join([whole.get(largest, largest), *widths])}):")
        self.lines.append(f"    {blocks} = {pieces}")
        if any(re.search(rf"\b{self.block_size}\b", line) for line in body):
            self.lines.append(f"    {self.block_size} = len({self.inputs[largest]})")
        self.lines.extend(f"    {line}" for line in body)
        self.inputs, self.aranges = whole, known

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
            self.line(name, f"{wrapped(source, _ATOM)}.copy()" if source[1] == _ATOM else source[0])
        elif total.rest:
            context = tuple(range(len(layout)))
            source = self.sum_text([(c, tuple(total.position(p) for p in at)) for c, at in total.rest], context)
            whole = {p for _, at in total.rest for p in at}
            if len(whole) < node.rank:
                self.line(name, f"np.full({self.shape_source([node.axes[p] for p in layout])}, {source[0]}, dtype)")
            else:
                self.line(name, f"{source[0]}.copy()" if node.rank and source[1] == _ATOM else source[0])
        elif node.rank == 0:
            self.line(name, "0")
        else:
            self.line(name, f"np.zeros({self.shape_source([node.axes[p] for p in layout])}, dtype)")

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

    def unused(self, name: str) -> str:
        candidate, number = name, 2
        while candidate in self.reserved:
            candidate, number = f"{name}_{number}", number + 1
        self.reserved.add(candidate)
        return candidate

    def count(self, roots: list[Node]) -> None:
        seen: set[int] = set()

        def visit(node: Node) -> None:
            self.uses[node.number] = self.uses.get(node.number, 0) + 1
            if node.number in seen:
                return
            seen.add(node.number)
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
                self.line(output.name, f"{wrapped(source, _ATOM)}.copy()" if node.rank else source[0])
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
            text = self.fitted(node, name, layout)
            self.line(name, text)
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
            if node.info in _COMPARISONS or node.info in ("and", "or", "not"):
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

    # -- expressions -------------------------------------------------------------------------------

    def exact(self, node: Node, layout: Sequence[int]) -> Text:
        """The node as an expression whose axes are exactly these, in this order."""
        identity = tuple(range(node.rank))
        if node.op == "map" and node.number not in self.variables and not self.pythonic(node):
            return self.map_text(node, identity, tuple(layout))
        return self.text(node, identity, tuple(layout))

    def text(self, node: Node, axes: tuple[Any, ...], context: tuple[Any, ...]) -> Text:
        """The node as an expression that broadcasts in a context of axes."""
        known = self.variables.get(node.number)
        if known is None and node.op == "input":
            known = (self.inputs.get(node.info, node.info), tuple(range(node.rank)))
        if known is not None:
            return self.aligned((known[0], _ATOM), [axes[p] for p in known[1]], context)
        if node.op == "scalar":
            return scalar_source(node.info)
        if self.pythonic(node):
            return self.python_text(node)
        if node.op == "map":
            return self.map_text(node, axes, context)
        if node.op == "arange":
            return self.aligned((self.arange(node.info, node.letters[0]), _ATOM), [axes[0]], context)
        source, order = getattr(self, f"{node.op}_text")(node)
        return self.aligned(source, [axes[p] for p in order], context)

    def aligned(self, source: Text, labels: list[Any], context: tuple[Any, ...]) -> Text:
        """An array with axes ``labels`` put in the order of the context, with new axes where others come between."""
        wanted = [c for c in context if c in labels]
        if wanted != labels:
            if len(labels) == 2:
                source = (f"{wrapped(source, _ATOM)}.T", _ATOM)
            else:
                moved = ", ".join(str(labels.index(w)) for w in wanted)
                source = (f"{wrapped(source, _ATOM)}.transpose({moved})", _ATOM)
        if not wanted:
            return source
        tail = context[context.index(wanted[0]) :]
        marks = [":" if c in wanted else "None" for c in tail]
        if "None" not in marks:
            return source
        while marks[-1] == ":":
            marks.pop()
        return f"{wrapped(source, _ATOM)}[{', '.join(marks)}]", _ATOM

    def pythonic(self, node: Node) -> bool:
        """Whether a value is a plain Python number: made of sizes and hyperparameters alone."""
        if node.number not in self.plain:
            self.plain[node.number] = node.op == "scalar" or (
                node.op == "map" and node.rank == 0 and all(self.pythonic(c) for c, _ in node.args)
            )
        return self.plain[node.number]

    def python_text(self, node: Node) -> Text:
        if node.op == "scalar":
            return scalar_source(node.info)
        parts = [self.python_text(c) for c, _ in node.args]
        name = node.info
        if name == "add":
            return " + ".join(wrapped(p, _SUM) for p in parts), _SUM
        if name == "mul":
            return " * ".join(wrapped(p, _UNARY) for p in parts), _PRODUCT
        if name == "pow":
            return f"{wrapped(parts[0], _ATOM)}**{wrapped(parts[1], _ATOM)}", _POWER
        if name in ("maximum", "minimum"):
            return f"{name[:3]}({', '.join(p[0] for p in parts)})", _ATOM
        if name == "abs":
            return f"abs({parts[0][0]})", _ATOM
        if name == "sign":
            return f"math.copysign(1, {parts[0][0]}) * ({parts[0][0]} != 0)", _PRODUCT
        if name == "where":
            return f"({parts[1][0]} if {parts[0][0]} else {parts[2][0]})", _ATOM
        if name == "indicator":
            return f"int({parts[0][0]})", _ATOM
        if name == "softplus":
            return f"float(np.logaddexp(0, {parts[0][0]}))", _ATOM
        if name == "sigmoid":
            return f"float(np.exp(-np.logaddexp(0, {negated(parts[0])})))", _ATOM
        if name in ("and", "or"):
            return f" {name} ".join(wrapped(p, _COMPARE) for p in parts), _COMPARE - 1
        if name == "not":
            return f"not {wrapped(parts[0], _COMPARE)}", _COMPARE - 1
        if name in _COMPARISONS:
            return f"{wrapped(parts[0], _SUM)} {_COMPARISONS[name]} {wrapped(parts[1], _SUM)}", _COMPARE
        if name == "real":
            return parts[0]
        return f"math.{_MATH[name]}({parts[0][0]})", _ATOM

    def map_text(self, node: Node, axes: tuple[Any, ...], context: tuple[Any, ...]) -> Text:
        def arg(n: int) -> Text:
            child, where = node.args[n]
            return self.text(child, tuple(axes[p] for p in where), context)

        name = node.info
        if name == "add":
            return self.add_text(node, axes, context)
        if name == "mul":
            return self.mul_text(node, axes, context)
        if name == "pow":
            return self.pow_text(arg(0), node.args[1][0], arg(1))
        if name in _CALLS:
            return f"{_CALLS[name]}({', '.join(arg(n)[0] for n in range(len(node.args)))})", _ATOM
        if name in _COMPARISONS:
            return f"{wrapped(arg(0), _OR)} {_COMPARISONS[name]} {wrapped(arg(1), _OR)}", _COMPARE
        if name == "and":
            return f"{wrapped(arg(0), _AND)} & {wrapped(arg(1), _AND)}", _AND
        if name == "or":
            return f"{wrapped(arg(0), _OR)} | {wrapped(arg(1), _OR)}", _OR
        if name == "not":
            return f"~{wrapped(arg(0), _UNARY)}", _UNARY
        if name == "where":
            text = f"np.where({arg(0)[0]}, {arg(1)[0]}, {arg(2)[0]})"
            if all(self.pythonic(c) for c, _ in node.args[1:]):
                text += ".astype(dtype)"
            return text, _ATOM
        if name in ("indicator", "real"):
            return f"{wrapped(arg(0), _ATOM)}.astype(dtype)", _ATOM
        if name == "softplus":
            return f"np.logaddexp(0, {arg(0)[0]})", _ATOM
        if name == "sigmoid":
            return f"np.exp(-np.logaddexp(0, {negated(arg(0))}))", _ATOM
        raise AssertionError(name)

    def add_text(self, node: Node, axes: tuple[Any, ...], context: tuple[Any, ...]) -> Text:
        return self.sum_text([(child, tuple(axes[p] for p in where)) for child, where in node.args], context)

    def sum_text(self, terms: Sequence[tuple[Node, tuple[Any, ...]]], context: tuple[Any, ...]) -> Text:
        parts: list[tuple[bool, Text]] = []
        for child, where in terms:
            text = self.text(child, where, context)
            if is_negative(text):
                parts.append((True, (text[0][1:], text[1])))
            else:
                parts.append((False, text))
        # A sum reads better when it does not begin with a minus; arrays come before scalars.
        first = next((k for k, (negative, _) in enumerate(parts) if not negative), None)
        if first:
            parts.insert(0, parts.pop(first))
        if len(parts) == 1:
            negative, text = parts[0]
            return minus_sign(text) if negative else text
        result = ("-" if parts[0][0] else "") + wrapped(parts[0][1], _SUM if not parts[0][0] else _PRODUCT)
        for negative, text in parts[1:]:
            result += (" - " if negative else " + ") + wrapped(text, _PRODUCT if negative else _SUM)
        return result, _SUM

    def mul_text(self, node: Node, axes: tuple[Any, ...], context: tuple[Any, ...]) -> Text:
        above: list[Text] = []
        below: list[Text] = []
        minus = False
        self_product = len(node.args) == 2 and node.args[0] == node.args[1]
        for child, where in node.args:
            at = tuple(axes[p] for p in where)
            if child.op == "scalar":
                value = child.info
                if value.could_extract_minus_sign():
                    minus, value = not minus, -value
                numerator, denominator = value.as_numer_denom()
                above.extend(scalar_source(f) for f in Mul.make_args(numerator) if f != 1)
                if denominator != 1:
                    below.append(scalar_source(denominator))
                continue
            inverse = self.inverted(child)
            if inverse is not None:
                inner, inner_where = inverse
                below.append(self.text(inner, tuple(at[p] for p in inner_where), context))
                continue
            text = self.text(child, at, context)
            if is_negative(text):
                minus, text = not minus, (text[0][1:], text[1])
            above.append(text)
        if self_product and len(above) == 2:
            return f"{wrapped(above[0], _ATOM)}**2", _POWER
        if len(above) == 1:
            result, level = above[0]
        else:
            result = " * ".join(wrapped(t, _PRODUCT if k == 0 else _UNARY) for k, t in enumerate(above)) or "1"
            level = _PRODUCT if above else _ATOM
        for t in below:
            result, level = f"{wrapped((result, level), _PRODUCT)} / {wrapped(t, _UNARY)}", _PRODUCT
        if minus:
            return minus_sign((result, level))
        return result, level

    def inverted(self, node: Node) -> tuple[Node, tuple[int, ...]] | None:
        """What a node is one over, if it is written as a division."""
        if node.op == "map" and node.info == "pow" and node.number not in self.variables:
            (base, where), (power, _) = node.args
            if power.op == "scalar" and power.info == -1:
                return base, where
        return None

    def pow_text(self, base: Text, power: Node, written: Text) -> Text:
        value = power.info if power.op == "scalar" else None
        if value == S.Half:
            return f"np.sqrt({base[0]})", _ATOM
        if value is not None and value.is_Rational and value.is_negative:
            below = self.pow_text(base, _Power(-value), scalar_source(-value)) if value != -1 else base  # type: ignore[arg-type]
            return f"1 / {wrapped(below, _UNARY)}", _PRODUCT
        if value is not None and value.is_Rational and value.q != 1:
            return f"{wrapped(base, _ATOM)}**{float(value)!r}", _POWER
        return f"{wrapped(base, _ATOM)}**{wrapped(written, _ATOM)}", _POWER

    # -- reductions and products -------------------------------------------------------------------

    def reduce_text(self, node: Node) -> tuple[Text, tuple[int, ...]]:
        child, where = node.args[0]
        inner = [p for p in where if p >= node.rank]
        own = self.own_layout(child)
        context = tuple(where[p] for p in own)
        out = tuple(p for p in context if p < node.rank)
        if child.op == "map" and child.number not in self.variables and out != node.order:
            context, out = (*node.order, *inner), node.order
        source = self.text(child, where, context)
        positions = [k for k, p in enumerate(context) if p in inner]
        if len(positions) == len(context):
            axis = ""
        elif len(positions) == 1:
            axis = f"axis={positions[0]}"
        else:
            axis = f"axis=({', '.join(map(str, positions))})"
        if source[1] == _ATOM:
            return (f"{source[0]}.{node.info}({axis})", _ATOM), out
        return (f"np.{node.info}({source[0]}{', ' if axis else ''}{axis})", _ATOM), out

    def own_layout(self, node: Node) -> tuple[int, ...]:
        known = self.variables.get(node.number)
        if known is not None:
            return known[1]
        if node.op == "input":
            return tuple(range(node.rank))
        return node.order

    def contract_text(self, node: Node) -> tuple[Text, tuple[int, ...]]:
        (a, a_at), (b, b_at) = node.args
        out = set(range(node.rank))
        batch = [p for p in a_at if p in b_at and p in out]
        inner = [p for p in a_at if p in b_at and p not in out]
        rows = [p for p in a_at if p not in b_at]
        columns = [p for p in b_at if p not in a_at]
        if not batch and len(inner) == 1 and len(rows) <= 1 and len(columns) <= 1:
            return self.matrix_product(node, rows, columns, inner[0])
        if not rows and not columns and not batch:
            layout = tuple(a_at[p] for p in self.own_layout(a))
            left = self.text(a, a_at, layout)
            right = self.text(b, b_at, layout)
            return (f"np.vdot({left[0]}, {right[0]})", _ATOM), ()
        if not batch and len(inner) == 1 and len(columns) == 1 and len(rows) > 1:
            found = self.stacked_product(node, node.args[0], node.args[1], inner[0], columns[0])
            if found:
                return found
        if not batch and len(inner) == 1 and len(rows) == 1 and len(columns) > 1:
            found = self.stacked_product(node, node.args[1], node.args[0], inner[0], rows[0])
            if found:
                return found
        if len(batch) == 1 and len(inner) == 1 and len(rows) == 1 and len(columns) == 1:
            order = (batch[0], rows[0], columns[0])
            if node.order != order and node.order == (batch[0], columns[0], rows[0]):
                (a, a_at), (b, b_at), rows, columns = (b, b_at), (a, a_at), columns, rows
                order = node.order
            if node.order == order:
                left = self.text(a, a_at, (batch[0], rows[0], inner[0]))
                right = self.text(b, b_at, (batch[0], inner[0], columns[0]))
                return (f"{wrapped(left, _UNARY)} @ {wrapped(right, _UNARY)}", _PRODUCT), order
        return self.einsum(node)

    def matrix_product(
        self, node: Node, rows: list[int], columns: list[int], inner: int
    ) -> tuple[Text, tuple[int, ...]]:
        (a, a_at), (b, b_at) = node.args
        order = node.order
        if rows and columns and order == (columns[0], rows[0]):
            a, a_at, b, b_at, rows, columns = b, b_at, a, a_at, columns, rows
        elif columns and not rows:
            # A vector times a matrix reads as the matrix (or its transpose) times the vector.
            a, a_at, b, b_at, rows, columns = b, b_at, a, a_at, columns, rows
        left = self.text(a, a_at, (*rows, inner))
        right = self.text(b, b_at, (inner, *columns))
        return (f"{wrapped(left, _PRODUCT)} @ {wrapped(right, _UNARY)}", _PRODUCT), (*rows, *columns)

    def stacked_product(
        self, node: Node, stack: tuple[Any, ...], matrix: tuple[Any, ...], inner: int, column: int
    ) -> tuple[Text, tuple[int, ...]] | None:
        """Many matrices times one: matmul over the leading axes."""
        (a, a_at), (b, b_at) = stack, matrix
        own = tuple(a_at[p] for p in self.own_layout(a))
        if own[-1] != inner or node.order != (*own[:-1], column):
            return None
        left = self.text(a, a_at, own)
        right = self.text(b, b_at, (inner, column))
        return (f"{wrapped(left, _PRODUCT)} @ {wrapped(right, _UNARY)}", _PRODUCT), node.order

    def einsum(self, node: Node) -> tuple[Text, tuple[int, ...]]:
        letters: dict[int, str] = {}
        for p, letter in enumerate(node.letters):
            ok = len(letter) == 1 and letter.isascii() and letter.isalpha() and letter not in letters.values()
            letters[p] = (
                letter if ok else next(c for c in "abcdefghpqrstuvwxyz" if c not in (*letters.values(), *node.letters))
            )
        subscripts, texts = [], []
        for child, where in node.args:
            layout = self.own_layout(child)
            order = tuple(where[p] for p in layout)
            subscripts.append("".join(letters[p] for p in order))
            texts.append(self.text(child, where, order)[0])
        result = "".join(letters[p] for p in node.order)
        (_, a_at), (_, b_at) = node.args
        grows = set(a_at) - set(b_at) and set(b_at) - set(a_at)
        optimize = ", optimize=True" if grows else ""
        return (f'np.einsum("{",".join(subscripts)}->{result}", {", ".join(texts)}{optimize})', _ATOM), node.order

    # -- elements ----------------------------------------------------------------------------------

    def arange(self, info: tuple[Expr, Expr], letter: str) -> str:
        if info not in self.aranges:
            lo, size = info
            candidate = self.unused(letter if letter.isidentifier() and not keyword.iskeyword(letter) else "index")
            start = "" if lo == 0 else f"{scalar_source(lo)[0]}, "
            stop = self.size_source(size) if lo == 0 else scalar_source(expand(lo + size))[0]
            self.lines.append(f"{candidate} = np.arange({start}{stop})")
            self.aranges[info] = candidate
        return self.aranges[info]

    def size_source(self, size: Expr) -> str:
        """A size; inside a block the number of examples is that of the block."""
        return self.block_size if size == self.block else scalar_source(size)[0]

    def shape_source(self, sizes: Sequence[Expr]) -> str:
        inside = ", ".join(map(self.size_source, sizes))
        return f"({inside},)" if len(sizes) == 1 else f"({inside})"

    def slice_source(self, start: Expr, size: Expr, whole: Expr) -> str:
        """start:stop, as a person writes it."""
        stop = expand(start + size)
        left = "" if start == 0 else scalar_source(start)[0]
        behind = expand(whole - stop)
        if behind == 0:
            right = ""
        elif isinstance(behind, Integer):
            right = str(-behind)
        else:
            right = scalar_source(stop)[0]
        return f"{left}:{right}"

    def index(
        self,
        node: Node,
        entries: Sequence[tuple[Any, ...]],
        sizes: Sequence[Expr],
        prefer: Sequence[int],
    ) -> tuple[str, list[int]]:
        """An index expression, and the axes of what it selects, in order.

        ``entries`` are positions for each axis of the indexed array in its layout; ``sizes`` are that array's sizes.
        """
        gathers = [node.args[e[1]] for e in entries if e[0] == "gather"]
        spread = {p for _, at in gathers for p in at}
        advanced = [e[0] == "gather" or (e[0] == "slice" and e[1] in spread) for e in entries]
        for e, is_advanced in zip(entries, advanced, strict=True):
            if is_advanced and e[0] == "slice":
                spread.add(e[1])
        context = tuple(p for p in prefer if p in spread)
        any_advanced = any(advanced)
        texts: list[str] = []
        for e, size, is_advanced in zip(entries, sizes, advanced, strict=True):
            if e[0] == "at":
                texts.append(scalar_source(e[1])[0])
            elif e[0] == "gather":
                child, at = node.args[e[1]]
                texts.append(self.text(child, at, context)[0])
            elif is_advanced:
                axis = (*node.axes, *node.inner)[e[1]]
                name = self.arange((e[2], axis), node.letters[e[1]])
                texts.append(self.aligned((name, _ATOM), [e[1]], context)[0])
            else:
                axis = (*node.axes, *node.inner)[e[1]]
                texts.append(self.slice_source(e[2], axis, size))
        # Integers count as positions, too, once there is an array of positions.
        points = [a or (any_advanced and e[0] == "at") for e, a in zip(entries, advanced, strict=True)]
        where = [k for k, p in enumerate(points) if p]
        together = bool(where) and where == list(range(where[0], where[-1] + 1))
        result: list[int] = []
        placed = False
        if where and not together:
            result, placed = list(context), True
        for e, p in zip(entries, points, strict=True):
            if p:
                if not placed:
                    result.extend(context)
                    placed = True
            elif e[0] == "slice":
                result.append(e[1])
        while texts and texts[-1] == ":" and len(texts) > 1:
            texts.pop()
        return ", ".join(texts), result

    def take_text(self, node: Node) -> tuple[Text, tuple[int, ...]]:
        child, _ = node.args[0]
        layout = self.own_layout(child)
        entries = [node.info[p] for p in layout]
        sizes = [child.axes[p] for p in layout]
        source = self.text(child, tuple(range(child.rank)), layout)
        index, order = self.index(node, entries, sizes, node.order)
        return (f"{wrapped(source, _ATOM)}[{index}]", _ATOM), tuple(order)

    def write_clear(self, node: Node, name: str, layout: tuple[int, ...]) -> None:
        child, where = node.args[0]
        context = layout
        source = self.text(child, where, context)
        text = source[0]
        if child.number in self.variables or child.op in ("input", "take"):
            text = f"{wrapped(source, _ATOM)}.copy()"
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
                self.line(name, f"np.zeros({shape}, dtype)")
            else:
                self.line(name, f"np.full({shape}, {self.text(child, where, layout)[0]}, dtype)")
            return
        if node.info[0] == ("onto",):
            child, where = node.args[0]
            source = self.fit_text([child], partial(self.text, child, where, layout), len(name) + 3)
            if len(set(where)) < node.rank:
                self.line(name, f"np.full({shape}, {source[0]}, dtype)")
            elif child.number in self.variables or child.op in ("input", "take"):
                self.line(name, f"{wrapped(source, _ATOM)}.copy()")
            else:
                self.line(name, source[0])
        else:
            self.line(name, f"np.zeros({shape}, dtype)")
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
            where_to = f"np.s_[{index}]" if ":" in outside else f"({index})" if "," in outside else index
            self.lines.append(f"np.add.at({name}, {where_to}, {text[0]})")
        elif is_negative(text):
            self.lines.append(f"{name}[{index}] -= {text[0][1:]}")
        else:
            self.lines.append(f"{name}[{index}] += {text[0]}")

    def update_order(self, value: Node, where: tuple[int, ...]) -> list[int]:
        return [where[p] for p in self.own_layout(value)]


def minus_sign(text: Text) -> Text:
    """Minus a product or anything that binds more tightly; -a * b binds as a product does."""
    return f"-{wrapped(text, _PRODUCT)}", _PRODUCT if text[1] == _PRODUCT else _UNARY


def is_negative(text: Text) -> bool:
    return text[0].startswith("-") and text[1] in (_PRODUCT, _UNARY)


def negated(text: Text) -> str:
    return text[0][1:] if is_negative(text) else minus_sign(text)[0]


@dataclass(frozen=True)
class _Power:
    """A number standing in for a scalar node."""

    info: Expr
    op: str = "scalar"
