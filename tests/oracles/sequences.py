"""Sequences and signals: shifted indices, limits that depend on other indices, windows."""

# ruff: noqa: E741 - indices keep the letters they have on the blackboard

from __future__ import annotations

import autograd.numpy as np
from sympy import Abs, Eq, Idx, IndexedBase, Max, Piecewise, Sum, Symbol, exp, log, sqrt, symbols, tanh

from derive import Loss
from oracles.cases import case, labels

T, U, V, D, C, N = symbols("T U V D C N", integer=True, positive=True)
t, u, v, k = symbols("t u v k", integer=True)
x, y = IndexedBase("x", shape=(T,)), IndexedBase("y", shape=(T,))


def signal(rng, T):
    return rng.normal(size=T), rng.normal(size=T)


@case({"T": 7}, {"T": 2})
def total_variation(name):
    lam = Symbol("lambda_", positive=True)
    loss = Loss(
        name,
        Sum((x[t] - y[t]) ** 2, (t, 0, T - 1)) / 2 + lam * Sum(Abs(x[t + 1] - x[t]), (t, 0, T - 2)),
        wrt=[x],
        data=[y],
        defaults={lam: 0.3},
    )

    def reference(x, y, lambda_=0.3):
        return np.sum((x - y) ** 2) / 2 + lambda_ * np.sum(np.abs(x[1:] - x[:-1]))

    return loss, reference, signal


@case({"T": 7}, {"T": 3})
def curvature(name):
    """Second differences, by explicit limits in the middle of the range."""
    loss = Loss(name, Sum((x[t - 1] - 2 * x[t] + x[t + 1]) ** 2, (t, 1, T - 2)), wrt=[x])
    return loss, lambda x: np.sum((x[:-2] - 2 * x[1:-1] + x[2:]) ** 2), lambda rng, T: (rng.normal(size=T),)


@case({"T": 4, "U": 5}, {"T": 2, "U": 2}, {"T": 2, "U": 6})
def image_total_variation(name):
    """Isotropic total variation of an image, a square root of two squared differences."""
    A = IndexedBase("A", shape=(T, U))
    down, right = A[t + 1, u] - A[t, u], A[t, u + 1] - A[t, u]
    loss = Loss(name, Sum(sqrt(down**2 + right**2 + 1), (t, 0, T - 2), (u, 0, U - 2)), wrt=[A])

    def reference(A):
        return np.sum(np.sqrt((A[1:, :-1] - A[:-1, :-1]) ** 2 + (A[:-1, 1:] - A[:-1, :-1]) ** 2 + 1))

    return loss, reference, lambda rng, T, U: (rng.normal(size=(T, U)),)


@case({"T": 8, "U": 3}, {"T": 3, "U": 3}, {"T": 5, "U": 1})
def convolution(name):
    """One channel: o_t = sum over u of w_u x_{t+u}, for as many t as fit."""
    w, f = IndexedBase("w", shape=(U,)), Idx("f", U)
    o = IndexedBase("o", shape=(T - U + 1,))
    at = Idx("t", T - U + 1)
    z = IndexedBase("z", shape=(T - U + 1,))
    loss = Loss(
        name,
        Sum((o[at] - z[at]) ** 2, at),
        where=[Eq(o[at], Sum(w[f] * x[at + f], f))],
        wrt=[w, x],
        data=[z],
    )

    def reference(w, x, z):
        n = x.shape[0] - w.shape[0] + 1
        return np.sum((np.array([np.sum(w * x[s : s + w.shape[0]]) for s in range(n)]) - z) ** 2)

    return loss, reference, lambda rng, T, U: (rng.normal(size=U), rng.normal(size=T), rng.normal(size=T - U + 1))


