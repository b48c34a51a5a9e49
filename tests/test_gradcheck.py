"""The gradient check on anybody's functions: no right gradient refused, no wrong one let through, every fault named."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from handwritten import (
    lasso_grad,
    lasso_loss,
    net_grad,
    net_loss,
    robust_grad,
    robust_loss,
    softmax_grad,
    softmax_loss,
    svm_grad,
    svm_loss,
)

import derive
from derive.gradient_check import check_gradient, gradcheck
from derive.slopes import AGREES, KINK, WRONG, noise_level, slope_at_zero


def hinge(w, x):
    return float(np.sum(np.maximum(0, w * x)))


def hinge_grad(w, x):
    return (w * x > 0) * x


def problem(seed):
    """Five right pairs at a random point: anywhere, at exact ties, or 1e-9 to 1e-4 away from ties."""
    rng = np.random.default_rng(seed)
    n, d, c, h = rng.integers(1, 7), rng.integers(1, 5), rng.integers(2, 5), rng.integers(1, 4)
    kind = ("anywhere", "at ties", "near ties")[seed % 3]
    scale, distance = 10.0 ** rng.integers(-2, 3), 10.0 ** rng.uniform(-9, -4)

    def array(*shape):
        if kind == "anywhere":
            return rng.normal(size=shape) * scale
        whole = rng.integers(-1, 2, shape).astype(float)
        return whole if kind == "at ties" else whole + distance * rng.choice([-1, 0, 1], shape) * rng.random(shape)

    X, y, t = array(n, d), rng.integers(0, c, n), array(n)
    delta, reg = float(rng.integers(0, 2)), float(rng.integers(0, 2)) / 7
    return {
        "svm": (svm_loss, svm_grad, (array(c, d), X, y), {"delta": delta, "reg": reg}),
        "softmax": (softmax_loss, softmax_grad, (array(c, d), X, y), {}),
        "net": (net_loss, net_grad, (array(h, d), array(h), array(h), X, t), {}),
        "lasso": (lasso_loss, lasso_grad, (array(d), X, t), {"reg": 0.3}),
        "robust": (robust_loss, robust_grad, (array(d), X, t), {}),
    }


def test_right_gradients_are_never_refused():
    """1200 checks of some 8000 elements: at random points, at exact ties and 1e-9 to 1e-4 away from ties."""
    refused = []
    for seed in range(240):
        for name, (loss, grad, args, hyperparameters) in problem(seed).items():
            if not gradcheck(loss, grad, *args, **hyperparameters):
                refused.append((name, seed))
    assert refused == []


@pytest.mark.parametrize("seed", [458, 1133, 1631, 2255, 2447, 8834])
def test_points_that_were_hard_once(seed):
    """A gap of 1e-9 between kinks; a loss whose rounding does not show on a grid of powers of 2; and so on."""
    for loss, grad, args, hyperparameters in problem(seed).values():
        assert gradcheck(loss, grad, *args, **hyperparameters)


FAULTS = {
    "sign": lambda g: -g,
    "a missing 1/N": lambda g: g * 7,
    "off by 1e-6": lambda g: g * (1 + 1e-6),
    "one element zero": lambda g: np.where(np.abs(g) == np.abs(g).max(), 0, g),
    "rolled by one": lambda g: np.roll(g, 1),
    "half": lambda g: g / 2,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_gradients_are_never_let_through(fault):
    passed = []
    for seed in range(0, 60, 3):  # points anywhere
        for name, (loss, grad, args, hyperparameters) in problem(seed).items():
            right = grad(*args, **hyperparameters)
            parts = right if isinstance(right, tuple) else (right,)
            wrong = tuple(FAULTS[fault](np.asarray(p)) for p in parts)
            change = max(np.max(np.abs(w - p)) for w, p in zip(wrong, parts, strict=True))
            size = max(np.max(np.abs(p)) for p in parts)
            if change <= 1e-7 * size or size < 1e-3 * max(abs(loss(*args, **hyperparameters)), 1e-3):
                continue  # the fault changes nothing, or the gradient is lost beside the loss
            result = gradcheck(loss, lambda *a, w=wrong, **k: w if len(w) > 1 else w[0], *args, **hyperparameters)
            if result:
                passed.append((name, seed))
    assert passed == []


def test_a_single_wrong_element_among_many_is_found_by_random_directions():
    rng = np.random.default_rng(0)
    W, X, y = rng.normal(size=(10, 500)), rng.normal(size=(30, 500)), rng.integers(0, 10, 30)

    def wrong(*args):
        g = svm_grad(*args)
        g[3, 17] += 0.01
        return g

    result = check_gradient(svm_loss, wrong, (W, X, y), max_elements=20)
    assert not result
    assert len(result.parameters[0].elements) == 20
    assert "20 of 5000" in str(result)
    assert check_gradient(svm_loss, svm_grad, (W, X, y), max_elements=20)


# ------------------------------------------------------------------------------------------------------------- kinks


def test_a_kink_is_reported_and_its_slopes_shown():
    result = gradcheck(hinge, hinge_grad, np.array([1.0, 0.0]), np.array([3.0, 4.0]))
    assert result.passed
    (kink,) = result.kinks
    assert kink.index == (1,)
    assert kink.left == pytest.approx(0, abs=1e-9)
    assert kink.right == pytest.approx(4)
    assert "on a kink" in str(result)


@pytest.mark.parametrize(("value", "right"), [(0.0, True), (4.0, True), (2.5, True), (4.1, False), (-0.1, False)])
def test_at_a_kink_every_subgradient_is_right_and_nothing_else(value, right):
    point, factor = np.array([0.0]), np.array([4.0])
    assert gradcheck(hinge, lambda w, x: np.array([value]), point, factor).passed is right


@pytest.mark.parametrize("distance", [1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9])
@pytest.mark.parametrize("side", [-1, 1])
def test_beside_a_kink_only_the_one_right_slope_passes_while_differences_can_tell(distance, side):
    point, factor = np.array([side * distance]), np.array([1.0])
    assert gradcheck(hinge, hinge_grad, point, factor)
    if distance > 1e-9:
        assert not gradcheck(hinge, lambda w, x: np.array([0.5]), point, factor)
        assert not gradcheck(hinge, lambda w, x: 1 - hinge_grad(w, x), point, factor)


def test_a_steep_smooth_function_is_not_taken_for_a_kink():
    def steep(w):
        return float(np.logaddexp(0, 1e5 * w).sum() / 1e5)

    for w in (0.0, 1e-6, -1e-5, 1e-4):
        result = gradcheck(steep, lambda w: 1 / (1 + np.exp(-1e5 * w)), np.array([w]))
        assert result
        assert not result.kinks
        assert not gradcheck(steep, lambda w: 1 / (1 + np.exp(-1e5 * w)) + 0.01, np.array([w]))


def test_a_step_that_leaves_the_domain_is_made_smaller():
    point = np.array([1e-6, 1e-3, 1.0])
    assert gradcheck(lambda w: float(np.log(w).sum()), lambda w: 1 / w, point)
    assert gradcheck(lambda w: sum(map(math.log, w)), lambda w: 1 / w, point)
    assert not gradcheck(lambda w: float(np.log(w).sum()), lambda w: 1.001 / w, point)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6, 1e12])
def test_the_size_of_the_loss_does_not_matter(scale):
    rng = np.random.default_rng(1)
    args = (rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.integers(0, 3, 5))
    for wrongness in (0.0, 1e-5):
        result = gradcheck(
            lambda *a: scale * softmax_loss(*a), lambda *a, w=wrongness: scale * softmax_grad(*a) * (1 + w), *args
        )
        assert result.passed is (wrongness == 0)


def test_computing_in_float32_inside_is_noise_not_a_fault():
    rng = np.random.default_rng(1)
    args = (rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.integers(0, 3, 5))

    def low(W, X, y):
        return np.float32(softmax_loss(W.astype(np.float32), X.astype(np.float32), y))

    assert gradcheck(low, softmax_grad, *args)
    assert not gradcheck(low, lambda *a: 1.05 * softmax_grad(*a), *args)


def test_the_taylor_order_tells_right_from_wrong():
    rng = np.random.default_rng(1)
    args = (rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.integers(0, 3, 5))
    assert gradcheck(softmax_loss, softmax_grad, *args).taylor_order == pytest.approx(2, abs=0.1)
    assert gradcheck(softmax_loss, lambda *a: 2 * softmax_grad(*a), *args).taylor_order == pytest.approx(1, abs=0.1)


# --------------------------------------------------------------------------------------------------- what goes in


def test_one_line_in_a_test_of_ones_own():
    rng = np.random.default_rng(0)
    W, X, y = rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.integers(0, 3, 5)
    assert derive.gradcheck(svm_loss, svm_grad, W, X, y, delta=2.0)


def test_the_message_of_a_failed_assertion_says_where_and_what():
    result = gradcheck(hinge, lambda w, x: 2 * hinge_grad(w, x), np.array([1.0]), np.array([3.0]))
    assert repr(result) == "<gradient WRONG at 1 of 1: argument 0[0] is 6, should be 3 ± 6e-11>" or (
        "argument 0[0] is 6, should be 3" in repr(result)
    )
    assert len(repr(result)) < 240  # pytest cuts what is longer


def test_parameters_may_stand_anywhere_and_be_several():
    def product(a, b, c):
        b = np.asarray(b)
        return float(a * np.sum(b) * c)

    assert gradcheck(product, lambda a, b, c: np.full(3, a * c), 2.0, np.ones(3), 5.0, wrt=1)
    assert gradcheck(product, lambda a, b, c: b.sum() * c, 2.0, np.ones(3), 5.0)
    everything = lambda a, b, c: (b.sum() * c, np.full(3, a * c), a * b.sum())  # noqa: E731
    result = gradcheck(product, everything, 2.0, np.ones(3), 5.0)
    assert result
    assert [p.name for p in result.parameters] == ["argument 0", "argument 1", "argument 2"]
    assert gradcheck(product, lambda a, b, c: everything(a, b, c)[::-1], 2.0, np.ones(3), 5.0, wrt=(2, 1, 0))
    assert not gradcheck(product, lambda a, b, c: everything(a, b, c)[::-1], 2.0, np.ones(3), 6.0, wrt=(0, 1, 2))


def test_named_tuples_lists_integers_and_float32_go_in():
    rng = np.random.default_rng(0)
    args = [rng.normal(size=s) for s in ((2, 3), (2,), (2,), (4, 3), (4,))]
    assert len(gradcheck(net_loss, net_grad, *args).parameters) == 3
    assert gradcheck(hinge, hinge_grad, [1, 2, -1], np.ones(3, np.float32))
    low = gradcheck(hinge, hinge_grad, np.ones(3, np.float32), np.ones(3))
    assert low
    assert "argument 0 was raised from float32 to float64" in str(low)


def test_empty_parameters_are_right():
    assert gradcheck(lambda w: float(np.sum(w)), np.ones_like, np.zeros((0, 3)))


# --------------------------------------------------------------------------------------------------- what goes wrong


def raises(*args):
    raise RuntimeError("no such luck")


def spoils(w, x):
    w *= 2
    return hinge(w, x)


def spoils_grad(w, x):
    g = hinge_grad(w, x)
    x[0] = 7
    return g


@pytest.mark.parametrize(
    ("loss", "grad", "fault"),
    [
        (raises, hinge_grad, "loss raised RuntimeError: no such luck"),
        (hinge, raises, "grad raised RuntimeError: no such luck"),
        (hinge, lambda w, x: hinge_grad(w, x)[:1], r"grad returned shape (1,) for argument 0, which has shape (2,)"),
        (hinge, lambda w, x: np.sum(w), r"grad returned shape () for argument 0, which has shape (2,)"),
        (hinge, lambda w, x: np.array([1, np.nan]), "grad returned nan for argument 0[1]"),
        (hinge, lambda w, x: None, "grad returned shape (0,) for argument 0"),
        (hinge, lambda w, x: {"w": w}, "grad returned no array of numbers for argument 0"),
        (hinge, lambda w, x: (w, x, x), "grad returned 3 arrays, but there are only 2 arguments from position 0 on"),
        (lambda w, x: w * x, hinge_grad, "loss returned an array of shape (2,), not one number"),
        (lambda w, x: math.inf, hinge_grad, "loss returned inf"),
        (spoils, hinge_grad, "loss changed argument 0 in place"),
        (hinge, spoils_grad, "grad changed argument 1 in place"),
        (lambda w, x: hinge(w, x) + np.random.default_rng().random(), hinge_grad, "loss is not repeatable"),
    ],
)
def test_what_is_not_a_matter_of_numbers_is_reported_as_that(loss, grad, fault):
    point, factor = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    result = gradcheck(loss, grad, point, factor)
    assert not result
    assert fault in str(result)
    assert fault in repr(result) or "not repeatable" in fault
    np.testing.assert_array_equal(point, [1, 2])
    np.testing.assert_array_equal(factor, [3, 4])


def test_a_wrong_position_is_the_callers_error():
    with pytest.raises(ValueError, match="no argument 2 among 2"):
        gradcheck(hinge, hinge_grad, np.ones(1), np.ones(1), wrt=2)
    with pytest.raises(TypeError, match="argument 1 is a parameter and must hold real numbers"):
        gradcheck(hinge, hinge_grad, np.ones(1), "x", wrt=1)


def test_the_callers_arrays_are_never_touched_and_never_seen_changed():
    point = np.array([1.0, -2.0])
    point.setflags(write=False)
    assert gradcheck(hinge, hinge_grad, point, np.ones(2))


def test_the_number_of_calls_is_said_beforehand_and_counted():
    said = []
    result = check_gradient(hinge, hinge_grad, (np.ones(10), np.ones(10)), say=said.append)
    assert said == ["10 of 10 elements, about 240 calls of the loss, about 0 s"]
    assert 40 < result.calls <= 240


def test_results_do_not_depend_on_the_hash_seed():
    code = (
        "import numpy as np; from derive.gradient_check import gradcheck;"
        "w = np.linspace(-1, 1, 500);"
        "print(gradcheck(lambda w: float(np.sum(np.abs(w))), np.sign, w))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1
    assert b"400 of 500" in outputs.pop()


# ------------------------------------------------------------------------------------------------- one variable


def verdict(function, analytic, noise=2.0**-52):
    return slope_at_zero(
        function, analytic, value=function(0.0), noise=noise, step=1e-4, typical=1.0, smallest=1e-13
    ).verdict


def test_one_variable():
    assert verdict(math.exp, 1.0) == AGREES
    assert verdict(math.exp, 1.0 + 1e-8) == WRONG
    assert verdict(abs, 0.3) == KINK
    assert verdict(abs, 1.3) == WRONG
    assert verdict(lambda t: abs(t - 1e-7), -1.0) == AGREES
    assert verdict(lambda t: abs(t - 1e-7), 1.0) == WRONG
    assert verdict(lambda t: math.nan, 1.0) == WRONG
    assert verdict(lambda t: max(0.0, t) + t * t, 0.5) == KINK


def test_noise_is_measured_where_it_is_and_not_where_it_is_not():
    rng = np.random.default_rng(0)
    noisy = {t: rng.normal() * 1e-10 for t in range(1, 9)}
    measured = noise_level(lambda t: math.exp(t) + noisy[round(t / 1e-13)], 1e-13)
    assert 2e-11 < measured < 5e-10
    assert noise_level(lambda t: 1.0, 1e-13) == 0
