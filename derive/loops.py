"""The loops of gradient descent: evaluate the gradient, step, repeat.

    while True:
        gradient = evaluate_gradient(loss, data, weights)
        weights -= learning_rate * gradient

``gradient_descent`` does this on all of the data, ``minibatch_descent`` on a few examples at a time. The update rule
is a generated optimizer module, the loss the ``loss_and_grad`` of a generated loss module, or any function of yours
that returns the same. Hyperparameters of the loss are bound beforehand:
``functools.partial(svm.loss_and_grad, reg=1e-4)``.

    from generated import descent
    from generated.losses import svm
    from generated.optimizers import adam

    W = descent.initial_weights((10, 65), scale=0.01, seed=0)
    result = descent.minibatch_descent(
        svm.loss_and_grad, W, (X, y), optimizer=adam, steps=400, learning_rate=0.01, seed=0
    )
    result.params, result.losses

These loops are those of the lecture (CS231n and EECS 498-007, "Optimization"). It names three hyperparameters: the
initial weights, the number of steps and the learning rate; minibatches add a fourth, the batch size.
"""

from __future__ import annotations

import importlib
import inspect
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["DivergenceError", "Result", "gradient_descent", "initial_weights", "minibatch_descent"]


@dataclass(frozen=True, repr=False)
class Result:
    """What a run of gradient descent leaves.

    Attributes
    ----------
    params : same kind as was given
        The parameters after the last update: an array, or a tuple, list or NamedTuple of arrays.
    losses : list of float
        The loss of each step, evaluated before its update: ``losses[0]`` belongs to the initial parameters, and the
        loss of ``params`` is not among them. For minibatches, the loss of each batch. With an optimizer that looks
        ahead, the loss at the point it looks at.
    interrupted : bool
        Whether the user interrupted the run (Ctrl-C) before its last step. If that hit the middle of an update, some
        elements of ``params`` have made their last step and some have not.
    """

    params: Any
    losses: list[float]
    interrupted: bool = False

    def __repr__(self) -> str:
        count = len(self.losses)
        told = f"{count} step{'' if count == 1 else 's'}"
        if count:
            told += f", loss {self.losses[0]:.6g} -> {self.losses[-1]:.6g}"
        return f"<Result: {told}{', interrupted' if self.interrupted else ''}>"


class DivergenceError(FloatingPointError):
    """The loss became NaN or infinite.

    Attributes
    ----------
    step : int
        The step at which it did, counted from 0.
    losses : list of float
        The losses of the steps before.
    """

    def __init__(self, message: str, step: int = 0, losses: Sequence[float] = ()) -> None:
        super().__init__(message)
        self.step = step
        self.losses = list(losses)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.step, self.losses)


def gradient_descent(
    loss_and_grad: Callable[..., tuple[float, Any]],
    params: Any,
    data: Sequence[Any] = (),
    *,
    optimizer: Any,
    steps: int,
    callback: Callable[[int, float, Any], object] | None = None,
    progress: bool = False,
    **hyperparameters: Any,
) -> Result:
    """Gradient descent on all of the data.

    Parameters
    ----------
    loss_and_grad : callable
        ``loss_and_grad(*params, *data) -> (loss, grad)``; with several parameters, ``grad`` has one gradient for each,
        in their order.
    params : array, or tuple, list or NamedTuple of arrays
        Where to start. A tuple or list holds several parameters, of any shapes, numbers included. Integers are taken as
        float64. The caller's arrays stay as they are.
    data : tuple of arrays
        What follows the parameters in ``loss_and_grad``.
    optimizer : module
        A generated optimizer: its ``init`` makes the state, one for each parameter, its ``step`` updates in place. If
        it has a ``lookahead``, the gradient is taken there.
    steps : int
        The number of updates; 0 is allowed.
    callback : callable, optional
        Called as ``callback(step, loss, params)`` at each step, counted from 0, before its update. ``params`` is a copy
        to keep. The run stops, without that update, when it returns True; None and anything false goes on.
    progress : bool
        Show a progress bar, if tqdm is installed.
    **hyperparameters
        Those of the optimizer, by name: ``learning_rate``, ``rho``, ...

    Returns
    -------
    Result

    Raises
    ------
    DivergenceError
        When the loss becomes NaN or infinite, a ``FloatingPointError`` that names the step.
    """
    arrays = _as_data(data)

    def all_of_it() -> Iterator[tuple[Any, ...]]:
        while True:
            yield arrays

    return _descend(loss_and_grad, params, all_of_it(), optimizer, steps, callback, progress, hyperparameters)


