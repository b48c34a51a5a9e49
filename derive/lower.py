"""From definitions in index notation to the array program.

The rules know nothing of any particular loss. A sum of products is contracted two factors at a time; an array in an
index position is a gather; a delta on the left side, 1(j = y_i), is a scatter; a condition j != y_i under a sum clears
elements. What no rule recognises is computed by broadcasting, which is always right.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from sympy import (
    Abs,
    Add,
    And,
    Basic,
    Eq,
    Expr,
    Ge,
    Gt,
    Le,
    Lt,
    Max,
    Min,
    Mul,
    Ne,
    Not,
    Or,
    Pow,
    S,
    Sum,
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
    tan,
    tanh,
)
from sympy.tensor.indexed import Indexed

from derive.notation import LogSumExp, Sigmoid, Softplus, Where, free_symbols, multiply, rebuild, substitute, sum_over
from derive.program import Axis, Graph, Ref, Update
from derive.rewrite import Term, about_indices, guard, opened, range_of, terms
from derive.statement import Definition, Form, at_most

__all__ = ["Lowering"]

_FUNCTIONS = {
    exp: "exp", log: "log", sin: "sin", cos: "cos", tan: "tan", asin: "asin", acos: "acos", atan: "atan",
    sinh: "sinh", cosh: "cosh", tanh: "tanh", Abs: "abs", sign: "sign", Softplus: "softplus", Sigmoid: "sigmoid",
}  # fmt: skip
_RELATIONS = {Eq: "eq", Ne: "ne", Lt: "lt", Le: "le", Gt: "gt", Ge: "ge"}


#: Where an element is taken or put along one axis; see the table of operations in ``derive.program``.
Position = tuple[Any, ...]
Positions = tuple[Position, ...]


class Lowering:
    """Lowers definitions one by one; ``defined`` maps each name to a use of its node, axes named by its indices."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.graph = Graph()
        self.defined: dict[str, tuple[Ref, tuple[Symbol, ...]]] = {}
        self.axes: dict[Symbol, Axis] = {}
        self.softmax: dict[str, tuple[Definition, Ref, Ref]] = {}
        self.assumed: tuple[Any, ...] = ()
        self.scalars: set[str] = {n for n, _ in form.hyperparameters} | {s.name for s in form.sizes}
        for v in form.arguments:
            places = tuple(Symbol(f"{v.name}''{n}", integer=True) for n in range(len(v.shape)))
            for p, size in zip(places, v.shape, strict=True):
                self.axes[p] = Axis(S.Zero, size)
            kind = "float" if v.labels is None else "int"
            ref = self.graph.make("input", [], places, self.axes, info=v.name, kind=kind, scope=places)
            self.defined[v.name] = (ref, places)

    # -- definitions -------------------------------------------------------------------------------

    def define(self, definition: Definition) -> Ref:
        """Lower a definition and make it known under its name."""
        d = opened(definition, self.form)
        for i, n in zip(d.indices, d.sizes, strict=True):
            self.axes[i] = Axis(S.Zero, n)
        scope = list(d.indices)
        if isinstance(d.rhs, LogSumExp):
            ref = self.log_sum_exp(d, scope)
        else:
            ref = self.assignment(d, scope)
        ref = self.filled(ref, d.indices, scope)
        self.defined[d.name] = (ref, d.indices)
        return ref

    def filled(self, ref: Ref, indices: tuple[Symbol, ...], scope: list[Symbol]) -> Ref:
        """The array with all axes of its left side, repeated along those the right side does not mention."""
        if set(ref.names) == set(indices):
            return ref
        return self.graph.make("scatter", [ref], indices, self.axes, info=(), scope=scope)

    def assignment(self, d: Definition, scope: list[Symbol]) -> Ref:
        self.parts: dict[tuple[Symbol, Expr, Expr], Symbol] = {}
        dense: list[Expr] = []
        updates: list[tuple[Positions, Ref, bool]] = []
        args: list[Ref] = []
        for part in Add.make_args(d.rhs):
            placed = self.placed(part, d)
            if placed is None:
                dense.append(part)
            else:
                for term in placed:
                    found = self.update(term, d, scope)
                    if found is None:
                        dense.append(self.expression(term))
                    else:
                        updates.append(found)
        if not updates:
            return self.lower(Add(*dense), scope)
        updates = self.merged(updates, scope)
        base = self.lower(Add(*dense), scope) if dense else None
        args = [base] if base is not None else []
        info = []
        for index, value, repeated in updates:
            positions = []
            for entry in index:
                if entry[0] == "gather":
                    args.append(entry[1])
                    entry = ("gather", len(args) - 1)
                positions.append(entry)
            args.append(value)
            info.append(Update(tuple(positions), len(args) - 1, repeated))
        header = ("onto" if base is not None else "zeros",)
        return self.graph.make("scatter", args, d.indices, self.axes, info=(header, *info), scope=scope)

    def merged(
        self, updates: list[tuple[Positions, Ref, bool]], scope: list[Symbol]
    ) -> list[tuple[Positions, Ref, bool]]:
        """Updates at the same positions as one."""
        found: dict[Positions, list[Ref]] = {}
        kept: list[tuple[Positions, Ref, bool]] = []
        for index, value, repeated in updates:
            if repeated:
                kept.append((index, value, repeated))
            else:
                found.setdefault(index, []).append(value)
        single = [
            (index, values[0] if len(values) == 1 else self.map("add", values, scope), False)
            for index, values in found.items()
        ]
        return single + kept

    def expression(self, term: Term) -> Expr:
        body = guard(term.conditions, multiply(*term.factors))
        return sum_over(body, *term.limits)

    def placed(self, part: Expr, d: Definition) -> list[Term] | None:
        """The part as terms that put values at positions of the left side; None if it fills all of it."""
        if not d.indices or not part.has(Where):
            return None
        found = terms(part)
        own = set(d.indices)
        if any(
            isinstance(c, Eq | Ge | Le) and about_indices(c) and (c.lhs in own or c.rhs in own)
            for t in found
            for c in t.conditions
        ):
            return found
        return None

    def update(self, term: Term, d: Definition, scope: list[Symbol]) -> tuple[Positions, Ref, bool] | None:
        """(positions, values, whether positions may repeat) of a term with conditions on the left side's indices."""
        own = set(d.indices)
        placed: dict[Symbol, Expr] = {}
        ranges: dict[Symbol, list[Expr]] = {}
        rest = []
        for c in term.conditions:
            if isinstance(c, Eq):
                for a, e in ((c.lhs, c.rhs), (c.rhs, c.lhs)):
                    if a in own and a not in placed and a not in free_symbols(e) and not free_symbols(e) & set(placed):
                        # An index that stood for another goes where that one goes.
                        placed = {b: substitute(known, {a: e}) for b, known in placed.items()}
                        placed[a] = e
                        break
                else:
                    rest.append(c)
            elif isinstance(c, Ge | Le) and c.lhs in own and self.constant(c.rhs):
                lo, hi = ranges.get(c.lhs, (S.Zero, self.axes[c.lhs].size - 1))
                if isinstance(c, Ge):
                    tighter, looser, narrowed = at_most(lo - c.rhs), at_most(c.rhs - lo), [c.rhs, hi]
                else:
                    tighter, looser, narrowed = at_most(c.rhs - hi), at_most(hi - c.rhs), [lo, c.rhs]
                if tighter:
                    ranges[c.lhs] = narrowed
                elif not looser:
                    # Which bound is the narrower depends on sizes known only at run time.
                    rest.append(c)
            else:
                rest.append(c)
        if not placed and not ranges:
            return None
        # An index whose position is computed is replaced by that position wherever else it stands.
        renamed: dict[Basic, Basic] = dict(placed)
        for a, (lo, hi) in ranges.items():
            if a in placed:
                return None
            if (a, lo, hi) not in self.parts:
                self.parts[a, lo, hi] = self.form.index(a, lo, hi)
            part = self.parts[a, lo, hi]
            self.axes[part] = Axis(lo, expand(hi - lo + 1))
            renamed[a] = part
        # A position computed from an index that is cut to a range is computed over that range.
        cut = {a: renamed[a] for a in ranges}
        placed = {a: substitute(e, cut) for a, e in placed.items()}
        renamed.update(placed)
        new = Term(term.limits, tuple(rest), term.factors).replace(renamed)
        if new is None:
            return None
        kept = {s for e in placed.values() for s in free_symbols(e)}
        for index, lo, hi in new.limits:
            self.axes[index] = Axis(lo, expand(hi - lo + 1))
        repeated = any(lim[0] in kept for lim in new.limits)
        # The values lie in memory as the positions do: what places an index stands where that index stands.
        own_order = [
            s
            for i in d.indices
            for s in (sorted(free_symbols(placed[i]), key=str) if i in placed else [renamed.get(i, i)])
            if s in self.axes
        ]
        inner_scope = list(dict.fromkeys([*own_order, *scope, *(lim[0] for lim in new.limits)]))
        summed = Term(tuple(lim for lim in new.limits if lim[0] not in kept), new.conditions, new.factors)
        value = self.lower(self.expression(summed), inner_scope)
        positions: list[Position] = []
        for i in d.indices:
            if i in placed:
                e = placed[i]
                if self.constant(e):
                    positions.append(("at", e))
                else:
                    positions.append(("gather", self.integer(e, inner_scope)))
            elif i in ranges:
                positions.append(("slice", renamed[i], ranges[i][0]))
            else:
                positions.append(("slice", i, S.Zero))
        return tuple(positions), value, repeated

    def constant(self, e: Expr) -> bool:
        return not e.atoms(Indexed) and all(s.name in self.scalars for s in free_symbols(e))

    # -- expressions -------------------------------------------------------------------------------

    def scalar(self, e: Expr) -> Ref:
        return self.graph.make("scalar", [], (), self.axes, info=e)

    def is_scalar(self, e: Expr) -> bool:
        """Whether an expression is made of numbers, sizes and hyperparameters only."""
        if isinstance(e, Where | Sum | LogSumExp | Max | Min | sign | Softplus | Sigmoid):
            return False
        if e.has(Where, Sum, Max, Min, sign, Softplus, Sigmoid):
            return False
        return self.constant(e)

    def map(self, info: str, args: list[Ref], scope: list[Symbol]) -> Ref:
        from derive.program import MAPS

        names = [n for r in args for n in r.names]
        return self.graph.make(
            "map", args, tuple(dict.fromkeys(names)), self.axes, info=info, kind=MAPS[info], scope=scope
        )

    def lower(self, e: Expr, scope: list[Symbol]) -> Ref:
        """An expression as a use of a node; its axes are among ``scope``."""
        if self.is_scalar(e):
            return self.scalar(e)
        if isinstance(e, Indexed):
            return self.real(self.element(e, scope), scope)
        if isinstance(e, Symbol):
            if e in self.axes:
                return self.real(self.arange(e), scope)
            return self.defined[e.name][0]
        if isinstance(e, Add):
            return self.sum_of(e, scope)
        if isinstance(e, Sum | Mul | Where):
            return self.lower_terms(e, scope)
        if isinstance(e, Pow):
            return self.power(e, scope)
        if isinstance(e, Max | Min):
            name = "maximum" if isinstance(e, Max) else "minimum"
            result = self.lower(e.args[0], scope)
            for a in e.args[1:]:
                result = self.map(name, [result, self.lower(a, scope)], scope)
            return result
        if isinstance(e, exp):
            found = self.softmax_element(e.args[0], scope)
            if found is not None:
                return found
        name = _FUNCTIONS[type(e)]
        return self.map(name, [self.lower(e.args[0], scope)], scope)

    def real(self, ref: Ref, scope: list[Symbol]) -> Ref:
        return ref if ref.node.kind == "float" else self.map("real", [ref], scope)

    def sum_of(self, e: Add, scope: list[Symbol]) -> Ref:
        """A sum, with a scalar that all its parts share in front."""
        constant = [a for a in e.args if self.is_scalar(a)]
        args = [a for a in e.args if not self.is_scalar(a)]
        if constant:
            args.append(Add(*constant))
        # A penalty, a term with a hyperparameter in front, reads better behind what it is added to.
        refs = [(self.has_hyperparameter(a), self.lower(a, scope)) for a in args]
        refs.sort(key=lambda r: (r[0], -len(r[1].names)))
        return self.map("add", [r for _, r in refs], scope)

    def has_hyperparameter(self, e: Expr) -> bool:
        names = {n for n, _ in self.form.hyperparameters}
        return isinstance(e, Mul) and any(isinstance(f, Symbol) and f.name in names for f in e.args)

    def power(self, e: Pow, scope: list[Symbol]) -> Ref:
        return self.map("pow", [self.lower(e.base, scope), self.lower(e.exp, scope)], scope)

    # -- terms -------------------------------------------------------------------------------------

    def lower_terms(self, e: Expr, scope: list[Symbol]) -> Ref:
        if isinstance(e, Where) and e.no != 0:
            return self.choice(e, scope)
        if isinstance(e, Sum) and self.worth_splitting(e):
            return self.map("add", [self.term(t, scope) for t in terms(e, split=True)], scope)
        found = terms(e)
        if len(found) == 1:
            return self.term(found[0], scope)
        if isinstance(e, Sum):
            bound = tuple(tuple(lim) for lim in e.limits)
            return self.term(Term(bound, (), (e.function,)), scope)
        if isinstance(e, Mul):
            plain = Term((), (), tuple(e.args))
            return self.term(plain, scope)
        return self.map("add", [self.term(t, scope) for t in found], scope)

    def worth_splitting(self, e: Sum) -> bool:
        """Whether the parts of a sum of a sum are contractions by themselves, with fewer axes than their factors."""
        bound = {lim[0] for lim in e.limits}
        found = terms(e, split=True)
        if len(found) == 1:
            return False
        for t in found:
            axes = [free_symbols(f) for f in t.factors]
            if len(axes) > 1 and any(a & bound and (set().union(*axes) - a) & set(self.axes) for a in axes):
                return True
            if t.conditions:
                return True
        return False

    def term(self, term: Term, scope: list[Symbol]) -> Ref:
        for index, lo, hi in term.limits:
            self.axes[index] = Axis(lo, expand(hi - lo + 1))
        inner = [*scope, *(lim[0] for lim in term.limits)]
        scalars = [f for f in term.factors if self.is_scalar(f)]
        factors = [f for f in term.factors if not self.is_scalar(f)]
        conditions = list(dict.fromkeys(term.conditions))
        if conditions:
            factors = [self.safe(f, conditions) for f in factors]
        known, self.assumed = self.assumed, (*self.assumed, *conditions)
        refs = [self.lower(f, inner) for f in factors]
        self.assumed = known
        refs = self.with_conditions(refs, conditions, inner)
        bound = [lim[0] for lim in term.limits]
        used = {n for r in refs for n in r.names}
        for index in bound:
            if index not in used:
                scalars.append(self.axes[index].size)
        result = self.contract(refs, [b for b in bound if b in used], inner)
        scale = Mul(*scalars)
        if result is None:
            return self.scalar(scale)
        if scale == 1:
            return result
        return self.map("mul", [self.scalar(scale), result], scope)

    def with_conditions(self, refs: list[Ref], conditions: list[Any], scope: list[Symbol]) -> list[Ref]:
        """Factors that are zero where a condition does not hold."""
        conditions = [c for c in conditions if c != True]  # noqa: E712 - SymPy's true
        if any(c == False for c in conditions):  # noqa: E712
            return [self.scalar(S.Zero)]
        masks = []
        values = [c for c in conditions if not about_indices(c)]
        indices = [c for c in conditions if about_indices(c)]
        if values:
            mask = self.condition(And(*values), scope)
            chosen = self.covering(refs, set(mask.names))
            if chosen is None:
                refs = [self.map("indicator", [mask], scope), *refs]
            else:
                at = refs.index(chosen)
                refs = [*refs[:at], self.map("where", [mask, chosen, self.scalar(S.Zero)], scope), *refs[at + 1 :]]
        for c in indices:
            done = False
            if isinstance(c, Ne):
                for a, e in ((c.lhs, c.rhs), (c.rhs, c.lhs)):
                    if not isinstance(a, Symbol) or a not in self.axes or a in free_symbols(e):
                        continue
                    axis = self.axes[a]
                    if range_of(e, axis.lo, expand(axis.lo + axis.size - 1), self.form):
                        # The position may lie outside, and then there is nothing to clear.
                        continue
                    where = {s for s in free_symbols(e) if s in self.axes}
                    chosen = self.covering(refs, where | {a})
                    if chosen is not None:
                        at = refs.index(chosen)
                        refs = [*refs[:at], self.clear(chosen, a, e, scope), *refs[at + 1 :]]
                        done = True
                        break
            if not done:
                masks.append(c)
        if masks:
            mask = self.condition(And(*masks), scope)
            chosen = self.covering(refs, set(mask.names))
            if chosen is not None and chosen.node.op != "input":
                at = refs.index(chosen)
                refs = [*refs[:at], self.map("where", [mask, chosen, self.scalar(S.Zero)], scope), *refs[at + 1 :]]
            else:
                refs = [self.map("indicator", [mask], scope), *refs]
        return refs

    def covering(self, refs: list[Ref], names: set[Symbol]) -> Ref | None:
        """The factor with the fewest axes that has all of these."""
        found = [r for r in refs if names <= set(r.names)]
        return min(found, key=lambda r: len(r.names)) if found else None

    def clear(self, ref: Ref, index: Symbol, at: Expr, scope: list[Symbol]) -> Ref:
        positions: list[Position] = []
        args = [ref]
        at = expand(at - self.axes[index].lo)
        for n in ref.names:
            if n == index:
                if self.constant(at):
                    positions.append(("at", at))
                else:
                    args.append(self.integer(at, scope))
                    positions.append(("gather", 1))
            else:
                positions.append(("slice", n, S.Zero))
        # The axis that is cleared at a position stays an axis of the result.
        return self.graph.make("clear", args, ref.names, self.axes, info=tuple(positions), scope=scope)

    def safe(self, e: Expr, conditions: list[Any]) -> Expr:
        """Arguments of functions with a pole replaced by 1 where the conditions make the value count for nothing."""
        if not e.args or isinstance(e, Indexed | Sum | LogSumExp):
            return e
        args = tuple(self.safe(a, conditions) if isinstance(a, Expr) else a for a in e.args)
        risky = isinstance(e, log) or (isinstance(e, Pow) and not (e.exp.is_Integer and e.exp.is_positive))
        if risky and not self.is_scalar(args[0]):
            args = (Where(And(*conditions), args[0], 1), *args[1:])
        return rebuild(e, args)

    def choice(self, e: Where, scope: list[Symbol]) -> Ref:
        yes = self.safe(e.yes, [e.condition])
        no = self.safe(e.no, [Not(e.condition)])
        return self.map(
            "where", [self.condition(e.condition, scope), self.lower(yes, scope), self.lower(no, scope)], scope
        )

    def contract(self, refs: list[Ref], bound: list[Symbol], scope: list[Symbol]) -> Ref | None:
        """The product of all factors, summed over ``bound``; two at a time, keeping results small."""
        if not refs:
            return None
        refs = list(refs)
        left = list(bound)

        def alone(index: Symbol) -> bool:
            return sum(index in r.names for r in refs) == 1

        while len(refs) > 1:
            for position, r in enumerate(refs):
                over = [n for n in left if n in r.names and alone(n)]
                if over:
                    refs[position] = self.reduce("sum", r, over, scope)
                    left = [n for n in left if n not in over]
            if len(refs) == 1:
                break
            best = None
            for (m, a), (n, b) in ((x, y) for x in enumerate(refs) for y in enumerate(refs) if x[0] < y[0]):
                union = set(a.names) | set(b.names)
                others = {s for q, r in enumerate(refs) if q not in (m, n) for s in r.names}
                result = {s for s in union if s not in left or s in others}
                shared = len(set(a.names) & set(b.names))
                grown = len(result) - max(len(a.names), len(b.names))
                computed = sum(r.node.op in ("input", "take") for r in (a, b) if len(r.names) == len(union))
                cost = (grown, len(union), computed, -shared, m, n)
                if best is None or cost < best[0]:
                    best = (cost, m, n, result)
            assert best is not None
            _, m, n, result = best
            a, b = refs[m], refs[n]
            summed = (set(a.names) | set(b.names)) - result
            merged = self.pair(a, b, summed, scope)
            left = [s for s in left if s not in summed]
            refs = [merged if q == m else r for q, r in enumerate(refs) if q != n]
        last = refs[0]
        return self.reduce("sum", last, left, scope) if left else last

    def pair(self, a: Ref, b: Ref, over: set[Symbol], scope: list[Symbol]) -> Ref:
        if not over:
            return self.map("mul", [a, b], scope)
        names = tuple(n for n in dict.fromkeys(a.names + b.names) if n not in over)
        return self.graph.make("contract", [a, b], names, self.axes, scope=scope)

    def reduce(self, how: str, ref: Ref, over: list[Symbol], scope: list[Symbol]) -> Ref:
        node = ref.node
        if how == "sum" and node.op == "map" and node.info == "pow" and node.args[1][0].info == 2:
            # The sum of squares is a product of an array with itself.
            base = Ref(node.args[0][0], tuple(ref.names[p] for p in node.args[0][1]))
            if set(base.names) == set(ref.names):
                return self.pair(base, base, set(over), scope)
        names = tuple(n for n in ref.names if n not in over)
        return self.graph.make("reduce", [ref], names, self.axes, info=how, scope=scope)

    # -- indices and conditions --------------------------------------------------------------------

    def arange(self, index: Symbol) -> Ref:
        axis = self.axes[index]
        return self.graph.make("arange", [], (index,), self.axes, info=(axis.lo, axis.size), kind="int", scope=(index,))

    def integer(self, e: Expr, scope: list[Symbol]) -> Ref:
        """An integer expression, for positions and comparisons."""
        if isinstance(e, Symbol) and e in self.axes:
            return self.arange(e)
        if isinstance(e, Indexed):
            return self.element(e, scope)
        if self.constant(e):
            return self.graph.make("scalar", [], (), self.axes, info=e, kind="int")
        if isinstance(e, Add | Mul):
            name = "add" if isinstance(e, Add) else "mul"
            args = [self.integer(a, scope) for a in e.args]
            names = [n for r in args for n in r.names]
            return self.graph.make(
                "map", args, tuple(dict.fromkeys(names)), self.axes, info=name, kind="int", scope=scope
            )
        raise AssertionError(e)

    def condition(self, c: Any, scope: list[Symbol]) -> Ref:
        if isinstance(c, And | Or):
            parts = [self.condition(a, scope) for a in sorted(c.args, key=lambda a: a.sort_key())]
            result = parts[0]
            for p in parts[1:]:
                result = self.map("and" if isinstance(c, And) else "or", [result, p], scope)
            return result
        if isinstance(c, Not):
            return self.map("not", [self.condition(c.args[0], scope)], scope)
        name = _RELATIONS[type(c)]
        sides = []
        for side in c.args:
            whole = about_indices(side)
            sides.append(self.integer(side, scope) if whole else self.lower(side, scope))
        return self.map(name, sides, scope)

    def element(self, e: Indexed, scope: list[Symbol]) -> Ref:
        """Elements of an array by index expressions."""
        ref, places = self.defined[str(e.base.label)]
        index_of = dict(zip(places, e.indices, strict=True))
        wanted = [index_of[n] for n in ref.names]
        plain = all(isinstance(x, Symbol) and x in self.axes for x in wanted) and len(set(wanted)) == len(wanted)
        if plain and all(self.axes[x] == self.axes[n] for x, n in zip(wanted, ref.names, strict=True)):
            return Ref(ref.node, tuple(wanted))
        positions: list[Position] = []
        args = [Ref(ref.node, tuple(self.slot(n) for n in ref.names))]
        used: set[Symbol] = set()
        for x, n in zip(wanted, ref.names, strict=True):
            start = self.axes[n].lo
            free = [s for s in sorted(free_symbols(x), key=str) if s in self.axes]
            slope = x.coeff(free[0]) if len(free) == 1 and not x.atoms(Indexed) else None
            if self.constant(x):
                positions.append(("at", expand(x - start)))
            elif slope == 1 and free[0] not in used and self.constant(expand(x - free[0])):
                used.add(free[0])
                axis = self.axes[free[0]]
                positions.append(("slice", free[0], expand(x - free[0] + axis.lo - start)))
            else:
                args.append(self.integer(x if start == 0 else x - start, scope))
                positions.append(("gather", len(args) - 1))
        names = [p[1] for p in positions if p[0] == "slice"]
        whole = all(
            p[0] == "slice" and p[2] == 0 and self.axes[p[1]].size == self.axes[n].size
            for p, n in zip(positions, ref.names, strict=True)
        )
        if whole:
            return Ref(ref.node, tuple(names))
        for r in args[1:]:
            names.extend(r.names)
        return self.graph.make(
            "take", args, tuple(dict.fromkeys(names)), self.axes, info=tuple(positions), kind=ref.node.kind, scope=scope
        )

    def slot(self, name: Symbol) -> Symbol:
        """A stand-in for an axis of an array that elements are taken from."""
        new = Symbol(f"{name.name}''slot", integer=True)
        self.axes[new] = self.axes[name]
        return new

    # -- exponentials ------------------------------------------------------------------------------

    def log_sum_exp(self, d: Definition, scope: list[Symbol]) -> Ref:
        """log(sum(exp(f))), shifted by the maximum of f so that nothing overflows."""
        e = d.rhs
        assert isinstance(e, LogSumExp)
        bound = []
        for index, lo, hi in e.limits:
            self.axes[index] = Axis(lo, expand(hi - lo + 1))
            bound.append(index)
        inner = [*scope, *bound]
        f = e.function
        if isinstance(f, Where):
            mask = self.condition(f.condition, inner)
            values = self.map("where", [mask, self.lower(f.yes, inner), self.scalar(S.NegativeInfinity)], inner)
        else:
            values = self.lower(f, inner)
        missing = [b for b in bound if b not in values.names]
        if missing:
            ones = [self.map("real", [self.arange(b)], inner) for b in missing]
            zeros = [self.map("mul", [self.scalar(S.Zero), o], inner) for o in ones]
            values = self.map("add", [values, *zeros], inner)
        top = self.reduce("max", values, bound, inner)
        minus = self.map("mul", [self.scalar(S.NegativeOne), top], inner)
        weights = self.map("exp", [self.map("add", [values, minus], inner)], inner)
        total = self.reduce("sum", weights, bound, inner)
        self.softmax[d.name] = (d, weights, total)
        return self.map("add", [top, self.map("log", [total], inner)], scope)

    def softmax_element(self, exponent: Expr, scope: list[Symbol]) -> Ref | None:
        """exp(f - log(sum(exp(f)))) as a quotient of what the logarithm was computed from."""
        for part in Add.make_args(exponent):
            reference = -part
            name = str(reference.base.label) if isinstance(reference, Indexed) else getattr(reference, "name", None)
            if name not in self.softmax:
                continue
            d, weights, total = self.softmax[name]
            rest = exponent - part
            function = d.rhs.function
            guarded = isinstance(function, Where)
            if guarded:
                function = function.yes
            indices = reference.indices if isinstance(reference, Indexed) else ()
            outer = dict(zip(d.indices, indices, strict=True))
            bound = [lim[0] for lim in d.rhs.limits]
            choices = sorted(
                {s for s in free_symbols(rest) if s in self.axes}
                | {a for a in rest.atoms(Indexed) if a.base.label.is_integer},
                key=str,
            )
            for combination in product(choices, repeat=len(bound)):
                mapping = {**outer, **dict(zip(bound, combination, strict=True))}
                # Where the sum leaves indices out, its terms are known only where the condition is known to hold.
                guards = And.make_args(substitute(d.rhs.function.condition, mapping)) if guarded else ()
                if substitute(function, mapping) == rest and all(g in self.assumed for g in guards):
                    top = self.read(weights, mapping, scope)
                    below = self.read(total, mapping, scope)
                    inverse = self.map("pow", [below, self.scalar(S.NegativeOne)], scope)
                    return self.map("mul", [top, inverse], scope)
        return None

    def read(self, ref: Ref, mapping: dict[Any, Any], scope: list[Symbol]) -> Ref:
        """A use of a node with its axes put to other indices, some of them perhaps labels."""
        wanted = [mapping[n] for n in ref.names]
        held = f"held''{ref.node.number}"
        saved = self.defined.get(held)
        self.defined[held] = (ref, ref.names)
        from sympy import IndexedBase

        result = (
            self.element(Indexed(IndexedBase(Symbol(held, real=True)), *wanted), scope) if wanted else Ref(ref.node, ())
        )
        if saved is None:
            del self.defined[held]
        return result
