"""A request of the Kubernetes API, taken apart: which kind, where, which subresource, which options."""

import json
from dataclasses import dataclass
from typing import Any

import yaml
from aiohttp import web

from zdd_tui.testbed.cluster import kinds, schema, selectors
from zdd_tui.testbed.cluster.errors import bad_request, invalid_request, no_such_path, unsupported_media_type
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import Json, without_nulls

MAX_BODY = 3 * 1024 * 1024  # bytes; what the real server takes


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What a path names. `namespace` is None for a request across namespaces."""

    kind: ResourceType
    namespace: str | None
    name: str | None
    subresource: str | None

    @property
    def storage_type(self) -> ResourceType:
        """The kind under which its objects are kept."""
        return kinds.stored_kind(self.kind)

    @property
    def key(self) -> tuple[ResourceType, str, str]:
        """Kind as it is stored, namespace and name of one object."""
        return self.storage_type, self.namespace or "", self.name or ""


def parse_path(path: str) -> RequestInfo:
    """`/apis/apps/v1/namespaces/default/deployments/web/scale`. Raises ApiError 404."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise no_such_path()
    namespace: str | None = None
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    kind = kinds.by_path(group, version, rest[0])
    if kind is None or len(rest) > 3 or (namespace is not None and not kind.namespaced):
        raise no_such_path()
    if kind.namespaced and namespace is None and len(rest) > 1:
        raise no_such_path()
    name = rest[1] if len(rest) > 1 else None
    return RequestInfo(kind, namespace, name, rest[2] if len(rest) > 2 else None)


async def read_body(request: web.Request, types: tuple[str, ...]) -> Any:
    """The decoded body. Raises ApiError 400 (not JSON or YAML), 415 (a type that is not among `types`)."""
    content_type = request.content_type if "Content-Type" in request.headers else types[0]
    if content_type not in types:
        raise unsupported_media_type(", ".join(types))
    try:
        text = await request.text()
        return yaml.safe_load(text) if content_type.endswith("yaml") else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"the object provided is unrecognized: {error}") from error


OBJECT_TYPES = ("application/json", "application/yaml")


async def read_object_body(request: web.Request) -> Json:
    body = await read_body(request, OBJECT_TYPES)
    if not isinstance(body, dict):
        raise bad_request("the body of the request is not an object")
    return body


def decode_request_body(request: web.Request, kind: ResourceType, body: Any) -> Json:
    """The body as the kind's type, by the request's fieldValidation. Raises ApiError 400.

    Unknown fields that are only to be warned of are dropped without the warning.
    """
    return schema.decode_resource(kind, without_nulls(body), request.query.get("fieldValidation", "Warn"))[0]


async def read_delete_options(request: web.Request) -> Json:
    """DeleteOptions, from the body and, where it is silent, from the query."""
    options: Json = {}
    if request.can_read_body and (await request.read()).strip():
        options = await read_object_body(request)
    query = request.query
    if "gracePeriodSeconds" in query:
        options.setdefault("gracePeriodSeconds", read_int_query(request, "gracePeriodSeconds"))
    if "propagationPolicy" in query:
        options.setdefault("propagationPolicy", query["propagationPolicy"])
    if "dryRun" in query:
        options.setdefault("dryRun", [query["dryRun"]])
    grace = options.get("gracePeriodSeconds")
    if grace is not None and (not isinstance(grace, int) or grace < 0):
        raise invalid_request("gracePeriodSeconds: must be greater than or equal to 0")
    return options


def is_true(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("1", "true", "t")


def read_int_query(request: web.Request, name: str) -> int | None:
    """A whole number of the query, None where it is absent. Raises ApiError 400."""
    text = request.query.get(name, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise bad_request(f"invalid value for {name}: {text!r}") from error


def read_selectors(request: web.Request, name: str | None = None) -> selectors.ObjectMatch:
    """labelSelector and fieldSelector of the query, and where given the name of one object. Raises ApiError 400."""
    fields = [request.query.get("fieldSelector"), f"metadata.name={name}" if name is not None else None]
    return selectors.combine_selectors(request.query.get("labelSelector", ""), ",".join(filter(None, fields)))


def wants_table(request: web.Request) -> bool:
    return "as=Table" in request.headers.get("Accept", "").split(",")[0]
