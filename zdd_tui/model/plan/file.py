"""From the text of a plan file to a plan, with errors that name file, line, key and the nearest valid spelling.

Reading the file and the environment is the caller's; this room does no I/O.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.region_rules import (
    find_region_errors,
    region_names_in,
    require_known_region,
    variables_not_needed,
)
from zdd_tui.model.plan.strategies import PLAN_CLASSES

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PLAN_KEY = re.compile(r"[a-z_]+(\.\w+)*")
_UNTERMINATED_VARIABLE = re.compile(r"\$\{(?![A-Za-z_][A-Za-z0-9_]*\})")

EXAMPLE = "config/plan.example.yaml"

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class LoadedPlan:
    """A plan and what it was made from.

    Attributes:
        text: the file as written, secrets still as ``${NAME}``.
        document: the same, parsed; this is what is stored and hashed.
        hash: SHA-256 over the document in canonical JSON, so that comments and order do not count.
        lines: where each key stands, such as ``change.up`` to 12.
    """

    plan: BasePlan
    source: str
    text: str
    document: dict[str, Any]
    hash: str
    lines: Mapping[str, int]

    @property
    def command_line_name(self) -> str:
        """As the command line names it: the file, and the region where one is meant."""
        return f"{self.source} --region {self.plan.region}" if self.plan.region else self.source

    def for_region(self, name: str) -> "LoadedPlan":
        """The same for one region; text, document and hash stay those of the whole file.

        Raises:
            PlanError: the plan has no such region; names the nearest.
        """
        require_known_region(self.plan.regions.names if self.plan.regions else (), name, self.source)
        return replace(self, plan=self.plan.for_region(name))

    def with_location(self, error: PlanError) -> PlanError:
        """An error that begins with a key of the plan, with file and line before it; any other as it is."""
        found = _PLAN_KEY.match(error.title)
        key = found[0] if found else ""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return PlanError(f"{self.source}:{self.lines[key]}: {error.title}", error.hint) if key else error


def load_plan(text: str, *, source: str, environment: Mapping[str, str], region: str = "") -> LoadedPlan:
    """Parses and checks a plan.

    Args:
        source: the file's name, for messages.
        environment: where ``${NAME}`` is looked up.
        region: which one of the plan's is meant; variables that it does not need may be unset.

    Raises:
        PlanError: names every place that is wrong.
    """
    lines = _LineMap(source)
    try:
        document = _build_value(_parse_yaml_nodes(text, source), (), lines)
    except RecursionError:
        raise PlanError(f"{source}: it is nested too deep, or refers to itself", f"see {EXAMPLE}") from None
    if not isinstance(document, dict):
        raise PlanError(f"{source}: a plan is a mapping of keys to values", f"see {EXAMPLE}")
    kind = select_plan_class(document, lines)
    spared: Callable[[KeyPath], bool] = lambda path: False  # noqa: E731
    if region:
        require_known_region(region_names_in(document), region, source)
        spared = variables_not_needed(document, region)
    filled = _substitute_variables(document, (), lines, environment, spared)
    try:
        plan = kind.model_validate(filled)
    except ValidationError as error:
        told = [_format_validation_error(kind, detail, lines, document, environment) for detail in error.errors()]
        raise PlanError("\n".join(told)) from None
    if wrong := [f"{lines.locate(path)}: {what}\n  mend: {mend}" for path, what, mend in find_region_errors(plan)]:
        raise PlanError("\n".join(wrong))
    loaded = LoadedPlan(plan, source, text, document, plan_hash(document), lines.to_mapping())
    return loaded.for_region(region) if region else loaded


def select_plan_class(document: Mapping[str, Any], lines: "_LineMap") -> type[BasePlan]:
    """The class that reads a plan of this strategy.

    Raises:
        PlanError: there is no such strategy; names the nearest.
    """
    given = document.get("strategy", "expand-contract")
    if found := PLAN_CLASSES.get(given) if isinstance(given, str) else None:
        return found
    near = difflib.get_close_matches(str(given), PLAN_CLASSES, n=1, cutoff=0.4)
    mend = f"did you mean {near[0]}?" if near else f"known: {', '.join(PLAN_CLASSES)}"
    raise PlanError(f"{lines.locate(('strategy',))}: there is no strategy {given!r}", mend)


def plan_hash(document: Mapping[str, Any]) -> str:
    """Stable over comments, order of keys and white space."""
    canonical = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def find_placeholders(value: object) -> set[str]:
    """Names of the environment variables that a document asks for."""
    if isinstance(value, str):
        return set(_VARIABLE.findall(value))
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return {name for child in children for name in find_placeholders(child)}


class _LineMap:
    """Where each key stands in the file."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._lines: dict[KeyPath, int] = {}

    def record(self, path: KeyPath, node: yaml.Node) -> None:
        self._lines[path] = node.start_mark.line + 1

    def to_mapping(self) -> dict[str, int]:
        return {format_key_path(path): line for path, line in self._lines.items() if path}

    def locate(self, path: KeyPath) -> str:
        """``plan.yaml:12: change.up``; the nearest known parent's line where the key itself is absent."""
        known = path
        while known and known not in self._lines:
            known = known[:-1]
        return f"{self.source}:{self._lines.get(known, 1)}: {format_key_path(path)}"


