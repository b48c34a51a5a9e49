"""Which lines of a derivation are worth a reader's time, as rows (left side, terms of the right side, reason, name).

Everything comes from the ``Derivation`` or the ``UpdateRule``: definitions, recorded steps, adjoints, examples'
gradients. Only that is merged which a person does in one go: entries of a derivative that vanish are left out, by
setting those indices equal without which they do, and its deltas are contracted by the rule of ``rewrite.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sympy import (
    Abs,
    Add,
    And,
    Basic,
    Eq,
    Expr,
    Indexed,
    Max,
    Min,
    Ne,
    Pow,
    S,
    Symbol,
    exp,
    expand,
    log,
    preorder_traversal,
)

from derive.blackboard import ADJOINT, Notation, Writer, instance, recognise, vector_in
from derive.matrix import matrix_form
from derive.notation import LogSumExp, Partial, Sigmoid, Softplus, Where, substitute, sum_over
from derive.rewrite import assemble, contract, terms, tidy_inner
from derive.statement import letter

if TYPE_CHECKING:
    from derive.analyses import Analysis
    from derive.differentiate import Derivation, ExampleGradient, Step
    from derive.latex import LatexWriter
    from derive.rule import UpdateRule
    from derive.statement import Definition, Form

__all__ = [
    "Row",
    "analysis_notation",
    "example_rows",
    "gradient_rows",
    "local_rows",
    "matrix_rows",
    "rewritten_rows",
    "rule_rows",
    "statement_rows",
]


@dataclass(frozen=True)
class Row:
    """A line: ``left = pieces``, the reason for it, and the quantity whose equation it is (or none).

    An empty left side continues the row before; without a sign, the line only says where a chain starts.
    """

    left: str
    pieces: tuple[str, ...]
    reason: str = ""
    name: str = ""
    sign: str = "="


def _row(writer: Writer, left: Expr, right: Expr, reason: str = "", name: str = "") -> Row:
    return Row(writer.write(left), tuple(writer.sides(right)), reason, name)


#: An example's gradient with more operations than this is not looked at.
LONGEST = 70


# -- the statement ---------------------------------------------------------------------------------


def statement_rows(derivation: Derivation, writer: Writer) -> list[Row]:
    """The definitions as the user wrote them."""
    return [_row(writer, d.lhs, d.rhs, name=d.name) for d in derivation.form.definitions]


def rewritten_rows(derivation: Derivation, writer: Writer) -> list[Row]:
    """What was named or rewritten before differentiating, with the rules used."""
    stated = {d.name: d for d in derivation.form.definitions}
    reasons: dict[str, list[str]] = {}
    for step in derivation.raw_steps:
        if step.section == "statement":
            reasons.setdefault(_name(step.target), []).append(step.rule)
    rows = []
    for d in derivation.definitions:
        if d.name not in stated:
            rows.append(_row(writer, d.lhs, d.rhs, "named", d.name))
        elif d.rhs != stated[d.name].rhs:
            plain = [r for r in dict.fromkeys(reasons.get(d.name, [])) if r != "name a sum"]
            row = _row(writer, d.lhs, d.rhs, ", ".join(plain) or "with these names")
            if row.pieces != _row(writer, d.lhs, stated[d.name].rhs).pieces:
                rows.append(row)
    return rows


def _name(element: Expr) -> str:
    if isinstance(element, Indexed):
        return str(element.base.label)
    return element.name if isinstance(element, Symbol) else ""


# -- derivatives of one definition -----------------------------------------------------------------


def local_rows(derivation: Derivation, writer: Writer) -> list[Row]:
    """The derivative of each quantity by each one it is made from."""
    rows: list[Row] = []
    definitions = {d.name: d for d in derivation.definitions}
    total = derivation.form.value
    for step in derivation.local_steps:
        value, element = step.target.args
        source = _name(value)
        if source not in definitions:
            source, value = total.name, total.lhs
        if source == total.name and ADJOINT + _name(element) in {d.name for d in derivation.adjoints}:
            # It is a term of an adjoint, which is shown with all its terms.
            continue
        found = local(step, derivation.form)
        if found is None or found[1].is_number:
            continue
        element, result = substitute(element, found[0]), found[1]
        rows += _local_row(writer, value, element, result, definitions[source], step)
    return rows


def _local_row(
    writer: Writer, value: Expr, element: Expr, result: Expr, source: Definition, step: Step
) -> Iterator[Row]:
    reason = _reason(source.rhs, _name(element))
    k = element.indices[-1] if isinstance(element, Indexed) else None
    if isinstance(k, Symbol) and k not in value.free_symbols and vector_in(recognise(result, writer.notation), k):
        rowwise = writer.vector(k)
        yield Row(rowwise.show(Partial(value, element)), tuple(rowwise.sides(result)), reason)
    else:
        yield _row(writer, Partial(value, element), result, reason)


def local(step: Step, form: Form) -> tuple[dict[Basic, Basic], Expr] | None:
    """The entries of a derivative that do not vanish: which indices are equal, and the value, its deltas contracted."""
    _, element = step.target.args
    mine = [i for i in (element.indices if isinstance(element, Indexed) else ()) if isinstance(i, Symbol)]
    theirs = {i for i, _ in step.indices} - set(mine)
    parts = list(Add.make_args(step.after))
    equal: dict[Basic, Basic] = {}
    for i in mine:
        options = [_partner(p, i, theirs) for p in parts]
        if options and options[0] is not None and all(o == options[0] for o in options):
            equal[i] = options[0]
    ranges = dict(form.ranges) | {i: (S.Zero, expand(n - 1)) for i, n in step.indices}
    scope = replace(form, ranges=ranges)
    total: Expr = S.Zero
    for t in terms(substitute(step.after, equal)):
        held = t.replace({})
        done = contract(held, scope) if held is not None else None
        if done is not None:
            total += assemble([done])
    return equal, total


def _partner(part: Expr, index: Symbol, theirs: set[Symbol]) -> Symbol | None:
    """The index of the source that a term needs this one to equal."""
    if not isinstance(part, Where) or part.no != 0:
        coefficient, rest = part.as_coeff_Mul()
        return _partner(rest, index, theirs) if coefficient != 1 else None
    for c in And.make_args(part.condition):
        if isinstance(c, Eq) and index in c.args:
            other = c.args[1] if c.args[0] == index else c.args[0]
            if other in theirs:
                return other
    return None


_REASONS: dict[Any, str] = {
    Max: "derivative of max",
    Min: "derivative of min",
    Abs: "derivative of the absolute value",
    LogSumExp: "log of a sum of exponentials",
    Softplus: "derivative of the logarithm",
    Sigmoid: "derivative of the logistic function",
    log: "derivative of the logarithm",
    exp: "derivative of the exponential",
    Pow: "power rule",
}


def _reason(source: Expr, name: str) -> str:
    """The rule of calculus that a person would name: that of the first function through which a quantity passes."""
    for node in preorder_traversal(source):
        for head, words in _REASONS.items():
            if isinstance(node, head) and any(_name(e) == name for e in node.atoms(Indexed, Symbol)):
                return words
    return ""


# -- results ---------------------------------------------------------------------------------------


def example_rows(derivation: Derivation, writer: Writer) -> list[Row]:
    """The gradient of one example's loss, by cases where there are some."""
    rows = []
    for gradient in derivation.example_gradients:
        if not _is_of_an_example(gradient, derivation):
            continue
        gradient = _with_named_example(gradient, derivation)
        if gradient.cases:
            for case in gradient.cases:
                known = dict([case.condition.args]) if isinstance(case.condition, Eq) else {}
                value = substitute(case.value, known)
                target, value, condition = least_primes(case.target, value, case.condition)
                rows.append(_gradient_row(writer, target, value, _condition(condition, writer)))
        else:
            target, value = least_primes(gradient.target, gradient.value)
            rows.append(_gradient_row(writer, target, value, ""))
    return rows


