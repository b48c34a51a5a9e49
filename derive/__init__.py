"""From a formula on the blackboard to NumPy code that is shown to agree with it.

Write a loss or an update rule as on the blackboard; get its derivation, checked step by step, a LaTeX report of it, and
vectorised NumPy code that agrees with it, all from one derivation.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from derive.differentiate import Derivation, differentiate
    from derive.errors import DeriveError, StatementError, VerificationError
    from derive.gradcheck import gradcheck
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
    "gradcheck": "derive.gradcheck",
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
