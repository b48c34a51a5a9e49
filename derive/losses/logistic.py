"""Logistic regression for two classes (Cox, 1958).

The targets y are the values -1 and +1; log(1 + exp(-y s)) is minus the log of the probability 1/(1 + exp(-y s)) of
the right one.
"""

from sympy import Eq, Idx, IndexedBase, Sum, exp, log, symbols

from derive import Loss

N, D = symbols("N D", integer=True, positive=True)
i, k = Idx("i", N), Idx("k", D)
X, w, y = IndexedBase("X", shape=(N, D)), IndexedBase("w", shape=(D,)), IndexedBase("y", shape=(N,))
s = IndexedBase("s", shape=(N,))
reg = symbols("reg", real=True)

logistic = Loss(
    "logistic",
    where=[Eq(s[i], Sum(w[k] * X[i, k], k))],
    value=Sum(log(1 + exp(-y[i] * s[i])), i) / N + reg * Sum(w[k] ** 2, k),
    wrt=[w],
    data=[X, y],
    defaults={reg: 0.0},
    about="Logistic loss for two classes, -1 and +1.",
    meanings={
        w: "weights",
        X: "examples, one per row",
        y: "targets, -1 or +1",
        s: "scores",
        reg: "strength of the penalty on the squares of w",
    },
)
