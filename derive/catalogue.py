"""Where statements come from: the files of the catalogue, and files of a user's own.

Both take the same road. A statement file is executed, and the ``Loss`` and ``UpdateRule`` objects that its variables
hold, or lists of them, are its statements, in the order in which they stand there. An object that belongs to a module
which the file imports is that module's.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import keyword
import linecache
import os
import sys
import traceback
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from derive.errors import StatementError

if TYPE_CHECKING:
    from derive.rule import UpdateRule
    from derive.statement import Loss

    Statement: TypeAlias = Loss | UpdateRule

__all__ = ["catalogue", "find", "kind", "load", "require_distinct"]

_FOLDERS = ("losses", "optimizers")
_MODULE = "derive_statements"


def catalogue() -> list[Statement]:
    """The built-in statements: losses first, then rules, each sorted by file."""
    return list(_catalogue())


@functools.cache
def _catalogue() -> tuple[Statement, ...]:
    here = Path(__file__).parent
    files = [f for folder in _FOLDERS for f in sorted((here / folder).glob("*.py")) if not f.name.startswith("_")]
    statements = [s for file in files for s in load(file)]
    require_distinct(statements)
    return tuple(statements)


def find(name: str) -> Statement:
    """The statement of the catalogue that has this name."""
    by_name = {s.name: s for s in catalogue()}
    if name in by_name:
        return by_name[name]
    close = difflib.get_close_matches(name, by_name, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "`derive list` shows what there is"
    raise StatementError(f"'{name}' is neither in the catalogue nor a statement file (*.py): {hint}")


def kind(statement: Statement) -> str:
    """``loss`` or ``rule``."""
    from derive.statement import Loss

    return "loss" if isinstance(statement, Loss) else "rule"


def load(path: str | os.PathLike[str]) -> list[Statement]:
    """The statements of a file.

    Raises
    ------
    StatementError
        When the file cannot be read or executed (with the line at which it stopped), or when it states nothing.
    """
    file = Path(path)
    if file.suffix != ".py":
        raise StatementError(f"{path}: a statement file is a Python file (*.py)")
    try:
        text = file.read_bytes()
    except FileNotFoundError as error:
        raise StatementError(f"{path}: there is no such file") from error
    except OSError as error:
        raise StatementError(f"{path}: {error.strerror or error}") from error
    statements, imported = _execute(text, file)
    if not statements:
        told = f" ({imported[0]!r} is imported; it belongs to the file it is imported from)" if imported else ""
        raise StatementError(f"{path}: no variable of this file holds a Loss or an UpdateRule{told}")
    require_distinct(statements, str(path))
    return statements


def require_distinct(statements: Iterable[Statement], place: str = "") -> None:
    """Refuse names that are no module names, and two statements that would be written to the same file."""
    prefix = f"{place}: " if place else ""
    seen: dict[str, str] = {}
    for count, statement in enumerate(statements, start=1):
        name = statement.name
        what = f"{prefix}{'loss' if kind(statement) == 'loss' else 'update rule'} {name!r}"
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise StatementError(f"{what}: the name must be a Python identifier, for it becomes the name of a module")
        if name.startswith("__"):
            raise StatementError(f"{what}: names with two leading underscores belong to Python")
        # Some file systems hold Svm.py and svm.py for the same file.
        other = seen.setdefault(name.casefold(), name)
        if len(seen) < count:
            raise StatementError(f"{what}: there is another statement with the name {other!r}")


_FOUNDATIONS = frozenset({"jinja2", "markupsafe", "mpmath", "numpy", "sympy"})

# -- executing a file ------------------------------------------------------------------------------


def _execute(text: bytes, file: Path) -> tuple[list[Statement], list[str]]:
    """The statements that the variables of a file hold, and the names of those that other modules made."""
    module = types.ModuleType(_MODULE)
    module.__file__ = str(file)
    try:
        code = compile(text, str(file), "exec", dont_inherit=True)
        with _place_of(file, module), contextlib.redirect_stdout(sys.stderr):
            exec(code, module.__dict__)
            return _statements(module)
    except (Exception, SystemExit) as error:
        raise StatementError(_complaint(error, file)) from error


@contextlib.contextmanager
def _place_of(file: Path, module: types.ModuleType) -> Iterator[None]:
    """Let a statement file import its neighbours, and leave no trace of it: no path, no module, no bytecode."""
    folder = str(file.resolve().parent)
    path, bytecode, before = list(sys.path), sys.dont_write_bytecode, set(sys.modules)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    sys.modules[_MODULE] = module
    try:
        yield
    finally:
        sys.path[:] = path
        sys.dont_write_bytecode = bytecode
        sys.modules.pop(_MODULE, None)
        # Two folders may each have a module of the same name: what came from this one is forgotten. Modules of
        # installed packages stay, for loading them twice would make two of each class.
        new = sorted(name for name in set(sys.modules) - before if "." not in name)
        local = [name for name in new if _is_beside(sys.modules[name], folder)]
        for name in [n for n in sys.modules if n.partition(".")[0] in local]:
            del sys.modules[name]


def _is_beside(module: types.ModuleType, folder: str) -> bool:
    origin = getattr(module, "__file__", None)
    if origin is None:
        return any(os.path.dirname(p) == folder for p in getattr(module, "__path__", ()))
    parent = os.path.dirname(os.path.realpath(origin))
    return folder in (parent, os.path.dirname(parent) if hasattr(module, "__path__") else None)


def _statements(module: types.ModuleType) -> tuple[list[Statement], list[str]]:
    from derive.rule import UpdateRule
    from derive.statement import Loss

    found: dict[int, Statement] = {}
    for item in _items_of(module):
        if isinstance(item, Loss | UpdateRule):
            found.setdefault(id(item), item)
    others = [m for n, m in list(sys.modules.items()) if m is not module and m is not None and _may_hold_statements(n)]
    elsewhere = {id(item) for m in others for item in _items_of(m)} & set(found)
    return [s for i, s in found.items() if i not in elsewhere], [s.name for i, s in found.items() if i in elsewhere]


@functools.cache
def _may_hold_statements(module: str) -> bool:
    """Whether a module can be one that makes statements: not one of Python's, nor of what this package stands on."""
    package = module.partition(".")[0]
    return package == "__main__" or package not in sys.stdlib_module_names | _FOUNDATIONS


def _items_of(module: types.ModuleType) -> Iterator[Any]:
    """What the variables of a module hold, those in lists, tuples and dictionaries included."""
    for value in list(getattr(module, "__dict__", {}).values()):
        if type(value) in (list, tuple):
            yield from value
        elif type(value) is dict:
            yield from list(value.values())
        else:
            yield value


def _complaint(error: BaseException, file: Path) -> str:
    """Where and why a file stopped, for the person who wrote it."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    line = lines[-1] if lines else None
    if isinstance(error, SyntaxError) and error.filename == str(file):
        line = error.lineno
    what = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, SyntaxError) and error.filename != str(file):
        what = str(error)
    if not isinstance(error, StatementError):
        what = f"{type(error).__name__}: {what}"
    shown = linecache.getline(str(file), line).strip() if line else ""
    return f"{file}{f':{line}' if line else ''}: {what}" + (f"\n    {shown}" if shown else "")
