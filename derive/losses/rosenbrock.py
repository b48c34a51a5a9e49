"""Rosenbrock's curved valley (1960), in any number of dimensions from 2.

Finding the valley is easy, following its bend to the minimum is hard. In two dimensions the minimum is 0, at (a,
a^2); with a = 1 it is 0 in every dimension, at (1, ..., 1).
"""

from sympy import IndexedBase, Sum, symbols

from derive import Loss

D = symbols("D", integer=True, positive=True)
k = symbols("k", integer=True)
x = IndexedBase("x", shape=(D,))
a, b = symbols("a b", real=True)

rosenbrock = Loss(
    "rosenbrock",
    value=Sum((a - x[k]) ** 2 + b * (x[k + 1] - x[k] ** 2) ** 2, (k, 0, D - 2)),
    wrt=[x],
    data=[],
    defaults={a: 1.0, b: 100.0},
    about="Rosenbrock's function: a curved valley with a flat bottom.",
    meanings={x: "point", a: "first coordinate of the minimum", b: "steepness of the valley's walls"},
)
