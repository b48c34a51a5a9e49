"""Losses as a person states them, and the reading of a statement into definitions the calculus can trust.

``Loss`` keeps what the user wrote. ``read`` turns it into a ``Form``: every array known with its shape, every index
with its range, every bound index renamed apart, every condition explicit, labels told from values. What is not
understood is refused here, with the loss, the definition and the sub-expression as the user wrote it.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sympy import (
    Abs,
    Add,
    And,
    Basic,
    Eq,
    Expr,
    Float,
    Ge,
    Gt,
    Idx,
    Indexed,
    IndexedBase,
    Integer,
    KroneckerDelta,
    Le,
    Lt,
    Max,
    Min,
    Mul,
    Ne,
    Not,
    NumberSymbol,
    Or,
    Piecewise,
    Pow,
    Rational,
    S,
    Sum,
    Symbol,
    Tuple,
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
from sympy.core.relational import Relational

from derive.errors import StatementError
from derive.notation import Where, indicator, rebuild, relation, sum_over

__all__ = ["Definition", "Form", "Loss", "Variable", "at_most", "letter", "read"]

#: Functions of one real argument that every target can spell.
ELEMENTARY = (exp, log, sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, Abs, sign)
_RELATIONS = (Eq, Ne, Lt, Le, Gt, Ge)


class Loss:
    """A scalar loss in index notation.

    Parameters
    ----------
    name : str
        What the generated module is called; a Python identifier.
    value : sympy.Expr
        The loss, a scalar, in terms of ``wrt``, ``data``, the quantities named in ``where``, sizes and
        hyperparameters.
    wrt : sequence of IndexedBase or Symbol
        The parameters, in the order of the generated functions' arguments.
    data : sequence of IndexedBase or Symbol
        Everything else that is passed in. An array that stands in an index position, ``y`` in ``W[y[i], k]``, holds
        labels: integers, counted from 0.
    where : sequence of Eq
        Named intermediate quantities, each by one equation ``Eq(s[i, j], ...)``, in order.
    defaults : mapping of Symbol to number
        Default values of scalar hyperparameters. A scalar of the statement that is neither a size nor in ``wrt`` or
        ``data`` is a keyword-only argument; without a default it must be given.
    meanings : mapping of symbol to str
        What symbols stand for, in words, for docstrings and reports.
    about : str
        One sentence on the loss, for docstrings and reports.
    """

    def __init__(
        self,
        name: str,
        value: Any,
        *,
        wrt: Sequence[Any],
        data: Sequence[Any] = (),
        where: Sequence[Any] = (),
        defaults: Mapping[Any, Any] | None = None,
        meanings: Mapping[Any, str] | None = None,
        about: str = "",
    ) -> None:
        self.name = name
        self.value = value
        self.wrt = tuple(wrt) if isinstance(wrt, Iterable) and not isinstance(wrt, IndexedBase) else (wrt,)
        self.data = tuple(data) if isinstance(data, Iterable) and not isinstance(data, IndexedBase) else (data,)
        self.where = tuple(where) if isinstance(where, Iterable) and not isinstance(where, Basic) else (where,)
        self.defaults = dict(defaults or {})
        self.meanings = {str(k): v for k, v in (meanings or {}).items()}
        self.about = about

    def __repr__(self) -> str:
        return f"Loss({self.name!r}, {self.value}, wrt={list(self.wrt)}, data={list(self.data)})"

    def _repr_latex_(self) -> str:
        from derive.latex import statement_latex

        return statement_latex(self)


@dataclass(frozen=True)
class Variable:
    """An argument of the generated functions.

    ``labels`` is None for real values; for labels it holds the (lowest, highest) values allowed, sizes included.
    """

    name: str
    shape: tuple[Expr, ...]
    labels: tuple[tuple[Expr, Expr], ...] | None = None

    @property
    def element(self) -> IndexedBase | Symbol:
        return IndexedBase(Symbol(self.name, real=True)) if self.shape else Symbol(self.name, real=True)


@dataclass(frozen=True)
class Definition:
    """``name[indices] = rhs``, each index counting from 0 to its size less 1; a scalar where there are no indices."""

    name: str
    indices: tuple[Symbol, ...]
    rhs: Expr
    sizes: tuple[Expr, ...] = ()

    @property
    def lhs(self) -> Expr:
        if self.indices:
            return Indexed(IndexedBase(Symbol(self.name, real=True)), *self.indices)
        return Symbol(self.name, real=True)


@dataclass(frozen=True)
class Form:
    """A statement, read: definitions in order, the value last, under the name ``loss``."""

    name: str
    definitions: tuple[Definition, ...]
    parameters: tuple[Variable, ...]
    data: tuple[Variable, ...]
    hyperparameters: tuple[tuple[str, Any], ...]
    sizes: tuple[Symbol, ...]
    ranges: dict[Symbol, tuple[Expr, Expr]]
    requirements: tuple[tuple[Expr, str], ...] = ()

    @property
    def arguments(self) -> tuple[Variable, ...]:
        return self.parameters + self.data

    @property
    def value(self) -> Definition:
        return self.definitions[-1]

    def index(self, like: Symbol, lo: Expr, hi: Expr) -> Symbol:
        """A new index, unlike all others, with the letter of another and a range (inclusive)."""
        new = Symbol(f"{letter(like)}'{len(self.ranges)}", integer=True)
        self.ranges[new] = (lo, hi)
        return new

    def with_definitions(self, definitions: Iterable[Definition]) -> Form:
        return replace(self, definitions=tuple(definitions))


def read(loss: Loss) -> Form:
    """Read a statement.

    Raises
    ------
    StatementError
        Naming the loss, the definition and the sub-expression.
    """
    return _Reader(loss).form()


def letter(index: Symbol) -> str:
    """The blackboard letter of an index: what precedes its primes."""
    return str(index.name).split("'")[0]


def _name_of(thing: Any) -> str:
    if isinstance(thing, IndexedBase):
        return str(thing.label)
    return str(thing)


def at_most(difference: Expr) -> bool | None:
    """Whether an integer expression in sizes (each at least 1) is <= 0: yes, no, or it depends."""
    d = expand(difference)
    if d.is_number:
        return bool(d <= 0)
    shifted = expand(d.subs({s: s + 1 for s in d.free_symbols}, simultaneous=True))
    constant, rest = shifted.as_coeff_Add()
    coefficients = [t.as_coeff_Mul()[0] for t in Add.make_args(rest)]
    if constant <= 0 and all(c <= 0 for c in coefficients):
        return True
    if constant > 0 and all(c >= 0 for c in coefficients):
        return False
    return None


class _Reader:
    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.place = "its declarations"
        self.arrays: dict[str, tuple[Expr | None, ...]] = {}
        self.kind: dict[str, str] = {}
        self.labels: dict[str, list[tuple[Expr, Expr]]] = {}
        self.as_value: dict[str, str] = {}
        self.scalars: set[str] = set()
        self.sizes: dict[str, Symbol] = {}
        self.hyper: dict[str, Symbol] = {}
        self.defaults: dict[str, Any] = {}
        self.definitions: list[Definition] = []
        self.ranges: dict[Symbol, tuple[Expr, Expr]] = {}
        self.requirements: dict[str, tuple[Expr, str]] = {}
        self.within: list[Any] = []

    # -- errors ------------------------------------------------------------------------------------

    def refuse(self, what: str, expr: Any = None) -> StatementError:
        shown = f" in `{expr}`" if expr is not None else ""
        if self.within and expr is not None and str(self.within[0]) != str(expr):
            shown += f" of `{self.within[0]}`"
        return StatementError(f"loss '{self.loss.name}', {self.place}{shown}: {what}")

    # -- declarations ------------------------------------------------------------------------------

    def form(self) -> Form:
        loss = self.loss
        if not isinstance(loss.name, str) or not loss.name.isidentifier() or keyword.iskeyword(loss.name):
            raise self.refuse(f"the name {loss.name!r} must be a Python identifier")
        if not loss.wrt:
            raise self.refuse("`wrt` is empty; a loss needs at least one parameter to be differentiated by")
        for group in ("wrt", "data"):
            for thing in getattr(loss, group):
                self.declare(thing, group)
        for symbol, default in loss.defaults.items():
            if not isinstance(symbol, Symbol) or isinstance(symbol, Idx):
                raise self.refuse(f"a key of `defaults` must be a scalar symbol, not {symbol!r}")
            if str(symbol) in self.kind:
                raise self.refuse(f"`{symbol}` has a default and is also in `wrt` or `data`")
            number = _number(default)
            if number is None:
                raise self.refuse(f"the default of `{symbol}` must be a finite real number, not {default!r}")
            self.defaults[str(symbol)] = number
        self.find_sizes()
        for equation in loss.where:
            self.define(equation)
        self.place = "value"
        if isinstance(loss.value, Relational | str) or not isinstance(loss.value, Expr | int | float):
            raise self.refuse(f"the value must be a SymPy expression, not {type(loss.value).__name__}", loss.value)
        value = self.parse(_sympified(loss.value), {})
        name = "loss"
        while name in self.kind:
            name += "_"
        self.definitions.append(Definition(name, (), value))
        return self.finish()

    def declare(self, thing: Any, group: str) -> None:
        if not isinstance(thing, IndexedBase | Symbol) or isinstance(thing, Idx):
            raise self.refuse(f"an entry of `{group}` must be an IndexedBase or a Symbol, not {thing!r}")
        name = _name_of(thing)
        self.check_name(name)
        if name in self.kind:
            raise self.refuse(f"`{name}` is declared twice in `wrt` and `data`")
        self.kind[name] = group
        if isinstance(thing, IndexedBase):
            self.arrays[name] = tuple(thing.shape) if thing.shape is not None else ()
            if thing.shape is None:
                self.arrays[name] = self.infer_shape(name)
        else:
            self.scalars.add(name)

    def check_name(self, name: str) -> None:
        if name.startswith("_"):
            raise self.refuse(f"`{name}` begins with an underscore; such names are kept for the generated code itself")
        if not name.isidentifier() or keyword.iskeyword(name):
            raise self.refuse(f"`{name}` must be a Python identifier, since it names an argument of the generated code")

    def infer_shape(self, name: str) -> tuple[Expr, ...]:
        """The shape of an array declared without one: the ranges of the indices that run over it."""
        found: tuple[Expr, ...] | None = None
        bounds: dict[Basic, tuple[Expr, Expr]] = {}
        sources = [*self.loss.where, self.loss.value]
        for source in sources:
            if isinstance(source, Basic):
                for node in sorted(source.atoms(Sum), key=str):
                    for limit in node.limits:
                        if len(limit) == 3:
                            bounds[limit[0]] = (limit[1], limit[2])
        uses = sorted(
            (u for s in sources if isinstance(s, Basic) for u in s.atoms(Indexed) if str(u.base.label) == name), key=str
        )
        for use in uses:
            shape = []
            for e in use.indices:
                if isinstance(e, Idx) and e.upper is not None:
                    shape.append(e.upper + 1)
                elif e in bounds:
                    shape.append(bounds[e][1] + 1)
                else:
                    break
            else:
                found = found or tuple(shape)
        if found is None:
            raise self.refuse(
                f"the shape of `{name}` is not known: declare it, IndexedBase('{name}', shape=(...)), "
                "or use it with indices that have ranges"
            )
        return found

    def find_sizes(self) -> None:
        """Sizes are the integer symbols in shapes and index ranges that are not arguments."""

        def note(expr: Any) -> None:
            for s in sorted(getattr(expr, "free_symbols", ()), key=str):
                if isinstance(s, Symbol) and not isinstance(s, Idx) and str(s) not in self.scalars:
                    self.sizes.setdefault(str(s), Symbol(str(s), integer=True, positive=True))

        for shape in self.arrays.values():
            for size in shape:
                note(size)
        for name in self.defaults:
            if name in self.sizes:
                raise self.refuse(
                    f"`{name}` is a size, taken from the shapes of the arguments; it can't have a default"
                )

    def size(self, expr: Any) -> Expr:
        """A size expression in the toolkit's own symbols."""
        expr = _sympified(expr)
        replaced = {}
        for s in sorted(expr.free_symbols, key=str):
            name = str(s)
            if name in self.sizes:
                replaced[s] = self.sizes[name]
            elif name in self.arrays or name in self.kind:
                raise self.refuse(f"`{s}` is an argument and can't be a size", expr)
            elif s in self.ranges:
                replaced[s] = s
            else:
                replaced[s] = self.hyperparameter(s, integer=True)
        return expand(expr.xreplace(replaced))

    def hyperparameter(self, s: Symbol, integer: bool = False) -> Symbol:
        name = str(s)
        if name not in self.hyper:
            self.check_name(name)
            self.hyper[name] = (
                Symbol(name, integer=True, positive=True)
                if integer
                else Symbol(name, real=True, positive=s.is_positive)
            )
        return self.hyper[name]

    # -- indices -----------------------------------------------------------------------------------

    def bind(self, user: Any, lo: Any, hi: Any) -> Symbol:
        name = str(user.label) if isinstance(user, Idx) else str(user)
        new = Symbol(f"{name}'{len(self.ranges)}", integer=True)
        self.ranges[new] = (lo, hi)
        return new

    def extent(self, expr: Expr) -> tuple[Expr, Expr]:
        """The least and greatest value of an affine index expression."""
        lo = hi = expand(expr)
        for _ in range(8):
            indices = sorted((s for s in lo.free_symbols | hi.free_symbols if s in self.ranges), key=str)
            if not indices:
                return expand(lo), expand(hi)
            for s in indices:
                a, b = self.ranges[s]
                lo = expand(lo.xreplace({s: a if lo.coeff(s).is_nonnegative else b}))
                hi = expand(hi.xreplace({s: b if hi.coeff(s).is_nonnegative else a}))
        raise self.refuse("the limits of its indices refer to each other", expr)

    def limits(
        self, node: Sum, scope: dict[Any, Symbol]
    ) -> tuple[list[tuple[Symbol, Expr, Expr]], dict[Any, Symbol], list[Any]]:
        """Bind the indices of a sum; limits that depend on other indices become a box and a condition."""
        bound, conditions = [], []
        scope = dict(scope)
        for limit in reversed(node.limits):  # SymPy puts the innermost first
            user = limit[0]
            if len(limit) != 3:
                raise self.refuse(
                    f"the index `{user}` has no range: use Idx('{user}', size) or limits ({user}, 0, size - 1)", node
                )
            lo, hi = (self.parse_index(e, scope, limit=True) for e in limit[1:])
            for e in (lo, hi):
                if e.atoms(Indexed):
                    raise self.refuse("a limit of a sum must be made of sizes, integers and indices", node)
            if any(s in self.ranges for s in lo.free_symbols | hi.free_symbols):
                low, high = self.extent(lo)[0], self.extent(hi)[1]
                new = self.bind(user, low, high)
                if lo != low:
                    conditions.append(Ge(new, lo))
                if hi != high:
                    conditions.append(Le(new, hi))
                lo, hi = low, high
            else:
                new = self.bind(user, lo, hi)
            if at_most(lo - hi - 1) is False:
                raise self.refuse(f"the range of `{user}`, {lo} to {hi}, is empty", node)
            if at_most(lo - hi - 1) is None:
                excess = expand(lo - hi - 1)
                self.requirements[str(excess)] = (
                    excess,
                    f"the sum over {user} from {lo} to {hi} ends before it begins",
                )
            scope[user] = new
            bound.append((new, lo, hi))
        bound.reverse()
        return bound, scope, conditions

    def parse_index(self, expr: Any, scope: dict[Any, Symbol], limit: bool = False) -> Expr:
        expr = _sympified(expr)
        if expr in scope:
            return scope[expr]
        if isinstance(expr, Integer):
            return expr
        if isinstance(expr, Idx):
            if isinstance(expr.label, Integer):
                return expr.label
            raise self.refuse(
                f"the index `{expr}` is free here: it is bound neither by a sum nor by the left side of the definition",
                expr,
            )
        if isinstance(expr, Indexed):
            name = str(expr.base.label)
            if name not in self.arrays or self.kind.get(name) != "data":
                raise self.refuse(
                    f"`{expr}` stands in an index position, so `{name}` must be a label array in `data`", expr
                )
            return self.element(expr, scope, label=True)
        if isinstance(expr, Symbol):
            name = str(expr)
            if name in self.sizes:
                return self.sizes[name]
            if name in self.kind or name in self.arrays:
                raise self.refuse(f"`{expr}` is not an index", expr)
            if name in self.hyper and self.hyper[name].is_integer:
                return self.hyper[name]
            if any(str(u) == name for u in scope):
                return next(v for u, v in scope.items() if str(u) == name)
            if limit:
                # A number of terms that no shape tells: an integer to be passed in.
                return self.hyperparameter(expr, integer=True)
            raise self.refuse(
                f"the index `{expr}` is not declared: it has no range and no sum or left side binds it", expr
            )
        if any(a.is_Rational and not a.is_Integer for a in expr.args):
            raise self.refuse("an index or a limit must be an integer", expr)
        if isinstance(expr, Add | Mul):
            return expand(expr.func(*(self.parse_index(a, scope, limit) for a in expr.args)))
        raise self.refuse(
            "an index may be made of indices, integers, sizes and label arrays, added or multiplied", expr
        )

    def element(self, expr: Indexed, scope: dict[Any, Symbol], label: bool = False) -> Expr:
        name = str(expr.base.label)
        if name not in self.arrays:
            known = ", ".join(sorted(self.arrays)) or "none"
            raise self.refuse(
                f"the array `{name}` is neither in `wrt` or `data` nor defined before this point (known: {known})", expr
            )
        shape = self.arrays[name]
        if len(expr.indices) != len(shape):
            raise self.refuse(f"`{name}` has {len(shape)} indices, not {len(expr.indices)}", expr)
        indices = []
        self.within.append(expr)
        for axis, (user, size) in enumerate(zip(expr.indices, shape, strict=True)):
            e = self.parse_index(user, scope)
            self.check_bounds(expr, axis, e, self.size(size))
            indices.append(e)
        self.within.pop()
        if label:
            self.labels.setdefault(name, [])
        return Indexed(IndexedBase(Symbol(name, real=True)), *indices)

    def check_bounds(self, expr: Indexed, axis: int, e: Expr, size: Expr) -> None:
        gathered = sorted(e.atoms(Indexed), key=str)
        if gathered:
            inner = gathered[-1]
            for g in gathered:
                if any(g in h.indices or g in h.atoms(Indexed) for h in gathered if h != g):
                    continue
                inner = g
            shift = expand(e - inner)
            if shift.atoms(Indexed):
                raise self.refuse("an index may hold one label array, plus or minus a constant", expr)
            lo, hi = self.extent(shift)
            self.limit_labels(str(inner.base.label), (expand(-lo), expand(size - 1 - hi)))
            return
        lo, hi = self.extent(e)
        for excess, text in ((expand(-lo), f"reaches {lo}, below 0"), (expand(hi - size + 1), f"reaches {hi}")):
            verdict = at_most(excess)
            if verdict is True:
                continue
            growing = [s for s in excess.free_symbols if excess.coeff(s).is_positive]
            if verdict is False or growing:
                raise self.refuse(f"index {axis} of `{expr}` {text}, but that axis has size {size}", expr)
            self.requirements[str(excess)] = (excess, f"{expr} needs {size} > {hi}")

    def limit_labels(self, name: str, bounds: tuple[Expr, Expr]) -> None:
        entries = self.labels.setdefault(name, [])
        if bounds not in entries:
            entries.append(bounds)

    # -- definitions -------------------------------------------------------------------------------

    def define(self, equation: Any) -> None:
        if not isinstance(equation, Eq):
            raise self.refuse(f"an entry of `where` must be an Eq(quantity, expression), not `{equation}`")
        left, right = equation.lhs, equation.rhs
        scope: dict[Any, Symbol] = {}
        indices: list[Symbol] = []
        sizes: list[Expr] = []
        if isinstance(left, Indexed):
            name = str(left.base.label)
            self.place = f"definition of `{left}`"
            shape = left.base.shape
            if shape is not None and len(shape) != len(left.indices):
                raise self.refuse(f"`{name}` has {len(shape)} indices, not {len(left.indices)}", left)
            for axis, user in enumerate(left.indices):
                if not isinstance(user, Idx | Symbol) or isinstance(getattr(user, "label", None), Integer):
                    raise self.refuse("the left side of a definition takes plain indices, such as s[i, j]", left)
                if user in scope:
                    raise self.refuse(f"the index `{user}` stands twice on the left side", left)
                if isinstance(user, Idx) and user.upper is not None:
                    lo, hi = self.size(user.lower), self.size(user.upper)
                elif shape is not None:
                    lo, hi = S.Zero, self.size(shape[axis]) - 1
                else:
                    raise self.refuse(f"the index `{user}` has no range: use Idx('{user}', size)", left)
                if lo != 0:
                    raise self.refuse(f"the index `{user}` must start at 0 on the left side of a definition", left)
                size = expand(hi + 1)
                if shape is not None and expand(self.size(shape[axis]) - size) != 0:
                    raise self.refuse(
                        f"the index `{user}` runs over {size}, but axis {axis} of `{name}` has size {shape[axis]}", left
                    )
                new = self.bind(user, lo, hi)
                scope[user] = new
                indices.append(new)
                sizes.append(size)
        elif isinstance(left, Symbol) and not isinstance(left, Idx):
            name = str(left)
            self.place = f"definition of `{left}`"
        else:
            raise self.refuse("the left side of a definition must be an element such as s[i, j] or a symbol", left)
        self.check_name(name)
        if name in self.arrays or name in self.kind or name in self.scalars:
            raise self.refuse(f"`{name}` is declared or defined already", equation)
        if name in self.sizes or name in self.defaults:
            raise self.refuse(f"`{name}` is already a size or a hyperparameter", equation)
        if name in self.hyper:
            raise self.refuse(f"`{name}` is used before it is defined", equation)
        if any(
            (isinstance(a, Indexed) and str(a.base.label) == name) or (isinstance(a, Symbol) and a == left)
            for a in right.atoms(Indexed, Symbol)
            if not isinstance(a, Idx) and not (isinstance(left, Indexed) and isinstance(a, Symbol))
        ):
            raise self.refuse(f"`{name}` is defined by itself; a definition may only use what comes before it", right)
        rhs = self.parse(_sympified(right), scope)
        self.definitions.append(Definition(name, tuple(indices), rhs, tuple(sizes)))
        if sizes:
            self.arrays[name] = tuple(sizes)
        else:
            self.scalars.add(name)
        self.kind[name] = "where"

    # -- expressions -------------------------------------------------------------------------------

    def parse(self, e: Any, scope: dict[Any, Symbol]) -> Expr:
        """An expression that stands for a real value."""
        if isinstance(e, Indexed):
            name = str(e.base.label)
            self.as_value.setdefault(name, f"{self.place}, `{e}`")
            return self.element(e, scope)
        if e in scope:
            return scope[e]
        if isinstance(e, Float):
            if not e.is_finite:
                raise self.refuse("a number must be finite", e)
            return Rational(str(e))
        if isinstance(e, Rational | NumberSymbol):
            if not e.is_finite:
                raise self.refuse("a number must be finite", e)
            return e
        if isinstance(e, IndexedBase):
            raise self.refuse(f"the array `{e}` needs indices here", e)
        if isinstance(e, Idx):
            return self.parse_index(e, scope)
        if isinstance(e, Symbol):
            return self.scalar(e, scope)
        if isinstance(e, Sum):
            bound, inner, conditions = self.limits(e, scope)
            body = self.parse(e.function, inner)
            # The order of sums has no meaning; that of axes in memory has: rows of the data come first.
            rows = {
                a.indices[0]
                for a in body.atoms(Indexed)
                if self.kind.get(str(a.base.label)) == "data" and a.indices[0] in self.ranges
            }
            bound.sort(key=lambda lim: lim[0] not in rows)
            if conditions:
                body = Where(And(*conditions), body, 0)
            return sum_over(body, *bound) if body != 0 else S.Zero
        if isinstance(e, Add | Mul):
            return e.func(*(self.parse(a, scope) for a in e.args))
        if isinstance(e, Pow):
            return self.parse(e.base, scope) ** self.parse(e.exp, scope)
        if isinstance(e, Max | Min):
            return e.func(*sorted((self.parse(a, scope) for a in e.args), key=lambda a: a.sort_key()), evaluate=False)
        if isinstance(e, ELEMENTARY):
            return e.func(*(self.parse(a, scope) for a in e.args))
        if isinstance(e, KroneckerDelta):
            if len(e.args) > 2:
                raise self.refuse("KroneckerDelta takes two arguments here; put the range into the sum", e)
            return indicator(self.condition(Eq(e.args[0], e.args[1], evaluate=False), scope))
        if isinstance(e, Piecewise):
            return self.piecewise(e, scope)
        if e in (S.NaN, S.Infinity, S.NegativeInfinity, S.ComplexInfinity, S.ImaginaryUnit):
            raise self.refuse("a value must be a finite real number", e)
        accepted = ", ".join(sorted(f.__name__ for f in ELEMENTARY))
        raise self.refuse(
            f"`{type(e).__name__}` is not known. Accepted: sums, + - * / **, Max, Min, Piecewise, KroneckerDelta, "
            f"sqrt, {accepted}",
            e,
        )

    def scalar(self, e: Symbol, scope: dict[Any, Symbol]) -> Expr:
        name = str(e)
        if name in self.scalars:
            return Symbol(name, real=True)
        if name in self.sizes:
            return self.sizes[name]
        if name in self.arrays:
            raise self.refuse(f"the array `{e}` needs indices here", e)
        if e.is_extended_real is False or e.is_commutative is False:
            raise self.refuse(f"`{e}` must be real", e)
        return self.hyperparameter(e)

    def piecewise(self, e: Piecewise, scope: dict[Any, Symbol]) -> Expr:
        if e.args[-1][1] != True:  # noqa: E712 - SymPy's true
            raise self.refuse(
                "the last branch of a Piecewise must be (value, True): the cases must cover everything", e
            )
        for _, condition in e.args:
            for index in sorted(condition.free_symbols, key=str):
                inner = [s for s in e.atoms(Sum) if any(lim[0] == index for lim in s.limits)]
                if inner and index in scope:
                    raise self.refuse(
                        f"the index `{index}` is bound twice, once inside the other, around a Piecewise; use another "
                        "letter for the inner sum, or name the inner sum in `where`",
                        e,
                    )
                if inner:
                    unfolded = _unfolded(e, index)
                    if unfolded is None:
                        raise self.refuse(
                            f"the index `{index}` is free in a condition. SymPy moves a Piecewise out of an inner sum "
                            "when the outer sum is built: name the inner sum in `where`",
                            e,
                        )
                    return self.parse(unfolded, scope)
        result: Expr | None = None
        for value, condition in reversed(e.args):
            parsed = self.parse(value, scope)
            if result is None:
                result = parsed
                continue
            c = self.condition(condition, scope)
            result = parsed if c == True else result if c == False else Where(c, parsed, result)  # noqa: E712
        assert result is not None
        return result

    def condition(self, c: Any, scope: dict[Any, Symbol]) -> Any:
        if c in (S.true, S.false):
            return c
        if isinstance(c, And | Or):
            return c.func(*(self.condition(a, scope) for a in c.args))
        if isinstance(c, Not):
            return Not(self.condition(c.args[0], scope))
        if isinstance(c, _RELATIONS):
            sides = [self.side(s, scope) for s in c.args]
            for (mine, user), (other, _) in ((sides[0], sides[1]), (sides[1], sides[0])):
                if isinstance(mine, Indexed) and self.kind.get(str(mine.base.label)) == "data":
                    name = str(mine.base.label)
                    if other in self.ranges and isinstance(c, Eq | Ne):
                        self.labels.setdefault(name, [])
                        lo, hi = self.ranges[other]
                        if lo == 0 and isinstance(hi + 1, Symbol):
                            # The index runs over all classes, and the label is one of them.
                            self.limit_labels(name, (lo, hi))
                    elif not isinstance(other, Indexed) and not other.free_symbols <= self.counted():
                        self.as_value.setdefault(name, f"{self.place}, `{user}`")
            return relation(type(c), sides[0][0], sides[1][0])
        raise self.refuse(f"`{c}` is not a condition: use comparisons (==, !=, <, <=, >, >=) with And, Or, Not", c)

    def counted(self) -> set[Symbol]:
        """The integers by nature: indices and sizes. A label compared with them is not used as a value."""
        return set(self.ranges) | set(self.sizes.values())

    def side(self, e: Any, scope: dict[Any, Symbol]) -> tuple[Expr, Any]:
        """One side of a comparison: an index, a label or a value; comparing a label is no use of it as a value."""
        if isinstance(e, Indexed):
            return self.element(e, scope), e
        return self.parse(e, scope), e

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> Form:
        self.place = "its declarations"
        for name in sorted(self.labels):
            if self.kind.get(name) != "data":
                raise self.refuse(f"`{name}` holds labels, so it must be in `data`")
            if name in self.as_value:
                where = self.as_value[name]
                raise self.refuse(
                    f"`{name}` stands in an index position, so it holds labels, and is also used as a value ({where}); "
                    "pass a second array for the values"
                )

        def variable(thing: Any) -> Variable:
            name = _name_of(thing)
            shape = tuple(self.size(s) for s in self.arrays.get(name, ()))
            labels = tuple(self.labels[name]) if name in self.labels else None
            return Variable(name, shape, labels)

        integral = {n: IndexedBase(Symbol(n, integer=True)) for n in sorted(self.labels)}
        for position, d in enumerate(self.definitions):
            rhs = _with_labels(d.rhs, integral)
            self.definitions[position] = Definition(d.name, d.indices, rhs, d.sizes)
        for name in self.defaults:
            self.hyper.setdefault(name, Symbol(name, real=True))
        order = [*self.defaults, *(n for n in sorted(self.hyper) if n not in self.defaults)]
        return Form(
            name=self.loss.name,
            definitions=tuple(self.definitions),
            parameters=tuple(variable(t) for t in self.loss.wrt),
            data=tuple(variable(t) for t in self.loss.data),
            hyperparameters=tuple((n, self.defaults.get(n)) for n in order),
            sizes=tuple(self.sizes.values()),
            ranges=self.ranges,
            requirements=tuple(self.requirements.values()),
        )


