"""The Numba target: the same functions as the NumPy target's, compiled, with the same results."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sympy import Eq, Max, Piecewise, sign, symbols

import derive
from derive.catalogue import catalogue, kind
from derive.rule import UpdateRule, g, new, x

if importlib.util.find_spec("numba") is None and not os.environ.get("CI"):
    pytest.skip("Numba is not installed", allow_module_level=True)

RULES = [s for s in catalogue() if kind(s) == "rule"]
FEW, MANY = 37, 150_000


def options(rule: Any) -> dict[str, float]:
    return {h.name: 0.01 if h.default is None else h.default for h in rule.hyperparameters}


def gradients(shape: tuple[int, ...], dtype: Any, steps: int = 3) -> list[Any]:
    random = np.random.default_rng(5)
    return [random.standard_normal(shape).astype(dtype) for _ in range(steps)]


def arrays(state: Any) -> dict[str, Any]:
    return dict(vars(state))


def assert_same(ours: Any, theirs: Any, dtype: Any) -> None:
    assert ours.dtype == theirs.dtype == dtype
    np.testing.assert_allclose(ours, theirs, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("size", [FEW, MANY])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_update_and_step_are_those_of_the_numpy_target(rule: Any, dtype: Any, size: int) -> None:
    plain, fast = derive.compile(rule), derive.compile(rule, target="numba")
    params = np.linspace(-1, 1, size).astype(dtype)
    in_place = params.copy()
    expected, expected_state = params, plain.init(params)
    pure, pure_state = params, fast.init(params)
    state = fast.init(params)
    for grad in gradients(params.shape, dtype):
        expected, expected_state = plain.update(expected, grad, expected_state, **options(rule))
        before = pure.copy()
        pure_new, pure_state = fast.update(pure, grad, pure_state, **options(rule))
        assert np.array_equal(pure, before)
        pure = pure_new
        fast.step(in_place, grad, state, **options(rule))
    for found, found_state in ((pure, pure_state), (in_place, state)):
        assert_same(found, expected, dtype)
        for name, kept in arrays(expected_state).items():
            if name == "t":
                assert found_state.t == kept
            else:
                assert_same(getattr(found_state, name), kept, dtype)


@pytest.mark.parametrize("size", [FEW, MANY])
def test_a_step_reaches_elements_wherever_they_lie(size: int) -> None:
    adam = next(r for r in RULES if r.name == "adam")
    fast = derive.compile(adam, target="numba")
    grad = gradients((size, 2), np.float32, 1)[0]
    expected = np.ones((size, 2), np.float32)
    fast.step(expected, grad, fast.init(expected))
    whole = np.ones((size, 4), np.float32)
    strided = whole[:, ::2]
    fast.step(strided, grad, fast.init(strided))
    assert np.array_equal(strided, expected)
    assert np.all(whole[:, 1::2] == 1)
    columns = np.ones((size, 2), np.float32, order="F")
    fast.step(columns, grad, fast.init(columns))
    assert np.array_equal(columns, expected)
    cube = np.ones((size, 1, 2), np.float32)
    fast.step(cube, grad.reshape(size, 1, 2), fast.init(cube))
    assert np.array_equal(cube[:, 0], expected)
    for shape in ((), (0,), (0, 3)):
        array = np.ones(shape, np.float32)
        fast.step(array, np.ones(shape, np.float32), fast.init(array))
        assert np.allclose(array, 0.999)
    read_only = grad.copy()
    read_only.flags.writeable = False
    again = np.ones((size, 2), np.float32)
    fast.step(again, read_only, fast.init(again))
    assert np.array_equal(again, expected)


def test_choices_and_odd_names_survive_the_loop() -> None:
    k, grad_scale, velocity, rate, p = symbols("k grad_scale velocity learning_rate p", real=True)
    clipped = symbols("real", real=True)
    odd = UpdateRule(
        "odd",
        state={velocity: "velocity", k: "start"},
        start={k: 1},
        equations=[
            Eq(clipped, Piecewise((sign(g), g**2 > 1), (Max(g, -rate / 2), True))),
            Eq(new(velocity), velocity / 3 + clipped * abs(x)),
            Eq(new(k), k + new(velocity) ** 2),
            Eq(new(x), x - rate * new(velocity) / (1 + new(k)) ** p * grad_scale),
        ],
        defaults={rate: 0.1, p: 1.5, grad_scale: 2.0},
    )
    plain, fast = derive.compile(odd), derive.compile(odd, target="numba")
    for dtype in (np.float32, np.float64):
        params = np.linspace(-2, 2, 101).astype(dtype)
        expected, expected_state = params, plain.init(params)
        found, state = params, fast.init(params)
        for grad in gradients(params.shape, dtype):
            expected, expected_state = plain.update(expected, 2 * grad, expected_state)
            found, state = fast.update(found, 2 * grad, state)
        assert_same(found, expected, dtype)
        assert_same(state.velocity, expected_state.velocity, dtype)
        assert_same(state.start, expected_state.start, dtype)


def test_loops_over_float32_compute_in_float32() -> None:
    """1 + 1e8 - 1e8 is 0 in float32, and 1 where a number of float64 takes part."""
    large, total = symbols("large total", real=True)
    rule = UpdateRule("rounding", [Eq(total, x + large), Eq(new(x), total - large)], defaults={large: 1e8})
    fast = derive.compile(rule, target="numba")
    for dtype, left in ((np.float32, 0), (np.float64, 1)):
        for size in (FEW, MANY):
            params = np.ones(size, dtype)
            fast.step(params, params.copy(), fast.init(params))
            assert np.all(params == left)


def test_signatures_are_the_same() -> None:
    import inspect

    for rule in RULES:
        plain, fast = derive.compile(rule), derive.compile(rule, target="numba")
        assert plain.__all__ == fast.__all__
        for name in plain.__all__:
            assert inspect.signature(getattr(plain, name)) == inspect.signature(getattr(fast, name))


def test_what_loops_cannot_hold_is_refused_before_anything_changes() -> None:
    momentum = next(r for r in RULES if r.name == "momentum")
    fast = derive.compile(momentum, target="numba")
    params = np.ones(3, np.float16)
    state = fast.init(params)
    with pytest.raises(TypeError, match="params: expected an array of float32 or float64, got dtype float16"):
        fast.step(params, params.copy(), state, **options(momentum))
    assert np.all(params == 1)
    assert np.all(state.velocity == 0)


def test_a_built_module_stands_alone_and_caches_on_disk(tmp_path: Path) -> None:
    from derive.render import module_text

    adam = next(r for r in RULES if r.name == "adam")
    (tmp_path / "adam.py").write_text(module_text(adam, target="numba"), encoding="utf-8")
    program = (
        "import sys, numpy as np, adam\n"
        "assert 'derive' not in sys.modules\n"
        "x = np.ones(3, np.float32)\n"
        "adam.step(x, x.copy(), adam.init(x))\n"
        "print(sum(adam._elements.stats.cache_hits.values()), x[0])\n"
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
    from derive.render import module_text

    adam = next(r for r in RULES if r.name == "adam")
    (tmp_path / "adam.py").write_text(module_text(adam, target="numba"), encoding="utf-8")
    missing = "import sys\nsys.modules['numba'] = None\n"
    run = subprocess.run([sys.executable, "-c", missing + "import adam"], cwd=tmp_path, capture_output=True, text=True)
    assert run.stderr.strip().splitlines()[-1].startswith("ImportError: this module needs Numba: run")
    built = subprocess.run(
        [
            sys.executable,
            "-c",
            "import importlib.util, sys\n"
            "known = importlib.util.find_spec\n"
            "importlib.util.find_spec = lambda name, *a: None if name == 'numba' else known(name, *a)\n"
            "from derive.__main__ import main\n"
            f"sys.exit(main(['build', '--target', 'numba', '--out', {str(tmp_path / 'out')!r}]))",
        ],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 2
    assert built.stderr == ('derive: the target numba needs Numba, which is not installed: run "pip install numba"\n')
    assert not (tmp_path / "out").exists()
