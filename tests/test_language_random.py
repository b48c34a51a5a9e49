"""Random statements: what Hypothesis writes on the blackboard, the code must compute, and so must its gradient.

Expressions are built at random over a few declared arrays, labels among them, with nested sums, conditions, named
quantities and functions kept inside their domains. The naive evaluator and its dual numbers (``oracles.blackboard``)
say what is right; numerical differences confirm them where no kink is near.
"""

from __future__ import annotations

import os
import warnings

import numpy as np
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
from derive import Loss

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
    settings.get_profile("random statements"), max_examples=int(os.environ.get("RANDOM_STATEMENTS", "40"))
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
    *("sum", "sum", "sum", "product", "product", "plus", "minus", "square"),
    *("function", "positive", "max", "piecewise", "delta", "leaf"),
)


class Writer:
    """Draws a well-formed expression; ``scope`` holds the indices that are bound, ``named`` the quantities so far."""

    def __init__(self, draw):
        self.draw = draw
        self.named = []

    def choose(self, *options):
        return self.draw(st.sampled_from(options))

    def index(self, size, scope, labels=True):
        """Something that may stand in an index position of this size."""
        options = [i for i in scope if i.upper == size - 1]
        if labels and size == C:
            options += [y[i] for i in scope if i.upper == N - 1]
        if labels and size == N:
            options += [z[i, k] for i in scope for k in scope if i.upper == N - 1 and k.upper == D - 1]
        if not options or self.draw(st.integers(0, 9)) == 0:
            options.append(Integer(0))
        return self.choose(*options)

    def element(self, scope):
        """An element of an array, or a number."""
        array = self.choose(*PARAMETERS, *PARAMETERS, *DATA, *self.named, *self.named, c, alpha, None)
        if array is None:
            return self.choose(Integer(2), Rational(1, 2), Integer(-1), Rational(3, 2), N)
        if not isinstance(array, IndexedBase):
            return array
        if not array.shape:
            return array.label
        return array[tuple(self.index(size, scope) for size in array.shape)]

    def condition(self, scope):
        kind = self.choose("indices", "labels", "values", "both")
        if kind == "indices" and scope:
            i = self.choose(*scope)
            others = [n for n in scope if n.upper == i.upper and n != i]
            other = self.choose(*others, Integer(1)) if others else Integer(1)
            return self.choose(Eq, Ne, lambda a, b: a < b, lambda a, b: a >= b)(i, other)
        if kind == "labels":
            rows = [i for i in scope if i.upper == N - 1]
            classes = [j for j in scope if j.upper == C - 1]
            if rows and classes:
                return self.choose(Eq, Ne)(self.choose(*classes), y[self.choose(*rows)])
            if len(rows) > 1:
                return self.choose(Eq, Ne)(y[rows[0]], y[rows[1]])
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
            return Piecewise(
                (self.value(scope, depth - 1), self.condition(scope)),
                (self.choose(Integer(0), self.value(scope, 0)), True),
            )
        if kind == "delta":
            rows = [i for i in scope if i.upper == N - 1]
            classes = [j for j in scope if j.upper == C - 1]
            if rows and classes:
                delta = KroneckerDelta(self.choose(*classes), y[self.choose(*rows)])
                return self.choose(delta, 1 - delta) * self.value(scope, depth - 1)
        return self.element(scope)

    def total(self, scope, depth):
        """A sum over one or two indices whose letters are not yet in use, or log of a sum of exponentials."""
        used = {str(i) for i in scope}
        free = [Idx(letter, size) for size, letters in LETTERS.items() for letter in letters if letter not in used]
        if not free:
            return self.element(scope)
        bound = [self.choose(*free)]
        if self.draw(st.booleans()):
            second = self.choose(*free)
            if second not in bound:
                bound.append(second)
        body = self.value((*scope, *bound), depth - 1)
        if self.draw(st.integers(0, 5)) == 0:
            return log(Sum(exp(tanh(body)), *bound))
        return Sum(body, *bound)

    def loss(self):
        where = []
        for number in range(self.draw(st.integers(0, 2))):
            sizes = [self.choose(N, C, D) for _ in range(self.draw(st.integers(0, 2)))]
            letters = {N: ["i", "n"], C: ["j", "l"], D: ["k", "m"]}
            scope = tuple(Idx(letters[size].pop(0), size) for size in sizes)
            name = f"q{number}"
            if scope:
                quantity = IndexedBase(name, shape=tuple(sizes))
                left = quantity[scope]
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


@SETTINGS
@given(statements(), st.integers(0, 3))
def test_random_statement(loss, seed):
    note(f"value = {loss.value}")
    for equation in loss.where:
        note(f"where {equation}")
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
        module = derive.compile(loss)
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
