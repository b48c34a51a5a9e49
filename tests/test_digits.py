"""Real data: scans of handwritten digits, and plain gradient descent with the generated ``loss_and_grad``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import derive
from derive.catalogue import find

ARRAY = np.ndarray[Any, np.dtype[np.float64]]


@pytest.fixture(scope="module")
def digits() -> tuple[ARRAY, ARRAY, ARRAY, ARRAY]:
    """Features in [0, 1] with a column of ones, for training and for testing, and their labels."""
    X, y = load_digits(return_X_y=True)
    X = np.hstack([X / 16, np.ones((len(X), 1))])
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    return X, X_test, y, y_test


@pytest.mark.parametrize(("name", "learning_rate"), [("svm", 0.02), ("squared_hinge_svm", 0.01), ("softmax", 0.1)])
def test_the_loss_falls_at_each_step_and_digits_are_told_apart(
    digits: tuple[ARRAY, ARRAY, ARRAY, ARRAY], name: str, learning_rate: float
) -> None:
    X, X_test, y, y_test = digits
    model = derive.compile(find(name))
    W = np.zeros((10, X.shape[1]))
    losses = []
    for _ in range(300):
        loss, grad = model.loss_and_grad(W, X, y)
        losses.append(loss)
        W -= learning_rate * grad
    assert np.all(np.diff(losses) < 0)
    assert np.mean((X_test @ W.T).argmax(axis=1) == y_test) > 0.9
