"""Every hint of the package names only commands, options, actions, keys of the plan, tables and files that exist.

Every other text names only commands that the real parser takes.
"""

import argparse
import ast
import contextlib
import importlib
import inspect
import io
import pkgutil
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

import zdd_tui
from zdd_tui.cli.parser import build_parser
from zdd_tui.model.actions import ACTIONS, KEY_NAMES, key_name
from zdd_tui.model.plan.registry import PLAN_CLASSES, build_plan_schema

ROOT = Path(__file__).parents[1]
ACTION_IDS = {action.id for action in ACTIONS}
FILLED = "PLACEHOLDER"
"""Stands for a value that is filled in at run time."""

_BACKTICKS = re.compile(r"`([^`]+)`")
_OTHER_COMMAND = re.compile(r"\b(?:kubectl|pip|psql|git|gzip|redis-cli|npx)\b[^`,;]*")
_ZDD_COMMAND = re.compile(r"\bzdd ([a-z]+)((?: [^`,;]*)?)")
_APPLICATION_NAME = re.compile(rf"zdd [a-z]+(?: {FILLED})*")
_FULL_COMMAND = re.compile(
    rf"\bzdd ([a-z][a-z-]*)((?: (?:--[a-z][a-z-]*(?: \d+)?|[A-Z][A-Z_.]+…?|{FILLED}|"
    r"[\w.-]+\.(?:sql|yaml))(?=[\s`;,.)…]|$))*)"
)
"""The verb and the arguments after it, up to the first word of the sentence."""
_TABLE = re.compile(r"\bzdd\.([a-z_]+)")
_EXTRA = re.compile(r"\bzdd-tui\[([a-z]+)\]")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_PLAN_KEY = re.compile(r"(?<![\w./-])[a-z_]+(?:\.[a-z_]+)+(?![\w/-])")
_FILE = re.compile(r"\bconfig/[\w./-]*\w")
_PRESS = re.compile(r"\bpress ([^\s,;]+)")


# Collecting hints from the source.


@cache
def modules() -> tuple[tuple[ModuleType, ast.Module], ...]:
    return tuple(_walk_modules())


def _walk_modules() -> Iterator[tuple[ModuleType, ast.Module]]:
    for info in pkgutil.walk_packages(zdd_tui.__path__, "zdd_tui."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        assert module.__file__ is not None
        yield module, ast.parse(Path(module.__file__).read_text())


def hint_position(function: Any) -> int | None:
    """The position of the parameter ``hint`` of a function or class; None where it has none."""
    if not callable(function):
        return None
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None
    return names.index("hint") if "hint" in names else None


def resolve(module: ModuleType, function: ast.expr) -> Any:
    """The object that ``name`` or ``module.name`` in a call is; None where it is anything else."""
    if isinstance(function, ast.Attribute):
        return getattr(resolve(module, function.value), function.attr, None)
    return getattr(module, function.id, None) if isinstance(function, ast.Name) else None


def hint_expressions(module: ModuleType, tree: ast.Module) -> Iterator[ast.expr]:
    """The arguments named ``hint``, the values of variables whose name ends in it, and the results of ``…_hint``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "hint")
            position = hint_position(resolve(module, node.func))
            if position is not None and len(node.args) > position:
                yield node.args[position]
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(ast.unparse(target).lower().endswith("hint") for target in targets):
                yield node.value
        elif isinstance(node, ast.FunctionDef) and node.name.endswith("_hint"):
            yield from (each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value)


def texts_in(expression: ast.expr) -> Iterator[str]:
    """Every string of an expression, with a placeholder for each value that is filled in."""
    if isinstance(expression, ast.Constant):
        if isinstance(expression.value, str):
            yield expression.value
    elif isinstance(expression, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else FILLED for part in expression.values)
    elif not isinstance(expression, ast.Call | ast.Subscript | ast.Compare):
        for child in ast.iter_child_nodes(expression):
            if isinstance(child, ast.expr):
                yield from texts_in(child)


def all_hints() -> list[tuple[str, str]]:
    return [
        (f"{module.__name__}:{expression.lineno}", text)
        for module, tree in modules()
        for expression in hint_expressions(module, tree)
        for text in texts_in(expression)
        if text
    ]


def all_texts() -> Iterator[tuple[str, str]]:
    """Every string of the package that is not a docstring."""
    for module, tree in modules():
        left_out = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr | ast.JoinedStr):
                left_out |= {id(part) for part in ast.walk(node) if isinstance(part, ast.Constant)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in left_out:
                yield from ((f"{module.__name__}:{node.lineno}", text) for text in texts_in(node))


# What exists.


@cache
def options_by_verb() -> dict[str, set[str]]:
    parser = build_parser()
    (verbs,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: set(verb._option_string_actions) for name, verb in verbs.choices.items()}


@cache
def shown_keys() -> set[str]:
    keys = {key_name(key) for action in ACTIONS for key in action.key.split(",")}
    return keys | set(KEY_NAMES.values())


@cache
def plan_key_names() -> set[str]:
    schema = build_plan_schema()
    assert isinstance(schema["$defs"], dict)
    return {key for section in schema["$defs"].values() for key in section.get("properties", {})}


def is_plan_key(path: str) -> bool:
    return any(_has_key(kind, path.split(".")) for kind in PLAN_CLASSES.values())


def _has_key(model: type[BaseModel], path: list[str]) -> bool:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    if path[0] not in fields:
        return False
    annotation = fields[path[0]].annotation
    below = [annotation, *getattr(annotation, "__args__", ())]
    models = [each for each in below if isinstance(each, type) and issubclass(each, BaseModel)]
    return len(path) == 1 or not models or any(_has_key(each, path[1:]) for each in models)


@cache
def refusal(command: tuple[str, ...]) -> str:
    """What the parser says against a command; empty where it takes it."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
        try:
            build_parser().parse_args(command)
        except SystemExit as ended:
            return printed.getvalue().strip().rpartition("\n")[2] if ended.code else ""
    return ""


def command_problems(text: str) -> list[str]:
    """The commands of zdd in a text that could not be run as they are written."""
    if _APPLICATION_NAME.fullmatch(text):
        return []
    examples = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.startswith("  zdd ")]
    commands = [tuple(shlex.split(example)[1:]) for example in examples]
    prose = _OTHER_COMMAND.sub("", "" if examples else text)
    commands += [(verb, *arguments.split()) for verb, arguments in _FULL_COMMAND.findall(prose)]
    return [why for each in commands if (each[0] in options_by_verb() or each[1:]) and (why := refusal(each))]


