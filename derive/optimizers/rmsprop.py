"""RMSProp (Tieleman and Hinton, 2012): AdaGrad with a leak."""

from collections.abc import Iterator

from sympy import Eq, Function, Rational, oo, sign, sqrt, symbols

from derive.claims import Claim, ClosedForm, Counterexample, Equivalence, Identity, Limit, NoConstant, decaying
from derive.rule import Minimise, UpdateRule, g, learning_rate, new, t, x

s = symbols("s", nonnegative=True)
decay_rate, epsilon = symbols("decay_rate epsilon", positive=True)


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
    average = Function("s")
    recurrence = rule.updates[s].subs(s, average(t - 1))
    mean_square = ClosedForm(
        "Under a constant gradient the moving average of squares is (1 - decay_rate^t) g^2",
        average(t),
        recurrence,
        start=0,
        formula=(1 - decay_rate**t) * g**2,
    )
    yield mean_square
    slope = symbols("g", real=True, nonzero=True)
    step = exact[x] - x
    yield Identity(
        "Under a constant gradient step t is lr/sqrt(1 - decay_rate^t), whatever the gradient (epsilon = 0)",
        new(x) - x,
        -learning_rate * sign(slope) / sqrt(1 - decay_rate**t),
        using=rule.definitions,
        # Step t starts from the average after t - 1 steps.
        given={s: mean_square.formula.subs(t, t - 1), epsilon: 0, g: slope},
    )
    yield Limit(
        "So the step tends to lr sign(g) and does not die out",
        -learning_rate * sign(slope) / sqrt(1 - decay_rate**t),
        t,
        oo,
        value=-learning_rate * sign(slope),
        writing=decaying(decay_rate),
    )
    hat, start = symbols("epsilon_hat s_0", nonnegative=True)
    yield NoConstant(
        "epsilon inside the root (TensorFlow, Keras, Optax) is another rule: no constant there does what epsilon does "
        "outside",
        sqrt(s + hat),
        sqrt(s) + epsilon,
        hat,
        at=[{s: 0, epsilon: Rational(1, 10)}, {s: 1, epsilon: Rational(1, 10)}],
    )
    yield Counterexample(
        "An average that starts at 1 instead of 0 makes another first step",
        step.subs(s, 0),
        step.subs(s, 1),
        at={g: 1, decay_rate: Rational(16, 25), learning_rate: 1},
    )
    started = ClosedForm(
        "An average that starts at s_0 is larger by decay_rate^t s_0",
        average(t),
        recurrence,
        start=start,
        formula=mean_square.formula + decay_rate**t * start,
    )
    yield started
    yield Limit(
        "So where it starts is forgotten",
        started.formula - mean_square.formula,
        t,
        oo,
        value=0,
        writing=decaying(decay_rate),
    )


rmsprop = UpdateRule(
    "rmsprop",
    state={s: "grad_squared"},
    equations=[
        Eq(new(s), decay_rate * s + (1 - decay_rate) * g**2),
        Minimise(g * (new(x) - x) + (sqrt(new(s)) + epsilon) * (new(x) - x) ** 2 / (2 * learning_rate), over=new(x)),
    ],
    defaults={learning_rate: 1e-2, decay_rate: 0.99, epsilon: 1e-8},
    sources="the course's assignments (CS231n)",
    claims=claims,
    about="RMSProp: AdaGrad with a leak, a moving average in place of the sum.",
    conventions=[
        "epsilon stands outside the square root, as in PyTorch and in the lecture; TensorFlow, Keras and Optax put it "
        "inside",
        "The average starts at 0",
    ],
    meanings={
        learning_rate: "length of a step once the average has settled",
        decay_rate: "what is left of the average at each step",
        epsilon: "keeps the division finite where all gradients were 0",
        s: "moving average of squared gradients",
    },
)
