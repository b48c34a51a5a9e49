"""What stands between a statement and its files: every step of a derivation is checked, then the code.

A step says that two expressions are equal. Sizes are made concrete and small, entries exact rationals, and both sides
are evaluated by ``derive.evaluate``, which shares nothing with the rules that made the step; the two must be equal,
exactly. Where there is an exponential or a root, which leave the rationals, both are computed to 50 digits and must
agree to 40. Two sets of entries are tried: scattered ones, and small integers, among which ties abound.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import mpmath
from sympy import Abs, Expr, Function, Indexed, Integer, NumberSymbol, Pow, Symbol, ceiling, floor, sign

from derive.arithmetic import EXACT, Arithmetic, digits
from derive.differentiate import CHAIN_RULE, LEMMA, Derivation, Step, differentiate
from derive.errors import VerificationError
from derive.evaluate import Scope, Table, evaluate, evaluate_loss, loss_scope, reference_gradient
from derive.notation import LogSumExp, Partial, Sigmoid, Softplus, bases, substitute
from derive.statement import Definition, Form, Loss, Variable

if TYPE_CHECKING:
    from derive.render import Target

__all__ = ["Verification", "tally", "verify", "verify_derivation"]

DIGITS = 50
AGREE = 40


@dataclass(frozen=True)
class Verification:
    """What was verified of a statement.

    Attributes
    ----------
    steps_exact, steps_numeric : int
        Steps that hold exactly in rational arithmetic, and steps compared to ``digits`` digits.
    digits : int
    sizes : dict
        The sizes at which steps were evaluated.
    code : str
        What was verified of the generated code, in words.
    rules_exact, rules_numeric : dict
        How many of those steps each rule made, by its name, in the order of the derivation.
    """

    name: str
    steps_exact: int
    steps_numeric: int
    digits: int
    sizes: dict[str, int]
    code: str = ""
    rules_exact: dict[str, int] = field(default_factory=dict)
    rules_numeric: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        sizes = ", ".join(f"{n} = {v}" for n, v in self.sizes.items())
        numeric = f", {self.steps_numeric} to {self.digits} digits" if self.steps_numeric else ""
        at = f" at {sizes}" if sizes else ""
        return f"{self.name}: {self.steps_exact} steps hold exactly{numeric}{at}{'; ' + self.code if self.code else ''}"


def verify(statement: Any, *, target: Target = "numpy") -> Any:
    """Check every step of a derivation, or every claim of a rule, and the code generated for a target.

    Raises
    ------
    VerificationError
        Naming the rule, the claim or the function that is wrong.
    """
    from derive.render import compile

    if not isinstance(statement, Loss):
        from derive.rule_check import verify_rule

        return verify_rule(statement, compile(statement, target=target))
    from derive.verify_code import verify_code

    steps = verify_derivation(differentiate(statement))
    return replace(steps, code=verify_code(statement, compile(statement, target=target)))


def verify_derivation(derivation: Derivation) -> Verification:
    """Check every step of a derivation."""
    form = derivation.form
    sizes = concrete_sizes(form)
    exact = stays_rational(derivation)
    evaluated = dict.fromkeys(range(len(derivation.steps)), 0)
    for entries in (scattered, tied):
        values = within_domain(form, sizes, entries)
        checks = {
            kind: _Check(derivation, values, EXACT if kind else digits(DIGITS), entries is tied) for kind in set(exact)
        }
        for number, (step, kind) in enumerate(zip(derivation.steps, exact, strict=True)):
            evaluated[number] += checks[kind].step(step)
    for number, step in enumerate(derivation.steps):
        if not evaluated[number]:
            raise VerificationError(
                f"loss '{form.name}': the rule '{step.rule}' could not be checked about {step.target}: neither side "
                "has a value at any of the entries that were tried"
            )
    return tally(derivation)


def tally(derivation: Derivation) -> Verification:
    """What ``verify_derivation`` says when it is through: how each step is compared can be read from its formulas.

    A report tells it without evaluating the steps over again.
    """
    exact = stays_rational(derivation)
    held = [step.rule for step, kind in zip(derivation.raw_steps, exact, strict=True) if kind]
    agreed = [step.rule for step, kind in zip(derivation.raw_steps, exact, strict=True) if not kind]
    return Verification(
        derivation.form.name,
        len(held),
        len(agreed),
        AGREE,
        {s.name: n for s, n in concrete_sizes(derivation.form).items()},
        rules_exact=dict(Counter(held)),
        rules_numeric=dict(Counter(agreed)),
    )


def stays_rational(derivation: Derivation) -> list[bool]:
    """For each step, whether rational entries give both of its sides rational values."""
    quantities = (*derivation.definitions, *derivation.adjoints)
    if any(d.rhs.has(NumberSymbol) for d in quantities):
        return [False] * len(derivation.raw_steps)
    irrational: set[str] = set()
    for d in quantities:
        if _leaves_rationals(d.rhs) or bases(d.rhs) & irrational:
            irrational.add(d.name)
    return [
        not any(_leaves_rationals(side) or bases(side) & irrational for side in (step.before, step.after))
        for step in derivation.raw_steps
    ]


@lru_cache(maxsize=20_000)
def _leaves_rationals(expr: Expr) -> bool:
    """Whether there is a function in an expression whose values at rational numbers need not be rational."""
    if isinstance(expr, Pow):
        irrational = not expr.exp.is_integer
    else:
        irrational = isinstance(expr, _IRRATIONAL) and not isinstance(expr, _RATIONAL)
    return irrational or any(map(_leaves_rationals, expr.args))


_IRRATIONAL = (NumberSymbol, LogSumExp, Sigmoid, Softplus, Function)
_RATIONAL = (Abs, sign, floor, ceiling)


# -- concrete statements ---------------------------------------------------------------------------


def concrete_sizes(form: Form) -> dict[Symbol, int]:
    """Small sizes for which every index has a value and every requirement holds."""
    names = list(form.sizes)
    extents = [hi - lo for lo, hi in form.ranges.values()]
    extents += [n - 1 for v in form.arguments for n in v.shape] + [-excess for excess, _ in form.requirements]
    extents = [e for e in dict.fromkeys(extents) if e.free_symbols and e.free_symbols <= set(names)]
    for base in range(2, 7):
        sizes = {s: base + k % 2 for k, s in enumerate(names)}
        if all(e.subs(sizes) >= 0 for e in extents):
            return sizes
    return sizes


def scattered(rng: random.Random) -> Fraction:
    return Fraction(rng.randint(1, 60) * rng.choice((-1, 1)), rng.choice((7, 11, 13)))


def tied(rng: random.Random) -> Fraction:
    return Fraction(rng.choice((-1, 1, 1, 2)))


def positive(rng: random.Random) -> Fraction:
    return Fraction(rng.randint(1, 60), rng.choice((61, 67)))


def within_domain(form: Form, sizes: dict[Symbol, int], entries: Any) -> dict[str, Any]:
    """Entries at which the loss has a value: where logarithms or roots refuse the usual ones, some between 0 and 1."""
    for choice in (entries, positive):
        values = inputs(form, sizes, choice)
        try:
            evaluate_loss(form, values, arithmetic=digits(20))
        except (ArithmeticError, ValueError):
            continue
        return values
    raise VerificationError(f"loss '{form.name}': no entries were found at which it has a value")


def inputs(form: Form, sizes: dict[Symbol, int], entries: Any) -> dict[str, Any]:
    """Entries for every argument, hyperparameter and size of a statement, by name."""
    rng = random.Random(form.name)
    values: dict[str, Any] = {s.name: n for s, n in sizes.items()}
    whole = {s.name for d in form.definitions for s in d.rhs.free_symbols if s.is_integer}
    for name, _ in form.hyperparameters:
        values[name] = 2 if name in whole else abs(entries(rng)) + (0 if entries is tied else Fraction(1, 3))
    for v in form.arguments:
        values[v.name] = nested(
            v, form, values, lambda v=v: label(v, values, rng) if v.labels is not None else entries(rng)
        )
    return values


def label(v: Variable, values: dict[str, Any], rng: random.Random) -> int:
    bounds = [(count(lo, values), count(hi, values)) for lo, hi in v.labels or ()] or [(0, 1)]
    return rng.randint(max(lo for lo, _ in bounds), min(hi for _, hi in bounds))


def nested(v: Variable, form: Form, values: dict[str, Any], draw: Any) -> Any:
    def level(sizes: tuple[Expr, ...]) -> Any:
        return [level(sizes[1:]) for _ in range(count(sizes[0], values))] if sizes else draw()

    return level(v.shape)


def count(size: Expr, values: dict[str, Any]) -> int:
    return int(size.subs({s: values[s.name] for s in size.free_symbols}))


# -- one step --------------------------------------------------------------------------------------


#: What arithmetic raises outside the domain of a logarithm, a root or a quotient.
_NO_VALUE = (ValueError, ZeroDivisionError, OverflowError)


class _Check:
    """Evaluates both sides of steps, with all quantities of the derivation at hand."""

    def __init__(self, derivation: Derivation, values: dict[str, Any], arithmetic: Arithmetic, ties: bool) -> None:
        self.derivation = derivation
        self.values = values
        self.ties = ties
        self.arithmetic = arithmetic
        self.parameters = [p.name for p in derivation.form.parameters]
        everything = SimpleNamespace(
            definitions=(*derivation.definitions, *derivation.adjoints), parameters=[Symbol(n) for n in self.parameters]
        )
        self.tables: Scope = loss_scope(everything, values, arithmetic=arithmetic)
        self.varying = set(self.parameters)
        for d in everything.definitions:
            if bases(d.rhs) & self.varying:
                self.varying.add(d.name)
        self.rng = random.Random(0)
        self.references: dict[Any, dict[tuple[int, ...], Any]] = {}

    def step(self, step: Step) -> int:
        """Compare both sides at every value of the indices; how often they had a value."""
        self.provide(step)
        done = 0
        names = [i for i, _ in step.indices]
        for position in product(*(range(count(n, self.values)) for _, n in step.indices)):
            at = dict(zip(names, position, strict=True))
            try:
                before = self.total(step, at) if step.rule == CHAIN_RULE else self.value(step.before, at)
                after = self.value(step.after, at)
            except _NO_VALUE:
                continue
            done += 1
            if not self.equal(before, after):
                where = ", ".join(f"{i} = {k}" for i, k in at.items())
                raise VerificationError(
                    f"loss '{self.derivation.form.name}': the rule '{step.rule}' is wrong about {step.target}"
                    f"{' at ' + where if where else ''}.\n"
                    f"  before: {step.before} = {before}\n  after:  {step.after} = {after}"
                )

        return done

    def value(self, expr: Expr, at: dict[Any, int]) -> Any:
        return evaluate(expr, self.tables, at, arithmetic=self.arithmetic, varying=self.varying)

    def equal(self, a: Any, b: Any) -> bool:
        if self.arithmetic is EXACT:
            return bool(a == b)
        scale = max(abs(a), abs(b), 1)
        return bool(abs(a - b) <= mpmath.mpf(10) ** (-AGREE) * scale)

    def total(self, step: Step, at: dict[Any, int]) -> Any:
        """A derivative through all definitions, of the value or of the loss of one example."""
        target = step.target
        assert isinstance(target, Partial)
        example, element = target.args
        fixed = {s: Integer(k) for s, k in at.items()}
        value = substitute(example, fixed)
        name = str(element.base.label) if isinstance(element, Indexed) else element.name
        key = (value, name)
        if key not in self.references:
            form = self.derivation.form
            forward = self.derivation.definitions
            if example != form.value.lhs:
                forward = (*forward[:-1], Definition(form.value.name, (), value))
            stand_in = SimpleNamespace(definitions=forward, parameters=[Symbol(n) for n in self.parameters])
            self.references[key] = reference_gradient(stand_in, self.values, name, arithmetic=self.arithmetic)
        indices = element.indices if isinstance(element, Indexed) else ()
        return self.references[key][tuple(int(substitute(i, fixed)) for i in indices)]

    def provide(self, step: Step) -> None:
        """Adjoints that a step mentions and that have no equation here: the step holds whatever their values."""
        if step.rule.startswith(LEMMA):
            # A derivative of one function: its arguments are any numbers, equal ones among them.
            for number, symbol in enumerate(sorted(step.before.free_symbols, key=str)):
                value = self.arithmetic.number(Fraction(0 if self.ties else number + 1, 3))
                self.tables[symbol.name] = Table(symbol.name, {(): value})
                self.varying.add(symbol.name)
        for name, shape in self.missing(step):
            entries = {
                key: self.arithmetic.number(Fraction(self.rng.randint(-9, 9), 5))
                for key in product(*(range(n) for n in shape))
            }
            self.tables[name] = Table(name, entries)

    def missing(self, step: Step) -> Iterator[tuple[str, tuple[int, ...]]]:
        shapes = {f"grad_{d.name}": d.sizes for d in self.derivation.definitions}
        for expr in (step.before, step.after):
            for name in sorted({str(a.base.label) for a in expr.atoms(Indexed)} | {s.name for s in expr.atoms(Symbol)}):
                if name in shapes and name not in self.tables:
                    yield name, tuple(count(n, self.values) for n in shapes[name])
