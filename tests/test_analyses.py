"""The three problems of SGD: every claim is proved, and every number shows itself in runs of the generated code."""

from __future__ import annotations

import dataclasses
import importlib
import math
from itertools import combinations
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sympy import Expr

from derive.analyses import ANALYSES, Analysis, verify
from derive.catalogue import find
from derive.claims import Identity
from derive.errors import VerificationError
from derive.loops import DivergenceError, gradient_descent, minibatch_descent
from derive.render import compile

# The package offers the analyses under the names of their modules.
bowl_theory = importlib.import_module("derive.analyses.conditioning")
saddle_theory = importlib.import_module("derive.analyses.saddles")
noise_theory = importlib.import_module("derive.analyses.noise")


@pytest.fixture(scope="module")
def generated() -> dict[str, ModuleType]:
    names = ("quadratic", "saddle", "softmax", "sgd", "momentum", "adagrad", "rmsprop")
    return {name: compile(find(name)) for name in names}


def number(expr: Expr, **values: float) -> float:
    """A formula of an analysis with numbers put in for its symbols, by name."""
    return float(expr.subs({s: values[s.name] for s in expr.free_symbols}))


def path(
    loss: ModuleType, start: Any, *, steps: int, hyper: dict[str, float] | None = None, **options: Any
) -> np.ndarray:
    """The points of a run, the start first and the end last."""
    points: list[np.ndarray] = []

    def loss_and_grad(x: np.ndarray) -> tuple[float, np.ndarray]:
        return loss.loss_and_grad(x, **(hyper or {}))  # type: ignore[no-any-return]

    result = gradient_descent(
        loss_and_grad, np.array(start, float), steps=steps, callback=lambda _, __, x: points.append(x), **options
    )
    return np.array([*points, result.params])


# -- proofs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda a: a.name)
def test_every_claim_is_proved_and_told(analysis: Analysis) -> None:
    assert [proof.number for proof in analysis.proofs] == list(range(1, len(analysis.claims) + 1))
    titles = [claim.title for claim in analysis.claims]
    assert len(set(titles)) == len(titles)
    for proof in analysis.proofs:
        assert proof.steps or proof.statement
        assert proof.title in str(analysis)


def test_the_build_can_ask_for_all_of_them_at_once() -> None:
    assert verify() == f"the three problems of SGD: {sum(len(a.claims) for a in ANALYSES)} claims proved"


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda a: a.name)
def test_a_claim_that_is_false_is_caught(analysis: Analysis) -> None:
    """Each identity with one side raised by 1, and each other claim with its own kind of slip."""
    spoilt = 0
    for claim in analysis.claims:
        if isinstance(claim, Identity):
            false = dataclasses.replace(claim, right=claim.right + 1)
        elif hasattr(claim, "sign"):
            false = dataclasses.replace(claim, expr=-claim.expr)
        elif hasattr(claim, "roots"):
            false = dataclasses.replace(claim, roots=[2 * r + 1 for r in claim.roots])
        elif hasattr(claim, "formula"):
            false = dataclasses.replace(claim, formula=claim.formula + 1)
        elif hasattr(claim, "point"):
            false = dataclasses.replace(claim, value=claim.value + 1)
        else:
            false = dataclasses.replace(claim, relation={q: 2 * e + 1 for q, e in claim.relation.items()})
        with pytest.raises(VerificationError, match=analysis.name):
            _ = dataclasses.replace(analysis, claims=(false,)).proofs
        spoilt += 1
    assert spoilt == len(analysis.claims)


# -- fast in one direction, slow in another --------------------------------------------------------------------------


def test_coordinates_are_powers_of_their_factors(generated: dict[str, ModuleType]) -> None:
    kappa, rate, t = 25.0, 0.07, np.arange(41)
    points = path(
        generated["quadratic"],
        [2.0, -3.0],
        steps=40,
        hyper={"kappa": kappa},
        optimizer=generated["sgd"],
        learning_rate=rate,
    )
    shallow, steep = (number(bowl_theory.factor(bowl_theory.c), c=c, learning_rate=rate) for c in (1.0, kappa))
    assert (shallow, steep) == pytest.approx((0.93, -0.75))
    np.testing.assert_allclose(points[:, 0], 2 * shallow**t, rtol=1e-12)
    np.testing.assert_allclose(points[:, 1], -3 * steep**t, rtol=1e-12)


