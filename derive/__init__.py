"""From a formula on the blackboard to NumPy code that is shown to agree with it.

Write a loss or an update rule as on the blackboard; get its derivation, checked step by step, a LaTeX report of it, and
vectorised NumPy code that agrees with it, all from one derivation.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from derive.differentiate import Derivation, differentiate
    from derive.errors import DeriveError, StatementError, VerificationError
    from derive.gradient_check import gradcheck
    from derive.render import compile
    from derive.rule import UpdateRule
    from derive.statement import Loss

_HOME = {
    "Derivation": "derive.differentiate",
    "DeriveError": "derive.errors",
    "Loss": "derive.statement",
    "StatementError": "derive.errors",
    "UpdateRule": "derive.rule",
    "VerificationError": "derive.errors",
    "compile": "derive.render",
    "differentiate": "derive.differentiate",
    "gradcheck": "derive.gradient_check",
}

__all__ = [
    "Derivation",
    "DeriveError",
    "Loss",
    "StatementError",
    "UpdateRule",
    "VerificationError",
    "compile",
    "differentiate",
    "gradcheck",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `derive --help` need not wait for SymPy.
    if name not in _HOME:
        raise AttributeError(f"module 'derive' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """Holds ``derive.differentiate`` to the function, though importing the module of that name would replace it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
