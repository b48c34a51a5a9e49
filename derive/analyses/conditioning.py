"""The first problem: the loss changes fast in one direction and slowly in another.

On a quadratic the directions of its axes do not mix, so a step can be followed in each of them by itself. With
curvature c the gradient is c x, and a rule becomes a recurrence in one variable.

References: B. T. Polyak, Some methods of speeding up the convergence of iteration methods (1964), for the rates with
momentum; G. Goh, Why momentum really works (2017).
"""

from __future__ import annotations

from sympy import Expr, Function, Symbol, sqrt, symbols

from derive.analyses.analysis import Analysis, after_step, letter
from derive.claims import ClosedForm, Equivalence, Identity, Roots, Sign
from derive.optimizers.adagrad import adagrad
from derive.optimizers.momentum import momentum
from derive.optimizers.rmsprop import rmsprop
from derive.optimizers.sgd import sgd
from derive.rule import UpdateRule, g, learning_rate, t, x

__all__ = ["conditioning"]

a, b, c, kappa = symbols("a b c kappa", positive=True)
#: For ranges of other symbols: a positive p makes every number above 1 as 1 + p, and every one below as p/(1 + p).
p, w = symbols("p w", positive=True)
r = Symbol("r", positive=True)
rho, x_0, x_last, z = symbols("rho x_0 x_last z", real=True)
q = Symbol("q", real=True, nonzero=True)
X = Function("x")

velocity = letter(momentum, "velocity")


def slope(curvature: Expr) -> Expr:
    """The gradient of the bowl along one of its axes."""
    return (curvature * x**2 / 2).diff(x)


def plain_step(curvature: Expr) -> Expr:
    """x after a step of plain descent."""
    return after_step(sgd, g=slope(curvature), learning_rate=learning_rate)["x"]


def factor(curvature: Expr) -> Expr:
    """What a step of plain descent multiplies x by."""
    return (plain_step(curvature) / x).expand()


def momentum_step(curvature: Expr) -> Expr:
    """x after a step with momentum."""
    return after_step(momentum, g=slope(curvature), learning_rate=learning_rate, rho=rho)["x"]


def characteristic(curvature: Expr) -> Expr:
    """The polynomial that vanishes at z where z**t solves the recurrence of momentum."""
    recurrence = momentum_step(curvature).subs(velocity, LAST_STEP).expand()
    return z**2 - recurrence.subs({x: z, x_last: 1}, simultaneous=True).collect(z)


def adaptive_step(rule: UpdateRule, curvature: Expr) -> dict[Symbol, Expr]:
    """x and grad_squared after a step of an adaptive rule without epsilon."""
    step = after_step(rule, g=slope(curvature), learning_rate=learning_rate, epsilon=0)
    return {x: step["x"], letter(rule, "grad_squared"): step["grad_squared"]}


#: What the velocity was, seen from the two positions between which it moved x.
LAST_STEP = (x_last - x) / learning_rate

BEST_RATE = 2 / (a + b)
BEST = (kappa - 1) / (kappa + 1)
BEST_WITH_MOMENTUM = (sqrt(kappa) - 1) / (sqrt(kappa) + 1)
BEST_RATE_WITH_MOMENTUM = 4 / (sqrt(a) + sqrt(b)) ** 2


def at_best(curvature: Expr) -> Expr:
    """The characteristic polynomial at the best learning rate and rho, in terms of kappa."""
    best = characteristic(curvature).subs({learning_rate: BEST_RATE_WITH_MOMENTUM, rho: BEST_WITH_MOMENTUM**2})
    return best.subs(a, kappa * b)


