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
from zdd_tui.model.plan.strategies import PLANS
from zdd_tui.model.release.regions import names_in, not_needed, refuse_unknown, wrong_regions

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KEY = re.compile(r"[a-z_]+(\.\w+)*")
_STRAY = re.compile(r"\$\{(?![A-Za-z_][A-Za-z0-9_]*\})")

EXAMPLE = "config/plan.example.yaml"

Path = tuple[str | int, ...]


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
    def named(self) -> str:
        """As the command line names it: the file, and the region where one is meant."""
        return f"{self.source} --region {self.plan.region}" if self.plan.region else self.source

    def in_region(self, name: str) -> "LoadedPlan":
        """The same for one region; text, document and hash stay those of the whole file.

        Raises:
            PlanError: the plan has no such region; names the nearest.
        """
        refuse_unknown(self.plan.regions.names if self.plan.regions else (), name, self.source)
        return replace(self, plan=self.plan.in_region(name))

    def located(self, error: PlanError) -> PlanError:
        """An error that begins with a key of the plan, with file and line before it; any other as it is."""
        found = _KEY.match(error.title)
        key = found[0] if found else ""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return PlanError(f"{self.source}:{self.lines[key]}: {error.title}", error.mend) if key else error


def load_plan(text: str, *, source: str, environ: Mapping[str, str], region: str = "") -> LoadedPlan:
    """Parses and checks a plan.

    Args:
        source: the file's name, for messages.
        environ: where ``${NAME}`` is looked up.
        region: which one of the plan's is meant; variables that it does not need may be unset.

    Raises:
        PlanError: names every place that is wrong.
    """
    lines = _Lines(source)
    try:
        document = _construct(_compose(text, source), (), lines)
    except RecursionError:
        raise PlanError(f"{source}: it is nested too deep, or refers to itself", f"see {EXAMPLE}") from None
    if not isinstance(document, dict):
        raise PlanError(f"{source}: a plan is a mapping of keys to values", f"see {EXAMPLE}")
    kind = _class_of(document, lines)
    spared: Callable[[Path], bool] = lambda path: False  # noqa: E731
    if region:
        refuse_unknown(names_in(document), region, source)
        spared = not_needed(document, region)
    filled = _fill(document, (), lines, environ, spared)
    try:
        plan = kind.model_validate(filled)
    except ValidationError as error:
        told = [_explain(kind, detail, lines, document, environ) for detail in error.errors()]
        raise PlanError("\n".join(told)) from None
    if wrong := [f"{lines.place(path)}: {what}\n  mend: {mend}" for path, what, mend in wrong_regions(plan)]:
        raise PlanError("\n".join(wrong))
    loaded = LoadedPlan(plan, source, text, document, plan_hash(document), lines.by_key())
    return loaded.in_region(region) if region else loaded


def _class_of(document: Mapping[str, Any], lines: "_Lines") -> type[BasePlan]:
    """The class that reads a plan of this strategy.

    Raises:
        PlanError: there is no such strategy; names the nearest.
    """
    given = document.get("strategy", "expand/contract")
    if found := PLANS.get(given) if isinstance(given, str) else None:
        return found
    near = difflib.get_close_matches(str(given), PLANS, n=1, cutoff=0.4)
    mend = f"did you mean {near[0]}?" if near else f"known: {', '.join(PLANS)}"
    raise PlanError(f"{lines.place(('strategy',))}: there is no strategy {given!r}", mend)


def plan_hash(document: Mapping[str, Any]) -> str:
    """Stable over comments, order of keys and white space."""
    canonical = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def placeholders(value: object) -> set[str]:
    """Names of the environment variables that a document asks for."""
    if isinstance(value, str):
        return set(_VARIABLE.findall(value))
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return {name for child in children for name in placeholders(child)}


class _Lines:
    """Where each key stands in the file."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._lines: dict[Path, int] = {}

    def note(self, path: Path, node: yaml.Node) -> None:
        self._lines[path] = node.start_mark.line + 1

    def by_key(self) -> dict[str, int]:
        return {dotted(path): line for path, line in self._lines.items() if path}

    def place(self, path: Path) -> str:
        """``plan.yaml:12: change.up``; the nearest known parent's line where the key itself is absent."""
        known = path
        while known and known not in self._lines:
            known = known[:-1]
        return f"{self.source}:{self._lines.get(known, 1)}: {dotted(path)}"


