"""Tables of rows that labels pick: factorisations, embeddings, graphs, preferences."""

from __future__ import annotations

import autograd.numpy as np
from sympy import Eq, Idx, IndexedBase, KroneckerDelta, Max, Piecewise, Sum, Symbol, exp, log, symbols

from derive import Loss
from oracles.cases import case, labels

N, A, B, K, M, D, C = symbols("N A B K M D C", integer=True, positive=True)
n, a, b, k, m, d, c = (Idx(s, t) for s, t in zip("nabkmdc", (N, A, B, K, M, D, C), strict=True))
U, V = IndexedBase("U", shape=(A, K)), IndexedBase("V", shape=(B, K))
u, v, r = IndexedBase("u", shape=(N,)), IndexedBase("v", shape=(N,)), IndexedBase("r", shape=(N,))

SIZES = ({"N": 9, "A": 4, "B": 3, "K": 2}, {"N": 1, "A": 1, "B": 2, "K": 1}, {"N": 5, "A": 2, "B": 5, "K": 1})


@case(*SIZES)
def matrix_factorisation(name):
    loss = Loss(
        name,
        Sum((r[n] - Sum(U[u[n], k] * V[v[n], k], k)) ** 2, n) / N,
        wrt=[U, V],
        data=[u, v, r],
    )

    def reference(U, V, u, v, r):
        return np.mean((r - np.sum(U[u] * V[v], axis=1)) ** 2)

    def inputs(rng, N, A, B, K):
        return (
            rng.normal(size=(A, K)),
            rng.normal(size=(B, K)),
            labels(rng, A, N),
            labels(rng, B, N),
            rng.normal(size=N),
        )

    return loss, reference, inputs


@case(*SIZES)
def matrix_factorisation_with_biases(name):
    """Five parameters of three ranks, one of them a scalar."""
    mu, p, q = Symbol("mu", real=True), IndexedBase("p", shape=(A,)), IndexedBase("q", shape=(B,))
    reg = Symbol("reg", real=True)
    loss = Loss(
        name,
        Sum((r[n] - mu - p[u[n]] - q[v[n]] - Sum(U[u[n], k] * V[v[n], k], k)) ** 2, n)
        + reg * (Sum(U[a, k] ** 2, a, k) + Sum(V[b, k] ** 2, b, k) + Sum(p[u[n]] ** 2, n)),
        wrt=[mu, p, q, U, V],
        data=[u, v, r],
        defaults={reg: 0.0},
    )

    def reference(mu, p, q, U, V, u, v, r, reg=0.0):
        e = r - mu - p[u] - q[v] - np.sum(U[u] * V[v], axis=1)
        return np.sum(e**2) + reg * (np.sum(U**2) + np.sum(V**2) + np.sum(p[u] ** 2))

    def inputs(rng, N, A, B, K):
        return (
            rng.normal(),
            rng.normal(size=A),
            rng.normal(size=B),
            rng.normal(size=(A, K)),
            rng.normal(size=(B, K)),
            labels(rng, A, N),
            labels(rng, B, N),
            rng.normal(size=N),
        )

    return loss, reference, inputs, {"reg": 0.3}


@case({"N": 7, "A": 5, "K": 3}, {"N": 1, "A": 1, "K": 1})
def one_table_gathered_twice(name):
    """Both labels pick from the same table, sometimes the same row."""
    loss = Loss(name, Sum((r[n] - Sum(U[u[n], k] * U[v[n], k], k)) ** 2, n), wrt=[U], data=[u, v, r])

    def inputs(rng, N, A, K):
        return rng.normal(size=(A, K)), labels(rng, A, N), labels(rng, A, N), rng.normal(size=N)

    return loss, lambda U, u, v, r: np.sum((r - np.sum(U[u] * U[v], axis=1)) ** 2), inputs


