"""What is printed is what was derived: formulas are read back by a reader of the lecture's notation, and computed."""

from __future__ import annotations

import re

import numpy as np
import pytest
from latex_reader import World, compute, structure, target
from oracles.cases import all_cases
from sympy import (
    Eq,
    Idx,
    IndexedBase,
    Max,
    Ne,
    Piecewise,
    Rational,
    Sum,
    Symbol,
    exp,
    sqrt,
    symbols,
)

from derive import Loss, chapters
from derive.blackboard import Notation, recognise
from derive.catalogue import find
from derive.differentiate import differentiate
from derive.latex import LatexWriter, derivation_latex, prose, rule_latex, spelled, statement_latex, width
from derive.numbering import equation_numbers
from derive.render import compile as compiled
from derive.text import TextWriter, derivation_text

#: The two results as the lecture prints them.
LECTURE_TRUE_CLASS = (
    r"\nabla_{w_{y_i}} L_i = - \left( \sum_{j\neq y_i} \mathbb{1}(w_j^Tx_i - w_{y_i}^Tx_i + \Delta > 0) \right) x_i"
)
LECTURE_OTHER_CLASS = r"\nabla_{w_j} L_i = \mathbb{1}(w_j^Tx_i - w_{y_i}^Tx_i + \Delta > 0) x_i"
LECTURE_STATEMENT = r"L_i = \sum_{j\neq y_i} \max(0, w_j^Tx_i - w_{y_i}^Tx_i + \Delta)"

N, D, C = symbols("N D C", integer=True, positive=True)
i, j, k = Idx("i", N), Idx("j", C), Idx("k", D)
X, W, y = IndexedBase("X", shape=(N, D)), IndexedBase("W", shape=(C, D)), IndexedBase("y", shape=(N,))


def written(loss: Loss) -> tuple[LatexWriter, object]:
    derivation = differentiate(loss)
    return LatexWriter(Notation.of(derivation.form, derivation.definitions)), derivation


def equation(row: chapters.Row) -> str:
    return f"{row.left} = {' '.join(row.pieces)}"


# -- the lecture ---------------------------------------------------------------------------------------------------


def test_the_svm_says_the_lectures_two_results_as_the_lecture_does() -> None:
    writer, derivation = written(find("svm"))
    true_class, other_class = chapters.example_rows(derivation, writer)
    assert structure(equation(true_class)) == structure(LECTURE_TRUE_CLASS)
    assert structure(equation(other_class)) == structure(LECTURE_OTHER_CLASS)
    assert other_class.reason == r"\textup{for }$j \neq y_{i}$"


def test_the_loss_of_one_example_reads_as_in_the_lecture() -> None:
    writer, derivation = written(find("svm"))
    first, second = chapters.example_loss_rows(derivation, writer)
    assert structure(f"{first.left} = {' '.join(second.pieces)}") == structure(LECTURE_STATEMENT)


def test_structure_tells_formulas_apart() -> None:
    assert structure(LECTURE_OTHER_CLASS) == structure(LECTURE_OTHER_CLASS.replace("w_j", "{w}_{j}"))
    assert structure(LECTURE_OTHER_CLASS) != structure(LECTURE_OTHER_CLASS.replace("> 0", r"\geq 0"))
    assert structure(LECTURE_TRUE_CLASS) != structure(LECTURE_TRUE_CLASS.replace("= -", "="))
    assert structure(LECTURE_TRUE_CLASS) != structure(LECTURE_TRUE_CLASS.replace("y_i", "j"))


def test_the_matrix_form_is_read_off_the_contractions() -> None:
    writer, derivation = written(find("svm"))
    forms = [equation(r) for r in chapters.matrix_rows(derivation, writer)]
    assert forms == [r"s = X W^\top", r"\nabla_{W} \mathcal{L} = (\nabla_{s} \mathcal{L})^\top X + 2 \lambda W"]


