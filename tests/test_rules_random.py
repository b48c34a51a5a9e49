"""Rules that nobody wrote: the compiler of steps against the equations, on random systems of them."""

from __future__ import annotations

import random

import pytest
from sympy import Abs, Eq, Expr, Integer, Max, Min, Piecewise, Rational, Symbol, sign, sqrt, symbols

from derive.in_place import NUMPY_OUT
from derive.render import compile
from derive.rule import UpdateRule, g, new, t, x
from derive.rule_check import compare_code
from derive.rule_pages import step_code

u, v, w = symbols("u v w", real=True)
a, b = symbols("a b", positive=True)
first, second = symbols("first second", real=True)


def random_rule(seed: int) -> UpdateRule:
    """A rule of up to three states, two intermediate quantities, equations in any order, old and new values mixed."""
    rng = random.Random(seed)
    kept = [u, v, w][: rng.randint(0, 3)]
    names = [first, second][: rng.randint(0, 2)]
    left = [*(new(q) for q in (x, *kept)), *names]
    rng.shuffle(left)
    known = [x, g, *kept]
    equations = []
    for quantity in left:
        rhs = expression(rng, known, depth=rng.randint(0, 4))
        if not rhs.free_symbols & set(known):
            rhs = rhs + rng.choice(known)
        equations.append(Eq(quantity, rhs, evaluate=False))
        known.append(quantity)
    return UpdateRule(f"random_{seed}", equations, state=kept, defaults={})


def expression(rng: random.Random, known: list[Symbol], depth: int) -> Expr:
    if depth == 0:
        return rng.choice([*known, *known, *known, a, b, Integer(2), Rational(1, 3), t])

    def part() -> Expr:
        return expression(rng, known, depth - 1)

    one, other = part(), part()
    return rng.choice(
        [
            lambda: one + other,
            lambda: one - other,
            lambda: one * other,
            lambda: a * one + (1 - a) * other,
            lambda: one / (1 + other**2),
            lambda: one / (sqrt(Abs(other)) + b),
            lambda: Max(-a, Min(one, b)),
            lambda: sign(one) * other,
            lambda: Piecewise((one, rng.choice(known) > rng.choice(known) / 3 + 1), (other, True)),
            lambda: one**3 / 4,
        ]
    )()


@pytest.mark.parametrize("seed", range(40))
def test_random_rules_agree_with_their_equations(seed: int) -> None:
    rule = random_rule(seed)
    code = step_code(rule)
    # The rule at work, update and step, against its equations in many digits.
    assert compare_code(rule, compile(rule)) < 1e-12, "\n".join(code.lines(NUMPY_OUT, "scratch"))
