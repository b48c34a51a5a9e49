"""The second problem: where the gradient vanishes, at local minima and saddle points, plain descent stands still.

The saddle of the catalogue has one saddle point between two minima. Close to a saddle point a smooth loss falls like
-b y^2/2 along an axis on which its second derivative is -b: that axis is the way out.
"""

from __future__ import annotations

from sympy import Expr, Function, log, oo, sqrt, symbols

from derive.analyses.analysis import Analysis, after_step, letter
from derive.claims import ClosedForm, Identity, Limit, Roots, Sign, decaying
from derive.losses.saddle import saddle
from derive.optimizers.momentum import momentum
from derive.optimizers.sgd import sgd
from derive.rule import g, learning_rate, t, x

__all__ = ["saddles"]

b, d, e, p, rho = symbols("b d e p rho", positive=True)
x_0, x_last, v_0, z, T = symbols("x_0 x_last v_0 z T", real=True)
V, X = Function("v"), Function("x")

velocity = letter(momentum, "velocity")
(point,) = saddle.wrt


def gradient(along: int, at: tuple[object, object]) -> Expr:
    """The derivative of the saddle of the catalogue along an axis, at a point."""
    return saddle.value.diff(point[along]).subs({point[0]: at[0], point[1]: at[1]})


def curvature(along: int, at: tuple[object, object]) -> Expr:
    """Its second derivative along an axis, at a point."""
    return saddle.value.diff(point[along], 2).subs({point[0]: at[0], point[1]: at[1]})


def plain_step(slope: object, at: Expr = x) -> Expr:
    """x after a step of plain descent."""
    return after_step(sgd, x=at, g=slope, learning_rate=learning_rate)["x"]


def momentum_step(slope: object) -> dict[str, Expr]:
    """x and velocity after a step with momentum."""
    return after_step(momentum, g=slope, learning_rate=learning_rate, rho=rho)


#: The gradient along the way out.
DOWN = (-b * x**2 / 2).diff(x)
GROWTH = (plain_step(DOWN) / x).expand()
STEPS_OUT = log(d / e) / log(GROWTH)


def characteristic(at: Expr) -> Expr:
    """The polynomial in z that vanishes where z**t solves the recurrence of momentum along the way out."""
    recurrence = momentum_step(DOWN)["x"].subs(velocity, (x_last - x) / learning_rate).expand()
    return (z**2 - recurrence.subs({x: z, x_last: 1}, simultaneous=True).collect(z)).subs(z, at)


GROWTH_WITH_MOMENTUM = (1 + rho + learning_rate * b + sqrt((1 + rho + learning_rate * b) ** 2 - 4 * rho)) / 2

STANDING_STILL = (
    Roots(
        "On the saddle of the catalogue, the gradient along the second axis vanishes at three points",
        gradient(1, (0, x)),
        x,
        [0, 1, -1],
        about="Along the first axis it vanishes at 0 alone.",
    ),
    Identity(
        "One of them is a saddle point: downhill both ways along the second axis",
        curvature(1, (0, x)),
        -1,
        given={x: 0},
        about="and uphill along the first, where the second derivative is 1.",
    ),
    Identity(
        "The other two are minima",
        curvature(1, (0, x)),
        2,
        given={x: 1},
        about="The loss is even, so what holds at 1 holds at -1.",
    ),
    Identity(
        "Without a gradient, plain descent does not move",
        after_step(sgd)["x"],
        x,
        given={g: 0},
        about="It cannot tell a minimum from a saddle point.",
    ),
    Identity(
        "Momentum moves on by its velocity",
        after_step(momentum, rho=rho)["x"],
        x - learning_rate * rho * velocity,
        given={g: 0},
        about="From rest, with velocity 0, it does not move either.",
    ),
    ClosedForm(
        "Where the loss is flat, the velocity dies out like a power of rho",
        V(t),
        recurrence=momentum_step(0)["velocity"].subs(velocity, V(t - 1)),
        start=v_0,
        formula=v_0 * rho**t,
    ),
    ClosedForm(
        "Meanwhile it carries x on",
        X(t),
        recurrence=X(t - 1) - learning_rate * v_0 * rho**t,
        start=x_0,
        formula=x_0 - learning_rate * v_0 * rho * (1 - rho**t) / (1 - rho),
    ),
    Limit(
        "The flat stretch that momentum can cross has this length",
        learning_rate * v_0 * rho * (1 - rho**t) / (1 - rho),
        t,
        oo,
        value=learning_rate * v_0 * rho / (1 - rho),
        writing=decaying(rho),
        about="At rho = 0.9 it is nine times the length of a plain step with that velocity for a gradient.",
    ),
)

