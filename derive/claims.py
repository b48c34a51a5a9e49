"""Claims: numbered statements of mathematics, each proved by computation whenever the toolkit builds.

A claim holds what is claimed as SymPy expressions, and knows one way to prove it. The proof is a list of steps
(what was done, expression before, expression after) for reports and terminals to show. Nothing is sampled: an identity
is proved by bringing the difference of its two sides to 0, a closed form by solving the recurrence and by induction,
and so on. What a claim cannot prove stops the build by a :class:`~derive.errors.VerificationError` that names it.

====================  =============================================================================================
:class:`Identity`     two expressions are equal, once what is ``given`` is put in
:class:`Calculation`  a chain of equal expressions, each step with its reason
:class:`Limit`        an expression tends to a value
:class:`ClosedForm`   a recurrence has this solution
:class:`Equivalence`  two systems of updates walk together: a relation between their quantities survives a step
:class:`Sign`         an expression is positive (or negative, ...) for all values of its symbols
:class:`Roots`        an equation has exactly these solutions
:class:`Counterexample`  two expressions differ: exact values at a point
:class:`NoConstant`   no constant value of a parameter makes two expressions equal: exact values at two points
====================  =============================================================================================

A claim is stated once, as an object, and proved by :func:`prove`:

>>> from sympy import Function, oo, symbols
>>> t, g, rho = symbols("t", integer=True, positive=True), *symbols("g rho", positive=True)
>>> v = Function("v")
>>> velocity = ClosedForm(
...     "Under a constant gradient the velocity is a geometric sum",
...     v(t), recurrence=rho * v(t - 1) + g, start=0, formula=g * (1 - rho**t) / (1 - rho),
... )
>>> terminal = Limit(
...     "The velocity tends to g/(1 - rho)",
...     velocity.formula, t, oo, value=g / (1 - rho), writing=decaying(rho),
... )
>>> for proof in prove([velocity, terminal], owner="momentum"):
...     print(proof)
1. Under a constant gradient the velocity is a geometric sum.
     v(t) = g*(1 - rho**t)/(1 - rho), where v(t) = g + rho*v(t - 1), v(0) = 0
   Solve the recurrence:
     v(t) = g + rho*v(t - 1)
     v(t) = g*rho**t/(rho - 1) - g/(rho - 1)
   The solution less the claimed form: bring to a common denominator:
     g*rho**t/(rho - 1) - g/(rho - 1) - g*(1 - rho**t)/(1 - rho)
     0
   Induction: the claim at t = 0 is the start:
     g*(1 - rho**t)/(1 - rho)
     0
   Induction: the claim at t less the recurrence of the claim at t - 1: bring to a common denominator:
     g*(1 - rho**t)/(1 - rho) - g*rho*(1 - rho**(t - 1))/(1 - rho) - g
     0
2. The velocity tends to g/(1 - rho).
     Limit(g*(1 - rho**t)/(1 - rho), t, oo) = g/(1 - rho)
   Write rho = exp(-c):
     g*(1 - rho**t)/(1 - rho)
     g*(1 - exp(-c*t))/(1 - exp(-c))
   Take the limit:
     Limit(g*(1 - exp(-c*t))/(1 - exp(-c)), t, oo)
     g*exp(c)/(exp(c) - 1)
   The limit less the claimed value: bring to a common denominator:
     g*exp(c)/(exp(c) - 1) - g/(1 - exp(-c))
     0

A false claim does not get through:

>>> prove([Identity("A slip", (1 + rho) ** 2, 1 + rho**2)], owner="example")  # doctest: +ELLIPSIS
Traceback (most recent call last):
derive.errors.VerificationError: example: claim 1 ("A slip") is not proved: the difference ... comes to 2*rho, ...
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
from sympy import (
    Abs,
    Add,
    Basic,
    Eq,
    Expr,
    Integer,
    Mul,
    Pow,
    S,
    Sum,
    Symbol,
    binomial,
    cancel,
    combsimp,
    exp,
    expand,
    expand_power_base,
    factor,
    factor_terms,
    powsimp,
    rsolve,
    sign,
    simplify,
    together,
)
from sympy.core.function import AppliedUndef
from sympy.printing.str import StrPrinter

from derive.errors import VerificationError

__all__ = [
    "Calculation",
    "Claim",
    "ClosedForm",
    "Counterexample",
    "Equivalence",
    "Identity",
    "Limit",
    "Line",
    "NoConstant",
    "Proof",
    "ProofStep",
    "Roots",
    "Sign",
    "Unproved",
    "decaying",
    "expectation",
    "prove",
    "variance",
]


class Unproved(Exception):
    """A claim was not proved; the message says where its proof broke off."""


@dataclass(frozen=True)
class Line:
    """One line of a formal statement: words that join it to the line before (often none), and an expression."""

    words: str
    expression: Basic

    def __str__(self) -> str:
        return f"{self.words} {text(self.expression)}".strip()


@dataclass(frozen=True)
class ProofStep:
    """What was done, and the expression before and after."""

    what: str
    before: Basic
    after: Basic


@dataclass(frozen=True)
class Proof:
    """A claim with its number and the steps that prove it."""

    number: int
    claim: Claim
    steps: tuple[ProofStep, ...]

    @property
    def title(self) -> str:
        return self.claim.title

    @property
    def statement(self) -> tuple[Line, ...]:
        return self.claim.statement

    def __str__(self) -> str:
        lines = [f"{self.number}. {self.title}.", f"     {', '.join(map(str, self.statement))}"]
        for step in self.steps:
            lines += [f"   {step.what}:", f"     {text(step.before)}", f"     {text(step.after)}"]
        return "\n".join(lines)


def text(expr: Basic) -> str:
    """An expression on one line; an equation with a single equals sign."""
    if isinstance(expr, Eq):
        return f"{text(expr.lhs)} = {text(expr.rhs)}"
    if isinstance(expr, sympy.Ne):
        return f"{text(expr.lhs)} is not {text(expr.rhs)}"
    if isinstance(expr, sympy.Limit) and expr.args[2].is_infinite:
        return f"Limit({text(expr.args[0])}, {expr.args[1]}, {expr.args[2]})"
    return str(_Text().doprint(expr))


class _Text(StrPrinter):
    """One line; a sum does not start with a minus if it need not."""

    def _as_ordered_terms(self, expr: Expr, order: Any = None) -> list[Expr]:
        return sorted(super()._as_ordered_terms(expr, order), key=lambda term: term.could_extract_minus_sign())


# --- Bringing an expression to 0 ---------------------------------------------------------------------------------


def _gathered(expr: Expr) -> Expr:
    """Powers of one base as one power; whole powers need no search, for SymPy multiplies them at once."""
    if any(not e.is_Rational for _, e in (p.as_base_exp() for p in expr.atoms(Pow, exp))):
        return powsimp(expr)
    return expr


def _signs_as_quotients(expr: Expr) -> Expr:
    """sign(a) = a/|a| wherever a is known not to be 0."""
    return expr.replace(
        lambda e: isinstance(e, sign) and e.args[0].is_nonzero and e.args[0].is_extended_real,
        lambda e: e.args[0] / Abs(e.args[0]),
    )


@functools.lru_cache(maxsize=64)  # several normal forms start from it
def _roots_split(expr: Expr) -> Expr:
    """Roots of products as products of roots, for the factors that are known not to be negative."""
    expr = expr.replace(
        lambda e: e.is_Pow and e.exp.is_Rational and e.exp.q == 2,
        lambda e: _root(factor_terms(_gathered(expand(e.base))), e.exp),
    )
    return _gathered(expand(_signs_as_quotients(expand_power_base(expr.doit(deep=True)))))


def _root(below: Expr, power: Expr) -> Expr:
    """below**power; claims are about real numbers, for which sqrt(1/a) is 1/sqrt(a)."""
    above, under = together(below).as_numer_denom()
    if above.is_negative:
        above, under = -above, -under
    if under != 1 and above.is_positive:
        return above**power * under**-power
    return below**power


def _common_denominator(expr: Expr) -> Expr:
    numerator, denominator = (_roots_split(expr) if expr.has(Pow) else expr).as_numer_denom()
    numerator = _gathered(expand(numerator))
    return S.Zero if numerator == 0 else cancel(numerator / denominator)


#: Normal forms in the order in which they are tried, cheapest first. Each maps an expression to one that is equal.
NORMAL_FORMS: tuple[tuple[str, Callable[[Expr], Expr]], ...] = (
    ("expand", lambda e: _gathered(expand(e))),
    ("take last terms out of sums", lambda e: _gathered(expand(_merge_sums(expand(e))))),
    ("take squares out of roots", _roots_split),
    ("bring to a common denominator", _common_denominator),
    ("gather powers", powsimp),
    ("write binomials as quotients of products", combsimp),
    ("simplify", lambda e: simplify(_roots_split(e))),
)


def vanishing(what: str, expr: Expr) -> ProofStep:
    """The step that brings an expression to 0; :class:`Unproved` where it does not come to 0."""
    if expr == 0:
        return ProofStep(what, expr, S.Zero)
    after = expr
    for how, normal_form in NORMAL_FORMS:
        if (how.endswith("sums") and not expr.has(Sum)) or ("binomials" in how and not expr.has(binomial)):
            continue
        after = normal_form(expr)
        if after == 0:
            plain = how == "expand" and not expr.free_symbols
            return ProofStep(what if plain else f"{what}: {how}", expr, S.Zero)
    raise Unproved(f"{_lower(what)} comes to {text(after)}, which is not 0")


def _merge_sums(expr: Expr) -> Expr:
    """Sums from the same lower limit brought to one upper limit, by taking last terms out, and added up."""
    groups: dict[tuple[Expr, Expr], list[tuple[Expr, Symbol, Expr, Expr]]] = {}
    rest: list[Expr] = []
    for term in Add.make_args(expr):
        sums = [f for f in Mul.make_args(term) if isinstance(f, Sum)]
        if len(sums) != 1 or len(sums[0].limits) != 1:
            rest.append(term)
            continue
        index, low, high = sums[0].limits[0]
        factor_ = Mul(*(f for f in Mul.make_args(term) if f is not sums[0]))
        anchor = high.as_independent(*high.free_symbols, as_Add=True)[1]
        groups.setdefault((low, anchor), []).append((factor_ * sums[0].function, index, low, high))
    for members in groups.values():
        index, low = members[0][1], members[0][2]
        last = min((m[3] for m in members), key=lambda h: h - members[0][3])
        total: Expr = S.Zero
        for function, own_index, _, high in members:
            total += function.subs(own_index, index)
            rest += [function.subs(own_index, last + n) for n in range(1, int(high - last) + 1)]
        total = _gathered(expand(total))
        if total != 0:
            rest.append(Sum(total, (index, low, last)))
    return Add(*rest)


def minus(left: Expr, right: Expr) -> Expr:
    """left - right, kept as the two were written as far as SymPy lets them."""
    return Add(left, Mul(S.NegativeOne, right, evaluate=False), evaluate=False) if right.is_Add else left - right


def put_in(expr: Expr, given: Mapping[Any, Any]) -> Iterator[ProofStep]:
    """One step for each quantity that the expression mentions and ``given`` says more about, in order."""
    for name, meaning in given.items():
        after = expr.subs(name, meaning)
        narrowed = _narrowed(name, meaning)
        if after != expr and narrowed is None:
            yield ProofStep(f"With {text(name)} = {text(sympy.sympify(meaning))}", expr, after)
        elif after != expr and text(after) != text(expr):
            yield ProofStep(f"For {text(narrowed)}", expr, after)
        expr = after


def _narrowed(name: Any, meaning: Any) -> Basic | None:
    """The condition, where a letter stays the same and only its range becomes narrower: g for g that is not 0."""
    if not (isinstance(name, Symbol) and isinstance(meaning, Symbol) and name.name == meaning.name):
        return None
    return sympy.Gt(name, 0, evaluate=False) if meaning.is_positive else sympy.Ne(name, 0, evaluate=False)


def _condition(name: Any, meaning: Any) -> Basic:
    narrowed = _narrowed(name, meaning)
    return Eq(name, _value(meaning), evaluate=False) if narrowed is None else narrowed


def decaying(*rates: Symbol) -> dict[Symbol, Expr]:
    """Rates between 0 and 1 written as exp(-c) with c > 0, the form in which SymPy knows where their powers tend."""
    letters = "cdefgh"
    return {rate: exp(-Symbol(letters[n], positive=True)) for n, rate in enumerate(rates)}


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:]


def _value(number: Any) -> Expr:
    return sympy.sympify(number)


# --- Claims ------------------------------------------------------------------------------------------------------


class Claim(ABC):
    """A titled statement with one way to prove it. Subclasses are frozen dataclasses."""

    title: str

    @property
    @abstractmethod
    def statement(self) -> tuple[Line, ...]:
        """What is claimed, as expressions."""

    @abstractmethod
    def steps(self) -> Iterator[ProofStep]:
        """The steps of the proof, or :class:`Unproved`."""


@dataclass(frozen=True)
class Identity(Claim):
    """``left`` and ``right`` are equal once quantities are replaced, in order, by their meanings.

    Those in ``using`` are known to the reader, say the equations of a rule; those in ``given`` belong to the claim.
    """

    title: str
    left: Any
    right: Any
    given: Mapping[Any, Any] = field(default_factory=dict)
    using: Mapping[Any, Any] = field(default_factory=dict)
    about: str = ""

    @property
    def statement(self) -> tuple[Line, ...]:
        where = tuple(
            Line("where" if n == 0 else "and", _condition(name, meaning))
            for n, (name, meaning) in enumerate(self.given.items())
        )
        return (Line("", Eq(_value(self.left), _value(self.right), evaluate=False)), *where)

    def steps(self) -> Iterator[ProofStep]:
        sides = []
        for side in (_value(self.left), _value(self.right)):
            yield from put_in(side, {**self.using, **self.given})
            sides.append(side.subs([*self.using.items(), *self.given.items()]))
        yield vanishing("The difference of the two sides", minus(*sides))


@dataclass(frozen=True)
class Calculation(Claim):
    """A chain ``start = e1 = e2 = ...``: ``chain`` lists (reason, expression); each equality is proved in turn.

    ``given`` maps quantities to meanings that may be used in the proof of any equality.
    """

    title: str
    start: Any
    chain: Sequence[tuple[str, Any]]
    given: Mapping[Any, Any] = field(default_factory=dict)
    about: str = ""

    @property
    def statement(self) -> tuple[Line, ...]:
        return (Line("", Eq(_value(self.start), _value(self.chain[-1][1]), evaluate=False)),)

    def steps(self) -> Iterator[ProofStep]:
        before = _value(self.start)
        for reason, after in self.chain:
            after = _value(after)
            vanishing(f"The step “{reason}”", minus(before.subs(dict(self.given)), after.subs(dict(self.given))))
            yield ProofStep(reason, before, after)
            before = after


@dataclass(frozen=True)
class Limit(Claim):
    """``expr`` tends to ``value`` as ``variable`` tends to ``point`` (from the side ``direction``, "+" or "-").

    ``writing`` replaces symbols before the limit is taken (see :func:`decaying`), in the value as well.
    """

    title: str
    expr: Any
    variable: Symbol
    point: Any
    value: Any
    direction: str = "+"
    writing: Mapping[Any, Any] = field(default_factory=dict)
    about: str = ""

    def _limit(self, expr: Expr, variable: Symbol) -> Expr:
        return sympy.Limit(expr, variable, _value(self.point), self.direction)

    @property
    def statement(self) -> tuple[Line, ...]:
        return (Line("", Eq(self._limit(_value(self.expr), self.variable), _value(self.value), evaluate=False)),)

    def steps(self) -> Iterator[ProofStep]:
        expr, value = _value(self.expr), _value(self.value)
        if self.writing:
            after = expr.subs(list(self.writing.items()))
            how = ", ".join(f"{text(k)} = {text(_value(v))}" for k, v in self.writing.items())
            yield ProofStep(f"Write {how}", expr, after)
            expr, value = after, value.subs(list(self.writing.items()))
        # A variable that counts steps is an integer; its limit is that of the function of a positive real.
        variable = Symbol(self.variable.name, positive=True) if self.variable.is_positive else self.variable
        expr = expr.subs(self.variable, variable)
        found = sympy.limit(expr, variable, _value(self.point), self.direction)
        if found.has(sympy.Limit):
            raise Unproved(f"SymPy finds no limit of {text(expr)}")
        yield ProofStep("Take the limit", self._limit(expr, variable), found)
        if found.is_infinite or value.is_infinite:
            if found != value:
                raise Unproved(f"the limit is {text(found)}, not {text(value)}")
        elif found != value:
            yield vanishing("The limit less the claimed value", minus(found, value))


@dataclass(frozen=True)
class ClosedForm(Claim):
    """The recurrence ``sequence = recurrence`` with its start has the solution ``formula``.

    Parameters
    ----------
    sequence : applied Function
        ``v(t)``.
    recurrence : Expr
        What ``v(t)`` is, in terms of ``v(t - 1)`` (and ``v(t - 2)``, ...).
    start : Expr or mapping of int to Expr
        ``v(0)``, or several starting values by index.
    formula : Expr
        The claimed ``v(t)``; it may hold sums up to t.
    because : sequence of ProofStep
        How the recurrence was reached, for the reader (see :func:`expectation`).

    Where the recurrence holds no other sequence and its coefficients are constant, it is solved. In any case the claim
    is proved by induction.
    """

    title: str
    sequence: AppliedUndef
    recurrence: Any
    start: Any
    formula: Any
    because: Sequence[ProofStep] = ()
    about: str = ""

    @property
    def _starts(self) -> dict[int, Expr]:
        start = self.start if isinstance(self.start, Mapping) else {0: self.start}
        return {int(k): _value(v) for k, v in start.items()}

    @property
    def statement(self) -> tuple[Line, ...]:
        starts = (Line("", Eq(self.sequence.func(n), value, evaluate=False)) for n, value in self._starts.items())
        return (
            Line("", Eq(self.sequence, _value(self.formula), evaluate=False)),
            Line("where", Eq(self.sequence, _value(self.recurrence), evaluate=False)),
            *starts,
        )

    def steps(self) -> Iterator[ProofStep]:
        sequence, recurrence, formula = self.sequence, _value(self.recurrence), _value(self.formula)
        t = sequence.args[0]
        yield from self.because
        others = {a.func for a in recurrence.atoms(AppliedUndef)} - {sequence.func}
        if not others and not recurrence.has(Sum) and _constant_coefficients(sequence, recurrence):
            start = {sequence.func(n): value for n, value in self._starts.items()}
            found = _solved(sequence, recurrence, start)
            if found is None:
                raise Unproved(f"SymPy cannot solve {text(Eq(sequence, recurrence, evaluate=False))}")
            yield ProofStep(
                "Solve the recurrence",
                Eq(sequence, recurrence, evaluate=False),
                Eq(sequence, found, evaluate=False),
            )
            if found != formula:
                yield vanishing("The solution less the claimed form", minus(found, formula))
        for n, value in self._starts.items():
            at_start = formula.subs(t, n)
            at_start = at_start.doit() if at_start.has(Sum) else at_start
            vanishing(f"The claim at {t} = {n} less the start", at_start - value)
            yield ProofStep(f"Induction: the claim at {t} = {n} is the start", formula, value)
        claimed = recurrence.replace(lambda e: isinstance(e, sequence.func), lambda e: formula.subs(t, e.args[0]))
        yield vanishing(f"Induction: the claim at {t} less the recurrence of the claim at {t} - 1", formula - claimed)


@dataclass(frozen=True)
class Equivalence(Claim):
    """Two systems of updates walk together.

    ``first`` and ``second`` map each quantity to its new value in terms of old ones (``rule.updates`` of a rule).
    ``relation`` maps quantities of the second to expressions in quantities of the first. Claimed: where the relation
    holds before a step, it holds after. ``start`` and ``second_start`` give starting values of what does not start
    freely; with them it is claimed, and proved, that the relation holds at the start.
    """

    title: str
    first: Mapping[Symbol, Any]
    second: Mapping[Symbol, Any]
    relation: Mapping[Symbol, Any]
    start: Mapping[Symbol, Any] | None = None
    second_start: Mapping[Symbol, Any] | None = None
    about: str = ""

    @property
    def statement(self) -> tuple[Line, ...]:
        before: list[Line] = []
        after: list[Line] = []
        primes = {q: Symbol(f"{q.name}'", **q.assumptions0) for q in self.first}
        for quantity, expression in self.relation.items():
            name = Symbol(f"{quantity.name}_2", **quantity.assumptions0)
            before.append(Line("and" if before else "if", Eq(name, _value(expression), evaluate=False)))
            prime = Symbol(f"{quantity.name}_2'", **quantity.assumptions0)
            later = _value(expression).subs(primes, simultaneous=True)
            after.append(Line("and" if after else "then", Eq(prime, later, evaluate=False)))
        return (*before, *after)

    def steps(self) -> Iterator[ProofStep]:
        relation = {q: _value(e) for q, e in self.relation.items()}
        if self.start is not None or self.second_start is not None:
            start, second_start = dict(self.start or {}), dict(self.second_start or {})
            for quantity, expression in relation.items():
                if quantity in second_start:
                    at_start = _value(second_start[quantity]) - expression.subs(start, simultaneous=True)
                    yield vanishing(f"At the start, {quantity} less its image", at_start)
        for quantity, expression in relation.items():
            stepped = _value(self.second[quantity]).subs(relation, simultaneous=True)
            yield ProofStep(
                f"A step of the second for {quantity}, written in the first", _value(self.second[quantity]), stepped
            )
            image = expression.subs({q: _value(e) for q, e in self.first.items()}, simultaneous=True)
            yield ProofStep("A step of the first, then the relation", expression, image)
            yield vanishing("Their difference", minus(stepped, image))


@dataclass(frozen=True)
class Sign(Claim):
    """``expr`` is positive for all values of its symbols (or "negative", "nonnegative", "nonpositive").

    ``writing`` replaces symbols by expressions that range over what the claim is about: ``{lr: 2/a * p/(1 + p)}`` with
    positive p is every lr between 0 and 2/a.
    """

    title: str
    expr: Any
    sign: str = "positive"
    writing: Mapping[Any, Any] = field(default_factory=dict)
    about: str = ""

    @property
    def statement(self) -> tuple[Line, ...]:
        relations: dict[str, Callable[..., Basic]] = {
            "positive": sympy.Gt,
            "negative": sympy.Lt,
            "nonnegative": sympy.Ge,
            "nonpositive": sympy.Le,
        }
        where = (Line("where", Eq(k, v, evaluate=False)) for k, v in self.writing.items())
        return (Line("", relations[self.sign](_value(self.expr), 0, evaluate=False)), *where)

    def steps(self) -> Iterator[ProofStep]:
        expr = _value(self.expr)
        yield from put_in(expr, self.writing)
        expr = expr.subs(list(self.writing.items()))
        factored = factor(together(expr))
        yield ProofStep("Factor", expr, factored)
        if getattr(factored, f"is_{self.sign}") is not True:
            raise Unproved(f"its factors do not show {text(factored)} to be {self.sign}")


@dataclass(frozen=True)
class Roots(Claim):
    """``equation`` (an ``Eq``, or an expression that is to be 0), polynomial in ``unknown``, has exactly ``roots``."""

    title: str
    equation: Any
    unknown: Symbol
    roots: Sequence[Any]
    about: str = ""

    @property
    def _expr(self) -> Expr:
        e = self.equation
        return e.lhs - e.rhs if isinstance(e, Eq) else _value(e)

    @property
    def statement(self) -> tuple[Line, ...]:
        whole = self.equation if isinstance(self.equation, Eq) else Eq(self._expr, 0, evaluate=False)
        roots = (Eq(self.unknown, _value(r), evaluate=False) for r in self.roots)
        found = (Line("or" if n else "exactly when", root) for n, root in enumerate(roots))
        return (Line("", whole), *found)

    def steps(self) -> Iterator[ProofStep]:
        polynomial = sympy.Poly(together(self._expr).as_numer_denom()[0], self.unknown)
        if polynomial.degree() != len(self.roots):
            raise Unproved(f"it has degree {polynomial.degree()}, and {len(self.roots)} roots are claimed")
        product = Mul(polynomial.LC(), *(self.unknown - _value(r) for r in self.roots))
        yield ProofStep("Multiply the factors out", product, polynomial.as_expr())
        yield vanishing("The product of the factors less the polynomial", minus(product, polynomial.as_expr()))


@dataclass(frozen=True)
class Counterexample(Claim):
    """``left`` and ``right`` are not the same: exact values ``at`` a point tell them apart."""

    title: str
    left: Any
    right: Any
    at: Mapping[Any, Any]
    about: str = ""

    @property
    def statement(self) -> tuple[Line, ...]:
        words = ["at", *["and"] * len(self.at)]
        point = (Line(w, Eq(k, _exact(v), evaluate=False)) for w, (k, v) in zip(words, self.at.items(), strict=False))
        return (Line("", sympy.Ne(_value(self.left), _value(self.right), evaluate=False)), *point)

    def steps(self) -> Iterator[ProofStep]:
        at = {k: _exact(v) for k, v in self.at.items()}
        left, right = _value(self.left).subs(at), _value(self.right).subs(at)
        yield ProofStep("The first, evaluated", _value(self.left), left)
        yield ProofStep("The second, evaluated", _value(self.right), right)
        _different(left, right)


@dataclass(frozen=True)
class NoConstant(Claim):
    """No constant value of ``parameter`` makes ``left`` equal to ``right``.

    SymPy solves ``left = right`` for the parameter; at the points ``at`` the values needed differ.
    """

    title: str
    left: Any
    right: Any
    parameter: Symbol
    at: Sequence[Mapping[Any, Any]]
    about: str = ""

    @property
    def statement(self) -> tuple[Line, ...]:
        return (Line(f"for no constant {self.parameter}:", Eq(_value(self.left), _value(self.right), evaluate=False)),)

    @property
    def needed(self) -> Expr:
        """The value the parameter would need, as an expression in everything else."""
        left, right = _value(self.left), _value(self.right)
        if left.is_Pow and left.exp is S.Half and not right.has(self.parameter):
            # A root on the left, what is sought below it: squaring loses nothing, as long as the right is not negative.
            left, right = left.base, right**2
        numerator = expand(together(left - right).as_numer_denom()[0])
        slope = numerator.diff(self.parameter)
        if slope != 0 and not slope.has(self.parameter):
            return cancel(self.parameter - numerator / slope)
        solutions = sympy.solve(left - right, self.parameter)
        if len(solutions) != 1:
            raise Unproved(f"{self.parameter} is not determined: SymPy finds {solutions}")
        return solutions[0]

    def steps(self) -> Iterator[ProofStep]:
        needed = self.needed
        yield ProofStep(
            f"Solve for {self.parameter}",
            Eq(_value(self.left), _value(self.right), evaluate=False),
            Eq(self.parameter, needed, evaluate=False),
        )
        values = []
        for point in self.at:
            exact = {k: _exact(v) for k, v in point.items()}
            values.append(expand(needed.subs(exact)))
            where = ", ".join(f"{text(k)} = {text(v)}" for k, v in exact.items())
            yield ProofStep(f"At {where}", needed, values[-1])
        _different(values[0], values[1])


def _constant_coefficients(sequence: AppliedUndef, recurrence: Expr) -> bool:
    """Whether the step number stands in no factor of an earlier value: solving is slow otherwise, and tells little."""
    earlier = [a for a in recurrence.atoms(AppliedUndef) if a.func == sequence.func]
    stand_ins = {a: sympy.Dummy(f"v{n}") for n, a in enumerate(sorted(earlier, key=str))}
    plain = recurrence.subs(stand_ins)
    return not any(plain.diff(v).has(sequence.args[0]) for v in stand_ins.values())


def _solved(sequence: AppliedUndef, recurrence: Expr, start: Mapping[Any, Expr]) -> Expr | None:
    """The solution of a recurrence; one of first order is known, others SymPy solves.

    v(t) = a v(t - 1) + b stays at b/(1 - a), and its distance from there is a**t times that of the start; where a is 1,
    the terms that are added are summed up.
    """
    t = sequence.args[0]
    before = sequence.func(t - 1)
    rate = expand(recurrence).coeff(before)
    rest = expand(recurrence - rate * before)
    if list(start) == [sequence.func(0)] and not rate.has(t):
        first = start[sequence.func(0)]
        if rate != 1 and not rest.has(t):
            return rate**t * (rate * first + rest - first) / (rate - 1) - rest / (rate - 1)
        if rate == 1 and not rest.has(t):
            return first + rest * t
        ratio = _gathered(rest.subs(t, t + 1) / rest)
        if rate == 1 and ratio != 1 and not ratio.has(t):
            total = rest.subs(t, t + 1) / (ratio - 1)
            return total + cancel(first - total.subs(t, 0))
    return rsolve(sequence - recurrence, sequence, start)


def _exact(number: Any) -> Expr:
    exact = sympy.sympify(number)
    if exact.has(sympy.Float):
        raise Unproved(f"{number!r} is not exact: give an integer or a Rational")
    return exact


def _different(left: Expr, right: Expr) -> None:
    difference = expand(left - right)
    if difference.free_symbols:
        raise Unproved(f"{text(difference)} is not a number: give a value to each symbol")
    if difference.is_zero is not False and not abs(difference.evalf(50)) > Integer(10) ** -30:
        raise Unproved(f"both come to {text(left)}")


# --- Random quantities -------------------------------------------------------------------------------------------


def expectation(expr: Any, means: Mapping[Any, Any]) -> Expr:
    """E of an expression that is linear in random quantities, whose means are given: E is linear.

    >>> from sympy import symbols
    >>> m, g, beta, M, mu = symbols("m g beta M mu")
    >>> expectation(beta * m + (1 - beta) * g, {m: M, g: mu})
    M*beta + mu*(1 - beta)
    """
    expr = _value(expr)
    _linear(expr, means)
    return expr.subs({k: _value(v) for k, v in means.items()}, simultaneous=True)


def variance(expr: Any, variances: Mapping[Any, Any]) -> Expr:
    """Var of an expression that is linear in independent random quantities, whose variances are given."""
    coefficients = _linear(_value(expr), variances)
    return Add(*(c**2 * _value(variances[k]) for k, c in coefficients.items()))


def _linear(expr: Expr, random: Mapping[Any, Any]) -> dict[Any, Expr]:
    stand_ins = {k: sympy.Dummy(f"r{n}") for n, k in enumerate(random)}
    plain = expr.subs(stand_ins, simultaneous=True)
    coefficients = {k: plain.diff(stand_in) for k, stand_in in stand_ins.items()}
    if any(c.has(*stand_ins.values()) for c in coefficients.values()):
        raise Unproved(f"{text(expr)} is not linear in {', '.join(map(str, random))}")
    return coefficients


# --- Proving -----------------------------------------------------------------------------------------------------


def prove(claims: Iterable[Claim], *, owner: str) -> tuple[Proof, ...]:
    """Prove the claims, numbered from 1.

    Raises
    ------
    VerificationError
        On the first that is not proved; the message names the owner, the number, the title, and where it broke off.
    """
    proofs = []
    for number, claim in enumerate(claims, start=1):
        try:
            proofs.append(Proof(number, claim, tuple(claim.steps())))
        except Unproved as reason:
            raise VerificationError(f'{owner}: claim {number} ("{claim.title}") is not proved: {reason}') from None
    return tuple(proofs)