@case(
    {"N": 2, "C": 2, "D": 3, "T": 7, "U": 3},
    {"N": 1, "C": 1, "D": 1, "T": 2, "U": 2},
    {"N": 3, "C": 4, "D": 1, "T": 4, "U": 1},
)
def convolution_with_channels(name):
    """A batch, channels in and out, ReLU, and the mean over time; written with explicit limits only."""
    i, c, d = symbols("i c d", integer=True)
    X, K = IndexedBase("X", shape=(N, C, T)), IndexedBase("K", shape=(D, C, U))
    inner = Sum(K[d, c, u] * X[i, c, t + u], (c, 0, C - 1), (u, 0, U - 1))
    loss = Loss(
        name,
        Sum(Max(0, inner) ** 2, (i, 0, N - 1), (d, 0, D - 1), (t, 0, T - U)) / (N * (T - U + 1)),
        wrt=[K],
        data=[X],
    )

    def reference(K, X):
        n = X.shape[2] - K.shape[2] + 1
        total = 0
        for s in range(n):
            total = total + np.sum(np.maximum(0, np.einsum("dcu,icu->id", K, X[:, :, s : s + K.shape[2]])) ** 2)
        return total / (X.shape[0] * n)

    return loss, reference, lambda rng, N, C, D, T, U: (rng.normal(size=(D, C, U)), rng.normal(size=(N, C, T)))


@case({"T": 3, "U": 4}, {"T": 1, "U": 1})
def pooling_with_a_stride(name):
    """Indices with a factor: x[2 t] and x[2 t + 1] of a signal whose length is 2 T."""
    a = IndexedBase("a", shape=(2 * T, U))
    row, col = Idx("t", T), Idx("u", U)
    loss = Loss(name, Sum(Max(a[2 * row, col], a[2 * row + 1, col]) ** 2, row, col), wrt=[a])

    def reference(a):
        return np.sum(np.maximum(a[0::2], a[1::2]) ** 2)

    return loss, reference, lambda rng, T, U: (rng.normal(size=(2 * T, U)),)


@case({"T": 6}, {"T": 1})
def reversed_signal(name):
    """x[T - 1 - t]: how far a signal is from a palindrome, weighted."""
    loss = Loss(name, Sum(y[t] * (x[t] - x[T - 1 - t]) ** 2, (t, 0, T - 1)), wrt=[x], data=[y])
    return loss, lambda x, y: np.sum(y * (x - x[::-1]) ** 2), signal


@case({"T": 6}, {"T": 1})
def running_sums(name):
    """A limit that depends on another index: c_t = sum of x_u for u <= t."""
    at = Idx("t", T)
    c = IndexedBase("c", shape=(T,))
    loss = Loss(
        name,
        Sum((c[at] - y[at]) ** 2, at),
        where=[Eq(c[at], Sum(x[u], (u, 0, at)))],
        wrt=[x],
        data=[y],
    )
    return loss, lambda x, y: np.sum((np.cumsum(x) - y) ** 2), signal


@case({"T": 5}, {"T": 2})
def strictly_upper_triangle(name):
    """A double sum over t < u by its limits."""
    A = IndexedBase("A", shape=(T, T))
    loss = Loss(name, Sum(A[t, u] ** 2 * A[u, t], (u, t + 1, T - 1), (t, 0, T - 2)), wrt=[A])
    return loss, lambda A: np.sum(np.triu(A**2 * A.T, 1)), lambda rng, T: (rng.normal(size=(T, T)),)


@case({"T": 9, "U": 2}, {"T": 4, "U": 3}, {"T": 3, "U": 1})
def autoregression(name):
    """x_t from its U predecessors: a lag l as an index, the first U values given."""
    a, l = IndexedBase("a", shape=(U,)), Idx("l", U)
    b = Symbol("b", real=True)
    loss = Loss(
        name,
        Sum((x[t] - b - Sum(a[l] * x[t - 1 - l], l)) ** 2, (t, U, T - 1)) / (T - U),
        wrt=[a, b],
        data=[x],
    )

    def reference(a, b, x):
        p = a.shape[0]
        total = 0
        for s in range(p, len(x)):
            total = total + (x[s] - b - sum(a[q] * x[s - 1 - q] for q in range(p))) ** 2
        return total / (len(x) - p)

    return loss, reference, lambda rng, T, U: (rng.normal(size=U), rng.normal(), rng.normal(size=T))


@case({"T": 9}, {"T": 2})
def autocorrelation_ratio(name):
    """Durbin-Watson: a ratio of two sums with different ranges."""
    loss = Loss(
        name,
        Sum((x[t] - x[t - 1]) ** 2, (t, 1, T - 1)) / Sum(x[t] ** 2, (t, 0, T - 1)),
        wrt=[x],
    )
    return loss, lambda x: np.sum((x[1:] - x[:-1]) ** 2) / np.sum(x**2), lambda rng, T: (rng.normal(size=T),)


