"""Statements unlike each other, against automatic differentiation, and against naive loops over dual numbers.

``oracles`` holds the statements, each beside the same mathematics written by hand. Here every one is compiled and its
code compared: values and gradients, shapes and dtypes, single examples and sizes of 1, with every warning an error.
"""

from __future__ import annotations

import cProfile
import functools
import inspect
import itertools
import linecache
import pstats
import re
import tracemalloc
import warnings

import autograd
import mpmath
import numpy as np
import pytest
from oracles import blackboard
from oracles.cases import all_cases
from sympy import (
    Abs,
    Eq,
    Idx,
    IndexedBase,
    KroneckerDelta,
    Max,
    Min,
    Ne,
    Piecewise,
    Sum,
    Symbol,
    cos,
    exp,
    log,
    sin,
    symbols,
    tanh,
)

import derive
from derive import Loss, StatementError
from derive.render import module_text

CASES = all_cases()


@functools.cache
def built(name):
    """The case and its generated module."""
    case = CASES[name]()
    return case, derive.compile(case.loss)


def text_of(module):
    """The whole text of a compiled module."""
    return "".join(linecache.getlines(module.loss.__code__.co_filename))


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings(), np.errstate(divide="warn", over="warn", invalid="warn"):
        warnings.simplefilter("error")
        yield


def as_list(gradient, count):
    """The gradient as a list, one array for each parameter."""
    return [gradient] if count == 1 else list(gradient)


def assert_close(actual, expected, rtol=1e-9, message=""):
    """Close, relative to the largest entry: cancellation leaves small entries fewer digits."""
    expected = np.asarray(expected, dtype=float)
    scale = np.max(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * scale + 1e-13, err_msg=message)


def test_there_are_many_statements_and_every_kind():
    assert len(CASES) >= 100


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name):
    case, module = built(name)
    count = len(case.loss.wrt)
    for which, sizes in enumerate(case.sizes):
        arguments = case.draw(which)
        before = [np.copy(a) for a in arguments]
        loss = module.loss(*arguments, **case.hyper)
        gradient = module.grad(*arguments, **case.hyper)
        both = module.loss_and_grad(*arguments, **case.hyper)

        assert isinstance(loss, float), f"loss is a {type(loss).__name__}"
        assert_close(loss, case.reference(*arguments, **case.hyper), message=f"loss against autograd, {sizes}")
        assert_close(loss, blackboard.value(case.loss, *arguments, **case.hyper), message=f"loss by loops, {sizes}")
        assert_close(both[0], loss, rtol=1e-13)

        loops = blackboard.gradient(case.loss, *arguments, **case.hyper)
        gradients, again = as_list(gradient, count), as_list(both[1], count)
        assert len(gradients) == len(again) == count
        for p in range(count):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # autograd's, where the loss ignores a parameter
                automatic = autograd.grad(case.reference, p)(*arguments, **case.hyper)
            about = f"gradient for {case.loss.wrt[p]}, {sizes}"
            assert np.shape(gradients[p]) == np.shape(arguments[p]), about
            assert np.asarray(gradients[p]).dtype == np.float64, about
            assert_close(gradients[p], automatic, message=f"{about}, against autograd")
            assert_close(gradients[p], loops[p], message=f"{about}, by loops")
            assert_close(again[p], gradients[p], rtol=1e-13, message=f"{about}: loss_and_grad against grad")
        for a, b in zip(arguments, before, strict=True):
            np.testing.assert_array_equal(a, b, err_msg="an argument was changed")


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_float32(name):
    case, module = built(name)
    arguments = case.draw(0)

    def narrow(a):
        return a if np.issubdtype(np.asarray(a).dtype, np.integer) else np.float32(a)

    narrowed = [narrow(a) for a in arguments]
    widened = [a if np.issubdtype(np.asarray(a).dtype, np.integer) else np.float64(a) for a in narrowed]
    loss, gradient = module.loss_and_grad(*narrowed, **case.hyper)
    assert isinstance(loss, float)
    assert_close(loss, module.loss(*widened, **case.hyper), rtol=2e-3)
    exact = as_list(module.grad(*widened, **case.hyper), len(case.loss.wrt))
    for g, e, parameter in zip(as_list(gradient, len(case.loss.wrt)), exact, case.loss.wrt, strict=True):
        assert np.asarray(g).dtype == np.float32, parameter
        assert_close(g, e, rtol=5e-3)


