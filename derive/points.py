"""Points at which a loss and its code are compared: every argument and hyperparameter a concrete, small one.

Entries are fractions, so that a point is the same for exact arithmetic and, rounded once, for floating-point code.
"""

from __future__ import annotations

import contextlib
import numbers
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np

from derive.statement import Form, Variable
from derive.verify import concrete_sizes, count, label, positive

__all__ = ["Point", "draw", "positive", "scattered", "tied"]

Draw = Callable[[random.Random], Fraction]


@dataclass(frozen=True)
class Point:
    """Values of everything in a loss, by name.

    Attributes
    ----------
    arguments : dict
        Arrays of fractions or of floats, labels as integer arrays, scalars as themselves; in the order of the code.
    """

    sizes: Mapping[str, int]
    arguments: Mapping[str, Any]
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """As the evaluator takes them."""
        return {**self.sizes, **self.arguments, **self.hyperparameters}

    def call(self, module: ModuleType, name: str) -> Any:
        """A generated function at this point; it gets copies.

        Functions end in ``float(...)``; on fractions that is left out, so that the result is the exact one.
        """
        arguments = [np.array(a) for a in self.arguments.values()]
        exact = any(a.dtype == object for a in arguments)
        with np.errstate(all="ignore"), _unrounded(module) if exact else contextlib.nullcontext():
            return getattr(module, name)(*arguments, **self.hyperparameters)

    def rounded(self, dtype: Any = np.float64) -> Point:
        """The nearest point whose entries are floats."""

        def entry(value: Any) -> Any:
            array = np.array(value)
            return array if array.dtype.kind in "iu" else array.astype(dtype)

        numbers = {n: v if isinstance(v, int) else float(v) for n, v in self.hyperparameters.items()}
        return Point(self.sizes, {n: entry(a) for n, a in self.arguments.items()}, numbers)

    def with_entry(self, name: str, index: tuple[int, ...], value: Any) -> Point:
        changed = np.array(self.arguments[name])
        changed[index] = value
        return replace(self, arguments={**self.arguments, name: changed})


@contextlib.contextmanager
def _unrounded(module: ModuleType) -> Iterator[None]:
    """``float`` means nothing to fractions for a while."""

    def keep(x: Any) -> Any:
        return x if isinstance(x, numbers.Rational) else float(x)

    vars(module)["float"] = keep
    try:
        yield
    finally:
        del vars(module)["float"]


def scattered(rng: random.Random) -> Fraction:
    """Entries between which there is no tie and no other coincidence."""
    return Fraction(rng.randint(1, 60) * rng.choice((-1, 1)), rng.choice((17, 19, 23)))


def tied(rng: random.Random) -> Fraction:
    """Small integers, between which ties abound.

    Sizes are powers of 2 with them, so that sums, products and means are exact in float64 and a tie stays a tie.
    """
    return Fraction(rng.choice((-1, 0, 1, 1, 2)))


def draw(form: Form, entries: Draw, seed: int = 0, *, larger: int = 0) -> Point:
    """A point for a loss; `larger` is added to all sizes."""
    rng = random.Random(f"{form.name} {entries.__name__} {seed}")
    sizes: dict[str, Any] = {s.name: n + larger for s, n in concrete_sizes(form).items()}
    if entries is tied:
        sizes = {name: 1 << (n - 1).bit_length() for name, n in sizes.items()}
    whole = {s.name for d in form.definitions for s in d.rhs.free_symbols if s.is_integer}
    hyperparameters: dict[str, Any] = {}
    for name, _ in form.hyperparameters:
        hyperparameters[name] = 2 if name in whole else abs(entries(rng)) + (0 if entries is tied else Fraction(1, 3))
    arguments = {v.name: _argument(v, sizes, entries, rng) for v in form.arguments}
    return Point(sizes, arguments, hyperparameters)


def _argument(v: Variable, sizes: dict[str, Any], entries: Draw, rng: random.Random) -> Any:
    shape = tuple(count(n, sizes) for n in v.shape)
    array = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        array[index] = label(v, sizes, rng) if v.labels is not None else entries(rng)
    return array.astype(np.int64) if v.labels is not None else array
