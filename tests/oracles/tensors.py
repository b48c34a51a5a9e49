"""Contractions: matrices and tensors used twice, transposed, on their diagonals."""

# ruff: noqa: E741 - indices keep the letters they have on the blackboard

from __future__ import annotations

import autograd.numpy as np
from sympy import Eq, Idx, IndexedBase, KroneckerDelta, Sum, Symbol, exp, log, sqrt, symbols

from derive import Loss
from oracles.cases import case

N, D, C, K, M = symbols("N D C K M", integer=True, positive=True)
i, j, k, l, m = Idx("i", N), Idx("j", N), Idx("k", K), Idx("l", K), Idx("m", M)
A, U = IndexedBase("A", shape=(N, N)), IndexedBase("U", shape=(N, K))
x = IndexedBase("x", shape=(N,))


@case({"N": 5, "K": 2}, {"N": 1, "K": 1}, {"N": 2, "K": 4})
def symmetric_factorisation(name):
    """One parameter twice: A - U U^T."""
    loss = Loss(name, Sum((A[i, j] - Sum(U[i, k] * U[j, k], k)) ** 2, i, j), wrt=[U], data=[A])
    return (
        loss,
        lambda U, A: np.sum((A - U @ U.T) ** 2),
        lambda rng, N, K: (rng.normal(size=(N, K)), rng.normal(size=(N, N))),
    )


@case({"N": 5, "M": 3, "K": 2}, {"N": 1, "M": 1, "K": 1})
def nonnegative_factorisation(name):
    """Generalised Kullback-Leibler divergence of V from W H."""
    V, W, H = IndexedBase("V", shape=(N, M)), IndexedBase("W", shape=(N, K)), IndexedBase("H", shape=(K, M))
    product = Sum(W[i, k] * H[k, m], k)
    loss = Loss(name, Sum(V[i, m] * log(V[i, m] / product) - V[i, m] + product, i, m), wrt=[W, H], data=[V])

    def reference(W, H, V):
        P = W @ H
        return np.sum(V * np.log(V / P) - V + P)

    def inputs(rng, N, M, K):
        return rng.uniform(1, 2, (N, K)), rng.uniform(1, 2, (K, M)), rng.uniform(1, 2, (N, M))

    return loss, reference, inputs


@case({"N": 5}, {"N": 1})
def rayleigh_quotient(name):
    loss = Loss(name, Sum(x[i] * A[i, j] * x[j], i, j) / Sum(x[i] ** 2, i), wrt=[x, A])
    return loss, lambda x, A: x @ A @ x / np.sum(x**2), lambda rng, N: (rng.normal(size=N), rng.normal(size=(N, N)))


@case({"N": 5}, {"N": 1})
def trace_diagonal_and_transpose(name):
    """A[i, i], A[j, i] and a product of three matrices around a cycle."""
    a, b = Idx("a", N), Idx("b", N)
    loss = Loss(
        name,
        Sum(A[i, i], i) ** 2
        + Sum(exp(A[i, i]) * A[i, j], i, j)
        + Sum(A[i, j] * A[j, i], i, j)
        + Sum(A[i, a] * A[a, b] * A[b, i], i, a, b),
        wrt=[A],
    )

    def reference(A):
        d = np.diag(A)
        return np.sum(d) ** 2 + np.sum(np.exp(d)[:, None] * A) + np.sum(A * A.T) + np.trace(A @ A @ A)

    return loss, reference, lambda rng, N: (rng.normal(size=(N, N)),)