@pytest.mark.parametrize(("times_2_over_a", "stays"), [(0.999, True), (1.001, False)])
def test_two_over_the_curvature_is_the_border(
    generated: dict[str, ModuleType], times_2_over_a: float, stays: bool
) -> None:
    points = path(
        generated["quadratic"],
        [1.0, 1.0],
        steps=3000,
        hyper={"kappa": 50.0},
        optimizer=generated["sgd"],
        learning_rate=times_2_over_a * 2 / 50,
    )
    assert (abs(points[-1, 1]) < 0.01) == stays
    assert (abs(points[-1, 1]) > 100) != stays


def test_far_beyond_the_border_the_run_is_stopped(generated: dict[str, ModuleType]) -> None:
    with np.errstate(over="ignore"), pytest.raises(DivergenceError, match="learning rate"):
        path(generated["quadratic"], [1.0, 1.0], steps=3000, optimizer=generated["sgd"], learning_rate=1.0)


@pytest.mark.parametrize(("times_1_over_a", "zigzag"), [(0.9, False), (1.1, True), (1.9, True)])
def test_above_one_over_the_curvature_the_path_zigzags(
    generated: dict[str, ModuleType], times_1_over_a: float, zigzag: bool
) -> None:
    points = path(
        generated["quadratic"],
        [1.0, 1.0],
        steps=20,
        hyper={"kappa": 50.0},
        optimizer=generated["sgd"],
        learning_rate=times_1_over_a / 50,
    )
    changes = np.count_nonzero(np.diff(np.sign(points[:, 1])))
    assert changes == (20 if zigzag else 0)
    assert (np.sign(points[:, 0]) == 1).all()  # along the valley nothing swings


def _slowest_factor(points: np.ndarray) -> float:
    """The factor by which the larger coordinate shrinks, over the second half of a run."""
    half = len(points) // 2
    sizes = np.abs(points).max(axis=1)
    return float((sizes[-1] / sizes[half]) ** (1 / (len(points) - 1 - half)))


@pytest.mark.parametrize("kappa", [4.0, 25.0])
def test_the_best_rate_of_plain_descent(generated: dict[str, ModuleType], kappa: float) -> None:
    def measured(rate: float) -> float:
        return _slowest_factor(
            path(
                generated["quadratic"],
                [1.0, 1.0],
                steps=200,
                hyper={"kappa": kappa},
                optimizer=generated["sgd"],
                learning_rate=rate,
            )
        )

    best_rate = number(bowl_theory.BEST_RATE, a=kappa, b=1.0)
    assert measured(best_rate) == pytest.approx(number(bowl_theory.BEST, kappa=kappa), rel=1e-9)
    assert measured(best_rate) == pytest.approx((kappa - 1) / (kappa + 1), rel=1e-9)
    for other in (0.8, 0.99, 1.01, 1.2):
        assert measured(other * best_rate) > measured(best_rate)


def test_the_best_rate_with_momentum(generated: dict[str, ModuleType]) -> None:
    kappa = 25.0

    def measured(rate: float, rho: float) -> float:
        assert rate * kappa < 2 * (1 + rho), "beyond this the run diverges"
        points = path(
            generated["quadratic"],
            [1.0, 1.0],
            steps=400,
            hyper={"kappa": kappa},
            optimizer=generated["momentum"],
            learning_rate=rate,
            rho=rho,
        )
        return _slowest_factor(points)

    best = number(bowl_theory.BEST_WITH_MOMENTUM, kappa=kappa)
    best_rate = number(bowl_theory.BEST_RATE_WITH_MOMENTUM, a=kappa, b=1.0)
    assert best == pytest.approx(2 / 3)
    # At a double root the size is (1 + d t) z^t, so that steps 200 to 400 shrink by 2^(1/200) less than z each.
    assert measured(best_rate, best**2) == pytest.approx(best * 2 ** (1 / 200), rel=1e-3)
    grid = [measured(best_rate * m, r) for m in (0.5, 0.8, 0.98, 1.02) for r in (0.43, 0.46, 0.6, 0.9)]
    assert min(grid) > best
    assert number(bowl_theory.BEST, kappa=kappa) > 0.92


