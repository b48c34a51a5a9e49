"""The page of a rule: equations as lines of NumPy, placed on the template of optimizer modules.

``update`` has a line for each equation. ``step`` computes the same through :mod:`derive.in_place`, block by block; an
intermediate quantity that is used once is written where it is used, which lets scalar factors meet and saves passes.
"""

from __future__ import annotations

import inspect
import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from sympy import Add, Eq, Expr, Mul, Piecewise, S, Symbol, sqrt

from derive import array_guards
from derive.elementwise import NUMPY, SCALAR, Node, Ordering, imports, tree, written
from derive.files import banner
from derive.in_place import NUMPY_OUT, ThreeAddress, in_place
from derive.render import place
from derive.rule import Hyperparameter, UpdateRule, g, new, t, x

__all__ = ["PageFunction", "RulePage", "contents", "fused", "page", "step_code", "update_lines"]

_WIDTH = 120
COPIED = "# --- Copied from here on ---"


@dataclass(frozen=True)
class PageFunction:
    """A function of the page, in finished lines."""

    signature: tuple[str, ...]
    summary: str
    docstring: tuple[str, ...]
    body: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.signature[0].removeprefix("def ").partition("(")[0]


@dataclass(frozen=True)
class RulePage:
    """Everything the template places."""

    banner: str
    title: str
    description: tuple[str, ...]
    imports: tuple[str, ...]
    exports: str
    state_summary: str
    state_docstring: tuple[str, ...]
    state_fields: tuple[str, ...]
    functions: tuple[PageFunction, ...]
    guards: str


def page(rule: UpdateRule, source: str) -> dict[str, str]:
    """The module of a rule, ``{path: text}``; ``source`` says what the statement is from."""
    return {f"optimizers/{rule.name}.py": place("optimizer.py.jinja", contents(rule, source))}


def contents(rule: UpdateRule, source: str) -> RulePage:
    """What the template places. Other targets replace in it what they do otherwise."""
    functions = [_init(rule), _update(rule), _step(rule), _ordinary(rule)]
    if rule.shows_gradient_point:
        functions.insert(1, _lookahead(rule))
    modules = imports("\n".join(line for f in functions for line in f.body))
    names = sorted(["State", *(f.name for f in functions if not f.name.startswith("_"))])
    title, *about = _paragraph(rule.about or f"The update rule {rule.name}.", 112)
    return RulePage(
        banner=banner(source),
        title=title,
        description=(*about, *([""] if about else []), *_description(rule)),
        imports=(
            *(f"import {m}" for m in modules),
            "from collections.abc import Collection, Iterable",
            "from dataclasses import dataclass",
            "from typing import Any",
            "",
            "import numpy as np",
            "from numpy.typing import NDArray",
        ),
        exports=", ".join(f'"{n}"' for n in names),
        state_summary=_state_summary(rule),
        state_docstring=_state_docstring(rule),
        state_fields=(*(f"{s.name}: NDArray[Any]" for s in rule.state), *(["t: int"] if rule.counts_steps else [])),
        functions=tuple(functions),
        guards=_guards(),
    )


# --- Lines of mathematics ----------------------------------------------------------------------------------------


def update_lines(rule: UpdateRule) -> list[str]:
    """One line for each equation, old values of the state read from ``state``."""
    names = {x: "params", g: "grad", t: "t", new(x): _new_params(rule)}
    for kept in rule.state:
        names[kept.symbol] = f"state.{kept.name}"
        names[new(kept.symbol)] = kept.name
    lines = []
    for number, equation in enumerate(rule.equations, start=1):
        node = tree(equation.rhs, rule.ordering)
        if node.op == "name" and "'" in equation.lhs.name:
            # A result never shares memory with an argument.
            node = Node("copy", (node,))
        target = names.get(equation.lhs, equation.lhs.name)
        lines += _assignment(target, node, names, f"  # ({number})")
    return lines


def _new_params(rule: UpdateRule) -> str:
    """The name of x' in code: that of x, unless old x is still needed after it."""
    after = [e.rhs for e in rule.equations[[e.lhs for e in rule.equations].index(new(x)) + 1 :]]
    return "new_params" if any(e.has(x) for e in after) else "params"


def _assignment(target: str, node: Node, names: dict[Symbol, str], comment: str) -> list[str]:
    line = f"{target} = {written(node, NUMPY, names)}{comment}"
    if len(line) + 4 <= _WIDTH:
        return [line]
    terms = _terms(node, names)
    return [f"{target} = ({comment}", *(f"    {term}" for term in terms), ")"]


