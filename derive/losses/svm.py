"""Multiclass support vector machine, in the form of Weston and Watkins (1999).

Every wrong class has to score at least delta less than the right one; what is missing counts. The mean over the
batch, as in the lecture (CS231n, EECS 498-007), plus reg times the sum of squares of W.
"""

from sympy import Eq, Idx, IndexedBase, Max, Ne, Piecewise, Sum, symbols

from derive import Loss

N, D, C = symbols("N D C", integer=True, positive=True)
i, j, k = Idx("i", N), Idx("j", C), Idx("k", D)
X, W, y = IndexedBase("X", shape=(N, D)), IndexedBase("W", shape=(C, D)), IndexedBase("y", shape=(N,))
s, L = IndexedBase("s", shape=(N, C)), IndexedBase("L", shape=(N,))
delta, reg = symbols("delta reg", real=True)

svm = Loss(
    "svm",
    where=[
        Eq(s[i, j], Sum(W[j, k] * X[i, k], k)),
        Eq(L[i], Sum(Piecewise((Max(0, s[i, j] - s[i, y[i]] + delta), Ne(j, y[i])), (0, True)), j)),
    ],
    value=Sum(L[i], i) / N + reg * Sum(W[j, k] ** 2, j, k),
    wrt=[W],
    data=[X, y],
    defaults={delta: 1.0, reg: 0.0},
    about="Multiclass hinge loss: each wrong class has to score at least delta less than the right one.",
    meanings={
        W: "weights, one row per class",
        X: "examples, one per row",
        y: "the right class of each example",
        s: "scores",
        L: "loss of each example",
        delta: "margin",
        reg: "strength of the penalty on the squares of W",
    },
)