def _indices(expr: Basic) -> list[Symbol]:
    """The free indices of an expression; sizes are positive, and arrays of labels are no indices."""
    arrays = {a.base.label for a in expr.atoms(Indexed)}
    found = [s for s in expr.free_symbols - arrays if isinstance(s, Symbol) and s.is_integer and not s.is_positive]
    return sorted(found, key=str)


def _is_of_an_example(gradient: ExampleGradient, derivation: Derivation) -> bool:
    """Whether the examples are the rows of the data, and the gradient is short enough to be looked at."""
    free = _indices(gradient.example)
    data = {v.name for v in derivation.form.data}
    used = [a for a in gradient.value.atoms(Indexed) if _name(a) in data]
    return any(a.indices[0] in free for a in used) and gradient.value.count_ops() < LONGEST


def _example_name(derivation: Derivation) -> str:
    taken = {v.name for v in derivation.form.arguments} | {d.name for d in derivation.definitions}
    return next(name for name in ("ell", "ell_i", "f", "q", "example") if name not in taken)


def _with_named_example(gradient: ExampleGradient, derivation: Derivation) -> ExampleGradient:
    """Where the loss of one example has no name in the statement, it is called ell_i here."""
    if isinstance(gradient.example, Indexed):
        return gradient
    named = Indexed(_example_name(derivation), *_indices(gradient.example))

    def renamed(target: Expr) -> Expr:
        return Partial(named, target.args[1])

    cases = tuple(replace(c, target=renamed(c.target)) for c in gradient.cases)
    return replace(gradient, target=renamed(gradient.target), cases=cases)


