"""The evaluator is the oracle of every other check; its own oracles are hand loops and SymPy's calculus."""

from __future__ import annotations

import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import (
    Abs,
    And,
    Eq,
    Idx,
    IndexedBase,
    KroneckerDelta,
    Max,
    Min,
    Ne,
    Or,
    Piecewise,
    Rational,
    Sum,
    Symbol,
    symbols,
)

from derive.arithmetic import Dual, Undecided
from derive.errors import StatementError
from derive.evaluate import (
    EXACT,
    FLOAT,
    NotRational,
    decisions,
    digits,
    evaluate,
    evaluate_loss,
    interval,
    reference_gradient,
)
from derive.notation import LogSumExp, Partial, Sigmoid, Softplus, Where

N, D, C = symbols("N D C", integer=True, positive=True)
i, j, k = Idx("i", N), Idx("j", C), Idx("k", D)
X, W, y = IndexedBase("X", shape=(N, D)), IndexedBase("W", shape=(C, D)), IndexedBase("y", shape=(N,))
s, L = IndexedBase("s", shape=(N, C)), IndexedBase("L", shape=(N,))
delta, reg = symbols("delta reg", real=True)
x, u = IndexedBase("x"), IndexedBase("u")
a, b = symbols("a b", integer=True)
z = Symbol("z", real=True)

SVM = SimpleNamespace(
    name="svm",
    where=[
        Eq(s[i, j], Sum(W[j, k] * X[i, k], k)),
        Eq(L[i], Sum(Piecewise((Max(0, s[i, j] - s[i, y[i]] + delta), Ne(j, y[i])), (0, True)), j)),
    ],
    value=Sum(L[i], i) / N + reg * Sum(W[j, k] ** 2, j, k),
    wrt=[W],
    data=[X, y],
    defaults={delta: 1.0, reg: 0.0},
)


def svm_by_hand(weights, rows, labels, margin, strength):
    """Loss and gradient of the multiclass SVM, looped over as in the lecture, in whatever numbers come in."""
    loss, gradient = Fraction(0), [[Fraction(0) for _ in row] for row in weights]
    for row, label in zip(rows, labels, strict=True):
        scores = [sum(w * v for w, v in zip(weight, row, strict=True)) for weight in weights]
        for c, score in enumerate(scores):
            if c != label and score - scores[label] + margin > 0:
                loss += (score - scores[label] + margin) / Fraction(len(rows))
                for f, v in enumerate(row):
                    gradient[c][f] += v / Fraction(len(rows))
                    gradient[label][f] -= v / Fraction(len(rows))
    for c, weight in enumerate(weights):
        for f, w in enumerate(weight):
            loss += strength * w * w
            gradient[c][f] += 2 * strength * w
    return loss, gradient


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.sampled_from([0, 1]))
def test_the_svm_equals_the_loop_from_the_lecture_exactly_ties_included(seed, n, classes, features, margin):
    rng = np.random.default_rng(seed)
    weights, rows = (rng.integers(-2, 3, shape).tolist() for shape in ((classes, features), (n, features)))
    labels = rng.integers(0, classes, n).tolist()
    values = {"W": weights, "X": rows, "y": labels, "delta": margin, "reg": Fraction(1, 3)}
    loss, gradient = svm_by_hand(weights, rows, labels, margin, Fraction(1, 3))
    assert evaluate_loss(SVM, values, arithmetic=EXACT) == loss
    exact = reference_gradient(SVM, values, W, arithmetic=EXACT)
    assert exact == {(c, f): gradient[c][f] for c in range(classes) for f in range(features)}


def test_one_statement_in_every_arithmetic():
    values = {"W": np.eye(3), "X": np.arange(6.0).reshape(2, 3), "y": np.array([0, 2])}
    exact = evaluate_loss(SVM, values, arithmetic=EXACT)
    assert type(evaluate_loss(SVM, values)) is float
    assert evaluate_loss(SVM, values) == pytest.approx(float(exact), rel=1e-15)
    assert evaluate_loss(SVM, values, arithmetic=digits(50)) == pytest.approx(float(exact), rel=1e-15)
    enclosure = evaluate_loss(SVM, values, arithmetic=interval(20))
    assert enclosure.a <= float(exact) <= enclosure.b


def test_defaults_count_until_a_value_is_given():
    values = {"W": [[0, 0], [0, 0]], "X": [[1, 1]], "y": [0]}
    assert evaluate_loss(SVM, values) == 1.0
    assert evaluate_loss(SVM, values | {"delta": 5}) == 5.0


