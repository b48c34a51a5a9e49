"""The page of the descent module, the loops that every run uses.

Nothing in it depends on a statement, so its code is ordinary code: ``derive.loops``, which is imported and tested as it
stands. The page is that code under the banner of a generated file.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DescentPage", "page"]


@dataclass(frozen=True)
class DescentPage:
    """What the template places: finished text and nothing to decide."""

    banner: str
    docstring: str
    body: str


def page() -> dict[str, str]:
    """The module of the loops, as ``{relative path: text}``."""
    from derive.files import SHARED, banner
    from derive.render import place

    text = Path(__file__).with_name("loops.py").read_text(encoding="utf-8")
    docstring, body = _split(text.replace("\r\n", "\n"))
    content = DescentPage(banner(SHARED), docstring, body)
    return {"descent.py": place("descent.py.jinja", content)}


def _split(text: str) -> tuple[str, str]:
    """The docstring of a module, with its quotes, and what follows it."""
    first = ast.parse(text).body[0]
    lines = text.splitlines()
    end = first.end_lineno
    return "\n".join(lines[first.lineno - 1 : end]), "\n".join(lines[end:]).strip("\n")
