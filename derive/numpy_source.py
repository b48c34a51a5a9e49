"""NumPy's spelling of operations on whole arrays.

A target of the array program is a table from operation to spelling and nothing else, as it is for elementwise
expressions (:mod:`derive.elementwise`), whose table this one extends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from derive.elementwise import NUMPY
from derive.in_place import NUMPY_OUT

__all__ = ["NUMPY_ARRAYS", "ArrayTarget"]


@dataclass(frozen=True)
class ArrayTarget:
    """How a library spells operations on arrays that Python has no sign for: a format for each.

    Attributes
    ----------
    calls : mapping of str to str
        Operations that make a new array.
    into : mapping of str to str
        Operations that write into an array that is there, ``out``.
    onto_first : mapping of str to str
        The same where ``out`` is the first operand.
    """

    calls: Mapping[str, str]
    into: Mapping[str, str]
    onto_first: Mapping[str, str]


NUMPY_ARRAYS = ArrayTarget(
    {
        **NUMPY.calls,
        "softplus": "np.logaddexp(0, {})", "sigmoid": "np.exp(-np.logaddexp(0, {}))",
        "sum": "np.sum({})", "max": "np.max({})", "vdot": "np.vdot({}, {})", "einsum": 'np.einsum("{}", {})',
        "arange": "np.arange({})", "empty": "np.empty({}, {})",
        "zeros": "np.zeros({}, dtype)", "full": "np.full({}, {}, dtype)",
        "add at": "np.add.at({}, {}, {})", "positions": "np.s_[{}]",
    },
    {
        # By name, which reads better; by position, as in a step, saves what only counts for small arrays.
        **{op: text.replace(" {out})", " out={out})") for op, text in NUMPY_OUT.calls.items()},
        "gt": "np.greater({}, {}, out={out})", "ge": "np.greater_equal({}, {}, out={out})",
        "lt": "np.less({}, {}, out={out})", "le": "np.less_equal({}, {}, out={out})",
        "eq": "np.equal({}, {}, out={out})", "ne": "np.not_equal({}, {}, out={out})",
    },
    NUMPY_OUT.onto_first,
)  # fmt: skip