# ------------------------------------------------------------------------------------------------- heads, one by one


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (Sum(x[a], (a, 0, 2)), 7),
        (Sum(x[a], (a, 1, 0)), 0),
        (Sum(x[a] * x[b], (a, 0, b), (b, 0, 2)), 42),  # the inner limit depends on the outer index
        (sympy.Product(x[a], (a, 0, 2)), -15),
        (x[x[a] - 1], 3),  # an array in an index position
        (Piecewise((1 / x[a], Ne(a, 1)), (7, True)), 7),
        (Where(Eq(a, 2), x[a + 5], Rational(1, 3)), Fraction(1, 3)),  # the other branch is out of range: not looked at
        (KroneckerDelta(a, 1) + KroneckerDelta(a, 2), 1),
        (Max(x[0], x[1], x[2], evaluate=False) + Min(x[0], x[1], x[2], evaluate=False), 4),
        (Abs(x[2]) + sympy.sign(x[2]), 0),
        (Where(And(a > 0, Or(a < 0, x[0] >= 3)), 1, 0), 1),
        (Where(sympy.Not(Eq(x[0], 3)), 1, 0), 0),
        (x[1] ** -2, Fraction(1, 25)),
        (sympy.sqrt(x[1] - 1), 2),
        ((x[1] - 1) ** Rational(-3, 2), Fraction(1, 8)),
        (2 ** x[0], 8),
        (sympy.floor(x[0] / 2) + sympy.ceiling(x[0] / 2), 3),
    ],
)
def test_a_head_means_what_it_says(expr, expected):
    assert evaluate(
        expr, {"x": [3, 5, -1] if "x[x[a]" not in str(expr) else [2, 4, 0, 3]}, {a: 1}, arithmetic=EXACT
    ) == (expected)


def test_max_and_min_with_negative_entries():
    assert evaluate(Max(x[0], x[2]), {"x": [3, 5, -1]}) == 3.0
    assert evaluate(Min(x[0], x[2]), {"x": [3, 5, -1]}) == -1.0


def test_sizes_are_read_off_declared_shapes_and_may_be_given():
    assert evaluate(Sum(X[i, k], i, k) / (N * D), {"X": [[1, 2, 3], [3, 2, 1]]}, arithmetic=EXACT) == 2
    assert evaluate(Sum(1, (a, 1, N)), {"N": 5}) == 5.0


def test_log_sum_exp_leaves_out_minus_infinity_and_does_not_overflow():
    entries = LogSumExp(Where(Ne(a, 1), x[a], -sympy.oo), (a, 0, 2))
    assert evaluate(entries, {"x": [1000.0, 5000.0, 1000.0]}) == pytest.approx(1000 + math.log(2), rel=1e-15)
    assert evaluate(Softplus(z), {"z": 1000.0}) == 1000.0
    assert evaluate(Sigmoid(z), {"z": -1000.0}) == 0.0


def test_exact_arithmetic_refuses_what_is_no_fraction():
    for expr in (sympy.exp(x[0]), sympy.sqrt(x[0]), sympy.log(x[0]), sympy.pi * x[0], x[0] ** Rational(1, 3)):
        with pytest.raises(NotRational):
            evaluate(expr, {"x": [2]}, arithmetic=EXACT)
    assert evaluate(sympy.exp(x[0] - 2) + sympy.log(x[0] - 1) + sympy.sqrt(2 + x[0]), {"x": [2]}, arithmetic=EXACT) == 3


def test_what_is_missing_or_unknown_is_named():
    with pytest.raises(IndexError, match=r"x\[-1\] does not exist: x has shape \(2,\)"):
        evaluate(x[a - 1], {"x": [1, 2]}, {a: 0})
    with pytest.raises(KeyError, match="u has no value"):
        evaluate(u[0], {"x": [1]})
    with pytest.raises(StatementError, match="Heaviside"):
        evaluate(sympy.Heaviside(z), {"z": 1})


# ------------------------------------------------------------------------------------------------------- derivatives

SMOOTH = [
    sympy.exp(z) * sympy.tanh(z),
    sympy.log(2 + z) * sympy.sqrt(3 + z) / (1 + z**2),
    sympy.sin(z) * sympy.cos(z) + sympy.atan(z),
    sympy.erf(z) + z ** Rational(5, 2) + z**-3,
    (1 + z) ** z + 2**z,
    sympy.sinh(z) / sympy.cosh(z) + sympy.tan(z),
]


@pytest.mark.parametrize("expr", SMOOTH, ids=str)
def test_dual_numbers_agree_with_sympys_calculus(expr):
    point = Rational(7, 10)
    for order in (1, 2):
        unevaluated = expr
        for _ in range(order):
            unevaluated = Partial(unevaluated, z)
        expected = expr.diff(z, order).subs(z, point).evalf(30)
        found = evaluate(unevaluated, {"z": point}, arithmetic=digits(30))
        assert abs(found - expected) < 1e-25 * (1 + abs(expected))
    assert evaluate(Partial(expr, z), {"z": 0.7}) == pytest.approx(float(expr.diff(z).subs(z, 0.7)), rel=1e-13)


