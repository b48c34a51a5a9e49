"""Networks: named quantities in chains, one use of a quantity by several later ones."""

from __future__ import annotations

import autograd.numpy as np
from sympy import Eq, Idx, IndexedBase, Max, Sum, Symbol, exp, log, sqrt, symbols, tanh

from derive import Loss
from oracles.cases import case, labels

N, D, H, C, E = symbols("N D H C E", integer=True, positive=True)
i, k, h, j, e = Idx("i", N), Idx("k", D), Idx("h", H), Idx("j", C), Idx("e", E)
X, y = IndexedBase("X", shape=(N, D)), IndexedBase("y", shape=(N,))


def softmax(s):
    u = np.exp(s - np.max(s, axis=-1, keepdims=True))
    return u / np.sum(u, axis=-1, keepdims=True)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


@case({"N": 4, "D": 3}, {"N": 1, "D": 1})
def residual_chain(name):
    """h <- h + tanh(W_l h), four times, with one 3-tensor of weights."""
    W = IndexedBase("W", shape=(4, D, D))
    g = Idx("g", D)
    hs = [IndexedBase(f"h{n}", shape=(N, D)) for n in range(5)]
    loss = Loss(
        name,
        Sum((hs[4][i, k] - X[i, k]) ** 2, i, k) / N,
        where=[
            Eq(hs[0][i, k], X[i, k] / 2),
            *(Eq(hs[n + 1][i, k], hs[n][i, k] + tanh(Sum(W[n, k, g] * hs[n][i, g], g))) for n in range(4)),
        ],
        wrt=[W],
        data=[X],
    )

    def reference(W, X):
        h = X / 2
        for n in range(4):
            h = h + np.tanh(h @ W[n].T)
        return np.sum((h - X) ** 2) / X.shape[0]

    return loss, reference, lambda rng, N, D: (rng.normal(size=(4, D, D)), rng.normal(size=(N, D)))


@case({"N": 5, "D": 3, "H": 4}, {"N": 2, "D": 1, "H": 1})
def batch_normalisation(name):
    """Means and variances over the batch are named quantities that depend on the weights."""
    W, gamma, beta = IndexedBase("W", shape=(H, D)), IndexedBase("gamma", shape=(H,)), IndexedBase("beta", shape=(H,))
    z, mu, var = IndexedBase("z", shape=(N, H)), IndexedBase("mu", shape=(H,)), IndexedBase("var", shape=(H,))
    o, T = IndexedBase("o", shape=(N, H)), IndexedBase("T", shape=(N, H))
    eps = Symbol("eps", positive=True)
    loss = Loss(
        name,
        Sum((o[i, h] - T[i, h]) ** 2, i, h) / N,
        where=[
            Eq(z[i, h], Sum(W[h, k] * X[i, k], k)),
            Eq(mu[h], Sum(z[i, h], i) / N),
            Eq(var[h], Sum((z[i, h] - mu[h]) ** 2, i) / N),
            Eq(o[i, h], gamma[h] * (z[i, h] - mu[h]) / sqrt(var[h] + eps) + beta[h]),
        ],
        wrt=[W, gamma, beta],
        data=[X, T],
        defaults={eps: 1e-5},
    )

    def reference(W, gamma, beta, X, T, eps=1e-5):
        z = X @ W.T
        o = gamma * (z - np.mean(z, axis=0)) / np.sqrt(np.var(z, axis=0) + eps) + beta
        return np.sum((o - T) ** 2) / X.shape[0]

    def inputs(rng, N, D, H):
        return (
            rng.normal(size=(H, D)),
            rng.normal(size=H),
            rng.normal(size=H),
            rng.normal(size=(N, D)),
            rng.normal(size=(N, H)),
        )

    return loss, reference, inputs


@case({"N": 5, "D": 4}, {"N": 1, "D": 2})
def layer_normalisation(name):
    """Normalisation along the other axis, everything in one nested expression."""
    w, T = IndexedBase("w", shape=(D,)), IndexedBase("T", shape=(N, D))
    g = Idx("g", D)
    mean = Sum(X[i, g], g) / D
    q = Idx("q", D)
    variance = Sum((X[i, q] - mean) ** 2, q) / D
    loss = Loss(
        name,
        Sum((w[k] * (X[i, k] - mean) / sqrt(variance + 1) - T[i, k]) ** 2, i, k),
        wrt=[w, X],
        data=[T],
    )

    def reference(w, X, T):
        m, v = np.mean(X, axis=1, keepdims=True), np.var(X, axis=1, keepdims=True)
        return np.sum((w * (X - m) / np.sqrt(v + 1) - T) ** 2)

    return loss, reference, lambda rng, N, D: (rng.normal(size=D), rng.normal(size=(N, D)), rng.normal(size=(N, D)))