def _unfolded(e: Piecewise, index: Any) -> Any:
    """The expression before SymPy moved a Piecewise out of the inner sum over ``index``, where that is certain.

    ``Sum`` applies ``piecewise_fold`` to what it sums (SymPy 1.14), also across the bounds of an inner sum: from
    F(sum of Piecewise((g, c), (h, True))) it makes Piecewise((F(sum of g), c), (F(sum of h), True)).
    """
    if len(e.args) != 2:
        return None
    (first, condition), (second, _) = e.args
    found = []
    for s in sorted(first.atoms(Sum), key=str):
        if not any(lim[0] == index for lim in s.limits):
            continue
        others = [(S.Zero, S.Zero)]
        others += [(t, t.function) for t in sorted(second.atoms(Sum), key=str) if t.limits == s.limits]
        for whole, function in others:
            if first.xreplace({s: whole}) == second:
                guarded = Sum(Piecewise((s.function, condition), (function, True)), *s.limits)
                found.append(first.xreplace({s: guarded}))
    return found[0] if len(found) == 1 else None


def _with_labels(expr: Any, bases: Mapping[str, IndexedBase]) -> Any:
    """The expression with the bases of label arrays declared integer."""
    if isinstance(expr, Indexed):
        base = bases.get(str(expr.base.label), expr.base)
        return Indexed(base, *(_with_labels(i, bases) for i in expr.indices))
    if not expr.args or not expr.has(Indexed):
        return expr
    args = tuple(_with_labels(a, bases) for a in expr.args)
    return Tuple(*args) if isinstance(expr, Tuple) else rebuild(expr, args)


def _sympified(value: Any) -> Any:
    return value if isinstance(value, Basic) else S(value)


def _number(value: Any) -> Any:
    """A default as the Python number it will be printed as."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Integer):
        return int(value)
    if isinstance(value, float | Rational | Float):
        number = float(value)
        return number if number == number and abs(number) != float("inf") else None
    return None
