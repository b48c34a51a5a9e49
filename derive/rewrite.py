"""Rules that rewrite sums, deltas and conditions, and the normal form they work on.

A ``Term`` is a sum over indices of a product under conditions. Contributions to a gradient are lists of terms; the
rules below contract deltas, move factors out of sums, and give bound indices the names a reader expects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sympy import Add, And, Basic, Eq, Expr, Ge, Gt, Le, Max, Mul, Not, Pow, S, Sum, Symbol, expand
from sympy.logic.boolalg import Boolean
from sympy.tensor.indexed import Indexed

from derive.notation import (
    LogSumExp,
    Where,
    bases,
    free_symbols,
    multiply,
    rebuild,
    relation,
    substitute,
    sum_over,
    with_limits,
)
from derive.statement import Definition, Form, at_most, letter

__all__ = [
    "Term",
    "about_indices",
    "absorb",
    "assemble",
    "contract",
    "freshen",
    "opened",
    "restrict",
    "simplify_sums",
    "terms",
    "tidy",
    "tidy_definition",
    "tidy_inner",
    "unfactored",
]


@dataclass(frozen=True)
class Term:
    """The sum over ``limits`` of the product of ``factors``, over those indices for which all ``conditions`` hold."""

    limits: tuple[tuple[Symbol, Expr, Expr], ...]
    conditions: tuple[Boolean, ...]
    factors: tuple[Expr, ...]

    def replace(self, mapping: dict[Basic, Basic], without: Symbol | None = None) -> Term | None:
        """Substitute in conditions and factors; None if a condition became false."""
        conditions: list[Boolean] = []
        for c in self.conditions:
            c = substitute(c, mapping)
            if c == False:  # noqa: E712 - SymPy's false
                return None
            if c != True:  # noqa: E712
                conditions.extend(And.make_args(c))
        return Term(
            tuple(lim for lim in self.limits if lim[0] != without),
            tuple(dict.fromkeys(conditions)),
            tuple(substitute(f, mapping) for f in self.factors),
        )


def terms(expr: Expr, split: bool = False, nested: bool = False) -> list[Term]:
    """An expression as a sum of terms; what is not a sum, a product or a guard stays whole as a factor.

    Under a sum or a guard, an ``Add`` is taken apart only if there are guards or sums in it, or if ``split`` says so.
    """
    if expr == 0:
        return []
    if isinstance(expr, Add):
        if nested and not split and not expr.has(Where, Sum):
            return [Term((), (), (expr,))]
        return [t for a in expr.args for t in terms(a, split, nested)]
    if isinstance(expr, Sum):
        bound = tuple(tuple(lim) for lim in expr.limits)
        return [Term(bound + t.limits, t.conditions, t.factors) for t in terms(expr.function, split, True)]
    if isinstance(expr, Where) and expr.no == 0:
        guards = tuple(And.make_args(expr.condition))
        return [Term(t.limits, guards + t.conditions, t.factors) for t in terms(expr.yes, split, True)]
    if isinstance(expr, Mul):
        plain: list[Expr] = []
        conditions: list[Boolean] = []
        rest: list[Expr] = []
        for f in expr.args:
            if isinstance(f, Where) and f.no == 0:
                conditions.extend(And.make_args(f.condition))
                plain.extend(Mul.make_args(f.yes))
            elif isinstance(f, Sum) or (isinstance(f, Add) and any(isinstance(a, Where) or a.has(Sum) for a in f.args)):
                rest.append(f)
            else:
                plain.append(f)
        if len(rest) == 1:
            return [
                Term(t.limits, tuple(conditions) + t.conditions, tuple(p for p in plain if p != 1) + t.factors)
                for t in terms(rest[0], split, True)
            ]
        return [Term((), tuple(conditions), tuple(p for p in plain if p != 1) + tuple(rest))]
    return [Term((), (), (expr,) if expr != 1 else ())]


def about_indices(condition: Basic) -> bool:
    """Whether a condition compares indices and labels only, no values."""
    if isinstance(condition, Indexed):
        return condition.base.label.is_integer is True
    if isinstance(condition, Symbol):
        return bool(condition.is_integer)
    if condition.is_Function or isinstance(condition, Sum | LogSumExp | Where):
        return False
    return all(about_indices(a) for a in condition.args)


def guard(conditions: Sequence[Boolean], expr: Expr) -> Expr:
    """The expression where all conditions hold, else 0; conditions on indices outside, on values inside."""
    values = [c for c in conditions if not about_indices(c)]
    indices = [c for c in conditions if about_indices(c)]
    for group in (values, indices):
        if group and expr != 0:
            together = And(*group)
            if together == False:  # noqa: E712 - SymPy's false
                return S.Zero
            expr = expr if together == True else Where(together, expr, 0)  # noqa: E712
    return expr


def unfactored(parts: Iterable[Term]) -> Expr:
    """Terms as an expression, all factors where they stand."""
    return Add(*(sum_over(guard(t.conditions, multiply(*t.factors)), *t.limits) for t in parts))


def assemble(parts: Iterable[Term]) -> Expr:
    """Terms as an expression, with factors moved out of sums they do not depend on."""
    return Add(*(_assemble(t) for t in parts))


def _assemble(term: Term) -> Expr:
    bound = {lim[0] for lim in term.limits}

    def inside(e: Basic) -> bool:
        return not bound.isdisjoint(free_symbols(e))

    outer: Expr = multiply(*(f for f in term.factors if not inside(f)))
    inner: Expr = multiply(*(f for f in term.factors if inside(f)))
    within = [c for c in term.conditions if inside(c)]
    used = set().union(*(free_symbols(e) for e in (*within, inner)))
    limits = []
    for index, lo, hi in term.limits:
        if index in used or index in {s for lim in term.limits for e in lim[1:] for s in free_symbols(e)}:
            limits.append((index, lo, hi))
        else:
            outer = multiply(outer, expand(hi - lo + 1))
    # Numbers and sizes read better in front of a guard than under it.
    total = sum_over(guard(within, inner), *limits)
    return guard([c for c in term.conditions if not inside(c)], multiply(outer, total))


def absorb(term: Term) -> Term:
    """max(0, a) is 0 where a > 0 does not hold: an indicator beside it says nothing."""
    kept = []
    for c in term.conditions:
        if isinstance(c, Gt) and c.rhs == 0:
            held = [f.base if isinstance(f, Pow) and f.exp.is_positive else f for f in term.factors]
            if any(isinstance(f, Max) and set(f.args) == {S.Zero, c.lhs} for f in held):
                continue
        kept.append(c)
    return Term(term.limits, tuple(kept), term.factors)


def solve_index(expr: Expr, target: Expr, index: Symbol) -> Expr | None:
    """The index for which expr = target, if expr is index + c or c - index."""
    if isinstance(expr, Symbol):
        return target if expr == index else None
    slope = expr.coeff(index)
    rest = expand(expr - slope * index)
    if slope in (1, -1) and index not in free_symbols(rest) and not rest.atoms(Indexed):
        return expand(slope * (target - rest))
    return None


def contract(term: Term, form: Form) -> Term | None:
    """Delta contraction: the sum over i of 1(i = e) f(i) is f(e), where e lies in the range of i.

    Where it need not, the condition that it does is kept. None if nothing is left of the term.
    """
    again = True
    while again:
        again = False
        for condition in term.conditions:
            if not isinstance(condition, Eq):
                continue
            for index, lo, hi in term.limits:
                for here, there in ((condition.lhs, condition.rhs), (condition.rhs, condition.lhs)):
                    if index in free_symbols(there) or index not in free_symbols(here) or here.atoms(Indexed):
                        continue
                    solution = solve_index(here, there, index)
                    if solution is None:
                        continue
                    allowed = range_of(solution, lo, hi, form)
                    if isinstance(solution, Indexed) and allowed:
                        # The label may lie outside the range, and then there is nothing to read.
                        continue
                    if any(sum(s in form.ranges for s in free_symbols(c)) > 1 for c in allowed):
                        # The index would run over a range that depends on others: a scatter does better.
                        continue
                    rest = Term(term.limits, tuple(c for c in term.conditions if c != condition), term.factors)
                    replaced = rest.replace({index: solution}, without=index)
                    if replaced is None:
                        return None
                    term = Term(replaced.limits, replaced.conditions + tuple(allowed), replaced.factors)
                    again = True
                    break
                if again:
                    break
            if again:
                break
    return term


def range_of(value: Expr, lo: Expr, hi: Expr, form: Form) -> list[Boolean]:
    """Conditions under which an index expression lies in [lo, hi]; none where the declarations ensure it."""
    gathered = value.atoms(Indexed)
    if gathered:
        # Labels are checked against the size of every axis they index when the code runs.
        known = next((v.labels for v in form.data if v.name == str(getattr(value, "base", ""))), None) or ()
        if any(at_most(lo - low) is True and at_most(high - hi) is True for low, high in known):
            return []
        return [relation(Ge, value, lo), relation(Le, value, hi)]
    low = high = value
    for _ in range(4):
        for s in sorted((s for s in free_symbols(low) | free_symbols(high) if s in form.ranges), key=str):
            a, b = form.ranges[s]
            low = expand(low.subs(s, a if low.coeff(s).is_nonnegative else b))
            high = expand(high.subs(s, b if high.coeff(s).is_nonnegative else a))
    found: list[Boolean] = []
    if at_most(lo - low) is not True:
        found.append(_at_least(value, lo, form))
    if at_most(high - hi) is not True:
        found.append(_at_least(-value, -hi, form))
    return [c for c in found if c != True]  # noqa: E712


def _at_least(value: Expr, least: Expr, form: Form) -> Boolean:
    """value >= least, as a bound on the index itself where value is index + c or c - index; else on a size."""
    for s in sorted(free_symbols(value), key=lambda s: (s not in form.ranges, str(s))):
        slope = value.coeff(s)
        rest = expand(value - slope * s)
        if slope == 1 and s not in free_symbols(rest):
            return relation(Ge, s, expand(least - rest))
        if slope == -1 and s not in free_symbols(rest):
            return relation(Le, s, expand(rest - least))
    return relation(Ge, value, least)


def freshen(expr: Expr, form: Form) -> Expr:
    """A copy whose bound indices are unlike all others; safe to put anywhere."""
    if isinstance(expr, Sum | LogSumExp):
        renamed = {lim[0]: form.index(lim[0], lim[1], lim[2]) for lim in expr.limits}
        limits = [(renamed[lim[0]], *(substitute(e, renamed) for e in lim[1:])) for lim in expr.limits]
        body = freshen(substitute(expr.function, renamed), form)
        return with_limits(type(expr), body, limits)
    if not expr.args or isinstance(expr, Indexed) or not expr.has(Sum, LogSumExp):
        return expr
    return rebuild(expr, tuple(freshen(a, form) for a in expr.args))


def opened(definition: Definition, form: Form) -> Definition:
    """A copy of a definition with indices unlike all others."""
    renamed = {
        i: form.index(i, S.Zero, expand(n - 1)) for i, n in zip(definition.indices, definition.sizes, strict=True)
    }
    rhs = freshen(substitute(definition.rhs, renamed), form)
    return Definition(definition.name, tuple(renamed.values()), rhs, definition.sizes)


def _least(index: Symbol, taken: set[str]) -> Symbol:
    """The index with as few primes as keep it apart."""
    name = letter(index)
    while name in taken:
        name += "'"
    return Symbol(name, integer=True)


def tidy(expr: Expr, taken: set[str]) -> Expr:
    """Give bound indices the letters of the blackboard, with as few primes as the names around them allow."""
    return tidy_inner(expr, {}, taken) if expr.has(Sum, LogSumExp) else expr


def tidy_inner(expr: Expr, renamed: dict[Basic, Basic], names: set[str]) -> Expr:
    """Rename free indices and tidy the bound ones, all at once, so that neither captures the other."""
    seen: dict[Basic, Basic] = {}

    def walk(node: Basic) -> Basic:
        if node in renamed:
            return renamed[node]
        if not node.args:
            return node
        if node not in seen:
            if isinstance(node, Sum | LogSumExp):
                seen[node] = _tidy_sum(node, renamed, names)
            elif isinstance(node, Indexed):
                seen[node] = rebuild(node, (node.base, *map(walk, node.indices)))
            else:
                seen[node] = rebuild(node, tuple(map(walk, node.args)))
        return seen[node]

    return walk(expr)


def _tidy_sum(expr: Expr, renamed: dict[Basic, Basic], names: set[str]) -> Expr:
    names = names | {s.name for s in free_symbols(expr) if s not in renamed}
    inside = dict(renamed)
    for lim in expr.limits:
        inside[lim[0]] = new = _least(lim[0], names)
        names = names | {new.name}
    limits = [(inside[lim[0]], *(tidy_inner(e, inside, names) for e in lim[1:])) for lim in expr.limits]
    return with_limits(type(expr), tidy_inner(expr.function, inside, names), limits)


def tidy_definition(definition: Definition) -> Definition:
    """A copy of a definition with the indices a reader expects."""
    taken = {s.name for s in free_symbols(definition.rhs)} - {i.name for i in definition.indices}
    taken |= bases(definition.rhs) | {definition.name}
    renamed: dict[Basic, Basic] = {}
    for i in definition.indices:
        new = _least(i, taken)
        taken.add(new.name)
        renamed[i] = new
    rhs = tidy_inner(definition.rhs, renamed, taken)
    return Definition(definition.name, tuple(renamed.values()), rhs, definition.sizes)


def restrict(expr: Expr) -> Expr:
    """1 - 1(c) is 1(not c)."""
    if isinstance(expr, Add) and len(expr.args) == 2 and expr.args[0] == 1:
        coefficient, rest = expr.args[1].as_coeff_Mul()
        if coefficient == -1 and isinstance(rest, Where) and rest.yes == 1 and rest.no == 0:
            return Where(Not(rest.condition), 1, 0)
    if isinstance(expr, Pow) and expr.exp.is_positive and isinstance(expr.base, Where) and expr.base.args[1:] == (1, 0):
        return expr.base
    return expr


def simplify_sums(expr: Expr, form: Form) -> Expr:
    """Contract the deltas a person wrote into sums, and move conditions on indices to where sums can see them."""
    if not expr.args or isinstance(expr, Indexed) or not expr.has(Where):
        return expr
    expr = restrict(rebuild(expr, tuple(simplify_sums(a, form) if isinstance(a, Expr) else a for a in expr.args)))
    if isinstance(expr, Sum):
        parts = [contract(t, form) for t in terms(expr)]
        if any(t is None or t.conditions for t in parts):
            return assemble(t for t in parts if t is not None)
    return expr
