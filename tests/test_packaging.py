"""The wheel: what is in it, and that it works where there is nothing but the wheel."""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def checked_in(folder: str, *suffixes: str) -> set[str]:
    return {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*") if p.suffix in suffixes}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True, stdin=subprocess.DEVNULL)
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it; the packages it depends on are those of the tests."""
    site = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True, stdin=subprocess.DEVNULL)
    return site


def run_installed(site: Path, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(site), **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_the_wheel_holds_sources_templates_and_what_is_generated(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == (
        checked_in("derive", ".py", ".typed")
        | {f"derive/{path}" for path in checked_in("templates", ".jinja")}
        | checked_in("generated", ".py", ".tex")
    )
    assert {"derive/py.typed", "derive/templates/package.py.jinja", "generated/__init__.py"} <= inside


def test_the_wheel_says_what_it_is_and_what_it_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
    metadata = message_from_string(archive.read(name).decode())
    assert (metadata["Name"], metadata["Requires-Python"]) == ("derive-numpy", ">=3.11")
    assert metadata["License-Expression"] == "MIT"
    requirements = metadata.get_all("Requires-Dist") or []
    needed = [r for r in requirements if "extra ==" not in r]
    assert sorted(r.split(">")[0].split("<")[0] for r in needed) == ["jinja2", "numpy", "sympy"]
    assert set(metadata.get_all("Provides-Extra") or []) >= {"test", "demo", "numba", "peers"}
    scripts = configparser.ConfigParser()
    scripts.read_string(archive.read(name.replace("METADATA", "entry_points.txt")).decode())
    assert dict(scripts["console_scripts"]) == {"derive": "derive.__main__:main"}


def test_sympy_is_held_to_one_minor_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "sympy>=1.14,<1.15" in project["dependencies"]


def test_derive_build_works_from_the_wheel_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """Bytes are those that are checked in, though place, hash seed, locale and time zone are others."""
    where = run_installed(installed, "-c", "import derive; print(derive.__file__)", cwd=tmp_path).stdout
    assert Path(where.strip()).is_relative_to(installed)
    settings = {"PYTHONHASHSEED": "4321", "LC_ALL": "C", "PYTHONUTF8": "0", "TZ": "Asia/Seoul", "COLUMNS": "40"}
    run_installed(installed, "-m", "derive", "build", cwd=tmp_path, **settings)
    made = {p.relative_to(tmp_path).as_posix(): p for p in tmp_path.rglob("*") if p.suffix in (".py", ".tex")}
    assert set(made) == checked_in("generated", ".py", ".tex")
    assert [name for name in sorted(made) if made[name].read_bytes() != (ROOT / name).read_bytes()] == []


def test_the_script_of_the_wheel_is_the_same_program(installed: Path, tmp_path: Path) -> None:
    script = installed / "bin" / "derive"
    assert run_installed(installed, str(script), "list", cwd=tmp_path).stdout == (
        run_installed(installed, "-m", "derive", "list", cwd=tmp_path).stdout
    )


def test_generated_code_runs_with_numpy_alone(installed: Path, tmp_path: Path) -> None:
    """Every generated module, on its own, in an interpreter that knows NumPy and the standard library only."""
    script = """
import importlib.util, pathlib, sys

class OnlyNumPy:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top != "numpy":
            raise ModuleNotFoundError(f"{name} is not to be imported", name=name)

import numpy
sys.meta_path.insert(0, OnlyNumPy())
files = sorted(pathlib.Path(sys.argv[1], "generated").rglob("*.py"))
for number, file in enumerate(files):
    spec = importlib.util.spec_from_file_location(f"copied{number}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
print(len(files))
"""
    done = run_installed(installed, "-c", script, str(installed), cwd=tmp_path)
    assert int(done.stdout) == len(checked_in("generated", ".py")) > 20


def test_generated_code_does_not_mention_the_toolkit() -> None:
    for path in sorted(checked_in("generated", ".py")):
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            imported = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not any(name.partition(".")[0] in ("derive", "sympy", "jinja2") for name in imported), path


def test_templates_are_found_in_the_checkout_and_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    script = "from derive.render import environment; print(environment().get_template('package.py.jinja').filename)"
    in_wheel = run_installed(installed, "-c", script, cwd=tmp_path).stdout.strip()
    in_checkout = run_installed(ROOT, "-c", script, cwd=tmp_path).stdout.strip()
    assert Path(in_wheel) == installed / "derive" / "templates" / "package.py.jinja"
    assert Path(in_checkout).resolve() == (ROOT / "templates" / "package.py.jinja").resolve()
