"""Named quantities for what a flat statement leaves unnamed.

The chain rule runs over named quantities. Where a sum over parameters stands inside something that is not linear (the
scores inside a max, say), it is given a name; a gathered row of a sum that has a name already is read off that sum.
"""

from __future__ import annotations

from typing import Any

from sympy import Add, Basic, Expr, Integer, Mul, Sum, Symbol, expand
from sympy.tensor.indexed import Indexed, IndexedBase

from derive.notation import LogSumExp, Where, bases, free_symbols, multiply, rebuild, substitute, with_limits
from derive.rewrite import freshen
from derive.statement import Definition, Form

__all__ = ["name_sums"]


def name_sums(form: Form) -> Form:
    """The form with a definition for each sum that the chain rule should see."""
    return _Namer(form).run()


class _Namer:
    def __init__(self, form: Form) -> None:
        self.form = form
        self.active = {p.name for p in form.parameters}
        self.taken = (
            {v.name for v in form.arguments}
            | {d.name for d in form.definitions}
            | {n for n, _ in form.hyperparameters}
            | {s.name for s in form.sizes}
        )
        self.done: list[Definition] = []
        self.templates: dict[Expr, Definition] = {}
        self.gathered_rows = False

    def run(self) -> Form:
        # Sums over whole arrays first: sums over gathered rows, W[y[i], k] X[i, k], can then refer to them.
        for self.gathered_rows in (False, True):
            definitions = self.done or list(self.form.definitions)
            self.done, self.templates = [], {}
            for definition in definitions:
                self.visit(definition)
        return self.form.with_definitions(self.done)

    def visit(self, definition: Definition) -> None:
        scope = [(i, Integer(0), n - 1) for i, n in zip(definition.indices, definition.sizes, strict=True)]
        rhs = definition.rhs
        if isinstance(rhs, LogSumExp):
            body = self.lift(rhs.function, [*scope, *(tuple(lim) for lim in rhs.limits)], linear=False)
            rhs = with_limits(LogSumExp, body, rhs.limits)
        else:
            rhs = self.lift(rhs, scope, linear=True)
        definition = Definition(definition.name, definition.indices, rhs, definition.sizes)
        if isinstance(rhs, Sum | LogSumExp):
            self.templates.setdefault(canonical(rhs, list(definition.indices)), definition)
        self.done.append(definition)
        if bases(rhs) & self.active:
            self.active.add(definition.name)

    def passive(self, others: list[Expr]) -> bool:
        """Whether the other factors of a product do not depend on parameters."""
        return not any(bases(o) & self.active for o in others)

    def lift(self, expr: Expr, scope: list[Any], linear: bool) -> Expr:
        """Replace sums that are not in a linear position by references to definitions."""
        if not expr.args or isinstance(expr, Indexed) or not expr.has(Sum, LogSumExp):
            return expr
        if isinstance(expr, Sum | LogSumExp):
            inner = [*scope, *(tuple(lim) for lim in expr.limits)]
            if isinstance(expr, LogSumExp):
                body = self.lift(expr.function, inner, linear=False)
                return self.named(with_limits(LogSumExp, body, expr.limits), scope, "lse")
            body = self.lift(expr.function, inner, linear)
            new = with_limits(Sum, body, expr.limits)
            if linear or not bases(new) & self.active:
                return new
            return self.named(new, scope, None)
        if isinstance(expr, Add):
            return Add(*(self.lift(a, scope, linear) for a in expr.args))
        if isinstance(expr, Mul):
            return multiply(
                *(self.lift(a, scope, linear and self.passive([b for b in expr.args if b is not a])) for a in expr.args)
            )
        if isinstance(expr, Where):
            condition = self.condition(expr.condition, scope)
            return Where(condition, *(self.lift(a, scope, linear) for a in expr.args[1:]))
        return rebuild(expr, tuple(self.lift(a, scope, False) if isinstance(a, Expr) else a for a in expr.args))

    def condition(self, condition: Basic, scope: list[Any]) -> Basic:
        return rebuild(
            condition,
            tuple(
                self.lift(a, scope, False) if isinstance(a, Expr) else self.condition(a, scope) for a in condition.args
            ),
        )

    def named(self, expr: Expr, scope: list[Any], name: str | None) -> Expr:
        used = free_symbols(expr)
        axes = [lim for lim in scope if lim[0] in used]
        key = canonical(expr, [a[0] for a in axes])
        if key in self.templates:
            return reference(self.templates[key], [a[0] - a[1] for a in axes])
        found = self.from_template(expr, axes)
        if found is not None:
            return found
        if not self.gathered_rows and self.labels(expr, axes):
            return expr
        fresh = {a[0]: self.form.index(a[0], Integer(0), expand(a[2] - a[1])) for a in axes}
        shifted = {a[0]: fresh[a[0]] + a[1] for a in axes}
        rhs = freshen(substitute(expr, shifted), self.form)
        chosen = self.choose(expr, [a[0] for a in axes], name)
        sizes = tuple(expand(a[2] - a[1] + 1) for a in axes)
        definition = Definition(chosen, tuple(fresh.values()), rhs, sizes)
        self.templates[key] = definition
        self.done.append(definition)
        if bases(rhs) & self.active:
            self.active.add(chosen)
        return reference(definition, [a[0] - a[1] for a in axes])

    def from_template(self, expr: Expr, axes: list[Any]) -> Expr | None:
        """A sum over a gathered row, W[y[i], k] X[i, k], as an element of the sum over all rows, if that has a name."""
        labels = self.labels(expr, axes)
        if len(labels) != 1:
            return None
        label = labels[0]
        for definition in list(self.templates.values()):
            for position in range(len(definition.indices)):
                stand_in = Symbol("gathered''row", integer=True)
                opened = substitute(expr, {label: stand_in})
                order = [a[0] for a in axes]
                order.insert(position, stand_in)
                if canonical(opened, order) == canonical(definition.rhs, list(definition.indices)):
                    indices = [a[0] - a[1] for a in axes]
                    if any(a[1] != 0 for a in axes):
                        return None
                    indices.insert(position, label)
                    return reference(definition, indices)
        return None

    @staticmethod
    def labels(expr: Expr, axes: list[Any]) -> list[Indexed]:
        """The labels by which an expression gathers, those that vary with its axes."""
        free = {a[0] for a in axes}
        found = {e for a in expr.atoms(Indexed) for e in a.indices if isinstance(e, Indexed) and free_symbols(e) & free}
        return sorted(found, key=str)

    def choose(self, expr: Expr, axes: list[Symbol], name: str | None) -> str:
        if name is None:
            order: list[str] = []
            uses = sorted(
                expr.atoms(Indexed),
                key=lambda a: (min((axes.index(s) for s in free_symbols(a) if s in axes), default=99), str(a)),
            )
            for use in uses:
                label = str(use.base.label)
                if use.base.label.is_integer or label in order:
                    continue
                order.append(label)
            product = isinstance(expr, Sum) and all(
                isinstance(f, Indexed) for f in Mul.make_args(expr.function) if not f.is_Number
            )
            joined = ("" if all(len(n) == 1 for n in order) else "_").join(order[:3]) or "all"
            name = joined if product and len(order) > 1 else f"sum_{joined}"
        candidate, number = name, 2
        while candidate in self.taken:
            candidate, number = f"{name}_{number}", number + 1
        self.taken.add(candidate)
        return candidate


def reference(definition: Definition, indices: list[Expr]) -> Expr:
    if not indices:
        return definition.lhs
    return Indexed(IndexedBase(Symbol(definition.name, real=True)), *indices)


def canonical(expr: Expr, axes: list[Symbol]) -> Expr:
    """The expression with its free axes and its bound indices renamed by position: equal for equal meaning."""
    mapping: dict[Basic, Basic] = {a: Symbol(f"axis''{n}", integer=True) for n, a in enumerate(axes)}
    count = 0

    def walk(e: Basic) -> Basic:
        nonlocal count
        if isinstance(e, Sum | LogSumExp):
            for lim in e.limits:
                mapping[lim[0]] = Symbol(f"bound''{count}", integer=True)
                count += 1
            return with_limits(
                type(e), walk(e.function), [(mapping[m[0]], *(walk(x) for x in m[1:])) for m in e.limits]
            )
        if e in mapping:
            return mapping[e]
        if not e.args:
            return e
        if isinstance(e, Indexed):
            return Indexed(e.base, *(walk(i) for i in e.indices))
        return rebuild(e, tuple(walk(a) for a in e.args))

    return walk(expr)
