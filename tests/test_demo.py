"""``derive demo``: a page that works when it is opened, from pictures of runs that happened."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from derive import demo
from derive.errors import MissingToolError, OutputError

PICTURES = 22


@pytest.fixture(scope="module")
def page(peer: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a demo that takes fewer steps than the real one."""
    peer("sklearn")
    peer("matplotlib")
    from derive.demo import digits, gradient_cost, surfaces

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "STEPS", 40)
        patch.setattr(digits, "SEARCH_STEPS", 10)
        patch.setattr(surfaces, "RATES", (0.001, 0.01))
        patch.setattr(gradient_cost, "FEATURES", (1, 4, 16))
        return demo.run(tmp_path_factory.mktemp("demo") / "new" / "folder")


# -- what is written ---------------------------------------------------------------------------------------------------


def test_the_page_and_its_pictures_are_written(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert page.name == "index.html"
    assert page.is_file()
    files = sorted((page.parent / "pictures").iterdir())
    assert len(files) == PICTURES
    assert all(f.read_text(encoding="utf-8").startswith("<svg") for f in files)


def test_the_page_needs_nothing_beside_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"<(script|link(?! rel=\"icon\" href=\"data:,\"))", text)
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == PICTURES
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert all(link.startswith(("#", "data:")) for link in re.findall(r'href="([^"]*)"', text))


def test_every_picture_says_what_it_shows(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    captions = re.findall(r'alt="([^"]*)"', text)
    assert len(captions) == len(set(captions)) == PICTURES
    assert min(map(len, captions)) > 20


def test_every_optimizer_is_in_the_table_with_its_learning_rate(page: Path) -> None:
    from derive.demo.generated import OPTIMIZERS

    text = page.read_text(encoding="utf-8")
    for name in OPTIMIZERS:
        assert re.search(rf"<tr><td>{name}</td>(<td>[\d.]+% at [\d.]+</td>){{3}}</tr>", text)


# -- in a browser ------------------------------------------------------------------------------------------------------

_REPORT = """
<script>
addEventListener("load", () => {
  const images = [...document.images];
  const inside = e => e.closest(".wide") === null;
  const right = Math.max(...[...document.body.querySelectorAll("*")].filter(inside)
    .map(e => e.getBoundingClientRect().right));
  document.documentElement.dataset.report = [
    images.length, images.filter(i => i.complete && i.naturalWidth > 0).length,
    Math.ceil(right), innerWidth].join(" ");
});
</script>
"""


def _in_browser(chromium: str, text: str, folder: Path, width: int) -> tuple[list[int], list[str]]:
    """(pictures, pictures that loaded, right edge, width of the window), and what the console said."""
    file = folder / "page.html"
    file.write_text(text.replace("</body>", _REPORT + "</body>"), encoding="utf-8")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", f"--window-size={width},900"]
    command += ["--virtual-time-budget=10000", "--dump-dom", file.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = re.search(r'data-report="([\d ]+)"', ran.stdout)
    assert told is not None, "the page did not load"
    return [int(n) for n in told[1].split()], [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [500, 1280])
def test_all_pictures_load_and_the_console_is_silent(
    page: Path, tool: Callable[[str], str], tmp_path: Path, width: int
) -> None:
    numbers, console = _in_browser(tool("chromium"), page.read_text(encoding="utf-8"), tmp_path, width)
    pictures, loaded, right, window = numbers
    assert pictures == loaded == PICTURES
    assert console == []
    assert right <= window  # nothing sticks out; the table scrolls by itself


def test_the_browser_would_tell(tool: Callable[[str], str], tmp_path: Path) -> None:
    broken = '<!doctype html><body><img src="data:image/svg+xml;base64,AAAA"><script>nothing.here</script></body>'
    numbers, console = _in_browser(tool("chromium"), broken, tmp_path, 800)
    assert numbers[:2] == [1, 0]
    assert len(console) == 1
    assert "nothing is not defined" in console[0]


# -- what it needs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "package"), [("matplotlib", "matplotlib"), ("sklearn", "scikit-learn")])
def test_a_missing_package_is_told_in_one_sentence(
    module: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == module else find(name, *more))
    with pytest.raises(MissingToolError) as told:
        demo.run(tmp_path / "out")
    assert str(told.value) == f"the demo needs {package}: install the extra, pip install 'derive-numpy[demo]'"
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_told(peer: Callable[[str], ModuleType], tmp_path: Path) -> None:
    peer("sklearn")
    peer("matplotlib")
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="taken"):
        demo.run(tmp_path / "taken")


# -- names of lines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_names_are_moved_apart_and_stay_in_the_picture(peer: Callable[[str], ModuleType], seed: int) -> None:
    peer("matplotlib")
    from derive.demo.style import _spread

    rng = np.random.default_rng(seed)
    heights = sorted(rng.random(9) ** rng.integers(1, 6))
    gap = 0.1
    moved = np.array(_spread(heights, gap))
    assert (np.diff(moved) >= gap - 1e-12).all()
    assert moved[0] >= -1e-12
    assert moved[-1] <= 1 + 1e-12


def test_names_with_room_stay_where_their_lines_end(peer: Callable[[str], ModuleType]) -> None:
    peer("matplotlib")
    from derive.demo.style import _spread

    assert _spread([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert _spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])


def test_colours_tell_the_optimizers_apart(peer: Callable[[str], ModuleType]) -> None:
    """Also without red or green receptors, unless one of two lines is dashed."""
    colors = peer("matplotlib.colors")
    from derive.demo.style import COLOURS, DASHES

    # Viénot, Brettel and Mollon (1999): what protanopes and deuteranopes see, in linear RGB.
    views = {
        "all": np.eye(3),
        "protan": np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]),
        "deutan": np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]),
    }
    names = list(COLOURS)
    for view in views.values():
        seen = {n: (view @ np.array(colors.to_rgb(COLOURS[n])) ** 2.2).clip(0) ** (1 / 2.2) for n in names}
        for i, one in enumerate(names):
            for other in names[:i]:
                if DASHES[one] == DASHES[other]:
                    assert np.abs(seen[one] - seen[other]).max() > 0.1, (one, other)