@pytest.mark.parametrize("name", CASES)
def test_the_derivation_is_there(name):
    loss = built(name)[0].loss
    derivation = derive.differentiate(loss)
    assert list(derivation.gradients) == list(loss.wrt)
    assert derivation.steps
    assert str(derivation).strip()


@pytest.mark.parametrize("name", CASES)
def test_signature(name):
    """Parameters, then data, by position; hyperparameters by keyword, with their defaults."""
    case, module = built(name)
    loss = case.loss
    for function in (module.loss, module.grad, module.loss_and_grad):
        parameters = inspect.signature(function).parameters
        positional = [p for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]
        assert [p.name for p in positional] == [str(getattr(t, "label", t)) for t in (*loss.wrt, *loss.data)]
        assert all(p.default is p.empty for p in positional)
        keyword = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
        for symbol, default in loss.defaults.items():
            assert keyword.pop(str(symbol)) == float(default)
        assert all(default is inspect.Parameter.empty for default in keyword.values())
        assert set(keyword) <= set(case.hyper)


def test_several_parameters_come_back_by_name():
    case, module = built("matrix_factorisation_with_biases")
    gradient = module.grad(*case.draw(0), reg=0.1)
    assert gradient._fields == ("mu", "p", "q", "U", "V")


def test_gradient_of_an_ignored_parameter_is_zeros():
    case, module = built("parameter_without_effect")
    gradient = module.grad(*case.draw(0))
    np.testing.assert_array_equal(gradient.W, np.zeros((3, 2)))
    assert np.shape(gradient.b) == ()
    assert gradient.b == 0


# -- conventions at ties ----------------------------------------------------------------------------------------------


def test_ties_take_the_declared_side():
    """Max(0, a), Abs and a hinge over labels have the derivative 0 at their kinks, on both hands of Max."""
    N = Symbol("N", integer=True, positive=True)
    i, x = Idx("i", N), IndexedBase("x", shape=(N,))
    for value, at, expected in (
        (Sum(Max(0, x[i]), i), 0.0, 0.0),
        (Sum(Max(x[i], 0) ** 2, i), 0.0, 0.0),
        (Sum(Abs(x[i]), i), 0.0, 0.0),
        (Sum(Max(0, 1 - x[i]), i), 1.0, 0.0),
        (Sum(Min(0, x[i]), i), 0.0, 0.0),
        (Sum(Min(2, 3 * x[i] - 1), i), 1.0, 0.0),
        (Sum(Max(-1, Min(1, x[i])), i), 1.0, 0.0),
        (Sum(Max(0, Max(x[i], -1)), i), 0.0, 0.0),
    ):
        module = derive.compile(Loss("tie", value, wrt=[x]))
        np.testing.assert_array_equal(module.grad(np.full(3, at)), np.full(3, expected), err_msg=str(value))


# -- numerics ---------------------------------------------------------------------------------------------------------

N, D, C = symbols("N D C", integer=True, positive=True)
i, j, k, n = Idx("i", N), Idx("j", C), Idx("k", D), Idx("n", N)
S, X, W = IndexedBase("S", shape=(N, C)), IndexedBase("X", shape=(N, D)), IndexedBase("W", shape=(C, D))
P, z, y = IndexedBase("P", shape=(N, C)), IndexedBase("z", shape=(N,)), IndexedBase("y", shape=(N,))
L = IndexedBase("L", shape=(N,))
tau = Symbol("tau", positive=True)