@case({"N": 4, "D": 3, "C": 5, "K": 2}, {"N": 1, "D": 1, "C": 1, "K": 1})
def bilinear_tensor(name):
    """A parameter of rank 3: sum of T[c, k, d] x[i, k] z[i, d]."""
    T, X, Z, Y = (
        IndexedBase("T", shape=(C, K, D)),
        IndexedBase("X", shape=(N, K)),
        IndexedBase("Z", shape=(N, D)),
        IndexedBase("Y", shape=(N, C)),
    )
    c, d = Idx("c", C), Idx("d", D)
    s = IndexedBase("s", shape=(N, C))
    loss = Loss(
        name,
        Sum((s[i, c] - Y[i, c]) ** 2, i, c) / N,
        where=[Eq(s[i, c], Sum(T[c, k, d] * X[i, k] * Z[i, d], k, d))],
        wrt=[T, X],
        data=[Z, Y],
    )

    def reference(T, X, Z, Y):
        return np.sum((np.einsum("ckd,ik,id->ic", T, X, Z) - Y) ** 2) / X.shape[0]

    def inputs(rng, N, D, C, K):
        return (
            rng.normal(size=(C, K, D)),
            rng.normal(size=(N, K)),
            rng.normal(size=(N, D)),
            rng.normal(size=(N, C)),
        )

    return loss, reference, inputs


@case({"N": 3, "D": 4, "C": 2, "K": 2}, {"N": 1, "D": 1, "C": 1, "K": 1})
def low_rank_tensor(name):
    """A CP decomposition: three factor matrices against a 3-tensor of data."""
    a, b, c = Idx("a", N), Idx("b", D), Idx("c", C)
    P, Q, R = IndexedBase("P", shape=(N, K)), IndexedBase("Q", shape=(D, K)), IndexedBase("R", shape=(C, K))
    T = IndexedBase("T", shape=(N, D, C))
    loss = Loss(name, Sum((T[a, b, c] - Sum(P[a, k] * Q[b, k] * R[c, k], k)) ** 2, a, b, c), wrt=[P, Q, R], data=[T])

    def inputs(rng, N, D, C, K):
        return (
            rng.normal(size=(N, K)),
            rng.normal(size=(D, K)),
            rng.normal(size=(C, K)),
            rng.normal(size=(N, D, C)),
        )

    return loss, lambda P, Q, R, T: np.sum((T - np.einsum("ak,bk,ck->abc", P, Q, R)) ** 2), inputs


@case({"N": 4, "K": 3, "M": 2}, {"N": 1, "K": 1, "M": 1})
def chain_of_three_matrices(name):
    """x^T A B C y as one sum over four indices."""
    P, Q = IndexedBase("P", shape=(N, K)), IndexedBase("Q", shape=(K, M))
    y = IndexedBase("y", shape=(M,))
    loss = Loss(name, Sum(x[i] * A[i, j] * P[j, k] * Q[k, m] * y[m], i, j, k, m) ** 2, wrt=[A, P, Q], data=[x, y])

    def inputs(rng, N, K, M):
        return (
            rng.normal(size=(N, N)),
            rng.normal(size=(N, K)),
            rng.normal(size=(K, M)),
            rng.normal(size=N),
            rng.normal(size=M),
        )

    return loss, lambda A, P, Q, x, y: (x @ A @ P @ Q @ y) ** 2, inputs


@case({"N": 5, "K": 3}, {"N": 1, "K": 2}, {"N": 2, "K": 1})
def products_and_ratios_of_sums(name):
    """(sum x)(sum of x^2), a sum over a sum, a sum's square root: no index is shared by accident."""
    y = IndexedBase("y", shape=(K,))
    loss = Loss(
        name,
        Sum(x[i], i) * Sum(x[i] ** 2, i) * Sum(y[k], k)
        + Sum(exp(y[k]) * y[k], k) / Sum(exp(y[k]), k)
        + sqrt(Sum(x[i] ** 2, i) + Sum(y[k] ** 2, k))
        + Sum(x[i] * y[k], i, k) ** 2,
        wrt=[x, y],
    )

    def reference(x, y):
        return (
            np.sum(x) * np.sum(x**2) * np.sum(y)
            + np.sum(np.exp(y) * y) / np.sum(np.exp(y))
            + np.sqrt(np.sum(x**2) + np.sum(y**2))
            + (np.sum(x) * np.sum(y)) ** 2
        )

    return loss, reference, lambda rng, N, K: (rng.normal(size=N), rng.normal(size=K))