def test_the_roots_of_momentum_are_its_path(generated: dict[str, ModuleType]) -> None:
    rate, rho, curvature = 0.01, 0.5, 4.0  # real roots
    points = path(
        generated["quadratic"],
        [0.0, 1.0],
        steps=30,
        hyper={"kappa": curvature},
        optimizer=generated["momentum"],
        learning_rate=rate,
        rho=rho,
    )
    polynomial = bowl_theory.characteristic(bowl_theory.c)
    z = [number(root, c=curvature, learning_rate=rate, rho=rho) for root in bowl_theory.WITH_MOMENTUM[1].roots]
    assert z == pytest.approx(np.roots([1.0, -(1 + rho - rate * curvature), rho]), rel=1e-12)
    assert number(polynomial, c=curvature, learning_rate=rate, rho=rho, z=z[0]) == pytest.approx(0, abs=1e-12)
    # x(t) = A z1^t + B z2^t through x(0) = 1 and x(1) = 1 - rate * curvature.
    A = (1 - rate * curvature - z[1]) / (z[0] - z[1])
    np.testing.assert_allclose(points[:, 1], [A * z[0] ** t + (1 - A) * z[1] ** t for t in range(31)], rtol=1e-9)


@pytest.mark.parametrize("rule", ["adagrad", "rmsprop"])
def test_adaptive_rules_move_alike_in_both_directions(generated: dict[str, ModuleType], rule: str) -> None:
    points = path(
        generated["quadratic"],
        [1.0, 1.0],
        steps=100,
        hyper={"kappa": 1000.0},
        optimizer=generated[rule],
        learning_rate=0.05,
        epsilon=0.0,
    )
    np.testing.assert_allclose(points[:, 1], points[:, 0], rtol=1e-9)
    assert abs(points[-1, 0]) < 0.7
    if rule == "adagrad":
        assert points[1].tolist() == pytest.approx([0.95, 0.95], rel=1e-12)


def test_rmsprop_jumps_to_and_fro_by_a_learning_rate(generated: dict[str, ModuleType]) -> None:
    points = path(
        generated["quadratic"],
        [1.0, 1.0],
        steps=1000,
        hyper={"kappa": 10.0},
        optimizer=generated["rmsprop"],
        learning_rate=0.02,
        decay_rate=0.9,
        epsilon=0.0,
    )
    np.testing.assert_allclose(np.abs(points[-10:]), 0.01, rtol=1e-6)
    assert (np.diff(np.sign(points[-10:]), axis=0) != 0).all()


# -- local minima and saddle points ------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [(0.0, 0.0), (0.0, 1.0), (0.0, -1.0)])
def test_without_a_gradient_nothing_moves(generated: dict[str, ModuleType], at: tuple[float, float]) -> None:
    assert not generated["saddle"].grad(np.array(at)).any()
    for rule in ("sgd", "momentum"):
        points = path(generated["saddle"], at, steps=10, optimizer=generated[rule], learning_rate=0.1)
        assert (points == at).all()


def test_curvatures_of_the_saddle(generated: dict[str, ModuleType]) -> None:
    h = 1e-5
    for at, expected in (((0.0, 0.0), -1.0), ((0.0, 1.0), 2.0), ((0.0, -1.0), 2.0)):
        ahead, behind = (generated["saddle"].grad(np.array([at[0], at[1] + d]))[1] for d in (h, -h))
        assert (ahead - behind) / (2 * h) == pytest.approx(expected, rel=1e-8)


def test_momentum_coasts_over_a_flat_stretch(generated: dict[str, ModuleType]) -> None:
    x, flat = np.array([5.0]), np.zeros(1)
    momentum, rate, rho, velocity = generated["momentum"], 0.1, 0.9, -2.0
    state = momentum.init(x)
    state.velocity[:] = velocity
    for t in range(1, 501):
        momentum.step(x, flat, state, learning_rate=rate, rho=rho)
        if t in (1, 7):
            coasted = rate * velocity * rho * (1 - rho**t) / (1 - rho)
            assert x[0] == pytest.approx(5 - coasted, rel=1e-12)
    length = saddle_theory.STANDING_STILL[-1].value
    assert x[0] - 5 == pytest.approx(-number(length, learning_rate=rate, rho=rho, v_0=velocity), rel=1e-12)
    assert x[0] - 5 == pytest.approx(9 * rate * 2, rel=1e-9)


def test_from_the_ridge_plain_descent_ends_at_the_saddle_point(generated: dict[str, ModuleType]) -> None:
    for rule in ("sgd", "momentum"):  # momentum along the ridge is no help
        points = path(generated["saddle"], [1.0, 0.0], steps=1000, optimizer=generated[rule], learning_rate=0.1)
        assert (points[:, 1] == 0).all()
        assert abs(points[-1, 0]) < 1e-9


