"""Which values of an array program are finite whenever the arguments are.

Where a value is finite, choosing it or 0 is the same as multiplying it by 1 or 0, and a product of arrays does not wait
for branches that a processor guesses wrongly half of the time. Overflow of sums and products by sheer size is left
aside: it spoils a loss in either form.
"""

from __future__ import annotations

from derive.program import Node

__all__ = ["stays_finite"]

_BOUNDED = frozenset(
    {"add", "mul", "maximum", "minimum", "where", "indicator", "real", "abs", "sign", "sin", "cos", "atan", "tanh"}
    | {"softplus", "sigmoid"}
)


def stays_finite(node: Node, known: dict[int, bool] | None = None) -> bool:
    """Whether a value is finite at all finite arguments."""
    known = {} if known is None else known
    if node.number not in known:
        known[node.number] = _is_finite(node, known)
    return known[node.number]


def _is_finite(node: Node, known: dict[int, bool]) -> bool:
    args = [child for child, _ in node.args if child.kind != "bool"]
    if node.op == "scalar":
        return node.info.is_infinite is not True
    if node.op == "map" and node.info == "exp":
        return _is_shifted(node) and stays_finite(args[0], known)
    if node.op == "map" and node.info == "pow":
        base, power = args[0], args[1]
        positive = power.op == "scalar" and power.info.is_positive is True
        return stays_finite(base, known) and (positive or _is_softmax_total(base))
    if node.op == "map" and node.kind == "float" and node.info not in _BOUNDED:
        return False
    return all(stays_finite(child, known) for child in args)


def _is_shifted(node: Node) -> bool:
    """Whether a node is exp(a - max(a)), which is at most 1, and 1 somewhere."""
    total = node.args[0][0]
    if total.info != "add" or len(total.args) != 2:
        return False
    (values, _), (minus, _) = total.args
    if minus.info != "mul" or len(minus.args) != 2 or minus.args[0][0].info != -1:
        return False
    top = minus.args[1][0]
    return top.op == "reduce" and top.info == "max" and top.args[0][0] is values


def _is_softmax_total(node: Node) -> bool:
    """Whether a node is the sum of exp(a - max(a)) where the maximum was taken: it is at least 1."""
    weights = node.args[0][0] if node.op == "reduce" and node.info == "sum" else None
    if weights is None or weights.op != "map" or weights.info != "exp" or not _is_shifted(weights):
        return False
    top = weights.args[0][0].args[1][0].args[1][0]
    return top.rank == node.rank and top.inner == node.inner
