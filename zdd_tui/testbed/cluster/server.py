"""The HTTP side: authentication, routing of verbs, and errors as Status objects."""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from zdd_tui.testbed.cluster import api as reviews
from zdd_tui.testbed.cluster import api as scale
from zdd_tui.testbed.cluster import discovery, events_v1, kinds, selectors, tables
from zdd_tui.testbed.cluster import request as requests
from zdd_tui.testbed.cluster.api import Api
from zdd_tui.testbed.cluster.errors import ApiError, bad_request, method_not_allowed, no_such_path, unauthorized
from zdd_tui.testbed.cluster.managed_fields import note_client
from zdd_tui.testbed.cluster.meta import Json, deep_copy
from zdd_tui.testbed.cluster.paging import ListPages
from zdd_tui.testbed.cluster.patches import json_patch, merge_patch
from zdd_tui.testbed.cluster.pod_log import serve_log
from zdd_tui.testbed.cluster.request import RequestInfo
from zdd_tui.testbed.cluster.strategic_merge_patch import strategic_merge
from zdd_tui.testbed.cluster.watching import WatchStream

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)


def json_response(body: Any, status: int = 200) -> web.Response:
    text = json.dumps(body, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")


class ApiServer:
    """The aiohttp application of one cluster. `close()` ends every watch, so that shutting down is quick."""

    def __init__(self, api: Api, token: str, log_root: Path) -> None:
        self.api = api
        self._token = token
        self._log_root = log_root
        self._pages = ListPages()
        self._closing = asyncio.Event()
        self._closers: set[Callable[[], None]] = set()

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._authenticate], client_max_size=requests.MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._route)
        return app

    def close(self) -> None:
        self._closing.set()
        for wake in list(self._closers):
            wake()

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse whoever has no token; turn our errors into Status objects."""
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return json_response(unauthorized().status(), 401)
        note_client(request)
        try:
            return await handler(request)
        except ApiError as error:
            return json_response(error.status(), error.code)
        except web.HTTPException as error:
            wrapped = ApiError(error.status, error.reason or "", error.reason or "", {})
            return json_response(wrapped.status(), error.status)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        path = request.path.rstrip("/")
        if request.method == "GET":
            document = self._document(path, request.host)
            if isinstance(document, str):
                return web.Response(text=document)
            if document is not None:
                return json_response(document)
        if path == reviews.REVIEW_PATH and request.method == "POST":
            return json_response(await reviews.review_access(request), 201)
        target = requests.parse_path(path)
        if target.subresource is not None:
            return await self._subresource(request, target)
        return await self._verb(request, target)

    def _document(self, path: str, host: str) -> Json | str | None:
        """What describes the server rather than its objects."""
        if path in ("/healthz", "/livez", "/readyz"):
            return "ok"
        fixed: dict[str, Callable[[], Json]] = {
            "/version": lambda: discovery.SERVER_VERSION,
            "/api": lambda: discovery.api_versions(host),
            "/apis": discovery.api_groups,
            "/openapi/v3": discovery.openapi_index,
        }
        if path in fixed:
            return fixed[path]()
        parts = path.strip("/").split("/")
        if parts[0] == "api" and len(parts) == 2:
            return discovery.api_resources("", parts[1])
        if parts[0] == "apis" and len(parts) == 2:
            return discovery.api_group(parts[1])
        if parts[0] == "apis" and len(parts) == 3:
            return discovery.api_resources(parts[1], parts[2])
        if path.startswith("/openapi/v3/"):
            return discovery.openapi_document(path.removeprefix("/openapi/v3/"))
        return None

    async def _verb(self, request: web.Request, target: RequestInfo) -> web.StreamResponse:
        method = request.method
        if method == "GET":
            if requests.is_true(request, "watch"):
                return await WatchStream(self.api.store, request, target).run(self._closing, self._closers)
            return self._get(request, target) if target.name else self._list(request, target)
        if method == "POST" and not target.name:
            return await self._create(request, target)
        if method == "PUT" and target.name:
            return await self._update(request, target, status=False)
        if method == "PATCH" and target.name:
            return await self._patch(request, target, status=False)
        if method == "DELETE":
            return await (self._delete(request, target) if target.name else self._delete_all(request, target))
        raise method_not_allowed()

    def _respond(self, request: web.Request, target: RequestInfo, obj: Json, status: int = 200) -> web.Response:
        if requests.wants_table(request):
            return json_response(
                tables.render_table(target.storage_type, [obj], request.query.get("includeObject")), status
            )
        return json_response(events_v1.to_requested_kind(target.kind, obj), status)

    def _get(self, request: web.Request, target: RequestInfo) -> web.Response:
        obj = self.api.get(target.storage_type, target.namespace or "", target.name or "")
        return self._respond(request, target, obj)

    def _list(self, request: web.Request, target: RequestInfo) -> web.Response:
        match = selectors.combine_selectors(request.query.get("labelSelector"), request.query.get("fieldSelector"))
        if request.query.get("continue"):
            page = self._pages.next(request)
        else:
            items = self.api.list(target.storage_type, target.namespace, match)
            page = self._pages.first(request, items, self.api.store.version)
        kind = target.kind
        if requests.wants_table(request):
            include, version = request.query.get("includeObject"), page.metadata["resourceVersion"]
            made = tables.render_table(target.storage_type, page.items, include, version=version)
            return json_response({**made, "metadata": page.metadata})
        bare = [
            {k: v for k, v in events_v1.to_requested_kind(kind, item).items() if k not in ("kind", "apiVersion")}
            for item in page.items
        ]
        head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version}
        return json_response({**head, "metadata": page.metadata, "items": bare})

    async def _create(self, request: web.Request, target: RequestInfo) -> web.Response:
        body = requests.decode_request_body(request, target.kind, await requests.read_object_body(request))
        if target.kind.namespaced and target.namespace is None:
            raise method_not_allowed()
        body = events_v1.to_stored_kind(target.kind, body)
        obj = self.api.create(target.storage_type, target.namespace or "", body, dry_run="dryRun" in request.query)
        return self._respond(request, target, obj, 201)

    async def _update(self, request: web.Request, target: RequestInfo, *, status: bool) -> web.Response:
        body = requests.decode_request_body(request, target.kind, await requests.read_object_body(request))
        return self._replace(request, target, body, status=status)

    async def _patch(self, request: web.Request, target: RequestInfo, *, status: bool) -> web.Response:
        apply = await read_patch(request, target.kind.kind, PATCH_TYPES[:2] if target.kind.custom else PATCH_TYPES)
        old = self.api.get(target.storage_type, target.namespace or "", target.name or "")
        body = requests.decode_request_body(request, target.kind, apply(events_v1.to_requested_kind(target.kind, old)))
        return self._replace(request, target, body, status=status)

    def _replace(self, request: web.Request, target: RequestInfo, body: Json, *, status: bool) -> web.Response:
        body = events_v1.to_stored_kind(target.kind, body)
        namespace, name, dry_run = target.namespace or "", target.name or "", "dryRun" in request.query
        obj = self.api.update(target.storage_type, namespace, name, body, status=status, dry_run=dry_run)
        return self._respond(request, target, obj)

    async def _delete(self, request: web.Request, target: RequestInfo) -> web.Response:
        options = await requests.read_delete_options(request)
        kind = target.kind
        obj, gone = self.api.delete(target.storage_type, target.namespace or "", target.name or "", options)
        if kind.returns_deleted or not gone:
            return json_response(obj)
        details = {"name": target.name, **({"group": kind.group} if kind.group else {}), "kind": kind.plural}
        details["uid"] = obj["metadata"]["uid"]
        success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return json_response({**success, "details": details})

    async def _delete_all(self, request: web.Request, target: RequestInfo) -> web.Response:
        options = await requests.read_delete_options(request)
        if target.kind.namespaced and target.namespace is None:
            raise method_not_allowed()
        match = selectors.combine_selectors(request.query.get("labelSelector"), request.query.get("fieldSelector"))
        items = self.api.list(target.storage_type, target.namespace, match)
        for item in items:
            self.api.delete(target.storage_type, target.namespace or "", item["metadata"]["name"], options)
        head = {"kind": f"{target.kind.kind}List", "apiVersion": target.kind.api_version}
        return json_response({**head, "metadata": {"resourceVersion": str(self.api.store.version)}, "items": items})

    async def _subresource(self, request: web.Request, target: RequestInfo) -> web.StreamResponse:
        kind, method, sub = target.kind, request.method, target.subresource
        if sub == "status" and kind.has_status:
            if method == "GET":
                return self._get(request, target)
            if method == "PUT":
                return await self._update(request, target, status=True)
            if method == "PATCH":
                return await self._patch(request, target, status=True)
            raise method_not_allowed()
        if sub == "scale" and kind.has_scale:
            return await self._scale(request, target)
        if kind is kinds.POD and sub == "log" and method == "GET":
            pod = self.api.get(kind, target.namespace or "", target.name or "")
            return await serve_log(request, pod, self._log_root, self._closing)
        if kind is kinds.POD and sub == "binding" and method == "POST":
            body = await requests.read_object_body(request)
            node = (body.get("target") or {}).get("name")
            if not node:
                raise bad_request("target.name: Required value")
            self.api.bind(target.namespace or "", target.name or "", node)
            success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
            return json_response(success, 201)
        raise no_such_path()

    async def _scale(self, request: web.Request, target: RequestInfo) -> web.Response:
        namespace, name = target.namespace or "", target.name or ""
        current = scale.scale_of(self.api.get(target.kind, namespace, name))
        if request.method == "GET":
            return json_response(current)
        if request.method == "PUT":
            wanted = await requests.read_object_body(request)
        elif request.method == "PATCH":
            wanted = (await read_patch(request, "Scale"))(deep_copy(current))
        else:
            raise method_not_allowed()
        return json_response(scale.set_replicas(self.api, target.kind, namespace, name, wanted))


async def read_patch(request: web.Request, kind: str, types: tuple[str, ...] = PATCH_TYPES) -> Callable[[Json], Any]:
    """The body of a PATCH as a function from the old object to the new. Raises ApiError 400, 415, 422."""
    body = await requests.read_body(request, types)
    content_type = request.content_type if "Content-Type" in request.headers else PATCH_TYPES[0]

    def apply(obj: Json) -> Any:
        if content_type == PATCH_TYPES[0]:
            return json_patch(obj, body)
        try:
            return merge_patch(obj, body) if content_type == PATCH_TYPES[1] else strategic_merge(obj, body, kind)
        except (AttributeError, KeyError, TypeError) as error:  # a shape that the object does not have
            raise bad_request(f"the patch does not fit the object: {error}") from error

    return apply