def _terms(node: Node, names: dict[Symbol, str]) -> list[str]:
    """The terms of a sum, each with its sign, for an expression too long for one line."""
    if node.op not in ("add", "subtract"):
        return [written(node, NUMPY, names)]
    left, right = node.args
    # The right operand keeps the parentheses that it would have on one line.
    whole, start = written(node, NUMPY, names), written(left, NUMPY, names)
    return [*_terms(left, names), whole[len(start) + 1 :]] if right is not None else []


def fused(rule: UpdateRule) -> list[tuple[Eq, tuple[int, ...]]]:
    """The equations as ``step`` computes them, with the numbers of those that each contains.

    An intermediate quantity used once is written where it is used, and scalar factors are brought together.
    """
    equations: list[tuple[Symbol, Expr, tuple[int, ...]]] = [
        (e.lhs, e.rhs, (n,)) for n, e in enumerate(rule.equations, start=1)
    ]
    done: list[tuple[Eq, tuple[int, ...]]] = []
    while equations:
        name, meaning, numbers = equations.pop(0)
        uses = [_occurrences(tree(rhs, rule.ordering), name) for _, rhs, _ in equations]
        # SymPy would try to merge pieces and their conditions: what has pieces stays on its own.
        once = "'" not in name.name and sum(uses) == 1 and not meaning.has(Piecewise)
        user = uses.index(1) if once else 0
        if once and not equations[user][1].has(Piecewise):
            lhs, rhs, own = equations[user]
            equations[user] = (lhs, rhs.xreplace({name: meaning}), tuple(sorted((*numbers, *own))))
        elif "'" in name.name or any(uses):
            done.append((Eq(name, _scalars_met(meaning, rule.ordering), evaluate=False), numbers))
    return done


def _scalars_met(expr: Expr, order: Ordering) -> Expr:
    """a A/(b B + c) as (a/b) A/(B + c/b) for scalars a, b, c: scalars are divided once, arrays pass by pass."""

    def moved(product: Expr) -> Expr:
        sums = [f for f in product.args if f.is_Pow and f.exp == -1 and f.base.is_Add and not order.is_scalar(f)]
        factors = [f for f in product.args if order.is_scalar(f) and not f.is_Number]
        if len(sums) != 1 or not factors:
            return product
        arrays = [a for a in sums[0].base.args if not order.is_scalar(a)]
        if len(arrays) != 1:
            return product
        factor = arrays[0].as_independent(*order.arrays, as_Add=False)[0]
        if factor.is_Number:
            return product
        below = Add(*(a / factor for a in sums[0].base.args))
        return Mul(*(f for f in product.args if f is not sums[0]), 1 / factor, 1 / below)

    # sqrt(1/a) = 1/sqrt(a): where one is a number the other is.
    expr = expr.replace(
        lambda e: e.is_Pow and e.exp == S.Half and e.base.is_Pow and e.base.exp == -1 and order.is_scalar(e),
        lambda e: 1 / sqrt(e.base.base),
    )
    return expr.replace(lambda e: e.is_Mul, moved)


def _occurrences(node: Node, name: Symbol) -> int:
    if node.op == "name":
        return 1 if node.leaf == name else 0
    return sum(_occurrences(a, name) for a in node.args)


def step_code(rule: UpdateRule) -> ThreeAddress:
    """Three-address code for the step, over letters."""
    arrays = [s.symbol for s in rule.state]
    return in_place(
        [(e.lhs, tree(e.rhs, rule.ordering)) for e, _ in fused(rule)],
        results={a: new(a) for a in (*arrays, x)},
        inputs=[x, g, *arrays],
    )


