"""Decodes bodies as the Go types of the API would: wrong types are refused, unknown fields dropped or refused.

schema.json holds the fields of every kind that we serve, taken from the models of kubernetes_asyncio
(`python -m zdd_tui.testbed.cluster.schema` writes it anew). Importing those models at run time would
cost over a second.
"""

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from zdd_tui.testbed.cluster.errors import ApiError, bad_request
from zdd_tui.testbed.cluster.kinds import KINDS, ResourceType
from zdd_tui.testbed.cluster.meta import Json

SCHEMA_FILE = Path(__file__).with_name("schema.json")

_LIST = re.compile(r"list\[(.+)\]")
_MAP = re.compile(r"dict\(str, (.+)\)")
_COLLECTION = re.compile(r"list|dict")
_SCALARS: dict[str, tuple[type, str]] = {
    "str": (str, "string"),
    "datetime": (str, "Time"),
    "int": (int, "int32"),
    "float": (float, "float64"),
    "bool": (bool, "bool"),
}
# Quantities may be written as numbers, which the models call strings.
_QUANTITIES = frozenset({"limits", "requests", "capacity", "allocatable", "overhead", "hard"})


def model_name(kind: ResourceType) -> str:
    if kind.kind == "Event":
        return "EventsV1Event" if kind.group else "CoreV1Event"
    return f"V1{kind.kind}"


@cache
def _types() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(SCHEMA_FILE.read_text())
    return found


class _Mismatch(Exception):
    """A value of another type: the message of Go's decoder."""


class _Decoder:
    def __init__(self) -> None:
        self.unknown: list[str] = []

    def value(self, value: Any, type_: str, owner: str, path: str, field: str) -> Any:
        if value is None or type_ == "object" or field == "managedFields":
            return value
        if found := _LIST.fullmatch(type_):
            if not isinstance(value, list):
                raise _mismatch(value, owner, field, f"[]{_go_name(found[1])}")
            plain = re.sub(r"\[\d+\]", "", field)
            items = enumerate(value)
            return [self.value(item, found[1], owner, f"{path}[{i}]", plain) for i, item in items]
        if found := _MAP.fullmatch(type_):
            if not isinstance(value, dict):
                raise _mismatch(value, owner, field, f"map[string]{_go_name(found[1])}")
            if field.rpartition(".")[2] in _QUANTITIES:
                return value
            return {key: self.value(item, found[1], owner, f"{path}.{key}", field) for key, item in value.items()}
        if type_ in _SCALARS:
            return self._scalar(value, type_, owner, field)
        if not isinstance(value, dict):
            raise _mismatch(value, owner, field, _go_name(type_))
        return self.struct(value, type_, path, field)

    def struct(self, value: Json, type_: str, path: str, field: str) -> Json:
        fields = _types()[type_]
        result = {}
        for key, item in value.items():
            at = f"{path}.{key}" if path else key
            if key not in fields:
                self.unknown.append(at)
            elif item in ([], {}) and _COLLECTION.match(fields[key]):
                continue  # Go's omitempty: an empty collection and none are the same
            else:
                inner = f"{field}.{key}" if field else key
                result[key] = self.value(item, fields[key], _strip_module(type_), at, inner)
        return result

    def _scalar(self, value: Any, type_: str, owner: str, field: str) -> Any:
        python, go = _SCALARS[type_]
        fits = isinstance(value, python) and (python is not int or not isinstance(value, bool))
        if not fits and not (python is float and isinstance(value, int)):
            raise _mismatch(value, owner, field, go)
        return value


def _strip_module(type_: str) -> str:
    return re.sub(r"^(CoreV1|EventsV1|V1)", "", type_)


def _go_name(type_: str) -> str:
    return _SCALARS[type_][1] if type_ in _SCALARS else f"v1.{_strip_module(type_)}"


