"""Two modules alone use what Textual and Rich keep private: a new Textual release needs a review of those only."""

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import zdd_tui.dashboard

EXPECTED = {"zdd_tui.dashboard.widgets.drawing.fast_paint", "zdd_tui.dashboard.terminal.input"}
OF_PYTHON = {"_exit", "_replace", "_asdict"}


def test_two_modules_use_private_names_of_textual() -> None:
    """By contract only the dashboard imports Textual: its modules are all that there is to search."""
    modules = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(zdd_tui.dashboard.__path__, "zdd_tui.dashboard.")
    ]
    uses = {module.__name__: sorted(set(private_uses(module))) for module in modules}
    assert {name for name, found in uses.items() if found} == EXPECTED, uses


def private_uses(module: ModuleType) -> Iterator[str]:
    tree = ast.parse(Path(str(module.__file__)).read_text())
    own = set(names_of_own(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            paths = [f"{getattr(node, 'module', None) or ''}.{alias.name}".lstrip(".") for alias in node.names]
            for path in paths:
                if path.startswith(("textual.", "rich.")) and any(part.startswith("_") for part in path.split(".")):
                    yield path
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and not is_self(node.value):
            if node.attr not in own | OF_PYTHON:
                yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "setattr", "hasattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)):
                yield str(name.value)
        elif isinstance(node, ast.ClassDef):
            yield from uses_of_inherited(node, getattr(module, node.name, None))


def uses_of_inherited(node: ast.ClassDef, cls: object) -> Iterator[str]:
    """Private names of Textual's base classes that a class uses through `self`, or overrides."""
    inherited = set(private_names_of_bases(cls)) if isinstance(cls, type) else set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and is_self(inner.value) and inner.attr in inherited:
            yield inner.attr
        elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name in inherited:
            yield inner.name


def private_names_of_bases(cls: type) -> Iterator[str]:
    for base in cls.__mro__:
        if base.__module__.startswith(("textual", "rich")):
            yield from private_names_of_class(base)


@cache
def private_names_of_class(cls: type) -> frozenset[str]:
    nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls))))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute) and is_self(node.value)}
    return frozenset(filter(is_private, attributes | set(vars(cls))))


def names_of_own(tree: ast.Module) -> Iterator[str]:
    """Private names that a module defines: methods, and attributes that it sets through `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            yield node.attr


def is_self(node: ast.expr) -> bool:
    """`self`, `cls` or `super()`."""
    called = node.func if isinstance(node, ast.Call) else node
    return isinstance(called, ast.Name) and called.id in ("self", "cls", "super")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
