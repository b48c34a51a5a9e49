"""The generated optimizer modules: right numbers, both forms the same, arguments refused by name."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from derive.catalogue import catalogue
from derive.render import compile, module_text
from derive.rule import UpdateRule

RULES = {s.name: s for s in catalogue() if isinstance(s, UpdateRule)}
MODULES = {name: compile(rule) for name, rule in RULES.items()}
ADAPTIVE = ("adagrad", "rmsprop", "adam_almost", "adam")
#: The number of elements of a block in double precision.
BLOCK = MODULES["adam"]._BLOCK // 8

every_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)


def run(module: ModuleType, params: Any, gradients: Any, in_place: bool = False, **hyper: float) -> tuple[Any, Any]:
    """Steps along given gradients."""
    state = module.init(params)
    params = params.copy()
    for gradient in gradients:
        if in_place:
            module.step(params, gradient, state, **hyper)
        else:
            params, state = module.update(params, gradient, state, **hyper)
    return params, state


def arrays(state: Any) -> dict[str, Any]:
    return {f.name: getattr(state, f.name) for f in fields(state)}


def same(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(arrays(one).values(), arrays(other).values(), strict=True)
    )


# --- Numbers -----------------------------------------------------------------------------------------------------

#: x after one and two steps from x = 1 with g = 2, then g = -1, by hand.
BY_HAND = {
    "sgd": ({"learning_rate": 0.5}, 1 - 0.5 * 2, 0 + 0.5 * 1),
    # v = 2, then 0.5 * 2 - 1 = 0.
    "momentum": ({"learning_rate": 0.5, "rho": 0.5}, 1 - 0.5 * 2, 0),
    # v = -1, then -0.5 + 0.5 = 0.
    "momentum_velocity": ({"learning_rate": 0.5, "rho": 0.5}, 0, 0),
    "nesterov_lookahead": ({"learning_rate": 0.5, "rho": 0.5}, 0, 0),
    # v = -1: x = 1 - 0 - 1.5; v = 0: x = -0.5 + 0.5.
    "nesterov": ({"learning_rate": 0.5, "rho": 0.5}, -0.5, 0),
    # s = 4, then 5.
    "adagrad": ({"learning_rate": 0.5, "epsilon": 0.5}, 1 - 0.5 * 2 / 2.5, 0.6 + 0.5 / (5**0.5 + 0.5)),
    # s = 0.25 * 4 = 1, then 0.75 + 0.25.
    "rmsprop": ({"learning_rate": 0.5, "decay_rate": 0.75, "epsilon": 1}, 1 - 0.5 * 2 / 2, 0.5 + 0.5 / 2),
    # m = 1, s = 1; then m = 0, s = 0.75 + 0.25.
    "adam_almost": ({"learning_rate": 0.5, "beta1": 0.5, "beta2": 0.75, "epsilon": 1}, 1 - 0.5 / 2, 0.75),
    # Corrected: m = 2, s = 4, so x = 1 - 1/3; then m = 0.
    "adam": ({"learning_rate": 0.5, "beta1": 0.5, "beta2": 0.75, "epsilon": 1}, 1 - 0.5 * 2 / 3, 2 / 3),
}  # fmt: skip


@pytest.mark.parametrize("in_place", [False, True], ids=["update", "step"])
@pytest.mark.parametrize("name", MODULES)
def test_first_two_steps_by_hand(name: str, in_place: bool) -> None:
    hyper, first, second = BY_HAND[name]
    for count, expected in ((1, first), (2, second)):
        params, _ = run(MODULES[name], np.array([1.0]), [np.array([2.0]), np.array([-1.0])][:count], in_place, **hyper)
        np.testing.assert_allclose(params, [expected], rtol=1e-15, atol=1e-15)


def test_first_step_of_adam_is_the_learning_rate_and_without_correction_root_ten_of_them() -> None:
    start, slope = np.zeros(3), np.array([1e-3, -5.0, 2e4])
    corrected, _ = run(MODULES["adam"], start, [slope], learning_rate=0.1, epsilon=0.0)
    bare, _ = run(MODULES["adam_almost"], start, [slope], learning_rate=0.1, epsilon=0.0)
    np.testing.assert_allclose(corrected, -0.1 * np.sign(slope), rtol=1e-12)
    np.testing.assert_allclose(bare, -0.1 * np.sqrt(10) * np.sign(slope), rtol=1e-12)


@every_module
@pytest.mark.parametrize(
    "shape", [(), (1,), (0,), (3, 4), (2, 0, 3), (BLOCK,), (BLOCK + 1,), (2 * BLOCK,), (3, 2 * BLOCK + 1)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_step_is_update(module: ModuleType, shape: tuple[int, ...], dtype: type) -> None:
    rng = np.random.default_rng(7)
    start = rng.normal(size=shape).astype(dtype)
    gradients = [np.asarray(rng.normal(size=shape), dtype=dtype) for _ in range(3)]
    pure, pure_state = run(module, start, gradients)
    placed, placed_state = run(module, start, gradients, in_place=True)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(placed, pure, rtol=tolerance, atol=tolerance)
    for (name, one), other in zip(arrays(pure_state).items(), arrays(placed_state).values(), strict=True):
        np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance, err_msg=name)
    for array in (pure, placed, *(a for n, a in arrays(pure_state).items() if n != "t")):
        assert isinstance(array, np.ndarray)
        assert array.dtype == dtype
        assert array.shape == shape


def strided(array: Any) -> Any:
    return np.repeat(array, 2, axis=-1)[..., ::2]


def backwards(array: Any) -> Any:
    return array[::-1].copy()[::-1]


@every_module
@pytest.mark.parametrize(
    "layout",
    [np.asfortranarray, strided, backwards, lambda a: a.T.copy().T],
    ids=["fortran", "strided", "backwards", "transposed"],
)
@pytest.mark.parametrize("rows", [3, 3000])
def test_step_updates_the_array_it_is_given_however_it_lies(
    module: ModuleType, layout: Callable[[Any], Any], rows: int
) -> None:
    rng = np.random.default_rng(8)
    start, gradient = rng.normal(size=(rows, 17)), rng.normal(size=(rows, 17))
    expected, _ = run(module, start, [gradient, gradient])
    base = layout(start)
    params = base
    state = module.init(params)
    # The gradient in another layout than the parameters, and one step with each.
    module.step(params, gradient, state)
    module.step(params, np.asfortranarray(gradient), state)
    assert params is base
    np.testing.assert_allclose(params, expected, rtol=1e-12)


def test_step_leaves_the_gaps_between_strided_parameters_alone() -> None:
    whole = np.arange(2.0 * (BLOCK + 5))
    before = whole.copy()
    params = whole[::2]
    MODULES["sgd"].step(params, np.ones(params.shape), MODULES["sgd"].init(params), learning_rate=0.25)
    np.testing.assert_array_equal(whole[1::2], before[1::2])
    np.testing.assert_array_equal(whole[::2], before[::2] - 0.25)


@every_module
def test_update_is_pure(module: ModuleType) -> None:
    rng = np.random.default_rng(9)
    params, gradient = rng.normal(size=5), rng.normal(size=5)
    state = module.update(params, gradient, module.init(params))[1]
    copies = params.copy(), gradient.copy(), pickle.loads(pickle.dumps(state))
    new_params, new_state = module.update(params, gradient, state)
    np.testing.assert_array_equal(params, copies[0])
    np.testing.assert_array_equal(gradient, copies[1])
    assert same(state, copies[2])
    # Nothing that comes back shares memory with what went in.
    came = [new_params, *(a for a in arrays(new_state).values() if isinstance(a, np.ndarray))]
    went = [params, gradient, *(a for a in arrays(state).values() if isinstance(a, np.ndarray))]
    assert not any(np.shares_memory(a, b) for a in came for b in went)


@every_module
def test_numpy_scalars_and_integers_for_hyperparameters_keep_float32(module: ModuleType) -> None:
    names = [p for p in inspect.signature(module.update).parameters.values() if p.kind is p.KEYWORD_ONLY]
    hyper = {p.name: np.float64(p.default) for p in names} | {"learning_rate": np.int64(1)}
    start = np.ones(4, np.float32)
    for in_place in (False, True):
        params, state = run(module, start, [np.full(4, 0.5, np.float32)] * 2, in_place, **hyper)
        assert params.dtype == np.float32
        assert all(a.dtype == np.float32 for n, a in arrays(state).items() if n != "t")


@every_module
def test_other_gradients_are_cast_to_the_parameters_type(module: ModuleType) -> None:
    start = np.ones(3, np.float32)
    for gradient in (np.array([1.0, 2.0, 3.0]), np.array([1, 2, 3]), [1, 2, 3]):
        for in_place in (False, True):
            params, _ = run(module, start, [gradient], in_place)
            expected, _ = run(module, start, [np.array([1, 2, 3], np.float32)], in_place)
            assert params.dtype == np.float32
            np.testing.assert_array_equal(params, expected)


# --- Properties --------------------------------------------------------------------------------------------------


@every_module
def test_without_a_gradient_nothing_moves_from_the_start(module: ModuleType) -> None:
    start = np.array([1.0, -2.0, 0.5])
    params, _ = run(module, start, [np.zeros(3)] * 5)
    np.testing.assert_array_equal(params, start)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_adaptive_rules_do_not_see_the_scale_of_the_loss(name: str) -> None:
    rng = np.random.default_rng(10)
    start, gradients = rng.normal(size=6), rng.normal(size=(50, 6))
    one, _ = run(MODULES[name], start, gradients, epsilon=0.0)
    other, _ = run(MODULES[name], start, gradients * 2.0**20, epsilon=0.0)
    np.testing.assert_allclose(other, one, rtol=1e-12)
    assert not np.allclose(one, start)


def steps_under_constant_gradient(name: str, count: int, **hyper: float) -> np.ndarray:
    params, state, points = np.zeros(1), MODULES[name].init(np.zeros(1)), [0.0]
    for _ in range(count):
        params, state = MODULES[name].update(params, np.array([3.0]), state, **hyper)
        points.append(float(params[0]))
    return -np.diff(points)


def test_under_a_constant_gradient_steps_are_as_claimed() -> None:
    t = np.arange(1, 101)
    hyper = {"learning_rate": 0.1, "epsilon": 0.0}
    np.testing.assert_allclose(steps_under_constant_gradient("adagrad", 100, **hyper), 0.1 / np.sqrt(t))
    np.testing.assert_allclose(
        steps_under_constant_gradient("rmsprop", 100, decay_rate=0.9, **hyper), 0.1 / np.sqrt(1 - 0.9**t)
    )
    np.testing.assert_allclose(steps_under_constant_gradient("adam", 100, **hyper), np.full(100, 0.1))
    velocity = steps_under_constant_gradient("momentum", 300, learning_rate=0.1, rho=0.9)
    np.testing.assert_allclose(velocity[-1], 0.1 * 3 / (1 - 0.9))


def test_nesterov_is_its_look_ahead_form_after_the_change_of_variables() -> None:
    """On f(x) = sum of curvature x^2 / 2, each with gradients at its own points."""
    curvature = np.array([1.0, 25.0])
    ahead, here = MODULES["nesterov_lookahead"], MODULES["nesterov"]
    hyper = {"learning_rate": 0.02, "rho": 0.8}
    point, state = np.array([1.0, 1.0]), ahead.init(np.ones(2))
    shifted, its_state = point.copy(), here.init(np.ones(2))
    for _ in range(50):
        np.testing.assert_allclose(ahead.lookahead(point, state, rho=0.8), shifted, rtol=1e-10, atol=1e-14)
        gradient = curvature * ahead.lookahead(point, state, rho=0.8)
        point, state = ahead.update(point, gradient, state, **hyper)
        shifted, its_state = here.update(shifted, curvature * shifted, its_state, **hyper)


def test_nan_in_the_gradient_is_not_hidden() -> None:
    for name, module in MODULES.items():
        gradient = np.array([1.0, np.nan, 2.0])
        for in_place in (False, True):
            params, _ = run(module, np.ones(3), [gradient], in_place)
            assert np.isnan(params).tolist() == [False, True, False], name


# --- Other people's implementations -------------------------------------------------------------------------------


CURVATURE = np.array([100.0, 10.0, 1.0, 0.1, 0.01])
NOISE = np.random.default_rng(11).normal(scale=0.1, size=(200, 5))
START = np.array([1.0, -2.0, 0.5, 3.0, -1.5])


def noisy_gradient(x: Any, n: int) -> Any:
    """Of an ill-conditioned quadratic, with noise that is the same for everybody."""
    return CURVATURE * x + NOISE[n]


def ours(name: str, in_place: bool, **hyper: float) -> Any:
    module = MODULES[name]
    params, state, path = START.copy(), module.init(START), []
    for n in range(200):
        if in_place:
            module.step(params, noisy_gradient(params, n), state, **hyper)
        else:
            params, state = module.update(params, noisy_gradient(params, n), state, **hyper)
        path.append(params.copy())
    return np.array(path)


TORCH = {
    "sgd": (lambda torch, p: torch.optim.SGD(p, lr=0.01), {"learning_rate": 0.01}),
    "momentum": (lambda torch, p: torch.optim.SGD(p, lr=0.005, momentum=0.9), {"learning_rate": 0.005, "rho": 0.9}),
    "momentum_velocity": (
        lambda torch, p: torch.optim.SGD(p, lr=0.005, momentum=0.9), {"learning_rate": 0.005, "rho": 0.9}),
    "nesterov": (
        lambda torch, p: torch.optim.SGD(p, lr=0.005, momentum=0.9, nesterov=True),
        {"learning_rate": 0.005, "rho": 0.9}),
    "adagrad": (
        lambda torch, p: torch.optim.Adagrad(p, lr=0.1, eps=1e-3), {"learning_rate": 0.1, "epsilon": 1e-3}),
    "rmsprop": (
        lambda torch, p: torch.optim.RMSprop(p, lr=0.01, alpha=0.95, eps=1e-3),
        {"learning_rate": 0.01, "decay_rate": 0.95, "epsilon": 1e-3}),
    "adam": (
        lambda torch, p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.99), eps=1e-3),
        {"learning_rate": 0.05, "beta1": 0.8, "beta2": 0.99, "epsilon": 1e-3}),
}  # fmt: skip


@pytest.mark.parametrize("in_place", [False, True], ids=["update", "step"])
@pytest.mark.parametrize("name", TORCH)
def test_200_steps_as_pytorch(name: str, in_place: bool, peer: Callable[[str], Any]) -> None:
    torch = peer("torch")
    make, hyper = TORCH[name]
    params = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = make(torch, [params])
    path = []
    for n in range(200):
        params.grad = torch.tensor(noisy_gradient(params.detach().numpy(), n))
        optimizer.step()
        path.append(params.detach().numpy().copy())
    np.testing.assert_allclose(ours(name, in_place, **hyper), path, rtol=1e-9, atol=1e-9)


OPTAX = {
    "sgd": (lambda optax: optax.sgd(0.01), {"learning_rate": 0.01}),
    "momentum": (lambda optax: optax.sgd(0.005, momentum=0.9), {"learning_rate": 0.005, "rho": 0.9}),
    "nesterov": (lambda optax: optax.sgd(0.005, momentum=0.9, nesterov=True), {"learning_rate": 0.005, "rho": 0.9}),
    "rmsprop": (
        lambda optax: optax.rmsprop(0.01, decay=0.95, eps=1e-3, eps_in_sqrt=False),
        {"learning_rate": 0.01, "decay_rate": 0.95, "epsilon": 1e-3}),
    "adam": (
        lambda optax: optax.adam(0.05, b1=0.8, b2=0.99, eps=1e-3),
        {"learning_rate": 0.05, "beta1": 0.8, "beta2": 0.99, "epsilon": 1e-3}),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTAX)
def test_200_steps_as_optax(name: str, peer: Callable[[str], Any]) -> None:
    optax, jax = peer("optax"), peer("jax")
    make, hyper = OPTAX[name]
    with jax.enable_x64(True):
        optimizer = make(optax)
        params = jax.numpy.asarray(START)
        state, path = optimizer.init(params), []
        step = jax.jit(optimizer.update)
        for n in range(200):
            updates, state = step(jax.numpy.asarray(noisy_gradient(np.asarray(params), n)), state, params)
            params = params + updates
            path.append(np.asarray(params))
    assert path[0].dtype == np.float64
    np.testing.assert_allclose(ours(name, False, **hyper), path, rtol=1e-9, atol=1e-9)


def test_dialects_that_differ_do_differ() -> None:
    """What the counterexamples say, seen in PyTorch's terms: AdaGrad from another start goes elsewhere."""
    path = ours("adagrad", False, learning_rate=0.1)
    squares, params, other = np.full(5, 0.1), START.copy(), []
    for n in range(200):
        gradient = noisy_gradient(params, n)
        squares += gradient**2
        params = params - 0.1 * gradient / (np.sqrt(squares) + 1e-8)
        other.append(params)
    assert np.abs(path - other).max() > 1e-3


