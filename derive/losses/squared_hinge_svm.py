"""Multiclass support vector machine with squared hinges (the L2-SVM).

As the multiclass SVM, but each missing part of a margin counts by its square: small violations cost less, large
ones more, and the gradient is continuous. See Tang, Deep Learning using Linear Support Vector Machines (2013).
"""

from sympy import Eq, Idx, IndexedBase, Max, Ne, Piecewise, Sum, symbols

from derive import Loss

N, D, C = symbols("N D C", integer=True, positive=True)
i, j, k = Idx("i", N), Idx("j", C), Idx("k", D)
X, W, y = IndexedBase("X", shape=(N, D)), IndexedBase("W", shape=(C, D)), IndexedBase("y", shape=(N,))
s, L = IndexedBase("s", shape=(N, C)), IndexedBase("L", shape=(N,))
delta, reg = symbols("delta reg", real=True)

squared_hinge_svm = Loss(
    "squared_hinge_svm",
    where=[
        Eq(s[i, j], Sum(W[j, k] * X[i, k], k)),
        Eq(L[i], Sum(Piecewise((Max(0, s[i, j] - s[i, y[i]] + delta) ** 2, Ne(j, y[i])), (0, True)), j)),
    ],
    value=Sum(L[i], i) / N + reg * Sum(W[j, k] ** 2, j, k),
    wrt=[W],
    data=[X, y],
    defaults={delta: 1.0, reg: 0.0},
    about="Multiclass squared hinge loss: what a wrong class lacks of its distance delta counts by its square.",
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