@case({"T": 8, "C": 3}, {"T": 2, "C": 1}, {"T": 5, "C": 2})
def bigram_model(name):
    """Transition scores A[y[t], y[t + 1]]: the label array at shifted places, twice in one gather."""
    j = Idx("j", C)
    A, z = IndexedBase("A", shape=(C, C)), IndexedBase("z", shape=(T,))
    loss = Loss(
        name,
        Sum(log(Sum(exp(A[z[t], j]), j)) - A[z[t], z[t + 1]], (t, 0, T - 2)) / (T - 1),
        wrt=[A],
        data=[z],
    )

    def reference(A, z):
        return np.mean(np.log(np.sum(np.exp(A[z[:-1]]), axis=1)) - A[z[:-1], z[1:]])

    return loss, reference, lambda rng, T, C: (rng.normal(size=(C, C)), labels(rng, C, T))


@case({"T": 8, "C": 3, "D": 2}, {"T": 2, "C": 2, "D": 1})
def conditional_random_field_score(name):
    """Emission and transition scores of a labelled sequence, against each place's alternatives given its neighbour."""
    j, kk = Idx("j", C), Idx("k", D)
    A, W = IndexedBase("A", shape=(C, C)), IndexedBase("W", shape=(C, D))
    X, z = IndexedBase("X", shape=(T, D)), IndexedBase("z", shape=(T,))
    at = Idx("t", T)
    e = IndexedBase("e", shape=(T, C))
    loss = Loss(
        name,
        Sum(log(Sum(exp(e[t, j] + A[z[t - 1], j]), j)) - e[t, z[t]] - A[z[t - 1], z[t]], (t, 1, T - 1)),
        where=[Eq(e[at, j], Sum(W[j, kk] * X[at, kk], kk))],
        wrt=[A, W],
        data=[X, z],
    )

    def reference(A, W, X, z):
        s = (X @ W.T)[1:] + A[z[:-1]]
        return np.sum(np.log(np.sum(np.exp(s), axis=1)) - s[np.arange(len(z) - 1), z[1:]])

    def inputs(rng, T, C, D):
        return rng.normal(size=(C, C)), rng.normal(size=(C, D)), rng.normal(size=(T, D)), labels(rng, C, T)

    return loss, reference, inputs


@case({"C": 3}, {"C": 1})
def conditional_random_field_of_four_places(name):
    """The forward recursion of a chain of fixed length: log-sum-exp of log-sum-exp."""
    A, e = IndexedBase("A", shape=(C, C)), IndexedBase("e", shape=(4, C))
    z = IndexedBase("z", shape=(4,))
    j, l = Idx("j", C), Idx("l", C)
    f = [IndexedBase(f"f{n}", shape=(C,)) for n in range(4)]
    s4 = Idx("s", 4)
    loss = Loss(
        name,
        log(Sum(exp(f[3][j]), j)) - Sum(e[s4, z[s4]], s4) - Sum(A[z[t], z[t + 1]], (t, 0, 2)),
        where=[
            Eq(f[0][j], e[0, j]),
            *(Eq(f[n][j], e[n, j] + log(Sum(exp(f[n - 1][l] + A[l, j]), l))) for n in (1, 2, 3)),
        ],
        wrt=[A, e],
        data=[z],
    )

    def reference(A, e, z):
        alpha = e[0]
        for n in (1, 2, 3):
            alpha = e[n] + np.log(np.sum(np.exp(alpha[:, None] + A), axis=0))
        return np.log(np.sum(np.exp(alpha))) - np.sum(e[np.arange(4), z]) - np.sum(A[z[:-1], z[1:]])

    return loss, reference, lambda rng, C: (rng.normal(size=(C, C)), rng.normal(size=(4, C)), labels(rng, C, 4))


