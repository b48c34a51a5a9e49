"""Reads LaTeX formulas as a mathematician does, and computes them: the oracle of what reports print.

It knows the notation of the lecture (rows w_j of a matrix W, inner products, indicators, restricted sums, cases) and
nothing of the toolkit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\s+|.", re.S)
_IGNORED = {r"\,", r"\;", r"\!", r"\left", r"\right", r"\displaystyle", r"\quad", r"\qquad"}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b, r"\neq": lambda a, b: a != b, "<": lambda a, b: a < b, ">": lambda a, b: a > b,
    r"\leq": lambda a, b: a <= b, r"\geq": lambda a, b: a >= b,
}  # fmt: skip

Value = Any
Meaning = Callable[["World"], Value]


def tokens(text: str) -> list[str]:
    return [t for t in _TOKEN.findall(text) if not t.isspace() and t not in _IGNORED]


# -- structure -----------------------------------------------------------------------------------------------------


def structure(text: str) -> list[Any]:
    """A formula as nested lists of atoms (symbol, below, above): braces and spaces do not count."""
    found, rest = _structure(tokens(text.replace("^T", r"^\top ")), 0, None)
    assert rest == len(tokens(text.replace("^T", r"^\top ")))
    return found


def _structure(ts: list[str], at: int, closing: str | None) -> tuple[list[Any], int]:
    out: list[Any] = []
    while at < len(ts) and ts[at] != closing:
        atom, at = _atom(ts, at)
        scripts: dict[str, Any] = {}
        while at < len(ts) and ts[at] in "_^":
            sign = ts[at]
            scripts[sign], at = _atom(ts, at + 1)
        if isinstance(atom, tuple) and atom[0] == "group" and len(atom[1]) == 1 and atom[1][0][1:] == (None, None):
            atom = atom[1][0][0]
        if isinstance(atom, tuple) and atom[0] == "group" and not scripts:
            out += atom[1]
        else:
            out.append((atom, _plain(scripts.get("_")), _plain(scripts.get("^"))))
    return out, at


def _plain(script: Any) -> Any:
    """``{j}`` and ``j`` are the same script."""
    if script is None:
        return None
    return script[1] if isinstance(script, tuple) and script[0] == "group" else [(script, None, None)]


def _atom(ts: list[str], at: int) -> tuple[Any, int]:
    t = ts[at]
    if t == "{":
        inside, at = _structure(ts, at + 1, "}")
        return ("group", inside), at + 1
    if t in "([":
        closing = {"(": ")", "[": "]"}[t]
        inside, at = _structure(ts, at + 1, closing)
        return ("bracket", inside), at + 1
    if t == r"\mathbb":
        inside, at = _atom(ts, at + 1)
        return ("blackboard", inside), at
    return t, at + 1


# -- value ---------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """What symbols stand for: arrays and scalars by their LaTeX, ranges of index letters, indices bound so far."""

    values: Mapping[str, Any]
    sizes: Mapping[str, int]
    indices: dict[str, int] = field(default_factory=dict)

    def bind(self, name: str, value: int) -> World:
        return World(self.values, self.sizes, {**self.indices, name: value})

    def range_of(self, name: str) -> range:
        return range(self.sizes[name.rstrip("'")])


def compute(text: str, world: World) -> Value:
    """The value of a formula."""
    reader = _Reader(tokens(text))
    meaning = reader.sum()
    assert reader.at == len(reader.ts), f"not understood from {reader.ts[reader.at :][:12]} in {text}"
    return meaning(world)


def target(text: str) -> tuple[str, list[str]]:
    """What a left side names: ``s_{ij}`` is ("s", ["i", "j"]); a derivative by it is ("d s", [...])."""
    found = re.fullmatch(r"\\frac\{\\partial \\mathcal\{L\}\}\{\\partial (.*)\}", text)
    if found:
        name, indices = target(found[1])
        return f"d {name}", indices
    found = re.fullmatch(r"\\nabla_\{(.*)\} \\mathcal\{L\}", text)
    if found:
        name, indices = target(found[1])
        return f"d {name}", indices
    found = re.fullmatch(r"(\\?[A-Za-z]+(?:\{\w+\})?)(?:_\{(.*)\})?", text)
    assert found, text
    return found[1], re.findall(r"[a-z]'*", found[2] or "")


class _Reader:
    def __init__(self, ts: list[str]) -> None:
        self.ts, self.at = ts, 0

    @property
    def next(self) -> str:
        return self.ts[self.at] if self.at < len(self.ts) else ""

    def take(self, *expected: str) -> str:
        t = self.next
        assert not expected or t in expected, f"{expected} expected before {self.ts[self.at :][:8]}"
        self.at += 1
        return t

    def sum(self) -> Meaning:
        parts: list[tuple[int, Meaning]] = []
        sign = 1
        if self.next in "+-" and self.next:
            sign = -1 if self.take() == "-" else 1
        parts.append((sign, self.product()))
        while self.next and self.next in "+-":
            sign = -1 if self.take() == "-" else 1
            parts.append((sign, self.product()))
        return lambda w: sum((s * m(w) for s, m in parts[1:]), parts[0][0] * parts[0][1](w))

    def starts_factor(self) -> bool:
        stop = {"", "+", "-", ")", "]", "}", ",", "&", r"\end", r"\\", r"\rvert", r"\rVert", *_COMPARISONS}
        return self.next not in stop

    def product(self) -> Meaning:
        factors: list[Meaning] = []
        while self.starts_factor():
            if self.next == r"\cdot":
                self.take()
            if self.next == r"\sum":
                factors.append(self.big_sum())
                break
            factors.append(self.factor())
        assert factors, self.ts[self.at :][:8]

        def value(w: World) -> Value:
            result: Value = 1
            for m in factors:
                result = result * m(w)
            return result

        return value

    def big_sum(self) -> Meaning:
        self.take(r"\sum")
        self.take("_")
        conditions = self.conditions(self.group())
        body = self.product()

        def value(w: World) -> Value:
            total: Value = 0
            worlds = [w]
            for name, _ in conditions:
                worlds = [v.bind(name, n) for v in worlds for n in w.range_of(name)]
            for v in worlds:
                if all(c is None or c(v) for _, c in conditions):
                    total = total + body(v)
            return total

        return value

    def conditions(self, ts: list[str]) -> list[tuple[str, Meaning | None]]:
        """``i,j`` binds two indices; ``j \\neq y_i`` binds one, restricted."""
        found: list[tuple[str, Meaning | None]] = []
        comparison = any(t in _COMPARISONS for t in ts)
        name = re.match(r"[a-z]'*", "".join(ts))
        assert name
        if comparison:
            found.append((name[0], _Reader(ts).comparison()))
        else:
            found += [(n, None) for n in re.findall(r"[a-z]'*", "".join(ts))]
        return found

    def comparison(self) -> Meaning:
        left = self.sum()
        compare = _COMPARISONS[self.take(*_COMPARISONS)]
        right = self.sum()
        return lambda w: compare(left(w), right(w))

    def group(self) -> list[str]:
        """The tokens of a braced group, or the one token that stands for it."""
        if self.next != "{":
            return [self.take()]
        depth, start = 0, self.at + 1
        while True:
            t = self.take()
            depth += (t == "{") - (t == "}")
            if depth == 0:
                return self.ts[start : self.at - 1]

    def inside(self, ts: list[str]) -> Meaning:
        reader = _Reader(ts)
        meaning = reader.sum()
        assert reader.at == len(ts), ts
        return meaning

    def bracket(self) -> Meaning:
        self.take("(")
        inner = self.sum()
        self.take(")")
        return inner

    def factor(self) -> Meaning:
        base, transposed = self.atom()
        if transposed:
            other = self.factor()
            return lambda w: float(np.dot(base(w), other(w)))
        return base

    def powered(self, base: Meaning) -> tuple[Meaning, bool]:
        if self.next != "^":
            return base, False
        self.take()
        ts = self.group()
        if ts == [r"\top"]:
            return base, True
        power = self.inside(ts)
        return lambda w: base(w) ** power(w), False

    def atom(self) -> tuple[Meaning, bool]:
        t = self.next
        if t == "(":
            return self.powered(self.bracket())
        if t == r"\frac":
            return self.fraction(), False
        if t == r"\mathbb":
            self.take()
            assert self.group() == ["1"]
            self.take("(")
            holds = self.comparison()
            self.take(")")
            return lambda w: float(holds(w)), False
        if t == r"\begin":
            return self.cases(), False
        if t in (r"\max", r"\exp"):
            return self.powered(self.function())
        if t == r"\operatorname":
            self.take()
            assert "".join(self.group()) == "sign"
            inner = self.bracket()
            return lambda w: float(np.sign(inner(w))), False
        if t == r"\log":
            self.take()
            argument = self.product()
            return lambda w: math.log(argument(w)), False
        if t in (r"\lVert", r"\lvert"):
            return self.norm(), False
        if t == "e":
            self.take()
            self.take("^")
            exponent = self.inside(self.group())
            return lambda w: math.exp(exponent(w)), False
        if re.fullmatch(r"\d+(\.\d+)?", t):
            self.take()
            return self.powered(lambda w: float(t))
        return self.powered(self.symbol())

    def function(self) -> Meaning:
        name = self.take()
        self.take("(")
        arguments = [self.sum()]
        while self.next == ",":
            self.take()
            arguments.append(self.sum())
        self.take(")")
        apply = {r"\max": max, r"\exp": math.exp}[name]
        return lambda w: apply(*(a(w) for a in arguments))

    def norm(self) -> Meaning:
        closing = {r"\lVert": r"\rVert", r"\lvert": r"\rvert"}[self.take()]
        inner = self.sum()
        self.take(closing)
        if closing == r"\rvert":
            return lambda w: abs(inner(w))
        scripts = []
        while self.next and self.next in "_^":
            scripts += [self.take(), *self.group()]
        if scripts == ["_", "1"]:
            return lambda w: float(np.abs(inner(w)).sum())
        assert scripts in (["^", "2"], ["_", "F", "^", "2"])
        return lambda w: float((np.asarray(inner(w)) ** 2).sum())

    def fraction(self) -> Meaning:
        self.take(r"\frac")
        above, below = self.group(), self.group()
        if above[:1] == [r"\partial"]:
            assert above[1:] == [r"\mathcal", "{", "L", "}"]
            assert below[0] == r"\partial"
            return _Reader(below[1:]).symbol("d ")
        numerator, denominator = self.inside(above), self.inside(below)
        return lambda w: numerator(w) / denominator(w)

    def cases(self) -> Meaning:
        self.take(r"\begin")
        assert "".join(self.group()) == "cases"
        branches: list[tuple[Meaning, Meaning | None]] = []
        while self.next != r"\end":
            value = self.sum()
            self.take("&")
            self.take(r"\text")
            word = "".join(self.group())
            branches.append((value, self.comparison() if word == "if" else None))
            if self.next == "\\\\":
                self.take()
                if self.next == "[":
                    while self.take() != "]":
                        pass
        self.take(r"\end")
        self.group()

        def meaning(w: World) -> Value:
            for value, condition in branches:
                if condition is None or condition(w):
                    return value(w)
            raise AssertionError("no case holds")

        return meaning

    def symbol(self, prefix: str = "") -> Meaning:
        name = self.take()
        if name in (r"\mathcal", r"\mathrm", r"\hat"):
            name += f"{{{''.join(self.group())}}}"
        while self.next == "'":
            name += self.take()
        if name == r"\nabla":
            self.take("_")
            inner = _Reader(self.group()).symbol("d ")
            assert [self.take(), *self.group()] == [r"\mathcal", "L"]
            return inner
        places: list[Meaning] = []
        if self.next == "_":
            self.take()
            places = self.places(self.group())

        def value(w: World) -> Value:
            if name in w.indices and not places:
                return w.indices[name]
            indices = tuple(p(w) for p in places)
            key = prefix + name
            if key not in w.values or (indices and np.ndim(w.values[key]) < len(indices)):
                # w_j is a row of W.
                key = prefix + name.upper()
            found = w.values[key]
            return found[indices] if indices else found

        return value

    def places(self, ts: list[str]) -> list[Meaning]:
        """Indices side by side (``ij'``), or separated by commas (``i,y_{i}``)."""
        if "," in ts:
            parts: list[list[str]] = [[]]
            depth = 0
            for t in ts:
                depth += (t == "{") - (t == "}")
                if t == "," and depth == 0:
                    parts.append([])
                else:
                    parts[-1].append(t)
            return [self.inside(p) for p in parts]
        if "_" in ts or any(t in "+-" for t in ts):
            return [self.inside(ts)]
        return [
            self.inside([*p]) if p[0].isalpha() else self.inside([p]) for p in re.findall(r"[a-z]'*|\d", "".join(ts))
        ]
