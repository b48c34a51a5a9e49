"""AdaGrad (Duchi, Hazan and Singer, 2011): a metric made of all squared gradients so far."""

from collections.abc import Iterator

from sympy import Abs, Eq, Function, Rational, oo, sign, sqrt, symbols

from derive.claims import Claim, ClosedForm, Equivalence, Identity, Limit, NoConstant
from derive.rule import Minimise, UpdateRule, g, learning_rate, new, t, x

s = symbols("s", nonnegative=True)
epsilon = symbols("epsilon", positive=True)


def claims(rule: UpdateRule) -> Iterator[Claim]:
    exact = {q: e.subs(epsilon, 0) for q, e in rule.updates.items()}
    steep, shallow = symbols("a b", positive=True)
    yield Equivalence(
        "On a quadratic, from the same distance, steep (a) and shallow (b) directions take the same steps: "
        "at epsilon = 0 their iterates never differ",
        first={q: e.subs(g, steep * x) for q, e in exact.items()},
        second={q: e.subs(g, shallow * x) for q, e in exact.items()},
        relation={x: x, s: (shallow / steep) ** 2 * s},
        start=rule.start,
        second_start=rule.start,
    )
    total = Function("s")
    accumulated = ClosedForm(
        "Under a constant gradient the sum of squares is t g^2",
        total(t),
        rule.updates[s].subs(s, total(t - 1)),
        start=0,
        formula=t * g**2,
    )
    yield accumulated
    slope = symbols("g", real=True, nonzero=True)
    yield Identity(
        "Under a constant gradient step t is lr/sqrt(t), whatever the gradient (epsilon = 0)",
        new(x) - x,
        -learning_rate * sign(slope) / sqrt(t),
        using=rule.definitions,
        # Step t starts from the sum after t - 1 steps.
        given={s: accumulated.formula.subs(t, t - 1), epsilon: 0, g: slope},
    )
    yield Limit("So the step dies out", learning_rate / sqrt(t), t, oo, value=0)
    hat, start = symbols("epsilon_hat s_0", nonnegative=True)
    at = [{s: 0, epsilon: Rational(1, 10)}, {s: 1, epsilon: Rational(1, 10)}]
    yield NoConstant(
        "epsilon inside the root is another rule: no constant there does what epsilon does outside",
        sqrt(s + hat),
        sqrt(s) + epsilon,
        hat,
        at=at,
    )
    yield NoConstant(
        "A sum that starts above 0 (0.1 in Keras and Optax) is another rule: no constant epsilon makes up for it",
        sqrt(s) + hat,
        sqrt(s + start),
        hat,
        at=[{s: 0, start: Rational(1, 10)}, {s: Rational(9, 10), start: Rational(1, 10)}],
    )
    yield Identity(
        "With epsilon inside the root, a sum that starts above 0 is a larger epsilon: there a map exists",
        sqrt((start + s) + epsilon),
        sqrt(s + hat),
        given={hat: start + epsilon},
    )
    later = symbols("S", positive=True)
    yield Limit(
        "The start is forgotten as squares add up: both steps become alike",
        sqrt(later + start) / sqrt(later),
        later,
        oo,
        value=1,
    )
    yield Identity(
        "The length of the first step is lr |g|/(|g| + epsilon)",
        new(x) - x,
        -learning_rate * g / (Abs(g) + epsilon),
        using=rule.definitions,
        given={s: 0},
    )


adagrad = UpdateRule(
    "adagrad",
    state={s: "grad_squared"},
    equations=[
        Eq(new(s), s + g**2),
        Minimise(g * (new(x) - x) + (sqrt(new(s)) + epsilon) * (new(x) - x) ** 2 / (2 * learning_rate), over=new(x)),
    ],
    defaults={learning_rate: 1e-2, epsilon: 1e-8},
    sources={learning_rate: "PyTorch", epsilon: "the course's assignments (CS231n)"},
    claims=claims,
    about="AdaGrad: SGD in a metric made of the sum of all squared gradients so far.",
    conventions=[
        "epsilon stands outside the square root, as in PyTorch and in the lecture",
        "The sum of squares starts at 0, as in PyTorch and in the lecture; Keras and Optax start at 0.1",
    ],
    meanings={
        learning_rate: "length of the first step",
        epsilon: "keeps the division finite where all gradients were 0",
        s: "sum of squared gradients",
    },
)
