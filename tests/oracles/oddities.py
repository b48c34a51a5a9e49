"""Statements at the rim of the language: names, constants, parameters without effect, conditions alone."""

from __future__ import annotations

import autograd.numpy as np
from sympy import (
    Eq,
    Idx,
    IndexedBase,
    KroneckerDelta,
    Max,
    Ne,
    Piecewise,
    Rational,
    Sum,
    Symbol,
    cosh,
    exp,
    log,
    sin,
    sinh,
    symbols,
    tan,
)

from derive import Loss
from oracles.cases import case, labels

N, K = symbols("N K", integer=True, positive=True)
i, k = Idx("i", N), Idx("k", K)
x, y = IndexedBase("x", shape=(N,)), IndexedBase("y", shape=(N,))


@case()
def just_a_scalar(name):
    z = Symbol("z", real=True)
    return Loss(name, z, wrt=[z]), lambda z: z, lambda rng: (rng.normal(),)


@case()
def functions_of_one_scalar(name):
    z = Symbol("z", real=True)
    loss = Loss(name, sin(z) * cosh(z) + tan(z / 4) - sinh(z) ** 2 + z**5 / 7 + 2**z + 1 / (1 + z**2), wrt=[z])

    def reference(z):
        return np.sin(z) * np.cosh(z) + np.tan(z / 4) - np.sinh(z) ** 2 + z**5 / 7 + 2**z + 1 / (1 + z**2)

    return loss, reference, lambda rng: (rng.normal(),)


@case({"N": 4, "K": 3}, {"N": 1, "K": 1})
def parameter_without_effect(name):
    """The gradient of an ignored parameter is zeros of its shape."""
    W = IndexedBase("W", shape=(K, 2))
    b = Symbol("b", real=True)
    loss = Loss(name, Sum(x[i] ** 2, i), wrt=[W, x, b])
    return (
        loss,
        lambda W, x, b: np.sum(x**2) + 0 * np.sum(W) + 0 * b,
        lambda rng, N, K: (rng.normal(size=(K, 2)), rng.normal(size=N), rng.normal()),
    )


@case({"N": 4}, {"N": 1})
def parameter_only_inside_conditions(name):
    """A step function has the derivative 0 wherever it has one."""
    b = Symbol("b", real=True)
    loss = Loss(name, Sum(Piecewise((y[i] ** 2, x[i] > b), (0, True)), i), wrt=[x, b], data=[y])
    return (
        loss,
        lambda x, b, y: np.sum(np.where(x > b, y**2, 0.0)) + 0 * np.sum(x) + 0 * b,
        lambda rng, N: (rng.normal(size=N), rng.normal(), rng.normal(size=N)),
    )


@case({"N": 5}, {"N": 1})
def index_used_as_a_value(name):
    """Discounted gains: weights 1/log(2 + i), the index squared, a size as a number."""
    loss = Loss(name, Sum((i**2 + N) * x[i] / log(2 + i) + i * Max(0, x[i]), i), wrt=[x])

    def reference(x):
        r = np.arange(x.shape[0])
        return np.sum((r**2 + x.shape[0]) * x / np.log(2 + r) + r * np.maximum(0, x))

    return loss, reference, lambda rng, N: (rng.normal(size=N),)


@case({"N": 5}, {"N": 1})
def index_compared_with_numbers(name):
    """Conditions on one index: the first element, the last, the even end."""
    loss = Loss(
        name,
        Sum(Piecewise((x[i] ** 2, Eq(i, 0)), (x[i] ** 3, Eq(i, N - 1)), (x[i], i > 2), (-x[i], True)), i)
        + Sum(KroneckerDelta(i, 0) * exp(x[i]), i),
        wrt=[x],
    )

    def reference(x):
        total = np.exp(x[0])
        for n in range(x.shape[0]):
            total = total + (x[n] ** 2 if n == 0 else x[n] ** 3 if n == x.shape[0] - 1 else x[n] if n > 2 else -x[n])
        return total

    return loss, reference, lambda rng, N: (rng.normal(size=N),)


@case({"N": 4, "K": 3}, {"N": 1, "K": 1})
def names_of_the_toolkit_as_letters(name):
    """Parameters and quantities that are called np, loss, grad, out, self, and an argument called i."""
    np_, loss_, grad_ = (
        IndexedBase("np", shape=(N, K)),
        IndexedBase("loss", shape=(N,)),
        IndexedBase("grad", shape=(K,)),
    )
    out, i_ = IndexedBase("out", shape=(N,)), IndexedBase("i", shape=(N,))
    self_ = Symbol("self", real=True)
    n = Idx("n", N)
    loss = Loss(
        name,
        Sum((out[n] - loss_[n]) ** 2 * i_[n], n) + self_ * Sum(grad_[k] ** 2, k),
        where=[Eq(out[n], Sum(np_[n, k] * grad_[k], k))],
        wrt=[grad_, i_, self_],
        data=[np_, loss_],
    )

    def reference(grad, i, self, X, target):
        return np.sum((X @ grad - target) ** 2 * i) + self * np.sum(grad**2)

    def inputs(rng, N, K):
        return rng.normal(size=K), rng.normal(size=N), rng.normal(), rng.normal(size=(N, K)), rng.normal(size=N)

    return loss, reference, inputs


