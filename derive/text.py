"""Statements, derivations and rules as plain text for a terminal of 80 columns, in the names of the code.

An inner product is ``W[j] @ X[i]``, an indicator ``1(...)``, a sum ``sum_{j != y[i]} ...``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from derive.blackboard import ADJOINT, ATOM, INNER, PRODUCT, Box, Notation, Writer
from derive.numbering import equation_numbers

if TYPE_CHECKING:
    from derive.chapters import Row
    from derive.differentiate import Derivation
    from derive.statement import Definition, Form

__all__ = ["TextWriter", "definition_text", "derivation_text", "form_text"]

_RELATIONS: Final = {
    "Equality": "=",
    "Unequality": "!=",
    "StrictLessThan": "<",
    "LessThan": "<=",
    "StrictGreaterThan": ">",
    "GreaterThan": ">=",
}
_OPEN, _CLOSE, _NEXT = "{ ", " }", ";  "


class TextWriter(Writer):
    """Spells for a terminal."""

    def name(self, name: str) -> str:
        return name

    def whole(self, name: str) -> str:
        return name

    def when(self, condition: str) -> str:
        return condition

    def number(self, digits: str) -> str:
        return digits

    def element(self, name: str, indices: Sequence[Any]) -> str:
        return f"{name}[{','.join(self.index(i).replace(' ', '') for i in indices)}]"

    def row(self, name: str, indices: Sequence[Any]) -> str:
        if self.notation.is_adjoint(name):
            return self.gradient(self.show(self.notation.value), self.row(name.removeprefix(ADJOINT), indices)).text
        return self.element(name, indices) if indices else name

    def brackets(self, text: str) -> str:
        return f"({text})"

    def bars(self, text: str) -> str:
        return f"|{text}|"

    def minus(self, text: str) -> str:
        return f"-{text}"

    def times(self, factors: Sequence[str]) -> str:
        return " ".join(factors)

    def fraction(self, above: str, below: str) -> Box:
        top = f"({above})" if any(c in above for c in "+-") else above
        bottom = f"({below})" if any(c in below for c in " /*+") else below
        return Box(f"{top}/{bottom}", PRODUCT)

    def power(self, base: str, exponent: str) -> str:
        return f"{base}^{exponent if exponent.isalnum() else f'({exponent})'}"

    def root(self, text: str) -> Box:
        return Box(f"sqrt({text})", ATOM)

    def sum_sign(self, under: str, first: str, last: str) -> str:
        inside = f"{under}={first}..{last.replace(' ', '')}" if last else under
        return f"sum_{{{inside}}}"

    def comma(self, texts: Sequence[str]) -> str:
        return ", ".join(texts) if any(" " in t for t in texts) else ",".join(texts)

    def words(self, word: str, texts: Sequence[str]) -> str:
        return f" {word} ".join(texts).strip()

    def inner(self, left: str, right: str) -> str:
        return f"{left} @ {right}"

    def norm(self, text: str, power: int, count: int) -> str:
        return f"||{text}||" + ("_1" if power == 1 else "^2")

    def indicator(self, condition: str) -> str:
        return f"1({condition})"

    def cases(self, branches: Sequence[tuple[str, str]]) -> str:
        texts = [f"{v} if {c}" if c else f"{v} otherwise" for v, c in branches]
        return f"{_OPEN}{_NEXT.join(texts)}{_CLOSE}"

    def relation(self, left: str, kind: str, right: str) -> str:
        return f"{left} {_RELATIONS[kind]} {right}"

    def derivative(self, value: str, element: str) -> Box:
        return Box(f"d {value}/d {element}" if value else f"d/d {element}", INNER)

    def gradient(self, value: str, vector: str) -> Box:
        return self.derivative(value, vector)

    def exponential(self, text: str) -> Box:
        return Box(f"exp({text})")

    def applied(self, function: str, text: str) -> str:
        return f"{function}{text}" if text.startswith("(") and text.endswith(")") else f"{function} {text}"

    def function(self, name: str, arguments: Sequence[str]) -> Box:
        return Box(f"{name}({', '.join(arguments)})")

    def limit(self, variable: str, point: str, side: str, text: str) -> str:
        return f"lim_{{{variable} -> {point}{side}}} {text}"


def definition_text(definition: Definition, form: Form | None = None, width: int = 76) -> str:
    """A definition on as many lines as it needs: ``s[i,j] = W[j] @ X[i]``."""
    writer = TextWriter(Notation.of(form) if form is not None else Notation())
    return "\n".join(_lines(writer.write(definition.lhs), writer.sides(definition.rhs), width))


def form_text(form: Form, width: int = 76) -> list[str]:
    """All definitions of a statement, in order."""
    writer = TextWriter(Notation.of(form))
    return [line for d in form.definitions for line in _lines(writer.write(d.lhs), writer.sides(d.rhs), width)]


def derivation_text(derivation: Derivation, width: int = 80) -> str:
    """A derivation for the terminal: statement, steps, results; numbers as in the report and in the code."""
    from derive import chapters

    writer = TextWriter(Notation.of(derivation.form, derivation.definitions))
    numbers = equation_numbers(derivation)
    loss = derivation.loss
    out = [derivation.form.name, "=" * len(derivation.form.name)]
    if loss.about:
        out += ["", *textwrap.wrap(loss.about, width)]

    def section(title: str, rows: Iterable[Row]) -> None:
        lines = [line for r in rows for line in _row_lines(r, numbers, width)]
        if lines:
            out.extend(["", title, "-" * len(title), *lines])

    section("Statement", chapters.statement_rows(derivation, writer))
    section("Named on the way", chapters.rewritten_rows(derivation, writer))
    section("Derivatives of each quantity", chapters.local_rows(derivation, writer))
    section("Chain rule", chapters.adjoint_rows(derivation, writer))
    section(
        "One example", [*chapters.example_loss_rows(derivation, writer), *chapters.example_rows(derivation, writer)]
    )
    section("Gradient", chapters.gradient_rows(derivation, writer))
    if derivation.conventions:
        out += ["", "Conventions", "-----------"]
        for convention in derivation.conventions:
            out += textwrap.wrap(convention, width, subsequent_indent="  ", initial_indent="- ")
    return "\n".join(out) + "\n"


def _row_lines(row: Row, numbers: dict[str, int], width: int) -> list[str]:
    number = f"({numbers[row.name]})" if row.name in numbers else ""
    lines = _lines(row.left, row.pieces, width - 8, indent=6)
    lines[0] = f"{number:>5} {lines[0][6:]}" if number else lines[0]
    if row.reason:
        room = width - len(lines[-1]) - 2
        reason = f"[{row.reason}]"
        if len(reason) <= room:
            lines[-1] = f"{lines[-1]:<{width - len(reason)}}{reason}"
        else:
            lines.append(f"{reason:>{width}}")
    return lines


def _lines(left: str, pieces: Sequence[str], width: int, indent: int = 0) -> list[str]:
    """``left = pieces``, broken before the sign of a term where it is too long; cases below each other."""
    head = f"{' ' * indent}{left} = " if left else f"{' ' * (indent + 4)}= "
    pieces = list(pieces)
    if len(pieces) == 1 and pieces[0].startswith(_OPEN) and pieces[0].endswith(_CLOSE):
        branches = pieces[0][len(_OPEN) : -len(_CLOSE)].split(_NEXT)
        lines = []
        long = any(len(head + branch) > width for branch in branches)
        for n, branch in enumerate(branches):
            start = head if n == 0 else " " * len(head)
            if long and " if " in branch:
                value, condition = branch.rsplit(" if ", 1)
                lines += [*_wrapped(start, value, width), f"{' ' * (len(head) + 4)}if {condition}"]
            else:
                lines.append(start + branch)
        return lines
    lines, current = [], head
    for piece in pieces:
        if current.strip() not in (head.strip(), "") and len(f"{current} {piece}") > width:
            lines.append(current.rstrip())
            current = " " * (len(head) + 2)
        current = f"{current}{piece}" if current == head or not current.strip() else f"{current} {piece}"
    lines.append(current)
    return [part for line in lines for part in _wrapped(line[: len(line) - len(line.lstrip())], line.strip(), width)]


def _wrapped(start: str, words: str, width: int) -> list[str]:
    """Text on several lines if it must be: broken at spaces, as late as possible."""
    if len(start + words) <= width:
        return [start + words]
    return textwrap.wrap(
        words,
        max(width, len(start) + 24),
        initial_indent=start,
        subsequent_indent=" " * (len(start) + 4),
        break_long_words=False,
        break_on_hyphens=False,
    )
