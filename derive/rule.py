"""Update rules as a person states them, and the reading of a statement into equations the rest can trust.

An optimizer is stated element by element, in the letters of the blackboard: ``x`` is a parameter, ``g`` the gradient,
``t`` the number of the step (1 at the first), and ``new(v)`` the value of ``v`` after the step, written v'.

>>> from sympy import Eq, sign, symbols
>>> m = symbols("m", real=True)
>>> beta1, beta2, weight_decay = symbols("beta1 beta2 weight_decay", positive=True)
>>> lion = UpdateRule(
...     "lion",
...     state={m: "first_moment"},
...     equations=[
...         Eq(new(x), x - learning_rate * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * x)),
...         Eq(new(m), beta2 * m + (1 - beta2) * g),
...     ],
...     defaults={learning_rate: 1e-4, beta1: 0.9, beta2: 0.99, weight_decay: 0.0},
...     sources="Chen et al. (2023), arXiv:2302.06675",
... )
>>> print(lion)  # doctest: +ELLIPSIS
lion
<BLANKLINE>
State   m = first_moment, starts at 0
<BLANKLINE>
A step
  (1)  x' = x - learning_rate*(weight_decay*x + sign(beta1*m + (1 - beta1)*g))
  (2)  m' = beta2*m + (1 - beta2)*g
<BLANKLINE>
Defaults
  learning_rate = 0.0001, beta1 = 0.9, beta2 = 0.99, weight_decay = 0.0
    Chen et al. (2023), arXiv:2302.06675

Where an update is the solution of a problem, state the problem: :class:`Minimise` stands among the equations, SymPy
solves it, and what it finds is the equation that is printed, proved things about, and run.

>>> gradient_step = UpdateRule(
...     "gradient_step",
...     equations=[Minimise(g * (new(x) - x) + (new(x) - x) ** 2 / (2 * learning_rate), over=new(x))],
... )
>>> gradient_step.equations[0].rhs
-g*learning_rate + x
"""

from __future__ import annotations

import keyword
import math
import numbers
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sympy
from sympy import (
    Abs,
    Add,
    And,
    Basic,
    Eq,
    Expr,
    Max,
    Min,
    Mul,
    Not,
    NumberSymbol,
    Or,
    Piecewise,
    Pow,
    Rational,
    S,
    Symbol,
    acos,
    asin,
    atan,
    cos,
    cosh,
    exp,
    expand,
    log,
    sign,
    sin,
    sinh,
    sympify,
    tan,
    tanh,
)
from sympy.core.relational import Relational

from derive.claims import Claim, Proof, prove
from derive.elementwise import TEXT, Ordering, tree, written
from derive.errors import StatementError

__all__ = ["Hyperparameter", "Minimise", "Problem", "State", "UpdateRule", "g", "learning_rate", "new", "t", "x"]

#: A parameter, the gradient with respect to it, the number of the step.
x, g = sympy.symbols("x g", real=True)
t = Symbol("t", integer=True, positive=True)
learning_rate = Symbol("learning_rate", positive=True)

_ELEMENTWISE = (exp, log, sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, Abs, sign, Max, Min)
_PLAIN = (Symbol, Rational, NumberSymbol, Add, Mul, Pow, Piecewise, Relational, And, Or, Not, *_ELEMENTWISE)
_ACCEPTED = (
    "sums, products, powers, sqrt, exp, log, tanh, sin, cos, Abs, sign, Max, Min and Piecewise of x, g, t, state, "
    "hyperparameters and quantities named before"
)
#: Names that mean something else in the generated module.
_TAKEN = frozenset({"params", "grad", "state", "State", "init", "update", "step", "lookahead", "np", "math"})


def new(quantity: Symbol) -> Symbol:
    """The value of a parameter or a state after the step, written with a prime.

    >>> new(x)
    x'
    """
    if not isinstance(quantity, Symbol) or "'" in quantity.name:
        raise StatementError(f"new({quantity}): only a state or x has a new value; it is written once, as new(x)")
    return Symbol(f"{quantity.name}'", **quantity._assumptions_orig)


@dataclass(frozen=True)
class Minimise:
    """The quantity ``over`` takes the value that minimises ``objective``.

    For one element of the parameters: the objective of the whole is the sum over elements, so each has its own problem.
    """

    objective: Any
    over: Symbol


