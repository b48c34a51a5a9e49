"""The page of a loss for Numba: the page that the NumPy target gives it, with loops over rows.

Checks of arguments, docstrings and matrix products are those of :mod:`derive.loss_pages`; what is done row by row goes
into compiled loops (:mod:`derive.loop_writer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sympy import Expr

from derive import row_guards
from derive.differentiate import differentiate
from derive.economy import Economy
from derive.files import banner
from derive.loop_writer import LoopWriter
from derive.loss_pages import Module, Page, needed_checks
from derive.numba_source import DECORATOR, IMPORT, NUMBA
from derive.program import Node
from derive.render import place
from derive.row_sums import RowSums
from derive.statement import Loss

__all__ = ["page"]

_GUARDS = (row_guards._over_rows, row_guards._plus, row_guards._sigmoid, row_guards._softplus)

_POOL = "from concurrent.futures import ThreadPoolExecutor"


def page(loss: Loss, source: str) -> dict[str, str]:
    """The module of a loss, ``{path: text}``, with the functions that the NumPy target gives it."""
    contents = _LoopModule(differentiate(loss)).page(banner(source))
    return {f"losses/{loss.name}.py": place("loss.py.jinja", contents)}


class _LoopModule(Module):
    writers: dict[str, LoopWriter]

    def economy(self, roots: Sequence[Node]) -> Economy:
        sizes = self.row_sizes()
        return RowSums(self.lowering.graph, roots, sizes[0]) if sizes else super().economy(roots)

    def writer(self, function: str, equations: dict[str, int], **names: Any) -> LoopWriter:
        writer = LoopWriter(
            **names,
            elements=NUMBA,
            decorator=DECORATOR.format(", nogil=True"),
            function=function,
            sizes=self.row_sizes(),
            equations=equations,
        )
        self.writers[function] = writer
        return writer

    def row_sizes(self) -> list[Expr]:
        """Sizes that may be the number of examples, the likeliest first."""
        likeliest = [size] if (size := self.examples()) is not None else []
        arrays = [v for v in (*self.form.data, *self.form.parameters) if v.shape]
        return list(dict.fromkeys([*likeliest, *(v.shape[0] for v in arrays if v.shape[0].is_Symbol)]))

    def page(self, banner: str) -> Page:
        self.writers = {}
        contents = super().page(banner)
        loops = [loop for writer in self.writers.values() for loop in writer.loops]
        if not loops:
            return contents
        lines = [*(line for f in contents.functions for line in f.body), *loops]
        arrays = [i for i in contents.imports if i.startswith("import numpy")]
        standard = [i for i in contents.imports if i and i not in arrays]
        plain = sorted({"import os", *(i for i in standard if i.startswith("import "))})
        others = sorted((_POOL, *(i for i in standard if not i.startswith("import "))))
        return replace(
            contents,
            imports=(*plain, *others, "", *arrays, "", *IMPORT),
            loops=tuple(loops),
            checks=(*contents.checks, *needed_checks(lines, _GUARDS)),
        )