@case({"N": 5, "A": 6, "K": 3, "M": 4}, {"N": 1, "A": 2, "K": 1, "M": 1})
def word_vectors_with_negative_samples(name):
    """word2vec: centres, contexts and a rank-2 array of sampled words from the contexts' table."""
    E, F = IndexedBase("E", shape=(A, K)), IndexedBase("F", shape=(A, K))
    g = IndexedBase("g", shape=(N, M))
    loss = Loss(
        name,
        Sum(
            log(1 + exp(-Sum(E[u[n], k] * F[v[n], k], k))) + Sum(log(1 + exp(Sum(E[u[n], k] * F[g[n, m], k], k))), m),
            n,
        )
        / N,
        wrt=[E, F],
        data=[u, v, g],
    )

    def reference(E, F, u, v, g):
        right = np.sum(E[u] * F[v], axis=1)
        wrong = np.sum(E[u][:, None] * F[g], axis=2)
        return np.mean(np.log(1 + np.exp(-right)) + np.sum(np.log(1 + np.exp(wrong)), axis=1))

    def inputs(rng, N, A, K, M):
        return (
            rng.normal(size=(A, K)),
            rng.normal(size=(A, K)),
            labels(rng, A, N),
            labels(rng, A, N),
            labels(rng, A, N, M),
        )

    return loss, reference, inputs


@case({"N": 4, "A": 6, "K": 3, "M": 5, "C": 3}, {"N": 1, "A": 1, "K": 1, "M": 1, "C": 2})
def bag_of_embeddings(name):
    """The mean of the rows of a text's words, then a softmax classifier."""
    E, W = IndexedBase("E", shape=(A, K)), IndexedBase("W", shape=(C, K))
    t, y = IndexedBase("t", shape=(N, M)), IndexedBase("y", shape=(N,))
    h, s = IndexedBase("h", shape=(N, K)), IndexedBase("s", shape=(N, C))
    loss = Loss(
        name,
        Sum(log(Sum(exp(s[n, c]), c)) - s[n, y[n]], n) / N,
        where=[Eq(h[n, k], Sum(E[t[n, m], k], m) / M), Eq(s[n, c], Sum(W[c, k] * h[n, k], k))],
        wrt=[E, W],
        data=[t, y],
    )

    def reference(E, W, t, y):
        s = np.mean(E[t], axis=1) @ W.T
        return np.mean(np.log(np.sum(np.exp(s), axis=1)) - s[np.arange(len(y)), y])

    def inputs(rng, N, A, K, M, C):
        return rng.normal(size=(A, K)), rng.normal(size=(C, K)), labels(rng, A, N, M), labels(rng, C, N)

    return loss, reference, inputs


@case({"N": 6, "A": 4}, {"N": 1, "A": 2})
def bradley_terry(name):
    """Who won against whom: differences of two gathers from a vector."""
    s, win, lost = IndexedBase("s", shape=(A,)), IndexedBase("win", shape=(N,)), IndexedBase("lost", shape=(N,))
    loss = Loss(name, Sum(log(1 + exp(s[lost[n]] - s[win[n]])), n), wrt=[s], data=[win, lost])
    return (
        loss,
        lambda s, win, lost: np.sum(np.log(1 + np.exp(s[lost] - s[win]))),
        lambda rng, N, A: (rng.normal(size=A), labels(rng, A, N), labels(rng, A, N)),
    )


@case({"N": 9, "A": 5, "K": 2}, {"N": 1, "A": 1, "K": 1})
def smoothness_over_a_graph(name):
    """The Laplacian's quadratic form over edges (u, v) with weights."""
    f = IndexedBase("f", shape=(A, K))
    loss = Loss(name, Sum(r[n] * (f[u[n], k] - f[v[n], k]) ** 2, n, k) / 2, wrt=[f], data=[u, v, r])

    def inputs(rng, N, A, K):
        return rng.normal(size=(A, K)), labels(rng, A, N), labels(rng, A, N), rng.uniform(size=N)

    return loss, lambda f, u, v, r: np.sum(r[:, None] * (f[u] - f[v]) ** 2) / 2, inputs


@case({"N": 9, "A": 5, "K": 2, "D": 3}, {"N": 1, "A": 2, "K": 1, "D": 1})
def messages_over_a_graph(name):
    """Messages along edges, added at their targets: a scatter in the forward pass, written by a delta."""
    X, W, h = IndexedBase("X", shape=(A, D)), IndexedBase("W", shape=(K, D)), IndexedBase("h", shape=(A, K))
    y = IndexedBase("y", shape=(A, K))
    loss = Loss(
        name,
        Sum((Max(0, h[a, k]) - y[a, k]) ** 2, a, k) / A,
        where=[Eq(h[a, k], Sum(KroneckerDelta(v[n], a) * W[k, d] * X[u[n], d], n, d))],
        wrt=[W, X],
        data=[u, v, y],
    )

    def reference(W, X, u, v, y):
        picked = np.array([[float(t == row) for t in v] for row in range(X.shape[0])])
        h = picked @ (X[u] @ W.T)
        return np.sum((np.maximum(0, h) - y) ** 2) / X.shape[0]

    def inputs(rng, N, A, K, D):
        return (
            rng.normal(size=(K, D)),
            rng.normal(size=(A, D)),
            labels(rng, A, N),
            labels(rng, A, N),
            rng.normal(size=(A, K)),
        )

    return loss, reference, inputs


