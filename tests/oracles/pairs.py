"""Two indices over the same size: distances, kernels, rankings, contrasts."""

from __future__ import annotations

import autograd.numpy as np
from sympy import And, Eq, Idx, IndexedBase, Max, Ne, Piecewise, Sum, Symbol, exp, log, sqrt, symbols

from derive import Loss
from oracles.cases import case, labels

N, D, C, H, M = symbols("N D C H M", integer=True, positive=True)
i, n, m, k, h, j = Idx("i", N), Idx("n", N), Idx("m", N), Idx("k", D), Idx("h", H), Idx("j", C)
X, y, w = IndexedBase("X", shape=(N, D)), IndexedBase("y", shape=(N,)), IndexedBase("w", shape=(D,))
Z, W = IndexedBase("Z", shape=(N, H)), IndexedBase("W", shape=(H, D))
S, d, s = IndexedBase("S", shape=(N, N)), IndexedBase("d", shape=(N, N)), IndexedBase("s", shape=(N,))
embed = Eq(Z[i, h], Sum(W[h, k] * X[i, k], k))
distances = Eq(d[i, n], Sum((Z[i, h] - Z[n, h]) ** 2, h))

SIZES = ({"N": 6, "D": 3, "H": 2}, {"N": 2, "D": 1, "H": 3}, {"N": 1, "D": 2, "H": 1})


def squared(Z):
    return np.sum((Z[:, None] - Z[None]) ** 2, axis=2)


@case(*SIZES)
def contrastive_with_labels(name):
    """Pairs of one class attract, pairs of two classes repel up to a margin; Eq(y[i], y[n])."""
    loss = Loss(
        name,
        Sum(Piecewise((d[i, n], Eq(y[i], y[n])), (Max(0, 1 - d[i, n]), True)), i, n) / N**2,
        where=[embed, distances],
        wrt=[W],
        data=[X, y],
    )

    def reference(W, X, y):
        d = squared(X @ W.T)
        return np.mean(np.where(y[:, None] == y, d, np.maximum(0, 1 - d)))

    def inputs(rng, N, D, H):
        return rng.normal(size=(H, D)) / 2, rng.normal(size=(N, D)), labels(rng, 3, N)

    return loss, reference, inputs


@case(*SIZES)
def repulsion_of_all_pairs(name):
    loss = Loss(
        name,
        Sum(Piecewise((exp(-Sum((X[i, k] - X[n, k]) ** 2, k)), Ne(i, n)), (0, True)), i, n) / (N * N),
        wrt=[X],
    )

    def reference(X):
        return np.sum(np.exp(-squared(X)) * (1 - np.eye(X.shape[0]))) / X.shape[0] ** 2

    return loss, reference, lambda rng, N, D, H: (rng.normal(size=(N, D)),)


@case({"N": 6, "D": 3, "H": 2}, {"N": 2, "D": 1, "H": 3})
def coulomb_energy(name):
    """The branch left out is infinite: 1/0 on the diagonal must count for nothing."""
    loss = Loss(
        name,
        Sum(Piecewise((1 / sqrt(Sum((X[i, k] - X[n, k]) ** 2, k)), i < n), (0, True)), i, n) + Sum(X[i, k] ** 2, i, k),
        wrt=[X],
    )

    def reference(X):
        total = np.sum(X**2)
        for a in range(X.shape[0]):
            for b in range(a + 1, X.shape[0]):
                total = total + 1 / np.sqrt(np.sum((X[a] - X[b]) ** 2))
        return total

    return loss, reference, lambda rng, N, D, H: (rng.normal(size=(N, D)),)


@case(*SIZES)
def gaussian_kernel_regression(name):
    """Kernel ridge: a^T K a, K a, and the width of the kernel as a scalar parameter."""
    a, g = IndexedBase("a", shape=(N,)), Symbol("gamma", positive=True)
    lam = Symbol("lam", positive=True)
    K = IndexedBase("K", shape=(N, N))
    loss = Loss(
        name,
        Sum((Sum(K[i, n] * a[n], n) - y[i]) ** 2, i) + lam * Sum(a[i] * K[i, n] * a[n], i, n),
        where=[Eq(K[i, n], exp(-g * Sum((X[i, k] - X[n, k]) ** 2, k)))],
        wrt=[a, g],
        data=[X, y],
        defaults={lam: 0.1},
    )

    def reference(a, gamma, X, y, lam=0.1):
        K = np.exp(-gamma * squared(X))
        return np.sum((K @ a - y) ** 2) + lam * a @ K @ a

    def inputs(rng, N, D, H):
        return rng.normal(size=N), 0.7, rng.normal(size=(N, D)), rng.normal(size=N)

    return loss, reference, inputs


