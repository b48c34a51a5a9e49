"""The checks that every generated loss makes of its arguments.

These functions are not called here: ``loss_pages`` copies the source of those a module needs into that module, so
that it stands alone. They are kept as code, not as text, so that they are linted, typed and tested like the rest.
"""

from __future__ import annotations

import functools
import numbers
import os
from typing import Any

import numpy as np

__all__ = [
    "_by_blocks", "_cores", "_count", "_exact", "_floating", "_in_range", "_labels", "_number", "_panel", "_product",
    "_row_blocks", "_sizes",
]  # fmt: skip


def _floating(**arrays: Any) -> tuple[Any, ...]:
    """The arguments as arrays of one floating-point type: the widest among them, float64 where there is none."""
    found = {}
    for name, value in arrays.items():
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name} must be an array of numbers: {error}") from None
        if array.dtype.kind not in "fiuO" or (array.dtype.kind == "O" and not _exact(array)):
            raise TypeError(f"{name} must hold real numbers, not {array.dtype}")
        found[name] = array
    kinds = [a.dtype for a in found.values() if a.dtype.kind in "fO"]
    dtype = np.result_type(*kinds) if kinds else np.dtype(np.float64)
    return tuple(
        a.astype(dtype, copy=False)[()] if a.ndim == 0 else a.astype(dtype, copy=False) for a in found.values()
    )


def _exact(array: np.ndarray) -> bool:
    """Whether an array of objects holds exact numbers, such as fractions.Fraction."""
    return all(isinstance(x, numbers.Rational) for x in array.flat)


def _labels(name: str, value: Any) -> np.ndarray:
    """Labels: integers, counted from 0."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of labels: {error}") from None
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integer labels, not {array.dtype}")
    return array.astype(np.intp, copy=False)


def _sizes(**arrays: Any) -> dict[str, int]:
    """The sizes by name; every argument that has a size must agree on it.

    Each argument comes as (array, size of axis 0, size of axis 1, ...), a size being a name, a number, or a name and
    what is added to it.
    """
    sizes: dict[str, int] = {}
    origin: dict[str, str] = {}
    for name, (array, *expected) in arrays.items():
        shape, wrong = np.shape(array), ""
        if len(shape) != len(expected):
            wrong = f", not {shape}"
        else:
            for size, entry in zip(shape, expected, strict=True):
                if entry is None:
                    continue
                symbol, added = entry if isinstance(entry, tuple) else (entry, 0)
                if size == 0:
                    wrong = f"; it is empty: its shape is {shape}"
                elif not isinstance(symbol, str):
                    wrong = "" if size == symbol else f", not {shape}"
                elif sizes.setdefault(symbol, size - added) != size - added:
                    wrong = f" with {symbol} = {sizes[symbol]} as in {origin[symbol]}, not {shape}"
                else:
                    origin.setdefault(symbol, name)
                if wrong:
                    break
        if wrong:
            text = ", ".join(f"{e[0]} {e[1]:+d}" if isinstance(e, tuple) else str(e) for e in expected)
            raise ValueError(f"{name} must have shape ({text}{',' if len(expected) == 1 else ''}){wrong}")
    return sizes


def _in_range(name: str, labels: np.ndarray, low: int, high: int) -> None:
    """Labels below 0 would be read from the other end of an axis, without a word."""
    if labels.min() < low or labels.max() > high:
        worst = labels.min() if labels.min() < low else labels.max()
        raise ValueError(f"{name} must hold labels from {low} to {high}, not {worst}")


def _number(name: str, value: Any) -> Any:
    """A hyperparameter as a plain Python number, which leaves float32 arrays float32."""
    if isinstance(value, (np.generic, np.ndarray)) and np.ndim(value) == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, not {type(value).__name__}")
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"{name} must be finite, not {value}")
    return value


def _count(name: str, value: Any) -> int:
    """A hyperparameter that counts something."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return int(value)


def _row_blocks(array: np.ndarray, *widths: int, size: int = 2**22) -> list[slice]:
    """Slices that cut the rows of an array into blocks of about so many bytes, which stay in the cache.

    ``widths`` are the widths of what is computed from each row.
    """
    row = array[0].nbytes + 2 * sum(widths) * array.itemsize
    count = max(1, round(len(array) * row / size))
    return [slice(len(array) * k // count, len(array) * (k + 1) // count) for k in range(count)]


def _by_blocks(terms: Any, array: np.ndarray, *widths: int) -> Any:
    """What ``terms`` gives for each block of rows of an array, in order.

    ``terms`` takes the rows of a block and a function that multiplies matrices.
    """
    # Narrow products are faster in panels on threads of ours, wide ones as BLAS shares them among the cores.
    widest, cores = max(widths, default=1), _cores()
    small = widest <= 24 and _panel(array[0].size, widest) >= 16
    blocks = _row_blocks(array, *widths, size=2**22 if small else 2**23)
    if not small or len(blocks) == 1 < cores:
        yield from (terms(rows, np.matmul) for rows in blocks)
    elif len(blocks) == 1 or cores == 1:
        yield from (terms(rows, _product) for rows in blocks)
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(cores, len(blocks))) as pool:
            yield from pool.map(lambda rows: terms(rows, _product), blocks)


@functools.cache
def _cores() -> int:
    """How many cores BLAS may use."""
    limits = [os.environ.get(f"{library}_NUM_THREADS", "") for library in ("OPENBLAS", "OMP", "MKL")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(int(limit) for limit in limits if limit.isdigit() and int(limit) > 0)])


def _panel(inner: int, columns: int) -> int:
    """Rows of a product that takes less than 2**19 multiplications: OpenBLAS computes it on one thread.

    Where it can, it does so without the copies that it makes for larger ones, which take longer than the product itself
    where there are few columns.
    """
    return (2**19 - 1) // (inner * columns)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product of two matrices in panels: of the rows of the first, or of the axis that is summed over."""
    (rows, inner), columns = a.shape, b.shape[1]
    by_rows = rows > columns
    panel = _panel(inner if by_rows else rows, columns)
    if panel < 16:
        return a @ b
    whole = (rows if by_rows else inner) // panel * panel
    if by_rows:
        result = np.empty((rows, columns), a.dtype)
        np.matmul(a[:whole].reshape(-1, panel, inner), b, out=result[:whole].reshape(-1, panel, columns))
        np.matmul(a[whole:], b, out=result[whole:])
        return result
    panels = a[:, :whole].reshape(rows, -1, panel).transpose(1, 0, 2)
    return np.matmul(panels, b[:whole].reshape(-1, panel, columns)).sum(axis=0) + a[:, whole:] @ b[whole:]
