"""The page of a loss: its generated module.

Derivation, lowering and printing are done elsewhere; here the lines of each function are put together with the lines
that check its arguments and with the docstrings, as a frozen dataclass of strings for the template ``loss.py.jinja``.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sympy import Expr, Integer, Symbol, expand

from derive import arguments
from derive.blocks import plan
from derive.differentiate import Derivation, differentiate, gradient_name
from derive.economy import Economy
from derive.errors import StatementError
from derive.lower import Lowering
from derive.numbering import equation_numbers
from derive.program import Node
from derive.python_source import scalar_source
from derive.statement import Definition, Form, Loss, Variable
from derive.text import form_text
from derive.writer import Output, Writer

__all__ = ["Module", "Page", "needed_checks", "page"]

#: What the lines of a function call; an argument of such a name gets another one inside the function.
_CALLED = ("Gradient", "builtins", "dtype", "float", "int", "abs", "max", "min", "math", "np", "numpy", "_math")


@dataclass(frozen=True)
class Function:
    """A function as its template places it."""

    signature: str
    summary: str
    docstring: tuple[str, ...]
    body: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """The module of a loss as its template places it."""

    banner: str
    title: str
    formula: tuple[str, ...]
    notes: tuple[str, ...]
    imports: tuple[str, ...]
    exports: str
    classes: tuple[str, ...]
    functions: tuple[Function, ...]
    check: Function
    checks: tuple[str, ...]
    #: Loops that the functions call, for targets that have them.
    loops: tuple[str, ...] = ()


def page(loss: Loss, source: str) -> dict[str, str]:
    """The module of a loss: {"losses/<name>.py": text}."""
    from derive.files import banner
    from derive.render import place

    contents = Module(differentiate(loss)).page(banner(source))
    return {f"losses/{loss.name}.py": place("loss.py.jinja", contents)}


class Module:
    """The parts of the page of one derivation. Other targets replace the writer, and what it needs around it."""

    def __init__(self, derivation: Derivation) -> None:
        self.derivation = derivation
        self.form: Form = derivation.form
        self.lowering = Lowering(self.form)
        self.definitions = [self.output(d) for d in (*derivation.definitions, *derivation.adjoints)]
        stated = {d.name for d in self.form.definitions}
        stated |= {gradient_name(n) for n in (*stated, *(p.name for p in self.form.parameters))}
        self.named: dict[int, str] = {}
        self.optional: set[int] = set()
        for o in self.definitions:
            # A number has no name, whatever happens to be equal to it.
            if o.ref.node.number not in self.named and o.ref.node.op not in ("scalar", "input"):
                self.named[o.ref.node.number] = o.name
                if o.name not in stated:
                    self.optional.add(o.ref.node.number)
        self.gradients = [gradient_name(p.name) for p in self.form.parameters]
        self.sources = self.size_sources()
        self.argument_names = {v.name for v in self.form.arguments} | {n for n, _ in self.form.hyperparameters}

    def output(self, definition: Definition) -> Output:
        ref = self.lowering.define(definition)
        return Output(definition.name, ref, self.lowering.defined[definition.name][1])

    # -- the page ----------------------------------------------------------------------------------

    def page(self, banner: str) -> Page:
        value = self.form.value.name
        functions = (
            self.function("loss", [value]),
            self.function("grad", self.gradients),
            self.function("loss_and_grad", [value, *self.gradients]),
        )
        check = self.check()
        text = "\n".join(line for f in (*functions, check) for line in f.body)
        checks = needed_checks([*check.body, *(line for f in functions for line in f.body)], CHECKS)
        imports = [
            f"import {module}"
            for module in ("functools", "numbers", "os")
            if any(re.search(rf"\b{module}\.", c) for c in checks)
        ]
        if "builtins." in text:
            imports.append("import builtins")
        if "math." in text:
            imports.insert(0, "import math")
        if len(self.gradients) > 1:
            imports.append("from typing import NamedTuple")
        if "math" in self.argument_names:
            imports = ["import math as _math" if i == "import math" else i for i in imports]
        arrays = ["import numpy", "import numpy as np"] if "np" in self.argument_names else ["import numpy as np"]
        imports += ["", *arrays] if imports else arrays
        exports = ['"Gradient"'] if len(self.gradients) > 1 else []
        exports += ['"grad"', '"loss"', '"loss_and_grad"']
        about = in_docstring(self.derivation.loss.about) or f"The loss {self.form.name}, generated from its statement."
        return Page(
            banner=banner,
            title=about,
            formula=tuple(self.formula()),
            notes=tuple(self.notes()),
            imports=tuple(imports),
            exports=", ".join(exports),
            classes=tuple(self.gradient_class()),
            functions=functions,
            check=check,
            checks=tuple(checks),
        )

    def formula(self) -> Iterable[str]:
        return (f"    {line}".rstrip() for line in form_text(self.form, 100))

    def notes(self) -> Iterable[str]:
        shapes = [f"{v.name} {shape_text(v)}" for v in self.form.arguments]
        yield from textwrap.wrap("Shapes: " + ", ".join(shapes) + ".", 110)
        labels = [v.name for v in self.form.data if v.labels is not None]
        if labels:
            yield f"Labels, counted from 0: {', '.join(labels)}."
        for convention in self.derivation.conventions:
            yield from textwrap.wrap(convention, 110)

    def gradient_class(self) -> Iterable[str]:
        if len(self.gradients) < 2:
            return
        yield from ("", "", "class Gradient(NamedTuple):")
        yield '    """The gradient, by parameter."""'
        yield ""
        for p in self.form.parameters:
            yield f"    {p.name}: np.ndarray" if p.shape else f"    {p.name}: float"

    # -- functions ---------------------------------------------------------------------------------

    def signature(self, name: str, returns: str) -> str:
        arguments = [v.name for v in self.form.arguments]
        keywords = [n if d is None else f"{n}={d!r}" for n, d in self.form.hyperparameters]
        if keywords:
            arguments += ["*", *keywords]
        return f"{name}({', '.join(arguments)}) -> {returns}"

    def function(self, name: str, results: Sequence[str]) -> Function:
        arguments = self.argument_names
        inputs = {n: f"{n}_" for n in arguments if n in _CALLED}
        sizes = {s.name for s in self.form.sizes}
        reserved = set(_CALLED) | arguments | sizes
        renamed = {}
        for o in self.definitions:
            renamed[o.name] = o.name
            while renamed[o.name] in arguments | sizes or renamed[o.name] in _CALLED:
                renamed[o.name] += "_"
        economy = self.economy([o.ref.node for o in self.definitions if o.name in results])
        definitions = [Output(renamed[o.name], economy.use(o.ref), o.order) for o in self.definitions]
        wanted = [renamed[r] for r in results]
        named: dict[int, str] = {}
        optional: set[int] = set()
        for o, d in zip(self.definitions, definitions, strict=True):
            if self.named.get(o.ref.node.number) == o.name:
                named.setdefault(d.ref.node.number, d.name)
                if o.ref.node.number in self.optional:
                    optional.add(d.ref.node.number)
        names = reserved | set(renamed.values())
        numbers = {renamed[n]: number for n, number in equation_numbers(self.derivation).items() if n in renamed}
        writer = self.writer(name, numbers, named=named, reserved=names, optional=optional, inputs=inputs)
        if name == "loss_and_grad":
            writer.numbers = numbers
        outputs = [o for o in definitions if o.name in wanted]
        writer.typed = {renamed[g] for g in self.gradients}
        size = self.examples()
        if name != "loss" and size is not None:
            # The loss alone reads the data once, so that only what computes gradients gains from blocks.
            writer.plan = plan([o.ref.node for o in outputs], [v.name for v in self.form.data], size)
            writer.ranks = {v.name: len(v.shape) for v in self.form.data if v.labels is None}
        writer.write(definitions, outputs)
        lines = list(writer.lines)
        gradient = ", ".join(wanted[-len(self.gradients) :])
        if len(self.gradients) > 1:
            gradient = f"Gradient({gradient})"
        if name == "loss":
            ending = f"return float({wanted[0]})"
        elif name == "grad":
            ending = f"return {gradient}"
        else:
            ending = f"return float({wanted[0]}), {gradient}"
        if lines and lines[-1].startswith(f"{wanted[-1]} = ") and len(self.gradients) == 1 and name == "grad":
            ending = "return " + lines.pop().removeprefix(f"{wanted[-1]} = ")
        elif name == "loss" and lines and lines[-1].startswith(f"{wanted[0]} = "):
            ending = f"return float({lines.pop().removeprefix(f'{wanted[0]} = ')})"
        if "float" in arguments:
            ending = re.sub(r"\bfloat\(", "builtins.float(", ending)
        lines.append(ending)
        lines = [self.spelled(line) for line in lines]
        kind = "Gradient" if len(self.gradients) > 1 else "np.ndarray" if self.form.parameters[0].shape else "float"
        returns = {"loss": "float", "grad": kind, "loss_and_grad": f"tuple[float, {kind}]"}[name]
        return Function(
            signature="\n".join(folded([self.signature(name, returns)], 115)),
            summary=self.summary(name),
            docstring=tuple(self.docstring(name)),
            body=(*folded(self.prologue(lines), 116), *lines[:-1], *folded(lines[-1:], 116)),
        )

    def economy(self, roots: Sequence[Node]) -> Economy:
        """What becomes of the nodes of a function."""
        return Economy(self.lowering.graph, roots)

    def writer(self, function: str, equations: dict[str, int], **names: Any) -> Writer:
        """What writes the body of a function; ``equations`` are numbers by the names of variables."""
        return Writer(**names)

    def examples(self) -> Symbol | None:
        """The number of examples: the size of the first axis of the data, if that is a size of its own."""
        matrices = [v for v in self.form.data if len(v.shape) > 1 and v.labels is None]
        size = matrices[0].shape[0] if matrices else None
        return size if isinstance(size, Symbol) else None

    def spelled(self, line: str) -> str:
        """The line with modules under names that no argument takes."""
        for module, long in (("np", "numpy"), ("math", "_math")):
            if module in self.argument_names:
                line = re.sub(rf"\b{module}\.", f"{long}.", line)
        return line

    def summary(self, name: str) -> str:
        parameters = ", ".join(p.name for p in self.form.parameters)
        return {
            "loss": "The loss.",
            "grad": f"The gradient of the loss with respect to {parameters}.",
            "loss_and_grad": f"The loss and its gradient with respect to {parameters}, from one pass.",
        }[name]

    def docstring(self, name: str) -> Iterable[str]:
        meanings = self.derivation.loss.meanings
        yield from ("Parameters", "----------")
        for v in self.form.arguments:
            what = "integer labels" if v.labels is not None else "array_like" if v.shape else "float"
            yield f"{v.name} : {what}{', shape ' + shape_text(v) if v.shape else ''}"
            if v.name in meanings:
                yield f"    {sentence(in_docstring(meanings[v.name]))}"
        for n, default in self.form.hyperparameters:
            yield f"{n} : float{'' if default is None else f', default {default!r}'}"
            if n in meanings:
                yield f"    {sentence(in_docstring(meanings[n]))}"
        if name == "loss":
            return
        yield from ("", "Returns", "-------")
        if name == "loss_and_grad":
            yield "loss : float"
        if len(self.gradients) > 1:
            yield "grad : Gradient"
            yield "    A named tuple with an entry of its shape for each parameter."
        else:
            p = self.form.parameters[0]
            yield f"grad : {'ndarray, shape ' + shape_text(p) if p.shape else 'float'}"

    def prologue(self, lines: Sequence[str]) -> Iterable[str]:
        names = [v.name for v in self.form.arguments] + [n for n, _ in self.form.hyperparameters]
        joined = ", ".join(names)
        left = joined if len(names) > 1 else f"{joined},"
        called = [n for n in names if n in _CALLED]
        for n in called:
            left = re.sub(rf"\b{n}\b", f"{n}_", left)
        yield f"{left} = _arguments({joined})"
        text = "\n".join(lines)
        for size in self.form.sizes:
            if size in self.sources and re.search(rf"\b{size.name}\b", text):
                yield f"{size.name} = {self.sources[size]}"
        if re.search(r"\bdtype\b", text):
            arrays = [v.name for v in self.form.arguments if v.shape and v.labels is None]
            first = self.form.parameters[0].name
            yield f"dtype = {arrays[0]}.dtype" if arrays else f"dtype = np.asarray({first}).dtype"

    # -- checks ------------------------------------------------------------------------------------

    def size_sources(self) -> dict[Symbol, str]:
        """How each size is read off the shape of an argument."""
        found: dict[Symbol, str] = {}
        uses = [(v, axis, size) for v in self.form.arguments for axis, size in enumerate(v.shape)]
        for simplest in (1, 2, 3):
            for v, axis, size in uses:
                for s in sorted(size.free_symbols, key=str):
                    slope = size.coeff(s)
                    rest = expand(size - slope * s)
                    if s in found or not isinstance(rest, Integer) or not isinstance(slope, Integer) or slope < 1:
                        continue
                    if simplest < (1 if rest == 0 and slope == 1 else 2 if slope == 1 else 3):
                        continue
                    source = f"{v.name}.shape[{axis}]"
                    if rest != 0:
                        source += f" {'-' if rest > 0 else '+'} {abs(rest)}"
                    if slope != 1:
                        source = f"({source}) // {slope}" if rest != 0 else f"{source} // {slope}"
                    found[s] = source
        if len(self.form.parameters) > 1 and any(v.name == "Gradient" for v in self.form.arguments):
            raise StatementError(
                f"loss '{self.form.name}', its declarations: generated code calls what `grad` returns `Gradient`; "
                "give the argument another name"
            )
        for name in sorted({s.name for s in self.form.sizes} | {n for n, _ in self.form.hyperparameters}):
            if name in _CALLED:
                raise StatementError(
                    f"loss '{self.form.name}', its declarations: generated code uses the name `{name}` itself; give "
                    "the size or hyperparameter another name"
                )
        for s in self.form.sizes:
            if s not in found:
                raise StatementError(
                    f"loss '{self.form.name}', its declarations: the size `{s}` can't be read off the shape of an "
                    "argument; give some array an axis of that size"
                )
        return found

    def check(self) -> Function:
        form = self.form
        names = [v.name for v in form.arguments] + [n for n, _ in form.hyperparameters]
        floating = [v.name for v in form.arguments if v.labels is None]
        body = []
        left = ", ".join(floating) + ("," if len(floating) == 1 else "")
        body.append(f"{left} = _floating({', '.join(f'{n}={n}' for n in floating)})")
        labels = [v for v in form.arguments if v.labels is not None]
        body += [f'{v.name} = _labels("{v.name}", {v.name})' for v in labels]
        entries = ", ".join(
            f"{v.name}=({', '.join([v.name, *map(entry_source, v.shape)])}{'' if v.shape else ','})"
            for v in form.arguments
        )
        needed: set[Symbol] = set()
        after: list[str] = []
        for v in form.arguments:
            for axis, size in enumerate(v.shape):
                if entry_source(size) == "None":
                    needed |= size.free_symbols
                    after.append(f"if {v.name}.shape[{axis}] != {scalar_source(size)[0]}:")
                    after.append(
                        f'    raise ValueError(f"{v.name} must have shape {shape_text(v)}, not {{{v.name}.shape}}")'
                    )
        for v in labels:
            for low, high in v.labels or ():
                needed |= low.free_symbols | high.free_symbols
                after.append(f'_in_range("{v.name}", {v.name}, {scalar_source(low)[0]}, {scalar_source(high)[0]})')
        for excess, why in form.requirements:
            needed |= excess.free_symbols
            after.append(f"if {scalar_source(excess)[0]} > 0:")
            origins = [
                f"{s.name} = {{{s.name}}} in {self.sources[s].split('.')[0].lstrip('(')}"
                for s in sorted(excess.free_symbols, key=str)
                if s in self.sources
            ]
            after.append(f'    raise ValueError(f"{why}: {", ".join(origins)}")')
        counts = {s.name for s in self.symbols() if s.is_integer} - {s.name for s in form.sizes}
        numbers = [f'{n} = {"_count" if n in counts else "_number"}("{n}", {n})' for n, _ in form.hyperparameters]
        sizes = [s for s in form.sizes if s in needed]
        if sizes:
            local = "sizes" if "sizes" not in names else "sizes_"
            body.append(f"{local} = _sizes({entries})")
            stated = [e for v in form.arguments for e in v.shape if entry_source(e) != "None"]
            known = {s for e in stated for s in e.free_symbols}
            body += [
                f'{s.name} = {local}["{s.name}"]' if s in known else f"{s.name} = {self.sources[s]}" for s in sizes
            ]
        else:
            body.append(f"_sizes({entries})")
        body += numbers + after
        body.append(f"return {', '.join(names)}{',' if len(names) == 1 else ''}")
        return Function(
            signature=f"_arguments({', '.join(names)})",
            summary="Check the arguments; return them as arrays of one floating-point type and plain numbers.",
            docstring=(),
            body=tuple(folded(body, 116)),
        )

    def symbols(self) -> set[Symbol]:
        found: set[Symbol] = set()
        for d in self.derivation.definitions:
            found |= {s for s in d.rhs.free_symbols if isinstance(s, Symbol)}
            found |= {s for n in d.sizes for s in n.free_symbols}
        return found


def folded(lines: Iterable[str], room: int) -> Iterable[str]:
    """Lines of calls, those that are too long with a line for each argument."""
    for line in lines:
        start = line.find("(")
        if len(line) <= room or start < 0 or line.lstrip().startswith("#"):
            yield line
            continue
        depth, arguments, last = 0, [], start + 1
        end, quoted = start, False
        for place in range(start, len(line)):
            character = line[place]
            quoted ^= character == '"'
            if quoted:
                continue
            depth += (character in "([{") - (character in ")]}")
            if (character == "," and depth == 1) or depth == 0:
                arguments.append(line[last:place].strip())
                last = place + 1
            if depth == 0:
                end = place
                break
        indent = line[: len(line) - len(line.lstrip())]
        yield line[: start + 1]
        yield from (f"{indent}    {a}," if a != "*" else f"{indent}    *," for a in arguments if a)
        yield f"{indent}{line[end:]}"


#: The checks that a module may have, each before those that it calls.
CHECKS = tuple(
    getattr(arguments, name)
    for name in (
        *("_floating", "_exact", "_labels", "_sizes", "_in_range", "_number", "_count"),
        *("_by_blocks", "_row_blocks", "_cores", "_product", "_panel"),
    )
)


def needed_checks(lines: Sequence[str], known: Iterable[Callable[..., Any]]) -> list[str]:
    """The source of the checks that some lines call, and of what those call."""
    text = "\n".join(lines)
    found = []
    for check in known:
        if re.search(rf"\b{check.__name__}\b", text):
            source = inspect.getsource(check)
            found.append(plain(source).rstrip("\n"))
            text += source
    return found


def plain(source: str) -> str:
    """The source of a check without the annotations that need imports of their own."""
    return source.replace(": Any", "").replace(" -> Any:", ":").replace(" -> tuple[Any, ...]:", ":")


def entry_source(size: Expr) -> str:
    """An axis in a call of ``_sizes``."""
    if isinstance(size, Integer):
        return str(size)
    if isinstance(size, Symbol):
        return f'"{size.name}"'
    symbols = sorted(size.free_symbols, key=str)
    rest = expand(size - symbols[0])
    if len(symbols) == 1 and isinstance(rest, Integer) and size.coeff(symbols[0]) == 1:
        return f'("{symbols[0].name}", {rest})'
    return "None"


def shape_text(v: Variable) -> str:
    inside = ", ".join(scalar_source(s)[0] for s in v.shape)
    return f"({inside}{',' if len(v.shape) == 1 else ''})"


def in_docstring(text: str) -> str:
    """Words of the user's as they may stand in a docstring."""
    return text.replace("\\", "\\\\").replace('"', "'")


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
