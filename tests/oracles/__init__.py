"""References that owe nothing to the toolkit: a naive evaluator, and hand-written counterparts of many statements."""