@case({"N": 4, "K": 3}, {"N": 1, "K": 1})
def more_names_that_may_collide(name):
    """Arguments called float, len, sum, ndarray, Gradient, dtype, d_x, x_grad, dW, W; sizes called x and shape."""
    a, b = symbols("x shape", integer=True, positive=True)
    p, q = Idx("p", a), Idx("q", b)
    f, W, dW = IndexedBase("float", shape=(a,)), IndexedBase("W", shape=(a, b)), IndexedBase("dW", shape=(a, b))
    length, d_W, G = IndexedBase("len", shape=(b,)), IndexedBase("d_W", shape=(b,)), IndexedBase("Gradient", shape=(a,))
    s = Symbol("sum", real=True)
    v = IndexedBase("ValueError", shape=(a,))
    loss = Loss(
        name,
        s * Sum(f[p] * W[p, q] * length[q], p, q) ** 2
        + Sum((dW[p, q] - W[p, q] * d_W[q]) ** 2, p, q)
        + Sum(G[p] ** 2, p),
        where=[Eq(G[p], v[p] * Sum(W[p, q], q) / (a * b))],
        wrt=[W, length, s],
        data=[f, dW, d_W, v],
    )

    def reference(W, length, s, f, dW, d_W, v):
        G = v * np.sum(W, axis=1) / W.size
        return s * (f @ W @ length) ** 2 + np.sum((dW - W * d_W) ** 2) + np.sum(G**2)

    def inputs(rng, N, K):
        return (
            rng.normal(size=(N, K)),
            rng.normal(size=K),
            rng.normal(),
            rng.normal(size=N),
            rng.normal(size=(N, K)),
            rng.normal(size=K),
            rng.normal(size=N),
        )

    return loss, reference, inputs


@case({"N": 4}, {"N": 1})
def greek_letters(name):
    """Names from the blackboard: alpha, theta, Sigma, phi; lambda_ and pi_ are not the keyword and the number."""
    theta, Sigma = IndexedBase("theta", shape=(N,)), IndexedBase("Sigma", shape=(N, N))
    alpha, lam, pi_ = symbols("alpha lambda_ pi_", real=True)
    phi = IndexedBase("phi", shape=(N,))
    n = Idx("nu", N)
    eta = Idx("eta", N)
    loss = Loss(
        name,
        Sum(phi[n] * theta[n], n) / 2 + lam * Sum(theta[n] ** 2, n) + pi_ * alpha,
        where=[Eq(phi[n], Sum(Sigma[n, eta] * theta[eta], eta))],
        wrt=[theta, alpha],
        data=[Sigma],
        defaults={lam: 0.1},
    )

    def reference(theta, alpha, Sigma, lambda_=0.1, pi_=1.0):
        return theta @ Sigma @ theta / 2 + lambda_ * np.sum(theta**2) + pi_ * alpha

    return loss, reference, lambda rng, N: (rng.normal(size=N), rng.normal(), rng.normal(size=(N, N))), {"pi_": 2.5}


@case({"N": 4}, {"N": 1})
def parameter_called_N(name):
    """The letter of a size elsewhere, here a scalar parameter; and indices called loss and W."""
    size, big = symbols("n_points", integer=True, positive=True), Symbol("N", real=True)
    a, b = Idx("loss", size), Idx("W", size)
    u, v = IndexedBase("u", shape=(size,)), IndexedBase("v", shape=(size, size))
    loss = Loss(name, Sum((u[a] - big) ** 2 * v[a, b], a, b) / size, wrt=[big, u], data=[v])

    def reference(N, u, v):
        return np.sum(((u - N) ** 2)[:, None] * v) / u.shape[0]

    return loss, reference, lambda rng, N: (rng.normal(), rng.normal(size=N), rng.normal(size=(N, N)))


@case({"N": 5}, {"N": 1})
def rational_and_decimal_numbers(name):
    loss = Loss(
        name,
        Rational(2, 3) * Sum(x[i] ** 2, i) + 0.1 * Sum(x[i], i) + Sum((x[i] ** 2 + 1e-3) ** 1.5, i) / 7 + 3,
        wrt=[x],
    )

    def reference(x):
        return 2 / 3 * np.sum(x**2) + 0.1 * np.sum(x) + np.sum((x**2 + 1e-3) ** 1.5) / 7 + 3

    return loss, reference, lambda rng, N: (rng.normal(size=N),)


