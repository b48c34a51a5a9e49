"""Regression, robust losses, likelihoods: one target value per example."""

from __future__ import annotations

import autograd.numpy as np
from sympy import (
    Abs,
    And,
    Eq,
    Idx,
    IndexedBase,
    Max,
    Min,
    Piecewise,
    Rational,
    Sum,
    Symbol,
    atan,
    cos,
    exp,
    log,
    pi,
    sign,
    sin,
    sqrt,
    symbols,
)

from derive import Loss
from oracles.cases import case

N, D, C, K = symbols("N D C K", integer=True, positive=True)
i, j, k, p = Idx("i", N), Idx("j", C), Idx("k", D), Idx("p", K)
X, w, y = IndexedBase("X", shape=(N, D)), IndexedBase("w", shape=(D,)), IndexedBase("y", shape=(N,))
x, r = IndexedBase("x", shape=(N,)), IndexedBase("r", shape=(N,))

SIZES = ({"N": 7, "D": 3}, {"N": 1, "D": 4}, {"N": 5, "D": 1}, {"N": 1, "D": 1})


def table(rng, N, D):
    return rng.normal(size=D), rng.normal(size=(N, D)), rng.normal(size=N)


def column(rng, N):
    return rng.normal(size=N), rng.normal(size=N)


@case({"N": 6}, {"N": 1})
def line_through_points(name):
    """Two scalar parameters."""
    a, b = symbols("a b", real=True)
    loss = Loss(name, Sum((a * x[i] + b - y[i]) ** 2, i) / N, wrt=[a, b], data=[x, y])
    return (
        loss,
        lambda a, b, x, y: np.mean((a * x + b - y) ** 2),
        lambda rng, N: (rng.normal(), rng.normal(), rng.normal(size=N), rng.normal(size=N)),
    )


@case(*SIZES)
def flat_least_squares(name):
    """No named quantities at all: one nested expression."""
    loss = Loss(name, Sum((Sum(X[i, k] * w[k], k) - y[i]) ** 2, i) / (2 * N), wrt=[w], data=[X, y])
    return loss, lambda w, X, y: np.mean((X @ w - y) ** 2) / 2, table


@case(*SIZES)
def elastic_net(name):
    a, rho = symbols("alpha rho", positive=True)
    penalty = a * rho * Sum(Abs(w[k]), k) + a * (1 - rho) / 2 * Sum(w[k] ** 2, k)
    loss = Loss(
        name,
        Sum(r[i] ** 2, i) / (2 * N) + penalty,
        where=[Eq(r[i], y[i] - Sum(X[i, k] * w[k], k))],
        wrt=[w],
        data=[X, y],
        defaults={a: 0.1, rho: 0.5},
    )

    def reference(w, X, y, alpha=0.1, rho=0.5):
        return np.mean((y - X @ w) ** 2) / 2 + alpha * rho * np.sum(np.abs(w)) + alpha * (1 - rho) / 2 * np.sum(w**2)

    return loss, reference, table, {"rho": 0.25}


@case(*SIZES)
def huber(name):
    d = Symbol("delta", positive=True)
    loss = Loss(
        name,
        Sum(Piecewise((r[i] ** 2 / 2, Abs(r[i]) <= d), (d * (Abs(r[i]) - d / 2), True)), i) / N,
        where=[Eq(r[i], Sum(X[i, k] * w[k], k) - y[i])],
        wrt=[w],
        data=[X, y],
        defaults={d: 1},
    )

    def reference(w, X, y, delta=1.0):
        r = X @ w - y
        return np.mean(np.where(np.abs(r) <= delta, r**2 / 2, delta * (np.abs(r) - delta / 2)))

    return loss, reference, table, {"delta": 0.7}


