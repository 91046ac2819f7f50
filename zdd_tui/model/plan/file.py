"""Parses the text of a plan file, with errors that name file, line, key and the nearest valid spelling.

The caller reads the file and the environment; this module does no I/O.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from zdd_tui.model.errors import HINT_PREFIX, PlanError, with_hint
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.region_rules import (
    find_region_errors,
    region_names_in,
    require_known_region,
    variables_not_needed,
)
from zdd_tui.model.plan.registry import PLAN_CLASSES, normalize_strategy, plan_class
from zdd_tui.model.yaml_limits import CONSTRUCTION_ERRORS, LimitedLoader, YamlLimitError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PLAN_KEY = re.compile(r"[a-z_]+(\.\w+)*")
_UNTERMINATED_VARIABLE = re.compile(r"\$\{(?![A-Za-z_][A-Za-z0-9_]*\})")

_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
"""PostgreSQL refuses NUL, and a lone surrogate has no UTF-8."""

EXAMPLE = "config/plan.example.yaml"

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class LoadedPlan:
    """A plan with its source.

    Attributes:
        text: the file as written, secrets still as ``${NAME}``.
        document: the parsed file; this is stored and hashed.
        hash: SHA-256 over the document in canonical JSON, so that comments and order do not count.
        lines: line number by key, such as 12 by ``change.up``.
    """

    plan: BasePlan
    source: str
    text: str
    document: dict[str, Any]
    hash: str
    lines: Mapping[str, int]

    @property
    def command_line_name(self) -> str:
        """The arguments that select it on the command line: the file, and the region if there is one."""
        return f"{self.source} --region {self.plan.region}" if self.plan.region else self.source

    def for_region(self, name: str) -> "LoadedPlan":
        """The plan of one region; text, document and hash stay those of the whole file.

        Raises:
            PlanError: the plan has no such region; names the nearest.
        """
        require_known_region(self.plan.regions.names if self.plan.regions else (), name, self.source)
        return replace(self, plan=self.plan.for_region(name))

    def with_location(self, error: PlanError) -> PlanError:
        """Adds file and line to an error whose title begins with a key of the plan; returns any other unchanged."""
        match = _PLAN_KEY.match(error.title)
        key = match[0] if match else ""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return PlanError(f"{self.source}:{self.lines[key]}: {error.title}", error.hint) if key else error


def load_plan(
    text: str, *, source: str, environment: Mapping[str, str], region: str = "", keep_unset: bool = False
) -> LoadedPlan:
    """Parses and validates a plan.

    Args:
        source: the file's name, for messages.
        environment: the values of ``${NAME}``.
        region: one of the plan's regions; variables that it does not need may be unset.
        keep_unset: a variable that is not set stays as ``${NAME}``; see :mod:`zdd_tui.model.fleet.stored`.

    Raises:
        PlanError: names every invalid place.
    """
    lines = _LineMap(source)
    try:
        document = _build_value(_parse_yaml_nodes(text, source), (), lines)
    except RecursionError:
        raise PlanError(f"{source}: the document is nested too deep, or refers to itself", f"see {EXAMPLE}") from None
    if not isinstance(document, dict):
        raise PlanError(f"{source}: a plan is a mapping of keys to values", f"see {EXAMPLE}")
    if isinstance(given := document.get("strategy"), str):
        document["strategy"] = normalize_strategy(given)
    kind = select_plan_class(document, lines)
    is_exempt: Callable[[KeyPath], bool] = lambda path: keep_unset  # noqa: E731
    if region:
        require_known_region(region_names_in(document), region, source)
        if not keep_unset:
            is_exempt = variables_not_needed(document, region)
    filled = _substitute_variables(document, (), lines, environment, is_exempt)
    try:
        plan = kind.model_validate(filled)
    except ValidationError as error:
        details = _without_consequences(error.errors())
        texts = [_format_validation_error(kind, detail, lines, document, environment) for detail in details]
        raise PlanError("\n".join(texts)) from None
    if texts := [with_hint(f"{lines.locate(path)}: {title}", hint) for path, title, hint in find_region_errors(plan)]:
        raise PlanError("\n".join(texts))
    loaded = LoadedPlan(plan, source, text, document, plan_hash(document), lines.to_mapping())
    return loaded.for_region(region) if region else loaded


def select_plan_class(document: Mapping[str, Any], lines: "_LineMap") -> type[BasePlan]:
    """The class of the plan's strategy.

    Raises:
        PlanError: there is no such strategy; names the nearest. Or the plan describes its change twice.
    """
    if "change" in document and "operations" in document:
        hint = "keep `operations:` for a migration statement by statement, or `change:` for one that zdd computes"
        raise PlanError(f"{lines.locate(('operations',))}: a plan has `change:` or `operations:`, not both", hint)
    given = document.get("strategy", "expand-contract")
    if "change" not in document and difflib.get_close_matches("operations", document, n=1, cutoff=0.8):
        document = {**document, "operations": ()}  # a typing error must not make it another kind of plan
    if isinstance(given, str) and given in PLAN_CLASSES:
        return plan_class(document, given)
    near = difflib.get_close_matches(str(given), PLAN_CLASSES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(PLAN_CLASSES)}"
    raise PlanError(f"{lines.locate(('strategy',))}: there is no strategy {given!r}", hint)


def plan_hash(document: Mapping[str, Any]) -> str:
    """Independent of comments, order of keys and white space."""
    canonical = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


_PLAIN_KEY = "operations"
"""Holds the SQL of a migration as it is."""


def find_placeholders(value: object) -> set[str]:
    """Names of the environment variables that a document uses. In the SQL of a migration ``${`` is only text."""
    if isinstance(value, str):
        return set(_VARIABLE.findall(value))
    if isinstance(value, Mapping):
        value = [child for key, child in value.items() if key != _PLAIN_KEY]
    children = value if isinstance(value, list) else ()
    return {name for child in children for name in find_placeholders(child)}


def fill_placeholders(text: str, environment: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Fills in ``${NAME}``; also returns the names that are not set or empty, whose placeholders stay."""
    unset = tuple(name for name in _VARIABLE.findall(text) if not environment.get(name))
    return _VARIABLE.sub(lambda match: environment.get(match[1]) or match[0], text), unset


class _LineMap:
    """The line of each key in the file."""

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
        node = yaml.compose(text, Loader=LimitedLoader)
    except YamlLimitError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PlanError(f"{source}:{line}: this is no plan: {error.problem}", f"see {EXAMPLE}") from None
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
            key = _require_storable(key_node.value, path, lines)
            here = (*path, key)
            if key in result:
                line = key_node.start_mark.line + 1
                raise PlanError(f"{lines.source}:{line}: {format_key_path(here)} is defined twice", "keep one of them")
            lines.record(here, key_node)
            result[key] = _build_value(value_node, here, lines)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_build_value(child, (*path, index), lines) for index, child in enumerate(node.value)]
    try:
        value = yaml.SafeLoader("").construct_object(node)
        return _require_storable(value, path, lines) if isinstance(value, str) else value
    except PlanError:
        raise
    except CONSTRUCTION_ERRORS:  # a date in the 13th month, an unknown tag
        hint = "write it in quotes, without a tag"
        value = str(node.value)[:60]
        raise PlanError(f"{lines.locate(path)}: {value!r} is not of its type {node.tag!r}", hint) from None


