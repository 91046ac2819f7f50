"""Label and field selectors, as written in a query or in a spec."""

import re
from collections.abc import Callable, Collection
from typing import Any

from zdd_tui.testbed.cluster.errors import bad_request
from zdd_tui.testbed.cluster.meta import Json, labels_of

Match = Callable[[dict[str, str]], bool]
ObjectMatch = Callable[[Json], bool]

_SET = re.compile(r"^\s*(?P<key>[^\s!=<>,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^)]*)\)\s*$")
_EQUAL = re.compile(r"^\s*(?P<key>[^\s!=<>,()]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s!=,()]*)\s*$")
_EXISTS = re.compile(r"^\s*(?P<not>!?)\s*(?P<key>[^\s!=<>,()]+)\s*$")
_COMMA = re.compile(r",(?![^(]*\))")


def _requirement(key: str, operator: str, values: Collection[str] = ()) -> Match:
    """One requirement, with the operator as in matchExpressions."""
    if operator == "In":
        return lambda labels: labels.get(key) in values
    if operator == "NotIn":
        return lambda labels: labels.get(key) not in values
    return lambda labels: (key in labels) is (operator == "Exists")


def _parse_requirement(text: str) -> Match:
    if found := _SET.match(text):
        values = {value.strip() for value in found["values"].split(",")}
        return _requirement(found["key"], "In" if found["op"] == "in" else "NotIn", values)
    if found := _EQUAL.match(text):
        return _requirement(found["key"], "NotIn" if found["op"] == "!=" else "In", [found["value"]])
    if found := _EXISTS.match(text):
        return _requirement(found["key"], "DoesNotExist" if found["not"] else "Exists")
    raise bad_request(f"unable to parse requirement: {text.strip()!r}")


def parse_labels(text: str) -> Match:
    """`app=web,tier in (a, b),!canary`; an empty text selects everything. Raises ApiError 400."""
    requirements = [_parse_requirement(part) for part in _COMMA.split(text)] if text.strip() else []
    return lambda labels: all(matches(labels) for matches in requirements)


def match_label_selector(selector: Json | None) -> Match:
    """A LabelSelector of a spec (matchLabels, matchExpressions); an absent one selects nothing."""
    if selector is None:
        return lambda labels: False
    requirements = [_requirement(key, "In", [value]) for key, value in (selector.get("matchLabels") or {}).items()]
    requirements += [
        _requirement(item["key"], item["operator"], item.get("values") or [])
        for item in selector.get("matchExpressions") or ()
    ]
    return lambda labels: all(matches(labels) for matches in requirements)


def match_map(selector: dict[str, str] | None) -> Match:
    """The plain map of a Service; an empty one selects nothing."""
    return match_label_selector({"matchLabels": selector} if selector else None)


# The fields that any kind may be selected by; each kind of the real server allows some of them.
FIELDS = frozenset({
    "metadata.name", "metadata.namespace", "metadata.uid",
    "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.unschedulable",
    "spec.type", "spec.clusterIP", "status.phase", "status.podIP", "status.replicas",
    "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
    "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
    "reason", "reportingComponent", "source", "type",
})  # fmt: skip


def _field(obj: Json, path: str) -> str:
    if path == "source":
        return str((obj.get("source") or {}).get("component", ""))
    value: Any = obj
    for part in path.split("."):
        if not isinstance(value, dict):
            return ""
        value = value.get(part)
    return "" if value is None else str(value)


def parse_fields(text: str) -> ObjectMatch:
    """`metadata.name=web,status.phase!=Running`; an empty text selects everything. Raises ApiError 400."""
    wanted: list[tuple[str, bool, str]] = []
    for part in text.split(",") if text.strip() else ():
        path, operator, value = re.match(r"^\s*([^=!]*?)\s*(==|!=|=|$)(.*)$", part, re.S).groups()  # type: ignore[union-attr]
        if not operator:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        if path not in FIELDS:
            raise bad_request(f"field label not supported: {path}")
        wanted.append((path, operator != "!=", value.strip()))
    return lambda obj: all((_field(obj, path) == value) is equal for path, equal, value in wanted)


def combine_selectors(labels: str, fields: str) -> ObjectMatch:
    """Both selectors of a list or watch request as one."""
    by_label, by_field = parse_labels(labels), parse_fields(fields)
    return lambda obj: by_label(labels_of(obj)) and by_field(obj)