def test_matrix_forms_of_a_network_hold_for_numbers() -> None:
    rng = np.random.default_rng(5)
    writer, derivation = written(find("two_layer_net"))
    forms = dict(equation(r).split(" = ") for r in chapters.matrix_rows(derivation, writer))
    shapes = {"X": (5, 3), "W1": (4, 3), "b1": (4,), "W2": (2, 4), "b2": (2,)}
    v = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    ones = np.ones(5)
    h = np.maximum(0, v["X"] @ v["W1"].T + np.outer(ones, v["b1"]))
    assert forms["h"] == r"\max(0, X W_{1}^\top + \mathbf{1} b_{1}^\top)"
    assert forms["s"] == r"h W_{2}^\top + \mathbf{1} b_{2}^\top"
    # What these two say, and the gradients that follow, against differences of the generated loss.
    module, labels = compiled(find("two_layer_net")), rng.integers(0, 2, 5)
    arguments = (v["W1"], v["b1"], v["W2"], v["b2"], v["X"], labels)
    gradient = module.grad(*arguments, reg=0.5)
    s = h @ v["W2"].T + np.outer(ones, v["b2"])
    p = np.exp(s - s.max(axis=1, keepdims=True))
    grad_s = (p / p.sum(axis=1, keepdims=True) - np.eye(2)[labels]) / 5
    assert forms[r"\nabla_{W_{2}} \mathcal{L}"] == r"(\nabla_{s} \mathcal{L})^\top h + 2 \lambda W_{2}"
    np.testing.assert_allclose(gradient.W2, grad_s.T @ h + 2 * 0.5 * v["W2"])
    assert forms[r"\nabla_{b_{2}} \mathcal{L}"] == r"(\nabla_{s} \mathcal{L})^\top \mathbf{1}"
    np.testing.assert_allclose(gradient.b2, grad_s.T @ ones)


# -- printed formulas are computed ---------------------------------------------------------------------------------

READ = ("svm", "squared_hinge_svm", "softmax", "binary_svm", "logistic", "ridge", "lasso", "autoencoder", "svm_flat")


def flat_svm() -> Loss:
    margin = Sum(W[j, k] * X[i, k], k) - Sum(W[y[i], k] * X[i, k], k) + Rational(3, 2)
    hinge = Sum(Piecewise((Max(0, margin), Ne(j, y[i])), (0, True)), j)
    scores = IndexedBase("L", shape=(N,))
    return Loss("svm_flat", Sum(scores[i], i) / N, wrt=[W], data=[X, y], where=[Eq(scores[i], hinge)])


@pytest.mark.parametrize("name", READ)
def test_the_printed_equations_compute_the_loss_and_its_gradient(name: str) -> None:
    """Every numbered equation is read from LaTeX, in order, and computed; the last are the loss and its gradient."""
    loss = flat_svm() if name == "svm_flat" else find(name)
    writer, derivation = written(loss)
    rng = np.random.default_rng(3)
    sizes = {"N": 5, "D": 3, "C": 4, "H": 2}
    values: dict[str, object] = {}
    arguments, options = [], {}
    for v in derivation.form.arguments:
        shape = tuple(sizes[str(n)] for n in v.shape)
        array = rng.integers(0, sizes["C"], shape) if v.labels is not None else rng.normal(size=shape)
        values[writer.name(v.name)] = array
        arguments.append(array)
    for number, (hyperparameter, _) in enumerate(derivation.form.hyperparameters):
        options[hyperparameter] = values[writer.name(hyperparameter)] = 0.5 + 0.25 * number
    world = World({**values, **sizes}, {"i": 5, "j": 4, "k": 3, "m": 2})
    left = ""
    rows = chapters.statement_rows(derivation, writer) + chapters.rewritten_rows(derivation, writer)
    rows += chapters.adjoint_rows(derivation, writer) + chapters.gradient_rows(derivation, writer)
    for row in rows:
        left = row.left or left
        if row.reason == "chain rule" and row.name == "":
            continue
        if left.startswith((r"(X", r"(W", r"\frac{\partial \mathcal{L}}{\partial (", r"\nabla_{(")):
            pytest.skip("an unnamed product has no letter of its own")
        what, indices = target(left)
        right = " ".join(row.pieces)
        if what == r"\mathcal{L}":
            values[what] = compute(right, world)
            world = World({**values, **sizes}, world.sizes)
            continue
        shape = tuple(world.sizes[i.rstrip("'")] for i in indices)
        entries = {}
        for place in np.ndindex(*shape):
            here = world
            for index, n in zip(indices, place, strict=True):
                here = here.bind(index, n)
            entries[place] = compute(right, here)
        array = np.array([entries[p] for p in np.ndindex(*shape)])
        name_ = what if what.removeprefix("d ") in values else what.upper().replace("D ", "d ")
        values[name_] = array.reshape(shape + array.shape[1:])
        world = World({**values, **sizes}, world.sizes)
    module = compiled(loss)
    value, gradient = module.loss_and_grad(*arguments, **options)
    (parameter,) = derivation.form.parameters
    np.testing.assert_allclose(values[r"\mathcal{L}"], value, rtol=1e-12)
    np.testing.assert_allclose(values[f"d {parameter.name}"], gradient, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ["svm", "squared_hinge_svm", "softmax"])
