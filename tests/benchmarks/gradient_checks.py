"""This gradient check beside PyTorch's, JAX's and SciPy's, on the same right and wrong gradients.

Run ``python tests/benchmarks/gradient_checks.py`` with the extra ``peers`` installed; it prints a table in Markdown.

Every checker gets the same loss, gradient and point in float64, with the settings its documentation recommends.
Checkers that only return a number (SciPy) are held to the threshold their documentation uses. "Right" cases are right
gradients at random points, exactly at ties, and 1e-9 to 1e-4 away from ties: refusing one is a false alarm. "Wrong"
cases have a fault in the gradient: passing one is a miss.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import check_grad

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import handwritten as hand  # noqa: E402

from derive.gradient_check import gradcheck  # noqa: E402

Pair = tuple[Callable[[Any], float], Callable[[Any], Any], Any]

FAULTS: dict[str, Callable[[Any], Any]] = {
    "sign": lambda g: -g,
    "missing 1/N": lambda g: g * 7,
    "off by 1e-4": lambda g: g * (1 + 1e-4),
    "off by 1e-6": lambda g: g * (1 + 1e-6),
    "largest element 0": lambda g: np.where(np.abs(g) == np.abs(g).max(), 0, g),
    "rolled by one": lambda g: np.roll(g, 1),
}


def problems(kind: str, seed: int) -> Iterator[Pair]:
    """Losses of one flat parameter: SVM, softmax, Lasso, Huber."""
    rng = np.random.default_rng(seed)
    n, d, c = 6, 3, 3
    distance = 10.0 ** rng.uniform(-9, -4)

    def array(*shape: int) -> Any:
        if kind == "random points":
            return rng.normal(size=shape)
        whole = rng.integers(-1, 2, shape).astype(float)
        return whole if kind == "exact ties" else whole + distance * rng.choice([-1, 0, 1], shape)

    X, y, t = array(n, d), rng.integers(0, c, n), array(n)
    W, w = array(c, d), array(d)
    yield from (
        (
            lambda p, f=f: f(p.reshape(c, d), X, y),
            lambda p, g=g: g(p.reshape(c, d), X, y).ravel(),
            W.ravel(),
        )
        for f, g in ((hand.svm_loss, hand.svm_grad), (hand.softmax_loss, hand.softmax_grad))
    )
    yield lambda p: hand.lasso_loss(p, X, t), lambda p: hand.lasso_grad(p, X, t), w
    yield lambda p: hand.robust_loss(p, X, t), lambda p: hand.robust_grad(p, X, t), w


def by_derive(f: Any, g: Any, p: Any) -> bool:
    return bool(gradcheck(f, g, p))


def by_scipy(f: Any, g: Any, p: Any) -> bool:
    """check_grad returns the norm of the difference to forward differences; small is up to the reader: 1e-6 here."""
    return bool(check_grad(f, g, p) <= 1e-6 * max(1.0, np.linalg.norm(g(p))))


def by_torch(f: Any, g: Any, p: Any) -> bool:
    import torch

    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            context.save_for_backward(x)
            return torch.tensor(f(x.detach().numpy()), dtype=torch.float64)

        @staticmethod
        def backward(context: Any, outer: Any) -> Any:
            (x,) = context.saved_tensors
            return outer * torch.from_numpy(np.array(g(x.detach().numpy())))

    x = torch.from_numpy(p.copy()).requires_grad_()
    return bool(torch.autograd.gradcheck(Loss.apply, (x,), raise_exception=False))


def by_jax(f: Any, g: Any, p: Any) -> bool:
    import jax
    import jax.numpy as jnp
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)

    @jax.custom_vjp
    def loss(x: Any) -> Any:
        return jax.pure_callback(lambda x: np.float64(f(np.asarray(x))), jax.ShapeDtypeStruct((), jnp.float64), x)

    def backward(x: Any, outer: Any) -> Any:
        return (outer * jnp.asarray(g(np.asarray(x))),)

    loss.defvjp(lambda x: (loss(x), x), backward)
    try:
        check_grads(loss, (jnp.asarray(p),), order=1, modes=["rev"])
    except AssertionError:
        return False
    return True


CHECKERS: dict[str, Callable[[Any, Any, Any], bool]] = {
    "derive.gradcheck": by_derive,
    "torch.autograd.gradcheck": by_torch,
    "jax.test_util.check_grads": by_jax,
    "scipy.optimize.check_grad": by_scipy,
}
KINDS = ("random points", "exact ties", "near ties")


def main(count: int = 40) -> None:
    rows: dict[str, list[str]] = {}
    seconds = dict.fromkeys(CHECKERS, 0.0)

    def tally(name: str, wanted: bool, cases: list[Pair]) -> None:
        cells = []
        for checker, check in CHECKERS.items():
            started = time.perf_counter()
            errors = sum(check(f, g, p) is not wanted for f, g, p in cases)
            seconds[checker] += time.perf_counter() - started
            cells.append(f"{errors} of {len(cases)}")
        rows[name] = cells

    for kind in KINDS:
        tally(f"false alarms, {kind}", True, [case for seed in range(count) for case in problems(kind, seed)])
    for name, fault in FAULTS.items():
        cases = []
        for seed in range(count):
            for f, g, p in problems("random points", seed):
                if np.max(np.abs(fault(g(p)) - g(p))) > 1e-7 * np.max(np.abs(g(p))):
                    cases.append((f, lambda p, g=g, fault=fault: fault(g(p)), p))
        tally(f"misses, {name}", False, cases)
    print("| | " + " | ".join(f"`{c}`" for c in CHECKERS) + " |")
    print("|---|" + "---|" * len(CHECKERS))
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("| seconds | " + " | ".join(f"{s:.1f}" for s in seconds.values()) + " |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