def dotted(path: Path) -> str:
    """``change.indexes[2]``"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(top)"


def _compose(text: str, source: str) -> yaml.Node:
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


def _construct(node: yaml.Node, path: Path, lines: _Lines) -> Any:
    if path not in lines._lines:
        lines.note(path, node)
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
                raise PlanError(f"{lines.source}:{line}: {dotted(here)} is there twice", "keep one of them")
            lines.note(here, key_node)
            result[key] = _construct(value_node, here, lines)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_construct(child, (*path, index), lines) for index, child in enumerate(node.value)]
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (ValueError, yaml.YAMLError):  # a date in the 13th month, a tag that we do not know
        mend = "write it in quotes, without a tag"
        raise PlanError(f"{lines.place(path)}: {node.value!r} is not of its type {node.tag!r}", mend) from None


def _fill(value: Any, path: Path, lines: _Lines, environ: Mapping[str, str], spared: Callable[[Path], bool]) -> Any:
    """Puts the environment's values in; what is spared keeps its placeholder where there is none."""
    if isinstance(value, dict):
        return {key: _fill(child, (*path, key), lines, environ, spared) for key, child in value.items()}
    if isinstance(value, list):
        return [_fill(child, (*path, index), lines, environ, spared) for index, child in enumerate(value)]
    if not isinstance(value, str):
        return value
    if _STRAY.search(value):
        raise PlanError(f"{lines.place(path)}: '${{' without a variable's name", "write ${NAME}")

    def look_up(match: re.Match[str]) -> str:
        name = match[1]
        found = environ.get(name)
        if not found and spared(path):
            return match[0]
        if not found:
            near = difflib.get_close_matches(name, environ, n=1, cutoff=0.8)
            hint = f" (there is {near[0]})" if near else ""
            raise PlanError(
                f"{lines.place(path)}: the environment variable {name} is not set{hint}", f"export {name}=..."
            )
        return found

    return _VARIABLE.sub(look_up, value)


def _explain(
    kind: type[BasePlan], detail: ErrorDetails, lines: _Lines, document: Any, environ: Mapping[str, str]
) -> str:
    path = tuple(part for part in detail["loc"] if not _is_union_branch(part))
    place = lines.place(path)
    if detail["type"] == "extra_forbidden":
        known = _fields_at(kind, path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
        mend = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"{place}: unknown key\n  mend: {mend}"
    if detail["type"] == "missing":
        return f"{place}: missing\n  mend: add it; {_describe(kind, path)}"
    told = _what_is_wrong(kind, detail, path)
    # A value from the environment may be a secret that stands in the wrong place.
    for name in sorted(placeholders(_at(document, path)), key=lambda name: -len(environ.get(name, ""))):
        for value in (environ.get(name, ""), repr(environ.get(name, ""))[1:-1]):
            told = told.replace(value, f"${{{name}}}") if value else told
    return f"{place}: {told}"


def _what_is_wrong(kind: type[BasePlan], detail: ErrorDetails, path: Path) -> str:
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if detail["type"] == "literal_error" or detail["type"] == "enum":
        given = str(detail["input"])
        allowed = re.findall(r"'([^']+)'", message)
        near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.4)
        return f"{message}, got {given!r}\n  mend: " + (f"did you mean {near[0]}?" if near else "write one of them")
    if detail["type"] == "string_pattern_mismatch":
        message = f"{detail['input']!r} does not match {detail.get('ctx', {}).get('pattern')}"
    if detail["type"].endswith(("_type", "_parsing")):
        return f"{message}: {_describe(kind, path)}\n  mend: see {EXAMPLE}"
    return f"{message}\n  mend: see {EXAMPLE}"


def _at(document: Any, path: Path) -> Any:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            break
    return document


def _is_union_branch(part: str | int) -> bool:
    # pydantic puts the branch of a union into the location; the file does not have it.
    return isinstance(part, str) and ("function-" in part or part.startswith("constrained-"))


def _model_at(kind: type[BasePlan], path: Path) -> type[BaseModel] | None:
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


def _fields_at(kind: type[BasePlan], path: Path) -> list[str]:
    model = _model_at(kind, path)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _describe(kind: type[BasePlan], path: Path) -> str:
    model = _model_at(kind, path[:-1])
    field = model.model_fields.get(str(path[-1])) if model and path else None
    return (field.description if field and field.description else f"see {EXAMPLE}") or ""