#: Statements whose text, evaluated word by word in floats, overflows for scores of 1e4.
EXTREME = {
    "log_sum_exp": Loss("log_sum_exp", Sum(log(Sum(exp(S[i, j]), j)) - S[i, y[i]], i) / N, wrt=[S], data=[y]),
    "log_sum_exp_with_temperature": Loss(
        "log_sum_exp_with_temperature", tau * Sum(log(Sum(exp(S[i, j] / tau), j) / C), i), wrt=[S], defaults={tau: 0.5}
    ),
    "explicit_softmax": Loss(
        "explicit_softmax",
        -Sum(log(P[i, y[i]]), i) / N,
        where=[Eq(P[i, j], exp(S[i, j]) / Sum(exp(S[i, j]), j))],
        wrt=[S],
        data=[y],
    ),
    "softmax_weighted_mean": Loss(
        "softmax_weighted_mean",
        Sum(P[i, j] * j, i, j),
        where=[Eq(P[i, j], exp(S[i, j]) / Sum(exp(S[i, j]), j))],
        wrt=[S],
    ),
    "flat_softmax": Loss("flat_softmax", -Sum(log(exp(S[i, y[i]]) / Sum(exp(S[i, j]), j)), i), wrt=[S], data=[y]),
    "softplus": Loss("softplus", Sum(log(1 + exp(S[i, j])), i, j), wrt=[S]),
    "softplus_of_minus": Loss("softplus_of_minus", Sum(log(1 + exp(-z[i] * S[i, 0])), i), wrt=[S], data=[z]),
    "log_of_two_exponentials": Loss("log_of_two_exponentials", Sum(log(exp(S[i, 0]) + exp(-S[i, 0])), i), wrt=[S]),
    "log_of_a_sigmoid": Loss("log_of_a_sigmoid", -Sum(log(1 / (1 + exp(-S[i, j]))), i, j), wrt=[S]),
    "sigmoid": Loss("sigmoid", Sum(1 / (1 + exp(-S[i, j])), i, j), wrt=[S]),
    "sigmoid_the_other_way": Loss("sigmoid_the_other_way", Sum(exp(S[i, j]) / (1 + exp(S[i, j])), i, j), wrt=[S]),
    "swish": Loss("swish", Sum(S[i, j] / (1 + exp(-S[i, j])), i, j), wrt=[S]),
    "cross_entropy_of_named_sigmoids": Loss(
        "cross_entropy_of_named_sigmoids",
        Sum(-z[i] * log(L[i]) - (1 - z[i]) * log(1 - L[i]), i),
        where=[Eq(L[i], 1 / (1 + exp(-S[i, 0] / 1000)))],
        wrt=[S],
        data=[z],
    ),
    "masked_log_sum_exp": Loss(
        "masked_log_sum_exp",
        Sum(L[i], i),
        where=[Eq(L[i], log(Sum(Piecewise((exp(S[i, j]), j > 0), (0, True)), j)))],
        wrt=[S],
    ),
    "saturated_tanh": Loss("saturated_tanh", Sum(tanh(S[i, j]), i, j), wrt=[S]),
    "bounded_exponential": Loss("bounded_exponential", Sum(exp(-(S[i, j] ** 2)), i, j), wrt=[S]),
}


def extreme_scores(rng, rows, columns):
    scores = rng.normal(size=(rows, columns))
    scores[0] += 1e4
    scores[1] -= 1e4
    scores[2] *= 1e4
    return scores


@pytest.mark.parametrize("name", EXTREME)
def test_scores_of_ten_thousand_give_finite_and_right_results(name):
    loss = EXTREME[name]
    module = derive.compile(loss)
    rng = np.random.default_rng(7)
    scores = extreme_scores(rng, 4, 3)
    rest = []
    if y in loss.data:
        # The likeliest class of each row: finite losses, to be compared with many digits.
        rest.append(np.argmax(scores, axis=1))
    if z in loss.data:
        rest.append(np.array([1.0, 0.0, 1.0, 0.0]) if "named" in name else np.array([1.0, -1.0, 1.0, -1.0]))
    value, gradient = module.loss_and_grad(scores, *rest)
    with mpmath.workdps(60):
        expected = blackboard.precise_value(loss, scores, *rest, digits=60)
        assert abs(value - expected) <= 1e-11 * max(1, abs(expected))
    assert value == module.loss(scores, *rest)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient, module.grad(scores, *rest))

    # Central differences in many digits: exact for all practical purposes.
    for at in np.ndindex(scores.shape):
        with mpmath.workdps(80):
            step = mpmath.mpf(10) ** -30
            ends = []
            for side in (1, -1):
                moved = scores.astype(object)
                moved[at] = mpmath.mpf(scores[at]) + side * step
                ends.append(_precise(loss, moved, rest))
            slope = float((ends[0] - ends[1]) / (2 * step))
        assert gradient[at] == pytest.approx(slope, rel=1e-9, abs=1e-12), at


