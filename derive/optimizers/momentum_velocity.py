"""SGD with momentum, in the form in which the velocity is a displacement."""

from sympy import Eq, symbols

from derive.rule import Minimise, UpdateRule, g, learning_rate, new, x

v = symbols("v", real=True)
rho = symbols("rho", positive=True)

momentum_velocity = UpdateRule(
    "momentum_velocity",
    state={v: "velocity"},
    equations=[
        Minimise(g * new(v) + (new(v) - rho * v) ** 2 / (2 * learning_rate), over=new(v)),
        Eq(new(x), x + new(v)),
    ],
    defaults={learning_rate: 1e-2, rho: 0.9},
    sources={learning_rate: "the course's assignments (CS231n)", rho: "the lecture"},
    about="Momentum, its velocity a displacement that holds the learning rate.",
    conventions=["The velocity holds the learning rate: its change acts on gradients to come only, not on past ones"],
    meanings={
        learning_rate: "length of a step, in gradients",
        rho: "friction: what is left of a velocity",
        v: "displacement of the last step",
    },
)
