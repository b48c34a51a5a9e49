"""Random statements: what Hypothesis writes on the blackboard, the code must compute, and so must its gradient.

Expressions are built at random over a few declared arrays, labels among them, with nested sums, conditions, named
quantities and functions kept inside their domains. The naive evaluator and its dual numbers (``oracles.blackboard``)
say what is right; numerical differences confirm them where no kink is near.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from oracles import blackboard
from sympy import (
    Abs,
    And,
    Eq,
    Idx,
    IndexedBase,
    Integer,
    KroneckerDelta,
    Max,
    Min,
    Ne,
    Or,
    Piecewise,
    Rational,
    Sum,
    Symbol,
    cos,
    exp,
    log,
    sign,
    sin,
    sqrt,
    symbols,
    tanh,
)

import derive
from derive import Loss, StatementError

settings.register_profile(
    "random statements",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.generate],  # shrinking costs minutes, and statements are short as they are
)
SETTINGS = settings(
    settings.get_profile("random statements"), max_examples=int(os.environ.get("RANDOM_STATEMENTS", "80"))
)

N, C, D = symbols("N C D", integer=True, positive=True)
SIZES = {"N": 4, "C": 3, "D": 2}
#: Letters for indices, by the size they run over: two of each, so that pairs occur.
LETTERS = {N: ("i", "n"), C: ("j", "l"), D: ("k", "m")}

W, V, b, u = (
    IndexedBase("W", shape=(C, D)),
    IndexedBase("V", shape=(N, N)),
    IndexedBase("b", shape=(C,)),
    IndexedBase("u", shape=(N,)),
)
T, c = IndexedBase("T", shape=(C, N, D)), symbols("c", real=True)
X, x = IndexedBase("X", shape=(N, D)), IndexedBase("x", shape=(N,))
y, z = IndexedBase("y", shape=(N,)), IndexedBase("z", shape=(N, D))  # labels: classes, and examples
alpha = symbols("alpha", positive=True)
PARAMETERS = [W, V, b, u, T]
DATA = [X, x]


KINDS = (
    *("sum", "sum", "sum", "sum", "product", "product", "plus", "minus", "square"),
    *("function", "positive", "max", "piecewise", "delta", "softmax", "leaf"),
)


@dataclass(frozen=True)
class Bound:
    """An index in scope: it runs over ``size`` and keeps ``below`` and ``above`` places clear of the two ends."""

    symbol: Any
    size: Any
    below: int = 0
    above: int = 0
    limits: Any = None

    @property
    def limit(self):
        return self.symbol if self.limits is None else (self.symbol, *self.limits)


class Writer:
    """Draws a well-formed expression; ``scope`` holds the indices that are bound, ``named`` the quantities so far."""

    def __init__(self, draw):
        self.draw = draw
        self.named = []

    def choose(self, *options):
        return self.draw(st.sampled_from(options))

    def often(self, times, of=10):
        return self.draw(st.integers(1, of)) <= times

    def over(self, size, scope):
        return [i for i in scope if i.size == size]

    def index(self, size, scope, labels=True):
        """Something that may stand in an index position of this size."""
        options = []
        for i in self.over(size, scope):
            shifts = [Integer(d) for d in range(-i.below, i.above + 1)]
            options += [i.symbol, i.symbol + self.choose(*shifts)]
            if self.often(1):
                options.append(size - 1 - i.symbol)
        if labels and self.often(5):
            if size == C:
                options += [y[self.index(N, scope, labels=False)]]
            if size == N:
                options += [z[self.index(N, scope, labels=False), self.index(D, scope, labels=False)]]
        if not options or self.often(1):
            options.append(self.choose(Integer(0), Integer(1)))
        return self.choose(*options)

    def element(self, scope):
        """An element of an array, or a number, or an index as a number."""
        array = self.choose(*PARAMETERS, *PARAMETERS, *DATA, *self.named, *self.named, *self.named, c, alpha, None)
        if array is None:
            numbers = [Integer(2), Rational(1, 2), Integer(-1), Rational(3, 2), N]
            return self.choose(*numbers, *(i.symbol for i in scope))
        if not isinstance(array, IndexedBase):
            return array
        return array[tuple(self.index(size, scope) for size in array.shape)]

    def condition(self, scope):
        kind = self.choose("indices", "labels", "values", "both")
        rows, classes = self.over(N, scope), self.over(C, scope)
        if kind == "indices" and scope:
            i = self.choose(*scope)
            others = [n.symbol for n in self.over(i.size, scope) if n != i]
            other = self.choose(*others, *others, Integer(1))
            return self.choose(Eq, Ne, lambda a, b: a < b, lambda a, b: a >= b)(i.symbol, other)
        if kind == "labels" and rows and classes:
            relation = self.choose(Eq, Ne, Eq, Ne, lambda a, b: a < b)
            return relation(self.choose(*classes).symbol, y[self.choose(*rows).symbol])
        if kind == "labels" and len(rows) > 1:
            return self.choose(Eq, Ne)(y[rows[0].symbol], y[rows[1].symbol])
        if kind == "both":
            return self.choose(And, Or)(self.condition(scope), self.condition(scope))
        return self.value(scope, 0) > self.choose(Integer(0), Rational(1, 3))

    def value(self, scope, depth):
        """A real expression in which only indices of the scope are free."""
        if depth <= 0:
            return self.element(scope)
        kind = self.choose(*KINDS)
        if kind == "sum":
            return self.total(scope, depth)
        if kind in ("product", "plus", "minus"):
            left, right = self.value(scope, depth - 1), self.value(scope, depth - 1)
            return {"product": left * right, "plus": left + right, "minus": left - right}[kind]
        if kind == "square":
            return self.value(scope, depth - 1) ** 2
        if kind == "function":
            return self.choose(tanh, sin, cos, Abs, lambda e: sign(e) * e, lambda e: exp(-Abs(e)))(
                self.value(scope, depth - 1)
            )
        if kind == "positive":
            inner = 1 + self.value(scope, depth - 1) ** 2
            return self.choose(sqrt, log, lambda e: 1 / e, lambda e: e ** Rational(-3, 2))(inner)
        if kind == "max":
            entries = [self.value(scope, depth - 1) for _ in range(self.choose(1, 2))]
            return self.choose(Max, Min)(self.choose(Integer(0), Rational(1, 4)), *entries)
        if kind == "piecewise":
            other = self.choose(Integer(0), self.value(scope, 0))
            return Piecewise((self.value(scope, depth - 1), self.condition(scope)), (other, True))
        if kind == "delta" and self.over(N, scope) and self.over(C, scope):
            row, column = self.choose(*self.over(N, scope)), self.choose(*self.over(C, scope))
            delta = KroneckerDelta(column.symbol, y[row.symbol])
            return self.choose(delta, 1 - delta) * self.value(scope, depth - 1)
        if kind == "softmax" and scope:
            i = self.choose(*scope)
            other = self.bound(i.size, scope)
            if other is not None and not i.below and not i.above:
                score = 2 * tanh(self.value(scope, depth - 1))
                return exp(score) / Sum(exp(score.subs(i.symbol, other.symbol)), other.limit)
        return self.element(scope)

    def bound(self, size, scope, fancy=False):
        """An index over this size with a letter not yet in use, now and then with limits of its own."""
        used = {str(i.symbol) for i in scope}
        letters = [letter for letter in LETTERS[size] if letter not in used]
        if not letters:
            return None
        letter = self.choose(*letters)
        if fancy and size != D and self.often(4):
            symbol = Symbol(letter, integer=True)
            earlier = [i for i in self.over(size, scope) if i.limits is None]
            if earlier and self.often(5):
                return Bound(symbol, size, limits=(0, self.choose(*earlier).symbol))
            below, above = self.choose((1, 1), (0, 1), (1, 0))
            return Bound(symbol, size, below, above, limits=(below, size - 1 - above))
        return Bound(Idx(letter, size), size)

    def total(self, scope, depth):
        """A sum over one or two indices, or the log of a sum of exponentials."""
        first = self.bound(self.choose(N, C, D), scope, fancy=True)
        if first is None:
            return self.element(scope)
        inner = [first]
        if self.often(5):
            second = self.bound(self.choose(N, C, D), (*scope, first), fancy=True)
            if second is not None:
                inner.insert(0, second)
        body = self.value((*scope, *inner), depth - 1)
        limits = [i.limit for i in inner]
        if self.often(2):
            return log(Sum(exp(tanh(body)), *limits))
        return Sum(body, *limits)

    def loss(self):
        where = []
        for number in range(self.draw(st.integers(0, 3))):
            scope: tuple[Bound, ...] = ()
            for _ in range(self.draw(st.integers(0, 2))):
                scope = (*scope, self.bound(self.choose(N, C, D), scope))
            scope = tuple(i for i in scope if i is not None)
            name = f"q{number}"
            if scope:
                quantity = IndexedBase(name, shape=tuple(i.size for i in scope))
                left = quantity[tuple(i.symbol for i in scope)]
            else:
                quantity = left = symbols(name, real=True)
            where.append(Eq(left, self.value(scope, self.draw(st.integers(1, 3))), evaluate=False))
            self.named.append(quantity)
        value = self.value((), self.draw(st.integers(2, 4)))
        return Loss("random", value, where=where, wrt=[*PARAMETERS, c], data=[*DATA, y, z], defaults={alpha: 1.5})


@st.composite
def statements(draw):
    return Writer(draw).loss()


def arguments(seed):
    rng = np.random.default_rng(seed)
    shapes = [(3, 2), (4, 4), (3,), (4,), (3, 4, 2)]
    parameters = [rng.normal(size=shape) for shape in shapes]
    labels = rng.integers(0, 3, 4)
    labels[0] = labels[1]
    return [*parameters, 0.8, rng.normal(size=(4, 2)), rng.normal(size=4), labels, rng.integers(0, 4, (4, 2))]


def found():
    """Statements that were once wrong, cut down to what matters."""
    i, n, j, l, k = Idx("i", N), Idx("n", N), Idx("j", C), Idx("l", C), Idx("k", D)  # noqa: E741 - a letter of the blackboard
    q, q2, r = IndexedBase("q", shape=(C, C)), IndexedBase("q2", shape=(N, N)), IndexedBase("r", shape=(C,))
    first_row = Piecewise((W[y[n], 0] ** 2, Eq(i, 1)), (0, True))
    delta = KroneckerDelta(j, y[i])
    return {
        "a delta on a diagonal": (Sum(delta * q[j, j] * u[i], i, j), [Eq(q[j, l], b[j] * b[l])]),
        "a label on a diagonal": (Sum(q[y[i], y[i]] * u[i], i), [Eq(q[j, l], b[j] * b[l])]),
        "an index that counts only": (log(Sum(exp(u[n]), n, j)), []),
        "a condition that a constant decides": (q2[0, 0] ** 2, [Eq(q2[i, n], log(first_row + 1))]),
        "conditions that exclude each other": (
            Sum(r[j] ** 2, j),
            [Eq(r[j], Sum(Piecewise((b[j], l > j), (0, True)), (l, 0, j)))],
        ),
        "a delta times its opposite": (Sum((1 - delta) * delta * b[j] * u[i], i, j), []),
        "log of a sum along a shifted diagonal": (log(Sum(exp(V[i, i + 1]), (i, 0, N - 2))), []),
        "log of a sum along a part of a diagonal": (log(Sum(exp(V[i, i]), (i, 1, N - 2))), []),
        "square of a sum along a shifted diagonal": (Sum(tanh(V[i, i + 1]), (i, 0, N - 2)) ** 2, []),
        "a diagonal shifted on both axes": (log(Sum(exp(V[i - 1, i - 1] ** 2), (i, 1, N - 1))), []),
        "labels beside a shifted index": (Sum(V[y[i], i - 1] * u[i], (i, 1, N - 1)), []),
        "shifted labels beside an index": (log(Sum(exp(T[y[n + 1], n, k]), (n, 0, N - 2), (k, 0, D - 1))), []),
        "an element left out of a shorter sum": (Sum(Piecewise((u[n], Ne(n, 1)), (0, True)), (n, 1, N - 1)), []),
        "a label left out of a shorter sum": (
            Sum(Max(0, b[l] * (1 - KroneckerDelta(l, y[i])), W[0, k] / 2), (l, 1, C - 1), i, k),
            [],
        ),
        "a label left out of a sum that ends early": (
            Sum(Piecewise((u[i] * b[l] ** 2, Ne(l, y[i])), (0, True)), (l, 0, C - 2), i),
            [],
        ),
        "labels outside a shorter sum": (Sum((1 - KroneckerDelta(j, y[n])) * b[j], (j, 1, C - 2), n), []),
        "labels outside a shorter sum, picked": (Sum(KroneckerDelta(j, y[n]) * b[j] * u[n], (j, 0, C - 2), n), []),
    }


@pytest.mark.parametrize("name", found())
def test_statement_found_by_chance(name):
    value, where = found()[name]
    assert_right(Loss("found", value, where=where, wrt=[*PARAMETERS, c], data=[*DATA, y, z], defaults={alpha: 1.5}), 0)


@SETTINGS
@given(statements(), st.integers(0, 3))
def test_random_statement(loss, seed):
    note(f"value = {loss.value}")
    for equation in loss.where:
        note(f"where {equation}")
    assert_right(loss, seed)


def assert_right(loss, seed):
    """The code against the naive evaluator, in values and gradients."""
    inputs = arguments(seed)
    try:
        value = blackboard.value(loss, *inputs)
        slopes = blackboard.gradient(loss, *inputs)
    except (KeyError, OverflowError, ZeroDivisionError, ValueError):
        return  # not a number anywhere, or taken apart by SymPy before anyone saw it
    if not np.isfinite(value) or abs(value) > 1e12:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            module = derive.compile(loss)
        except StatementError as refusal:
            assert "bound twice" in str(refusal)  # noqa: PT017 - what SymPy makes of one letter in two scopes
            return
        loss_value, gradient = module.loss_and_grad(*inputs)
        again = module.grad(*inputs)
    scale = max(1.0, abs(value))
    assert abs(loss_value - value) <= 1e-9 * scale
    assert abs(module.loss(*inputs) - value) <= 1e-9 * scale
    for name, actual, same, expected in zip(gradient._fields, gradient, again, slopes, strict=True):
        assert np.shape(actual) == expected.shape
        size = max(scale, np.max(np.abs(expected), initial=0.0))
        np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-9 * size, err_msg=name)
        np.testing.assert_allclose(same, actual, rtol=1e-12, atol=1e-12 * size, err_msg=name)
    assert_slope_along_a_line(loss, inputs, gradient, seed)


def assert_slope_along_a_line(loss, inputs, gradient, seed):
    """The derivative along a random line, by differences of the naive value, unless there is a kink within the step."""
    rng = np.random.default_rng([seed, 1])
    count = len(loss.wrt)
    direction = [rng.normal(size=np.shape(p)) for p in inputs[:count]]

    def along(t):
        return blackboard.value(loss, *(p + t * d for p, d in zip(inputs, direction, strict=False)), *inputs[count:])

    h = 1e-5
    try:
        below, here, above = along(-h), along(0.0), along(h)
    except (OverflowError, ZeroDivisionError, ValueError):
        return
    slope = sum(np.sum(g * d) for g, d in zip(gradient, direction, strict=True))
    scale = max(1.0, abs(here), abs(slope))
    if abs(above - 2 * here + below) > 1e-7 * scale:
        return  # a kink, a jump, or a curvature that differences do not resolve
    assert abs((above - below) / (2 * h) - slope) <= 1e-4 * scale