@dataclass(frozen=True)
class Problem:
    """A problem, solved.

    Attributes
    ----------
    unknown : Symbol
    objective : Expr
    stationarity : Eq
        The derivative of the objective is 0.
    curvature : Expr
        Its second derivative, which is positive: what is stationary is the minimum, and the only one.
    solution : Eq
        ``Eq(unknown, ...)``: the update equation.
    """

    unknown: Symbol
    objective: Expr
    stationarity: Eq
    curvature: Expr
    solution: Eq


@dataclass(frozen=True)
class State:
    """An array that is kept from step to step: its letter, its name in code, and its value before the first step."""

    symbol: Symbol
    name: str
    start: Expr


@dataclass(frozen=True)
class Hyperparameter:
    """A scalar that the user sets, with its default (or None: it must be given) and where that comes from."""

    symbol: Symbol
    default: float | None
    source: str

    @property
    def name(self) -> str:
        return str(self.symbol.name)


class UpdateRule:
    """A rule that updates parameters by gradients.

    Parameters
    ----------
    name : str
        What the generated module is called; a Python identifier.
    equations : sequence of Eq or Minimise
        In the order in which they are computed. ``Eq(new(v), ...)`` gives a state or ``x`` its new value,
        ``Eq(m_hat, ...)`` names an intermediate quantity, ``Minimise(..., over=new(x))`` lets SymPy find the
        equation. ``v`` on the right is the value before the step, ``new(v)`` the value after it.
    state : sequence of Symbol, or mapping of Symbol to str
        What is kept between steps, one array of the shape of the parameters each; a mapping gives names for the code
        to letters of the blackboard. The number of the step ``t`` is kept where an equation uses it.
    start : mapping of Symbol to number or x
        Values of the state before the first step, where they are not 0.
    defaults : mapping of Symbol to number
        Default values. A symbol that is nothing else is a hyperparameter; without a default it must be given.
    sources : str, or mapping of Symbol to str
        Where the defaults come from.
    gradient_at : Expr
        Where the gradient is to be taken, when that is not at ``x``. The module then has a function ``lookahead``.
    claims : sequence of Claim, or function of the rule that gives one
        What is claimed of the rule, proved at each build (see :mod:`derive.claims`).
    about : str
        A sentence or two on the rule.
    conventions : sequence of str
        Choices in which implementations differ, and how this one chooses.
    meanings : mapping of Symbol to str
        What letters stand for, in words.

    Raises
    ------
    StatementError
        When the statement is not understood: the message names the rule, the equation and the part of it.
    """

    def __init__(
        self,
        name: str,
        equations: Sequence[Any],
        *,
        state: Iterable[Symbol] | Mapping[Symbol, str] = (),
        start: Mapping[Symbol, Any] | None = None,
        defaults: Mapping[Symbol, Any] | None = None,
        sources: str | Mapping[Symbol, str] = "",
        gradient_at: Any = None,
        claims: Iterable[Claim] | Callable[[UpdateRule], Iterable[Claim]] = (),
        about: str = "",
        conventions: Sequence[str] = (),
        meanings: Mapping[Symbol, str] | None = None,
    ) -> None:
        self.name = name
        self.about = about
        self.conventions = tuple(conventions)
        self.meanings = {str(k): v for k, v in (meanings or {}).items()}
        self._claims = claims if callable(claims) else tuple(claims)
        reader = _Reader(name, state, start or {}, defaults or {}, sources)
        reader.read(equations, gradient_at)
        self.state: tuple[State, ...] = tuple(reader.state.values())
        self.equations: tuple[Eq, ...] = tuple(reader.equations)
        self.problems: tuple[Problem, ...] = tuple(reader.problems)
        self.gradient_at: Expr = reader.gradient_at
        self.hyperparameters: tuple[Hyperparameter, ...] = tuple(reader.hyperparameters())
        self.counts_steps: bool = reader.counts_steps
        self.start: dict[Symbol, Expr] = {s.symbol: s.start for s in self.state}

    # -- what claims and reports read --------------------------------------------------------------

    @cached_property
    def updates(self) -> dict[Symbol, Expr]:
        """The new value of each state and of ``x`` in terms of old values, g, t and hyperparameters alone."""
        known: dict[Symbol, Expr] = {}
        for equation in self.equations:
            known[equation.lhs] = equation.rhs.xreplace(known)
        return {q: known[new(q)] for q in (*self.start, x)}

    @property
    def step(self) -> Expr:
        """How far x moves: x' - x in terms of old values."""
        return self.updates[x] - x

    @property
    def definitions(self) -> dict[Symbol, Expr]:
        """What each equation defines, the last first: put in one after the other, they lead back to old values."""
        return {e.lhs: e.rhs for e in reversed(self.equations)}

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """What is claimed of the rule, in order; not proved yet."""
        return tuple(self._claims(self) if callable(self._claims) else self._claims)

    @cached_property
    def proofs(self) -> tuple[Proof, ...]:
        """The claims with their proofs; VerificationError when one is not proved."""
        return prove(self.claims, owner=self.name)

    @cached_property
    def ordering(self) -> Ordering:
        """The order in which a person writes the terms and factors of this rule."""
        letters = [s.symbol for s in self.state]
        names = [e.lhs for e in self.equations if e.lhs not in {new(q) for q in (*letters, x)}]
        arrays = (x, *letters, *(new(q) for q in letters), *names, new(x), g)
        return Ordering(arrays=arrays, scalars=(*(h.symbol for h in self.hyperparameters), t))

    @cached_property
    def problem_ordering(self) -> Ordering:
        """The order for objectives: the slope before the step, the new value before the old."""
        arrays = self.ordering.arrays
        unknowns = [p.unknown for p in self.problems]
        old = [a for a in arrays if a in self.updates and new(a) in unknowns]
        rest = [a for a in arrays if a not in unknowns and a not in old and a != g]
        return Ordering(arrays=(g, *rest, *unknowns, *old), scalars=self.ordering.scalars)

    @property
    def shows_gradient_point(self) -> bool:
        """Whether the gradient is taken somewhere else than at x."""
        return self.gradient_at != x

    # -- text --------------------------------------------------------------------------------------

    def text(self, expr: Basic, ordering: Ordering | None = None) -> str:
        """An expression or equation of this rule on one line, its terms in the order in which a person writes them."""
        if isinstance(expr, Eq):
            return f"{self.text(expr.lhs, ordering)} = {self.text(expr.rhs, ordering)}"
        return written(tree(expr, ordering or self.ordering), TEXT)

    def defaults_by_source(self) -> list[tuple[str, list[Hyperparameter]]]:
        """Hyperparameters that have a default, grouped by where it comes from, in order."""
        groups: dict[str, list[Hyperparameter]] = {}
        for h in self.hyperparameters:
            if h.default is not None:
                groups.setdefault(h.source, []).append(h)
        return list(groups.items())

    def __repr__(self) -> str:
        return f"UpdateRule({self.name!r}, {', '.join(self.text(e) for e in self.equations)})"

    def _repr_latex_(self) -> str:
        from derive.latex import rule_latex

        return rule_latex(self)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        lines = [self.name]
        if self.about:
            lines += ["", *textwrap.wrap(self.about, 79)]
        kept = [f"{s.symbol} = {s.name}, starts at {s.start}" for s in self.state]
        if self.counts_steps:
            kept.append("t, the number of the step, 1 at the first")
        lines += [""] if kept else []
        lines += [f"{'State' if n == 0 else '':8}{k}" for n, k in enumerate(kept)]
        lines += ["", "A step"]
        if self.shows_gradient_point:
            lines.append(f"       g is the gradient at {self.text(self.gradient_at)}")
        problems = {p.unknown: p for p in self.problems}
        for number, equation in enumerate(self.equations, start=1):
            problem = problems.get(equation.lhs)
            label = f"  ({number})  "
            if problem is not None:
                lines += _wrapped(
                    f"{label}{problem.unknown} minimises ", self.text(problem.objective, self.problem_ordering)
                )
                lines += _wrapped("       so ", self.text(problem.stationarity, self.problem_ordering))
                label = "       and "
            lines += _wrapped(label, self.text(equation))
        for number, (source, group) in enumerate(self.defaults_by_source()):
            lines += ["", "Defaults"] if number == 0 else []
            lines += _wrapped("  ", ", ".join(f"{h.name} = {h.default!r}" for h in group))
            lines += _wrapped("    ", source) if source else []
        if self.conventions:
            lines += ["", "Conventions"]
            for convention in self.conventions:
                lines += _wrapped("  ", convention)
        if self.claims:
            lines += ["", "Proved"]
            for number, claim in enumerate(self.claims, start=1):
                lines += _wrapped(f"  {number}. ", claim.title)
                for line in claim.statement:
                    lines += _wrapped("       ", str(line))
        return lines


