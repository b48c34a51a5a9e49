"""What is claimed is proved, and what is false is not."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import mpmath
import pytest
from sympy import Abs, Eq, Function, Rational, Sum, expand, lambdify, oo, sign, sqrt, symbols, sympify

from derive.catalogue import catalogue
from derive.claims import (
    Calculation,
    ClosedForm,
    Counterexample,
    Equivalence,
    Identity,
    Limit,
    NoConstant,
    Roots,
    Sign,
    Unproved,
    decaying,
    expectation,
    prove,
    variance,
)
from derive.errors import VerificationError
from derive.rule import UpdateRule

a, b = symbols("a b", positive=True)
t = symbols("t", integer=True, positive=True)
k = symbols("k", integer=True, positive=True)
g, h = symbols("g h", real=True)
time = symbols("t", positive=True)
v = Function("v")
u = Function("u", real=True)
slope = symbols("s", real=True, nonzero=True)

TRUE = [
    Identity("squares", (a + b) ** 2, a**2 + 2 * a * b + b**2),
    Identity("given", h, a**2, given={h: g * a, g: a}),
    Identity("sign", slope / sqrt(slope**2), sign(slope)),
    Identity("root", sqrt(a * g**2), sqrt(a) * Abs(g)),
    Calculation("chain", (a + b) ** 2, [("multiply out", expand((a + b) ** 2)), ("collect", a * (a + 2 * b) + b**2)]),
    Limit("geometric", (1 - a**t) / (1 - a), t, oo, value=1 / (1 - a), writing=decaying(a)),
    Limit("infinite", 1 / time, time, 0, value=oo),
    ClosedForm("geometric", v(t), a * v(t - 1) + g, 0, g * (1 - a**t) / (1 - a)),
    ClosedForm("geometric from a start", v(t), a * v(t - 1) + g, b, a**t * b + g * (1 - a**t) / (1 - a)),
    ClosedForm("steps of one length", v(t), v(t - 1) + g, b, b + g * t),
    ClosedForm("no steps", v(t), v(t - 1), b, b),
    ClosedForm("steps that decay", v(t), v(t - 1) + g * a**t, b, b + g * a * (1 - a**t) / (1 - a)),
    ClosedForm("steps that decay to a half", v(t), v(t - 1) - g * 2**-t, 0, g * (2**-t - 1)),
    ClosedForm("steps that grow", v(t), v(t - 1) + t, b, b + t * (t + 1) / 2),
    ClosedForm("sum", v(t), a * v(t - 1) + u(t), 0, Sum(a ** (t - k) * u(k), (k, 1, t))),
    ClosedForm("two back", v(t), 3 * v(t - 1) - 2 * v(t - 2), {0: 0, 1: 1}, 2**t - 1),
    Equivalence("double", {g: 2 * g}, {h: 2 * h}, {h: 5 * g}, start={g: 1}, second_start={h: 5}),
    Sign("square", a**2 + b),
    Sign("between", 1 - (1 - h) ** 2, writing={h: 2 * a / (1 + a)}),
    Roots("quadratic", Eq(h**2, a**2), h, [a, -a]),
    Counterexample("not linear", (a + b) ** 2, a**2 + b**2, at={a: 1, b: 1}),
    NoConstant("no shift", sqrt(a + h), sqrt(a) + b, h, at=[{a: 1, b: 1}, {a: 4, b: 1}]),
]

FALSE = [
    Identity("squares", (a + b) ** 2, a**2 + b**2),
    Identity("given", h, a**3, given={h: g * a, g: a}),
    Identity("true for positive g alone", sqrt(g**2), g),
    Identity("true to nine digits", a, a * (1 + Rational(1, 10**10))),
    Calculation("chain", (a + b) ** 2, [("multiply out", a**2 + b**2), ("undo", (a + b) ** 2)]),
    Limit("value", (1 - a**t) / (1 - a), t, oo, value=1 / (1 + a), writing=decaying(a)),
    Limit("finite", 1 / time, time, 0, value=1),
    Limit("infinite", time, time, 0, value=oo),
    Limit("other sign", 1 / time, time, 0, value=-oo),
    ClosedForm("wrong form", v(t), a * v(t - 1) + g, 0, g * (1 - a ** (t + 1)) / (1 - a)),
    ClosedForm("one step more", v(t), v(t - 1) + g, b, b + g * (t + 1)),
    ClosedForm("decay counted from 0", v(t), v(t - 1) + g * a**t, b, b + g * (1 - a**t) / (1 - a)),
    ClosedForm("wrong start", v(t), a * v(t - 1), 1, 2 * a**t),
    ClosedForm("wrong weights", v(t), a * v(t - 1) + u(t), 0, Sum(a ** (t - k + 1) * u(k), (k, 1, t))),
    ClosedForm("one term short", v(t), a * v(t - 1) + u(t), 0, Sum(a ** (t - k) * u(k), (k, 1, t - 1))),
    ClosedForm("right at 0 and 1", v(t), 3 * v(t - 1) - 2 * v(t - 2), {0: 0, 1: 1}, t),
    Equivalence("parts after a step", {g: 2 * g}, {h: 3 * h}, {h: 5 * g}),
    Equivalence("parts at the start", {g: 2 * g}, {h: 2 * h}, {h: 5 * g}, start={g: 1}, second_start={h: 1}),
    Sign("depends", a - b),
    Sign("zero is not positive", g**2),
    Roots("one root", Eq(h**2, a**2), h, [a]),
    Roots("wrong root", Eq(h**2, a**2), h, [a, a]),
    Counterexample("the same", (a + b) ** 2, a**2 + 2 * a * b + b**2, at={a: 1, b: 1}),
    Counterexample("rounded", a, b, at={a: 0.1, b: 0.2}),
    Counterexample("a letter is left", a * b, a * b + b, at={a: 1}),
    NoConstant("a constant does it", a + h, a + b**2, h, at=[{a: 1, b: 2}, {a: 5, b: 2}]),
]


@pytest.mark.parametrize("claim", [c for c in TRUE if isinstance(c, ClosedForm)], ids=lambda c: c.title)
def test_the_solution_of_a_recurrence_follows_it(claim):
    (proof,) = prove([claim], owner="test")
    values = {a: Rational(2, 3), b: Rational(5, 7), g: 3}
    solutions = [step.after.rhs for step in proof.steps if step.what == "Solve the recurrence"]
    assert solutions or claim.title == "sum"  # it holds another sequence
    known = {v(n): sympify(start).subs(values) for n, start in claim._starts.items()}
    for n in range(len(known), 6):
        known[v(n)] = claim.recurrence.subs(t, n).subs(values).subs(known)
        for solution in solutions:
            assert expand(solution.subs(t, n).subs(values) - known[v(n)]) == 0


@pytest.mark.parametrize("claim", TRUE, ids=lambda c: f"{type(c).__name__}-{c.title}")
def test_true_claims_are_proved_by_steps(claim) -> None:
    (proof,) = prove([claim], owner="test")
    assert proof.steps, "a proof shows what was done"
    assert proof.number == 1
    assert claim.title in str(proof)


@pytest.mark.parametrize("claim", FALSE, ids=lambda c: f"{type(c).__name__}-{c.title}")
def test_false_claims_are_caught_and_named(claim) -> None:
    with pytest.raises(VerificationError, match="owner: claim 2") as caught:
        prove([TRUE[0], claim], owner="owner")
    assert claim.title in str(caught.value)


def test_expectation_and_variance_refuse_what_is_not_linear() -> None:
    assert expectation(a * g + b * h, {g: 0, h: 1}) == b
    assert variance(a * g - b * h, {g: 1, h: 2}) == a**2 + 2 * b**2
    for operation in (expectation, variance):
        with pytest.raises(Unproved, match="not linear"):
            operation(g * h, {g: 0, h: 1})


# --- The claims of the catalogue ---------------------------------------------------------------------------------

RULES = {s.name: s for s in catalogue() if isinstance(s, UpdateRule)}


@pytest.mark.parametrize("name", sorted(RULES))
def test_claims_of_the_catalogue_are_proved(name: str) -> None:
    assert len(RULES[name].proofs) == len(RULES[name].claims)


#: What the lecture says of each rule, by words that the titles must contain.
SAID = {
    "momentum": ["weighted sum of past gradients", "terminal velocity", "learning rate is constant", "a change of"],
    "nesterov": ["change of variables", "PyTorch"],
    "adagrad": ["steep (a) and shallow (b)", "lr/sqrt(t)", "dies out", "inside the root", "starts above 0"],
    "rmsprop": ["lr sign(g) and does not die", "inside the root", "starts at 1"],
    "adam_almost": ["(1 - beta1)/sqrt(1 - beta2)", "sqrt(10)", "without bound", "epsilon"],
    "adam": ["(1 - beta1^t) g", "bias", "Dividing removes it", "tends to g as t -> 0+", "tends to infinity",
             "exactly lr sign(g)", "|g|/(|g| + epsilon)", "Keras", "No constant"],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SAID))
def test_each_statement_of_the_lecture_is_among_the_claims(name: str) -> None:
    titles = [c.title for c in RULES[name].claims]
    for words in SAID[name]:
        assert any(words in title for title in titles), words


def test_limits_are_where_numbers_near_the_point_lead() -> None:
    """SymPy's limits against plain evaluation: an oracle of its own, since some limits of SymPy are wrong."""
    for rule in RULES.values():
        for claim in rule.claims:
            if not isinstance(claim, Limit):
                continue
            meanings = [(name, meaning) for name, meaning in claim.writing.items() if name.name.endswith("'")]
            expr, value = sympify(claim.expr).subs(meanings), sympify(claim.value)
            others = sorted((expr.free_symbols | value.free_symbols) - {claim.variable}, key=str)
            near = mpmath.mpf(10) ** (5 if claim.point == oo else -9)
            numbers = [mpmath.mpf(n) / (n + 1) for n in range(9, 9 + len(others))]
            got = lambdify([claim.variable, *others], expr, "mpmath")(near, *numbers)
            if value == oo:
                assert got > 1000, claim.title
            else:
                expected = lambdify([claim.variable, *others], value, "mpmath")(near, *numbers)
                assert abs(got - expected) < 0.01, claim.title