def test_the_toolkits_own_heads_have_the_derivatives_of_what_they_stand_for():
    pairs = [
        (Softplus(z), sympy.log(1 + sympy.exp(z))),
        (Sigmoid(z), 1 / (1 + sympy.exp(-z))),
        (LogSumExp(z * x[a], (a, 0, 1)), sympy.log(sympy.exp(3 * z) + sympy.exp(-z))),
    ]
    for head, meaning in pairs:
        found = evaluate(Partial(head, z), {"z": Rational(1, 3), "x": [3, -1]}, arithmetic=digits(30))
        assert abs(found - meaning.diff(z).subs(z, Rational(1, 3)).evalf(30)) < 1e-28


def test_at_a_tie_the_first_argument_counts():
    def derivative(expr, by, varying=None, **values):
        return evaluate(Partial(expr, by), {"x": [0, 0], **values}, {a: 0}, arithmetic=EXACT, varying=varying)

    assert derivative(Max(0, x[a]), x[a]) == 0  # the strict indicator
    assert derivative(Max(0, -x[a]), x[a]) == 0
    assert derivative(Min(0, x[a]), x[a]) == 0
    assert derivative(Abs(x[a]), x[a]) == 0
    assert derivative(sympy.sign(x[a]), x[a]) == 0
    assert derivative(Max(x[0], x[1]), x[0]) == 1
    assert derivative(Max(x[0], x[1]), x[1]) == 0
    assert derivative(Max(z, x[0]), x[0], varying=["x"], z=0) == 0  # z is free of what varies
    assert derivative(Piecewise((x[a], x[a] >= 0), (0, True)), x[a]) == 1  # as the branch that is taken


def test_a_partial_does_not_see_through_other_names_nor_capture_indices():
    assert evaluate(Partial(Sum(x[a] ** 2, (a, 0, 1)), x[a]), {"x": [3, 1]}, {a: 0}, arithmetic=EXACT) == 6
    assert evaluate(Partial(u[a] * x[b], x[a]), {"x": [3, 1], "u": [5, 5]}, {a: 0, b: 1}) == 0.0
    assert evaluate(Partial(u[a] * x[b], x[a]), {"x": [3, 1], "u": [5, 5]}, {a: 0, b: 0}) == 5.0


def test_derivatives_inside_derivatives_keep_their_epsilons_apart():
    w = Symbol("w", real=True)
    assert evaluate(Partial(z * Partial(z + w, w), z), {"z": 3, "w": 5}, arithmetic=EXACT) == 1
    assert evaluate(Partial(z * Partial(z * w, w), z), {"z": 3, "w": 5}, arithmetic=EXACT) == 6


def test_the_gradient_sees_through_definitions():
    statement = SimpleNamespace(
        where=[Eq(u[i], x[i] ** 2), Eq(Symbol("m"), Sum(u[i], i) / N)], value=Symbol("m") ** 2, wrt=[x], defaults={}
    )
    gradient = reference_gradient(statement, {"x": [1, 2], "N": 2}, x, arithmetic=EXACT)
    assert gradient == {(0,): 5, (1,): 10}  # m = 5/2, dm/dx = x


def test_a_normal_form_reads_like_a_statement():
    form = SimpleNamespace(
        definitions=[
            SimpleNamespace(name="u", indices=(a,), rhs=x[a] ** 2),
            SimpleNamespace(name="loss", indices=(), rhs=Sum(u[b], (b, 0, N - 1))),
        ],
        parameters=[x],
    )
    assert evaluate_loss(form, {"x": [1, 2], "N": 2}) == 5.0
    assert reference_gradient(form, {"x": [1, 2], "N": 2}, "x", arithmetic=EXACT) == {(0,): 2, (1,): 4}


# -------------------------------------------------------------------------------------------------- branches, intervals


def test_decisions_tell_the_two_sides_of_a_kink_and_the_kink_itself_apart():
    statement = SimpleNamespace(where=[], value=Max(0, x[0]) + Abs(x[1]), wrt=[x], defaults={})
    seen = [tuple(decisions(statement, {"x": [value, 1]})) for value in (-1, 0, 1)]
    assert len(set(seen)) == 3
    assert decisions(statement, {"x": [2, 1]}) == decisions(statement, {"x": [1, 5]})


def test_intervals_decide_only_what_holds_throughout():
    statement = SimpleNamespace(where=[], value=Max(0, x[0] ** 2 - 1), wrt=[x], defaults={})
    box = interval(20)
    assert decisions(statement, {"x": [box.between(2, 3)]}, arithmetic=box) == [(False, True)]
    with pytest.raises(Undecided):
        decisions(statement, {"x": [box.between(0.5, 3)]}, arithmetic=box)


def test_dual_numbers_do_arithmetic():
    x = Dual(Fraction(2), Fraction(1))
    cubic = 3 - 2 * x + x**3 - x * x
    assert (cubic.value, cubic.slope) == (3, 6)
    assert FLOAT.reciprocal(Dual(4.0, 1.0)).slope == -1 / 16