def _wrapped(label: str, words: str) -> list[str]:
    """Lines of at most 79 characters, not broken inside parentheses if they can be broken elsewhere."""
    depth, held = 0, ""
    for character in words:
        depth += (character == "(") - (character == ")")
        held += "\0" if character == " " and depth > 0 else character
    lines = textwrap.wrap(
        held, 79, initial_indent=label, subsequent_indent=" " * (len(label) + 2), break_long_words=False
    )
    if any(len(line) > 79 for line in lines):
        lines = textwrap.wrap(
            words, 79, initial_indent=label, subsequent_indent=" " * (len(label) + 2), break_long_words=False
        )
    return [line.replace("\0", " ") for line in lines]


class _Reader:
    """Reads one statement; its attributes are what it has understood so far."""

    def __init__(
        self,
        name: str,
        state: Iterable[Symbol] | Mapping[Symbol, str],
        start: Mapping[Symbol, Any],
        defaults: Mapping[Symbol, Any],
        sources: str | Mapping[Symbol, str],
    ) -> None:
        self.rule = name
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise StatementError(f"update rule {name!r}: the name must be a Python identifier")
        self.equations: list[Eq] = []
        self.problems: list[Problem] = []
        self.gradient_at: Expr = x
        self.counts_steps = False
        #: Everything that has a meaning so far, by name.
        self.known: dict[str, Symbol] = {"x": x, "g": g, "t": t}
        self.scalars: dict[str, Symbol] = {}
        self.state = {s.symbol: s for s in self.read_state(state, start)}
        self.defaults = {self.letter_of(k, "defaults").name: v for k, v in defaults.items()}
        self.order = list(self.defaults)
        self.sources = (
            sources if isinstance(sources, str) else {self.letter_of(k, "sources").name: v for k, v in sources.items()}
        )
        for key in defaults:
            if key.name in self.known:
                raise self.refuse("defaults", key, "is not a hyperparameter", "only hyperparameters have defaults")
            self.canonical(key)
        if not isinstance(self.sources, str):
            for source in self.sources:
                if source not in self.defaults:
                    raise self.refuse("sources", source, "has no default", "sources say where defaults come from")
        self.used: set[str] = set()

    def refuse(self, place: str, part: Any, fault: str, accepted: str) -> StatementError:
        return StatementError(f"update rule {self.rule!r}, {place}: {part} {fault}; {accepted}")

    # -- letters -----------------------------------------------------------------------------------

    def letter_of(self, thing: Any, place: str) -> Symbol:
        if not isinstance(thing, Symbol):
            raise self.refuse(place, repr(thing), "is not a Symbol", "make letters by sympy.symbols")
        if not thing.is_commutative or thing.is_extended_real is False:
            raise self.refuse(place, thing, "is not a real number", "declare it real or positive, or leave it open")
        return thing

    def canonical(self, symbol: Symbol) -> Symbol:
        """The one real symbol of this name: what is the same letter to the reader is the same to SymPy."""
        name = symbol.name
        if name in self.known:
            return self.known[name]
        if name not in self.scalars:
            self.identifier(name, symbol, "hyperparameters")
            self.scalars[name] = symbol if symbol.is_extended_real else Symbol(name, real=True)
        return self.scalars[name]

    def identifier(self, name: Any, symbol: Symbol, place: str) -> None:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            raise self.refuse(
                place,
                symbol,
                f"would be called {name!r}",
                "a name in code is a Python identifier without a leading underscore",
            )
        if name in _TAKEN:
            raise self.refuse(place, symbol, f"would be called {name!r}", f"{', '.join(sorted(_TAKEN))} are taken")

    def read_state(self, state: Any, start: Mapping[Symbol, Any]) -> list[State]:
        if isinstance(state, Symbol):
            state = [state]
        names = dict(state) if isinstance(state, Mapping) else {s: getattr(s, "name", s) for s in state}
        read, codes = [], {"t", "x", "g"}
        for symbol, code in names.items():
            letter = self.letter_of(symbol, "state")
            if letter.name in self.known:
                raise self.refuse(
                    "state", letter, "has a meaning already", "x, g and t are taken, and each letter once"
                )
            self.identifier(letter.name, letter, "state")
            self.identifier(code, letter, "state")
            if code in codes:
                raise self.refuse("state", letter, f"would be called {code!r}", "each state has a name of its own")
            codes.add(code)
            real = letter if letter.is_extended_real else Symbol(letter.name, real=True)
            self.known[letter.name] = real
            read.append((real, code))
        starts = {self.letter_of(k, "start").name: sympify(v) for k, v in start.items()}
        for key, value in starts.items():
            if key not in {s.name for s, _ in read}:
                raise self.refuse("start", key, "is not a state", "start gives states their first values")
            if value != x and not (value.is_real and value.is_number):
                raise self.refuse("start", value, "is neither a number nor x", "a state starts at a number or at x")
        return [State(s, code, starts.get(s.name, S.Zero)) for s, code in read]

    def hyperparameters(self) -> list[Hyperparameter]:
        found = []
        for name in self.order:
            value = self.defaults.get(name)
            if value is not None:
                if isinstance(value, Expr) and value.is_number and value.is_real:
                    value = float(value)
                if not isinstance(value, numbers.Real) or not math.isfinite(value):
                    raise self.refuse("defaults", f"{name}={value!r}", "is not a finite real number", "give a number")
                value = float(value)
            source = self.sources if isinstance(self.sources, str) else self.sources.get(name, "")
            found.append(Hyperparameter(self.scalars[name], value, source if value is not None else ""))
        return found

    # -- equations ---------------------------------------------------------------------------------

    def read(self, equations: Any, gradient_at: Any) -> None:
        if isinstance(equations, (Basic, Minimise)) or not isinstance(equations, Iterable):
            raise StatementError(f"update rule {self.rule!r}: equations is a list, in the order of computation")
        equations = list(equations)
        later = [_left(e) for e in equations]
        if gradient_at is not None:
            place = "gradient_at"
            self.gradient_at = self.expression(gradient_at, place, forbidden={"g": "is the gradient itself"})
        for number, equation in enumerate(equations, start=1):
            place = f"equation {number}"
            left = _left(equation)
            if left is None:
                raise self.refuse(place, equation, "is no equation", "write Eq(new(v), ...) or Minimise(..., over=...)")
            if isinstance(left, Symbol):
                place += f" ({left})"
            unknown = self.unknown(left, place)
            ahead = {
                s.name: "is used before its equation"
                for s in later[number - 1 :]
                if isinstance(s, Symbol) and s.name not in self.known
            }
            if isinstance(equation, Minimise):
                ahead.pop(unknown.name, None)
                self.known[unknown.name] = unknown
                objective = self.expression(equation.objective, place, ahead)
                problem = self.solve(unknown, objective, place)
                self.problems.append(problem)
                solved = problem.solution
            else:
                solved = Eq(unknown, self.expression(equation.rhs, place, ahead), evaluate=False)
            if not solved.rhs.free_symbols & self.arrays():
                raise self.refuse(place, solved.rhs, "is the same for all elements", "write a scalar where it is used")
            self.known[unknown.name] = unknown
            self.equations.append(solved)
        given = {e.lhs for e in self.equations}
        for quantity in (x, *self.state):
            if new(quantity) not in given:
                raise StatementError(
                    f"update rule {self.rule!r}: no equation gives {quantity} its new value; "
                    f"write Eq(new({quantity}), ...)"
                )
        for name in self.defaults:
            if name not in self.used:
                raise self.refuse("defaults", name, "stands in no equation", "leave it out, or use it")

    def arrays(self) -> set[Symbol]:
        return {s for s in self.known.values() if s != t}

    def unknown(self, left: Any, place: str) -> Symbol:
        if not isinstance(left, Symbol):
            raise self.refuse(place, left, "is no letter", "the left side is new(x), new of a state, or a new name")
        name = left.name
        if name in {e.lhs.name for e in self.equations}:
            raise self.refuse(place, left, "has an equation already", "each quantity has one")
        if name in self.known:
            raise self.refuse(place, left, "is known before the step", f"its new value is new({left})")
        owner = name.removesuffix("'")
        if owner != name:
            if owner not in {"x", *(s.name for s in self.state)}:
                raise self.refuse(place, left, f"is new, but {owner} is no state", f"list {owner} in state")
            return new(self.known[owner])
        if name in self.scalars:
            raise self.refuse(place, left, "is a hyperparameter", "name an intermediate quantity before using it")
        self.identifier(name, left, place)
        if name in {s.name for s in self.state.values()}:
            raise self.refuse(place, left, "is the name of a state in code", "choose another letter")
        return left if left.is_extended_real else Symbol(name, real=True)

    def expression(self, written_: Any, place: str, forbidden: Mapping[str, str]) -> Expr:
        """The expression in canonical letters, every part of it understood."""
        try:
            expr = sympify(written_)
        except (sympy.SympifyError, TypeError) as error:
            raise self.refuse(place, repr(written_), "is no expression", f"accepted are {_ACCEPTED}") from error
        # A decimal stands for itself: 0.9 is 9/10.
        expr = expr.xreplace({f: sympy.nsimplify(f, rational=True) for f in expr.atoms(sympy.Float)})
        self.understood(expr, place, forbidden)
        letters = sorted(expr.free_symbols, key=lambda s: str(s.name))
        mapping = {}
        for letter in letters:
            mapping[letter] = self.canonical(letter)
            self.used.add(letter.name)
            if letter.name in self.scalars and letter.name not in self.order:
                self.order.append(letter.name)
            self.counts_steps |= letter.name == "t"
        return expr.xreplace(mapping)

    def understood(self, part: Basic, place: str, forbidden: Mapping[str, str]) -> None:
        if isinstance(part, Symbol):
            self.letter_of(part, place)
            if part.name in forbidden:
                raise self.refuse(place, part, forbidden[part.name], "mind the order of the equations")
            if "'" in part.name and part.name not in self.known:
                raise self.refuse(place, part, "has no equation before this one", "mind the order of the equations")
            return
        if part in (S.true, S.false):
            return
        if part in (S.NaN, S.ComplexInfinity, S.Infinity, S.NegativeInfinity, S.ImaginaryUnit):
            raise self.refuse(place, part, "is not a real number", f"accepted are {_ACCEPTED}")
        if not isinstance(part, _PLAIN):
            if isinstance(part, sympy.functions.elementary.piecewise.ExprCondPair):
                pass
            else:
                raise self.refuse(
                    place,
                    part,
                    f"({type(part).__name__}) is not understood element by element",
                    f"accepted are {_ACCEPTED}",
                )
        for argument in part.args:
            self.understood(argument, place, forbidden)

    # -- problems ----------------------------------------------------------------------------------

    def solve(self, unknown: Symbol, objective: Expr, place: str) -> Problem:
        """Solve for where the derivative is 0, and see that this is a minimum."""
        if not objective.has(unknown):
            raise self.refuse(place, objective, f"does not depend on {unknown}", "minimise over what is sought")
        slope = objective.diff(unknown)
        curvature = expand(slope.diff(unknown))
        if curvature.has(unknown) or slope.has(sympy.Derivative):
            raise self.refuse(
                place, objective, f"is not quadratic in {unknown}", "give a linear model plus a squared distance"
            )
        if curvature.is_positive is not True:
            raise self.refuse(
                place,
                objective,
                f"has curvature {curvature}, which is not known to be positive",
                "a minimum needs that: declare learning rates and epsilon positive, and squares nonnegative",
            )
        # In terms of the step from the old value the solution is shortest, if the old value does not matter otherwise.
        old = self.known.get(unknown.name.removesuffix("'"))
        base = S.Zero
        if old is not None and old != unknown:
            move = sympy.Dummy("move", real=True)
            moved = slope.subs(unknown, old + move)
            if not expand(moved).has(old):
                base = old
        constant = expand(slope.subs(unknown, base))
        length = sympy.together(sympy.factor_terms(curvature))
        found = -constant / length
        if not length.free_symbols & self.arrays():
            found = expand(found)
        solution = base + found
        if expand(sympy.together(slope.subs(unknown, solution)).as_numer_denom()[0]) != 0:
            raise self.refuse(place, objective, "was not solved", "simplify the objective")
        stationarity = Eq(sympy.factor_terms(slope), 0, evaluate=False)
        return Problem(unknown, objective, stationarity, curvature, Eq(unknown, solution, evaluate=False))


def _left(equation: Any) -> Any:
    if isinstance(equation, Minimise):
        return equation.over
    return equation.lhs if isinstance(equation, Eq) else None
