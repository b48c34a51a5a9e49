"""``derive demo``: train on real data with every optimizer, and draw what the lecture tells.

Everything that runs here is generated code. ``run`` writes one HTML page that needs nothing beside it, and its pictures
once more as files.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from pathlib import Path

from derive.errors import MissingToolError, OutputError

__all__ = ["run"]

_NEEDED = {"matplotlib": "matplotlib", "sklearn": "scikit-learn"}


def run(out: Path) -> Path:
    """Train, draw, and write ``index.html`` and ``pictures/*.svg`` below ``out``.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    MissingToolError
        When matplotlib or scikit-learn is not installed.
    OutputError
        When ``out`` cannot be written.
    """
    missing = [name for module, name in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingToolError(
            f"the demo needs {' and '.join(missing)}: install the extra, pip install 'derive-numpy[demo]'"
        )
    _make_directory(out / "pictures")

    from derive.demo import digits, first_steps, gradient_cost, problems, surfaces
    from derive.demo.page import write

    tell = _Clock()
    # The matrices are small: threads that wait for each other are many times slower than one. The limit holds for the
    # libraries that are loaded by now.
    with importlib.import_module("threadpoolctl").threadpool_limits(limits=1):  # it comes with scikit-learn
        parts = (digits, surfaces, problems, first_steps, gradient_cost)
        sections = [section for part in parts for section in part.sections(tell)]
    page = write(sections, out)
    tell("done")
    return page


class _Clock:
    """Prints what happens and when."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def __call__(self, what: str) -> None:
        print(f"[{time.perf_counter() - self.start:5.1f} s] {what}", flush=True)


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{error.filename or directory}: {error.strerror or error}") from error
