"""Functions that stand in every generated optimizer module of the Numba target, after those of ``array_guards``.

They hold no mathematics: how arrays reach compiled loops, wherever their elements lie. ``derive.numba_source`` copies
their source, from the line that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# --- Copied from here on ---

#: Elements that a thread works on at a time.
_PIECE = 1 << 14


def _run(
    loop: Callable[..., None],
    parallel_loop: Callable[..., None],
    scalars: Iterable[float],
    params: NDArray[Any],
    grad: NDArray[Any],
    *kept: NDArray[Any],
) -> None:
    """Run a compiled loop over all elements, in parallel where there are enough of them."""
    dtype = params.dtype
    if dtype.type not in (np.float32, np.float64) or not dtype.isnative:
        raise TypeError(f"params: expected an array of float32 or float64, got dtype {dtype}")
    arrays = (params, grad, *kept)
    chosen = loop if params.size < 4 * _PIECE else parallel_loop
    if all(array.flags.c_contiguous for array in arrays):
        chosen(*(arrays if params.ndim == 1 else [array.reshape(-1) for array in arrays]), *scalars)
    elif all(array.flags.f_contiguous for array in arrays):
        chosen(*(array.reshape(-1, order="F") for array in arrays), *scalars)
    else:
        # Arrays that do not lie in one piece, or not in the same order, pass through buffers.
        written: Any = ["readwrite", "contig"]
        read: Any = ["readonly", "contig"]
        pieces: Any = np.nditer(
            arrays,
            flags=["external_loop", "buffered", "zerosize_ok"],
            op_flags=[written, read, *[written for _ in kept]],
            buffersize=8 * _PIECE,
        )
        with pieces:
            for views in pieces:
                chosen(*views, *scalars)
