"""What is not understood is refused: by name, at its place, as the user wrote it, and before anything is written."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from sympy import (
    DiracDelta,
    Eq,
    Function,
    Heaviside,
    Idx,
    Indexed,
    IndexedBase,
    Matrix,
    MatrixSymbol,
    Piecewise,
    Product,
    Sum,
    Symbol,
    erf,
    exp,
    floor,
    gamma,
    log,
    oo,
    sign,
    sqrt,
    symbols,
    zeta,
)

import derive
from derive import Loss, StatementError

N, D, C, M = symbols("N D C M", integer=True, positive=True)
i, j, k, n = Idx("i", N), Idx("j", C), Idx("k", D), Idx("n", N)
t = Symbol("t", integer=True)
X, W, y = IndexedBase("X", shape=(N, D)), IndexedBase("W", shape=(C, D)), IndexedBase("y", shape=(N,))
s, L = IndexedBase("s", shape=(N, C)), IndexedBase("L", shape=(N,))
w, x = IndexedBase("w", shape=(D,)), IndexedBase("x", shape=(N,))
a, b = symbols("a b", real=True)
f = Function("f")
scores = Eq(s[i, j], Sum(W[j, k] * X[i, k], k))

#: name: (keyword arguments of Loss, what the message must hold)
REFUSED = {
    # indices
    "undeclared_index": (
        {"value": Sum(x[Symbol("q", integer=True)], i), "wrt": [x]},
        ["value", "q", "index"],
    ),
    "free_index_in_the_value": ({"value": x[i] ** 2, "wrt": [x]}, ["value", "`i`", "x[i]"]),
    "free_index_in_a_definition": (
        {"where": [Eq(L[i], Sum(W[j, k] * X[i, k], k))], "value": Sum(L[i], i), "wrt": [W], "data": [X]},
        ["L[i]", "`j`", "W[j, k]"],
    ),
    "free_index_beside_a_sum": ({"value": Sum(x[i], i) * x[n], "wrt": [x]}, ["value", "`n`"]),
    "index_used_outside_its_sum": (
        {"value": Sum(x[i], i) + Sum(x[n] * x[i], n), "wrt": [x]},
        ["value", "`i`"],
    ),
    "free_index_as_a_number": ({"value": Sum(x[i], i) + n, "wrt": [x]}, ["value", "`n`"]),
    "index_on_the_left_has_no_range": (
        {
            "where": [Eq(Indexed(IndexedBase("q"), t), x[t])],
            "value": Sum(x[i], i),
            "wrt": [x],
        },
        ["q[t]", "`t`", "range"],
    ),
    "index_twice_on_the_left": (
        {"where": [Eq(IndexedBase("q", shape=(N, N))[i, i], x[i])], "value": Sum(x[i], i), "wrt": [x]},
        ["q[i, i]", "`i`", "twice"],
    ),
    "expression_on_the_left": (
        {"where": [Eq(IndexedBase("q", shape=(N,))[i + 1], x[i])], "value": Sum(x[i], i), "wrt": [x]},
        ["q[i + 1]", "left"],
    ),
    "non_integer_limit": (
        {"value": Sum(x[0] * t, (t, 0, a)), "wrt": [x], "data": [a]},
        ["value", "a"],
    ),
    "fractional_limit": ({"value": Sum(x[t], (t, 0, N / 2)), "wrt": [x]}, ["value", "N/2"]),
    "infinite_limit": ({"value": Sum(x[0] / 2**t, (t, 0, oo)), "wrt": [x]}, ["value", "oo"]),
    "fractional_index": ({"value": Sum(x[i / 2], i), "wrt": [x]}, ["value", "i/2"]),
    "squared_index": ({"value": Sum(x[i**2], i), "wrt": [x]}, ["value", "i**2"]),
    "real_symbol_as_an_index": ({"value": Sum(x[i] * w[a], i), "wrt": [x, w], "data": [a]}, ["value", "a"]),
    # ranges
    "shift_over_the_full_range": (
        {"value": Sum((x[i + 1] - x[i]) ** 2, i), "wrt": [x]},
        ["value", "x[i + 1]", "N"],
    ),
    "shift_below_zero": ({"value": Sum((x[i - 1] - x[i]) ** 2, i), "wrt": [x]}, ["value", "x[i - 1]", "below 0"]),
    "constant_index_below_zero": ({"value": x[-1] ** 2, "wrt": [x]}, ["value", "x[-1]"]),
    "constant_index_past_a_constant_size": (
        {"value": IndexedBase("v", shape=(3,))[3], "wrt": [IndexedBase("v", shape=(3,))]},
        ["value", "v[3]", "3"],
    ),
    "limits_from_one_to_the_size": ({"value": Sum(x[t], (t, 1, N)), "wrt": [x]}, ["value", "x[t]", "N"]),
    "empty_range": ({"value": Sum(x[t], (t, 3, 1)), "wrt": [x]}, ["value", "`t`", "empty"]),
    # sizes and ranks
    "sizes_that_cannot_agree": (
        {"value": Sum(X[i, j], i, j), "wrt": [X]},
        ["value", "X[i, j]", "C", "D"],
    ),
    "sizes_that_cannot_agree_in_a_definition": (
        {"where": [Eq(s[i, k], X[i, k])], "value": Sum(s[i, j], i, j), "wrt": [X]},
        ["s[i, k]", "D", "C"],
    ),
    "too_few_indices": ({"value": Sum(IndexedBase("X")[i], i), "wrt": [X]}, ["value", "X", "2"]),
    "too_many_indices": ({"value": Sum(IndexedBase("x")[i, n], i, n), "wrt": [x]}, ["value", "x", "1"]),
    "array_without_indices": (
        {"value": Sum(x[i], i) + W, "wrt": [x, W]},
        ["W"],
    ),
    "array_without_indices_inside_a_function": ({"value": exp(Symbol("x")), "wrt": [x]}, ["value", "x", "indices"]),
    # labels
    "labels_used_as_values": (
        {"value": Sum(W[y[i], k] * X[i, k] * y[i], i, k), "wrt": [W], "data": [X, y]},
        ["y", "labels", "value"],
    ),
    "labels_used_as_values_in_another_definition": (
        {
            "where": [scores, Eq(L[i], s[i, y[i]] - exp(y[i]))],
            "value": Sum(L[i], i),
            "wrt": [W],
            "data": [X, y],
        },
        ["y", "labels"],
    ),
    "labels_in_wrt": ({"value": Sum(W[y[i], k] ** 2, i, k), "wrt": [W, y]}, ["y", "data"]),
    "computed_labels": (
        {
            "where": [Eq(L[i], x[i] + 1)],
            "value": Sum(W[L[i], k] ** 2, i, k),
            "wrt": [W],
            "data": [x],
        },
        ["L[i]", "label"],
    ),
    # functions and numbers
    "unknown_function": ({"value": Sum(f(x[i]), i), "wrt": [x]}, ["value", "f(x[i])", "exp"]),
    "heaviside": ({"value": Sum(Heaviside(x[i]), i), "wrt": [x]}, ["value", "Heaviside"]),
    "dirac_delta": ({"value": Sum(DiracDelta(x[i]), i), "wrt": [x]}, ["value", "DiracDelta"]),
    "floor": ({"value": Sum(floor(x[i]), i), "wrt": [x]}, ["value", "floor"]),
    "special_function": ({"value": Sum(gamma(x[i]), i), "wrt": [x]}, ["value", "gamma"]),
    "zeta": ({"value": zeta(a), "wrt": [a]}, ["value", "zeta"]),
    "product_sign": ({"value": Product(x[i], i), "wrt": [x]}, ["value", "Product"]),
    "unevaluated_derivative": ({"value": f(a).diff(a), "wrt": [a]}, ["value"]),
    "infinite_number": ({"value": Sum(x[i], i) + oo * a, "wrt": [x, a]}, ["value", "oo"]),
    "imaginary_number": ({"value": Sum(x[i], i) * sqrt(-1), "wrt": [x]}, ["value", "I"]),
    "imaginary_symbol": (
        {"value": Symbol("c", imaginary=True) * a, "wrt": [a], "data": []},
        ["value", "c", "real"],
    ),
    "piecewise_without_an_else": (
        {"value": Sum(Piecewise((x[i], x[i] > 0)), i), "wrt": [x]},
        ["value", "Piecewise", "True"],
    ),
    "condition_that_is_not_one": (
        {"value": Sum(Piecewise((x[i], Symbol("maybe")), (0, True)), i), "wrt": [x]},
        ["value", "maybe"],
    ),
    # declarations
    "unknown_array": ({"value": Sum(x[i] * L[i], i), "wrt": [x]}, ["value", "L[i]", "`L`"]),
    "used_before_it_is_defined": (
        {
            "where": [Eq(L[i], Sum(s[i, j], j)), scores],
            "value": Sum(L[i], i),
            "wrt": [W],
            "data": [X],
        },
        ["L[i]", "s[i, j]", "before"],
    ),
    "scalar_used_before_it_is_defined": (
        {"where": [Eq(a, b * 2), Eq(b, Sum(x[i], i))], "value": a, "wrt": [x]},
        ["b"],
    ),
    "defined_by_itself": (
        {"where": [Eq(L[i], L[i] + x[i], evaluate=False)], "value": Sum(L[i], i), "wrt": [x]},
        ["L[i]", "itself"],
    ),
    "defined_twice": (
        {"where": [Eq(L[i], x[i]), Eq(L[i], x[i] ** 2)], "value": Sum(L[i], i), "wrt": [x]},
        ["L[i]", "already"],
    ),
    "definition_of_an_argument": (
        {"where": [Eq(x[i], 2)], "value": Sum(x[i], i), "wrt": [x]},
        ["x[i]", "already"],
    ),
    "definition_of_a_size": ({"where": [Eq(N, 3)], "value": Sum(x[i], i), "wrt": [x]}, ["N"]),
    "in_wrt_and_data": ({"value": Sum(x[i], i), "wrt": [x], "data": [x]}, ["x", "twice"]),
    "twice_in_wrt": ({"value": Sum(x[i], i), "wrt": [x, x]}, ["x", "twice"]),
    "nothing_to_differentiate_by": ({"value": Sum(x[i], i), "wrt": [], "data": [x]}, ["wrt"]),
    "wrt_an_element": ({"value": Sum(x[i], i), "wrt": [x[0]]}, ["wrt", "x[0]"]),
    "wrt_a_string": ({"value": Sum(x[i], i), "wrt": ["x"]}, ["wrt", "x"]),
    "wrt_an_index": ({"value": Sum(x[i], i), "wrt": [i]}, ["wrt", "i"]),
    "wrt_a_number": ({"value": Sum(x[i], i), "wrt": [1]}, ["wrt", "1"]),
    "wrt_a_size": ({"value": Sum(x[i], i) / N, "wrt": [N], "data": [x]}, ["N"]),
    "matrix_symbol": ({"value": a, "wrt": [a, MatrixSymbol("A", 2, 2)]}, ["wrt", "A"]),
    "matrix_as_the_value": ({"value": Matrix([[a]]), "wrt": [a]}, ["value"]),
    "equation_as_the_value": ({"value": Eq(a, b), "wrt": [a]}, ["value"]),
    "where_entry_that_is_no_equation": (
        {"where": [Sum(x[i], i)], "value": a, "wrt": [a], "data": [x]},
        ["where", "Eq"],
    ),
    "where_entry_that_sympy_found_true": (
        {"where": [Eq(a, a)], "value": a, "wrt": [a]},
        ["where"],
    ),
    "default_of_an_argument": ({"value": Sum(x[i], i), "wrt": [x], "defaults": {Symbol("x"): 1.0}}, ["x", "default"]),
    "default_of_a_size": ({"value": Sum(x[i], i), "wrt": [x], "defaults": {N: 3}}, ["N", "default"]),
    "default_that_is_no_number": (
        {"value": a * Sum(x[i], i), "wrt": [x], "defaults": {a: "high"}},
        ["a", "high"],
    ),
    "default_that_is_not_finite": (
        {"value": a * Sum(x[i], i), "wrt": [x], "defaults": {a: float("nan")}},
        ["a", "nan"],
    ),
    "keyword_as_a_name": ({"value": Symbol("lambda", real=True), "wrt": [Symbol("lambda", real=True)]}, ["lambda"]),
    "name_that_is_no_identifier": (
        {"value": Symbol("w_{1,2}", real=True), "wrt": [Symbol("w_{1,2}", real=True)]},
        ["w_{1,2}"],
    ),
    "hyperparameter_that_is_a_keyword": (
        {"value": Symbol("lambda", real=True) * Sum(x[i], i), "wrt": [x]},
        ["value", "lambda"],
    ),
    # one letter inside and outside: SymPy takes the Piecewise out of the inner sum, and its condition with it
    "piecewise_taken_out_of_an_inner_sum_over_the_same_letter": (
        {"value": Sum(x[i] * Sum(Piecewise((x[i], x[i] > 0), (0, True)), i) ** 2, i), "wrt": [x]},
        ["value", "`i`"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_statement_is_refused_with_a_reason(name):
    keywords, expected = REFUSED[name]
    with pytest.raises(StatementError) as refusal:
        derive.compile(Loss(name, **keywords))
    message = str(refusal.value)
    assert name in message, message
    for words in expected:
        assert words in message, f"{words!r} is not in: {message}"
    assert "\n" not in message.strip()
    assert len(message) < 600


@pytest.mark.parametrize("name", ["free_index_in_the_value", "unknown_function", "sizes_that_cannot_agree"])
def test_differentiate_refuses_as_compile_does(name):
    keywords, _ = REFUSED[name]
    with pytest.raises(StatementError) as by_compile:
        derive.compile(Loss(name, **keywords))
    with pytest.raises(StatementError) as by_differentiate:
        derive.differentiate(Loss(name, **keywords))
    assert str(by_compile.value) == str(by_differentiate.value)


@pytest.mark.parametrize("name", ["two words", "class", "1st", "", "../evil", "a/b", "ünïcode!"])
def test_loss_needs_a_name_that_can_be_a_module(name):
    with pytest.raises(StatementError, match="identifier"):
        derive.compile(Loss(name, a**2, wrt=[a]))


def test_derivative_that_does_not_exist():
    """The derivative of sign is 0 but where it jumps; a jump of a delta in an index is no derivative at all."""
    module = derive.compile(Loss("signs", Sum(sign(x[i]) * x[i] ** 2, i), wrt=[x]))
    np.testing.assert_allclose(module.grad(np.array([2.0, -3.0])), [4.0, 6.0])
    with pytest.raises(StatementError, match="error_function"):
        derive.compile(Loss("error_function", Sum(erf(x[i]), i), wrt=[x]))


# -- the command line -------------------------------------------------------------------------------------------------

BAD_FILE = """
    from sympy import Idx, IndexedBase, Sum, symbols
    from derive import Loss

    N = symbols("N", integer=True, positive=True)
    i, n = Idx("i", N), Idx("n", N)
    x = IndexedBase("x", shape=(N,))
    good = Loss("good", Sum(x[i] ** 2, i), wrt=[x])
    bad = Loss("bad", x[n] * Sum(x[i] ** 2, i), wrt=[x])