# --- State -------------------------------------------------------------------------------------------------------


@every_module
def test_restart_from_a_pickle_continues_bit_for_bit(module: ModuleType) -> None:
    rng = np.random.default_rng(12)
    start, gradients = rng.normal(size=7), rng.normal(size=(10, 7))
    straight, final = run(module, start, gradients)
    params, state = run(module, start, gradients[:4])
    params, state = pickle.loads(pickle.dumps((params, state)))
    for gradient in gradients[4:]:
        params, state = module.update(params, gradient, state)
    np.testing.assert_array_equal(params, straight)
    assert same(state, final)


@every_module
def test_state_starts_at_zero_and_prints_on_a_line(module: ModuleType) -> None:
    state = module.init(np.ones((300, 300)))
    for array in arrays(state).values():
        assert np.all(array == 0)
    text = repr(state)
    assert text.startswith("State(")
    assert "\n" not in text
    assert len(text) < 400
    assert all(f"{name}=" in text for name in arrays(state))


def test_names_are_those_of_the_lecture() -> None:
    kept = {name: list(arrays(module.init(np.ones(1)))) for name, module in MODULES.items()}
    moments = ["first_moment", "second_moment"]
    assert kept == {
        "sgd": [], "momentum": ["velocity"], "momentum_velocity": ["velocity"], "nesterov": ["velocity"],
        "nesterov_lookahead": ["velocity"], "adagrad": ["grad_squared"], "rmsprop": ["grad_squared"],
        "adam_almost": moments, "adam": [*moments, "t"],
    }  # fmt: skip
    defaults = {"rho": 0.9, "decay_rate": 0.99, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    for module in MODULES.values():
        for function in (module.update, module.step):
            for name, parameter in inspect.signature(function).parameters.items():
                if parameter.kind is parameter.KEYWORD_ONLY and name != "learning_rate":
                    assert parameter.default == defaults[name]


# --- What is refused ---------------------------------------------------------------------------------------------


def read_only(shape: Any) -> Any:
    array = np.ones(shape)
    array.flags.writeable = False
    return array


ADAM = MODULES["adam"]
BAD = {
    "integer params": (np.ones(3, int), np.ones(3), None, TypeError, "params: expected an array of floats, .*int64"),
    "complex params": (np.ones(3, complex), np.ones(3), None, TypeError, "params: .*complex128"),
    "grad of another shape": (np.ones(3), np.ones(4), None, ValueError, r"grad: expected shape \(3,\), .*\(4,\)"),
    "gradient that would broadcast": (np.ones((2, 3)), np.ones(3), None, ValueError, r"grad: expected shape \(2, 3\)"),
    "complex gradient": (np.ones(3), np.ones(3, complex), None, TypeError, "grad: expected dtype float64"),
    "state of another shape": (np.ones(3), np.ones(3), ADAM.init(np.ones(4)), ValueError, r"first_moment: .*\(4,\)"),
    "state of another dtype": (
        np.ones(3), np.ones(3), ADAM.init(np.ones(3, np.float32)), TypeError, "state.first_moment: .*float32"),
    "state of another rule": (
        np.ones(3), np.ones(3), MODULES["sgd"].init(np.ones(3)), TypeError, "state: expected a State, as init"),
    "no state": (np.ones(3), np.ones(3), 0, TypeError, "state: expected a State, .* got int"),
    "state with a float for t": (
        np.ones(3), np.ones(3), ADAM.State(np.zeros(3), np.zeros(3), 1.5), TypeError, "state.t: .*1.5"),
    "state with a list": (
        np.ones(3), np.ones(3), ADAM.State([0, 0, 0], np.zeros(3), 1), TypeError, "state.first_moment: .*list"),
}  # fmt: skip
BAD_IN_PLACE = {
    "list": ([1.0, 2.0, 3.0], np.ones(3), None, TypeError, "params: expected a NumPy array .* got list"),
    "read-only params": (read_only(3), np.ones(3), None, ValueError, "params: .*read-only"),
    "broadcast params": (np.broadcast_to(1.0, 3), np.ones(3), None, ValueError, "params: .*read-only"),
    "read-only state": (
        np.ones(3), np.ones(3), ADAM.State(np.zeros(3), read_only(3), 0), ValueError, "state.second_.*read-only"),
}  # fmt: skip


def refused(function: Callable[..., Any], case: tuple[Any, ...], **hyper: Any) -> None:
    params, gradient, state, error, words = case
    state = ADAM.init(np.ones(3) if np.shape(params) == (3,) else np.ones((2, 3))) if state is None else state
    before = pickle.dumps((params, gradient, state))
    with pytest.raises(error, match=words):
        function(params, gradient, state, **hyper)
    assert pickle.dumps((params, gradient, state)) == before, "nothing changed"


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_arguments_are_refused_by_name_and_nothing_changes(case: tuple[Any, ...]) -> None:
    refused(ADAM.update, case)
    refused(ADAM.step, case)


@pytest.mark.parametrize("case", BAD_IN_PLACE.values(), ids=BAD_IN_PLACE)
def test_what_cannot_be_updated_in_place_is_refused(case: tuple[Any, ...]) -> None:
    refused(ADAM.step, case)


@pytest.mark.parametrize("value", ["0.1", None, 1j, np.ones(3), [0.1]])
def test_hyperparameters_are_real_numbers(value: Any) -> None:
    for function in (ADAM.update, ADAM.step):
        refused(function, (np.ones(3), np.ones(3), None, TypeError, "beta1: expected a real number"), beta1=value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, float("nan")])
