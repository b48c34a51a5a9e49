"""Support vector machine for two classes, the hinge loss of Cortes and Vapnik (1995).

The targets y are the values -1 and +1. The multiclass SVM with two classes is the same loss for w = w_1 - w_0.
"""

from sympy import Eq, Idx, IndexedBase, Max, Sum, symbols

from derive import Loss

N, D = symbols("N D", integer=True, positive=True)
i, k = Idx("i", N), Idx("k", D)
X, w, y = IndexedBase("X", shape=(N, D)), IndexedBase("w", shape=(D,)), IndexedBase("y", shape=(N,))
s = IndexedBase("s", shape=(N,))
reg = symbols("reg", real=True)

binary_svm = Loss(
    "binary_svm",
    where=[Eq(s[i], Sum(w[k] * X[i, k], k))],
    value=Sum(Max(0, 1 - y[i] * s[i]), i) / N + reg * Sum(w[k] ** 2, k),
    wrt=[w],
    data=[X, y],
    defaults={reg: 0.0},
    about="Hinge loss for two classes, -1 and +1.",
    meanings={
        w: "weights",
        X: "examples, one per row",
        y: "targets, -1 or +1",
        s: "scores",
        reg: "strength of the penalty on the squares of w",
    },
)
