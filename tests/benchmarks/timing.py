"""Interleaved timing of contestants, each in a process of its own.

Libraries bring thread pools that disturb each other, and a machine is faster in one second than in the next. So every
contestant has its own process, all take turns, and only one runs at a time. What is compared are medians over turns.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

#: Seconds between turns. OpenBLAS's threads wait for more work by spinning, for 0.1 s, on cores that others then lack.
_REST = 0.2
_THREADS = "DERIVE_BENCHMARK_THREADS"


def threads() -> int:
    """The number of threads that every contestant has."""
    return int(os.environ.get(_THREADS, "2"))


def limit_threads(count: int) -> None:
    """Give every library so many threads; has to happen before they are imported."""
    os.environ[_THREADS] = str(count)
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(count)
    # XLA makes as many threads as there are cores that the process may use.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=true"
    os.environ["JAX_PLATFORMS"] = "cpu"


@dataclass(frozen=True)
class Contestant:
    """A column of a table: ``make``, found in ``module``, is called with the arguments of a row.

    ``make(*arguments)`` returns a function without arguments, which is timed, and its result as plain numbers, which
    are compared. It raises ImportError where its library is missing.
    """

    title: str
    module: str
    make: str


def _work(pipe: Connection, contestant: Contestant, arguments: Sequence[Any]) -> None:
    limit_threads(threads())
    try:
        run, result = getattr(importlib.import_module(contestant.module), contestant.make)(*arguments)
    except ImportError as error:
        pipe.send(error)
        return
    pipe.send(result)
    # Of one thread the processor's time is known, whatever else the machine does; of several only the wall clock's.
    clock = time.process_time if threads() == 1 else time.perf_counter
    while seconds := pipe.recv():
        times = []
        start = time.perf_counter()
        # The first run of a turn finds the cache full of what others worked on: it is not counted.
        while len(times) < 3 or time.perf_counter() - start < seconds:
            before = clock()
            run()
            times.append(clock() - before)
        pipe.send(times[1:])


def race(
    contestants: Sequence[Contestant], arguments: Sequence[Any], *, turns: int, seconds: float, rtol: float = 1e-3
) -> Mapping[str, float]:
    """Median seconds of a run for each contestant whose library is there.

    Raises
    ------
    ValueError
        If a contestant's result is another than that of the first.
    """
    context = multiprocessing.get_context("spawn")
    running: dict[str, tuple[Any, Connection]] = {}
    first: Sequence[float] | None = None
    for contestant in contestants:
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, contestant, arguments))
        process.start()
        there.close()
        result = here.recv()
        if isinstance(result, ImportError):
            process.join()
            continue
        if result is not None:
            first = result if first is None else first
            for ours, theirs in zip(first, result, strict=True):
                if abs(ours - theirs) > rtol * abs(ours):
                    raise ValueError(f"{contestant.title} computes {theirs}, {contestants[0].title} {ours}")
        running[contestant.title] = (process, here)
    times: dict[str, list[float]] = {title: [] for title in running}
    for _ in range(turns):
        for title, (_, pipe) in running.items():
            pipe.send(seconds)
            times[title] += pipe.recv()
            time.sleep(_REST)
    for process, pipe in running.values():
        pipe.send(0)
        process.join()
    return {title: statistics.median(found) for title, found in times.items()}


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, columns aligned."""
    widths = [max(len(r[k]) for r in (head, *rows)) for k in range(len(head))]
    lines = [head, [("-" if k == 0 else "-" * (w - 1) + ":").ljust(w, "-") for k, w in enumerate(widths)], *rows]

    def row(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])

    return "\n".join(f"| {row(cells)} |" for cells in lines)


def machine() -> str:
    """What was measured on, and how."""
    name, load = platform.processor() or platform.machine(), os.getloadavg()[0]
    clock = "processor time" if threads() == 1 else "wall clock"
    return (
        f"{name}, {os.cpu_count()} cores, {blas()}; {threads()} threads a contestant, {clock}; "
        f"load {load:.1f} at the start"
    )


def blas() -> str:
    """The library that multiplies NumPy's matrices, and the kernels that it chose for this processor."""
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        return "BLAS unknown without threadpoolctl"
    # It tells of libraries that are loaded.
    importlib.import_module("numpy")
    found = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    return ", ".join(f"{b['internal_api']} {b['version']} ({b.get('architecture', '')})" for b in found)
