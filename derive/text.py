"""Expressions in index notation as plain text."""
def definition_text(d): return f"{d.lhs} = {d.rhs}"
