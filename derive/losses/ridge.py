"""Ridge regression: least squares with a penalty on the squares of the weights (Hoerl and Kennard, 1970)."""

from sympy import Eq, Idx, IndexedBase, Sum, symbols

from derive import Loss

N, D = symbols("N D", integer=True, positive=True)
i, k = Idx("i", N), Idx("k", D)
X, w, y = IndexedBase("X", shape=(N, D)), IndexedBase("w", shape=(D,)), IndexedBase("y", shape=(N,))
r = IndexedBase("r", shape=(N,))
reg = symbols("reg", real=True)

ridge = Loss(
    "ridge",
    where=[Eq(r[i], Sum(w[k] * X[i, k], k) - y[i])],
    value=Sum(r[i] ** 2, i) / N + reg * Sum(w[k] ** 2, k),
    wrt=[w],
    data=[X, y],
    defaults={reg: 1.0},
    about="Mean squared error of a linear model, plus reg times the sum of squares of the weights.",
    meanings={
        w: "weights",
        X: "examples, one per row",
        y: "targets",
        r: "residuals",
        reg: "strength of the penalty",
    },
)
