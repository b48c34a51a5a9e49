"""What tests share: peers and tools that may be missing on a laptop, and must not be missing in CI."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from types import ModuleType

import pytest


def _absent(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must not skip what needs it")
    pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="session")
def peer() -> Callable[[str], ModuleType]:
    """Import a package of the extras `peers`, `demo` or `numba`: ``torch = peer("torch")``."""

    def find(name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ImportError:
            _absent(name)
            raise

    return find


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """The path of a program: ``tool("pdflatex")``."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            _absent(name)
        assert path is not None
        return path

    return find
