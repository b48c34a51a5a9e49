"""The gradient check where the statement is known: kinks proved absent, conventions held to, terms apart."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from mutants import load, mutants
from sympy import Abs, Eq, Idx, IndexedBase, Max, Sum, log, symbols

from derive.__main__ import main
from derive.catalogue import catalogue, kind
from derive.errors import VerificationError
from derive.points import Point
from derive.render import module_text
from derive.statement import Loss, read
from derive.statement_check import _Known, check_loss, check_statements
from derive.verify import verify
from derive.verify_code import verify_code

N = symbols("N", integer=True, positive=True)
i = Idx("i", N)
w, x = IndexedBase("w", shape=(N,)), IndexedBase("x", shape=(N,))
reg = symbols("reg", real=True)

HINGE = Loss("hinge", Sum(Max(0, w[i] * x[i] - 1), i) + reg * Sum(Abs(w[i]), i), wrt=[w], data=[x], defaults={reg: 0.5})
LOSSES = {statement.name: statement for statement in catalogue() if kind(statement) == "loss"}


@pytest.fixture(scope="module")
def svm():
    return load(module_text(LOSSES["svm"]))


def changed(module, gradient):
    """The module of the SVM with another gradient, made from that of the data loss and that of the penalty."""

    def grad(*args, reg=0.0, **hyperparameters):
        data = module.grad(*args, reg=0 * reg, **hyperparameters)
        return gradient(data, module.grad(*args, reg=reg, **hyperparameters) - data)

    def loss_and_grad(*args, **hyperparameters):
        return module.loss(*args, **hyperparameters), grad(*args, **hyperparameters)

    return SimpleNamespace(loss=module.loss, grad=grad, loss_and_grad=loss_and_grad)


@pytest.mark.parametrize("name", ["binary_svm", "lasso", "logistic", "quadratic", "ridge", "rosenbrock", "svm"])
def test_generated_losses_are_right(name):
    result = check_loss(LOSSES[name])
    assert result.passed
    assert result.max_relative_error < 1e-6
    assert all(condition < 10 for _, condition in result.conditions.values())


def test_the_table_says_what_was_tried():
    text = str(check_loss(LOSSES["svm"]))
    for part in ("anywhere", "at ties", "near ties", "reg = 0", "terms with reg", "in float64 against 50 digits"):
        assert part in text
    assert "WRONG" not in text


def test_at_ties_the_convention_counts_and_not_just_any_subgradient():
    """1(a >= 0) gives a subgradient too: right for a check of two functions, wrong for the statement."""
    wide = [text for what, text in mutants(module_text(LOSSES["svm"])) if what[:5] == "grad," and what.endswith("GtE")]
    assert wide
    for text in wide:
        result = check_loss(LOSSES["svm"], load(text))
        assert [(where, part) for where, part, r in result.parts if not r.passed] == [("at ties", "loss")]
        assert not result.exact_passed


@pytest.mark.parametrize(
    ("gradient", "part"),
    [
        (lambda data, penalty: data + penalty / 2, "terms with reg"),
        (lambda data, penalty: penalty - data, "reg = 0"),
    ],
)
def test_data_loss_and_penalty_are_told_apart(svm, gradient, part):
    result = check_loss(LOSSES["svm"], changed(svm, gradient))
    assert not result
    other = {"terms with reg": "reg = 0", "reg = 0": "terms with reg"}[part]
    verdicts = {name: r.passed for where, name, r in result.parts if where == "anywhere"}
    assert verdicts == {"loss": False, part: False, other: True}


def test_a_step_that_crosses_no_kink_is_proved():
    form = read(HINGE)
    for distance, expected in ((0.5, 1e-4), (5e-5, 1e-5), (5e-6, 1e-6), (5e-7, 1e-7), (1e-9, None), (0.0, None)):
        point = Point({"N": 2}, {"w": np.array([1 + distance, -3.0]), "x": np.array([1.0, 1.0])}, {"reg": 0.5})
        known = _Known(form, point)
        assert known.step("w", (0,)) == (None if expected is None else expected * (1 + distance))
        assert known.step("w", (1,)) == pytest.approx(3e-4)


def test_the_declared_slope_at_a_kink():
    form = read(HINGE)
    point = Point({"N": 2}, {"w": np.array([1.0, 0.0]), "x": np.array([1.0, 1.0])}, {"reg": 0.5})
    known = _Known(form, point)
    assert known.slope("w", (0,)) == 0.5  # 1(0 > 0) + reg
    assert known.slope("w", (1,)) == 0.0  # sign(0)


def test_a_statement_of_ones_own_with_logarithms_is_checked_where_it_is_defined():
    own = Loss("own", -Sum(log(w[i]) * x[i], i), wrt=[w], data=[x])
    verify(own)
    result = check_loss(own)
    assert result
    assert {where for where, _, _ in result.parts} == {"anywhere"}


def test_the_gate_names_loss_function_element_and_both_values(svm):
    with pytest.raises(VerificationError, match=r"'svm': generated grad of W\[0, 0\] gives .* the statement gives"):
        verify_code(LOSSES["svm"], changed(svm, lambda data, penalty: penalty - data))
    ridge = load(module_text(LOSSES["ridge"]))
    wrong = SimpleNamespace(loss=ridge.loss, grad=lambda *a, **h: ridge.grad(*a, **h) * 2, loss_and_grad=None)
    wrong.loss_and_grad = lambda *a, **h: (wrong.loss(*a, **h), wrong.grad(*a, **h))
    with pytest.raises(VerificationError, match="in exact arithmetic"):
        verify_code(LOSSES["ridge"], wrong)


def test_the_gate_says_what_it_compared():
    assert "code exact at" in verify_code(LOSSES["ridge"], load(module_text(LOSSES["ridge"])))
    assert "of 50 digits" in verify_code(LOSSES["logistic"], load(module_text(LOSSES["logistic"])))


def test_a_loss_and_grad_that_differs_from_grad_is_caught(svm):
    apart = changed(svm, lambda data, penalty: data + 2 * penalty)
    apart.grad = svm.grad
    with pytest.raises(VerificationError, match="generated loss_and_grad of W"):
        verify_code(LOSSES["svm"], apart)


def test_the_command_exits_0_on_right_code_and_prints_the_table(capsys):
    assert main(["gradcheck", "lasso"]) == 0
    assert "lasso: right" in capsys.readouterr().out


def test_update_rules_have_nothing_to_check():
    said = []
    rule = next(statement for statement in catalogue() if kind(statement) == "rule")
    assert check_statements([rule], say=said.append)
    assert "an update rule has no gradient of its own" in said[0]


def test_a_vector_of_squares_written_as_definitions_is_exact():
    r = IndexedBase("r", shape=(N,))
    squares = Loss("squares", Sum(r[i] ** 2, i), where=[Eq(r[i], w[i] - x[i])], wrt=[w], data=[x])
    assert "elements equal to exact differences" in check_loss(squares).exact
