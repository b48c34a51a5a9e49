"""Losses and gradients written by hand, as people write them: what the gradient check is tried on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def svm_loss(W: Array, X: Array, y: Array, *, delta: float = 1.0, reg: float = 0.0) -> float:
    margins = _margins(W, X, y, delta)
    return float(np.maximum(0, margins).sum() / len(y) + reg * np.sum(W * W))


def svm_grad(W: Array, X: Array, y: Array, *, delta: float = 1.0, reg: float = 0.0) -> Array:
    active = (_margins(W, X, y, delta) > 0).astype(X.dtype)
    active[np.arange(len(y)), y] = -active.sum(axis=1)
    return active.T @ X / len(y) + 2 * reg * W


def _margins(W: Array, X: Array, y: Array, delta: float) -> Array:
    rows = np.arange(len(y))
    scores = X @ W.T
    margins = scores - scores[rows, y][:, None] + delta
    margins[rows, y] = 0
    return margins


def softmax_loss(W: Array, X: Array, y: Array) -> float:
    scores = X @ W.T
    scores = scores - scores.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y]))


def softmax_grad(W: Array, X: Array, y: Array) -> Array:
    scores = X @ W.T
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return p.T @ X / len(y)


class NetGradient(NamedTuple):
    A: Array
    b: Array
    v: Array


def net_loss(A: Array, b: Array, v: Array, X: Array, t: Array) -> float:
    """A net with one hidden layer of relu units: not convex, with kinks."""
    r = np.maximum(0, X @ A.T + b) @ v - t
    return float(np.mean(r**2))


def net_grad(A: Array, b: Array, v: Array, X: Array, t: Array) -> NetGradient:
    z = X @ A.T + b
    h = np.maximum(0, z)
    r = 2 * (h @ v - t) / len(t)
    dz = r[:, None] * v * (z > 0)
    return NetGradient(dz.T @ X, dz.sum(axis=0), h.T @ r)


def lasso_loss(w: Array, X: Array, t: Array, *, reg: float = 0.1) -> float:
    return float(np.sum((X @ w - t) ** 2) / (2 * len(t)) + reg * np.abs(w).sum())


def lasso_grad(w: Array, X: Array, t: Array, *, reg: float = 0.1) -> Array:
    return X.T @ (X @ w - t) / len(t) + reg * np.sign(w)


def robust_loss(w: Array, X: Array, t: Array) -> float:
    """Huber's loss, quadratic inside and linear outside, and a rational penalty."""
    r = X @ w - t
    huber = np.where(np.abs(r) <= 1, r**2 / 2, np.abs(r) - 0.5)
    return float(huber.mean() + np.sum(w**2 / (1 + w**2)))


def robust_grad(w: Array, X: Array, t: Array) -> Array:
    r = X @ w - t
    return X.T @ np.clip(r, -1, 1) / len(t) + 2 * w / (1 + w**2) ** 2
