"""What a person would write on the blackboard for an expression, before it is spelled for paper or for a terminal.

``recognise`` finds inner products and norms in sums over components; ``Writer`` decides order, signs, common factors,
cases and brackets. How the pieces are spelled is left to its subclasses in ``latex.py`` and ``text.py``. Nothing here
changes the value of an expression: every rule is an identity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import sympy
from sympy import (
    Abs,
    Add,
    And,
    Basic,
    Eq,
    Expr,
    Integer,
    Mul,
    Ne,
    Not,
    Number,
    Pow,
    Rational,
    S,
    Sum,
    Symbol,
    exp,
    expand,
)
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational
from sympy.tensor.indexed import Indexed

from derive.notation import LogSumExp, Partial, Sigmoid, Where, rebuild, substitute
from derive.rewrite import about_indices
from derive.statement import Definition, Form, letter

__all__ = [
    "Box",
    "Inner",
    "Norm",
    "Notation",
    "Term",
    "Writer",
    "common_factor",
    "gathered",
    "recognise",
    "split",
    "vector_in",
]

# How tightly the pieces of a formula hold together; a looser piece inside a tighter one is put in brackets.
RELATION, ADD, BIG, INNER, PRODUCT, POWER, ATOM = range(7)

#: Heads under which a name that starts so is the derivative of the value by the rest of the name.
ADJOINT: Final = "grad_"


class Inner(Expr):
    """``Inner(a, b, k)``: the sum over k of a*b, both elements of arrays whose last index is k."""

    is_commutative = True
    is_extended_real = True


class Norm(Expr):
    """``Norm(a, p, k, ...)``: the sum over the indices of |a|^p, a being an element with these last indices."""

    is_commutative = True
    is_extended_real = True


_LOSS: Final = Symbol("loss", real=True)


@dataclass(frozen=True)
class Notation:
    """What a writer must know of the quantities in a statement.

    Attributes
    ----------
    shapes : mapping
        The sizes of each array, by name.
    order : mapping
        In which order arrays stand in a product, by name.
    usual : mapping
        By letter, the range (first, last) that an index has throughout the statement; such ranges are not written out.
    scalars : frozenset
        Names of hyperparameters and sizes.
    aliases : mapping
        By name, what a quantity is that the statement has no name for: its definition.
    value : Expr
        What is differentiated where a name such as ``grad_s`` stands.
    letters : mapping
        In which order the symbols of an update rule stand in sums and products, by name.
    """

    shapes: Mapping[str, tuple[Expr, ...]] = field(default_factory=dict)
    order: Mapping[str, int] = field(default_factory=dict)
    usual: Mapping[str, tuple[Expr, Expr]] = field(default_factory=dict)
    scalars: frozenset[str] = frozenset()
    aliases: Mapping[str, Definition] = field(default_factory=dict)
    value: Expr = _LOSS
    letters: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, form: Form, extra: Iterable[Definition] = ()) -> Notation:
        """The notation of a statement and of the quantities that its derivation named."""
        shapes = {v.name: v.shape for v in form.arguments}
        order = {v.name: 0 for v in form.parameters} | {v.name: 2 for v in form.data}
        stated = {d.name for d in form.definitions}
        named = [d for d in extra if d.name not in stated]
        for d in (*form.definitions, *named):
            shapes[d.name] = d.sizes
            order[d.name] = 1
        return cls(
            shapes=shapes,
            order=order,
            usual=_usual_ranges((*form.definitions, *named)),
            scalars=frozenset(n for n, _ in form.hyperparameters) | {s.name for s in form.sizes},
            aliases={d.name: d for d in named if _is_product(d.rhs)},
            value=form.value.lhs,
        )

    def covers(self, name: str, axis: int, lo: Expr, hi: Expr) -> bool:
        """Whether a range covers an axis of an array."""
        shape = self.shapes.get(name, self.shapes.get(name.removeprefix(ADJOINT), ()))
        return lo == 0 and axis < len(shape) and expand(shape[axis] - 1 - hi) == 0

    def is_adjoint(self, name: str) -> bool:
        return name.startswith(ADJOINT) and name not in self.shapes and name.removeprefix(ADJOINT) in self.shapes

    def is_usual(self, index: Symbol, lo: Expr, hi: Expr) -> bool:
        known = self.usual.get(letter(index))
        return known is not None and expand(known[0] - lo) == 0 and expand(known[1] - hi) == 0


@lru_cache(maxsize=20_000)
def _text(expr: Basic) -> str:
    """SymPy's text of an expression: the last resort of every order, so that no order is left to chance."""
    return str(expr)


