"""Classification: labels gather scores."""

# ruff: noqa: E741 - indices keep the letters they have on the blackboard

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
    Sum,
    Symbol,
    exp,
    log,
    sqrt,
    symbols,
    tanh,
)

from derive import Loss
from oracles.cases import case, labels

N, D, C, M = symbols("N D C M", integer=True, positive=True)
i, j, k, m, l = Idx("i", N), Idx("j", C), Idx("k", D), Idx("m", M), Idx("l", C)
X, W, y = IndexedBase("X", shape=(N, D)), IndexedBase("W", shape=(C, D)), IndexedBase("y", shape=(N,))
b = IndexedBase("b", shape=(C,))
s, L, P = IndexedBase("s", shape=(N, C)), IndexedBase("L", shape=(N,)), IndexedBase("P", shape=(N, C))
w, z = IndexedBase("w", shape=(D,)), IndexedBase("z", shape=(N,))
scores = Eq(s[i, j], Sum(W[j, k] * X[i, k], k))

SIZES = (
    {"N": 8, "D": 3, "C": 4},
    {"N": 1, "D": 2, "C": 3},
    {"N": 5, "D": 1, "C": 2},
    {"N": 4, "D": 2, "C": 1},
)


def batch(rng, N, D, C):
    return rng.normal(size=(C, D)), rng.normal(size=(N, D)), labels(rng, C, N)


