"""Row blocks and saved passes change the time a loss takes, and nothing else."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest

import derive
from derive import arguments
from derive.catalogue import find

NAMES = ("svm", "squared_hinge_svm", "softmax", "logistic", "two_layer_net", "ridge")


def problem(name: str, count: int, dtype: Any = np.float64) -> tuple[list[Any], list[Any]]:
    random = np.random.default_rng(3)
    width, hidden, classes = 40, 6, 5
    data = random.standard_normal((count, width)).astype(dtype)
    labels = random.integers(0, classes, count)
    if name in ("logistic", "ridge"):
        return [random.standard_normal(width).astype(dtype)], [
            data,
            np.sign(random.standard_normal(count)).astype(dtype),
        ]
    if name == "two_layer_net":
        shapes = [(hidden, width), (hidden,), (classes, hidden), (classes,)]
        return [random.standard_normal(s).astype(dtype) for s in shapes], [data, labels]
    return [random.standard_normal((classes, width)).astype(dtype)], [data, labels]


def flat(result: Any) -> Any:
    value, gradient = result
    parts = gradient if isinstance(gradient, tuple) else (gradient,)
    return np.concatenate([[value], *(np.ravel(p) for p in parts)])


@pytest.mark.parametrize("name", NAMES)
def test_results_do_not_depend_on_the_block_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = derive.compile(find(name))
    parameters, data = problem(name, 101)
    monkeypatch.setattr(module, "_row_blocks", lambda array, *widths, **size: [slice(0, len(array))])
    whole = flat(module.loss_and_grad(*parameters, *data, reg=0.1))
    for size in (1, 7, 100):
        blocks = [slice(k, min(k + size, 101)) for k in range(0, 101, size)]
        monkeypatch.setattr(module, "_row_blocks", lambda array, *widths, blocks=blocks, **size: blocks)
        np.testing.assert_allclose(
            flat(module.loss_and_grad(*parameters, *data, reg=0.1)), whole, rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("name", NAMES)
def test_blocks_cover_every_row_once(name: str) -> None:
    module = derive.compile(find(name))
    for count in (1, 2, 1000, 12_345):
        blocks = module._row_blocks(np.zeros((count, 999), np.float32), 10, 1000)
        assert np.array_equal(np.concatenate([np.arange(count)[b] for b in blocks]), np.arange(count))


def count_cores_again(module: Any) -> None:
    if hasattr(module, "_cores"):
        module._cores.cache_clear()


def peak(name: str, count: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes allocated at a time."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", str(threads))
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    parameters, data = problem(name, count, np.float32)
    if data[1].dtype.kind == "i":
        data[1] = data[1].astype(np.intp)
    module = derive.compile(find(name))
    count_cores_again(module)
    run = module.loss_and_grad
    tracemalloc.start()
    run(*parameters, *data, reg=0.1)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


@pytest.mark.parametrize("name", NAMES)
def test_working_memory_does_not_grow_with_the_number_of_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (peak(name, count, 1, monkeypatch) for count in (100_000, 400_000))
    assert many < 1.3 * few
    # Each thread has a block of its own.
    assert peak(name, 400_000, 2, monkeypatch) < 2 * 1.3 * few


@pytest.mark.parametrize("name", NAMES)
def test_results_are_the_same_on_any_number_of_threads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = derive.compile(find(name))
    parameters, data = problem(name, 60_000, np.float32)
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        count_cores_again(module)
        found.append(flat(module.loss_and_grad(*parameters, *data, reg=0.1)))
    if hasattr(module, "_by_blocks"):
        # Blocks are multiplied in panels on threads of ours, and are added in order.
        assert np.array_equal(*found)
    else:
        np.testing.assert_allclose(*found, rtol=1e-4)
    wide = [[a.astype(np.float64) if a.dtype.kind == "f" else a for a in part] for part in (parameters, data)]
    whole = [slice(0, 60_000)]
    monkeypatch.setattr(module, "_row_blocks", lambda array, *widths, **size: whole)
    np.testing.assert_allclose(found[0], flat(module.loss_and_grad(*wide[0], *wide[1], reg=0.1)), rtol=1e-3, atol=1e-4)


def test_what_goes_wrong_on_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    count_cores_again(arguments)

    def terms(rows: slice, product: Any) -> Any:
        if rows.start:
            raise FloatingPointError("in a later block")
        return rows

    results = arguments._by_blocks(terms, np.zeros((100_000, 40)), 5)
    assert next(results).start == 0
    with pytest.raises(FloatingPointError, match="in a later block"):
        list(results)


SIZES = [1, 2, 3, 16, 17, 50, 333]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, object])
def test_a_product_in_panels_is_the_product(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes around those of a panel, whole and with a rest; in any order of memory, on fractions exactly."""
    random = np.random.default_rng(0)
    monkeypatch.setattr(
        arguments, "_panel", lambda inner, columns: 16 if dtype is object else 4096 // (inner * columns)
    )
    for n, k, m in itertools.product(SIZES if dtype is not object else SIZES[:5], SIZES[:5], SIZES[:5]):
        for a, b in ((whole(random, n, k), whole(random, k, m)), (whole(random, m, n), whole(random, n, k))):
            a, b = a.astype(dtype), b.astype(dtype)
            for left in (a, np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2]):
                found = arguments._product(left, b)
                assert found.dtype == a.dtype
                assert np.array_equal(found, a @ b)


def whole(random: Any, *shape: int) -> Any:
    """Small integers, whose products are exact in every type."""
    return random.integers(-5, 6, shape)


def test_a_hinge_is_computed_once_and_in_place() -> None:
    """The mask of the gradient comes from the hinge of the loss: no margin, no second clearing, no copy."""
    import inspect

    lines = inspect.getsource(derive.compile(find("svm")).loss_and_grad).splitlines()
    inside = [line.strip() for line in lines if line.startswith("        ")]
    assert sum("[i, y_rows] = 0" in line for line in inside) == 1
    assert not any("copy()" in line or "margin" in line for line in inside)


@pytest.mark.parametrize("name", ["svm", "squared_hinge_svm", "two_layer_net"])
def test_rewrites_of_the_program_leave_results_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties included: small integers put many margins on the kink exactly."""
    from derive.economy import Economy
    from derive.render import module_text

    def module(text: str) -> Any:
        space: dict[str, Any] = {"__name__": "plain"}
        exec(text, space)
        return space

    short = module_text(find(name))
    monkeypatch.setattr(Economy, "use", lambda self, ref: ref)
    plain = module_text(find(name))
    assert short != plain
    parameters, data = problem(name, 60)
    parameters = [np.round(p) for p in parameters]
    data[0] = np.round(data[0])
    results = [flat(module(text)["loss_and_grad"](*parameters, *data, reg=0.5)) for text in (short, plain)]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12, atol=1e-12)