@lru_cache(maxsize=20_000)
def _letters(expr: Basic) -> frozenset[str]:
    """Names of the free symbols and of the sequences that an expression mentions."""
    names = {s.name for s in expr.free_symbols if isinstance(s, Symbol)}
    return frozenset(names | {f.func.__name__ for f in expr.atoms(AppliedUndef)})


def _is_product(expr: Expr) -> bool:
    return isinstance(expr, Sum) and all(isinstance(f, Indexed) for f in Mul.make_args(expr.function))


def _usual_ranges(definitions: Iterable[Definition]) -> dict[str, tuple[Expr, Expr]]:
    found: dict[str, list[tuple[Expr, Expr]]] = {}
    for d in definitions:
        for i, n in zip(d.indices, d.sizes, strict=True):
            found.setdefault(letter(i), []).append((S.Zero, expand(n - 1)))
        for node in sympy.preorder_traversal(d.rhs):
            if isinstance(node, Sum | LogSumExp):
                for i, lo, hi in node.limits:
                    found.setdefault(letter(i), []).append((lo, hi))
    return {
        a: ranges[0]
        for a, ranges in found.items()
        if len(set(ranges)) == 1 and ranges[0][0] == 0 and expand(ranges[0][1] + 1).is_Atom
    }


# -- inner products and norms ----------------------------------------------------------------------


def recognise(expr: Any, notation: Notation) -> Any:
    """The expression with inner products and norms in the place of sums over components."""
    if not expr.args or isinstance(expr, Indexed) or not expr.has(Sum, LogSumExp):
        return expr
    if isinstance(expr, LogSumExp):
        return LogSumExp(recognise(expr.function, notation), *expr.limits)
    if not isinstance(expr, Sum):
        return rebuild(expr, tuple(recognise(a, notation) for a in expr.args))
    body = recognise(expr.function, notation)
    limits = [tuple(lim) for lim in expr.limits]
    again = True
    while again:
        again = False
        for limit in list(limits):
            found = _contracted(body, limit, notation) if not _depend(limits, limit) else None
            if found is not None:
                body, again = found, True
                limits.remove(limit)
    return Sum(body, *limits) if limits else body


def _depend(limits: Sequence[tuple[Any, ...]], limit: tuple[Any, ...]) -> bool:
    return any(limit[0] in e.free_symbols for other in limits for e in other[1:])


def _contracted(body: Expr, limit: tuple[Any, ...], notation: Notation) -> Expr | None:
    k, lo, hi = limit
    factors = Mul.make_args(body)
    inside = [f for f in factors if k in f.free_symbols]
    rest = Mul(*(f for f in factors if k not in f.free_symbols))

    def ends_in_k(e: Basic) -> bool:
        if not isinstance(e, Indexed) or e.indices[-1] != k or any(k in i.free_symbols for i in e.indices[:-1]):
            return False
        return notation.covers(str(e.base.label), len(e.indices) - 1, lo, hi)

    if len(inside) == 2 and all(ends_in_k(f) for f in inside):
        first, second = sorted(inside, key=lambda f: (notation.is_adjoint(str(f.base.label)), _rank(f, notation)))
        return rest * Inner(first, second, k)
    if len(inside) != 1:
        return None
    f = inside[0]
    if isinstance(f, Pow) and f.exp == 2 and ends_in_k(f.base):
        return rest * Norm(f.base, Integer(2), k)
    if isinstance(f, Abs) and ends_in_k(f.args[0]):
        return rest * Norm(f.args[0], Integer(1), k)
    if isinstance(f, Norm):
        element, power, *done = f.args
        axis = len(element.indices) - len(done) - 1
        alone = axis >= 0 and element.indices[axis] == k
        alone = alone and not any(k in i.free_symbols for i in element.indices[:axis])
        if alone and notation.covers(str(element.base.label), axis, lo, hi):
            return rest * Norm(element, power, k, *done)
    return None


def _rank(f: Basic, notation: Notation) -> tuple[int, str]:
    """The place of a factor among its like: derivatives, then parameters, named quantities, data."""
    for a in (f, *f.args):
        if isinstance(a, Indexed):
            name = str(a.base.label)
            return (-1 if notation.is_adjoint(name) else notation.order.get(name, 1), _text(f))
    return (1, _text(f))


def _seniority(f: Basic, notation: Notation) -> int:
    """Entries of parameters come first; then entries of vectors of data, such as the target y_i; then all else."""
    if not isinstance(f, Indexed):
        return 2
    order = notation.order.get(str(f.base.label))
    return 0 if order == 0 else 1 if order == 2 and len(f.indices) == 1 else 2