def _precise(loss, scores, rest):
    values = {"S": scores, **{str(s): mpmath.mpf(v) for s, v in loss.defaults.items()}}
    for array, given in zip(loss.data, rest, strict=True):
        integer = np.issubdtype(given.dtype, np.integer)
        values[str(array.label)] = given if integer else np.array([mpmath.mpf(float(a)) for a in given], dtype=object)
    return blackboard.Blackboard(loss, values, mpmath.mpf).run()


def test_the_wrong_class_at_ten_thousand_costs_twenty_thousand():
    module = derive.compile(EXTREME["explicit_softmax"])
    scores = np.array([[1e4, -1e4, 0.0]])
    value, gradient = module.loss_and_grad(scores, np.array([1]))
    assert value == 2e4
    np.testing.assert_allclose(gradient, [[1.0, -1.0, 0.0]], atol=1e-15)


def test_masked_places_may_overflow():
    """Probabilities under a causal mask are named for all pairs; above the diagonal, unused, they may be infinite."""
    case, module = built("causal_attention")
    q, key, v, x = case.draw(0)
    value, gradient = module.loss_and_grad(100 * q, 100 * key, v, x)
    scores = x @ (100 * q) @ (100 * key).T @ x.T / np.sqrt(x.shape[1])
    scores = np.where(np.tril(np.ones(scores.shape)) > 0, scores, -np.inf)
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert np.abs(scores[np.isfinite(scores)]).max() > 5e3
    assert value == pytest.approx(np.sum((p @ x @ v - x) ** 2), rel=1e-9)
    assert all(np.all(np.isfinite(g)) for g in gradient)


def test_a_quotient_read_beyond_its_mask_is_not_masked():
    """The denominator leaves out what the numerator does not: above the diagonal the quotient is no probability."""
    M = Symbol("M", integer=True, positive=True)
    m, n, u = Idx("m", M), Idx("n", M), Idx("u", M)
    S, P = IndexedBase("S", shape=(M, M)), IndexedBase("P", shape=(M, M))
    below = Sum(Piecewise((exp(S[m, u]), u <= m), (0, True)), u)
    module = derive.compile(Loss("beyond", Sum(P[m, n] ** 2, m, n), where=[Eq(P[m, n], exp(S[m, n]) / below)], wrt=[S]))
    s = np.random.default_rng(0).normal(size=(4, 4))
    e = np.exp(s)
    p = e / np.sum(np.tril(e), axis=1, keepdims=True)
    assert module.loss(s) == pytest.approx(np.sum(p**2), rel=1e-12)
    # dp[m, n] = p[m, n] (ds[m, n] - sum of q[m, u] ds[m, u] over u <= m)
    q = np.tril(p)
    np.testing.assert_allclose(module.grad(s), 2 * p**2 - 2 * np.sum(p**2, axis=1, keepdims=True) * q, rtol=1e-10)


def test_an_index_counted_from_the_other_end_of_a_part_stays_in_it():
    """The gradient of u[N - 1 - n] for the inner n only: no position outside the part is computed, let alone read."""
    n, u = Symbol("n", integer=True), IndexedBase("u", shape=(N,))
    repeated = tanh(Sum(u[N - n - 1], (i, 0, N - 2)))
    module = derive.compile(Loss("ends", log(Sum(exp(repeated), (n, 1, N - 2))), wrt=[u]))
    x = np.arange(5.0) / 7
    inner = 4 * x[1:-1]
    weights = np.exp(np.tanh(inner))
    assert module.loss(x) == pytest.approx(np.log(weights.sum()))
    np.testing.assert_allclose(module.grad(x)[1:-1], 4 * weights / weights.sum() / np.cosh(inner) ** 2)
    np.testing.assert_array_equal(module.grad(x)[[0, -1]], 0)


def test_a_label_outside_a_shorter_sum_is_not_read():
    """A label that is only compared may be anything: where it is no index of the sum, nothing is picked."""
    j, b, y = Symbol("j", integer=True), IndexedBase("b", shape=(D,)), IndexedBase("y", shape=(N,))
    picked = Sum(KroneckerDelta(j, y[i]) * b[j] ** 2, (j, 1, D - 2), (i, 0, N - 1))
    module = derive.compile(Loss("picked", picked, wrt=[b], data=[y]))
    values = np.array([1.0, 2.0, 3.0, 4.0])
    loss, gradient = module.loss_and_grad(values, np.array([0, 1, 3, 9, -1, 1]))
    assert loss == 8.0
    np.testing.assert_array_equal(gradient, [0.0, 8.0, 0.0, 0.0])