def softmax(s):
    e = np.exp(s - np.max(s, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


@case(*SIZES)
def svm_with_kronecker_delta(name):
    """j != y_i by way of 1 - delta."""
    loss = Loss(
        name,
        Sum((1 - KroneckerDelta(j, y[i])) * Max(0, s[i, j] - s[i, y[i]] + 1), i, j) / N,
        where=[scores],
        wrt=[W],
        data=[X, y],
    )

    def reference(W, X, y):
        s = X @ W.T
        right = s[np.arange(len(y)), y]
        return np.sum(np.maximum(0, s - right[:, None] + 1) * (np.arange(s.shape[1]) != y[:, None])) / len(y)

    return loss, reference, batch


@case(*SIZES)
def flat_svm_written_as_one_expression(name):
    """As on the lecture's slide, no named quantities; the margin is a hyperparameter without default."""
    d = Symbol("Delta")
    difference = Sum(W[j, k] * X[i, k], k) - Sum(W[y[i], k] * X[i, k], k)
    loss = Loss(
        name,
        Sum(Piecewise((Max(0, difference + d), Ne(y[i], j)), (0, True)), j, i) / N,
        wrt=[W],
        data=[X, y],
    )

    def reference(W, X, y, Delta):
        s = X @ W.T
        right = s[np.arange(len(y)), y]
        return np.sum(np.maximum(0, s - right[:, None] + Delta) * (np.arange(s.shape[1]) != y[:, None])) / len(y)

    return loss, reference, batch, {"Delta": 0.5}


@case(*SIZES)
def explicit_softmax_cross_entropy(name):
    """The probabilities are a named quantity, exp over a sum of exp, and then the log of one of them."""
    loss = Loss(
        name,
        -Sum(log(P[i, y[i]]), i) / N,
        where=[scores, Eq(P[i, j], exp(s[i, j]) / Sum(exp(s[i, l]), l))],
        wrt=[W],
        data=[X, y],
    )
    return loss, lambda W, X, y: -np.mean(np.log(softmax(X @ W.T)[np.arange(len(y)), y])), batch


@case(*SIZES)
def focal_loss(name):
    gamma = Symbol("gamma", positive=True)
    loss = Loss(
        name,
        -Sum((1 - P[i, y[i]]) ** gamma * log(P[i, y[i]]), i) / N,
        where=[scores, Eq(P[i, j], exp(s[i, j]) / Sum(exp(s[i, j]), j))],
        wrt=[W],
        data=[X, y],
        defaults={gamma: 2.0},
    )

    def reference(W, X, y, gamma=2.0):
        p = softmax(X @ W.T)[np.arange(len(y)), y]
        return -np.mean((1 - p) ** gamma * np.log(p))

    return loss, reference, batch


@case(*SIZES)
def label_smoothing(name):
    eps = Symbol("eps", positive=True)
    target = (1 - eps) * KroneckerDelta(j, y[i]) + eps / C
    loss = Loss(
        name,
        Sum(-target * (s[i, j] - log(Sum(exp(s[i, l]), l))), i, j) / N,
        where=[scores],
        wrt=[W],
        data=[X, y],
        defaults={eps: 0.1},
    )

    def reference(W, X, y, eps=0.1):
        s = X @ W.T
        q = eps / s.shape[1] + (1 - eps) * (np.arange(s.shape[1]) == y[:, None])
        return -np.sum(q * (s - np.log(np.sum(np.exp(s), axis=1, keepdims=True)))) / len(y)

    return loss, reference, batch, {"eps": 0.2}


@case(*SIZES)
def class_weighted_with_bias_and_temperature(name):
    """The label picks a weight and a bias too; the temperature is a scalar parameter."""
    c, T = IndexedBase("c", shape=(C,)), Symbol("T", positive=True)
    loss = Loss(
        name,
        Sum(c[y[i]] * L[i], i) / Sum(c[y[i]], i),
        where=[
            Eq(s[i, j], (Sum(W[j, k] * X[i, k], k) + b[j]) / T),
            Eq(L[i], log(Sum(exp(s[i, j]), j)) - s[i, y[i]]),
        ],
        wrt=[W, b, T],
        data=[X, y, c],
    )

    def reference(W, b, T, X, y, c):
        s = (X @ W.T + b) / T
        losses = np.log(np.sum(np.exp(s), axis=1)) - s[np.arange(len(y)), y]
        return np.sum(c[y] * losses) / np.sum(c[y])

    def inputs(rng, N, D, C):
        W, X, y = batch(rng, N, D, C)
        return W, rng.normal(size=C), 1.7, X, y, rng.uniform(0.5, 2, C)

    return loss, reference, inputs


@case(*SIZES)
def distillation(name):
    """Kullback-Leibler divergence between two softmaxes, the teacher's scores being data."""
    t, q = IndexedBase("t", shape=(N, C)), IndexedBase("q", shape=(N, C))
    tau = Symbol("tau", positive=True)
    loss = Loss(
        name,
        tau**2 * Sum(q[i, j] * (log(q[i, j]) - log(P[i, j])), i, j) / N,
        where=[
            scores,
            Eq(q[i, j], exp(t[i, j] / tau) / Sum(exp(t[i, l] / tau), l)),
            Eq(P[i, j], exp(s[i, j] / tau) / Sum(exp(s[i, l] / tau), l)),
        ],
        wrt=[W],
        data=[X, t],
        defaults={tau: 2.0},
    )

    def reference(W, X, t, tau=2.0):
        q, P = softmax(t / tau), softmax(X @ W.T / tau)
        return tau**2 * np.sum(q * (np.log(q) - np.log(P))) / X.shape[0]

    def inputs(rng, N, D, C):
        return rng.normal(size=(C, D)), rng.normal(size=(N, D)), rng.normal(size=(N, C))

    return loss, reference, inputs


@case(*SIZES)
def entropy_of_predictions(name):
    loss = Loss(
        name,
        -Sum(P[i, j] * log(P[i, j]), i, j) / N,
        where=[scores, Eq(P[i, j], exp(s[i, j]) / Sum(exp(s[i, l]), l))],
        wrt=[W],
        data=[X],
    )

    def reference(W, X):
        P = softmax(X @ W.T)
        return -np.sum(P * np.log(P)) / X.shape[0]

    return loss, reference, lambda rng, N, D, C: (rng.normal(size=(C, D)), rng.normal(size=(N, D)))


@case({"N": 6, "D": 3}, {"N": 1, "D": 1})
def binary_cross_entropy_by_hand(name):
    """The sigmoid written out, targets between 0 and 1."""
    q, t = IndexedBase("q", shape=(N,)), IndexedBase("t", shape=(N,))
    loss = Loss(
        name,
        -Sum(t[i] * log(q[i]) + (1 - t[i]) * log(1 - q[i]), i) / N,
        where=[Eq(q[i], 1 / (1 + exp(-Sum(w[k] * X[i, k], k))))],
        wrt=[w],
        data=[X, t],
    )

    def reference(w, X, t):
        q = 1 / (1 + np.exp(-X @ w))
        return -np.mean(t * np.log(q) + (1 - t) * np.log(1 - q))

    return loss, reference, lambda rng, N, D: (rng.normal(size=D), rng.normal(size=(N, D)), rng.uniform(size=N))


@case({"N": 6, "D": 3}, {"N": 1, "D": 1})
def savage_and_exponential_losses(name):
    loss = Loss(
        name,
        Sum(exp(-y[i] * z[i]) + 1 / (1 + exp(2 * y[i] * z[i])) ** 2 + (1 - tanh(y[i] * z[i])), i) / N,
        where=[Eq(z[i], Sum(w[k] * X[i, k], k))],
        wrt=[w],
        data=[X, y],
    )

    def reference(w, X, y):
        m = y * (X @ w)
        return np.mean(np.exp(-m) + 1 / (1 + np.exp(2 * m)) ** 2 + 1 - np.tanh(m))

    def inputs(rng, N, D):
        return rng.normal(size=D), rng.normal(size=(N, D)), rng.choice([-1.0, 1.0], N)

    return loss, reference, inputs


@case({"N": 6, "D": 3}, {"N": 1, "D": 1})
def piecewise_on_the_sign_of_a_target(name):
    """Conditions on data values: the two classes have different costs."""
    loss = Loss(
        name,
        Sum(Piecewise((5 * Max(0, 1 - z[i]), y[i] > 0), (Max(0, 1 + z[i]), y[i] < 0), (z[i] ** 2, True)), i),
        where=[Eq(z[i], Sum(w[k] * X[i, k], k))],
        wrt=[w],
        data=[X, y],
    )

    def reference(w, X, y):
        z = X @ w
        return np.sum(np.where(y > 0, 5 * np.maximum(0, 1 - z), np.where(y < 0, np.maximum(0, 1 + z), z**2)))

    def inputs(rng, N, D):
        return rng.normal(size=D), rng.normal(size=(N, D)), rng.choice([-1.0, 0.0, 1.0], N)

    return loss, reference, inputs


@case({"N": 7, "D": 3, "C": 4}, {"N": 1, "D": 1, "C": 1}, {"N": 3, "D": 2, "C": 2})
def ordinal_regression(name):
    """All thresholds: labels from 0 to C, one threshold between neighbours, and y compared with j by <."""
    t = IndexedBase("t", shape=(C,))
    c = IndexedBase("c", shape=(C + 1,))
    z1 = Piecewise((-1, j < y[i]), (1, True))
    loss = Loss(
        name,
        Sum(c[y[i]] * log(1 + exp(-z1 * (t[j] - Sum(w[k] * X[i, k], k)))), i, j) / N,
        wrt=[w, t],
        data=[X, y, c],
    )

    def reference(w, t, X, y, c):
        side = np.where(np.arange(t.shape[0]) < y[:, None], -1, 1)
        return np.sum(c[y][:, None] * np.log(1 + np.exp(-side * (t - (X @ w)[:, None])))) / len(y)

    def inputs(rng, N, D, C):
        y = labels(rng, C + 1, N)
        return rng.normal(size=D), np.sort(rng.normal(size=C)), rng.normal(size=(N, D)), y, rng.uniform(1, 2, C + 1)

    return loss, reference, inputs


@case({"N": 7, "D": 3, "C": 4, "M": 2}, {"N": 1, "D": 1, "C": 2, "M": 3})
def several_right_labels(name):
    """Labels of rank 2: M right classes for each example, repeats among them counted."""
    Y = IndexedBase("Y", shape=(N, M))
    loss = Loss(
        name,
        Sum(log(Sum(exp(s[i, j]), j)) - Sum(s[i, Y[i, m]], m) / M, i),
        where=[scores],
        wrt=[W],
        data=[X, Y],
    )

    def reference(W, X, Y):
        s = X @ W.T
        picked = s[np.arange(s.shape[0])[:, None], Y]
        return np.sum(np.log(np.sum(np.exp(s), axis=1)) - np.mean(picked, axis=1))

    def inputs(rng, N, D, C, M):
        return rng.normal(size=(C, D)), rng.normal(size=(N, D)), labels(rng, C, N, M)

    return loss, reference, inputs


@case({"N": 7, "D": 3, "C": 4, "M": 6}, {"N": 1, "D": 1, "C": 2, "M": 1})
def label_of_a_label(name):
    """y picks a fine class, g the coarse class of each fine one: W[g[y[i]], k]."""
    g = IndexedBase("g", shape=(M,))
    loss = Loss(
        name,
        Sum((Sum(W[g[y[i]], k] * X[i, k], k) - b[g[y[i]]]) ** 2, i),
        wrt=[W, b],
        data=[X, y, g],
    )

    def reference(W, b, X, y, g):
        return np.sum((np.sum(W[g[y]] * X, axis=1) - b[g[y]]) ** 2)

    def inputs(rng, N, D, C, M):
        return (
            rng.normal(size=(C, D)),
            rng.normal(size=C),
            rng.normal(size=(N, D)),
            labels(rng, M, N),
            labels(rng, C, M),
        )

    return loss, reference, inputs


@case(*SIZES)
def arcface_like_cosine_margin(name):
    """Rows and examples are normalised; the right class is handicapped by a margin."""
    a, margin = symbols("a m", real=True)
    u, v = IndexedBase("u", shape=(C,)), IndexedBase("v", shape=(N,))
    t = IndexedBase("t", shape=(N, C))
    loss = Loss(
        name,
        Sum(log(Sum(exp(t[i, j]), j)) - t[i, y[i]], i) / N,
        where=[
            Eq(u[j], sqrt(Sum(W[j, k] ** 2, k))),
            Eq(v[i], sqrt(Sum(X[i, k] ** 2, k))),
            Eq(s[i, j], Sum(W[j, k] * X[i, k], k) / (u[j] * v[i])),
            Eq(t[i, j], a * Piecewise((s[i, j] - margin, Eq(j, y[i])), (s[i, j], True))),
        ],
        wrt=[W],
        data=[X, y],
        defaults={a: 8.0, margin: 0.25},
    )

    def reference(W, X, y, a=8.0, m=0.25):
        s = (X @ W.T) / np.sqrt(np.sum(W**2, axis=1)) / np.sqrt(np.sum(X**2, axis=1))[:, None]
        t = a * (s - m * (np.arange(s.shape[1]) == y[:, None]))
        return np.mean(np.log(np.sum(np.exp(t), axis=1)) - t[np.arange(len(y)), y])

    return loss, reference, batch


@case(*SIZES)
def one_against_all(name):
    """Targets of +1 and -1 made of the label by 2 delta - 1, inside max."""
    loss = Loss(
        name,
        Sum(Max(0, 1 - (2 * KroneckerDelta(j, y[i]) - 1) * s[i, j]), i, j) / N,
        where=[scores],
        wrt=[W],
        data=[X, y],
    )

    def reference(W, X, y):
        s = X @ W.T
        sign = 2 * (np.arange(s.shape[1]) == y[:, None]) - 1
        return np.sum(np.maximum(0, 1 - sign * s)) / len(y)

    return loss, reference, batch


@case(*SIZES)
def cost_sensitive_hinge(name):
    """A matrix of costs indexed by the label and the class: A[y[i], j]."""
    A = IndexedBase("A", shape=(C, C))
    loss = Loss(
        name,
        Sum(Piecewise((Max(0, s[i, j] - s[i, y[i]] + A[y[i], j]), Ne(j, y[i])), (0, True)), i, j) / N,
        where=[scores],
        wrt=[W],
        data=[X, y, A],
    )

    def reference(W, X, y, A):
        s = X @ W.T
        n = np.arange(len(y))
        m = np.maximum(0, s - s[n, y][:, None] + A[y])
        return np.sum(m * (np.arange(s.shape[1]) != y[:, None])) / len(y)

    def inputs(rng, N, D, C):
        return (*batch(rng, N, D, C), rng.uniform(0.5, 2, (C, C)))

    return loss, reference, inputs


@case(*SIZES)
def center_loss(name):
    """Squared distance to the centre of the own class, and a repulsion of the centres from each other."""
    c = IndexedBase("c", shape=(C, D))
    loss = Loss(
        name,
        Sum((X[i, k] - c[y[i], k]) ** 2, i, k) / (2 * N)
        + Sum(Piecewise((exp(-Sum((c[j, k] - c[l, k]) ** 2, k)), j < l), (0, True)), j, l),
        wrt=[c],
        data=[X, y],
    )

    def reference(c, X, y):
        d = np.sum((c[:, None] - c[None]) ** 2, axis=2)
        n = np.arange(c.shape[0])
        return np.sum((X - c[y]) ** 2) / (2 * len(y)) + np.sum(np.exp(-d) * (n[:, None] < n[None, :]))

    return loss, reference, batch
