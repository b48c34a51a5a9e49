"""Handwritten digits: three losses, every optimizer, and what the hyperparameters of the lecture do.

The digits come with scikit-learn (Alpaydin and Kaynak, 1998): 1797 pictures of 8 x 8 pixels, in ten classes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from derive.demo.generated import OPTIMIZERS, module
from derive.demo.page import Picture, Section, Table
from derive.demo.style import COLOURS, DASHES, GREY, Label, axes, figure, label_ends, shades, svg
from derive.loops import DivergenceError, initial_weights, minibatch_descent

__all__ = ["CLASSIFIERS", "Classifier", "Digits", "Run", "load", "sections", "train"]

STEPS, BATCH = 400, 256
SEARCH_STEPS = 100
HIDDEN, CLASSES = 64, 10
SEED = 0

#: Learning rates to choose from. Momentum multiplies the length of a step by up to 1/(1 - rho) = 10.
RATES = dict.fromkeys(OPTIMIZERS, (0.03, 0.1, 0.3, 1.0)) | {
    "sgd": (0.1, 0.3, 1.0, 3.0),
    **dict.fromkeys(("rmsprop", "adam_almost", "adam"), (0.001, 0.003, 0.01, 0.03)),
}


class Digits(NamedTuple):
    """Pictures as rows of numbers between 0 and 1 with a 1 at the end, and what they show."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class Classifier:
    """A loss, where its parameters start, and how it scores the classes."""

    loss: str
    title: str
    start: Callable[[float | None], Any]
    scores: Callable[..., np.ndarray]

    def accuracy(self, params: Any, X: np.ndarray, y: np.ndarray) -> float:
        """The share of pictures whose own class has the highest score."""
        return float((self.scores(X, *_several(params)).argmax(axis=1) == y).mean())


class Run(NamedTuple):
    """What a run showed at some of its steps: the loss on all training pictures, the accuracy on the test pictures."""

    optimizer: str
    rate: float
    steps: list[int]
    losses: list[float]
    accuracies: list[float]