@case({"N": 4, "D": 3, "H": 2}, {"N": 1, "D": 1, "H": 1})
def attention_layer(name):
    """Queries, keys, values, softmax over places, a square root of a size in the scores."""
    n = Idx("n", N)
    Q, K, V = (IndexedBase(s, shape=(D, H)) for s in ("WQ", "WK", "WV"))
    q, ks, v = (IndexedBase(s, shape=(N, H)) for s in "qkv")
    A, T = IndexedBase("A", shape=(N, N)), IndexedBase("T", shape=(N, H))
    loss = Loss(
        name,
        Sum((Sum(A[i, n] * v[n, h], n) - T[i, h]) ** 2, i, h),
        where=[
            Eq(q[i, h], Sum(X[i, k] * Q[k, h], k)),
            Eq(ks[i, h], Sum(X[i, k] * K[k, h], k)),
            Eq(v[i, h], Sum(X[i, k] * V[k, h], k)),
            Eq(
                A[i, n],
                exp(Sum(q[i, h] * ks[n, h], h) / sqrt(H)) / Sum(exp(Sum(q[i, h] * ks[n, h], h) / sqrt(H)), n),
            ),
        ],
        wrt=[Q, K, V],
        data=[X, T],
    )

    def reference(WQ, WK, WV, X, T):
        A = softmax(X @ WQ @ (X @ WK).T / np.sqrt(WQ.shape[1]))
        return np.sum((A @ (X @ WV) - T) ** 2)

    def inputs(rng, N, D, H):
        return (*(rng.normal(size=(D, H)) for _ in range(3)), rng.normal(size=(N, D)), rng.normal(size=(N, H)))

    return loss, reference, inputs


@case({"N": 4, "D": 3, "H": 2}, {"N": 1, "D": 1, "H": 1})
def gated_recurrent_step(name):
    """Gates by sigmoids written out, products of gates, two data matrices."""
    R, Z, U = (IndexedBase(s, shape=(H, D)) for s in "RZU")
    V, P = IndexedBase("V", shape=(H, H)), IndexedBase("P", shape=(N, H))
    g = Idx("g", H)
    r, z, c = (IndexedBase(s, shape=(N, H)) for s in "rzc")
    loss = Loss(
        name,
        Sum((z[i, h] * P[i, h] + (1 - z[i, h]) * c[i, h]) ** 2, i, h),
        where=[
            Eq(r[i, h], 1 / (1 + exp(-Sum(R[h, k] * X[i, k], k)))),
            Eq(z[i, h], 1 / (1 + exp(-Sum(Z[h, k] * X[i, k], k)))),
            Eq(c[i, h], tanh(Sum(U[h, k] * X[i, k], k) + Sum(V[h, g] * r[i, g] * P[i, g], g))),
        ],
        wrt=[R, Z, U, V],
        data=[X, P],
    )

    def reference(R, Z, U, V, X, P):
        r, z = sigmoid(X @ R.T), sigmoid(X @ Z.T)
        c = np.tanh(X @ U.T + (r * P) @ V.T)
        return np.sum((z * P + (1 - z) * c) ** 2)

    def inputs(rng, N, D, H):
        return (
            *(rng.normal(size=(H, D)) for _ in range(3)),
            rng.normal(size=(H, H)),
            rng.normal(size=(N, D)),
            rng.normal(size=(N, H)),
        )

    return loss, reference, inputs


@case({"N": 5, "D": 3, "H": 2, "E": 3, "C": 4}, {"N": 1, "D": 1, "H": 1, "E": 1, "C": 2})
def mixture_of_experts(name):
    """A gate's softmax weighs experts' outputs: contraction over e of a matrix and a 3-tensor."""
    G, W = IndexedBase("G", shape=(E, D)), IndexedBase("W", shape=(E, C, D))
    p, s = IndexedBase("p", shape=(N, E)), IndexedBase("s", shape=(N, C))
    q = Idx("q", E)
    loss = Loss(
        name,
        Sum(log(Sum(exp(s[i, j]), j)) - s[i, y[i]], i) / N,
        where=[
            Eq(p[i, e], exp(Sum(G[e, k] * X[i, k], k)) / Sum(exp(Sum(G[q, k] * X[i, k], k)), q)),
            Eq(s[i, j], Sum(p[i, e] * W[e, j, k] * X[i, k], e, k)),
        ],
        wrt=[G, W],
        data=[X, y],
    )

    def reference(G, W, X, y):
        s = np.einsum("ie,ejk,ik->ij", softmax(X @ G.T), W, X)
        return np.mean(np.log(np.sum(np.exp(s), axis=1)) - s[np.arange(len(y)), y])

    def inputs(rng, N, D, H, E, C):
        return rng.normal(size=(E, D)), rng.normal(size=(E, C, D)), rng.normal(size=(N, D)), labels(rng, C, N)

    return loss, reference, inputs


