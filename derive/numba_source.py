"""Update rules as loops compiled by Numba: the equations of a rule, element by element, in one pass over memory.

The equations, the order in which they are computed, the checks and the docstrings are those of
:mod:`derive.rule_pages`; here are the spelling of an operation on one element, and the loop around them. Scalars such
as 1 - beta1**t are computed once, in Python, and get the type of the arrays before the loop, which is what NumPy makes
of plain numbers. So both targets do the same operations in the same precision, and agree to rounding.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from importlib.util import find_spec

from sympy import Symbol

from derive import array_guards, loop_guards, rule_pages
from derive.elementwise import NUMPY, SCALAR, Node, Target, in_words, tree, written
from derive.errors import MissingToolError
from derive.render import place
from derive.rule import UpdateRule, g, new, x
from derive.rule_pages import PageFunction

__all__ = ["DECORATOR", "IMPORT", "NUMBA", "page", "require_numba"]

#: One element at a time: NumPy's functions, which Numba compiles for numbers, and Python's choice and logic.
NUMBA = Target(
    {
        **{op: call for op, call in NUMPY.calls.items() if op not in ("where", "and", "or", "not")},
        "copy": "{}", "softplus": "_softplus({})", "sigmoid": "_sigmoid({})",
    }
)  # fmt: skip

#: What stands above a loop. A module that has no file, as ``derive.compile`` makes it, has no place for a cache beside
#: it either.
DECORATOR = '@numba.njit(cache=os.path.exists(__file__), error_model="numpy"{})'

#: The import, with one sentence where it fails.
IMPORT = (
    "try:",
    "    import numba",
    "except ImportError:",
    "    raise ImportError('this module needs Numba: run \"pip install numba\", or build it for NumPy') from None",
)


def require_numba() -> None:
    """Say it in one sentence where Numba is not installed."""
    if find_spec("numba") is None:
        raise MissingToolError('the target numba needs Numba, which is not installed: run "pip install numba"')


def page(rule: UpdateRule, source: str) -> dict[str, str]:
    """The module of a rule, ``{path: text}``, with the functions that the NumPy target gives it."""
    contents = rule_pages.contents(rule, source)
    loop = _Loop(rule)
    own = {"update": loop.update, "step": loop.step}
    functions = [
        *(replace(f, body=own[f.name]()) if f.name in own else f for f in contents.functions),
        loop.over_elements(),
        loop.in_parallel(),
    ]
    functions = [replace(f, docstring=_STEP_NOTE + f.docstring[3:]) if f.name == "step" else f for f in functions]
    guards = inspect.getsource(array_guards).partition(rule_pages.COPIED)[2]
    guards = "".join(guards.partition("def _shown(")[1:]).partition("\n\ndef _blocks(")[0].rstrip("\n")
    guards += "\n\n" + inspect.getsource(loop_guards).partition(rule_pages.COPIED)[2].rstrip("\n")
    contents = replace(
        contents,
        imports=(
            *(["import math"] if any("math." in line for f in functions for line in f.body) else []),
            "import os",
            "from collections.abc import Callable, Collection, Iterable",
            "from dataclasses import dataclass",
            "from typing import Any",
            "",
            "import numpy as np",
            "from numpy.typing import NDArray",
            "",
            *IMPORT,
        ),
        functions=tuple(functions),
        guards=guards,
    )
    return {f"optimizers/{rule.name}.py": place("optimizer.py.jinja", contents)}


#: Instead of what the NumPy target says of blocks and scratch arrays.
_STEP_NOTE = (
    "One compiled pass over the elements, in parallel where there are many. Any array of float32 or float64 that can",
    "be written to will do, contiguous or not. An argument is refused before anything changes.",
    "",
)


class _Loop:
    """The loop over elements of one rule."""

    def __init__(self, rule: UpdateRule) -> None:
        self.rule = rule
        self.arrays = ["params", "grad", *(s.name for s in rule.state)]
        letters = [x, g, *(s.symbol for s in rule.state)]
        equations = rule.equations
        inner = [e.lhs for e in equations if "'" not in e.lhs.name]
        self.taken = {*self.arrays, *(h.name for h in rule.hyperparameters), "t", "state", "np", "numba", "math", "os"}
        #: The name of each value inside the loop: its letter, where that is free; a prime becomes a word.
        self.names = {a: self.unused(a.name) for a in (*letters, *inner)}
        self.names |= {new(a): self.unused(f"new_{a.name}") for a in letters if a != g}
        self.element, self.block, self.start = map(self.unused, ("k", "block", "start"))
        self.real, self.values = map(self.unused, ("real", "scalars"))
        self.scalars: dict[str, str] = {}
        self.lines = [
            f"{self.names[e.lhs]} = {written(self.entering(tree(e.rhs, rule.ordering)), NUMBA, self.names)}  # ({n})"
            for n, e in enumerate(equations, start=1)
        ]

    def unused(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def entering(self, node: Node) -> Node:
        """The tree with each scalar in it replaced by what it is called inside the loop."""
        if node.scalar:
            text = written(node, SCALAR)
            if node.op in ("number", "constant"):
                return Node("name", leaf=Symbol(f"{self.real}({text})"))
            if text not in self.scalars:
                self.scalars[text] = text if node.op == "name" else self.unused(in_words(node) or "scalar")
            return Node("name", leaf=Symbol(self.scalars[text]))
        return Node(node.op, tuple(map(self.entering, node.args)), node.leaf)

    # -- functions ---------------------------------------------------------------------------------------------------

    def over_elements(self) -> PageFunction:
        values = [a for a in (x, g, *(s.symbol for s in self.rule.state)) if self.is_read(a)]
        array_of = dict(zip((x, g, *(s.symbol for s in self.rule.state)), self.arrays, strict=True))
        k = self.element
        left, right = ", ".join(self.names[a] for a in values), ", ".join(f"{array_of[a]}[{k}]" for a in values)
        scalars = list(self.scalars.values())
        needed = scalars or any(f"{self.real}(" in line for line in self.lines)
        body = [
            *([f"{self.real} = params.dtype.type"] if needed else []),
            *(["# One number of float64 would make every operation one."] if scalars else []),
            *(f"{s} = {self.real}({s})" for s in scalars),
            f"for {k} in range(params.size):",
            *([f"    {left} = {right}"] if values else []),
            *(f"    {line}" for line in self.lines),
            *(f"    {array_of[a]}[{k}] = {self.names[new(a)]}" for a in array_of if a != g),
        ]
        return PageFunction(
            (DECORATOR.format(""), *self.signature("_elements")),
            "The equations, element by element.",
            (),
            tuple(body),
        )

    def in_parallel(self) -> PageFunction:
        start, block = self.start, self.block
        cut = [f"{a}[{start} : {start} + _PIECE]" for a in self.arrays]
        call = rule_pages.laid_out("_elements(", [*cut, *self.scalars.values()], ")", indent=8)
        body = [
            f"for {block} in numba.prange((params.size + _PIECE - 1) // _PIECE):",
            f"    {start} = {block} * _PIECE",
            *(f"    {line}" for line in call),
        ]
        return PageFunction(
            (DECORATOR.format(", parallel=True"), *self.signature("_elements_in_parallel")),
            "The same, blocks of elements at a time on all threads.",
            (),
            tuple(body),
        )

    def signature(self, name: str) -> tuple[str, ...]:
        arguments = [*(f"{a}: Any" for a in self.arrays), *(f"{s}: Any" for s in self.scalars.values())]
        return rule_pages.laid_out(f"def {name}(", arguments, ") -> None:")

    def is_read(self, letter: Symbol) -> bool:
        return any(letter in e.rhs.free_symbols for e in self.rule.equations)

    def run(self, arrays: list[str]) -> list[str]:
        """The call that runs the loop."""
        scalars = rule_pages.laid_out(f"{self.values} = (", list(self.scalars), ")", indent=4)
        if len(self.scalars) == 1:
            scalars = (f"{self.values} = ({next(iter(self.scalars))},)",)
        return [
            *scalars,
            *rule_pages.laid_out("_run(", ["_elements", "_elements_in_parallel", self.values, *arrays], ")", indent=4),
        ]

    def update(self) -> tuple[str, ...]:
        kept = [s.name for s in self.rule.state]
        counts = self.rule.counts_steps
        copies = [f"{name} = np.array(state.{name})" for name in kept]
        state = ", ".join([*kept, *(["t"] if counts else [])])
        return (
            *rule_pages.checks(self.rule),
            *(["t = state.t + 1"] if counts else []),
            "params = np.array(params)",
            *copies,
            *self.run(self.arrays),
            f"return params, State({state})",
        )

    def step(self) -> tuple[str, ...]:
        counts = self.rule.counts_steps
        return (
            *rule_pages.checks_in_place(self.rule),
            *(["t = state.t + 1"] if counts else []),
            *self.run(["params", "grad", *(f"state.{s.name}" for s in self.rule.state)]),
            *(["state.t = t"] if counts else []),
        )
