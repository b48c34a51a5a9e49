"""Names of scalars that a loop gets from outside: 1 - beta1**t is called one_minus_beta1_to_the_t."""

from __future__ import annotations

from collections.abc import Mapping

from derive.elementwise import Node

__all__ = ["in_words"]

#: How the operations of a scalar read in its name.
_WORDS = {
    "add": "{}_plus_{}", "subtract": "{}_minus_{}", "multiply": "{}_times_{}", "divide": "{}_over_{}",
    "power": "{}_to_the_{}", "square": "{}_squared", "negative": "minus_{}", "sqrt": "root_of_{}",
}  # fmt: skip
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def in_words(node: Node) -> str:
    """A name for a scalar that reads as the scalar does."""
    if node.op == "name":
        return str(node.leaf)
    if node.op == "number":
        number = int(str(node.leaf))
        return _DIGITS[number] if number < len(_DIGITS) else f"n{number}"
    parts: Mapping[int, str] = dict(enumerate(map(in_words, node.args)))
    if node.op in _WORDS and len(parts) == _WORDS[node.op].count("{}"):
        words = _WORDS[node.op].format(*parts.values())
    else:
        words = "_".join([node.op, *parts.values()])
    return words if len(words) <= 40 and words.isidentifier() else "scalar"
