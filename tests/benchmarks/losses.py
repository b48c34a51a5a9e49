"""``loss_and_grad`` of generated losses against what people would use instead.

Every peer computes the same loss and gradient, float32, from the same numbers, in the way its users write it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from timing import Contestant, milliseconds, race, table

DELTA, REG = 1.0, 1e-3
Made = tuple[Callable[[], Any], list[float] | None]

SHAPES = {
    "svm": [(256, 3073, 10), (256, 785, 1000), (4096, 512, 1000), (10000, 3073, 10), (50000, 785, 10)],
    "softmax": [(256, 3073, 10), (256, 785, 1000), (4096, 512, 1000), (10000, 3073, 10), (50000, 785, 10)],
    "logistic": [(256, 3073), (50000, 785)],
    "two_layer_net": [(256, 3073, 100, 10), (10000, 3073, 100, 10)],
}
#: At most this times the best of the peers.
GOALS = {(10000, 3073, 10): 0.75, (50000, 785, 10): 0.75}


def problem(name: str, shape: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
    """Parameters and data."""
    random = np.random.default_rng(0)

    def normal(*sizes: int, scale: float = 1.0) -> Any:
        return (scale * random.standard_normal(sizes, dtype=np.float32)).astype(np.float32)

    count, width = shape[:2]
    data = normal(count, width)
    if name == "logistic":
        return [normal(width, scale=0.01)], [data, np.sign(normal(count))]
    labels = random.integers(0, shape[-1], count)
    if name == "two_layer_net":
        hidden = shape[2]
        weights = [normal(hidden, width, scale=0.01), normal(hidden), normal(shape[3], hidden), normal(shape[3])]
        return weights, [data, labels]
    return [normal(shape[2], width, scale=0.01)], [data, labels]


def digest(value: Any, gradients: Any) -> list[float]:
    """The loss and one number for each gradient, to see that all peers compute the same."""
    parts = gradients if isinstance(gradients, (tuple, list)) else [gradients]
    return [float(value), *(float(np.linalg.norm(np.asarray(p, np.float64))) for p in parts)]


# --- The contestants ---------------------------------------------------------------------------------------------


def ours(name: str, shape: tuple[int, ...], target: Literal["numpy", "numba"] = "numpy") -> Made:
    import importlib

    import derive

    module = derive.compile(getattr(importlib.import_module(f"derive.losses.{name}"), name), target=target)
    parameters, data = problem(name, shape)
    options = {"reg": REG} if name != "svm" else {"reg": REG, "delta": DELTA}

    def run() -> Any:
        return module.loss_and_grad(*parameters, *data, **options)

    return run, digest(*run())


def ours_on_numba(name: str, shape: tuple[int, ...]) -> Made:
    import importlib

    importlib.import_module("numba")
    return ours(name, shape, target="numba")


def by_hand(name: str, shape: tuple[int, ...]) -> Made:
    """Vectorised NumPy with one row for each class, which is the faster layout."""
    parameters, data = problem(name, shape)
    function = {"svm": svm_rows, "softmax": softmax_rows, "logistic": logistic_numpy, "two_layer_net": net_numpy}[name]

    def run() -> Any:
        return function(*parameters, *data)

    return run, digest(*run())


def by_hand_columns(name: str, shape: tuple[int, ...]) -> Made:
    """Vectorised NumPy with one column for each class, as course notes have it."""
    if name not in ("svm", "softmax"):
        raise ImportError
    (weights,), (data, labels) = problem(name, shape)
    columns = np.ascontiguousarray(weights.T)
    function = svm_columns if name == "svm" else softmax_columns

    def run() -> Any:
        return function(columns, data, labels)

    return run, digest(*run())


def svm_rows(W: Any, X: Any, y: Any) -> Any:
    rows = np.arange(len(X))
    scores = X @ W.T
    margins = np.maximum(0, scores - scores[rows, y][:, None] + DELTA)
    margins[rows, y] = 0
    loss = margins.sum() / len(X) + REG * np.sum(W * W)
    mask = (margins > 0).astype(X.dtype)
    mask[rows, y] = -mask.sum(axis=1)
    return loss, mask.T @ X / len(X) + 2 * REG * W


def svm_columns(W: Any, X: Any, y: Any) -> Any:
    rows = np.arange(len(X))
    scores = X @ W
    margins = np.maximum(0, scores - scores[rows, y][:, None] + DELTA)
    margins[rows, y] = 0
    loss = margins.sum() / len(X) + REG * np.sum(W * W)
    mask = (margins > 0).astype(X.dtype)
    mask[rows, y] = -mask.sum(axis=1)
    return loss, X.T @ mask / len(X) + 2 * REG * W


def softmax_rows(W: Any, X: Any, y: Any) -> Any:
    rows = np.arange(len(X))
    scores = X @ W.T
    scores -= scores.max(axis=1, keepdims=True)
    weights = np.exp(scores)
    total = weights.sum(axis=1, keepdims=True)
    loss = (np.log(total[:, 0]) - scores[rows, y]).mean() + REG * np.sum(W * W)
    weights /= total
    weights[rows, y] -= 1
    weights /= len(X)
    return loss, weights.T @ X + 2 * REG * W


def softmax_columns(W: Any, X: Any, y: Any) -> Any:
    rows = np.arange(len(X))
    scores = X @ W
    scores -= scores.max(axis=1, keepdims=True)
    weights = np.exp(scores)
    total = weights.sum(axis=1, keepdims=True)
    loss = (np.log(total[:, 0]) - scores[rows, y]).mean() + REG * np.sum(W * W)
    weights /= total
    weights[rows, y] -= 1
    weights /= len(X)
    return loss, X.T @ weights + 2 * REG * W


def logistic_numpy(w: Any, X: Any, y: Any) -> Any:
    margins = y * (X @ w)
    loss = np.logaddexp(0, -margins).mean() + REG * (w @ w)
    return loss, X.T @ (-y / (1 + np.exp(margins)) / len(X)) + 2 * REG * w


def net_numpy(W1: Any, b1: Any, W2: Any, b2: Any, X: Any, y: Any) -> Any:
    rows = np.arange(len(X))
    hidden = np.maximum(0, X @ W1.T + b1)
    scores = hidden @ W2.T + b2
    scores -= scores.max(axis=1, keepdims=True)
    weights = np.exp(scores)
    total = weights.sum(axis=1, keepdims=True)
    loss = (np.log(total[:, 0]) - scores[rows, y]).mean() + REG * (np.sum(W1 * W1) + np.sum(W2 * W2))
    weights /= total
    weights[rows, y] -= 1
    weights /= len(X)
    back = weights @ W2
    back[hidden <= 0] = 0
    return loss, (back.T @ X + 2 * REG * W1, back.sum(axis=0), weights.T @ hidden + 2 * REG * W2, weights.sum(axis=0))


def with_autograd(name: str, shape: tuple[int, ...]) -> Made:
    import autograd.numpy as anp
    from autograd import value_and_grad
    from autograd.scipy.special import logsumexp

    parameters, data = problem(name, shape)
    rows = np.arange(shape[0])

    def cross_entropy(scores: Any, y: Any) -> Any:
        return anp.mean(logsumexp(scores, axis=1) - scores[rows, y])

    def svm(p: Any, X: Any, y: Any) -> Any:
        scores = anp.dot(X, p[0].T)
        margins = anp.maximum(0, scores - scores[rows, y][:, None] + np.float32(DELTA))
        return (anp.sum(margins) - len(X) * np.float32(DELTA)) / len(X) + REG * anp.sum(p[0] * p[0])

    def softmax(p: Any, X: Any, y: Any) -> Any:
        return cross_entropy(anp.dot(X, p[0].T), y) + REG * anp.sum(p[0] * p[0])

    def logistic(p: Any, X: Any, y: Any) -> Any:
        return anp.mean(anp.logaddexp(0, -y * anp.dot(X, p[0]))) + REG * anp.dot(p[0], p[0])

    def two_layer_net(p: Any, X: Any, y: Any) -> Any:
        hidden = anp.maximum(0, anp.dot(X, p[0].T) + p[1])
        penalty = anp.sum(p[0] * p[0]) + anp.sum(p[2] * p[2])
        return cross_entropy(anp.dot(hidden, p[2].T) + p[3], y) + REG * penalty

    function = value_and_grad(locals()[name])

    def run() -> Any:
        return function(parameters, *data)

    return run, digest(*run())


def with_jax(name: str, shape: tuple[int, ...]) -> Made:
    import jax
    import jax.numpy as jnp

    parameters, data = ([jnp.asarray(a) for a in part] for part in problem(name, shape))
    rows = jnp.arange(shape[0])

    def cross_entropy(scores: Any, y: Any) -> Any:
        return jnp.mean(jax.nn.logsumexp(scores, axis=1) - scores[rows, y])

    def svm(p: Any, X: Any, y: Any) -> Any:
        scores = X @ p[0].T
        margins = jnp.maximum(0, scores - scores[rows, y][:, None] + DELTA)
        return (jnp.sum(margins) - len(X) * DELTA) / len(X) + REG * jnp.sum(p[0] * p[0])

    def softmax(p: Any, X: Any, y: Any) -> Any:
        return cross_entropy(X @ p[0].T, y) + REG * jnp.sum(p[0] * p[0])

    def logistic(p: Any, X: Any, y: Any) -> Any:
        return jnp.mean(jax.nn.softplus(-y * (X @ p[0]))) + REG * (p[0] @ p[0])

    def two_layer_net(p: Any, X: Any, y: Any) -> Any:
        hidden = jnp.maximum(0, X @ p[0].T + p[1])
        penalty = jnp.sum(p[0] * p[0]) + jnp.sum(p[2] * p[2])
        return cross_entropy(hidden @ p[2].T + p[3], y) + REG * penalty

    function = jax.jit(jax.value_and_grad(locals()[name]))

    def run() -> Any:
        return jax.block_until_ready(function(parameters, *data))

    return run, digest(*run())


def with_torch(name: str, shape: tuple[int, ...]) -> Made:
    import torch
    from timing import threads
    from torch.nn import functional

    torch.set_num_threads(threads())
    parameters, data = ([torch.from_numpy(a) for a in part] for part in problem(name, shape))
    for p in parameters:
        p.requires_grad_()

    def svm(W: Any, X: Any, y: Any) -> Any:
        # The library's own function for this loss; it divides by the number of classes.
        hinge = functional.multi_margin_loss(X @ W.T, y, margin=DELTA) * len(W)
        return hinge + REG * (W * W).sum()

    def softmax(W: Any, X: Any, y: Any) -> Any:
        return functional.cross_entropy(X @ W.T, y) + REG * (W * W).sum()

    def logistic(w: Any, X: Any, y: Any) -> Any:
        return functional.softplus(-y * (X @ w)).mean() + REG * (w @ w)

    def two_layer_net(W1: Any, b1: Any, W2: Any, b2: Any, X: Any, y: Any) -> Any:
        hidden = functional.linear(X, W1, b1).relu()
        penalty = (W1 * W1).sum() + (W2 * W2).sum()
        return functional.cross_entropy(functional.linear(hidden, W2, b2), y) + REG * penalty

    function = locals()[name]

    def run() -> Any:
        value = function(*parameters, *data)
        return value, torch.autograd.grad(value, parameters)

    value, gradients = run()
    return run, digest(value.detach(), [p.numpy() for p in gradients])


# --- The floor ---------------------------------------------------------------------------------------------------


def read_once(name: str, shape: tuple[int, ...]) -> Made:
    """The time to read the matrix of examples once."""
    _, (data, _) = problem(name, shape)
    flat = data.ravel()
    return lambda: np.dot(flat, flat), None


def products_alone(name: str, shape: tuple[int, ...]) -> Made:
    """The two products with the matrix of examples, into memory that is there."""
    parameters, (data, _) = problem(name, shape)
    weights = parameters[0]
    scores = data @ weights.T
    gradient = scores.T @ data

    def run() -> None:
        np.matmul(data, weights.T, out=scores)
        np.matmul(scores.T, data, out=gradient)

    return run, None


OURS = Contestant("ours", "losses", "ours")
ON_NUMBA = Contestant("Numba target", "losses", "ours_on_numba")
PEERS = [
    Contestant("NumPy", "losses", "by_hand"),
    Contestant("NumPy, a column a class", "losses", "by_hand_columns"),
    Contestant("autograd", "losses", "with_autograd"),
    Contestant("JAX jit", "losses", "with_jax"),
    Contestant("PyTorch", "losses", "with_torch"),
]
FLOORS = [
    Contestant("X read once", "losses", "read_once"),
    Contestant("products alone", "losses", "products_alone"),
]


def report(only: list[str], *, turns: int, seconds: float) -> str:
    rows = []
    for name, shapes in SHAPES.items():
        if only and name not in only:
            continue
        for shape in shapes:
            found = race([OURS, ON_NUMBA, *PEERS, *FLOORS], (name, shape), turns=turns, seconds=seconds)
            mine = found["ours"]
            there = {p.title: found[p.title] for p in PEERS if p.title in found}
            best = min(there.values())
            goal = GOALS.get(shape)
            rows.append(
                [
                    f"{name} {shape}",
                    milliseconds(mine),
                    *(f"{mine / there[p.title]:.2f}" if p.title in there else "" for p in PEERS),
                    f"{mine / best:.2f}",
                    f"{goal or 1.0:.2f}",
                    f"{found[ON_NUMBA.title] / mine:.2f}" if ON_NUMBA.title in found else "",
                    *(milliseconds(found[f.title]) for f in FLOORS),
                ]
            )
            print("| " + " | ".join(rows[-1]) + " |", flush=True)
    head = ["loss_and_grad", "ours, ms", *(f"/ {p.title}" for p in PEERS), "/ best", "goal", "Numba / NumPy target"]
    return table([*head, *(f"{f.title}, ms" for f in FLOORS)], rows)
