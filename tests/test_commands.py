"""The command line: what each command says, what it leaves on the disk, and the exit codes."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from derive import render, verify
from derive.__main__ import main
from derive.catalogue import catalogue
from derive.errors import VerificationError
from derive.files import source_of

SQUARE = """
from sympy import Idx, IndexedBase, Sum, symbols
from derive import Loss

D = symbols("D", integer=True, positive=True)
k = Idx("k", D)
w = IndexedBase("w", shape=(D,))

{name} = Loss("{name}", {power} * Sum(w[k] ** 2, k), wrt=[w])
"""


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "derive", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def state(name: str = "square", power: str = "3") -> str:
    return SQUARE.format(name=name, power=power)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, with one statement file, in which commands are run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(state())
    return tmp_path


@pytest.fixture
def built(here: Path) -> Path:
    assert main(["build", "mine.py", "--out", "pkg"]) == 0
    return here / "pkg"


# -- list and show -------------------------------------------------------------------------------------------------


def test_list_names_every_statement_of_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert shown == [s.name for s in catalogue()]
    assert {"svm", "softmax", "two_layer_net", "sgd", "adam", "nesterov_lookahead"} <= set(shown)


def test_show_python_is_the_module_that_build_writes(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["show", "mine.py", "--as", "python"]) == 0
    assert capsys.readouterr().out == (built / "losses/square.py").read_text()


@pytest.mark.parametrize("form", ["text", "latex", "python"])
def test_show_shows_all_the_statements_of_a_file_in_order(
    here: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    (here / "mine.py").write_text(state("second") + state("first"))
    assert main(["show", "mine.py", "--as", form]) == 0
    out = capsys.readouterr().out
    assert 0 <= out.index("second") < out.index("first")


@pytest.mark.parametrize("name", ["svm", "adam"])
@pytest.mark.parametrize("form", ["text", "latex", "python"])
def test_show_shows_losses_and_rules_of_the_catalogue(name: str, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name, "--as", form]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_text_fits_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "svm"])
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 80


def test_show_suggests_names_that_are_close(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "sofmax"]) == 2
    assert "did you mean softmax" in capsys.readouterr().err


# -- build ---------------------------------------------------------------------------------------------------------


def test_build_writes_a_package_that_works(built: Path) -> None:
    script = "import numpy; from pkg.losses import square; print(*square.loss_and_grad(numpy.array([1.0, 2.0])))"
    done = subprocess.run([sys.executable, "-c", script], cwd=built.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "15.0 [ 6. 12.]\n"


def test_everything_built_says_what_it_was_made_from(built: Path) -> None:
    sources = {path: source_of(content) for path, content in tree(built).items() if "__pycache__" not in path}
    assert None not in sources.values()
    assert sources["losses/square.py"] == "mine.py"


def test_a_second_build_touches_nothing(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in built.rglob("*")}
    capsys.readouterr()
    assert main(["build", "mine.py", "--out", "pkg"]) == 0
    assert "pkg: 0 written" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in built.rglob("*")} == before


def test_a_statement_that_is_gone_takes_its_files_along(built: Path) -> None:
    (built.parent / "mine.py").write_text(state("other"))
    (built / "losses" / "own.py").write_text("precious = True\n")
    assert main(["build", "mine.py", "--out", "pkg"]) == 0
    assert not (built / "losses/square.py").exists()
    assert (built / "losses/other.py").exists()
    assert (built / "losses/own.py").read_text() == "precious = True\n"


def test_two_files_build_into_one_package_together_or_in_turn(built: Path) -> None:
    (built.parent / "more.py").write_text(state("more"))
    assert main(["build", "more.py", "--out", "pkg"]) == 0
    in_turn = tree(built)
    assert {"losses/square.py", "losses/more.py"} <= set(in_turn)
    assert main(["check", "mine.py", "--out", "pkg"]) == 0
    assert main(["check", "more.py", "--out", "pkg"]) == 0
    assert main(["build", "mine.py", "more.py", "--out", "together"]) == 0
    assert tree(built.parent / "together") == in_turn


def test_the_path_to_a_statement_file_leaves_no_trace(built: Path) -> None:
    before = tree(built)
    assert main(["build", str(built.parent / "mine.py"), "--out", str(built)]) == 0
    assert tree(built) == before
    assert not any(str(built.parent).encode() in content for content in before.values())


def test_a_failed_verification_writes_nothing_and_exits_1(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(statement: object, *, target: str) -> None:
        raise VerificationError("square, step 3, rule 'collect terms': before and after differ")

    before = tree(built)
    (built.parent / "mine.py").write_text(state(power="5"))
    monkeypatch.setattr(verify, "verify", fails)
    assert main(["build", "mine.py", "--out", "pkg"]) == 1
    assert "rule 'collect terms'" in capsys.readouterr().err
    assert tree(built) == before


# -- check ---------------------------------------------------------------------------------------------------------


def test_check_finds_nothing_after_a_build(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(built.parent)
    assert main(["check", "mine.py", "--out", "pkg"]) == 0
    assert tree(built.parent) == before


def test_check_names_what_differs_and_the_command_that_mends_it(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = built / "losses/square.py"
    (built / "losses" / "ghost.py").write_bytes(module.read_bytes())
    module.write_text(module.read_text() + "# by hand\n")
    (built / "numerical.py").unlink()
    before = tree(built.parent)
    capsys.readouterr()
    assert main(["check", "mine.py", "--out", "pkg"]) == 1
    out = capsys.readouterr().out
    assert "changed: pkg/losses/square.py\n" in out
    assert "\n-# by hand\n" in out
    assert "missing: pkg/numerical.py\n" in out
    assert "orphaned: pkg/losses/ghost.py\n" in out
    assert tree(built.parent) == before
    mending = shlex.split(out.splitlines()[-1])
    assert mending == ["derive", "build", "mine.py", "--out", "pkg"]
    assert main(mending[1:]) == 0
    assert main(["check", "mine.py", "--out", "pkg"]) == 0


def test_the_mending_command_is_quoted_for_a_shell(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "my losses.py").write_text(state())
    assert main(["check", "my losses.py", "--out", "a b"]) == 1
    assert shlex.split(capsys.readouterr().out.splitlines()[-1]) == ["derive", "build", "my losses.py", "--out", "a b"]


def test_check_notices_a_changed_statement(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (built.parent / "mine.py").write_text(state(power="5"))
    assert main(["check", "mine.py", "--out", "pkg"]) == 1
    assert "changed: pkg/losses/square.py" in capsys.readouterr().out


def test_a_crlf_checkout_passes(built: Path) -> None:
    for file in [*built.rglob("*.py"), *built.rglob("*.tex"), built.parent / "mine.py"]:
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert main(["check", "mine.py", "--out", "pkg"]) == 0


# -- bad usage and bad statements ------------------------------------------------------------------------------------

BAD_FILES: dict[str, tuple[str, str]] = {
    "syntax": ("x = = 1\n", r"mine.py:1: SyntaxError: invalid syntax"),
    "name": ("\n\nx = unheard_of\n", "mine.py:3: NameError: name 'unheard_of' is not defined"),
    "exit": ("import sys\nsys.exit('bye')\n", "mine.py:2: SystemExit: bye"),
    "import": ("import not_there_at_all\n", "mine.py:1: ModuleNotFoundError"),
    "empty": ("", "no variable of this file holds a Loss or an UpdateRule"),
    "imported only": ("from derive.losses.svm import svm\n", "'svm' is imported"),
    "twice": (state() + state().replace("square =", "again ="), "there is another statement with the name 'square'"),
    "twice but for case": (state() + state("Square"), "there is another statement with the name 'square'"),
    "keyword": (state().replace('"square"', '"lambda"'), "'lambda': the name must be a Python identifier"),
    "no identifier": (state().replace('"square"', '"my loss"'), "'my loss': the name must be a Python identifier"),
    "no string": (state().replace('"square"', "7"), "7: the name must be a Python identifier"),
    "init": (state().replace('"square"', '"__init__"'), "'__init__': names with two leading underscores"),
    "free index": (state().replace("Sum(w[k] ** 2, k)", "w[k]"), "square"),
    "bytes": ("x = '\x00'\n", "mine.py"),
}


@pytest.mark.parametrize("content", [*BAD_FILES])
@pytest.mark.parametrize("command", ["build", "check", "show", "gradcheck"])
def test_a_bad_statement_is_one_message_and_exit_2(
    here: Path, capsys: pytest.CaptureFixture[str], command: str, content: str
) -> None:
    text, message = BAD_FILES[content]
    (here / "mine.py").write_text(text)
    before = tree(here)
    assert main([command, "mine.py"]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("derive: ")
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert tree(here) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage"),
        (["unheard-of"], "invalid choice"),
        (["build", "--unheard-of"], "unrecognized arguments"),
        (["build", "not_there.py"], "not_there.py: there is no such file"),
        (["build", "svm"], "svm: a statement file is a Python file"),
        (["build", "folder.py"], "folder.py: Is a directory"),
        (["build", "mine.py", "same.py"], "there is another statement with the name 'square'"),
        (["build", "mine.py", "--out", "mine.py"], "mine.py is a file; --out names a directory"),
        (["check", "mine.py", "--out", "mine.py"], "mine.py is a file; --out names a directory"),
        (["build", "mine.py", "--out", "mine.py/below"], "mine.py is a file; --out names a directory"),
        (["build", "mine.py", "--out", "/proc/nowhere"], "/proc/nowhere"),
        (["show", "unheard_of"], "neither in the catalogue nor a statement file"),
        (["show", "svm", "--as", "music"], "invalid choice"),
        (["gradcheck", "unheard_of"], "neither in the catalogue nor a statement file"),
        (["report", "unheard_of"], "unheard_of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_is_exit_2_without_traceback(here: Path, arguments: list[str], message: str) -> None:
    (here / "folder.py").mkdir()
    (here / "same.py").write_text(state())
    before = tree(here)
    done = run(*arguments, cwd=here)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert tree(here) == before


def test_a_module_that_somebody_wrote_is_not_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "generated" / "losses").mkdir(parents=True)
    (here / "generated" / "losses" / "square.py").write_text("precious = True\n")
    before = tree(here)
    assert main(["build", "mine.py"]) == 2
    assert "square.py was not made by derive" in capsys.readouterr().err
    assert tree(here) == before


def test_the_unforeseen_keeps_its_traceback_and_exits_70(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr(render, "pages", breaks)
    assert main(["check", "mine.py"]) == 70
    assert "Traceback" in (err := capsys.readouterr().err)
    assert "nobody thought of this" in err


# -- a terminal ----------------------------------------------------------------------------------------------------


def test_help_does_not_wait_for_sympy(tmp_path: Path) -> None:
    script = "import sys; from derive.__main__ import main; main(['--help']); print('sympy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


@pytest.mark.parametrize("form", ["text", "latex", "python"])
def test_a_terminal_without_greek_gets_escapes(tmp_path: Path, form: str) -> None:
    (tmp_path / "mine.py").write_text(state("größe"), encoding="utf-8")
    done = run("show", "mine.py", "--as", form, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and signals of POSIX")
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    read, written = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "derive", "list"], cwd=tmp_path, stdout=written, stderr=subprocess.PIPE, check=False
    )
    os.close(written)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_behind_stdout_is_unforeseen() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "derive", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 70
    assert "No space left on device" in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_a_closed_stdout_is_no_error() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m derive list >&-', sys.executable], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and signals of POSIX")
def test_ctrl_c_is_no_traceback(here: Path) -> None:
    (here / "mine.py").write_text("print('started', flush=True)\nwhile True: pass\n")
    with subprocess.Popen(
        [sys.executable, "-m", "derive", "build", "mine.py"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == "derive: interrupted\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_build_killed_at_any_moment_leaves_the_old_or_the_new(built: Path) -> None:
    """Killed at moments spread over a build's whole time, then mended by one that is let finish."""
    old = tree(built)
    (built.parent / "mine.py").write_text(state(power="5"))
    command = [sys.executable, "-m", "derive", "build", "mine.py", "--out", "new"]
    start = time.monotonic()
    subprocess.run(command, cwd=built.parent, check=True, stdout=subprocess.DEVNULL)
    whole = time.monotonic() - start
    new = tree(built.parent / "new")
    command[-1] = "pkg"
    for part in (0.6, 0.9, 1.0):
        with subprocess.Popen(command, cwd=built.parent, stdout=subprocess.DEVNULL) as process:
            time.sleep(part * whole)
            process.kill()
        for path, content in tree(built).items():
            if not path.endswith(".derive"):
                assert content in (old.get(path), new.get(path)), path
    subprocess.run(command, cwd=built.parent, check=True, stdout=subprocess.DEVNULL)
    assert tree(built) == new


