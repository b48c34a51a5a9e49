"""NumPy's spelling of operations on whole arrays.

A target of the array program is a table from operation to spelling and nothing else, as it is for elementwise
expressions (:mod:`derive.elementwise`), whose table this one extends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from derive.elementwise import NUMPY

__all__ = ["NUMPY_ARRAYS", "ArrayTarget"]


@dataclass(frozen=True)
class ArrayTarget:
    """How a library spells operations on arrays that Python has no sign for: a format for each."""

    calls: Mapping[str, str]


NUMPY_ARRAYS = ArrayTarget(
    {
        **NUMPY.calls,
        "softplus": "np.logaddexp(0, {})", "sigmoid": "np.exp(-np.logaddexp(0, {}))",
        "sum": "np.sum({})", "max": "np.max({})", "vdot": "np.vdot({}, {})", "einsum": 'np.einsum("{}", {})',
        "arange": "np.arange({})", "empty": "np.empty({}, {})",
        "zeros": "np.zeros({}, dtype)", "full": "np.full({}, {}, dtype)",
        "add at": "np.add.at({}, {}, {})", "positions": "np.s_[{}]",
    }
)  # fmt: skip