def minibatch_descent(
    loss_and_grad: Callable[..., tuple[float, Any]],
    params: Any,
    data: Sequence[Any],
    *,
    optimizer: Any,
    steps: int,
    batch_size: int = 256,
    seed: Any = None,
    callback: Callable[[int, float, Any], object] | None = None,
    progress: bool = False,
    **hyperparameters: Any,
) -> Result:
    """Gradient descent on a few examples at a time.

    The data is passed over in random order, again and again: in one pass (an epoch) each example is used once, and the
    last batch of a pass is shorter if ``batch_size`` does not divide the number of examples. ``batch_size=1`` is
    stochastic gradient descent in the strict sense.

    Parameters
    ----------
    data : tuple of arrays
        What follows the parameters in ``loss_and_grad``. All have one entry per example along axis 0, and are sampled
        together.
    batch_size : int
        Examples per step. More than there are means all of them.
    seed : None, int, or numpy.random.Generator
        Where the order comes from, as for ``numpy.random.default_rng``. The same seed gives the same run, bit for bit.
        A generator of yours is used as it is, and moves on.

    All other parameters, and what is returned and raised, are those of ``gradient_descent``.
    """
    arrays = _as_data(data)
    size = _as_count(batch_size, "batch_size", least=1)
    batches = _shuffled_passes(arrays, _examples(arrays), size, np.random.default_rng(seed))
    return _descend(loss_and_grad, params, batches, optimizer, steps, callback, progress, hyperparameters)


def initial_weights(shape: int | tuple[int, ...], scale: float, seed: Any = None) -> np.ndarray:
    """Independent normal weights of mean 0 and standard deviation ``scale``, in float64.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the array.
    scale : float
        Standard deviation. With 0, all units of a layer start equal and stay equal; with too much, they saturate.
    seed : None, int, or numpy.random.Generator
        As for ``numpy.random.default_rng``. Give each layer a seed of its own, or one generator to all.
    """
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(f"scale must be a finite number, 0 or more; got {scale!r}")
    return scale * np.random.default_rng(seed).standard_normal(shape)


def _descend(
    loss_and_grad: Callable[..., tuple[float, Any]],
    params: Any,
    batches: Iterator[tuple[Any, ...]],
    optimizer: Any,
    steps: int,
    callback: Callable[[int, float, Any], object] | None,
    progress: bool,
    hyperparameters: dict[str, Any],
) -> Result:
    """Take a batch, evaluate, step; repeat."""
    count = _as_count(steps, "steps", least=0)
    for_step, for_lookahead = _sort_hyperparameters(optimizer, hyperparameters)
    arrays, scalar = _own_copies(params)
    states = [optimizer.init(x) for x in arrays]
    losses: list[float] = []
    bar = _progress_bar(count) if progress else None
    interrupted = False
    try:
        for step in range(count):
            at = arrays
            if hasattr(optimizer, "lookahead"):
                at = [optimizer.lookahead(x, state, **for_lookahead) for x, state in zip(arrays, states, strict=True)]
            outcome = loss_and_grad(*_as_given(at, scalar), *next(batches))
            loss, gradients = _loss_and_gradients(outcome, arrays)
            if not math.isfinite(loss):
                raise _divergence(f"the loss is {loss}", step, losses, hyperparameters)
            losses.append(loss)
            if callback is not None:
                seen = _like(params, _as_given([x.copy() for x in arrays], scalar))
                if callback(step, loss, seen):
                    break
            for x, gradient, state in zip(arrays, gradients, states, strict=True):
                optimizer.step(x, gradient, state, **for_step)
            if bar is not None:
                bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
                bar.update()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if bar is not None:
            bar.close()
    if losses and not interrupted and not all(np.isfinite(x).all() for x in arrays):
        raise _divergence("a parameter is NaN or infinite after the update", len(losses) - 1, losses, hyperparameters)
    return Result(_like(params, _as_given(arrays, scalar)), losses, interrupted)


def _shuffled_passes(
    data: tuple[np.ndarray, ...], examples: int, batch_size: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, ...]]:
    while True:
        order = rng.permutation(examples)
        for start in range(0, examples, batch_size):
            rows = order[start : start + batch_size]
            yield tuple(a[rows] for a in data)


def _as_data(data: Sequence[Any]) -> tuple[np.ndarray, ...]:
    if not isinstance(data, tuple | list):
        raise TypeError(f"data must be a tuple of arrays, such as (X, y) or (X,); got {type(data).__name__}")
    return tuple(np.asarray(a) for a in data)


