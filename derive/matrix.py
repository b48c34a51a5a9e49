"""A definition over whole arrays: contractions as matrix products, read off the indices they share.

Only identities that need no name for what is not there are used: products, transposes, sums over an axis as a product
with a vector of ones, elementwise products. Where a definition has no such form, its components are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sympy import Add, Expr, Indexed, Max, Min, Sum, Symbol, exp
from sympy.core.relational import Relational

from derive.blackboard import ADD, PRODUCT, Box, Term, common_factor, gathered, split
from derive.notation import Where

if TYPE_CHECKING:
    from derive.latex import LatexWriter
    from derive.statement import Definition

__all__ = ["matrix_form"]


def matrix_form(definition: Definition, writer: LatexWriter) -> str | None:
    """The right side of a definition of rank 0, 1 or 2 over whole arrays; None if it has no such form."""
    if len(definition.indices) > 2:
        return None
    try:
        return _Reader(writer).box(definition.rhs, definition.indices).text
    except _NoForm:
        return None


class _NoForm(Exception):
    """The expression has no form over whole arrays."""


class _Reader:
    def __init__(self, writer: LatexWriter) -> None:
        self.writer = writer

    def box(self, expr: Expr, axes: Sequence[Symbol]) -> Box:
        parts = gathered(Add.make_args(expr))
        if len(parts) == 1:
            term = split(parts[0])
            box = self.term(term.positive(), axes)
            return Box(f"-{box.text}", ADD) if term.negative else box
        terms = sorted((split(p) for p in parts), key=self.writer.place)
        if common_factor(terms)[1]:
            raise _NoForm
        texts = []
        for n, t in enumerate(self.writer.lead(terms)):
            box = self.term(t.positive(), axes)
            sign = "-" if t.negative else "+" if n else ""
            texts.append(f"{sign} {box.text}" if n else f"{sign}{box.text}")
        return Box(" ".join(texts), ADD)

    def term(self, term: Term, axes: Sequence[Symbol]) -> Box:
        scalars = [f for f in term.above if self.is_scalar(f, axes)]
        arrays = [f for f in term.above if f not in scalars]
        coefficient = self.writer.product(Term(term.number, tuple(scalars), term.below)).text
        if any(f.has(Indexed) for f in (*scalars, *term.below)):
            raise _NoForm
        if not arrays:
            if axes:
                raise _NoForm
            return Box(coefficient, PRODUCT)
        body = self.product(arrays, axes)
        if coefficient == "1":
            return body
        text = body.text if body.level >= PRODUCT else self.writer.brackets(body.text)
        return Box(self.writer.times([coefficient, text]), PRODUCT)

    def is_scalar(self, f: Expr, axes: Sequence[Symbol]) -> bool:
        return not f.has(Indexed) and not any(a in f.free_symbols for a in axes)

    def product(self, factors: Sequence[Expr], axes: Sequence[Symbol]) -> Box:
        sums = [f for f in factors if isinstance(f, Sum)]
        if len(sums) == 1 and len(factors) == 1:
            inner = split(sums[0].function)
            if inner.number != 1 or inner.below or any(not isinstance(f, Indexed) for f in inner.above):
                raise _NoForm
            return self.chain(inner.above, axes, [tuple(lim) for lim in sums[0].limits])
        if len(factors) == 1:
            return self.elementwise(factors[0], axes)
        boxes = []
        for f in sorted(factors, key=lambda f: (isinstance(f, Where), self.writer.factor_place(f))):
            if not all(a in f.free_symbols for a in axes):
                raise _NoForm
            boxes.append(self.elementwise(f, axes))
        texts = [b.text if b.level >= PRODUCT else self.writer.brackets(b.text) for b in boxes]
        texts = [f"({t})" if t.startswith(r"\nabla") else t for t in texts]
        return Box(r" \odot ".join(texts), PRODUCT)

    def elementwise(self, f: Expr, axes: Sequence[Symbol]) -> Box:
        if isinstance(f, Indexed):
            if any(not isinstance(i, Symbol) for i in f.indices):
                raise _NoForm
            return self.chain([f], axes, [])
        if isinstance(f, Where) and f.args[1:] == (1, 0) and isinstance(f.condition, Relational):
            left, right = f.condition.lhs, f.condition.rhs
            if not right.is_number or not left.has(Indexed):
                raise _NoForm
            inside = self.writer.relation(
                self.box(left, axes).text, type(f.condition).__name__, self.writer.show(right)
            )
            return Box(self.writer.indicator(inside), PRODUCT)
        if isinstance(f, Max | Min) and f.args[0].is_number:
            name = type(f).__name__.lower()
            return self.writer.function(name, [self.writer.show(f.args[0]), self.box(f.args[1], axes).text])
        if isinstance(f, exp):
            return self.writer.function("exp", [self.box(f.args[0], axes).text])
        if isinstance(f, Sum):
            return self.product([f], axes)
        raise _NoForm

    def chain(self, factors: Sequence[Indexed], axes: Sequence[Symbol], limits: Sequence[tuple[Any, ...]]) -> Box:
        """A product of matrices and vectors, from the first free index to the last."""
        links: list[tuple[Indexed | None, tuple[Symbol, ...]]] = []
        for f in factors:
            plain = all(isinstance(i, Symbol) for i in f.indices)
            if not plain or len(f.indices) > 2 or len(set(f.indices)) < len(f.indices):
                raise _NoForm
            for axis, i in enumerate(f.indices):
                for index, lo, hi in limits:
                    if i == index and not self.writer.notation.covers(str(f.base.label), axis, lo, hi):
                        raise _NoForm
            links.append((f, f.indices))
        bound = [lim[0] for lim in limits]
        for i in (*bound, *axes):
            uses = sum(i in indices for _, indices in links)
            if uses > (2 if i in bound else 1):
                raise _NoForm
            if uses == 0 or (i in bound and uses == 1):
                # A sum along one axis, or a repetition along it, is a product with a vector of ones.
                links.append((None, (i,)))
        path: list[str] = []
        ones = r"\mathbf{1}"
        if axes:
            here: Symbol | None = axes[0]
        else:
            here = None
            first = next((n for n, (_, indices) in enumerate(links) if len(indices) == 1), None)
            if first is None:
                raise _NoForm
            factor, indices = links.pop(first)
            path.append((self.writer.name(self.label(factor)) if factor is not None else ones) + r"^\top")
            here = indices[0]
        outer = False
        while links:
            found = next((n for n, (_, indices) in enumerate(links) if here in indices), None)
            if found is None:
                # The second of two vectors that share no index: an outer product.
                if len(axes) != 2 or outer or here is not None:
                    raise _NoForm
                outer, here = True, axes[1]
                continue
            factor, indices = links.pop(found)
            if len(indices) == 1:
                name = self.text(factor) if factor is not None else ones
                path.append(f"{name}^\\top" if outer else name)
                here = None
            else:
                forward = indices[0] == here
                path.append(self.text(factor) if forward else self.transposed(factor))
                here = indices[1] if forward else indices[0]
                if here in axes:
                    if links or here != axes[-1]:
                        raise _NoForm
                    here = None
        if here is not None:
            raise _NoForm
        # The gradient sign would reach over what follows.
        path = [f"({p})" if p.startswith(r"\nabla") and n < len(path) - 1 else p for n, p in enumerate(path)]
        return Box(self.writer.times(path), PRODUCT)

    def label(self, factor: Indexed | None) -> str:
        assert factor is not None
        return str(factor.base.label)

    def text(self, factor: Indexed | None) -> str:
        return self.writer.whole(self.label(factor))

    def transposed(self, factor: Indexed | None) -> str:
        text = self.text(factor)
        if self.label(factor) in self.writer.alias:
            raise _NoForm
        return rf"({text})^\top" if " " in text or "^" in text else rf"{text}^\top"