@case({"N": 6, "D": 3, "H": 2}, {"N": 2, "D": 1, "H": 3})
def contrastive_info_nce(name):
    """Log-sum-exp over all n other than i; two views of each example; a temperature."""
    Y, tau = IndexedBase("Y", shape=(N, D)), Symbol("tau", positive=True)
    L = IndexedBase("L", shape=(N,))
    others = Sum(Piecewise((exp(S[i, n] / tau), Ne(i, n)), (0, True)), n)
    loss = Loss(
        name,
        Sum(L[i] - S[i, i] / tau, i) / N,
        where=[Eq(S[i, n], Sum(W[h, k] * X[i, k] * Y[n, k], h, k)), Eq(L[i], log(others))],
        wrt=[W],
        data=[X, Y],
        defaults={tau: 0.5},
    )

    def reference(W, X, Y, tau=0.5):
        S = np.einsum("hk,ik,nk->in", W, X, Y) / tau
        E = np.exp(S) * (1 - np.eye(S.shape[0]))
        return np.mean(np.log(np.sum(E, axis=1)) - np.diag(S))

    def inputs(rng, N, D, H):
        return rng.normal(size=(H, D)) / 3, rng.normal(size=(N, D)), rng.normal(size=(N, D))

    return loss, reference, inputs


@case({"N": 7, "D": 3, "H": 2}, {"N": 4, "D": 1, "H": 1})
def supervised_contrastive(name):
    """Conditions on indices and on labels together, below and above the fraction."""
    same = And(Eq(y[i], y[n]), Ne(i, n))
    count, L = IndexedBase("count", shape=(N,)), IndexedBase("L", shape=(N,))
    loss = Loss(
        name,
        -Sum(Piecewise(((S[i, n] - L[i]) / (1 + count[i]), same), (0, True)), i, n),
        where=[
            embed,
            Eq(S[i, n], Sum(Z[i, h] * Z[n, h], h)),
            Eq(L[i], log(Sum(Piecewise((exp(S[i, m]), Ne(m, i)), (0, True)), m))),
            Eq(count[i], Sum(Piecewise((1, same), (0, True)), n)),
        ],
        wrt=[W],
        data=[X, y],
    )

    def reference(W, X, y):
        Z = X @ W.T
        S = Z @ Z.T
        off = 1 - np.eye(len(y))
        same = (y[:, None] == y) * off
        lse = np.log(np.sum(np.exp(S) * off, axis=1))
        return -np.sum(np.sum((S - lse[:, None]) * same, axis=1) / (1 + np.sum(same, axis=1)))

    def inputs(rng, N, D, H):
        return rng.normal(size=(H, D)) / 2, rng.normal(size=(N, D)), labels(rng, 3, N)

    return loss, reference, inputs


@case({"N": 6, "D": 3, "M": 4, "H": 2}, {"N": 3, "D": 2, "M": 1, "H": 1})
def triplet(name):
    """Three label arrays gather from one table of named quantities."""
    t = Idx("t", M)
    a, p, q = (IndexedBase(c, shape=(M,)) for c in "apq")
    alpha = Symbol("alpha", positive=True)
    loss = Loss(
        name,
        Sum(
            Max(
                0,
                Sum((Z[a[t], h] - Z[p[t], h]) ** 2, h) - Sum((Z[a[t], h] - Z[q[t], h]) ** 2, h) + alpha,
            ),
            t,
        )
        / M,
        where=[embed],
        wrt=[W],
        data=[X, a, p, q],
        defaults={alpha: 0.2},
    )

    def reference(W, X, a, p, q, alpha=0.2):
        Z = X @ W.T
        near, far = np.sum((Z[a] - Z[p]) ** 2, axis=1), np.sum((Z[a] - Z[q]) ** 2, axis=1)
        return np.mean(np.maximum(0, near - far + alpha))

    def inputs(rng, N, D, M, H):
        return (
            rng.normal(size=(H, D)),
            rng.normal(size=(N, D)),
            labels(rng, N, M),
            rng.integers(0, N, M),
            rng.integers(0, N, M),
        )

    return loss, reference, inputs


@case(*SIZES)
def pairwise_ranking(name):
    """Relevances are values and are compared: each pair with y_i > y_n counts."""
    loss = Loss(
        name,
        Sum(Piecewise((log(1 + exp(s[n] - s[i])), y[i] > y[n]), (0, True)), i, n),
        where=[Eq(s[i], Sum(w[k] * X[i, k], k))],
        wrt=[w],
        data=[X, y],
    )

    def reference(w, X, y):
        s = X @ w
        return np.sum(np.log(1 + np.exp(s - s[:, None])) * (y[:, None] > y))

    def inputs(rng, N, D, H):
        return rng.normal(size=D), rng.normal(size=(N, D)), rng.normal(size=N)

    return loss, reference, inputs