def least_primes(target: Expr, value: Expr, *others: Any) -> tuple[Any, ...]:
    """The same with as few primes on the indices as keep them apart."""
    free = _indices(target)
    taken = {s.name for s in target.free_symbols | value.free_symbols if isinstance(s, Symbol)} - {s.name for s in free}
    renamed: dict[Basic, Basic] = {}
    for i in free:
        name = letter(i)
        while name in taken:
            name += "'"
        taken.add(name)
        renamed[i] = Symbol(name, integer=True)
    used = {s.name for s in substitute(target, renamed).free_symbols if isinstance(s, Symbol)}
    return (
        substitute(target, renamed),
        tidy_inner(value, renamed, used | {s.name for s in value.free_symbols - set(free) if isinstance(s, Symbol)}),
        *(substitute(o, renamed) for o in others),
    )


def _condition(condition: Any, writer: Writer) -> str:
    return writer.when(writer.show(condition)) if isinstance(condition, Ne) else ""


def _gradient_row(writer: Writer, target: Expr, value: Expr, reason: str, name: str = "") -> Row:
    k = _vector_index(target, writer, value)
    rowwise = writer.vector(k)
    return Row(rowwise.show(target), tuple(rowwise.sides(value)), reason, name)


def _vector_index(target: Expr, writer: Writer, *values: Expr) -> Symbol | None:
    """The last index of what is differentiated by, where all values are vectors in it."""
    element = target.args[1] if isinstance(target, Partial) else target
    k = element.indices[-1] if isinstance(element, Indexed) else None
    if isinstance(k, Symbol) and all(v == 0 or vector_in(recognise(v, writer.notation), k) for v in values):
        return k
    return None


def example_loss_rows(derivation: Derivation, writer: Writer) -> list[Row]:
    """The loss of one example with the quantities that are sums over components put in."""
    gradients = [g for g in derivation.example_gradients if _is_of_an_example(g, derivation)]
    if not gradients:
        return []
    example = gradients[0].example
    table = {d.name: d for d in derivation.form.definitions}
    named = _with_named_example(gradients[0], derivation).target.args[0]
    value = instance(table[_name(example)], example) if _name(example) in table else example
    rows = [_row(writer, *least_primes(named, value))]
    mapping = {}
    for use in sorted(value.atoms(Indexed), key=str):
        d = table.get(_name(use))
        if d is not None and not d.rhs.has(Max, Min, exp, log):
            mapping[use] = instance(d, use)
    if mapping:
        _, spelled_out = least_primes(named, substitute(value, mapping))
        rows.append(Row("", tuple(writer.sides(spelled_out))))
    return rows


def adjoint_rows(derivation: Derivation, writer: Writer) -> list[Row]:
    """The derivative of the loss by each quantity on the way, in the order of computation; parameters left out."""
    parameters = {ADJOINT + p.name for p in derivation.form.parameters}
    return [r for d in derivation.adjoints if d.name not in parameters for r in _chain_rows(derivation, d, writer)]


def gradient_rows(derivation: Derivation, writer: Writer, chain: bool = True) -> list[Row]:
    """The gradient of the loss by each parameter, row by row where it has that form."""
    rows = []
    for parameter in derivation.form.parameters:
        d = derivation.gradient(parameter.name)
        entries = list(_by_entry(d))
        if entries:
            names = [d.name, *[""] * len(entries)]
            rows += [_row(writer, *entry, "", name) for entry, name in zip(entries, names, strict=False)]
        else:
            rows += _chain_rows(derivation, d, writer, chain)
    return rows


def _chain_rows(derivation: Derivation, d: Definition, writer: Writer, chain: bool = True) -> list[Row]:
    """The chain rule for one quantity, and what comes of it."""
    law = chain_rule(derivation, d) if chain else None
    if law is None:
        return [_gradient_row(writer, d.lhs, d.rhs, "", d.name)]
    rowwise = writer.vector(_vector_index(d.lhs, writer, law, d.rhs))
    first, result = tuple(rowwise.sides(law)), tuple(rowwise.sides(d.rhs))
    left = rowwise.show(d.lhs)
    if first == result:
        return [Row(left, result, "chain rule", d.name)]
    return [Row(left, first, "chain rule"), Row("", result, "", d.name)]


