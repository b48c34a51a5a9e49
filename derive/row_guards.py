"""Functions that stand in generated losses of the Numba target, besides those of ``derive.arguments``.

They hold no mathematics of any loss: how arrays reach compiled loops, and what those loops call. ``numba_losses``
copies the source of those that a module needs into that module.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["_over_rows", "_plus", "_sigmoid", "_softplus"]


def _over_rows(loop: Any, parallel_loop: Any, dtype: Any, given: Any, scalars: Any, results: Any) -> None:
    """Run a compiled loop over rows, in parallel where there is enough to do."""
    if dtype not in (np.float32, np.float64):
        # Nothing that processors compute with, such as fractions: the same lines, run by Python.
        loop.py_func(*given, *scalars, *results)
        return
    # In the type of the arrays, as NumPy takes plain numbers: one of float64 would make every operation one.
    numbers = [dtype.type(value) for value in scalars]
    arrays = [np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in given]
    # With less than this to do, starting threads takes longer than the work.
    chosen = loop if max(np.size(a) for a in (*arrays, *results)) < 1 << 16 else parallel_loop
    chosen(*arrays, *numbers, *results)


@numba.extending.register_jitable(fastmath={"reassoc"})
def _plus(a: Any, b: Any) -> Any:
    """a + b. Many numbers may be added up in any order, and so as many at a time as a vector register holds."""
    return a + b


@numba.extending.register_jitable
def _softplus(a: Any) -> Any:
    """log(1 + exp(a)); nothing overflows."""
    rest = np.log1p(np.exp(-np.abs(a)))
    return a + rest if a > 0 else rest


@numba.extending.register_jitable
def _sigmoid(a: Any) -> Any:
    """1 / (1 + exp(-a)), small values to full precision."""
    return np.exp(-_softplus(-a))
