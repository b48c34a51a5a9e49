"""The losses of the catalogue, each against code written by hand, another library, or a theorem."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from oracles import blackboard
from scipy import optimize
from sklearn import linear_model

import derive
import derive.losses
from derive.losses.autoencoder import autoencoder
from derive.losses.binary_svm import binary_svm
from derive.losses.lasso import lasso
from derive.losses.logistic import logistic
from derive.losses.quadratic import quadratic
from derive.losses.ridge import ridge
from derive.losses.rosenbrock import rosenbrock
from derive.losses.saddle import saddle
from derive.losses.softmax import softmax
from derive.losses.squared_hinge_svm import squared_hinge_svm
from derive.losses.svm import svm
from derive.losses.two_layer_net import two_layer_net


def log_sum_exp(s):
    top = anp.max(s, axis=1)
    return top + anp.log(anp.sum(anp.exp(s - top[:, None]), axis=1))


def hand_svm(W, X, y, delta=1.0, reg=0.0):
    s = X @ W.T
    rows = anp.arange(len(y))
    wrong = anp.arange(W.shape[0]) != y[:, None]
    return anp.sum(anp.maximum(0, s - s[rows, y][:, None] + delta) * wrong) / len(y) + reg * anp.sum(W**2)


def hand_squared_hinge_svm(W, X, y, delta=1.0, reg=0.0):
    s = X @ W.T
    rows = anp.arange(len(y))
    wrong = anp.arange(W.shape[0]) != y[:, None]
    return anp.sum(anp.maximum(0, s - s[rows, y][:, None] + delta) ** 2 * wrong) / len(y) + reg * anp.sum(W**2)


def hand_binary_svm(w, X, y, reg=0.0):
    return anp.mean(anp.maximum(0, 1 - y * (X @ w))) + reg * anp.sum(w**2)


def hand_softmax(W, X, y, reg=0.0):
    s = X @ W.T
    return anp.mean(log_sum_exp(s) - s[anp.arange(len(y)), y]) + reg * anp.sum(W**2)


def hand_logistic(w, X, y, reg=0.0):
    return anp.mean(anp.logaddexp(0, -y * (X @ w))) + reg * anp.sum(w**2)


def hand_ridge(w, X, y, reg=1.0):
    return anp.mean((X @ w - y) ** 2) + reg * anp.sum(w**2)


def hand_lasso(w, X, y, reg=1.0):
    return anp.mean((X @ w - y) ** 2) / 2 + reg * anp.sum(anp.abs(w))


def hand_two_layer_net(W1, b1, W2, b2, X, y, reg=0.0):
    s = anp.maximum(0, X @ W1.T + b1) @ W2.T + b2
    penalty = reg * (anp.sum(W1**2) + anp.sum(W2**2))
    return anp.mean(log_sum_exp(s) - s[anp.arange(len(y)), y]) + penalty


def hand_autoencoder(W, X, reg=0.0):
    return anp.sum((X @ W.T @ W - X) ** 2) / X.shape[0] + reg * anp.sum(W**2)


def hand_quadratic(x, kappa=20.0):
    return (x[0] ** 2 + kappa * x[1] ** 2) / 2


def hand_rosenbrock(x, a=1.0, b=100.0):
    return anp.sum((a - x[:-1]) ** 2 + b * (x[1:] - x[:-1] ** 2) ** 2)


def hand_saddle(x):
    return x[0] ** 2 / 2 - x[1] ** 2 / 2 + x[1] ** 4 / 4


def multiclass(rng, N, D, C):
    y = rng.integers(0, C, N)
    y[: N // 2] = 0
    return rng.normal(size=(C, D)), rng.normal(size=(N, D)), y


def two_classes(rng, N, D, C):
    return rng.normal(size=D), rng.normal(size=(N, D)), rng.choice([-1.0, 1.0], N)


def targets(rng, N, D, C):
    return rng.normal(size=D), rng.normal(size=(N, D)), rng.normal(size=N)


def network(rng, N, D, C, H=4):
    _, X, y = multiclass(rng, N, D, C)
    return rng.normal(size=(H, D)), rng.normal(size=H), rng.normal(size=(C, H)), rng.normal(size=C), X, y


def unlabelled(rng, N, D, C):
    return rng.normal(size=(C, D)), rng.normal(size=(N, D))


CATALOGUE = {
    "svm": (svm, hand_svm, multiclass),
    "squared_hinge_svm": (squared_hinge_svm, hand_squared_hinge_svm, multiclass),
    "binary_svm": (binary_svm, hand_binary_svm, two_classes),
    "softmax": (softmax, hand_softmax, multiclass),
    "logistic": (logistic, hand_logistic, two_classes),
    "ridge": (ridge, hand_ridge, targets),
    "lasso": (lasso, hand_lasso, targets),
    "two_layer_net": (two_layer_net, hand_two_layer_net, network),
    "autoencoder": (
        autoencoder,
        hand_autoencoder,
        lambda rng, N, D, C: (rng.normal(size=(C, D)), rng.normal(size=(N, D))),
    ),
    "quadratic": (quadratic, hand_quadratic, lambda rng, N, D, C: (rng.normal(size=2),)),
    "rosenbrock": (rosenbrock, hand_rosenbrock, lambda rng, N, D, C: (rng.normal(size=D + 1),)),
    "saddle": (saddle, hand_saddle, lambda rng, N, D, C: (rng.normal(size=2),)),
}


@pytest.fixture(params=CATALOGUE)
def entry(request):
    loss, hand, draw = CATALOGUE[request.param]
    return loss, hand, draw, derive.compile(loss)


def other_hyperparameters(loss):
    """Each hyperparameter away from its default."""
    return {str(symbol): 0.75 * float(default) + 0.3 for symbol, default in loss.defaults.items()}


@pytest.mark.parametrize("shape", [(7, 5, 3), (1, 4, 2), (6, 1, 3), (4, 2, 1)])
@pytest.mark.parametrize("hyperparameters", ["defaults", "others"])
def test_against_hand_written_code(entry, shape, hyperparameters):
    loss, hand, draw, module = entry
    arguments = draw(np.random.default_rng(shape), *shape)
    hyper = other_hyperparameters(loss) if hyperparameters == "others" else {}
    value, gradient = module.loss_and_grad(*arguments, **hyper)
    assert value == pytest.approx(hand(*arguments, **hyper), rel=1e-12)
    assert value == pytest.approx(blackboard.value(loss, *arguments, **hyper), rel=1e-12)
    assert module.loss(*arguments, **hyper) == pytest.approx(value, rel=1e-14)
    pieces = [gradient] if len(loss.wrt) == 1 else list(gradient)
    loops = blackboard.gradient(loss, *arguments, **hyper)
    for p, piece in enumerate(pieces):
        automatic = autograd.grad(hand, p)(*arguments, **hyper)
        np.testing.assert_allclose(piece, automatic, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(piece, loops[p], rtol=1e-10, atol=1e-12)


def test_ties_take_the_declared_side():
    """All weights 0: hinges at their kink have no gradient, neither has the lasso's penalty."""
    X, y = np.ones((3, 2)), np.array([0, 1, 1])
    zeros = np.zeros((2, 2))
    for loss in (svm, squared_hinge_svm):
        np.testing.assert_array_equal(derive.compile(loss).grad(zeros, X, y, delta=0.0), zeros)
    margins_of_zero = derive.compile(binary_svm).grad(np.array([1.0]), np.array([[1.0], [-1.0]]), np.array([1.0, -1.0]))
    np.testing.assert_array_equal(margins_of_zero, [0.0])
    penalty = derive.compile(lasso).grad(np.zeros(2), X, np.zeros(3))
    np.testing.assert_array_equal(penalty, np.zeros(2))
    net = derive.compile(two_layer_net).grad(np.zeros((4, 2)), np.zeros(4), np.ones((2, 4)), np.zeros(2), X, y)
    np.testing.assert_array_equal(net.W1, np.zeros((4, 2)))  # every unit is at its kink


