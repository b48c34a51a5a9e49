"""Expressions, statements and derivations as LaTeX, in the notation of the lecture.

Rows of a matrix W are column vectors w_j; an indicator is a blackboard 1 with its condition in brackets; a restricted
sum has its condition below the sign. Needs ``amsmath`` and ``amssymb`` only, so that notebooks show it too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from derive.blackboard import ADD, ADJOINT, ATOM, INNER, POWER, PRODUCT, Box, Notation, Writer

if TYPE_CHECKING:
    from derive.differentiate import Derivation
    from derive.rule import UpdateRule
    from derive.statement import Loss

__all__ = [
    "LatexWriter",
    "aligned",
    "derivation_latex",
    "escape",
    "prose",
    "rule_latex",
    "spelled",
    "statement_latex",
    "typeset",
    "width",
]

# fmt: off
GREEK: Final = frozenset({
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "mu", "nu", "xi", "pi",
    "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi",
    "Sigma", "Upsilon", "Phi", "Psi", "Omega",
})
# fmt: on
#: How the blackboard writes names that code spells out. A name is left as it is where its letter has another owner.
LETTERS: Final = {
    "delta": r"\Delta",  # the lecture's margin; a small delta looks like Kronecker's
    "epsilon": r"\varepsilon",
    "eps": r"\varepsilon",
    "phi": r"\varphi",
    "lamda": r"\lambda",
    "lmbda": r"\lambda",
    "lam": r"\lambda",
    "lambda_": r"\lambda",
    "reg": r"\lambda",
    "weight_decay": r"\lambda",
    "learning_rate": r"\eta",
    "lr": r"\eta",
    "decay_rate": r"\gamma",
    "velocity": "v",
    "grad_squared": "s",
    "first_moment": "m",
    "second_moment": "v",
    "gradient": "g",
    "grad": "g",
    "params": "x",
    "ell": r"\ell",
}
ACCENTS: Final = {"hat": r"\hat", "bar": r"\bar", "tilde": r"\tilde", "dot": r"\dot"}
_RELATIONS: Final = {
    "Equality": "=",
    "Unequality": r"\neq",
    "StrictLessThan": "<",
    "LessThan": r"\leq",
    "StrictGreaterThan": ">",
    "GreaterThan": r"\geq",
}
_FUNCTIONS: Final = frozenset(["sin", "cos", "tan", "sinh", "cosh", "tanh", "log", "exp", "max", "min"])


# -- names ---------------------------------------------------------------------------------------------------------


def _word(word: str) -> str:
    """A word as one symbol: a Greek letter, an italic letter, or upright text."""
    if word in GREEK or word in ("epsilon", "phi"):
        return LETTERS.get(word, rf"\{word}") if word != "delta" else r"\delta"
    if len(word) == 1:
        return word
    return rf"\mathrm{{{word}}}"


def _ascii(name: str) -> str:
    """A Greek letter by its name, an accented letter without its accent, anything else by its code."""
    found = []
    for character in name:
        if character.isascii():
            found.append(character)
            continue
        title = unicodedata.name(character, "").split()
        plain = unicodedata.normalize("NFKD", character)[0]
        if title[:1] == ["GREEK"] and "LETTER" in title:
            letter = title[title.index("LETTER") + 1].lower().replace("lamda", "lambda")
            found.append(f"_{letter.capitalize() if 'CAPITAL' in title else letter}_")
        elif plain.isascii():
            found.append(plain)
        else:
            found.append(f"U{ord(character):X}")
    return "".join(found)


def spelled(name: str) -> tuple[str, tuple[str, ...]]:
    """A name as a symbol and the labels below it: ``W1`` is W with label 1, ``sigma_max`` is sigma with label max."""
    stem = next((n for n in LETTERS if name.startswith(f"{n}_") and len(n) > 3), None)
    if stem is not None:
        return LETTERS[stem], tuple(map(_label, name[len(stem) :].split("_")[1:]))
    words = [w for w in _ascii(name).split("_") if w]
    accent = ""
    if len(words) > 1 and words[-1] in ACCENTS:
        accent = ACCENTS[words.pop()]
    if not words:
        return r"\_" * len(name), ()
    found = re.fullmatch(r"([A-Za-z]+)(\d*)", words[0])
    first, digits = found.groups() if found else (words[0], "")
    one = len(first) == 1 or first in GREEK or first == "lambda"
    if one:
        base = rf"\{first}" if len(first) > 1 and first == "lambda" else _word(first)
        labels = [*([digits] if digits else []), *map(_label, words[1:])]
    else:
        whole = re.fullmatch(r"(.*?)(\d*)", "_".join([first + digits, *words[1:]]))
        assert whole is not None
        base = rf"\mathrm{{{whole.group(1).rstrip('_').replace('_', chr(92) + '_')}}}"
        labels = [whole.group(2)] if whole.group(2) else []
    return (f"{accent}{{{base}}}" if accent else base), tuple(labels)


def _label(word: str) -> str:
    found = re.fullmatch(r"([A-Za-z]+)(\d+)", word)
    if found and (len(found[1]) == 1 or found[1] in GREEK):
        return f"{_word(found[1])}_{{{found[2]}}}"
    return word if word.isdigit() else _word(word)


class Spelling:
    """The symbols of one statement: each name as (symbol, labels), no two alike."""

    def __init__(self, names: Iterable[str]) -> None:
        self.symbols: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.primes = re.compile(r"^(.*?)('*)$")
        ordinary = list(dict.fromkeys(names))
        taken: set[tuple[str, tuple[str, ...]]] = {spelled(n) for n in ordinary if n not in LETTERS}
        for n in ordinary:
            if n not in LETTERS:
                self.symbols[n] = spelled(n)
        for n in ordinary:
            if n in LETTERS:
                choice: tuple[str, tuple[str, ...]] = (LETTERS[n], ())
                choice = choice if choice not in taken else spelled(n)
                taken.add(choice)
                self.symbols[n] = choice
        seen: dict[tuple[str, tuple[str, ...]], str] = {}
        for n in ordinary:
            if seen.setdefault(self.symbols[n], n) != n:
                self.symbols[n] = (rf"\mathrm{{{_ascii(n)}}}".replace("_", r"\_"), ())

    def symbol(self, name: str) -> tuple[str, tuple[str, ...]]:
        """Symbol and labels of a name; primes at its end stay primes."""
        if name in self.symbols:
            return self.symbols[name]
        found = self.primes.match(name)
        plain, primes = found.groups() if found else (name, "")
        if plain in self.symbols:
            base, labels = self.symbols[plain]
        elif plain in LETTERS and (LETTERS[plain], ()) not in self.symbols.values():
            base, labels = LETTERS[plain], ()
        else:
            base, labels = spelled(plain)
        return base + primes, labels

    def is_free(self, base: str) -> bool:
        return all(base != symbol for symbol, _ in self.symbols.values())


# -- the writer ----------------------------------------------------------------------------------------------------


class LatexWriter(Writer):
    """Spells for LaTeX."""

    def __init__(self, notation: Notation) -> None:
        super().__init__(notation)
        self.spelling = Spelling([*notation.shapes, *sorted(notation.scalars)])
        from derive.matrix import matrix_form

        self.alias = {}
        for name, definition in notation.aliases.items():
            text = matrix_form(definition, self)
            if text is not None:
                self.alias[name] = text

    def name(self, name: str) -> str:
        if name == str(self.notation.value):
            return r"\mathcal{L}"
        if name in self.alias:
            return self.alias[name]
        if name.startswith("log_") and name not in self.notation.scalars and name[4:] in self.notation.shapes:
            return rf"\log {self.name(name[4:])}"
        stem, dash, primes = name.partition("_2")
        if dash and stem in self.notation.letters and not primes.strip("'"):
            # The same quantity in the second of two rules that are compared.
            return rf"\tilde{{{self.name(stem)}}}{primes}"
        base, labels = self.spelling.symbol(name)
        return f"{base}_{{{','.join(labels)}}}" if labels else base

    def subscripted(self, base: str, labels: Sequence[str], indices: Sequence[Any]) -> str:
        texts = [self.index(i) for i in indices]
        plain = all((i.is_Symbol and len(i.name.rstrip("'")) == 1) or (i.is_Integer and 0 <= i <= 9) for i in indices)
        inside = ("" if plain else ",").join(texts)
        parts = [*labels, *([inside] if inside else [])]
        return f"{base}_{{{','.join(parts)}}}" if parts else base

    def element(self, name: str, indices: Sequence[Any]) -> str:
        if name in self.alias:
            return self.subscripted(f"({self.alias[name]})", (), indices)
        if name.startswith("log_") and name[4:] in self.notation.shapes:
            return rf"\log {self.element(name[4:], indices)}"
        base, labels = self.spelling.symbol(name)
        if base.endswith("'"):
            return self.subscripted(f"{base}", labels, indices)
        return self.subscripted(base, labels, indices)

    def row(self, name: str, indices: Sequence[Any]) -> str:
        """What is left of an array when its last index is left out: the row w_j of a matrix W, a vector w."""
        if self.notation.is_adjoint(name):
            return self.gradient(self.show(self.notation.value), self.row(name.removeprefix(ADJOINT), indices)).text
        if name in self.alias:
            return self.subscripted(f"({self.alias[name]})", (), indices)
        base, labels = self.spelling.symbol(name)
        if indices and len(base) == 1 and base.isupper() and self.spelling.is_free(base.lower()):
            base = base.lower()
        return self.subscripted(base, labels, indices)

    def whole(self, name: str) -> str:
        """A whole array; the derivative by one is its gradient."""
        if self.notation.is_adjoint(name):
            return rf"\nabla_{{{self.whole(name.removeprefix(ADJOINT))}}} {self.show(self.notation.value)}"
        return self.name(name)

    def when(self, condition: str) -> str:
        return rf"\textup{{for }}${condition}$"

    def number(self, digits: str) -> str:
        zeros = len(digits) - len(digits.rstrip("0"))
        if zeros >= 4 and digits.lstrip("-").rstrip("0") == "1":
            return f"{'-' if digits.startswith('-') else ''}10^{{{zeros}}}"
        found = re.fullmatch(r"(-?[\d.]+)e([+-]?\d+)", digits)
        if found:
            return rf"{found[1]} \cdot 10^{{{int(found[2])}}}"
        return digits

    def _write_Rational(self, expr: Any) -> Box:
        q = str(expr.q)
        if expr > 0 and len(q) > 4 and q == "1" + "0" * (len(q) - 1):
            power = f"10^{{-{len(q) - 1}}}"
            return Box(power if expr.p == 1 else rf"{expr.p} \cdot {power}", PRODUCT)
        return super()._write_Rational(expr)

    def _write_Pi(self, expr: Any) -> Box:
        return Box(r"\pi")

    def _write_Exp1(self, expr: Any) -> Box:
        return Box("e")

    def _write_Infinity(self, expr: Any) -> Box:
        return Box(r"\infty")

    def _write_NegativeInfinity(self, expr: Any) -> Box:
        return Box(r"-\infty", ADD)

    def brackets(self, text: str) -> str:
        return rf"\left({text}\right)" if _tall(text) else f"({text})"

    def bars(self, text: str) -> str:
        return rf"\left\lvert {text} \right\rvert" if _tall(text) else rf"\lvert {text} \rvert"

    def minus(self, text: str) -> str:
        return f"-{text}"

    def times(self, factors: Sequence[str]) -> str:
        found = [factors[0]]
        for before, f in pairwise(factors):
            if re.search(r"\d$", before) and re.match(r"\d", f):
                # A number before a number needs a visible product.
                found.append(rf"\cdot {f}")
            elif before.startswith((r"\sum", r"\lim")) and not before.endswith(")"):
                found.append(f)
            elif before.startswith((r"\mathbb", r"\mathrm")) or f.startswith((r"\mathbb", r"\mathrm", r"\lVert")):
                found.append(rf"\, {f}")
            else:
                found.append(f)
        return " ".join(found)

    def fraction(self, above: str, below: str) -> Box:
        return Box(rf"\frac{{{above}}}{{{below}}}", PRODUCT)

    def power(self, base: str, exponent: str) -> str:
        if base.endswith("'"):
            return f"{{{base}}}^{{{exponent}}}"
        return f"{base}^{{{exponent}}}" if len(exponent) > 1 else f"{base}^{exponent}"

    def root(self, text: str) -> Box:
        return Box(rf"\sqrt{{{text}}}", ATOM)

    def sum_sign(self, under: str, first: str, last: str) -> str:
        return rf"\sum_{{{under}={first}}}^{{{last}}}" if last else rf"\sum_{{{under}}}"

    def comma(self, texts: Sequence[str]) -> str:
        return r",\, ".join(texts) if any(" " in t for t in texts) else ",".join(texts)

    def words(self, word: str, texts: Sequence[str]) -> str:
        return rf" \text{{ {word} }} ".join(texts).strip()

    def inner(self, left: str, right: str) -> str:
        return rf"{left}^\top {right}"

    def norm(self, text: str, power: int, count: int) -> str:
        bars = rf"\lVert {text} \rVert"
        if power == 1:
            return f"{bars}_1"
        return f"{bars}_F^2" if count == 2 else f"{bars}^2"

    def indicator(self, condition: str) -> str:
        return rf"\mathbb{{1}}{self.brackets(condition)}"

    def cases(self, branches: Sequence[tuple[str, str]]) -> str:
        rows = [
            rf"{_display(value)} & \text{{if }} {condition}"
            if condition
            else rf"{_display(value)} & \text{{otherwise}}"
            for value, condition in branches
        ]
        gap = "[1.5ex]" if any(_tall(v) for v, _ in branches) else ""
        return r"\begin{cases} " + rf" \\{gap} ".join(rows) + r" \end{cases}"

    def relation(self, left: str, kind: str, right: str) -> str:
        return f"{left} {_RELATIONS[kind]} {right}"

    def derivative(self, value: str, element: str) -> Box:
        above = rf"\partial {value}" if value else r"\partial"
        return Box(rf"\frac{{{above}}}{{\partial {element}}}", PRODUCT)

    def gradient(self, value: str, vector: str) -> Box:
        return Box(rf"\nabla_{{{vector}}} {value}".rstrip(), POWER)

    def exponential(self, text: str) -> Box:
        if _tall(text) or width(text) > 12:
            return Box(rf"\exp{self.brackets(text)}", PRODUCT)
        return Box(f"e^{{{text}}}", INNER + 1)

    def applied(self, function: str, text: str) -> str:
        return rf"\{function} {text}" if not text.startswith((r"\left(", "(")) else rf"\{function}{text}"

    def function(self, name: str, arguments: Sequence[str]) -> Box:
        if name == "binomial" and len(arguments) == 2:
            return Box(rf"\binom{{{arguments[0]}}}{{{arguments[1]}}}", ATOM)
        head = rf"\{name}" if name in _FUNCTIONS else rf"\operatorname{{{name}}}"
        head = {"asin": r"\arcsin", "acos": r"\arccos", "atan": r"\arctan"}.get(name, head)
        if head.startswith(r"\operatorname") and name not in ("sign", "E", "Var"):
            base, labels = self.spelling.symbol(name)
            head = f"{base}_{{{','.join(labels)}}}" if labels else base
        return Box(f"{head}{self.brackets(', '.join(arguments))}", PRODUCT)

    def limit(self, variable: str, point: str, side: str, text: str) -> str:
        where = rf"{variable} \to {point}{f'^{side}' if side else ''}"
        return rf"\lim_{{{where}}} {text}"


def _tall(text: str) -> bool:
    return any(c in text for c in (r"\frac", r"\sum", r"\begin", r"\lim", r"\sqrt{\frac"))


def _display(text: str) -> str:
    return rf"\displaystyle {text}" if _tall(text) else text


# -- how wide it will be -------------------------------------------------------------------------------------------

# fmt: off
_NARROW: Final = frozenset({
    r"\,", r"\;", r"\!", r"\:", r"\left", r"\right", r"\displaystyle", r"\mathbb", r"\mathrm", r"\text", r"\mathcal",
    r"\operatorname",
    r"\lvert", r"\rvert",
})
# fmt: on
_TOKEN: Final = re.compile(r"\\[A-Za-z]+|\\.|[{}^_]|\s+|.", re.S)


_CASES: Final = re.compile(r"\\begin\{cases\}(.*?)\\end\{cases\}")


def width(text: str) -> float:
    """About how wide a formula is, in em of its own size."""
    cases = _CASES.search(text)
    if cases:
        rows = [row.split("&") for row in re.split(r"\\\\(?:\[.*?\])?", cases[1])]
        inside = max(width(row[0]) for row in rows) + max(width(row[-1]) for row in rows)
        return width(text[: cases.start()]) + inside + 2.0 + width(text[cases.end() :])
    tokens = [t for t in _TOKEN.findall(text) if not t.isspace()]
    total, _ = _measure(tokens, 0)
    return total


def _measure(tokens: Sequence[str], start: int) -> tuple[float, int]:
    total, at = 0.0, start
    last = 0.0
    while at < len(tokens):
        t = tokens[at]
        if t == "}":
            return total, at + 1
        if t in ("^", "_"):
            size, at = _argument(tokens, at + 1)
            size *= 0.72
            # A script above a script below shares its place.
            total += max(0.0, size - last) if last else size
            last = 0.0 if last else size
            continue
        last = 0.0
        if t == "{":
            size, at = _measure(tokens, at + 1)
        elif t == r"\frac":
            above, at = _argument(tokens, at + 1)
            below, at = _argument(tokens, at)
            size = max(above, below) + 0.25
        elif t == r"\sqrt":
            size, at = _argument(tokens, at + 1)
            size += 0.9
        elif t == r"\sum" or t == r"\lim":
            under, at = _argument(tokens, at + 2) if tokens[at + 1 : at + 2] == ["_"] else (0.0, at + 1)
            size = max(1.5, 0.72 * under) + 0.2
            if tokens[at : at + 1] == ["^"]:
                _, at = _argument(tokens, at + 1)
        else:
            size, at = _glyph(t), at + 1
        total += size
    return total, at


def _argument(tokens: Sequence[str], at: int) -> tuple[float, int]:
    if at < len(tokens) and tokens[at] == "{":
        return _measure(tokens, at + 1)
    return (_glyph(tokens[at]), at + 1) if at < len(tokens) else (0.0, at)


def _glyph(token: str) -> float:
    if token in _NARROW or token.startswith((r"\begin", r"\end")):
        return 0.1
    if token in ("=", "+", "-", "<", ">", r"\neq", r"\leq", r"\geq", r"\to", r"\mapsto", r"\odot"):
        return 1.25
    if token in "(),.|'":
        return 0.4
    if token.removeprefix("\\") in _FUNCTIONS:
        return 0.5 * len(token)
    if token == r"\nabla" or token in "mw" or (len(token) == 1 and token.isupper()):
        return 0.82
    return 0.52


# -- aligned lines -------------------------------------------------------------------------------------------------


def broken(pieces: Sequence[str], room: float) -> list[str]:
    """Terms on as many lines as they need: a line is broken before the sign of a term."""
    lines: list[str] = []
    current = ""
    for piece in pieces:
        joined = f"{current} {piece}".strip()
        if current and width(joined) > room:
            lines.append(current)
            current = piece
        else:
            current = joined
    return [*lines, current]


def aligned(rows: Iterable[tuple[str, Sequence[str]]], room: float = 42.0) -> str:
    """Equations below each other, for a notebook: (left side, terms of the right side)."""
    lines = []
    for left, pieces in rows:
        first, *rest = broken(pieces, room)
        lines.append(f"{left} &= {first}")
        lines += [rf"&\quad {line}" for line in rest]
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def escape(text: str) -> str:
    """Prose for LaTeX."""
    table = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"}
    table |= {c: f"\\{c}" for c in "&%$#_{}"} | {">": r"\textgreater{}", "|": r"\textbar{}"}
    return "".join(table.get(c, c) if c.isascii() else typeset(c) for c in text)


def typeset(character: str) -> str:
    """A character beyond ASCII in text: accented letters as they are, Greek letters in math mode."""
    plain = _ascii(character).strip("_")
    if plain.lower() in GREEK or plain == "lambda":
        return rf"${spelled(character)[0]}$"
    known = character in "“”‘’–—…×·°§" or (len(plain) == 1 and ord(character) < 0x180)
    return character if known else escape(plain)


_MATH_TOKEN: Final = re.compile(
    r"[A-Za-z_][A-Za-z_0-9]*'*|\d+(?:\.\d+)?|->|\*\*|[<>!=]=|[-+*/^=()\[\]|,<>]|\s+|.", re.S
)
_OPERATORS: Final = frozenset(["+", "-", "*", "**", "/", "^", "=", "->", "<", ">", "<=", ">=", "!=", "|"])
_SPOKEN: Final = {
    "oo": r"\infty",
    "E": r"\operatorname{E}",
    "sign": r"\operatorname{sign}",
    "exp": r"\exp",
    "max": r"\max",
}
_SIGNS: Final = {"->": r"\to ", "*": " ", "<=": r"\leq ", ">=": r"\geq ", "!=": r"\neq ", "[": "[", "]": "]"}


def prose(text: str, names: Mapping[str, str]) -> str:
    """Prose for LaTeX, with the names it mentions as symbols and the small formulas in it in math mode.

    A formula is a run of names, numbers, brackets and operators that holds a name; an article is none.
    """
    tokens = _MATH_TOKEN.findall(text)
    kinds = [_kind_of(t, names) for t in tokens]
    for n in range(len(tokens)):
        if tokens[n] in names and kinds[n] == "word" and _in_a_formula(kinds, n):
            kinds[n] = "name"
    out: list[str] = []
    at = 0
    while at < len(tokens):
        end = _formula_end(tokens, kinds, at)
        if end > at:
            out.append(f"${_formula(tokens[at:end], names)}$")
            at = end
        else:
            signed = tokens[at] == "-" and "".join(tokens[max(at - 1, 0) : at]).strip(" (") == ""
            number = at + 1 < len(tokens) and kinds[at + 1] in ("number", "name")
            out.append("$-$" if signed and number else escape(tokens[at]))
            at += 1
    return "".join(out)


def _in_a_formula(kinds: Sequence[str], at: int) -> bool:
    """Whether a letter that may be an article stands at an operator, or alone in brackets."""
    before = next((k for k in reversed(kinds[:at]) if k != "space"), "")
    after = next((k for k in kinds[at + 1 :] if k != "space"), "")
    return "operator" in (before, after) or before == after == "bracket"


def _kind_of(token: str, names: Mapping[str, str]) -> str:
    if token.isspace():
        return "space"
    plain = token.rstrip("'")
    if plain in names and plain not in ("a", "A", "I"):
        return "name"
    if plain in _SPOKEN or plain == "sqrt":
        return "function"
    if plain in LETTERS and len(plain) <= 3 and plain != "reg":
        return "name"
    if token[0].isdigit():
        return "number"
    if token in _OPERATORS:
        return "operator"
    if token in ("(", "[", ")", "]"):
        return "bracket"
    return "word"


def _formula_end(tokens: Sequence[str], kinds: Sequence[str], start: int) -> int:
    """Where the formula that starts here ends; ``start`` if none does."""
    if kinds[start] not in ("name", "function", "number", "bracket") and tokens[start] != "|":
        return start
    depth, at, last, named, joined = 0, start, start, False, False
    while at < len(tokens):
        kind = kinds[at]
        outside = kind == "word" or (kind == "space" and at == start)
        if outside and not (tokens[at] == "," and depth):
            break
        if tokens[at] in "([":
            depth += 1
        elif tokens[at] in ")]":
            depth -= 1
            if depth < 0:
                break
        if kind == "function" and tokens[at + 1 : at + 2] not in (["("], ["["]) and tokens[at] != "oo":
            break
        if kind in ("name", "function"):
            # A function alone is a word; a name is a formula by itself.
            named = named or kind == "name" or tokens[at] != "oo"
        joined = joined or kind == "operator"
        at += 1
        if depth == 0 and kinds[at - 1] not in ("space", "operator"):
            last = at
        if kind == "name" and tokens[at - 1] == "|":
            last = at
    if tokens[start] == "|" or "|" in tokens[start:last]:
        while last < at and tokens[start:last].count("|") % 2:
            last += 1
    return last if named and last > start and (joined or kinds[start] != "bracket") else start


def _formula(tokens: Sequence[str], names: Mapping[str, str]) -> str:
    out: list[str] = []
    closing: list[int] = []
    depth = 0
    skip = False
    for n, t in enumerate(tokens):
        if skip:
            skip = False
            continue
        plain = t.rstrip("'")
        if t.isspace():
            # Between two factors a thin space stands for the product.
            out.append(r"\," if out and n + 1 < len(tokens) and _factors(tokens[n - 1], tokens[n + 1]) else "")
        elif plain == "sqrt" and tokens[n + 1 : n + 2] == ["("]:
            out.append(r"\sqrt{")
            closing.append(depth)
            depth += 1
            skip = True
        elif t == "(":
            depth += 1
            out.append("(")
        elif t == ")":
            depth -= 1
            if closing and closing[-1] == depth:
                closing.pop()
                out.append("}")
            else:
                out.append(")")
        elif t in ("^", "**") and tokens[n + 1 : n + 2] == ["("]:
            out.append("^{")
            closing.append(depth)
            depth += 1
            skip = True
        elif t in ("^", "**"):
            out.append("^")
        elif plain in names:
            out.append(f"{names[plain]}{t[len(plain) :]} ")
        elif plain in _SPOKEN:
            out.append(f"{_SPOKEN[plain]} ")
        elif plain and plain[0].isalpha():
            base, labels = spelled(plain)
            base = LETTERS.get(plain, base)
            out.append(f"{base}{'_{' + ','.join(labels) + '}' if labels else ''}{t[len(plain) :]} ")
        else:
            out.append(_SIGNS.get(t, t))
    return re.sub(r" +", " ", "".join(out).replace(" ^", "^").replace(" )", ")")).strip()


def _factors(before: str, after: str) -> bool:
    return (before[-1].isalnum() or before[-1] in ")|'") and (after[0].isalnum() or after[0] in "(|")


# -- whole objects -------------------------------------------------------------------------------------------------


def statement_latex(loss: Loss) -> str:
    """A loss as it was stated, for a notebook."""
    from derive.rewrite import tidy_definition
    from derive.statement import read

    form = read(loss)
    definitions = [tidy_definition(d) for d in form.definitions]
    writer = LatexWriter(Notation.of(form))
    return f"$$\n{aligned((writer.write(d.lhs), writer.sides(d.rhs)) for d in definitions)}\n$$"


def derivation_latex(derivation: Derivation) -> str:
    """A derivation for a notebook: the statement, the gradient of one example, the gradients of the whole."""
    from derive.chapters import example_rows, gradient_rows

    writer = LatexWriter(Notation.of(derivation.form, derivation.definitions))
    rows = [(writer.write(d.lhs), tuple(writer.sides(d.rhs))) for d in derivation.form.definitions]
    rows += [(r.left, r.pieces) for r in example_rows(derivation, writer)]
    rows += [(r.left, r.pieces) for r in gradient_rows(derivation, writer)]
    return f"$$\n{aligned(rows)}\n$$"


def rule_latex(rule: UpdateRule) -> str:
    """An update rule for a notebook."""
    from derive.chapters import rule_rows

    return f"$$\n{aligned((r.left, r.pieces) for r in rule_rows(rule))}\n$$"
