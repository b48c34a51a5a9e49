"""Which loops over the axes of a row compute a kernel, and what each of them computes.

The nodes of a kernel become tasks, and tasks go into a sequence of nests: loops inside each other, over some axes of a
row, or none for what there is one of in each row. A task goes into the first nest over its axes in which everything it
reads is at hand: made at the same point of the same nest, or ready after an earlier one. What is read at the very
points at which it can be made waits until it is read, and is made there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

from sympy import Expr

from derive.fusion import Kernel, is_inverse, is_minus
from derive.program import Node, Update

__all__ = ["Nest", "Read", "Task", "is_transparent", "nests"]


@dataclass(frozen=True)
class Read:
    """A use of a node by a task: what each of its axes is among those of the task's node.

    ``anywhere`` is true where elements are taken from the whole row, so that it has to lie there.
    """

    node: Node
    at: tuple[int, ...]
    anywhere: bool = False


@dataclass(eq=False)
class Task:
    """Something to compute at each point of a nest.

    Attributes
    ----------
    role : str
        "value"; "total", which adds up; "start" and "update", by which a scatter comes about.
    space : tuple of int
        The axes of the node that the nest runs over, in order.
    update : Update or None
    place : dict
        Which loop of the nest runs over each axis of the space, once the task has its nest.
    """

    node: Node
    role: str
    space: tuple[int, ...]
    reads: tuple[Read, ...]
    update: Update | None = None
    nest: int | None = None
    place: dict[int, int] = field(default_factory=dict)

    def size(self, axis: int) -> Expr:
        return (*self.node.axes, *self.node.inner)[axis]


@dataclass
class Nest:
    """Loops inside each other: their sizes, the letters of their indices, and what is computed at each point."""

    sizes: tuple[Expr, ...]
    letters: tuple[str, ...]
    tasks: list[Task] = field(default_factory=list)


def is_transparent(node: Node, kernel: Kernel) -> bool:
    """Whether a node is a way of reading others, and stands wherever it is read: a sign, or elements of an array.

    One number of a row taken from an array is none: a loop over the row would look it up again and again.
    """
    if node in kernel.outputs:
        return False
    if node.op == "take":
        return node.rank > 1 and node.args[0][0] not in kernel.nodes
    return is_minus(node) or (node.rank == 1 and is_inverse(node))


def nests(kernel: Kernel) -> tuple[list[Nest], Mapping[int, Sequence[Task]]]:
    """The nests that compute a kernel, in order, and the tasks of each of its nodes, by number."""
    schedule = _Schedule(kernel)
    schedule.run()
    return schedule.nests, schedule.tasks


class _Schedule:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.tasks = {n.number: _tasks(n, kernel) for n in kernel.nodes if not is_transparent(n, kernel)}
        self.nests: list[Nest] = []
        self.waiting = {n.number for n in kernel.nodes if n.number in self.tasks and self.can_wait(n)}

    def run(self) -> None:
        for node in self.kernel.nodes:
            if node.number in self.tasks and node.number not in self.waiting:
                self.put(node)

    def put(self, node: Node) -> None:
        for task in self.tasks[node.number]:
            if task.nest is None:
                self.put_task(task)

    def can_wait(self, node: Node) -> bool:
        """Whether a value is read in the kernel alone, at the very points at which it is made."""
        (first, *_) = self.tasks[node.number]
        if first.role != "value" or node in self.kernel.outputs:
            return False
        row = self.kernel.rows[node.number]
        for tasks in self.tasks.values():
            for task in tasks:
                for read in task.reads:
                    points = {p for k, p in enumerate(read.at) if k != row}
                    if read.node is node and (read.anywhere or points != set(task.space)):
                        return False
        return True

    def put_task(self, task: Task) -> None:
        for number, nest in enumerate(self.nests):
            for place in _places(task, nest):
                if self.fits(task, number, place, {}):
                    self.enter(task, number, place)
                    return
        nest = Nest(tuple(task.size(p) for p in task.space), tuple(task.node.letters[p] for p in task.space))
        place = {p: k for k, p in enumerate(task.space)}
        if not self.fits(task, len(self.nests), place, {}):
            # It reads something at two points of its nest, which has to be made before, then.
            for read in task.reads:
                if read.node.number in self.waiting:
                    self.waiting.discard(read.node.number)
                    self.put(read.node)
        self.nests.append(nest)
        self.enter(task, len(self.nests) - 1, place)

    def fits(self, task: Task, number: int, place: Mapping[int, int], taken: dict[int, dict[int, int]]) -> bool:
        """Whether all that a task reads is at hand in a nest, or can be made there; ``taken`` says at which points."""
        if task.role == "update":
            start = self.tasks[task.node.number][0].nest
            if start is None or start >= number:
                return False
        for read in task.reads:
            if read.node.number not in self.tasks:
                continue
            last = max(self.tasks[read.node.number], key=lambda t: -1 if t.nest is None else t.nest)
            row = self.kernel.rows[read.node.number]
            there = {k: place[p] for k, p in enumerate(read.at) if k != row and p in place}
            if last.nest is None:
                if taken.setdefault(read.node.number, there) != there or not self.fits(last, number, there, taken):
                    return False
            elif last.nest >= number:
                here = last.nest == number and last.role == "value" and not read.anywhere
                if not here or any(last.place[p] != there.get(p) for p in last.space):
                    return False
        return True

    def enter(self, task: Task, number: int, place: dict[int, int]) -> None:
        for read in task.reads:
            for made in self.tasks.get(read.node.number, ()):
                if made.nest is None:
                    row = self.kernel.rows[read.node.number]
                    self.enter(made, number, {k: place[p] for k, p in enumerate(read.at) if k != row})
        task.nest, task.place = number, place
        self.nests[number].tasks.append(task)


def _places(task: Task, nest: Nest) -> Iterator[dict[int, int]]:
    """The ways in which the loops of a nest can run over the axes of a task."""
    if len(nest.sizes) == len(task.space):
        for order in permutations(range(len(nest.sizes))):
            if all(nest.sizes[k] == task.size(p) for k, p in zip(order, task.space, strict=True)):
                yield dict(zip(task.space, order, strict=True))


def _tasks(node: Node, kernel: Kernel) -> list[Task]:
    row = kernel.rows[node.number]
    reads = [list(_reads(node, k, kernel)) for k in range(len(node.args))]

    def inside(axes: Sequence[int]) -> tuple[int, ...]:
        return tuple(p for p in dict.fromkeys(axes) if p != row)

    everything = tuple(read for part in reads for read in part)
    if node.op in ("reduce", "contract"):
        # In the order in which the largest argument lies in memory, its last axis in the innermost loop.
        largest, at = max(node.args, key=lambda arg: len(arg[1]))
        along = [*(at[p] for p in largest.order), *range(node.rank)]
        last = at[_last_axis(largest)]
        first = [p for p in along if (p < node.rank) == (last >= node.rank)]
        return [Task(node, "total", inside([*first, *along]), everything)]
    if node.op != "scatter":
        return [Task(node, "value", inside(node.order), everything)]
    start = tuple(reads[0]) if node.info[0] == ("onto",) else ()
    tasks = [Task(node, "start", inside(node.order), start)]
    for update in node.info[1:]:
        value, at = node.args[update.value]
        positions = [read for e in update.index if e[0] == "gather" for read in reads[e[1]]]
        along = [at[p] for p in value.order]
        along += [p for e in update.index if e[0] == "gather" for p in node.args[e[1]][1]]
        along += [e[1] for e in update.index if e[0] == "slice"]
        tasks.append(Task(node, "update", inside(along), (*reads[update.value], *positions), update))
    return tasks


def _last_axis(node: Node) -> int:
    """The axis along which an array's elements lie side by side."""
    if node.op == "take" and node.info[-1][0] == "slice":
        return int(node.info[-1][1])
    return node.order[-1]


def _reads(node: Node, number: int, kernel: Kernel) -> Iterator[Read]:
    """What is read where an argument stands: the argument, or what it is a way of reading."""
    child, at = node.args[number]
    if child in kernel.nodes and is_transparent(child, kernel):
        for k in range(len(child.args)):
            for read in _reads(child, k, kernel):
                # Axes of an array that elements are taken from are not axes of what is taken.
                yield Read(read.node, tuple(at[p] if p < child.rank else -1 for p in read.at), read.anywhere)
    else:
        yield Read(child, at, anywhere=node.op == "take" and number == 0)