def vector_in(expr: Basic, k: Symbol) -> bool:
    """Whether an expression is a vector in k: a linear combination, by factors free of k, of elements that end in k."""
    if isinstance(expr, Indexed):
        return expr.indices[-1] == k and not any(k in i.free_symbols for i in expr.indices[:-1])
    if isinstance(expr, Partial):
        value, element = expr.args
        return k not in value.free_symbols and vector_in(element, k)
    if isinstance(expr, Add):
        return all(vector_in(a, k) for a in expr.args)
    if isinstance(expr, Mul):
        inside = [f for f in expr.args if k in f.free_symbols]
        return len(inside) == 1 and vector_in(inside[0], k)
    if isinstance(expr, Where):
        return k not in expr.condition.free_symbols and all(a == 0 or vector_in(a, k) for a in expr.args[1:])
    if isinstance(expr, Sum):
        return all(k not in e.free_symbols for lim in expr.limits for e in lim[1:]) and vector_in(expr.function, k)
    return False


# -- terms and factors -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Term:
    """number * above / below, the factors in no order yet; a guard among them is ``Where(c, 1, 0)``."""

    number: Rational
    above: tuple[Expr, ...]
    below: tuple[Expr, ...]

    @property
    def negative(self) -> bool:
        return bool(self.number < 0)

    def positive(self) -> Term:
        return Term(abs(self.number), self.above, self.below)


def split(expr: Expr) -> Term:
    """An expression as number, factors above and factors below; signs and numbers come out of sums and guards."""
    number: Any = S.One
    above: list[Expr] = []
    below: list[Expr] = []
    for f in Mul.make_args(expr):
        if isinstance(f, Rational):
            number = number * f
        elif isinstance(f, Where) and f.no == 0:
            inner = split(f.yes)
            number = number * inner.number
            above += [Where(f.condition, S.One, S.Zero), *inner.above]
            below += inner.below
        elif isinstance(f, Sum):
            inner = split(f.function)
            sign = S.NegativeOne if inner.negative else S.One
            number = number * sign
            above.append(Sum(sign * f.function, *f.limits) if sign == -1 else f)
        elif isinstance(f, Add):
            content, rest = _content(f)
            number = number * content
            above.append(rest)
        elif isinstance(f, Pow) and f.exp.is_number and f.exp.is_negative:
            below.append(Pow(f.base, -f.exp))
        elif isinstance(f, Sigmoid):
            below.append(Add(1, exp(-f.args[0])))
        else:
            above.append(f)
    return Term(number, tuple(above), tuple(below))


def _content(expr: Add) -> tuple[Rational, Expr]:
    """The rational factor common to all terms, and what is left; -(-a - b) is read as a + b."""
    content, rest = expr.primitive()
    if all(t.could_extract_minus_sign() for t in Add.make_args(rest)):
        content, rest = -content, -rest
    return content, rest


def gathered(parts: Iterable[Expr]) -> list[Expr]:
    """Terms with guards put together: equal conditions once, a condition and its contrary as two cases."""
    plain: list[Expr] = []
    guarded: dict[Basic, Expr] = {}
    for p in parts:
        if isinstance(p, Where) and p.no == 0:
            guarded[p.condition] = guarded.get(p.condition, S.Zero) + p.yes
        else:
            plain.append(p)
    cases: list[Expr] = []
    for condition in sorted(guarded, key=lambda c: (isinstance(c, Ne), _text(c))):
        if condition not in guarded:
            continue
        yes = guarded.pop(condition)
        contrary = Not(condition)
        no = guarded.pop(contrary) if contrary in guarded else S.Zero
        cases.append(Where(condition, yes, no))
    return plain + cases


def common_factor(terms: Sequence[Term]) -> tuple[Rational, tuple[Expr, ...]]:
    """The number and the denominators common to all terms, where taking them out leaves no fraction behind."""
    numbers = [abs(t.number) for t in terms]
    number = sympy.gcd_list(numbers)
    if any(n.q != number.q for n in numbers):
        number = S.One
    below = [b for b in terms[0].below if all(b in t.below for t in terms[1:])]
    return number, tuple(below)


@dataclass(frozen=True)
class Box:
    """A finished piece of a formula and how tightly it holds together."""

    text: str
    level: int = ATOM