@case(*SIZES)
def tukey_biweight(name):
    """Three branches, a constant in one of them, a hyperparameter without default."""
    c = Symbol("c", positive=True)
    inside = c**2 / 6 * (1 - (1 - (r[i] / c) ** 2) ** 3)
    loss = Loss(
        name,
        Sum(Piecewise((c**2 / 6, r[i] > c), (inside, r[i] >= -c), (c**2 / 6, True)), i),
        where=[Eq(r[i], Sum(X[i, k] * w[k], k) - y[i])],
        wrt=[w],
        data=[X, y],
    )

    def reference(w, X, y, c):
        r = X @ w - y
        return np.sum(np.where(np.abs(r) <= c, c**2 / 6 * (1 - (1 - (r / c) ** 2) ** 3), c**2 / 6))

    return loss, reference, table, {"c": 1.1}


@case(*SIZES)
def quantile(name):
    tau = Symbol("tau", positive=True)
    loss = Loss(
        name,
        Sum(Max(tau * (y[i] - Sum(X[i, k] * w[k], k)), (tau - 1) * (y[i] - Sum(X[i, k] * w[k], k))), i) / N,
        wrt=[w],
        data=[X, y],
        defaults={tau: Rational(1, 2)},
    )

    def reference(w, X, y, tau=0.5):
        e = y - X @ w
        return np.mean(np.where(e > 0, tau * e, (tau - 1) * e))

    return loss, reference, table, {"tau": 0.9}


@case(*SIZES)
def epsilon_insensitive(name):
    eps = Symbol("epsilon", positive=True)
    loss = Loss(
        name,
        Sum(Max(0, Abs(Sum(X[i, k] * w[k], k) - y[i]) - eps), i) / N,
        wrt=[w],
        data=[X, y],
        defaults={eps: 0.3},
    )
    return loss, lambda w, X, y, epsilon=0.3: np.mean(np.maximum(0, np.abs(X @ w - y) - epsilon)), table


@case(*SIZES)
def cauchy_and_log_cosh(name):
    """Elementary functions composed; log(cosh) by its definition."""
    loss = Loss(
        name,
        Sum(log(1 + r[i] ** 2) + log((exp(r[i]) + exp(-r[i])) / 2) + atan(r[i]) ** 2 + sqrt(1 + r[i] ** 2), i),
        where=[Eq(r[i], Sum(X[i, k] * w[k], k) - y[i])],
        wrt=[w],
        data=[X, y],
    )

    def reference(w, X, y):
        r = X @ w - y
        return np.sum(np.log(1 + r**2) + np.log(np.cosh(r)) + np.arctan(r) ** 2 + np.sqrt(1 + r**2))

    return loss, reference, table


@case({"N": 6, "K": 4}, {"N": 1, "K": 1}, {"N": 3, "K": 2})
def polynomial_fit(name):
    """The index p is an exponent: the value x_i ** p."""
    a = IndexedBase("a", shape=(K,))
    loss = Loss(name, Sum((Sum(a[p] * x[i] ** p, p) - y[i]) ** 2, i), wrt=[a], data=[x, y])

    def reference(a, x, y):
        powers = np.array([[v**e for e in range(a.shape[0])] for v in x])
        return np.sum((powers @ a - y) ** 2)

    return loss, reference, lambda rng, N, K: (rng.normal(size=K), rng.normal(size=N), rng.normal(size=N))


@case({"N": 6, "K": 3}, {"N": 2, "K": 1})
def fourier_series(name):
    """An index as a number inside functions: sin((p + 1) x)."""
    a, b = IndexedBase("a", shape=(K,)), IndexedBase("b", shape=(K,))
    f = IndexedBase("f", shape=(N,))
    loss = Loss(
        name,
        Sum((f[i] - y[i]) ** 2, i) / N,
        where=[Eq(f[i], Sum(a[p] * sin((p + 1) * x[i]) + b[p] * cos(2 * pi * (p + 1) * x[i]), p))],
        wrt=[a, b],
        data=[x, y],
    )

    def reference(a, b, x, y):
        q = np.arange(1, a.shape[0] + 1)
        f = np.sin(x[:, None] * q) @ a + np.cos(2 * np.pi * x[:, None] * q) @ b
        return np.mean((f - y) ** 2)

    return (
        loss,
        reference,
        lambda rng, N, K: (rng.normal(size=K), rng.normal(size=K), rng.normal(size=N), rng.normal(size=N)),
    )


