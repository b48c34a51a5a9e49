"""Reports compile, look as they should to LaTeX's own measure, and say what the derivation and the code say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles.cases import all_cases
from sympy import Abs, Eq, Ge, Idx, IndexedBase, Max, Ne, Piecewise, Sum, exp, sqrt, symbols, tanh

from derive import Loss, files, report, verify
from derive.analyses import ANALYSES, Analysis
from derive.analyses.noise import LEVEL, c, sigma
from derive.arithmetic import NotRational
from derive.catalogue import catalogue, find
from derive.claims import Identity, Proof
from derive.differentiate import differentiate
from derive.errors import DeriveError, MissingToolError, VerificationError
from derive.latex import escape, prose
from derive.numbering import equation_numbers
from derive.pictures import Picture, analysis_picture, loss_picture, rule_picture
from derive.render import compile as compiled
from derive.rule import learning_rate
from derive.verify import verify_derivation

N, D, C = symbols("N D C", integer=True, positive=True)
i, j, k = Idx("i", N), Idx("j", C), Idx("k", D)
X, W, y = IndexedBase("X", shape=(N, D)), IndexedBase("W", shape=(C, D)), IndexedBase("y", shape=(N,))
s, L = IndexedBase("s", shape=(N, C)), IndexedBase("L", shape=(N,))
delta = symbols("delta", real=True)


def hinge(power: int) -> Loss:
    missing = Max(0, s[i, j] - s[i, y[i]] + delta) ** power
    return Loss(
        "my_hinge",
        where=[
            Eq(s[i, j], Sum(W[j, k] * X[i, k], k)),
            Eq(L[i], Sum(Piecewise((missing, Ne(j, y[i])), (0, True)), j)),
        ],
        value=Sum(L[i], i) / N,
        wrt=[W],
        data=[X, y],
        defaults={delta: 1.0},
    )


def awkward() -> Loss:
    train, theta = IndexedBase("X_train_set", shape=(N, D)), IndexedBase("theta", shape=(C, D))
    label, w = IndexedBase("class_of", shape=(N,)), IndexedBase("w", shape=(N,))
    z = IndexedBase("z_hat", shape=(N, C))
    sigma, penalty, capital, offset = symbols("sigma_max lambda_ Delta β", real=True)
    score = Sum((theta[j, k] + W[j, k]) * train[i, k], k) * w[i] + delta - capital
    bell = exp(-(z[i, j] ** 2) / (2 * sigma**2))
    return Loss(
        "awkward_names",
        where=[Eq(z[i, j], score)],
        value=Sum(Piecewise((tanh(z[i, j] / sigma), Ne(j, label[i])), (bell, True)), j, i)
        + penalty * Sum(Abs(theta[j, k]), j, k)
        + offset**2 / 3,
        wrt=[theta, W, offset],
        data=[train, label, w],
        defaults={sigma: 1.5, penalty: 1e-3},
        about="Names that are hard to set: X_train_set, 100 % of a & b, #1, ~, ^, \\ and {x}.",
        meanings={train: "the $ and the _ of it"},
    )


def typeset(pages: dict[str, str], name: str, folder: Path, pdflatex: str) -> str:
    """The log of the last of three runs."""
    for path, text in pages.items():
        (folder / Path(path).name).write_text(text, encoding="utf-8")
    for _ in range(3):
        run = subprocess.run(
            [pdflatex, "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"],
            cwd=folder, capture_output=True, text=True, errors="replace", timeout=300,
        )  # fmt: skip
        assert run.returncode == 0, re.findall(r"(?m)^!.*(?:\n.*){0,4}", run.stdout)
    return (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")


def faults(log: str) -> list[str]:
    """What a reader would see: overfull lines over 5 pt, references to nothing, labels given twice."""
    unbroken = log.replace("\n", " ")
    wide = [m[0] for m in re.finditer(r"Overfull \\[hv]box \(([\d.]+)pt.{60}", unbroken) if float(m[1]) > 5]
    lost = re.findall(r"(?:Reference|Citation) .{0,80}undefined|multiply.defined.{0,40}|There were undefined", unbroken)
    return wide + lost


# -- LaTeX's own judgement -----------------------------------------------------------------------------------------


def test_the_reports_of_the_catalogue_compile_without_a_fault(tmp_path: Path, tool: Callable[[str], str]) -> None:
    pages = report.pages(catalogue(), files.CATALOGUE)
    log = typeset(pages, "derivations", tmp_path, tool("pdflatex"))
    assert faults(log) == []
    assert "Font Warning" not in log


def test_statements_of_every_shape_compile_without_a_fault(
    tmp_path: Path, tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is measured here are formulas; the code and the checks of these statements are tested elsewhere.
    monkeypatch.setattr(report, "verified_blocks", lambda statement: [])
    monkeypatch.setattr(report, "code_blocks", lambda *arguments: [])
    monkeypatch.setattr(report.pictures, "loss_picture", lambda *arguments: None)
    cases = all_cases()
    statements = [cases[name]().loss for name in sorted(cases)[::5]] + [awkward()]
    log = typeset(report.pages(statements, "cases.py"), "cases_report", tmp_path, tool("pdflatex"))
    assert faults(log) == []


def test_a_fragment_goes_into_a_paper_of_ones_own(tmp_path: Path, tool: Callable[[str], str]) -> None:
    fragment = report.pages([awkward()], "mine.py")["reports/awkward_names.tex"]
    needs = re.findall(r"(?m)^%   (\\.*)$", fragment)
    paper = ["\\documentclass{article}", "\\usepackage[T1]{fontenc}", *needs, "\\begin{document}"]
    paper += ["\\section{My loss}", "\\input{awkward_names}", "See~\\eqref{eq:awkward_names:z_hat}.", "\\end{document}"]
    pages = {"reports/awkward_names.tex": fragment, "reports/paper.tex": "\n".join(paper)}
    log = typeset(pages, "paper", tmp_path, tool("pdflatex"))
    assert not [f for f in faults(log) if "Overfull" not in f]


def test_the_judge_sees_faults(tmp_path: Path, tool: Callable[[str], str]) -> None:
    page = report.pages([find("quadratic")], "mine.py")
    page["reports/mine_report.tex"] = page["reports/mine_report.tex"].replace(
        "\\end{document}", "\\eqref{eq:nowhere} \\hbox to 0.9\\linewidth{}\\rule{0.5\\linewidth}{1pt}\\end{document}"
    )
    log = typeset(page, "mine_report", tmp_path, tool("pdflatex"))
    assert any("Overfull" in f for f in faults(log))
    assert any("undefined" in f for f in faults(log))


# -- the command ---------------------------------------------------------------------------------------------------


def test_reports_become_pdf(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("pdflatex")
    (made,) = report.compile_reports(["quadratic"], tmp_path)
    assert made == tmp_path / "quadratic_report.pdf"
    assert made.read_bytes().startswith(b"%PDF")
    assert [p.name for p in tmp_path.iterdir()] == [made.name]


@pytest.mark.parametrize(("there", "first"), [(("latexmk", "pdflatex"), "latexmk"), (("pdflatex",), "pdflatex")])
def test_the_tool_that_is_there_is_taken(there: Sequence[str], first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name in there else None)
    assert report.latex_tool()[0] == first


def test_without_latex_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingToolError, match=r"install latexmk and pdflatex"):
        report.compile_reports([], tmp_path)


def test_an_error_of_latex_is_told(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("pdflatex")
    broken = {"reports/broken.tex": "\\documentclass{article}\\begin{document}\\nonsense\\end{document}\n"}
    with pytest.raises(DeriveError, match=r"broken\.tex: Undefined control sequence"):
        report.compiled(broken, "broken", tmp_path, report.latex_tool())


# -- one derivation ------------------------------------------------------------------------------------------------


def test_a_statement_that_changes_changes_report_and_code_together() -> None:
    once, squared = (report.pages([hinge(p)], "mine.py")["reports/my_hinge.tex"] for p in (1, 2))
    assert r"\max(0, s_{ij} - s_{i,y_{i}} + \Delta) \tag{2}" in once
    assert r"\max(0, s_{ij} - s_{i,y_{i}} + \Delta)^2 \tag{2}" in squared
    result = [p.split(r"\subsection*{Result}")[1].split(r"\subsection*")[0] for p in (once, squared)]
    assert r"\mathbb{1}(w_{j}^\top x_{i}" in result[0]
    assert r"\max(0, w_{j}^\top x_{i}" not in result[0].split("gradient")[1]
    assert r"2 \max(0, w_{j}^\top x_{i} - w_{y_{i}}^\top x_{i} + \Delta) x_{i}" in result[1]
    code = [p.split("begin{lstlisting}")[1].split("end{lstlisting}")[0] for p in (once, squared)]
    assert code[0] != code[1]
    rng = np.random.default_rng(1)
    w, x, labels = rng.normal(size=(4, 3)), rng.normal(size=(6, 3)), rng.integers(0, 4, 6)
    margins = x @ w.T - (x @ w.T)[np.arange(6), labels][:, None] + 1
    margins[np.arange(6), labels] = 0
    for power in (1, 2):
        value = compiled(hinge(power)).loss(w, x, labels)
        np.testing.assert_allclose(value, (np.maximum(0, margins) ** power).sum() / 6)


@pytest.mark.parametrize("name", ["svm", "softmax", "two_layer_net", "autoencoder"])
def test_code_and_report_have_the_same_numbers(name: str) -> None:
    """Each line of the listing points to the equation whose number stands in the generated module."""
    loss = find(name)
    numbers = equation_numbers(differentiate(loss))
    fragment = report.pages([loss], files.CATALOGUE)[f"reports/{name}.tex"]
    tags = dict(re.findall(r"\\tag\{(\d+)\}\\label\{eq:\w+?:(\w+)\}", fragment.replace(f"eq:{name}:", "eq:x:")))
    assert {q: int(n) for n, q in tags.items()} == {q: n for q, n in numbers.items() if str(n) in tags}
    listing = re.search(r"(?s)begin\{lstlisting\}.*?\n(.*?)\\end\{lstlisting\}", fragment)
    assert listing
    pointed = [re.findall(rf"eq:{name}:(\w+)", line) for line in listing[1].splitlines()]
    module = compiled(loss).__doc__ or ""
    assert module
    source = re.search(r"(?s)def loss_and_grad.*?\n(?=\n\n)", _source(loss))
    assert source
    commented = [
        re.findall(r"\((\d+)\)", line.split("#")[1]) for line in source[0].splitlines() if re.search(r"# \(\d", line)
    ]
    assert [[str(numbers[q]) for q in line] for line in pointed if line] == commented
    assert commented


def _source(loss: Loss) -> str:
    from derive.render import module_text

    return module_text(loss)


def test_rules_show_problem_condition_and_update() -> None:
    fragment = report.pages([find("adam")], files.CATALOGUE)["reports/adam.tex"]
    order = [fragment.index(x) for x in (r"arg\,min", "Its derivative vanishes", r"\tag{5}")]
    assert order == sorted(order)
    assert r"x' &= x - \frac{\eta \hat{m}}{\sqrt{\hat{s}} + \varepsilon}" in fragment


@pytest.mark.parametrize("name", ["adam", "adagrad", "momentum"])
def test_every_claim_is_a_numbered_proposition(name: str) -> None:
    rule: Any = find(name)
    fragment = report.pages([rule], files.CATALOGUE)[f"reports/{name}.tex"]
    heads = [int(n) for n in re.findall(r"\\propositionhead\{(\d+)\}", fragment)]
    proofs: Sequence[Proof] = rule.proofs
    assert heads == [p.number for p in proofs] == list(range(1, len(proofs) + 1))


# -- analyses ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole() -> dict[str, str]:
    """All reports of the catalogue."""
    return report.pages(catalogue(), files.CATALOGUE)


def test_analyses_are_chapters_after_the_update_rules(whole: dict[str, str]) -> None:
    chapters = re.findall(r"(?m)^\\chapter\{(.*)\}\n\\input\{(.*)\}$", whole["reports/derivations.tex"])
    assert [name for _, name in chapters[-3:]] == ["conditioning", "saddles", "noise"]
    assert [title for title, _ in chapters[-3:]] == [a.title for a in ANALYSES]
    assert len(chapters) == len(catalogue()) + 3


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda a: a.name)
def test_every_claim_of_an_analysis_is_a_proposition_with_its_proof(analysis: Analysis, whole: dict[str, str]) -> None:
    fragment = whole[f"reports/{analysis.name}.tex"]
    heads = [int(n) for n in re.findall(r"\\propositionhead\{(\d+)\}", fragment)]
    assert heads == list(range(1, len(analysis.claims) + 1))
    proofs = fragment.split(r"\propositionhead{")[1:]
    assert all(r"\proofend" in p or "same expression" in p for p in proofs)
    assert fragment.count(r"\begin{axis}") == 1


def test_what_is_said_of_a_claim_stands_with_it(whole: dict[str, str]) -> None:
    fragment = whole["reports/conditioning.tex"]
    assert r"curvatures$a>b>0$alongitsaxes;theirratio$\kappa=a/b$isitsconditionnumber" in re.sub(r"\s", "", fragment)
    assert "no direction sees the others." in fragment.split(r"\propositionhead{2}")[0]
    assert r"$q$ is below 1" in whole["reports/noise.tex"]
    assert r"\binom{N}{B}" in whole["reports/noise.tex"]


def test_a_letter_that_may_be_an_article_is_one_only_in_a_formula() -> None:
    found = prose("A bowl with a > b and a slope a/b, (a).", {"a": "a", "A": "A", "b": "b"})
    assert found.replace(" ", "") == "Abowlwith$a>b$andaslope$a/b$,($a$)."


def test_analyses_are_for_the_whole_catalogue_alone() -> None:
    assert set(report.pages([find("quadratic")], files.CATALOGUE)) == {
        "reports/quadratic.tex", "reports/derivations.tex",
    }  # fmt: skip
    own = report.pages([find("quadratic"), find("sgd")], "mine.py")
    assert not [path for path in own if any(a.name in path for a in ANALYSES)]
    assert "problems of gradient descent" not in own["reports/mine_report.tex"]


def curves(picture: Picture | None) -> list[list[tuple[float, ...]]]:
    assert picture is not None
    found = (re.findall(r"\(([-\d.e]+),([-\d.e]+)\)", line) for line in picture.lines if line.startswith(r"\addplot"))
    return [[(float(a), float(b)) for a, b in points] for points in found]


def analysis_curves(name: str) -> list[list[tuple[float, ...]]]:
    return curves(analysis_picture(next(a for a in ANALYSES if a.name == name)))


def test_the_picture_of_the_bowl_follows_the_factors() -> None:
    rates = (0.05, 0.05, 2 / 11, 2 / 11)
    found = analysis_curves("conditioning")
    assert len(found) == 4
    for rate, curvature, curve in zip(rates, (1, 10, 1, 10), found, strict=True):
        want = [(t, (1 - rate * curvature) ** t) for t in range(16)]
        np.testing.assert_allclose(curve, want, rtol=1e-3, atol=1e-12)


def test_the_picture_of_the_saddle_leaves_by_powers() -> None:
    near, far, *with_momentum = analysis_curves("saddles")
    for start, curve in ((1e-3, near), (1e-6, far)):
        early = [(t, start * 1.1**t) for t in range(0, 33, 4)]
        found = [p for p in curve if p[0] <= 32]
        assert found[0] == (0, start)
        for (t, want), value in zip(early, np.interp([t for t, _ in early], *zip(*found, strict=True)), strict=True):
            assert value == pytest.approx(want, rel=5e-2), t
    # All arrive in the valley, plain descent from afar the last.
    assert all(curve[-1][1] == pytest.approx(1, rel=5e-2) for curve in (near, *with_momentum))
    early_exit, late_exit = (next(t for t, value in curve if value > 0.5) for curve in (near, far))
    assert late_exit - early_exit == pytest.approx(np.log(1000) / np.log(1.1), abs=4)


def test_the_picture_of_the_noise_settles_at_the_levels_that_are_proved() -> None:
    *spreads, first, second, third = analysis_curves("noise")
    for rate, spread, level in zip((0.6, 0.3, 0.15), spreads, (first, second, third), strict=True):
        q, proved = (1 - rate) ** 2, float(LEVEL.subs({learning_rate: rate, c: 1, sigma: 1}))
        assert level[0][1] == pytest.approx(proved, rel=1e-3)
        for t, value in spread:
            assert value == pytest.approx(rate**2 * (1 - q**t) / (1 - q), rel=1e-3, abs=1e-9)


# -- what was verified ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["svm", "softmax"])
def test_steps_that_were_verified_are_told_by_rule(name: str) -> None:
    derivation = differentiate(find(name))
    found = verify_derivation(derivation)
    assert sum(found.rules_exact.values()) == found.steps_exact
    assert sum(found.rules_numeric.values()) == found.steps_numeric
    for rule in {step.rule for step in derivation.steps}:
        count = sum(step.rule == rule for step in derivation.steps)
        assert found.rules_exact.get(rule, 0) + found.rules_numeric.get(rule, 0) == count
    told = report.pages([find(name)], files.CATALOGUE)[f"reports/{name}.tex"].split("What was verified")[1]
    for words, counts in (("Exactly", found.rules_exact), (f"To {found.digits} digits", found.rules_numeric)):
        line = re.search(rf"(?m)^\\item {words}, by rule: (.*)\.$", told)
        assert (line is not None) == bool(counts)
        if line is not None:
            parts = re.findall(r"(?:^|; )(.+?) \((\d+)(?: steps?)?\)", line[1])
            assert {rule: int(n) for rule, n in parts} == counts


def mixed() -> Loss:
    """Functions that keep to fractions beside such that do not."""
    u, v = IndexedBase("u", shape=(N,)), IndexedBase("v", shape=(N,))
    w, p = symbols("w p", real=True)
    n = symbols("n", integer=True, positive=True)
    plain = Abs(v[i]) / (u[i] ** 2 + 1) + Max(v[i] * w, u[i], 1) ** n
    return Loss(
        "mixed",
        value=Sum(plain + sqrt(u[i] ** 2 + 3) + (w**2 + 2) ** p, i) / N + exp(w) * w,
        wrt=[u, v, w],
        defaults={n: 3, p: 0.5},
    )


@pytest.mark.parametrize(
    "loss", [*(s for s in catalogue() if isinstance(s, Loss)), mixed()], ids=lambda loss: loss.name
)
def test_steps_are_told_to_hold_exactly_just_where_fractions_suffice(
    loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    derivation = differentiate(loss)
    told = verify.stays_rational(derivation)
    monkeypatch.setattr(verify, "stays_rational", lambda derivation: [True] * len(derivation.raw_steps))
    for step, exact in zip(derivation.raw_steps, told, strict=True):
        alone = replace(derivation, raw_steps=(step,))
        if exact:
            assert verify_derivation(alone).steps_exact == 1
        else:
            with pytest.raises(NotRational):
                verify_derivation(alone)


def test_a_report_for_the_terminal_checks_the_steps_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["derive.differentiate"], "Gt", Ge)
    with pytest.raises(VerificationError, match="max"):
        report.latex(hinge(1))


def test_an_exponential_leaves_the_rationals() -> None:
    exact = verify_derivation(differentiate(find("svm")))
    some = verify_derivation(differentiate(find("softmax")))
    assert exact.rules_numeric == {}
    assert some.rules_numeric


@pytest.mark.parametrize("name", ["adam", "momentum", "conditioning"])
def test_each_proposition_is_told_once_by_its_kind_of_proof(name: str, whole: dict[str, str]) -> None:
    owner: Any = next((a for a in ANALYSES if a.name == name), None) or find(name)
    told = whole[f"reports/{name}.tex"].split("What was verified")[1]
    numbers: list[int] = []
    for line in re.findall(r"(?m)^\\item Propositions? ([-\d, and]+): ", told):
        for part in re.split(r", | and ", line):
            low, _, high = part.partition("--")
            numbers += range(int(low), int(high or low) + 1)
    assert sorted(numbers) == [p.number for p in owner.proofs]
    identities = [p.number for p in owner.proofs if type(p.claim) is Identity]
    line = re.search(r"(?m)^\\item Propositions? (.*): two expressions are equal", told)
    assert line is not None
    assert line[1] == report.join(report.runs(identities))


# -- pictures, words -----------------------------------------------------------------------------------------------


def test_pictures_come_from_the_generated_code() -> None:
    picture = loss_picture(find("svm"), differentiate(find("svm")))
    loss, below, above = curves(picture)
    assert loss == [(-3, 0), (-1, 0), (3, 4)]
    # The indicator is strict: 0 up to and with the kink.
    assert below == [(-3, 0), (-1, 0)]
    assert above[-1] == (3, 1)
    assert above[0][1] == 1


def test_the_first_steps_of_adam_with_and_without_correction() -> None:
    picture = rule_picture(find("adam"), catalogue())
    assert picture is not None
    text = "\n".join(picture.lines)
    with_correction, without = re.findall(r"coordinates \{(.*?)\}", text)
    assert with_correction.startswith("(1,1)")
    assert without.startswith("(1,3.162)")
    assert text.count("addlegendentry") == 2


def test_reports_are_the_same_each_time_and_say_nothing_of_the_machine() -> None:
    chosen = [find("svm"), find("adam")]
    first, second = report.pages(chosen, files.CATALOGUE), report.pages(chosen, files.CATALOGUE)
    assert first == second
    for text in first.values():
        assert text.startswith("% Generated by derive from the catalogue.")
        assert str(Path.home()) not in text
        assert str(Path.cwd()) not in text
        assert not re.search(r"\b20[2-9]\d\b|\btoday\b", text)
        assert "\r" not in text
        assert text.endswith("\n")


def test_no_formula_is_written_in_a_template() -> None:
    for template in Path(report.__file__).parents[1].joinpath("templates").glob("report_*.jinja"):
        text = template.read_text(encoding="utf-8")
        for sign in (r"\sum", r"\frac", r"\nabla", r"\max", r"^\top", "W_", "x_i"):
            assert sign not in text, (template.name, sign)


def test_text_of_users_is_escaped() -> None:
    assert escape("50% of a_b & #1 {x} $") == r"50\% of a\_b \& \#1 \{x\} \$"
    fragment = report.pages([awkward()], "mine.py")["reports/awkward_names.tex"]
    assert r"100 \% of a \& b, \#1, \textasciitilde{}, \textasciicircum{}, \textbackslash{} and \{x\}" in fragment
    assert r"the \$ and the \_ of it" in fragment
