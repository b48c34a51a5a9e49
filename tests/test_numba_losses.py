"""The Numba target of losses: loops over rows that compute what the NumPy target computes with whole arrays."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_language_random as chance
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import mutants
from oracles.cases import all_cases
from sympy import Eq, Idx, IndexedBase, Max, Ne, Piecewise, Sum, symbols

import derive
from derive.catalogue import catalogue, find, kind
from derive.errors import StatementError, VerificationError
from derive.points import Point, draw, scattered, tied
from derive.render import module_text
from derive.statement import read
from derive.verify import verify
from derive.verify_code import Gate

if importlib.util.find_spec("numba") is None and not os.environ.get("CI"):
    pytest.skip("Numba is not installed", allow_module_level=True)

LOSSES = [s for s in catalogue() if kind(s) == "loss"]
WITH_LOOPS = {
    "autoencoder", "binary_svm", "lasso", "logistic", "ridge", "softmax", "squared_hinge_svm", "svm", "two_layer_net",
}  # fmt: skip
FUNCTIONS = ("loss", "grad", "loss_and_grad")


def flat(result: Any) -> list[Any]:
    return [part for entry in result for part in flat(entry)] if isinstance(result, tuple) else [np.asarray(result)]


def assert_same(found: Any, expected: Any, units: float) -> None:
    for ours, theirs in zip(flat(found), flat(expected), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        tolerance = units * float(np.finfo(ours.dtype if ours.shape else np.float32).eps)
        scale = np.abs(theirs).max(initial=1)
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * scale)


def run_by_python(loop: Any, dtype: Any, given: Any, shared: Any, results: Any) -> None:
    """In place of ``_over_rows``: the loop as it stands, which takes no time to compile."""
    for array in results:
        array[...] = 7  # what a loop leaves unwritten is not right by accident
    if dtype.kind == "f":
        shared = [dtype.type(a) if isinstance(a, (int, float)) else a for a in shared]
    loop.py_func(*given, *shared, *results)


def live(text: str, **changed: Any) -> types.ModuleType:
    """A module from its text."""
    module = types.ModuleType("live")
    module.__file__ = "<live>"
    exec(compile(text, "<live>", "exec"), module.__dict__)
    vars(module).update(changed)
    return module


def loops_of(module: types.ModuleType) -> dict[str, Any]:
    return {name: f for name, f in vars(module).items() if hasattr(f, "py_func")}


# --- The same results ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_results_are_those_of_the_numpy_target(loss: Any, dtype: Any) -> None:
    plain, fast = derive.compile(loss), derive.compile(loss, target="numba")
    assert bool(loops_of(fast)) == (loss.name in WITH_LOOPS)
    for entries, larger in ((scattered, 0), (scattered, 17), (tied, 1), (tied, 6)):
        point = draw(read(loss), entries, larger=larger).rounded(dtype)
        for name in FUNCTIONS:
            assert_same(point.call(fast, name), point.call(plain, name), units=200)


@pytest.mark.parametrize("name", sorted(all_cases()))
def test_loops_compute_what_any_statement_says(name: str) -> None:
    """Statements of all kinds, their loops run by Python."""
    case = all_cases()[name]()
    plain = derive.compile(case.loss)
    fast = live(module_text(case.loss, target="numba"), _over_rows=run_by_python)
    for which in range(len(case.sizes)):
        arguments = case.draw(which)
        for function in FUNCTIONS:
            expected = getattr(plain, function)(*arguments, **case.hyper)
            found = getattr(fast, function)(*arguments, **case.hyper)
            for ours, theirs in zip(flat(found), flat(expected), strict=True):
                assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
                np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def assert_loops_right(loss: Any, arguments: Any) -> None:
    """Whether the NumPy target has it right is for ``test_language_random`` to say."""
    try:
        plain = derive.compile(loss)
        plain.loss_and_grad(*arguments)
    except StatementError:
        return
    fast = live(module_text(loss, target="numba"), _over_rows=run_by_python)
    with np.errstate(all="ignore"):
        for function in FUNCTIONS:
            expected, found = (flat(getattr(module, function)(*arguments)) for module in (plain, fast))
            for ours, theirs in zip(found, expected, strict=True):
                if np.all(np.abs(theirs) < 1e10):
                    np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8 * np.abs(theirs).max(initial=1))


@pytest.mark.parametrize("name", chance.found())
def test_loops_compute_what_was_found_by_chance(name: str) -> None:
    value, where = chance.found()[name]
    arrays = {"wrt": [*chance.PARAMETERS, chance.c], "data": [*chance.DATA, chance.y, chance.z]}
    assert_loops_right(
        derive.Loss("found", value, where=where, defaults={chance.alpha: 1.5}, **arrays), chance.arguments(0)
    )


@settings(chance.SETTINGS, max_examples=60)
@given(chance.statements(), st.integers(0, 3))
def test_loops_compute_any_random_statement(loss: Any, seed: int) -> None:
    assert_loops_right(loss, chance.arguments(seed))


#: Scratch rows, several kernels, gathers from parameters and within rows, products of rows, all kinds of functions.
COMPILED = [
    "ordinal_regression", "bag_of_embeddings", "triplet", "layer_normalisation", "several_right_labels",
    "variational_autoencoder", "arcface_like_cosine_margin", "index_used_as_a_value", "powers_of_a_hyperparameter",
]  # fmt: skip


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_loops_compute_in_the_type_of_the_arrays(name: str) -> None:
    case = all_cases()[name]()
    plain, fast = derive.compile(case.loss), derive.compile(case.loss, target="numba")
    arguments = [a.astype(np.float32) if np.asarray(a).dtype.kind == "f" else a for a in map(np.asarray, case.draw(0))]
    assert_same(fast.loss_and_grad(*arguments, **case.hyper), plain.loss_and_grad(*arguments, **case.hyper), units=2000)
    loops = [f for f in loops_of(fast).values() if f.signatures]
    assert loops
    for loop in loops:
        for code in loop.inspect_llvm().values():
            # Arguments that are numbers come from Python as float64 and are rounded at once; nothing else is float64.
            assert not re.search(r"fpext|= f(add|sub|mul|div|cmp)\b.* double ", code)


def problem(count: int, width: int, classes: int, dtype: Any = np.float32) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(1)
    weights = random.standard_normal((classes, width)).astype(dtype)
    return weights, random.standard_normal((count, width)).astype(dtype), random.integers(0, classes, count)


@pytest.mark.parametrize("name", ["svm", "softmax"])
def test_many_rows_are_cut_into_blocks_and_shared_among_threads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("numba")
    plain, fast = derive.compile(find(name)), derive.compile(find(name), target="numba")
    arguments = problem(3001, 40, 401)  # more scores than what one thread does alone
    for threads in (1, 3):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        for function in FUNCTIONS:
            assert_same(getattr(fast, function)(*arguments), getattr(plain, function)(*arguments), units=200)


def test_rows_are_found_wherever_they_lie() -> None:
    fast = derive.compile(find("svm"), target="numba")
    weights, data, labels = problem(60, 7, 5, np.float64)
    expected = fast.loss_and_grad(weights, data, labels)
    sparse = np.zeros((120, 14))
    sparse[::2, ::2] = data
    read_only = labels.astype(np.int32)
    read_only.flags.writeable = False
    for w, x, y in (
        (np.asfortranarray(weights), np.asfortranarray(data), labels),
        (weights, sparse[::2, ::2], np.repeat(labels, 2)[::2]),
        (weights.tolist(), data.tolist(), read_only),
    ):
        assert_same(fast.loss_and_grad(w, x, y), expected, units=1)


def test_rows_may_be_the_last_axis() -> None:
    N, D = symbols("N D", integer=True, positive=True)
    i, k = Idx("i", N), Idx("k", D)
    X, w, t = IndexedBase("X", shape=(D, N)), IndexedBase("w", shape=(D,)), IndexedBase("t", shape=(N,))
    # The gradient has its rows last, too.
    columns = derive.Loss("columns", Sum(Sum(Max(0, w[k] * X[k, i] - t[i]) ** 2, k), i), wrt=[X], data=[t, w])
    plain, fast = derive.compile(columns), derive.compile(columns, target="numba")
    random = np.random.default_rng(0)
    arguments = random.standard_normal((3, 50)), random.standard_normal(50), random.standard_normal(3)
    assert loops_of(fast)
    for function in FUNCTIONS:
        assert_same(getattr(fast, function)(*arguments), getattr(plain, function)(*arguments), units=10)


def test_elements_are_moved_within_a_row_before_they_are_read() -> None:
    """Every position of a row may be added to from every other one, and what comes of it is used in the same loop."""
    N, C = symbols("N C", integer=True, positive=True)
    i, j = Idx("i", N), Idx("j", C)
    U, V, Y = IndexedBase("U", shape=(N, C)), IndexedBase("V", shape=(N, C)), IndexedBase("Y", shape=(N, C))
    s = IndexedBase("s", shape=(N, C))
    moved = derive.Loss(
        "moved",
        Sum(Sum(s[i, j] ** 2 - 3 * V[i, j] * s[i, Y[i, j]], j), i),
        where=[Eq(s[i, j], U[i, j] * V[i, j] ** 2)],
        wrt=[U],
        data=[V, Y],
    )
    plain, fast = derive.compile(moved), derive.compile(moved, target="numba")
    random = np.random.default_rng(0)
    arguments = random.standard_normal((9, 5)), random.standard_normal((9, 5)), random.integers(0, 5, (9, 5))
    assert "[Y[i, j]] -= " in inspect.getsource(fast._grad_rows.py_func)
    for function in FUNCTIONS:
        assert_same(getattr(fast, function)(*arguments), getattr(plain, function)(*arguments), units=10)


def test_what_is_no_number_stays_none() -> None:
    """A sum may be added up in any order, but nothing takes infinities and NaN for impossible."""
    for name in ("svm", "softmax", "squared_hinge_svm"):
        plain, fast = derive.compile(find(name)), derive.compile(find(name), target="numba")
        weights, data, labels = problem(40, 3, 30, np.float64)
        for row, value in ((3, np.nan), (5, np.inf), (7, -np.inf)):
            data[row, 1] = value
        with np.errstate(all="ignore"):
            expected, found = plain.loss_and_grad(weights, data, labels), fast.loss_and_grad(weights, data, labels)
        np.testing.assert_array_equal(np.isnan(found[1]), np.isnan(expected[1]))
        assert np.isnan(found[0]) == np.isnan(expected[0])


def test_nothing_overflows() -> None:
    fast = derive.compile(find("logistic"), target="numba")
    data = np.array([[1000.0], [-1000.0], [0.5]])
    labels = np.array([1.0, 1.0, -1.0])
    value, gradient = fast.loss_and_grad([1.0], data, labels)
    assert value == pytest.approx((1000 + np.log1p(np.exp(0.5))) / 3, rel=1e-14)
    assert gradient[0] == pytest.approx((1000 + 0.5 / (1 + np.exp(-0.5))) / 3, rel=1e-14)


# --- The same functions -------------------------------------------------------------------------------------------


def test_names_and_signatures_are_the_same() -> None:
    for loss in LOSSES:
        plain, fast = derive.compile(loss), derive.compile(loss, target="numba")
        assert plain.__all__ == fast.__all__
        for name in FUNCTIONS:
            ours, theirs = getattr(fast, name), getattr(plain, name)
            assert (inspect.signature(ours), ours.__doc__) == (inspect.signature(theirs), theirs.__doc__)
        for name in set(plain.__all__) - set(FUNCTIONS):
            assert getattr(plain, name)._fields == getattr(fast, name)._fields


def test_a_loss_without_work_on_rows_is_plain_numpy() -> None:
    for loss in LOSSES:
        assert (module_text(loss) == module_text(loss, target="numba")) == (loss.name not in WITH_LOOPS)


def test_a_sum_of_everything_is_added_up_by_the_loop_that_makes_its_terms() -> None:
    """The squares of the autoencoder's residuals: a number for each example, and no array of residuals."""
    loss = derive.compile(find("autoencoder"), target="numba").loss
    assert re.findall(r"np\.empty\((.*), dtype\)", inspect.getsource(loss)) == ["(N,)"]


