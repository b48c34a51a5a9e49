"""Equation numbers: the same in the report of a statement and in the comments of its generated module."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derive.differentiate import Derivation

__all__ = ["equation_numbers", "label"]


def equation_numbers(derivation: Derivation) -> dict[str, int]:
    """The number of each named quantity's equation, from 1.

    First the quantities as the user named them, the value last; then those that were named on the way; then the
    adjoints, in the order in which they are computed.
    """
    names = [
        *(d.name for d in derivation.form.definitions),
        *(d.name for d in derivation.definitions),
        *(d.name for d in derivation.adjoints),
    ]
    return {name: number for number, name in enumerate(dict.fromkeys(names), start=1)}


def label(statement: str, name: str) -> str:
    """The LaTeX label of the equation that defines a quantity; it stays when equations are added before it."""
    return f"eq:{statement}:{name}"
