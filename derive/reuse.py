"""Lines that compute in place: an array that is read for the last time becomes what is computed from it.

A chain of elementwise operations, written as one expression, makes an array for each of them, and new memory costs more
than the arithmetic. ``in_place`` takes finished lines and splits such chains into operations that write where an
operand stands. Results stay the same to rounding.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sympy import S

from derive.program import Node
from derive.python_source import COMPARISONS, is_negative, scalar_source

if TYPE_CHECKING:
    from derive.expressions import Expressions

__all__ = ["Value", "in_place"]

_ASSIGNMENT = re.compile(r"(?P<name>\w+) = (?P<text>.*?)(?P<comment>  # .*)?")
#: Elementwise functions of one array that can write where it stands.
_FUNCTIONS = frozenset(
    {"exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "abs", "sign"}
)


@dataclass(frozen=True)
class Value:
    """What a line assigns: a node, what its axes are called, and their order in memory."""

    node: Node
    axes: tuple[int, ...]
    context: tuple[int, ...]

    def operands(self) -> list[tuple[Node, tuple[int, ...]]]:
        """What the operation reads; an indicator reads what its condition compares."""
        args, axes = self.node.args, self.axes
        if self.node.info == "indicator" and args[0][0].info in COMPARISONS:
            (condition, where) = args[0]
            args, axes = condition.args, tuple(axes[p] for p in where)
        return [(child, tuple(axes[p] for p in where)) for child, where in args]


@dataclass(frozen=True)
class _Step:
    """An operation on the way from a value down to an array; the operand with this number holds the array."""

    value: Value
    operand: int
    negative: bool = False


@dataclass(frozen=True)
class _Operation:
    """What is done to an array; ``second`` where the array is the second operand."""

    name: str
    other: str = ""
    second: bool = False


def in_place(
    writer: Expressions,
    lines: Sequence[str],
    values: Mapping[str, Value],
    kept: Collection[str],
    *,
    width: int,
) -> list[str]:
    """The lines, with chains of operations on matrices computed in place.

    Parameters
    ----------
    writer : Expressions
        What wrote the lines: it knows which nodes have variables.
    lines : sequence of str
        Lines in which no name is assigned twice.
    values : mapping of str to Value
        What the lines assign, by name.
    kept : collection of str
        Names that are read after the lines.
    width : int
        How long a line may be.
    """
    return _Lines(writer, lines, values, kept, width).rewritten()


class _Lines:
    def __init__(
        self,
        writer: Expressions,
        lines: Sequence[str],
        values: Mapping[str, Value],
        kept: Collection[str],
        width: int,
    ) -> None:
        self.writer, self.lines, self.values, self.kept = writer, lines, values, kept
        self.width, self.target = width, writer.target
        self.words = [_words(line.partition("  # ")[0]) for line in lines]
        self.assigned = {m["name"]: k for k, line in enumerate(lines) if (m := _ASSIGNMENT.fullmatch(line))}

    def rewritten(self) -> list[str]:
        found: list[str] = []
        for number, line in enumerate(self.lines):
            match = _ASSIGNMENT.fullmatch(line)
            value = self.values.get(match["name"]) if match else None
            split = self.split(number, match["name"], value) if match and value else []
            if match and split:
                split[-1] += match["comment"] or ""
            found += split or [line]
        return found

    def split(self, number: int, name: str, value: Value) -> list[str]:
        """A value computed operation by operation; nothing where that would save no array."""
        if len(value.context) < 2 or value.node.op != "map":
            return []
        best: tuple[tuple[bool, int], str | None, list[_Step], list[_Operation]] | None = None
        for way, array in self.ways(value):
            free = array is not None and self.is_free(array, number)
            operations = self.chain(way, array) if free else None
            if operations is None:
                # The innermost operation makes a new array, and the others change it.
                array, operations = None, self.chain(way[:-1], None)
            rank = (array is not None, len(way))
            if operations and (best is None or rank > best[0]):
                best = rank, array, way, operations
        if best is None:
            return []
        _, array, way, operations = best
        lines: list[str] = []
        if array is None:
            start = way[-1].value
            lines.append(f"{name} = {self.writer.text(start.node, start.axes, start.context)[0]}")
        here = array or name
        for operation in operations:
            lines.append(self.spelled(operation, here, name))
            here = name
        return lines if max(map(len, lines)) <= self.width else []

    # -- the way to an array -----------------------------------------------------------------------------------------

    def ways(self, value: Value) -> Iterator[tuple[list[_Step], str | None]]:
        """Operations from a value down, and the variable at the end, if there is one that lies as the value does."""
        if not self.can_change(value.node):
            return
        for number, (child, axes) in enumerate(value.operands()):
            if value.node.info in ("pow", "where") and number != int(value.node.info == "where"):
                continue
            step = _Step(value, number)
            minus = _negated(child) if value.node.info == "add" and child.number not in self.writer.variables else None
            if minus is not None:
                child, where = minus
                axes, step = tuple(axes[p] for p in where), _Step(value, number, negative=True)
            if set(axes) != set(value.context) or child.kind != "float":
                continue
            known = self.writer.variables.get(child.number)
            if known is not None:
                if [axes[p] for p in known[1]] == list(value.context):
                    yield [step], known[0]
                continue
            inner = Value(child, axes, value.context)
            deeper = list(self.ways(inner)) if child.op == "map" and not self.writer.pythonic(child) else []
            for way, array in deeper:
                yield [step, *way], array
            if not deeper and child.op in ("map", "contract"):
                yield [step, _Step(inner, 0)], None

    def can_change(self, node: Node) -> bool:
        """Whether the result of an operation may stand where an operand stood."""
        if node.info == "indicator":
            return node.args[0][0].info in COMPARISONS and node.args[0][0].number not in self.writer.variables
        if node.info == "where":
            return self.writer.is_masked(node)
        return node.info in _FUNCTIONS or node.info in ("add", "mul", "pow", "maximum", "minimum")

    def is_free(self, array: str, number: int) -> bool:
        """Whether the lines make an array, and nothing after this one reads it or a view of it."""
        if array not in self.assigned or self.is_view(array):
            return False
        names = {array}
        for name, line in self.assigned.items():
            if self.is_view(name) and self.words[line] & names:
                names.add(name)
        return not names & set().union(self.kept, *self.words[number + 1 :])

    def is_view(self, name: str) -> bool:
        value = self.values.get(name)
        return value is None or (value.node.op == "take" and not any(e[0] == "gather" for e in value.node.info))

    # -- operations --------------------------------------------------------------------------------------------------

    def chain(self, way: Sequence[_Step], array: str | None) -> list[_Operation] | None:
        """The operations of the steps, from the inside out; None if one reads the array after it has changed."""
        found: list[_Operation] = []
        for step in reversed(way):
            operations = self.operations(step)
            if operations is None:
                return None
            if array is not None and not found:
                operations.sort(key=lambda o: array not in _words(o.other) and o.name != "square")
            found += operations
        return None if array is not None and any(array in _words(o.other) for o in found[1:]) else found

    def operations(self, step: _Step) -> list[_Operation] | None:
        node, place = step.value.node, step.operand
        if node.info in _FUNCTIONS:
            return [_Operation(node.info)]
        if node.info in ("maximum", "minimum"):
            return [_Operation(node.info, self.operand(step, 1 - place)[0])]
        if node.info == "indicator":
            return [_Operation(node.args[0][0].info, self.operand(step, 1 - place)[0], second=place == 1)]
        if node.info == "where":
            return [_Operation("multiply", self.operand(step, 0)[0])]
        if node.info == "pow":
            return self.power(node.args[1][0])
        return self.product(step) if node.info == "mul" else self.sum(step)

    def operand(self, step: _Step, number: int) -> tuple[str, int]:
        child, axes = step.value.operands()[number]
        return self.writer.text(child, axes, step.value.context)

    def power(self, exponent: Node) -> list[_Operation] | None:
        if exponent.op != "scalar":
            return None
        if exponent.info == 2:
            return [_Operation("square")]
        if exponent.info == S.Half:
            return [_Operation("sqrt")]
        if exponent.info == -1:
            return [_Operation("divide", "1", second=True)]
        return [_Operation("power", scalar_source(exponent.info)[0])]

    def sum(self, step: _Step) -> list[_Operation]:
        others = [self.operand(step, n) for n in range(len(step.value.node.args)) if n != step.operand]
        if not step.negative:
            return [_term(text) for text in others]
        first = next((k for k, text in enumerate(others) if not is_negative(text)), None)
        if first is None:
            return [_Operation("negative"), *map(_term, others)]
        return [_Operation("subtract", others.pop(first)[0], second=True), *map(_term, others)]

    def product(self, step: _Step) -> list[_Operation] | None:
        found: list[_Operation] = []
        scale = S.One
        operands = step.value.operands()
        for number, (child, axes) in enumerate(operands):
            if number == step.operand:
                continue
            if child.op == "scalar":
                scale *= child.info
                continue
            inverse = self.writer.inverted(child)
            if (child, axes) == operands[step.operand]:
                found.append(_Operation("square"))
            elif inverse is not None:
                below, inside = inverse
                text = self.writer.text(below, tuple(axes[p] for p in inside), step.value.context)
                found.append(_Operation("divide", text[0]))
            else:
                found.append(_Operation("multiply", self.operand(step, number)[0]))
        if sum(o.name == "square" for o in found) > 1:
            return None
        found.sort(key=lambda o: o.name != "square")
        above, below = scale.as_numer_denom()
        if scale == -1:
            found.append(_Operation("negative"))
        elif above == 1 and below != 1:
            found.append(_Operation("divide", scalar_source(below)[0]))
        elif scale != 1:
            found.append(_Operation("multiply", scalar_source(scale)[0]))
        return found

    def spelled(self, operation: _Operation, here: str, name: str) -> str:
        """The operation on the array called ``here``, whose result is called ``name``."""
        operands = [here, *([operation.other] if operation.other else [])]
        if operation.second:
            operands.reverse()
        elif here == name and operation.name in self.target.onto_first:
            return self.target.onto_first[operation.name].format(*operands, out=name)
        text = self.target.into[operation.name].format(*operands, out=here)
        return text if here == name else f"{name} = {text}"


def _term(text: tuple[str, int]) -> _Operation:
    return _Operation("subtract", text[0][1:]) if is_negative(text) else _Operation("add", text[0])


def _negated(node: Node) -> tuple[Node, tuple[int, ...]] | None:
    """What a node is minus one times."""
    if node.op == "map" and node.info == "mul" and len(node.args) == 2:
        for (scale, _), other in (node.args, node.args[::-1]):
            if scale.op == "scalar" and scale.info == -1:
                return other
    return None


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))
