"""Functions that stand in generated losses of the Numba target, besides those of ``derive.arguments``.

They hold no mathematics of any loss: how arrays reach compiled loops, and what those loops call. ``numba_losses``
copies the source of those that a module needs into that module.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

__all__ = ["_over_rows", "_plus", "_sigmoid", "_softplus"]


def _over_rows(loop: Any, dtype: Any, given: Any, shared: Any, results: Any) -> None:
    """Run a compiled loop over rows, on several threads where there is much to do.

    ``given`` and ``results`` have a row for each turn of the loop, ``shared`` is the same for all rows.
    """
    if dtype not in (np.float32, np.float64):
        # Nothing that processors compute with, such as fractions: the same lines, run by Python.
        loop.py_func(*given, *shared, *results)
        return
    given, shared = ([np.ascontiguousarray(a) if np.ndim(a) else a for a in part] for part in (given, shared))
    # In the type of the arrays, as NumPy takes plain numbers: one of float64 would make every operation one.
    shared = [dtype.type(a) if isinstance(a, (int, float)) else a for a in shared]
    count = len(results[0])
    threads = numba.config.NUMBA_NUM_THREADS if max(a.size for a in (*given, *results)) > 1 << 20 else 1

    def run(thread: int) -> None:
        rows = slice(count * thread // threads, count * (thread + 1) // threads)
        loop(*(a[rows] for a in given), *shared, *(a[rows] for a in results))

    if threads == 1:
        run(0)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(threads)))


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
