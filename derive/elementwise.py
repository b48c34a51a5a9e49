"""Elementwise expressions as trees of operations, and their spelling in a target language.

``tree`` turns a SymPy expression into operations in the order in which a person writes them: scalars before arrays,
numbers exact, divisions as divisions. ``written`` spells a tree for a target, which is a table from operation to
spelling and nothing else. A second consumer, :mod:`derive.in_place`, turns the same trees into three-address code; both
compute the same operations in the same order, so that results agree.

>>> from sympy import sqrt, symbols
>>> x, m, s = symbols("x m s", real=True)
>>> learning_rate, beta, epsilon = symbols("learning_rate beta epsilon", positive=True)
>>> order = Ordering(arrays=(x, m, s), scalars=(learning_rate, beta, epsilon))
>>> update = tree(x - learning_rate * m / (sqrt(s / (1 - beta)) + epsilon), order)
>>> written(update, NUMPY)
'x - learning_rate * m / (np.sqrt(s / (1 - beta)) + epsilon)'
>>> written(update, TEXT)
'x - learning_rate*m/(sqrt(s/(1 - beta)) + epsilon)'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, reduce

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
    Integer,
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
    Symbol,
    acos,
    asin,
    atan,
    cos,
    cosh,
    exp,
    log,
    sign,
    sin,
    sinh,
    tan,
    tanh,
)

__all__ = ["NUMPY", "SCALAR", "TEXT", "Node", "Ordering", "Target", "imports", "in_words", "tree", "written"]


@dataclass(frozen=True)
class Node:
    """An operation on other nodes; ``name`` (a symbol), ``number`` (its text) and ``constant`` are the leaves.

    ``scalar`` is true where no array is involved: the value is one plain number for all elements.
    """

    op: str
    args: tuple[Node, ...] = ()
    leaf: Symbol | str | None = None
    scalar: bool = False


@dataclass(frozen=True)
class Ordering:
    """Which letters are arrays and which are scalars, each in the order in which a person writes them."""

    arrays: tuple[Symbol, ...]
    scalars: tuple[Symbol, ...] = ()

    def is_scalar(self, expr: Basic) -> bool:
        return not any(a in expr.free_symbols for a in self.arrays)

    def key(self, expr: Basic) -> tuple[bool, int, bool, int, int, str]:
        """Arrays come by their first letter; scalars by theirs; of several with the same, the text decides."""
        letters = expr.free_symbols
        array = next((n for n, a in enumerate(self.arrays) if a in letters), -1)
        scalar = next((n for n, a in enumerate(self.scalars) if a in letters), len(self.scalars))
        operations, text = _size_and_text(expr)
        return (array < 0, array, not expr.is_Atom, operations, scalar, text)


@lru_cache(maxsize=20_000)
def _size_and_text(expr: Basic) -> tuple[int, str]:
    return expr.count_ops(), str(expr)


# --- From expression to tree -------------------------------------------------------------------------------------

_FUNCTIONS: dict[type, str] = {
    exp: "exp", log: "log", sin: "sin", cos: "cos", tan: "tan", asin: "asin", acos: "acos", atan: "atan",
    sinh: "sinh", cosh: "cosh", tanh: "tanh", Abs: "abs", sign: "sign", Not: "not",
}  # fmt: skip
_CHAINS: dict[type, str] = {Max: "maximum", Min: "minimum", And: "and", Or: "or"}
_RELATIONS: dict[type, str] = {Eq: "eq", Ne: "ne", Lt: "lt", Le: "le", Gt: "gt", Ge: "ge"}


def tree(expr: Basic, order: Ordering) -> Node:
    """The operations that compute an expression, in the order in which a person writes them.

    Raises
    ------
    ValueError
        For a head that is not elementwise.
    """
    scalar = order.is_scalar(expr)

    def join(op: str, *parts: Node) -> Node:
        return Node(op, parts, scalar=all(p.scalar for p in parts))

    def chained(op: str, parts: list[Node]) -> Node:
        return reduce(lambda a, b: join(op, a, b), parts)

    if isinstance(expr, Symbol):
        return Node("name", leaf=expr, scalar=scalar)
    if isinstance(expr, Rational):
        return _number(expr)
    if isinstance(expr, (Float, NumberSymbol)) or expr in (S.true, S.false):
        return Node("constant", leaf=str(expr) if expr in (S.true, S.false) else repr(float(expr)), scalar=True)
    if isinstance(expr, Add):
        return _sum(expr, order, join)
    if isinstance(expr, Mul):
        return _product(expr, order, join, chained)
    if isinstance(expr, Pow):
        return _power(expr, order, join)
    if isinstance(expr, Piecewise):
        *cases, last = expr.args
        # A statement without a last resort has no value there, as in SymPy.
        result = tree(last.expr, order) if last.cond == S.true else Node("constant", leaf="nan", scalar=True)
        for case in reversed(cases if last.cond == S.true else expr.args):
            result = join("where", tree(case.cond, order), tree(case.expr, order), result)
        return result
    kind = type(expr)
    if kind in _FUNCTIONS:
        return join(_FUNCTIONS[kind], tree(expr.args[0], order))
    if kind in _CHAINS:
        # Numbers first, as one writes max(0, a).
        parts = sorted(expr.args, key=lambda a: (not a.is_number, order.key(a)))
        return chained(_CHAINS[kind], [tree(a, order) for a in parts])
    if kind in _RELATIONS:
        return join(_RELATIONS[kind], *(tree(a, order) for a in expr.args))
    raise ValueError(f"{expr} ({kind.__name__}) is not elementwise")


_Join = Callable[..., Node]


def _number(value: Rational) -> Node:
    if value.q != 1:
        parts = (_number(Integer(value.p)), _number(Integer(value.q)))
        return Node("divide", parts, scalar=True)
    if value < 0:
        return Node("negative", (_number(-value),), scalar=True)
    return Node("number", leaf=str(value), scalar=True)


def _negative(term: Expr) -> bool:
    """Whether a person writes the term with a minus in front."""
    coefficient = term.as_coeff_Mul()[0]
    return bool(coefficient.is_extended_negative)


def _sum(expr: Add, order: Ordering, join: _Join) -> Node:
    terms = list(expr.args)
    if order.is_scalar(expr):
        terms.sort(key=lambda a: (not a.is_number, order.key(a)))
    else:
        terms.sort(key=order.key)
    # A sum does not start with a minus if it need not.
    lead = next((n for n, a in enumerate(terms) if not _negative(a)), 0)
    terms.insert(0, terms.pop(lead))
    result = tree(terms[0], order)
    for term in terms[1:]:
        if _negative(term):
            result = join("subtract", result, tree(-term, order))
        else:
            result = join("add", result, tree(term, order))
    return result


def _product(expr: Mul, order: Ordering, join: _Join, chained: Callable[[str, list[Node]], Node]) -> Node:
    coefficient, rest = expr.as_coeff_Mul()
    if coefficient < 0:
        # -(a + b) is written so; SymPy keeps such a product apart only where a factor stands beside it.
        return join("negative", tree(-expr if coefficient != -1 else rest, order))
    above: list[Expr] = [] if coefficient.p == 1 else [Integer(coefficient.p)]
    below: list[Expr] = [] if coefficient.q == 1 else [Integer(coefficient.q)]
    for factor in Mul.make_args(rest):
        base, power = factor.as_base_exp() if isinstance(factor, Pow) else (factor, S.One)
        if isinstance(factor, Pow) and power.could_extract_minus_sign() and not isinstance(factor, exp):
            below.append(Pow(base, -power))
        elif factor != 1:
            above.append(factor)
    scalars = sorted((f for f in above if order.is_scalar(f)), key=lambda a: (not a.is_number, order.key(a)))
    dividing = sorted((f for f in below if order.is_scalar(f)), key=lambda a: (not a.is_number, order.key(a)))
    arrays = sorted((f for f in above if not order.is_scalar(f)), key=order.key)
    divisors = sorted((f for f in below if not order.is_scalar(f)), key=order.key)

    front = chained("multiply", [tree(f, order) for f in scalars]) if scalars else None
    if dividing and (front is not None or not arrays):
        bottom = chained("multiply", [tree(f, order) for f in dividing])
        front = join("divide", front or _number(S.One), bottom)
        dividing = []
    parts = [front] if front is not None else []
    top = chained("multiply", [*parts, *(tree(f, order) for f in arrays)]) if parts or arrays else _number(S.One)
    if dividing:
        top = join("divide", top, chained("multiply", [tree(f, order) for f in dividing]))
    if divisors:
        top = join("divide", top, chained("multiply", [tree(f, order) for f in divisors]))
    return top


def _power(expr: Pow, order: Ordering, join: _Join) -> Node:
    base, power = expr.base, expr.exp
    if power.could_extract_minus_sign():
        return join("divide", _number(S.One), tree(Pow(base, -power), order))
    if power == S.Half:
        return join("sqrt", tree(base, order))
    if power == 2:
        return join("square", tree(base, order))
    return join("power", tree(base, order), tree(power, order))


# --- From tree to text -------------------------------------------------------------------------------------------

_ATOM, _POWER, _UNARY, _PRODUCT, _SUM, _COMPARE, _NOT, _AND, _OR, _CHOICE = 10, 9, 8, 7, 6, 5, 4, 3, 2, 1
_INFIX: dict[str, tuple[str, int]] = {
    "add": ("+", _SUM), "subtract": ("-", _SUM), "multiply": ("*", _PRODUCT), "divide": ("/", _PRODUCT),
    "eq": ("==", _COMPARE), "ne": ("!=", _COMPARE), "lt": ("<", _COMPARE), "le": ("<=", _COMPARE),
    "gt": (">", _COMPARE), "ge": (">=", _COMPARE),
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """How a language spells operations on arrays; those on scalars may be spelled otherwise.

    Attributes
    ----------
    calls : mapping of str to str
        Format of each operation that is not infix, ``"np.sqrt({})"``.
    scalars : Target or None
        The spelling of operations on scalars, where it differs.
    tight : bool
        Products and quotients without spaces, as SymPy prints.
    """

    calls: Mapping[str, str]
    scalars: Target | None = None
    tight: bool = False
    infix: Mapping[str, tuple[str, int]] = field(default_factory=lambda: _INFIX)


_LOGIC = {"not": ("not {}", _NOT), "and": ("{} and {}", _AND), "or": ("{} or {}", _OR)}

#: Plain Python on plain numbers: a NumPy scalar would turn float32 arrays into float64.
SCALAR = Target(
    {
        "exp": "math.exp({})", "log": "math.log({})", "sin": "math.sin({})", "cos": "math.cos({})",
        "tan": "math.tan({})", "asin": "math.asin({})", "acos": "math.acos({})", "atan": "math.atan({})",
        "sinh": "math.sinh({})", "cosh": "math.cosh({})", "tanh": "math.tanh({})", "abs": "abs({})",
        "sqrt": "math.sqrt({})", "maximum": "max({}, {})", "minimum": "min({}, {})", "nan": "math.nan",
        "sign": "(({0} > 0) - ({0} < 0))",
    }
)  # fmt: skip

#: NumPy, on whole arrays.
NUMPY = Target(
    {
        "exp": "np.exp({})", "log": "np.log({})", "sin": "np.sin({})", "cos": "np.cos({})", "tan": "np.tan({})",
        "asin": "np.arcsin({})", "acos": "np.arccos({})", "atan": "np.arctan({})", "sinh": "np.sinh({})",
        "cosh": "np.cosh({})", "tanh": "np.tanh({})", "abs": "np.abs({})", "sign": "np.sign({})",
        "sqrt": "np.sqrt({})", "maximum": "np.maximum({}, {})", "minimum": "np.minimum({}, {})",
        "where": "np.where({}, {}, {})", "and": "np.logical_and({}, {})", "or": "np.logical_or({}, {})",
        "not": "np.logical_not({})", "copy": "{}.copy()", "nan": "np.nan",
    },
    scalars=SCALAR,
)  # fmt: skip

#: For terminals and docstrings.
TEXT = Target(
    {
        "exp": "exp({})", "log": "log({})", "sin": "sin({})", "cos": "cos({})", "tan": "tan({})", "asin": "asin({})",
        "acos": "acos({})", "atan": "atan({})", "sinh": "sinh({})", "cosh": "cosh({})", "tanh": "tanh({})",
        "abs": "|{}|", "sign": "sign({})", "sqrt": "sqrt({})", "maximum": "max({}, {})", "minimum": "min({}, {})",
        "where": "({1} if {0} else {2})", "copy": "{}", "nan": "nan",
    },
    tight=True,
)  # fmt: skip


def written(node: Node, target: Target, names: Mapping[Symbol, str] | None = None) -> str:
    """The tree as one expression of the target; ``names`` gives letters the names they have there."""
    return _written(node, target, names or {})[0]


def imports(text: str) -> tuple[str, ...]:
    """The modules, besides NumPy, that printed lines mention."""
    return ("math",) if "math." in text else ()


def _written(node: Node, target: Target, names: Mapping[Symbol, str]) -> tuple[str, int]:
    if node.scalar and target.scalars is not None:
        target = target.scalars
    if node.op == "name":
        assert isinstance(node.leaf, Symbol)
        return names.get(node.leaf, str(node.leaf.name)), _ATOM
    if node.op in ("number", "constant"):
        return target.calls.get(str(node.leaf), str(node.leaf)), _ATOM
    parts = [_written(a, target, names) for a in node.args]
    if node.op in target.infix:
        sign_, level = target.infix[node.op]
        # a - (b + c) and a / (b * c) need their parentheses on the right.
        right = level + 1 if node.op in ("subtract", "divide") or level == _COMPARE else level
        # Float addition and multiplication are not associative: keep the tree on the right, too.
        right = level + 1 if node.op in ("add", "multiply") else right
        space = "" if target.tight and level == _PRODUCT else " "
        return f"{_fenced(parts[0], level)}{space}{sign_}{space}{_fenced(parts[1], right)}", level
    if node.op == "negative":
        return f"-{_fenced(parts[0], _PRODUCT)}", _UNARY
    if node.op == "square":
        return f"{_fenced(parts[0], _ATOM)}**2", _POWER
    if node.op == "power":
        return f"{_fenced(parts[0], _ATOM)}**{_fenced(parts[1], _UNARY)}", _POWER
    if node.op in target.calls:
        return target.calls[node.op].format(*(p[0] for p in parts)), _ATOM
    if node.op in _LOGIC:
        form, level = _LOGIC[node.op]
        return form.format(*(_fenced(p, level) for p in parts)), level
    if node.op == "where":
        yes, no = _fenced(parts[1], _OR), _fenced(parts[2], _OR)
        return f"({yes} if {parts[0][0]} else {no})", _ATOM
    raise ValueError(f"the target has no spelling for {node.op}")


def _fenced(text: tuple[str, int], level: int) -> str:
    return text[0] if text[1] >= level else f"({text[0]})"


# --- From tree to name -------------------------------------------------------------------------------------------

_WORDS = {
    "add": "{}_plus_{}", "subtract": "{}_minus_{}", "multiply": "{}_times_{}", "divide": "{}_over_{}",
    "power": "{}_to_the_{}", "square": "{}_squared", "negative": "minus_{}", "sqrt": "root_of_{}",
}  # fmt: skip
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def in_words(node: Node) -> str:
    """A name that reads as the scalar does; empty where that would be no name, or a long one.

    >>> from sympy import symbols
    >>> beta = symbols("beta")
    >>> in_words(tree(1 - beta**2, Ordering(arrays=(), scalars=(beta,))))
    'one_minus_beta_squared'
    """
    words = _spoken(node)
    return words if len(words) <= 40 and words.isidentifier() else ""


def _spoken(node: Node) -> str:
    if node.op in ("name", "constant"):
        return str(node.leaf)
    if node.op == "number":
        number = int(str(node.leaf))
        return _DIGITS[number] if number < len(_DIGITS) else f"n{number}"
    parts = list(map(_spoken, node.args))
    if node.op in _WORDS and len(parts) == _WORDS[node.op].count("{}"):
        return _WORDS[node.op].format(*parts)
    return "_".join([node.op, *parts])