def test_shared_parts_are_never_plain_numbers():
    """The zero gradient of an ignored scalar lends its name to no other zero."""
    a, e = IndexedBase("a", shape=(N,)), Symbol("e", real=True)
    loss = Loss("zeros", Sum(Piecewise((a[i] ** 2, a[i] > 0), (0, True)), i) + Sum(Max(0, a[i]), i), wrt=[a, e])
    for line in module_text(loss).splitlines():
        if "grad_e" in line and "Gradient(" not in line:
            assert re.match(r"\s*grad_e = ", line), line


# -- what SymPy does to nested sums ------------------------------------------------------------------------------------


def flat_and_named():
    """Pairs of statements that mean the same: in one expression, and with the inner sum named.

    When SymPy builds the outer sum, it takes a Piecewise out of the inner one, and its condition loses its index.
    """
    a, c = Idx("a", N), Idx("c", N)
    A, r, v = IndexedBase("A", shape=(N, N)), IndexedBase("r", shape=(N,)), IndexedBase("v", shape=(N,))
    q, q2 = IndexedBase("q", shape=(N,)), IndexedBase("q2", shape=(N,))
    others = Sum(Piecewise((exp(A[a, c]), Ne(a, c)), (0, True)), c)
    risk = Sum(Piecewise((exp(r[c]), v[c] >= v[a]), (0, True)), c)
    classes = Sum(Piecewise((exp(S[i, j]), Ne(j, y[i])), (0, True)), j)
    two_sided = Sum(Piecewise((A[a, c] ** 2, a < c), (A[a, c], Eq(a, c)), (r[c], True)), c)
    return {
        "log of a sum over the others": (
            {"value": Sum(log(1 + others) - A[a, a], a), "wrt": [A]},
            {"where": [Eq(q[a], others)], "value": Sum(log(1 + q[a]) - A[a, a], a), "wrt": [A]},
        ),
        "a fraction of a sum over the others": (
            {"value": Sum(exp(A[a, a]) / others, a), "wrt": [A]},
            {"where": [Eq(q[a], others)], "value": Sum(exp(A[a, a]) / q[a], a), "wrt": [A]},
        ),
        "a set at risk": (
            {"value": Sum(r[a] - log(risk), a), "wrt": [r], "data": [v]},
            {"where": [Eq(q[a], risk)], "value": Sum(r[a] - log(q[a]), a), "wrt": [r], "data": [v]},
        ),
        "wrong classes": (
            {"value": Sum(classes**2 / (1 + S[i, y[i]] ** 2), i), "wrt": [S], "data": [y]},
            {"where": [Eq(L[i], classes)], "value": Sum(L[i] ** 2 / (1 + S[i, y[i]] ** 2), i), "wrt": [S], "data": [y]},
        ),
        "two such sums": (
            {"value": Sum(log(1 + others) * risk, a), "wrt": [A, r], "data": [v]},
            {
                "where": [Eq(q[a], others), Eq(q2[a], risk)],
                "value": Sum(log(1 + q[a]) * q2[a], a),
                "wrt": [A, r],
                "data": [v],
            },
        ),
        "three branches": (
            {"value": Sum(tanh(two_sided), a), "wrt": [A, r]},
            {"where": [Eq(q[a], two_sided)], "value": Sum(tanh(q[a]), a), "wrt": [A, r]},
        ),
        "the same letter twice": (
            {"value": Sum(r[a] * Sum(Piecewise((r[a], v[a] > 0), (0, True)), a) ** 2, a), "wrt": [r], "data": [v]},
            {
                "where": [Eq(q[c], Sum(Piecewise((r[a], v[a] > 0), (0, True)), a) ** 2)],
                "value": Sum(r[a] * q[a], a),
                "wrt": [r],
                "data": [v],
            },
        ),
        "the same letter twice, with a default": (
            {"value": Sum(r[a] * Sum(Piecewise((r[a], v[a] > 0), (1, True)), a) ** 2, a), "wrt": [r], "data": [v]},
            {
                "where": [Eq(q[c], Sum(Piecewise((r[a], v[a] > 0), (1, True)), a) ** 2)],
                "value": Sum(r[a] * q[a], a),
                "wrt": [r],
                "data": [v],
            },
        ),
    }


