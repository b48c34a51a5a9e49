"""Ratios of time against what people would use instead. One command:

    python tests/benchmarks/run.py [losses] [optimizers] [toolkit] [--only NAME ...] [--threads N]

Peers that are not installed are left out: autograd, jax, torch, numba (``pip install autograd jax torch numba``).
Contestants take turns, each in its own process with two threads; numbers are medians. Threads that wait for each other
are hopeless to time on a machine that has other work: there take ``--threads 1``, which compares processor time.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUBJECTS = ("losses", "optimizers", "toolkit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subject", nargs="*", metavar="subject", help=f"of {', '.join(SUBJECTS)}; without one, all")
    parser.add_argument("--only", nargs="*", default=[], help="names of losses or of rules")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.15, help="length of a turn")
    parser.add_argument("--threads", type=int, default=2, help="that each contestant has")
    given = parser.parse_args()
    if unknown := [s for s in given.subject if s not in SUBJECTS]:
        parser.error(f"unknown subject {unknown[0]}: one of {', '.join(SUBJECTS)}")

    # The checkout that this file is in is what is measured.
    sys.path[:0] = [str(HERE), str(HERE.parent.parent)]
    from timing import limit_threads, machine

    limit_threads(given.threads)
    print(machine(), flush=True)
    for subject in given.subject or SUBJECTS:
        result = importlib.import_module(subject).report(given.only, turns=given.turns, seconds=given.seconds)
        print(f"\n{result}\n", flush=True)


if __name__ == "__main__":
    main()