"""


def derive_command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "derive", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("command", ["build", "check", "show"])
def test_bad_statement_exits_with_two_and_writes_nothing(tmp_path, command):
    (tmp_path / "my_losses.py").write_text(textwrap.dedent(BAD_FILE))
    before = sorted(p.name for p in tmp_path.iterdir())
    rest = [] if command == "show" else ["--out", "out"]
    done = derive_command(command, "my_losses.py", *rest, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "bad" in done.stderr
    assert "`n`" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == before


def test_bad_statement_leaves_what_was_built_before(tmp_path):
    good = textwrap.dedent(BAD_FILE).split("bad = ")[0]
    (tmp_path / "my_losses.py").write_text(good)
    assert derive_command("build", "my_losses.py", "--out", "out", cwd=tmp_path).returncode == 0
    before = {p: p.read_bytes() for p in sorted((tmp_path / "out").rglob("*")) if p.is_file()}
    assert any(p.name == "good.py" for p in before)
    (tmp_path / "my_losses.py").write_text(textwrap.dedent(BAD_FILE))
    assert derive_command("build", "my_losses.py", "--out", "out", cwd=tmp_path).returncode == 2
    assert {p: p.read_bytes() for p in sorted((tmp_path / "out").rglob("*")) if p.is_file()} == before


# -- at run time ------------------------------------------------------------------------------------------------------

SVM = Loss(
    "checked",
    where=[scores, Eq(L[i], log(Sum(exp(s[i, j]), j)) - s[i, y[i]])],
    value=Sum(L[i], i) / N + a * Sum(W[j, k] ** 2, j, k),
    wrt=[W],
    data=[X, y],
    defaults={a: 0.0},
)


def batch():
    rng = np.random.default_rng(5)
    return rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), np.array([0, 1, 2, 2, 0])


def changed(**changes):
    arguments = dict(zip(("W", "X", "y"), batch(), strict=True))
    arguments.update(changes)
    return tuple(arguments.values())


W0, X0, y0 = batch()

#: name: (arguments, exception, what the message must hold)
BAD_CALLS = {
    "X has another width": (changed(X=X0[:, :3]), ValueError, ["X", "(5, 3)", "D", "4", "W"]),
    "W has another rank": (changed(W=W0[0]), ValueError, ["W", "(4,)", "(C, D)"]),
    "X is a scalar": (changed(X=1.0), ValueError, ["X", "(N, D)"]),
    "y is a column": (changed(y=y0[:, None]), ValueError, ["y", "(5, 1)", "(N,)"]),
    "y is longer than X": (changed(y=np.zeros(6, dtype=int)), ValueError, ["y", "6", "5", "X"]),
    "a label past the last class": (changed(y=np.array([0, 1, 3, 2, 0])), ValueError, ["y", "3", "0 to 2"]),
    "a negative label": (changed(y=np.array([0, 1, -1, 2, 0])), ValueError, ["y", "-1"]),
    "float labels": (changed(y=y0.astype(float)), TypeError, ["y", "float64", "integer"]),
    "bool labels": (changed(y=y0 > 0), TypeError, ["y", "bool", "integer"]),
    "text": (changed(X=np.full((5, 4), "a")), TypeError, ["X"]),
    "text labels": (changed(y=np.array(list("abcab"))), TypeError, ["y"]),
    "complex weights": (changed(W=W0 * 1j), TypeError, ["W", "complex128"]),
    "objects": (changed(X=np.full((5, 4), None)), TypeError, ["X"]),
    "dates": (changed(X=np.zeros((5, 4), dtype="datetime64[s]")), TypeError, ["X"]),
    "ragged lists": (changed(X=[[1.0, 2.0], [3.0]]), (ValueError, TypeError), ["X"]),
    "empty batch": (changed(X=X0[:0], y=y0[:0]), ValueError, ["X", "N"]),
    "no features": (changed(W=W0[:, :0], X=X0[:, :0]), ValueError, ["W", "D"]),
    "no classes": (changed(W=W0[:0]), ValueError, ["W", "C"]),
    "nothing at all": (changed(X=None), (ValueError, TypeError), ["X"]),
}


@pytest.mark.parametrize("function", ["loss", "grad", "loss_and_grad"])
@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_argument_is_named(name, function):
    arguments, exception, expected = BAD_CALLS[name]
    with pytest.raises(exception) as refusal:
        getattr(derive.compile(SVM), function)(*arguments)
    for words in expected:
        assert words in str(refusal.value), f"{words!r} is not in: {refusal.value}"


@pytest.mark.parametrize("value", ["0.1", None, 1j, np.ones(2), [0.1]])
def test_bad_hyperparameter_is_named(value):
    with pytest.raises((TypeError, ValueError), match=r"\ba\b"):
        derive.compile(SVM).loss(*batch(), a=value)


def test_hyperparameters_are_keyword_only_and_may_be_required():
    with pytest.raises(TypeError):
        derive.compile(SVM).loss(*batch(), 0.1)
    needed = derive.compile(Loss("needed", a * Sum(x[i], i), wrt=[x]))
    with pytest.raises(TypeError, match="a"):
        needed.loss(np.ones(3))


def test_hyperparameter_of_numpy_does_not_widen_the_gradient():
    w32, x32 = W0.astype(np.float32), X0.astype(np.float32)
    gradient = derive.compile(SVM).grad(w32, x32, y0, a=np.float64(0.1))
    assert gradient.dtype == np.float32


def test_the_argument_that_set_the_size_is_named():
    """Sizes are compared across all arguments; the message names the later argument and the one that set the size."""
    v, u, z = IndexedBase("v", shape=(M,)), IndexedBase("u", shape=(N,)), IndexedBase("z", shape=(N, M))
    m = Idx("m", M)
    module = derive.compile(Loss("sizes", Sum(z[i, m] * u[i] * v[m], i, m), wrt=[v], data=[u, z]))
    with pytest.raises(ValueError, match=r"^z ") as refusal:
        module.loss(np.ones(3), np.ones(4), np.ones((4, 5)))
    assert all(words in str(refusal.value) for words in ("M = 3", "in v", "(4, 5)"))
    with pytest.raises(ValueError, match=r"z.*u"):
        module.loss(np.ones(3), np.ones(4), np.ones((2, 3)))


def test_constant_sizes_are_checked():
    p = IndexedBase("p", shape=(3,))
    axis = Idx("c", 3)
    module = derive.compile(Loss("space", Sum(p[axis] ** 2, axis), wrt=[p]))
    with pytest.raises(ValueError, match=r"p.*3"):
        module.loss(np.ones(4))


def test_composite_sizes_are_checked():
    """A signal of 2 T values needs an even length; a window must not be longer than its signal."""
    pairs = IndexedBase("pairs", shape=(2 * M,))
    m = Idx("m", M)
    module = derive.compile(Loss("pairing", Sum(pairs[2 * m] * pairs[2 * m + 1], m), wrt=[pairs]))
    assert module.loss(np.array([1.0, 2.0, 3.0, 4.0])) == 14.0
    with pytest.raises(ValueError, match="pairs"):
        module.loss(np.ones(5))
    q, signal = IndexedBase("q", shape=(M,)), IndexedBase("signal", shape=(N,))
    windows = Loss("windows", Sum(q[m] * signal[t + m], m, (t, 0, N - M)), wrt=[q], data=[signal])
    module = derive.compile(windows)
    assert module.loss(np.ones(2), np.arange(3.0)) == 4.0
    with pytest.raises(ValueError, match=r"signal|q"):
        module.loss(np.ones(5), np.ones(3))


@pytest.mark.parametrize("length", [1, 2])
def test_empty_sum_is_zero_or_refused(length):
    """With one value there is no neighbour: the sum over t from 0 to N - 2 is empty."""
    smooth = Loss("smooth", Sum((x[t] - 2 * x[t + 1] + x[t + 2]) ** 2, (t, 0, N - 3)), wrt=[x])
    module = derive.compile(smooth)
    try:
        value, gradient = module.loss_and_grad(np.ones(length))
    except ValueError as refusal:
        assert "x" in str(refusal)  # noqa: PT017 - both answers are right
    else:
        assert value == 0.0
        np.testing.assert_array_equal(gradient, np.zeros(length))


def test_labels_with_a_shift_are_checked_against_the_shift():
    c = IndexedBase("c", shape=(N,))
    module = derive.compile(Loss("shifted", Sum((w[c[i] + 1] - w[c[i]]) ** 2, i), wrt=[w], data=[c]))
    module.loss(np.ones(3), np.array([0, 1]))
    with pytest.raises(ValueError, match="c"):
        module.loss(np.ones(3), np.array([0, 2]))


def test_labels_of_two_axes_are_checked_against_both():
    A = IndexedBase("A", shape=(C, D))
    c = IndexedBase("c", shape=(N,))
    module = derive.compile(Loss("both", Sum(A[c[i], c[i]], i), wrt=[A], data=[c]))
    with pytest.raises(ValueError, match="c"):
        module.loss(np.ones((5, 2)), np.array([0, 3]))
    with pytest.raises(ValueError, match="c"):
        module.loss(np.ones((2, 5)), np.array([0, 3]))
