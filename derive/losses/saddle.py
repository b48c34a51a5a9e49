"""A saddle point between two valleys.

At the origin the gradient is 0, though it is no minimum: the second trouble of gradient descent in the lecture.
Close to the origin the function is (x_0^2 - x_1^2)/2; the fourth power keeps it bounded below, with minima of -1/4
at (0, -1) and (0, 1).
"""

from sympy import IndexedBase

from derive import Loss

x = IndexedBase("x", shape=(2,))

saddle = Loss(
    "saddle",
    value=x[0] ** 2 / 2 - x[1] ** 2 / 2 + x[1] ** 4 / 4,
    wrt=[x],
    data=[],
    about="A saddle at the origin between two minima at (0, -1) and (0, 1).",
    meanings={x: "point in the plane"},
)
