"""The multiclass SVM of the lecture, all along the pipeline: derivation, code, gradient checks, ties."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from oracles import blackboard
from sympy import (
    Derivative,
    DiracDelta,
    Eq,
    Ge,
    Heaviside,
    Indexed,
    Max,
    Ne,
    Subs,
    Sum,
    postorder_traversal,
    preorder_traversal,
    symbols,
)

import derive
import derive.losses.svm
from derive import Loss, VerificationError
from derive.__main__ import main
from derive.losses.squared_hinge_svm import squared_hinge_svm
from derive.losses.svm import svm
from derive.notation import Where
from derive.on_fractions import on_fractions
from derive.verify import verify_derivation

SHAPES = [(7, 5, 4), (1, 3, 4), (6, 1, 3), (5, 3, 2), (4, 3, 1), (1, 1, 1), (40, 3, 10)]


@pytest.fixture(scope="module")
def module():
    return derive.compile(svm)


def batch(N, D, C, seed=0):
    rng = np.random.default_rng([seed, N, D, C])
    y = rng.integers(0, C, N)
    y[: N // 2] = C - 1
    return rng.normal(size=(C, D)), rng.normal(size=(N, D)), y


def double_loop(W, X, y, delta, reg):
    """The formula of the lecture, one term at a time."""
    N, C = X.shape[0], W.shape[0]
    loss, gradient = 0.0, np.zeros(W.shape)
    for i in range(N):
        for j in range(C):
            if j == y[i]:
                continue
            margin = W[j] @ X[i] - W[y[i]] @ X[i] + delta
            if margin > 0:
                loss += margin / N
                gradient[j] += X[i] / N
                gradient[y[i]] -= X[i] / N
    for j in range(C):
        for k in range(W.shape[1]):
            loss += reg * W[j, k] ** 2
            gradient[j, k] += 2 * reg * W[j, k]
    return loss, gradient


def by_hand(W, X, y, delta, reg):
    """The usual vectorised code of the course's assignment."""
    rows = np.arange(X.shape[0])
    scores = X.dot(W.T)
    margins = np.maximum(0, scores - scores[rows, y][:, np.newaxis] + delta)
    margins[rows, y] = 0
    counts = (margins > 0).astype(X.dtype)
    counts[rows, y] = -counts.sum(axis=1)
    return margins.sum() / len(X) + reg * np.sum(W * W), counts.T.dot(X) / len(X) + 2 * reg * W


def central_differences(f, x, h=1e-5):
    gradient = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        moved = x.copy()
        moved[at] = x[at] + h
        above = f(moved)
        moved[at] = x[at] - h
        gradient[at] = (above - f(moved)) / (2 * h)
    return gradient


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("delta", "reg"), [(1.0, 0.0), (0.25, 0.5), (-0.5, 0.1)])
@pytest.mark.parametrize("reference", [double_loop, by_hand])
def test_value_and_gradient(module, shape, delta, reg, reference):
    W, X, y = batch(*shape)
    loss, gradient = reference(W, X, y, delta, reg)
    assert module.loss(W, X, y, delta=delta, reg=reg) == pytest.approx(loss, rel=1e-13, abs=1e-15)
    np.testing.assert_allclose(module.grad(W, X, y, delta=delta, reg=reg), gradient, rtol=1e-12, atol=1e-14)
    both = module.loss_and_grad(W, X, y, delta=delta, reg=reg)
    assert both[0] == pytest.approx(loss, rel=1e-13, abs=1e-15)
    np.testing.assert_allclose(both[1], gradient, rtol=1e-12, atol=1e-14)


def test_defaults_are_those_of_the_lecture(module):
    W, X, y = batch(7, 5, 4)
    assert module.loss(W, X, y) == module.loss(W, X, y, delta=1.0, reg=0.0)
    assert module.loss(0 * W, X, y) == pytest.approx(3.0)  # C - 1 margins of 1