def _mismatch(value: Any, owner: str, field: str, wanted: str) -> _Mismatch:
    kinds = {bool: "bool", str: "string", int: "number", float: "number", list: "array", dict: "object"}
    place = f"{owner}.{field}" if owner else field
    text = f"json: cannot unmarshal {kinds[type(value)]} into Go struct field {place} of type {wanted}"
    return _Mismatch(text)


def decode_resource(kind: ResourceType, body: Any, validation: str = "Ignore") -> tuple[Json, list[str]]:
    """A body with only the fields that its kind has, and the paths of those that it has not.

    `validation` is fieldValidation of the query: Strict refuses unknown fields. Raises ApiError 400.
    """
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized (must be of type Object): " + kind.kind)
    if (body.get("apiVersion", kind.api_version), body.get("kind", kind.kind)) != (kind.api_version, kind.kind):
        return body, []  # refused, with the decoder's message
    decoder = _Decoder()
    try:
        result = decoder.struct(body, model_name(kind), "", "")
    except _Mismatch as error:
        raise _decode_error(kind, str(error)) from error
    if decoder.unknown and validation == "Strict":
        listed = ", ".join(f'unknown field "{path}"' for path in sorted(decoder.unknown))
        raise _decode_error(kind, f"strict decoding error: {listed}")
    return result, decoder.unknown


def _decode_error(kind: ResourceType, reason: str) -> ApiError:
    return bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {reason}')


def _custom_resource(spec: str) -> dict[str, str]:
    return {"apiVersion": "str", "kind": "str", "metadata": "V1ObjectMeta", "spec": spec, "status": "object"}


# The CustomResourceDefinitions of Gateway API 1.x, as deep as we read them.
_GATEWAY_API = {
    "V1GatewayClass": _custom_resource("object"),
    "V1Gateway": _custom_resource("GatewaySpec"),
    "GatewaySpec": {
        "gatewayClassName": "str", "listeners": "list[GatewayListener]",
        "addresses": "list[object]", "infrastructure": "object",
    },
    "GatewayListener": {
        "name": "str", "hostname": "str", "port": "int", "protocol": "str",
        "tls": "object", "allowedRoutes": "object",
    },
    "V1HTTPRoute": _custom_resource("HTTPRouteSpec"),
    "HTTPRouteSpec": {
        "parentRefs": "list[ParentReference]", "hostnames": "list[str]", "rules": "list[HTTPRouteRule]",
    },
    "ParentReference": {
        "group": "str", "kind": "str", "namespace": "str", "name": "str", "sectionName": "str", "port": "int",
    },
    "HTTPRouteRule": {
        "name": "str", "matches": "list[HTTPRouteMatch]", "filters": "list[object]",
        "backendRefs": "list[HTTPBackendRef]",
        "timeouts": "object", "retry": "object", "sessionPersistence": "object",
    },
    "HTTPRouteMatch": {
        "path": "object", "headers": "list[object]", "queryParams": "list[object]", "method": "str",
    },
    "HTTPBackendRef": {
        "group": "str", "kind": "str", "namespace": "str", "name": "str", "port": "int", "weight": "int",
        "filters": "list[object]",
    },
}  # fmt: skip


def generate_schema() -> dict[str, dict[str, str]]:
    """The types of all kinds and of everything inside them, from the installed models."""
    from kubernetes_asyncio.client import models  # noqa: PLC0415 - slow, and needed here only

    found = dict(_GATEWAY_API)
    pending = [model_name(kind) for kind in KINDS if not kind.custom]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        model = getattr(models, name)
        found[name] = {model.attribute_map[field]: type_ for field, type_ in model.openapi_types.items()}
        inner = {part for type_ in found[name].values() for part in re.findall(r"[A-Z]\w+", type_)}
        pending += sorted(part for part in inner if hasattr(models, part))
    return dict(sorted(found.items()))


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(generate_schema(), separators=(",", ":"), sort_keys=True) + "\n")
    sys.stdout.write(f"{SCHEMA_FILE.name}: {len(_types())} types\n")