def format_key_path(path: KeyPath) -> str:
    """``change.indexes[2]``"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(top)"


def _parse_yaml_nodes(text: str, source: str) -> yaml.Node:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PlanError(f"{source}:{line}: not valid YAML: {error.problem}", "check indentation and quotes") from None
    except yaml.YAMLError as error:
        what = str(error).splitlines()[0]
        raise PlanError(f"{source}: not valid YAML: {what}", "save it as UTF-8 text") from None
    if node is None:
        raise PlanError(f"{source}: the file is empty", f"see {EXAMPLE}")
    return node


def _build_value(node: yaml.Node, path: KeyPath, lines: _LineMap) -> Any:
    if path not in lines._lines:
        lines.record(path, node)
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                line = key_node.start_mark.line + 1
                raise PlanError(f"{lines.source}:{line}: a key must be a word", "quote it if it has special characters")
            key = key_node.value
            here = (*path, key)
            if key in result:
                line = key_node.start_mark.line + 1
                raise PlanError(f"{lines.source}:{line}: {format_key_path(here)} is there twice", "keep one of them")
            lines.record(here, key_node)
            result[key] = _build_value(value_node, here, lines)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_build_value(child, (*path, index), lines) for index, child in enumerate(node.value)]
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (ValueError, yaml.YAMLError):  # a date in the 13th month, a tag that we do not know
        mend = "write it in quotes, without a tag"
        raise PlanError(f"{lines.locate(path)}: {node.value!r} is not of its type {node.tag!r}", mend) from None


def _substitute_variables(
    value: Any, path: KeyPath, lines: _LineMap, environment: Mapping[str, str], is_exempt: Callable[[KeyPath], bool]
) -> Any:
    """Puts the environment's values in; what is spared keeps its placeholder where there is none."""
    if isinstance(value, dict):
        return {
            key: _substitute_variables(child, (*path, key), lines, environment, is_exempt)
            for key, child in value.items()
        }
    if isinstance(value, list):
        return [
            _substitute_variables(child, (*path, index), lines, environment, is_exempt)
            for index, child in enumerate(value)
        ]
    if not isinstance(value, str):
        return value
    if _UNTERMINATED_VARIABLE.search(value):
        raise PlanError(f"{lines.locate(path)}: '${{' without a variable's name", "write ${NAME}")

    def look_up(match: re.Match[str]) -> str:
        name = match[1]
        found = environment.get(name)
        if not found and is_exempt(path):
            return match[0]
        if not found:
            near = difflib.get_close_matches(name, environment, n=1, cutoff=0.8)
            hint = f" (there is {near[0]})" if near else ""
            raise PlanError(
                f"{lines.locate(path)}: the environment variable {name} is not set{hint}", f"export {name}=..."
            )
        return found

    return _VARIABLE.sub(look_up, value)


def _format_validation_error(
    kind: type[BasePlan], detail: ErrorDetails, lines: _LineMap, document: Any, environment: Mapping[str, str]
) -> str:
    path = tuple(part for part in detail["loc"] if not _is_union_branch(part))
    place = lines.locate(path)
    if detail["type"] == "extra_forbidden":
        known = _field_names_at(kind, path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
        mend = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"{place}: unknown key\n  mend: {mend}"
    if detail["type"] == "missing":
        return f"{place}: missing\n  mend: add it; {_field_description(kind, path)}"
    told = _describe_violation(kind, detail, path)
    # A value from the environment may be a secret that stands in the wrong place.
    for name in sorted(find_placeholders(_value_at(document, path)), key=lambda name: -len(environment.get(name, ""))):
        for value in (environment.get(name, ""), repr(environment.get(name, ""))[1:-1]):
            told = told.replace(value, f"${{{name}}}") if value else told
    return f"{place}: {told}"


def _describe_violation(kind: type[BasePlan], detail: ErrorDetails, path: KeyPath) -> str:
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if detail["type"] == "literal_error" or detail["type"] == "enum":
        given = str(detail["input"])
        allowed = re.findall(r"'([^']+)'", message)
        near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.4)
        return f"{message}, got {given!r}\n  mend: " + (f"did you mean {near[0]}?" if near else "write one of them")
    if detail["type"] == "string_pattern_mismatch":
        message = f"{detail['input']!r} does not match {detail.get('ctx', {}).get('pattern')}"
    if detail["type"].endswith(("_type", "_parsing")):
        return f"{message}: {_field_description(kind, path)}\n  mend: see {EXAMPLE}"
    return f"{message}\n  mend: see {EXAMPLE}"


def _value_at(document: Any, path: KeyPath) -> Any:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            break
    return document


def _is_union_branch(part: str | int) -> bool:
    # pydantic puts the branch of a union into the location; the file does not have it.
    return isinstance(part, str) and ("function-" in part or part.startswith("constrained-"))


def _model_at(kind: type[BasePlan], path: KeyPath) -> type[BaseModel] | None:
    model: Any = kind
    for part in path:
        if isinstance(part, int):
            continue  # an element of the list whose model we have already
        field = model.model_fields.get(part) if isinstance(part, str) else None
        annotation = field.annotation if field else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if model is None:
            return None
    return model  # type: ignore[no-any-return]


def _field_names_at(kind: type[BasePlan], path: KeyPath) -> list[str]:
    model = _model_at(kind, path)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _field_description(kind: type[BasePlan], path: KeyPath) -> str:
    model = _model_at(kind, path[:-1])
    field = model.model_fields.get(str(path[-1])) if model and path else None
    return (field.description if field and field.description else f"see {EXAMPLE}") or ""
