"""generated/numerical.py: numerical gradients of known functions, and the formulas behind them."""

from __future__ import annotations

import math
import types
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy

from derive import difference
from derive.difference import CENTRAL, FORWARD, F, Step, eps, h, x
from derive.errors import VerificationError

TEMPLATES = Path(__file__).parents[1] / "templates"


def rendered() -> str:
    return difference.page()["numerical.py"]


@pytest.fixture(scope="module")
def numerical():
    module = types.ModuleType("numerical")
    exec(compile(rendered(), "numerical.py", "exec"), module.__dict__)
    return module


# ------------------------------------------------------------------------------------------------------- the formulas


def test_the_errors_are_those_of_the_textbook():
    second, third = difference.PRIMES[2], difference.PRIMES[3]
    assert FORWARD.truncation == h / 2 * second
    assert CENTRAL.truncation == h**2 / 6 * third
    assert FORWARD.rounding == 2 * eps * F / h
    assert CENTRAL.rounding == eps * F / h
    assert sympy.simplify(CENTRAL.best_step**3 - 3 * eps * F / third) == 0
    assert sympy.simplify(FORWARD.best_step**2 - 4 * eps * F / second) == 0


def test_the_best_step_explains_the_lectures_1e_5():
    assert CENTRAL.default_step == 1e-5
    assert CENTRAL.float64_step == pytest.approx((3 * 2.0**-52) ** (1 / 3), rel=1e-12)
    assert FORWARD.default_step == 1e-8


@pytest.mark.parametrize("found", [FORWARD, CENTRAL], ids=lambda d: d.name)
def test_measured_errors_follow_the_formula(found):
    """On exp at 0 with 40 digits, where rounding plays no part, the error is the truncation formula's."""
    step = sympy.Rational(1, 10**5)
    quotient = found.quotient.replace(difference.f, sympy.exp).subs(x, 0).subs(h, step)
    predicted = found.truncation.subs(dict.fromkeys(difference.PRIMES.values(), 1)).subs(h, step)
    assert float((quotient - 1).evalf(40) / predicted) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("found", [FORWARD, CENTRAL], ids=lambda d: d.name)
def test_every_step_is_verified_and_a_wrong_one_is_named(found):
    difference.verify(found)
    for position, step in enumerate(found.steps):
        wrong = Step(step.rule, step.before, step.after.subs(h, 2 * h) if step.after.has(h) else step.after * 2)
        if isinstance(step.after, sympy.Limit):
            wrong = Step(step.rule, step.before, sympy.Limit(2 * step.after.args[0], h, 0))
        broken = replace(found, steps=(*found.steps[:position], wrong, *found.steps[position + 1 :]))
        with pytest.raises(VerificationError, match="numerical gradient") as caught:
            difference.verify(broken)
        assert step.rule in str(caught.value)


def test_the_printed_line_is_the_quotient():
    text = rendered()
    assert "slope[index] = (ahead - behind) / (2 * h)\n" in text
    assert "slope[index] = (ahead - here) / h\n" in text
    assert "h: float = 1e-5)" in text
    assert "h: float = 1e-8)" in text


def test_every_field_of_the_page_is_used():
    template = (TEMPLATES / "numerical.py.jinja").read_text(encoding="utf-8")
    for field in ("name", "kind", "default_step", "quotient", "truncation", "rounding", "best_step", "float64_step",
                  "smallest_error", "calls", "body"):  # fmt: skip
        assert f"function.{field}" in template
    assert {f.name for f in difference.FunctionPage.__dataclass_fields__.values()} == {
        "name", "kind", "default_step", "quotient", "truncation", "rounding", "best_step", "float64_step",
        "smallest_error", "calls", "body",
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------------- the module


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3), (2, 0), (2, 3, 2)])
@pytest.mark.parametrize(("name", "tolerance"), [("gradient", 1e-9), ("forward_gradient", 1e-6)])
def test_gradients_of_known_functions_in_any_shape(numerical, shape, name, tolerance):
    point = np.random.default_rng(0).normal(size=shape)
    found = getattr(numerical, name)(lambda z: np.sum(np.sin(z)) + np.sum(z) ** 2, point)
    assert found.shape == shape
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.cos(point) + 2 * point.sum(), atol=tolerance)


def test_central_differences_win_half_as_many_digits_again(numerical):
    central = abs(numerical.gradient(np.exp, 1.0) - math.e)
    forward = abs(numerical.forward_gradient(np.exp, 1.0) - math.e)
    assert central < 1e-9 < forward < 1e-6


@pytest.mark.parametrize(("name", "calls"), [("gradient", 12), ("forward_gradient", 7)])
def test_the_number_of_calls_is_the_number_stated(numerical, name, calls):
    seen = []
    getattr(numerical, name)(lambda z: seen.append(z.copy()) or 0.0, np.zeros((2, 3)))
    assert len(seen) == calls
    assert f"Calls: {'2 per element of x' if name == 'gradient' else '1 per element of x, and 1 more'}." in (
        getattr(numerical, name).__doc__
    )


def test_the_callers_array_is_never_changed(numerical):
    point = np.arange(3.0)

    def fails_at_the_third(z, calls=[]):  # noqa: B006 - counts its calls
        calls.append(z)
        z += 1  # nor does it matter if f changes its argument
        if len(calls) == 3:
            raise RuntimeError("third call")
        return float(z.sum())

    with pytest.raises(RuntimeError, match="third call"):
        numerical.gradient(fails_at_the_third, point)
    np.testing.assert_array_equal(point, np.arange(3.0))


def test_f_may_return_or_keep_its_argument(numerical):
    assert numerical.gradient(lambda z: z, 3.0) == pytest.approx(1, abs=1e-9)
    kept = []
    numerical.gradient(lambda z: kept.append(z) or 0.0, np.zeros(1))
    assert [float(z[0]) for z in kept] == [1e-5, -1e-5]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_lower_precision_is_raised_to_float64(numerical, dtype):
    found = numerical.gradient(lambda z: np.sum(z**2), np.array([1, 2, 3], dtype=dtype))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [2, 4, 6], rtol=1e-9)


def test_fractions_stay_fractions(numerical):
    found = numerical.gradient(lambda z: (z**2).sum(), np.array([Fraction(1, 3), Fraction(2)]), h=Fraction(1, 7))
    assert list(found) == [Fraction(2, 3), Fraction(4)]


@pytest.mark.parametrize(
    ("f", "point", "step", "error", "message"),
    [
        (lambda z: z, np.zeros(2), 1e-5, ValueError, r"f must return one number, got an array of shape \(2,\)"),
        (np.sum, np.zeros(2), 0.0, ValueError, "h must be positive, got 0.0"),
        (np.sum, np.zeros(2), math.nan, ValueError, "h must be positive, got nan"),
        (np.sum, np.zeros(2, complex), 1e-5, TypeError, "real numbers, got dtype complex128"),
        (np.sum, ["a"], 1e-5, TypeError, "real numbers, got dtype <U1"),
    ],
)
def test_bad_input_is_named(numerical, f, point, step, error, message):
    with pytest.raises(error, match=message):
        numerical.gradient(f, point, step)
