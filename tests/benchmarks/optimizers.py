"""``step`` of generated optimizers against the textbook lines, and against the fused loops of PyTorch.

float32. All contestants make the same steps with the same gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from timing import Contestant, milliseconds, race, table

Made = tuple[Callable[[], Any], list[float] | None]
SIZES = (1_000, 30_000, 1_000_000, 20_000_000)
RULES = ("momentum", "adam")
#: Of the textbook lines, for the NumPy target, and of PyTorch's fused Adam, for the Numba target.
GOALS = {1_000: 1.0, 1_000_000: 0.4}
FUSED_GOAL = 0.95
OPTIONS: dict[str, dict[str, float]] = {
    "momentum": {"learning_rate": 0.01, "rho": 0.9},
    "adam": {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
}


def problem(size: int) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    return random.standard_normal(size, dtype=np.float32), random.standard_normal(size, dtype=np.float32)


def generated(name: str, size: int, target: Any) -> Made:
    import importlib

    import derive

    if target == "numba":
        import numba  # noqa: F401  (an ImportError leaves the contestant out)

    module = derive.compile(getattr(importlib.import_module(f"derive.optimizers.{name}"), name), target=target)
    params, grad = problem(size)
    state = module.init(params)
    options = OPTIONS[name]
    module.step(params, grad, state, **options)
    result = [float(np.linalg.norm(params))]
    return lambda: module.step(params, grad, state, **options), result


def with_numpy(name: str, size: int) -> Made:
    return generated(name, size, "numpy")


def with_numba(name: str, size: int) -> Made:
    return generated(name, size, "numba")


def textbook(name: str, size: int) -> Made:
    """The lines as the lecture has them."""
    x, g = problem(size)
    o = OPTIONS[name]
    v = np.zeros_like(x)
    m, s, t = np.zeros_like(x), np.zeros_like(x), 0

    def momentum() -> None:
        nonlocal x, v
        v = o["rho"] * v + g
        x = x - o["learning_rate"] * v

    def adam() -> None:
        nonlocal x, m, s, t
        t += 1
        m = o["beta1"] * m + (1 - o["beta1"]) * g
        s = o["beta2"] * s + (1 - o["beta2"]) * g**2
        m_hat = m / (1 - o["beta1"] ** t)
        s_hat = s / (1 - o["beta2"] ** t)
        x = x - o["learning_rate"] * m_hat / (np.sqrt(s_hat) + o["epsilon"])

    step = {"momentum": momentum, "adam": adam}[name]
    step()
    return step, [float(np.linalg.norm(x))]


def with_torch(name: str, size: int) -> Made:
    import torch
    from timing import threads

    torch.set_num_threads(threads())
    params, grad = map(torch.from_numpy, problem(size))
    params.requires_grad_()
    params.grad = grad
    o = OPTIONS[name]
    if name == "adam":
        betas = (o["beta1"], o["beta2"])
        optimizer: Any = torch.optim.Adam([params], o["learning_rate"], betas, o["epsilon"], fused=True)
    else:
        optimizer = torch.optim.SGD([params], o["learning_rate"], o["rho"], fused=True)
    optimizer.step()
    return optimizer.step, [float(torch.linalg.norm(params.detach()))]


CONTESTANTS = [
    Contestant("NumPy target", "optimizers", "with_numpy"),
    Contestant("textbook", "optimizers", "textbook"),
    Contestant("Numba target", "optimizers", "with_numba"),
    Contestant("PyTorch fused", "optimizers", "with_torch"),
]


def report(only: list[str], *, turns: int, seconds: float) -> str:
    rows = []
    for name in RULES:
        if only and name not in only:
            continue
        for size in SIZES:
            found = race(CONTESTANTS, (name, size), turns=turns, seconds=seconds)

            def ratio(one: str, other: str, found: Any = found) -> str:
                return f"{found[one] / found[other]:.2f}" if one in found and other in found else ""

            rows.append(
                [
                    f"{name}, {size:,} weights",
                    *(milliseconds(found[c.title]) if c.title in found else "" for c in CONTESTANTS),
                    ratio("NumPy target", "textbook"),
                    f"{GOALS[size]:.2f}" if size in GOALS else "",
                    ratio("Numba target", "PyTorch fused"),
                    f"{FUSED_GOAL:.2f}" if name == "adam" and size > 1_000 else "",
                ]
            )
            print("| " + " | ".join(rows[-1]) + " |", flush=True)
    titles = [f"{c.title}, ms" for c in CONTESTANTS]
    return table(["step", *titles, "NumPy / textbook", "goal", "Numba / PyTorch", "goal"], rows)
