"""One name has one meaning: no class and no public function is defined in two modules."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "zdd_tui"

ALLOWED = {
    "main": "the entry point of each program",
}
"""Names that several modules may define, with the reason."""


def names_in(source: str) -> set[str]:
    """Names of the classes and public functions that a module defines at its top level."""
    nodes = ast.parse(source).body
    classes = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return classes | {name for name in functions if not name.startswith("_")}


def names_used_twice(sources: dict[str, str]) -> dict[str, list[str]]:
    modules: dict[str, list[str]] = defaultdict(list)
    for module, source in sorted(sources.items()):
        for name in names_in(source):
            modules[name].append(module)
    return {name: found for name, found in modules.items() if len(found) > 1}


def package_sources() -> dict[str, str]:
    return {str(file.relative_to(PACKAGE)): file.read_text() for file in PACKAGE.rglob("*.py")}


def test_every_name_has_one_meaning() -> None:
    found = names_used_twice(package_sources())
    assert {name: modules for name, modules in found.items() if name not in ALLOWED} == {}
    assert set(ALLOWED) <= set(found), "an exception that nothing needs"


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ("class Look: ...", "class Look: ...", "Look"),
        ("class _Draft: ...", "class _Draft: ...", "_Draft"),
        ("def explain(): ...", "async def explain(): ...", "explain"),
        ("class judge: ...", "def judge(): ...", "judge"),
    ],
)
def test_a_name_that_is_used_twice_is_found(one: str, other: str, name: str) -> None:
    assert names_used_twice({"a.py": one, "b.py": other}) == {name: ["a.py", "b.py"]}


def test_private_functions_may_repeat() -> None:
    assert names_used_twice({"a.py": "def _helper(): ...", "b.py": "def _helper(): ..."}) == {}
