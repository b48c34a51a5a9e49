"""The toolkit itself: ``derive check`` over the catalogue, and what a generated module adds to the import of NumPy."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import milliseconds, table

ROOT = Path(__file__).resolve().parents[2]
IMPORTS = "import sympy, numpy, jinja2"
CHECK_GOAL = 8.0


def processor_seconds(*arguments: str, folder: Path = ROOT) -> float:
    """Processor time of a fresh interpreter."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def report(only: list[str], *, turns: int, seconds: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        subprocess.run(
            [sys.executable, "-m", "derive", "build", "--out", folder], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
        programs = {
            IMPORTS: ("-c", IMPORTS),
            "derive check": ("-m", "derive", "check", "--out", folder),
            "import numpy": ("-c", "import numpy"),
            "import a loss and an optimizer": ("-c", "import losses.svm, optimizers.adam"),
        }
        times: dict[str, list[float]] = {title: [] for title in programs}
        for _ in range(turns):
            for title, arguments in programs.items():
                times[title].append(processor_seconds(*arguments, folder=out if "losses" in arguments[-1] else ROOT))
    found = {title: statistics.median(t) for title, t in times.items()}
    check, imported = (
        found["derive check"] / found[IMPORTS],
        found["import a loss and an optimizer"] / found["import numpy"],
    )
    ratios = {
        "derive check": (f"{check:.2f}", f"{CHECK_GOAL:.2f}"),
        "import a loss and an optimizer": (f"{imported:.2f}", ""),
    }
    rows = [[title, milliseconds(found[title]), *ratios.get(title, ("", ""))] for title in programs]
    return table(["program", "processor time, ms", "/ imports alone", "goal"], rows)
