"""The generated code that the demo runs, live."""

from __future__ import annotations

import functools
import types
from types import ModuleType

from derive.catalogue import find
from derive.render import compile

__all__ = ["OPTIMIZERS", "module", "numerical"]

#: In the order of the lecture.
OPTIMIZERS = (
    "sgd",
    "momentum",
    "momentum_velocity",
    "nesterov",
    "nesterov_lookahead",
    "adagrad",
    "rmsprop",
    "adam_almost",
    "adam",
)


@functools.cache
def module(name: str) -> ModuleType:
    """The module of a loss or an optimizer of the catalogue."""
    return compile(find(name))


@functools.cache
def numerical() -> ModuleType:
    """The module of numerical gradients."""
    from derive.difference import page

    made = types.ModuleType("numerical")
    exec(page()["numerical.py"], made.__dict__)
    return made
