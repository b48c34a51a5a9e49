"""A narrow valley in the plane: steep in one direction, flat in the other.

The first trouble of gradient descent in the lecture: with a condition number kappa far from 1 the steps jump across
the valley and hardly move along it. The minimum is 0, at the origin.
"""

from sympy import IndexedBase, symbols

from derive import Loss

x = IndexedBase("x", shape=(2,))
kappa = symbols("kappa", real=True)

quadratic = Loss(
    "quadratic",
    value=(x[0] ** 2 + kappa * x[1] ** 2) / 2,
    wrt=[x],
    data=[],
    defaults={kappa: 20.0},
    about="A quadratic bowl of two variables whose curvatures are 1 and kappa.",
    meanings={x: "point in the plane", kappa: "condition number"},
)
