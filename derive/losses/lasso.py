"""Lasso: least squares with a penalty on the absolute values of the weights (Tibshirani, 1996).

Scaled as in scikit-learn's Lasso: half the mean of the squared residuals plus reg times the sum of |w_k|. At w_k =
0 the derivative of |w_k| is taken as 0, one of its subgradients.
"""

from sympy import Abs, Eq, Idx, IndexedBase, Sum, symbols

from derive import Loss

N, D = symbols("N D", integer=True, positive=True)
i, k = Idx("i", N), Idx("k", D)
X, w, y = IndexedBase("X", shape=(N, D)), IndexedBase("w", shape=(D,)), IndexedBase("y", shape=(N,))
r = IndexedBase("r", shape=(N,))
reg = symbols("reg", real=True)

lasso = Loss(
    "lasso",
    where=[Eq(r[i], Sum(w[k] * X[i, k], k) - y[i])],
    value=Sum(r[i] ** 2, i) / (2 * N) + reg * Sum(Abs(w[k]), k),
    wrt=[w],
    data=[X, y],
    defaults={reg: 1.0},
    about="Half the mean squared error of a linear model, plus reg times the sum of the weights' absolute values.",
    meanings={
        w: "weights",
        X: "examples, one per row",
        y: "targets",
        r: "residuals",
        reg: "strength of the penalty",
    },
)