@case({"N": 5}, {"N": 1})
def scalars_as_data_and_named_scalars(name):
    """A scalar in data, a chain of scalar definitions, and an integer-like hyperparameter."""
    a = Symbol("a", real=True)
    q, s, u = symbols("q s u", real=True)
    power = Symbol("power", positive=True)
    loss = Loss(
        name,
        log(1 + u**2) + q,
        where=[Eq(q, a * Sum(x[i], i)), Eq(s, q**2 + a), Eq(u, exp(-s) * q + s**power)],
        wrt=[x],
        data=[a],
        defaults={power: 2},
    )

    def reference(x, a, power=2):
        q = a * np.sum(x)
        s = q**2 + a
        return np.log(1 + (np.exp(-s) * q + s**power) ** 2) + q

    return loss, reference, lambda rng, N: (rng.normal(size=N), 0.7)


@case({"N": 6, "K": 3}, {"N": 1, "K": 1})
def labels_in_conditions_only(name):
    """A label array that picks nothing and is only compared, with an index and with another label array."""
    c, d = IndexedBase("c", shape=(N,)), IndexedBase("d", shape=(N,))
    w = IndexedBase("w", shape=(K,))
    loss = Loss(
        name,
        Sum(Piecewise((w[k] * x[i], Eq(c[i], k)), (0, True)), i, k)
        + Sum(Piecewise((x[i] ** 2, Ne(c[i], d[i])), (0, True)), i)
        + Sum(Piecewise((w[k] ** 2, Eq(d[i], k)), (0, True)), i, k),
        wrt=[w, x],
        data=[c, d],
    )

    def reference(w, x, c, d):
        return np.sum(w[c] * x) + np.sum(np.where(c != d, x**2, 0)) + np.sum(w[d] ** 2)

    return (
        loss,
        reference,
        lambda rng, N, K: (rng.normal(size=K), rng.normal(size=N), labels(rng, K, N), labels(rng, K, N)),
    )


@case({"N": 6, "K": 5}, {"N": 1, "K": 3})
def labels_with_a_shift(name):
    """Neighbours of the labelled place: w[y + 1] - w[y], the labels being below K - 1."""
    c = IndexedBase("c", shape=(N,))
    w = IndexedBase("w", shape=(K,))
    loss = Loss(name, Sum((w[c[i] + 1] - w[c[i]] - x[i]) ** 2, i), wrt=[w], data=[c, x])

    def reference(w, c, x):
        return np.sum((w[c + 1] - w[c] - x) ** 2)

    return loss, reference, lambda rng, N, K: (rng.normal(size=K), labels(rng, K - 1, N), rng.normal(size=N))


@case({"N": 4}, {"N": 2})
def sum_over_an_index_that_is_absent(name):
    """A summand without the index counts as often as the index runs."""
    n = Idx("n", N)
    loss = Loss(
        name, Sum(x[i] ** 2, i, n) + Sum(Sum(y[i], i), (Symbol("t", integer=True), 1, N - 1)) * x[0], wrt=[x], data=[y]
    )

    def reference(x, y):
        return x.shape[0] * np.sum(x**2) + (x.shape[0] - 1) * np.sum(y) * x[0]

    return loss, reference, lambda rng, N: (rng.normal(size=N), rng.normal(size=N))


@case({"N": 4}, {"N": 1})
def log_of_two_exponentials(name):
    """log(exp(a) + exp(b)) without a sum sign, and log(c + sum of exp)."""
    loss = Loss(name, Sum(log(exp(x[i]) + exp(y[i])), i) + log(1 + Sum(exp(2 * x[i]), i)), wrt=[x, y])

    def reference(x, y):
        return np.sum(np.log(np.exp(x) + np.exp(y))) + np.log(1 + np.sum(np.exp(2 * x)))

    return loss, reference, lambda rng, N: (rng.normal(size=N), rng.normal(size=N))


@case({"N": 3, "K": 4}, {"N": 1, "K": 1})
def transposed_and_permuted_definitions(name):
    """Definitions whose axes stand in another order than their sources'."""
    A, B = IndexedBase("A", shape=(N, K)), IndexedBase("B", shape=(K, N, 2))
    P = IndexedBase("P", shape=(2, N, K))
    Q = IndexedBase("Q", shape=(K, N))
    c = Idx("c", 2)
    loss = Loss(
        name,
        Sum(P[c, i, k] ** 2 * Q[k, i], c, i, k),
        where=[Eq(Q[k, i], exp(A[i, k])), Eq(P[c, i, k], B[k, i, c] * A[i, k] + Q[k, i])],
        wrt=[A, B],
    )

    def reference(A, B):
        Q = np.exp(A.T)
        P = np.transpose(B, (2, 1, 0)) * A + Q.T
        return np.sum(P**2 * Q.T)

    return loss, reference, lambda rng, N, K: (rng.normal(size=(N, K)), rng.normal(size=(K, N, 2)))
