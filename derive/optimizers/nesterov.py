"""Nesterov momentum after the change of variables that lets the gradient be taken at the parameters themselves."""

from collections.abc import Iterator

from sympy import Eq, symbols

from derive.claims import Claim, Equivalence, Identity
from derive.optimizers.nesterov_lookahead import nesterov_lookahead
from derive.rule import Minimise, UpdateRule, g, learning_rate, new, x

v = symbols("v", real=True)
rho = symbols("rho", positive=True)


def claims(rule: UpdateRule) -> Iterator[Claim]:
    ahead = nesterov_lookahead
    yield Equivalence(
        "The change of variables x~ = x + rho v turns the look-ahead form into this one, whose gradient is taken at x~",
        first=ahead.updates,
        second=rule.updates,
        relation={x: ahead.gradient_at, v: v},
        start=ahead.start,
        second_start=rule.start,
    )
    yield Identity(
        "It is a step of momentum with the velocity weighed by rho once more",
        rule.step,
        rho * rule.updates[v] - learning_rate * g,
    )
    buffer = symbols("buffer", real=True)
    pytorch = {buffer: rho * buffer + g}
    pytorch[x] = x - learning_rate * (g + rho * pytorch[buffer])
    yield Equivalence(
        "PyTorch's form, buf' = rho buf + g, x' = x - lr (g + rho buf'), is the same under v = -lr buf, while the "
        "learning rate is constant",
        first=pytorch,
        second=rule.updates,
        relation={x: x, v: -learning_rate * buffer},
        start={buffer: 0},
        second_start=rule.start,
    )


nesterov = UpdateRule(
    "nesterov",
    state={v: "velocity"},
    equations=[
        Minimise(g * new(v) + (new(v) - rho * v) ** 2 / (2 * learning_rate), over=new(v)),
        Eq(new(x), x - rho * v + (1 + rho) * new(v)),
    ],
    defaults={learning_rate: 1e-2, rho: 0.9},
    sources={learning_rate: "the course's assignments (CS231n)", rho: "the lecture"},
    claims=claims,
    about="Nesterov momentum after the change of variables: x stands for x + rho v of the look-ahead form.",
    conventions=[
        "params are the points at which gradients are taken, x + rho v of the look-ahead form",
        "The velocity holds the learning rate: its change acts on gradients to come only, not on past ones",
    ],
    meanings={
        learning_rate: "length of a step, in gradients",
        rho: "friction: what is left of a velocity",
        v: "displacement of the last step, before the change of variables",
    },
)
