"""Plain Python expressions as text: numbers, sizes and hyperparameters, and how tightly each piece of text binds."""

from __future__ import annotations

from sympy import Add, Expr, Mul, NumberSymbol, Pow, Rational, S, Symbol
from sympy.core.function import Function

__all__ = [
    "AND", "ATOM", "COMPARE", "COMPARISONS", "MATH", "OR", "POWER", "PRODUCT", "SUM", "UNARY", "Text", "is_negative",
    "minus_sign", "negated", "number_source", "scalar_source", "wrapped",
]  # fmt: skip

#: A piece of text and how tightly it binds.
Text = tuple[str, int]
ATOM, POWER, UNARY, PRODUCT, SUM, AND, OR, COMPARE = 12, 11, 10, 9, 8, 7, 6, 4
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
MATH = {
    "exp": "exp", "log": "log", "sin": "sin", "cos": "cos", "tan": "tan", "asin": "asin", "acos": "acos",
    "atan": "atan", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh",
}  # fmt: skip


def wrapped(text: Text, level: int) -> str:
    """The text, in parentheses where it binds less tightly than its surroundings."""
    return text[0] if text[1] >= level else f"({text[0]})"


def number_source(value: Rational) -> Text:
    if value.q == 1:
        return (str(value.p), ATOM if value.p >= 0 else UNARY)
    return (f"{value.p} / {value.q}", PRODUCT)


def scalar_source(e: Expr) -> Text:
    """An expression in sizes and hyperparameters: plain Python, so that float32 arrays stay float32."""
    if isinstance(e, Rational):
        return number_source(e)
    if e == S.Infinity:
        return "np.inf", ATOM
    if e == S.NegativeInfinity:
        return "-np.inf", UNARY
    if isinstance(e, NumberSymbol):
        return {S.Pi: ("math.pi", ATOM), S.Exp1: ("math.e", ATOM)}.get(e) or (repr(float(e)), ATOM)
    if isinstance(e, Symbol):
        return e.name, ATOM
    if isinstance(e, Add):
        parts = sorted(e.args, key=lambda a: a.could_extract_minus_sign() or a.is_Number)
        result = scalar_source(parts[0])[0]
        for a in parts[1:]:
            if a.could_extract_minus_sign():
                result += " - " + wrapped(scalar_source(-a), PRODUCT)
            else:
                result += " + " + wrapped(scalar_source(a), SUM)
        return result, SUM
    if isinstance(e, Mul):
        return product_source(e)
    if isinstance(e, Pow):
        if e.exp == S.Half:
            return f"math.sqrt({scalar_source(e.base)[0]})", ATOM
        if e.exp.could_extract_minus_sign():
            return "1 / " + wrapped(scalar_source(Pow(e.base, -e.exp)), UNARY), PRODUCT
        return f"{wrapped(scalar_source(e.base), ATOM)}**{wrapped(scalar_source(e.exp), UNARY)}", POWER
    name = type(e).__name__.lower()
    if name == "abs":
        return f"abs({scalar_source(e.args[0])[0]})", ATOM
    assert isinstance(e, Function), e
    return f"math.{MATH[name]}({scalar_source(e.args[0])[0]})", ATOM


def product_source(e: Mul) -> Text:
    if e.could_extract_minus_sign():
        return minus_sign(scalar_source(-e))
    above, below = e.as_numer_denom()
    factors = [scalar_source(f) for f in Mul.make_args(above) if f != 1]
    text = " * ".join(wrapped(f, PRODUCT) for f in factors) or "1"
    level = PRODUCT if len(factors) > 1 else (factors[0][1] if factors else ATOM)
    if below != 1:
        text = f"{wrapped((text, level), PRODUCT)} / {wrapped(scalar_source(below), UNARY)}"
        level = PRODUCT
    return text, level


def minus_sign(text: Text) -> Text:
    """Minus a product or anything that binds more tightly; -a * b binds as a product does."""
    return f"-{wrapped(text, PRODUCT)}", PRODUCT if text[1] == PRODUCT else UNARY


def is_negative(text: Text) -> bool:
    return text[0].startswith("-") and text[1] in (PRODUCT, UNARY)


def negated(text: Text) -> str:
    return text[0][1:] if is_negative(text) else minus_sign(text)[0]
