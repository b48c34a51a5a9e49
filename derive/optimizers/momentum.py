"""SGD with momentum, in the form in which the velocity is a running sum of gradients."""

from collections.abc import Iterator

from sympy import Eq, Function, Rational, Sum, oo, symbols

from derive.claims import Claim, ClosedForm, Counterexample, Equivalence, Identity, Limit, decaying
from derive.optimizers.momentum_velocity import momentum_velocity
from derive.rule import Minimise, UpdateRule, g, learning_rate, new, t, x

v = symbols("v", real=True)
rho = symbols("rho", positive=True)


def claims(rule: UpdateRule) -> Iterator[Claim]:
    velocity, gradient = Function("v"), Function("g", real=True)
    k = symbols("k", integer=True, positive=True)
    recurrence = rule.updates[v].subs(v, velocity(t - 1))
    yield ClosedForm(
        "The velocity is a weighted sum of past gradients, weights falling by rho at each step",
        velocity(t),
        recurrence.subs(g, gradient(t)),
        start=0,
        formula=Sum(rho ** (t - k) * gradient(k), (k, 1, t)),
    )
    constant = ClosedForm(
        "Under a constant gradient the velocity is a geometric sum",
        velocity(t),
        recurrence,
        start=0,
        formula=g * (1 - rho**t) / (1 - rho),
    )
    yield constant
    yield Limit(
        "The terminal velocity under a constant gradient is g/(1 - rho)",
        constant.formula,
        t,
        oo,
        value=g / (1 - rho),
        writing=decaying(rho),
    )
    yield Equivalence(
        "While the learning rate is constant, v' = rho v - lr g, x' = x + v' makes the same iterates, its velocity "
        "being -lr times this one",
        first=rule.updates,
        second=momentum_velocity.updates,
        relation={x: x, v: -learning_rate * v},
        start=rule.start,
        second_start=momentum_velocity.start,
    )
    # After steps with learning_rate the relation v_2 = -learning_rate v holds; then both take a step with `later`.
    later = symbols("learning_rate_later", positive=True)
    here = rule.updates[x].subs(learning_rate, later)
    there = momentum_velocity.updates[x].subs(learning_rate, later).subs(v, -learning_rate * v)
    yield Identity(
        "At the step after a change of learning rate the two forms part by rho v times the change",
        there - here,
        rho * v * (later - learning_rate),
    )
    average = symbols("average", real=True)
    moving = {average: rho * average + (1 - rho) * g}
    moving[x] = x - learning_rate / (1 - rho) * moving[average]
    yield Equivalence(
        "With a moving average of gradients for the velocity, rho v + (1 - rho) g, the rule is the same at the "
        "learning rate lr/(1 - rho)",
        first=rule.updates,
        second=moving,
        relation={x: x, average: (1 - rho) * v},
        start=rule.start,
        second_start={average: 0},
    )
    yield Counterexample(
        "With that average at the same learning rate it is another rule",
        rule.step,
        -learning_rate * moving[average],
        at={v: 0, average: 0, g: 1, rho: Rational(9, 10), learning_rate: Rational(1, 10)},
    )


momentum = UpdateRule(
    "momentum",
    state={v: "velocity"},
    equations=[
        Eq(new(v), rho * v + g),
        Minimise(new(v) * (new(x) - x) + (new(x) - x) ** 2 / (2 * learning_rate), over=new(x)),
    ],
    defaults={learning_rate: 1e-2, rho: 0.9},
    sources={learning_rate: "the course's assignments (CS231n)", rho: "the lecture"},
    claims=claims,
    about="Momentum: the velocity, a running sum of gradients, takes the place of the gradient.",
    conventions=["The velocity does not hold the learning rate: its change acts on past gradients too, as in PyTorch"],
    meanings={
        learning_rate: "length of a step, in velocities",
        rho: "friction: what is left of a velocity",
        v: "running sum of gradients",
    },
)