@case({"D": 3, "C": 2, "N": 4}, {"D": 1, "C": 1, "N": 1})
def recurrent_network_of_three_steps(name):
    """The same weights in each step of a chain of named quantities."""
    W, R = IndexedBase("W", shape=(D, C)), IndexedBase("R", shape=(D, D))
    X, y = IndexedBase("X", shape=(N, 3, C)), IndexedBase("y", shape=(N, D))
    i, j, a, b = Idx("i", N), Idx("j", C), Idx("a", D), Idx("b", D)
    h = [IndexedBase(f"h{n}", shape=(N, D)) for n in range(3)]
    loss = Loss(
        name,
        Sum((h[2][i, a] - y[i, a]) ** 2, i, a) / N,
        where=[
            Eq(h[0][i, a], tanh(Sum(W[a, j] * X[i, 0, j], j))),
            Eq(h[1][i, a], tanh(Sum(W[a, j] * X[i, 1, j], j) + Sum(R[a, b] * h[0][i, b], b))),
            Eq(h[2][i, a], tanh(Sum(W[a, j] * X[i, 2, j], j) + Sum(R[a, b] * h[1][i, b], b))),
        ],
        wrt=[W, R],
        data=[X, y],
    )

    def reference(W, R, X, y):
        h = np.zeros((X.shape[0], R.shape[0]))
        for n in range(3):
            h = np.tanh(X[:, n] @ W.T + h @ R.T)
        return np.sum((h - y) ** 2) / X.shape[0]

    def inputs(rng, D, C, N):
        return rng.normal(size=(D, C)), rng.normal(size=(D, D)), rng.normal(size=(N, 3, C)), rng.normal(size=(N, D))

    return loss, reference, inputs


@case({"T": 5, "D": 3}, {"T": 1, "D": 1}, {"T": 3, "D": 1})
def causal_attention(name):
    """Places see themselves and what came before: the mask n <= m by the limits of the sums."""
    m, n, a, b, c = Idx("m", T), Idx("n", T), Idx("a", D), Idx("b", D), Idx("c", D)
    X, Q, K, V = (IndexedBase(s, shape=(T, D) if s in "XY" else (D, D)) for s in "XQKV")
    S, P, O = IndexedBase("S", shape=(T, T)), IndexedBase("P", shape=(T, T)), IndexedBase("O", shape=(T, D))
    loss = Loss(
        name,
        Sum((O[m, c] - X[m, c]) ** 2, m, c),
        where=[
            Eq(S[m, n], Sum(X[m, a] * Q[a, b] * K[c, b] * X[n, c], a, b, c) / sqrt(D)),
            Eq(P[m, n], exp(S[m, n]) / Sum(exp(S[m, u]), (u, 0, m))),
            Eq(O[m, c], Sum(P[m, u] * X[u, a] * V[a, c], (u, 0, m), (a, 0, D - 1))),
        ],
        wrt=[Q, K, V],
        data=[X],
    )

    def reference(Q, K, V, X):
        S = X @ Q @ K.T @ X.T / np.sqrt(X.shape[1])
        E = np.exp(S) * np.tril(np.ones(S.shape))
        P = E / np.sum(E, axis=1, keepdims=True)
        return np.sum((P @ X @ V - X) ** 2)

    def inputs(rng, T, D):
        return (*(rng.normal(size=(D, D)) for _ in range(3)), rng.normal(size=(T, D)))

    return loss, reference, inputs


@case({"T": 5, "D": 3}, {"T": 1, "D": 2})
def causal_mask_by_piecewise(name):
    """The same mask as a condition under the sum, inside the logarithm."""
    m, n, a = Idx("m", T), Idx("n", T), Idx("a", D)
    X = IndexedBase("X", shape=(T, D))
    S, L = IndexedBase("S", shape=(T, T)), IndexedBase("L", shape=(T,))
    loss = Loss(
        name,
        Sum(L[m] - S[m, m], m),
        where=[
            Eq(S[m, n], Sum(X[m, a] * X[n, a], a)),
            Eq(L[m], log(Sum(Piecewise((exp(S[m, n]), n <= m), (0, True)), n))),
        ],
        wrt=[X],
    )

    def reference(X):
        S = X @ X.T
        E = np.exp(S) * np.tril(np.ones(S.shape))
        return np.sum(np.log(np.sum(E, axis=1)) - np.diag(S))

    return loss, reference, lambda rng, T, D: (rng.normal(size=(T, D)),)