@case({"N": 5, "D": 3, "H": 2}, {"N": 1, "D": 1, "H": 1})
def variational_autoencoder(name):
    """Noise is data; the divergence from the standard normal is in closed form."""
    A, B, W = IndexedBase("A", shape=(H, D)), IndexedBase("B", shape=(H, D)), IndexedBase("W", shape=(D, H))
    noise = IndexedBase("noise", shape=(N, H))
    mu, ls, z = (IndexedBase(s, shape=(N, H)) for s in ("mu", "ls", "z"))
    beta = Symbol("beta", positive=True)
    loss = Loss(
        name,
        Sum((X[i, k] - Sum(W[k, h] * z[i, h], h)) ** 2, i, k) / (2 * N)
        + beta * Sum(exp(2 * ls[i, h]) + mu[i, h] ** 2 - 1 - 2 * ls[i, h], i, h) / (2 * N),
        where=[
            Eq(mu[i, h], Sum(A[h, k] * X[i, k], k)),
            Eq(ls[i, h], Sum(B[h, k] * X[i, k], k)),
            Eq(z[i, h], mu[i, h] + exp(ls[i, h]) * noise[i, h]),
        ],
        wrt=[A, B, W],
        data=[X, noise],
        defaults={beta: 1.0},
    )

    def reference(A, B, W, X, noise, beta=1.0):
        mu, ls = X @ A.T, X @ B.T
        z = mu + np.exp(ls) * noise
        n = X.shape[0]
        return np.sum((X - z @ W.T) ** 2) / (2 * n) + beta * np.sum(np.exp(2 * ls) + mu**2 - 1 - 2 * ls) / (2 * n)

    def inputs(rng, N, D, H):
        return (
            rng.normal(size=(H, D)) / 2,
            rng.normal(size=(H, D)) / 2,
            rng.normal(size=(D, H)),
            rng.normal(size=(N, D)),
            rng.normal(size=(N, H)),
        )

    return loss, reference, inputs, {"beta": 0.5}


@case({"N": 5, "D": 3, "H": 2}, {"N": 1, "D": 1, "H": 1})
def leaky_and_swish_units(name):
    """Leaky ReLU as Max(a, alpha a), swish as a sigmoid times its argument, softplus."""
    W, alpha = IndexedBase("W", shape=(H, D)), Symbol("alpha", positive=True)
    a = IndexedBase("a", shape=(N, H))
    loss = Loss(
        name,
        Sum(Max(a[i, h], alpha * a[i, h]) + a[i, h] / (1 + exp(-a[i, h])) + log(1 + exp(a[i, h])), i, h) ** 2,
        where=[Eq(a[i, h], Sum(W[h, k] * X[i, k], k))],
        wrt=[W],
        data=[X],
        defaults={alpha: 0.01},
    )

    def reference(W, X, alpha=0.01):
        a = X @ W.T
        return np.sum(np.maximum(a, alpha * a) + a * sigmoid(a) + np.log(1 + np.exp(a))) ** 2

    return loss, reference, lambda rng, N, D, H: (rng.normal(size=(H, D)), rng.normal(size=(N, D)))


@case({"N": 4, "D": 3, "H": 5}, {"N": 1, "D": 1, "H": 1})
def gram_matrix_style(name):
    """Style loss: G = F F^T of a network's features against a given Gram matrix."""
    W, F, G, A = (
        IndexedBase("W", shape=(H, D)),
        IndexedBase("F", shape=(N, H)),
        IndexedBase("G", shape=(H, H)),
        IndexedBase("A", shape=(H, H)),
    )
    g = Idx("g", H)
    loss = Loss(
        name,
        Sum((G[h, g] - A[h, g]) ** 2, h, g) / (4 * N**2 * H**2),
        where=[
            Eq(F[i, h], Max(0, Sum(W[h, k] * X[i, k], k))),
            Eq(G[h, g], Sum(F[i, h] * F[i, g], i)),
        ],
        wrt=[W],
        data=[X, A],
    )

    def reference(W, X, A):
        F = np.maximum(0, X @ W.T)
        return np.sum((F.T @ F - A) ** 2) / (4 * X.shape[0] ** 2 * W.shape[0] ** 2)

    def inputs(rng, N, D, H):
        return rng.normal(size=(H, D)), rng.normal(size=(N, D)), rng.normal(size=(H, H))

    return loss, reference, inputs


@case({"N": 4, "D": 3}, {"N": 1, "D": 1})
def quantity_that_nobody_uses(name):
    """A named quantity without a use, and one used by two later ones."""
    w, a, b, c = (IndexedBase(s, shape=(D,) if s == "w" else (N,)) for s in "wabc")
    loss = Loss(
        name,
        Sum(b[i] * exp(-(a[i] ** 2)), i),
        where=[
            Eq(a[i], Sum(w[k] * X[i, k], k)),
            Eq(c[i], a[i] ** 3),
            Eq(b[i], a[i] ** 2 + 1),
        ],
        wrt=[w],
        data=[X],
    )

    def reference(w, X):
        a = X @ w
        return np.sum((a**2 + 1) * np.exp(-(a**2)))

    return loss, reference, lambda rng, N, D: (rng.normal(size=D), rng.normal(size=(N, D)))