def test_the_printed_gradients_of_one_example_add_up_to_that_of_the_batch(name: str) -> None:
    writer, derivation = written(find(name))
    rng = np.random.default_rng(8)
    w, x, labels = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.integers(0, 4, 5)
    values = {"W": w, "X": x, "y": labels, r"\Delta": 1.0}
    true_class, other_class = (" ".join(r.pieces) for r in chapters.example_rows(derivation, writer))
    total = np.zeros_like(w)
    for n in range(5):
        for c in range(4):
            world = World(values, {"i": 5, "j": 4, "k": 3}, {"i": n, "j": c})
            total[c] += compute(true_class if c == labels[n] else other_class, world)
    np.testing.assert_allclose(total / 5, compiled(find(name)).grad(w, x, labels), rtol=1e-12)


# -- every statement of the language -------------------------------------------------------------------------------

CASES = all_cases()


@pytest.mark.parametrize("name", sorted(CASES)[::2])
def test_every_statement_is_written_without_an_artefact_of_the_machine(name: str) -> None:
    loss = CASES[name]().loss
    writer, derivation = written(loss)
    rows = chapters.statement_rows(derivation, writer) + chapters.rewritten_rows(derivation, writer)
    rows += chapters.local_rows(derivation, writer) + chapters.adjoint_rows(derivation, writer)
    rows += chapters.example_rows(derivation, writer) + chapters.gradient_rows(derivation, writer)
    assert rows
    for row in rows:
        text = equation(row)
        for artefact in (
            r"\theta(",
            "Heaviside",
            "Piecewise",
            "Where",
            "Sum(",
            "Partial",
            "1.0",
            r"\delta_{",
            "Idx",
            "''''",
        ):
            assert artefact not in text, text
        assert text.count("{") == text.count("}")
        assert text.count(r"\left") == text.count(r"\right")
        assert not re.search(r"[-+] ?-", text), text
        structure(re.sub(r"\\begin\{cases\}.*?\\end\{cases\}", "c", text))


@pytest.mark.parametrize("name", sorted(CASES)[::4])
def test_text_fits_a_terminal(name: str) -> None:
    text = derivation_text(differentiate(CASES[name]().loss))
    assert max(map(len, text.splitlines())) <= 80


def test_equation_numbers_follow_the_order_of_reading() -> None:
    numbers = equation_numbers(differentiate(find("softmax")))
    assert numbers == {"s": 1, "L": 2, "loss": 3, "lse": 4, "grad_s": 5, "grad_W": 6}


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("x", ("x", ())), ("alpha", (r"\alpha", ())), ("Omega", (r"\Omega", ())), ("W1", ("W", ("1",))),
        ("beta_2", (r"\beta", ("2",))), ("sigma_max", (r"\sigma", (r"\mathrm{max}",))), ("m_hat", (r"\hat{m}", ())),
        ("margin", (r"\mathrm{margin}", ())), ("learning_speed", (r"\mathrm{learning\_speed}", ())),
        ("λ", (r"\lambda", ())), ("Σ", (r"\Sigma", ())), ("x_i", ("x", ("i",))),
        ("layer12", (r"\mathrm{layer}", ("12",))),
    ],
)  # fmt: skip
def test_names_become_symbols(name: str, symbol: tuple[str, tuple[str, ...]]) -> None:
    assert spelled(name) == symbol


