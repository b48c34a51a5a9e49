"""The command line: ``derive``, or ``python -m derive``.

Exit codes: 0 fine; 1 ``check`` found drift, or a verification failed; 2 bad usage or a bad statement, with one message
on standard error; 70 anything unforeseen, with its traceback.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from derive.errors import DeriveError, VerificationError

if TYPE_CHECKING:
    from derive.catalogue import Statement
    from derive.render import Target

__all__ = ["main"]

FINE, FAILED, MISUSED, UNFORESEEN = 0, 1, 2, 70
INTERRUPTED, PIPE_CLOSED = 130, 141  # 128 + the signal's number, as in a shell


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_encode(stream)
    collecting = gc.isenabled()
    try:
        options = _parser().parse_args(arguments)
        code: int = options.command(options)
        if sys.stdout is not None:  # None where a shell has closed it
            sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse has said what it had to say
        return stop.code if isinstance(stop.code, int) else MISUSED
    except BrokenPipeError:
        _give_up_on_stdout()  # the reader has gone, as in `derive show svm | head`
        return PIPE_CLOSED
    except KeyboardInterrupt:
        print("derive: interrupted", file=sys.stderr)
        return INTERRUPTED
    except VerificationError as error:
        print(f"derive: verification failed: {error}", file=sys.stderr)
        return FAILED
    except DeriveError as error:
        print(f"derive: {error}", file=sys.stderr)
        return MISUSED
    except Exception:
        traceback.print_exc()
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError:
            _give_up_on_stdout()
        return UNFORESEEN
    finally:
        if collecting:
            gc.enable()


def _give_up_on_stdout() -> None:
    """Keep the interpreter from writing once more at its end, which would fail again and change the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _never_fail_to_encode(stream: TextIO) -> None:
    """On a terminal that knows no Greek, print escapes rather than stop."""
    with contextlib.suppress(AttributeError, ValueError):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="derive",
        description="From a loss or an update rule, written as on the blackboard, to its derivation, a report of it "
        "and NumPy code, checked against each other.",
        epilog="Exit codes: 0 fine; 1 drift or a failed verification; 2 bad usage or a bad statement.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: object, about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".", allow_abbrev=False)
        sub.set_defaults(command=run)
        return sub

    def takes_out(sub: argparse.ArgumentParser, default: str) -> None:
        sub.add_argument("--out", metavar="DIR", default=default, help=f"directory to write to (default: {default})")

    def takes_specs(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "specs", nargs="*", metavar="SPEC.py", help="files with statements (default: the built-in catalogue)"
        )
        sub.add_argument("--out", metavar="DIR", default="generated", help="directory (default: generated)")
        sub.add_argument(
            "--target", choices=("numpy", "numba"), default="numpy", help="what the modules run on (default: numpy)"
        )

    def takes_target(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("target", metavar="NAME|SPEC.py", help="a name from `derive list`, or a file of statements")

    command("list", _list, "list the losses and update rules of the catalogue")
    takes_specs(command("build", _build, "derive, verify, and write modules and reports"))
    takes_specs(command("check", _check, "compare what is on the disk with what the statements say; write nothing"))
    show = command("show", _show, "show one derivation")
    takes_target(show)
    show.add_argument("--as", dest="form", choices=("text", "latex", "python"), default="text", help="(default: text)")
    takes_target(command("gradcheck", _gradcheck, "compare analytic with numerical gradients"))
    report = command("report", _report, "compile the LaTeX reports to PDF")
    report.add_argument("names", nargs="*", metavar="NAME", help="which (default: one document with all of them)")
    takes_out(report, "reports")
    takes_out(command("demo", _demo, "train on real data with every optimizer, and draw pictures"), "demo")
    return parser


# -- commands --------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    from derive.catalogue import catalogue, kind

    statements = catalogue()
    width = max(len(s.name) for s in statements)
    for which, title in (("loss", "losses"), ("rule", "optimizers")):
        print(f"{title}:")
        for statement in statements:
            if kind(statement) == which:
                print(f"  {statement.name:{width}}  {getattr(statement, 'about', '')}".rstrip())
    return FINE


def _build(options: argparse.Namespace) -> int:
    from derive import difference
    from derive.files import require_directory, write
    from derive.verify import verify

    require_directory(options.out)
    if options.target == "numba":
        from derive.numba_source import require_numba

        require_numba()
    sources = _sources(options.specs)
    for quotient in (difference.CENTRAL, difference.FORWARD):
        difference.verify(quotient)
    for _, statements in sources:
        for statement in statements:
            print(verify(statement, target=options.target), flush=True)
    if not options.specs:
        # The analyses are of the built-in rules on the built-in landscapes.
        from derive import analyses

        print(analyses.verify(), flush=True)
    done = write(_pages(sources, options.target), options.out)
    for path in done.written:
        print(f"wrote {Path(options.out, path)}")
    for path, before in done.taken:
        print(f"note: {Path(options.out, path)} was made from {before} before", file=sys.stderr)
    for path in done.removed:
        print(f"removed {Path(options.out, path)}")
    print(f"{options.out}: {len(done.written)} written, {done.unchanged} unchanged, {len(done.removed)} removed")
    return FINE


def _check(options: argparse.Namespace) -> int:
    from derive.files import compare, require_directory

    require_directory(options.out)
    # Expressions are held in caches until the end: looking for garbage among them only takes time, a fifth of it all.
    gc.disable()
    # Nor does the interpreter need to look through them as it ends.
    atexit.register(gc.freeze)
    pages = _pages(_sources(options.specs), options.target)
    drift = compare(pages, options.out)
    if not drift:
        print(f"{options.out}: {len(pages)} files, all as their statements say")
        return FINE
    for change in drift.changed:
        print(f"changed: {Path(options.out, change.path)}")
        print(change.diff, end="")
    for path in drift.missing:
        print(f"missing: {Path(options.out, path)}")
    for path in drift.orphaned:
        print(f"orphaned: {Path(options.out, path)}")
    count = f"{len(drift.changed)} changed, {len(drift.missing)} missing, {len(drift.orphaned)} orphaned"
    print(f"{options.out}: {count}. To mend:\n\n    {_mending(options)}")
    return FAILED


def _show(options: argparse.Namespace) -> int:
    source, statements = _target(options.target)
    for statement in statements:
        print(_shown(statement, options.form, source).rstrip("\n"))
    return FINE


def _gradcheck(options: argparse.Namespace) -> int:
    _, statements = _target(options.target)
    from derive.statement_check import check_statements

    return FINE if check_statements(statements) else FAILED


def _report(options: argparse.Namespace) -> int:
    from derive.report import compile_reports

    for file in compile_reports(options.names, Path(options.out)):
        print(f"wrote {file}")
    return FINE


def _demo(options: argparse.Namespace) -> int:
    from derive.demo import run

    print(f"wrote {run(Path(options.out))}")
    return FINE


# -- what they share -------------------------------------------------------------------------------

Sources = Sequence[tuple[str, "Sequence[Statement]"]]


def _sources(specs: Sequence[str]) -> Sources:
    """(source, statements) for each file given, or for the catalogue."""
    from derive.catalogue import catalogue, load, require_distinct
    from derive.files import CATALOGUE

    if not specs:
        return [(CATALOGUE, catalogue())]
    files = {Path(spec).resolve(): spec for spec in specs}
    sources = [(file.name, load(spec)) for file, spec in files.items()]
    require_distinct(statement for _, statements in sources for statement in statements)
    return sources


def _target(target: str) -> tuple[str, Sequence[Statement]]:
    from derive.catalogue import find, load
    from derive.files import CATALOGUE

    if target.endswith(".py"):
        return Path(target).name, load(target)
    return CATALOGUE, [find(target)]


def _pages(sources: Sources, target: Target) -> dict[str, str]:
    from derive.render import pages, union

    return union(*(pages(statements, source=source, target=target) for source, statements in sources))


def _shown(statement: Statement, form: str, source: str) -> str:
    from derive.render import module_text

    if form == "python":
        return module_text(statement, source=source)
    from derive.report import latex, text

    return latex(statement) if form == "latex" else text(statement)


def _mending(options: argparse.Namespace) -> str:
    """The build that mends a failed check, as one would type it."""
    program = ["python", "-m", "derive"] if __name__ == "__main__" else ["derive"]
    out = [] if options.out == "generated" else ["--out", options.out]
    target = [] if options.target == "numpy" else ["--target", options.target]
    return shlex.join([*program, "build", *options.specs, *out, *target])


if __name__ == "__main__":
    sys.exit(main())