@pytest.mark.parametrize("name", flat_and_named())
def test_nested_sums_with_conditions_are_understood_or_refused(name):
    flat, named = flat_and_named()[name]
    expected = derive.compile(Loss("named", **named))
    try:
        module = derive.compile(Loss("flat", **flat))
    except StatementError as refusal:
        assert "where" in str(refusal) or "twice" in str(refusal)  # noqa: PT017 - both answers are right
        return
    rng = np.random.default_rng(11)
    arguments = []
    for array in (*flat["wrt"], *flat.get("data", ())):
        shape = tuple({N: 5, C: 3}[size] for size in array.shape)
        arguments.append(rng.integers(0, 3, shape) if array is y else rng.normal(size=shape))
    value, gradient = module.loss_and_grad(*arguments)
    assert value == pytest.approx(expected.loss(*arguments), rel=1e-12)
    for g, e in zip(
        as_list(gradient, len(flat["wrt"])), as_list(expected.grad(*arguments), len(flat["wrt"])), strict=True
    ):
        assert_close(g, e)


# -- memory -----------------------------------------------------------------------------------------------------------


def peak_of(function, *arguments):
    function(*arguments)
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        start = tracemalloc.get_traced_memory()[0]
        function(*arguments)
        return tracemalloc.get_traced_memory()[1] - start
    finally:
        tracemalloc.stop()


SIZE = 160
CUBE = SIZE**3 * 8


def lean_statements():
    a, b, c, d = (Idx(s, N) for s in "abcd")
    A, B, G = (IndexedBase(s, shape=(N, N)) for s in "ABG")
    u, v, r = (IndexedBase(s, shape=(N,)) for s in "uvr")
    return {
        "flat scores": Loss("m", Sum((Sum(A[a, c] * B[b, c], c) - G[a, b]) ** 2, a, b), wrt=[A], data=[B, G]),
        "bilinear form": Loss("m", Sum(u[a] * A[a, b] * B[b, c] * v[c], a, b, c), wrt=[A, B], data=[u, v]),
        "three matrices": Loss("m", Sum(A[a, b] * B[b, c] * G[c, d] * A[a, d], a, b, c, d), wrt=[A, B], data=[G]),
        "gram": Loss("m", Sum(Sum(A[a, c] * A[b, c], c) ** 2, a, b), wrt=[A]),
        "gathered rows": Loss("m", Sum((r[a] - Sum(A[u[a], c] * B[v[a], c], c)) ** 2, a), wrt=[A, B], data=[u, v, r]),
        "scatter by a delta": Loss(
            "m",
            Sum(A[b, c] * (A[b, c] - Sum(Piecewise((B[a, c], Eq(u[a], b)), (0, True)), a)), b, c),
            wrt=[A, B],
            data=[u],
        ),
        "squared distances of rows, weighted": Loss(
            "m", Sum(A[a, c] ** 2 * B[b, c] * G[a, b], a, b, c), wrt=[A, B], data=[G]
        ),
        "hinge of flat scores": Loss(
            "m",
            Sum(
                Piecewise(
                    (log(1 + exp(Sum(A[b, c] * B[a, c], c) - Sum(A[u[a], c] * B[a, c], c))), Eq(a, a)), (0, True)
                ),
                a,
                b,
            )
            / N,
            wrt=[A],
            data=[B, u],
        ),
    }


@pytest.mark.parametrize("name", lean_statements())
def test_no_intermediate_has_more_axes_than_the_formula_needs(name):
    """A broadcast over all three indices of size 160 would take 33 MB; the matrices take 0.2 MB each."""
    loss = lean_statements()[name]
    module = derive.compile(loss)
    rng = np.random.default_rng(1)
    labels = (
        {str(s) for s in "uv"} if name in ("gathered rows", "scatter by a delta", "hinge of flat scores") else set()
    )
    arguments = []
    for array in (*loss.wrt, *loss.data):
        if str(array.label) in labels:
            arguments.append(rng.integers(0, SIZE, SIZE))
        else:
            arguments.append(rng.normal(size=(SIZE,) * len(array.shape)) / SIZE)
    assert peak_of(module.loss, *arguments) < CUBE / 4
    assert peak_of(module.loss_and_grad, *arguments) < CUBE / 4