@pytest.mark.parametrize("shape", SHAPES)
def test_numerical_gradient_agrees_away_from_kinks(module, shape):
    W, X, y = batch(*shape, seed=1)
    scores = X @ W.T
    margins = scores - scores[np.arange(len(y)), y][:, None] + 1
    assert np.abs(margins).min() > 1e-4 * np.abs(X).max(), "no margin changes its sign within the step"
    numerical = central_differences(lambda V: module.loss(V, X, y, reg=0.1), W)
    analytic = module.grad(W, X, y, reg=0.1)
    error = np.abs(numerical - analytic) / np.maximum(np.abs(numerical) + np.abs(analytic), 1e-8)
    assert error.max() < 1e-7


def test_exact_numerical_gradient_in_rational_arithmetic(module):
    """A piecewise linear loss: its central difference is its derivative, without any error, between kinks."""
    rng = np.random.default_rng(4)

    def rationals(*shape):
        entries = [
            Fraction(int(a), int(b)) for a, b in zip(rng.integers(-9, 9, 60), rng.integers(2, 9, 60), strict=True)
        ]
        return np.array(entries[: int(np.prod(shape))], dtype=object).reshape(shape)

    W, X, y = rationals(3, 4), rationals(5, 4), np.array([0, 1, 2, 2, 2])
    delta, h = Fraction(1, 3), Fraction(1, 10**6)
    analytic = on_fractions(module).grad(W, X, y, delta=delta, reg=Fraction(0))
    for at in np.ndindex(W.shape):
        above, below = W.copy(), W.copy()
        above[at] += h
        below[at] -= h
        # By the formula, not by the code under test, which turns its value into a float.
        slope = (exact_loss(above, X, y, delta) - exact_loss(below, X, y, delta)) / (2 * h)
        assert analytic[at] == slope


def exact_loss(W, X, y, delta):
    total = Fraction(0)
    for i in range(len(y)):
        for j in range(len(W)):
            if j != y[i]:
                total += max(Fraction(0), sum(W[j] * X[i]) - sum(W[y[i]] * X[i]) + delta)
    return total / len(y)


def test_float32(module):
    W, X, y = batch(40, 30, 10)
    exact = module.grad(W, X, y, reg=0.1)
    loss, gradient = module.loss_and_grad(W.astype(np.float32), X.astype(np.float32), y, reg=0.1)
    assert gradient.dtype == np.float32
    assert loss == pytest.approx(module.loss(W, X, y, reg=0.1), rel=1e-5)
    np.testing.assert_allclose(gradient, exact, rtol=1e-3, atol=1e-5)


def test_ties_have_no_gradient(module):
    """W = 0 and delta = 0: every margin is 0, the indicator is strict, so the gradient is exactly 0."""
    _, X, y = batch(7, 5, 4)
    W = np.zeros((4, 5))
    assert module.loss(W, X, y, delta=0.0) == 0.0
    np.testing.assert_array_equal(module.grad(W, X, y, delta=0.0), np.zeros((4, 5)))


def test_a_tie_of_one_margin(module):
    """One margin is exactly 0, its neighbours are not."""
    W = np.array([[0.0], [0.0], [1.0]])
    X, y = np.array([[1.0]]), np.array([2])
    np.testing.assert_array_equal(module.grad(W, X, y), np.zeros((3, 1)))  # both margins are 0 - 1 + 1
    np.testing.assert_array_equal(module.grad(W, X, y, delta=1.5), [[1.0], [1.0], [-2.0]])


def test_repeated_labels_add_up(module):
    W, X = np.zeros((3, 2)), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    gradient = module.grad(W, X, np.array([1, 1, 1]))
    column = X.sum(axis=0) / 3
    np.testing.assert_allclose(gradient, [column, -2 * column, column])


def test_no_python_loop_over_examples_or_classes(module):
    for function in (module.loss, module.grad, module.loss_and_grad):
        tree = ast.parse(inspect.getsource(function))
        loops = [node for node in ast.walk(tree) if isinstance(node, ast.comprehension | ast.While)]
        assert not loops
        # A loop over blocks of rows is a loop over the cache, not over the examples.
        for node in ast.walk(tree):
            if isinstance(node, ast.For):
                assert ast.unparse(node.iter) == "_by_blocks(terms, X, C)"