@case({"N": 6}, {"N": 1})
def gaussian_likelihood(name):
    """Scalar parameters mu and log_sigma, the constant pi."""
    mu, ls = symbols("mu log_sigma", real=True)
    loss = Loss(
        name,
        Sum((x[i] - mu) ** 2 / (2 * exp(ls) ** 2) + ls + log(2 * pi) / 2, i) / N,
        wrt=[mu, ls],
        data=[x],
    )

    def reference(mu, log_sigma, x):
        return np.mean((x - mu) ** 2 / (2 * np.exp(2 * log_sigma)) + log_sigma + np.log(2 * np.pi) / 2)

    return loss, reference, lambda rng, N: (rng.normal(), rng.normal(), rng.normal(size=N))


@case({"N": 6, "K": 3}, {"N": 1, "K": 1}, {"N": 4, "K": 1})
def gaussian_mixture(name):
    """Log of a sum of exponentials inside and outside; three parameter vectors."""
    a, mu, ls = (IndexedBase(n, shape=(K,)) for n in ("a", "mu", "s"))
    q = Idx("q", K)
    loss = Loss(
        name,
        -Sum(log(Sum(exp(a[p] - ls[p] - (x[i] - mu[p]) ** 2 / (2 * exp(2 * ls[p]))), p)), i) / N
        + log(Sum(exp(a[q]), q)),
        wrt=[a, mu, ls],
        data=[x],
    )

    def reference(a, mu, s, x):
        e = a - s - (x[:, None] - mu) ** 2 / (2 * np.exp(2 * s))
        return -np.mean(np.log(np.sum(np.exp(e), axis=1))) + np.log(np.sum(np.exp(a)))

    return (
        loss,
        reference,
        lambda rng, N, K: (rng.normal(size=K), rng.normal(size=K), rng.normal(size=K), rng.normal(size=N)),
    )


@case(*SIZES)
def poisson_regression(name):
    z = IndexedBase("z", shape=(N,))
    loss = Loss(
        name,
        Sum(exp(z[i]) - y[i] * z[i], i) / N,
        where=[Eq(z[i], Sum(X[i, k] * w[k], k))],
        wrt=[w],
        data=[X, y],
    )
    return loss, lambda w, X, y: np.mean(np.exp(X @ w) - y * (X @ w)), table


@case(*SIZES)
def student_t(name):
    """The degrees of freedom are a scalar parameter; the scale a default hyperparameter."""
    nu, scale = symbols("nu scale", positive=True)
    loss = Loss(
        name,
        (nu + 1) / 2 * Sum(log(1 + (Sum(X[i, k] * w[k], k) - y[i]) ** 2 / (nu * scale**2)), i) / N + log(nu) / 2,
        wrt=[w, nu],
        data=[X, y],
        defaults={scale: 1.5},
    )

    def reference(w, nu, X, y, scale=1.5):
        return (nu + 1) / 2 * np.mean(np.log(1 + (X @ w - y) ** 2 / (nu * scale**2))) + np.log(nu) / 2

    def inputs(rng, N, D):
        w, X, y = table(rng, N, D)
        return w, rng.uniform(1, 5), X, y

    return loss, reference, inputs


@case(*SIZES)
def weighted_and_masked(name):
    """Weights per example and a mask given as values; the mean over what the mask leaves."""
    c, m = IndexedBase("c", shape=(N,)), IndexedBase("m", shape=(N,))
    loss = Loss(
        name,
        Sum(Piecewise((c[i] * (Sum(X[i, k] * w[k], k) - y[i]) ** 2, m[i] > 0), (0, True)), i) / Sum(c[i], i),
        wrt=[w],
        data=[X, y, c, m],
    )

    def reference(w, X, y, c, m):
        return np.sum(np.where(m > 0, c * (X @ w - y) ** 2, 0)) / np.sum(c)

    def inputs(rng, N, D):
        return (*table(rng, N, D), rng.uniform(0.5, 2, N), rng.normal(size=N))

    return loss, reference, inputs


