"""A network of two layers: affine, ReLU, affine, softmax cross-entropy.

The two-layer network of CS231n and EECS 498-007. The penalty acts on the weights, not on the biases.
"""

from sympy import Eq, Idx, IndexedBase, Max, Sum, exp, log, symbols

from derive import Loss

N, D, H, C = symbols("N D H C", integer=True, positive=True)
i, j, k, m = Idx("i", N), Idx("j", C), Idx("k", D), Idx("m", H)
X, y = IndexedBase("X", shape=(N, D)), IndexedBase("y", shape=(N,))
W1, b1 = IndexedBase("W1", shape=(H, D)), IndexedBase("b1", shape=(H,))
W2, b2 = IndexedBase("W2", shape=(C, H)), IndexedBase("b2", shape=(C,))
h, s, L = IndexedBase("h", shape=(N, H)), IndexedBase("s", shape=(N, C)), IndexedBase("L", shape=(N,))
reg = symbols("reg", real=True)

two_layer_net = Loss(
    "two_layer_net",
    where=[
        Eq(h[i, m], Max(0, Sum(W1[m, k] * X[i, k], k) + b1[m])),
        Eq(s[i, j], Sum(W2[j, m] * h[i, m], m) + b2[j]),
        Eq(L[i], log(Sum(exp(s[i, j]), j)) - s[i, y[i]]),
    ],
    value=Sum(L[i], i) / N + reg * (Sum(W1[m, k] ** 2, m, k) + Sum(W2[j, m] ** 2, j, m)),
    wrt=[W1, b1, W2, b2],
    data=[X, y],
    defaults={reg: 0.0},
    about="Cross-entropy of a network with one hidden layer of rectified linear units.",
    meanings={
        W1: "weights of the hidden layer, one row per unit",
        b1: "biases of the hidden layer",
        W2: "weights of the output layer, one row per class",
        b2: "biases of the output layer",
        X: "examples, one per row",
        y: "the right class of each example",
        h: "hidden layer",
        s: "scores",
        L: "loss of each example",
        reg: "strength of the penalty on the squares of W1 and W2",
    },
)