def test_hyperparameters_are_finite(value: float) -> None:
    for function in (ADAM.update, ADAM.step):
        refused(
            function, (np.ones(3), np.ones(3), None, ValueError, "epsilon: expected a finite number"), epsilon=value
        )


def test_overlapping_arrays_are_refused_in_place() -> None:
    module = MODULES["momentum"]
    params = np.ones(4)
    state = module.init(params)
    whole = np.ones(8)
    for bad, gradient in ((params, params), (params, params[::-1]), (whole[:4], whole[3:7])):
        before = bad.copy()
        with pytest.raises(ValueError, match=r"grad: .*overlaps params"):
            module.step(bad, gradient, state)
        np.testing.assert_array_equal(bad, before)
        assert np.all(state.velocity == 0)
    with pytest.raises(ValueError, match=r"state\.velocity: .*overlaps params"):
        module.step(params, np.ones(4), module.State(params))
    # Interleaved arrays do not overlap.
    module.step(whole[::2], whole[1::2], state, learning_rate=0.5)
    np.testing.assert_array_equal(whole, [0.5, 1.0] * 4)
    # To read from the same array twice is no harm.
    module.update(params, params, state)


def given(module: ModuleType, dtype: type = np.float32) -> dict[str, Any]:
    """Arguments of ``step`` in which nothing is unusual, by the names that errors give them."""
    rng = np.random.default_rng(13)
    hyper = {p.name: p.default for p in inspect.signature(module.step).parameters.values() if p.kind is p.KEYWORD_ONLY}
    kept = arrays(module.init(np.ones((3, 4), dtype)))
    return {
        "params": rng.normal(size=(3, 4)).astype(dtype),
        **{f"state.{name}": value if name == "t" else np.full((3, 4), 0.5, dtype) for name, value in kept.items()},
        "grad": rng.normal(size=(3, 4)).astype(dtype),
        **hyper,
    }