PLAIN = (
    Identity(
        "A step of plain descent multiplies each coordinate by a factor of its own",
        after_step(sgd)["x"],
        factor(c) * x,
        given={g: slope(c)},
        about="The gradient along an axis is the curvature times the coordinate; no direction sees the others.",
    ),
    ClosedForm(
        "Many steps multiply it by a power of that factor, here called q",
        X(t),
        recurrence=q * X(t - 1),
        start=x_0,
        formula=x_0 * q**t,
    ),
    Sign(
        "Below twice the inverse of the largest curvature plain descent is stable",
        1 - factor(a) ** 2,
        writing={learning_rate: 2 / a * p / (1 + p)},
        about="The factor is smaller than 1 in size. Every learning rate in this range is written with one positive p. "
        "What is stable in the steep direction is stable in the shallow one.",
    ),
    Sign(
        "Above it the steep direction diverges",
        factor(a) ** 2 - 1,
        writing={learning_rate: 2 / a * (1 + p)},
    ),
    Sign(
        "Above the inverse of the largest curvature each step overshoots, and the path zig-zags across the valley",
        factor(a),
        "negative",
        writing={learning_rate: (1 + p) / a},
    ),
    Sign(
        "Below it no step does",
        factor(a),
        "positive",
        writing={learning_rate: p / (1 + p) / a},
    ),
    Sign(
        "Meanwhile the shallow direction crawls, at any stable learning rate",
        factor(b) - (1 - 2 * b / a),
        writing={learning_rate: 2 / a * p / (1 + p)},
        about="Its factor is closer to 1 than twice the ratio of the curvatures.",
    ),
    Identity(
        "At the best learning rate, the shallow direction shrinks by this factor",
        factor(b),
        BEST,
        given={learning_rate: BEST_RATE, a: kappa * b},
    ),
    Identity(
        "At that rate the steep direction shrinks as fast, changing sides",
        factor(a),
        -BEST,
        given={learning_rate: BEST_RATE, a: kappa * b},
    ),
    Sign(
        "No larger learning rate is better, for the steep direction shrinks more slowly",
        -factor(a) - BEST.subs(kappa, a / b),
        writing={learning_rate: BEST_RATE * (1 + p)},
    ),
    Sign(
        "No smaller learning rate is better, for the shallow direction shrinks more slowly",
        factor(b) - BEST.subs(kappa, a / b),
        writing={learning_rate: BEST_RATE / (1 + p)},
    ),
)

WITH_MOMENTUM = (
    Identity(
        "With momentum, the next position follows from the last two",
        after_step(momentum, rho=rho)["x"],
        (1 + rho - learning_rate * c) * x - rho * x_last,
        given={g: slope(c), velocity: LAST_STEP},
        about="The velocity is eliminated: it is the last step, divided by the learning rate.",
    ),
    Roots(
        "A power of z solves this recurrence for two values of z",
        characteristic(c),
        z,
        [
            (1 + rho - learning_rate * c + side * sqrt((1 + rho - learning_rate * c) ** 2 - 4 * rho)) / 2
            for side in (1, -1)
        ],
        about="The root that is larger in size decides. Where the two are complex, the path swings, and their common "
        "size is the square root of rho, for rho is their product.",
    ),
    Roots(
        "At the best learning rate and rho, the shallow direction has a double root",
        at_best(b),
        z,
        [BEST_WITH_MOMENTUM] * 2,
        about="The best learning rate is 4/(sqrt(a) + sqrt(b))^2; the best rho is the square of this root.",
    ),
    Roots(
        "At these values the steep direction has a double root of the same size",
        at_best(a),
        z,
        [-BEST_WITH_MOMENTUM] * 2,
    ),
    Identity(
        "No other pair is better: consider the polynomial of the shallow direction at a positive z = r",
        characteristic(b).subs(z, r),
        learning_rate * b * r - (1 - r) * (r - rho),
        about="If both roots are at most r in size, a quadratic that grows to infinity is not negative at r: the first "
        "term is at least as large as the second.",
    ),
    Identity(
        "Consider that of the steep direction at z = -r",
        characteristic(a).subs(z, -r),
        (1 + r) * (r + rho) - learning_rate * a * r,
        about="It is not negative either. Together, kappa is at most the quotient of (1 + r)(r + rho) by "
        "(1 - r)(r - rho).",
    ),
    Sign(
        "This bound on kappa is largest where rho is largest",
        ((1 + r) / (1 - r)) ** 2 - (1 + r) * (r + rho) / ((1 - r) * (r - rho)),
        writing={rho: r**2 * (p - 1) / (p + 1), r: w / (1 + w)},
        about="The product of the roots is rho, so its size is at most the square of r. Every such rho is written with "
        "one positive p, every r below 1 with one positive w.",
    ),
    Identity(
        "The largest bound reaches kappa at the root found above; as it grows with r, no smaller r will do",
        ((1 + r) / (1 - r)) ** 2,
        kappa,
        given={r: BEST_WITH_MOMENTUM},
    ),
    Sign(
        "So momentum is faster wherever the curvatures differ",
        BEST - BEST_WITH_MOMENTUM,
        writing={kappa: (1 + p) ** 2},
        about="In place of the condition number stands its square root: for 100, the factors are 0.98 and 0.82.",
    ),
)