def test_the_loop_follows_the_statement() -> None:
    """max(0, m)**2 in place of max(0, m), and no other edit."""
    N, D, C = symbols("N D C", integer=True, positive=True)
    i, j, k = Idx("i", N), Idx("j", C), Idx("k", D)
    X, W, y = IndexedBase("X", shape=(N, D)), IndexedBase("W", shape=(C, D)), IndexedBase("y", shape=(N,))
    s, L = IndexedBase("s", shape=(N, C)), IndexedBase("L", shape=(N,))
    delta = symbols("delta", real=True)

    def statement(power: int) -> Any:
        hinge = Max(0, s[i, j] - s[i, y[i]] + delta) ** power
        return derive.Loss(
            "hinge",
            Sum(L[i], i) / N,
            where=[
                Eq(s[i, j], Sum(W[j, k] * X[i, k], k)),
                Eq(L[i], Sum(Piecewise((hinge, Ne(j, y[i])), (0, True)), j)),
            ],
            wrt=[W],
            data=[X, y],
            defaults={delta: 1.0},
        )

    weights, data, labels = problem(50, 4, 6, np.float64)
    scores = data @ weights.T
    margins = np.maximum(0, scores - scores[np.arange(50), labels][:, None] + 1)
    margins[np.arange(50), labels] = 0
    for power in (1, 2):
        fast = derive.compile(statement(power), target="numba")
        slope = margins if power == 2 else (margins > 0) / 2
        slope = 2 * slope / 50
        slope[np.arange(50), labels] = -slope.sum(axis=1)
        value, gradient = fast.loss_and_grad(weights, data, labels)
        assert value == pytest.approx((margins**power).sum() / 50, rel=1e-12)
        np.testing.assert_allclose(gradient, slope.T @ data, rtol=1e-11, atol=1e-12)


