"""Nesterov momentum as Nesterov has it: the gradient is taken where the velocity is about to lead."""

from sympy import Eq, symbols

from derive.rule import Minimise, UpdateRule, g, learning_rate, new, x

v = symbols("v", real=True)
rho = symbols("rho", positive=True)

nesterov_lookahead = UpdateRule(
    "nesterov_lookahead",
    state={v: "velocity"},
    gradient_at=x + rho * v,
    equations=[
        Minimise(g * new(v) + (new(v) - rho * v) ** 2 / (2 * learning_rate), over=new(v)),
        Eq(new(x), x + new(v)),
    ],
    defaults={learning_rate: 1e-2, rho: 0.9},
    sources={learning_rate: "the course's assignments (CS231n)", rho: "the lecture"},
    about="Nesterov momentum, its gradient taken where the velocity is about to lead.",
    conventions=["The gradient is taken at lookahead(params, state), not at params"],
    meanings={
        learning_rate: "length of a step, in gradients",
        rho: "friction: what is left of a velocity",
        v: "displacement of the last step",
    },
)