def test_a_velocity_across_the_ridge_carries_off_it(generated: dict[str, ModuleType]) -> None:
    momentum, saddle, x = generated["momentum"], generated["saddle"], np.array([0.0, 0.0])
    state = momentum.init(x)
    state.velocity[1] = -1e-6
    momentum.step(x, saddle.grad(x), state, learning_rate=0.1, rho=0.9)
    assert x[1] == pytest.approx(0.1 * 0.9 * 1e-6, rel=1e-12)
    for _ in range(500):
        momentum.step(x, saddle.grad(x), state, learning_rate=0.1, rho=0.9)
    np.testing.assert_allclose(x, [0.0, 1.0], atol=1e-6)


def test_the_time_to_escape_is_logarithmic(generated: dict[str, ModuleType]) -> None:
    rate, out = 0.1, 0.01

    def measured(distance: float) -> int:
        points = path(generated["saddle"], [0.0, distance], steps=400, optimizer=generated["sgd"], learning_rate=rate)
        return int(np.argmax(points[:, 1] >= out))

    counts = []
    for exponent in range(4, 14):
        predicted = number(saddle_theory.STEPS_OUT, b=1.0, d=out, e=10.0**-exponent, learning_rate=rate)
        counts.append(measured(10.0**-exponent))
        # The quartic term is below 1e-4 of the gradient up to here, and the count is a whole number.
        assert counts[-1] == pytest.approx(predicted, abs=1.05)
    assert np.diff(counts) == pytest.approx(math.log(10) / math.log(1.1), abs=1)
    assert counts[-1] > counts[0] + 200


def test_momentum_escapes_faster(generated: dict[str, ModuleType]) -> None:
    rate, rho = 0.01, 0.9
    points = path(
        generated["saddle"], [0.0, 1e-12], steps=150, optimizer=generated["momentum"], learning_rate=rate, rho=rho
    )
    growth = number(saddle_theory.GROWTH_WITH_MOMENTUM, learning_rate=rate, rho=rho, b=1.0)
    assert points[-1, 1] / points[-2, 1] == pytest.approx(growth, rel=1e-6)
    assert growth > number(saddle_theory.GROWTH, learning_rate=rate, b=1.0)
    small = 1e-6
    times = (number(saddle_theory.GROWTH_WITH_MOMENTUM, learning_rate=small, rho=rho, b=1.0) - 1) / small
    assert times == pytest.approx(10, rel=1e-3)


# -- noise -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, 7))
def test_mean_and_variance_over_all_batches_there_are(generated: dict[str, ModuleType], size: int) -> None:
    rng = np.random.default_rng(0)
    N = 6
    W, X, y = rng.standard_normal((3, 4)), rng.standard_normal((N, 4)), np.array([0, 1, 2, 0, 1, 1])
    grad = generated["softmax"].grad
    each = np.array([grad(W, X[[i]], y[[i]]) for i in range(N)])
    batches = np.array([grad(W, X[list(rows)], y[list(rows)]) for rows in combinations(range(N), size)])
    assert len(batches) == math.comb(N, size)
    np.testing.assert_allclose(batches.mean(axis=0), grad(W, X, y), atol=1e-14)
    factor = number(noise_theory.FACTOR, N=N, B=size)
    np.testing.assert_allclose(batches.var(axis=0), each.var(axis=0) / size * factor, atol=1e-14)


@pytest.mark.parametrize("size", [1, 4, 16])
def test_the_batches_that_are_drawn_have_this_variance(size: int) -> None:
    """At a point that does not move (learning rate 0), over the first batches of many runs."""
    examples = np.random.default_rng(1).standard_normal(20)
    drawn: list[float] = []

    def loss_and_grad(x: Any, batch: np.ndarray) -> tuple[float, float]:
        drawn.append(float((x - batch).mean()))
        return 0.0, 0.0

    class Still:
        @staticmethod
        def init(params: np.ndarray) -> None: ...

        @staticmethod
        def step(params: np.ndarray, grad: np.ndarray, state: None) -> None: ...

    for seed in range(4000):
        minibatch_descent(loss_and_grad, 0.0, (examples,), optimizer=Still, steps=1, batch_size=size, seed=seed)
    expected = examples.var() / size * number(noise_theory.FACTOR, N=20, B=size)
    # 4000 draws: the standard error of a mean is 1.6 % of the deviation, that of a variance about 2.2 %.
    assert np.mean(drawn) == pytest.approx(-examples.mean(), abs=0.07 * math.sqrt(expected))
    assert np.var(drawn) == pytest.approx(expected, rel=0.1)