def _require_storable(text: str, path: KeyPath, lines: _LineMap) -> str:
    if match := _NOT_STORABLE.search(text):
        raise PlanError(
            f"{lines.locate(path)}: it has the character {match[0]!r}, which PostgreSQL cannot store", "leave it out"
        )
    return text


def _substitute_variables(
    value: Any, path: KeyPath, lines: _LineMap, environment: Mapping[str, str], is_exempt: Callable[[KeyPath], bool]
) -> Any:
    """Replaces ``${NAME}`` by the environment's value; an exempt path keeps its placeholder where there is none."""
    if path == (_PLAIN_KEY,):
        return value
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
        if replacement := environment.get(name):
            if _NOT_STORABLE.search(replacement):
                raise PlanError(
                    f"{lines.locate(path)}: the environment variable {name} is not UTF-8 text", "correct it"
                )
            return replacement
        if is_exempt(path):
            return match[0]
        near = difflib.get_close_matches(name, environment, n=1, cutoff=0.8)
        similar = f" (there is {near[0]})" if near else ""
        raise PlanError(
            f"{lines.locate(path)}: the environment variable {name} is not set{similar}", f"export {name}=..."
        )

    return _VARIABLE.sub(look_up, value)


def _without_consequences(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Without those of a list that has too few elements only because one of them is wrong."""
    places = [detail["loc"] for detail in details]
    return [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(len(place) > len(detail["loc"]) and place[: len(detail["loc"])] == detail["loc"] for place in places)
    ]


def _format_validation_error(
    kind: type[BasePlan], detail: ErrorDetails, lines: _LineMap, document: Any, environment: Mapping[str, str]
) -> str:
    path = tuple(part for part in detail["loc"] if not _is_union_branch(part))
    place = lines.locate(path)
    if detail["type"] == "extra_forbidden":
        known = _field_names_at(kind, path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return with_hint(f"{place}: unknown key", hint)
    if detail["type"] == "missing":
        return with_hint(f"{place}: missing", f"add it; {_field_description(kind, path)}")
    text = _describe_violation(kind, detail, path)
    # A value from the environment may be a secret in the wrong place.
    for name in sorted(find_placeholders(_value_at(document, path)), key=lambda name: -len(environment.get(name, ""))):
        for value in (environment.get(name, ""), repr(environment.get(name, ""))[1:-1]):
            text = text.replace(value, f"${{{name}}}") if value else text
    return f"{place}: {text}"


def _describe_violation(kind: type[BasePlan], detail: ErrorDetails, path: KeyPath) -> str:
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if detail["type"] == "literal_error" or detail["type"] == "enum":
        given = str(detail["input"])
        allowed = re.findall(r"'([^']+)'", message)
        near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.4)
        return with_hint(f"{message}, got {given!r}", f"did you mean {near[0]}?" if near else "write one of them")
    if detail["type"] in ("model_type", "model_attributes_type"):
        message = f"expected a mapping of keys to values, got {type(detail['input']).__name__}"
    if detail["type"] == "string_too_short":
        message = "expected a text, but it is empty"
    if detail["type"] == "string_pattern_mismatch":
        message = f"{detail['input']!r} does not match {detail.get('ctx', {}).get('pattern')}"
    if detail["type"].endswith(("_type", "_parsing")):
        return with_hint(f"{message}: {_field_description(kind, path)}", f"see {EXAMPLE}")
    return message if HINT_PREFIX in message else with_hint(message, f"see {EXAMPLE}")


def _value_at(document: Any, path: KeyPath) -> Any:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            break
    return document


def _is_union_branch(part: str | int) -> bool:
    # pydantic puts the branch of a union into the location; the file has no such key.
    return isinstance(part, str) and ("function-" in part or part.startswith("constrained-"))


def _model_at(kind: type[BasePlan], path: KeyPath) -> type[BaseModel] | None:
    model: Any = kind
    parts = (part for part in path if not isinstance(part, int))  # an element of a list has the list's model
    for part in parts:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        if get_origin(annotation) is dict:
            next(parts, None)  # a name that the plan's author chose
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
