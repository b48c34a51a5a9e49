"""What the functions of ``generated/numerical.py`` do to their arguments; copied there word for word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["_value", "_working_copy"]


def _working_copy(x: ArrayLike, h: float) -> NDArray[Any]:
    if not h > 0:
        raise ValueError(f"h must be positive, got {h}")
    point = np.array(x)
    if point.dtype.kind not in "biufO":
        raise TypeError(f"x must hold real numbers, got dtype {point.dtype}")
    return point.astype(np.result_type(point, np.float64))


def _value(f: Callable[[NDArray[Any]], Any], point: NDArray[Any]) -> Any:
    """f at the point; f gets a copy, so that it may keep or change its argument."""
    value = f(point.copy())
    if np.ndim(value) != 0:
        raise ValueError(f"f must return one number, got an array of shape {np.shape(value)}")
    return value