class Writer(ABC):
    """Writes expressions; one small method per head. Subclasses spell the pieces."""

    def __init__(self, notation: Notation) -> None:
        self.notation = notation
        self.stripped: frozenset[Symbol] = frozenset()
        self.counting = False
        self.known: dict[tuple[Any, ...], Box] = {}

    # -- entrances ---------------------------------------------------------------------------------

    def write(self, expr: Any) -> str:
        """An expression, on one line."""
        return self.show(recognise(expr, self.notation))

    def sides(self, expr: Any) -> list[str]:
        """The terms of an expression, each with its sign: the places where a long line may be broken."""
        expr = recognise(expr, self.notation)
        terms = self.terms(expr)
        if len(terms) > 1:
            number, below = common_factor(terms)
            if below or number.q != 1:
                return [self.show(expr)]
        return self.signed(terms)

    def vector(self, index: Symbol | None) -> Writer:
        """A writer that leaves out an index: X[i, k] is x_i."""
        other = copy(self)
        other.stripped = self.stripped | ({index} if index is not None else set())
        return other

    # -- levels ------------------------------------------------------------------------------------

    def box(self, expr: Any) -> Box:
        key = (expr, self.stripped, self.counting)
        if key not in self.known:
            self.known[key] = self.spell(expr)
        return self.known[key]

    def spell(self, expr: Any) -> Box:
        for cls in type(expr).__mro__:
            method = getattr(self, f"_write_{cls.__name__}", None)
            if method is not None:
                result = method(expr)
                return result if isinstance(result, Box) else Box(result)
        return self.unknown(expr)

    def show(self, expr: Any, level: int = RELATION) -> str:
        box = self.box(expr)
        return box.text if box.level >= level else self.brackets(box.text)

    def unknown(self, expr: Any) -> Box:
        if expr.args and isinstance(expr, Expr):
            return self.function(type(expr).__name__, [self.show(a) for a in expr.args])
        return Box(self.name(str(expr)))

    # -- sums of terms -----------------------------------------------------------------------------

    def terms(self, expr: Expr) -> list[Term]:
        parts = [split(p) for p in gathered(Add.make_args(expr))]
        return sorted(parts, key=self.place) if len(parts) > 1 else parts

    def place(self, term: Term) -> tuple[Any, ...]:
        """Where a person puts a term: 1 - a; a - b + margin; data before penalties; sums before single elements."""
        arrays = any(self.has_arrays(f) or self.is_index(f) for f in term.above)
        penalty = arrays and any(isinstance(f, Symbol) and f.name in self.notation.scalars for f in term.above)
        penalty = penalty and not self.notation.letters
        if not term.above and not term.below:
            group = 0 if not term.negative and not self.counting else 9
        elif not arrays:
            group = 7
        elif penalty:
            group = 5
        elif term.negative:
            group = 4
        else:
            group = 2
        big = any(isinstance(f, Sum | Inner) for f in term.above)
        letters = sorted(map(self.sorting, term.above))
        first = letters[0][0] if letters and self.notation.letters else 0
        return (group, term.negative, not big, first, self.degree(term), tuple(letters))

    def is_index(self, f: Basic) -> bool:
        return isinstance(f, Symbol) and f.is_integer is True and f.name not in self.notation.scalars

    def degree(self, term: Term) -> int:
        if self.notation.letters:
            return max((int(f.exp) for f in term.above if isinstance(f, Pow) and f.exp.is_Integer), default=1)
        return (
            -sum(int(f.exp) if isinstance(f, Pow) and f.exp.is_Integer else 1 for f in term.above)
            if not any(self.has_arrays(f) for f in term.above)
            else 0
        )

    def sorting(self, f: Basic) -> tuple[int, str]:
        return (self.letter_place(f), _text(f))

    def letter_place(self, e: Basic) -> int:
        """The place of the first letter of an update rule that an expression mentions, arrays before scalars.

        A letter that only a claim knows stands after all others, as an array does.
        """
        letters = self.notation.letters
        if not letters:
            return -1
        found = [letters.get(name, len(letters)) for name in _letters(e)]
        arrays = [n for n in found if not self.is_scalar_place(n)]
        return min(arrays or found, default=-1)

    def is_scalar_place(self, place: int) -> bool:
        return place < sum(name in self.notation.scalars for name in self.notation.letters)

    def has_arrays(self, e: Basic) -> bool:
        if self.notation.letters:
            place = self.letter_place(e)
            return (place >= 0 and not self.is_scalar_place(place)) or bool(e.atoms(AppliedUndef))
        return e.has(Indexed, Inner, Norm, Sum) or bool(e.atoms(AppliedUndef))

    def lead(self, terms: list[Term]) -> list[Term]:
        """A positive term first, where there is one."""
        if terms and terms[0].negative:
            for n, t in enumerate(terms):
                if not t.negative:
                    return [t, *terms[:n], *terms[n + 1 :]]
        return terms

    def signed(self, terms: list[Term]) -> list[str]:
        if len(terms) == 1:
            t = terms[0]
            text = self.product(t.positive()).text
            return [self.minus(text) if t.negative else text]
        found = []
        for n, t in enumerate(self.lead(terms)):
            box = self.product(t.positive())
            text = box.text if box.level > ADD else self.brackets(box.text)
            found.append(
                (self.minus(text) if t.negative else text) if n == 0 else f"{'-' if t.negative else '+'} {text}"
            )
        return found

    def _write_Add(self, expr: Expr) -> Box:
        terms = self.terms(expr)
        if len(terms) == 1:
            return self.single(terms[0])
        number, below = common_factor(terms)
        if below or number != 1:
            left = [Term(t.number / number, t.above, tuple(_without(t.below, below))) for t in terms]
            inner = Box(" ".join(self.signed(left)), ADD)
            return self.with_coefficient(number, below, self.brackets(inner.text))
        return Box(" ".join(self.signed(terms)), ADD)

    def with_coefficient(self, number: Rational, below: tuple[Expr, ...], text: str) -> Box:
        coefficient = self.product(Term(number, (), below))
        return Box(self.times([coefficient.text, text]), PRODUCT)

    def single(self, term: Term) -> Box:
        box = self.product(term.positive())
        return Box(self.minus(box.text), min(ADD, box.level)) if term.negative else box

    # -- products ----------------------------------------------------------------------------------

    def _write_Mul(self, expr: Expr) -> Box:
        return self.single(split(expr))

    def product(self, term: Term) -> Box:
        """A product without sign: coefficient, scalars, elements, sums, indicators, vectors."""
        factors = sorted(term.above, key=self.factor_place) if len(term.above) > 1 else list(term.above)
        p, q = Integer(term.number.p), Integer(term.number.q)
        if not factors:
            return self.quotient([] if p == 1 else [p], [*([q] if q != 1 else []), *term.below])
        below = [*([q] if q != 1 else []), *term.below]
        if below and self.fits_in_fraction(factors):
            return self.quotient([*([p] if p != 1 else []), *factors], below)
        pieces: list[str] = []
        if below:
            scalars = [
                f for f in factors if self.is_coefficient(f) or (isinstance(f, Pow) and self.is_coefficient(f.base))
            ]
            factors = [f for f in factors if f not in scalars]
            pieces.append(self.quotient([*([p] if p != 1 else []), *scalars], below).text)
        elif p != 1:
            pieces.append(self.show(p))
        elif len(factors) == 1:
            return self.box(factors[0])
        pieces += self.row_of(factors)
        return Box(self.times(pieces), BIG if isinstance(factors[-1], Sum | LogSumExp) else PRODUCT)

    def row_of(self, factors: Sequence[Expr]) -> list[str]:
        """Factors side by side; what is looser than a product stands in brackets, unless it is the last."""
        pieces = []
        for n, f in enumerate(factors):
            last = n == len(factors) - 1
            level = BIG if last and isinstance(f, Sum) else INNER if last and isinstance(f, Inner) else PRODUCT
            pieces.append(self.show(f, level))
        return pieces

    def index(self, expr: Any) -> str:
        """An expression in an index position, k + 1: the letter comes first."""
        self.counting = True
        try:
            return self.show(expr)
        finally:
            self.counting = False

    def is_coefficient(self, f: Basic) -> bool:
        if self.notation.letters and self.has_arrays(f):
            return False
        return (
            isinstance(f, Number)
            or (isinstance(f, Symbol) and not f.is_integer)
            or (isinstance(f, Symbol) and f.name in self.notation.scalars)
        )

    def factor_place(self, f: Expr) -> tuple[Any, ...]:
        vector = any(k in f.free_symbols for k in self.stripped)
        if vector:
            return (9, *_rank(f, self.notation))
        if self.is_coefficient(f) or (isinstance(f, Pow) and self.is_coefficient(f.base)):
            return (0, 0, _text(f))
        if isinstance(f, Where):
            return (5, 0, _text(f)) if f.args[1:] == (1, 0) else (7, 0, _text(f))
        if isinstance(f, Sum | LogSumExp):
            return (8, 0, _text(f))
        if self.notation.letters and not self.has_arrays(f):
            return (0, 1 + isinstance(f, Add), _text(f))
        if isinstance(f, Add):
            return (3, 0, _text(f))
        if isinstance(f, Pow) and isinstance(f.base, Add) and f.exp.is_Integer:
            return (3, 1, _text(f))
        if isinstance(f, Partial):
            return (1, f.args[0] != self.notation.value, _text(f))
        if isinstance(f, exp):
            return (4, 0, _text(f))
        return (2, self.letter_place(f), _seniority(f, self.notation), *_rank(f, self.notation))

    def fits_in_fraction(self, factors: Sequence[Expr]) -> bool:
        """Whether factors are small enough to stand in one numerator."""
        if any(isinstance(f, Indexed) and self.notation.is_adjoint(str(f.base.label)) for f in factors):
            return False
        small = (Symbol, Number, Indexed, Abs, AppliedUndef)
        if self.notation.letters:
            small += (sympy.sign, sympy.binomial, Pow) + ((Add,) if len(factors) == 1 else ())
            return all(isinstance(f, small) for f in factors) and sum(f.count_ops() for f in factors) < 12
        return len(factors) <= 2 and all(
            isinstance(f, small) or (isinstance(f, Pow) and isinstance(f.base, small)) for f in factors
        )

    def quotient(self, above: Sequence[Expr], below: Sequence[Expr]) -> Box:
        top = self.joined(above)
        if not below:
            return Box(top, PRODUCT if len(above) > 1 else ATOM)
        return self.fraction(top, self.joined(below))

    def joined(self, factors: Sequence[Expr]) -> str:
        if not factors:
            return self.show(S.One)
        if len(factors) == 1:
            return self.show(factors[0])
        return self.times([self.show(f, PRODUCT) for f in factors])

    # -- powers ------------------------------------------------------------------------------------

    def _write_Pow(self, expr: Expr) -> Box:
        base, power = expr.args
        if power == S.Half:
            return self.root(self.show(base))
        if power == -S.Half:
            return self.fraction(self.show(S.One), self.root(self.show(base)).text)
        if power.is_number and power.is_negative:
            return self.fraction(self.show(S.One), self.show(Pow(base, -power)))
        return Box(self.power(self.show(base, POWER + 1), self.show(power)), POWER)

    # -- sums --------------------------------------------------------------------------------------

    def _write_Sum(self, expr: Expr) -> Box:
        term = split(expr.function)
        limits = [tuple(lim) for lim in expr.limits]
        bound = {lim[0] for lim in limits}
        restrictions: list[Basic] = []
        factors: list[Expr] = []
        for f in term.above:
            if isinstance(f, Where) and f.args[1:] == (1, 0):
                for c in And.make_args(f.condition):
                    if about_indices(c) and not bound.isdisjoint(c.free_symbols):
                        restrictions.append(c)
                    else:
                        factors.append(Where(c, S.One, S.Zero))
            else:
                factors.append(f)
        signs = self.ranges(limits, restrictions)
        inner = Term(term.number, tuple(factors), term.below)
        box = self.product(inner.positive())
        body = self.minus(box.text) if inner.negative else box.text
        if box.level == ADD or inner.negative:
            body = self.brackets(body)
        return Box(self.times([*signs, body]), BIG)

    def ranges(self, limits: Sequence[tuple[Any, ...]], restrictions: Sequence[Basic]) -> list[str]:
        """The summation signs, outermost first; indices with usual ranges share one."""
        shared: list[str] = []
        signs: list[str] = []

        def flush() -> None:
            if shared:
                signs.append(self.sum_sign(self.comma(shared), "", ""))
                shared.clear()

        inner_first = [lim[0] for lim in limits]
        for index, lo, hi in reversed(limits):
            mine = [c for c in restrictions if index in c.free_symbols and self.innermost(c, inner_first) == index]
            if mine:
                flush()
                signs.append(self.sum_sign(self.comma([self.show(self.facing(c, index)) for c in mine]), "", ""))
            elif self.notation.is_usual(index, lo, hi):
                shared.append(self.show(index))
            else:
                flush()
                signs.append(self.sum_sign(self.show(index), self.show(lo), self.show(hi)))
        flush()
        return signs

    def innermost(self, condition: Basic, order: Sequence[Symbol]) -> Symbol:
        return next(i for i in order if i in condition.free_symbols)

    def facing(self, condition: Any, index: Symbol) -> Any:
        """The condition with the index on its left."""
        if isinstance(condition, Eq | Ne) and condition.rhs == index:
            return condition.func(condition.rhs, condition.lhs, evaluate=False)
        if isinstance(condition, Relational) and condition.rhs == index:
            return condition.reversed
        return condition

    def _write_LogSumExp(self, expr: Expr) -> Box:
        function, guards = expr.function, []
        if isinstance(function, Where) and function.no == S.NegativeInfinity:
            guards, function = list(And.make_args(function.condition)), function.yes
        signs = self.ranges([tuple(lim) for lim in expr.limits], guards)
        return Box(self.applied("log", self.times([*signs, self.show(exp(function))])), BIG)

    def _write_Inner(self, expr: Expr) -> Box:
        a, b, k = expr.args
        writer = self.vector(k)
        return Box(self.inner(writer.show(a, POWER), writer.show(b, POWER)), INNER)

    def _write_Norm(self, expr: Expr) -> Box:
        element, power, *indices = expr.args
        left = element.indices[: len(element.indices) - len(indices)]
        name = str(element.base.label)
        if len(indices) == 1:
            text = self.vector(indices[0]).show(element)
        else:
            text = self.row(name, left)
        return Box(self.norm(text, int(power), len(indices)), POWER)

    # -- conditions --------------------------------------------------------------------------------

    def _write_Where(self, expr: Expr) -> Box:
        if expr.no == 0:
            if expr.yes == 1:
                return Box(self.indicator(self.show(expr.condition)), ATOM)
            return self.single(split(expr))
        return Box(self.cases(list(self.branches(expr))), PRODUCT)

    def branches(self, expr: Any) -> Iterator[tuple[str, str]]:
        """(value, condition) of a chain of cases; the last condition is empty for "otherwise"."""
        told: list[Basic] = []
        while isinstance(expr, Where) and (expr.no != 0 or told):
            # A guard inside a case that is about indices is an indicator, not one more case.
            if told and about_indices(expr.condition) != about_indices(told[-1]):
                break
            yield self.show(expr.yes), self.show(self.neat(expr.condition))
            told.append(expr.condition)
            expr = expr.no
        contrary = Not(told[0]) if len(told) == 1 and about_indices(told[0]) else None
        yield self.show(expr), "" if contrary is None else self.show(self.neat(contrary))

    def neat(self, condition: Any) -> Any:
        """Index conditions with the index alone on the left: k - 1 >= 0 is k >= 1, y_i = j is j = y_i."""
        if isinstance(condition, And):
            return condition
        if isinstance(condition, Eq | Ne) and isinstance(condition.lhs, Indexed) and isinstance(condition.rhs, Symbol):
            return condition.func(condition.rhs, condition.lhs, evaluate=False)
        if isinstance(condition, Relational) and about_indices(condition) and isinstance(condition.lhs, Add):
            constant, rest = condition.lhs.as_coeff_Add()
            if isinstance(rest, Symbol):
                return condition.func(rest, condition.rhs - constant, evaluate=False)
        return condition

    def _write_Relational(self, expr: Any) -> Box:
        expr = self.neat(expr)
        return Box(self.relation(self.show(expr.lhs), type(expr).__name__, self.show(expr.rhs)), RELATION)

    def _write_And(self, expr: Any) -> Box:
        return Box(self.comma([self.show(c) for c in sorted(expr.args, key=_text)]), RELATION)

    def _write_Or(self, expr: Any) -> Box:
        return Box(self.words("or", [self.show(c) for c in sorted(expr.args, key=_text)]), RELATION)

    def _write_Not(self, expr: Any) -> Box:
        return Box(self.words("not", ["", self.brackets(self.show(expr.args[0]))]), RELATION)

    def _write_BooleanTrue(self, expr: Any) -> Box:
        return Box(self.words("always", ["", ""]), RELATION)

    # -- elements ----------------------------------------------------------------------------------

    def _write_Indexed(self, expr: Any) -> Box:
        name = str(expr.base.label)
        indices = expr.indices
        if self.notation.is_adjoint(name):
            element = Indexed(name.removeprefix(ADJOINT), *indices)
            return self.slope(self.notation.value, element)
        if indices and indices[-1] in self.stripped:
            return Box(self.row(name, indices[:-1]))
        return Box(self.element(name, indices))

    def _write_Partial(self, expr: Any) -> Box:
        return self.slope(expr.args[0], expr.args[1])

    def slope(self, value: Expr, element: Expr) -> Box:
        simple = isinstance(value, Indexed | Symbol)
        text = self.show(value) if simple else ""
        if isinstance(element, Indexed) and element.indices[-1] in self.stripped:
            box = self.gradient(text, self.row(str(element.base.label), element.indices[:-1]))
        else:
            box = self.derivative(text, self.show(element))
        if simple:
            return box
        return Box(self.times([box.text, self.brackets(self.show(value))]), PRODUCT)

    def _write_Symbol(self, expr: Any) -> Box:
        name = expr.name
        if expr != self.notation.value and self.notation.is_adjoint(name):
            return self.slope(self.notation.value, Symbol(name.removeprefix(ADJOINT)))
        return Box(self.name(name))

    _write_Dummy = _write_Symbol

    def _write_Integer(self, expr: Any) -> Box:
        return Box(self.number(str(expr)), ADD if expr < 0 else ATOM)

    def _write_Rational(self, expr: Any) -> Box:
        if expr < 0:
            return Box(self.minus(self.show(-expr)), ADD)
        return self.fraction(self.number(str(expr.p)), self.number(str(expr.q)))

    def _write_Float(self, expr: Any) -> Box:
        return Box(self.number(format(float(expr), ".6g")), ADD if expr < 0 else ATOM)

    # -- functions ---------------------------------------------------------------------------------

    def _write_exp(self, expr: Any) -> Box:
        return self.exponential(self.show(expr.args[0]))

    def _write_log(self, expr: Any) -> Box:
        argument = expr.args[0]
        box = self.box(argument)
        big = isinstance(argument, Sum | LogSumExp)
        text = box.text if box.level >= POWER or big else self.brackets(box.text)
        return Box(self.applied("log", text), BIG if big else PRODUCT)

    def _write_Softplus(self, expr: Any) -> Box:
        inner = " ".join([self.number("1"), "+", self.show(exp(expr.args[0]))])
        return Box(self.applied("log", self.brackets(inner)), PRODUCT)

    def _write_Sigmoid(self, expr: Any) -> Box:
        return self.single(split(expr))

    def _write_Max(self, expr: Any) -> Box:
        return Box(self.function("max", [self.show(a) for a in expr.args]).text)

    def _write_Min(self, expr: Any) -> Box:
        return Box(self.function("min", [self.show(a) for a in expr.args]).text)

    def _write_Abs(self, expr: Any) -> Box:
        return Box(self.bars(self.show(expr.args[0])))

    def _write_sign(self, expr: Any) -> Box:
        return self.function("sign", [self.show(expr.args[0])])

    def _write_Function(self, expr: Any) -> Box:
        return self.function(type(expr).__name__, [self.show(a) for a in expr.args])

    def _write_AppliedUndef(self, expr: Any) -> Box:
        """A sequence v(t) is v_t; a function of real numbers keeps its brackets."""
        name = type(expr).__name__
        if all(a.is_integer for a in expr.args):
            return Box(self.element(name, expr.args))
        return self.function(name, [self.show(a) for a in expr.args])

    def _write_Limit(self, expr: Any) -> Box:
        body, variable, point, direction = expr.args
        side = str(direction) if not point.is_infinite else ""
        box = self.box(body)
        text = box.text if box.level >= PRODUCT else self.brackets(box.text)
        return Box(self.limit(self.show(variable), self.show(point), side if side in "+-" else "", text), BIG)

    # -- spelling ----------------------------------------------------------------------------------

    @abstractmethod
    def when(self, condition: str) -> str: ...

    @abstractmethod
    def name(self, name: str) -> str: ...

    @abstractmethod
    def number(self, digits: str) -> str: ...

    @abstractmethod
    def element(self, name: str, indices: Sequence[Any]) -> str: ...

    @abstractmethod
    def row(self, name: str, indices: Sequence[Any]) -> str: ...

    @abstractmethod
    def brackets(self, text: str) -> str: ...

    @abstractmethod
    def bars(self, text: str) -> str: ...

    @abstractmethod
    def minus(self, text: str) -> str: ...

    @abstractmethod
    def times(self, factors: Sequence[str]) -> str: ...

    @abstractmethod
    def fraction(self, above: str, below: str) -> Box: ...

    @abstractmethod
    def power(self, base: str, exponent: str) -> str: ...

    @abstractmethod
    def root(self, text: str) -> Box: ...

    @abstractmethod
    def sum_sign(self, under: str, first: str, last: str) -> str: ...

    @abstractmethod
    def comma(self, texts: Sequence[str]) -> str: ...

    @abstractmethod
    def words(self, word: str, texts: Sequence[str]) -> str: ...

    @abstractmethod
    def inner(self, left: str, right: str) -> str: ...

    @abstractmethod
    def norm(self, text: str, power: int, count: int) -> str: ...

    @abstractmethod
    def indicator(self, condition: str) -> str: ...

    @abstractmethod
    def cases(self, branches: Sequence[tuple[str, str]]) -> str: ...

    @abstractmethod
    def relation(self, left: str, kind: str, right: str) -> str: ...

    @abstractmethod
    def derivative(self, value: str, element: str) -> Box: ...

    @abstractmethod
    def gradient(self, value: str, vector: str) -> Box: ...

    @abstractmethod
    def exponential(self, text: str) -> Box: ...

    @abstractmethod
    def applied(self, function: str, text: str) -> str: ...

    @abstractmethod
    def function(self, name: str, arguments: Sequence[str]) -> Box: ...

    @abstractmethod
    def limit(self, variable: str, point: str, side: str, text: str) -> str: ...


def _without(items: Sequence[Expr], removed: Sequence[Expr]) -> list[Expr]:
    left = list(items)
    for r in removed:
        left.remove(r)
    return left


def instance(definition: Definition, element: Indexed | Symbol) -> Expr:
    """What a definition says of one element."""
    indices = element.indices if isinstance(element, Indexed) else ()
    return substitute(definition.rhs, dict(zip(definition.indices, indices, strict=True)))
