"""How a statement is put beside its hand-written counterpart, and the list of all that are."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from derive import Loss

__all__ = ["Case", "all_cases", "case", "labels"]


@dataclass(frozen=True)
class Case:
    """A statement, the same mathematics written by hand for automatic differentiation, and inputs for both.

    ``reference`` takes what the generated ``loss`` takes and is written with ``autograd.numpy``. ``inputs`` draws the
    positional arguments from a random generator and sizes; ``sizes`` lists the sizes to try.
    """

    loss: Loss
    reference: Callable[..., Any]
    inputs: Callable[..., tuple[Any, ...]]
    sizes: tuple[dict[str, int], ...]
    hyper: dict[str, float] = field(default_factory=dict)

    def draw(self, which: int) -> tuple[Any, ...]:
        rng = np.random.default_rng([which, *self.loss.name.encode()])
        return tuple(self.inputs(rng, **self.sizes[which]))


_BUILDERS: dict[str, tuple[Callable[[str], Any], tuple[dict[str, int], ...]]] = {}
_MODULES = ("regression", "classification", "sequences", "pairs", "tables", "networks", "tensors", "oddities")


def case(*sizes: dict[str, int]) -> Callable[[Callable[[str], Any]], Callable[[str], Any]]:
    """Register a function of the loss's name that returns (loss, reference, inputs) or (..., hyper)."""

    def register(build: Callable[[str], Any]) -> Callable[[str], Any]:
        assert build.__name__ not in _BUILDERS, build.__name__
        _BUILDERS[build.__name__] = (build, sizes or ({},))
        return build

    return register


def all_cases() -> dict[str, Callable[[], Case]]:
    """Every registered case by name, each built when called: one faulty statement must not hide the others."""
    for module in _MODULES:
        importlib.import_module(f"oracles.{module}")

    def maker(name: str) -> Callable[[], Case]:
        build, sizes = _BUILDERS[name]

        def make() -> Case:
            loss, reference, inputs, *rest = build(name)
            return Case(loss, reference, inputs, sizes, *rest)

        return make

    return {name: maker(name) for name in _BUILDERS}


def labels(rng: np.random.Generator, count: int, *shape: int) -> np.ndarray:
    """Random labels below ``count``, all equal to the last one in some draws' first entries: repeats are certain."""
    drawn = rng.integers(0, count, shape)
    flat = drawn.reshape(-1)
    flat[: flat.size // 3] = count - 1
    return drawn