def _step_lines(rule: UpdateRule) -> list[str]:
    letters = [*(s.symbol for s in rule.state), *(h.symbol for h in rule.hyperparameters)]
    taken = {s.name for e in rule.equations for s in e.free_symbols} | {a.name for a in letters}

    def unused(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    scratch = next(w for w in ("scratch", "work", "buffer", "room") if w not in taken)
    dtype, blocks = unused("dtype"), unused("blocks")
    numbers, code = step_code(rule).numbers_named(unused, kept={t})
    arrays = ["params", "grad", *(f"state.{s.name}" for s in rule.state)]
    views = ["x", "g", *(s.symbol.name for s in rule.state), *code.scratch_names(scratch)]
    heading = f"for {', '.join(views)} in {blocks}:"
    lines = []
    if numbers:
        lines = [f"{dtype} = params.dtype"]
        # Letters come last: before that they are the plain numbers of which others are made.
        for name, node in sorted(numbers.items(), key=lambda item: item[1].op == "name"):
            lines += laid_out(f"{name} = _scalar(", [written(node, SCALAR), dtype], ")", indent=4)
    lines += [
        *(["# Where scratch is None, NumPy makes an array."] if code.scratch else []),
        *laid_out(f"{blocks}: Any = [(", [*arrays, *["None"] * code.scratch], ")]", indent=4),
        "if params.ndim == 0 or params.nbytes > _BLOCK:",
        *(f"    {line}" for line in laid_out(f"{blocks} = _blocks(", [str(code.scratch), *arrays], ")", indent=8)),
        *([heading] if 4 + len(heading) <= _WIDTH else laid_out("for (", views, f") in {blocks}:", indent=4)),
    ]
    shown: Symbol | None = None
    begun: list[Symbol] = []
    equations = {e.lhs: (n, e) for e, n in fused(rule)}
    for instruction, line in zip(code.instructions, code.lines(NUMPY_OUT, scratch), strict=True):
        if instruction.target != shown:
            shown = instruction.target
            own, equation = equations[shown]
            label = ", ".join(f"({n})" for n in own)
            # A result may have to wait until the old value in its place is not needed any more.
            words = f"{label} into its place" if shown in begun else f"{label} {rule.text(equation)}"
            begun.append(shown)
            lines += textwrap.wrap(words, 108, initial_indent="    # ", subsequent_indent="    #     ")
        lines.append(f"    {line}")
    return lines


# --- Functions ---------------------------------------------------------------------------------------------------


def _init(rule: UpdateRule) -> PageFunction:
    def first(start: Expr) -> str:
        if start == x:
            return "params.copy()"
        return "np.zeros_like(params)" if start == 0 else f"np.full_like(params, {float(start)!r})"

    fields = [*(f"{s.name}={first(s.start)}" for s in rule.state), *(["t=0"] if rule.counts_steps else [])]
    return PageFunction(
        laid_out("def init(", ["params: Any"], ") -> State:"),
        "The state before the first step.",
        ("Parameters", "----------", "params : ndarray of floats, any shape"),
        ("params = _floats(params)", *laid_out("return State(", fields, ")", indent=4)),
    )


def _update(rule: UpdateRule) -> PageFunction:
    fields = [*(f"np.asarray({s.name})" for s in rule.state), *(["t"] if rule.counts_steps else [])]
    new_params = _new_params(rule)
    body = [
        *checks(rule),
        *(["t = state.t + 1"] if rule.counts_steps else []),
        *update_lines(rule),
        "# Arithmetic makes scalars of arrays without axes; what comes back is an array again.",
        *laid_out(f"return np.asarray({new_params}), State(", fields, ")", indent=4),
    ]
    return PageFunction(
        laid_out(
            "def update(",
            ["params: Any", "grad: Any", "state: State", *_keywords(rule.hyperparameters)],
            ") -> tuple[NDArray[Any], State]:",
        ),
        "One step: new parameters and a new state. The arguments stay as they are.",
        (*_arguments(rule, "params"), "", *_results(rule)),
        tuple(body),
    )


def _step(rule: UpdateRule) -> PageFunction:
    body = [
        *checks_in_place(rule),
        *(["t = state.t + 1"] if rule.counts_steps else []),
        *_step_lines(rule),
        *(["state.t = t"] if rule.counts_steps else []),
    ]
    return PageFunction(
        laid_out(
            "def step(",
            ["params: NDArray[Any]", "grad: Any", "state: State", *_keywords(rule.hyperparameters)],
            ") -> None:",
        ),
        "The same step in place: ``params`` and ``state`` become what ``update`` returns.",
        (
            "Works block by block in the cache and needs no memory that grows with the size of params. Any array of",
            "floats that can be written to will do, contiguous or not. An argument is refused before anything changes.",
            "",
            *_arguments(rule, "params"),
        ),
        tuple(body),
    )


def _ordinary(rule: UpdateRule) -> PageFunction:
    """The test that what is given is what ``step`` mostly gets: cheap, and true only where nothing is to be refused."""
    kept = [f"state.{s.name}" for s in rule.state]
    arrays = ["params", "grad", *kept]
    hyperparameters = _ordinary_names(rule)

    def each(form: str, names: Sequence[str] = arrays) -> list[str]:
        return [form.format(name) for name in names]

    # Around a triangle, neighbours are all there are.
    different = _chain(" is not ", [*arrays, arrays[0]] if len(arrays) == 3 else arrays)
    if len(arrays) > 3:
        different = ["\n".join(laid_out("len({", each("id({})"), f"}}) == {len(arrays)}", indent=12))]
    finite = f"math.isfinite({' + '.join(hyperparameters)})"
    if len(finite) > 100:
        finite = "\n".join(laid_out("math.isfinite(sum([", hyperparameters, "]))", indent=12))
    tests = [
        "type(state) is State",
        *(["type(state.t) is int", "state.t >= 0"] if rule.counts_steps else []),
        *_chain(" is ", [*each("type({})"), "np.ndarray"]),
        'params.dtype.kind == "f"',
        *_chain(" == ", each("{}.dtype")),
        *_chain(" == ", each("{}.shape")),
        *each("{}.flags.writeable", ("params", *kept)),
        "# Different arrays that own their memory cannot overlap.",
        *_chain(" is ", [*each("{}.base"), "None"]),
        *different,
    ]
    if hyperparameters:
        tests += [
            "# A sum is finite only where all numbers are.",
            *_chain(" is ", [*each("type({})", hyperparameters), "float"]),
            finite,
        ]
    body = ["return ("]
    for n, test in enumerate(tests):
        first, *others = test.splitlines()
        body.append(f"    {'' if n == 0 or test.startswith('#') else 'and '}{first}")
        body += [f"    {line}" for line in others]
    return PageFunction(
        laid_out("def _ordinary(", each("{}: Any", ("params", "grad", "state", *hyperparameters)), ") -> bool:"),
        "Whether nothing can be wrong with the arguments of ``step``. Others are looked at closely; they may be right.",
        (),
        (*body, ")"),
    )


def _chain(relation: str, links: Sequence[str]) -> list[str]:
    """A chain of comparisons, ``a == b == c``; a long one in pieces, each from where the one before ends."""
    pieces, piece = [], links[0]
    for before, link in itertools.pairwise(links):
        longer = f"{piece}{relation}{link}"
        if len(longer) > 100 and relation in piece:
            pieces.append(piece)
            longer = f"{before}{relation}{link}"
        piece = longer
    return [*pieces, piece]


def _ordinary_names(rule: UpdateRule) -> list[str]:
    """The hyperparameters inside ``_ordinary``, where a few names are called as functions."""
    return [f"{h.name}_" if h.name in ("type", "float", "int", "len", "id") else h.name for h in rule.hyperparameters]


def _lookahead(rule: UpdateRule) -> PageFunction:
    used = rule.gradient_at.free_symbols
    own = tuple(h for h in rule.hyperparameters if h.symbol in used)
    names = {x: "params", t: "(state.t + 1)", **{s.symbol: f"state.{s.name}" for s in rule.state}}
    point = written(tree(rule.gradient_at, rule.ordering), NUMPY, names)
    return PageFunction(
        laid_out("def lookahead(", ["params: Any", "state: State", *_keywords(own)], ") -> NDArray[Any]:"),
        "Where ``update`` and ``step`` want the gradient to be taken.",
        ("Parameters", "----------", "params : ndarray of floats, any shape", "state : State", *_options(rule, own)),
        (
            "params, _ = _require(params, params, state)",
            *_conversion(own),
            f"return np.asarray({point})",
        ),
    )


def _keywords(hyperparameters: Sequence[Hyperparameter]) -> tuple[str, ...]:
    named = (f"{h.name}: float" + ("" if h.default is None else f" = {h.default!r}") for h in hyperparameters)
    return ("*", *named) if hyperparameters else ()


def checks(rule: UpdateRule) -> list[str]:
    return ["params, grad = _require(params, grad, state)", *_conversion(rule.hyperparameters)]


def checks_in_place(rule: UpdateRule) -> list[str]:
    given = ["params", "grad", "state", *(h.name for h in rule.hyperparameters)]
    closely = ["params, grad = _require_in_place(params, grad, state)", *_conversion(rule.hyperparameters, indent=8)]
    return [*laid_out("if not _ordinary(", given, "):", indent=4), *(f"    {line}" for line in closely)]


def _conversion(hyperparameters: Sequence[Hyperparameter], indent: int = 4) -> list[str]:
    if not hyperparameters:
        return []
    names = [h.name for h in hyperparameters]
    left = ", ".join(names) if len(names) > 1 else f"({names[0]},)"
    return list(laid_out(f"{left} = _numbers(", [f"{n}={n}" for n in names], ")", indent=indent))


def laid_out(opening: str, items: Sequence[str], closing: str, indent: int = 0) -> tuple[str, ...]:
    """A call or a signature on one line, or with its items on a line between, or on a line each."""
    joined = ", ".join(items)
    if indent + len(opening) + len(joined) + len(closing) <= _WIDTH:
        return (f"{opening}{joined}{closing}",)
    if indent + 4 + len(joined) <= _WIDTH:
        return (opening, f"    {joined}", closing)
    return (opening, *(f"    {item}," for item in items), closing)


def _guards() -> str:
    source = inspect.getsource(array_guards)
    return source.partition(COPIED)[2].strip("\n")


# --- Words -------------------------------------------------------------------------------------------------------


def _paragraph(words: str, width: int = 116, indent: str = "") -> list[str]:
    return textwrap.wrap(words, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False)


def _description(rule: UpdateRule) -> list[str]:
    width = max(len(str(n)) for n in range(1, len(rule.equations) + 1))
    lines: list[str] = []
    for number, equation in enumerate(rule.equations, start=1):
        lines += textwrap.wrap(
            rule.text(equation),
            108,
            initial_indent=f"    ({number:{width}})  ",
            subsequent_indent=" " * 12,
            break_long_words=False,
        )
    lines.append("")
    where = "" if not rule.shows_gradient_point else f" taken at {rule.text(rule.gradient_at)}"
    words = [f"Element by element: x is params, g is grad{where}, a prime marks the value after the step"]
    words += [f"{s.symbol} is state.{s.name}" for s in rule.state]
    words += ["t counts steps and is 1 at the first"] if rule.counts_steps else []
    lines += _paragraph("; ".join(words) + ".")
    for convention in rule.conventions:
        lines += _paragraph(convention if convention.endswith(".") else f"{convention}.")
    for source, group in rule.defaults_by_source():
        if source:
            lines += _paragraph(f"Default of {', '.join(h.name for h in group)}: {source.rstrip('.')}.")
    return lines


def _state_summary(rule: UpdateRule) -> str:
    if not rule.state and not rule.counts_steps:
        return "Nothing: this rule keeps nothing from step to step."
    return "What is kept from step to step; the arrays have the shape and dtype of the parameters."


def _state_docstring(rule: UpdateRule) -> tuple[str, ...]:
    if not rule.state and not rule.counts_steps:
        return ()
    lines = ["", "Attributes", "----------"]
    for kept in rule.state:
        meaning = rule.meanings.get(kept.symbol.name, "")
        lines += [
            f"{kept.name} : ndarray",
            f"    {kept.symbol}{', ' + meaning if meaning else ''}; starts at {kept.start}.",
        ]
    if rule.counts_steps:
        lines += ["t : int", "    The number of steps made."]
    return tuple(lines)


def _arguments(rule: UpdateRule, params: str) -> list[str]:
    where = "the gradient at params"
    if rule.shows_gradient_point:
        where = "the gradient at lookahead(params, state)"
    return [
        "Parameters",
        "----------",
        f"{params} : ndarray of floats, any shape",
        "grad : ndarray, same shape",
        f"    {where[0].upper()}{where[1:]}.",
        "state : State",
        "    From ``init``, ``update`` or a pickle.",
        *_options(rule, rule.hyperparameters),
    ]


def _options(rule: UpdateRule, hyperparameters: Sequence[Hyperparameter]) -> list[str]:
    lines = []
    for h in hyperparameters:
        lines.append(f"{h.name} : float{'' if h.default is None else ', optional'}")
        if rule.meanings.get(h.name):
            meaning = rule.meanings[h.name]
            lines.append(f"    {meaning[0].upper()}{meaning[1:]}.")
    return lines


def _results(rule: UpdateRule) -> list[str]:
    return ["Returns", "-------", "params : ndarray, same shape and dtype as params", "state : State"]
