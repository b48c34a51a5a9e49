"""Stochastic gradient descent: a step down the gradient."""

from derive.rule import Minimise, UpdateRule, g, learning_rate, new, x

sgd = UpdateRule(
    "sgd",
    equations=[Minimise(g * (new(x) - x) + (new(x) - x) ** 2 / (2 * learning_rate), over=new(x))],
    defaults={learning_rate: 1e-2},
    sources="the course's assignments (CS231n)",
    about="Stochastic gradient descent: minimise the linear model of the loss plus the squared distance from x.",
    meanings={learning_rate: "length of a step, in gradients"},
)
