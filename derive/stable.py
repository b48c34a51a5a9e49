"""Rules that keep exponentials in range: logarithms of sums of exponentials, and ratios of exponentials.

``log_of`` knows the logarithm of a positive expression built from exponentials without forming the exponentials. Two
rules use it: log(e) becomes ``log_of(e)``, and a quotient by a sum of exponentials becomes exp of a difference. Both
are identities of real numbers; they matter because the numbers of a machine overflow at exp(710).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sympy import Add, And, Basic, Expr, Mul, Pow, S, Sum, Symbol, exp, log
from sympy.tensor.indexed import Indexed

from derive.notation import LogSumExp, Sigmoid, Softplus, Where, free_symbols, rebuild, substitute, with_limits
from derive.rewrite import about_indices
from derive.statement import Definition, Form

__all__ = ["confined", "stabilise"]


def stabilise(form: Form) -> Iterator[tuple[str, Definition, tuple[Definition, ...]]]:
    """Each definition with the definitions that replace it; the first item names the rule, or is empty."""
    taken = {v.name for v in form.arguments} | {d.name for d in form.definitions} | {n for n, _ in form.hyperparameters}
    rules = _Rules()
    rewritten: list[Definition] = []
    for definition in form.definitions:
        rules.asked[definition.name] = set()
        rules.user = definition.name
        d = Definition(definition.name, definition.indices, rules.rewrite(definition.rhs), definition.sizes)
        rewritten.append(d)
        rules.known[d.name] = d
        if isinstance(d.rhs, exp | Sum | Add | Mul | Pow) and rules.exponential(d.rhs):
            name = f"log_{d.name}"
            while name in taken:
                name += "_"
            taken.add(name)
            rules.asked[name] = set()
            rules.user = name
            logarithm = rules.log_of(d.rhs)
            if logarithm is not None:
                rules.logs[d.name] = Definition(name, d.indices, logarithm, d.sizes)
    # Where some definition takes the logarithm of a quantity, that logarithm gets a definition, and the quantity is
    # its exponential; elsewhere the quantity stays what it was.
    wanted = {d.name for d in form.definitions}
    for name in sorted(wanted):
        wanted |= rules.asked[name]
    for _ in rules.logs:
        for name in sorted(wanted & set(rules.asked)):
            wanted |= rules.asked[name]
    for before, d in zip(form.definitions, rewritten, strict=True):
        companion = rules.logs.get(d.name)
        new: tuple[Definition, ...] = (d,)
        if companion is not None and companion.name in wanted:
            new = (companion, Definition(d.name, d.indices, exp(companion.lhs), d.sizes))
        yield ("log of a sum of exponentials" if new != (before,) else "", before, new)


def _is_exponential(expr: Expr) -> bool:
    """Whether a quotient by this, or a logarithm of it, needs care: it holds an exponential that is not in a log."""
    if isinstance(expr, exp | Sigmoid):
        return True
    if isinstance(expr, Sum):
        return _is_exponential(expr.function)
    if isinstance(expr, Add | Mul):
        return any(_is_exponential(a) for a in expr.args)
    if isinstance(expr, Pow):
        return _is_exponential(expr.base)
    if isinstance(expr, Where):
        return _is_exponential(expr.yes) or _is_exponential(expr.no)
    return False


class _Rules:
    def __init__(self) -> None:
        self.known: dict[str, Definition] = {}
        self.logs: dict[str, Definition] = {}
        self.asked: dict[str, set[str]] = {}
        self.user = ""

    def reference(self, expr: Expr, to: dict[str, Definition]) -> Definition | None:
        if isinstance(expr, Indexed):
            return to.get(str(expr.base.label))
        return to.get(expr.name) if isinstance(expr, Symbol) else None

    def instance(self, definition: Definition, expr: Expr, what: Expr) -> Expr:
        indices = expr.indices if isinstance(expr, Indexed) else ()
        return substitute(what, dict(zip(definition.indices, indices, strict=True)))

    def exponential(self, expr: Expr) -> bool:
        if self.reference(expr, self.logs) is not None:
            return True
        if isinstance(expr, Sum):
            return self.exponential(expr.function)
        if isinstance(expr, Add | Mul):
            return any(self.exponential(a) for a in expr.args)
        if isinstance(expr, Pow):
            return self.exponential(expr.base)
        return _is_exponential(expr)

    def log_of(self, expr: Expr) -> Expr | None:
        """The logarithm of a sum, product or power of exponentials; None if it is not known to be positive."""
        if expr.is_Number or isinstance(expr, Symbol):
            return log(expr) if expr.is_positive else None
        companion = self.reference(expr, self.logs)
        if companion is not None:
            self.asked[self.user].add(companion.name)
            return self.instance(companion, expr, companion.lhs)
        if isinstance(expr, exp):
            return expr.args[0]
        if isinstance(expr, Sigmoid):
            return -Softplus(-expr.args[0])
        if isinstance(expr, Mul):
            logs = [self.log_of(a) for a in expr.args]
            return None if any(x is None for x in logs) else Add(*logs)
        if isinstance(expr, Pow) and not expr.exp.has(exp):
            inner = self.log_of(expr.base)
            return None if inner is None else expr.exp * inner
        if isinstance(expr, Where) and expr.no == 0:
            inner = self.log_of(expr.yes)
            return None if inner is None else Where(expr.condition, inner, S.NegativeInfinity)
        if isinstance(expr, Sum):
            inner = self.log_of(expr.function)
            if inner is None:
                return None
            used = [lim for lim in expr.limits if lim[0] in free_symbols(inner)]
            times = Mul(*(lim[2] - lim[1] + 1 for lim in expr.limits if lim not in used))
            return (with_limits(LogSumExp, inner, used) if used else inner) + log(times)
        if isinstance(expr, Add):
            logs = [self.log_of(a) for a in expr.args]
            if any(x is None or isinstance(x, Where) for x in logs):
                return None
            total: Any = logs[0]
            for x in logs[1:]:
                total = total + Softplus(x - total)
            return total
        return None

    def rewrite(self, expr: Expr) -> Expr:
        if not expr.args or isinstance(expr, Indexed):
            return expr
        if isinstance(expr, log):
            argument = self.rewrite(self.seen_through(expr.args[0]))
            if self.exponential(argument):
                found = self.log_of(argument)
                if found is not None:
                    return found
            return log(argument)
        if isinstance(expr, Mul):
            # Before its factors: a quotient is to be seen whole.
            inside = tuple(
                Pow(self.rewrite(a.base), self.rewrite(a.exp)) if isinstance(a, Pow) else self.rewrite(a)
                for a in expr.args
            )
            whole = rebuild(expr, inside)
            found = self.quotient(whole)
            if found != whole:
                return found
        args = tuple(self.rewrite(a) if isinstance(a, Expr) else a for a in expr.args)
        if isinstance(expr, Where):
            # Conditions are rewritten too, so that a branch is taken by the same numbers as its value.
            args = (self.condition(expr.condition), *args[1:])
        expr = rebuild(expr, args)
        if isinstance(expr, Add):
            return self.complement(expr)
        if isinstance(expr, Mul | Pow):
            return self.quotient(expr)
        return expr

    def condition(self, condition: Expr) -> Expr:
        return rebuild(
            condition, tuple(self.rewrite(a) if isinstance(a, Expr) else self.condition(a) for a in condition.args)
        )

    def seen_through(self, expr: Expr) -> Expr:
        """Under a logarithm, probabilities are replaced by what defines them: log(1 - p) is not to be cancelled."""
        if isinstance(expr, Add | Mul | Pow):
            return rebuild(expr, tuple(self.seen_through(a) for a in expr.args))
        definition = self.reference(expr, self.known)
        if definition is not None and isinstance(definition.rhs, Sigmoid):
            return self.instance(definition, expr, definition.rhs)
        return expr

    def complement(self, expr: Expr) -> Expr:
        """1 - sigmoid(z) is sigmoid(-z)."""
        if len(expr.args) == 2 and expr.args[0] == 1 and isinstance(-expr.args[1], Sigmoid):
            return Sigmoid(-(-expr.args[1]).args[0])
        return expr

    def quotient(self, expr: Expr) -> Expr:
        """exp(a)/sum(exp(b)) is exp(a - log(sum(exp(b))))."""
        factors = Mul.make_args(expr)
        if not any(
            isinstance(f, Pow) and f.exp.could_extract_minus_sign() and self.exponential(f.base) for f in factors
        ):
            return expr
        gathered: list[Expr] = []
        kept: list[Expr] = []
        for f in factors:
            found = self.log_of(f) if self.exponential(f) else None
            (kept.append(f) if found is None else gathered.append(found))
        if not any(g.has(Softplus, LogSumExp) or self.mentions(g) for g in gathered):
            return expr
        return Mul(*kept, _exp(Add(*gathered)))

    def mentions(self, expr: Expr) -> bool:
        names = {d.name for d in self.logs.values()}
        return any(str(getattr(a, "base", a)) in names for a in expr.atoms(Indexed, Symbol))


def _exp(exponent: Expr) -> Expr:
    """exp, with exp(-softplus(-z)) and exp(z - softplus(z)) read as sigmoid(z)."""
    if isinstance(-exponent, Softplus):
        return Sigmoid(-(-exponent).args[0])
    if isinstance(exponent, Add):
        for a in exponent.args:
            if isinstance(-a, Softplus) and exponent - a == (-a).args[0]:
                return Sigmoid((-a).args[0])
    return exp(exponent)


def confined(form: Form) -> Form:
    """Exponentials that are only ever read under a condition on their indices, computed under that condition alone.

    The probabilities of a causal attention are named for all pairs and summed below the diagonal; above it they may be
    infinite, and zero times infinity is not a number.
    """
    definitions = list(form.definitions)
    for position, d in enumerate(definitions):
        if not d.indices or not d.rhs.has(exp) or isinstance(d.rhs, LogSumExp):
            continue
        uses = [conditions for later in definitions[position + 1 :] for conditions in _uses(later.rhs, d)]
        common = set.intersection(*uses) if uses else set()
        if common:
            together = And(*sorted(common, key=lambda c: c.sort_key()))
            definitions[position] = Definition(d.name, d.indices, Where(together, d.rhs, 0), d.sizes)
    return form.with_definitions(definitions)


def _uses(expr: Basic, d: Definition, known: tuple[Basic, ...] = ()) -> Iterator[set[Basic]]:
    """For each element of a definition's array in an expression: the conditions under which it is read."""
    if isinstance(expr, Where) and expr.no == 0 and about_indices(expr.condition):
        yield from _uses(expr.yes, d, (*known, *And.make_args(expr.condition)))
        return
    if isinstance(expr, Indexed) and str(expr.base.label) == d.name:
        index = dict(zip(expr.indices, d.indices, strict=True))
        plain = len(index) == len(d.indices) and all(isinstance(e, Symbol) for e in index)
        yield {substitute(c, index) for c in known if plain and free_symbols(c) <= set(index)}
        return
    for part in expr.args:
        yield from _uses(part, d, known)