def test_two_classes_of_the_multiclass_svm_are_the_binary_svm():
    rng = np.random.default_rng(1)
    W, X, y = multiclass(rng, 9, 4, 2)
    signed = np.where(y == 1, 1.0, -1.0)
    assert derive.compile(svm).loss(W, X, y) == pytest.approx(derive.compile(binary_svm).loss(W[1] - W[0], X, signed))


def test_two_classes_of_softmax_are_logistic_regression():
    rng = np.random.default_rng(2)
    W, X, y = multiclass(rng, 9, 4, 2)
    signed = np.where(y == 1, 1.0, -1.0)
    assert derive.compile(softmax).loss(W, X, y) == pytest.approx(derive.compile(logistic).loss(W[1] - W[0], X, signed))


def test_ridge_has_its_gradient_zero_at_the_solution_of_scikit_learn():
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(30, 4)), rng.normal(size=30)
    w = linear_model.Ridge(alpha=30 * 0.7, fit_intercept=False, tol=1e-12).fit(X, y).coef_
    np.testing.assert_allclose(derive.compile(ridge).grad(w, X, y, reg=0.7), 0, atol=1e-12)


def test_lasso_at_the_solution_of_scikit_learn():
    """Zero derivative where w_k is not 0; where it is, the rest of the gradient is at most reg."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(40, 6))
    y = X[:, 0] - 2 * X[:, 1] + 0.1 * rng.normal(size=40)
    w = linear_model.Lasso(alpha=0.3, fit_intercept=False, tol=1e-14, max_iter=100000).fit(X, y).coef_
    gradient = derive.compile(lasso).grad(w, X, y, reg=0.3)
    assert np.any(w == 0)
    assert np.any(w != 0)
    np.testing.assert_allclose(gradient[w != 0], 0, atol=1e-8)
    assert np.all(np.abs(gradient[w == 0]) <= 0.3)


def test_softmax_and_logistic_at_the_solution_of_scikit_learn():
    rng = np.random.default_rng(5)
    W, X, y = multiclass(rng, 60, 4, 3)
    y = np.argmax(X @ W.T + rng.gumbel(size=(60, 3)), axis=1)
    model = linear_model.LogisticRegression(C=1 / (2 * 60 * 0.1), fit_intercept=False, tol=1e-10, max_iter=10000)
    coefficients = model.fit(X, y).coef_
    np.testing.assert_allclose(derive.compile(softmax).grad(coefficients, X, y, reg=0.1), 0, atol=1e-6)
    signed = np.where(y == 0, -1.0, 1.0)
    coefficients = model.fit(X, signed).coef_[0]
    np.testing.assert_allclose(derive.compile(logistic).grad(coefficients, X, signed, reg=0.1), 0, atol=1e-6)


def test_autoencoder_finds_the_principal_subspace():
    """At the minimum: the sum of the squared singular values left out, over N (Baldi and Hornik, 1989)."""
    rng = np.random.default_rng(6)
    X = rng.normal(size=(20, 5)) * [3.0, 2.0, 1.0, 0.5, 0.2]
    module = derive.compile(autoencoder)

    def flat(w):
        value, gradient = module.loss_and_grad(w.reshape(2, 5), X)
        return value, gradient.ravel()

    found = optimize.minimize(flat, rng.normal(size=10) / 3, jac=True, method="BFGS", options={"gtol": 1e-10})
    singular = np.linalg.svd(X, compute_uv=False)
    assert found.fun == pytest.approx(np.sum(singular[2:] ** 2) / 20, rel=1e-9)


def test_rosenbrock_is_scipys():
    x = np.random.default_rng(7).normal(size=6)
    value, gradient = derive.compile(rosenbrock).loss_and_grad(x)
    assert value == pytest.approx(optimize.rosen(x), rel=1e-13)
    np.testing.assert_allclose(gradient, optimize.rosen_der(x), rtol=1e-12)
    assert derive.compile(rosenbrock).loss(np.ones(4)) == 0


def test_landscapes_of_the_lecture():
    """A narrow valley whose curvatures are 1 and kappa; a saddle that is no minimum, between two that are."""
    value, gradient = derive.compile(quadratic).loss_and_grad(np.array([2.0, 1.0]), kappa=100.0)
    assert value == 52.0
    np.testing.assert_array_equal(gradient, [2.0, 100.0])
    module = derive.compile(saddle)
    value, gradient = module.loss_and_grad(np.zeros(2))
    assert value == 0.0
    np.testing.assert_array_equal(gradient, [0.0, 0.0])
    for step in ([0.1, 0.0], [0.0, 0.1]):
        assert (module.loss(np.array(step)) > 0) == (step[1] == 0)
    for bottom in ([0.0, 1.0], [0.0, -1.0]):
        value, gradient = module.loss_and_grad(np.array(bottom))
        assert value == -0.25
        np.testing.assert_array_equal(gradient, [0.0, 0.0])


def test_two_layer_net_is_stable_for_huge_scores():
    W1, b1, W2, b2, X, y = network(np.random.default_rng(8), 4, 3, 2)
    value, gradient = derive.compile(two_layer_net).loss_and_grad(W1, b1, 1e4 * W2, b2, X, y)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(g)) for g in gradient)


def test_statement_files_hold_mathematics_only():
    files = sorted(Path(derive.losses.__file__).parent.glob("*.py"))
    assert len(files) == 13
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "numpy" not in text
        assert "\\" not in text
        imports = [line for line in text.splitlines() if line.startswith(("import", "from"))]
        assert all(line.startswith(("from sympy import", "from derive import Loss")) for line in imports), file
        if file.name != "__init__.py":
            assert getattr(import_module(f"derive.losses.{file.stem}"), file.stem).name == file.stem
            assert text.startswith('"""')
