"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from derive.__main__ import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Blocks of Python by their first line, which names a file.
BLOCKS: dict[str, str] = dict(re.findall(r"```python\n# ([^\n]+)\n(.*?)```", README, re.DOTALL))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the statement files of the README, and what is built from them."""
    here = tmp_path_factory.mktemp("readme")
    for name, body in BLOCKS.items():
        if re.fullmatch(r"my_\w+\.py", name):
            (here / name).write_text(body, encoding="utf-8")
            assert main(["build", str(here / name), "--out", str(here / "mypkg")]) == 0
    return here


def test_its_python_is_labelled() -> None:
    assert len(BLOCKS) == README.count("```python")
    assert "my_losses.py" in BLOCKS


@pytest.mark.parametrize("name", [n for n in BLOCKS if n.startswith("in ")])
def test_code_that_is_quoted_stands_in_the_generated_file(built: Path, name: str) -> None:
    assert BLOCKS[name] in (built / name.removeprefix("in ")).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [n for n in BLOCKS if not n.startswith(("in ", "my_"))])
def test_scripts_print_what_is_shown(built: Path, name: str) -> None:
    (built / name).write_text(BLOCKS[name], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, name],
        cwd=built,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    shown = README.partition(BLOCKS[name])[2].partition("```")[2]
    expected = re.match(r"\s*?\n((?:    .*\n)+)", shown)
    assert expected is not None, "the output stands below the script, indented"
    assert done.stdout == re.sub(r"^    ", "", expected[1], flags=re.MULTILINE)


def test_the_two_commands_are_those_of_ci() -> None:
    test_command = 'python -m pip install -e ".[test]" && python -m pytest'
    assert f"    python -m pip install -e . && derive build\n    {test_command}\n" in README
    assert f"\n{test_command}\n" in (ROOT / ".ci" / "run").read_text()


def test_every_command_is_listed() -> None:
    commands = set(re.findall(r"^    derive (\w+) .*  ", README, re.MULTILINE))
    assert commands == {"list", "build", "check", "show", "gradcheck", "report", "demo"}


def test_extras_that_are_mentioned_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"\.\[([\w,]+)\]", README):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_pictures_and_links_to_files_are_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
