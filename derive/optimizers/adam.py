"""Adam (Kingma and Ba, 2015), with bias correction."""

from collections.abc import Iterator

from sympy import Abs, Eq, Function, Rational, oo, sign, sqrt, symbols

from derive.claims import Claim, ClosedForm, Identity, Limit, NoConstant, ProofStep, decaying, expectation
from derive.rule import Minimise, UpdateRule, g, learning_rate, new, t, x

m, m_hat = symbols("m m_hat", real=True)
s, s_hat = symbols("s s_hat", nonnegative=True)
beta1, beta2, epsilon = symbols("beta1 beta2 epsilon", positive=True)


def claims(rule: UpdateRule) -> Iterator[Claim]:
    moment, mean = Function("m"), Function("M")
    mu = symbols("mu", real=True)
    recurrence = rule.updates[m].subs(m, moment(t - 1))
    constant = ClosedForm(
        "Under a constant gradient the first moment is (1 - beta1^t) g",
        moment(t),
        recurrence,
        start=0,
        formula=(1 - beta1**t) * g,
    )
    yield constant
    gradient = Function("g")(t)
    random = recurrence.subs(g, gradient)
    expected = expectation(random, {moment(t - 1): mean(t - 1), gradient: mu})
    yield ClosedForm(
        "The bias: for gradients of mean mu the first moment has mean (1 - beta1^t) mu",
        mean(t),
        expected,
        start=0,
        formula=(1 - beta1**t) * mu,
        because=[
            ProofStep(
                "Take expectations, which are linear, with E[g] = mu and E[m] = M",
                Eq(moment(t), random, evaluate=False),
                Eq(mean(t), expected, evaluate=False),
            )
        ],
    )
    yield Identity(
        "Dividing removes it: the corrected moment has mean mu",
        m_hat,
        mu,
        using={m_hat: rule.definitions[m_hat]},
        given={new(m): (1 - beta1**t) * mu},
    )
    square = Function("s")
    yield ClosedForm(
        "Under a constant gradient the second moment is (1 - beta2^t) g^2",
        square(t),
        rule.updates[s].subs(s, square(t - 1)),
        start=0,
        formula=(1 - beta2**t) * g**2,
    )
    time = symbols("t", positive=True)
    yield Limit(
        "At t = 0, first reading: the corrected moment m/(1 - beta1^t) of a constant gradient tends to g as t -> 0+",
        rule.definitions[m_hat].subs(t, time),
        time,
        0,
        value=g,
        writing={new(m): (1 - beta1**time) * g, **decaying(beta1)},
    )
    yield Limit(
        "At t = 0, second reading: the bare factor sqrt(1 - beta2^t)/(1 - beta1^t) tends to infinity as t -> 0+",
        sqrt(1 - beta2**time) / (1 - beta1**time),
        time,
        0,
        value=oo,
        writing=decaying(beta1, beta2),
    )
    slope = symbols("g", real=True, nonzero=True)
    first = {t: 1, m: 0, s: 0, g: slope}
    yield Identity(
        "With correction the first step is exactly lr sign(g) (epsilon = 0)",
        new(x) - x,
        -learning_rate * sign(slope),
        using=rule.definitions,
        given={**first, epsilon: 0},
    )
    yield Identity(
        "epsilon shortens it to lr |g|/(|g| + epsilon): it is not magnified, as it is without correction",
        new(x) - x,
        -learning_rate * slope / (Abs(slope) + epsilon),
        using=rule.definitions,
        given=first,
    )
    hat = symbols("epsilon_hat", positive=True)
    root = symbols("r", positive=True)
    # r is the root of the uncorrected second moment.
    here = 1 / (root / sqrt(1 - beta2**t) + epsilon)
    keras = sqrt(1 - beta2**t) / (root + hat)
    yield Identity(
        "epsilon before correction (Keras) is the same rule at epsilon_hat = epsilon sqrt(1 - beta2^t), which "
        "changes from step to step",
        keras,
        here,
        given={hat: epsilon * sqrt(1 - beta2**t)},
    )
    yield NoConstant(
        "No constant epsilon_hat does it",
        keras,
        here,
        hat,
        at=[{t: 1, beta2: Rational(3, 4), epsilon: 1}, {t: 2, beta2: Rational(3, 4), epsilon: 1}],
    )
    inside = symbols("s", positive=True)
    yield NoConstant(
        "Nor does a constant inside the root do what epsilon does outside",
        sqrt(inside + hat),
        sqrt(inside) + epsilon,
        hat,
        at=[{inside: 1, epsilon: Rational(1, 10)}, {inside: 4, epsilon: Rational(1, 10)}],
    )


adam = UpdateRule(
    "adam",
    state={m: "first_moment", s: "second_moment"},
    equations=[
        Eq(new(m), beta1 * m + (1 - beta1) * g),
        Eq(new(s), beta2 * s + (1 - beta2) * g**2),
        Eq(m_hat, new(m) / (1 - beta1**t)),
        Eq(s_hat, new(s) / (1 - beta2**t)),
        Minimise(m_hat * (new(x) - x) + (sqrt(s_hat) + epsilon) * (new(x) - x) ** 2 / (2 * learning_rate), over=new(x)),
    ],
    defaults={learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8},
    sources="Kingma and Ba (2015), arXiv:1412.6980",
    claims=claims,
    about="Adam: RMSProp with momentum, both moving averages corrected for having started at 0.",
    conventions=[
        "epsilon stands outside the square root, and after bias correction, as in the paper, PyTorch and Optax; Keras "
        "adds it before the correction",
        "t is raised before it is used: it is 1 at the first step",
    ],
    meanings={
        learning_rate: "length of a step under a steady gradient",
        beta1: "what is left of the first moment at each step",
        beta2: "what is left of the second moment at each step",
        epsilon: "keeps the division finite where all gradients were 0",
        m: "moving average of gradients",
        s: "moving average of squared gradients",
    },
)