def _examples(data: tuple[np.ndarray, ...]) -> int:
    """The number of examples, on which all arrays must agree."""
    if not data:
        raise ValueError("data must hold at least one array to take batches from; got none")
    for position, array in enumerate(data):
        if array.ndim == 0:
            raise ValueError(f"data[{position}] must have one entry per example along axis 0; got a single number")
        if len(array) != len(data[0]):
            raise ValueError(
                f"data[{position}] has {len(array)} examples (shape {array.shape}), "
                f"but data[0] has {len(data[0])} (shape {data[0].shape})"
            )
    if len(data[0]) == 0:
        raise ValueError(f"data[0] has no examples (shape {data[0].shape})")
    return len(data[0])


def _as_count(value: Any, name: str, *, least: int) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer; got {value!r}")
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {value!r}") from None
    if count < least:
        raise ValueError(f"{name} must be {least} or more; got {count}")
    return count


def _own_copies(params: Any) -> tuple[list[np.ndarray], list[bool]]:
    """Floating copies of the parameters, and which of them were given as plain numbers."""
    several = isinstance(params, tuple | list)
    given = list(params) if several else [params]
    if not given:
        raise ValueError("params must hold at least one parameter; got none")
    arrays, scalar = [], []
    for position, value in enumerate(given):
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":
            name = f"params[{position}]" if several else "params"
            raise TypeError(f"{name} must be an array of real numbers; got {type(value).__name__} of {array.dtype}")
        arrays.append(np.array(array, dtype=array.dtype if array.dtype.kind == "f" else np.float64))
        scalar.append(array.ndim == 0 and not isinstance(value, np.ndarray))
    return arrays, scalar


def _as_given(arrays: list[np.ndarray], scalar: list[bool]) -> list[Any]:
    """Numbers as numbers and arrays as arrays, so that the loss sees what the caller would pass."""
    return [np.asarray(x)[()] if is_scalar else x for x, is_scalar in zip(arrays, scalar, strict=True)]


def _like(params: Any, values: list[Any]) -> Any:
    """The values in a container like that of the caller."""
    if hasattr(params, "_make"):
        return params._make(values)
    if isinstance(params, tuple | list):
        return type(params)(values)
    return values[0]


def _loss_and_gradients(outcome: Any, arrays: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
    """The loss as a float, the gradients in the precision of their parameters."""
    if not isinstance(outcome, tuple | list) or len(outcome) != 2:
        raise TypeError(f"loss_and_grad must return (loss, grad); it returned {type(outcome).__name__}")
    loss, grad = outcome
    gradients = list(grad) if isinstance(grad, tuple | list) else [grad]
    if len(gradients) != len(arrays):
        raise ValueError(f"loss_and_grad returned {len(gradients)} gradient(s) for {len(arrays)} parameter(s)")
    return float(loss), [np.asarray(g, dtype=x.dtype) for g, x in zip(gradients, arrays, strict=True)]


def _sort_hyperparameters(optimizer: Any, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of ``step`` and those of ``lookahead``; a name that no one knows is an error before the first step."""
    for name in ("init", "step"):
        if not callable(getattr(optimizer, name, None)):
            raise TypeError(f"optimizer must be an optimizer module, with init and step; got {optimizer!r}")
    accepted = _keywords(optimizer.step)
    told = f"{getattr(optimizer, '__name__', repr(optimizer))} takes {', '.join(accepted) or 'no hyperparameters'}"
    unknown = [name for name in given if name not in accepted]
    if unknown:
        raise TypeError(
            f"unknown hyperparameter {', '.join(map(repr, unknown))}: {told}; "
            "one of the loss is bound to it, as in functools.partial(loss_and_grad, reg=1e-4)"
        )
    absent = [name for name, needed in accepted.items() if needed and name not in given]
    if absent:
        raise TypeError(f"missing hyperparameter {', '.join(map(repr, absent))}: {told}")
    # A NumPy float64 would promote float32 parameters; a Python float does not.
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
    ahead = _keywords(optimizer.lookahead) if hasattr(optimizer, "lookahead") else {}
    return values, {name: value for name, value in values.items() if name in ahead}


def _keywords(function: Callable[..., Any]) -> dict[str, bool]:
    """The keyword-only parameters of a function, and whether each must be given."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default is p.empty for p in parameters if p.kind is p.KEYWORD_ONLY}


def _divergence(what: str, step: int, losses: list[float], hyperparameters: dict[str, Any]) -> DivergenceError:
    if step == 0 and not losses:
        cause = "Nothing was updated yet: look for NaN, infinities or huge numbers in the data and the initial params."
    else:
        rate = hyperparameters.get("learning_rate")
        told = "" if rate is None else f" (it is {rate:g})"
        cause = f"The usual cause is a learning rate that is too large{told}: try a tenth of it."
    return DivergenceError(f"step {step}: {what}. {cause}", step, losses)


def _progress_bar(steps: int) -> Any:
    try:
        return importlib.import_module("tqdm").tqdm(total=steps)
    except ImportError:
        return None