@pytest.mark.parametrize("name", ["flat_svm_written_as_one_expression", "flat_least_squares"])
def test_flat_statements_use_matrix_products(name):
    source = text_of(built(name)[1])
    assert "@" in source or "einsum" in source


def test_scatter_adds_all_repeats():
    A = IndexedBase("A", shape=(C, D))
    module = derive.compile(Loss("scatter", Sum(A[y[i], k] * X[i, k], i, k), wrt=[A], data=[X, y]))
    x = np.random.default_rng(2).normal(size=(50, 3))
    gradient = module.grad(np.zeros((2, 3)), x, np.ones(50, dtype=int))
    np.testing.assert_allclose(gradient, [np.zeros(3), x.sum(axis=0)], rtol=1e-13)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64", "int64"])
def test_labels_of_every_integer_type(dtype):
    case, module = built("one_table_gathered_twice")
    U, u, v, r = case.draw(0)
    np.testing.assert_array_equal(
        module.grad(U, u.astype(dtype), v.astype(dtype), r), module.grad(U, u, v, r), err_msg=dtype
    )


def test_arrays_of_any_memory_layout():
    case, module = built("bilinear_tensor")
    arguments = case.draw(0)
    expected = module.grad(*arguments)
    strided = [np.repeat(a, 2, axis=0)[::2] for a in arguments]
    fortran = [np.asfortranarray(a) for a in arguments]
    read_only = [a.copy() for a in arguments]
    for a in read_only:
        a.setflags(write=False)
    for given in (strided, fortran, read_only):
        for g, e in zip(module.grad(*given), expected, strict=True):
            np.testing.assert_allclose(g, e, rtol=1e-12)


def test_integers_are_promoted():
    case, module = built("matrix_factorisation")
    U, V, u, v, _ = case.draw(0)
    integers = [np.rint(3 * U).astype(int), np.rint(3 * V).astype(int), u, v, np.arange(u.size)]
    loss, gradient = module.loss_and_grad(*integers)
    floats = [integers[0].astype(float), integers[1].astype(float), u, v, integers[4].astype(float)]
    assert loss == module.loss(*floats)
    assert gradient.U.dtype == np.float64
    np.testing.assert_array_equal(gradient.U, module.grad(*floats).U)


# -- cost -------------------------------------------------------------------------------------------------------------


def residual_network(depth, skips=True):
    """h_l = h_{l-1} + tanh(W_l h_{l-1}) with each W_l of its own."""
    g = Idx("g", D)
    hidden = [IndexedBase(f"h{n}", shape=(N, D)) for n in range(depth)]
    weights = [IndexedBase(f"W{n}", shape=(D, D)) for n in range(depth)]
    where = []
    for number, (h, w) in enumerate(zip(hidden, weights, strict=True)):
        source = X if number == 0 else hidden[number - 1]
        passed = source[i, k] if skips else 0
        where.append(Eq(h[i, k], passed + tanh(Sum(w[k, g] * source[i, g], g))))
    last = hidden[-1]
    return Loss(f"net{depth}", Sum(last[i, k] ** 2, i, k) / N, where=where, wrt=weights, data=[X])


def test_work_and_code_grow_linearly_with_the_number_of_definitions():
    """Work is counted in calls of functions: seconds depend on what else the machine does."""
    module_text(residual_network(2))  # what is done once in a process is not counted
    calls, characters = {}, {}
    for depth in (8, 32):
        loss = residual_network(depth)
        with cProfile.Profile() as profile:
            characters[depth] = len(module_text(loss))
        calls[depth] = pstats.Stats(profile).total_calls
    assert characters[32] <= 4.5 * characters[8]
    assert calls[32] <= 4.5 * calls[8], calls


def test_deep_network_is_right():
    loss = residual_network(12)
    module = derive.compile(loss)
    rng = np.random.default_rng(3)
    weights, x = [rng.normal(size=(3, 3)) / 3 for _ in range(12)], rng.normal(size=(4, 3))

    def reference(*arguments):
        h = arguments[-1]
        for w in arguments[:-1]:
            h = h + autograd.numpy.tanh(h @ w.T)
        return autograd.numpy.sum(h**2) / h.shape[0]

    gradient = module.grad(*weights, x)
    for p in range(12):
        assert_close(gradient[p], autograd.grad(reference, p)(*weights, x))