def chain_rule(derivation: Derivation, adjoint: Definition) -> Expr | None:
    """The derivative of the loss by a quantity, as a sum over those made from it; None if there are none."""
    name = adjoint.name.removeprefix(ADJOINT)
    definitions = {d.name: d for d in derivation.definitions}
    total: Expr = S.Zero
    found = False
    for step in derivation.local_steps:
        if _name(step.target.args[1]) != name:
            continue
        value, element = step.target.args
        source = definitions.get(_name(value), derivation.form.value)
        entries = local(step, derivation.form)
        if entries is None:
            return None
        equal, direct = entries
        mine = dict(zip(getattr(element, "indices", ()), adjoint.indices, strict=True))
        if source.name == derivation.form.value.name:
            total += substitute(substitute(direct, equal), {equal.get(i, i): n for i, n in mine.items()})
            continue
        found = True
        # An index of the source is either one of ours, or summed over.
        known: dict[Basic, Basic] = {theirs: mine[i] for i, theirs in equal.items()}
        taken = {i.name for i in adjoint.indices}
        limits = []
        for i, size in zip(value.indices if isinstance(value, Indexed) else (), source.sizes, strict=True):
            if i not in known:
                new = letter(i)
                while new in taken:
                    new += "'"
                taken.add(new)
                known[i] = Symbol(new, integer=True)
                limits.append((known[i], S.Zero, expand(size - 1)))
        here = substitute(value, known)
        place = substitute(element, mine)
        total += sum_over(Partial(derivation.form.value.lhs, here) * Partial(here, place), *limits)
    return total if found else None


def _by_entry(definition: Definition) -> Iterator[tuple[Expr, Expr]]:
    """A gradient told entry by entry, (element, value), where its index is only compared with numbers."""
    if len(definition.indices) != 1 or not definition.sizes[0].is_Integer:
        return
    (index,) = definition.indices
    conditions = [c for c in definition.rhs.atoms(Eq) if index in c.free_symbols]
    if not conditions or not all(any(a.is_Integer for a in c.args) for c in conditions):
        return
    for n in range(int(definition.sizes[0])):
        value = definition.rhs.replace(
            lambda e: isinstance(e, Where), lambda e, n=n: e.func(e.condition.subs(index, n), *e.args[1:])
        )
        value = value.replace(
            lambda e: isinstance(e, Where) and e.condition in (S.true, S.false),
            lambda e: e.yes if e.condition == S.true else e.no,
        )
        if index in value.free_symbols:
            return
        yield Indexed(definition.lhs.base, n), value


def matrix_rows(derivation: Derivation, writer: LatexWriter) -> list[Row]:
    """What has a form over whole arrays."""
    rows = []
    for d in (*derivation.definitions[:-1], *derivation.adjoints):
        if d.name in writer.alias or len(d.indices) == 0:
            continue
        text = matrix_form(d, writer)
        if text is not None:
            rows.append(Row(writer.whole(d.name), (text,), "", ""))
    return rows


# -- update rules ----------------------------------------------------------------------------------


def rule_notation(rule: UpdateRule) -> Notation:
    """The letters of a rule in the order in which a person writes them."""
    letters = [s.name for s in rule.ordering.arrays]
    scalars = [s.name for s in rule.ordering.scalars]
    return Notation(
        letters={name: n for n, name in enumerate([*scalars, *letters])},
        scalars=frozenset(scalars),
    )


#: The letters of rules that a step changes; claims add labels to them.
_MOVING = frozenset({"x", "v", "s", "g", "V"})


def analysis_notation(analysis: Analysis) -> Notation:
    """The letters of an analysis: those of hyperparameters and of the landscape, then what steps change."""
    names = [s.name for s in analysis.meanings]
    moving = [n for n in names if n.split("_")[0] in _MOVING]
    scalars = [n for n in names if n not in moving]
    return Notation(
        letters={name: n for n, name in enumerate([*scalars, *moving])},
        scalars=frozenset(scalars),
    )


def rule_rows(rule: UpdateRule) -> Iterable[Row]:
    """The equations of a rule, in the order in which they are computed."""
    from derive.latex import LatexWriter

    writer = LatexWriter(rule_notation(rule))
    return [_row(writer, e.lhs, e.rhs, name=str(e.lhs)) for e in rule.equations]