# -- reading statement files -----------------------------------------------------------------------------------------


def test_a_statement_file_may_import_its_neighbours_and_leaves_nothing_behind(here: Path) -> None:
    for folder, power in (("a", "3"), ("b", "5")):
        (here / folder).mkdir()
        (here / folder / "shared_letters.py").write_text(f"power = {power}\n")
        text = state(f"square_{folder}", "power")
        (here / folder / f"{folder}.py").write_text("from shared_letters import power\n" + text)
    path = list(sys.path)
    assert main(["build", "a/a.py", "b/b.py", "--out", "pkg"]) == 0
    assert re.search(r"\b3\b", (here / "pkg/losses/square_a.py").read_text())
    assert re.search(r"\b5\b", (here / "pkg/losses/square_b.py").read_text())
    assert sys.path == path
    assert "shared_letters" not in sys.modules
    assert not list(here.glob("[ab]/**/*.pyc"))


def test_what_a_statement_file_prints_stays_out_of_the_output(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine.py").write_text("print('noise')\n" + state())
    assert main(["show", "mine.py", "--as", "python"]) == 0
    printed = capsys.readouterr()
    assert "noise" not in printed.out
    assert "noise" in printed.err


def test_a_statement_belongs_to_the_file_that_makes_it(here: Path) -> None:
    (here / "other.py").write_text("from mine import square, w, k, D\n" + state("other"))
    assert main(["build", "other.py", "--out", "pkg"]) == 0
    assert sorted(p.name for p in (here / "pkg/losses").glob("*.py")) == ["__init__.py", "other.py"]


def test_statements_may_stand_in_a_list(here: Path) -> None:
    (here / "mine.py").write_text(
        state() + "\nfamily = [Loss(f'power_{n}', Sum(w[k] ** n, k), wrt=[w]) for n in (2, 4)]\nagain = square\n"
    )
    assert main(["build", "mine.py", "--out", "pkg"]) == 0
    names = [p.name for p in sorted((here / "pkg/losses").glob("*.py"))]
    assert names == ["__init__.py", "power_2.py", "power_4.py", "square.py"]


def test_the_catalogue_is_read_as_a_users_file_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import derive.losses

    (folder,) = derive.losses.__path__
    (tmp_path / "svm.py").write_bytes((Path(folder) / "svm.py").read_bytes())
    texts: list[str] = []
    show: Callable[[str], int] = lambda target: main(["show", target, "--as", "python"])  # noqa: E731
    for target in ("svm", str(tmp_path / "svm.py")):
        assert show(target) == 0
        texts.append("\n".join(capsys.readouterr().out.splitlines()[1:]))
    assert texts[0] == texts[1]
