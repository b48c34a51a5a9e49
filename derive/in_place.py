"""Equations as three-address code that works in place: one operation a line, into arrays that are there already.

The input is what a step computes: definitions in order, each a letter and a tree of :mod:`derive.elementwise`, and
which array each result belongs into. A part that occurs twice is computed once. Every operation is elementwise, so it
may write where one of its operands stands; results go where they are wanted as soon as the old value there is not
needed any more, and into as few scratch arrays as possible otherwise. Where a scratch array is written to first, it may
also be None, which NumPy takes for an array that is yet to be made.

>>> from sympy import symbols
>>> from derive.elementwise import Ordering, tree
>>> x, v, g, x1, v1, rho, rate = symbols("x v g x' v' rho rate", real=True)
>>> order = Ordering((x, v, v1, g), (rate, rho))
>>> code = in_place(
...     [(v1, tree(rho * v + g, order)), (x1, tree(x - rate * v1, order))], results={v: v1, x: x1}, inputs=[x, g, v]
... )
>>> for line in code.lines(NUMPY_OUT, "scratch"):
...     print(line)
v *= rho
v += g
scratch = np.multiply(v, rate, scratch)
x -= scratch
>>> code.scratch
1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from sympy import Symbol

from derive.elementwise import NUMPY, Node, Target, in_words, written

__all__ = ["NUMPY_OUT", "Instruction", "OutTarget", "ThreeAddress", "in_place"]


@dataclass(frozen=True)
class OutTarget:
    """How a target spells an operation that writes into an array: formats with ``out`` and the operands.

    Scratch arrays may not be there before they are written to: what is spelled otherwise for them makes them.
    """

    calls: Mapping[str, str]
    #: What does not return the array that it writes into, spelled so that it does.
    into_scratch: Mapping[str, str]
    #: Spellings for the case that the result goes where the first operand stands.
    onto_first: Mapping[str, str]
    #: For what has no such form: the whole expression is computed and put there.
    otherwise: str
    #: The same for scratch arrays, ``like`` an array that is there.
    otherwise_scratch: str
    whole: Target


NUMPY_OUT = OutTarget(
    {
        "add": "np.add({}, {}, {out})", "subtract": "np.subtract({}, {}, {out})",
        "multiply": "np.multiply({}, {}, {out})", "divide": "np.divide({}, {}, {out})",
        "power": "np.power({}, {}, {out})", "square": "np.multiply({0}, {0}, {out})",
        "negative": "np.negative({}, {out})", "sqrt": "np.sqrt({}, {out})", "abs": "np.abs({}, {out})",
        "sign": "np.sign({}, {out})", "maximum": "np.maximum({}, {}, out={out})",
        "minimum": "np.minimum({}, {}, out={out})", "exp": "np.exp({}, {out})", "log": "np.log({}, {out})",
        "sin": "np.sin({}, {out})", "cos": "np.cos({}, {out})", "tan": "np.tan({}, {out})",
        "asin": "np.arcsin({}, {out})", "acos": "np.arccos({}, {out})", "atan": "np.arctan({}, {out})",
        "sinh": "np.sinh({}, {out})", "cosh": "np.cosh({}, {out})", "tanh": "np.tanh({}, {out})",
        "copy": "{out}[...] = {}",
    },
    {"copy": "np.positive({}, {out})"},
    # The same operations as above, shorter to read and faster to call.
    {"add": "{out} += {1}", "subtract": "{out} -= {1}", "multiply": "{out} *= {1}", "divide": "{out} /= {1}"},
    otherwise="{out}[...] = {}",
    otherwise_scratch="{out} = np.asarray({}, {like}.dtype)",
    whole=NUMPY,
)  # fmt: skip

#: Operations whose result is true or false: they are written where they are used, and need no scratch.
_TRUTH = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not"})

#: Operations between arrays and numbers, and what a number is called in them.
_PART = {"add": "summand", "subtract": "summand", "multiply": "factor", "divide": "factor"}

#: Where a value is: an input, or a scratch array by number.
Place: TypeAlias = "Symbol | int"


@dataclass(frozen=True)
class Instruction:
    """``out`` becomes ``op`` of the operands: arrays by their place, scalars and conditions as trees."""

    op: str
    args: tuple[Place | Node, ...]
    out: Place
    #: The letter whose definition this instruction works for.
    target: Symbol


@dataclass(frozen=True)
class ThreeAddress:
    """Instructions, the number of scratch arrays they need, and an array that is there."""

    instructions: tuple[Instruction, ...]
    scratch: int
    like: Symbol

    def lines(self, target: OutTarget, scratch: str) -> list[str]:
        """A line for each instruction; arrays go by their letters."""
        names, made, lines = self.scratch_names(scratch), set[Place](), []
        for instruction in self.instructions:
            lines.append(_line(instruction, target, names, self.like, made))
            made.add(instruction.out)
        return lines

    def numbers_named(
        self, unused: Callable[[str], str], kept: Set[Symbol] = frozenset()
    ) -> tuple[dict[str, Node], ThreeAddress]:
        """Names for the numbers that arrays are added to, multiplied by and so on, and the code with those names.

        A letter keeps its name; ``unused`` makes a name one that is free. Literals stay as they are, and so do letters
        that are ``kept``, or stand where their number is wanted as it is.
        """
        kept = kept | {
            letter for i in self.instructions if i.op not in _PART for a in i.args for letter in _scalar_letters(a)
        }
        named: dict[Node, str] = {}

        def name(arg: Place | Node, op: str) -> Place | Node:
            if not isinstance(arg, Node) or arg.op in ("number", "constant") or arg.leaf in kept:
                return arg
            if arg not in named:
                named[arg] = str(arg.leaf) if arg.op == "name" else unused(in_words(arg) or _PART[op])
            return Node("name", leaf=Symbol(named[arg]), scalar=True)

        instructions = tuple(
            replace(i, args=tuple(name(a, i.op) for a in i.args)) if i.op in _PART else i for i in self.instructions
        )
        return {n: node for node, n in named.items()}, replace(self, instructions=instructions)

    def scratch_names(self, scratch: str) -> list[str]:
        return [scratch] if self.scratch == 1 else [f"{scratch}_{n + 1}" for n in range(self.scratch)]


def in_place(
    definitions: Sequence[tuple[Symbol, Node]], *, results: Mapping[Symbol, Symbol], inputs: Sequence[Symbol]
) -> ThreeAddress:
    """Three-address code for definitions.

    Parameters
    ----------
    definitions : sequence of (Symbol, Node)
        Letters and what they are, in terms of inputs and of letters before.
    results : mapping of Symbol to Symbol
        For each array that changes, the letter of its new value.
    inputs : sequence of Symbol
        All arrays, as they are before. Those that do not change are only read.
    """
    flat = _Flat()
    for letter, node in definitions:
        flat.known[Node("name", leaf=letter)] = flat.value(node, letter)
    finals: dict[Symbol, int] = {}
    for array, letter in results.items():
        value = flat.known[Node("name", leaf=letter)]
        if isinstance(value, Symbol) or value in finals.values():
            value = flat.append("copy", (value,), letter)
        finals[array] = value
    return _Places(flat, finals, inputs).run()


# --- Values ------------------------------------------------------------------------------------------------------

#: A value: an input, or the result of the operation with this number.
Value: TypeAlias = "Symbol | int"


@dataclass
class _Flat:
    """Operations in order, each once."""

    operations: list[tuple[str, tuple[Value | Node, ...], Symbol]] = field(default_factory=list)
    known: dict[Node, Value] = field(default_factory=dict)

    def value(self, node: Node, target: Symbol) -> Value:
        if node in self.known:
            return self.known[node]
        if node.op == "name":
            assert isinstance(node.leaf, Symbol)
            return node.leaf
        args = tuple(a if a.scalar else self.condition(a, target) or self.value(a, target) for a in node.args)
        # A number times an array reads better with the array first, and is the same.
        if node.op == "multiply" and isinstance(args[0], Node):
            args = (args[1], args[0])
        self.known[node] = self.append(node.op, args, target)
        return self.known[node]

    def append(self, op: str, args: tuple[Value | Node, ...], target: Symbol) -> int:
        self.operations.append((op, args, target))
        return len(self.operations) - 1

    def condition(self, node: Node, target: Symbol) -> Node | None:
        """A condition stays a tree, over values that are computed before it."""
        if node.op not in _TRUTH:
            return None
        return Node(node.op, tuple(self._operand(a, target) for a in node.args))

    def _operand(self, node: Node, target: Symbol) -> Node:
        if node.scalar:
            return node
        if node.op in _TRUTH:
            inner = self.condition(node, target)
            assert inner is not None
            return inner
        value = self.value(node, target)
        return Node("value", leaf=value if isinstance(value, Symbol) else str(value))


def _scalar_letters(arg: Place | Node) -> set[Symbol]:
    """The letters that stand for numbers in an operand."""
    if not isinstance(arg, Node):
        return set()
    if arg.op == "name":
        return {arg.leaf} if isinstance(arg.leaf, Symbol) else set()
    return {letter for a in arg.args for letter in _scalar_letters(a)}


def _values(arg: Value | Node) -> list[Value]:
    """The values that an operand reads."""
    if not isinstance(arg, Node):
        return [arg]
    if arg.op == "value":
        return [arg.leaf if isinstance(arg.leaf, Symbol) else int(str(arg.leaf))]
    return [v for a in arg.args for v in _values(a)]


# --- Places ------------------------------------------------------------------------------------------------------


class _Places:
    """Gives each value a place."""

    def __init__(self, flat: _Flat, finals: Mapping[Symbol, int], inputs: Sequence[Symbol]) -> None:
        self.operations = flat.operations
        self.finals = finals
        self.like = inputs[0]
        self.target_of: dict[Value, Symbol] = {v: a for a, v in finals.items()}
        #: The last operation that reads a value; final values are read by the caller, after all.
        self.last: dict[Value, int] = dict.fromkeys(inputs, -1)
        for n, (_, args, _) in enumerate(self.operations):
            for value in (v for a in args for v in _values(a)):
                self.last[value] = n
        self.place: dict[Value, Place] = {s: s for s in inputs}
        self.free: list[int] = []
        self.scratch = 0

    def run(self) -> ThreeAddress:
        done: list[Instruction] = []
        for n, (op, args, target) in enumerate(self.operations):
            operands = tuple(self.located(a) for a in args)
            # What is read here for the last time leaves its place: the result may go there.
            for value in {v: None for a in args for v in _values(a)}:
                place = self.place[value]
                if isinstance(place, int) and self.last[value] == n and value not in self.target_of:
                    self.free.append(place)
            out = self.choose(n, args)
            self.place[n] = out
            done.append(Instruction(op, operands, out, target))
            done += self.deliver(n)
        return ThreeAddress(tuple(done), self.scratch, self.like)

    def located(self, arg: Value | Node) -> Place | Node:
        if not isinstance(arg, Node):
            return self.place[arg]
        if arg.op == "value":
            place = self.place[_values(arg)[0]]
            return Node("place", leaf=place if isinstance(place, Symbol) else str(place))
        if not arg.args or arg.scalar:
            return arg
        return Node(arg.op, tuple(a for a in map(self.located, arg.args) if isinstance(a, Node)))

    def choose(self, n: int, args: tuple[Value | Node, ...]) -> Place:
        wanted = self.target_of.get(n)
        if wanted is not None:
            if self.last[wanted] <= n and not self.occupied(wanted, n):
                return wanted
            return self.new_scratch()
        # Best is the place of an operand; it must be vacated again when the array's own new value comes.
        reads = [self.place[v] for a in args for v in _values(a)]
        for array, final in self.finals.items():
            if (
                array in reads
                and self.last[array] <= n
                and self.last.get(n, n) <= final
                and n < final
                and not self.occupied(array, n)
            ):
                return array
        return self.new_scratch()

    def occupied(self, array: Symbol, n: int) -> bool:
        """Whether a value that is still needed after operation n stands in the place of the array."""
        return any(
            place == array and value != array and (self.last.get(value, -1) > n or value in self.target_of)
            for value, place in self.place.items()
        )

    def new_scratch(self) -> int:
        if self.free:
            self.free.sort()
            return self.free.pop(0)
        self.scratch += 1
        return self.scratch - 1

    def deliver(self, n: int) -> list[Instruction]:
        """Copy new values to where they are wanted, once the old values there are not needed any more."""
        copies = []
        for array, final in self.finals.items():
            if final > n or self.place[final] == array:
                continue
            if self.last[array] <= n and not self.occupied(array, n):
                scratch = self.place[final]
                assert isinstance(scratch, int)
                copies.append(Instruction("copy", (scratch,), array, self.operations[final][2]))
                self.place[final] = array
                self.free.append(scratch)
        return copies


# --- Text --------------------------------------------------------------------------------------------------------


def _line(instruction: Instruction, target: OutTarget, scratch: list[str], like: Symbol, made: Set[Place]) -> str:
    """The instruction as a line; ``made`` are the places that have been written to before."""

    def place(where: Place) -> str:
        return scratch[where] if isinstance(where, int) else str(where.name)

    def operand(arg: Place | Node) -> str:
        return text(_placed(arg, place)) if isinstance(arg, Node) else place(arg)

    def text(node: Node) -> str:
        return written(node, target.whole)

    out = place(instruction.out)
    operands = list(map(operand, instruction.args))
    if instruction.op in target.onto_first and len(operands) == 2:
        if operands[1] == out and instruction.op in ("add", "multiply"):
            operands.reverse()
        if operands[0] == out:
            return target.onto_first[instruction.op].format(*operands, out=out)
    temporary = isinstance(instruction.out, int)
    calls = {**target.calls, **target.into_scratch} if temporary else target.calls
    if instruction.op in calls:
        call = calls[instruction.op].format(*operands, out=out)
        return f"{out} = {call}" if temporary and instruction.out not in made else call
    trees = tuple(
        _placed(a, place) if isinstance(a, Node) else Node("name", leaf=Symbol(place(a))) for a in instruction.args
    )
    form = target.otherwise_scratch if temporary else target.otherwise
    return form.format(text(Node(instruction.op, trees)), out=out, like=like.name)


def _placed(node: Node, place: object) -> Node:
    """The tree with the places of values as names."""
    if node.op == "place":
        assert callable(place)
        where = node.leaf if isinstance(node.leaf, Symbol) else int(str(node.leaf))
        return Node("name", leaf=Symbol(place(where)))
    if not node.args or node.scalar:
        return node
    return Node(node.op, tuple(_placed(a, place) for a in node.args))
