"""Chains of operations on matrices are computed in place, and nobody who reads an array later finds it changed."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from sympy import Eq, Idx, IndexedBase, Max, Piecewise, Sum, exp, symbols

import derive
from derive import Loss
from derive.catalogue import catalogue, find, kind
from derive.points import draw, scattered
from derive.statement import read

N, D, C = symbols("N D C", integer=True, positive=True)
i, j, k = Idx("i", N), Idx("j", C), Idx("k", D)
X, W = IndexedBase("X", shape=(N, D)), IndexedBase("W", shape=(C, D))
s, h, a = (IndexedBase(name, shape=(N, C)) for name in "sha")
SCORES = Eq(s[i, j], Sum(W[j, k] * X[i, k], k))
LOSSES = [x for x in catalogue() if kind(x) == "loss"]


def body(loss: Loss, function: str = "loss_and_grad") -> list[str]:
    source = inspect.getsource(getattr(derive.compile(loss), function))
    return [line.split("  #")[0].strip() for line in source.splitlines()]


def arrays() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    return random.standard_normal((4, 3)), random.standard_normal((6, 3))


def test_a_chain_is_computed_where_its_array_stands() -> None:
    loss = Loss("chain", Sum(Max(0, 2 * s[i, j] + 1) ** 3, i, j), where=[SCORES], wrt=[W], data=[X])
    lines = body(loss)
    start = lines.index("hinge = np.multiply(s, 2, out=s)")
    assert lines[start + 1 : start + 3] == ["hinge += 1", "np.maximum(hinge, 0, out=hinge)"]
    w, x = arrays()
    value, gradient = derive.compile(loss).loss_and_grad(w, x)
    hinge = np.maximum(0, 2 * x @ w.T + 1)
    assert value == pytest.approx(np.sum(hinge**3))
    np.testing.assert_allclose(gradient, 6 * (hinge**2).T @ x)


def test_an_array_that_is_read_later_is_not_overwritten() -> None:
    hinge = Eq(h[i, j], Max(0, s[i, j] - 1))
    loss = Loss("both", Sum(h[i, j] ** 2, i, j) + Sum(s[i, j] ** 4, i, j), where=[SCORES, hinge], wrt=[W], data=[X])
    w, x = arrays()
    scores = x @ w.T
    value, gradient = derive.compile(loss).loss_and_grad(w, x)
    assert value == pytest.approx(np.sum(np.maximum(0, scores - 1) ** 2) + np.sum(scores**4))
    np.testing.assert_allclose(gradient, (2 * np.maximum(0, scores - 1) + 4 * scores**3).T @ x)


def test_an_array_with_a_view_that_is_read_later_is_not_overwritten() -> None:
    """a is a part of s, without a copy; h could stand where s stands if a were not read after it."""
    j_ = Idx("j", C - 1)
    part = IndexedBase("a", shape=(N, C - 1))
    loss = Loss(
        "part",
        Sum(exp(h[i, j] / 9), i, j) + Sum(part[i, j_] * h[i, j_], i, j_),
        where=[SCORES, Eq(part[i, j_], s[i, j_ + 1]), Eq(h[i, j], Max(0, s[i, j] - 1))],
        wrt=[W],
        data=[X],
    )
    w, x = arrays()
    scores = x @ w.T
    hinge = np.maximum(0, scores - 1)
    expected = np.sum(np.exp(hinge / 9)) + np.sum(scores[:, 1:] * hinge[:, :-1])
    module = derive.compile(loss)
    assert module.loss(w, x) == pytest.approx(expected)
    assert module.loss_and_grad(w, x)[0] == pytest.approx(expected)
    assert derive.gradcheck(module.loss, module.grad, w, x)


def test_a_view_is_not_overwritten_while_the_whole_is_read_later() -> None:
    j_ = Idx("j", C - 1)
    part, h_ = IndexedBase("a", shape=(N, C - 1)), IndexedBase("h", shape=(N, C - 1))
    loss = Loss(
        "whole",
        Sum(exp(h_[i, j_] / 9), i, j_) + Sum(s[i, j] ** 4, i, j),
        where=[SCORES, Eq(part[i, j_], s[i, j_ + 1]), Eq(h_[i, j_], Max(0, part[i, j_] - 1))],
        wrt=[W],
        data=[X],
    )
    w, x = arrays()
    scores = x @ w.T
    expected = np.sum(np.exp(np.maximum(0, scores[:, 1:] - 1) / 9)) + np.sum(scores**4)
    module = derive.compile(loss)
    assert module.loss_and_grad(w, x)[0] == pytest.approx(expected)
    assert derive.gradcheck(module.loss, module.grad, w, x)


def test_a_result_is_not_overwritten_by_another() -> None:
    V = IndexedBase("V", shape=(C, D))
    loss = Loss("twice", Sum(exp(W[j, k] + 2 * V[j, k]), j, k), wrt=[W, V])
    w, v = np.ones((2, 3)), np.zeros((2, 3))
    gradient = derive.compile(loss).grad(w, v)
    np.testing.assert_allclose(gradient.W, np.full((2, 3), np.e))
    np.testing.assert_allclose(gradient.V, np.full((2, 3), 2 * np.e))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: x.name)
def test_arguments_are_left_as_they_are(loss: Loss) -> None:
    point = draw(read(loss), scattered, larger=2).rounded()
    module = derive.compile(loss)
    for function in (module.loss, module.grad, module.loss_and_grad):
        given = [np.array(value) for value in point.arguments.values()]
        for array in given:
            array.flags.writeable = False
        function(*given, **point.hyperparameters)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: x.name)
def test_results_share_no_memory(loss: Loss) -> None:
    point = draw(read(loss), scattered, larger=2).rounded()
    given = [np.array(value) for value in point.arguments.values()]
    gradient = derive.compile(loss).grad(*given, **point.hyperparameters)
    parts = list(gradient) if isinstance(gradient, tuple) else [gradient]
    together = [*parts, *given]
    for n, part in enumerate(parts):
        assert not any(np.shares_memory(part, other) for other in together[n + 1 :])


def test_a_finite_value_is_masked_by_a_product_and_one_that_may_be_infinite_by_a_choice() -> None:
    def masked(value: Any) -> Loss:
        chosen = Eq(a[i, j], Piecewise((value, s[i, j] > 0), (0, True)))
        return Loss("masked", Sum(a[i, j] ** 2, i, j), where=[SCORES, chosen], wrt=[W], data=[X])

    w, x = arrays()
    scores = 1e3 * x @ w.T
    finite, perhaps = masked(3 * s[i, j] + 1), masked(exp(-s[i, j]))
    assert not any("np.where" in line for line in body(finite, "loss"))
    assert any("np.where" in line for line in body(perhaps, "loss"))
    with np.errstate(over="ignore"):
        assert np.isinf(np.exp(-scores)).any()
        assert derive.compile(perhaps).loss(1e3 * w, x) == pytest.approx(np.sum(np.exp(-2 * scores[scores > 0])))
    assert derive.compile(finite).loss(w, x) == pytest.approx(np.sum((3 * x @ w.T + 1)[scores > 0] ** 2), rel=1e-12)


@pytest.mark.parametrize(
    ("named", "by_numpy"),
    [(1 / s[i, j], lambda z: 1 / z), (1 - 3 * exp(-s[i, j]), lambda z: 1 - 3 * np.exp(-z))],
    ids=["inverse", "inside a sum"],
)
def test_what_is_infinite_where_it_is_masked_counts_for_nothing(named: Any, by_numpy: Any) -> None:
    """q has a value for all pairs, infinite for some; a chooses it where it is finite."""
    q = IndexedBase("q", shape=(N, C))
    chosen = Eq(a[i, j], Piecewise((q[i, j], s[i, j] > 0), (0, True)))
    where = [SCORES, Eq(q[i, j], named), chosen]
    loss = derive.compile(Loss("named", Sum(a[i, j] ** 2, i, j), where=where, wrt=[W], data=[X])).loss
    w, x = arrays()
    w, x = 1e3 * w, np.vstack([x, np.zeros(3)])
    scores = x @ w.T
    with np.errstate(all="ignore"):
        assert not np.isfinite(by_numpy(scores)).all()
        assert loss(w, x) == pytest.approx(np.sum(by_numpy(scores[scores > 0]) ** 2))


def test_softmax_weights_are_known_to_be_finite() -> None:
    """exp(s - max(s)) is at most 1 and its sum at least 1: gradients of units are masked by products."""
    source = inspect.getsource(derive.compile(find("two_layer_net")).loss_and_grad)
    assert "np.multiply(grad_h, h > 0, out=grad_h)" in source
    assert "np.where" not in source