def test_a_quantity_used_twice_at_every_depth_is_differentiated_once():
    """a_l = sin(a_{l-1}) cos(a_{l-1}): written out, 2**24 terms; by adjoints, two for each."""
    names = symbols("a0:25", real=True)
    t = Symbol("t", real=True)
    where = [Eq(names[0], t)]
    where += [Eq(new, sin(old) * cos(old) + old) for old, new in itertools.pairwise(names)]
    module = derive.compile(Loss("doubling", names[-1], where=where, wrt=[t]))

    def reference(t):
        for _ in range(24):
            t = autograd.numpy.sin(t) * autograd.numpy.cos(t) + t
        return t

    assert module.loss(0.3) == pytest.approx(reference(0.3), rel=1e-12)
    assert float(module.grad(0.3)) == pytest.approx(autograd.grad(reference)(0.3), rel=1e-10)


# -- the source -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_source_is_plain_numpy_a_person_could_have_written(name):
    source = text_of(built(name)[1])
    assert not re.search(r"^\s*(import|from)\s+derive", source, re.MULTILINE)
    assert "add.outer" not in source
    assert all(len(line) <= 120 for line in source.splitlines())
    assert max(len(line) - len(line.lstrip()) for line in source.splitlines()) <= 20
    assert not re.search(r"\b(tmp|temp|x\d{2,}|xi_\d+)\b", source)


@pytest.mark.parametrize(
    ("name", "quantities"),
    [
        ("focal_loss", ["s", "P"]),
        ("batch_normalisation", ["z", "mu", "var", "o"]),
        ("recurrent_network_of_three_steps", ["h0", "h1", "h2"]),
        ("contrastive_with_labels", ["Z", "d"]),
    ],
)
def test_named_quantities_keep_their_names(name, quantities):
    source = inspect.getsource(built(name)[1].loss_and_grad)
    for quantity in quantities:
        assert re.search(rf"^\s+{quantity} = ", source, re.MULTILINE), f"{quantity} is not assigned in\n{source}"


def test_long_names():
    """Names of any length: printed lines are broken where Python allows it."""
    m, r = symbols("length_of_the_signal_in_samples number_of_filter_coefficients", integer=True, positive=True)
    signal = IndexedBase("the_signal_as_it_was_recorded_in_the_field", shape=(m,))
    taps = IndexedBase("coefficients_of_the_filter_that_is_learnt", shape=(r,))
    at, tap = Idx("position_in_the_signal", m - r + 1), Idx("coefficient", r)
    squared = Sum(Sum(taps[tap] * signal[at + tap], tap) ** 2, at) / (m - r + 1)
    module = derive.compile(Loss("a_loss_with_a_rather_long_name_to_begin_with", squared, wrt=[taps, signal]))
    value = module.loss(np.array([1.0, -1.0]), np.array([1.0, 2.0, 4.0]))
    assert value == pytest.approx((1 + 4) / 2)


@pytest.mark.parametrize("letter", ["loss", "rows", "i", "s", "grad_W", "n", "count", "X_rows", "value", "sizes"])
def test_sizes_with_names_of_the_printed_code(letter):
    """A size may have any name: the code keeps it apart from its own, or the statement is refused."""
    size = Symbol(letter, integer=True, positive=True)
    e = Idx("e", size)
    A, v, c = IndexedBase("A", shape=(size, D)), IndexedBase("v", shape=(size,)), IndexedBase("c", shape=(D,))
    softened = Sum(log(1 + exp(-v[e] * Sum(A[e, k] * c[k], k))), e) / size
    try:
        module = derive.compile(Loss("letters", softened, wrt=[c], data=[A, v]))
    except StatementError as refusal:
        assert letter in str(refusal)  # noqa: PT017 - both answers are right
        return
    rng = np.random.default_rng(4)
    given = rng.normal(size=3), rng.normal(size=(5, 3)), rng.choice([-1.0, 1.0], 5)
    margins = given[2] * (given[1] @ given[0])
    value, gradient = module.loss_and_grad(*given)
    assert value == pytest.approx(np.mean(np.logaddexp(0, -margins)))
    assert_close(gradient, -(given[2] / (1 + np.exp(margins))) @ given[1] / 5)


def test_one_statement_compiles_to_the_same_text_twice():
    first, second = (module_text(CASES["mixture_of_experts"]().loss) for _ in range(2))
    assert first == second