@case({"N": 4, "K": 2}, {"N": 1, "K": 1})
def principal_components_with_penalty(name):
    """Reconstruction by X W W^T in one expression: W four times; and its orthogonality."""
    X, W = IndexedBase("X", shape=(M, N)), IndexedBase("W", shape=(N, K))
    rho = Symbol("rho", real=True)
    loss = Loss(
        name,
        Sum((X[m, i] - Sum(X[m, j] * W[j, k] * W[i, k], j, k)) ** 2, m, i)
        + rho * Sum((Sum(W[i, k] * W[i, l], i) - KroneckerDelta(k, l)) ** 2, k, l),
        wrt=[W],
        data=[X],
        defaults={rho: 0.5},
    )

    def reference(W, X, rho=0.5):
        return np.sum((X - X @ W @ W.T) ** 2) + rho * np.sum((W.T @ W - np.eye(W.shape[1])) ** 2)

    return loss, reference, lambda rng, N, K: (rng.normal(size=(N, K)), rng.normal(size=(3, N)))


@case({"N": 5}, {"N": 1})
def rotation_in_space(name):
    """Axes of constant size: Idx("a", 3), a 3 x 3 parameter and a translation."""
    a, b = Idx("a", 3), Idx("b", 3)
    R, t = IndexedBase("R", shape=(3, 3)), IndexedBase("t", shape=(3,))
    P, Q = IndexedBase("P", shape=(N, 3)), IndexedBase("Q", shape=(N, 3))
    loss = Loss(
        name,
        Sum((Sum(R[a, b] * P[i, b], b) + t[a] - Q[i, a]) ** 2, i, a) + (R[0, 0] * R[1, 1] - R[0, 1] * R[1, 0] - 1) ** 2,
        wrt=[R, t],
        data=[P, Q],
    )

    def reference(R, t, P, Q):
        return np.sum((P @ R.T + t - Q) ** 2) + (R[0, 0] * R[1, 1] - R[0, 1] * R[1, 0] - 1) ** 2

    def inputs(rng, N):
        return rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=(N, 3)), rng.normal(size=(N, 3))

    return loss, reference, inputs


@case({"N": 4, "K": 3}, {"N": 1, "K": 1})
def mixed_reductions(name):
    """Row sums, column sums and the grand total of one table meet in one expression."""
    T, a, b = IndexedBase("T", shape=(N, K)), IndexedBase("a", shape=(N,)), IndexedBase("b", shape=(K,))
    total = Symbol("total", real=True)
    loss = Loss(
        name,
        Sum(T[i, k] * log(T[i, k] * total / (a[i] * b[k])), i, k) / total,
        where=[Eq(a[i], Sum(T[i, k], k)), Eq(b[k], Sum(T[i, k], i)), Eq(total, Sum(a[i], i))],
        wrt=[T],
    )

    def reference(T):
        s = np.sum(T)
        return np.sum(T * np.log(T * s / np.outer(np.sum(T, axis=1), np.sum(T, axis=0)))) / s

    return loss, reference, lambda rng, N, K: (rng.uniform(0.5, 2, (N, K)),)


@case({"N": 4, "K": 3}, {"N": 1, "K": 1})
def bilinear_form_with_repeated_letters(name):
    """One letter bound in several scopes: in two sums of one definition, and in two definitions."""
    f, g = IndexedBase("f", shape=(K,)), IndexedBase("g", shape=(N,))
    loss = Loss(
        name,
        Sum(g[i] * Sum(x[i], i), i) + Sum(f[k], k) ** 2,
        where=[
            Eq(f[k], Sum(U[i, k] * x[i], i) * Sum(U[i, k] ** 2, i)),
            Eq(g[i], Sum(U[i, k] * f[k], k) + Sum(x[i], i)),
        ],
        wrt=[U, x],
    )

    def reference(U, x):
        f = (U.T @ x) * np.sum(U**2, axis=0)
        g = U @ f + np.sum(x)
        return np.sum(g) * np.sum(x) + np.sum(f) ** 2

    return loss, reference, lambda rng, N, K: (rng.normal(size=(N, K)), rng.normal(size=N))