@case(*SIZES)
def powers_of_a_hyperparameter(name):
    q, s = symbols("q s", positive=True)
    loss = Loss(
        name,
        Sum(Abs(Sum(X[i, k] * w[k], k) - y[i]) ** q, i) ** (1 / q) + s ** Sum(w[k], k),
        wrt=[w],
        data=[X, y],
        defaults={q: 3.0},
    )

    def reference(w, X, y, q=3.0, s=2.0):
        return np.sum(np.abs(X @ w - y) ** q) ** (1 / q) + s ** np.sum(w)

    return loss, reference, table, {"q": 2.5, "s": 1.7}


@case({"N": 6}, {"N": 2})
def variance_and_skewness(name):
    """Scalar named quantities, each using the ones before; a ratio of powers of them."""
    mean, var = symbols("mean var", real=True)
    loss = Loss(
        name,
        Sum((x[i] - mean) ** 3, i) / N / var ** Rational(3, 2) + log(var),
        where=[Eq(mean, Sum(x[i], i) / N), Eq(var, Sum((x[i] - mean) ** 2, i) / N)],
        wrt=[x],
    )

    def reference(x):
        return np.mean((x - np.mean(x)) ** 3) / np.var(x) ** 1.5 + np.log(np.var(x))

    return loss, reference, lambda rng, N: (rng.normal(size=N),)


@case({"N": 6}, {"N": 1})
def clipped_and_folded(name):
    """Max and Min of three arguments and of each other, sign as a value, Abs of a product."""
    u = IndexedBase("u", shape=(N,))
    loss = Loss(
        name,
        Sum(Max(-1, Min(1, 2 * x[i])) * u[i] + Max(x[i], u[i], x[i] * u[i]) - Min(x[i], u[i], 3), i)
        + Sum(sign(x[i]) * u[i] ** 2 + Abs(x[i] * u[i]), i),
        wrt=[x, u],
    )

    def reference(x, u):
        return np.sum(
            np.maximum(-1, np.minimum(1, 2 * x)) * u
            + np.maximum(np.maximum(x, u), x * u)
            - np.minimum(np.minimum(x, u), 3)
            + np.sign(x) * u**2
            + np.abs(x * u)
        )

    return loss, reference, column


@case({"N": 6}, {"N": 1})
def and_or_conditions(name):
    """And, Or and Not in conditions on values; equality of two labels as a weight."""
    u = IndexedBase("u", shape=(N,))
    ring = And(x[i] ** 2 + u[i] ** 2 < 2, x[i] > u[i])
    loss = Loss(
        name,
        Sum(
            Piecewise((x[i] * u[i], ring), (x[i] ** 3, (x[i] > 0) | (u[i] > 1)), (u[i] ** 2, ~(u[i] < 0)), (0, True)), i
        ),
        wrt=[x, u],
    )

    def reference(x, u):
        return np.sum(
            np.where(
                (x**2 + u**2 < 2) & (x > u),
                x * u,
                np.where((x > 0) | (u > 1), x**3, np.where(u >= 0, u**2, 0)),
            )
        )

    return loss, reference, column


@case({"N": 5}, {"N": 1})
def negative_binomial_like(name):
    """A shared sub-expression in many places, powers with negative exponents."""
    a = Symbol("a", positive=True)
    z = IndexedBase("z", shape=(N,))
    loss = Loss(
        name,
        Sum((y[i] + 1 / a) * log(1 + a * exp(z[i])) - y[i] * (z[i] + log(a)), i) / N + a**-2,
        wrt=[z, a],
        data=[y],
    )

    def reference(z, a, y):
        return np.mean((y + 1 / a) * np.log(1 + a * np.exp(z)) - y * (z + np.log(a))) + a**-2.0

    return loss, reference, lambda rng, N: (rng.normal(size=N), rng.uniform(0.5, 2), rng.poisson(2, N).astype(float))
