"""Adam without bias correction: RMSProp with momentum."""

from collections.abc import Iterator

from sympy import Abs, Eq, Rational, oo, sign, sqrt, symbols

from derive.claims import Claim, Identity, Limit
from derive.rule import Minimise, UpdateRule, g, learning_rate, new, x

m = symbols("m", real=True)
s = symbols("s", nonnegative=True)
beta1, beta2, epsilon = symbols("beta1 beta2 epsilon", positive=True)


def claims(rule: UpdateRule) -> Iterator[Claim]:
    slope = symbols("g", real=True, nonzero=True)
    first = {m: 0, s: 0, g: slope}
    ratio = (1 - beta1) / sqrt(1 - beta2)
    yield Identity(
        "The first step is (1 - beta1)/sqrt(1 - beta2) learning rates, whatever the gradient (epsilon = 0)",
        new(x) - x,
        -learning_rate * sign(slope) * ratio,
        using=rule.definitions,
        given={**first, epsilon: 0},
    )
    yield Identity(
        "At beta1 = 0.9 and beta2 = 0.999 that is sqrt(10), more than three learning rates",
        ratio,
        sqrt(10),
        given={beta1: Rational(9, 10), beta2: Rational(999, 1000)},
    )
    rest, c = symbols("d c", positive=True)
    yield Limit(
        "As beta2 = 1 - d tends to 1 the first step grows without bound",
        ratio.subs(beta2, 1 - rest),
        rest,
        0,
        value=oo,
        writing={beta1: 1 / (1 + c)},
    )
    yield Identity(
        "epsilon acts on it as if it were epsilon/sqrt(1 - beta2)",
        new(x) - x,
        -learning_rate * ratio * slope / (Abs(slope) + epsilon / sqrt(1 - beta2)),
        using=rule.definitions,
        given=first,
    )


adam_almost = UpdateRule(
    "adam_almost",
    state={m: "first_moment", s: "second_moment"},
    equations=[
        Eq(new(m), beta1 * m + (1 - beta1) * g),
        Eq(new(s), beta2 * s + (1 - beta2) * g**2),
        Minimise(
            new(m) * (new(x) - x) + (sqrt(new(s)) + epsilon) * (new(x) - x) ** 2 / (2 * learning_rate), over=new(x)
        ),
    ],
    defaults={learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8},
    sources="Kingma and Ba (2015), arXiv:1412.6980",
    claims=claims,
    about="Adam without bias correction: RMSProp with momentum.",
    conventions=[
        "epsilon stands outside the square root",
        "No bias correction: the first steps are too long, by sqrt(10) at the defaults",
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
