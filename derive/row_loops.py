"""The loop over rows that computes a kernel, in the words of a target.

What is made and used at one point of a nest is a variable there, or stands where it is used; what a later nest needs
lies in the result or in a scratch row. Each element is a tree of :mod:`derive.elementwise`, spelled as the elements of
update rules are. Scalars enter in the type of the arrays, which is what NumPy makes of plain numbers, so that the same
operations are done in the same precision. Positions stay integers.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sympy import Expr, Integer, S, Symbol

from derive.elementwise import Node, Ordering, Target, in_words, tree, written
from derive.fusion import Kernel, index_like, is_inverse, is_minus
from derive.nests import Nest, Task, is_transparent, nests
from derive.program import Node as ArrayNode
from derive.python_source import scalar_source

__all__ = ["CALLED", "Array", "RowLoop"]

#: What loops call; an array of such a name gets another one inside.
CALLED = {"np", "len", "range", "_plus", "_sigmoid", "_softplus"}

#: How long a line may be.
_WIDTH = 120
#: Operations that may be about integers, which then stay what they are.
_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}
_TYPES = {"float": "{}.dtype", "int": "np.intp", "bool": "np.bool_"}


@dataclass(frozen=True)
class Array:
    """An array as a loop sees it: its name, and for each of its axes the axis of the node that it is.

    Where it has rows they come first.
    """

    node: ArrayNode
    name: str
    layout: tuple[int, ...]


class RowLoop:
    """The text of one kernel's loop.

    Parameters
    ----------
    kernel : Kernel
    target : Target
        How an operation on elements is spelled.
    given, made : mapping of int to Array
        The arrays that the loop reads and those that it writes, by the numbers of their nodes.
    name : callable
        A name for a node that needs one.
    stated : callable
        Whether a node has its name from the statement, and so a line of its own.
    outside : callable
        The expression for a scalar node where the loop is called.

    Attributes
    ----------
    scalars, counts : dict
        What enters besides arrays, by the expressions outside: numbers of the arrays' type, and integers.
    lines : list of str
        The body of the function.
    """

    def __init__(
        self,
        kernel: Kernel,
        target: Target,
        *,
        given: Mapping[int, Array],
        made: Mapping[int, Array],
        name: Callable[[ArrayNode], str],
        stated: Callable[[ArrayNode], bool],
        outside: Callable[[ArrayNode], str],
    ) -> None:
        self.kernel, self.target, self.outside, self.stated = kernel, target, outside, stated
        self.given, self.name = given, name
        self.nests, self.tasks = nests(kernel)
        self.transparent = {n.number for n in kernel.nodes if is_transparent(n, kernel)}
        self.taken = set(CALLED)
        self.taken |= {a.name for a in (*given.values(), *made.values())}
        self.real = self.unused("real")
        self.arrays: dict[int, Array] = {**given, **made}
        self.made = made
        self.scalars: dict[str, str] = {}
        self.counts: dict[str, str] = {}
        first = kernel.nodes[0]
        self.row = self.unused(first.letters[kernel.rows[first.number]])
        self.indices: dict[tuple[str, int], str] = {}
        self.names = [self.loop_names(nest) for nest in self.nests]
        self.readers = self.all_readers()
        self.scratch = self.scratch_rows(name)
        self.locals: dict[int, str] = {}
        self.inlined: set[int] = set()
        self.name_values(name)
        self.now = 0
        body = [line for number, nest in enumerate(self.nests) for line in self.nest_lines(number, nest)]
        self.lines = [*self.opening(body), *(f"    {line}" for line in body)]

    # -- names -------------------------------------------------------------------------------------

    def unused(self, name: str) -> str:
        if not name.isidentifier() or keyword.iskeyword(name):
            name = "part"
        candidate, number = name, 2
        while candidate in self.taken:
            candidate, number = f"{name}_{number}", number + 1
        self.taken.add(candidate)
        return candidate

    def loop_names(self, nest: Nest) -> tuple[str, ...]:
        """The indices of a nest: the letters of the blackboard, the same ones in all nests."""
        found: list[str] = []
        for letter in nest.letters:
            again = nest.letters[: len(found)].count(letter)
            if (letter, again) not in self.indices:
                self.indices[letter, again] = self.unused(letter)
            found.append(self.indices[letter, again])
        return tuple(found)

    def all_readers(self) -> dict[int, list[tuple[Task, bool]]]:
        """For each node, the tasks that read it, and whether each reads anywhere in its row."""
        found: dict[int, list[tuple[Task, bool]]] = {number: [] for number in self.tasks}
        for tasks in self.tasks.values():
            for task in tasks:
                for read in task.reads:
                    if read.node.number in found:
                        found[read.node.number].append((task, read.anywhere))
        return found

    def scratch_rows(self, name: Callable[[ArrayNode], str]) -> dict[int, Array]:
        """Rows for what a later nest needs and no result holds."""
        found = {}
        for node in self.kernel.nodes:
            if node.number not in self.tasks:
                continue
            row = self.kernel.rows[node.number]
            layout = tuple(p for p in node.order if p != row)
            (task, *_) = self.tasks[node.number]
            later = any(anywhere or reader.nest != task.nest for reader, anywhere in self.readers[node.number])
            if layout and node.number not in self.made and (later or task.role != "value"):
                found[node.number] = Array(node, self.unused(f"{name(node)}_row"), layout)
        self.arrays |= found
        return found

    def name_values(self, name: Callable[[ArrayNode], str]) -> None:
        """What has a variable, and what stands where it is used."""
        for node in self.kernel.nodes:
            if node.number not in self.tasks:
                continue
            (task, *_) = self.tasks[node.number]
            here = [reader for reader, anywhere in self.readers[node.number] if not anywhere]
            at_hand = [r for r in here if r.nest == task.nest] if task.space or task.role == "start" else here
            if task.role == "total" and not self.kept(task):
                self.locals[node.number] = self.local(name(node), node)
            elif task.role == "value" and at_hand:
                once = len(here) == 1 and here[0].nest == task.nest and node.number not in self.arrays
                if once and not self.stated(node):
                    self.inlined.add(node.number)
                else:
                    begun = next((reader.node for reader in here if reader.role == "start"), node)
                    self.locals[node.number] = self.local(name(begun), node)

    def kept(self, task: Task) -> bool:
        """Whether a total is a row of numbers, not one."""
        return task.node.rank > 1

    def local(self, name: str, node: ArrayNode) -> str:
        """A name for an element: that of its array, with its indices where the array itself has the name."""
        if name in self.taken:
            row = self.kernel.rows[node.number]
            name = f"{name}_{''.join(self.row if p == row else node.letters[p] for p in node.order)}"
        return self.unused(name)

    # -- the frame ---------------------------------------------------------------------------------

    def opening(self, body: Sequence[str]) -> Iterator[str]:
        """What stands before the rows, and the line that runs over them."""
        floats = [a.name for n, a in self.arrays.items() if a.node.kind == "float" and n not in self.scratch]
        first = floats[0] if floats else ""
        if any(f"{self.real}(" in line for line in body):
            yield f"{self.real} = {first}.dtype.type"
        for array in self.scratch.values():
            sizes = ", ".join(self.size_text(array.node.axes[p]) for p in array.layout)
            shape = f"({sizes})" if len(array.layout) > 1 else sizes
            yield f"{array.name} = np.empty({shape}, {_TYPES[array.node.kind].format(first)})"
        rows = next(a.name for n, a in self.arrays.items() if self.has_rows(n))
        yield f"for {self.row} in range(len({rows})):"

    def has_rows(self, number: int) -> bool:
        """Whether an array has a row for each turn of the loop; its first axis is that of the rows, then."""
        return number in self.kernel.rows and number not in self.scratch

    def size_text(self, size: Expr) -> str:
        """A size: read off the shape of an array that has it."""
        if isinstance(size, Integer):
            return str(size)
        for number, array in self.arrays.items():
            if number in self.scratch:
                continue
            for axis, place in enumerate(array.layout):
                if array.node.axes[place] == size and not (axis == 0 and self.has_rows(number)):
                    return f"len({array.name})" if axis == 0 else f"{array.name}.shape[{axis}]"
        return self.count(size)

    def nest_lines(self, number: int, nest: Nest) -> Iterator[str]:
        """A nest, with what has to stand before and after it."""
        self.now = number
        before: list[str] = []
        body: list[str] = []
        after: list[str] = []
        for task in nest.tasks:
            self.task_lines(task, before, body, after)
        yield from before
        if body:
            indent = ""
            for name, size in zip(self.names[number], nest.sizes, strict=True):
                yield f"{indent}for {name} in range({self.size_text(size)}):"
                indent += "    "
            yield from (f"{indent}{line}" for line in body)
        yield from after

    # -- one task ----------------------------------------------------------------------------------

    def task_lines(self, task: Task, before: list[str], body: list[str], after: list[str]) -> None:
        node, number = task.node, task.node.number
        at = self.position_texts(task)
        array = self.arrays.get(number)
        if task.role == "value":
            if number in self.inlined:
                return
            target = self.locals.get(number) or self.element_of(self.arrays[number], at)
            value = self.fitted(node, at, body, len(target) + 3)
            if number in self.locals:
                body.append(f"{self.locals[number]} = {value}")
                value = self.locals[number]
            if array is not None:
                body.append(f"{self.element_of(array, at)} = {value}")
        elif task.role == "total":
            target = self.locals.get(number) or self.element_of(self.arrays[number], at)
            value = self.fitted(node, at, body, 2 * len(target) + 12)
            if number in self.locals:
                before.append(f"{self.locals[number]} = {self.literal(S.Zero)}")
                body.append(f"{self.locals[number]} = _plus({self.locals[number]}, {value})")
                if array is not None:
                    after.append(f"{self.element_of(array, at)} = {self.locals[number]}")
            else:
                assert array is not None
                free = {p: ":" for p in range(node.rank) if p != self.kernel.rows[number]}
                before.append(f"{self.element_of(array, {**at, **free})} = {self.literal(S.Zero)}")
                body.append(f"{self.element_of(array, at)} += {value}")
        elif task.role == "start":
            assert array is not None
            value = self.text(self.value(*node.args[0], at)) if task.reads else self.literal(S.Zero)
            body.append(f"{self.element_of(array, at)} = {value}")
        else:
            assert array is not None
            assert task.update is not None
            entries = [self.position(node, e, at) for e in task.update.index]
            change = self.value(*node.args[task.update.value], at)
            sign, change = ("-=", change.args[0]) if change.op == "negative" else ("+=", change)
            body.append(f"{self.element_of(array, dict(enumerate(entries)))} {sign} {self.text(change)}")

    def position_texts(self, task: Task) -> dict[int, str]:
        """The index along each axis of a task's node."""
        names = self.names[task.nest if task.nest is not None else self.now]
        return {self.kernel.rows[task.node.number]: self.row, **{p: names[k] for p, k in task.place.items()}}

    def element_of(self, array: Array, at: Mapping[int, str]) -> str:
        return f"{array.name}[{', '.join(at[p] for p in array.layout)}]"

    def fitted(self, node: ArrayNode, at: Mapping[int, str], body: list[str], taken: int) -> str:
        """The element as text; parts that make the line too long get lines of their own before it."""
        text = self.text(self.element(node, at))
        indent = 8 + 4 * len(self.nests[self.now].sizes)
        while indent + taken + len(text) > _WIDTH:
            inside = list(self.inlined_in(node))
            sized = [(len(self.text(self.element(n, self.position_texts(self.tasks[n.number][0])))), n) for n in inside]
            sized = [s for s in sized if s[0] < 0.75 * len(text)] or sized
            if not sized:
                break
            part = max(sized, key=lambda s: (s[0], -s[1].number))[1]
            self.inlined.discard(part.number)
            self.locals[part.number] = name = self.local("part", part)
            value = self.fitted(part, self.position_texts(self.tasks[part.number][0]), body, len(name) + 3)
            body.append(f"{self.locals[part.number]} = {value}")
            text = self.text(self.element(node, at))
        return text

    def inlined_in(self, node: ArrayNode) -> Iterator[ArrayNode]:
        for child, _ in node.args:
            if child.number in self.inlined:
                yield child
                yield from self.inlined_in(child)

    # -- elements ----------------------------------------------------------------------------------

    def text(self, element: Node) -> str:
        text = written(element, self.target)
        return text[1:-1] if element.op == "where" and text.startswith("(") else text

    def literal(self, number: Expr) -> str:
        return f"{self.real}({scalar_source(number)[0]})"

    def scalar(self, value: Expr) -> Node:
        """A number, or what a scalar of sizes and hyperparameters is called in the loop."""
        if value.could_extract_minus_sign():
            return Node("negative", (self.scalar(-value),))
        if value.is_Integer or value == S.Infinity:
            return _word(self.literal(value))
        text = scalar_source(value)[0]
        return _word(self.entering(text, in_words(tree(value, Ordering(arrays=()))) or "scalar"))

    def entering(self, text: str, words: str) -> str:
        if text not in self.scalars:
            self.scalars[text] = self.unused(words)
        return self.scalars[text]

    def count(self, value: Expr) -> str:
        """An integer: a number, or what it is called in the loop."""
        if isinstance(value, Integer):
            return str(value)
        text = scalar_source(value)[0]
        if text not in self.counts:
            self.counts[text] = self.unused(in_words(tree(value, Ordering(arrays=()))) or "scalar")
        return self.counts[text]

    def value(self, node: ArrayNode, axes: Sequence[int], at: Mapping[int, str], *, whole: bool = False) -> Node:
        """An element of a node; ``axes`` are where its axes lie among those that ``at`` has indices for."""
        number = node.number
        if node.op == "scalar":
            return _integer(self.count(node.info)) if whole else self.scalar(node.info)
        here = {k: at[p] for k, p in enumerate(axes)}
        if number in self.tasks:
            (task, *_) = self.tasks[number]
            if number in self.inlined:
                return self.element(node, self.position_texts(task))
            if number in self.locals and (not task.space or node.rank == 1 or task.nest == self.now):
                return _word(self.locals[number])
            return _word(self.element_of(self.arrays[number], here))
        if number in self.transparent or (is_minus(node) and number not in self.arrays):
            return self.element(node, here)
        if node.rank == 0:
            return _word(self.entering(self.outside(node), self.name(node)))
        if number not in self.kernel.rows and index_like(node):
            if node.op == "arange":
                low = self.count(node.info[0])
                return _word(here[0]) if low == "0" else Node("add", (_word(here[0]), _integer(low)))
            return self.element(node, here)
        return _word(self.element_of(self.arrays[number], here))

    def element(self, node: ArrayNode, at: Mapping[int, str]) -> Node:
        """The tree that computes an element from the elements it is made of."""

        def arg(n: int, *, whole: bool = False) -> Node:
            child, axes = node.args[n]
            return self.value(child, axes, at, whole=whole)

        if node.op == "reduce":
            return arg(0)
        if node.op == "contract":
            if node.args[0] == node.args[1]:
                return Node("square", (arg(0),))
            return Node("multiply", (arg(0), arg(1)))
        if node.op == "take":
            entries = [self.position(node, e, at) for e in node.info]
            return _word(self.element_of(self.arrays[node.args[0][0].number], dict(enumerate(entries))))
        if node.op == "clear":
            return self.cleared(node, at)
        assert node.op == "map", node
        name = node.info
        if name == "add":
            return self.sum(node, at)
        if name == "mul":
            return self.product(node, at)
        if name == "pow":
            exponent = node.args[1][0]
            if exponent.op == "scalar" and exponent.info.is_Rational:
                return self.power(arg(0), exponent.info)
            return Node("power", (arg(0), arg(1)))
        if name == "indicator":
            return Node("where", (arg(0), _word(self.literal(S.One)), _word(self.literal(S.Zero))))
        if name == "real":
            return _word(f"{self.real}({self.text(arg(0, whole=True))})")
        whole = name in _COMPARISONS and all(c.op == "scalar" or c.kind == "int" for c, _ in node.args)
        return Node(name, tuple(arg(n, whole=whole) for n in range(len(node.args))))

    def position(self, node: ArrayNode, entry: tuple[Any, ...], at: Mapping[int, str]) -> str:
        """An index along one axis of an array that elements are taken from or put into."""
        if entry[0] == "at":
            return self.count(entry[1])
        if entry[0] == "gather":
            child, axes = node.args[entry[1]]
            return self.text(self.value(child, axes, at, whole=True))
        start = self.count(entry[2])
        return at[entry[1]] if start == "0" else f"{at[entry[1]]} + {start}"

    def cleared(self, node: ArrayNode, at: Mapping[int, str]) -> Node:
        child, axes = node.args[0]
        found = None
        for place, entry in zip(axes, node.info, strict=True):
            if entry[0] != "slice":
                here = Node("eq", (_word(at[place]), _word(self.position(node, entry, at))))
                found = here if found is None else Node("and", (found, here))
        assert found is not None
        return Node("where", (found, _word(self.literal(S.Zero)), self.value(child, axes, at)))

    def sum(self, node: ArrayNode, at: Mapping[int, str]) -> Node:
        whole = node.kind == "int"
        terms = [self.value(child, axes, at, whole=whole) for child, axes in node.args]
        # A sum does not start with a minus if it need not.
        lead = next((k for k, t in enumerate(terms) if t.op != "negative"), 0)
        result, *others = terms[lead], *terms[:lead], *terms[lead + 1 :]
        for term in others:
            result = Node("subtract", (result, term.args[0])) if term.op == "negative" else Node("add", (result, term))
        return result

    def product(self, node: ArrayNode, at: Mapping[int, str]) -> Node:
        whole = node.kind == "int"
        scale, above, below = S.One, [], []
        minus = False
        if len(node.args) == 2 and node.args[0] == node.args[1]:
            return Node("square", (self.value(*node.args[0], at),))
        for child, axes in node.args:
            if child.op == "scalar":
                scale = scale * child.info
            elif self.divides(child):
                inner, places = child.args[0]
                below.append(self.value(inner, [axes[p] for p in places], at))
            else:
                value = self.value(child, axes, at, whole=whole)
                if value.op == "negative":
                    minus, value = not minus, value.args[0]
                above.append(value)
        if scale.could_extract_minus_sign():
            minus, scale = not minus, -scale
        numerator, denominator = scale.as_numer_denom()
        if numerator != 1 or not above:
            above.insert(0, _integer(self.count(numerator)) if whole else self.scalar(numerator))
        if denominator != 1:
            below.append(self.scalar(denominator))
        result, *others = above
        for factor in others:
            result = Node("multiply", (result, factor))
        for divisor in below:
            result = Node("divide", (result, divisor))
        return Node("negative", (result,)) if minus else result

    def divides(self, node: ArrayNode) -> bool:
        """Whether a factor is one over something, and is written as a division."""
        return is_inverse(node) and node.number in self.inlined | self.transparent

    def power(self, base: Node, exponent: Expr) -> Node:
        if exponent.is_negative:
            return Node("divide", (_word(self.literal(S.One)), self.power(base, -exponent)))
        if exponent == 1:
            return base
        if exponent == S.Half:
            return Node("sqrt", (base,))
        if exponent == 2:
            return Node("square", (base,))
        number = _integer(str(exponent)) if exponent.is_Integer else _word(self.literal(exponent))
        return Node("power", (base, number))


def _word(text: str) -> Node:
    """A piece of text that binds as a name does."""
    return Node("name", leaf=Symbol(text))


def _integer(text: str) -> Node:
    return Node("number", leaf=text) if not text.startswith("-") else Node("negative", (Node("number", leaf=text[1:]),))