@case({"N": 9, "C": 3, "D": 2}, {"N": 2, "C": 1, "D": 1})
def class_means_and_scatter(name):
    """Means per class, counts from the labels themselves: Sum of deltas below the fraction."""
    X, y = IndexedBase("X", shape=(N, D)), IndexedBase("y", shape=(N,))
    mu, count = IndexedBase("mu", shape=(C, D)), IndexedBase("count", shape=(C,))
    W = IndexedBase("W", shape=(C, D))
    loss = Loss(
        name,
        Sum((X[n, d] - mu[y[n], d]) ** 2, n, d) + Sum(W[c, d] * mu[c, d], c, d),
        where=[
            Eq(count[c], 1 + Sum(KroneckerDelta(c, y[n]), n)),
            Eq(mu[c, d], Sum(Piecewise((X[n, d], Eq(y[n], c)), (0, True)), n) / count[c]),
        ],
        wrt=[X, W],
        data=[y],
    )

    def reference(X, W, y):
        picked = np.array([[float(t == row) for t in y] for row in range(W.shape[0])])
        mu = picked @ X / (1 + np.sum(picked, axis=1))[:, None]
        return np.sum((X - mu[y]) ** 2) + np.sum(W * mu)

    return loss, reference, lambda rng, N, C, D: (rng.normal(size=(N, D)), rng.normal(size=(C, D)), labels(rng, C, N))


@case({"N": 6, "A": 3, "B": 4, "C": 2}, {"N": 1, "A": 1, "B": 1, "C": 1})
def tensor_of_ratings(name):
    """Three label arrays pick one element of a 3-tensor; repeated places add up."""
    T, w = IndexedBase("T", shape=(A, B, C)), IndexedBase("w", shape=(N,))
    loss = Loss(
        name,
        Sum((T[u[n], v[n], w[n]] - r[n]) ** 2, n) + Sum(T[a, b, w[n]] * r[n], n, a, b),
        wrt=[T],
        data=[u, v, w, r],
    )

    def reference(T, u, v, w, r):
        return np.sum((T[u, v, w] - r) ** 2) + np.sum(np.sum(T, axis=(0, 1))[w] * r)

    def inputs(rng, N, A, B, C):
        return (
            rng.normal(size=(A, B, C)),
            labels(rng, A, N),
            labels(rng, B, N),
            labels(rng, C, N),
            rng.normal(size=N),
        )

    return loss, reference, inputs


@case({"N": 6, "A": 4, "K": 3}, {"N": 1, "A": 1, "K": 1})
def translations_between_entities(name):
    """TransE: a head plus a relation is near a tail; hinge against a corrupted tail."""
    E, R = IndexedBase("E", shape=(A, K)), IndexedBase("R", shape=(2, K))
    h, q, t, f = (IndexedBase(s, shape=(N,)) for s in "hqtf")
    near = Sum((E[h[n], k] + R[q[n], k] - E[t[n], k]) ** 2, k)
    far = Sum((E[h[n], k] + R[q[n], k] - E[f[n], k]) ** 2, k)
    loss = Loss(name, Sum(Max(0, 1 + near - far), n), wrt=[E, R], data=[h, q, t, f])

    def reference(E, R, h, q, t, f):
        base = E[h] + R[q]
        near, far = np.sum((base - E[t]) ** 2, axis=1), np.sum((base - E[f]) ** 2, axis=1)
        return np.sum(np.maximum(0, 1 + near - far))

    def inputs(rng, N, A, K):
        return (
            rng.normal(size=(A, K)),
            rng.normal(size=(2, K)),
            labels(rng, A, N),
            labels(rng, 2, N),
            rng.integers(0, A, N),
            rng.integers(0, A, N),
        )

    return loss, reference, inputs