@cache
def schema_names() -> set[str]:
    """Tables, functions and sequences of the schema zdd."""
    sql = "\n".join(file.read_text() for file in (ROOT / "zdd_tui").rglob("*.sql"))
    return set(re.findall(r"\bzdd\.([a-z_]+)", sql))


@cache
def extras() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def problems_of(text: str) -> list[str]:
    """What a hint names that does not exist."""
    found = command_problems(text)
    found += [f"there is no table zdd.{name}" for name in _TABLE.findall(text) if name not in schema_names()]
    found += [f"there is no extra {name}" for name in _EXTRA.findall(text) if name not in extras()]
    own = _OTHER_COMMAND.sub("", text)
    for verb, arguments in _ZDD_COMMAND.findall(own):
        if verb in options_by_verb():
            unknown = set(_OPTION.findall(arguments)) - options_by_verb()[verb]
            found += [f"zdd {verb} has no option {option}" for option in sorted(unknown)]
        elif any(f"zdd {verb}" in quoted for quoted in _BACKTICKS.findall(own)):
            found.append(f"there is no verb zdd {verb}")
    every_option = set().union(*options_by_verb().values())
    found += [f"there is no option {option}" for option in sorted(set(_OPTION.findall(own)) - every_option)]
    for quoted in _BACKTICKS.findall(own):
        if re.fullmatch(r"[a-z][a-z-]*", quoted) and quoted not in ACTION_IDS and quoted not in plan_key_names():
            found.append(f"there is no action and no key of the plan {quoted}")
    for path in _PLAN_KEY.findall(own):
        if is_plan_key(path.split(".")[0]) and not is_plan_key(path):
            found.append(f"the plan has no key {path}")
    found += [f"there is no file {file}" for file in _FILE.findall(own) if not (ROOT / file).exists()]
    found += [f"there is no key {key}" for key in _PRESS.findall(own) if key.strip("`.") not in shown_keys() | {FILLED}]
    return found


def test_hints_name_only_what_exists() -> None:
    hints = all_hints()
    assert len(hints) > 250, "the walk has lost most of them"
    wrong = [f"{place}: {text!r}: {'; '.join(problems)}" for place, text in hints if (problems := problems_of(text))]
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_text_names_only_commands_that_can_be_run() -> None:
    texts = [(place, text) for place, text in all_texts() if "zdd " in text]
    assert len(texts) > 150, "the walk has lost most of them"
    wrong = [
        f"{place}: {text!r}: {'; '.join(problems)}" for place, text in texts if (problems := command_problems(text))
    ]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("hint", "problem"),
    [
        ("then: zdd rolback PLAN", "invalid choice: 'rolback'"),
        ("see it with zdd status PLAN NAME", "unrecognized arguments: NAME"),
        ("zdd replay --speed 4", "required: FILE"),
        ("examples:\n  zdd advise --image shop/api:1\n", "--image: expected 2 arguments"),
        ("see zdd.mismatches", "no table zdd.mismatches"),
        ("pip install 'zdd-tui[analytics]'", "no extra analytics"),
        ("start one with `zdd agnt PLAN`", "no verb zdd agnt"),
        ("run `zdd agent --anew PLAN`", "zdd agent has no option --anew"),
        ("run `zdd advance PLAN --with-data`", "zdd advance has no option --with-data"),
        ("add --confrim NAME", "no option --confrim"),
        ("continue with `resum`", "no action and no key of the plan resum"),
        ("set guard.sources.promtheus", "the plan has no key guard.sources.promtheus"),
        ("see config/plans.yaml", "no file config/plans.yaml"),
        ("press F13", "no key F13"),
    ],
)
def test_a_hint_with_a_made_up_name_is_found(hint: str, problem: str) -> None:
    assert problem in "; ".join(problems_of(hint))


@pytest.mark.parametrize(
    "hint",
    [
        "zdd needs 14 or newer",
        "examples:\n  zdd advise --image shop/api:1 \\\n    shop/api:2",
        "read zdd.failed_row, then zdd advance PLAN",
        "start one with `zdd agent --new PLAN`",
        "add --confirm NAME, or --yes",
        "kubectl -n shop get deployment api --show-managed-fields",
        "check guard.sources.prometheus, and the server",
        "see config/plan.example.yaml",
        "press a",
    ],
)
def test_a_right_hint_passes(hint: str) -> None:
    assert problems_of(hint) == []