def test_numbers_of_the_lecture() -> None:
    """By hand, in fractions: what the claims say at the usual settings."""
    beta1, beta2 = Fraction(9, 10), Fraction(999, 1000)
    assert (1 - beta1) ** 2 / (1 - beta2) == 10
    velocity = Fraction(0)
    for _ in range(3):
        velocity = beta1 * velocity + 1
    assert velocity == (1 - beta1**3) / (1 - beta1)


def test_a_broken_rule_does_not_keep_its_claims() -> None:
    """With s in place of sqrt(s) for a metric the claims of AdaGrad fail, and so would a build."""
    from derive.optimizers import adagrad as statement
    from derive.rule import Minimise, learning_rate, new, x
    from derive.rule import g as gradient

    s, epsilon = statement.s, statement.epsilon
    wrong = UpdateRule(
        "wrong",
        state={s: "grad_squared"},
        equations=[
            Eq(new(s), s + gradient**2),
            Minimise(
                gradient * (new(x) - x) + (new(s) + epsilon) * (new(x) - x) ** 2 / (2 * learning_rate), over=new(x)
            ),
        ],
        claims=statement.claims,
    )
    with pytest.raises(VerificationError, match=r"wrong: claim 1 .*steep"):
        _ = wrong.proofs


def test_proofs_are_the_same_under_any_hash_seed() -> None:
    program = (
        "from derive.catalogue import find\n"
        "print(find('momentum')); print(*map(str, find('adagrad').proofs), sep='\\n')"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "42")
    }
    assert len(texts) == 1
    assert "weighted sum" in texts.pop()
