"""The same statements give the same bytes: whatever the hash seed, the order of the files, or the time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from derive import render
from derive.catalogue import catalogue
from derive.files import CATALOGUE

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def pages() -> dict[str, str]:
    return render.pages(catalogue(), source=CATALOGUE)


@pytest.mark.parametrize("seed", ["0", "20240229"])
def test_bytes_do_not_depend_on_the_hash_seed(seed: str) -> None:
    """``generated`` was written under some seed; under every other one nothing drifts from it.

    A third seed is that of the build from the wheel, in test_packaging.
    """
    done = subprocess.run(
        [sys.executable, "-m", "derive", "check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_page_does_not_depend_on_what_was_rendered_before(pages: dict[str, str]) -> None:
    backwards = render.pages(catalogue()[::-1], source=CATALOGUE)
    modules = [path for path in pages if path.startswith(("losses/", "optimizers/"))]
    assert {path: backwards[path] for path in modules} == {path: pages[path] for path in modules}


def test_pages_are_utf8_with_lf_and_one_end_of_line_at_the_end(pages: dict[str, str]) -> None:
    for path, text in pages.items():
        assert text.encode().decode() == text
        assert "\r" not in text, path
        assert text.endswith("\n"), path
        assert not text.endswith("\n\n"), path
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), path


def test_pages_name_no_place_and_no_time(pages: dict[str, str]) -> None:
    for path, text in pages.items():
        assert str(ROOT) not in text, path
        assert os.path.expanduser("~") + os.sep not in text, path
        assert not re.search(r"\b\d\d:\d\d:\d\d\b|\b20\d\d-\d\d-\d\d\b", text), path
        assert not re.search(r" at 0x[0-9a-f]{6,}", text), path
