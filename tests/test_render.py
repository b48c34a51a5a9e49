"""Pages and templates, and modules that are compiled without a file."""

from __future__ import annotations

import ast
import inspect
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import Template, UndefinedError, nodes
from sympy import Idx, IndexedBase, Sum, symbols

import derive
from derive import render
from derive.catalogue import catalogue, find
from derive.errors import StatementError
from derive.files import CATALOGUE

ROOT = Path(__file__).parent.parent
D = symbols("D", integer=True, positive=True)
k = Idx("k", D)
w = IndexedBase("w", shape=(D,))


def square(power: int = 3) -> derive.Loss:
    return derive.Loss("square", power * Sum(w[k] ** 2, k), wrt=[w])


# -- modules in memory -------------------------------------------------------------------------------------------------


def test_compile_gives_the_functions_of_the_module() -> None:
    module = derive.compile(square())
    loss, grad = module.loss_and_grad(np.array([1.0, 2.0]))
    assert loss == module.loss(np.array([1.0, 2.0])) == 15.0
    np.testing.assert_array_equal(grad, [6.0, 12.0])


@pytest.mark.parametrize("name", ["svm", "adam"])
def test_compile_runs_the_text_that_build_writes(name: str) -> None:
    text = inspect.getsource(derive.compile(find(name)))
    written = render.module_text(find(name), source=CATALOGUE)
    assert text.splitlines()[1:] == written.splitlines()[1:]


def test_tracebacks_show_the_lines_of_a_compiled_module() -> None:
    module = derive.compile(square())
    try:
        module.loss("no numbers")
    except (TypeError, ValueError) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "square" in f.filename]
    assert frames
    assert all(f.line for f in frames)
    assert "return" in inspect.getsource(module.loss)


def test_two_statements_of_one_name_are_two_modules_and_one_statement_is_one() -> None:
    one, other, again = derive.compile(square(3)), derive.compile(square(5)), derive.compile(square(3))
    assert one.loss([1.0]) == again.loss([1.0]) == 3.0
    assert other.loss([1.0]) == 5.0
    assert one is again


def test_the_state_of_a_compiled_optimizer_pickles_into_another_process(tmp_path: Path) -> None:
    adam = derive.compile(find("adam"))
    params, state = adam.update(np.ones(3), np.array([1.0, -2.0, 3.0]), adam.init(np.ones(3)))
    (tmp_path / "state").write_bytes(pickle.dumps((params, state)))
    again, same = pickle.loads((tmp_path / "state").read_bytes())
    np.testing.assert_array_equal(adam.update(again, np.ones(3), same)[0], adam.update(params, np.ones(3), state)[0])
    script = """
import pickle, sys
import derive
from derive.catalogue import find
import numpy as np
adam = derive.compile(find("adam"))
params, state = pickle.load(open(sys.argv[1], "rb"))
print(adam.update(params, np.ones(3), state)[0].tolist())
"""
    command = [sys.executable, "-c", script, str(tmp_path / "state")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == adam.update(params, np.ones(3), state)[0].tolist()


@pytest.mark.parametrize("name", ["lambda", "two words", "../escape", "", "__init__"])
def test_a_name_that_names_no_module_is_refused(name: str) -> None:
    statement = derive.Loss(name, Sum(w[k] ** 2, k), wrt=[w])
    for act in (derive.compile, lambda s: render.pages([s], source="mine.py")):
        with pytest.raises(StatementError, match="name"):
            act(statement)


def test_two_pages_for_one_path_are_refused_unless_they_are_the_same() -> None:
    assert render.union({"b": "1"}, {"a": "2", "b": "1"}) == {"a": "2", "b": "1"}
    with pytest.raises(StatementError, match=r"losses/x\.py"):
        render.union({"losses/x.py": "1"}, {"losses/x.py": "2"})


# -- templates -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def placed() -> list[tuple[str, Any]]:
    """(template, page) of everything that the catalogue places."""
    seen: list[tuple[str, Any]] = []
    rendered = Template.render

    def watch(template: Template, *arguments: Any, **context: Any) -> str:
        assert not arguments
        assert set(context) == {"page"}
        seen.append((str(template.name), context["page"]))
        return rendered(template, **context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Template, "render", watch)
        render._shared_pages.cache_clear()
        render.pages(catalogue(), source=CATALOGUE)
    return seen


def language(template: str) -> Any:
    return "latex" if template.endswith(".tex.jinja") else "python"


def parsed(template: str) -> dict[str, nodes.Template]:
    """A template and those that it includes or imports, by name."""
    environment = render.environment(language(template))
    tree = environment.parse((ROOT / "templates" / template).read_text(encoding="utf-8"))
    trees = {template: tree}
    for part in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        trees |= parsed(part.template.value)  # type: ignore[attr-defined]
    return trees


def attributes(template: str) -> set[str]:
    """Every name that a template reads from what it is given."""
    read = [node for tree in parsed(template).values() for node in tree.find_all(nodes.Getattr)]
    return {node.attr for node in read if getattr(node.node, "name", None) != "loop"}


def dataclasses_in(value: Any) -> Iterator[Any]:
    if is_dataclass(value):
        yield value
        for field in fields(value):
            yield from dataclasses_in(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from dataclasses_in(item)


def test_every_template_is_used(placed: list[tuple[str, Any]]) -> None:
    used = {part for template, _ in placed for part in parsed(template)}
    assert {p.name for p in (ROOT / "templates").glob("*.py.jinja")} == {t for t in used if t.endswith(".py.jinja")}
    assert {p.name for p in (ROOT / "templates").glob("*.tex.jinja")} == {t for t in used if t.endswith(".tex.jinja")}


def test_every_field_of_a_page_is_placed_and_nothing_else_is_asked_for(placed: list[tuple[str, Any]]) -> None:
    handed: dict[str, set[str]] = {}
    for template, page in placed:
        for item in dataclasses_in(page):
            handed.setdefault(template, set()).update(f.name for f in fields(item))
    for template, names in handed.items():
        assert names == attributes(template), template


def test_pages_are_frozen_and_hold_strings_and_tuples_only(placed: list[tuple[str, Any]]) -> None:
    for template, page in placed:
        for item in dataclasses_in(page):
            assert item.__dataclass_params__.frozen, (template, item)
            for field in fields(item):
                value = getattr(item, field.name)
                assert isinstance(value, str | tuple | bool) or is_dataclass(value), (template, field.name)


def test_templates_hold_no_mathematics_and_call_nothing() -> None:
    for file in sorted((ROOT / "templates").glob("*.jinja")):
        environment = render.environment(language(file.name))
        tree = environment.parse(file.read_text(encoding="utf-8"))
        assert not list(tree.find_all((nodes.Call, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.Pow))), file.name
        text = "".join(node.data for node in tree.find_all(nodes.TemplateData))
        assert "np." not in text, file.name


def test_a_template_that_asks_for_what_is_not_there_stops() -> None:
    for kind, template in (("python", "{{ page.missing }}"), ("latex", "<< page.missing >>")):
        with pytest.raises(UndefinedError, match="missing"):
            render.environment(kind).from_string(template).render(page=object())  # type: ignore[arg-type]


def test_latex_keeps_its_braces() -> None:
    template = render.environment("latex").from_string("\\frac{{<< page >>}}{2} % {{x}} {# y #}\n")
    assert template.render(page="1") == "\\frac{{1}}{2} % {{x}} {# y #}\n"


def test_functions_of_the_package_stay_functions_when_modules_of_their_name_are_imported() -> None:
    script = "import derive.differentiate, derive; print(callable(derive.differentiate), callable(derive.gradcheck))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"
