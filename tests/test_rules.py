"""Update rules as users state them: what is understood, what is refused, and what comes out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from sympy import Abs, Eq, Function, I, IndexedBase, Matrix, Max, Min, Piecewise, Rational, Sum, sign, sqrt, symbols

from derive.errors import StatementError, VerificationError
from derive.render import compile, module_text
from derive.rule import Minimise, UpdateRule, g, learning_rate, new, t, x
from derive.rule_check import compare_code, verify_rule

m, v, u = symbols("m v u", real=True)
s, s_hat = symbols("s s_hat", nonnegative=True)
m_hat = symbols("m_hat", real=True)
beta1, beta2, rho, epsilon, weight_decay, threshold = symbols(
    "beta1 beta2 rho epsilon weight_decay threshold", positive=True
)


def adamw() -> UpdateRule:
    return UpdateRule(
        "adamw",
        state={m: "first_moment", s: "second_moment"},
        equations=[
            Eq(new(m), beta1 * m + (1 - beta1) * g),
            Eq(new(s), beta2 * s + (1 - beta2) * g**2),
            Eq(m_hat, new(m) / (1 - beta1**t)),
            Eq(s_hat, new(s) / (1 - beta2**t)),
            Eq(new(x), x - learning_rate * (m_hat / (sqrt(s_hat) + epsilon) + weight_decay * x)),
        ],
        defaults={learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-2},
        sources="Loshchilov and Hutter (2019), arXiv:1711.05101",
    )


def lion() -> UpdateRule:
    return UpdateRule(
        "lion",
        state={m: "first_moment"},
        equations=[
            Eq(new(x), x - learning_rate * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * x)),
            Eq(new(m), beta2 * m + (1 - beta2) * g),
        ],
        defaults={learning_rate: 1e-4, beta1: 0.9, beta2: 0.99, weight_decay: 0.0},
    )


def walk(module: Any, params: Any, gradients: Any, in_place: bool, **hyper: float) -> Any:
    params, state = params.copy(), module.init(params)
    for gradient in gradients:
        if in_place:
            module.step(params, gradient, state, **hyper)
        else:
            params, state = module.update(params, gradient, state, **hyper)
    return params


@pytest.mark.parametrize("in_place", [False, True], ids=["update", "step"])
def test_adamw_in_a_dozen_lines_is_that_of_pytorch(in_place: bool, peer: Any) -> None:
    torch = peer("torch")
    gradients = np.random.default_rng(1).normal(size=(30, 4))
    theirs = torch.tensor(np.ones(4), requires_grad=True)
    optimizer = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for gradient in gradients:
        theirs.grad = torch.tensor(gradient)
        optimizer.step()
    ours = walk(compile(adamw()), np.ones(4), gradients, in_place, learning_rate=0.01, weight_decay=0.1)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("in_place", [False, True], ids=["update", "step"])
def test_lion_is_that_of_optax(in_place: bool, peer: Any) -> None:
    optax, jax = peer("optax"), peer("jax")
    gradients = np.random.default_rng(2).normal(size=(30, 4))
    with jax.enable_x64(True):
        optimizer = optax.lion(0.01, b1=0.9, b2=0.99, weight_decay=0.1)
        theirs = jax.numpy.ones(4)
        state = optimizer.init(theirs)
        for gradient in gradients:
            updates, state = optimizer.update(jax.numpy.asarray(gradient), state, theirs)
            theirs = theirs + updates
    ours = walk(compile(lion()), np.ones(4), gradients, in_place, learning_rate=0.01, weight_decay=0.1)
    np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-9)


#: Statements unlike each other, each with the same steps written by hand: (x, state, g, t) -> (x, state).
LANGUAGE: dict[str, tuple[UpdateRule, Any]] = {
    "average of iterates": (
        UpdateRule(
            "averaged",
            state=[u],
            start={u: x},
            equations=[Eq(new(x), x - learning_rate * g), Eq(new(u), u + (new(x) - u) / (t + 1))],
        ),
        lambda x, k, g, t: (x - 0.5 * g, {"u": k["u"] + (x - 0.5 * g - k["u"]) / (t + 1)}),
    ),
    "swap": (
        UpdateRule("swap", state=[u, v], equations=[Eq(new(u), v), Eq(new(v), u + g), Eq(new(x), x - new(u))]),
        lambda x, k, g, t: (x - k["v"], {"u": k["v"], "v": k["u"] + g}),
    ),
    "two that are one": (
        UpdateRule("twins", state=[u, v], equations=[Eq(new(u), u + g), Eq(new(v), u + g), Eq(new(x), x - new(v))]),
        lambda x, k, g, t: (x - k["u"] - g, {"u": k["u"] + g, "v": k["u"] + g}),
    ),
    "gradient kept as it is": (
        UpdateRule("last", state=[u], equations=[Eq(new(u), g), Eq(new(x), x - learning_rate * (2 * g - u))]),
        lambda x, k, g, t: (x - 0.5 * (2 * g - k["u"]), {"u": g}),
    ),
    "old x after new x": (
        UpdateRule("memory", state=[u], equations=[Eq(new(x), x - learning_rate * g + (x - u) / 3), Eq(new(u), x * 1)]),
        lambda x, k, g, t: (x - 0.5 * g + (x - k["u"]) / 3, {"u": x}),
    ),
    "clipped": (
        UpdateRule("clipped", equations=[Eq(new(x), x - learning_rate * Max(-threshold, Min(threshold, g)))]),
        lambda x, k, g, t: (x - 0.5 * np.clip(g, -0.5, 0.5), {}),
    ),
    "by sign": (
        UpdateRule(
            "signs",
            state=[u, v],
            start={u: Rational(1, 4)},
            equations=[
                Eq(new(u), Piecewise((u * Rational(6, 5), g * v > 0), (u / 2, g * v < 0), (u, True))),
                Eq(new(v), g),
                Eq(new(x), x - new(u) * sign(g)),
            ],
        ),
        lambda x, k, g, t: (
            x
            - (w := np.where(g * k["v"] > 0, 1.2 * k["u"], np.where(g * k["v"] < 0, k["u"] / 2, k["u"]))) * np.sign(g),
            {"u": w, "v": g},
        ),
    ),
    "powers": (
        UpdateRule(
            "powers",
            state=[s],
            equations=[
                Eq(new(s), s + Abs(g) ** 3),
                Eq(new(x), x - learning_rate * g / (new(s) + 1) ** Rational(2, 3) / sqrt(t)),
            ],
        ),
        lambda x, k, g, t: (
            x - 0.5 * g / (k["s"] + np.abs(g) ** 3 + 1) ** (2 / 3) / np.sqrt(t),
            {"s": k["s"] + np.abs(g) ** 3},
        ),
    ),
    "decimals": (
        UpdateRule("decimals", state=[v], equations=[Eq(new(v), 0.9 * v + g), Eq(new(x), x - 0.1 * new(v) / 2)]),
        lambda x, k, g, t: (x - 0.05 * (0.9 * k["v"] + g), {"v": 0.9 * k["v"] + g}),
    ),
    "letters without assumptions": (
        UpdateRule(
            "bare",
            state=symbols("a,"),
            equations=[
                Eq(new(symbols("a")), symbols("a") * symbols("q") + symbols("g") ** 2),
                Eq(new(symbols("x")), symbols("x") - symbols("g") / sqrt(new(symbols("a")) + 1)),
            ],
        ),
        lambda x, k, g, t: (x - g / np.sqrt(k["a"] * 0.5 + g**2 + 1), {"a": k["a"] * 0.5 + g**2}),
    ),
}


@pytest.mark.parametrize("in_place", [False, True], ids=["update", "step"])
@pytest.mark.parametrize("name", LANGUAGE)
def test_rules_of_all_sorts_do_what_they_say(name: str, in_place: bool) -> None:
    rule, by_hand = LANGUAGE[name]
    module = compile(rule)
    rng = np.random.default_rng(3)
    params = rng.normal(size=(2, 3))
    state = module.init(params)
    expected, kept = params.copy(), {s.name: getattr(state, s.name).copy() for s in rule.state}
    hyper = {h.name: 0.5 for h in rule.hyperparameters}
    for n, gradient in enumerate(rng.normal(size=(6, 2, 3)), start=1):
        expected, kept = by_hand(expected, kept, gradient, n)
        if in_place:
            module.step(params, gradient, state, **hyper)
        else:
            params, state = module.update(params, gradient, state, **hyper)
        np.testing.assert_allclose(params, expected, rtol=1e-12, atol=1e-14)
        for key, value in kept.items():
            np.testing.assert_allclose(getattr(state, key), value, rtol=1e-12, atol=1e-14)
    assert compare_code(rule, module) < 1e-12


@pytest.mark.parametrize("shape", [(), (5,), (70_001,)])
def test_scratch_arrays_keep_the_type_of_the_parameters(shape: tuple[int, ...]) -> None:
    """A choice between plain numbers, used twice, stands in a scratch array: NumPy alone would make it an integer."""
    side = symbols("side", real=True)
    equations = [
        Eq(side, Piecewise((1, g > 0), (2, True))),
        Eq(new(v), v * side + g),
        Eq(new(x), x - learning_rate * (new(v) / 3) * side**3),
    ]
    module = compile(UpdateRule("sides", state=[v], equations=equations))
    rng = np.random.default_rng(4)
    params = np.asarray(rng.normal(size=shape), np.float32)
    pure, state, its_state = params.copy(), module.init(params), module.init(params)
    for _ in range(3):
        gradient = np.asarray(rng.normal(size=shape), np.float32)
        pure, its_state = module.update(pure, gradient, its_state, learning_rate=0.1)
        module.step(params, gradient, state, learning_rate=0.1)
        np.testing.assert_allclose(params, pure, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(state.v, its_state.v, rtol=1e-5, atol=1e-5)


def test_numbers_are_rounded_only_where_arrays_meet_them() -> None:
    """A letter that also stands in a condition is compared there as the number it is, in float32 too."""
    bound = symbols("bound", positive=True)
    equations = [Eq(new(x), x - bound * Piecewise((g, g > 10**15 * bound - 10**9), (0, True)))]
    module = compile(UpdateRule("bounded", equations=equations))
    params, gradient = np.ones(3, np.float32), np.full(3, 0.5, np.float32)
    # The gradient is not above 1, but above what is left of that when the bound is rounded to float32: 0.
    bound_is = 1.000000001e-6
    pure, _ = module.update(params, gradient, module.init(params), bound=bound_is)
    module.step(params, gradient, module.init(params), bound=bound_is)
    np.testing.assert_array_equal(params, 1)
    np.testing.assert_array_equal(params, pure)


def test_names_of_the_code_give_way_to_those_of_the_rule() -> None:
    """Hyperparameters and letters that are called as something in ``step`` is."""
    names = "dtype blocks float type id one_minus_float scratch factor"
    dtype, blocks, float_, type_, id_, taken, scratch, factor = symbols(names, positive=True)
    equations = [
        Eq(new(v), float_ * v + (1 - float_) * g * taken),
        Eq(new(x), x - (dtype * new(v) + blocks * g) * type_ / (Abs(g) * id_ + scratch) - sqrt(factor + dtype) * v),
    ]
    rule = UpdateRule("names", state=[v], equations=equations)
    assert compare_code(rule, compile(rule)) < 1e-12


def test_rules_with_many_letters_fit_the_page() -> None:
    """Long tests, calls and headings are broken where they would leave the page, and still do what they say."""
    kept = symbols("first_of_many:9", real=True)
    numbers = symbols("coefficient_of_many:9", positive=True)
    parts = list(zip(kept, numbers, strict=True))
    equations = [
        *(Eq(new(q), q * c + g) for q, c in parts),
        Eq(new(x), x - sum((c + 1) * new(q) ** 2 for q, c in parts)),
    ]
    rule = UpdateRule("many", state=kept, equations=equations)
    module, text = compile(rule), module_text(rule)
    step = text[text.index("    if not _ordinary(\n") : text.index("def _shown(")].splitlines()
    assert max(len(line) for line in step if not line.endswith(" = _numbers(")) <= 120
    assert compare_code(rule, module) < 1e-12
    hyper = {h.name: 0.5 for h in rule.hyperparameters}
    params, gradient = np.ones(3), np.ones(3)
    state = module.init(params)
    assert module._ordinary(params, gradient, state, *hyper.values())
    for wrong in (np.ones(4), np.ones(3, np.float32), params, gradient, np.ones(6)[::2], read_only(), [1.0] * 3):
        for q in kept[::4]:
            bad = module.init(params)
            setattr(bad, q.name, wrong)
            assert not module._ordinary(params, gradient, bad, *hyper.values())
    for name in list(hyper)[::4]:
        for value in (np.inf, np.nan, 1):
            assert not module._ordinary(params, gradient, state, *{**hyper, name: value}.values())
    assert not module._ordinary(params, gradient, state, np.inf, -np.inf, *[0.5] * 7)
    assert not module._ordinary(params, gradient, state, *[1e308] * 9)


def read_only() -> Any:
    array = np.ones(3)
    array.flags.writeable = False
    return array


def test_results_never_share_memory_with_the_gradient() -> None:
    module = compile(LANGUAGE["gradient kept as it is"][0])
    gradient = np.ones(3)
    _, state = module.update(np.ones(3), gradient, module.init(np.ones(3)), learning_rate=0.1)
    assert not np.shares_memory(state.u, gradient)


# --- What is refused ---------------------------------------------------------------------------------------------

A, k = IndexedBase("A"), symbols("k", integer=True)
F = Function("F")


def stated(*equations: Any, **options: Any) -> Any:
    return lambda: UpdateRule("mine", list(equations), **options)


STEP = Eq(new(x), x - learning_rate * g)
REFUSED = {
    "no equation for x": (stated(Eq(m_hat, g)), "no equation gives x its new value; write Eq(new(x), ...)"),
    "no equation for a state": (stated(STEP, state=[v]), "no equation gives v its new value"),
    "old value on the left": (stated(Eq(v, g), STEP, state=[v]), "equation 1 (v): v is known before the step; its new"),
    "state not listed": (stated(Eq(new(v), g), STEP), "equation 1 (v'): v' is new, but v is no state; list v in state"),
    "two equations": (stated(STEP, STEP), "equation 2 (x'): x' has an equation already"),
    "used before": (
        stated(Eq(new(x), x - new(v)), Eq(new(v), g), state=[v]), "equation 1 (x'): v' is used before its equation"),
    "named after use": (stated(Eq(new(x), x - m_hat), Eq(m_hat, g)), "m_hat is used before its equation"),
    "prime from nowhere": (stated(Eq(new(x), x - new(v))), "v' has no equation before this one"),
    "not an equation": (stated(x - g), "equation 1: -g + x is no equation; write Eq(new(v), ...)"),
    "not a list": (lambda: UpdateRule("mine", STEP), "equations is a list"),
    "expression on the left": (stated(Eq(x - g, new(x))), "is no letter"),
    "a sum over elements": (stated(Eq(new(x), x - g / Sum(A[k], (k, 0, 3)))), "is not understood element by element"),
    "an index": (stated(Eq(new(x), x - A[0])), "A[0] (Indexed) is not understood element by element; accepted"),
    "unknown function": (stated(Eq(new(x), x - F(g))), "F(g) (F) is not understood element by element"),
    "imaginary": (stated(Eq(new(x), x - I * g)), "I is not a real number"),
    "matrix": (stated(Eq(new(x), Matrix([g]))), "no equation"),
    "constant": (stated(Eq(new(x), learning_rate)), "learning_rate is the same for all elements"),
    "default of a state": (stated(Eq(new(v), g), STEP, state=[v], defaults={v: 1}), "defaults: v is not a hyper"),
    "unused default": (stated(STEP, defaults={rho: 0.9}), "defaults: rho stands in no equation"),
    "default that is no number": (stated(STEP, defaults={learning_rate: "0.1"}), "learning_rate='0.1' is not"),
    "infinite default": (stated(STEP, defaults={learning_rate: float("inf")}), "is not a finite real number"),
    "default by string": (stated(STEP, defaults={"learning_rate": 0.1}), "'learning_rate' is not a Symbol"),
    "state called x": (stated(STEP, state=[x]), "state: x has a meaning already"),
    "two states of one name": (stated(STEP, state={u: "velocity", v: "velocity"}), "would be called 'velocity'"),
    "state named by keyword": (stated(STEP, state={v: "lambda"}), "would be called 'lambda'; a name in code"),
    "state named params": (stated(STEP, state={v: "params"}), "would be called 'params'"),
    "hyperparameter of that name": (
        stated(Eq(new(x), x - symbols("lambda") * g)), "lambda would be called 'lambda'; a name in code"),
    "start of nothing": (stated(STEP, start={v: 1}), "start: v is not a state"),
    "gradient at itself": (stated(STEP, gradient_at=x + g), "gradient_at: g is the gradient itself"),
    "name": (lambda: UpdateRule("my rule", [STEP]), "'my rule': the name must be a Python identifier"),
    "not quadratic": (stated(Minimise(g * new(x) + new(x) ** 4, over=new(x))), "is not quadratic in x'"),
    "a maximum": (
        stated(Minimise(g * new(x) - (new(x) - x) ** 2 / learning_rate, over=new(x))), "not known to be positive"),
    "unknown sign": (
        stated(Minimise(g * new(x) + symbols("c", real=True) * (new(x) - x) ** 2, over=new(x))),
        "has curvature 2*c, which is not known to be positive"),
    "another unknown": (stated(Minimise(g * u, over=new(x))), "does not depend on x'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_refused_by_name(case: Any) -> None:
    make, words = case
    with pytest.raises(StatementError, match=re.escape(words)) as caught:
        make()
    assert str(caught.value).startswith("update rule 'm")


def test_new_is_for_quantities_before_the_step() -> None:
    for wrong in (new(x), x + 1, 3):
        with pytest.raises(StatementError, match="only a state or x has a new value"):
            new(wrong)


# --- Derived, not stated ------------------------------------------------------------------------------------------


def test_the_update_is_what_falls_out_of_the_problem() -> None:
    """Change the metric in the statement: equation and code change, with nothing else said."""

    def in_metric(metric: Any) -> UpdateRule:
        return UpdateRule(
            "metric",
            state=[s],
            equations=[
                Eq(new(s), s + g**2),
                Minimise(g * (new(x) - x) + metric * (new(x) - x) ** 2 / (2 * learning_rate), over=new(x)),
            ],
        )

    root, plain = in_metric(sqrt(new(s)) + 1), in_metric(new(s) + 1)
    assert root.equations[1].rhs == x - learning_rate * g / (sqrt(new(s)) + 1)
    assert plain.equations[1].rhs == x - learning_rate * g / (new(s) + 1)
    assert "grad / (s + 1)" in module_text(plain)
    problem = root.problems[0]
    assert problem.unknown == new(x)
    assert problem.stationarity.lhs.subs(new(x), problem.solution.rhs).simplify() == 0
    assert problem.curvature.is_positive


def test_code_that_departs_from_the_equations_is_caught() -> None:
    """The check of the check: plant faults in the printed module."""
    rule = adamw()
    text = module_text(rule)
    faults = {
        "update": [
            ("beta1 * state.first_moment + (1 - beta1) * grad", "beta1 * state.first_moment + (1 + beta1) * grad"),
            ("(np.sqrt(s_hat) + epsilon)", "np.sqrt(s_hat + epsilon)"),
            ("m_hat = first_moment / (1 - beta1**t)", "m_hat = first_moment"),
        ],
        "step": [("m += scratch_1", "m -= scratch_1"), ("t = state.t + 1\n    dtype", "t = state.t + 2\n    dtype")],
    }
    for function, pairs in faults.items():
        for right, wrong in pairs:
            assert right in text
            module: dict[str, Any] = {"__name__": "__main__"}
            exec(text.replace(right, wrong), module)
            with pytest.raises(VerificationError, match=f"adamw: {function} makes"):
                compare_code(rule, type("Module", (), {k: staticmethod(f) for k, f in module.items() if callable(f)}))
    assert verify_rule(rule).largest_error < 1e-12


# --- Text --------------------------------------------------------------------------------------------------------


def test_rules_read_well_in_a_terminal() -> None:
    from derive.catalogue import catalogue

    for rule in [adamw(), lion(), *(s for s in catalogue() if isinstance(s, UpdateRule))]:
        text = str(rule)
        assert max(map(len, text.splitlines())) <= 80, rule.name
        for equation in rule.equations:
            assert f"{equation.lhs} = " in text
        assert "1.0*" not in text
        assert len(repr(rule).splitlines()) == 1


def test_pages_are_lines_that_a_person_would_sign() -> None:
    from derive.catalogue import catalogue

    for rule in [adamw(), lion(), *(s for s in catalogue() if isinstance(s, UpdateRule))]:
        text = module_text(rule)
        for line in text.splitlines():
            assert len(line) <= 120, line
            assert line == line.rstrip()
        assert "\n\n\n\n" not in text
        assert "1.0 *" not in text
        imported = re.findall(r"^(?:import|from) (\S+)", text, flags=re.MULTILINE)
        assert set(imported) <= {
            "__future__",
            "collections.abc",
            "dataclasses",
            "math",
            "numpy",
            "numpy.typing",
            "typing",
        }
        for equation in rule.equations:
            assert rule.text(equation).replace(" ", "") in re.sub(r"\s", "", text)
