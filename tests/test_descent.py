"""The loops: what they promise to the person who calls them, and that every optimizer learns with them."""

from __future__ import annotations

import ast
import functools
import importlib.util
import math
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from derive.catalogue import find
from derive.descent import page
from derive.files import SHARED, source_of
from derive.render import compile

# -- the module under test is the generated page, and its optimizers are two that can be checked by eye ---------------


@pytest.fixture(scope="module")
def descent(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    file = tmp_path_factory.mktemp("generated") / "descent.py"
    file.write_text(page()["descent.py"], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("generated_descent", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _plain_step(params: np.ndarray, grad: np.ndarray, state: None, *, learning_rate: float = 0.1) -> None:
    assert isinstance(params, np.ndarray)
    assert grad.shape == params.shape
    assert grad.dtype == params.dtype
    assert not isinstance(learning_rate, np.generic)
    params -= learning_rate * grad


def _ahead_step(
    params: np.ndarray, grad: np.ndarray, state: SimpleNamespace, *, learning_rate: float, rho: float = 0.9
) -> None:
    state.velocity = rho * state.velocity - learning_rate * grad
    params += state.velocity


PLAIN = SimpleNamespace(__name__="plain", init=lambda params: None, step=_plain_step)
AHEAD = SimpleNamespace(
    __name__="ahead",
    init=lambda params: SimpleNamespace(velocity=np.zeros_like(params)),
    step=_ahead_step,
    lookahead=lambda params, state, *, rho=0.9: params + rho * state.velocity,
)


def bowl(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Half the square of the distance from the origin; its gradient is x."""
    return float((x * x).sum()) / 2, x.copy()


def mean_distance(x: np.ndarray, examples: np.ndarray) -> tuple[float, np.ndarray]:
    """Its minimum over x is the mean of the examples."""
    return float(((x - examples) ** 2).sum(axis=1).mean()) / 2, (x - examples).mean(axis=0)


class Line(NamedTuple):
    slope: np.ndarray
    intercept: Any


def line_fit(slope: np.ndarray, intercept: float, X: np.ndarray, y: np.ndarray) -> tuple[float, Line]:
    residual = X @ slope + intercept - y
    return float((residual**2).mean()) / 2, Line(X.T @ residual / len(X), residual.mean())


LINE_DATA = (np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([1.0, 3.0, 5.0, 7.0]))


# -- the page ------------------------------------------------------------------------------------------------------


def test_the_page_is_generated_and_imports_numpy_alone() -> None:
    text = page()["descent.py"]
    assert source_of(text) == SHARED
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert {name for name in imported if name not in sys.stdlib_module_names} == {"numpy"}


def test_the_page_alone_is_enough(tmp_path: Path) -> None:
    """Copied into an empty folder, without the package that made it and without tqdm, it runs."""
    (tmp_path / "descent.py").write_text(page()["descent.py"], encoding="utf-8")
    program = (
        "import sys; sys.modules['derive'] = sys.modules['sympy'] = sys.modules['tqdm'] = None\n"
        "sys.path.insert(0, '.')\n"
        "import descent\n"
        "class plain:\n"
        "    init = staticmethod(lambda params: None)\n"
        "    @staticmethod\n"
        "    def step(params, grad, state, *, learning_rate): params -= learning_rate * grad\n"
        "r = descent.gradient_descent(lambda x: (x * x, 2 * x), 1.0, optimizer=plain, steps=3,\n"
        "                             learning_rate=0.25, progress=True)\n"
        "print(r.params, r.losses)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
    assert ran.stdout == "0.125 [1.0, 0.25, 0.0625]\n"


# -- full descent --------------------------------------------------------------------------------------------------


def test_descent_evaluates_and_steps_as_often_as_asked(descent: ModuleType) -> None:
    # x <- x - x/4, by hand; losses are those before each update.
    result = descent.gradient_descent(bowl, np.array([4.0, -8.0]), optimizer=PLAIN, steps=2, learning_rate=0.25)
    np.testing.assert_array_equal(result.params, [2.25, -4.5])
    assert result.losses == [40.0, 22.5]
    assert result.interrupted is False


def test_no_steps_give_back_what_was_given(descent: ModuleType) -> None:
    start = np.array([1.0, 2.0])
    result = descent.gradient_descent(bowl, start, optimizer=PLAIN, steps=0)
    np.testing.assert_array_equal(result.params, start)
    assert result.params is not start
    assert result.losses == []


def test_the_callers_parameters_and_data_stay_as_they_are(descent: ModuleType) -> None:
    slope, (X, y) = np.array([1.0]), LINE_DATA
    before = slope.copy(), X.copy(), y.copy()
    for array in (slope, X, y):
        array.flags.writeable = False
    descent.minibatch_descent(line_fit, (slope, 2.0), (X, y), optimizer=PLAIN, steps=5, batch_size=2)
    descent.gradient_descent(line_fit, [slope, 2.0], (X, y), optimizer=PLAIN, steps=5)
    for array, old in zip((slope, X, y), before, strict=True):
        np.testing.assert_array_equal(array, old)
        array.flags.writeable = True


@pytest.mark.parametrize("container", [tuple, list, Line._make])
def test_several_parameters_come_back_as_they_were_packed(descent: ModuleType, container: Any) -> None:
    given = container([np.array([0.0]), 0.0])
    result = descent.gradient_descent(line_fit, given, LINE_DATA, optimizer=PLAIN, steps=2000, learning_rate=0.2)
    assert type(result.params) is type(given)
    slope, intercept = result.params
    np.testing.assert_allclose(slope, [2.0], rtol=1e-9)
    assert isinstance(intercept, float)
    assert intercept == pytest.approx(1.0, rel=1e-9)


def test_numbers_are_parameters_too(descent: ModuleType) -> None:
    def parabola(x: Any) -> tuple[Any, Any]:
        assert np.ndim(x) == 0
        return (x - 3) ** 2, 2 * (x - 3)

    for start in (1.0, 1, np.float64(1), np.array(1.0)):
        result = descent.gradient_descent(parabola, start, optimizer=PLAIN, steps=1, learning_rate=0.25)
        assert result.params == 2.0
        assert isinstance(result.params, np.ndarray) == isinstance(start, np.ndarray)


@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_any_memory_layout_will_do(descent: ModuleType, order: str) -> None:
    start = np.arange(12.0).reshape(3, 4)
    given = np.repeat(start, 2, axis=1)[:, ::2] if order == "strided" else np.asarray(start, order=order)
    result = descent.gradient_descent(bowl, given, optimizer=PLAIN, steps=1, learning_rate=0.5)
    np.testing.assert_array_equal(result.params, start / 2)


def test_single_precision_stays_single_and_integers_become_double(descent: ModuleType) -> None:
    def in_double(x: np.ndarray) -> tuple[np.float64, np.ndarray]:
        return np.float64((x * x).sum()), 2 * x.astype(np.float64)

    rate = np.logspace(-2, -1, 3)[1]  # a NumPy number, which would promote
    seen = []
    result = descent.gradient_descent(
        in_double,
        np.ones(3, np.float32),
        optimizer=PLAIN,
        steps=2,
        learning_rate=rate,
        callback=lambda step, loss, x: seen.append((type(step), type(loss), x.dtype)),
    )
    assert result.params.dtype == np.float32
    assert seen == [(int, float, np.dtype("f4"))] * 2
    assert {type(loss) for loss in result.losses} == {float}
    from_integers = descent.gradient_descent(bowl, np.array([2, 4]), optimizer=PLAIN, steps=1, learning_rate=0.25)
    np.testing.assert_array_equal(from_integers.params, [1.5, 3.0])


def test_an_optimizer_that_looks_ahead_gets_the_gradient_there(descent: ModuleType) -> None:
    rate, rho, x, velocity, losses = 0.1, 0.8, np.array([1.0, -3.0]), np.zeros(2), []
    for _ in range(5):  # the lecture's equations, by hand
        ahead = x + rho * velocity
        losses.append(float(ahead @ ahead) / 2)
        velocity = rho * velocity - rate * ahead
        x = x + velocity
    seen: list[np.ndarray] = []
    result = descent.gradient_descent(
        bowl,
        np.array([1.0, -3.0]),
        optimizer=AHEAD,
        steps=5,
        learning_rate=rate,
        rho=rho,
        callback=lambda step, loss, params: seen.append(params),
    )
    np.testing.assert_allclose(result.params, x, rtol=1e-14)
    assert result.losses == pytest.approx(losses, rel=1e-14)
    # The callback sees the parameters, not the point ahead of them.
    np.testing.assert_allclose(seen[1], [0.9, -2.7], rtol=1e-14)


# -- minibatches ---------------------------------------------------------------------------------------------------


def _batches_of(descent: ModuleType, examples: int, steps: int, **options: Any) -> list[np.ndarray]:
    """The example numbers of each batch that a run draws."""
    X = np.arange(2.0 * examples).reshape(examples, 2)
    labels = np.arange(examples)
    drawn = []

    def watch(x: np.ndarray, X_batch: np.ndarray, y_batch: np.ndarray) -> tuple[float, np.ndarray]:
        np.testing.assert_array_equal(X_batch, X[y_batch])  # rows and labels stay together
        drawn.append(y_batch)
        return 0.0, np.zeros_like(x)

    descent.minibatch_descent(watch, np.zeros(1), (X, labels), optimizer=PLAIN, steps=steps, **options)
    return drawn


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9, 10, 11, 1000])
def test_a_pass_uses_each_example_once(descent: ModuleType, size: int) -> None:
    examples = 10
    per_pass = math.ceil(examples / size)
    drawn = _batches_of(descent, examples, steps=3 * per_pass, batch_size=size, seed=5)
    passes = [drawn[k * per_pass : (k + 1) * per_pass] for k in range(3)]
    for batches in passes:
        assert Counter(np.concatenate(batches).tolist()) == Counter(range(examples))
        lengths = [len(b) for b in batches]
        assert lengths[:-1] == [size] * (per_pass - 1)
        assert lengths[-1] == examples - size * (per_pass - 1)
    # Each pass is in an order of its own, and in none of them in the order of the file.
    orders = [np.concatenate(batches).tolist() for batches in passes]
    assert len({tuple(order) for order in [*orders, list(range(examples))]}) == 4


def test_the_default_batch_has_256_examples(descent: ModuleType) -> None:
    assert [len(b) for b in _batches_of(descent, 600, steps=4, seed=0)] == [256, 256, 88, 256]


def test_the_first_example_of_a_pass_is_uniform(descent: ModuleType) -> None:
    first = Counter(int(_batches_of(descent, 4, steps=1, batch_size=1, seed=seed)[0][0]) for seed in range(400))
    chi_squared = sum((first[i] - 100) ** 2 / 100 for i in range(4))
    assert chi_squared < 16.3  # the 0.999 quantile for 3 degrees of freedom


def test_the_same_seed_gives_the_same_run_bit_for_bit(descent: ModuleType) -> None:
    examples = np.random.default_rng(0).standard_normal((50, 3))
    run = functools.partial(
        descent.minibatch_descent, mean_distance, np.zeros(3), (examples,), optimizer=PLAIN, steps=30, batch_size=7
    )
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    one, two, other = run(seed=3), run(seed=3), run(seed=4)
    assert one.params.tobytes() == two.params.tobytes()
    assert one.losses == two.losses
    assert one.losses != other.losses
    assert run(seed=np.random.default_rng(3)).losses == one.losses
    assert run(seed=None).losses != run(seed=None).losses
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002 - the global generator was left alone


def test_minibatches_find_the_mean(descent: ModuleType) -> None:
    examples = np.random.default_rng(0).normal([1.0, 2.0, 3.0], size=(64, 3))
    result = descent.minibatch_descent(
        mean_distance, np.zeros(3), (examples,), optimizer=PLAIN, steps=4000, batch_size=16, seed=0, learning_rate=0.01
    )
    np.testing.assert_allclose(result.params, examples.mean(axis=0), atol=0.02)


def test_data_may_be_lists(descent: ModuleType) -> None:
    X, y = (a.tolist() for a in LINE_DATA)
    result = descent.minibatch_descent(
        line_fit, (np.zeros(1), 0.0), [X, y], optimizer=PLAIN, steps=1500, batch_size=2, seed=0, learning_rate=0.1
    )
    assert result.params[1] == pytest.approx(1.0, abs=1e-3)


# -- callback, progress, interruption --------------------------------------------------------------------------------


def test_the_callback_sees_every_step_before_its_update(descent: ModuleType) -> None:
    seen: list[tuple[int, float, np.ndarray]] = []
    result = descent.gradient_descent(
        bowl,
        np.array([4.0]),
        optimizer=PLAIN,
        steps=3,
        learning_rate=0.5,
        callback=lambda *told: seen.append(told),
    )
    assert [step for step, _, _ in seen] == [0, 1, 2]
    assert [loss for _, loss, _ in seen] == result.losses == [8.0, 2.0, 0.5]
    assert [params.tolist() for _, _, params in seen] == [[4.0], [2.0], [1.0]]  # copies: they did not move on
    assert result.params.tolist() == [0.5]


def test_what_the_callback_does_to_its_copy_changes_nothing(descent: ModuleType) -> None:
    def spoil(step: int, loss: float, params: np.ndarray) -> None:
        params[:] = 100

    result = descent.gradient_descent(
        bowl, np.array([4.0]), optimizer=PLAIN, steps=2, learning_rate=0.5, callback=spoil
    )
    assert result.params.tolist() == [1.0]


@pytest.mark.parametrize("answer", [True, np.True_, 1])
def test_the_callback_may_stop_the_run(descent: ModuleType, answer: object) -> None:
    kept = []

    def enough(step: int, loss: float, params: np.ndarray) -> object:
        kept.append(params)
        return answer if step == 2 else None

    result = descent.gradient_descent(
        bowl, np.array([8.0]), optimizer=PLAIN, steps=9, learning_rate=0.5, callback=enough
    )
    assert len(result.losses) == 3
    assert result.params.tolist() == kept[-1].tolist() == [2.0]
    assert result.interrupted is False


@pytest.mark.parametrize("answer", [None, False, 0, np.False_, ""])
def test_a_callback_that_says_nothing_goes_on(descent: ModuleType, answer: object) -> None:
    result = descent.gradient_descent(bowl, np.ones(1), optimizer=PLAIN, steps=4, callback=lambda *_: answer)
    assert len(result.losses) == 4


def test_the_progress_bar_shows_the_steps_and_changes_nothing(
    descent: ModuleType, peer: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer("tqdm")
    quiet = descent.gradient_descent(bowl, np.ones(1), optimizer=PLAIN, steps=4)
    assert capsys.readouterr().err == ""
    shown = descent.gradient_descent(bowl, np.ones(1), optimizer=PLAIN, steps=4, progress=True)
    assert "4/4" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    without = descent.gradient_descent(bowl, np.ones(1), optimizer=PLAIN, steps=4, progress=True)
    assert capsys.readouterr().err == ""
    assert quiet.losses == shown.losses == without.losses


def test_an_interrupted_run_returns_what_it_has(descent: ModuleType) -> None:
    calls = []

    def slow_bowl(x: np.ndarray) -> tuple[float, np.ndarray]:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return bowl(x)

    result = descent.gradient_descent(slow_bowl, np.array([8.0]), optimizer=PLAIN, steps=9, learning_rate=0.5)
    assert result.interrupted is True
    assert result.losses == [32.0, 8.0, 2.0]
    assert result.params.tolist() == [1.0]
    assert repr(result) == "<Result: 3 steps, loss 32 -> 2, interrupted>"


def test_other_errors_of_the_loss_pass_through(descent: ModuleType) -> None:
    def broken(x: np.ndarray) -> tuple[float, np.ndarray]:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        descent.gradient_descent(broken, np.ones(1), optimizer=PLAIN, steps=1, progress=True)


# -- divergence ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_run_that_diverges_stops_at_the_step_and_names_the_rate(descent: ModuleType) -> None:
    # x <- x - 101 x: x = (-100)^t, and x^4 = 10^(8t) leaves the range of float64, 1.8e308, at t = 39.
    with pytest.raises(FloatingPointError, match=r"step 39: the loss is inf.*learning rate.*it is 101") as caught:
        descent.gradient_descent(lambda x: (x[0] ** 4, x), np.ones(1), optimizer=PLAIN, steps=1000, learning_rate=101.0)
    assert isinstance(caught.value, descent.DivergenceError)
    assert caught.value.step == 39
    assert len(caught.value.losses) == 39
    assert all(map(math.isfinite, caught.value.losses))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.step, again.losses) == (str(caught.value), 39, caught.value.losses)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stops_the_run(descent: ModuleType, bad: float) -> None:
    losses = iter([3.0, 2.0, bad])
    with pytest.raises(FloatingPointError, match=r"step 2: the loss is (nan|-?inf)"):
        descent.gradient_descent(lambda x: (next(losses), x), np.ones(1), optimizer=PLAIN, steps=9)


def test_bad_data_is_not_blamed_on_the_learning_rate(descent: ModuleType) -> None:
    with pytest.raises(FloatingPointError, match=r"step 0: the loss is nan.*data") as caught:
        descent.gradient_descent(bowl, np.array([math.nan]), optimizer=PLAIN, steps=9)
    assert "learning rate" not in str(caught.value)


def test_a_gradient_that_is_no_number_is_noticed_even_at_the_last_step(descent: ModuleType) -> None:
    with pytest.raises(FloatingPointError, match="step 2: a parameter is NaN"):
        descent.gradient_descent(
            lambda x: (1.0, x * (math.nan if x[0] < 0.3 else 1)),
            np.ones(1),
            optimizer=PLAIN,
            steps=3,
            learning_rate=0.5,
        )


# -- errors by name ----------------------------------------------------------------------------------------------------


def _never(*_: Any) -> tuple[float, Any]:
    raise AssertionError("the loss must not be evaluated")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": -1}, ValueError, "steps must be 0 or more; got -1"),
        ({"steps": 10.0}, TypeError, "steps must be an integer; got 10.0"),
        ({"steps": True}, TypeError, "steps must be an integer; got True"),
        ({"batch_size": 0}, ValueError, "batch_size must be 1 or more; got 0"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer; got 2.5"),
        ({"beta1": 0.9}, TypeError, "unknown hyperparameter 'beta1': plain takes learning_rate.*functools.partial"),
        ({"reg": 0.1, "lr": 1}, TypeError, "unknown hyperparameter 'reg', 'lr'"),
        ({"optimizer": AHEAD}, TypeError, "missing hyperparameter 'learning_rate': ahead takes learning_rate, rho"),
        ({"optimizer": "adam"}, TypeError, "optimizer must be an optimizer module.*'adam'"),
        ({"params": []}, ValueError, "params must hold at least one"),
        ({"params": np.array([True])}, TypeError, "params must be an array of real numbers.*bool"),
        ({"params": (np.ones(1), np.ones(1, complex))}, TypeError, r"params\[1\] must be.*complex128"),
        ({"params": ("weights",)}, TypeError, r"params\[0\] must be an array of real numbers; got str"),
        ({"data": ()}, ValueError, "data must hold at least one array"),
        ({"data": np.ones((4, 2))}, TypeError, r"data must be a tuple of arrays, such as \(X, y\).*ndarray"),
        ({"data": (np.ones((4, 2)), np.ones(3))}, ValueError, r"data\[1\] has 3 examples.*data\[0\] has 4"),
        ({"data": (np.ones((4, 2)), 1.0)}, ValueError, r"data\[1\] must have one entry per example"),
        ({"data": (np.ones((0, 2)),)}, ValueError, r"data\[0\] has no examples \(shape \(0, 2\)\)"),
    ],
)
def test_misuse_is_an_error_by_name_before_the_first_step(
    descent: ModuleType, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"params": np.ones(1), "data": (np.ones((4, 2)),), "optimizer": PLAIN, "steps": 3, **options}
    with pytest.raises(error, match=message):
        descent.minibatch_descent(_never, given.pop("params"), given.pop("data"), **given)


def test_integers_of_any_kind_count(descent: ModuleType) -> None:
    result = descent.minibatch_descent(
        mean_distance, np.zeros(2), (np.ones((4, 2)),), optimizer=PLAIN, steps=np.int64(2), batch_size=np.uint8(2)
    )
    assert len(result.losses) == 2


def test_a_loss_that_returns_something_else_is_told_so(descent: ModuleType) -> None:
    with pytest.raises(TypeError, match=r"must return \(loss, grad\); it returned float"):
        descent.gradient_descent(lambda x: 1.0, np.ones(1), optimizer=PLAIN, steps=1)
    with pytest.raises(ValueError, match=r"1 gradient.*2 parameter"):
        descent.gradient_descent(lambda x, y: (1.0, x), (np.ones(1), np.ones(1)), optimizer=PLAIN, steps=1)


# -- initial weights ---------------------------------------------------------------------------------------------------


def test_initial_weights_are_normal_and_seeded(descent: ModuleType) -> None:
    W = descent.initial_weights((300, 200), 0.01, 7)
    assert W.shape == (300, 200)
    assert W.dtype == np.float64
    # 60000 numbers: the standard errors are 4e-5 for the mean and 3e-5 for the deviation.
    assert abs(W.mean()) < 2e-4
    assert W.std() == pytest.approx(0.01, abs=1.5e-4)
    assert (np.abs(W) < 0.01).mean() == pytest.approx(0.6827, abs=0.01)
    np.testing.assert_array_equal(W, descent.initial_weights((300, 200), 0.01, 7))
    assert (descent.initial_weights((300, 200), 0.01, 8) != W).any()
    np.testing.assert_allclose(descent.initial_weights((300, 200), 1.0, 7), 100 * W, rtol=1e-12)
    assert descent.initial_weights(5, 1.0, 0).shape == (5,)
    assert not descent.initial_weights((3, 2), 0.0, 0).any()


@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf])
def test_initial_weights_need_a_scale(descent: ModuleType, scale: float) -> None:
    with pytest.raises(ValueError, match="scale must be a finite number, 0 or more"):
        descent.initial_weights((2, 2), scale, 0)


# -- learning --------------------------------------------------------------------------------------------------------

#: Learning rates for (SVM, softmax, two-layer network), features between 0 and 1.
RATES = {
    "sgd": (1.0, 1.0, 1.0),
    "momentum": (0.1, 0.3, 0.1),
    "momentum_velocity": (0.1, 0.3, 0.1),
    "nesterov": (0.1, 0.3, 0.1),
    "nesterov_lookahead": (0.1, 0.3, 0.1),
    "adagrad": (0.1, 0.1, 0.1),
    "rmsprop": (0.01, 0.01, 0.01),
    "adam_almost": (0.01, 0.01, 0.003),
    "adam": (0.01, 0.01, 0.01),
}


@pytest.fixture(scope="module")
def digits(peer: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    pixels, y = peer("sklearn.datasets").load_digits(return_X_y=True)
    X = np.hstack([pixels / 16, np.ones((len(pixels), 1))])
    order = np.random.default_rng(2021).permutation(len(X))
    return X[order[400:]], y[order[400:]], X[order[:400]], y[order[:400]]


def _linear(W: np.ndarray, X: np.ndarray) -> np.ndarray:
    return X @ W.T


def _network(W1: np.ndarray, b1: np.ndarray, W2: np.ndarray, b2: np.ndarray, X: np.ndarray) -> np.ndarray:
    return np.maximum(0, X @ W1.T + b1) @ W2.T + b2


@pytest.mark.parametrize("loss", ["svm", "softmax", "two_layer_net"])
@pytest.mark.parametrize("optimizer", RATES)
def test_every_optimizer_learns_to_read_digits(
    descent: ModuleType,
    digits: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    peer: Any,
    loss: str,
    optimizer: str,
) -> None:
    X, y, X_test, y_test = digits
    rng = np.random.default_rng(7)
    if loss == "two_layer_net":
        first, second = descent.initial_weights((64, 65), 0.17, rng), descent.initial_weights((10, 64), 0.17, rng)
        start: tuple[np.ndarray, ...] = (first, np.zeros(64), second, np.zeros(10))
    else:
        start = (descent.initial_weights((10, 65), 0.01, rng),)
    run = functools.partial(
        descent.minibatch_descent,
        functools.partial(compile(find(loss)).loss_and_grad, reg=1e-5),
        start,
        (X, y),
        optimizer=compile(find(optimizer)),
        batch_size=256,
        seed=1,
        learning_rate=RATES[optimizer][("svm", "softmax", "two_layer_net").index(loss)],
    )
    # Threads that share such small matrices mostly wait for each other.
    with peer("threadpoolctl").threadpool_limits(1):
        result = run(steps=400)
        again = run(steps=20)
    assert len(result.losses) == 400
    assert result.losses[:20] == again.losses
    scores = (_network if loss == "two_layer_net" else _linear)(*result.params, X_test)
    accuracy = (scores.argmax(axis=1) == y_test).mean()
    assert accuracy >= (0.94 if optimizer == "adam" else 0.90)
