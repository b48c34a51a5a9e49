"""Functions that stand in every generated optimizer module, word for word as they stand here.

They hold no mathematics: what arguments must be like, and how arrays are cut into blocks. ``derive.rule_pages`` copies
their source, from the line that says so, and what is tested here is what is printed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(eq=False)
class State:
    """Stands for the state of any rule: arrays, and perhaps the number of steps made."""


# --- Copied from here on ---

#: Bytes of a block of one array: a handful of blocks, scratch included, stay in the cache.
_BLOCK = 1 << 18

#: A number as an array without axes, of the type of the arrays: NumPy works with those faster than with plain numbers.
_scalar: Any = np.asarray


def _shown(state: Any) -> str:
    """The state on a line or two, long arrays abbreviated."""
    with np.printoptions(threshold=8, edgeitems=2):
        fields = [f"{name}={' '.join(repr(kept).split())}" for name, kept in vars(state).items()]
    return f"State({', '.join(fields)})"


def _floats(params: Any) -> NDArray[Any]:
    """Parameters as an array of floats."""
    array: NDArray[Any] = np.asarray(params)
    if array.dtype.kind != "f":
        raise TypeError(f"params: expected an array of floats, got dtype {array.dtype}")
    return array


def _require(params: Any, grad: Any, state: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Parameters and gradient as arrays, or an error that names the argument that does not fit."""
    params, grad = _floats(params), np.asarray(grad)
    shape, dtype = params.shape, params.dtype
    if grad.shape != shape:
        raise ValueError(f"grad: expected shape {shape}, that of params, got {grad.shape}")
    if grad.dtype is not dtype and grad.dtype != dtype:
        if not np.can_cast(grad.dtype, dtype, "same_kind"):
            raise TypeError(f"grad: expected dtype {dtype}, that of params, got {grad.dtype}")
        grad = grad.astype(dtype)
    if not isinstance(state, State):
        raise TypeError(f"state: expected a State, as init makes it, got {type(state).__name__}")
    for name, kept in vars(state).items():
        if name == "t":
            if type(kept) is not int or kept < 0:
                raise TypeError(f"state.t: expected the number of steps made, got {kept!r}")
        elif not isinstance(kept, np.ndarray):
            raise TypeError(f"state.{name}: expected an array, as init makes it, got {type(kept).__name__}")
        elif kept.shape != shape:
            raise ValueError(f"state.{name}: expected shape {shape}, that of params, got {kept.shape}")
        elif kept.dtype is not dtype and kept.dtype != dtype:
            raise TypeError(f"state.{name}: expected dtype {dtype}, that of params, got {kept.dtype}")
    return params, grad


def _require_in_place(params: Any, grad: Any, state: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same for an update in place: arrays that can be written to, none of which lies over another."""
    if not isinstance(params, np.ndarray):
        raise TypeError(f"params: expected a NumPy array to update in place, got {type(params).__name__}")
    params, grad = _require(params, grad, state)
    # Different arrays that own their memory cannot overlap: only others are looked at closely.
    separate, different = params.base is None and grad.base is None, {id(grad)}
    for name, array in (("params", params), *vars(state).items()):
        if name != "t":
            if not array.flags.writeable:
                label = name if array is params else f"state.{name}"
                raise ValueError(f"{label}: expected an array that can be written to, got one that is read-only")
            separate = separate and array.base is None and id(array) not in different
            different.add(id(array))
    if not separate:
        kept = {f"state.{name}": array for name, array in vars(state).items() if name != "t"}
        _require_separate(params=params, **kept, grad=grad)
    return params, grad


def _require_separate(**arrays: NDArray[Any]) -> None:
    """An error that names two arrays with memory in common, if there are any."""
    names = list(arrays)
    for n, name in enumerate(names):
        for other in names[:n]:
            if np.shares_memory(arrays[name], arrays[other]):
                raise ValueError(f"{name}: expected memory of its own, got an array that overlaps {other}")


def _numbers(**hyperparameters: Any) -> Collection[float]:
    """Hyperparameters as plain Python floats: a NumPy scalar would turn float32 arrays into float64."""
    for name, value in hyperparameters.items():
        if type(value) is not float:
            try:
                # The sum keeps out what float would read from a string.
                value = hyperparameters[name] = float(0.0 + value)
            except (TypeError, ValueError):
                raise TypeError(f"{name}: expected a real number, got {value!r}") from None
        if value - value != 0:
            raise ValueError(f"{name}: expected a finite number, got {value}")
    return hyperparameters.values()


def _blocks(scratch: int, params: NDArray[Any], grad: NDArray[Any], *kept: NDArray[Any]) -> Iterable[Any]:
    """The arrays in blocks that stay in the cache while they are worked on, each with scratch arrays of its size."""
    size = max(1, _BLOCK // params.itemsize)
    work = [np.empty(size, params.dtype) for _ in range(scratch)]
    # Arrays that do not lie in one piece, or not in the same order, pass through buffers of one block.
    written: Any = ["readwrite"]
    pieces = np.nditer(
        (params, grad, *kept),
        flags=["external_loop", "buffered"],
        op_flags=[written, ["readonly"], *[written for _ in kept]],
        buffersize=size,
    )
    return ((*views, *[array[: views[0].size] for array in work]) for views in pieces)
