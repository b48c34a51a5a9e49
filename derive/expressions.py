"""Nodes of the array program as expressions.

``Expressions`` writes a node where it is used: in a context of axes, into which it broadcasts. What a function of
arrays is called comes from the target's table; everything here is the same for all of them.
"""

from __future__ import annotations

import keyword
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sympy import Expr, Integer, Mul, S, expand

from derive.finite import stays_finite
from derive.numpy_source import NUMPY_ARRAYS, ArrayTarget
from derive.program import Node
from derive.python_source import (
    AND,
    ATOM,
    COMPARE,
    COMPARISONS,
    MATH,
    OR,
    POWER,
    PRODUCT,
    SUM,
    UNARY,
    Text,
    is_negative,
    minus_sign,
    negated,
    scalar_source,
    wrapped,
)

__all__ = ["Expressions", "is_matrix_product"]


@dataclass(frozen=True)
class _Power:
    """A number standing in for a scalar node."""

    info: Expr
    op: str = "scalar"


@dataclass(kw_only=True)
class Expressions:
    """Writes nodes as expressions.

    Parameters
    ----------
    reserved : set of str
        Names that a new variable must not take.
    inputs : dict
        Names of arguments inside the function, where they differ.
    target : ArrayTarget
        What functions of arrays are called.

    Attributes
    ----------
    lines : list of str
        Finished lines; an expression may need the values of an index on a line before it.
    variables : dict
        For nodes that have a variable: its name, and the order of its axes.
    products : set of int
        Products of matrices that are written as a call of the function named ``product``, by number.
    block : Expr or None
        The size that is, inside a block of examples, that of the block.
    """

    reserved: set[str]
    inputs: dict[str, str] = field(default_factory=dict)
    target: ArrayTarget = NUMPY_ARRAYS
    lines: list[str] = field(default_factory=list)
    variables: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    aranges: dict[tuple[Expr, Expr], str] = field(default_factory=dict)
    plain: dict[int, bool] = field(default_factory=dict)
    products: set[int] = field(default_factory=set)
    product: str = "product"
    block: Expr | None = None
    block_size: str = "n"

    def call(self, operation: str, *operands: str) -> str:
        """An operation as the target spells it."""
        return self.target.calls[operation].format(*operands)

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
            return self.aligned((known[0], ATOM), [axes[p] for p in known[1]], context)
        if node.op == "scalar":
            return scalar_source(node.info)
        if self.pythonic(node):
            return self.python_text(node)
        if node.op == "map":
            return self.map_text(node, axes, context)
        if node.op == "arange":
            return self.aligned((self.arange(node.info, node.letters[0]), ATOM), [axes[0]], context)
        source, order = getattr(self, f"{node.op}_text")(node)
        return self.aligned(source, [axes[p] for p in order], context)

    def aligned(self, source: Text, labels: list[Any], context: tuple[Any, ...]) -> Text:
        """An array with axes ``labels`` put in the order of the context, with new axes where others come between."""
        wanted = [c for c in context if c in labels]
        if wanted != labels:
            if len(labels) == 2:
                source = (f"{wrapped(source, ATOM)}.T", ATOM)
            else:
                moved = ", ".join(str(labels.index(w)) for w in wanted)
                source = (f"{wrapped(source, ATOM)}.transpose({moved})", ATOM)
        if not wanted:
            return source
        tail = context[context.index(wanted[0]) :]
        marks = [":" if c in wanted else "None" for c in tail]
        if "None" not in marks:
            return source
        while marks[-1] == ":":
            marks.pop()
        return f"{wrapped(source, ATOM)}[{', '.join(marks)}]", ATOM

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
            return " + ".join(wrapped(p, SUM) for p in parts), SUM
        if name == "mul":
            return " * ".join(wrapped(p, UNARY) for p in parts), PRODUCT
        if name == "pow":
            return f"{wrapped(parts[0], ATOM)}**{wrapped(parts[1], ATOM)}", POWER
        if name in ("maximum", "minimum"):
            return f"{name[:3]}({', '.join(p[0] for p in parts)})", ATOM
        if name == "abs":
            return f"abs({parts[0][0]})", ATOM
        if name == "sign":
            return f"math.copysign(1, {parts[0][0]}) * ({parts[0][0]} != 0)", PRODUCT
        if name == "where":
            return f"({parts[1][0]} if {parts[0][0]} else {parts[2][0]})", ATOM
        if name == "indicator":
            return f"int({parts[0][0]})", ATOM
        if name == "softplus":
            return f"float({self.call('softplus', parts[0][0])})", ATOM
        if name == "sigmoid":
            return f"float({self.call('sigmoid', negated(parts[0]))})", ATOM
        if name in ("and", "or"):
            return f" {name} ".join(wrapped(p, COMPARE) for p in parts), COMPARE - 1
        if name == "not":
            return f"not {wrapped(parts[0], COMPARE)}", COMPARE - 1
        if name in COMPARISONS:
            return f"{wrapped(parts[0], SUM)} {COMPARISONS[name]} {wrapped(parts[1], SUM)}", COMPARE
        if name == "real":
            return parts[0]
        return f"math.{MATH[name]}({parts[0][0]})", ATOM

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
        if name in COMPARISONS:
            return f"{wrapped(arg(0), OR)} {COMPARISONS[name]} {wrapped(arg(1), OR)}", COMPARE
        if name == "and":
            return f"{wrapped(arg(0), AND)} & {wrapped(arg(1), AND)}", AND
        if name == "or":
            return f"{wrapped(arg(0), OR)} | {wrapped(arg(1), OR)}", OR
        if name == "not":
            return f"~{wrapped(arg(0), UNARY)}", UNARY
        if name == "where" and self.is_masked(node):
            return f"{wrapped(arg(1), PRODUCT)} * {wrapped(arg(0), UNARY)}", PRODUCT
        if name == "where":
            text = self.call("where", *(arg(n)[0] for n in range(3)))
            if all(self.pythonic(c) for c, _ in node.args[1:]):
                text += ".astype(dtype)"
            return text, ATOM
        if name in ("indicator", "real"):
            return f"{wrapped(arg(0), ATOM)}.astype(dtype)", ATOM
        if name == "sigmoid":
            return self.call("sigmoid", negated(arg(0))), ATOM
        return self.call(name, *(arg(n)[0] for n in range(len(node.args)))), ATOM

    def is_masked(self, node: Node) -> bool:
        """Whether a choice is between a finite value and 0, and so a product with its condition."""
        chosen, other = node.args[1][0], node.args[2][0]
        return other.op == "scalar" and other.info == 0 and chosen.rank == node.rank and stays_finite(chosen)

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
        result = ("-" if parts[0][0] else "") + wrapped(parts[0][1], SUM if not parts[0][0] else PRODUCT)
        for negative, text in parts[1:]:
            result += (" - " if negative else " + ") + wrapped(text, PRODUCT if negative else SUM)
        return result, SUM

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
            return f"{wrapped(above[0], ATOM)}**2", POWER
        if len(above) == 1:
            result, level = above[0]
        else:
            result = " * ".join(wrapped(t, PRODUCT if k == 0 else UNARY) for k, t in enumerate(above)) or "1"
            level = PRODUCT if above else ATOM
        for t in below:
            result, level = f"{wrapped((result, level), PRODUCT)} / {wrapped(t, UNARY)}", PRODUCT
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
            return self.call("sqrt", base[0]), ATOM
        if value is not None and value.is_Rational and value.is_negative:
            below = self.pow_text(base, _Power(-value), scalar_source(-value)) if value != -1 else base  # type: ignore[arg-type]
            return f"1 / {wrapped(below, UNARY)}", PRODUCT
        if value is not None and value.is_Rational and value.q != 1:
            return f"{wrapped(base, ATOM)}**{float(value)!r}", POWER
        return f"{wrapped(base, ATOM)}**{wrapped(written, ATOM)}", POWER

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
        if source[1] == ATOM:
            return (f"{source[0]}.{node.info}({axis})", ATOM), out
        return (self.call(node.info, ", ".join(part for part in (source[0], axis) if part)), ATOM), out

    def own_layout(self, node: Node) -> tuple[int, ...]:
        known = self.variables.get(node.number)
        if known is not None:
            return known[1]
        if node.op == "input":
            return tuple(range(node.rank))
        return node.order

    def contract_text(self, node: Node) -> tuple[Text, tuple[int, ...]]:
        (a, a_at), (b, b_at) = node.args
        batch, inner, rows, columns = product_axes(node)
        if not batch and len(inner) == 1 and len(rows) <= 1 and len(columns) <= 1:
            return self.matrix_product(node, rows, columns, inner[0])
        if not rows and not columns and not batch:
            layout = tuple(a_at[p] for p in self.own_layout(a))
            left = self.text(a, a_at, layout)
            right = self.text(b, b_at, layout)
            return (self.call("vdot", left[0], right[0]), ATOM), ()
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
                return (f"{wrapped(left, UNARY)} @ {wrapped(right, UNARY)}", PRODUCT), order
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
        if node.number in self.products:
            return (f"{self.product}({left[0]}, {right[0]})", ATOM), (*rows, *columns)
        return (f"{wrapped(left, PRODUCT)} @ {wrapped(right, UNARY)}", PRODUCT), (*rows, *columns)

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
        return (f"{wrapped(left, PRODUCT)} @ {wrapped(right, UNARY)}", PRODUCT), node.order

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
        pattern = f"{','.join(subscripts)}->{result}"
        return (self.call("einsum", pattern, ", ".join(texts) + optimize), ATOM), node.order

    # -- elements ----------------------------------------------------------------------------------

    def arange(self, info: tuple[Expr, Expr], letter: str) -> str:
        if info not in self.aranges:
            lo, size = info
            candidate = self.unused(letter if letter.isidentifier() and not keyword.iskeyword(letter) else "index")
            start = "" if lo == 0 else f"{scalar_source(lo)[0]}, "
            stop = self.size_source(size) if lo == 0 else scalar_source(expand(lo + size))[0]
            self.lines.append(f"{candidate} = {self.call('arange', start + stop)}")
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
                texts.append(self.aligned((name, ATOM), [e[1]], context)[0])
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
        return (f"{wrapped(source, ATOM)}[{index}]", ATOM), tuple(order)

    def unused(self, name: str) -> str:
        candidate, number = name, 2
        while candidate in self.reserved:
            candidate, number = f"{name}_{number}", number + 1
        self.reserved.add(candidate)
        return candidate


def product_axes(node: Node) -> tuple[list[int], list[int], list[int], list[int]]:
    """The axes of a contraction: those that both arrays keep, those summed over, and those of one array alone."""
    (_, a_at), (_, b_at) = node.args
    out = set(range(node.rank))
    batch = [p for p in a_at if p in b_at and p in out]
    inner = [p for p in a_at if p in b_at and p not in out]
    return batch, inner, [p for p in a_at if p not in b_at], [p for p in b_at if p not in a_at]


def is_matrix_product(node: Node) -> bool:
    """Whether a contraction is that of a matrix with a matrix."""
    return node.op == "contract" and tuple(map(len, product_axes(node))) == (0, 1, 1, 1)
