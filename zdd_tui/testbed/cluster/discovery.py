"""What clients ask for before they work: versions, groups, resources, a minimal OpenAPI v3, and access reviews.

kubectl falls back from aggregated discovery to these documents. Of OpenAPI it reads two facts: that PATCH takes
`fieldValidation`, so that it leaves validation to the server, and no schema for strategic merge, so that it
uses the types built into it.
"""

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster import request as requests
from zdd_tui.testbed.cluster.errors import invalid_request
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import Json

SERVER_VERSION = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.4+zdd",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "python",
}
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def document(path: str, host: str) -> Json | None:
    """What describes the server rather than its objects; None for any other path."""
    groups = kinds.groups()
    match path.strip("/").split("/"):
        case ["version"]:
            return SERVER_VERSION
        case ["api"]:
            addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in groups if name]}
        case ["apis", group] if group in groups:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group)}
        case ["api", "v1"]:
            return _resources("v1", groups[""])
        case ["apis", group, "v1"] if group in groups:
            return _resources(f"{group}/v1", groups[group])
        case ["openapi", "v3"]:
            paths = map(_spec_path, groups)
            return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}
        case ["openapi", "v3", *rest]:
            members = {_spec_path(name): members for name, members in groups.items()}
            return _openapi("/".join(rest), members.get("/".join(rest), ()))
    return None


def _group(name: str) -> Json:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(version: str, members: Iterable[ResourceType]) -> Json:
    resources = [item for kind in members for item in (_resource(kind), *_subresources(kind))]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _resource(kind: ResourceType) -> Json:
    return {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": VERBS,
        **({"shortNames": list(kind.short)} if kind.short else {}),
        **({"categories": ["all"]} if kind.in_all else {}),
    }


def _subresources(kind: ResourceType) -> list[Json]:
    base = {"singularName": "", "namespaced": kind.namespaced, "kind": kind.kind}
    found = []
    if kind.has_status:
        found.append({**base, "name": f"{kind.plural}/status", "verbs": ["get", "patch", "update"]})
    if kind.has_scale:
        scale = {"group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]}
        found.append({**base, **scale, "name": f"{kind.plural}/scale"})
    if kind is kinds.POD:
        found.append({**base, "name": "pods/binding", "kind": "Binding", "verbs": ["create"]})
        found.append({**base, "name": "pods/log", "verbs": ["get"]})
    return found


def _spec_path(group: str) -> str:
    return f"apis/{group}/v1" if group else "api/v1"


def _openapi(path: str, members: Iterable[ResourceType]) -> Json | None:
    """The document of one group version, by its path without /openapi/v3/; None where nothing is served there."""
    paths: Json = {}
    for kind in members:
        scope = "namespaces/{namespace}/" if kind.namespaced else ""
        paths[f"/{path}/{scope}{kind.plural}/{{name}}"] = {
            "patch": {
                "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
                "responses": {"200": {"description": "OK"}},
                "x-kubernetes-group-version-kind": {
                    "group": kind.group, "version": kind.version, "kind": kind.kind
                },
            }
        }  # fmt: skip
    if not paths:
        return None
    return {"openapi": "3.0.0", "info": {"title": "zdd local cluster", "version": "v1.34.4"}, "paths": paths}


# --- SelfSubjectAccessReview: every client that has the token may do everything here.
#
# k9s sends one before every view, and so does `kubectl auth can-i`. Both send protobuf, which is not read here: the
# result would be the same. Only a review in JSON gets its spec back, and is refused where it is malformed.


REVIEW_PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
PROTOBUF = "application/vnd.kubernetes.protobuf"
_ATTRIBUTE_FIELDS = ("resourceAttributes", "nonResourceAttributes")


async def review_access(request: web.Request) -> Json:
    """The review with its result. Raises ApiError 400, 415, 422 (it does not ask about exactly one thing)."""
    answer: Json = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}}
    if request.content_type == PROTOBUF:
        return {**answer, "spec": {}, "status": {"allowed": True}}
    spec: dict[str, Any] = (await requests.read_object_body(request)).get("spec") or {}
    if sum(bool(spec.get(name)) for name in _ATTRIBUTE_FIELDS) != 1:
        message = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise invalid_request(f'SelfSubjectAccessReview.authorization.k8s.io "" is invalid: {message}')
    return {**answer, "spec": spec, "status": {"allowed": True}}
