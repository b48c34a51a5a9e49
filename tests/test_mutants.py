"""The checks are checked: every fault planted in the generated losses that changes a result has to be caught."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from mutants import load, mutants

from derive.catalogue import catalogue, kind
from derive.errors import VerificationError
from derive.gradient_check import gradcheck
from derive.points import draw, positive, scattered, tied
from derive.render import module_text
from derive.statement import read
from derive.verify_code import Gate

LOSSES = [statement for statement in catalogue() if kind(statement) == "loss"]


def outputs(module, points):
    """What a module returns at many points; exceptions count as an answer too."""
    found = []
    for point in points:
        for function in ("loss", "grad", "loss_and_grad"):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found.append(point.call(module, function))
            except Exception as error:
                found.append(type(error).__name__)
    return found


def same(a, b):
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, str) or isinstance(b, str):
        return a is b or (isinstance(a, str) and a == b)
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True)


def points(form):
    drawn = [draw(form, entries, seed, larger=seed % 3) for entries in (scattered, tied, positive) for seed in range(3)]
    return [point.rounded() for point in drawn]


@pytest.fixture(scope="module")
def score():
    tally = {}
    yield tally
    caught, changed, silent = (sum(counts[n] for counts in tally.values()) for n in range(3))
    print(f"\nmutants: {caught} of {changed} that change a result were caught; {silent} more change nothing")
    for name, counts in tally.items():
        print(f"  {name}: {counts[0]} of {counts[1]}")


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_every_mutant_that_changes_a_result_is_caught_by_the_gate(loss, score):
    form, gate, source = read(loss), Gate(loss), module_text(loss)
    labels = tuple(v.name for v in form.data if v.labels is not None)
    where = points(form)
    right = outputs(load(source), where)
    gate.check(load(source))
    caught, survivors, silent = 0, [], 0
    for what, text in mutants(source, labels):
        mutant = load(text)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                gate.check(mutant)
        except VerificationError:
            caught += 1
        except Exception:  # the mutant does not even run
            caught += 1
        else:
            if same(tuple(outputs(mutant, where)), tuple(right)):
                silent += 1
            else:
                survivors.append(what)
    score[loss.name] = (caught, caught + len(survivors), silent)
    assert survivors == []
    assert caught >= 5


@pytest.mark.parametrize("name", ["svm", "softmax", "lasso"])
def test_the_check_without_a_statement_catches_every_wrong_gradient_too(name):
    """``derive.gradcheck`` sees nothing but the two functions, at a point without ties."""
    loss = next(s for s in LOSSES if s.name == name)
    form, source = read(loss), module_text(loss)
    labels = tuple(v.name for v in form.data if v.labels is not None)
    point = next(p for p in points(form) if np.all(np.isfinite(np.asarray(outputs(load(source), [p])[0], float))))
    original = load(source)
    right = point.call(original, "grad")
    positions = tuple(range(len(form.parameters)))
    wrt = positions if len(positions) > 1 else 0

    def check(grad):
        return gradcheck(original.loss, grad, *point.arguments.values(), wrt=wrt, **point.hyperparameters)

    assert check(original.grad)
    survivors = []
    for what, text in mutants(source, labels):
        if not what.startswith("grad,"):
            continue
        mutant = load(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                changed = not same(point.call(mutant, "grad"), right)
            except Exception:
                changed = True
            if changed and check(mutant.grad):
                survivors.append(what)
    assert survivors == []