def test_two_names_never_share_a_symbol() -> None:
    writer = LatexWriter(
        Notation(shapes=dict.fromkeys(["x1", "x_1", "delta", "Delta", "reg", "lamda", "W", "w"], (N,)))
    )
    names = [writer.name(n) for n in writer.notation.shapes]
    assert len(set(names)) == len(names)
    assert writer.name("Delta") == r"\Delta"
    assert writer.name("delta") == r"\delta"


def test_a_row_keeps_its_capital_where_the_small_letter_has_another_owner() -> None:
    both = LatexWriter(Notation(shapes={"W": (C, D), "w": (D,)}))
    alone = LatexWriter(Notation(shapes={"W": (C, D)}))
    row = Symbol("j", integer=True)
    assert (both.row("W", [row]), alone.row("W", [row])) == ("W_{j}", "w_{j}")


def test_prose_sets_names_and_small_formulas_as_mathematics() -> None:
    names = {"beta1": r"\beta_{1}", "t": "t", "g": "g", "W": "W"}
    assert prose("the squares of W", names) == "the squares of $W$"
    assert prose("it tends to (1 - beta1^t) g, a limit", names) == r"it tends to $(1-\beta_{1}^t)\,g$, a limit"
    assert prose("50 % of a_b & c", {}) == r"50 \% of a\_b \& c"


# -- inner products ------------------------------------------------------------------------------------------------


def test_a_sum_over_part_of_an_axis_is_no_inner_product() -> None:
    a, b = IndexedBase("a", shape=(D,)), IndexedBase("b", shape=(D,))
    n = Symbol("n", integer=True)
    whole = Loss("whole", Sum(a[n] * b[n], (n, 0, D - 1)), wrt=[a], data=[b])
    part = Loss("part", Sum(a[n] * b[n], (n, 0, D - 2)), wrt=[a], data=[b])
    texts = [written(x)[0].write(differentiate(x).form.value.rhs) for x in (whole, part)]
    assert texts == [r"a^\top b", r"\sum_{n=0}^{D - 2} a_{n} b_{n}"]


def test_recognition_leaves_expressions_alone_that_hold_no_contraction() -> None:
    writer, _ = written(find("svm"))
    s = IndexedBase(Symbol("s", real=True))
    a, b = (Symbol(n, integer=True) for n in "ij")
    e = Sum(s[a, b], (b, 0, C - 1))
    assert recognise(e, writer.notation) == e


def test_numbers_are_printed_as_a_person_writes_them() -> None:
    x = Symbol("x", real=True)
    writer = LatexWriter(Notation())
    assert writer.write(Rational(1, 2) * x) == r"\frac{x}{2}"
    assert writer.write(Rational(1, 10**8) + 0 * x) == "10^{-8}"
    assert writer.write(sqrt(x) / 2) == r"\frac{\sqrt{x}}{2}"
    assert writer.write(exp(-x)) == "e^{-x}"
    assert TextWriter(Notation()).write(x**2 / 2) == "x^2/2"


def test_width_counts_the_widest_part_of_a_fraction_and_of_cases() -> None:
    assert width(r"\frac{1}{abcdefgh}") == pytest.approx(width(r"\frac{abcdefgh}{1}"))
    assert width(r"\begin{cases} a & b \\ aaaaaaaa & b \end{cases}") < width("aaaaaaaa") + width("b") + 3


# -- notebooks -----------------------------------------------------------------------------------------------------


def test_statements_and_derivations_show_themselves_in_a_notebook() -> None:
    loss = find("svm")
    for shown in (loss._repr_latex_(), differentiate(loss)._repr_latex_(), rule_latex(find("adam"))):
        assert shown.startswith("$$\n")
        assert shown.endswith("\n$$")
        assert r"\begin{aligned}" in shown
    assert statement_latex(loss).count(r"\\") == 2
    assert r"\nabla_{w_{y_{i}}} L_{i}" in derivation_latex(differentiate(loss))
