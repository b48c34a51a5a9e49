"""Reports: the derivation of each statement as LaTeX, one fragment each, and a document that binds them.

A report is made of blocks (prose, equations, a table, code, a picture, a proposition) whose formulas all come from the
derivation or the claims by way of ``latex.py``; the templates decide how a block looks on the page. Sentences are
written here; where they need a formula, it is an expression, printed.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sympy import Abs, Basic, Eq, Expr, Indexed, IndexedBase, Integer, Max, Min, Ne, Sum, Symbol, expand, sign
from sympy.core.function import AppliedUndef

from derive import chapters, pictures
from derive.blackboard import Notation
from derive.chapters import Row
from derive.claims import (
    Calculation,
    Claim,
    ClosedForm,
    Counterexample,
    Equivalence,
    Identity,
    Limit,
    NoConstant,
    Roots,
    Sign,
)
from derive.differentiate import CONVENTIONS, Derivation, differentiate, partials
from derive.errors import DeriveError, MissingToolError
from derive.latex import LatexWriter, broken, escape, prose, typeset, width
from derive.notation import Partial, Where
from derive.numbering import equation_numbers, label
from derive.statement import Definition, Form, Loss

if TYPE_CHECKING:
    from derive.analyses import Analysis
    from derive.catalogue import Statement
    from derive.claims import Proof, ProofStep
    from derive.render import Modules
    from derive.rule import UpdateRule

__all__ = ["Block", "Document", "Report", "Section", "compile_reports", "document_name", "latex", "pages", "text"]

#: The width of a line of the document, in em: what is wider is broken.
LINE = 38.5


@dataclass(frozen=True)
class Block:
    """A piece of a page: its kind, finished lines of LaTeX, and a title where the kind has one."""

    kind: str
    lines: tuple[str, ...]
    title: str = ""


@dataclass(frozen=True)
class Section:
    """A titled run of blocks."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """The fragment of one statement, as its template places it."""

    banner: str
    title: str
    about: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Part:
    """A part of the document and the chapters in it, as (title, name of the fragment)."""

    title: str
    chapters: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Document:
    """The document that binds the fragments."""

    banner: str
    title: str
    introduction: tuple[Block, ...]
    parts: tuple[Part, ...] = field(default=())


# -- what the rest of the toolkit calls ----------------------------------------------------------------------------


def pages(statements: Sequence[Statement], source: str, modules: Modules | None = None) -> dict[str, str]:
    """All reports of one source: a fragment for each statement, and the document.

    They tell what a build verifies, and do not verify the steps of losses themselves. ``modules`` are those that were
    printed from this source already.
    """
    from derive.files import banner
    from derive.render import Modules, place

    modules = modules or Modules(source)
    found = {}
    for statement in statements:
        found[f"reports/{statement.name}.tex"] = fragment(statement, statements, modules)
    analyses = analyses_of(statements, source)
    for analysis in analyses:
        found[f"reports/{analysis.name}.tex"] = analysis_fragment(analysis, modules)
    document = Document(
        banner=banner(source, comment="%"),
        title=document_title(source),
        introduction=tuple(introduction()),
        parts=tuple(parts_of(statements, analyses)),
    )
    found[f"reports/{document_name(source)}.tex"] = place("report_document.tex.jinja", document, language="latex")
    return found


def fragment(statement: Statement, among: Sequence[Statement], modules: Modules) -> str:
    """The report of one statement; ``among`` are those it may be compared with in pictures."""
    if isinstance(statement, Loss):
        sections = loss_sections(statement, modules)
    else:
        sections = rule_sections(statement, among, modules)
    about = prose(statement.about, names_of(statement)) if statement.about else ""
    return placed(title_of(statement.name), about, sections, modules.source)


def analysis_fragment(analysis: Analysis, modules: Modules) -> str:
    """The report of one analysis."""
    writer = LatexWriter(chapters.analysis_notation(analysis))
    names = {s.name: writer.name(s.name) for s in analysis.meanings}
    sections = analysis_sections(analysis, writer, names, modules)
    return placed(analysis.title, prose(analysis.about, names), sections, modules.source)


def placed(title: str, about: str, sections: Iterable[Section], source: str) -> str:
    """A fragment on its template; ``about`` is LaTeX already."""
    from derive.files import banner
    from derive.render import place

    report = Report(
        banner=banner(source, comment="%"),
        title=escape(title),
        about=about,
        sections=tuple(s for s in sections if s.blocks),
    )
    return place("report_fragment.tex.jinja", report, language="latex")


def analyses_of(statements: Sequence[Statement], source: str) -> Sequence[Analysis]:
    """The analyses, where the statements are the whole catalogue: they are about its rules, on its landscapes."""
    from derive.analyses import ANALYSES
    from derive.catalogue import catalogue
    from derive.files import CATALOGUE

    whole = source == CATALOGUE and {s.name for s in statements} >= {s.name for s in catalogue()}
    return ANALYSES if whole else ()


def latex(statement: Statement) -> str:
    """The report of one statement, for the terminal."""
    from derive.render import Modules

    verify_steps([statement])
    return fragment(statement, [statement], Modules("a live statement"))


def verify_steps(statements: Iterable[Statement]) -> None:
    """Check the steps that reports say were checked, where no build has done so before."""
    from derive.verify import verify_derivation

    for statement in statements:
        if isinstance(statement, Loss):
            verify_derivation(differentiate(statement))


def text(statement: Statement) -> str:
    """One statement with its derivation, for a terminal of 80 columns."""
    from derive.text import derivation_text

    return derivation_text(differentiate(statement)) if isinstance(statement, Loss) else str(statement)


def compile_reports(names: Sequence[str], out: Path) -> list[Path]:
    """Reports of the catalogue as PDF: one for each name, or one document with all of them.

    Raises
    ------
    MissingToolError
        Where there is no LaTeX.
    """
    from derive.catalogue import catalogue, find
    from derive.files import CATALOGUE

    chosen = [find(name) for name in names] or catalogue()
    tool = latex_tool()
    verify_steps(chosen)
    if not names:
        return [compiled(pages(chosen, CATALOGUE), document_name(CATALOGUE), out, tool)]
    done = []
    for statement in chosen:
        found = pages([statement], CATALOGUE)
        # A document of its own, under the name of its statement.
        document = found.pop(f"reports/{document_name(CATALOGUE)}.tex")
        found[f"reports/{statement.name}_report.tex"] = document
        done.append(compiled(found, f"{statement.name}_report", out, tool))
    return done


def latex_tool() -> list[str]:
    """The command that compiles a document, without its name."""
    quiet = ["-interaction=nonstopmode", "-halt-on-error"]
    if shutil.which("latexmk") and shutil.which("pdflatex"):
        return ["latexmk", "-pdf", "-silent", *quiet]
    if shutil.which("pdflatex"):
        return ["pdflatex", *quiet]
    raise MissingToolError(
        "derive report needs LaTeX: install latexmk and pdflatex "
        "(Debian, Ubuntu: apt install texlive-latex-extra texlive-fonts-recommended texlive-pictures lmodern latexmk; "
        "macOS: MacTeX; Windows: MiKTeX or TeX Live)"
    )


def compiled(found: Mapping[str, str], name: str, out: Path, tool: Sequence[str]) -> Path:
    """Compile a document in a directory of its own; only the PDF is kept."""
    with tempfile.TemporaryDirectory() as folder:
        for path, text_ in found.items():
            (Path(folder) / Path(path).name).write_text(text_, encoding="utf-8", newline="\n")
        # The same source gives the same bytes, whenever it is compiled.
        environment = dict(os.environ, SOURCE_DATE_EPOCH="0", FORCE_SOURCE_DATE="1")
        for _ in range(1 if tool[0] == "latexmk" else 3):
            run = subprocess.run(
                [*tool, f"{name}.tex"], cwd=folder, env=environment, capture_output=True, text=True, errors="replace"
            )
            if run.returncode:
                log = Path(folder) / f"{name}.log"
                raise DeriveError(f"LaTeX stopped at {name}.tex: {first_error(log, run.stdout + run.stderr)}")
        out.mkdir(parents=True, exist_ok=True)
        target = out / f"{name}.pdf"
        shutil.copyfile(Path(folder) / f"{name}.pdf", target)
    return target


def first_error(log: Path, printed: str) -> str:
    """What LaTeX complains of first, and where."""
    lines = (log.read_text(encoding="utf-8", errors="replace") if log.exists() else printed).splitlines()
    for n, line in enumerate(lines):
        if line.startswith("! "):
            place = next((x for x in lines[n + 1 : n + 8] if x.startswith("l.")), "")
            return f"{line[2:]} {place}".strip()
    return (printed.strip().splitlines() or ["no reason given"])[-1]


def document_name(source: str) -> str:
    """The file of the document that binds the reports of one source, without its ending."""
    from derive.files import CATALOGUE

    if source == CATALOGUE:
        return "derivations"
    stem = re.sub(r"\W+", "_", source.removesuffix(".py")).strip("_")
    return f"{stem or 'statements'}_report"


def document_title(source: str) -> str:
    from derive.files import CATALOGUE

    return "Losses and update rules, derived" if source == CATALOGUE else escape(f"Derivations of {source}")


# -- names and titles ----------------------------------------------------------------------------------------------

_NAMES = {
    "svm": "SVM", "sgd": "SGD", "rmsprop": "RMSProp", "adagrad": "AdaGrad", "adam": "Adam", "nesterov": "Nesterov",
    "l1": "L1", "l2": "L2",
}  # fmt: skip


def title_of(name: str) -> str:
    """``two_layer_net`` is "Two layer net"."""
    words = [_NAMES.get(w.lower(), w) for w in name.split("_") if w]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]]) if words else name


def parts_of(statements: Sequence[Statement], analyses: Sequence[Analysis] = ()) -> Iterator[Part]:
    for title, wanted in (("Losses", True), ("Update rules", False)):
        chosen = [s for s in statements if isinstance(s, Loss) == wanted]
        if chosen:
            yield Part(title, tuple((escape(title_of(s.name)), s.name) for s in chosen))
    if analyses:
        yield Part("The problems of gradient descent", tuple((escape(a.title), a.name) for a in analyses))


def names_of(statement: Statement) -> dict[str, str]:
    """What the names that prose may mention look like."""
    if isinstance(statement, Loss):
        form = differentiate(statement).form
        writer = LatexWriter(Notation.of(form))
        names = [v.name for v in form.arguments] + [n for n, _ in form.hyperparameters]
        names += [d.name for d in form.definitions[:-1]] + [s.name for s in form.sizes]
        return {n: writer.name(n) for n in names}
    writer = LatexWriter(chapters.rule_notation(statement))
    symbols = [*statement.ordering.arrays, *statement.ordering.scalars]
    return {s.name: writer.name(s.name) for s in symbols}


# -- equations -----------------------------------------------------------------------------------------------------


def equations(rows: Sequence[Row], statement: str, numbers: Mapping[str, int]) -> Block:
    """Rows as lines of an ``alignat``: equal signs below each other, reasons in a column at the right."""
    lefts = max((width(r.left) for r in rows), default=0.0)
    reasons = max((reason_width(r.reason) for r in rows), default=0.0)
    numbered = any(r.name in numbers for r in rows)
    room = LINE - lefts - 1.5 - (3.0 if numbered else 0.0)
    # Terms that can be broken give way to the reasons, those that cannot do not: their reason goes to the next line.
    narrow = room - reasons - 2.5 if reasons else room
    last_lines = [broken(r.pieces, narrow)[-1] for r in rows if r.reason]
    column = all(width(line) <= narrow for line in last_lines)
    lines: list[str] = []
    for row in rows:
        pieces = broken(row.pieces, narrow if column and row.reason else room)
        first, *rest = (fitted(line, room, narrow if column else room) for line in pieces)
        physical = [f"{row.left} &{row.sign or '{}'} {first}", *(rf"&\quad {{}} {line}" for line in rest)]
        if row.reason and column:
            physical[-1] += rf" &\qquad& {set_reason(row.reason)}"
        elif row.reason:
            physical.append(rf"&\quad {set_reason(row.reason, room - 2)}")
        if row.name in numbers:
            physical[0] += rf" \tag{{{numbers[row.name]}}}\label{{{label(statement, row.name)}}}"
        lines += [line if r"\tag" in line else rf"{line} \notag" for line in physical]
    return Block("equations", tuple(rf"{line} \\" if n < len(lines) - 1 else line for n, line in enumerate(lines)))


def fitted(line: str, room: float, narrow: float) -> str:
    """A line that is wider than its column, made not to push the reasons aside; drawn smaller where it must be."""
    size = width(line)
    if size > room:
        return rf"\smaller{{{max(room / size, 0.4):.2f}}}{{{line}}}"
    return rf"\overlong{{{line}}}" if size > narrow else line


#: A longer reason is set on several lines of this width.
REASON = 14.0


def reason_width(reason: str) -> float:
    plain = re.sub(r"\$(.*?)\$", lambda m: "x" * int(2.2 * width(m[1]) + 1), reason)
    return min(REASON, 0.44 * len(plain) + 0.5) if reason else 0.0


def set_reason(reason: str, room: float = REASON) -> str:
    if reason_width(reason) < REASON:
        return rf"\reason{{{reason}}}"
    return rf"\longreason{{{room:.0f}em}}{{{reason}}}"


def sentence(*parts: str) -> Block:
    return Block("prose", ("".join(parts),))


# -- losses --------------------------------------------------------------------------------------------------------


def loss_sections(loss: Loss, modules: Modules) -> Iterator[Section]:
    derivation = differentiate(loss)
    writer = LatexWriter(Notation.of(derivation.form, derivation.definitions))
    numbers = equation_numbers(derivation)

    def aligned(rows: Sequence[Row]) -> Block:
        return equations(rows, loss.name, numbers)

    yield Section("Statement", tuple(statement_blocks(derivation, writer, aligned)))
    yield Section("Derivation", tuple(derivation_blocks(derivation, writer, aligned)))
    yield Section("Result", tuple(result_blocks(derivation, writer, aligned)))
    picture = pictures.loss_picture(loss, derivation, modules.live)
    if picture is not None:
        yield Section("Picture", (Block("picture", picture.lines, picture.caption),))
    code = modules.text(loss)
    yield Section("Code", tuple(code_blocks(loss, "loss_and_grad", code, {str(n): k for k, n in numbers.items()})))
    yield Section("What was verified", tuple(verified_blocks(loss)))


def statement_blocks(derivation: Derivation, writer: LatexWriter, aligned: Any) -> Iterator[Block]:
    yield aligned(chapters.statement_rows(derivation, writer))
    yield symbol_table(derivation, writer)
    yield sentence(index_sentence(derivation.form, writer))
    conventions = list(convention_sentences(derivation, writer))
    if conventions:
        yield Block("list", tuple(conventions), "Conventions")


def derivation_blocks(derivation: Derivation, writer: LatexWriter, aligned: Any) -> Iterator[Block]:
    rewritten = chapters.rewritten_rows(derivation, writer)
    if rewritten:
        yield sentence("Before differentiating, inner quantities get names, and what would overflow is rewritten:")
        yield aligned(rewritten)
    local = chapters.local_rows(derivation, writer)
    if local:
        yield sentence("Each quantity is differentiated by those it is made from. Entries that are not shown are 0.")
        yield aligned(local)
    adjoints = chapters.adjoint_rows(derivation, writer)
    if adjoints:
        yield sentence(
            "From the last quantity back to the first, the chain rule collects what each contributes to the loss:"
        )
        yield aligned(adjoints)
    if not rewritten and not local and not adjoints:
        yield sentence("The loss is differentiated term by term; the result follows in one step.")


def result_blocks(derivation: Derivation, writer: LatexWriter, aligned: Any) -> Iterator[Block]:
    example = chapters.example_rows(derivation, writer)
    if example and all(width(r.left) + width(p) < LINE - 3 for r in example for p in r.pieces):
        yield Block("prose", ("For one example,",))
        yield aligned(chapters.example_loss_rows(derivation, writer))
        yield Block("prose", ("and its gradient is",))
        yield aligned(example)
    yield sentence("The gradient of the loss:" if not example else "For the whole loss:")
    yield aligned(chapters.gradient_rows(derivation, writer))
    matrices = chapters.matrix_rows(derivation, writer)
    if matrices:
        yield sentence("Over whole arrays, as the code computes it; functions act entry by entry:")
        yield aligned(matrices)


def symbol_table(derivation: Derivation, writer: LatexWriter) -> Block:
    """Symbol, name in the code, shape, meaning."""
    form, meanings = derivation.form, derivation.loss.meanings
    names = names_of(derivation.loss)
    rows = []

    def add(name: str, shape: Sequence[Expr], meaning: str, told: str = "") -> None:
        words = "; ".join(w for w in (prose(meaning, names), told) if w)
        symbol = writer.whole(name)
        shapes = r" \times ".join(writer.show(s) for s in shape)
        rows.append(rf"${symbol}$ & \texttt{{{escape(name)}}} & {f'${shapes}$' if shapes else ''} & {words} \\")

    for v in form.arguments:
        meaning = meanings.get(v.name, "")
        for lo, hi in v.labels or ():
            meaning += f"{'; ' if meaning else ''}labels from {lo} to {hi}"
        add(v.name, v.shape, meaning)
    for d in form.definitions[:-1]:
        add(d.name, d.sizes, meanings.get(d.name, ""))
    stated = {d.name for d in form.definitions}
    for d in derivation.definitions:
        if d.name not in stated:
            add(d.name, d.sizes, "named in the derivation")
    add(form.value.name, (), "the loss")
    for name, default in form.hyperparameters:
        meaning = meanings.get(name, "")
        told = "must be given" if default is None else f"default {plain_number(default)}"
        add(name, (), meaning, told)
    return Block("table", tuple(rows))


def plain_number(value: float) -> str:
    """A default: 0.9, or a power of ten."""
    text = f"{value:g}"
    if "e" not in text:
        return text
    digits, power = text.split("e")
    times = "" if digits == "1" else rf"{digits} \cdot "
    return f"${times}10^{{{int(power)}}}$"


def index_sentence(form: Form, writer: LatexWriter) -> str:
    """The ranges of the indices, and what rows are called."""
    ranges = []
    for letter_, (lo, hi) in sorted(writer.notation.usual.items()):
        ranges.append(rf"${writer.name(letter_)} = {writer.show(lo)}, \dots, {writer.show(hi)}$")
    told = f"Indices count from 0: {', '.join(ranges)}. " if ranges else ""
    rows = []
    for v in form.arguments:
        if len(v.shape) == 2:
            i = Symbol(_row_letter(form, v.name), integer=True)
            row = writer.row(v.name, [i])
            rows.append(f"${row}$ for row ${writer.show(i)}$ of ${writer.name(v.name)}$")
    if rows:
        told += f"We write {join(rows)}, as column vectors. "
    return told.strip()


def _row_letter(form: Form, name: str) -> str:
    for d in form.definitions:
        for use in sorted(d.rhs.atoms(Indexed), key=str):
            if str(use.base.label) == name and isinstance(use.indices[0], Symbol):
                return str(use.indices[0].name).rstrip("'")
    return "i"


def join(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def convention_sentences(derivation: Derivation, writer: LatexWriter) -> Iterator[str]:
    """The conventions in force; the derivatives in them are computed by the rules that the derivation used."""
    a = Symbol("a", real=True)
    zero = writer.write(Eq(a, 0, evaluate=False))
    keys = {words: key for key, words in CONVENTIONS.items()}
    for convention in derivation.conventions:
        key = keys.get(convention, "")
        function: dict[str, Expr] = {
            "max": Max(0, a, evaluate=False), "min": Min(0, a, evaluate=False), "abs": Abs(a), "sign": sign(a),
        }  # fmt: skip
        if key in ("max", "min", "abs"):
            (_, slope), *_rest = partials(function[key], {"a"})
            told = "the strict indicator " if key != "abs" else ""
            yield (
                rf"The derivative of ${writer.write(function[key])}$ is {told}${writer.write(slope)}$, "
                rf"which is ${writer.show(Integer(0))}$ at ${zero}$."
            )
            if key != "abs":
                yield "At a tie the first argument counts, and arguments without parameters come first."
        else:
            yield prose(convention, {})
    value = derivation.form.value.rhs
    for index in mean_indices(value):
        told = "the division by their number is part of the statement"
        yield rf"The loss is the mean over ${writer.show(index)}$: {told}."


def mean_indices(value: Expr) -> list[Symbol]:
    """Indices over which the value is a mean: a sum divided by its number of terms."""
    found = []
    for part in value.args if value.is_Add else (value,):
        rest, inner = part.as_independent(Sum, as_Add=False)
        if isinstance(inner, Sum):
            for index, lo, hi in inner.limits:
                if rest.has(1 / expand(hi - lo + 1)):
                    found.append(index)
    return found


def verified_blocks(statement: Statement) -> Iterator[Block]:
    """What the build checks."""
    if isinstance(statement, Loss):
        facts = list(loss_facts(statement))
    else:
        facts = list(proof_facts(statement.proofs))
    if facts:
        yield Block("list", tuple(facts))


#: By kind of claim, what proves it.
_PROVED_BY: dict[type[Claim], str] = {
    Identity: "two expressions are equal, for their difference comes to~0",
    Calculation: "in a chain of equal expressions, each difference comes to~0",
    Limit: "a limit, taken by SymPy",
    ClosedForm: "the solution of a recurrence, by induction",
    Equivalence: "a relation between two rules survives a step of both",
    Sign: "the sign of an expression can be read from its factors, whatever the values of its letters",
    Roots: "all solutions of an equation, for their factors multiply out to it",
    Counterexample: "two expressions differ, by exact values",
    NoConstant: "no constant will do, by exact values at two points",
}


def proof_facts(proofs: Sequence[Proof]) -> Iterator[str]:
    """Which propositions are proved, by the kind of proof."""
    if proofs:
        count = plural(len(proofs), "proposition is", "propositions are")
        yield f"{count} proved at each build, none of them by samples."
    for kind, words in _PROVED_BY.items():
        numbers = [p.number for p in proofs if type(p.claim) is kind]
        if numbers:
            yield f"{'Proposition' if len(numbers) == 1 else 'Propositions'} {join(runs(numbers))}: {words}."


def runs(numbers: Sequence[int]) -> list[str]:
    """Numbers in rising order, three or more in a row as a range."""
    found: list[list[int]] = []
    for n in numbers:
        if found and found[-1][-1] == n - 1:
            found[-1].append(n)
        else:
            found.append([n])
    return [x for run in found for x in ([f"{run[0]}--{run[-1]}"] if len(run) > 2 else map(str, run))]


def loss_facts(loss: Loss) -> Iterator[str]:
    from derive.verify import tally

    derivation = differentiate(loss)
    found = tally(derivation)
    writer = LatexWriter(Notation.of(derivation.form))
    sizes = join([rf"${writer.name(n)} = {v}$" for n, v in found.sizes.items()]) if found.sizes else ""
    at = f" at {sizes}" if sizes else ""
    if found.steps_exact:
        exact = plural(found.steps_exact, "step of the derivation holds", "steps of the derivation hold")
        yield f"{exact} exactly: both sides were evaluated in rationals{at}, on scattered entries and on ties."
        yield f"Exactly, by rule: {by_rule(found.rules_exact)}."
    if found.steps_numeric:
        numeric = plural(found.steps_numeric, "step of the derivation leaves", "steps of the derivation leave")
        yield (
            f"{numeric} the rational numbers: both sides were computed with more digits than that{at}, and agree to "
            f"{found.digits} digits."
        )
        yield f"To {found.digits} digits, by rule: {by_rule(found.rules_numeric)}."


def by_rule(counts: Mapping[str, int]) -> str:
    """The steps of each rule, those of the busiest first: "delta contraction (6 steps); ..."."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    first, *rest = (f"{escape(rule)} ({count}" for rule, count in ranked)
    return "; ".join([f"{first} {'step' if ranked[0][1] == 1 else 'steps'})", *(f"{r})" for r in rest)])


def plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


# -- code ----------------------------------------------------------------------------------------------------------

_COMMENT = re.compile(r"\s*#\s*(\(\d+\)(?:, \(\d+\))*)$")


def code_blocks(statement: Statement, function: str, module: str, names: Mapping[str, str]) -> Iterator[Block]:
    """The lines of a function of a generated module; the equation a line came from stands at its right."""
    lines = list(function_lines(module, function))
    if not lines:
        return
    yield sentence(
        rf"The body of \texttt{{{escape(function)}}} in the generated module "
        rf"\texttt{{{escape(statement.name)}.py}}; the "
        "numbers at the right are those of the equations."
    )
    printed = []
    for line in lines:
        found = _COMMENT.search(line)
        if found is None:
            printed.append(listed(line))
            continue
        references = [names.get(n, "") for n in re.findall(r"\d+", found[1])]
        marks = ", ".join(rf"\eqref{{{label(statement.name, n)}}}" for n in references if n)
        code = listed(line[: found.start()])
        printed.append(rf"{code}(*@\hfill {marks}@*)" if marks else listed(line))
    yield Block("code", tuple(printed))


def listed(line: str) -> str:
    """A line of code for ``listings``, which knows ASCII only."""
    return "".join(c if c.isascii() else f"(*@{typeset(c)}@*)" for c in line)


def function_lines(module: str, function: str) -> Iterator[str]:
    """The lines of a function without its docstring, moved to the left margin."""
    for node in ast.parse(module).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = module.splitlines()[body[0].lineno - 1 : body[-1].end_lineno]
            for line in lines:
                yield line[4:] if line.startswith("    ") else line


# -- update rules --------------------------------------------------------------------------------------------------


def rule_sections(rule: UpdateRule, among: Sequence[Statement], modules: Modules) -> Iterator[Section]:
    writer = LatexWriter(chapters.rule_notation(rule))
    names = names_of(rule)
    numbers = {str(e.lhs): n for n, e in enumerate(rule.equations, start=1)}

    def aligned(rows: Sequence[Row]) -> Block:
        return equations(rows, rule.name, numbers)

    yield Section("Statement", tuple(rule_statement(rule, writer, names, aligned)))
    yield Section("A step", tuple(rule_step(rule, writer, aligned)))
    picture = pictures.rule_picture(rule, among, modules.live)
    if picture is not None:
        yield Section("Picture", (Block("picture", picture.lines, picture.caption),))
    if rule.claims:
        yield Section("What is proved", tuple(b for p in rule.proofs for b in proof_blocks(p, writer, names)))
    code = modules.text(rule)
    yield Section("Code", tuple(code_blocks(rule, "update", code, {str(n): k for k, n in numbers.items()})))
    yield Section("What was verified", tuple(verified_blocks(rule)))


def rule_statement(rule: UpdateRule, writer: LatexWriter, names: Mapping[str, str], aligned: Any) -> Iterator[Block]:
    rows = []

    def add(symbol: Basic, code: str, start: str, meaning: str) -> None:
        rows.append(rf"${writer.write(symbol)}$ & \texttt{{{escape(code)}}} & {start} & {prose(meaning, names)} \\")

    arrays = {s.name: s for s in rule.ordering.arrays}
    add(arrays["x"], "params", "", rule.meanings.get("x", "parameters"))
    add(arrays["g"], "grad", "", rule.meanings.get("g", "gradient"))
    for s in rule.state:
        add(s.symbol, s.name, f"starts at ${writer.write(s.start)}$", rule.meanings.get(s.symbol.name, "state"))
    if rule.counts_steps:
        add(Symbol("t", integer=True), "t", "", "number of the step, 1 at the first")
    for h in rule.hyperparameters:
        default = "" if h.default is None else f"default {plain_number(h.default)}"
        add(h.symbol, h.name, default, rule.meanings.get(h.name, "hyperparameter"))
    yield Block("table", tuple(rows), "rule")
    sources = [s for s, _ in rule.defaults_by_source() if s]
    if sources:
        yield sentence("Defaults: ", escape("; ".join(sources)), ".")
    if rule.conventions:
        yield Block("list", tuple(prose(c.rstrip(".") + ".", names) for c in rule.conventions), "Conventions")


def rule_step(rule: UpdateRule, writer: LatexWriter, aligned: Any) -> Iterator[Block]:
    """The equations in order; those that solve a problem come with the problem."""
    yield sentence("A prime marks the value after the step. All equations are for one element; elements do not mix.")
    if rule.shows_gradient_point:
        yield sentence("The gradient is taken at")
        yield Block("equations", (rf"{writer.write(rule.gradient_at)} \notag",))
    problems = {p.unknown: p for p in rule.problems}
    waiting: list[Row] = []
    for equation in rule.equations:
        row = Row(writer.write(equation.lhs), tuple(writer.sides(equation.rhs)), "", str(equation.lhs))
        problem = problems.get(equation.lhs)
        if problem is None:
            waiting.append(row)
            continue
        if waiting:
            yield aligned(waiting)
            waiting = []
        unknown = writer.write(problem.unknown)
        yield sentence(f"${unknown}$ minimises a linear model of the loss plus a squared distance:")
        minimised = rf"\operatorname*{{arg\,min}}_{{{unknown}}}"
        first, *rest = writer.sides(problem.objective)
        bracket = [rf"{minimised} \left\{{ {first}", *rest]
        yield aligned([Row(unknown, (" ".join(bracket) + r" \right\}",))])
        yield sentence("Its derivative vanishes there,")
        yield aligned([Row(writer.write(problem.stationarity.lhs), (writer.write(problem.stationarity.rhs),))])
        yield sentence(
            f"and its second derivative, ${writer.write(problem.curvature)}$, is positive, so that this is the minimum:"
        )
        yield aligned([row])
    if waiting:
        yield aligned(waiting)


# -- claims --------------------------------------------------------------------------------------------------------


def proof_blocks(proof: Proof, writer: LatexWriter, names: Mapping[str, str]) -> Iterator[Block]:
    """A proposition: its title, what is claimed, and the proof as it was computed."""
    known = dict(names) | letters_of(proof, writer)
    yield Block("proposition", (prose(sentence_case(proof.title.rstrip("."), known) + ".", known),), str(proof.number))
    rows = [(prose(line.words, known) if line.words else "", line.expression) for line in proof.statement]
    yield Block("claim", tuple(claim_lines(rows, writer)))
    about = getattr(proof.claim, "about", "")
    if about:
        yield Block("prose", (prose(sentence_case(about, known), known),))
    steps = list(proof_rows(proof, writer, known))
    if steps:
        yield Block("proof", ())
        lines = equations(steps, "", {}).lines
        yield Block("equations", (*lines[:-1], lines[-1].replace(r"\notag", r"\proofend")))
    else:
        yield Block("prose", (r"Both sides are the same expression. \hfill\ensuremath{\square}",))


def sentence_case(words: str, names: Mapping[str, str]) -> str:
    """A sentence with a capital at its start, unless it starts with the name of a quantity."""
    first = re.match(r"\w*", words)
    return words if first and first[0] in names else words[:1].upper() + words[1:]


def letters_of(proof: Proof, writer: LatexWriter) -> dict[str, str]:
    """How the letters of a claim look."""
    expressions = [line.expression for line in proof.statement] + [e for s in proof.steps for e in (s.before, s.after)]
    names = {s.name for e in expressions for s in e.free_symbols if isinstance(s, Symbol)}
    names |= {f.func.__name__ for e in expressions for f in e.atoms(AppliedUndef)}
    return {name: writer.name(name) for name in sorted(names)}


def claim_lines(rows: Sequence[tuple[str, Basic]], writer: LatexWriter) -> Iterator[str]:
    """Statements below each other, the words that join them in front."""
    # The start x_0 of a sequence x_t is written as the letter that it starts from.
    rows = [r for r in rows if not (isinstance(r[1], Eq) and writer.write(r[1].lhs) == writer.write(r[1].rhs))]
    for n, (words, expression) in enumerate(rows):
        before = rf"&\text{{{words} }}" if words else "&"
        ending = "" if n == len(rows) - 1 else r" \\"
        pieces = [writer.write(expression)]
        if isinstance(expression, Eq) and width(pieces[0]) > LINE - 8:
            yield rf"{before}{writer.write(expression.lhs)} \\"
            yield rf"&\qquad {{}} = {' '.join(writer.sides(expression.rhs))}{ending}"
            continue
        yield rf"{before}{pieces[0]}{ending}"


def proof_rows(proof: Proof, writer: LatexWriter, names: Mapping[str, str]) -> Iterator[Row]:
    """The steps; a step that goes on from the one before needs no left side."""
    last: Basic | None = None
    for step in proof.steps:
        before, after = step.before, step.after
        if before == after == 0:
            # The two sides had become the same expression.
            continue
        reason = prose(step.what[:1].lower() + step.what[1:], names)
        sign = r"\mapsto" if is_replacement(proof, step) else "="
        if isinstance(before, Eq) and isinstance(after, Eq):
            if before != last:
                yield Row(writer.write(before.lhs), tuple(writer.sides(before.rhs)))
            yield Row(writer.write(after.lhs), tuple(writer.sides(after.rhs)), reason)
        elif before == last:
            yield Row("", tuple(writer.sides(after)), reason, sign=sign)
        elif width(writer.write(before)) > 10:
            yield Row("", tuple(writer.sides(before)), sign="")
            yield Row("", tuple(writer.sides(after)), reason, sign=sign)
        else:
            yield Row(writer.write(before), tuple(writer.sides(after)), reason, sign=sign)
        last = after


def is_replacement(proof: Proof, step: ProofStep) -> bool:
    """Whether a step puts something in for quantities, rather than stating that two expressions are equal."""
    claim = proof.claim
    if isinstance(claim, Equivalence):
        return bool(step.after != 0)
    if isinstance(claim, Counterexample):
        return True
    return (isinstance(claim, ClosedForm) and bool(step.before == claim.formula and step.after != 0)) or (
        isinstance(claim, ClosedForm) and bool(step.before == claim.formula) and step.what.startswith("Induction")
    )


# -- analyses ------------------------------------------------------------------------------------------------------


def analysis_sections(
    analysis: Analysis, writer: LatexWriter, names: Mapping[str, str], modules: Modules
) -> Iterator[Section]:
    cells = [rf"${writer.write(s)}$ & {prose(meaning, names)}" for s, meaning in analysis.meanings.items()]
    # Two columns of letters, read from top to bottom.
    half = (len(cells) + 1) // 2
    rows = (rf"{left} & {right} \\" for left, right in zip_longest(cells[:half], cells[half:], fillvalue=" & "))
    yield Section("Symbols", (Block("letters", tuple(rows)),))
    picture = pictures.analysis_picture(analysis, modules.live)
    if picture is not None:
        yield Section("Picture", (Block("picture", picture.lines, picture.caption),))
    proved = [b for p in analysis.proofs for b in proof_blocks(p, writer, names)]
    yield Section("What is proved", tuple(proved))
    yield Section("What was verified", (Block("list", tuple(proof_facts(analysis.proofs))),))


# -- the front of the document -------------------------------------------------------------------------------------


def introduction() -> Iterator[Block]:
    """How to read the document: notation, shown on small expressions."""
    i, j, k = (Symbol(n, integer=True) for n in "ijk")
    size_n, size_c, size_d = (Symbol(n, integer=True, positive=True) for n in "NCD")
    weights, data, scores = (IndexedBase(Symbol(n, real=True)) for n in ("W", "X", "s"))
    labels = IndexedBase(Symbol("y", integer=True))
    a = Symbol("a", real=True)
    writer = LatexWriter(
        Notation(
            shapes={"W": (size_c, size_d), "X": (size_n, size_d), "s": (size_n, size_c), "y": (size_n,)},
            order={"W": 0, "s": 1, "X": 2, "y": 2},
            usual={"i": (Integer(0), size_n - 1), "j": (Integer(0), size_c - 1), "k": (Integer(0), size_d - 1)},
        )
    )
    product = Sum(weights[j, k] * data[i, k], (k, 0, size_d - 1))
    whole = matrix(Definition("s", (i, j), product, (size_n, size_c)), writer)
    restricted = Sum(Where(Ne(j, labels[i]), scores[i, j], 0), (j, 0, size_c - 1))
    loss = Symbol("loss", real=True)
    lines = [
        (writer.row("W", [j]), f"row ${writer.show(j)}$ of the matrix ${writer.name('W')}$, as a column vector"),
        (writer.write(product), "the inner product of two rows: a sum over components"),
        (whole, "the same for all rows: a product of matrices"),
        (writer.write(weights[labels[i], k]), "an entry of the row that a label names; labels count from 0"),
        (writer.write(restricted), "a sum over the indices for which the condition below the sign holds"),
        (writer.write(Where(a > 0, 1, 0)), "1 where the condition holds, else 0"),
        (writer.write(Partial(loss, scores[i, j])), "the derivative of the loss by one entry, all entries being free"),
        (writer.vector(k).write(Partial(loss, weights[j, k])), "the derivatives by a row, as a column vector"),
        (writer.whole("grad_W"), "the derivatives by all entries, in an array of the same shape"),
        (writer.write(Symbol("x'", real=True)), "in an update rule: the value after the step"),
    ]
    yield Block("notation", tuple(rf"${symbol}$ & {words} \\" for symbol, words in lines))


def matrix(definition: Definition, writer: LatexWriter) -> str:
    from derive.matrix import matrix_form

    return matrix_form(definition, writer) or ""