def load() -> Digits:
    """The digits, shuffled; a fifth of them is for testing."""
    from sklearn.datasets import load_digits

    pixels, y = load_digits(return_X_y=True)
    X = np.hstack([pixels / 16, np.ones((len(pixels), 1))]).astype(np.float32)
    order = np.random.default_rng(SEED).permutation(len(X))
    test, train_ = np.split(order, [len(X) // 5])
    return Digits(X[train_], y[train_], X[test], y[test])


def _linear_start(scale: float | None) -> np.ndarray:
    return initial_weights((CLASSES, 65), 0.01 if scale is None else scale, SEED).astype(np.float32)


def _network_start(scale: float | None) -> tuple[np.ndarray, ...]:
    # He et al. (2015): sqrt(2 / number of inputs) keeps the size of the signal through a layer of ReLUs.
    rng = np.random.default_rng(SEED)
    first, second = (np.sqrt(2 / inputs) if scale is None else scale for inputs in (65, HIDDEN))
    arrays = (
        initial_weights((HIDDEN, 65), float(first), rng),
        np.zeros(HIDDEN),
        initial_weights((CLASSES, HIDDEN), float(second), rng),
        np.zeros(CLASSES),
    )
    return tuple(a.astype(np.float32) for a in arrays)


def _linear_scores(X: np.ndarray, W: np.ndarray) -> np.ndarray:
    return X @ W.T


def _network_scores(X: np.ndarray, W1: np.ndarray, b1: np.ndarray, W2: np.ndarray, b2: np.ndarray) -> np.ndarray:
    return np.maximum(0, X @ W1.T + b1) @ W2.T + b2


SVM = Classifier("svm", "SVM", _linear_start, _linear_scores)
SOFTMAX = Classifier("softmax", "Softmax", _linear_start, _linear_scores)
NETWORK = Classifier("two_layer_net", "Two-layer network", _network_start, _network_scores)
CLASSIFIERS = (SVM, SOFTMAX, NETWORK)


def train(
    classifier: Classifier,
    digits: Digits,
    optimizer: str,
    rate: float,
    *,
    steps: int = STEPS,
    batch_size: int = BATCH,
    scale: float | None = None,
    every: int = 10,
) -> Run:
    """One run; it ends early if the loss leaves the range of floating-point numbers."""
    loss = module(classifier.loss)
    shown = Run(optimizer, rate, [], [], [])

    def note(step: int, params: Any) -> None:
        shown.steps.append(step)
        shown.losses.append(loss.loss(*_several(params), digits.X, digits.y))
        shown.accuracies.append(classifier.accuracy(params, digits.X_test, digits.y_test))

    def watch(step: int, _: float, params: Any) -> None:
        if step % every == 0:
            note(step, params)

    try:
        with np.errstate(over="ignore", invalid="ignore"):
            result = minibatch_descent(
                loss.loss_and_grad,
                classifier.start(scale),
                (digits.X, digits.y),
                optimizer=module(optimizer),
                steps=steps,
                batch_size=batch_size,
                seed=SEED,
                callback=watch,
                learning_rate=rate,
            )
            note(steps, result.params)
    except DivergenceError:
        pass
    return shown


def search(classifier: Classifier, digits: Digits, optimizer: str) -> float:
    """The learning rate whose short run does best on training pictures that it was not trained on."""
    held_out = len(digits.X) // 5
    part = Digits(digits.X[held_out:], digits.y[held_out:], digits.X[:held_out], digits.y[:held_out])
    loss = module(classifier.loss)

    def validation_loss(rate: float) -> float:
        try:
            result = minibatch_descent(
                loss.loss_and_grad,
                classifier.start(None),
                (part.X, part.y),
                optimizer=module(optimizer),
                steps=SEARCH_STEPS,
                batch_size=BATCH,
                seed=SEED,
                learning_rate=rate,
            )
        except DivergenceError:
            return np.inf
        return float(loss.loss(*_several(result.params), part.X_test, part.y_test))

    return min(RATES[optimizer], key=validation_loss)


def _several(params: Any) -> tuple[np.ndarray, ...]:
    return params if isinstance(params, tuple) else (params,)


# -- sections ----------------------------------------------------------------------------------------------------------


def sections(tell: Callable[[str], None]) -> list[Section]:
    digits = load()
    return [_every_optimizer(digits, tell), _hyperparameters(digits, tell)]


def _every_optimizer(digits: Digits, tell: Callable[[str], None]) -> Section:
    pictures, found = [], {}
    for classifier in CLASSIFIERS:
        tell(f"digits, {classifier.title}: search of learning rates, {STEPS} steps with every optimizer")
        runs = [train(classifier, digits, name, search(classifier, digits, name)) for name in OPTIMIZERS]
        for run in runs:
            found[classifier.loss, run.optimizer] = run
            print(
                f"          {run.optimizer:18}  learning rate {run.rate:<6g}  loss {run.losses[-1]:7.4f}"
                f"  test accuracy {run.accuracies[-1]:6.1%}"
            )
        pictures += [_loss_curves(classifier, runs), _accuracy_curves(classifier, runs)]
    head = ("Test accuracy, learning rate", *(c.title for c in CLASSIFIERS))
    cells = {key: f"{run.accuracies[-1]:.1%} at {run.rate:g}" for key, run in found.items()}
    rows = tuple((name, *(cells[c.loss, name] for c in CLASSIFIERS)) for name in OPTIMIZERS)
    about = (
        f"Handwritten digits, 8 by 8 pixels: {len(digits.X)} to learn from, {len(digits.X_test)} to test. Three "
        f"losses, nine optimizers, {STEPS} steps on minibatches of {BATCH}. Each learning rate is the best of four in "
        "a short search on a fifth of the training pictures, held out; rates that suit one rule are far off for "
        "another."
    )
    return Section("Learning to read digits", about, tuple(pictures), Table(head, rows))


def _loss_curves(classifier: Classifier, runs: Sequence[Run]) -> Picture:
    picture = figure()
    ax = axes(picture, x="step", y="loss on the training pictures", title=classifier.title, yscale="log")
    _draw(ax, runs, [run.losses for run in runs])
    best = min(runs, key=lambda run: run.losses[-1])
    caption = f"{classifier.title}: training loss. After {STEPS} steps {best.optimizer} is lowest."
    label_ends(ax, [Label(run.losses[-1], run.optimizer, COLOURS[run.optimizer]) for run in runs])
    return Picture(f"digits-{classifier.loss}-loss", svg(picture), caption)


def _accuracy_curves(classifier: Classifier, runs: Sequence[Run]) -> Picture:
    from matplotlib.ticker import PercentFormatter

    picture = figure()
    ax = axes(picture, x="step", y="test accuracy", title=classifier.title, ylim=(0.9, 1.0))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_yticks(np.linspace(0.9, 1.0, 6))
    _draw(ax, runs, [run.accuracies for run in runs])
    lowest, highest = (pick(run.accuracies[-1] for run in runs) for pick in (min, max))
    caption = f"{classifier.title}: accuracy on the test pictures, {lowest:.1%} to {highest:.1%} at the end."
    labels = [Label(r.accuracies[-1], f"{r.optimizer} {r.accuracies[-1]:.1%}", COLOURS[r.optimizer]) for r in runs]
    label_ends(ax, labels)
    return Picture(f"digits-{classifier.loss}-accuracy", svg(picture), caption)


def _draw(ax: Any, runs: Sequence[Run], heights: Sequence[Sequence[float]]) -> None:
    for run, ys in zip(runs, heights, strict=True):
        ax.plot(run.steps, ys, color=COLOURS[run.optimizer], linestyle=DASHES[run.optimizer])
    ax.set_xlim(0, STEPS)


def _hyperparameters(digits: Digits, tell: Callable[[str], None]) -> Section:
    tell("digits: learning rate, batch size, initial weights")
    sgd = functools.partial(train, digits=digits, optimizer="sgd", every=5)
    rates = (0.001, 0.01, 0.1, 1.0, 10.0)
    by_rate = [sgd(NETWORK, rate=rate) for rate in rates]
    sizes = (1, 8, 64, 256, len(digits.X))
    by_size = [sgd(SOFTMAX, rate=0.3, batch_size=size) for size in sizes]
    scales = (0.0, 0.01, 0.1, 1.0, 3.0)
    by_scale = [sgd(NETWORK, rate=0.1, scale=scale) for scale in scales]
    pictures = (
        Picture(
            "learning-rate",
            _family("Learning rate", by_rate, [f"{rate:g}" for rate in rates]),
            "Two-layer network by plain descent. Too small is slow. Far too large, the first steps throw all hidden "
            "units to where they are 0 for every picture, and the network guesses ever after.",
        ),
        Picture(
            "batch-size",
            _family("Batch size", by_size, [f"{size} (all)" if size == len(digits.X) else str(size) for size in sizes]),
            "Softmax by plain descent at learning rate 0.3. A step on 64 digits does about as well as one on all of "
            f"them, at {64 / len(digits.X):.0%} of the work; a step on a single digit is mostly noise.",
        ),
        Picture(
            "initial-weights",
            _family("Standard deviation of the initial weights", by_scale, [f"{scale:g}" for scale in scales]),
            "Two-layer network by plain descent. From zero, all hidden units are dead and stay so; very small weights "
            "lose time, and very large ones start from confident mistakes.",
        ),
    )
    about = (
        "The lecture names them: learning rate, batch size, initial weights, number of steps. Each picture changes one "
        "and keeps the rest; darker is larger. The loss is that of all training pictures, so what one sees as noise is "
        "the path, not the measurement."
    )
    return Section("What the hyperparameters do", about, pictures)


def _family(title: str, runs: Sequence[Run], names: Sequence[str]) -> str:
    """Loss curves of one quantity that grows from run to run."""
    picture = figure()
    ax = axes(picture, x="step", y="loss on the training pictures", title=title, yscale="log")
    colours = shades(len(runs))
    for run, colour in zip(runs, colours, strict=True):
        ax.plot(run.steps, run.losses, color=colour)
    ax.axhline(np.log(CLASSES), color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    ax.set_xlim(0, STEPS)
    ax.annotate("guessing", (STEPS * 0.99, np.log(CLASSES) * 1.03), ha="right", va="bottom", color=GREY, fontsize=8)
    label_ends(ax, [Label(r.losses[-1], n, c) for r, n, c in zip(runs, names, colours, strict=True)])
    return svg(picture)
