"""What an analysis is, and how it takes its equations from the rules."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sympy import Expr, Symbol, sympify

from derive.claims import Claim, Proof, prove
from derive.rule import UpdateRule, g, x

__all__ = ["Analysis", "after_step", "letter"]


@dataclass(frozen=True)
class Analysis:
    """A question about update rules, answered by claims.

    Attributes
    ----------
    name : str
        An identifier; labels and file names are made from it.
    title : str
        For a heading.
    about : str
        A paragraph that sets the scene.
    claims : tuple of Claim
        In the order in which they build on each other.
    meanings : mapping of Symbol to str
        What each symbol stands for.
    """

    name: str
    title: str
    about: str
    claims: tuple[Claim, ...]
    meanings: Mapping[Symbol, str] = field(default_factory=dict)

    @functools.cached_property
    def proofs(self) -> tuple[Proof, ...]:
        """The claims with their proofs; a ``VerificationError`` where one has none."""
        return prove(self.claims, owner=self.name)

    def __str__(self) -> str:
        return "\n".join([self.title, "", self.about, "", *map(str, self.proofs)])


def letter(rule: UpdateRule, name: str) -> Symbol:
    """The letter of a state or hyperparameter of a rule, or of ``x`` or ``g``, from its name in code."""
    named = {
        "x": x,
        "g": g,
        **{s.name: s.symbol for s in rule.state},
        **{h.name: h.symbol for h in rule.hyperparameters},
    }
    return named[name]


def after_step(rule: UpdateRule, **values: Any) -> dict[str, Expr]:
    """``x`` and every state of a rule after one step, by name: the equations of the rule with these values put in.

    Names are ``x``, ``g``, and those of states and hyperparameters in code.
    """
    put_in = {letter(rule, name): sympify(value) for name, value in values.items()}
    names = {x: "x", **{s.symbol: s.name for s in rule.state}}
    return {names[q]: after.subs(put_in, simultaneous=True) for q, after in rule.updates.items()}