def test_elements_are_float32_or_float64_or_left_to_python() -> None:
    plain, fast = derive.compile(find("svm")), derive.compile(find("svm"), target="numba")
    weights, data, labels = problem(9, 3, 4, np.float64)
    for dtype in (np.float16, np.longdouble):
        expected = plain.loss_and_grad(weights.astype(dtype), data.astype(dtype), labels)
        value, gradient = fast.loss_and_grad(weights.astype(dtype), data.astype(dtype), labels)
        assert gradient.dtype == dtype
        assert value == pytest.approx(expected[0], rel=1e-2)


# --- Verified as what it is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["svm", "logistic", "adam"])
def test_what_is_verified_is_the_code_of_the_target(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the spelling of one operation for loops stops the build for Numba, and no other."""
    import derive.numba_source

    operation = {"svm": "maximum", "logistic": "softplus", "adam": "sqrt"}[name]
    wrong = {"maximum": "np.minimum({}, {})", "softplus": "_sigmoid({})", "sqrt": "np.abs({})"}[operation]
    assert "exact" in str(verify(find("svm"), target="numba"))
    monkeypatch.setitem(derive.numba_source.NUMBA.calls, operation, wrong)  # type: ignore[arg-type]
    verify(find(name))
    with pytest.raises(VerificationError, match=name):
        verify(find(name), target="numba")


@pytest.mark.parametrize("name", ["svm", "squared_hinge_svm", "softmax", "lasso"])
def test_faults_planted_in_loops_are_caught(name: str) -> None:
    """A sign, > for >=, a mask that is dropped, a missing 1/N: whatever changes a result."""
    loss = find(name)
    form, gate, source = read(loss), Gate(loss), module_text(loss, target="numba")
    loops = tuple(n for n in loops_of(live(source)))
    assert loops
    points = [draw(form, entries, seed, larger=seed).rounded() for entries in (scattered, tied) for seed in range(2)]

    def outputs(module: types.ModuleType) -> list[Any]:
        return [part for point in points for f in FUNCTIONS for part in flat(point.call(module, f))]

    right = outputs(live(source, _over_rows=run_by_python))
    gate.check(live(source, _over_rows=run_by_python))
    planted, survivors = 0, []
    for what, text in mutants(source, tuple(v.name for v in form.data if v.labels is not None), functions=loops):
        planted += 1
        module = live(text, _over_rows=run_by_python)
        try:
            with np.errstate(all="ignore"):
                gate.check(module)
        except Exception:  # refused, or the mutant does not even run
            continue
        if not all(np.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(outputs(module), right, strict=True)):
            survivors.append(what)
    assert survivors == []
    assert planted >= 10


def test_loops_run_on_fractions() -> None:
    """The very lines that are compiled: the loss of the SVM at a tie, exactly."""
    from fractions import Fraction

    from derive.on_fractions import on_fractions

    exact = on_fractions(derive.compile(find("svm"), target="numba"))
    form = read(find("svm"))
    point = draw(form, tied)
    assert isinstance(point, Point)
    value, gradient = point.call(exact, "loss_and_grad")
    assert isinstance(value, (int, Fraction))
    assert all(isinstance(g, (int, Fraction)) for g in gradient.flat)


# --- Modules on their own -----------------------------------------------------------------------------------------


def test_text_does_not_depend_on_hash_seeds() -> None:
    program = (
        "from derive.catalogue import find\nfrom derive.render import module_text\n"
        "print(*(module_text(find(n), target='numba') for n in ('svm', 'two_layer_net', 'autoencoder')))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "7")
    }
    assert len(texts) == 1
    assert ast.parse(texts.pop())


def test_a_built_module_stands_alone_and_caches_on_disk(tmp_path: Path) -> None:
    (tmp_path / "svm.py").write_text(module_text(find("svm"), target="numba"), encoding="utf-8")
    program = (
        "import sys, numpy as np, svm\n"
        "assert 'derive' not in sys.modules\n"
        "value, _ = svm.loss_and_grad(np.eye(3, 2), np.ones((4, 2)), [0, 1, 2, 0])\n"
        "print(sum(svm._loss_and_grad_rows.stats.cache_hits.values()), value)\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    found = [
        subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert [hits for hits, _ in found] == ["0", "1"]
    assert found[0][1] == found[1][1]


def test_one_sentence_where_numba_is_missing(tmp_path: Path) -> None:
    (tmp_path / "svm.py").write_text(module_text(find("svm"), target="numba"), encoding="utf-8")
    missing = "import sys\nsys.modules['numba'] = None\nimport svm"
    run = subprocess.run([sys.executable, "-c", missing], cwd=tmp_path, capture_output=True, text=True)
    assert run.stderr.strip().splitlines()[-1].startswith("ImportError: this module needs Numba: run")


def test_build_and_check_take_the_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from derive.__main__ import main

    statement = tmp_path / "mine.py"
    statement.write_text(
        "from sympy import Idx, IndexedBase, Max, Sum, symbols\n"
        "from derive import Loss\n"
        "N, D = symbols('N D', integer=True, positive=True)\n"
        "i, k = Idx('i', N), Idx('k', D)\n"
        "X, w, y = IndexedBase('X', shape=(N, D)), IndexedBase('w', shape=(D,)), IndexedBase('y', shape=(N,))\n"
        "mine = Loss('mine', Sum(Max(0, 1 - y[i] * Sum(w[k] * X[i, k], k)), i) / N, wrt=[w], data=[X, y])\n"
    )
    options = [str(statement), "--out", str(tmp_path / "out"), "--target", "numba"]
    assert main(["build", *options]) == 0
    assert "exact" in capsys.readouterr().out
    built = (tmp_path / "out" / "losses" / "mine.py").read_text(encoding="utf-8")
    assert "import numba" in built
    assert main(["check", *options]) == 0
    assert main(["check", *options[:-2]]) == 1
    assert "--target" not in capsys.readouterr().out.splitlines()[-1]