# -- the derivation ---------------------------------------------------------------------------------------------------


def heads(expr, kind):
    return [node for node in preorder_traversal(expr) if isinstance(node, kind)]


@pytest.fixture(scope="module")
def example():
    (found,) = derive.differentiate(svm).example_gradients
    return found


def test_the_lectures_two_results(example):
    """Two cases, j = y_i and j != y_i, in the lecture's form."""
    assert example.parameter == "W"
    right, wrong = sorted(example.cases, key=lambda c: isinstance(c.condition, Ne))
    assert isinstance(right.condition, Eq)
    assert isinstance(wrong.condition, Ne)
    j, k = symbols("j k", integer=True)
    label = next(a for a in right.condition.args if isinstance(a, Indexed))
    assert set(right.condition.args) == set(wrong.condition.args) == {j, label}

    # With respect to w_{y_i}: minus the count of violated margins over j != y_i, times x_i.
    assert right.target.args[1].indices == (label, k)
    sign, rest = right.value.as_coeff_Mul()
    assert sign == -1
    (count,) = [f for f in rest.args if isinstance(f, Sum)]
    (x,) = [f for f in rest.args if not isinstance(f, Sum)]
    assert str(x) == "X[i, k]"
    (limit,) = count.limits
    restricted = count.function
    assert isinstance(restricted, Where)
    assert restricted.no == 0
    assert restricted.condition == Ne(limit[0], label)
    indicator = restricted.yes
    assert isinstance(indicator, Where)
    assert (indicator.yes, indicator.no) == (1, 0)
    assert indicator.condition.rel_op == ">"
    assert indicator.condition.rhs == 0

    # With respect to w_j, j != y_i: the indicator of the margin, times x_i.
    assert wrong.target.args[1].indices == (j, k)
    assert not [s for s in heads(wrong.value, Sum) if heads(s.function, Where)], "no sum over classes is left"
    (indicator,) = heads(wrong.value, Where)
    assert indicator.condition.rel_op == ">"
    assert indicator.condition.rhs == 0
    assert not heads(wrong.value, Max)


def test_no_heaviside_and_no_derivative_is_left(example):
    derivation = derive.differentiate(svm)
    for step in derivation.steps:
        assert not step.after.has(Heaviside, DiracDelta, Subs, Derivative)
    assert not [n for case in example.cases for n in postorder_traversal(case.value) if type(n).__name__ == "Partial"]


def test_the_example_gradients_sum_to_the_batch_gradient(module, example):
    """The lecture's two results, computed as they stand, add up to what the code returns."""
    W, X, y = batch(5, 3, 4, seed=3)
    total = np.zeros(W.shape)
    for i in range(5):
        margins = W @ X[i] - W[y[i]] @ X[i] + 1.0
        violated = (margins > 0) & (np.arange(4) != y[i])
        total[violated] += X[i]
        total[y[i]] -= violated.sum() * X[i]
    np.testing.assert_allclose(module.grad(W, X, y), total / 5, rtol=1e-12, atol=1e-15)


def test_steps_say_what_the_rules_did():
    derivation = derive.differentiate(svm)
    rules = " ".join(step.rule for step in derivation.steps)
    for words in ("chain rule", "max", "delta", "factor"):
        assert words in rules, f"no rule is named after {words}: {rules}"
    assert any("1(a > 0)" in c or "strict" in c for c in derivation.conventions)
    text = str(derivation)
    assert "1(W[j] @ X[i] - W[y[i]] @ X[i] + delta > 0) X[i]" in " ".join(text.split())


def test_every_step_is_verified():
    verification = verify_derivation(derive.differentiate(svm))
    assert verification.steps_exact == len(derive.differentiate(svm).steps)