@case(*SIZES)
def cox_partial_likelihood(name):
    """The set at risk: a log-sum-exp over those n whose time is not below that of i."""
    T, e = IndexedBase("T", shape=(N,)), IndexedBase("e", shape=(N,))
    R = IndexedBase("R", shape=(N,))
    loss = Loss(
        name,
        -Sum(e[i] * (s[i] - R[i]), i),
        where=[
            Eq(s[i], Sum(w[k] * X[i, k], k)),
            Eq(R[i], log(Sum(Piecewise((exp(s[n]), T[n] >= T[i]), (0, True)), n))),
        ],
        wrt=[w],
        data=[X, T, e],
    )

    def reference(w, X, T, e):
        s = X @ w
        return -np.sum(e * (s - np.log(np.sum(np.exp(s)[None] * (T[None] >= T[:, None]), axis=1))))

    def inputs(rng, N, D, H):
        return (
            rng.normal(size=D),
            rng.normal(size=(N, D)),
            rng.uniform(size=N),
            (rng.uniform(size=N) < 0.7).astype(float),
        )

    return loss, reference, inputs


@case(*SIZES)
def cosine_similarities(name):
    loss = Loss(
        name,
        Sum(
            (Sum(Z[i, h] * Z[n, h], h) / sqrt(Sum(Z[i, h] ** 2, h) * Sum(Z[n, h] ** 2, h)) - S[i, n]) ** 2,
            i,
            n,
        ),
        where=[embed],
        wrt=[W],
        data=[X, S],
    )

    def reference(W, X, S):
        Z = X @ W.T
        u = Z / np.sqrt(np.sum(Z**2, axis=1, keepdims=True))
        return np.sum((u @ u.T - S) ** 2)

    def inputs(rng, N, D, H):
        return rng.normal(size=(H, D)), rng.normal(size=(N, D)), rng.normal(size=(N, N))

    return loss, reference, inputs


@case(*SIZES)
def stress_of_a_map(name):
    """Multidimensional scaling: the root has no derivative on the diagonal, which the condition leaves out."""
    loss = Loss(
        name,
        Sum(Piecewise(((S[i, n] - sqrt(Sum((X[i, k] - X[n, k]) ** 2, k))) ** 2, i > n), (0, True)), i, n),
        wrt=[X],
        data=[S],
    )

    def reference(X, S):
        total = 0.0 * np.sum(X)
        for a in range(X.shape[0]):
            for b in range(a):
                total = total + (S[a, b] - np.sqrt(np.sum((X[a] - X[b]) ** 2))) ** 2
        return total

    return loss, reference, lambda rng, N, D, H: (rng.normal(size=(N, D)), rng.uniform(1, 2, (N, N)))


@case(*SIZES[:2])
def neighbour_embedding(name):
    """t-SNE: affinities normalised over all pairs at once, a double sum below the fraction."""
    P, q = IndexedBase("P", shape=(N, N)), IndexedBase("q", shape=(N, N))
    total = Symbol("total", real=True)
    loss = Loss(
        name,
        Sum(P[i, n] * (log(total) - log(q[i, n])), i, n),
        where=[
            Eq(q[i, n], 1 / (1 + Sum((X[i, k] - X[n, k]) ** 2, k))),
            Eq(total, Sum(q[i, n], i, n) - N),
        ],
        wrt=[X],
        data=[P],
    )

    def reference(X, P):
        q = 1 / (1 + squared(X))
        return np.sum(P * (np.log(np.sum(q) - X.shape[0]) - np.log(q)))

    return loss, reference, lambda rng, N, D, H: (rng.normal(size=(N, D)), rng.uniform(size=(N, N)))


@case(*SIZES)
def three_points_at_a_time(name):
    """Three indices over one size, in one product: the sum over triples of the areas' dot products."""
    loss = Loss(
        name,
        Sum(X[i, k] * X[n, k] * X[m, k], i, n, m, k) + Sum(Sum(X[i, k] * X[n, k], k) ** 2, i, n),
        wrt=[X],
    )

    def reference(X):
        return np.sum(np.sum(X, axis=0) ** 3) + np.sum((X @ X.T) ** 2)

    return loss, reference, lambda rng, N, D, H: (rng.normal(size=(N, D)),)


@case({"N": 6, "D": 3}, {"N": 1, "D": 2})
def maximum_mean_discrepancy(name):
    """Kernels within and between a sample of parameters and a sample of data; sizes N and M differ."""
    Y = IndexedBase("Y", shape=(M, D))
    a, b = Idx("a", M), Idx("b", M)
    loss = Loss(
        name,
        Sum(exp(-Sum((X[i, k] - X[n, k]) ** 2, k)), i, n) / N**2
        - 2 * Sum(exp(-Sum((X[i, k] - Y[a, k]) ** 2, k)), i, a) / (N * M)
        + Sum(exp(-Sum((Y[a, k] - Y[b, k]) ** 2, k)), a, b) / M**2,
        wrt=[X],
        data=[Y],
    )

    def reference(X, Y):
        def kernel(A, B):
            return np.mean(np.exp(-np.sum((A[:, None] - B[None]) ** 2, axis=2)))

        return kernel(X, X) - 2 * kernel(X, Y) + kernel(Y, Y)

    return loss, reference, lambda rng, N, D: (rng.normal(size=(N, D)), rng.normal(size=(N + 2, D)))
