"""A linear autoencoder with tied weights: W encodes, its transpose decodes.

At its minimum the rows of W span the principal subspace of X (Baldi and Hornik, 1989), so that the loss is then the
sum of the squared singular values that are left out, over N.
"""

from sympy import Eq, Idx, IndexedBase, Sum, symbols

from derive import Loss

N, D, H = symbols("N D H", integer=True, positive=True)
i, k, m = Idx("i", N), Idx("k", D), Idx("m", H)
X, W = IndexedBase("X", shape=(N, D)), IndexedBase("W", shape=(H, D))
z, r = IndexedBase("z", shape=(N, H)), IndexedBase("r", shape=(N, D))
reg = symbols("reg", real=True)

autoencoder = Loss(
    "autoencoder",
    where=[
        Eq(z[i, m], Sum(W[m, k] * X[i, k], k)),
        Eq(r[i, k], Sum(W[m, k] * z[i, m], m) - X[i, k]),
    ],
    value=Sum(r[i, k] ** 2, i, k) / N + reg * Sum(W[m, k] ** 2, m, k),
    wrt=[W],
    data=[X],
    defaults={reg: 0.0},
    about="Squared error of reconstructing each example from its code, with the same weights for both ways.",
    meanings={
        W: "weights, one row per component of the code",
        X: "examples, one per row",
        z: "codes",
        r: "errors of reconstruction",
        reg: "strength of the penalty on the squares of W",
    },
)