ADAPTIVE = (
    Equivalence(
        "AdaGrad moves alike in steep and shallow directions",
        first=adaptive_step(adagrad, a),
        second=adaptive_step(adagrad, b),
        relation={x: x, letter(adagrad, "grad_squared"): (b / a) ** 2 * letter(adagrad, "grad_squared")},
        start={letter(adagrad, "grad_squared"): 0},
        second_start={letter(adagrad, "grad_squared"): 0},
        about="With epsilon at 0: coordinates that start alike stay alike, whatever the curvatures. To AdaGrad the "
        "bowl is round. That is so along the axes; a valley that runs across them remains one.",
    ),
    Equivalence(
        "RMSProp moves alike in steep and shallow directions",
        first=adaptive_step(rmsprop, a),
        second=adaptive_step(rmsprop, b),
        relation={x: x, letter(rmsprop, "grad_squared"): (b / a) ** 2 * letter(rmsprop, "grad_squared")},
        start={letter(rmsprop, "grad_squared"): 0},
        second_start={letter(rmsprop, "grad_squared"): 0},
    ),
    Identity(
        "The first step of AdaGrad is as long as the learning rate, in every direction",
        adaptive_step(adagrad, c)[x],
        w - learning_rate,
        given={letter(adagrad, "grad_squared"): 0, x: w},
        about="From a positive coordinate w; from a negative one it is the mirror image.",
    ),
    Identity(
        "At a constant learning rate RMSProp does not come to rest: it can jump to and fro across the minimum",
        adaptive_step(rmsprop, c)[x],
        -learning_rate / 2,
        given={letter(rmsprop, "grad_squared"): slope(c) ** 2, x: learning_rate / 2},
        about="Once the mean of squares has settled at the squared gradient, a step is as long as the learning rate.",
    ),
    Identity(
        "The squared gradient is the same on both sides, so its mean stays and the jumps go on",
        adaptive_step(rmsprop, c)[letter(rmsprop, "grad_squared")],
        slope(c) ** 2,
        given={letter(rmsprop, "grad_squared"): slope(c) ** 2},
    ),
)

conditioning = Analysis(
    "conditioning",
    "Fast in one direction, slow in another",
    "The loss is a bowl with curvatures a > b > 0 along its axes; their ratio kappa = a/b is its condition number. The "
    "learning rate must suit the steep direction, and then it is too small for the shallow one.",
    claims=(*PLAIN, *WITH_MOMENTUM, *ADAPTIVE),
    meanings={
        a: "curvature of the steep direction",
        b: "curvature of the shallow direction",
        c: "curvature of either",
        kappa: "condition number, a/b",
        learning_rate: "learning rate",
        rho: "share of the velocity that momentum keeps",
        t: "number of the step",
        x: "coordinate along an axis, from the minimum",
        x_0: "where it starts",
        x_last: "the coordinate one step earlier",
        velocity: "velocity of momentum",
        letter(adagrad, "grad_squared"): "sum of squared gradients of AdaGrad, their moving average for RMSProp",
        letter(rmsprop, "decay_rate"): "share of the moving average that RMSProp keeps",
        q: "factor of a step of plain descent",
        z: "factor of a step with momentum",
        r: "a bound on the size of such factors",
    },
)
