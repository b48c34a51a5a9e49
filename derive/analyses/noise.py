"""The third problem: the gradient of a minibatch is an estimate, and its noise does not die out.

For one element of the gradient; each element has a mean and a variance of its own. A batch is drawn without
replacement, as one batch of a shuffled pass is: every set of B of the N examples is equally likely.

References: W. G. Cochran, Sampling Techniques (1977), chapter 2, for the finite population; S. Mandt, M. Hoffman and
D. Blei, Stochastic gradient descent as approximate Bayesian inference (2017), for the level of the noise.
"""

from __future__ import annotations

from sympy import Expr, Function, binomial, oo, symbols

from derive.analyses.analysis import Analysis, after_step, letter
from derive.claims import ClosedForm, Identity, Limit, decaying
from derive.optimizers.momentum import momentum
from derive.optimizers.sgd import sgd
from derive.rule import learning_rate, t, x

__all__ = ["noise"]

N, B = symbols("N B", integer=True, positive=True)
c, q, rho, sigma, S = symbols("c q rho sigma S", positive=True)
G, A, Q, noise_term = symbols("G A Q n", real=True)
pi_1, pi_2 = symbols("pi_1 pi_2", positive=True)
V_xx, V_xv, V_vv = symbols("V_xx V_xv V_vv", real=True)
V = Function("V")

velocity = letter(momentum, "velocity")

#: How likely an example, and a pair of examples, are in a batch: the batches that hold them among all batches.
IN_BATCH = {pi_1: B / N, pi_2: B * (B - 1) / (N * (N - 1))}
#: All gradients summed, and all their squares, in terms of their mean and variance.
SUMS = {A: N * G, Q: N * (S**2 + G**2)}
FACTOR = (N - B) / (N - 1)

#: The gradient of a bowl whose minimum is at 0, with the noise of the batch.
NOISY = (c * x**2 / 2).diff(x) + noise_term


def coefficients(expr: Expr) -> tuple[Expr, Expr, Expr]:
    """Those of x, of the velocity and of the noise, in which a step is linear."""
    return expr.diff(x), expr.diff(velocity), expr.diff(noise_term)


def covariance(left: Expr, right: Expr) -> Expr:
    """Of two linear expressions, when the noise of the step is independent of what was before it."""
    (x1, v1, n1), (x2, v2, n2) = coefficients(left), coefficients(right)
    return x1 * x2 * V_xx + (x1 * v2 + x2 * v1) * V_xv + v1 * v2 * V_vv + n1 * n2 * sigma**2


PLAIN_STEP = after_step(sgd, g=NOISY, learning_rate=learning_rate)["x"]
MOMENTUM_STEP = after_step(momentum, g=NOISY, learning_rate=learning_rate, rho=rho)

#: The variance of x after a step of plain descent.
SPREAD = covariance(PLAIN_STEP, PLAIN_STEP)
#: Of x after t steps from a fixed start, and where that settles.
VARIANCE = learning_rate**2 * sigma**2 * (1 - q**t) / (1 - q)
LEVEL = learning_rate * sigma**2 / (c * (2 - learning_rate * c))
SHARED = (1 - rho) * (2 * (1 + rho) - learning_rate * c)
LEVEL_WITH_MOMENTUM = {
    V_xx: learning_rate * sigma**2 * (1 + rho) / (c * SHARED),
    V_xv: -learning_rate * sigma**2 / SHARED,
    V_vv: 2 * sigma**2 / SHARED,
}

BATCHES = (
    Identity(
        "An example is in the batch with probability B/N",
        binomial(N - 1, B - 1) / binomial(N, B),
        IN_BATCH[pi_1],
        about="The batches that hold it, among all batches.",
    ),
    Identity(
        "Two examples are in it together with this probability",
        binomial(N - 2, B - 2) / binomial(N, B),
        IN_BATCH[pi_2],
    ),
    Identity(
        "The minibatch gradient is unbiased",
        pi_1 * A / B,
        G,
        given={pi_1: IN_BATCH[pi_1], A: SUMS[A]},
        about="Its expected value is the sum of all gradients, each taken with the probability that it is in the "
        "batch, divided by B.",
    ),
    Identity(
        "Its variance falls like 1/B, times a factor for the finite population",
        (pi_1 * Q + pi_2 * (A**2 - Q)) / B**2 - G**2,
        S**2 / B * FACTOR,
        given={**IN_BATCH, **SUMS},
        about="The square of a sum has terms of one example and terms of two. The sum over pairs of different examples "
        "is the square of the sum less the sum of squares.",
    ),
    Identity(
        "For a single example the factor is 1",
        FACTOR,
        1,
        given={B: 1},
    ),
    Identity(
        "For the whole of the data it is 0, and there is no noise",
        FACTOR,
        0,
        given={B: N},
    ),
    Limit(
        "For endless data it is 1, as it is for drawing with replacement",
        FACTOR,
        N,
        oo,
        value=1,
    ),
)

