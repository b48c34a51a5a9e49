"""The page that binds the pictures: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from derive.errors import OutputError
from derive.render import place

__all__ = ["Picture", "Section", "Table", "write"]


@dataclass(frozen=True)
class Picture:
    """A picture: the name of its file, its SVG, and a sentence that says what is to be seen."""

    name: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Table:
    """Rows of text under a row of headings; the first column names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and pictures."""

    title: str
    about: str
    pictures: tuple[Picture, ...]
    table: Table | None = None


@dataclass(frozen=True)
class _Figure:
    name: str
    source: str
    caption: str


@dataclass(frozen=True)
class _Part:
    anchor: str
    title: str
    about: str
    figures: tuple[_Figure, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class DemoPage:
    """What the template places: text that is safe in HTML."""

    parts: tuple[_Part, ...]


def write(sections: Sequence[Section], out: Path) -> Path:
    """Write the page and the pictures; the path of the page."""
    text = place("demo.html.jinja", DemoPage(tuple(_part(n, section) for n, section in enumerate(sections, start=1))))
    page = out / "index.html"
    try:
        for picture in (p for section in sections for p in section.pictures):
            (out / "pictures" / f"{picture.name}.svg").write_text(picture.svg, encoding="utf-8")
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{error.filename or out}: {error.strerror or error}") from error
    return page


def _part(number: int, section: Section) -> _Part:
    table = section.table or Table((), ())
    return _Part(
        anchor=f"part-{number}",
        title=html.escape(section.title),
        about=html.escape(section.about),
        figures=tuple(
            _Figure(
                html.escape(p.name),
                "data:image/svg+xml;base64," + base64.b64encode(p.svg.encode()).decode("ascii"),
                html.escape(p.caption),
            )
            for p in section.pictures
        ),
        head=tuple(html.escape(cell) for cell in table.head),
        rows=tuple(tuple(html.escape(cell) for cell in row) for row in table.rows),
    )
