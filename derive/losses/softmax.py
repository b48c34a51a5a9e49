"""Multinomial logistic regression: the cross-entropy of softmax probabilities.

The negative log of the probability exp(s_y) / sum of exp(s_j) that the model gives to the right class, as a mean
over the batch (Bridle, 1990; the softmax classifier of CS231n and EECS 498-007), plus reg times the sum of squares
of W.
"""

from sympy import Eq, Idx, IndexedBase, Sum, exp, log, symbols

from derive import Loss

N, D, C = symbols("N D C", integer=True, positive=True)
i, j, k = Idx("i", N), Idx("j", C), Idx("k", D)
X, W, y = IndexedBase("X", shape=(N, D)), IndexedBase("W", shape=(C, D)), IndexedBase("y", shape=(N,))
s, L = IndexedBase("s", shape=(N, C)), IndexedBase("L", shape=(N,))
reg = symbols("reg", real=True)

softmax = Loss(
    "softmax",
    where=[
        Eq(s[i, j], Sum(W[j, k] * X[i, k], k)),
        Eq(L[i], log(Sum(exp(s[i, j]), j)) - s[i, y[i]]),
    ],
    value=Sum(L[i], i) / N + reg * Sum(W[j, k] ** 2, j, k),
    wrt=[W],
    data=[X, y],
    defaults={reg: 0.0},
    about="Cross-entropy of softmax probabilities: minus the log of the probability of the right class.",
    meanings={
        W: "weights, one row per class",
        X: "examples, one per row",
        y: "the right class of each example",
        s: "scores",
        L: "loss of each example",
        reg: "strength of the penalty on the squares of W",
    },
)