ESCAPING = (
    ClosedForm(
        "From the ridge plain descent never leaves",
        X(t),
        recurrence=plain_step(DOWN.subs(x, X(t - 1)), at=X(t - 1)),
        start=0,
        formula=0,
        about="On the ridge the coordinate along the way out is exactly 0, and so is the gradient along it.",
    ),
    Identity(
        "Momentum that arrives with a velocity across the ridge is off it at once",
        after_step(momentum, rho=rho)["x"],
        -learning_rate * rho * velocity,
        given={g: DOWN, x: 0},
        about="A velocity along the ridge does not help: with none across it, momentum stays on the ridge as well.",
    ),
    ClosedForm(
        "From a distance e beside the ridge, plain descent leaves like a power",
        X(t),
        recurrence=(GROWTH * X(t - 1)),
        start=e,
        formula=e * GROWTH**t,
    ),
    Identity(
        "It reaches the distance d after a logarithmic number of steps",
        e * GROWTH**T,
        d,
        given={T: STEPS_OUT},
    ),
    Identity(
        "Starting ten times closer costs a constant number of steps more",
        STEPS_OUT.subs(e, e / 10) - STEPS_OUT,
        log(10) / log(GROWTH),
    ),
    Limit(
        "So the time to escape grows like the logarithm of the inverse distance",
        STEPS_OUT / log(1 / e),
        e,
        0,
        value=1 / log(GROWTH),
    ),
    Roots(
        "With momentum, a power of z solves the recurrence for two values of z",
        characteristic(z),
        z,
        [GROWTH_WITH_MOMENTUM, 1 + rho + learning_rate * b - GROWTH_WITH_MOMENTUM],
    ),
    Sign(
        "The growth of plain descent lies between the two, so momentum leaves faster",
        -characteristic(GROWTH),
        about="Where an upward parabola is negative, its larger root is still to come.",
    ),
    Limit(
        "For small learning rates it leaves faster by the factor 1/(1 - rho)",
        (GROWTH_WITH_MOMENTUM - 1) / learning_rate,
        learning_rate,
        0,
        value=b / (1 - rho),
        writing={rho: 1 - p},
        about="Plain descent grows by the learning rate times b in a step; at rho = 0.9, momentum by ten times that.",
    ),
)

saddles = Analysis(
    "saddles",
    "Local minima and saddle points",
    "Where the gradient is zero an update by the gradient is zero. At a minimum that is what one wants; at a saddle "
    "point there is a way out, an axis along which the loss falls, and the question is how long it takes to find it.",
    claims=(*STANDING_STILL, *ESCAPING),
    meanings={
        learning_rate: "learning rate",
        rho: "share of the velocity that momentum keeps",
        t: "number of the step",
        x: "coordinate along the way out, from the saddle point",
        x_0: "where it starts",
        x_last: "the coordinate one step earlier",
        velocity: "velocity of momentum",
        v_0: "velocity at the start",
        b: "downward curvature along the way out",
        e: "distance from the ridge at the start",
        T: "number of steps that takes",
        d: "distance at which the saddle is left",
        z: "factor of a step with momentum",
    },
)
