"""From a statement to its gradient, by the chain rule over named quantities, in steps that can be checked.

For each definition, last first, every quantity it uses receives a contribution: the sum over the definition's indices
of its adjoint times a partial derivative. Partial derivatives of scalar functions come from SymPy, one function at a
time, with placeholders for the arguments; indices are never differentiated through, so none can be captured
(sympy#21891). What the elements of an array contribute is written with deltas, and our rules contract them.

The method is reverse accumulation; see Griewank and Walther, Evaluating Derivatives (2008), chapter 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any
from weakref import WeakKeyDictionary

from sympy import (
    Abs,
    Add,
    And,
    Dummy,
    Eq,
    Expr,
    Ge,
    Gt,
    Integer,
    Max,
    Min,
    Mul,
    Ne,
    Not,
    Pow,
    S,
    Sum,
    Symbol,
    default_sort_key,
    exp,
    expand,
    sign,
)
from sympy.logic.boolalg import Boolean
from sympy.tensor.indexed import Indexed, IndexedBase

from derive.errors import StatementError
from derive.naming import name_sums
from derive.notation import (
    LogSumExp,
    Partial,
    Sigmoid,
    Softplus,
    Where,
    bases,
    free_symbols,
    multiply,
    rebuild,
    relation,
    substitute,
    sum_over,
)
from derive.rewrite import (
    Term,
    about_indices,
    absorb,
    assemble,
    contract,
    freshen,
    guard,
    opened,
    simplify_sums,
    terms,
    tidy,
    tidy_definition,
    tidy_inner,
    unfactored,
)
from derive.stable import confined, stabilise
from derive.statement import Definition, Form, Loss, Variable, letter, read

__all__ = ["CHAIN_RULE", "LEMMA", "Case", "Derivation", "ExampleGradient", "Step", "differentiate"]


@dataclass(frozen=True)
class Step:
    """``before`` equals ``after`` by ``rule``, for every value of the indices; both say what ``target`` is.

    ``section`` is ``statement``, ``example`` or ``batch``. ``indices`` are the free indices with their sizes.
    """

    rule: str
    target: Expr
    before: Expr
    after: Expr
    section: str
    indices: tuple[tuple[Symbol, Expr], ...] = ()


@dataclass(frozen=True)
class Case:
    """The gradient under a condition on an index, such as j = y_i or j != y_i."""

    condition: Boolean
    target: Expr
    value: Expr


@dataclass(frozen=True)
class ExampleGradient:
    """The gradient of one example's loss with respect to one parameter: whole, and by cases."""

    parameter: str
    example: Expr
    target: Expr
    value: Expr
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Derivation:
    """A loss, its definitions, its gradients, and the steps from the one to the other.

    Attributes
    ----------
    loss : Loss
    form : Form
        The statement as read, before any rule was used.
    definitions : tuple of Definition
        The forward quantities that the code computes, in order; the last is the value.
    adjoints : tuple of Definition
        ``grad_q``: the derivative of the value with respect to each quantity ``q`` the chain rule passes through, in
        the order in which they are computed. The gradients of the parameters are among them.
    gradients : dict
        The gradient of each parameter, by the parameter as the user declared it.
    example_gradients : tuple of ExampleGradient
        Where the value is a sum over examples: the gradient of one example's loss.
    conventions : tuple of str
        What holds where a derivative does not exist.
    """

    loss: Loss
    form: Form
    definitions: tuple[Definition, ...]
    adjoints: tuple[Definition, ...]
    gradients: dict[Any, Expr]
    example_gradients: tuple[ExampleGradient, ...]
    conventions: tuple[str, ...]
    ranges: dict[Symbol, tuple[Expr, Expr]] = field(default_factory=dict, repr=False)
    raw_steps: tuple[Step, ...] = field(default=(), repr=False)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The steps, their indices with the letters of the blackboard."""
        return tuple(tidy_step(s) for s in self.raw_steps)

    @cached_property
    def local_steps(self) -> tuple[Step, ...]:
        """Those of the steps that differentiate one definition."""
        return tuple(tidy_step(s) for s in self.raw_steps if s.rule == DIFFERENTIATE and s.section == "batch")

    def gradient(self, name: str) -> Definition:
        """The definition of the gradient of the parameter called ``name``."""
        return next(d for d in self.adjoints if d.name == gradient_name(name))

    def __str__(self) -> str:
        from derive.text import derivation_text

        return derivation_text(self)

    def _repr_latex_(self) -> str:
        from derive.latex import derivation_latex

        return derivation_latex(self)


_KNOWN: WeakKeyDictionary[Loss, tuple[Any, Derivation]] = WeakKeyDictionary()


def differentiate(loss: Loss) -> Derivation:
    """Derive the gradients of a loss.

    Raises
    ------
    StatementError
        If the statement is not understood.
    """
    stated = (loss.name, loss.value, loss.where, loss.wrt, loss.data, tuple(loss.defaults.items()))
    known = _KNOWN.get(loss)
    if known is None or known[0] != stated:
        # Checks, code and report all ask for the derivation of the same loss.
        known = _KNOWN[loss] = (stated, _Deriver(loss).run())
    return known[1]


def gradient_name(name: str) -> str:
    """What the derivative with respect to a quantity is called."""
    return f"grad_{name}"


# -- calculus of one function ----------------------------------------------------------------------


@cache
def _slope(function: type, count: int, position: int) -> tuple[tuple[Dummy, ...], Expr]:
    """d function(x_0, x_1, ...)/d x_position, by SymPy."""
    places = tuple(Dummy(f"x{n}", real=True) for n in range(count))
    slope = function(*places).diff(places[position])
    return places, slope


def partials(expr: Expr, active: Set[str]) -> list[tuple[int, Expr]]:
    """The derivative of a function with respect to each of its arguments that depends on an active quantity."""
    found = []
    for position, argument in enumerate(expr.args):
        if isinstance(argument, Expr) and bases(argument) & active:
            found.append((position, _partial(expr, position, active)))
    return found


def _partial(expr: Expr, position: int, active: Set[str]) -> Expr:
    x = expr.args[position]
    if isinstance(expr, Max | Min):
        return _chosen(expr, position, active)
    if isinstance(expr, sign):
        return S.Zero
    if isinstance(expr, Abs):
        return sign(x)
    if isinstance(expr, Softplus):
        return Sigmoid(x)
    if isinstance(expr, Sigmoid):
        return Sigmoid(x) * Sigmoid(-x)
    if isinstance(expr, exp):
        return expr
    if isinstance(expr, Pow):
        base, power = expr.args
        if position == 0:
            return multiply(power, Pow(base, power - 1))
    places, slope = _slope(expr.func, len(expr.args), position)
    return slope.xreplace(dict(zip(places, expr.args, strict=True)))


def _chosen(expr: Expr, position: int, active: Set[str]) -> Expr:
    """1 where this argument of a max or min is the one that counts.

    At a tie it is the first, arguments without parameters before others; so d max(0, a) is 1(a > 0), strict.
    """
    x = expr.args[position]
    larger = isinstance(expr, Max)
    ranked = sorted(expr.args, key=lambda a: (not a.is_number, bool(bases(a) & active), default_sort_key(a)))
    conditions = []
    for other in ranked:
        if other is not x:
            a, b = (x, other) if larger else (other, x)
            first = ranked.index(other) < ranked.index(x)
            conditions.append(relation(Gt, a, b) if first else relation(Ge, a, b))
    return guard([c for c in conditions if c != True], S.One)  # noqa: E712


# -- the chain rule --------------------------------------------------------------------------------


class _Chain:
    """Reverse accumulation over definitions for one value."""

    def __init__(self, form: Form, parameters: Iterable[Variable], section: str) -> None:
        self.form = form
        self.section = section
        self.steps: list[Step] = []
        self.active = {p.name for p in parameters}
        self.parameters = {p.name: p for p in parameters}
        self.conventions: dict[str, None] = {}
        self.places: dict[str, tuple[Symbol, ...]] = {}
        self.explained: set[type] = set()
        self.seen_letters: dict[str, list[Symbol | None]] | None = None

    def run(
        self, definitions: Iterable[Definition], value: Expr, fixed: tuple[tuple[Symbol, Expr], ...]
    ) -> list[Definition]:
        """Adjoint definitions of everything between ``value`` and the parameters, in the order of computation."""
        known = list(definitions)
        for d in known:
            if bases(d.rhs) & self.active:
                self.active.add(d.name)
        shapes = {d.name: d for d in known}
        received: dict[str, list[Expr]] = {}
        places = self.places = {}
        adjoints: list[Definition] = []

        def element(name: str, indices: tuple[Expr, ...]) -> Expr:
            return Indexed(IndexedBase(Symbol(name, real=True)), *indices) if indices else Symbol(name, real=True)

        def spread(source: Definition, adjoint: Expr, target: Expr) -> None:
            """Pass the adjoint of a definition on to all it uses."""
            grouped: dict[str, list[Term]] = {}
            raw: dict[str, list[Term]] = {}
            for limits, conditions, slope, place in self.slopes(source.rhs, source):
                name = str(place.base.label) if isinstance(place, Indexed) else place.name
                if name not in places:
                    places[name] = self.targets(name, shapes)
                at = places[name]
                index = place.indices if isinstance(place, Indexed) else ()
                deltas = tuple(c for c in (relation(Eq, a, e) for a, e in zip(at, index, strict=True)) if c != True)  # noqa: E712
                own = tuple((i, Integer(0), expand(n - 1)) for i, n in zip(source.indices, source.sizes, strict=True))
                raw.setdefault(name, []).append(Term(limits, deltas + conditions, (slope,)))
                grouped.setdefault(name, []).append(Term(own + limits, deltas + conditions, (adjoint, slope)))
            for name, parts in grouped.items():
                at = places[name]
                contracted = [contract(self.flat(t), self.form) for t in parts]
                after = assemble(t for t in contracted if t is not None)
                if after == 0:
                    continue
                received.setdefault(name, []).append(after)
                wrt = element(name, at)
                free = tuple((i, n) for i, n in zip(source.indices, source.sizes, strict=True)) + self.sized(
                    name, shapes
                )
                slope_sum = assemble(raw[name])
                local = Partial(target, wrt)
                self.lemmas(source.rhs)
                self.note(DIFFERENTIATE, local, Partial(source.rhs, wrt), slope_sum, (*fixed, *free))
                pieces = [t for t in (contract(self.flat(t), self.form) for t in raw[name]) if t is not None]
                self.note("delta contraction", local, slope_sum, unfactored(pieces), (*fixed, *free))
                self.note("factors out of sums", local, unfactored(pieces), assemble(pieces), (*fixed, *free))
                before = Add(
                    *(
                        sum_over(
                            multiply(adjoint, assemble([t])),
                            *(
                                (i, Integer(0), expand(n - 1))
                                for i, n in zip(source.indices, source.sizes, strict=True)
                            ),
                        )
                        for t in raw[name]
                    )
                )
                self.note(
                    "sum over what uses it, contracted",
                    Partial(self.form.value.lhs if not fixed else value, wrt),
                    before,
                    after,
                    (*fixed, *self.sized(name, shapes)),
                )

        spread(Definition("loss", (), freshen(value, self.form)), S.One, value)
        for definition in reversed(known):
            if definition.name not in received:
                continue
            at = places[definition.name]
            rhs = self.collected(Add(*received[definition.name]))
            if rhs == 0:
                continue
            source = opened(definition, self.form)
            if self.plain(rhs):
                spread(source, rhs, source.lhs)
                continue
            adjoint = Definition(gradient_name(definition.name), at, rhs, definition.sizes)
            adjoints.append(adjoint)
            spread(source, element(adjoint.name, source.indices), source.lhs)
        for name, parameter in self.parameters.items():
            at = places.setdefault(name, self.targets(name, shapes))
            total = self.collected(Add(*received.get(name, [])))
            adjoints.append(Definition(gradient_name(name), at, total, parameter.shape))
            if not fixed:
                wrt = Partial(self.form.value.lhs, element(name, at))
                self.note(CHAIN_RULE, wrt, wrt, total, self.sized(name, shapes))
        return adjoints

    def lemmas(self, expr: Expr) -> None:
        """A step for each function in an expression whose derivative is a convention at some points."""
        for node in sorted(expr.atoms(Max, Min, Abs, sign), key=lambda e: e.sort_key()):
            if not bases(node) & self.active or type(node) in self.explained:
                continue
            self.explained.add(type(node))
            fixed = [a for a in node.args if a.is_number]
            known = {v.name for v in self.form.arguments} | {d.name for d in self.form.definitions}
            known |= {s.name for s in self.form.sizes} | {n for n, _ in self.form.hyperparameters}
            letters = [c for c in "abcuvwxyzpqrst" if c not in known]
            places = [Symbol(c, real=True) for c in letters[: len(node.args) - len(fixed)]]
            if len(places) < len(node.args) - len(fixed):
                continue
            # Numbers come before what varies, as in the statement.
            like = node.func(*fixed, *places, evaluate=False)
            slope = _partial(like, len(fixed), {p.name for p in places})
            name = {Max: "max", Min: "min", Abs: "absolute value", sign: "sign"}[type(node)]
            strict = ": the strict indicator" if fixed and isinstance(node, Max | Min) else ""
            target = Partial(like, places[0])
            self.steps.append(Step(f"{LEMMA} {name}{strict}", target, target, slope, self.section))

    def plain(self, expr: Expr) -> bool:
        """Whether an adjoint needs no name: it is made of numbers, sizes and hyperparameters."""
        known = {n for n, _ in self.form.hyperparameters}
        return bases(expr) <= known and not expr.has(Where, Sum) and free_symbols(expr).isdisjoint(self.form.ranges)

    def flat(self, term: Term) -> Term:
        """A term whose factors are no products, guards or sums themselves where they can be merged."""
        merged = terms(multiply(*term.factors))
        if len(merged) != 1:
            return term
        inner = merged[0]
        conditions = tuple(dict.fromkeys(term.conditions + inner.conditions))
        return absorb(Term(term.limits + inner.limits, conditions, inner.factors))

    def collected(self, expr: Expr) -> Expr:
        """Equal sums get equal bound indices, so that SymPy adds what is alike."""
        expr = tidy(expr, names_in(expr))
        return assemble(merged(terms(expr))) if expr.has(Eq) else expr

    def note(
        self, rule: str, target: Expr, before: Expr, after: Expr, indices: tuple[tuple[Symbol, Expr], ...]
    ) -> None:
        if before != after:
            self.steps.append(Step(rule, target, before, after, self.section, indices))

    def targets(self, name: str, shapes: dict[str, Definition]) -> tuple[Symbol, ...]:
        if name in shapes:
            like, sizes = shapes[name].indices, shapes[name].sizes
        else:
            sizes = self.parameters[name].shape
            like = self.letters(name, len(sizes), shapes)
        return tuple(self.form.index(i, S.Zero, expand(n - 1)) for i, n in zip(like, sizes, strict=True))

    def letters(self, name: str, count: int, shapes: dict[str, Definition]) -> tuple[Symbol, ...]:
        """The letters by which a parameter is indexed in the statement, where they are plain indices."""
        if self.seen_letters is None:
            self.seen_letters = {}
            for d in (*shapes.values(), self.form.value):
                for use in sorted(d.rhs.atoms(Indexed), key=lambda a: a.sort_key()):
                    places = self.seen_letters.setdefault(str(use.base.label), [None] * len(use.indices))
                    for n, e in enumerate(use.indices):
                        if places[n] is None and isinstance(e, Symbol) and e not in places:
                            places[n] = e
        best = self.seen_letters.get(name, [None] * count)
        return tuple(b if b is not None else Symbol("abcdefgh"[n % 8], integer=True) for n, b in enumerate(best))

    def sized(self, name: str, shapes: dict[str, Definition]) -> tuple[tuple[Symbol, Expr], ...]:
        sizes = shapes[name].sizes if name in shapes else self.parameters[name].shape
        return tuple(zip(self.places[name], sizes, strict=True))

    # -- derivatives of expressions ----------------------------------------------------------------

    def slopes(self, expr: Expr, source: Definition) -> list[tuple[Any, Any, Expr, Expr]]:
        """(limits, conditions, slope, element): d expr is the sum of slope * d element."""
        if isinstance(expr, Indexed):
            return [((), (), S.One, expr)] if str(expr.base.label) in self.active else []
        if isinstance(expr, Symbol):
            return [((), (), S.One, expr)] if expr.name in self.active else []
        if not expr.args or not bases(expr) & self.active:
            return []
        if isinstance(expr, Add):
            return [s for a in expr.args for s in self.slopes(a, source)]
        if isinstance(expr, Sum):
            bound = tuple(tuple(lim) for lim in expr.limits)
            return [(bound + lim, c, k, e) for lim, c, k, e in self.slopes(expr.function, source)]
        if isinstance(expr, Where):
            condition = expr.condition
            if not about_indices(condition) and bases(condition) & self.active:
                self.conventions["piecewise"] = None
            yes = [(lim, (*And.make_args(condition), *c), k, e) for lim, c, k, e in self.slopes(expr.yes, source)]
            no = [(lim, (*And.make_args(Not(condition)), *c), k, e) for lim, c, k, e in self.slopes(expr.no, source)]
            return yes + no
        if isinstance(expr, LogSumExp):
            whole = source.lhs if expr == source.rhs else expr
            bound = tuple(tuple(lim) for lim in expr.limits)
            function, guards = expr.function, ()
            if isinstance(function, Where):
                function, guards = function.yes, And.make_args(function.condition)
            weight = exp(function - whole)
            return [
                (bound + lim, (*guards, *c), multiply(self.apart(weight, lim), k), e)
                for lim, c, k, e in self.slopes(function, source)
            ]
        if isinstance(expr, Mul):
            found = []
            for n, a in enumerate(expr.args):
                inner = self.slopes(a, source)
                if inner:
                    rest = multiply(*(b for m, b in enumerate(expr.args) if m != n))
                    found += [(lim, c, multiply(self.apart(rest, lim), k), e) for lim, c, k, e in inner]
            return found
        self.note_conventions(expr)
        found = []
        for position, slope in partials(expr, self.active):
            if slope == 0:
                continue
            for lim, c, k, e in self.slopes(expr.args[position], source):
                found.append((lim, c, multiply(self.apart(slope, lim), k), e))
        return found

    def apart(self, expr: Expr, limits: tuple[Any, ...]) -> Expr:
        """A factor whose bound indices differ from the limits it is put under."""
        return freshen(expr, self.form) if limits and expr.has(Sum, LogSumExp) else expr

    def note_conventions(self, expr: Expr) -> None:
        if isinstance(expr, Max | Min):
            self.conventions["max" if isinstance(expr, Max) else "min"] = None
        elif isinstance(expr, Abs):
            self.conventions["abs"] = None
        elif isinstance(expr, sign):
            self.conventions["sign"] = None


def merged(parts: list[Term]) -> list[Term]:
    """Terms that put something at the same positions, such as c = y_i, as one term."""
    found: dict[Any, list[Term]] = {}
    for n, t in enumerate(parts):
        placed = t.limits and any(isinstance(c, Eq) for c in t.conditions)
        found.setdefault((t.limits, t.conditions) if placed else n, []).append(t)
    return [
        group[0]
        if len(group) == 1
        else Term(group[0].limits, group[0].conditions, (Add(*(multiply(*t.factors) for t in group)),))
        for group in found.values()
    ]


def names_in(expr: Expr) -> set[str]:
    """The names that a bound index of an expression must not take."""
    return {s.name for s in free_symbols(expr)} | bases(expr)


# -- the derivation of a loss ----------------------------------------------------------------------

#: The rule of steps whose ``before`` is a total derivative, through all definitions.
CHAIN_RULE = "chain rule"

#: The rule of steps whose ``before`` is the derivative of one definition.
DIFFERENTIATE = "differentiate"

#: What the rules of steps about one function begin with.
LEMMA = "derivative of"

CONVENTIONS = {
    "max": "At a tie a maximum belongs to its first argument, arguments without parameters first: the derivative of "
    "max(0, a) is the strict indicator 1(a > 0), 0 at a = 0.",
    "min": "At a tie a minimum belongs to its first argument, arguments without parameters first: the derivative of "
    "min(0, a) is the strict indicator 1(a < 0), 0 at a = 0.",
    "abs": "The derivative of |a| is sign(a), 0 at a = 0.",
    "sign": "The derivative of sign(a) is 0 everywhere.",
    "piecewise": "Where pieces meet, the derivative is that of the piece whose condition holds there.",
}


class _Deriver:
    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.steps: list[Step] = []

    def run(self) -> Derivation:
        form = read(self.loss)
        original = form.with_definitions(tidy_definition(d) for d in form.definitions)
        self.check_parameters(form)
        form = self.prepared(form)
        chain = _Chain(form, form.parameters, "batch")
        adjoints = chain.run(form.definitions[:-1], form.value.rhs, ())
        examples, example_steps = self.examples(form)
        self.steps += [*example_steps, *chain.steps]
        adjoints = [tidy_definition(d) for d in adjoints]
        gradients = {}
        for symbol, parameter in zip(self.loss.wrt, form.parameters, strict=True):
            gradients[symbol] = next(d.rhs for d in adjoints if d.name == gradient_name(parameter.name))
        return Derivation(
            loss=self.loss,
            form=original,
            definitions=tuple(tidy_definition(d) for d in form.definitions),
            adjoints=tuple(adjoints),
            gradients=gradients,
            example_gradients=examples,
            raw_steps=tuple(self.steps),
            conventions=tuple(CONVENTIONS[c] for c in CONVENTIONS if c in chain.conventions),
            ranges=form.ranges,
        )

    def check_parameters(self, form: Form) -> None:
        for parameter in form.parameters:
            if parameter.labels is not None:
                raise StatementError(
                    f"loss '{form.name}', `wrt`: `{parameter.name}` holds labels, integers; there is no derivative "
                    "with respect to it. Move it to `data`"
                )

    def prepared(self, form: Form) -> Form:
        """The form with deltas contracted, exponentials kept in range, and inner sums named."""
        definitions = []
        for d in form.definitions:
            rhs = simplify_sums(d.rhs, form)
            self.restate("delta contraction", d, rhs)
            definitions.append(Definition(d.name, d.indices, rhs, d.sizes))
        form = form.with_definitions(definitions)
        definitions = []
        for rule, before, after in stabilise(form):
            if rule:
                self.restate(rule, before, after[-1].rhs)
            definitions.extend(after)
        form = form.with_definitions(definitions)
        named = name_sums(form)
        old = {d.name: d for d in form.definitions}
        for d in named.definitions:
            if d.name in old:
                self.restate("name a sum", d, d.rhs, before=old[d.name].rhs)
        return confined(named)

    def restate(self, rule: str, d: Definition, after: Expr, before: Expr | None = None) -> None:
        before = d.rhs if before is None else before
        if before != after:
            self.steps.append(
                Step(rule, d.lhs, before, after, "statement", tuple(zip(d.indices, d.sizes, strict=True)))
            )

    # -- one example -------------------------------------------------------------------------------

    def examples(self, form: Form) -> tuple[tuple[ExampleGradient, ...], list[Step]]:
        """Where the value is c * sum over i of f_i plus terms without data: the gradient of f_i."""
        found = self.example(form)
        if found is None:
            return (), []
        index, size, example = found
        chain = _Chain(form, form.parameters, "example")
        adjoints = chain.run(form.definitions[:-1], example, ((index, size),))
        table = {d.name: d for d in adjoints}
        gradients = []
        for parameter in form.parameters:
            definition = table[gradient_name(parameter.name)]
            if definition.rhs == 0 or len(adjoints) - len(form.parameters) > 3:
                continue
            value = self.expanded(definition.rhs, [d for d in adjoints if d is not definition], form)
            element = Partial(example, Definition(parameter.name, definition.indices, S.Zero).lhs)
            free = ((index, size), *zip(definition.indices, parameter.shape, strict=True))
            chain.note(CHAIN_RULE, element, element, value, free)
            spelled = self.expanded(value, list(form.definitions[:-1]), form, forward=True)
            if spelled != value and spelled.count_ops() < 120:
                chain.note("substitute definitions", element, value, spelled, free)
                value = spelled
            value = tidy(value, names_in(value) | {s[0].name for s in free})
            cases = tuple(self.cases(value, definition.indices, index, example, parameter.name))
            if len(cases) == 2:
                # The condition of the first case splits the indices: j = y_i from j != y_i.
                equal, unequal = cases
                split = Where(equal.condition, equal.value, unequal.value)
                rule = "split the index equal to the label from the others"
                chain.steps.append(Step(rule, element, value, split, "example", free))
            gradients.append(tidy_example(ExampleGradient(parameter.name, example, element, value, cases), free))
        return tuple(gradients), chain.steps

    def example(self, form: Form) -> tuple[Symbol, Expr, Expr] | None:
        data = {v.name for v in form.data}
        for d in form.definitions[:-1]:
            if bases(d.rhs) & data:
                data.add(d.name)
        for part in Add.make_args(form.value.rhs):
            rest, inner = part.as_independent(Sum, as_Add=False)
            if isinstance(inner, Sum) and not rest.atoms(Indexed) and bases(inner) & data:
                # The index of examples is the one that runs over the first axis of the data.
                given = {v.name for v in form.data}
                for names in (given, data):
                    first = {a.indices[0] for a in inner.atoms(Indexed) if str(a.base.label) in names}
                    limits = [lim for lim in inner.limits if lim[0] in first and lim[1] == 0]
                    if limits:
                        break
                if not limits:
                    return None
                index, lo, hi = limits[0]
                others = [lim for lim in inner.limits if lim[0] != index]
                if any(index in free_symbols(lim[1]) | free_symbols(lim[2]) for lim in others):
                    return None
                body = sum_over(inner.function, *others)
                fixed = form.index(index, lo, hi)
                return fixed, expand(hi + 1), freshen(substitute(body, {index: fixed}), form)
        return None

    def expanded(self, expr: Expr, definitions: list[Definition], form: Form, forward: bool = False) -> Expr:
        """References to definitions replaced by what defines them, and the deltas that appear contracted."""
        for d in reversed(definitions):
            name = d.name
            mapping = {}
            for use in sorted(expr.atoms(Indexed, Symbol), key=str):
                label = str(use.base.label) if isinstance(use, Indexed) else use.name
                if label == name and (isinstance(use, Indexed) or not d.indices):
                    source = opened(d, form)
                    indices = use.indices if isinstance(use, Indexed) else ()
                    mapping[use] = substitute(source.rhs, dict(zip(source.indices, indices, strict=True)))
            if not mapping:
                continue
            expr = freshen(substitute(expr, mapping), form)
            if not forward:
                parts = [contract(t, form) for t in terms(expr)]
                expr = assemble(t for t in parts if t is not None)
        return expr

    def cases(self, value: Expr, indices: tuple[Symbol, ...], row: Symbol, example: Expr, name: str) -> Iterable[Case]:
        """Split by whether an index of the gradient equals a label: j = y_i from j != y_i."""
        pairs: dict[tuple[Symbol, Expr], None] = {}
        for c in sorted(value.atoms(Eq, Ne), key=str):
            for a, b in (c.args, c.args[::-1]):
                if a in indices and isinstance(b, Indexed) and free_symbols(b) <= {row}:
                    pairs[a, b] = None
        if len(pairs) != 1:
            return
        ((index, label),) = pairs
        for holds in (True, False):
            truth = {
                c: S.true if holds == isinstance(c, Eq) else S.false
                for c in value.atoms(Eq, Ne)
                if set(c.args) == {index, label}
            }
            result = assume(value, truth)
            if holds:
                result = substitute(result, {index: label})
            at = tuple(label if holds and i == index else i for i in indices)
            element = Indexed(IndexedBase(Symbol(name, real=True)), *at)
            yield Case(Eq(index, label) if holds else Ne(index, label), Partial(example, element), result)


def assume(expr: Any, truth: dict[Any, Any]) -> Any:
    """The expression where some conditions are known to hold or not."""
    if expr in truth:
        return truth[expr]
    if not expr.args or isinstance(expr, Indexed):
        return expr
    args = tuple(assume(a, truth) for a in expr.args)
    if isinstance(expr, Where):
        if args[0] == True:  # noqa: E712 - SymPy's true
            return args[1]
        if args[0] == False:  # noqa: E712
            return args[2]
    return rebuild(expr, args)


def tidy_step(step: Step) -> Step:
    """A step with the indices a reader expects."""
    whole = [step.target, step.before, step.after]
    free = [i for i, _ in step.indices]
    taken = set().union(*(names_in(e) for e in whole)) - {i.name for i in free}
    renamed = least_names(free, taken)
    taken |= {i.name for i in renamed.values()}
    target, before, after = (tidy_inner(e, renamed, taken) for e in whole)
    indices = tuple((renamed[i], n) for i, n in step.indices)
    return Step(step.rule, target, before, after, step.section, indices)


def tidy_example(gradient: ExampleGradient, free: tuple[tuple[Symbol, Expr], ...]) -> ExampleGradient:
    whole = [gradient.example, gradient.target, gradient.value, *(c.value for c in gradient.cases)]
    indices = [i for i, _ in free]
    taken = set().union(*(names_in(e) for e in whole)) - {i.name for i in indices}
    renamed = least_names(indices, taken)
    taken |= {i.name for i in renamed.values()}

    def neat(e: Any) -> Any:
        return tidy_inner(e, renamed, taken)

    cases = tuple(Case(substitute(c.condition, renamed), neat(c.target), neat(c.value)) for c in gradient.cases)
    return ExampleGradient(
        gradient.parameter, neat(gradient.example), neat(gradient.target), neat(gradient.value), cases
    )


def least_names(indices: list[Symbol], taken: set[str]) -> dict[Any, Any]:
    """Each index with its letter and as few primes as keep the names apart."""
    taken = set(taken)
    renamed: dict[Any, Any] = {}
    for i in indices:
        name = letter(i)
        while name in taken:
            name += "'"
        taken.add(name)
        renamed[i] = Symbol(name, integer=True)
    return renamed