def called(module: ModuleType, arguments: dict[str, Any]) -> tuple[tuple[Any, Any, Any], dict[str, Any]]:
    kept = {name.removeprefix("state."): value for name, value in arguments.items() if name.startswith("state.")}
    hyper = {name: value for name, value in arguments.items() if name[:6] not in ("params", "grad", "state.")}
    return (arguments["params"], arguments["grad"], module.State(**kept)), hyper


def is_ordinary(module: ModuleType, arguments: dict[str, Any]) -> bool:
    positional, hyper = called(module, arguments)
    return module._ordinary(*positional, *hyper.values())


def faults(arguments: dict[str, Any]) -> Any:
    """Each way in which one argument alone may be wrong: what it is, and what the error names."""
    held = [name for name in arguments if name == "params" or (name.startswith("state.") and name != "state.t")]
    for name in (*held, "grad"):
        array = arguments[name]
        # The first array that is looked at sets what is expected of the others.
        blamed = "grad" if name == "params" else name
        yield f"{name} of another shape", {name: array.reshape(4, 3).copy()}, blamed
        yield f"{name} that would broadcast", {name: array[:1].copy()}, blamed
        yield f"{name} complex", {name: array + 0j}, name
    for name in held:
        array = arguments[name]
        locked = array.copy()
        locked.flags.writeable = False
        yield f"{name} read-only", {name: locked}, name
        yield f"{name} of integers", {name: array.astype(int)}, name
        yield f"{name} a list", {name: array.tolist()}, name
        if name != "params":
            yield f"{name} of another float", {name: array.astype(np.float64)}, name
    for n, name in enumerate(both := [*held, "grad"]):
        for other in both[:n]:
            yield f"{name} is {other}", {name: arguments[other]}, name
            yield f"{name} a view of {other}", {name: arguments[other][::-1]}, name
            whole = np.ones((4, 4), arguments[name].dtype)
            yield f"{name} over part of {other}", {name: whole[1:], other: whole[:3]}, name
    yield "everything of integers", {name: arguments[name].astype(int) for name in both}, "params"
    for count in (-1, True, 1.0, np.int64(1), None):
        if "state.t" in arguments:
            yield f"t = {count!r}", {"state.t": count}, "state.t"
    hyper = [name for name, value in arguments.items() if isinstance(value, float)]
    for name in hyper:
        for value in (np.nan, np.inf, -np.inf, np.float32(np.inf), "0.1", None, [0.1]):
            yield f"{name} = {value!r}", {name: value}, name
        for other in hyper[: hyper.index(name)]:
            yield f"{other} and {name} infinite", {other: np.inf, name: -np.inf}, other