def fresh(name):
    """The same statement as another object: what was derived before is not looked up."""
    return Loss(name, svm.value, where=svm.where, wrt=svm.wrt, data=svm.data, defaults=svm.defaults)


def test_a_wrong_step_is_found_wherever_it_is():
    """Each step in turn is doubled: the verification must name its rule."""
    derivation = derive.differentiate(svm)
    for number, step in enumerate(derivation.raw_steps):
        if step.after == 0:
            continue
        steps = list(derivation.raw_steps)
        steps[number] = dataclasses.replace(step, after=2 * step.after)
        with pytest.raises(VerificationError, match=re.escape(step.rule)):
            verify_derivation(dataclasses.replace(derivation, raw_steps=tuple(steps)))


def test_a_rule_broken_on_purpose_stops_the_build(monkeypatch, tmp_path, capsys):
    """The derivative of max with >= for >: wrong at ties alone, and nothing is written."""
    monkeypatch.setattr(sys.modules["derive.differentiate"], "Gt", Ge)
    with pytest.raises(VerificationError, match="max"):
        verify_derivation(derive.differentiate(fresh("broken")))
    text = (Path(derive.losses.svm.__file__)).read_text()
    (tmp_path / "mine.py").write_text(text.replace("svm = Loss", "mine = Loss").replace('"svm"', '"mine"'))
    out = tmp_path / "out"
    assert main(["build", str(tmp_path / "mine.py"), "--out", str(out)]) == 1
    assert "max" in capsys.readouterr().err
    assert not out.exists() or not list(out.rglob("*"))


# -- the acid test: max(0, m) becomes max(0, m)**2, and nothing else --------------------------------------------------


@pytest.fixture(scope="module")
def squared():
    def replaced(equation):
        return Eq(equation.lhs, equation.rhs.replace(lambda node: isinstance(node, Max), lambda node: node**2))

    return Loss(
        "svm_squared",
        svm.value,
        where=[replaced(e) for e in svm.where],
        wrt=svm.wrt,
        data=svm.data,
        defaults=svm.defaults,
        meanings=svm.meanings,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_squared_hinge_code(squared, shape):
    W, X, y = batch(*shape, seed=2)
    rows = np.arange(len(y))

    def reference(V):
        scores = X @ V.T
        margins = np.maximum(0, scores - scores[rows, y][:, None] + 0.7)
        margins[rows, y] = 0
        return np.sum(margins**2) / len(y) + 0.2 * np.sum(V**2), margins

    value, margins = reference(W)
    weights = 2 * margins
    weights[rows, y] = -weights.sum(axis=1)
    gradient = weights.T @ X / len(y) + 0.4 * W
    got = derive.compile(squared).loss_and_grad(W, X, y, delta=0.7, reg=0.2)
    assert got[0] == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(got[1], gradient, rtol=1e-11, atol=1e-13)
    numerical = central_differences(lambda V: reference(V)[0], W)
    np.testing.assert_allclose(got[1], numerical, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        got[1], blackboard.gradient(squared, W, X, y, delta=0.7, reg=0.2)[0], rtol=1e-11, atol=1e-13
    )


def test_squared_hinge_derivation(squared):
    """The indicator gives way to twice the margin: 2 max(0, m) x_i, no strict indicator of its own."""
    derivation = derive.differentiate(squared)
    assert derivation.steps
    assert "2" in str(derivation)
    (found,) = derivation.example_gradients
    wrong = next(c for c in found.cases if isinstance(c.condition, Ne))
    assert wrong.value.has(Max) or heads(wrong.value, Where)
    assert verify_derivation(derivation).steps_exact == len(derivation.steps)


def test_squared_hinge_is_in_the_catalogue_too(squared):
    W, X, y = batch(7, 5, 4)
    ours = derive.compile(squared).loss_and_grad(W, X, y, reg=0.3)
    theirs = derive.compile(squared_hinge_svm).loss_and_grad(W, X, y, reg=0.3)
    assert ours[0] == theirs[0]
    np.testing.assert_array_equal(ours[1], theirs[1])