LEVELS = (
    Identity(
        "A step of plain descent on a bowl, with noise in the gradient, passes the variance on like this",
        SPREAD,
        q * V_xx + learning_rate**2 * sigma**2,
        given={q: (1 - learning_rate * c) ** 2},
        about="The noise of a step is taken to be independent of what was before, as it is for batches that are drawn "
        "afresh. The batches of one shuffled pass make up the whole of the data, so that some of their noise cancels: "
        "what follows is then a bound that is seen to be generous.",
    ),
    ClosedForm(
        "So from a fixed start, the variance of x follows a geometric sum",
        V(t),
        recurrence=q * V(t - 1) + learning_rate**2 * sigma**2,
        start=0,
        formula=VARIANCE,
    ),
    Limit(
        "At a constant learning rate it does not go to 0 but settles",
        VARIANCE,
        t,
        oo,
        value=learning_rate**2 * sigma**2 / (1 - q),
        writing=decaying(q),
        about="q is below 1 wherever plain descent is stable.",
    ),
    Identity(
        "The level at which it settles",
        learning_rate**2 * sigma**2 / (1 - q),
        LEVEL,
        given={q: (1 - learning_rate * c) ** 2},
    ),
    Limit(
        "For small learning rates the level is proportional to the learning rate",
        LEVEL / learning_rate,
        learning_rate,
        0,
        value=sigma**2 / (2 * c),
        about="Half the learning rate, or twice the batch, is half the variance.",
    ),
    ClosedForm(
        "A learning rate that falls like 1/t gets rid of the noise",
        V(t),
        recurrence=SPREAD.subs(learning_rate, 1 / (c * t)).subs(V_xx, V(t - 1)),
        start={1: sigma**2 / c**2},
        formula=sigma**2 / (c**2 * t),
        about="With 1/(c t), x is the plain average of what each step alone would have found.",
    ),
    *(
        Identity(title, covariance(MOMENTUM_STEP[first], MOMENTUM_STEP[second]), moment, given=LEVEL_WITH_MOMENTUM)
        for title, first, second, moment in (
            ("With momentum, too, the variance of x settles: a step leaves it as it is", "x", "x", V_xx),
            ("and so does its covariance with the velocity", "x", "velocity", V_xv),
            ("and the variance of the velocity", "velocity", "velocity", V_vv),
        )
    ),
    Limit(
        "For small learning rates the level is that of plain descent at the learning rate divided by 1 - rho",
        LEVEL_WITH_MOMENTUM[V_xx] / learning_rate,
        learning_rate,
        0,
        value=sigma**2 / (2 * c * (1 - rho)),
        about="Momentum is faster by this factor, and noisier by the same.",
    ),
)

noise = Analysis(
    "noise",
    "Noise of the minibatch gradient",
    "The gradient of a batch of B examples stands in for that of all N. Of the N gradients, G is the mean and S the "
    "standard deviation.",
    claims=(*BATCHES, *LEVELS),
    meanings={
        N: "number of examples",
        B: "number of examples in a batch",
        G: "mean of the gradients of all examples",
        S: "their standard deviation",
        A: "their sum",
        Q: "the sum of their squares",
        pi_1: "probability that an example is in the batch",
        pi_2: "probability that two examples are",
        c: "curvature of the loss",
        learning_rate: "learning rate",
        rho: "share of the velocity that momentum keeps",
        t: "number of the step",
        sigma: "standard deviation of the noise in a step",
        q: "factor by which a step shrinks the variance",
        x: "parameter, from the minimum",
        velocity: "velocity of momentum",
        V_xx: "variance of x",
        V_xv: "covariance of x and the velocity",
        V_vv: "variance of the velocity",
    },
)