@every_module
def test_each_fault_alone_is_refused_before_anything_changes(module: ModuleType) -> None:
    usual = given(module)
    assert is_ordinary(module, usual)
    for what, wrong, blamed in faults(usual):
        positional, hyper = called(module, {**usual, **wrong})
        before = pickle.dumps(positional)
        with pytest.raises((TypeError, ValueError)) as caught:
            module.step(*positional, **hyper)
        assert str(caught.value).startswith(f"{blamed}: expected "), what
        assert pickle.dumps(positional) == before, what
    for state in (None, 0, MODULES["sgd" if module is not MODULES["sgd"] else "adam"].init(usual["params"])):
        (params, gradient, _), hyper = called(module, usual)
        before = pickle.dumps((params, gradient, state))
        with pytest.raises(TypeError, match="state: expected a State"):
            module.step(params, gradient, state, **hyper)
        assert pickle.dumps((params, gradient, state)) == before


@every_module
def test_what_is_unusual_and_right_makes_the_same_step(module: ModuleType) -> None:
    class Own(np.ndarray):
        """An array of somebody's own type."""

    usual = given(module)
    (params, _, state), hyper = called(module, usual)
    module.step(params, usual["grad"], state, **hyper)
    held = [name for name in usual if name == "params" or (name.startswith("state.") and name != "state.t")]
    usual = given(module)
    as_views = {name: usual[name].copy()[:] for name in (*held, "grad")}
    unusual: dict[str, dict[str, Any]] = {
        "views": as_views,
        "another type": {name: array.copy().view(Own) for name, array in as_views.items()},
        "another order": {name: array.T.copy().T for name, array in as_views.items()},
        "a list": {"grad": usual["grad"].tolist()},
        "double": {"grad": usual["grad"].astype(np.float64)},
        "numbers of NumPy": {name: np.float64(value) for name, value in hyper.items()},
    }
    for what, changed in unusual.items():
        assert not is_ordinary(module, {**usual, **changed})
        positional, numbers = called(module, {**given(module), **changed})
        module.step(*positional, **numbers)
        np.testing.assert_allclose(positional[0], params, rtol=1e-5, atol=1e-6, err_msg=what)
        assert positional[0].dtype == np.float32
        for one, other in zip(arrays(positional[2]).values(), arrays(state).values(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=what)


@every_module
def test_the_ordinary_case_is_seen_as_ordinary(module: ModuleType) -> None:
    """Else every step would be looked at closely, which is right and slow."""
    for dtype in (np.float16, np.float32, np.float64):
        usual = given(module, dtype)
        assert is_ordinary(module, usual)
        hyper = called(module, usual)[1]
        params = usual["params"]
        _, updated = module.update(params, usual["grad"], module.init(params))
        for state in (module.init(params), updated, pickle.loads(pickle.dumps(updated))):
            assert module._ordinary(params, usual["grad"], state, *hyper.values())
    # Finite numbers whose sum is not are only looked at twice.
    large = dict.fromkeys(called(module, given(module))[1], 1e308)
    assert is_ordinary(module, {**given(module, np.float64), **large}) == (len(large) == 1)
    positional, _ = called(module, given(module, np.float64))
    with np.errstate(all="ignore"):
        module.step(*positional, **{name: value for name, value in large.items() if name in ("learning_rate", "rho")})


def test_numbers_that_make_no_sense_together_change_nothing() -> None:
    """1 - beta1^t is 0 at beta1 = 1: the division fails before the moments have moved."""
    (params, gradient, state), hyper = called(ADAM, given(ADAM))
    before = pickle.dumps((params, gradient, state))
    with pytest.raises(ZeroDivisionError):
        ADAM.step(params, gradient, state, **{**hyper, "beta1": 1.0})
    assert pickle.dumps((params, gradient, state)) == before


def test_init_refuses_integers() -> None:
    for module in MODULES.values():
        with pytest.raises(TypeError, match="params: expected an array of floats"):
            module.init(np.arange(3))


# --- Memory and form ----------------------------------------------------------------------------------------------


@every_module
def test_step_needs_no_memory_that_grows(module: ModuleType) -> None:
    peaks = []
    for blocks in (4, 32):
        params = np.ones(BLOCK * blocks)
        gradient, state = np.ones_like(params), module.init(params)
        module.step(params, gradient, state)
        tracemalloc.start()
        module.step(params, gradient, state)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    block = BLOCK * 8
    assert peaks[1] < 3 * block
    assert peaks[1] - peaks[0] < block / 4


@every_module
def test_lines_of_update_are_those_of_a_blackboard(module: ModuleType) -> None:
    """One line an equation, each with its number."""
    rule = RULES[module.__name__.split(".")[-1].rpartition("_")[0]]
    source = inspect.getsource(module.update)
    for number, equation in enumerate(rule.equations, start=1):
        assert source.count(f"# ({number})") == 1, equation


def test_some_lines_word_for_word() -> None:
    lines = {name: [line.strip() for line in inspect.getsource(m.update).splitlines()] for name, m in MODULES.items()}
    assert "velocity = rho * state.velocity + grad  # (1)" in lines["momentum"]
    assert "params = params - learning_rate * velocity  # (2)" in lines["momentum"]
    assert "params = params - rho * state.velocity + (1 + rho) * velocity  # (2)" in lines["nesterov"]
    assert "second_moment = beta2 * state.second_moment + (1 - beta2) * grad**2  # (2)" in lines["adam"]
    assert "params = params - learning_rate * m_hat / (np.sqrt(s_hat) + epsilon)  # (5)" in lines["adam"]


def test_a_module_works_where_derive_is_not_installed(tmp_path: Any) -> None:
    (tmp_path / "adam.py").write_text(module_text(RULES["adam"]))
    program = (
        "import sys; sys.modules['derive'] = sys.modules['sympy'] = None\n"
        "import numpy as np, pickle, adam\n"
        "x = np.ones(3); s = adam.init(x); adam.step(x, x.copy(), s)\n"
        "s = pickle.loads(pickle.dumps(s)); print(x[0], s.t)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    value, t = done.stdout.split()
    assert float(value) == pytest.approx(0.999)
    assert t == "1"