PARTICLES = 40_000  # the relative standard error of a variance is sqrt(2/40000) = 0.7 %


@pytest.mark.parametrize(("rate", "curvature"), [(0.1, 1.0), (0.05, 8.0), (0.6, 2.5)])
def test_the_variance_settles_where_the_recurrence_says(
    generated: dict[str, ModuleType], rate: float, curvature: float
) -> None:
    sgd, rng, sigma = generated["sgd"], np.random.default_rng(3), 2.0
    x = np.zeros(PARTICLES)
    state = sgd.init(x)
    q = (1 - rate * curvature) ** 2
    for t in range(1, 121):
        sgd.step(x, curvature * x + sigma * rng.standard_normal(PARTICLES), state, learning_rate=rate)
        if t in (1, 2, 5, 20, 120):
            expected = number(noise_theory.VARIANCE, learning_rate=rate, sigma=sigma, q=q, t=t)
            assert x.var() == pytest.approx(expected, rel=0.035)
    level = number(noise_theory.LEVEL, learning_rate=rate, sigma=sigma, c=curvature)
    assert x.var() == pytest.approx(level, rel=0.035)
    assert level == pytest.approx(rate * sigma**2 / (curvature * (2 - rate * curvature)))


def test_the_level_with_momentum(generated: dict[str, ModuleType]) -> None:
    momentum, rng = generated["momentum"], np.random.default_rng(4)
    rate, rho, curvature, sigma = 0.05, 0.8, 2.0, 1.5
    x = np.zeros(PARTICLES)
    state = momentum.init(x)
    for _ in range(200):
        gradient = curvature * x + sigma * rng.standard_normal(PARTICLES)
        momentum.step(x, gradient, state, learning_rate=rate, rho=rho)
    values = {"learning_rate": rate, "rho": rho, "c": curvature, "sigma": sigma}
    xx, xv, vv = (number(level, **values) for level in noise_theory.LEVEL_WITH_MOMENTUM.values())
    assert x.var() == pytest.approx(xx, rel=0.035)
    assert state.velocity.var() == pytest.approx(vv, rel=0.035)
    assert np.cov(x, state.velocity)[0, 1] == pytest.approx(xv, abs=0.035 * math.sqrt(xx * vv))


def test_shuffled_passes_settle_lower_than_batches_drawn_afresh(generated: dict[str, ModuleType]) -> None:
    """2000 data sets at once, one in each column; x finds their means."""
    rng, N, B, rate = np.random.default_rng(6), 256, 32, 0.1
    examples = rng.standard_normal((N, 2000))
    spread = (examples.var(axis=0) / B).mean() * number(noise_theory.FACTOR, N=N, B=B)
    level = number(noise_theory.LEVEL, learning_rate=rate, sigma=math.sqrt(spread), c=1.0)
    means, sgd = examples.mean(axis=0), generated["sgd"]

    def loss_and_grad(x: np.ndarray, batch: np.ndarray) -> tuple[float, np.ndarray]:
        return 0.0, x - batch.mean(axis=0)

    squares: list[float] = []
    minibatch_descent(
        loss_and_grad,
        means,
        (examples,),
        optimizer=sgd,
        steps=160,
        batch_size=B,
        seed=0,
        callback=lambda step, _, x: squares.append(float(((x - means) ** 2).mean())),
        learning_rate=rate,
    )
    shuffled = np.mean(squares[80:])
    x, state, squares = means.copy(), sgd.init(means), []
    for _ in range(160):
        rows = rng.permutation(N)[:B]
        sgd.step(x, x - examples[rows].mean(axis=0), state, learning_rate=rate)
        squares.append(float(((x - means) ** 2).mean()))
    assert np.mean(squares[80:]) == pytest.approx(level, rel=0.15)
    assert 0.1 * level < shuffled < 0.6 * level


def test_a_falling_learning_rate_gets_rid_of_the_noise(generated: dict[str, ModuleType]) -> None:
    sgd, rng, curvature, sigma = generated["sgd"], np.random.default_rng(5), 2.0, 1.0
    x = np.zeros(PARTICLES)
    state = sgd.init(x)
    for t in range(1, 101):
        gradient = curvature * x + sigma * rng.standard_normal(PARTICLES)
        sgd.step(x, gradient, state, learning_rate=1 / (curvature * t))
        if t in (1, 10, 100):
            assert x.var() == pytest.approx(sigma**2 / (curvature**2 * t), rel=0.035)
